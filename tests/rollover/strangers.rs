//! Variables and descriptors that are not from a predecessor: they mean nothing, and what they name is left alone.

use nix::sys::signal::Signal;

use crate::harness::Running;

/// Starts the program by a script that says what it gets, and sees it serve.
fn serves(test: &str, script: &str) {
    let mut program = Running::start_by(test, script);
    program.send(Signal::SIGUSR1);
    program.expect("child [] ");
    program.roll();
    program.send(Signal::SIGTERM);
    program.is_gone();
}

#[test]
fn a_variable_of_another_time() {
    for (number, value) in ["", "x", "3:1", "999999:1", "1:1", "-1:1", "3"].iter().enumerate() {
        let test = format!("a_variable_of_another_time_{number}");
        serves(&test, &format!("PROCROLL_ROLLOVER='{value}' exec \"$0\""));
    }
}

/// Python makes a pair of sockets, names one by the variable, and starts the program.
fn python(then: &str) -> String {
    format!(
        "exec python3 -c '\
        import os, socket, subprocess, sys\n\
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n\
        name = f\"{{theirs.fileno()}}:{{os.fstat(theirs.fileno()).st_ino}}\"\n\
        environment = dict(os.environ, PROCROLL_ROLLOVER=name)\n\
        {then}' \"$0\""
    )
}

#[test]
fn a_descriptor_of_an_ancestor_that_is_not_the_parent() {
    let then = "subprocess.Popen([\"sh\", \"-c\", \"\\\"$0\\\"; :\", sys.argv[1]], env=environment, pass_fds=[theirs.fileno()])\n\
        theirs.close()\n\
        print(\"heard\", ours.recv(64), flush=True)";
    let program = Running::start_by("a_descriptor_of_an_ancestor_that_is_not_the_parent", &python(then));
    program.send(Signal::SIGTERM);
    program.expect("ends by SIGTERM");
    // Nobody has said a word, and nobody was asked to end.
    program.expect("heard b''");
    program.is_gone();
}
