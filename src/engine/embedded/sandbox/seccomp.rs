//! The system calls a step may not make: those Docker's default profile keeps from a container without extra
//! capabilities. Spec: moby `profiles/seccomp/default.json`.
//!
//! Docker lists what is allowed. This lists what is not, which comes to the same for every call known today and is
//! several times quicker to load. Unlike under Docker, programs that make calls of another architecture (32-bit x86 on
//! x86-64) are killed: their numbers mean other calls.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::error::Refusal;

/// Calls that are refused whatever their arguments.
const DENIED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_get_mempolicy,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_set_mempolicy,
    libc::SYS_set_mempolicy_home_node,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    LSM_GET_SELF_ATTR,
    LSM_SET_SELF_ATTR,
    LSM_LIST_MODULES,
];

// These have the same numbers on every architecture; the C library's bindings do not name them yet.
const LSM_GET_SELF_ATTR: i64 = 459;
const LSM_SET_SELF_ATTR: i64 = 460;
const LSM_LIST_MODULES: i64 = 461;

#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[i64] = &[
    libc::SYS__sysctl,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_kexec_file_load,
    libc::SYS_sysfs,
    libc::SYS_uselib,
    libc::SYS_ustat,
];
#[cfg(target_arch = "aarch64")]
const DENIED_HERE: &[i64] = &[libc::SYS_kexec_file_load];
#[cfg(target_arch = "riscv64")]
const DENIED_HERE: &[i64] = &[];

/// Namespaces are not to be nested: they open up parts of the kernel that are closed otherwise.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWCGROUP,
];

/// Execution domains Docker allows: Linux, with or without `UNAME26` and 32-bit reports, and asking which it is.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Sockets into the host's kernel crypto and hypervisor.
const DENIED_FAMILIES: [libc::c_int; 2] = [libc::AF_ALG, libc::AF_VSOCK];

/// On x86-64 the kernel may take every call a second time, with this bit set (the x32 ABI).
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;

/// Compiled filters, loaded in this order.
pub(super) struct Filters(Vec<BpfProgram>);

impl Filters {
    /// Compiles the filters for this machine.
    pub(super) fn compile() -> Result<Self, Refusal> {
        let compile = || -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
            // A filter has one answer. `clone3` passes its flags by pointer, which no filter can follow; told that there is
            // no such call, C libraries fall back to `clone`.
            let no_such_call = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
            Ok(vec![program(no_such_call, libc::ENOSYS)?, program(denied()?, libc::EPERM)?])
        };
        compile().map(Self).map_err(|error| Refusal::setup("compile the seccomp filter")(io::Error::other(error)))
    }

    /// Loads the filters. Needs `no_new_privs` or `CAP_SYS_ADMIN`.
    pub(super) fn load(&self) -> Result<(), Refusal> {
        self.0.iter().try_for_each(|program| match seccompiler::apply_filter(program) {
            Ok(()) => Ok(()),
            Err(seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error)) => {
                Err(Refusal::setup("load the seccomp filter")(error))
            }
            Err(error) => Err(Refusal::setup("load the seccomp filter")(io::Error::other(error))),
        })
    }
}

fn program(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> Result<BpfProgram, seccompiler::BackendError> {
    let answer = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, answer, target()?)?.try_into()
}

fn target() -> Result<TargetArch, seccompiler::BackendError> {
    std::env::consts::ARCH.try_into()
}

fn denied() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        DENIED.iter().chain(DENIED_HERE).map(|call| (*call, Vec::new())).collect();
    let mut clone = Vec::new();
    for flag in NAMESPACES {
        let flag = u64::from(flag.cast_unsigned());
        clone.push(SeccompRule::new(vec![condition(SeccompCmpOp::MaskedEq(flag), flag)?])?);
    }
    rules.insert(libc::SYS_clone, clone);
    let mut personality = Vec::new();
    for allowed in PERSONALITIES {
        personality.push(condition(SeccompCmpOp::Ne, allowed)?);
    }
    rules.insert(libc::SYS_personality, vec![SeccompRule::new(personality)?]);
    let mut socket = Vec::new();
    for family in DENIED_FAMILIES {
        let family = u64::from(family.cast_unsigned());
        socket.push(SeccompRule::new(vec![condition(SeccompCmpOp::Eq, family)?])?);
    }
    rules.insert(libc::SYS_socket, socket);
    #[cfg(target_arch = "x86_64")]
    {
        let again: Vec<_> = rules.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
        rules.extend(again);
    }
    Ok(rules)
}

/// A comparison of the first argument.
fn condition(operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(0, SeccompCmpArgLen::Dword, operator, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiles_small() {
        let Filters(programs) = Filters::compile().expect("compiles");
        assert_eq!(programs.len(), 2);
        let longest = programs.iter().map(Vec::len).max();
        assert!(longest.is_some_and(|length| length < 1000), "{longest:?} instructions take too long to load");
    }
}
