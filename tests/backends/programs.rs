//! What a service is executed with, and what is passed on.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nix::sys::signal::Signal::{SIGHUP, SIGUSR1};

use crate::harness::Running;
use crate::ways::{Generations, PLAIN, Start};
use crate::{both_ways, in_every_way, with_own_processes};

with_own_processes! {
    the_environment_is_the_callers
    what_cannot_be_executed_is_refused_with_the_reason
    the_notify_socket_is_private
}

both_ways! {
    the_program_and_its_directory_are_looked_for_anew
}

in_every_way! {
    arguments_are_passed_literally
    templates_are_filled_in
    standard_output_and_error_are_kept_apart
    standard_input_is_a_scopes_alone
    the_stop_signal_can_be_written_in_three_ways
    a_service_that_never_notifies_is_ready_once_it_runs
}

fn templates_are_filled_in(start: Start) {
    let service = "say(*sys.argv[1:], sys.argv[2] == os.environ['NOTIFY_SOCKET']); notify('READY=1'); serve()";
    let script = format!("{}\n{service}", include_str!("prelude.py"));
    let words = ["{{.Generation}}", "{{ .NotifySocket }}", "<{{.PID}}>", "{{`{{`}}.PID}}", ""];
    let command = [&["python3", "-c", &script], &words[..]].concat();
    let mut running = Running::start_command("templates", start, &["--settle=0"], &command);
    for generation in 1..3 {
        if generation > 1 {
            running.send(SIGHUP);
        }
        let line = running.out.expect("/notify");
        let (first, rest) = line.split_once(' ').expect("words");
        assert_eq!(first, generation.to_string());
        let socket = match start.generations {
            Generations::Services => "/run/systemd/notify".to_owned(),
            _ => format!("/notify.{generation}"),
        };
        let end = format!("{socket} <{}> {{{{.PID}}}}  True", running.inner_pid());
        assert!(rest.ends_with(&end), "{rest}");
        if start.generations != Generations::Services {
            assert!(rest.starts_with(running.inner().join("tmp").to_str().expect("a path")), "{rest}");
        }
        running.serves(generation);
    }
    running.stop();
}

/// What systemd, a shell or a template would make something of is the program's.
fn arguments_are_passed_literally(start: Start) {
    let odd = [
        "$HOME",
        "${X}",
        "$$",
        "%n",
        "%%",
        "a b",
        "",
        "\"quoted\"",
        "'single'",
        "back\\slash",
        "\\n",
        "new\nline",
        "tab\there",
        ";",
        "#",
        "\u{fc}\u{20ac}",
        "\u{1b}[0m",
        "-v",
        "--",
        "--unit=x",
        "*",
        "a=b",
    ];
    let service = "say('.'.join(os.fsencode(word).hex() for word in sys.argv[2:])); notify('READY=1'); serve()";
    let script = format!("{}\n{service}", include_str!("prelude.py"));
    let command = [&["python3", "-c", &script, "{{.Generation}}"], &odd[..]].concat();
    let mut running = Running::start_command("arguments", start, &["--settle=0"], &command);
    let hex = |word: &&str| word.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(running.out.next(), Some(odd.iter().map(hex).collect::<Vec<_>>().join(".")));
    running.serves(1);
    running.stop();
}

fn the_environment_is_the_callers(start: Start) {
    let service = "\
say(*(os.environ.get(name) for name in ['A', 'B', 'C', 'WATCHDOG_USEC', 'WATCHDOG_PID', 'LISTEN_FDS']))
say(os.environ['NOTIFY_SOCKET'] != os.path.join(os.environ['FOLDER'], 'up'), os.getcwd() == os.environ['FOLDER'])
say('mask', *(line for line in open('/proc/self/status') if line.startswith(('SigBlk', 'SigIgn', 'NoNewPrivs', 'CapEff'))))
notify('READY=1'); serve()";
    let mut running =
        Running::start_with("environment", start, &["--settle=0", "-E", "B=2", "-E", "C"], service, |command| {
            command
                .env("A", "1 \u{e4}\n")
                .env("B", "1")
                .env("C", "3")
                .env("WATCHDOG_USEC", "1000000")
                .env("WATCHDOG_PID", "1");
        });
    assert_eq!(running.out.next().as_deref(), Some("1 \u{e4}"));
    assert_eq!(running.out.next().as_deref(), Some(" 2 3 None None None"));
    assert_eq!(running.out.next().as_deref(), Some("True True"));
    let own = fs::read_to_string("/proc/self/status").expect("our own");
    let own = |name| own.lines().find_map(|line| line.strip_prefix(name)).expect("our own").trim();
    // Python itself ignores SIGPIPE and SIGXFSZ. What procroll hears, as SIGHUP, SIGINT and SIGQUIT, is nobody's to ignore.
    let ignored = u64::from_str_radix(own("SigIgn:"), 16).expect("a mask") & !0b111 | 1 << 12 | 1 << 24;
    let expected = [
        format!("SigBlk:\t{}", own("SigBlk:")),
        format!("SigIgn:\t{ignored:016x}"),
        format!("CapEff:\t{}", own("CapEff:")),
        format!("NoNewPrivs:\t{}", own("NoNewPrivs:")),
    ];
    for expected in expected {
        let line = running.out.next().expect("a line");
        assert!(line.ends_with(&expected), "no {expected:?} but {line:?}");
    }
    running.stop();
}

fn standard_output_and_error_are_kept_apart(start: Start) {
    let service = "print('to err', file=sys.stderr, flush=True); say('to out'); notify('READY=1'); serve()";
    let mut running = Running::start("apart", start, &["--settle=0", "--quiet"], service);
    assert_eq!(running.out.next().as_deref(), Some("to out"));
    running.stop();
    assert_eq!(running.out.rest(), [""; 0]);
    assert_eq!(running.err.rest(), ["to err"]);
}

