//! Settings mean on a generation what they mean elsewhere: by `-p` what they mean to systemd-run, and from the wrapper's
//! unit what they mean in a plain one.

use std::collections::BTreeSet;
use std::io::Read;

use procroll::unit::keys::{self, Class};
use procroll::unit::quote;
use procroll::unit::text::{self, Assignment};
use serde_json::{Map, Value};

use crate::machine::Machine;
use crate::samples::{self, Known, Sample};

on_each_systemd!(properties_are_what_systemd_run_makes_of_them, a_generation_has_what_a_plain_unit_has);

/// Properties that differ from unit to unit by nature.
const BY_NATURE: &[&str] = &[
    "ActivationDetails",
    "ControlGroup",
    "ControlGroupId",
    "ControlPID",
    "DropInPaths",
    "ExecMainPID",
    "ExecStart",
    "ExecStartEx",
    "FragmentPath",
    "Id",
    "InvocationID",
    "Job",
    "MainPID",
    "Names",
    "Transient",
    "UnitFilePreset",
    "UnitFileState",
];

/// These keep a generation until it is known how it ended, and count no starts.
const PROCROLLS: &[&str] = &[
    "CollectMode",
    "IgnoreOnIsolate",
    "RemainAfterExit",
    "RuntimeDirectoryPreserve",
    "StartLimitIntervalUSec",
    "StopPropagatedFrom",
];

/// How many capabilities Linux has.
const CAPABILITIES: u32 = 41;

/// What is measured.
const MEASURED: &[&str] = &[
    "Available",
    "CPUUsage",
    "Current",
    "IOReadBytes",
    "IOReadOperations",
    "IOWriteBytes",
    "IOWriteOperations",
    "IPEgressBytes",
    "IPEgressPackets",
    "IPIngressBytes",
    "IPIngressPackets",
    "Peak",
    "Timestamp",
];

/// What each unit runs.
const COMMAND: [&str; 4] = ["/usr/bin/payload", "facts", "ready", "run"];

type Properties = Map<String, Value>;

/// The properties of these units, as they are on the bus.
fn properties(machine: &Machine, units: &[String]) -> Vec<Properties> {
    let escaped = |unit: &String| {
        let escape = |byte: u8| match byte {
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("_{byte:02x}"),
        };
        unit.bytes().map(escape).collect::<String>()
    };
    let line = units.iter().map(escaped).collect::<Vec<_>>().join(" ");
    let calls = machine.ok(&format!(
        "for unit in {line}; do busctl --json=short call org.freedesktop.systemd1 \
         /org/freedesktop/systemd1/unit/$unit org.freedesktop.DBus.Properties GetAll s '' || exit; done"
    ));
    let all = calls.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    all.map(|all| {
        let all = all["data"][0].as_object().expect("properties");
        all.iter().map(|(name, value)| (name.clone(), value["data"].clone())).collect()
    })
    .collect()
}

/// Properties without those that differ by nature and those that procroll sets.
fn comparable(unit: &str, properties: &Properties) -> Properties {
    let told = properties.iter().filter(|(name, _)| {
        !BY_NATURE.contains(&name.as_str())
            && !PROCROLLS.contains(&name.as_str())
            && !MEASURED.iter().any(|part| name.contains(part))
    });
    told.map(|(name, value)| {
        let mut value = impersonal(unit, value);
        if let ("AmbientCapabilities" | "CapabilityBoundingSet", Some(set)) = (name.as_str(), value.as_u64()) {
            // Beyond those there are systemd-run sets bits that mean nothing.
            value = (set & ((1 << CAPABILITIES) - 1)).into();
        }
        let Some(list) = value.as_array_mut() else { return (name.clone(), value) };
        if name.starts_with("Exec") {
            // What follows is when a command was run, and what it came to.
            list.iter_mut().filter_map(Value::as_array_mut).for_each(|command| command.truncate(3));
        } else {
            if ["Asserts", "Conditions"].contains(&name.as_str()) {
                list.iter_mut().filter_map(Value::as_array_mut).for_each(|one| _ = one.pop());
            }
            // systemd keeps most lists in sets, and tells them in any order.
            list.sort_by_key(Value::to_string);
        }
        (name.clone(), value)
    })
    .collect()
}

