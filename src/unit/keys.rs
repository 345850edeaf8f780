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

use Section::{Service, Unit};

/// Keys of one class for one reason.
#[derive(Debug)]
pub struct Row {
    /// What becomes of them.
    pub class: Class,
    /// Where they stand.
    pub section: Section,
    /// Their names.
    pub keys: &'static [&'static str],
    /// What they are on a generation, or why they are left out, or carried; for people.
    pub why: &'static str,
}

const fn own(section: Section, keys: &'static [&'static str], why: &'static str) -> Row {
    Row { class: Class::Own, section, keys, why }
}

const fn dropped(section: Section, keys: &'static [&'static str], why: &'static str) -> Row {
    Row { class: Class::Dropped, section, keys, why }
}

const fn carried(section: Section, keys: &'static [&'static str], why: &'static str) -> Row {
    Row { class: Class::Carried, section, keys, why }
}

/// Dependencies and `OnFailure=` can't be reset by an empty assignment, so what must not be carried is left out of the
/// copied text instead of overridden.
pub const TABLE: &[Row] = &[
    own(Service, &["ExecStart"], "the command behind the `--`, with `$VAR` expanded in the generation's environment"),
    own(Service, &["Type"], "`notify`, or what `--service-type=` says"),
    own(Service, &["Sockets"], "all active socket units of the wrapper"),
    own(
        Service,
        &["RuntimeDirectoryPreserve"],
        "`yes`: a generation that ends must not take the directory from under the next one",
    ),
    own(Service, &["RemainAfterExit"], "`yes`: however a generation ends, it stays loaded until procroll has read how"),
    own(Unit, &["CollectMode"], "`inactive`: one that failed stays to be looked at"),
    own(Unit, &["StartLimitInterval", "StartLimitIntervalSec"], "`0`: each number is started once"),
    own(
        Unit,
        &["IgnoreOnIsolate"],
        "`yes`: no target wants a generation, so `systemctl isolate` stops it only with the wrapper",
    ),
    own(
        Unit,
        &["StopPropagatedFrom"],
        "the wrapper, so that a stop of it reaches the generation also when procroll is dead (up to systemd 256 there is a \
         guard for that)",
    ),
    dropped(
        Unit,
        &[
            "Requires",
            "RequiresOverridable",
            "Requisite",
            "RequisiteOverridable",
            "Wants",
            "BindsTo",
            "BindTo",
            "PartOf",
            "Upholds",
            "Conflicts",
        ],
        "they hold for the wrapper, and a generation lives no longer",
    ),
    dropped(
        Unit,
        &[
            "OnFailure",
            "OnFailureIsolate",
            "OnFailureJobMode",
            "OnSuccess",
            "OnSuccessJobMode",
            "FailureAction",
            "FailureActionExitStatus",
            "SuccessAction",
            "SuccessActionExitStatus",
            "RebootArgument",
        ],
        "the end of one generation is not the end of the service; the wrapper's own end triggers them",
    ),
    dropped(
        Unit,
        &["PropagatesReloadTo", "PropagateReloadTo", "ReloadPropagatedFrom", "PropagateReloadFrom", "PropagatesStopTo"],
        "a roll would pass a reload or a stop on to other units",
    ),
    dropped(
        Unit,
        &[
            "StartLimitBurst",
            "StartLimitAction",
            "JobTimeoutSec",
            "JobRunningTimeoutSec",
            "JobTimeoutAction",
            "JobTimeoutRebootArgument",
        ],
        "they are about the wrapper's own starts",
    ),
    dropped(
        Unit,
        &["RefuseManualStart", "RefuseManualStop", "StopWhenUnneeded", "AllowIsolate"],
        "procroll has to start and stop a generation, and nothing else needs it",
    ),
    dropped(Unit, &["SourcePath"], "the text of a generation has no other source than the wrapper"),
    dropped(
        Service,
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
    dropped(
        Service,
        &["RuntimeMaxSec", "RuntimeRandomizedExtraSec"],
        "they end the wrapper, and the generation with it",
    ),
    dropped(
        Service,
        &["ExecReload", "ExecReloadPost", "RefreshOnReload"],
        "reload of the wrapper is a roll; a generation is not reloaded",
    ),
    dropped(
        Service,
        &["BusName", "PIDFile", "GuessMainPID"],
        "they belong to `Type=dbus` and `Type=forking`, of which two can't live side by side",
    ),
    dropped(
        Service,
        &["FailureAction", "RebootArgument", "StartLimitAction", "StartLimitBurst", "StartLimitInterval"],
        "the old place of what is now in `[Unit]`",
    ),
    dropped(
        Service,
        &["FileDescriptorStorePreserve"],
        "a number is started once, so nobody would take up what systemd keeps for it, and the unit with it",
    ),
    dropped(Service, &["LUOSession"], "a session that outlives a live update of the kernel has one owner"),
    carried(
        Unit,
        &["After", "Before"],
        "so that at shutdown a generation stops in the wrapper's place; the wrapper itself is not among them",
    ),
    carried(
        Unit,
        &["RequiresMountsFor", "WantsMountsFor"],
        "a generation needs its files as the wrapper does, and after they are there",
    ),
    carried(
        Unit,
        &["DefaultDependencies", "SurviveFinalKillSignal"],
        "a generation lives in the same part of the boot and the shutdown",
    ),
    carried(Unit, &["JoinsNamespaceOf"], "with whom a service shares its /tmp or its network"),
    carried(Unit, &["Description", "Documentation"], "what people read"),
    carried(
        Service,
        &["ExecCondition", "ExecStartPre", "ExecStartPost", "ExecStop", "ExecStopPost"],
        "a generation is started and stopped as the service would be; systemd runs them for the wrapper as well",
    ),
    carried(
        Service,
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
    carried(
        Service,
        &["ExitType", "NotifyAccess", "OOMPolicy", "ReloadSignal", "SuccessExitStatus"],
        "what counts as ready, as an end, and as a good one, is the application's to say",
    ),
    carried(
        Service,
        &["FileDescriptorStoreMax", "NonBlocking", "OpenFile", "USBFunctionDescriptors", "USBFunctionStrings"],
        "each generation has descriptors of its own",
    ),
    carried(Service, &["RestartKillSignal"], "it is sent when systemd restarts a unit, as somebody may ask it to"),
    carried(Service, &["PermissionsStartOnly", "RootDirectoryStartOnly"], "they say how commands are run"),
];

/// The class of a key, and why, if it isn't simply carried.
pub fn class(section: Section, key: &str) -> (Class, &'static str) {
    TABLE
        .iter()
        .find(|row| row.section == section && row.keys.contains(&key))
        .map_or((Class::Carried, ""), |row| (row.class, row.why))
}

/// The README's table of what is not carried.
pub fn for_people() -> String {
    let lines = TABLE.iter().filter_map(|row| {
        let left_out = match row.class {
            Class::Carried => return None,
            Class::Own => "",
            Class::Dropped => "left out: ",
        };
        Some(format!("| {} | {left_out}{} |\n", shorthand(row), row.why))
    });
    format!("| keys | on a generation |\n|---|---|\n{}", lines.collect::<String>())
}

/// `Restart…=` for all keys that begin so, and those of other rows that do as well.
fn shorthand(row: &Row) -> String {
    let extends = |longer: &&str, key: &str| *longer != key && longer.starts_with(key);
    let first = row.keys.iter().filter(|key| !row.keys.iter().any(|other| extends(key, other)));
    let words = first.map(|key| {
        if !row.keys.iter().any(|other| extends(other, key)) {
            return format!("`{key}=`");
        }
        let others = TABLE.iter().filter(|other| other.section == row.section && other.why != row.why);
        let others: Vec<_> = others.flat_map(|other| other.keys).filter(|other| extends(other, key)).collect();
        let but: String = others.iter().map(|other| format!(" but `{other}=`")).collect();
        format!("`{key}…=`{but}")
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_has_two_classes() {
        let mut all: Vec<_> =
            TABLE.iter().flat_map(|row| row.keys.iter().map(|key| (row.section.to_string(), *key))).collect();
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

    #[test]
    fn the_readme_has_this_table() {
        let readme = include_str!("../../README.md");
        let section = readme.split("\n## ").find(|section| section.starts_with("What a generation gets of the unit\n"));
        let lines = section.expect("the section").lines().filter(|line| line.starts_with('|'));
        let written: String = lines.flat_map(|line| [line, "\n"]).collect();
        assert!(written == for_people(), "the README's table should be:\n{}", for_people());
    }

    #[test]
    fn keys_that_begin_alike_are_said_in_short_and_the_others_named() {
        let row = |key| TABLE.iter().find(|row| row.keys.contains(&key)).expect("a row");
        assert_eq!(shorthand(row("RestartSec")), "`Restart…=` but `RestartKillSignal=`");
        assert_eq!(shorthand(row("RuntimeMaxSec")), "`RuntimeMaxSec=`, `RuntimeRandomizedExtraSec=`");
    }
}
