//! Starting a worker: `posix_spawn` with a socket pair on descriptor 3, an empty environment and nothing else.
//!
//! INVARIANT: called on the main thread only. The child asks for SIGKILL at its parent's death (`PR_SET_PDEATHSIG`), and that
//! fires when the *thread* that made it ends.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;
use nix::sys::stat::Mode;
use pool_core::settings::Lane;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The worker's end of the socket pair.
const LINK_FD: i32 = 3;

/// A process that exists.
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) link: UnixStream,
    /// What the process writes to descriptor 2.
    pub(crate) stderr: OwnedFd,
}

/// Why there is no process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("failed to make the sockets of a worker: {0}")]
    Sockets(#[source] io::Error),
    #[error("failed to start the worker {path}: {source}; is `workerPath` right, and may the file be executed?")]
    Exec { path: PathBuf, source: nix::Error },
    #[error("failed to watch the worker's process: {0}")]
    Watch(#[source] rustix::io::Errno),
}

/// Starts one worker.
pub(crate) fn spawn(program: &Path, lane: Lane) -> Result<Spawned, SpawnError> {
    let (ours, theirs) = UnixStream::pair().map_err(SpawnError::Sockets)?;
    let (stderr, stderr_in) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| SpawnError::Sockets(e.into()))?;
    rustix::io::ioctl_fionbio(&stderr, true).map_err(|e| SpawnError::Sockets(e.into()))?;
    let exec = |source| SpawnError::Exec { path: program.to_owned(), source };
    let actions = file_actions(&theirs, &stderr_in).map_err(exec)?;
    let attributes = attributes().map_err(exec)?;
    let path = CString::new(program.as_os_str().as_bytes()).map_err(|_| exec(nix::Error::EINVAL))?;
    let lane = match lane {
        Lane::Js => c"js",
        Lane::Io => c"io",
    };
    let parent = CString::new(std::process::id().to_string()).expect("digits");
    let arguments = [c"pool-worker", c"--lane", lane, c"--parent", &parent];
    let environment: [&CString; 0] = [];
    let pid = posix_spawn(&*path, &actions, &attributes, &arguments, &environment).map_err(exec)?;
    let pid = Pid::from_raw(pid.as_raw()).expect("a process id is positive");
    // The child has not been reaped, so the id still names it.
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(SpawnError::Watch)?;
    Ok(Spawned { pid, pidfd, link: ours, stderr })
}

fn file_actions(link: &UnixStream, stderr: &OwnedFd) -> nix::Result<PosixSpawnFileActions> {
    let mut actions = PosixSpawnFileActions::init()?;
    // Every descriptor of ours is close-on-exec; these four are all that the child has. Standard error goes first: its pipe may
    // lie on the link's number, but the link never on 2, which is open in every Rust program.
    actions.add_dup2(stderr.as_raw_fd(), 2)?;
    actions.add_dup2(link.as_raw_fd(), LINK_FD)?;
    actions.add_open(0, c"/dev/null", OFlag::O_RDONLY, Mode::empty())?;
    actions.add_open(1, c"/dev/null", OFlag::O_WRONLY, Mode::empty())?;
    Ok(actions)
}

fn attributes() -> nix::Result<PosixSpawnAttr> {
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF)?;
    attributes.set_sigmask(&SigSet::empty())?;
    attributes.set_sigdefault(&SigSet::all())?;
    Ok(attributes)
}
