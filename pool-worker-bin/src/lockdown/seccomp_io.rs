//! The io lane's system calls, for its requests and for whatever programs it starts: everything but
//! the parts of the kernel that no program of a task has use for, and that most ways out of a
//! sandbox lead through.
//!
//! A list of what is forbidden, close to that of container engines. Programs are told so by an
//! error and live on: they are not ours, and many try a call only to see whether it is there.

use nix::unistd::getpgrp;
use pool_protocol::worker::IsolationSetup;
use seccompiler::{BackendError, SeccompAction, SeccompCmpOp, SeccompRule};

use super::seccomp::{
    Call, NOBODYS, NOBODYS_ONCE, Rules, Stack, arg, calls, program, whatever_the_arguments, when,
};

/// Refused with any arguments, besides what no lane has use for.
const REFUSED: &[Call] = calls![
    // Others' descriptors and memory.
    SYS_pidfd_getfd,
    SYS_process_madvise,
    SYS_process_mrelease,
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
    // Its flags lie in memory, where no filter sees a new namespace being asked for. The C library
    // then uses `clone`.
    SYS_clone3,
    // What is done through its rings passes no filter.
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
];

/// Socket families that programs have use for: local ones, the internet, and asking for the
/// machine's addresses and routes.
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

/// Personalities that programs ask for: the usual one, with addresses that are not random
/// (debuggers, some Lisps), of 32 bits (`linux32`), both; and the question which one it is.
const PERSONALITIES: [u32; 5] = [0, 0x0004_0000, 0x0008, 0x0004_0008, u32::MAX];

/// Typing for somebody else: into the terminal that a person sits at.
const TYPING: [u32; 2] = [0x5412 /* TIOCSTI */, 0x541C /* TIOCLINUX */];

/// What the filter must know of the process's surroundings.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Surroundings {
    /// The configuration lists Unix sockets that programs may use.
    unix_sockets: bool,
    /// The supervisor's number and that of its process group; nothing in a process namespace of its
    /// own, where neither can be named.
    supervisor: Option<(u32, u32)>,
}

impl Surroundings {
    /// Of this process. To be called while its parent is the supervisor.
    pub(super) fn of(setup: &IsolationSetup) -> Self {
        // A worker stays in the group that it was started in.
        let group = getpgrp().as_raw().unsigned_abs();
        let parent =
            rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
        Self { unix_sockets: !setup.sockets.is_empty(), supervisor: parent.map(|pid| (pid, group)) }
    }
}

/// Setting how others are scheduled: each call, where it takes its number, and what kinds of
/// numbers it takes. 0 is whoever asks, and its group is its own. A thread's own number is refused
/// as well, because no filter can tell it from another process's.
const OTHERS_TURN: [(libc::c_long, u8, Option<[u32; 2]>); 8] = [
    (libc::SYS_setpriority, 1, Some([0 /* PRIO_PROCESS */, 1 /* PRIO_PGRP */])),
    (libc::SYS_ioprio_set, 1, Some([1 /* IOPRIO_WHO_PROCESS */, 2 /* IOPRIO_WHO_PGRP */])),
    (libc::SYS_sched_setscheduler, 0, None),
    (libc::SYS_sched_setparam, 0, None),
    (libc::SYS_sched_setattr, 0, None),
    (libc::SYS_sched_setaffinity, 0, None),
    (libc::SYS_migrate_pages, 0, None),
    (libc::SYS_move_pages, 0, None),
];

/// Renicing and pinning others.
fn others_turn(list: &mut Rules) {
    use SeccompCmpOp::Ne;
    for (call, number, kinds) in OTHERS_TURN {
        let mut rules = vec![when(&[arg(number, Ne, 0)])];
        rules.extend(kinds.map(|kinds| when(&kinds.map(|kind| arg(0, Ne, kind)))));
        list.insert(call, rules);
    }
}

/// Signalling the supervisor by its number. Landlock keeps every process outside from being
/// signalled, but only from Linux 6.12 on, and an ordinary user's pool has no process namespace.
fn signals_outside(list: &mut Rules, (supervisor, group): (u32, u32)) {
    let is = |number: u32| -> SeccompRule { when(&[arg(0, SeccompCmpOp::Eq, number)]) };
    let negative = |number: u32| 0_u32.wrapping_sub(number);
    for call in [
        libc::SYS_tkill,
        libc::SYS_tgkill,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_tgsigqueueinfo,
        libc::SYS_pidfd_open,
    ] {
        list.insert(call, vec![is(supervisor)]);
    }
    // The last is everybody whom this user may signal.
    list.insert(libc::SYS_kill, vec![is(supervisor), is(negative(group)), is(negative(1))]);
}

