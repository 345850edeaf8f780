//! Settings mean on a generation what they mean elsewhere: by `-p` what they mean to systemd-run, and from the wrapper's
//! unit what they mean in a plain one.

use std::collections::{BTreeMap, BTreeSet};

use crate::machine::Machine;
use crate::settings::facts;

on_each_systemd!(properties_are_what_systemd_run_makes_of_them, a_generation_has_what_a_plain_unit_has);

const PROPERTIES: &[&str] = &[
    "AmbientCapabilities=CAP_NET_BIND_SERVICE CAP_KILL",
    "BindReadOnlyPaths=/etc:/mnt",
    "CPUAffinity=0",
    "CPUQuota=20%",
    "CPUWeight=50",
    "CapabilityBoundingSet=~CAP_SYS_ADMIN",
    "Delegate=yes",
    "DeviceAllow=/dev/null rw",
    "DevicePolicy=closed",
    "Documentation=man:x(1)",
    "Environment=A=b \"C=d e\" P=%n D=$HOME",
    "EnvironmentFile=-/etc/no-such",
    "FileDescriptorStoreMax=7",
    "FinalKillSignal=SIGABRT",
    "IOSchedulingClass=idle",
    "IOWeight=50",
    "IPAddressAllow=127.0.0.1/8",
    "IPAddressDeny=any",
    "KeyringMode=private",
    "KillMode=mixed",
    "KillSignal=SIGINT",
    "LimitCORE=0",
    "LimitNOFILE=1000:2000",
    "LoadCredential=passwd:/etc/passwd",
    "LockPersonality=yes",
    "LogExtraFields=A=b",
    "LogLevelMax=notice",
    "LogRateLimitIntervalSec=5s",
    "MemoryHigh=1G",
    "MemoryMax=10%",
    "Nice=7",
    "NoNewPrivileges=yes",
    "NotifyAccess=all",
    "OOMPolicy=kill",
    "OOMScoreAdjust=100",
    "PassEnvironment=X Y",
    "PrivateDevices=yes",
    "PrivateTmp=yes",
    "ProcSubset=pid",
    "ProtectClock=yes",
    "ProtectHome=read-only",
    "ProtectProc=invisible",
    "ProtectSystem=strict",
    "ReadOnlyPaths=-/var /opt",
    "ReadWritePaths=/srv",
    "RemoveIPC=yes",
    "RestrictAddressFamilies=AF_INET AF_UNIX",
    "RestrictNamespaces=uts ipc",
    "RestrictRealtime=yes",
    "SecureBits=noroot",
    "SendSIGHUP=yes",
    "SetCredential=a:b",
    "StandardInput=null",
    "StateDirectory=web web/sub",
    "SuccessExitStatus=3 SIGUSR1",
    "SupplementaryGroups=daemon",
    "SyslogIdentifier=somebody",
    "SyslogLevel=notice",
    "SystemCallErrorNumber=EPERM",
    "SystemCallFilter=~@mount",
    "TasksMax=50%",
    "TemporaryFileSystem=/opt:ro",
    "TimeoutStartSec=1min 30s",
    "TimeoutStopSec=infinity",
    "UMask=0027",
    "UnsetEnvironment=Z",
    "User=app",
    "WatchdogSec=1h",
    "WorkingDirectory=-/srv",
];

