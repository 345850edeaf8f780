//! procroll on a real systemd: the real binary in private machines, each test in a fresh one, on each version.
//!
//! Needs root, and makes the machines' Debian roots where they are missing. `cargo test --lib` leaves all of this out.
#![allow(clippy::expect_used, clippy::panic)] // That is how a test fails.

#[path = "../machine/mod.rs"]
mod machine;

/// Runs each test once per systemd: `rolls::reload_brings_a_new_generation::v257`.
macro_rules! on_each_systemd {
    ($($test:ident),+ $(,)?) => { on! { (v252 v254 v257 v262) $($test)+ } };
}

/// The same for what takes `Type=notify-reload`.
macro_rules! from_systemd_254 {
    ($($test:ident),+ $(,)?) => { on! { (v254 v257 v262) $($test)+ } };
}

/// The same for what takes a guard to keep a generation when procroll ends unasked.
macro_rules! before_systemd_257 {
    ($($test:ident),+ $(,)?) => { on! { (v252 v254) $($test)+ } };
}

/// The same for what takes `RestartMode=direct` to keep a generation when procroll ends unasked.
macro_rules! from_systemd_257 {
    ($($test:ident),+ $(,)?) => { on! { (v257 v262) $($test)+ } };
}

macro_rules! on {
    ($versions:tt $($test:ident)+) => { $(on! { @one $versions $test })+ };
    (@one ($($version:ident)+) $test:ident) => {
        mod $test {
            $(
                #[test]
                fn $version() {
                    super::$test(&$crate::boot(stringify!($version)));
                }
            )+
        }
    };
}

mod attacks;
mod bad_input;
mod bus;
mod check;
mod crashes;
mod crowds;
mod direct;
mod failures;
mod faults;
mod guard;
mod handover;
mod instances;
mod keys;
mod odd_state;
mod payloads;
mod properties;
mod reload;
mod rest;
mod restless;
mod rollover;
mod rolls;
mod samples;
mod scopes;
mod settings;
mod sockets;
mod stops;
mod terminal;
mod upgrades;
mod user;

fn boot(version: &str) -> machine::Machine {
    let suite = machine::SUITES.iter().find(|suite| suite.version == version).expect("a suite of this version");
    machine::Machine::boot(suite, env!("CARGO_BIN_EXE_procroll"))
}

/// Whose generation a unit is, by its mark.
fn owner(machine: &machine::Machine, unit: &str) -> String {
    machine.run(&format!("sed -n s/^Owner=//p /run/systemd/transient/{unit}.d/90-procroll.conf")).stdout
}

/// The files of transient units, but for those of a guard, which goes when it has seen its wrapper go, and of the checker of
/// options, which goes when it has been heard.
fn transient(machine: &machine::Machine) -> String {
    machine.run("ls /run/systemd/transient | grep -v '^procroll[@-]'").stdout
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
