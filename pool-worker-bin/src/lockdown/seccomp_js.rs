//! The JavaScript lane's system calls: what an engine needs that has everything open already, and
//! nothing else.
//!
//! Four lists. What is allowed; what libc tries first and does without when the kernel does not
//! know it; what is refused as if it were a matter of rights; and what nobody calls by mistake,
//! which ends the process with the call's name as its last words. All other calls are refused with
//! `EPERM`.

use seccompiler::{BackendError, SeccompAction, SeccompCmpOp};

use super::seccomp::{
    Call, NOBODYS, NOBODYS_ONCE, Rules, Stack, arg, calls, name, program, whatever_the_arguments,
    when, wide_arg,
};

/// With any arguments. The calls of a busy worker come first, for whoever reads.
const ALLOWED: &[Call] = calls![
    // The link: tasks come, results go.
    SYS_recvfrom,
    SYS_sendto,
    // Locks between the two threads, and every wait: timers, an idle watch.
    SYS_futex,
    // The engine's memory: collecting garbage, compiling, growing arrays; and the allocator's.
    SYS_munmap,
    SYS_mprotect,
    SYS_pkey_mprotect,
    SYS_madvise,
    SYS_mremap,
    SYS_brk,
    // Deadlines, CPU budgets, `Date.now`: in user space where the machine has a clock for that,
    // else calls.
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_gettimeofday,
    SYS_clock_nanosleep,
    SYS_nanosleep,
    // Seeds: hash tables, `Math.random`.
    SYS_getrandom,
    // A thread that waits for another's few instructions: the engine's locks, last words.
    SYS_sched_yield,
    // Memory in heartbeats: /proc/self/statm, opened at the start.
    SYS_pread64,
    // Messages on standard error: the engine's own before it dies, a panic's.
    SYS_write,
    SYS_writev,
    // A thread's signals: last words on another stack, `abort`.
    SYS_rt_sigreturn,
    SYS_rt_sigprocmask,
    SYS_sigaltstack,
    SYS_getpid,
    SYS_gettid,
    // A wait that a signal interrupted is taken up again by the kernel.
    SYS_restart_syscall,
    // The end; and a descriptor that is dropped.
    SYS_exit,
    SYS_exit_group,
    SYS_close,
];

/// Only where there are folders for modules: to read them. Whatever is not in them does not exist.
const FOR_MODULES: &[Call] = calls![
    // A module's text, and its package's.
    SYS_read,
    SYS_fstat,
    SYS_lseek,
    // Looking for a module's file: is it there, is it a link, to where.
    SYS_statx,
    SYS_newfstatat,
    SYS_readlinkat,
];
/// The same by older calls, which arm64 never had.
#[cfg(target_arch = "x86_64")]
const FOR_MODULES_ONCE: &[Call] = calls![SYS_stat, SYS_lstat, SYS_readlink,];
#[cfg(not(target_arch = "x86_64"))]
const FOR_MODULES_ONCE: &[Call] = &[];

/// What the C library falls back to where the clock is a call.
#[cfg(target_arch = "x86_64")]
const ALLOWED_ONCE: &[Call] = calls![SYS_time,];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_ONCE: &[Call] = &[];

/// As on a kernel that does not have them: the C library then takes the older way, which another
/// list answers.
const UNKNOWN: &[Call] = calls![
    SYS_clone3,
    SYS_openat2,
    SYS_faccessat2,
    SYS_futex_waitv,
    SYS_epoll_pwait2,
    SYS_rseq,
    SYS_close_range,
    SYS_membarrier,
];

