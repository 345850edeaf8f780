//! Descriptors that a process has got without asking for them.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Closes all but the first three and these. To be called while nothing in this process owns another one, or while nothing
/// that owns one will ever be used again.
pub fn close_all_but(these: &[RawFd]) {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers: Vec<RawFd> = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // The listing had a descriptor itself, which is closed by now.
    let still_open = |number: &RawFd| std::fs::read_link(format!("/proc/self/fd/{number}")).is_ok();
    for number in numbers.into_iter().filter(|number| *number > 2 && !these.contains(number)).filter(still_open) {
        // SAFETY: nothing in this process owns it, as the caller sees to.
        #[allow(unsafe_code)]
        let inherited = unsafe { OwnedFd::from_raw_fd(number) };
        drop(inherited);
    }
}
