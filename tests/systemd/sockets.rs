//! Sockets come from systemd itself, generation after generation: G7.

use crate::machine::Machine;
use crate::wrapper;

on_each_systemd!(
    each_generation_gets_all_sockets,
    a_first_connection_starts_it,
    a_dead_socket_refuses_the_roll,
    without_its_socket_a_unit_starts_as_a_plain_one_would,
);

fn each_generation_gets_all_sockets(machine: &Machine) {
    machine.write("/etc/systemd/system/web.socket", "[Socket]\nListenStream=127.0.0.1:8000\nFileDescriptorName=http\n");
    machine.write(
        "/etc/systemd/system/admin.socket",
        "[Socket]\nListenStream=/run/admin.sock\nFileDescriptorName=admin\nService=web.service\n",
    );
    machine.unit("web.service", &wrapper("--settle=0", "facts ready run"));
    machine.ok("systemctl start web.socket admin.socket web");
    machine.ok("systemctl reload web");
    for generation in 1..=2 {
        let facts = machine.output(&format!("web@{generation}.service"));
        let facts: serde_json::Value = serde_json::from_str(&facts).expect("JSON");
        let environment = &facts["environment"];
        assert_eq!(environment["LISTEN_FDS"], "2");
        let mut names: Vec<_> = environment["LISTEN_FDNAMES"].as_str().expect("names").split(':').collect();
        names.sort_unstable();
        assert_eq!(names, ["admin", "http"]);
    }
    // procroll itself listens on none: with all generations gone, a client is to be refused by systemd's own rules.
    let pid = machine.show("web", "MainPID");
    let listening = machine.ok(&format!(
        "ss --listening --tcp --unix --processes --no-header | grep -v -e u_dgr -e /run/systemd/procroll/ | grep -c 'pid={pid},' || true"
    ));
    assert_eq!(listening, "0");
}

fn a_first_connection_starts_it(machine: &Machine) {
    machine.write("/etc/systemd/system/web.socket", crate::SOCKET);
    machine.unit("web.service", &crate::gunicorn("", "app"));
    machine.ok("systemctl start web.socket");
    let ask = "python3 -c 'import urllib.request as r; print(r.urlopen(\"http://127.0.0.1:8000\").read().decode())'";
    assert!(machine.ok(ask).starts_with("nothing from process"));
    assert_eq!(machine.units("web@*"), ["web@1.service"]);
}

fn a_dead_socket_refuses_the_roll(machine: &Machine) {
    machine.write("/etc/systemd/system/web.socket", crate::SOCKET);
    machine.unit("web.service", &wrapper("--settle=0", "ready run"));
    machine.ok("systemctl start web.socket web");
    machine.ok("systemctl stop web.socket");
    assert_ne!(machine.run("systemctl reload web").status, Some(0));
    let status = machine.show("web", "StatusText");
    assert!(status.contains("web.socket is not active") && status.contains("systemctl start web.socket"), "{status}");
    assert_eq!(machine.units("web@*"), ["web@1.service"]);
    // What it says to type.
    machine.ok("systemctl stop web.service && systemctl start web.socket web.service && systemctl reload web");
}

fn without_its_socket_a_unit_starts_as_a_plain_one_would(machine: &Machine) {
    machine.write("/etc/systemd/system/web.socket", "[Socket]\nListenStream=127.0.0.1:8000\nConditionPathExists=/no\n");
    machine.unit("web.service", &wrapper("--settle=0", "facts ready run"));
    machine.ok("systemctl start web");
    let log = machine.log("web.service");
    assert!(log.contains("there is a web.socket") && log.contains("Requires=web.socket"), "{log}");
    // Somebody looks at the socket unit, which loads it.
    machine.ok("systemctl show web.socket && systemctl reload web");
    let facts: serde_json::Value = serde_json::from_str(&machine.output("web@2.service")).expect("JSON");
    assert!(facts["environment"]["LISTEN_FDS"].is_null());
}
