//! What a wrapper unit needs, one rule a function. procroll says at its start what they say of its own unit.

use super::command::CommandLine;
use super::{Judge, Level, held, start};
use crate::settings::{BaseName, SignalName, WrapperName};
use crate::unit::compose::{self, Command, Recipe, Unfit};
use crate::unit::text::{Assignment, Section};
use crate::unit::{Source, Sources, Wrapper, is_no};

/// systemd knows Type=notify-reload.
const NOTIFY_RELOAD: u32 = 253;
/// With RestartMode=direct a crash does not reach a unit by StopPropagatedFrom=. Before there is a guard.
pub const DIRECT: u32 = 257;

/// Exit statuses of procroll that another start would end in as well.
const IN_VAIN: &str = "170 173 174 175";

pub(super) fn apply(judge: &mut Judge<'_>) {
    start::read(judge);
    name(judge);
    service_type(judge);
    bus(judge);
    reload(judge);
    restart(judge);
    signals(judge);
    files(judge);
    delegated(judge);
    watchdog(judge);
    // Whether there is a handover matters for what follows.
    held::apply(judge);
    processes(judge);
    commands(judge);
    sockets(judge);
    carried(judge);
}

fn name(judge: &mut Judge<'_>) {
    let base = match judge.facts.name.parse::<WrapperName>() {
        Ok(name) => name.base().clone(),
        Err(error) => {
            let why = format!("has a name that can't be used for generations: {error}");
            return judge.find(Level::No, "name", None, why, "");
        }
    };
    let named = judge.start.as_ref().and_then(|start| start.settings.as_ref()).is_some_and(|own| own.unit.is_some());
    if !judge.facts.template || named {
        return;
    }
    let why = format!("can't give its generations its own name: {}", taken_by_template(&base));
    if judge.is_wrapper() {
        let todo = "Choose another name for the generations with --unit=NAME";
        judge.find(Level::No, "name", None, why, todo);
    } else {
        let option = format!("--unit={base}-generation");
        judge.find(Level::Change, "name", None, why, format!("Choose another one: {option}"));
        judge.options.push(option);
    }
}

/// Why generations can't have this name where there is a template of it.
pub fn taken_by_template(base: &BaseName) -> String {
    format!("there is a unit {}, of which {base}@1.service would be an instance", base.template())
}

/// `Type=` as systemd takes it.
fn written_type<'a>(judge: &Judge<'a>) -> &'a str {
    let sources = &judge.facts.sources;
    let default = match (sources.sets_any(&["BusName"]), sources.sets_any(&["ExecStart"])) {
        (true, _) => "dbus",
        (false, true) => "simple",
        (false, false) => "oneshot",
    };
    judge.value("Type", default)
}

fn service_type(judge: &mut Judge<'_>) {
    let (why, todo) = match written_type(judge) {
        "forking" => (
            "it puts itself into the background, where systemd goes by a PID file, of which there is one",
            "If its program can stay in the foreground, start it so, with Type=notify, or with Type=exec if it doesn't \
             say when it is ready",
        ),
        "oneshot" => ("it is over when it is ready, so there is nothing to roll", ""),
        "dbus" => ("it owns a name on the bus, which two can't", ""),
        _ if judge.facts.sources.sets_any(&["BusName"]) => {
            let why = "has a BusName=, which two generations can't own";
            return judge.find_key(Level::No, "BusName", why, "");
        }
        _ => return,
    };
    let unfit = written_type(judge);
    if judge.is_wrapper() {
        let fit = if judge.host.since(NOTIFY_RELOAD) { "notify-reload" } else { "notify" };
        judge.find_key(Level::No, "Type", format!("has Type={unfit}"), format!("Make it Type={fit}"));
    } else {
        judge.find_key(Level::No, "Type", format!("has Type={unfit}: {why}"), todo);
    }
}