/// What is no terminal, that is.
fn standard_input_is_a_scopes_alone(start: Start) {
    let service = "say('read', repr(sys.stdin.read())); notify('READY=1'); serve()";
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(b"a word").expect("a pipe");
    drop(writer);
    let mut running = Running::start_with("standard_input", start, &["--settle=0"], service, |command| {
        command.stdin(reader);
    });
    let is_read = start.generations == Generations::Scopes;
    assert_eq!(running.out.next().as_deref(), Some(if is_read { "read 'a word'" } else { "read ''" }));
    running.stop();
}

fn the_stop_signal_can_be_written_in_three_ways(start: Start) {
    for (number, form) in ["SIGUSR1", "USR1", "10"].iter().enumerate() {
        let service = "on(signal.SIGTERM)\nsignal.signal(signal.SIGUSR1, lambda *_: (say('asked'), sys.exit(0)))\nnotify('READY=1')\nserve()";
        let test = format!("stop_signal_{number}");
        let mut running = Running::start(&test, start, &["--settle=0", "--signal", form], service);
        running.serves(1);
        running.stop();
        assert_eq!(running.out.rest(), ["asked"]);
    }
}

fn what_cannot_be_executed_is_refused_with_the_reason(start: Start) {
    let cases = [
        ("no-such-program", "the command no-such-program is in none of the folders where programs are looked for"),
        ("/no/such", "the command /no/such can't be executed: No such file or directory (os error 2)"),
        ("/etc/passwd", "the command /etc/passwd can't be executed: Permission denied (os error 13)"),
        ("/", "the command / can't be executed: Permission denied (os error 13)"),
    ];
    for (number, (program, reason)) in cases.iter().enumerate() {
        let test = format!("refused_{number}");
        let mut running = Running::start_command(&test, start, &[], &[program]);
        running.ends_with(171);
        let names = format!("procroll: Generations are named refused_{number}-");
        let said: Vec<_> = running.err.rest().into_iter().filter(|line| !line.starts_with(&names)).collect();
        assert_eq!(said, [format!("procroll: {} was not started: {reason}", running.name(1))]);
    }
    let options = ["--working-directory=/no/such"];
    let mut running = Running::start_command("refused_directory", start, &options, &["true"]);
    running.ends_with(170);
    running.err.expect("its directory /no/such can't be entered: No such file or directory (os error 2)");
}

fn a_service_that_never_notifies_is_ready_once_it_runs(start: Start) {
    let options = ["--settle=0", "--service-type=exec"];
    let mut running = Running::start_command("never_notifies", start, &options, &["sleep", "1000"]);
    running.notified("READY=1");
    running.serves(1);
    running.roll(2);
    running.stop();
}

fn the_notify_socket_is_private(start: Start) {
    let mut running = Running::start("private", start, &["--settle=0"], "notify('READY=1'); serve()");
    running.serves(1);
    let entries = || fs::read_dir(running.folder.join("tmp")).expect("the folder").flatten().collect::<Vec<_>>();
    let [folder] = &entries()[..] else { panic!("{:?}", entries()) };
    let metadata = folder.metadata().expect("it");
    assert_eq!((metadata.permissions().mode() & 0o7777, metadata.uid()), (0o700, rustix::process::geteuid().as_raw()));
    let sockets =
        || fs::read_dir(folder.path()).expect("the folder").flatten().map(|one| one.file_name()).collect::<Vec<_>>();
    assert_eq!(sockets(), ["notify.1"]);
    running.roll(2);
    running.services_are(1);
    running.wait_for("the old socket to go", || (sockets() == ["notify.2"]).then_some(()));
    running.stop();
}

fn the_program_and_its_directory_are_looked_for_anew(start: Start) {
    let service = "say(os.path.basename(os.getcwd())); notify('READY=1'); serve()";
    let mut running = Running::start_with("anew", start, &["--settle=0"], service, |command| {
        let folder = command.get_current_dir().expect("the folder").to_owned();
        fs::create_dir(folder.join("one")).expect("a folder");
        fs::create_dir(folder.join("two")).expect("a folder");
        std::os::unix::fs::symlink("one", folder.join("current")).expect("a link");
        // As a shell has it after cd.
        command.current_dir(folder.join("current")).env("PWD", folder.join("current"));
    });
    running.out.expect("one");
    running.serves(1);
    fs::remove_file(running.folder.join("current")).expect("the link gone");
    std::os::unix::fs::symlink("two", running.folder.join("current")).expect("a link");
    running.send(SIGHUP);
    running.out.expect("two");
    running.serves(2);
    running.stop();
}

/// Of a socket unit, or of another who passes sockets on by that protocol.
#[test]
fn sockets_are_passed_on_with_the_right_process_id() {
    const START: Start =
        Start { before: &["sh", "-c", "exec 3</etc/hostname; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", "sh"], ..PLAIN };
    let service = "say(os.environ['LISTEN_FDS'], int(os.environ['LISTEN_PID']) == os.getpid(), len(os.read(3, 9)) > 0)\n\
        os.lseek(3, 0, 0); on(signal.SIGUSR1); notify('READY=1'); serve()";
    let mut running = Running::start("sockets", START, &["--settle=0"], service);
    for generation in 1..3 {
        assert_eq!(running.out.next().as_deref(), Some("1 True True"));
        running.serves(generation);
        running.send(SIGHUP);
    }
    running.serves(3);
    running.send(SIGUSR1);
    running.out.expect("3 SIGUSR1");
    running.stop();
}
