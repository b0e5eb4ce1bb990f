//! Starting a program: the very file that was resolved, in its own session, with nothing but what it is given.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use pool_worker_core::shell::{Command, Program, Refusal, open_listed};
use rustix::fs::Mode;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, pidfd_open, setrlimit};

use crate::lockdown::keep_apart;

/// Seconds of CPU time beyond the budget before the kernel kills a program that ignores SIGXCPU.
const CPU_GRACE_SECS: u64 = 2;

/// What one run may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Per process: the kernel counts no trees.
    pub(crate) cpu: Duration,
    /// Writable private memory, per process.
    pub(crate) memory_bytes: u64,
}

/// A program that runs.
pub(super) struct Child {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
}

/// Why no program runs.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// It is not the file that is on the list.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The system did not start it.
    #[error("{program} could not be started: {reason}")]
    Failed {
        /// As it is listed.
        program: String,
        /// What the system said.
        reason: io::Error,
    },
}

/// The program's file, still in its place.
fn listed_file(program: &Program) -> Result<&OwnedFd, Refusal> {
    let now = open_listed(&program.listed)?;
    drop(now);
    // INVARIANT: the file that runs is the one held open; the look at its place only notices that it was replaced.
    program.file.as_ref().ok_or_else(|| {
        let path = &program.listed.resolved;
        Refusal::Denied(format!("program {path} is not allowed: it was another file when this worker started"))
    })
}

/// Whether the kernel will start an interpreter, which then opens the file once more by its descriptor.
fn is_script(file: &OwnedFd) -> bool {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut start = [0; 2];
    let opened = File::options().read(true).custom_flags(libc::O_CLOEXEC).open(path);
    opened.and_then(|f| f.read_exact_at(&mut start, 0)).is_ok() && start == *b"#!"
}

/// Starts the program.
pub(super) fn start(
    command: &Command<'_>,
    file_bytes: u64,
    limits: Limits,
    apart: Option<BorrowedFd<'_>>,
) -> Result<Child, StartError> {
    let file = listed_file(command.program)?;
    let listed = &command.program.listed;
    let failed = |reason: io::Error| StartError::Failed { program: listed.program.clone(), reason };
    let keep = is_script(file).then(|| file.as_raw_fd());
    let apart = apart.map(|fd| fd.as_raw_fd());
    let mut starter = std::process::Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
    starter
        .arg0(&listed.resolved)
        .args(&command.args)
        .env_clear()
        .envs(&command.env)
        .current_dir(&command.cwd)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    #[expect(unsafe_code, reason = "setting up the new process before it becomes the program")]
    // SAFETY: the closure makes system calls only; it allocates nothing and takes no lock, so that it is safe in the
    // child of a process with several threads.
    unsafe {
        starter.pre_exec(move || become_program(keep, apart, file_bytes, limits));
    }
    let mut child = starter.spawn().map_err(failed)?;
    let pid = Pid::from_child(&child);
    let taken = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = taken else { unreachable!("all three are piped") };
    // Waited for by its id, with its resource usage; the handle does nothing when dropped.
    drop(child);
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Child { pid, pidfd, stdin, stdout, stderr }),
        Err(error) => {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            Err(failed(error.into()))
        }
    }
}

/// In the new process.
fn become_program(keep: Option<RawFd>, apart: Option<RawFd>, file_bytes: u64, limits: Limits) -> io::Result<()> {
    rustix::process::setsid()?;
    apart.map_or(Ok(()), keep_apart)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let cpu_secs = limits.cpu.as_millis().div_ceil(1000).max(1);
    let cpu_secs = u64::try_from(cpu_secs).unwrap_or(u64::MAX - CPU_GRACE_SECS);
    for (resource, soft, hard) in [
        (Resource::Core, 0, 0),
        (Resource::Fsize, file_bytes, file_bytes),
        (Resource::Cpu, cpu_secs, cpu_secs.saturating_add(CPU_GRACE_SECS)),
        (Resource::Data, limits.memory_bytes, limits.memory_bytes),
    ] {
        lower(resource, soft, hard)?;
    }
    if let Some(fd) = keep {
        #[expect(unsafe_code, reason = "a descriptor that an interpreter is to find")]
        // SAFETY: the descriptor is open in the parent throughout, and so in this copy of it.
        let result = unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Sets a limit, or leaves a lower one that is there.
fn lower(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let hard = getrlimit(resource).maximum.map_or(hard, |now| now.min(hard));
    Ok(setrlimit(resource, Rlimit { current: Some(soft.min(hard)), maximum: Some(hard) })?)
}
