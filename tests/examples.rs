//! The examples, as a reader runs them. Each fails by itself if anything is not as it should be; what a reader is to see of
//! it is looked for here.
#![allow(clippy::expect_used, clippy::panic)] // That is how a test fails.

use std::path::Path;
use std::process::{Command, Stdio};

/// Runs an example, which has to print these, in this order.
fn run(name: &str, parts: &[&str]) {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).join("run");
    let output = Command::new(run).stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("the example");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let mut rest = &*text;
    for part in parts {
        rest = rest
            .split_once(part)
            .map(|(_, rest)| rest)
            .unwrap_or_else(|| panic!("no {part:?} in its place in:\n{text}"));
    }
}

const NOTHING_LOST: &str = "\nrefused 0\nreset 0\nunanswered 0\n";

#[test]
fn reuseport_loses_nothing_if_it_is_done_right() {
    run(
        "reuseport",
        &[
            "== A service that listens on its own",
            "web@6.service (main PID ",
            "web.py 8000 drain\n",
            "web.py 8000 steer\n",
            "web.py 8000 steer drain\n",
            NOTHING_LOST,
            "net.ipv4.tcp_migrate_req = 1",
            "\nanswered ",
            "Requires=web.socket",
            NOTHING_LOST,
            "\nTwo ways that lose nothing.\n",
        ],
    );
}

#[test]
fn podman_rolls_by_a_changed_image() {
    run(
        "podman",
        &[
            "The container says: hello\n",
            "web@6.service (main PID ",
            "The container says: goodbye\n",
            "(That is how systemctl says that the reload has failed.)\n",
            "● web@7.service loaded failed failed",
            "last roll failed: web@7.service failed (Result=exit-code, status=137) while starting.",
            "web-6 Up ",
            "And still the container says: goodbye\n",
            "doesn't serve yet: /greeting: No such file",
            NOTHING_LOST,
            "\n$ procroll run --ready-timeout=1min -- podman run --name=direct-{{.Generation}}",
            "procroll: generation 1 serves (main PID ",
            "procroll: generation 2 serves (main PID ",
            "\ndirect-2 Up ",
            "\n7 containers, one of them unhealthy, and no request lost.\n",
        ],
    );
}

#[test]
fn traefik_finds_the_generation_that_is_well() {
    run(
        "traefik",
        &[
            "Traefik answers: nothing from port 800",
            "web@6.service (main PID ",
            "Traefik answers: nothing from port 800",
            "(That is how systemctl says that the reload has failed.)\n",
            "● web@7.service loaded failed failed",
            "last roll failed: web@7.service failed (Result=timeout) while starting",
            NOTHING_LOST,
            "\n7 generations, one of them broken, and no request lost.\n",
        ],
    );
}