/// procroll talks to systemd over the bus.
fn bus(judge: &mut Judge<'_>) {
    if ["dbus.service", "dbus-broker.service"].contains(&judge.facts.name.as_str()) {
        return judge.find(Level::No, "name", None, "is the bus that procroll talks to systemd by", "");
    }
    let early = judge.facts.sources.get(Section::Unit, "DefaultDependencies");
    if let Some(placed) = early.filter(|(_, one)| is_no(&one.value)).filter(|_| !judge.is_wrapper() && !judge.host.user)
    {
        let why = "has DefaultDependencies=no: it starts before the bus that procroll talks to systemd by, and stops after it";
        judge.find(Level::No, "DefaultDependencies=", Some(placed), why, "");
    }
}

/// A reload has to be a roll, and nothing else.
fn reload(judge: &mut Judge<'_>) {
    let written = written_type(judge);
    if ["oneshot", "forking", "dbus"].contains(&written) {
        return;
    }
    if !judge.is_wrapper() {
        plain_type(judge, written);
    }
    let reloads = judge.facts.sources.list(Section::Service, "ExecReload");
    let rolls = |value: &str| {
        CommandLine::parse(value).is_ok_and(|line| {
            judge.host.is_procroll(line.program())
                && line.words.get(1).is_some_and(|word| word == "reload")
                // Its socket is the manager's owner's.
                && (line.has('+') || judge.host.user || judge.runs_as_root())
        })
    };
    let by_command = !reloads.is_empty() && reloads.iter().all(|(_, one)| rolls(&one.value));
    let command = format!("{}{} reload", if judge.host.user { "" } else { "+" }, judge.host.procroll);
    if judge.host.since(NOTIFY_RELOAD) {
        match written {
            "notify-reload" => {}
            "notify" if by_command => return,
            other => {
                let why = format!("has Type={other}, with which \"systemctl reload\" can't roll it");
                judge.find_key(Level::Change, "Type", why, "Make it Type=notify-reload");
                judge.line("Type", "notify-reload");
            }
        }
        if !reloads.is_empty() {
            judge.line("ExecReload", "");
            let why = "has an ExecReload=, which \"systemctl reload\" runs beside the roll";
            judge.find_key(Level::Change, "ExecReload", why, "Empty it: ExecReload=");
        }
    } else {
        if written != "notify" {
            let why =
                format!("has Type={written}, with which \"systemctl reload\" can't roll it on this version of systemd");
            judge.find_key(Level::Change, "Type", why, "Make it Type=notify");
            judge.line("Type", "notify");
        }
        if !by_command {
            if !reloads.is_empty() {
                judge.line("ExecReload", "");
            }
            judge.line("ExecReload", &command);
            let why = "has no ExecReload= that runs procroll, so \"systemctl reload\" can't roll it";
            judge.find_key(Level::Change, "ExecReload", why, format!("Give it ExecReload={command}"));
        }
    }
    if !judge.is_wrapper() && !reloads.is_empty() {
        let why = "is no longer told to read its configuration anew: \"systemctl reload\" starts its command anew in place \
                   of ExecReload=, which comes to the same if that reads it";
        judge.find_key(Level::Note, "ExecReload", why, "");
    }
}

/// The generations of a unit that isn't a wrapper yet have its own type, or the next better one.
fn plain_type(judge: &mut Judge<'_>, written: &str) {
    match written {
        "notify-reload" => judge.options.push("--service-type=notify-reload".to_owned()),
        "exec" | "simple" | "idle" => {
            judge.options.push("--service-type=exec".to_owned());
            let why = "doesn't say when it is ready, so it counts as ready as soon as its program is executed";
            let todo = "If it needs longer than a second, let --settle=SPAN, in front of the --, cover that";
            judge.find_key(Level::Note, "Type", why, todo);
        }
        _ => {}
    }
}

