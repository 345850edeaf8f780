//! Each backend with real processes, in one set of tests: what any procroll has to do for whoever uses it. `procroll run` needs
//! no systemd, and is tried as from a shell and as the first process of a namespace, for which the tests have to be root.
//! Services and scopes are tried in machines, one for each version of systemd.
#![allow(clippy::expect_used, clippy::panic)] // That is how a test fails.

mod ends;
mod first;
mod harness;
#[path = "../machine/mod.rs"]
mod machine;
mod notifications;
mod processes;
mod programs;
mod rolls;
mod sockets;
mod ways;

/// Tries each of these with each backend: `rolls::a_failed_roll_keeps_the_old_one::service::v257`.
macro_rules! in_every_way {
    ($($test:ident)+) => {
        $(mod $test {
            $crate::both_ways! { @one $test }
            $crate::on_each_systemd! { service $test }
            $crate::on_each_systemd! { scope $test }
        })+
    };
}

/// Tries each of these with the backends of which procroll itself starts the programs, and hears what they say.
macro_rules! with_own_processes {
    ($($test:ident)+) => {
        $(mod $test {
            $crate::both_ways! { @one $test }
            $crate::on_each_systemd! { scope $test }
        })+
    };
}

/// Tries each of these with the direct backend alone, in both places: `first::…::plain`.
macro_rules! both_ways {
    (@one $test:ident) => {
        #[test]
        fn plain() {
            super::$test($crate::ways::PLAIN);
        }
        #[test]
        fn first() {
            super::$test($crate::ways::FIRST);
        }
    };
    ($($test:ident)+) => {
        $(mod $test {
            $crate::both_ways! { @one $test }
        })+
    };
}

macro_rules! on_each_systemd {
    ($way:ident $test:ident) => { $crate::on_each_systemd! { $way $test: v252 v254 v257 v262 } };
    ($way:ident $test:ident: $($version:ident)+) => {
        mod $way {
            $(#[test]
            fn $version() {
                super::super::$test($crate::ways::$way(stringify!($version)));
            })+
        }
    };
}

pub(crate) use {both_ways, in_every_way, on_each_systemd, with_own_processes};
