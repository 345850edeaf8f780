//! State that procroll can't have made, found when it takes over: what serves serves on.

use crate::machine::Machine;
use crate::restless::signal;
use crate::stops::nothing_is_left;
use crate::wrapper;

on_each_systemd!(state_that_makes_no_sense, one_whose_file_is_gone_serves_on);

/// Makes a unit of somebody's by hand from what procroll has written for web@1.
fn copy(machine: &Machine, unit: &str, edit: &str) {
    machine.ok(&format!(
        "cd /run/systemd/transient && cp --recursive web@1.service.d {unit}.d && sed --in-place '{edit}' {unit}.d/*procroll.conf && \
         touch /run/systemd/system && systemd-run --quiet --unit={unit} --service-type=notify sleep infinity"
    ));
}

/// What procroll can't have made keeps it from nothing, and it says what it sees.
fn state_that_makes_no_sense(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let (procroll, payload) = (machine.show("web", "MainPID"), machine.show("web@1", "MainPID"));
    let takes_over = |serves: &str| {
        let count = || machine.log("web.service").matches(serves).count();
        let before = count();
        signal(machine, "RTMIN+25");
        machine.wait_for(serves, || (count() > before).then_some(()));
    };
    // A copy under another name, files without a unit, a unit that can't be loaded any more.
    copy(machine, "web@9.service", "");
    machine.ok("mkdir /run/systemd/transient/web@5.service.d && echo x >/run/systemd/transient/web@6.service.d");
    let mark = "[X-Procroll]\nOwner=web.service\nUnit=web@7.service\n";
    machine.write("/run/systemd/transient/web@7.service.d/90-procroll.conf", mark);
    machine.ok("mkdir --parents /etc/systemd/system.control");
    machine.ok("ln -s /dev/null /etc/systemd/system.control/web@1.service && systemctl daemon-reload");
    assert_eq!(machine.show("web@1", "LoadState"), "masked");
    let copied = machine.show("web@9", "MainPID");
    takes_over("web@1.service serves");
    assert_eq!((machine.show("web@1", "MainPID"), machine.show("web@9", "MainPID")), (payload.clone(), copied.clone()));
    let log = machine.log("web.service");
    assert!(
        log.contains("web@9.service has no mark of web.service, so it is somebody else's, and is left alone"),
        "{log}"
    );
    assert!(!machine.path("/run/systemd/transient/web@7.service.d").exists(), "its own is cleared away");
    assert!(log.contains("Removed what was left of a start of web@7.service"), "{log}");
    for left_alone in ["web@5.service.d", "web@6.service.d"] {
        assert!(machine.path(&format!("/run/systemd/transient/{left_alone}")).exists(), "{left_alone} has no mark");
    }
    machine.ok("rm /etc/systemd/system.control/web@1.service && systemctl daemon-reload");

    // Two that serve. It may have been killed between a roll's end and the old one's.
    copy(machine, "web@3.service", "s/web@1/web@3/");
    let higher = machine.show("web@3", "MainPID");
    takes_over("web@3.service serves");
    machine.wait_for_property("web@1", "LoadState", "not-found");
    assert_eq!(machine.show("web@3", "MainPID"), higher);
    let log = machine.log("web.service");
    assert!(log.contains("Found web@1.service, web@3.service: the newest serves once it has settled"), "{log}");

    // A unit without its files is nobody's. It serves on beside the next one.
    machine.ok("rm --recursive /run/systemd/transient/web@3.service.d");
    takes_over("web@1.service serves");
    assert_eq!((machine.show("web@3", "MainPID"), machine.show("web@9", "MainPID")), (higher, copied));
    assert!(machine.log("web.service").contains("web@3.service has no mark of web.service"));
    machine.ok("systemctl reload web");
    assert_eq!((machine.show("web", "MainPID"), machine.show("web", "NRestarts")), (procroll, "0".to_owned()));
    machine.ok("systemctl stop web");
    if !machine.suite.direct {
        // A guard goes by the mark as well.
        assert_eq!(machine.show("web@3", "ActiveState"), "active");
        machine.ok("systemctl stop web@3");
    }
    machine.wait_for_property("web@3", "ActiveState", "inactive");
}

/// The files beside it say whose it is.
fn one_whose_file_is_gone_serves_on(machine: &Machine) {
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web");
    let payload = machine.show("web@1", "MainPID");
    machine.ok("rm /run/systemd/transient/web@1.service && systemctl daemon-reload");
    assert_eq!(
        (machine.show("web@1", "LoadState"), machine.show("web@1", "ActiveState")),
        ("not-found".into(), "active".into())
    );
    for serves in 2..4 {
        signal(machine, "RTMIN+25");
        machine.wait_for("the new procroll", || {
            (machine.log("web.service").matches("web@1.service serves").count() == serves).then_some(())
        });
        assert_eq!((machine.show("web@1", "MainPID"), machine.units("web@*").len()), (payload.clone(), 1));
    }
    machine.ok("systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@2.service"]).then_some(()));
    assert!(!machine.path(&format!("/proc/{payload}")).exists());
    // Also of one that fails at its end, of which systemd then doesn't know the files.
    let ends_badly = "/bin/sh -c 'trap \"exit 1\" TERM; systemd-notify --ready; while :; do sleep 0.1; done'";
    let unit = wrapper("--settle=0 -p NotifyAccess=all", "").replace("/usr/bin/payload ", ends_badly);
    machine.unit("web.service", &unit);
    machine.ok("systemctl reload web && rm /run/systemd/transient/web@3.service && systemctl daemon-reload");
    assert_eq!(machine.show("web@3", "LoadState"), "not-found");
    machine.ok("systemctl reload web");
    machine.wait_for("the old one to go", || (machine.units("web@*") == ["web@4.service"]).then_some(()));
    machine.wait_for("its files to go", || {
        (!machine.path("/run/systemd/transient/web@3.service.d").exists()).then_some(())
    });
    machine.ok("rm /run/systemd/transient/web@4.service && systemctl daemon-reload && systemctl stop web");
    nothing_is_left(machine);
}