fn restart(judge: &mut Judge<'_>) {
    let direct = judge.host.since(DIRECT);
    let restart = judge.value("Restart", "no");
    if restart == "no" {
        let mode = if direct { " and RestartMode=direct" } else { "" };
        judge.find_key(
            Level::Change,
            "Restart",
            "has no Restart=, so nothing starts it again if procroll or the command fails",
            format!("Give it Restart=on-failure{mode}"),
        );
        judge.line("Restart", "on-failure");
    }
    if direct && judge.value("RestartMode", "normal") != "direct" {
        if restart != "no" {
            judge.find_key(
                Level::Change,
                "RestartMode",
                "has no RestartMode=direct, so a crash of procroll would stop the running generation as well",
                "Give it RestartMode=direct",
            );
        }
        judge.line("RestartMode", "direct");
    }
    if !judge.is_wrapper() && ["no", "on-failure", "always"].contains(&restart) {
        judge.line("RestartPreventExitStatus", IN_VAIN);
    }
    let limit = ["StartLimitIntervalSec", "StartLimitInterval"].iter().find_map(|key| {
        [Section::Unit, Section::Service].iter().find_map(|section| judge.facts.sources.get(*section, key))
    });
    let burst = [Section::Unit, Section::Service].iter().find_map(|of| judge.facts.sources.get(*of, "StartLimitBurst"));
    let limited = limit.is_none_or(|(_, one)| !one.value.starts_with('0'));
    if let Some(placed) = burst.filter(|(_, one)| limited && ["1", "2"].contains(&one.value.as_str())) {
        let why = format!(
            "has StartLimitBurst={}, and starts after a crash of procroll count: with none left the generation stops",
            placed.1.value
        );
        judge.find(Level::Note, "StartLimitBurst=", Some(placed), why, "");
    }
}

/// A signal can't mean both a roll and a stop.
fn signals(judge: &mut Judge<'_>) {
    let will_be = judge.lines.iter().any(|line| line.key == "Type" && line.value == "notify-reload");
    let by_signal = will_be || judge.host.since(NOTIFY_RELOAD) && written_type(judge) == "notify-reload";
    let of = |text: &str| text.parse::<SignalName>().ok();
    let reload = of(judge.value("ReloadSignal", "SIGHUP"));
    for key in ["KillSignal", "RestartKillSignal"] {
        let Some(signal) = judge.service(key).and_then(|(_, one)| of(&one.value)) else { continue };
        if !by_signal || Some(&signal) != reload.as_ref() {
            continue;
        }
        if judge.is_wrapper() {
            let why = format!("has {signal} as its {key}= and its ReloadSignal= as well");
            judge.find_key(Level::No, key, why, "Choose another for one of them");
        } else {
            // The generations get theirs all the same.
            let why = format!("has {key}={signal}, which means a roll to procroll");
            judge.find_key(
                Level::Change,
                key,
                why,
                format!("{key}=SIGTERM, and --signal={signal} for the generations"),
            );
            judge.line(key, "SIGTERM");
            if key == "KillSignal" {
                judge.options.push(format!("--signal={signal}"));
            }
        }
    }
}

/// What generations share on disk, or see of it.
fn files(judge: &mut Judge<'_>) {
    if !judge.facts.sources.preserve_runtime_directory() {
        judge.find_key(
            Level::Change,
            "RuntimeDirectory",
            "has no RuntimeDirectoryPreserve=restart, so a crash of procroll would remove the running generation's \
             RuntimeDirectory=",
            "Give it that",
        );
        judge.line("RuntimeDirectoryPreserve", "restart");
    }
    for key in ["RootDirectory", "RootImage", "RootMStack"] {
        let Some((_, one)) = judge.service(key) else { continue };
        let why = format!("has {key}=, in which there is no procroll, nor systemd's files");
        match start::word(&format!("{key}={}", one.value)).filter(|_| !judge.is_wrapper()) {
            Some(word) => {
                judge.find_key(Level::Change, key, why, format!("Give it to the generations alone: -p {word}"));
                judge.line(key, "");
                judge.options.push(format!("-p {word}"));
            }
            // Somebody may have put all of that there.
            None if judge.is_wrapper() => {
                let why = format!("has {key}=, in which it starts only if procroll and /proc are there as well");
                judge.find_key(Level::Caution, key, why, format!("Give it to the generations alone: -p {key}=…"));
            }
            None => judge.find_key(Level::No, key, why, format!("Give it to the generations alone: -p {key}=…")),
        }
    }
    if judge.service("PIDFile").is_some() && written_type(judge) != "forking" {
        let why = "has a PIDFile=, of which generations would have one between them";
        judge.find_key(Level::Change, "PIDFile", why, "Do without it: PIDFile=");
        judge.line("PIDFile", "");
    }
}

