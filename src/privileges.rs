//! What procroll may do: no more than it needs. It is root beside applications that may be hostile (G11), and its uid is
//! what the bus, systemd and the folders for units go by.

use std::io;

use rustix::thread::{self, CapabilitySet, CapabilitySets};

/// To read unit files, and look for commands, that their owner has kept from others, as systemd does.
const NEEDED: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;

/// Gives up all capabilities but those needed, for good and for every program that it may execute: see capabilities(7).
///
/// To be called while there is one thread.
///
/// # Errors
/// None that the kernel has for a process that gives up its own.
pub fn drop() -> io::Result<()> {
    let held = thread::capabilities(None)?;
    // Without this one they can't be taken from the programs it executes; but then it has few itself.
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().difference(NEEDED).iter() {
            match thread::remove_capability_from_bounding_set(capability) {
                // The kernel is older than the list.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    thread::clear_ambient_capability_set()?;
    let sets = CapabilitySets {
        effective: held.effective & NEEDED,
        permitted: held.permitted & NEEDED,
        inheritable: CapabilitySet::empty(),
    };
    thread::set_capabilities(None, sets)?;
    Ok(thread::set_no_new_privs(true)?)
}