/// Refused like something one has no right to.
const REFUSED: &[Call] = calls![
    // Files: everything is open that will ever be.
    SYS_openat,
    SYS_name_to_handle_at,
    SYS_open_by_handle_at,
    SYS_mkdirat,
    SYS_mknodat,
    SYS_unlinkat,
    SYS_linkat,
    SYS_symlinkat,
    SYS_renameat2,
    SYS_fchmodat,
    SYS_fchownat,
    SYS_truncate,
    SYS_ftruncate,
    SYS_memfd_create,
    // The network: there is none in this lane.
    SYS_socket,
    SYS_socketpair,
    SYS_connect,
    SYS_bind,
    SYS_listen,
    SYS_accept,
    SYS_accept4,
    // Others' processes and limits; one's own are let through by their arguments.
    SYS_kill,
    SYS_tgkill,
    SYS_tkill,
    SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo,
    SYS_pidfd_open,
    SYS_pidfd_getfd,
    SYS_pidfd_send_signal,
    SYS_prlimit64,
    // Memory that is a file's.
    SYS_mmap,
    // What a process may change about itself, and be told: libraries ask for this and that. Both
    // are needed to put the sandbox on, so that this list comes last.
    SYS_prctl,
    SYS_seccomp,
];
/// The same by older calls.
#[cfg(target_arch = "x86_64")]
const REFUSED_ONCE: &[Call] = calls![
    SYS_open,
    SYS_creat,
    SYS_mkdir,
    SYS_rmdir,
    SYS_unlink,
    SYS_link,
    SYS_symlink,
    SYS_rename,
    SYS_chmod,
    SYS_chown,
    SYS_mknod,
    SYS_renameat,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_ONCE: &[Call] = calls![SYS_renameat,];

/// Besides what no lane has use for, nobody calls these by mistake: native code has got loose.
const DEADLY: &[Call] = calls![
    // Another program.
    SYS_execve,
    SYS_execveat,
    // Others' memory.
    SYS_process_madvise,
    // Calls that pass no filter.
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    // Becoming somebody else, or another kind of machine.
    SYS_setuid,
    SYS_setgid,
    SYS_setreuid,
    SYS_setregid,
    SYS_setresuid,
    SYS_setresgid,
    SYS_setgroups,
    SYS_capset,
    SYS_personality,
    // The sandbox itself.
    SYS_landlock_create_ruleset,
    SYS_landlock_add_rule,
    SYS_landlock_restrict_self,
];
#[cfg(target_arch = "x86_64")]
const DEADLY_ONCE: &[Call] = calls![
    // Segments of 16 bits, whose handling by the kernel was broken more than once.
    SYS_modify_ldt,
    SYS_vfork,
    SYS_fork,
];
#[cfg(not(target_arch = "x86_64"))]
const DEADLY_ONCE: &[Call] = &[];

/// Those that are deadly with any arguments.
fn always_deadly() -> impl Iterator<Item = &'static Call> {
    [NOBODYS, NOBODYS_ONCE, DEADLY, DEADLY_ONCE].into_iter().flatten()
}

/// What ends the process, by number and name.
pub(super) fn deadly() -> impl Iterator<Item = (i64, &'static str)> {
    // Of a signal's action only that of the signal that the others are reported with.
    always_deadly().chain(calls![SYS_rt_sigaction,]).map(|call| (call.0, name(call)))
}

/// `own_pid`: as this process knows itself.
pub(super) fn stack(own_pid: u32, modules: bool) -> Result<Stack, BackendError> {
    let errno = |number: i32| SeccompAction::Errno(number.unsigned_abs());
    let refused = |list: Rules, number| program(list, errno(number), SeccompAction::Allow);
    let mut unknown = whatever_the_arguments(UNKNOWN);
    if !modules {
        unknown.extend(whatever_the_arguments(calls![SYS_statx,]));
    }
    // What is let through by its arguments is on the first list with the right ones, and on this
    // one with all others.
    let mut no_right = whatever_the_arguments(REFUSED);
    no_right.extend(whatever_the_arguments(REFUSED_ONCE));
    no_right.extend(all_but_allowed(own_pid, modules));
    let mut deadly = whatever_the_arguments(always_deadly());
    // Whoever handles SIGSYS survives what the list is for.
    deadly.insert(
        libc::SYS_rt_sigaction,
        vec![when(&[arg(0, SeccompCmpOp::Eq, libc::SIGSYS.unsigned_abs())])],
    );
    Ok(vec![
        program(allowed(own_pid, modules), SeccompAction::Allow, errno(libc::EPERM))?,
        refused(unknown, libc::ENOSYS)?,
        program(deadly, SeccompAction::Trap, SeccompAction::Allow)?,
        // INVARIANT: last: it takes away what programs are installed with.
        refused(no_right, libc::EACCES)?,
    ])
}