/// Unix sockets, where the configuration lists none: no list of paths is held against `connect`, so
/// that the control socket would be within reach of every program. Pairs stay, but for datagrams:
/// one of such a pair can be connected to a path after all.
fn unix_sockets(list: &mut Rules) {
    const KIND: u64 = 0xf;
    let of_kind = |kind: i32| when(&[arg(1, SeccompCmpOp::MaskedEq(KIND), kind.unsigned_abs())]);
    list.insert(
        libc::SYS_socket,
        vec![when(&[arg(0, SeccompCmpOp::Eq, libc::AF_UNIX.unsigned_abs())])],
    );
    list.insert(libc::SYS_socketpair, [libc::SOCK_DGRAM, libc::SOCK_RAW].map(of_kind).into());
}

/// The lane's programs of the kernel.
pub(super) fn stack(around: &Surroundings) -> Result<Stack, BackendError> {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let errno = |number: i32| SeccompAction::Errno(number.unsigned_abs());
    let refused = |list: Rules, number| program(list, errno(number), SeccompAction::Allow);
    let mut no_right = whatever_the_arguments(always_refused());
    let asks =
        |flag: &i32| when(&[arg(0, MaskedEq(u64::from(flag.unsigned_abs())), flag.unsigned_abs())]);
    no_right.insert(libc::SYS_clone, NAMESPACES.iter().map(asks).collect());
    no_right
        .insert(libc::SYS_personality, vec![when(&PERSONALITIES.map(|known| arg(0, Ne, known)))]);
    // Others' limits: a supervisor of the same user could be given so few descriptors or so little
    // CPU time that it ends.
    no_right.insert(libc::SYS_prlimit64, vec![when(&[arg(0, Ne, 0)])]);
    no_right
        .insert(libc::SYS_ioctl, TYPING.iter().map(|code| when(&[arg(1, Eq, *code)])).collect());
    others_turn(&mut no_right);
    if let Some(supervisor) = around.supervisor {
        signals_outside(&mut no_right, supervisor);
    }
    if !around.unix_sockets {
        unix_sockets(&mut no_right);
    }
    let mut no_family = Rules::new();
    no_family.insert(
        libc::SYS_socket,
        vec![when(&FAMILIES.map(|family| arg(0, Ne, family.unsigned_abs())))],
    );
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

    fn stack() -> Stack {
        super::stack(&Surroundings::default()).unwrap()
    }

    #[test]
    fn programs_get_errors_for_what_they_have_no_use_for() {
        let stack = stack();
        for (number, name) in always_refused() {
            assert_eq!(answer(&stack, *number, &[]), Errno(libc::EPERM), "{name}");
        }
        for (number, name) in UNKNOWN {
            assert_eq!(answer(&stack, *number, &[]), Errno(libc::ENOSYS), "{name}");
        }
        for number in [
            libc::SYS_execve,
            libc::SYS_openat,
            libc::SYS_kill,
            libc::SYS_prctl,
            libc::SYS_seccomp,
            libc::SYS_wait4,
        ] {
            assert_eq!(answer(&stack, number, &[]), Allow, "{number}");
        }
    }

    #[test]
    fn arguments_decide_where_a_call_is_good_and_bad() {
        let stack = stack();
        let say = |number, args: &[u64]| answer(&stack, number, args);
        assert_eq!(say(libc::SYS_clone, &[libc::SIGCHLD as u64]), Allow);
        assert_eq!(say(libc::SYS_clone, &[(libc::CLONE_VM | libc::CLONE_THREAD) as u64]), Allow);
        for flag in NAMESPACES {
            assert_eq!(
                say(libc::SYS_clone, &[(flag | libc::SIGCHLD) as u64]),
                Errno(libc::EPERM),
                "{flag:#x}"
            );
        }
        assert_eq!(say(libc::SYS_socket, &[libc::AF_INET6 as u64]), Allow);
        for family in [libc::AF_ALG, libc::AF_VSOCK, libc::AF_PACKET, libc::AF_BLUETOOTH] {
            assert_eq!(
                say(libc::SYS_socket, &[family as u64]),
                Errno(libc::EAFNOSUPPORT),
                "{family}"
            );
        }
        assert_eq!(say(libc::SYS_personality, &[0xffff_ffff]), Allow);
        assert_eq!(
            say(libc::SYS_personality, &[0x0040_0000]),
            Errno(libc::EPERM),
            "READ_IMPLIES_EXEC"
        );
        assert_eq!(say(libc::SYS_prlimit64, &[0]), Allow);
        assert_eq!(say(libc::SYS_prlimit64, &[77]), Errno(libc::EPERM), "another process's limits");
        assert_eq!(say(libc::SYS_ioctl, &[0, 0x5401]), Allow);
        assert_eq!(say(libc::SYS_ioctl, &[0, 0x5412]), Errno(libc::EPERM));
        assert_eq!(
            say(libc::SYS_ioctl, &[0, 0x1_0000_5412]),
            Errno(libc::EPERM),
            "the kernel looks at 32 bits"
        );
    }

    #[test]
    fn only_a_connected_pair_of_unix_sockets_is_made_unless_sockets_are_listed() {
        let listed = super::stack(&Surroundings { unix_sockets: true, supervisor: None }).unwrap();
        let (unix, flags) =
            (libc::AF_UNIX as u64, (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u64);
        for kind in [libc::SOCK_STREAM, libc::SOCK_SEQPACKET, libc::SOCK_DGRAM, libc::SOCK_RAW] {
            for kind in [kind as u64, kind as u64 | flags] {
                assert_eq!(
                    answer(&stack(), libc::SYS_socket, &[unix, kind]),
                    Errno(libc::EPERM),
                    "{kind:#x}"
                );
                assert_eq!(answer(&listed, libc::SYS_socket, &[unix, kind]), Allow, "{kind:#x}");
                assert_eq!(
                    answer(&listed, libc::SYS_socketpair, &[unix, kind]),
                    Allow,
                    "{kind:#x}"
                );
            }
        }
        for (kind, expected) in [
            (libc::SOCK_STREAM, Allow),
            (libc::SOCK_SEQPACKET, Allow),
            (libc::SOCK_DGRAM, Errno(libc::EPERM)),
            (libc::SOCK_RAW, Errno(libc::EPERM)),
        ] {
            assert_eq!(
                answer(&stack(), libc::SYS_socketpair, &[unix, kind as u64 | flags]),
                expected,
                "{kind}"
            );
        }
    }

    #[test]
    fn only_ones_own_turn_is_changed() {
        let say = |call, args: &[u64]| answer(&stack(), call, args);
        for (call, number, kinds) in OTHERS_TURN {
            let [good, also_good] = kinds.unwrap_or([0, 0]);
            let with =
                |kind: u32, who: u64| if number == 0 { vec![who] } else { vec![kind.into(), who] };
            assert_eq!(say(call, &with(good, 0)), Allow, "{call}");
            assert_eq!(say(call, &with(also_good, 0)), Allow, "{call}");
            assert_eq!(say(call, &with(good, 77)), Errno(libc::EPERM), "{call}");
        }
        assert_eq!(say(libc::SYS_setpriority, &[2 /* PRIO_USER */, 0]), Errno(libc::EPERM));
        assert_eq!(say(libc::SYS_ioprio_set, &[3 /* IOPRIO_WHO_USER */, 0]), Errno(libc::EPERM));
    }

    #[test]
    fn the_supervisor_is_not_signalled_by_its_number_nor_with_its_group_or_with_all() {
        let stack = super::stack(&Surroundings { unix_sockets: false, supervisor: Some((77, 70)) })
            .unwrap();
        let say = |call, args: &[u64]| answer(&stack, call, args);
        let number = |pid: i64| pid.cast_unsigned();
        for pid in [77, -70, -1] {
            assert_eq!(say(libc::SYS_kill, &[number(pid)]), Errno(libc::EPERM), "{pid}");
        }
        for pid in [0, 1, 78, -78] {
            assert_eq!(say(libc::SYS_kill, &[number(pid)]), Allow, "{pid}");
        }
        for call in
            [libc::SYS_tkill, libc::SYS_tgkill, libc::SYS_rt_sigqueueinfo, libc::SYS_pidfd_open]
        {
            assert_eq!((say(call, &[77]), say(call, &[78])), (Errno(libc::EPERM), Allow), "{call}");
        }
    }
}
