//! Filters of system calls: how a lane's lists become programs of the kernel, and what the kernel
//! makes of several.
//!
//! Each program has one answer for what it lists. They are stacked, and of their answers the kernel
//! takes the strictest: to kill goes before to refuse, to refuse before to allow; of two errors the
//! one of the program that came last. Stacking costs the calls that matter nothing: what every
//! program allows whatever its arguments, Linux notes in a table when they are installed, and runs
//! none of them.

use std::collections::BTreeMap;

use pool_protocol::lane::Lane;
use pool_protocol::worker::Setup;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads, sock_filter,
};

use super::{seccomp_io, seccomp_js};

/// A system call's number, and its name as libc has it.
pub(super) type Call = (libc::c_long, &'static str);

/// A list of system calls by libc's names for them.
macro_rules! calls {
    ($($name:ident,)*) => { &[$((libc::$name, stringify!($name)),)*] };
}
pub(super) use calls;

/// What neither lane has any use for: the parts of the kernel that most ways out of a sandbox lead
/// through.
pub(super) const NOBODYS: &[Call] = calls![
    // Debugging: others' memory and registers, their descriptors.
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_kcmp,
    // Code and probes in the kernel.
    SYS_bpf,
    SYS_perf_event_open,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_kexec_file_load,
    // Faults that wait: the favourite tool of exploits of the kernel.
    SYS_userfaultfd,
    // Another view of files and processes. What a namespace's root may do is much, and little
    // tested.
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_move_mount,
    SYS_open_tree,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_mount_setattr,
    SYS_unshare,
    SYS_setns,
    // Keys: they are the user's, not the process's.
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    // The machine itself.
    SYS_reboot,
    SYS_swapon,
    SYS_swapoff,
    SYS_acct,
    SYS_quotactl,
    SYS_syslog,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_adjtimex,
    SYS_clock_adjtime,
];
/// The same, where there are input and output ports.
#[cfg(target_arch = "x86_64")]
pub(super) const NOBODYS_ONCE: &[Call] = calls![SYS_iopl, SYS_ioperm,];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const NOBODYS_ONCE: &[Call] = &[];

/// A call and the arguments with which it is meant: any one of the rules.
pub(super) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Programs in the order in which they are installed.
pub(super) type Stack = Vec<BpfProgram>;

/// Puts the lane's filter on every thread of this process. Nothing can be installed after it in the
/// JavaScript lane.
pub(super) fn install(setup: &Setup) -> Result<(), String> {
    let stack = match setup.lane {
        Lane::Js => seccomp_js::stack(std::process::id(), !setup.js.module_roots.is_empty()),
        Lane::Io => seccomp_io::stack(&seccomp_io::Surroundings::of(&setup.isolation)),
    };
    for program in stack.map_err(|e| e.to_string())? {
        apply_filter_all_threads(&program).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// The name as people write it.
pub(super) fn name(call: &Call) -> &'static str {
    call.1.strip_prefix("SYS_").unwrap_or(call.1)
}

/// The calls with any arguments.
pub(super) fn whatever_the_arguments<'a>(calls: impl IntoIterator<Item = &'a Call>) -> Rules {
    calls.into_iter().map(|(number, _)| (*number, Vec::new())).collect()
}

/// One way in which a call is meant: all of the conditions.
pub(super) fn when(conditions: &[SeccompCondition]) -> SeccompRule {
    SeccompRule::new(conditions.to_vec()).expect("there is a condition")
}

/// An argument of 32 bits, such as a descriptor, a signal, flags.
pub(super) fn arg(index: u8, is: SeccompCmpOp, value: u32) -> SeccompCondition {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, is, u64::from(value))
        .expect("a call has six arguments")
}

/// An argument of 64 bits, such as an address.
pub(super) fn wide_arg(index: u8, is: SeccompCmpOp, value: u64) -> SeccompCondition {
    SeccompCondition::new(index, SeccompCmpArgLen::Qword, is, value)
        .expect("a call has six arguments")
}

/// A program with one answer for what is listed and one for the rest. Calls of another
/// architecture's convention die.
pub(super) fn program(
    rules: Rules,
    listed: SeccompAction,
    rest: SeccompAction,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let program: BpfProgram = SeccompFilter::new(rules, rest, listed, arch)?.try_into()?;
    Ok(without_x32(program))
}

