//! Who may say what, and what is heard of it.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::harness::Running;
use crate::ways::Start;
use crate::{in_every_way, with_own_processes};

with_own_processes! {
    every_field_of_a_datagram_is_read
    a_status_is_passed_upwards
    a_strangers_word_is_ignored
    garbage_is_ignored
    descriptors_that_are_sent_along_are_closed
    a_main_process_that_changes_all_the_time_uses_nothing_up
    another_process_of_the_service_can_speak_for_it
    no_stranger_becomes_the_main_process
}

in_every_way! {
    the_main_process_can_be_another_one
    one_that_wants_more_time_has_it
    one_that_says_it_stops_is_on_its_way_out
}

/// As gunicorn says it.
fn every_field_of_a_datagram_is_read(start: Start) {
    let service = "notify('READY=1', 'STATUS=Gunicorn arbiter booted'); serve()";
    let mut running = Running::start("every_field", start, &["--settle=0"], service);
    running.up.expect("READY=1");
    running.up.expect("serves: Gunicorn arbiter booted");
    running.stop();
}

fn a_status_is_passed_upwards(start: Start) {
    let service = "notify('STATUS=loading'); wait_for_word('go'); notify('STATUS=loaded', 'READY=1')\n\
        wait_for_word('go'); notify('STATUS=ok\\rREADY=1'); serve()";
    let mut running = Running::start("a_status", start, &["--settle=0"], service);
    running.pipe("go");
    running.up.expect(&format!("STATUS={} starts: loading", running.name(1)));
    running.word("go", "");
    assert!(running.up.expect("serves").ends_with("serves: loaded"));
    running.word("go", "");
    assert!(running.up.expect("serves").ends_with("serves: ok"), "it is one line");
    running.stop();
}

/// Somebody else who can reach its socket, a child of procroll's that is no service, an old generation.
fn a_strangers_word_is_ignored(start: Start) {
    let service = "say('socket', os.environ['NOTIFY_SOCKET'])\nwait_for_word('go')\nnotify('READY=1')\nserve()";
    let mut running = Running::start("a_stranger", start, &["--settle=0"], service);
    running.pipe("go");
    let socket = running.out.expect("socket ").replace("socket ", "");
    let socket = running.folder.join(Path::new(&socket).strip_prefix(running.inner()).expect("a socket in the folder"));
    let stranger = UnixDatagram::unbound().expect("a socket");
    for _ in 0..3 {
        stranger.send_to(b"READY=1\nSTATUS=I am it", &socket).expect("sent");
    }
    let warning = running.err.expect("is ignored");
    assert!(warning.starts_with("procroll: warning: a notification to generation 1 is ignored: "), "{warning}");
    running.word("go", "");
    running.serves(1);
    let said = running.up.so_far();
    assert!(!said.iter().any(|line| line.contains("I am it")), "{said:?}");
    stranger.send_to(b"STOPPING=1\nMAINPID=1", &socket).expect("sent");
    running.stop();
    let more: Vec<_> = running.err.rest().into_iter().filter(|line| line.contains("ignored")).collect();
    assert_eq!(more, [""; 0], "it is said once");
}

fn garbage_is_ignored(start: Start) {
    let service = "\
for garbage in [b'x' * 65536, b'READY=1\\n' * 8192, b'\\0' * 4096, b'READY=1\\0STATUS=', b'', b'=' * 4096, bytes(range(1, 256)), b'READY=1' + b' ' * 4090]:
    NOTIFY.sendto(garbage, os.environ['NOTIFY_SOCKET'])
if GENERATION == 2:
    say('sent')
    wait_for_word('go')
notify('READY=1')
serve()";
    let mut running = Running::start("garbage", start, &["--settle=0"], service);
    running.pipe("go");
    let warning = running.err.expect("is ignored");
    assert_eq!(warning, "procroll: warning: a notification to generation 1 is ignored: it is longer than 4096 bytes");
    running.serves(1);
    running.send(nix::sys::signal::Signal::SIGHUP);
    running.out.expect("sent");
    running.err.expect("generation 2 is ignored");
    assert!(!running.up.so_far().iter().any(|line| line.contains("generation 2 (")), "garbage made it ready");
    running.word("go", "");
    running.serves(2);
    running.stop();
}