/// With both, systemd gives the wrapper's control group to the application's user, who can then freeze or kill procroll.
fn delegated(judge: &mut Judge<'_>) {
    let delegates = judge.service("Delegate").map(|(_, one)| one.value.as_str()).filter(|value| !is_no(value));
    let Some(value) = delegates.filter(|_| !judge.runs_as_root() && !judge.host.user) else { return };
    let why = "has a Delegate= and a User=, who could freeze or kill procroll by the control group that is theirs";
    let option = start::word(&format!("Delegate={value}")).map(|word| format!("-p {word}"));
    let todo = format!(
        "Give it to the generations alone: Delegate=no, and {} in front of the --",
        option.as_deref().unwrap_or("-p")
    );
    match option.filter(|_| !judge.is_wrapper()) {
        Some(option) => {
            judge.find_key(Level::Change, "Delegate", why, todo);
            judge.line("Delegate", "no");
            judge.options.push(option);
        }
        None => judge.find_key(Level::Caution, "Delegate", why, todo),
    }
}

/// Whose watchdog systemd ends, it stops before it starts that again, and what is tied to it as well.
fn watchdog(judge: &mut Judge<'_>) {
    let watched = judge.service("WatchdogSec").map(|(_, one)| one.value.as_str());
    let Some(value) = watched.filter(|value| *value != "0" && judge.host.since(DIRECT)) else { return };
    let why =
        "has a WatchdogSec=, by which systemd would stop the running generation as well if procroll did not answer";
    let option = start::word(&format!("WatchdogSec={value}")).map(|word| format!("-p {word}"));
    let todo = format!(
        "Give it to the generations alone: WatchdogSec=0, and {} in front of the --",
        option.as_deref().unwrap_or("-p")
    );
    match option.filter(|_| !judge.is_wrapper()) {
        Some(option) => {
            judge.find_key(Level::Change, "WatchdogSec", why, todo);
            judge.line("WatchdogSec", "0");
            judge.options.push(option);
        }
        None => judge.find_key(Level::Caution, "WatchdogSec", why, todo),
    }
}

/// What a generation can't have for itself, and what it leaves behind.
fn processes(judge: &mut Judge<'_>) {
    if let input @ ("tty" | "tty-force" | "tty-fail" | "socket") = judge.value("StandardInput", "null") {
        let why = format!("has StandardInput={input}, which two can't read from");
        judge.find_key(Level::No, "StandardInput", why, "");
    }
    match judge.value("KillMode", "control-group") {
        mode @ ("none" | "process") if judge.hands_over() => {
            let why =
                format!("has KillMode={mode}, so what an old generation leaves may still hold what the new one needs");
            judge.find_key(Level::Caution, "KillMode", why, "Make it KillMode=mixed");
        }
        "none" => {
            let why = "has KillMode=none, so nothing of an old generation is ended but by its ExecStop=";
            judge.find_key(Level::Caution, "KillMode", why, "Make it KillMode=mixed");
        }
        "process" => {
            let why = "has KillMode=process, so what an old generation has started besides its main process lives on";
            judge.find_key(Level::Note, "KillMode", why, "");
        }
        _ => {}
    }
    if judge.service("FileDescriptorStoreMax").is_some_and(|(_, one)| one.value != "0") {
        let why = "has a FileDescriptorStoreMax=, but what a generation puts there is not passed on to the next one";
        judge.find_key(Level::Note, "FileDescriptorStoreMax", why, "");
    }
}