/// The properties of a unit, without those that differ from unit to unit by nature and those that procroll sets.
fn properties(machine: &Machine, unit: &str) -> BTreeMap<String, String> {
    let by_nature = [
        "Id",
        "Names",
        "InvocationID",
        "MainPID",
        "ExecMainPID",
        "ExecMainHandoffTimestamp",
        "ControlGroup",
        "ControlGroupId",
        "FragmentPath",
        "DropInPaths",
        "ExecStart",
        "ExecStartEx",
        "Slice",
        "Transient",
        "UnitFilePreset",
        "UnitFileState",
        "Description",
        "UID",
        "GID",
    ];
    // These keep a generation until it is known how it ended, and count no starts.
    let procrolls =
        ["CollectMode", "RemainAfterExit", "StartLimitIntervalUSec", "RuntimeDirectoryPreserve", "StopPropagatedFrom"];
    let measured = ["Timestamp", "Current", "CPUUsage", "IOReadBytes", "IOReadOperations", "IOWrite", "Peak", "NSec"];
    let shown = machine.ok(&format!("systemctl show {unit}"));
    let lines = shown.lines().filter_map(|line| line.split_once('='));
    let told = lines.filter(|(name, _)| {
        !by_nature.contains(name) && !procrolls.contains(name) && !measured.iter().any(|part| name.contains(part))
    });
    told.map(|(name, value)| {
        let value =
            value.replace(unit, "UNIT").replace("system-plain.slice", "SLICE").replace("system-web.slice", "SLICE");
        // systemd keeps these in sets, and shows them in any order.
        let mut words: Vec<_> = value.split(' ').collect();
        if ["After", "IPAddressDeny", "Requires", "WantsMountsFor"].contains(&name) {
            words.sort_unstable();
        }
        (name.to_owned(), words.join(" "))
    })
    .collect()
}

fn same(machine: &Machine, plain: &str, ours: &str) {
    let (plain, ours) = (properties(machine, plain), properties(machine, ours));
    let names: BTreeSet<_> = plain.keys().chain(ours.keys()).collect();
    let pairs = names.into_iter().map(|name| (name, plain.get(name), ours.get(name)));
    let differ: Vec<_> = pairs.filter(|(_, plain, ours)| plain != ours).collect();
    assert_eq!(differ, [], "(name, as it should be, the generation's)");
}

fn properties_are_what_systemd_run_makes_of_them(machine: &Machine) {
    let options: Vec<&str> = PROPERTIES.iter().flat_map(|property| ["-p", property]).collect();
    let command = ["--", "/usr/bin/payload", "ready", "run"];
    let run = ["systemd-run", "--quiet", "--unit=plain@1.service", "--service-type=notify"];
    let outcome = machine.run_words(&[&run, &options[..], &command].concat());
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    let mut procroll = machine
        .spawn(&[&["/usr/bin/procroll", "--systemd-run", "--settle=0", "--unit=web"], &options[..], &command].concat());
    machine.wait_for_property("web@1", "ActiveState", "active");
    same(machine, "plain@1.service", "web@1.service");
    machine.ok("pkill procroll");
    assert!(procroll.wait().expect("it ends").success());
}

fn a_generation_has_what_a_plain_unit_has(machine: &Machine) {
    // A name with @ has a slice of its own, and %n is the wrapper's.
    let lines = PROPERTIES.join("\n").replace("Documentation=man:x(1)\n", "Slice=system.slice\n").replace("P=%n ", "");
    let unit = |start: &str| {
        format!(
            "[Unit]\nDocumentation=man:x(1)\nAfter=sysinit.target\n[Service]\n{lines}\n{start} /usr/bin/payload facts ready run\n"
        )
    };
    machine.write("/etc/systemd/system/plain.service", &unit("Type=notify\nExecStart="));
    let start = "Type=notify-reload\nExecStart=+/usr/bin/procroll --systemd-run --settle=0 --";
    machine.unit("web.service", &unit(start));
    machine.ok("systemctl start plain web");
    for (generation, before) in
        [(1, "true"), (2, "systemctl reload web"), (3, "systemctl daemon-reload && systemctl reload web")]
    {
        machine.ok(before);
        let ours = format!("web@{generation}.service");
        same(machine, "plain.service", &ours);
        assert_eq!(facts(machine, "plain.service"), facts(machine, &ours));
    }
    // Also when systemd has read the transient unit anew.
    machine.ok("systemctl daemon-reload");
    same(machine, "plain.service", "web@3.service");
}
