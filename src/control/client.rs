//! The side of `procroll reload`.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::libc;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{Answer, Call, FAILED, Outcome, RELOAD, STOPPING, receive, send};
use crate::systemd::Place;
use crate::systemd::pidfd::Pidfd;

/// How long a socket may be there that nobody listens at.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// How long a process that is killed may take to end after its sockets have closed.
const LAST_BREATH: Duration = Duration::from_millis(200);

/// Asks the procroll of the wrapper `unit` for a roll, and waits for as long as that takes: systemd counts the
/// generation's time, and that of the command which called us.
///
/// # Errors
/// None was there ([`io::ErrorKind::NotFound`], [`io::ErrorKind::ConnectionRefused`]), or it ended before it answered.
pub async fn ask(place: &Place, unit: &str) -> io::Result<Outcome> {
    let path = place.control.join(unit);
    loop {
        let stream = connect(&path).await?;
        let server = stream.peer_cred()?.pid().and_then(|pid| Pidfd::open(pid.try_into().ok()?));
        match call(stream).await {
            // It was executed anew before it had heard us.
            Err(error) if is_end(&error) && lives_on(server).await => {}
            outcome => return outcome,
        }
    }
}

/// Whether the other side of a connection is gone.
pub fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset)
}

async fn lives_on(process: Option<Pidfd>) -> bool {
    match process {
        Some(process) => timeout(LAST_BREATH, process.ended()).await.is_err(),
        None => false,
    }
}

async fn call(mut stream: UnixStream) -> io::Result<Outcome> {
    send(&mut stream, &Call { method: RELOAD.to_owned() }).await?;
    let answer: Answer = receive(&mut stream).await?;
    Ok(match answer.error.as_deref() {
        None => Outcome::Serves,
        Some(STOPPING) => Outcome::Stopping,
        Some(FAILED) => Outcome::Failed(answer.parameters.reason.unwrap_or_default()),
        Some(error) => return Err(io::Error::other(format!("it answered {error}"))),
    })
}

async fn connect(path: &Path) -> io::Result<UnixStream> {
    let began = Instant::now();
    loop {
        match try_to_connect(path).await {
            // One that is being executed anew, or started again, listens in a moment. It has let nobody in who was about to
            // come in.
            Err(error) if is_nobody(&error) && began.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
            stream => return stream,
        }
    }
}

async fn try_to_connect(path: &Path) -> io::Result<UnixStream> {
    // An address has room for 107 bytes, and a unit's name may be longer.
    let socket = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
}
