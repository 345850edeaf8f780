//! What has been checked: values that can't be wrong any more.
//!
//! Pure, and the ground floor of the command line: [`cli`](crate::cli) makes them, this room knows nothing of it.

pub mod direct;
mod service_type;
mod signal;
pub mod span;
mod strategy;
pub mod template;
mod unit_name;

use crate::roll::Pace;

pub use service_type::ServiceType;
pub use signal::SignalName;
pub use span::Span;
pub use strategy::Strategy;
pub use unit_name::{BadName, BaseName, WrapperName};

/// What a service is to be run with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What to name the generations after, if the user says so.
    pub unit: Option<BaseName>,
    /// `Type=` of the generations.
    pub service_type: ServiceType,
    /// Whether two generations may live at once.
    pub strategy: Strategy,
    /// How fast rolls may go.
    pub pace: Pace,
    /// Lines for the generations' unit, in the order given; they win over the wrapper's.
    pub overrides: Vec<Override>,
    /// The command and its arguments, with valid templates.
    pub command: Vec<String>,
}

impl Settings {
    /// For generations that run already, where it can't be known what was asked for.
    pub fn unknown(base: BaseName) -> Self {
        Self {
            unit: Some(base),
            service_type: ServiceType::default(),
            strategy: Strategy::default(),
            pace: Pace::default(),
            overrides: Vec::new(),
            command: Vec::new(),
        }
    }
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
