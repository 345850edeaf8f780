//! What procroll and a manager tell each other in the sd_notify(3) protocol.

pub mod upstream;

pub use upstream::{Upstream, Word};