/// The same with the unit's own name taken out, also where a path was made of it.
fn impersonal(unit: &str, value: &Value) -> Value {
    let escaped = unit.replace('-', r"\\x2d").replace('@', r"\\x40");
    json(&value.to_string().replace(unit, "UNIT").replace(&escaped, "UNIT"))
}

/// What a unit is: by its properties, by what its main process is run with as seen from outside, if there is one, and
/// by what that has found out itself.
fn see(machine: &Machine, units: &[String]) -> Vec<Value> {
    let all = properties(machine, units);
    let pids: Vec<_> = all.iter().filter_map(|one| one["MainPID"].as_u64().filter(|&pid| pid != 0)).collect();
    let words = pids.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    let looks = machine.ok(&format!("payload look {words}"));
    let mut looks = looks.lines().map(json);
    machine.ok("journalctl --sync");
    let facts = machine.ok(&format!(
        "for unit in {}; do journalctl --output=cat _SYSTEMD_UNIT=$unit _TRANSPORT=stdout | grep '^{{' || echo null; done",
        units.join(" ")
    ));
    let seen = units.iter().zip(all).zip(facts.lines().map(json)).map(|((unit, all), facts)| {
        let process = if all["MainPID"] == 0 { None } else { looks.next() };
        let process = process.map_or(Value::Null, |process| impersonal(unit, &process));
        serde_json::json!({ "properties": comparable(unit, &all), "process": process, "facts": facts })
    });
    seen.collect()
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).expect("JSON")
}

/// Where two differ, with the path to it.
fn differences(at: &str, plain: &Value, ours: &Value, found: &mut Vec<String>) {
    match (plain, ours) {
        (Value::Object(plain), Value::Object(ours)) => {
            let names: BTreeSet<_> = plain.keys().chain(ours.keys()).collect();
            for name in names {
                let of = |one: &Map<String, Value>| one.get(name).cloned().unwrap_or_default();
                differences(&format!("{at} {name}"), &of(plain), &of(ours), found);
            }
        }
        (plain, ours) if plain == ours => (),
        (plain, ours) => found.push(format!("{at}: {plain} as it should be, {ours} on the generation")),
    }
}

/// Where the output of the units goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Journal,
    /// To procroll's own, where nothing else is said.
    Elsewhere,
}

fn compare(machine: &Machine, pairs: &[(String, String)], told: Told, when: &str) {
    let plain = see(machine, &pairs.iter().map(|(plain, _)| plain.clone()).collect::<Vec<_>>());
    let ours = see(machine, &pairs.iter().map(|(_, ours)| ours.clone()).collect::<Vec<_>>());
    let mut found = Vec::new();
    for (((_, name), mut plain), ours) in pairs.iter().zip(plain).zip(&ours) {
        let files = |of: &Value, number| of["process"]["files"][number].clone();
        for number in ["1", "2"] {
            if told == Told::Elsewhere && files(&plain, number) == "socket" && files(ours, number) == "pipe" {
                plain["process"]["files"][number] = "pipe".into();
                plain["facts"] = Value::Null;
            }
        }
        differences(name, &plain, ours, &mut found);
    }
    assert!(found.is_empty(), "{when}:\n{}", found.join("\n"));
}

/// How the last run of a unit ended, or that it runs.
fn end(machine: &Machine, unit: &str) -> String {
    machine.ok(&format!("systemctl show --property=ActiveState,Result,ExecMainCode,ExecMainStatus {unit}"))
}