/// Commands that systemd runs for the wrapper and for each generation.
fn commands(judge: &mut Judge<'_>) {
    if judge.service("ExecStopPost").is_some() && judge.host.since(DIRECT) {
        judge.find_key(
            Level::Caution,
            "ExecStopPost",
            "has an ExecStopPost=, with which a crash of procroll would stop the running generation as well",
            "Do without it",
        );
    }
    let keys = ["ExecCondition", "ExecStartPre", "ExecStartPost", "ExecStopPost"];
    let set: Vec<_> = keys.into_iter().filter(|key| judge.service(key).is_some()).collect();
    if let Some(first) = set.first() {
        let all = set.join("=, ");
        let why = format!("has {all}=, run for the wrapper and for each generation, beside the one that serves");
        judge.find_key(Level::Note, first, why, "");
    }
    stop(judge);
}

/// A command that stops a service by what it is called or where it listens, as `rndc stop` does, stops the one that has
/// just begun to serve.
fn stop(judge: &mut Judge<'_>) {
    if judge.hands_over() {
        return;
    }
    let stops = judge.facts.sources.list(Section::Service, "ExecStop");
    let own = |value: &str| ["MAINPID", "INVOCATION_ID"].iter().any(|name| value.contains(name));
    let Some(placed) = stops.into_iter().find(|(_, one)| !own(&one.value)) else { return };
    let what =
        "has an ExecStop=, run for an old generation while the new one serves, which it may take for the old one";
    if judge.is_wrapper() {
        let todo = "Let it go by $MAINPID or $INVOCATION_ID, or do without it: ExecStop=";
        return judge.find(Level::Caution, "ExecStop=", Some(placed), what, todo);
    }
    let signal = judge.value("KillSignal", "SIGTERM");
    judge.find(Level::Change, "ExecStop=", Some(placed), what, "Do without it: ExecStop=");
    judge.line("ExecStop", "");
    let why =
        format!("is stopped by {signal} and not by its ExecStop=, which might take the new generation for the old one");
    judge.find(Level::Note, "ExecStop=", Some(placed), why, "");
}

fn sockets(judge: &mut Judge<'_>) {
    let id = &judge.facts.name;
    if judge.facts.restart_due {
        let todo = format!("Type {}", judge.host.systemctl(format!("restart {}", id.trim_end_matches(".service"))));
        judge.find(Level::Caution, "ExecStart=", None, "still runs without procroll", todo);
    }
    if !judge.facts.sockets.is_empty() {
        let why = format!(
            "has its sockets from {}, which keeps them open, so no connection is lost",
            judge.facts.sockets.join(", ")
        );
        judge.find(Level::Note, "Sockets=", None, why, "");
    }
    if let Some(socket) = &judge.facts.missed_socket {
        let why =
            format!("goes without its sockets: there is a {socket}, but systemd had not loaded it when it loaded {id}");
        judge.find(Level::Caution, "Sockets=", None, why, format!("Give {id} Requires={socket} and After={socket}"));
    }
}

/// What a generation's unit could not say. It is composed as for a roll.
fn carried(judge: &mut Judge<'_>) {
    let Ok(name) = judge.facts.name.parse::<WrapperName>() else { return };
    let own = Source { path: String::new(), assignments: judge.lines.clone() };
    let sources = judge.facts.sources.0.iter().cloned().chain([own]).collect();
    let wrapper =
        Wrapper { name, sources: Sources(sources), sockets: Vec::new(), slice: String::new(), dynamic_user: None };
    let command = Command { words: vec!["/bin/true".to_owned()], expand_variables: true };
    let composed = compose::compose(&Recipe {
        tied: true,
        job: 0,
        marks: &[],
        wrapper: Some(&wrapper),
        owner: "",
        unit: "web@1.service",
        service_type: "notify",
        command: &command,
        settings: &[] as &[Assignment],
        foreign: &[],
    });
    match composed {
        Ok(_) => {}
        Err(Unfit::Unresolved { path, line, key, error }) => {
            let placed = (
                &Source { path, assignments: Vec::new() },
                &Assignment { line, ..Assignment::own(Section::Service, &key, "") },
            );
            let why = format!("has a {key}= that can't be carried over to generations: {error}");
            judge.find(Level::No, &format!("{key}="), Some(placed), why, "");
        }
        Err(error) => judge.find(Level::No, "load", None, format!("can't be carried over to generations: {error}"), ""),
    }
}
