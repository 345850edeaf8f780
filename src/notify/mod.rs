//! What procroll and a manager, or a generation and procroll, tell each other in the sd_notify(3) protocol.

pub mod datagram;
pub mod socket;
pub mod upstream;

pub use upstream::{Upstream, Waiting, Word, tell};
