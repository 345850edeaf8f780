//! `procroll run` with real processes, which need no systemd. What any procroll has to do for whoever uses it is tried as
//! from a shell and as the first process of a namespace, for which the tests have to be root.
#![allow(clippy::expect_used, clippy::panic)] // That is how a test fails.

mod ends;
mod first;
mod harness;
mod notifications;
mod programs;
mod rolls;
mod sockets;

/// Tries each of these in both ways.
macro_rules! both_ways {
    ($($test:ident)+) => {
        mod plain {
            $(#[test]
            fn $test() {
                super::$test(crate::harness::PLAIN);
            })+
        }
        mod first {
            $(#[test]
            fn $test() {
                super::$test(crate::harness::FIRST);
            })+
        }
    };
}
pub(crate) use both_ways;
