//! What a unit's processes hold: looked up in /proc, and asked of the sockets themselves.
//!
//! What they do meanwhile is theirs: a process that ends, or closes what it had, holds nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::sockopt::socket_reuseport;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::check::{Held, Port};

/// Looks at all processes of the unit in this control group.
pub(super) fn look(group: &str, main_pid: u32) -> Held {
    match try_look(group, main_pid) {
        Ok(held) => held,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Held::NotSeen("its processes are somebody else's, and only root may look at them".to_owned())
        }
        Err(error) => Held::NotSeen(format!("its processes can't be looked at: {error}")),
    }
}

fn try_look(group: &str, main_pid: u32) -> io::Result<Held> {
    let mut pids = Vec::new();
    if group.is_empty() {
        return Err(io::Error::other("it has none"));
    }
    for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"] {
        processes(&format!("{mount}{group}"), &mut pids);
    }
    if pids.is_empty() {
        return Err(io::Error::other("there are none in its control group"));
    }
    let passed_on = systemds_sockets(main_pid)?;
    let mut network = Network::default();
    let mut ports = BTreeMap::new();
    let (mut sockets, mut locks) = (BTreeSet::new(), BTreeSet::new());
    for pid in &pids {
        let open = match descriptors(*pid) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            open => open?,
        };
        network.read(*pid);
        for (number, target) in open {
            let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')?.parse::<u64>().ok());
            let Some(inode) = inode else {
                if is_locked(*pid, number) && !is_of_one(&target, &pids) {
                    locks.insert(target);
                }
                continue;
            };
            if passed_on.contains(&inode) {
                continue;
            }
            if let Some((protocol, address)) = network.ports.get(&inode) {
                let shared = reuses_port(*pid, number);
                ports.entry((*protocol, *address)).and_modify(|before| *before = shared.min(*before)).or_insert(shared);
            }
            if let Some(path) = network.paths.get(&inode).filter(|path| !is_of_one(path, &pids)) {
                sockets.insert(path.clone());
            }
        }
    }
    let ports =
        ports.into_iter().map(|((protocol, address), shared)| Port { protocol, address: address.to_string(), shared });
    Ok(Held::Seen {
        ports: ports.collect(),
        sockets: sockets.into_iter().collect(),
        locks: locks.into_iter().collect(),
    })
}

/// The processes in a control group and those below it.
fn processes(folder: &str, pids: &mut Vec<u32>) {
    let listed = fs::read_to_string(format!("{folder}/cgroup.procs")).unwrap_or_default();
    pids.extend(listed.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Some(path) = entry.path().to_str()
        {
            processes(path, pids);
        }
    }
}

/// The numbers and targets of a process's descriptors.
fn descriptors(pid: u32) -> io::Result<Vec<(i32, String)>> {
    let mut open = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        // It may be closed by now.
        if let (Some(number), Ok(target)) = (number, fs::read_link(entry.path()))
            && let Ok(target) = target.into_os_string().into_string()
        {
            open.push((number, target));
        }
    }
    Ok(open)
}

/// The sockets of the manager that started the process: those of socket units, which all generations get.
fn systemds_sockets(main_pid: u32) -> io::Result<BTreeSet<u64>> {
    let status = read(&format!("/proc/{main_pid}/status"));
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse::<u32>().ok());
    let open = descriptors(parent.filter(|pid| *pid != 0).unwrap_or(1))?;
    Ok(open
        .into_iter()
        .filter_map(|(_, target)| target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect())
}

/// Whether a file of this name can be but one process's: it is named after it, or is no file any more.
fn is_of_one(path: &str, pids: &[u32]) -> bool {
    let mut numbers = path.split(|char: char| !char.is_ascii_digit());
    path.ends_with(" (deleted)")
        || !path.starts_with(['/', '@'])
        || path.starts_with("/dev/")
        || numbers.any(|number| number.parse().is_ok_and(|number| pids.contains(&number)))
}

/// Whether the process has locked the file against all others by this descriptor.
fn is_locked(pid: u32, number: i32) -> bool {
    read(&format!("/proc/{pid}/fdinfo/{number}")).lines().any(is_lock)
}

