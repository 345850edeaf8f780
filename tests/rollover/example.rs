//! `examples/self-update`, updated with good files and bad ones.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::harness::{Running, built, folder};

#[test]
fn the_agent_updates_itself_and_survives_a_bad_update() {
    let folder = folder("the_agent_updates_itself_and_survives_a_bad_update");
    let (agent, source) = (folder.join("agent"), folder.join("source"));
    fs::hard_link(built("self-update"), &agent).expect("the agent");
    let mut command = Command::new(&agent);
    command.args(["127.0.0.1:0", "source"]);
    let mut running = Running::spawn(agent, command);
    let mut address = running.serves();
    let ask = |address: &str| {
        let mut client = TcpStream::connect(address).expect("a connection");
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("a request");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        answer
    };
    for _ in 0..2 {
        assert!(ask(&address).ends_with(&format!("process {}\n", running.pid())));
        running.send(Signal::SIGHUP);
        running.expect(" goes on: can't fetch source: No such file or directory (os error 2)");

        fs::write(&source, "half a download").expect("a bad file");
        running.send(Signal::SIGHUP);
        running.expect(" goes on: can't execute /");
        assert!(ask(&address).ends_with(&format!("process {}\n", running.pid())));
        fs::remove_file(&source).expect("the bad file gone");

        // Its own place is as it was.
        fs::copy(&running.path, &source).expect("a good file");
        let old = running.pid();
        running.send(Signal::SIGHUP);
        address = running.serves();
        assert_ne!(running.pid(), old);
        assert_eq!(running.processes(), [running.pid()]);
        fs::remove_file(&source).expect("the good file gone");
    }
    running.send(Signal::SIGTERM);
    running.is_gone();
}

impl Running {
    /// Waits until the agent serves, and gives the address.
    fn serves(&mut self) -> String {
        let line = self.expect(", serves on ");
        let pid = line.strip_prefix("process ").and_then(|rest| rest.split(',').next());
        self.becomes(pid.and_then(|pid| pid.parse().ok()).expect("a process id"));
        line.rsplit(' ').next().expect("an address").to_owned()
    }
}