fn allowed(own_pid: u32, modules: bool) -> Rules {
    let mut rules = whatever_the_arguments(ALLOWED);
    rules.extend(whatever_the_arguments(ALLOWED_ONCE));
    // To install the next programs. The last one takes both away.
    rules.extend(whatever_the_arguments(calls![SYS_seccomp, SYS_prctl,]));
    // The engine's memory is nobody's file.
    rules.insert(libc::SYS_mmap, vec![when(&[arg(4, SeccompCmpOp::Eq, u32::MAX)])]);
    // The watch's own end when nobody listens; `abort` and handlers raise signals in their own
    // thread.
    rules.insert(libc::SYS_kill, vec![when(&[arg(0, SeccompCmpOp::Eq, own_pid)])]);
    rules.insert(libc::SYS_tgkill, vec![when(&[arg(0, SeccompCmpOp::Eq, own_pid)])]);
    // The CPU wall moves along with the tasks; and any limit of one's own may be read.
    let own = arg(0, SeccompCmpOp::Eq, 0);
    rules.insert(
        libc::SYS_prlimit64,
        vec![
            when(&[own.clone(), arg(1, SeccompCmpOp::Eq, libc::RLIMIT_CPU)]),
            when(&[own, wide_arg(2, SeccompCmpOp::Eq, 0)]),
        ],
    );
    // `abort` gives its signal the default action back.
    rules.insert(
        libc::SYS_rt_sigaction,
        vec![when(&[arg(0, SeccompCmpOp::Eq, libc::SIGABRT.unsigned_abs())])],
    );
    if modules {
        rules.extend(whatever_the_arguments(FOR_MODULES));
        rules.extend(whatever_the_arguments(FOR_MODULES_ONCE));
        rules.insert(
            libc::SYS_openat,
            vec![when(&[arg(2, SeccompCmpOp::MaskedEq(u64::from(WRITING)), 0)])],
        );
    }
    rules
}

/// Flags that make `openat` do more than to read what is there.
const WRITING: u32 = (libc::O_ACCMODE
    | libc::O_CREAT
    | libc::O_TRUNC
    | libc::O_APPEND
    | (libc::O_TMPFILE & !libc::O_DIRECTORY))
    .unsigned_abs();