fn a_generation_has_what_a_plain_unit_has(machine: &Machine) {
    samples::prepare(machine);
    let samples = samples::carried(&Known::ask(machine));
    // A name with an @ has a slice of its own.
    let unit = |settings: &str, start: &str| {
        format!("[Service]\nSlice=system.slice\n{settings}[Service]\n{start} /usr/bin/payload facts ready run\n")
    };
    let write = |name: &str, text: &str| machine.write(&format!("/etc/systemd/system/{name}.service"), text);
    let wrap = "Type=notify-reload\nExecStart=+/usr/bin/procroll --systemd-run --settle=0 --";
    for Sample { name, settings, .. } in &samples {
        write(name, &unit(&text::render(settings), wrap));
        write(&format!("plain-{name}"), &unit(&text::render(settings), "Type=notify\nExecStart="));
    }
    let all = |samples: &[&Sample], prefix: &str, suffix: &str| {
        samples.iter().map(|one| format!("{prefix}{}{suffix}.service", one.name)).collect::<Vec<_>>()
    };
    machine.ok("systemctl daemon-reload");
    let every: Vec<_> = samples.iter().collect();
    machine.run(&format!("systemctl start {} {}", all(&every, "plain-", "").join(" "), all(&every, "", "").join(" ")));

    let starts = |sample: &Sample| machine.show(&format!("plain-{}", sample.name), "ActiveState") == "active";
    let (works, fails): (Vec<&Sample>, Vec<&Sample>) = every.iter().partition(|sample| starts(sample));
    assert!(fails.iter().all(|sample| !sample.starts), "{:?} don't even start", all(&fails, "plain-", ""));
    let generations = |samples: &[&Sample], number: &str| {
        all(samples, "plain-", "").into_iter().zip(all(samples, "", number)).collect::<Vec<_>>()
    };
    compare(machine, &generations(&works, "@1"), Told::Journal, "after the first start");
    for Sample { name, .. } in &fails {
        assert_eq!(
            end(machine, name),
            end(machine, &format!("plain-{name}")),
            "the wrapper fails as the plain one does"
        );
    }

    // What fails from the start has no generation, so it comes with a roll.
    for Sample { name, .. } in &fails {
        write(name, &unit("", wrap));
    }
    if !fails.is_empty() {
        machine.run(&format!("systemctl reset-failed {}", all(&fails, "", "@1").join(" ")));
        machine.ok(&format!("systemctl daemon-reload && systemctl start {}", all(&fails, "", "").join(" ")));
    }
    for Sample { name, settings, .. } in &fails {
        write(name, &unit(&text::render(settings), wrap));
    }
    machine.ok("systemctl daemon-reload");
    machine.ok(&format!("systemctl reload {}", all(&works, "", "").join(" ")));
    for Sample { name, .. } in &fails {
        // By signal, since a reload command would fail as well.
        machine.ok(&format!("systemctl kill --kill-whom=main --signal=HUP {name}"));
        machine.wait_for_property(&format!("{name}@2"), "ActiveState", "failed");
    }
    compare(machine, &generations(&every, "@2"), Told::Journal, "after a roll");
    machine.ok("systemctl daemon-reload");
    compare(machine, &generations(&every, "@2"), Told::Journal, "when systemd has read the transient unit anew");
    println!(
        "{}: {} settings in {} units, of which {} fail as the plain ones do",
        machine.suite.version,
        samples.iter().map(|one| one.settings.len()).sum::<usize>(),
        every.len(),
        fails.len()
    );
}

/// Starts these settings with systemd-run, without those that it doesn't take; gives the others.
fn systemd_run<'a>(machine: &Machine, unit: &str, settings: &'a [Assignment]) -> Vec<&'a Assignment> {
    let mut accepted: Vec<_> = settings.iter().collect();
    let unit = format!("--unit={unit}");
    let run = ["systemd-run", &unit, "--slice=system.slice", "--description=x", "--service-type=notify"];
    loop {
        let options: Vec<_> = accepted.iter().map(|one| format!("--property={}={}", one.key, one.value)).collect();
        let words = run.into_iter().chain(options.iter().map(String::as_str)).chain(["--"]).chain(COMMAND);
        let outcome = machine.run_words(&words.collect::<Vec<_>>());
        if outcome.status == Some(0) || outcome.stderr.contains("Job for") {
            return accepted;
        }
        let named = |key: &str| {
            let mut words = outcome.stderr.split(|char: char| !char.is_ascii_alphanumeric());
            words.any(|word| word == key)
        };
        let before = accepted.len();
        accepted.retain(|one| !named(&one.key));
        assert_ne!(accepted.len(), before, "{outcome:?}");
    }
}

