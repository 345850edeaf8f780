//! procroll on a real systemd: the real binary in private machines, each test in a fresh one, on each version.
//!
//! Needs root, and makes the machines' Debian roots where they are missing. `cargo test --lib` leaves all of this out.
#![allow(clippy::expect_used, clippy::panic)] // That is how a test fails.

#[path = "../machine/mod.rs"]
mod machine;

/// Runs each test once per suite: `rolls::reload_brings_a_new_generation::trixie`.
macro_rules! on_each_systemd {
    ($($test:ident),+ $(,)?) => {
        $(
            mod $test {
                #[test]
                fn trixie() {
                    super::$test(&$crate::boot($crate::machine::TRIXIE));
                }

                #[test]
                fn forky() {
                    super::$test(&$crate::boot($crate::machine::FORKY));
                }
            }
        )+
    };
}

mod attacks;
mod bad_input;
mod crashes;
mod failures;
mod keys;
mod properties;
mod rest;
mod rolls;
mod settings;
mod sockets;
mod stops;
mod terminal;
mod user;

fn boot(suite: machine::Suite) -> machine::Machine {
    machine::Machine::boot(suite, env!("CARGO_BIN_EXE_procroll"))
}

/// A wrapper unit whose command is the payload, with these steps and, before the `--`, these options.
fn wrapper(options: &str, steps: &str) -> String {
    with_lines("", options, steps)
}

/// The same, with more lines in its `[Service]` section.
fn with_lines(lines: &str, options: &str, steps: &str) -> String {
    format!(
        "[Unit]\nDescription=Web\n[Service]\nType=notify-reload\nRestart=on-failure\nRestartMode=direct\n{lines}\n\
         ExecStart=+/usr/bin/procroll --systemd-run {options} -- /usr/bin/payload {steps}\n"
    )
}

/// gunicorn behind web.socket, as in the README's example.
const SOCKET: &str = "[Socket]\nListenStream=127.0.0.1:8000\n";

fn gunicorn(options: &str, module: &str) -> String {
    format!(
        "[Unit]\nDescription=Web\n[Service]\nType=notify-reload\nUser=app\nWorkingDirectory=/srv/app\n\
         ProtectSystem=strict\nPrivateTmp=yes\nRestart=on-failure\nRestartMode=direct\n\
         ExecStart=+/usr/bin/procroll --systemd-run {options} -- /usr/bin/gunicorn {module}:app\n"
    )
}
