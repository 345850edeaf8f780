//! The first process of a namespace: of a container, that is.

use std::fs;
use std::process::Command;

use crate::harness::Running;
use crate::ways::FIRST;

const SERVICE: &str = "notify('READY=1'); serve()";

/// A process that somebody has brought into the namespace, as `podman exec` does, is procroll's once its parent has gone.
#[test]
fn it_reaps_what_it_inherits() {
    let mut running = Running::start("reaps", FIRST, &["--settle=0"], SERVICE);
    running.serves(1);
    let target = running.pid().to_string();
    let orphans = "for _ in 1 2 3 4 5; do (sh -c 'echo $$; read -r line <go' & ) ; done; echo done";
    running.pipe("go");
    let mut command = Command::new("nsenter");
    command.args(["--target", &target, "--pid", "--", "sh", "-c", orphans]).current_dir(&running.folder);
    let output = command.stdout(running.file("orphans")).status().expect("nsenter");
    assert!(output.success());
    let inherited = |state: Option<char>| {
        let children = fs::read_to_string(format!("/proc/{target}/task/{target}/children")).expect("its children");
        let states = children.split_whitespace().filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (name, rest) = stat.rsplit_once(") ")?;
            (name.ends_with("(sh")).then(|| rest.chars().next()).flatten()
        });
        states.filter(|one| state.is_none_or(|state| state == *one)).count()
    };
    running.wait_for("five orphans", || (inherited(None) == 5).then_some(()));
    running.word("go", "1\n2\n3\n4\n5\n");
    running.wait_for("their end", || {
        // Each may have taken more than its line.
        let _ = fs::OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(running.folder.join("go"));
        (inherited(None) == 0).then_some(())
    });
    running.roll(2);
    running.stop();
}

/// What it has inherited is nobody's generation.
#[test]
fn it_kills_none_of_that() {
    let service = "\
for _ in range(5):
    if os.fork() == 0: break
signal.signal(signal.SIGTERM, signal.SIG_IGN)
notify('READY=1')
while True: signal.pause()";
    let mut running = Running::start("spares", FIRST, &["--settle=0", "--shutdown-timeout=100ms"], service);
    running.serves(1);
    let target = running.pid().to_string();
    let mut command = Command::new("nsenter");
    command.args(["--target", &target, "--pid", "--", "sh", "-c", "(sh -c 'sleep 1000; exit' & )"]);
    assert!(command.status().expect("nsenter").success());
    let inherited = || {
        let children = fs::read_to_string(format!("/proc/{target}/task/{target}/children")).expect("its children");
        children
            .split_whitespace()
            .map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")))
            .filter(|name| name.as_ref().is_ok_and(|name| name == "sh\n"))
            .count()
    };
    running.wait_for("an orphan", || (inherited() == 1).then_some(()));
    for generation in 2..6 {
        running.roll(generation);
        running.services_are(6);
        assert_eq!(inherited(), 1, "roll {generation}");
    }
    running.stop();
}

use std::os::unix::fs::OpenOptionsExt;

impl Running {
    fn file(&self, name: &str) -> fs::File {
        fs::File::create(self.folder.join(name)).expect("a file")
    }
}