/// As systemd-notify(1) waits for that. So are more than procroll may have.
fn descriptors_that_are_sent_along_are_closed(start: Start) {
    let service = "\
import array, resource
keeper = open(f'/proc/{os.getppid()}/stat').read()
procroll = int(keeper.rsplit(')')[1].split()[1])
resource.prlimit(procroll, resource.RLIMIT_NOFILE, (40, 40))
def barrier(count):
    reader, writer = os.pipe()
    descriptors = array.array('i', [writer] * count)
    along = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
    NOTIFY.sendmsg([b'BARRIER=1\\nFDSTORE=1'], along, 0, os.environ['NOTIFY_SOCKET'])
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
for count in [1, 253] * 20:
    barrier(count)
notify('READY=1')
serve()";
    let mut running = Running::start("descriptors", start, &["--settle=0"], service);
    running.serves(1);
    let open = std::fs::read_dir(format!("/proc/{}/fd", running.pid())).expect("its descriptors").count();
    assert!(open < 20, "{open}");
    running.stop();
}

fn a_main_process_that_changes_all_the_time_uses_nothing_up(start: Start) {
    let service = "\
other = os.fork()
if other == 0:
    signal.pause()
notify('READY=1')
for _ in range(300):
    notify('MAINPID=%d' % other)
    notify('MAINPID=%d' % os.getpid())
notify('STATUS=done')
serve()";
    let mut running = Running::start("alternates", start, &["--settle=0"], service);
    running.up.expect("serves: done");
    let open = std::fs::read_dir(format!("/proc/{}/fd", running.pid())).expect("its descriptors").count();
    assert!(open < 30, "{open}");
    running.stop();
}

fn another_process_of_the_service_can_speak_for_it(start: Start) {
    let service = "daemon(lambda: (notify('READY=1'), signal.pause())); serve()";
    let mut running = Running::start("another_speaks", start, &["--settle=0"], service);
    running.serves(1);
    running.stop();
}

/// As podman does it: the process that is started says which one is the container's, and goes.
fn the_main_process_can_be_another_one(start: Start) {
    let service = "\
def ends(*_): say(GENERATION, 'asked'); os._exit(7 if GENERATION == 2 else 0)
def prepare():
    signal.signal(signal.SIGTERM, ends)
    signal.signal(signal.SIGUSR2, ends)
pid = daemon(serve, prepare)
notify('MAINPID=%d' % pid, 'READY=1')";
    let mut running = Running::start("another_main", start, &["--settle=200ms"], service);
    running.serves(1);
    running.roll(2);
    running.out.expect("1 asked");
    running.services_are(1);
    running.send(nix::sys::signal::Signal::SIGUSR2);
    running.out.expect("2 asked");
    running.ends_with(7);
}

fn no_stranger_becomes_the_main_process(start: Start) {
    let service = "on(signal.SIGUSR1)\nnotify('MAINPID=%d' % os.getppid(), 'READY=1'); notify('MAINPID=1'); notify('MAINPID=4194304')\nserve()";
    let mut running = Running::start("no_stranger", start, &["--settle=0"], service);
    running.err.expect("is no process of the generation");
    running.serves(1);
    running.send(nix::sys::signal::Signal::SIGUSR1);
    running.out.expect("1 SIGUSR1");
    running.stop();
}

fn one_that_wants_more_time_has_it(start: Start) {
    let service = "notify('EXTEND_TIMEOUT_USEC=60000000'); time.sleep(4); notify('READY=1'); serve()";
    let mut running = Running::start("more_time", start, &["--settle=0", "--ready-timeout=3s"], service);
    running.serves(1);
    running.stop();
}

fn one_that_says_it_stops_is_on_its_way_out(start: Start) {
    let service =
        "on(signal.SIGTERM)\nnotify('READY=1')\nwait_for_word('go')\nnotify('STOPPING=1')\nwhile True: signal.pause()";
    let options = ["--settle=0", "--shutdown-timeout=300ms"];
    let mut running = Running::start("says_it_stops", start, &options, service);
    running.pipe("go");
    running.serves(1);
    running.word("go", "");
    running.ends_with(1);
    running.err.expect(&format!("{} served and failed (Result=timeout)", running.name(1)));
    assert_eq!(running.out.rest(), [""; 0], "nobody has asked it to");
}
