//! Those who ask the service: a connection for each request, and a pause between them, for the machine to have time for
//! faults. They are threads of this process, in the machine's network.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::machine::{Answers, Machine};

pub const CLIENTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(20);
/// How long a request may take. While nothing could serve it waits in the socket's queue.
const TIMEOUT: Duration = Duration::from_secs(60);

/// They ask for as long as this lives.
pub struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    over: bool,
    paused: bool,
    begun: [u64; CLIENTS],
    ended: [u64; CLIENTS],
    answers: Answers,
    /// Whose answers those were, each mark once in a row.
    marks: Vec<u32>,
}

impl Clients {
    /// Lets them ask the service of the machine.
    pub fn start(machine: &Machine) -> Self {
        let shared = Arc::new(Shared::default());
        let threads = (0..CLIENTS).map(|client| {
            let (shared, network) = (Arc::clone(&shared), machine.network());
            std::thread::spawn(move || {
                move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).expect("its network");
                while shared.begin(client) {
                    let answer = ask();
                    shared.end(client, &answer);
                    std::thread::sleep(PAUSE);
                }
            })
        });
        Self { threads: threads.collect(), shared }
    }

    /// What came of the requests since this was called last, and whose answers those were; and the marks of those that
    /// were asked after this was called, one of each client.
    pub fn count(&self) -> (Answers, Vec<u32>, Vec<u32>) {
        let mut state = self.shared.lock();
        let (mut answers, marks) = (std::mem::take(&mut state.answers), std::mem::take(&mut state.marks));
        let begun = state.begun;
        let asked_since = |state: &mut State| (0..CLIENTS).any(|client| state.ended[client] <= begun[client]);
        let mut state = self.shared.changed.wait_while(state, asked_since).expect("clients");
        answers += std::mem::take(&mut state.answers);
        (answers, marks, std::mem::take(&mut state.marks))
    }

    /// Keeps them from asking, until they are told to go on.
    pub fn pause(&self) {
        let mut state = self.shared.lock();
        state.paused = true;
        drop(self.shared.changed.wait_while(state, |state| state.begun != state.ended));
    }

    /// Lets them ask again.
    pub fn resume(&self) {
        self.shared.lock().paused = false;
        self.shared.changed.notify_all();
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // One that waits for an answer has it, or not, when the machine is gone.
        self.shared.lock().over = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            if !std::thread::panicking() {
                thread.join().expect("a client");
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no client panics")
    }

    fn begin(&self, client: usize) -> bool {
        let mut state = self.changed.wait_while(self.lock(), |state| state.paused && !state.over).expect("clients");
        state.begun[client] += 1;
        !state.over
    }

    fn end(&self, client: usize, answer: &Answer) {
        let mut state = self.lock();
        state.ended[client] += 1;
        match answer {
            Answer::Marked(mark) => {
                state.answers.answered += 1;
                if state.marks.last() != Some(mark) {
                    state.marks.push(*mark);
                }
            }
            Answer::Refused => state.answers.refused += 1,
            Answer::Reset => state.answers.reset += 1,
            Answer::None => state.answers.unanswered += 1,
        }
        drop(state);
        self.changed.notify_all();
    }
}

enum Answer {
    /// With 200, by a generation of this mark.
    Marked(u32),
    Refused,
    /// Reset, or closed without an answer, or in the middle of one, or given up by whoever had taken it.
    Reset,
    /// None in time, or another one.
    None,
}

fn ask() -> Answer {
    let mut text = String::new();
    let asked = TcpStream::connect("127.0.0.1:8000").and_then(|mut connection| {
        connection.set_read_timeout(Some(TIMEOUT))?;
        connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        connection.read_to_string(&mut text)
    });
    match asked {
        Ok(0) => Answer::Reset,
        Ok(_) => {
            let marked = text.split_once("\r\n\r\nmark-").filter(|_| text.contains(" 200 "));
            let mark = marked.and_then(|(_, rest)| rest.split_once(' ')?.0.parse().ok());
            match mark {
                Some(mark) => Answer::Marked(mark),
                None if text.starts_with("HTTP/1.0 200 ") => Answer::Reset,
                // What gunicorn says when the watchdog's SIGABRT ends it in the middle of one.
                None if text.starts_with("HTTP/1.1 500 ") => Answer::Reset,
                None => {
                    println!("an odd answer: {text:?}");
                    Answer::None
                }
            }
        }
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused => Answer::Refused,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Answer::Reset,
            _ => {
                println!("no answer: {error}");
                Answer::None
            }
        },
    }
}
