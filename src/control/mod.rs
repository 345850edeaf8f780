//! How `procroll reload` asks the procroll of a unit for a roll and hears what came of it, where the unit's manager has
//! no Type=notify-reload (systemd 252).
//!
//! The protocol is Varlink and the one verb `Reload` of systemd's own interface for services, so that `varlinkctl call`
//! can say it, too. A message is one JSON object and a NUL, which serde_json reads; the crates for Varlink bring twenty
//! others. (D-Bus without a bus would do, but zbus asks for its callers' groups, for which a static binary loads
//! libraries.) The socket lies in a folder that only the manager's owner can enter, and whoever calls has to be that.
//! What a roll is, is not decided here.

mod client;
mod server;

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

pub use client::{ask, is_end};
pub use server::{Control, Reply, clear};

/// The method, of the interface `io.systemd.service`.
const RELOAD: &str = "io.systemd.service.Reload";

/// What came of a request for a roll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The new generation serves.
    Serves,
    /// The roll has failed, and why. procroll has logged that.
    Failed(String),
    /// There will be none, since the unit is being stopped.
    Stopping,
}

/// A call of a method. What else it may hold has no meaning for the one there is.
#[derive(Debug, Deserialize, Serialize)]
struct Call {
    method: String,
}

/// The answer to a call.
#[derive(Debug, Deserialize, Serialize)]
struct Answer {
    /// None if the call was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default)]
    parameters: Parameters,
}

/// What an error says of itself.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Parameters {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// With `org.varlink.service.MethodNotFound`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method: Option<String>,
}

const FAILED: &str = "org.procroll.RollFailed";
const STOPPING: &str = "org.procroll.Stopping";
const NO_SUCH_METHOD: &str = "org.varlink.service.MethodNotFound";

/// The longest message that is read, in bytes. A reason is the longest there is.
const LONGEST: u64 = 64 * 1024;

async fn receive<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let mut message = Vec::new();
    BufReader::new(stream).take(LONGEST).read_until(0, &mut message).await?;
    if message.pop() != Some(0) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&message)?)
}

async fn send<T: Serialize>(stream: &mut (impl AsyncWrite + Unpin), message: &T) -> io::Result<()> {
    let mut message = serde_json::to_vec(message)?;
    message.push(0);
    stream.write_all(&message).await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::text_of;

    const OF_MESSAGES: &[&str] = &[
        "{",
        "}",
        "\"method\"",
        "\"io.systemd.service.Reload\"",
        ":",
        ",",
        "[",
        "]",
        "\0",
        "1e999",
        "\\u0000",
        "null",
    ];

    /// What is received of these bytes, which come `at_once` at a time; and how many were taken.
    fn received(bytes: &[u8], at_once: usize) -> (io::Result<Call>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let (mut ours, mut theirs) = tokio::io::duplex(at_once);
            let mut taken = 0;
            let writes = async {
                for part in bytes.chunks(at_once) {
                    if ours.write_all(part).await.is_err() {
                        break;
                    }
                    taken += part.len();
                }
                drop(ours);
            };
            let reads = async move {
                let call = receive(&mut theirs).await;
                drop(theirs);
                call
            };
            let (call, ()) = tokio::join!(reads, writes);
            (call, taken)
        })
    }

    /// What they mean by all rules.
    fn meant(bytes: &[u8]) -> Option<String> {
        let end = bytes.iter().take(LONGEST as usize).position(|byte| *byte == 0)?;
        serde_json::from_slice::<Call>(&bytes[..end]).ok().map(|call| call.method)
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_parts_are_a_call_or_refused(
            bytes in prop_oneof![
                text_of(OF_MESSAGES).prop_map(String::into_bytes),
                text_of(OF_MESSAGES).prop_map(|text| format!("{{\"method\":{text:?}}}\0{text}").into_bytes()),
                proptest::collection::vec(any::<u8>(), 0..60),
            ],
            at_once in 1usize..40,
        ) {
            let (call, _) = received(&bytes, at_once);
            prop_assert_eq!(call.ok().map(|call| call.method), meant(&bytes));
        }

        #[test]
        fn what_is_sent_is_received(text in text_of(OF_MESSAGES)) {
            let mut sent = Vec::new();
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(send(&mut sent, &Call { method: text.clone() })).expect("sent");
            prop_assert_eq!(received(&sent, 7).0.ok().map(|call| call.method), Some(text));
        }
    }

    #[test]
    fn no_more_is_read_than_a_message_may_have() {
        for (length, is_read) in [(LONGEST as usize - 14, true), (LONGEST as usize - 13, false), (1 << 20, false)] {
            let bytes = format!("{{\"method\":{:?}}}\0{}", "x".repeat(length), "y".repeat(1 << 20)).into_bytes();
            let (call, taken) = received(&bytes, 1 << 10);
            assert_eq!(call.is_ok(), is_read, "{length}");
            assert!(taken <= LONGEST as usize + (2 << 10), "{taken}");
        }
        assert!(received("[".repeat(50_000).as_bytes(), 1 << 10).0.is_err());
        assert!(received(format!("{{\"a\":{}\0", "[".repeat(50_000)).as_bytes(), 1 << 10).0.is_err());
    }
}
