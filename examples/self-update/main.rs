//! An agent that updates its own binary: `self-update ADDRESS SOURCE`. See README.md beside this file.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal};
use procroll::rollover::{self, Rollover};
use sd_notify::NotifyState;

/// What tells one build from another.
const VERSION: &str = match option_env!("AGENT_VERSION") {
    Some(version) => version,
    None => "1",
};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("self-update: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    // Before anything else, so that from here on none is lost. The successor starts with them blocked, and the threads
    // have them blocked too.
    let signals: SigSet = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    signals.thread_block()?;
    let rollover = rollover::wait()?;

    let mut arguments = std::env::args_os().skip(1);
    let (Some(address), Some(source), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("it takes two arguments: the address to serve on, and where a new version will be".into());
    };
    let address = address.into_string().map_err(|_| "the address is not text. Write it like 127.0.0.1:8000")?;
    let source = PathBuf::from(source);
    // The predecessor is gone, and with it whoever had the address.
    let listener = TcpListener::bind(&address).map_err(|error| format!("can't listen on {address}: {error}"))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || listener.incoming().flatten().for_each(|client| drop(answer(client))));
    println!("process {}, version {VERSION}, serves on {address}", std::process::id());
    sd_notify::notify(&[NotifyState::Ready])?;
    let _ = std::fs::remove_file(aside(rollover.program(), "old"));

    loop {
        match signals.wait()? {
            // A real agent would ask its server now and then.
            Signal::SIGHUP => match update(&rollover, &source) {
                Ok(()) => println!("process {} is succeeded", std::process::id()),
                Err(error) => println!("process {} goes on: {error}", std::process::id()),
            },
            signal => {
                println!("process {} ends by {signal}", std::process::id());
                return Ok(());
            }
        }
    }
}

/// Puts the new version in the place of this one, and has it take over. If it doesn't, this one has its place again.
fn update(rollover: &Rollover, source: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let program = rollover.program();
    let (new, old) = (aside(program, "new"), aside(program, "old"));
    // Beside the program, where a rename is atomic. A real agent would check a signature here.
    let fetch = || {
        std::fs::copy(source, &new)?;
        std::fs::File::open(&new)?.sync_all()
    };
    fetch().map_err(|error: io::Error| format!("can't fetch {}: {error}", source.display()))?;
    let _ = std::fs::remove_file(&old);
    std::fs::hard_link(program, &old)?;
    std::fs::rename(&new, program)?;
    rollover.restart().inspect_err(|error| match error {
        rollover::Error::Succeeded => {}
        _ => drop(std::fs::rename(&old, program)),
    })?;
    Ok(())
}

/// A file beside the program.
fn aside(program: &Path, what: &str) -> PathBuf {
    program.with_added_extension(what)
}

fn answer(mut client: TcpStream) -> io::Result<()> {
    let _ = client.read(&mut [0; 4096])?;
    write!(client, "HTTP/1.0 200 OK\r\n\r\nversion {VERSION}, process {}\n", std::process::id())
}
