//! A generation's keeper: a process between procroll and the generation that does nothing but to adopt and to reap.
//!
//! It is the subreaper (PR_SET_CHILD_SUBREAPER) of what it starts. So whatever descends from the generation stays below it,
//! also what has forked twice and made itself a session, and of two generations it is known which of them a process
//! belongs to. It ends when nothing is left below it, and not before. Of signals it hears SIGKILL alone.
//!
//! It is a fork of procroll that executes nothing. procroll has one thread, so nothing is half done in the copy; and nothing
//! of procroll's runs in it but what is in this file, which touches neither the runtime nor the log.

use std::convert::Infallible;
use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, signal};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, fork, setpgid, setsid};
use rustix::process::{DumpableBehavior, geteuid, set_child_subreaper, set_dumpable_behavior};

use super::wire::{ALL, Invocation, ONE, SIZE, Step, Word};
use crate::descriptors;
use crate::privileges;

/// What is to be executed, ready for it: nothing can be wrong with it any more but what the kernel finds.
#[derive(Debug)]
pub struct Program {
    /// The path.
    pub path: CString,
    /// The arguments, the program's name first.
    pub arguments: Vec<CString>,
    /// The environment.
    pub environment: Vec<CString>,
    /// Sockets are passed on, so `LISTEN_PID=` is to be its process id: sd_listen_fds(3).
    pub listens: bool,
    /// The directory; that of procroll if none.
    pub directory: Option<CString>,
    /// It is put into a scope before, and keeps procroll's terminal.
    pub scoped: bool,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.arguments.iter().map(|word| word.to_string_lossy()).collect();
        f.write_str(&words.join(" "))
    }
}

/// Starts a keeper that starts the program: its process id, and where its words come from. [`Word::Held`] wants a [`Invocation`] for
/// an answer. [`Word::Exited`] and [`Word::Killed`] want a byte: until then the process that has ended is not reaped. After a
/// [`ALL`] that holds for all others as well.
pub fn start(program: &Program) -> io::Result<(u32, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let nowhere = File::open("/dev/null")?;
    // Of a signal in between, the handlers that the fork inherits would tell this process.
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    if !geteuid().is_root() {
        // procroll is hidden, and its fork would be from procroll as well where /proc shows nobody what he may not trace.
        let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
    }
    // SAFETY: there is no other thread.
    #[allow(unsafe_code)]
    let forked = unsafe { fork() };
    if !matches!(forked, Ok(ForkResult::Child)) {
        privileges::hide();
    }
    match forked {
        Ok(ForkResult::Child) => {
            // The end of procroll is the end of this.
            drop(ours);
            keep(program, theirs, &nowhere, &mask);
            // SAFETY: it takes a number. Nothing that procroll does at its end is this process's to do.
            #[allow(unsafe_code)]
            unsafe {
                libc::_exit(0)
            }
        }
        Ok(ForkResult::Parent { child }) => {
            mask.thread_set_mask()?;
            Ok((child.as_raw().unsigned_abs(), ours))
        }
        Err(error) => {
            mask.thread_set_mask()?;
            Err(error.into())
        }
    }
}

/// In the keeper. Signals stay blocked.
fn keep(program: &Program, channel: UnixStream, nowhere: &File, mask: &SigSet) {
    leave(program);
    let mut channel = channel;
    let word = match begin(program, &mut channel, nowhere, mask) {
        Ok(pid) => Word::Executed { pid },
        Err((step, error)) => Word::NotExecuted { step, error: error as i32 },
    };
    say(&mut channel, word);
    if matches!(word, Word::Executed { .. }) {
        reap(&mut channel);
        say(&mut channel, Word::Empty);
    }
}

/// Leaves procroll's process group, which is signalled for procroll, and its terminal, unless that is to be kept.
fn leave(program: &Program) {
    let _ = match program.scoped {
        true => setpgid(Pid::from_raw(0), Pid::from_raw(0)),
        false => setsid().map(drop),
    };
}

/// Tells procroll, if that is still there.
fn say(channel: &mut UnixStream, word: Word) {
    let _ = channel.write_all(&word.to_bytes());
}

