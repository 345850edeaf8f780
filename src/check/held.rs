//! What a unit's processes have for themselves alone: ports, sockets and locks. Two generations live side by side during a
//! roll, or by handover one after the other.

use super::{HANDOVER, Judge, Level};
use crate::unit::is_no;

/// What was seen of a unit's processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// There is no need to look.
    NotAsked,
    /// Nothing was seen, and why.
    NotSeen(String),
    /// This was seen.
    Seen {
        /// Ports that they listen on and did not get from systemd.
        ports: Vec<Port>,
        /// Unix sockets of the same kind; one that begins with @ has no file.
        sockets: Vec<String>,
        /// Files that they have locked against all others.
        locks: Vec<String>,
    },
}

/// A port that somebody listens on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// `tcp` or `udp`
    pub protocol: &'static str,
    /// As `0.0.0.0:80` or `[::]:80`.
    pub address: String,
    /// Whether it may be listened on by others (`SO_REUSEPORT`); none if that could not be seen.
    pub shared: Option<bool>,
}

pub(super) fn apply(judge: &mut Judge<'_>) {
    let (ports, sockets, locks) = match &judge.facts.held {
        Held::NotAsked => return,
        Held::NotSeen(why) => {
            let why = format!("has not been looked at for ports, sockets and locks of its own: {why}");
            return judge.find(Level::Note, "port", None, why, "");
        }
        Held::Seen { ports, sockets, locks } => (ports, sockets, locks),
    };
    // Each generation has a network and a /tmp of its own, where the unit says so.
    let (network, tmp) = (!is_no(judge.value("PrivateNetwork", "no")), !is_no(judge.value("PrivateTmp", "no")));
    let own = |path: &&String| tmp && (path.starts_with("/tmp/") || path.starts_with("/var/tmp/"));
    let join = |paths: &[String]| paths.iter().filter(|path| !own(path)).cloned().collect::<Vec<_>>().join(", ");
    let (sockets, locks) = (join(sockets), join(locks));
    let ports = if network { &[] } else { ports.as_slice() };
    let unit = judge.facts.name.trim_end_matches(".service");
    let by_socket = format!("let {unit}.socket listen in its place, if it can take its sockets from systemd");
    let or_by_socket = format!("For a roll without a gap, {by_socket}");
    let mut alone = |subject, what: String, todo: &str| {
        let why = format!("{what}, so it rolls by handover: the old one is gone before the new one starts");
        judge.find(Level::Caution, subject, None, why, todo);
        if !judge.hands_over() {
            judge.options.push(HANDOVER.to_owned());
        }
    };
    let named = |shared| {
        let ports = ports.iter().filter(|port| port.shared == shared);
        ports.map(|port| format!("{} {}", port.protocol, port.address)).collect::<Vec<_>>().join(", ")
    };
    let taken = named(Some(false));
    if !taken.is_empty() {
        let todo = format!("{or_by_socket}; or let it use SO_REUSEPORT, if it has an option for that");
        alone("port", format!("listens on {taken} alone"), &todo);
    }
    if !sockets.is_empty() {
        // A second one fails, or takes it over and loses it again when the old one cleans up.
        alone("socket", format!("listens at {sockets}"), &or_by_socket);
    }
    if !locks.is_empty() {
        alone("lock", format!("has locked {locks}"), "");
    }
    let shared = named(Some(true));
    if !shared.is_empty() {
        let why = format!("listens on {shared} with SO_REUSEPORT: what the old one has not accepted yet is reset");
        judge.find(Level::Note, "port", None, why, format!("To lose none, {by_socket}"));
    }
    let unknown = named(None);
    if !unknown.is_empty() {
        let why = format!("listens on {unknown}; whether a second one can could not be seen");
        judge.find(
            Level::Note,
            "port",
            None,
            why,
            "It can if it uses SO_REUSEPORT; if it doesn't, give procroll --strategy=handover",
        );
    }
}
