//! Attacks that are one system call.
#![expect(unsafe_code, reason = "system calls that no safe wrapper would make")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libc::{c_int, c_long};
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use pool_protocol::probe::{Attack, message_queue};
use pool_protocol::worker::ProbeReport;

use super::report::{judge, stopped, succeeded};

/// Above all numbers of the ordinary table.
const X32_BIT: c_long = 0x4000_0000;
/// No such flag of `kexec_load`.
const KEXEC_UNKNOWN_FLAG: i64 = 0x8000;
/// `setpriority` knows 0 to 2.
const NO_SUCH_KIND: i64 = 7;
/// `-1` as `*at` calls take it for the working folder.
const HERE: i64 = libc::AT_FDCWD as i64;

/// A call whose arguments are numbers and null pointers.
struct Plain {
    what: String,
    number: c_long,
    args: [i64; 6],
    /// Errors that mean that there is nobody to be reached.
    also: &'static [Errno],
}

/// The attacks of this kind; nothing for the others.
pub(super) fn plain(attack: Attack, supervisor: u32) -> Option<ProbeReport> {
    let Plain { what, number, args: [a, b, c, d, e, f], also } =
        described(attack, i64::from(supervisor))?;
    // SAFETY: every pointer is null and every descriptor is none, so that the kernel reads and
    // writes no memory of this process; what the calls would change without an address is named in
    // `described`, and is this process's alone.
    let answer = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    Some(judge(&what, Errno::result(answer), also))
}

fn described(attack: Attack, supervisor: i64) -> Option<Plain> {
    let gone: &[Errno] = &[Errno::ESRCH];
    let plain = |what: &str, number, args| Plain { what: what.to_owned(), number, args, also: &[] };
    let at_supervisor = |what: String, number, args| Plain { what, number, args, also: gone };
    Some(match attack {
        // With nothing to set it only asks whether it could.
        Attack::SetClock => plain("settimeofday(NULL)", libc::SYS_settimeofday, [0; 6]),
        Attack::SignalSupervisor => at_supervisor(
            format!("kill({supervisor}, 0)"),
            libc::SYS_kill,
            [supervisor, 0, 0, 0, 0, 0],
        ),
        Attack::SignalThread => {
            let args = [supervisor, supervisor, 0, 0, 0, 0];
            at_supervisor(format!("tgkill({supervisor}, 0)"), libc::SYS_tgkill, args)
        }
        Attack::PidfdSupervisor => at_supervisor(
            format!("pidfd_open({supervisor})"),
            libc::SYS_pidfd_open,
            [supervisor, 0, 0, 0, 0, 0],
        ),
        // Of a process that it does not trace, which the kernel says only after it has agreed to
        // look.
        Attack::Ptrace => {
            let args = [i64::from(libc::PTRACE_PEEKDATA), supervisor, 0, 0, 0, 0];
            plain("ptrace(PTRACE_PEEKDATA)", libc::SYS_ptrace, args)
        }
        Attack::ProcessVmReadv => {
            let args = [supervisor, 0, 1, 0, 1, 0];
            plain(&format!("process_vm_readv({supervisor})"), libc::SYS_process_vm_readv, args)
        }
        Attack::PrlimitSupervisor => {
            let args = [supervisor, i64::from(libc::RLIMIT_NOFILE), 0, 0, 0, 0];
            at_supervisor(format!("prlimit({supervisor})"), libc::SYS_prlimit64, args)
        }
        // No such kind of number: refused in the end, by whoever looks at it.
        Attack::ReniceSupervisor => {
            let args = [NO_SUCH_KIND, supervisor, 19, 0, 0, 0];
            at_supervisor(format!("setpriority({supervisor})"), libc::SYS_setpriority, args)
        }
        Attack::RescheduleSupervisor => {
            let args = [supervisor, i64::from(libc::SCHED_IDLE), 0, 0, 0, 0];
            at_supervisor(
                format!("sched_setscheduler({supervisor})"),
                libc::SYS_sched_setscheduler,
                args,
            )
        }
        Attack::PinSupervisor => {
            let args = [supervisor, 8, 0, 0, 0, 0];
            at_supervisor(
                format!("sched_setaffinity({supervisor})"),
                libc::SYS_sched_setaffinity,
                args,
            )
        }
        Attack::Execve => plain("execve(NULL)", libc::SYS_execve, [0; 6]),
        Attack::Execveat => plain("execveat(NULL)", libc::SYS_execveat, [HERE, 0, 0, 0, 0, 0]),
        Attack::Bpf => plain("bpf(BPF_PROG_LOAD)", libc::SYS_bpf, [5, 0, 0, 0, 0, 0]),
        Attack::Mount => plain("mount(NULL)", libc::SYS_mount, [0; 6]),
        Attack::UnshareUser => plain(
            "unshare(CLONE_NEWUSER)",
            libc::SYS_unshare,
            [i64::from(libc::CLONE_NEWUSER), 0, 0, 0, 0, 0],
        ),
        Attack::Setns => plain("setns(-1)", libc::SYS_setns, [-1, 0, 0, 0, 0, 0]),
        // KEYCTL_GET_KEYRING_ID of KEY_SPEC_USER_KEYRING, without making one.
        Attack::Keyctl => {
            plain("keyctl(KEYCTL_GET_KEYRING_ID)", libc::SYS_keyctl, [0, -4, 0, 0, 0, 0])
        }
        Attack::IoUring => plain("io_uring_setup(1)", libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0]),
        // Without this flag no segments would mean: forget the kernel that is loaded.
        Attack::Kexec => {
            plain("kexec_load", libc::SYS_kexec_load, [0, 0, 0, KEXEC_UNKNOWN_FLAG, 0, 0])
        }
        Attack::InitModule => plain("init_module(NULL)", libc::SYS_init_module, [0; 6]),
        // A descriptor that nothing is registered with. 1: faults of the user's own only.
        Attack::Userfaultfd => plain("userfaultfd", libc::SYS_userfaultfd, [1, 0, 0, 0, 0, 0]),
        Attack::Openat2 => plain("openat2(NULL)", libc::SYS_openat2, [HERE, 0, 0, 0, 0, 0]),
        Attack::SocketInet => socket("socket(AF_INET)", libc::AF_INET),
        Attack::SocketUnix => socket("socket(AF_UNIX)", libc::AF_UNIX),
        // Without IPC_CREAT: only if it is there.
        Attack::MessageQueue => {
            let key = i64::from(message_queue(u32::try_from(supervisor).ok()?));
            let args = [key, 0, 0, 0, 0, 0];
            Plain {
                what: format!("msgget({key:#x})"),
                number: libc::SYS_msgget,
                args,
                also: &[Errno::ENOENT],
            }
        }
        Attack::X32Call => plain("getpid by its x32 number", X32_BIT | libc::SYS_getpid, [0; 6]),
        _ => return None,
    })
}