/// Starts the program: its process id, once it has been executed.
fn begin(program: &Program, channel: &mut UnixStream, nowhere: &File, mask: &SigSet) -> Result<u32, (Step, Errno)> {
    let at_fork = |error: Errno| (Step::Fork, error);
    set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| at_fork(Errno::from_raw(error.raw_os_error())))?;
    let (mut reader, writer) = io::pipe().map_err(|_| at_fork(Errno::last()))?;
    let (held, hold) = io::pipe().map_err(|_| at_fork(Errno::last()))?;
    // SAFETY: there is no other thread in this process.
    #[allow(unsafe_code)]
    let child = match unsafe { fork() }.map_err(at_fork)? {
        ForkResult::Child => {
            drop(hold);
            let Err((step, error)) = become_program(program, held, nowhere, mask);
            let _ = (&writer).write_all(&Word::NotExecuted { step, error: error as i32 }.to_bytes());
            // SAFETY: it takes a number.
            #[allow(unsafe_code)]
            unsafe {
                libc::_exit(127)
            }
        }
        ForkResult::Parent { child } => child,
    };
    drop((writer, held));
    match program.scoped {
        true => place(channel, child, hold).map_err(at_fork)?,
        false => drop(hold),
    }
    let _ = (dup2_stdin(nowhere), dup2_stdout(nowhere), dup2_stderr(nowhere));
    descriptors::close_all_but(&[channel.as_raw_fd(), reader.as_raw_fd()]);
    let mut bytes = [0; SIZE];
    match reader.read_exact(&mut bytes).ok().and_then(|()| Word::from_bytes(bytes)) {
        Some(Word::NotExecuted { step, error }) => Err((step, Errno::from_raw(error))),
        // It was closed by the execution.
        _ => Ok(child.as_raw().unsigned_abs()),
    }
}

/// Has procroll put the child into its scope, then lets it go on.
fn place(channel: &mut UnixStream, child: Pid, mut hold: PipeWriter) -> Result<(), Errno> {
    say(channel, Word::Held { pid: child.as_raw().unsigned_abs() });
    let mut placed = Invocation::default();
    let passed_on = channel.read_exact(&mut placed).and_then(|()| hold.write_all(&placed));
    passed_on.map_err(|_| {
        // There is no scope, or no procroll.
        let _ = kill(child, Signal::SIGKILL);
        let _ = waitpid(child, None);
        Errno::ECANCELED
    })
}

/// In the generation's first process.
fn become_program(
    program: &Program,
    mut held: PipeReader,
    nowhere: &File,
    mask: &SigSet,
) -> Result<Infallible, (Step, Errno)> {
    leave(program);
    // What is typed can't be for two generations, and whoever reads that without being asked to is stopped for it.
    if !program.scoped || io::stdin().is_terminal() {
        let _ = dup2_stdin(nowhere);
    }
    // SAFETY: no handler is installed. Rust has a process ignore this one; caught ones are reset by the execution.
    #[allow(unsafe_code)]
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    let _ = mask.thread_set_mask();
    let mut placed = Invocation::default();
    // Before anything that can fail: systemd has to find the process it is to put there.
    if program.scoped {
        held.read_exact(&mut placed).map_err(|_| (Step::Fork, Errno::ECANCELED))?;
    }
    if let Some(directory) = &program.directory {
        chdir(directory.as_c_str()).map_err(|error| (Step::Directory, error))?;
    }
    let own = CString::new(format!("LISTEN_PID={}", Pid::this())).ok().filter(|_| program.listens);
    let invocation = CString::new([b"INVOCATION_ID=", &placed[..]].concat()).ok().filter(|_| program.scoped);
    let environment: Vec<_> = program.environment.iter().chain(&own).chain(&invocation).collect();
    execve(&program.path, &program.arguments, &environment).map_err(|error| (Step::Execute, error))
}

/// Reaps until nothing is left.
fn reap(channel: &mut UnixStream) {
    let mut answer = [ONE];
    loop {
        // Still to be seen in /proc, for procroll to know who has sent what it has not read yet.
        match ended() {
            Ok(word) => {
                say(channel, word);
                if answer != [ALL] {
                    let _ = channel.read_exact(&mut answer);
                }
                if let Word::Exited { pid, .. } | Word::Killed { pid, .. } = word {
                    let _ = waitpid(Pid::from_raw(pid.cast_signed()), None);
                }
            }
            Err(Errno::EINTR) => {}
            // There are no children.
            Err(_) => return,
        }
    }
}

/// Waits until a child has ended, and leaves it as it is.
fn ended() -> Result<Word, Errno> {
    // SAFETY: it is plain numbers.
    #[allow(unsafe_code)]
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: it writes to this alone. (The wrappers of nix and rustix have no word for a real-time signal, or none for who
    // it was.)
    #[allow(unsafe_code)]
    let (pid, status) = unsafe {
        Errno::result(libc::waitid(libc::P_ALL, 0, &mut info, libc::WEXITED | libc::WNOWAIT))?;
        (info.si_pid(), info.si_status())
    };
    let pid = pid.unsigned_abs();
    Ok(match info.si_code {
        libc::CLD_EXITED => Word::Exited { pid, status: status as u8 },
        _ => Word::Killed { pid, signal: status },
    })
}