/// On x86-64 there is a second set of numbers for the same calls, told apart by one bit: no list
/// names them, so that a list of what is forbidden would let all of them through.
fn without_x32(program: BpfProgram) -> BpfProgram {
    const X32: u32 = 0x4000_0000;
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    if !cfg!(target_arch = "x86_64") {
        return program;
    }
    let mut whole = vec![
        // The call's number lies at the beginning of what a program looks at.
        sock_filter { code: LOAD, jt: 0, jf: 0, k: 0 },
        sock_filter { code: JUMP_IF_AT_LEAST, jt: 0, jf: 1, k: X32 },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_KILL_PROCESS },
    ];
    whole.extend(program);
    whole
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What the kernel does with a call.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) enum Answer {
        Allow,
        Errno(i32),
        Trap,
        Kill,
    }

    #[cfg(target_arch = "x86_64")]
    const ARCH: u32 = 0xC000_003E;
    #[cfg(target_arch = "aarch64")]
    const ARCH: u32 = 0xC000_00B7;

    /// The stack's answer, as the kernel finds it.
    pub(crate) fn answer(stack: &[BpfProgram], call: libc::c_long, args: &[u64]) -> Answer {
        answer_on(ARCH, stack, call as u32, args)
    }

    pub(crate) fn answer_on(arch: u32, stack: &[BpfProgram], number: u32, args: &[u64]) -> Answer {
        let mut data = [0; 64];
        data[..4].copy_from_slice(&number.to_ne_bytes());
        data[4..8].copy_from_slice(&arch.to_ne_bytes());
        for (i, arg) in args.iter().enumerate() {
            data[16 + 8 * i..24 + 8 * i].copy_from_slice(&arg.to_ne_bytes());
        }
        // From the last installed to the first; a later one's answer stands unless an earlier one's
        // is stricter.
        let order = |answer: u32| (answer & libc::SECCOMP_RET_ACTION_FULL).cast_signed();
        let answers = stack.iter().rev().map(|program| run(program, &data));
        let strictest = answers
            .reduce(|best, next| if order(next) < order(best) { next } else { best })
            .unwrap();
        match strictest & libc::SECCOMP_RET_ACTION_FULL {
            libc::SECCOMP_RET_ALLOW => Answer::Allow,
            libc::SECCOMP_RET_ERRNO => {
                Answer::Errno((strictest & libc::SECCOMP_RET_DATA).cast_signed())
            }
            libc::SECCOMP_RET_TRAP => Answer::Trap,
            libc::SECCOMP_RET_KILL_PROCESS => Answer::Kill,
            other => panic!("{other:#x}"),
        }
    }

    /// The instructions that compiled filters consist of.
    fn run(program: &[sock_filter], data: &[u8; 64]) -> u32 {
        let (mut at, mut value) = (0, 0_u32);
        loop {
            let step = &program[at];
            let jump = |is: bool| usize::from(if is { step.jt } else { step.jf });
            at += 1 + match step.code {
                0x20 => {
                    let place = step.k as usize;
                    value = u32::from_ne_bytes(data[place..place + 4].try_into().unwrap());
                    0
                }
                0x54 => {
                    value &= step.k;
                    0
                }
                0x05 => step.k as usize,
                0x15 => jump(value == step.k),
                0x25 => jump(value > step.k),
                0x35 => jump(value >= step.k),
                0x06 => return step.k,
                other => panic!("instruction {other:#x}"),
            };
        }
    }

    #[test]
    fn other_conventions_die_in_every_program() {
        let io = seccomp_io::stack(&seccomp_io::Surroundings::default()).unwrap();
        for stack in [seccomp_js::stack(1, false).unwrap(), seccomp_js::stack(1, true).unwrap(), io]
        {
            let futex = libc::SYS_futex as u32;
            assert_eq!(answer_on(ARCH, &stack, futex, &[]), Answer::Allow);
            assert_eq!(answer_on(0x4000_0003, &stack, futex, &[]), Answer::Kill, "the 32-bit one");
            if cfg!(target_arch = "x86_64") {
                assert_eq!(answer_on(ARCH, &stack, 0x4000_0000 | futex, &[]), Answer::Kill, "x32");
            }
        }
    }
}
