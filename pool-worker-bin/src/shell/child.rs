//! Starting a program: the file that was looked at, under the name that the list gives it, in its
//! own session, with nothing but what it is given.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use pool_worker_core::shell::{Command, Refusal};
use rustix::fs::Mode;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, pidfd_open, setrlimit,
};

use super::image::Image;
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
        /// What the system said, and of what.
        reason: String,
    },
}

/// What holds for every program of this worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// The largest file that it may write.
    pub(super) file_bytes: u64,
    /// Permissions that files of its making do not get.
    pub(super) umask: u32,
}

/// Starts the program.
pub(super) fn start(
    command: &Command<'_>,
    terms: Terms,
    limits: Limits,
    apart: Option<BorrowedFd<'_>>,
) -> Result<Child, StartError> {
    let image = Image::of(command)?;
    let program = &command.program.listed.program;
    let failed = |reason: String| StartError::Failed { program: program.clone(), reason };
    let apart = apart.map(|fd| fd.as_raw_fd());
    let mut starter = std::process::Command::new(program);
    starter
        .current_dir(&command.cwd)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let form = image.form().clone();
    #[expect(unsafe_code, reason = "setting up the new process and becoming the program")]
    // SAFETY: the closure makes system calls only; it allocates nothing and takes no lock, so that
    // it is safe in the child of a process with several threads.
    unsafe {
        starter.pre_exec(move || {
            prepare(apart, terms, limits)?;
            Err(image.become_it())
        });
    }
    let mut child = starter.spawn().map_err(|error| failed(form.explain(&error, &command.cwd)))?;
    let pid = Pid::from_child(&child);
    let taken = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = taken else {
        unreachable!("all three are piped")
    };
    // Waited for by its id, with its resource usage; the handle does nothing when dropped.
    drop(child);
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Child { pid, pidfd, stdin, stdout, stderr }),
        Err(error) => {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            Err(failed(io::Error::from(error).to_string()))
        }
    }
}

/// In the new process, before it becomes the program.
fn prepare(apart: Option<i32>, terms: Terms, limits: Limits) -> io::Result<()> {
    rustix::process::setsid()?;
    apart.map_or(Ok(()), keep_apart)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::process::umask(Mode::from_raw_mode(terms.umask));
    let cpu_secs = limits.cpu.as_millis().div_ceil(1000).max(1);
    let cpu_secs = u64::try_from(cpu_secs).unwrap_or(u64::MAX - CPU_GRACE_SECS);
    for (resource, soft, hard) in [
        (Resource::Core, 0, 0),
        (Resource::Fsize, terms.file_bytes, terms.file_bytes),
        (Resource::Cpu, cpu_secs, cpu_secs.saturating_add(CPU_GRACE_SECS)),
        (Resource::Data, limits.memory_bytes, limits.memory_bytes),
    ] {
        lower(resource, soft, hard)?;
    }
    Ok(())
}

/// Sets a limit, or leaves a lower one that is there.
fn lower(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let hard = getrlimit(resource).maximum.map_or(hard, |now| now.min(hard));
    Ok(setrlimit(resource, Rlimit { current: Some(soft.min(hard)), maximum: Some(hard) })?)
}