fn socket(what: &str, family: c_int) -> Plain {
    let args = [i64::from(family), i64::from(libc::SOCK_STREAM), 0, 0, 0, 0];
    Plain { what: what.to_owned(), number: libc::SYS_socket, args, also: &[] }
}

/// An empty file, which could not be run even if it were let.
pub(super) fn memfd_exec() -> ProbeReport {
    // SAFETY: the name is a string that ends.
    let made = unsafe { libc::memfd_create(c"probe".as_ptr(), libc::MFD_CLOEXEC) };
    let file = match Errno::result(made) {
        // SAFETY: just made, and nobody else's.
        Ok(fd) => unsafe { OwnedFd::from_raw_fd(fd) },
        Err(_) => return judge("memfd_create", Errno::result(made), &[]),
    };
    let path = c"".as_ptr();
    // SAFETY: the path is a string that ends; the lists may be null, and an empty file is never
    // run.
    let answer = unsafe {
        libc::syscall(libc::SYS_execveat, file.as_raw_fd(), path, 0, 0, libc::AT_EMPTY_PATH)
    };
    judge("execveat(memfd)", Errno::result(answer), &[])
}

/// A counter of this process's own time, outside of the kernel: what the strictest ordinary setting
/// still allows.
pub(super) fn perf_event() -> ProbeReport {
    // `perf_event_attr` of the first version: type 1 (software), its size, config 0 (CPU clock),
    // and the bits 5 and 6 (neither the kernel nor a hypervisor).
    let mut attr = [0u64; 8];
    attr[0] = 1 | (64 << 32);
    attr[5] = (1 << 5) | (1 << 6);
    // SAFETY: the kernel reads the 64 bytes that the structure says it has.
    let answer = unsafe { libc::syscall(libc::SYS_perf_event_open, attr.as_ptr(), 0, -1, -1, 0) };
    judge("perf_event_open", Errno::result(answer), &[])
}

/// `getpid` by the gate of 32-bit programs.
#[cfg(target_arch = "x86_64")]
pub(super) fn i386() -> ProbeReport {
    let answer: i32;
    // SAFETY: `getpid` (20 in that table) takes no arguments and touches no memory.
    unsafe { core::arch::asm!("int 0x80", inlateout("eax") 20i32 => answer, options(nostack)) };
    let result = if answer < 0 { Err(Errno::from_raw(-answer)) } else { Ok(answer) };
    judge("int 0x80: getpid", result, &[])
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn i386() -> ProbeReport {
    unreachable!("not an attack on this machine")
}

extern "C" fn nothing(_signal: c_int) {}

/// A forbidden call whose signal is caught: it must not have been done, whatever the process does
/// afterwards.
pub(super) fn handle_sigsys() -> anyhow::Result<ProbeReport> {
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    let caught = unsafe { sigaction(Signal::SIGSYS, &action) };
    // SAFETY: as in `plain`.
    let answer = unsafe { libc::syscall(libc::SYS_execve, 0, 0, 0) };
    let how = if caught.is_ok() { "with its signal caught" } else { "its signal cannot be caught" };
    Ok(match Errno::result(answer) {
        Err(Errno::EFAULT) => succeeded(format!("execve(NULL), {how}: not refused")),
        Err(errno) => stopped(format!("execve(NULL), {how}: {errno:?}")),
        Ok(_) => stopped(format!("execve(NULL), {how}: not done")),
    })
}
