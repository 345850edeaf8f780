//! What procroll may do: no more than it needs. It is root beside applications that may be hostile (G11), and its uid is
//! what the bus, systemd and the folders for units go by.

use std::collections::BTreeMap;
use std::io;

use anyhow::{Context, anyhow};
use nix::libc;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{self, CapabilitySet, CapabilitySets};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use crate::exit::{ExitStatus, Fatal, OrExit};
use crate::reexec;
use crate::systemd::mounts;

/// To read unit files, and look for commands, that their owner has kept from others, as systemd does.
const NEEDED: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;

/// Closes this process to others of its user: they can't trace it, nor read or write its memory, nor get at its
/// descriptors and its root. It leaves no core either, also where it ends by its generation's signal: the one to look at
/// is the generation's.
pub fn hide() {
    // The kernel has no error for this.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Sees what systemd sees, and keeps no privilege that it does not need. To be called while there is one thread.
///
/// # Errors
/// Where it can't get at systemd's own file tree, with the way out.
pub fn step_back() -> Result<(), Fatal> {
    if rustix::process::geteuid().is_root() {
        mounts::enter_systemds().map_err(no_view)?;
    }
    drop().context("can't give up privileges").or_exit(ExitStatus::Internal)
}

fn no_view(error: io::Error) -> Fatal {
    let way_out = match error.kind() {
        io::ErrorKind::NotFound => "Give RootDirectory= or RootImage= to the generations alone: -p RootDirectory=…",
        _ => "Put a + in front of its command: ExecStart=+/usr/bin/procroll …",
    };
    let error = anyhow!("procroll can't get at the files that systemd sees: {error}. {way_out}");
    Fatal { exit: ExitStatus::NotAllowed, error }
}

/// Gives up all capabilities but those needed, and system calls that nobody here makes, for good and for every program
/// that it may execute: see capabilities(7) and seccomp(2).
///
/// To be called while there is one thread.
///
/// # Errors
/// None that the kernel has for a process that gives up its own.
fn drop() -> io::Result<()> {
    let held = thread::capabilities(None)?;
    // Without this one they can't be taken from the programs it executes; but then it has few itself.
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().difference(NEEDED).iter() {
            match thread::remove_capability_from_bounding_set(capability) {
                // The kernel is older than the list.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    thread::clear_ambient_capability_set()?;
    let sets = CapabilitySets {
        effective: held.effective & NEEDED,
        permitted: held.permitted & NEEDED,
        inheritable: CapabilitySet::empty(),
    };
    thread::set_capabilities(None, sets)?;
    thread::set_no_new_privs(true)?;
    // A process that executes itself anew keeps what it was forbidden, and the kernel has room for so many filters only.
    if reexec::was_executed_anew() {
        return Ok(());
    }
    if let Err(error) = forbid() {
        // Not every kernel has it, nor every container lets it through; and it is one wall of several.
        tracing::warn!("can't give up system calls: {error}");
    }
    Ok(())
}

/// System calls that neither procroll nor systemd-analyze makes, and whoever took procroll over would.
///
/// Those that are forbidden are listed, not those that are allowed: a later libc, runtime or systemd-analyze may make
/// calls that nobody knows of yet, and must not fail for it.
#[rustfmt::skip]
const FORBIDDEN: &[i64] = &[
    // Other file trees, and files past their folders' permissions, which CAP_DAC_READ_SEARCH would allow.
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_chroot, libc::SYS_fsopen, libc::SYS_fsconfig,
    libc::SYS_fsmount, libc::SYS_fspick, libc::SYS_move_mount, libc::SYS_open_tree, OPEN_TREE_ATTR,
    libc::SYS_mount_setattr, libc::SYS_setns, libc::SYS_unshare, libc::SYS_open_by_handle_at, libc::SYS_mknodat,
    libc::SYS_fanotify_init, libc::SYS_quotactl, libc::SYS_quotactl_fd, libc::SYS_swapon, libc::SYS_swapoff,
    libc::SYS_acct,
    // Other processes.
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_process_madvise,
    libc::SYS_process_mrelease, libc::SYS_pidfd_getfd, libc::SYS_kcmp, libc::SYS_move_pages, libc::SYS_migrate_pages,
    // Other users.
    libc::SYS_setuid, libc::SYS_setgid, libc::SYS_setreuid, libc::SYS_setregid, libc::SYS_setresuid,
    libc::SYS_setresgid, libc::SYS_setfsuid, libc::SYS_setfsgid, libc::SYS_setgroups, libc::SYS_fchown,
    libc::SYS_fchownat,
    // The machine.
    libc::SYS_reboot, libc::SYS_kexec_load, libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module,
    libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_adjtimex, libc::SYS_clock_adjtime,
    libc::SYS_sethostname, libc::SYS_setdomainname, libc::SYS_vhangup, libc::SYS_syslog,
    // What holes in the kernel are reached by.
    libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd, libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter, libc::SYS_io_uring_register, libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl,
    libc::SYS_vmsplice, libc::SYS_personality, libc::SYS_lookup_dcookie, libc::SYS_nfsservctl,
];

/// Those that are younger than some architectures.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const FORBIDDEN_HERE: &[i64] = &[
    libc::SYS_mknod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_kexec_file_load, libc::SYS_iopl, libc::SYS_ioperm,
    libc::SYS_modify_ldt,
];
#[cfg(not(target_arch = "x86_64"))]
const FORBIDDEN_HERE: &[i64] = &[];

/// The same number everywhere, as all that are as young; libc has no name for it.
const OPEN_TREE_ATTR: i64 = 467;

/// Forbids the calls above, and to make a user namespace, in which one has every capability.
fn forbid() -> Result<(), seccompiler::Error> {
    let mut calls: BTreeMap<_, _> = FORBIDDEN.iter().chain(FORBIDDEN_HERE).map(|call| (*call, Vec::new())).collect();
    let namespace = libc::CLONE_NEWUSER as u64;
    let flag = SeccompCmpOp::MaskedEq(namespace);
    let makes_one = SeccompCondition::new(0, SeccompCmpArgLen::Qword, flag, namespace)?;
    calls.insert(libc::SYS_clone, vec![SeccompRule::new(vec![makes_one])?]);
    let mut program = answering(libc::EPERM, calls)?;
    if cfg!(target_arch = "x86_64") {
        program.splice(0..0, no_other_numbers());
    }
    // Whose flags can't be seen here. The C library has clone(2) for kernels without it.
    apply_filter(&answering(libc::ENOSYS, BTreeMap::from([(libc::SYS_clone3, Vec::new())]))?)?;
    apply_filter(&program)
}

/// A filter that answers these calls with an error and lets others through.
fn answering(error: i32, calls: BTreeMap<i64, Vec<SeccompRule>>) -> Result<BpfProgram, BackendError> {
    let here: TargetArch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(calls, SeccompAction::Allow, SeccompAction::Errno(error.unsigned_abs()), here)?.try_into()
}

/// On x86-64 some kernels have the calls once more under numbers from here on, for the x32 ABI.
fn no_other_numbers() -> [seccompiler::sock_filter; 3] {
    const X32: u32 = 0x4000_0000;
    let [load, compare, answer] = [
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K,
        libc::BPF_RET | libc::BPF_K,
    ];
    let line = |code: u32, jf: u8, k: u32| seccompiler::sock_filter { code: code as u16, jt: 0, jf, k };
    // The number comes first in what a filter sees.
    [line(load, 0, 0), line(compare, 1, X32), line(answer, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a system call with these first arguments.
    fn call(number: i64, first: libc::c_long) -> Result<libc::c_long, Option<i32>> {
        // SAFETY: the calls below get no addresses.
        #[allow(unsafe_code)]
        let answer = unsafe { libc::syscall(number, first, 0, 0, 0, 0, 0) };
        if answer == -1 { Err(io::Error::last_os_error().raw_os_error()) } else { Ok(answer) }
    }

    #[test]
    fn what_nobody_here_calls_is_refused_and_all_else_works() {
        const NO_FLAGS: libc::c_long = 0;
        const ONLY_ASK: libc::c_long = 0xffff_ffff;
        let calls = [(libc::SYS_unshare, NO_FLAGS), (libc::SYS_personality, ONLY_ASK), (libc::SYS_process_vm_readv, 0)];
        // A filter is a thread's own.
        let thread = std::thread::spawn(move || {
            forbid().expect("a filter");
            for (number, first) in calls {
                assert_eq!(call(number, first), Err(Some(libc::EPERM)), "{number}");
            }
            // Together they are an error of another kind.
            let flags = libc::CLONE_NEWUSER | libc::CLONE_SIGHAND;
            assert_eq!(call(libc::SYS_clone, flags.into()), Err(Some(libc::EPERM)));
            assert_eq!(call(libc::SYS_clone3, 0), Err(Some(libc::ENOSYS)));
            if cfg!(target_arch = "x86_64") {
                assert_eq!(call(libc::SYS_unshare | 0x4000_0000, NO_FLAGS), Err(Some(libc::EPERM)));
            }
            let thread = std::thread::spawn(|| std::process::Command::new("/bin/true").status());
            assert!(thread.join().expect("a thread").expect("a program").success());
        });
        thread.join().expect("a thread");
    }
}