/// The opposite of the rules of [`allowed`], so that what is meant by its arguments is refused with
/// all others.
fn all_but_allowed(own_pid: u32, modules: bool) -> Rules {
    use SeccompCmpOp::{MaskedEq, Ne};
    let mut rules = Rules::new();
    rules.insert(libc::SYS_mmap, vec![when(&[arg(4, Ne, u32::MAX)])]);
    rules.insert(libc::SYS_kill, vec![when(&[arg(0, Ne, own_pid)])]);
    rules.insert(libc::SYS_tgkill, vec![when(&[arg(0, Ne, own_pid)])]);
    let others_limit = when(&[arg(0, Ne, 0)]);
    let changed_limit = when(&[arg(1, Ne, libc::RLIMIT_CPU), wide_arg(2, Ne, 0)]);
    rules.insert(libc::SYS_prlimit64, vec![others_limit, changed_limit]);
    if modules {
        let bits = (0..u32::BITS).map(|bit| 1 << bit).filter(|bit| WRITING & bit != 0);
        let with = |bit: u32| when(&[arg(2, MaskedEq(u64::from(bit)), bit)]);
        rules.insert(libc::SYS_openat, bits.map(with).collect());
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::super::seccomp::tests::Answer::{Allow, Errno, Trap};
    use super::super::seccomp::tests::answer;
    use super::*;

    const OWN: u32 = 77;

    #[test]
    fn what_an_engine_needs_is_allowed_and_what_nobody_knows_is_not() {
        let stack = stack(OWN, false).unwrap();
        for (number, name) in ALLOWED {
            assert_eq!(answer(&stack, *number, &[]), Allow, "{name}");
        }
        for number in [
            libc::SYS_io_setup,
            libc::SYS_shmget,
            libc::SYS_sendmsg,
            libc::SYS_recvmsg,
            libc::SYS_clone,
            9999,
        ] {
            assert_eq!(answer(&stack, number, &[]), Errno(libc::EPERM), "{number}");
        }
    }

    #[test]
    fn every_deadly_call_is_trapped_whatever_else_is_said_of_it() {
        for modules in [false, true] {
            let stack = stack(OWN, modules).unwrap();
            for (number, name) in always_deadly() {
                assert_eq!(answer(&stack, *number, &[]), Trap, "{name}");
            }
            assert_eq!(answer(&stack, libc::SYS_rt_sigaction, &[libc::SIGSYS as u64]), Trap);
            assert_eq!(answer(&stack, libc::SYS_rt_sigaction, &[libc::SIGABRT as u64]), Allow);
            assert_eq!(
                answer(&stack, libc::SYS_rt_sigaction, &[libc::SIGSEGV as u64]),
                Errno(libc::EPERM)
            );
        }
        assert!(deadly().any(|call| call == (libc::SYS_execve, "execve")));
    }

    #[test]
    fn files_and_sockets_are_a_matter_of_rights() {
        let stack = stack(OWN, false).unwrap();
        for number in [
            libc::SYS_openat,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_prctl,
            libc::SYS_seccomp,
        ] {
            assert_eq!(answer(&stack, number, &[]), Errno(libc::EACCES), "{number}");
        }
        for number in [libc::SYS_clone3, libc::SYS_statx, libc::SYS_openat2] {
            assert_eq!(answer(&stack, number, &[]), Errno(libc::ENOSYS), "{number}");
        }
        let file = 5;
        assert_eq!(answer(&stack, libc::SYS_mmap, &[0, 1, 3, 2, file]), Errno(libc::EACCES));
        assert_eq!(answer(&stack, libc::SYS_mmap, &[0, 1, 3, 2, u64::from(u32::MAX)]), Allow);
        assert_eq!(answer(&stack, libc::SYS_mmap, &[0, 1, 3, 2, u64::MAX]), Allow);
    }

    #[test]
    fn only_itself_may_be_signalled_and_only_its_own_limit_moved() {
        let stack = stack(OWN, false).unwrap();
        let everybody = u64::MAX;
        for (pid, said) in
            [(u64::from(OWN), Allow), (1, Errno(libc::EACCES)), (everybody, Errno(libc::EACCES))]
        {
            assert_eq!(answer(&stack, libc::SYS_kill, &[pid, 9]), said);
            assert_eq!(answer(&stack, libc::SYS_tgkill, &[pid, pid, 9]), said);
        }
        let (cpu, data, there) =
            (u64::from(libc::RLIMIT_CPU), u64::from(libc::RLIMIT_DATA), 0x7fff_0000_1000);
        for (args, said) in [
            ([0, cpu, there, 0], Allow),
            ([0, data, 0, there], Allow),
            ([0, data, there, 0], Errno(libc::EACCES)),
            ([1, cpu, there, 0], Errno(libc::EACCES)),
            ([1, cpu, 0, there], Errno(libc::EACCES)),
        ] {
            assert_eq!(answer(&stack, libc::SYS_prlimit64, &args), said, "{args:?}");
        }
    }

    #[test]
    fn modules_are_read_and_nothing_else() {
        let stack = stack(OWN, true).unwrap();
        let open = |flags: i32| answer(&stack, libc::SYS_openat, &[u64::MAX, 0, flags as u64]);
        assert_eq!(open(libc::O_RDONLY | libc::O_CLOEXEC), Allow);
        assert_eq!(open(libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NONBLOCK), Allow);
        for flags in [
            libc::O_WRONLY,
            libc::O_RDWR,
            libc::O_CREAT,
            libc::O_TRUNC,
            libc::O_TMPFILE,
            libc::O_APPEND,
        ] {
            assert_eq!(open(flags), Errno(libc::EACCES), "{flags:#o}");
        }
        assert_eq!(answer(&stack, libc::SYS_statx, &[]), Allow);
        assert_eq!(answer(&stack, libc::SYS_unlinkat, &[]), Errno(libc::EACCES));
    }
}