fn properties_are_what_systemd_run_makes_of_them(machine: &Machine) {
    samples::prepare(machine);
    let known = Known::ask(machine);
    let mut procrolls = Vec::new();
    let mut same = BTreeSet::new();
    for Sample { name, settings, .. } in samples::carried(&known) {
        let (plain, ours) = (format!("plain-{name}@1.service"), format!("{name}@1.service"));
        let settings: Vec<_> = settings.into_iter().filter(|one| !is_procrolls(one)).collect();
        let accepted = systemd_run(machine, &plain, &settings);
        if accepted.is_empty() {
            continue;
        }
        same.extend(accepted.iter().map(|one| one.key.clone()));
        let unit = format!("--unit={name}");
        let options = accepted.iter().map(|one| format!("--property={}={}", one.key, one.value));
        let options = ["--settle=0", &unit, "--slice=system.slice", "--description=x"]
            .map(str::to_owned)
            .into_iter()
            .chain(options);
        let procroll = if machine.show(&plain, "ActiveState") == "active" {
            let words = ["/usr/bin/procroll", "--systemd-run"].map(str::to_owned).into_iter().chain(options);
            let words = words.chain(["--".to_owned()]).chain(COMMAND.map(str::to_owned));
            Some(machine.spawn(&words.collect::<Vec<_>>()))
        } else {
            // Only in a wrapper does a first generation that failed stay to be looked at.
            let words = options.map(|word| quote::word(&word).expect("no control characters")).collect::<Vec<_>>();
            let unit = format!(
                "[Service]\nType=notify\nExecStart=+/usr/bin/procroll --systemd-run {} -- {}\n",
                words.join(" "),
                COMMAND.join(" ")
            );
            // No daemon-reload: reading a unit of systemd-run's anew changes it.
            machine.write(&format!("/etc/systemd/system/{name}.service"), &unit);
            machine.run(&format!("systemctl start {name}"));
            None
        };
        procrolls.push((procroll, plain, ours));
    }
    for (procroll, _, ours) in &mut procrolls {
        let Some(procroll) = procroll else { continue };
        machine.wait_for(&format!("{ours} to have started"), || {
            if procroll.try_wait().expect("a child").is_some() {
                let mut said = String::new();
                procroll.stderr.take().expect("a pipe").read_to_string(&mut said).expect("its output");
                panic!("{ours}: {said}");
            }
            (machine.show(ours, "ActiveState") == "active").then_some(())
        });
    }
    let pairs: Vec<_> = procrolls.iter().map(|(_, plain, ours)| (plain.clone(), ours.clone())).collect();
    compare(machine, &pairs, Told::Elsewhere, "by -p");

    let own = samples::carried(&known).into_iter().flat_map(|sample| sample.settings).filter(is_procrolls);
    let mut refused = BTreeSet::new();
    for one in own.chain(samples::not_carried(&known)) {
        let assignment = format!("{}={}", one.key, one.value);
        let outcome = machine.run_words(&["procroll", "--systemd-run", "-p", &assignment, "--", "/bin/true"]);
        assert_eq!(outcome.status, Some(170), "{assignment}: {outcome:?}");
        assert!(outcome.stderr.contains(" can't be used: "), "{outcome:?}");
        // A condition that doesn't hold, so that nothing is run.
        let asked = ["systemd-run", "--quiet", "-p", "ConditionPathExists=!/", "-p", &assignment, "--", "/bin/true"];
        if machine.run_words(&asked).status == Some(0) {
            refused.insert(one.key);
        }
    }
    let of = |class| known.keys.iter().filter(|(section, key)| keys::class(*section, key).0 == class).count();
    println!(
        "{}: {} keys known, {} carried, {} set by procroll, {} left out; of systemd-run's properties {} accepted with the \
         same result, {} refused with a reason, 0 differ",
        machine.suite.version,
        known.keys.len(),
        of(Class::Carried),
        of(Class::Own),
        of(Class::Dropped),
        same.len(),
        refused.len()
    );
    for (procroll, ..) in &mut procrolls {
        let Some(procroll) = procroll else { continue };
        procroll.kill().expect("a child");
        procroll.wait().expect("it ends");
    }
}

/// Whether `-p` doesn't take it though a wrapper may have it.
fn is_procrolls(one: &Assignment) -> bool {
    one.key == "RuntimeDirectory"
}
