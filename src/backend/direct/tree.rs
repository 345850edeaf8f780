//! Which processes descend from which, by /proc. It only looks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::LazyLock;

/// What /proc/PID/stat says of a process. See proc_pid_stat(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its parent; 0 for one outside this namespace.
    pub parent: u32,
    /// It has ended, and its parent has not looked yet.
    pub is_zombie: bool,
    /// When it began, in ticks since boot.
    pub began: u64,
}

impl Stat {
    /// Of the process that has this id now; none if there is none.
    pub fn of(pid: u32) -> Option<Self> {
        parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }
}

/// A process's name may hold anything, also a parenthesis or what is no UTF-8, and what counts comes after it.
fn parse(stat: &[u8]) -> Option<Stat> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let (state, parent) = (fields.next()?, fields.next()?);
    let began = fields.nth(17)?;
    Some(Stat { parent: parent.parse().ok()?, is_zombie: matches!(state, "Z" | "X"), began: began.parse().ok()? })
}

/// Whether `pid` is below `ancestor`. One that is reaped already is below nobody.
pub fn is_below(pid: u32, ancestor: u32) -> bool {
    climb(pid, ancestor, |pid| Stat::of(pid).map(|stat| stat.parent))
}

fn climb(pid: u32, ancestor: u32, mut parent: impl FnMut(u32) -> Option<u32>) -> bool {
    // A number may be another process's from one look to the next, and then this could go round.
    const DEEPEST: usize = 10_000;
    // One that is hidden stays so.
    let mut more_looks = 5;
    let mut one = pid;
    for _ in 0..DEEPEST {
        one = match parent(one) {
            Some(0) => return false,
            Some(parent) if parent == ancestor => return true,
            Some(parent) => parent,
            None if one == pid || more_looks == 0 => return false,
            // It has been reaped since it was a parent, and what was below it has moved up.
            None => {
                more_looks -= 1;
                pid
            }
        };
    }
    false
}

/// The processes below this one that have not ended. What forks while it is looked for may be missed, and is there at the
/// next look.
pub fn below(ancestor: u32) -> Vec<u32> {
    // Not every kernel is built with it. It costs only what there is to find, and finds what has little time.
    static LISTS_CHILDREN: LazyLock<bool> =
        LazyLock::new(|| fs::exists("/proc/thread-self/children").is_ok_and(|is| is));
    let mut found = match *LISTS_CHILDREN {
        true => walk(ancestor, listed_children),
        false => {
            let tree = Tree::look();
            walk(ancestor, |pid| tree.children(pid))
        }
    };
    found.retain(|pid| Stat::of(*pid).is_some_and(|stat| !stat.is_zombie));
    found
}

/// The children of this one, also those that have ended.
pub fn children(parent: u32) -> Vec<u32> {
    Tree::look().children(parent)
}

fn walk(ancestor: u32, children: impl Fn(u32) -> Vec<u32>) -> Vec<u32> {
    let mut found = Vec::new();
    // A number may be another process's from one look to the next, and then this could go round.
    let mut seen = BTreeSet::from([ancestor]);
    let mut next = children(ancestor);
    while let Some(pid) = next.pop() {
        if seen.insert(pid) {
            found.push(pid);
            next.extend(children(pid));
        }
    }
    found
}

/// Of all its threads. See proc_pid_task(5), `children`.
fn listed_children(parent: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// All processes, each with its parent.
struct Tree(BTreeMap<u32, u32>);

impl Tree {
    fn look() -> Self {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Self(pids.filter_map(|pid| Some((pid, Stat::of(pid)?.parent))).collect())
    }

    fn children(&self, parent: u32) -> Vec<u32> {
        self.0.iter().filter(|(_, one)| **one == parent).map(|(pid, _)| *pid).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::text_of;

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in text_of(&["(", ")", " ", "S", "Z", "1", "0", "-1", "99999999999999999999", "\n"])) {
            let _ = parse(text.as_bytes());
        }

        /// Whatever the numbers: it ends, and a child is below its parent.
        #[test]
        fn whoever_has_a_parent_is_below_it(parents in proptest::collection::btree_map(1u32..20, 0u32..20, 0..20)) {
            let tree = Tree(parents.clone());
            for (pid, parent) in parents.iter().filter(|(pid, parent)| pid != parent && **parent != 0) {
                prop_assert!(walk(*parent, |pid| tree.children(pid)).contains(pid));
                prop_assert!(climb(*pid, *parent, |pid| parents.get(&pid).copied()));
            }
        }
    }

    #[test]
    fn one_whose_parent_goes_meanwhile_is_found_further_up() {
        // 5 is below 4, and that below 3; 4 is reaped before it is looked at, and 5 has moved to 3.
        let mut looks = [(5, Some(4)), (4, None), (5, Some(3)), (3, Some(2))].into_iter();
        let look = |pid| looks.next().and_then(|(asked, parent)| parent.filter(|_| asked == pid));
        assert!(climb(5, 2, look));
        let mut count = 0;
        let hidden = |pid| {
            count += 1;
            (pid == 5).then_some(4)
        };
        assert!(!climb(5, 2, hidden));
        assert!(count < 20, "{count} looks");
    }

    #[test]
    fn a_name_can_be_anything() {
        let stat = b"42 (a) Z 7 (\xff) b) S 17 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 0 0";
        assert_eq!(parse(stat), Some(Stat { parent: 17, is_zombie: false, began: 12345 }));
        assert_eq!(parse(b"42 (x) Z 17"), None);
        assert!(parse(b"42 (x) Z 17 1 1 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 9 0").is_some_and(|stat| stat.is_zombie));
    }

    #[test]
    fn this_process_is_below_its_parent() {
        let (pid, parent) = (std::process::id(), std::os::unix::process::parent_id());
        assert!(is_below(pid, parent) && !is_below(parent, pid) && !is_below(pid, pid));
        assert!(below(parent).contains(&pid) && children(parent).contains(&pid));
    }
}
