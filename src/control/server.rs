//! The side of the procroll that rolls.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Answer, Call, FAILED, NO_SUCH_METHOD, Outcome, Parameters, RELOAD, STOPPING, receive, send};
use crate::systemd::Place;

/// How many may wait for an answer at a time. systemd runs one reload of a unit after the other, so few ever do; more
/// wait until they are let in.
const MOST: usize = 16;

/// How long a caller may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is tried to listen where that could not be done.
const PAUSE: Duration = Duration::from_secs(1);

/// Where rolls are asked for. The socket is gone with this.
#[derive(Debug)]
pub struct Control {
    /// Lets callers in. It has the socket.
    _door: JoinSet<()>,
    /// As many as may still come in.
    room: Arc<Semaphore>,
    sender: mpsc::Sender<Heard>,
    heard: mpsc::Receiver<Heard>,
}

/// What has come of a caller: a request for a roll; or none, when it has been answered, or asked for something else.
type Heard = Option<Reply>;

/// Somebody waits for the outcome of a roll. Dropped, it tells them that there will be none.
#[derive(Debug)]
pub struct Reply(oneshot::Sender<Outcome>);

impl Reply {
    /// Tells what came of it.
    pub fn answer(self, outcome: Outcome) {
        // Whoever has gone away needs no answer.
        let _ = self.0.send(outcome);
    }
}

#[cfg(test)]
impl Reply {
    /// One that nobody has asked for over a socket, and where its answer comes.
    pub fn pair() -> (Self, oneshot::Receiver<Outcome>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }
}

impl Control {
    /// For whoever is not asked this way: none ever comes.
    pub fn none() -> Self {
        let (sender, heard) = mpsc::channel(MOST);
        Self { _door: JoinSet::new(), room: Arc::new(Semaphore::new(MOST)), sender, heard }
    }

    /// Listens for the wrapper `unit`, whose only procroll this is: what lies in the way was left by an earlier one.
    pub fn listen(place: &Place, unit: &str) -> io::Result<Self> {
        let bound = Socket::bind(place, unit)?;
        Ok(Self::with_door(owner(place), async { bound }))
    }

    /// The same, as soon as that can be done.
    pub fn listen_later(place: Arc<Place>, unit: String) -> Self {
        Self::with_door(owner(&place), async move {
            loop {
                tokio::time::sleep(PAUSE).await;
                match Socket::bind(&place, &unit) {
                    Ok(bound) => return bound,
                    Err(error) => tracing::debug!("can't listen yet: {error}"),
                }
            }
        })
    }

    fn with_door(owner: u32, bound: impl Future<Output = (Socket, UnixListener)> + Send + 'static) -> Self {
        let mut control = Self::none();
        let (room, sender) = (Arc::clone(&control.room), control.sender.clone());
        control._door.spawn(async move {
            let (_socket, listener) = bound.await;
            let_in(listener, owner, room, sender).await;
        });
        control
    }

    /// Whether nobody is being heard or answered.
    pub fn is_idle(&self) -> bool {
        self.room.available_permits() == MOST && self.heard.is_empty()
    }

    /// The next who asks for a roll; or none, when another has gone. May be dropped and called again without losing one.
    pub async fn next(&mut self) -> Option<Reply> {
        // We hold a sender ourselves, so this never ends.
        self.heard.recv().await.flatten()
    }
}

/// Removes the socket that an earlier procroll has left for the wrapper `unit`.
pub fn clear(place: &Place, unit: &str) {
    drop(Socket { path: place.control.join(unit), folder: place.control.clone() });
}

/// Lets in callers, of whom each has to be the manager's owner.
async fn let_in(listener: UnixListener, owner: u32, room: Arc<Semaphore>, sender: mpsc::Sender<Heard>) {
    let mut callers = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) if stream.peer_cred().is_ok_and(|caller| caller.uid() == owner) => {
                let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
                callers.spawn(serve(stream, sender.clone(), place));
                // Those that have ended need no memory.
                while callers.try_join_next().is_some() {}
            }
            Ok(_) => tracing::warn!("somebody who may not ask for a roll has tried to"),
            Err(error) => {
                tracing::warn!("can't hear who asks for a roll: {error}");
                // Out of descriptors, as a rule: somebody has to close some first.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Hears and answers one caller, who has a place until then.
async fn serve(stream: UnixStream, sender: mpsc::Sender<Heard>, place: OwnedSemaphorePermit) {
    answer(stream, &sender).await;
    drop(place);
    let _ = sender.send(None).await;
}

/// Hears what one caller wants, and tells what came of it.
async fn answer(mut stream: UnixStream, sender: &mpsc::Sender<Heard>) {
    let Ok(Ok(call)) = timeout(PATIENCE, receive::<Call>(&mut stream)).await else {
        return tracing::debug!("a caller said nothing that could be understood");
    };
    let answer = if call.method == RELOAD {
        let (reply, outcome) = oneshot::channel();
        let _ = sender.send(Some(Reply(reply))).await;
        match outcome.await {
            Ok(Outcome::Serves) => said(None, Parameters::default()),
            Ok(Outcome::Failed(why)) => said(Some(FAILED), Parameters { reason: Some(why), ..Parameters::default() }),
            Ok(Outcome::Stopping) => said(Some(STOPPING), Parameters::default()),
            // Nobody is left who knows. The caller sees the connection end.
            Err(_) => return,
        }
    } else {
        said(Some(NO_SUCH_METHOD), Parameters { method: Some(call.method), ..Parameters::default() })
    };
    // Whoever has gone away needs no answer.
    let _ = send(&mut stream, &answer).await;
}

fn said(error: Option<&str>, parameters: Parameters) -> Answer {
    Answer { error: error.map(str::to_owned), parameters }
}

/// A socket in the file system, removed when this is dropped, and its folder with the last of them.
#[derive(Debug)]
struct Socket {
    path: PathBuf,
    folder: PathBuf,
}

/// Who may call.
fn owner(place: &Place) -> u32 {
    place.user.unwrap_or_default()
}

impl Socket {
    fn bind(place: &Place, unit: &str) -> io::Result<(Self, UnixListener)> {
        let folder = &place.control;
        let path = folder.join(unit);
        let owner = owner(place);
        loop {
            match DirBuilder::new().mode(0o700).create(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            match is_private(folder, owner) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Ok(false) => return Err(io::Error::other("others can write or enter there. Remove it")),
                known => known?,
            };
            // An address has room for 107 bytes, and a unit's name may be longer.
            let new = folder.join(format!(".{}", std::process::id()));
            let _ = fs::remove_file(&new);
            let listener = UnixListener::bind(&new).and_then(|listener| fs::rename(&new, &path).map(|()| listener));
            match listener {
                // Another procroll has removed the folder with its own socket, which was the last.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                listener => return Ok((Self { path, folder: folder.clone() }, listener?)),
            }
        }
    }
}

/// Whether this is a folder, and its owner's alone. One that was there before us may be anything.
fn is_private(folder: &Path, owner: u32) -> io::Result<bool> {
    let metadata = fs::symlink_metadata(folder)?;
    Ok(metadata.is_dir() && metadata.uid() == owner && metadata.mode() & 0o077 == 0)
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        // It fails while others have sockets there.
        let _ = fs::remove_dir(&self.folder);
    }
}
