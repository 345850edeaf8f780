//! What a generation's keeper tells procroll, as bytes. Pure.

/// The length of a word, in bytes.
pub const SIZE: usize = 12;

/// The answer to [`Word::Exited`] and [`Word::Killed`]: this process can be reaped.
pub const ONE: u8 = 0;
/// The last answer to these: and so can all that end later.
pub const ALL: u8 = 1;

/// The answer to [`Word::Held`]: the invocation id of the scope, as `INVOCATION_ID=` has it.
pub type Invocation = [u8; 32];

/// What went wrong with a program that was not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// No process could be made.
    Fork,
    /// Its directory can't be entered.
    Directory,
    /// It can't be executed.
    Execute,
}

/// What a keeper tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// This process waits to be put into its scope before it executes the program.
    Held {
        /// Its id.
        pid: u32,
    },
    /// The program runs in this process.
    Executed {
        /// Its id.
        pid: u32,
    },
    /// The program does not run, and nothing is left.
    NotExecuted {
        /// What went wrong.
        step: Step,
        /// And why, by number: errno(3).
        error: i32,
    },
    /// A child of the keeper's has exited.
    Exited {
        /// Which one.
        pid: u32,
        /// Its status.
        status: u8,
    },
    /// A signal has ended a child of the keeper's.
    Killed {
        /// Which one.
        pid: u32,
        /// The signal.
        signal: i32,
    },
    /// Nothing is left of the generation.
    Empty,
}

impl Word {
    /// As it is sent.
    pub fn to_bytes(self) -> [u8; SIZE] {
        let (kind, first, second) = match self {
            Self::Executed { pid } => (0, pid, 0),
            Self::NotExecuted { step, error } => (1, step as u32, error),
            Self::Exited { pid, status } => (2, pid, status.into()),
            Self::Killed { pid, signal } => (3, pid, signal),
            Self::Empty => (4, 0, 0),
            Self::Held { pid } => (5, pid, 0),
        };
        let mut bytes = [0; SIZE];
        let parts = [u32::to_ne_bytes(kind), first.to_ne_bytes(), second.to_ne_bytes()];
        bytes.iter_mut().zip(parts.as_flattened()).for_each(|(byte, part)| *byte = *part);
        bytes
    }

    /// As it was sent; none if nobody sends that.
    pub fn from_bytes(bytes: [u8; SIZE]) -> Option<Self> {
        let (parts, _) = bytes.as_chunks::<4>();
        let &[kind, first, second] = parts else { return None };
        let (first, second) = (u32::from_ne_bytes(first), i32::from_ne_bytes(second));
        Some(match u32::from_ne_bytes(kind) {
            0 => Self::Executed { pid: first },
            1 => {
                let step =
                    [Step::Fork, Step::Directory, Step::Execute].into_iter().find(|step| *step as u32 == first)?;
                Self::NotExecuted { step, error: second }
            }
            2 => Self::Exited { pid: first, status: second.try_into().ok()? },
            3 => Self::Killed { pid: first, signal: second },
            4 => Self::Empty,
            5 => Self::Held { pid: first },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_word_or_none(bytes in any::<[u8; SIZE]>(), kind in 0u32..7, first in 0u32..4) {
            let _ = Word::from_bytes(bytes);
            let mut bytes = bytes;
            bytes[..4].copy_from_slice(&kind.to_ne_bytes());
            bytes[4..8].copy_from_slice(&first.to_ne_bytes());
            if let Some(word) = Word::from_bytes(bytes) {
                prop_assert_eq!(Word::from_bytes(word.to_bytes()), Some(word));
            }
        }
    }

    #[test]
    fn a_word_reads_back_the_same() {
        for word in [
            Word::Executed { pid: u32::MAX },
            Word::NotExecuted { step: Step::Directory, error: 2 },
            Word::NotExecuted { step: Step::Execute, error: 8 },
            Word::Exited { pid: 7, status: 255 },
            Word::Killed { pid: 7, signal: 64 },
            Word::Empty,
            Word::Held { pid: 7 },
        ] {
            assert_eq!(Word::from_bytes(word.to_bytes()), Some(word));
        }
    }
}
