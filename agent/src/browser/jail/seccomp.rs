//! The layer of seccomp: which system calls a browser's processes can make (seccomp(2)).
//!
//! Chrome confines its renderers far tighter by itself. This is for the browser's main
//! process, which Chrome trusts: it closes what Landlock does not see (sockets other than
//! TCP's) and what has a history of holes and no use to a browser. Refused calls fail with
//! EPERM: Chrome takes that as it takes a container's refusal.

use std::{collections::BTreeMap, env::consts::ARCH};

use libc::c_long;
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter,
};

use crate::browser::Kind;

/// Calls that no browser makes, or can do without.
const REFUSED: &[c_long] = &[
    // Other processes' memory, descriptors and secrets. Crash handlers would read memory so;
    // nobody wants their dumps.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    // Ways past every other filter, and into the kernel.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_open_by_handle_at,
    libc::SYS_lookup_dcookie,
    libc::SYS_vhangup,
    // What mounts what: its own sandbox gets by with namespaces and chroot.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_quotactl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // The machine itself.
    libc::SYS_acct,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    // Queues and memory that outlive a process and have no path: another browser of the same
    // user could share them.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_semget,
    libc::SYS_msgget,
    libc::SYS_mq_open,
];

/// On x86-64 every call has a second number, and some a third: what the kernel calls x32.
#[cfg(target_arch = "x86_64")]
const X32: c_long = 0x4000_0000;
/// Where they differ: `ptrace`, `process_vm_readv`, `process_vm_writev` and `kexec_load`
/// (arch/x86/entry/syscalls/syscall_64.tbl).
#[cfg(target_arch = "x86_64")]
const X32_ONLY: [c_long; 4] = [521, 539, 540, 528];

/// The filter for browsers of this kind.
///
/// # Errors
///
/// When this machine's processor is none that filters can be made for.
pub fn filter(kind: Kind) -> Result<BpfProgram, Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().map(|&call| (call, Vec::new())).collect();
    rules.insert(libc::SYS_socket, sockets(kind)?);
    rules.insert(libc::SYS_socketpair, pairs()?);
    #[cfg(target_arch = "x86_64")]
    {
        let again: Vec<_> = rules.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
        rules.extend(again);
        rules.extend(X32_ONLY.map(|call| (call | X32, Vec::new())));
    }
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

/// Confines the calling thread, and all that it starts, for good.
pub fn apply(filter: &BpfProgram) -> Result<(), Error> {
    apply_filter(filter)
}

const FAMILY: u8 = 0;
const TYPE: u8 = 1;
const PROTOCOL: u8 = 2;
/// The bits of a socket's type that are no flags (socket(2)).
const TYPE_BITS: i32 = 0xf;

/// Which sockets are refused: all that are not TCP's, which Landlock knows. Multipath TCP is
/// TCP to a peer, but not to Landlock.
fn sockets(kind: Kind) -> Result<Vec<SeccompRule>, Error> {
    let (unix, ipv4, ipv6) = (libc::AF_UNIX, libc::AF_INET, libc::AF_INET6);
    let mut refused = vec![
        all(&[not(FAMILY, unix), not(FAMILY, ipv4), not(FAMILY, ipv6)])?,
        all(&[not(FAMILY, unix), not(PROTOCOL, 0), not(PROTOCOL, libc::IPPROTO_TCP)])?,
    ];
    for other in libc::SOCK_STREAM + 1..=TYPE_BITS {
        refused.push(all(&[is_type(other)])?);
    }
    // The full browser makes one to see whether its profile is in use.
    if kind == Kind::HeadlessShell {
        refused.push(all(&[is(FAMILY, unix)])?);
    }
    Ok(refused)
}

/// Which pairs are refused: of datagram sockets, which can be turned to another address later.
fn pairs() -> Result<Vec<SeccompRule>, Error> {
    Ok(vec![all(&[is_type(libc::SOCK_DGRAM)])?])
}

/// On one argument of a call: which, how it is compared, and with what.
struct Condition(u8, SeccompCmpOp, i32);

fn is(argument: u8, value: i32) -> Condition {
    Condition(argument, SeccompCmpOp::Eq, value)
}

fn is_type(value: i32) -> Condition {
    Condition(TYPE, SeccompCmpOp::MaskedEq(TYPE_BITS.unsigned_abs().into()), value)
}

fn not(argument: u8, value: i32) -> Condition {
    Condition(argument, SeccompCmpOp::Ne, value)
}

fn all(conditions: &[Condition]) -> Result<SeccompRule, Error> {
    let conditions = conditions.iter().map(|Condition(argument, operator, value)| {
        let value = u64::from(value.unsigned_abs());
        SeccompCondition::new(*argument, Dword, operator.clone(), value)
    });
    Ok(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?)
}