/// Whether this line of /proc/PID/fdinfo is of a lock against all others.
fn is_lock(line: &str) -> bool {
    let words = line.strip_prefix("lock:").map(|lock| lock.split_whitespace().collect::<Vec<_>>());
    matches!(words.as_deref(), Some([_, "FLOCK" | "POSIX" | "OFDLCK", _, "WRITE", ..]))
}

/// A file of the kernel's; nothing, if it can't be read. Names in it may be anybody's, and are not always UTF-8.
fn read(path: &str) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Whether the socket has `SO_REUSEPORT`; none if it may not be asked.
fn reuses_port(pid: u32, number: i32) -> Option<bool> {
    let pidfd = pidfd_open(Pid::from_raw(pid.try_into().ok()?)?, PidfdFlags::empty()).ok()?;
    let socket = pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).ok()?;
    socket_reuseport(&socket).ok()
}

/// What listens in the networks of some processes, by the number of the socket.
#[derive(Default)]
struct Network {
    ports: BTreeMap<u64, (&'static str, SocketAddr)>,
    paths: BTreeMap<u64, String>,
    /// The networks that have been read.
    seen: BTreeSet<Option<std::path::PathBuf>>,
}

impl Network {
    /// Reads the tables of this process's network.
    fn read(&mut self, pid: u32) {
        if !self.seen.insert(fs::read_link(format!("/proc/{pid}/ns/net")).ok()) {
            return;
        }
        let table = |name: &str| read(&format!("/proc/{pid}/net/{name}"));
        for (name, protocol) in [("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp")] {
            let lines = table(name);
            self.ports
                .extend(lines.lines().skip(1).filter_map(port).map(|(inode, address)| (inode, (protocol, address))));
        }
        self.paths.extend(table("unix").lines().skip(1).filter_map(path));
        // A client's socket is bound to a port that the kernel has chosen, and listens for the answer.
        let range = table("../../sys/net/ipv4/ip_local_port_range");
        let range: Vec<u16> = range.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let &[first, last] = range.as_slice() else { return };
        self.ports.retain(|_, (protocol, address)| *protocol != "udp" || !(first..=last).contains(&address.port()));
    }
}

/// The socket's number and address, if this line of /proc/net/tcp or /proc/net/udp is of one that listens.
fn port(line: &str) -> Option<(u64, SocketAddr)> {
    const LISTEN: &str = "0A";
    const UNCONNECTED: &str = "07";
    let words: Vec<_> = line.split_whitespace().collect();
    let (&local, &state, inode) = (words.get(1)?, words.get(3)?, words.get(9)?.parse().ok()?);
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let address = address_of(address)?;
    [LISTEN, UNCONNECTED].contains(&state).then_some((inode, SocketAddr::new(address, port)))
}

/// The kernel prints addresses as numbers of 32 bits, in the machine's own order.
fn address_of(hex: &str) -> Option<IpAddr> {
    let number = |at: usize| Some(u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match hex.len() {
        8 => Some(Ipv4Addr::from(number(0)?).into()),
        32 => {
            let bytes = [number(0)?, number(8)?, number(16)?, number(24)?].concat();
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into())
        }
        _ => None,
    }
}

/// The socket's number and path, if this line of /proc/net/unix is of one that others can find.
fn path(line: &str) -> Option<(u64, String)> {
    const LISTENS: u32 = 0x10000;
    const DATAGRAM: &str = "0002";
    // The kernel pads numbers with spaces; a path begins with what else there is.
    let mut rest = line;
    let mut words = [""; 7];
    for word in &mut words {
        (*word, rest) = rest.trim_start_matches(' ').split_once(' ')?;
    }
    let ([_, _, _, flags, kind, _, inode], path) = (words, rest);
    let inode = inode.parse().ok()?;
    let listens = u32::from_str_radix(flags, 16).ok()? & LISTENS != 0;
    // The kernel makes up a name of five digits for one that asks for any.
    let made_up =
        path.strip_prefix('@').is_some_and(|name| name.len() == 5 && name.chars().all(|char| char.is_ascii_hexdigit()));
    (!path.is_empty() && (listens || kind == DATAGRAM) && !made_up).then(|| (inode, path.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::text_of;

    fn hex(bytes: &[u8]) -> String {
        bytes.chunks(4).map(|four| format!("{:08X}", u32::from_ne_bytes(four.try_into().expect("four")))).collect()
    }

    proptest! {
        #[test]
        fn any_listening_address_reads_as_the_kernel_writes_it(ip: IpAddr, number: u16, inode: u64, state in 1u8..12, index in 0u32..20_000) {
            let bytes = match ip {
                IpAddr::V4(ip) => hex(&ip.octets()),
                IpAddr::V6(ip) => hex(&ip.octets()),
            };
            let line = format!("{index:4}: {bytes}:{number:04X} {bytes}:0000 {state:02X} 00000000:00000000 00:00000000 00000000 {:5} {:8} {inode} 1 0", 0, 0);
            let listens = [7, 10].contains(&state);
            prop_assert_eq!(port(&line), listens.then_some((inode, SocketAddr::new(ip, number))));
        }

        #[test]
        fn any_path_reads_as_the_kernel_writes_it(name in "[^\\n]{1,20}", inode in prop_oneof![0u64..20_000, any::<u64>()]) {
            let line = format!("0000000000000000: 00000002 00000000 00010000 0001 01 {inode:5} /{name}");
            prop_assert_eq!(path(&line), Some((inode, format!("/{name}"))));
        }

        #[test]
        fn any_line_is_read_or_passed_over(
            line in text_of(&["0:", " ", "0100007F", ":", "1F90", "0A", "7", "00010000", "0002", "/run/a", "@", "lock:", "FLOCK", "WRITE"]),
        ) {
            let (port, path) = (port(&line), path(&line));
            prop_assert!(path.is_none_or(|(inode, path)| line.ends_with(&path) && line.contains(&inode.to_string())));
            prop_assert!(port.is_none_or(|(inode, _)| line.contains(&inode.to_string())));
            prop_assert!(!is_lock(&line) || line.starts_with("lock:") && line.contains("WRITE"));
            let _ = is_of_one(&line, &[7]);
        }
    }

    #[test]
    fn listening_ports_are_read_from_the_kernels_tables() {
        let listens =
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7777 1 0 100";
        assert_eq!(port(listens), Some((7777, "127.0.0.1:8080".parse().expect("an address"))));
        let connected =
            "   1: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 8 1 0 20";
        assert_eq!(port(connected), None);
        let six =
            "   0: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 9 1";
        assert_eq!(port(six), Some((9, "[::1]:80".parse().expect("an address"))));
    }

    #[test]
    fn sockets_that_others_can_find_have_a_name() {
        let line = |flags: &str, kind: &str, path: &str| {
            format!("0000000000000000: 00000002 00000000 {flags} {kind} 01 12345 {path}")
        };
        assert_eq!(path(&line("00010000", "0001", "/run/a b.sock")), Some((12345, "/run/a b.sock".to_owned())));
        assert_eq!(path(&line("00000000", "0002", "@name")), Some((12345, "@name".to_owned())));
        assert_eq!(path(&line("00000000", "0001", "/run/accepted")), None);
        assert_eq!(path(&line("00000000", "0002", "@0012f")), None);
        assert_eq!(path("0000000000000000: 00000002 00000000 00000000 0002 01 12345"), None);
    }

    #[test]
    fn a_file_that_is_named_after_its_process_is_of_one() {
        assert!(is_of_one("/run/worker-77.sock", &[7, 77]));
        assert!(is_of_one("/tmp/x (deleted)", &[]) && is_of_one("pipe:[1]", &[]));
        assert!(!is_of_one("/run/worker-777.sock", &[7, 77]));
    }

    #[test]
    fn what_this_process_holds_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let path = std::env::temp_dir().join(format!("procroll-held-{}x", std::process::id()));
        let file = fs::File::create(&path).expect("a file");
        file.lock().expect("a lock");
        let mut network = Network::default();
        let own = std::process::id();
        network.read(own);
        let address = listener.local_addr().expect("an address");
        let open = descriptors(own).expect("our own");
        let listening = open.iter().find(|(_, target)| {
            network.ports.iter().any(|(inode, (_, seen))| *seen == address && *target == format!("socket:[{inode}]"))
        });
        assert_eq!(listening.map(|(number, _)| reuses_port(own, *number)), Some(Some(false)));
        let locked = open.iter().find(|(_, target)| Some(target.as_str()) == path.to_str());
        assert!(locked.is_some_and(|(number, _)| is_locked(own, *number)));
        fs::remove_file(path).expect("removed");
    }
}
