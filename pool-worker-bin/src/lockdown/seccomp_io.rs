//! The io lane's system calls, for its requests and for whatever programs it starts: everything but the parts of the kernel that
//! no program of a task has use for, and that most ways out of a sandbox lead through.
//!
//! A list of what is forbidden, close to that of container engines. Programs are told so by an error and live on: they are not ours, and many try
//! a call only to see whether it is there.

use seccompiler::{BackendError, SeccompAction, SeccompCmpOp};

use super::seccomp::{Call, NOBODYS, NOBODYS_ONCE, Rules, Stack, arg, calls, program, whatever_the_arguments, when};

/// Refused with any arguments, besides what no lane has use for.
const REFUSED: &[Call] = calls![
    // Others' descriptors.
    SYS_pidfd_getfd,
    // Files without their names, past the rules for names.
    SYS_open_by_handle_at,
    SYS_name_to_handle_at,
    // The machine's terminals.
    SYS_vhangup,
    // Calls that no kernel of today has, or should not.
    SYS_nfsservctl,
];
#[cfg(target_arch = "x86_64")]
const REFUSED_ONCE: &[Call] = calls![
    // Calls that no kernel of today has, or should not.
    SYS_uselib,
    SYS_ustat,
    SYS_sysfs,
    SYS__sysctl,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_ONCE: &[Call] = &[];

/// Those that are refused with any arguments.
fn always_refused() -> impl Iterator<Item = &'static Call> {
    [NOBODYS, NOBODYS_ONCE, REFUSED, REFUSED_ONCE].into_iter().flatten()
}

/// As on a kernel that does not have them: programs then take the older way.
const UNKNOWN: &[Call] = calls![
    // Its flags lie in memory, where no filter sees a new namespace being asked for. The C library then uses `clone`.
    SYS_clone3,
    // What is done through its rings passes no filter.
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
];

/// Socket families that programs have use for: local ones, the internet, and asking for the machine's addresses and routes.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// What a new process may not be given: a namespace of its own.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// Personalities that programs ask for: the usual one, with addresses that are not random (debuggers, some Lisps), of 32 bits (`linux32`),
/// both; and the question which one it is.
const PERSONALITIES: [u32; 5] = [0, 0x0004_0000, 0x0008, 0x0004_0008, u32::MAX];

/// Typing for somebody else: into the terminal that a person sits at.
const TYPING: [u32; 2] = [0x5412 /* TIOCSTI */, 0x541C /* TIOCLINUX */];

/// The lane's programs of the kernel.
pub(super) fn stack() -> Result<Stack, BackendError> {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let errno = |number: i32| SeccompAction::Errno(number.unsigned_abs());
    let refused = |list: Rules, number| program(list, errno(number), SeccompAction::Allow);
    let mut no_right = whatever_the_arguments(always_refused());
    let asks = |flag: &i32| when(&[arg(0, MaskedEq(u64::from(flag.unsigned_abs())), flag.unsigned_abs())]);
    no_right.insert(libc::SYS_clone, NAMESPACES.iter().map(asks).collect());
    no_right.insert(libc::SYS_personality, vec![when(&PERSONALITIES.map(|known| arg(0, Ne, known)))]);
    // Others' limits: a supervisor of the same user could be given so few descriptors or so little CPU time that it ends.
    no_right.insert(libc::SYS_prlimit64, vec![when(&[arg(0, Ne, 0)])]);
    no_right.insert(libc::SYS_ioctl, TYPING.iter().map(|code| when(&[arg(1, Eq, *code)])).collect());
    let mut no_family = Rules::new();
    no_family.insert(libc::SYS_socket, vec![when(&FAMILIES.map(|family| arg(0, Ne, family.unsigned_abs())))]);
    Ok(vec![
        refused(no_right, libc::EPERM)?,
        refused(no_family, libc::EAFNOSUPPORT)?,
        refused(whatever_the_arguments(UNKNOWN), libc::ENOSYS)?,
    ])
}

#[cfg(test)]
mod tests {
    use super::super::seccomp::tests::Answer::{Allow, Errno};
    use super::super::seccomp::tests::answer;
    use super::*;

    #[test]
    fn programs_get_errors_for_what_they_have_no_use_for() {
        let stack = stack().unwrap();
        for (number, name) in always_refused() {
            assert_eq!(answer(&stack, *number, &[]), Errno(libc::EPERM), "{name}");
        }
        for (number, name) in UNKNOWN {
            assert_eq!(answer(&stack, *number, &[]), Errno(libc::ENOSYS), "{name}");
        }
        for number in
            [libc::SYS_execve, libc::SYS_openat, libc::SYS_kill, libc::SYS_prctl, libc::SYS_seccomp, libc::SYS_wait4]
        {
            assert_eq!(answer(&stack, number, &[]), Allow, "{number}");
        }
    }

    #[test]
    fn arguments_decide_where_a_call_is_good_and_bad() {
        let stack = stack().unwrap();
        let say = |number, args: &[u64]| answer(&stack, number, args);
        assert_eq!(say(libc::SYS_clone, &[libc::SIGCHLD as u64]), Allow);
        assert_eq!(say(libc::SYS_clone, &[(libc::CLONE_VM | libc::CLONE_THREAD) as u64]), Allow);
        for flag in NAMESPACES {
            assert_eq!(say(libc::SYS_clone, &[(flag | libc::SIGCHLD) as u64]), Errno(libc::EPERM), "{flag:#x}");
        }
        assert_eq!(say(libc::SYS_socket, &[libc::AF_INET6 as u64]), Allow);
        for family in [libc::AF_ALG, libc::AF_VSOCK, libc::AF_PACKET, libc::AF_BLUETOOTH] {
            assert_eq!(say(libc::SYS_socket, &[family as u64]), Errno(libc::EAFNOSUPPORT), "{family}");
        }
        assert_eq!(say(libc::SYS_personality, &[0xffff_ffff]), Allow);
        assert_eq!(say(libc::SYS_personality, &[0x0040_0000]), Errno(libc::EPERM), "READ_IMPLIES_EXEC");
        assert_eq!(say(libc::SYS_prlimit64, &[0]), Allow);
        assert_eq!(say(libc::SYS_prlimit64, &[77]), Errno(libc::EPERM), "another process's limits");
        assert_eq!(say(libc::SYS_ioctl, &[0, 0x5401]), Allow);
        assert_eq!(say(libc::SYS_ioctl, &[0, 0x5412]), Errno(libc::EPERM));
        assert_eq!(say(libc::SYS_ioctl, &[0, 0x1_0000_5412]), Errno(libc::EPERM), "the kernel looks at 32 bits");
    }
}
