//! What has been checked: values that can't be wrong any more.
//!
//! Pure, and the ground floor of the command line: [`cli`](crate::cli) makes them, this room knows nothing of it.

mod service_type;
mod signal;
mod span;
pub mod template;
mod unit_name;

use std::time::Duration;

pub use service_type::ServiceType;
pub use signal::SignalName;
pub use span::Span;
pub use unit_name::{BadName, BaseName, WrapperName};

/// What a service is to be run with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What to name the generations after, if the user says so.
    pub unit: Option<BaseName>,
    /// `Type=` of the generations.
    pub service_type: ServiceType,
    /// How long a new generation has to stay active.
    pub settle: Duration,
    /// Lines for the generations' unit, in the order given; they win over the wrapper's.
    pub overrides: Vec<Override>,
    /// The command and its arguments, with valid templates.
    pub command: Vec<String>,
}

/// A line for the generations' unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The key, of `[Service]` or `[Unit]`.
    pub key: String,
    /// The value as it is written into a unit file.
    pub value: String,
    /// The option it comes from, as given, for messages.
    pub option: String,
}
