//! Which keys of a wrapper's unit its generations get: one table, the only truth. What isn't in it is carried as it is.
//!
//! What a unit is about by itself stands in it even if it is carried: all of `[Unit]` but its conditions, and what
//! `[Service]` alone has. (What `[Mount]` has as well is systemd.exec(5)'s and its like, and says how a process is run.)
//! A test goes through what each systemd knows.

use super::text::Section;

/// What becomes of a key of the wrapper's unit on a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The same as on the wrapper.
    Carried,
    /// procroll says what it is on a generation.
    Own,
    /// Left out: it is about the wrapper.
    Dropped,
}

use Class::{Carried, Dropped, Own};

type Row = (Class, Section, &'static [&'static str], &'static str);

/// Dependencies and `OnFailure=` can't be reset by an empty assignment, so what must not be carried is left out of the
/// copied text instead of overridden.
pub const TABLE: &[Row] = &[
    (
        Own,
        Section::Unit,
        &["CollectMode"],
        "a generation that failed stays to be looked at, and one that ended stays until procroll has read how",
    ),
    (
        Dropped,
        Section::Unit,
        &[
            "BindTo",
            "BindsTo",
            "Conflicts",
            "PartOf",
            "Requires",
            "RequiresOverridable",
            "Requisite",
            "RequisiteOverridable",
            "Upholds",
            "Wants",
        ],
        "the wrapper's dependencies hold for as long as it runs, and a generation lives no longer",
    ),
    (
        Dropped,
        Section::Unit,
        &["PropagateReloadFrom", "PropagateReloadTo", "PropagatesReloadTo", "PropagatesStopTo", "ReloadPropagatedFrom"],
        "a roll would pass a reload or a stop on to other units",
    ),
    (
        Dropped,
        Section::Unit,
        &[
            "FailureAction",
            "FailureActionExitStatus",
            "OnFailure",
            "OnFailureIsolate",
            "OnFailureJobMode",
            "OnSuccess",
            "OnSuccessJobMode",
            "RebootArgument",
            "SuccessAction",
            "SuccessActionExitStatus",
        ],
        "the end of one generation is not the end of the service; the wrapper's own end triggers it",
    ),
    (
        Dropped,
        Section::Unit,
        &["AllowIsolate", "RefuseManualStart", "RefuseManualStop", "StopWhenUnneeded"],
        "procroll has to start and stop a generation, and nothing else needs it",
    ),
    (
        Dropped,
        Section::Unit,
        &[
            "JobRunningTimeoutSec",
            "JobTimeoutAction",
            "JobTimeoutRebootArgument",
            "JobTimeoutSec",
            "StartLimitAction",
            "StartLimitBurst",
        ],
        "they are about the wrapper's own starts",
    ),
    (Own, Section::Unit, &["StartLimitInterval", "StartLimitIntervalSec"], "none: each number is started once"),
    (
        Own,
        Section::Unit,
        &["StopPropagatedFrom"],
        "the wrapper, so that a stop of it reaches the generation also when procroll is dead",
    ),
    (Dropped, Section::Unit, &["SourcePath"], "the wrapper's text has no other source than the wrapper"),
    (Own, Section::Service, &["ExecStart"], "the command behind the `--`"),
    (Own, Section::Service, &["Type"], "notify, or what --service-type= says"),
    (
        Own,
        Section::Service,
        &["RemainAfterExit"],
        "however a generation ends, it stays loaded until procroll has read how",
    ),
    (Own, Section::Service, &["Sockets"], "all socket units of the wrapper"),
    (
        Own,
        Section::Service,
        &["RuntimeDirectoryPreserve"],
        "a generation that ends must not take the directory from under the next one",
    ),
    (
        Dropped,
        Section::Service,
        &[
            "Restart",
            "RestartForceExitStatus",
            "RestartMaxDelaySec",
            "RestartMode",
            "RestartPreventExitStatus",
            "RestartRandomizedDelaySec",
            "RestartSec",
            "RestartSteps",
        ],
        "the wrapper is what is restarted, and a new generation comes with it",
    ),
    (
        Dropped,
        Section::Service,
        &["FailureAction", "RebootArgument", "StartLimitAction", "StartLimitBurst", "StartLimitInterval"],
        "the old place of what is now in [Unit]",
    ),
    (
        Dropped,
        Section::Service,
        &["RuntimeMaxSec", "RuntimeRandomizedExtraSec"],
        "they end the wrapper, and the generation with it",
    ),
    (
        Dropped,
        Section::Service,
        &["ExecReload", "ExecReloadPost", "RefreshOnReload"],
        "reload of the wrapper is a roll; a generation is not reloaded",
    ),
    (
        Dropped,
        Section::Service,
        &["BusName", "GuessMainPID", "PIDFile"],
        "they belong to Type=dbus and Type=forking, of which two can't live side by side",
    ),
    (Dropped, Section::Service, &["LUOSession"], "a session that outlives a live update of the kernel has one owner"),
    (
        Carried,
        Section::Unit,
        &["After", "Before"],
        "so that at shutdown a generation stops in the wrapper's place; the wrapper itself is not among them",
    ),
    (
        Carried,
        Section::Unit,
        &["RequiresMountsFor", "WantsMountsFor"],
        "a generation needs its files as the wrapper does, and after they are there",
    ),
    (
        Carried,
        Section::Unit,
        &["DefaultDependencies", "IgnoreOnIsolate", "SurviveFinalKillSignal"],
        "a generation lives in the same part of the boot and the shutdown",
    ),
    (Carried, Section::Unit, &["JoinsNamespaceOf"], "with whom a service shares its /tmp or its network"),
    (Carried, Section::Unit, &["Description", "Documentation"], "what people read"),
    (
        Carried,
        Section::Service,
        &["ExecCondition", "ExecStartPre", "ExecStartPost", "ExecStop", "ExecStopPost"],
        "a generation is started and stopped as the service would be; systemd runs them for the wrapper as well",
    ),
    (
        Carried,
        Section::Service,
        &[
            "TimeoutAbortSec",
            "TimeoutSec",
            "TimeoutStartFailureMode",
            "TimeoutStartSec",
            "TimeoutStopFailureMode",
            "TimeoutStopSec",
            "WatchdogSec",
        ],
        "systemd counts them for a generation; procroll has those of the wrapper extended, and feeds its watchdog",
    ),
    (
        Carried,
        Section::Service,
        &["ExitType", "NotifyAccess", "OOMPolicy", "ReloadSignal", "SuccessExitStatus"],
        "what counts as ready, as an end, and as a good one, is the application's to say",
    ),
    (
        Carried,
        Section::Service,
        &[
            "FileDescriptorStoreMax",
            "FileDescriptorStorePreserve",
            "NonBlocking",
            "OpenFile",
            "USBFunctionDescriptors",
            "USBFunctionStrings",
        ],
        "each generation has descriptors of its own",
    ),
    (Carried, Section::Service, &["PermissionsStartOnly", "RootDirectoryStartOnly"], "they say how commands are run"),
];

/// The class of a key, and why, if it isn't simply carried.
pub fn class(section: Section, key: &str) -> (Class, &'static str) {
    TABLE
        .iter()
        .find(|(_, of, keys, _)| *of == section && keys.contains(&key))
        .map_or((Class::Carried, ""), |(class, _, _, why)| (*class, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_has_two_classes() {
        let mut all: Vec<_> =
            TABLE.iter().flat_map(|(_, section, keys, _)| keys.iter().map(|key| (section.to_string(), *key))).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn what_is_not_in_the_table_is_carried() {
        assert_eq!(class(Section::Service, "User").0, Class::Carried);
        assert_eq!(class(Section::Service, "PartOf").0, Class::Carried);
        assert_eq!(class(Section::Unit, "PartOf").0, Class::Dropped);
    }
}
