//! Starting a worker: a process with a socket on descriptor 3, an environment of a few variables,
//! and namespaces of its own.
//!
//! Owns the moment between `clone` and `execve`. The child shares this process's memory until then
//! (`CLONE_VM`, as `posix_spawn` does it, which knows no namespaces), so that making one does not
//! copy the supervisor's page tables; this thread waits for it (`CLONE_VFORK`). So the child must
//! do nothing but raw system calls: it may not allocate, lock, panic or unwind.
//!
//! Namespaces of users and processes are made here because only a process's maker can give it both.
//! Those of mounts, network and IPC cost several times as much; the worker makes them itself, on
//! its own time.
//!
//! INVARIANT: called on the main thread only. The child asks for SIGKILL at its parent's death
//! (`PR_SET_PDEATHSIG`), and that fires when the *thread* that made it ends.

mod child;

use std::ffi::{CString, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow};
use pool_protocol::lane::Lane;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use child::{Plan, Step};
use pool_os::socket;

/// The child's own stack until `execve`: it makes a few system calls, one frame deep.
const STACK_BYTES: usize = 32 * 1024;

/// Which namespaces the process starts in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Namespaces {
    /// The supervisor's.
    Shared,
    /// A user namespace, whose root it is, and a process namespace: what needs no rights.
    UserAndPid,
    /// A process namespace, and a mount namespace for the `/proc` that belongs to it: what needs
    /// `CAP_SYS_ADMIN` and leaves users as they are.
    PidAndMount,
}

/// What to start.
pub(crate) struct Order<'a> {
    pub(crate) program: &'a Path,
    pub(crate) lane: Lane,
    pub(crate) namespaces: Namespaces,
    /// `cgroup.procs` of the control group that it starts in.
    pub(crate) group: Option<BorrowedFd<'a>>,
    /// Its whole environment, each `NAME=value`.
    pub(crate) environment: &'a [CString],
}

/// Variables of the supervisor that its workers get too: where it is what time, and where the
/// machine's authorities are.
const PASSED_ON: [&str; 3] = ["TZ", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The environment of workers.
pub(crate) fn passed_on() -> Vec<CString> {
    let given = |name: &str| {
        let value = std::env::var_os(name)?;
        CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
    };
    PASSED_ON.into_iter().filter_map(given).collect()
}

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
    Sockets(io::Error),
    #[error(
        "failed to start the worker {path}: {reason}; is `workerPath` right, and may the file be \
         executed?"
    )]
    Exec { path: PathBuf, reason: Errno },
    #[error("failed to make a worker's process: {0}; is the limit of processes reached?")]
    Process(Errno),
    #[error("failed to give a worker namespaces of its own: {step}: {reason}")]
    Namespaces { step: &'static str, reason: Errno },
    #[error("failed to put a worker into its control group: {0}")]
    Group(Errno),
    #[error("failed to give a worker its descriptors: {0}")]
    Descriptors(Errno),
}

/// Starts one worker.
pub(crate) fn spawn(order: &Order<'_>) -> Result<Spawned, SpawnError> {
    let sockets = |e: rustix::io::Errno| SpawnError::Sockets(e.into());
    let (ours, theirs) = UnixStream::pair().map_err(SpawnError::Sockets)?;
    // The worker's own filter forbids it to.
    socket::widen(&theirs).map_err(SpawnError::Sockets)?;
    let (stderr, stderr_in) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(sockets)?;
    rustix::io::ioctl_fionbio(&stderr, true).map_err(sockets)?;
    let exec = |reason| SpawnError::Exec { path: order.program.to_owned(), reason };
    let path =
        CString::new(order.program.as_os_str().as_bytes()).map_err(|_| exec(Errno::EINVAL))?;
    let lane = match order.lane {
        Lane::Js => c"js",
        Lane::Io => c"io",
    };
    let parent = CString::new(std::process::id().to_string()).expect("digits");
    let arguments: [*const libc::c_char; 6] = [
        c"pool-worker".as_ptr(),
        c"--lane".as_ptr(),
        lane.as_ptr(),
        c"--parent".as_ptr(),
        parent.as_ptr(),
        std::ptr::null(),
    ];
    let variables = order.environment.iter().map(|variable| variable.as_ptr());
    let environment: Vec<_> = variables.chain([std::ptr::null()]).collect();
    let map = |id: u32| CString::new(format!("0 {id} 1\n")).expect("digits");
    let maps = [map(rustix::process::geteuid().as_raw()), map(rustix::process::getegid().as_raw())];
    let [users, groups] = &maps;
    let plan = Plan {
        path: &path,
        arguments: &arguments,
        environment: &environment,
        link: theirs.as_raw_fd(),
        stderr: stderr_in.as_raw_fd(),
        group: order.group.map(|fd| fd.as_raw_fd()),
        maps: (order.namespaces == Namespaces::UserAndPid)
            .then_some((users.as_c_str(), groups.as_c_str())),
        own_proc: order.namespaces == Namespaces::PidAndMount,
        trouble: child::Trouble::default(),
    };
    let (pid, pidfd) = clone(&plan, order.namespaces).map_err(|reason| match order.namespaces {
        Namespaces::UserAndPid | Namespaces::PidAndMount if is_refusal(reason) => {
            SpawnError::Namespaces { step: "clone", reason }
        }
        _ => SpawnError::Process(reason),
    })?;
    if let Some((step, reason)) = plan.trouble.get() {
        // It has ended or is about to: nothing of it may stay.
        let _reaped =
            waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(&pidfd)), WaitIdOptions::EXITED);
        return Err(match step {
            Step::Group => SpawnError::Group(reason),
            Step::Users | Step::Mounts => SpawnError::Namespaces { step: step.name(), reason },
            Step::Descriptors => SpawnError::Descriptors(reason),
            Step::Exec => exec(reason),
        });
    }
    Ok(Spawned { pid, pidfd, link: ours, stderr })
}

/// What the kernel answers where namespaces are not allowed, not built in, or used up; anything
/// else is trouble of another kind.
fn is_refusal(error: Errno) -> bool {
    matches!(error, Errno::EPERM | Errno::EACCES | Errno::ENOSPC | Errno::EUSERS | Errno::EINVAL)
}

fn clone(plan: &Plan<'_>, namespaces: Namespaces) -> Result<(Pid, OwnedFd), Errno> {
    let wanted = match namespaces {
        Namespaces::Shared => 0,
        Namespaces::UserAndPid => libc::CLONE_NEWUSER | libc::CLONE_NEWPID,
        Namespaces::PidAndMount => libc::CLONE_NEWPID | libc::CLONE_NEWNS,
    };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD | wanted;
    // In this thread's own frame, which stands still meanwhile.
    let mut stack = MaybeUninit::<Stack>::uninit();
    let mut pidfd: libc::c_int = -1;
    // INVARIANT: no signal is handled in the child before it has the default actions: a handler of
    // this process would run on this process's memory.
    let _quiet = Quiet::all()?;
    #[expect(unsafe_code, reason = "no library makes namespaces in a child that shares memory")]
    // SAFETY: the child runs `child::run` on a stack of its own while this thread waits
    // (CLONE_VFORK), so that the stack, the plan and what it points to outlive its use of them. It
    // allocates nothing, takes no lock and does not unwind.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(1).cast::<c_void>();
        let plan = std::ptr::from_ref(plan).cast_mut().cast::<c_void>();
        libc::clone(child::run, top, flags, plan, &raw mut pidfd)
    };
    if pid == -1 {
        return Err(Errno::last());
    }
    #[expect(unsafe_code, reason = "the kernel has just opened it")]
    // SAFETY: CLONE_PIDFD has put a new descriptor there, which nothing else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok((Pid::from_raw(pid).expect("a process id is positive"), pidfd))
}

/// Aligned as the ABI wants a stack's end to be.
#[repr(align(16))]
struct Stack(#[expect(dead_code, reason = "it is used by address")] [u8; STACK_BYTES]);

/// All signals wait while it lives.
struct Quiet(SigSet);

impl Quiet {
    fn all() -> Result<Self, Errno> {
        SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).map(Self)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        self.0.thread_set_mask().expect("a mask that was in force is valid");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{executable, skip};
    use std::io::{Read, Write};

    /// What a script that stands in for a worker says on its socket.
    fn said(script: &str, namespaces: Namespaces) -> Result<(Spawned, String), SpawnError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("worker");
        executable::write(&path, &format!("#!/bin/sh\n{script}\n"));
        let environment = [c"TZ=Asia/Tokyo".to_owned()];
        let environment = &environment[..];
        let order = Order { program: &path, lane: Lane::Io, namespaces, group: None, environment };
        let mut spawned = spawn(&order)?;
        let mut text = String::new();
        spawned.link.read_to_string(&mut text).expect("it closes its end");
        Ok((spawned, text))
    }

    fn reap(spawned: &Spawned) {
        let fd = std::os::fd::AsFd::as_fd(&spawned.pidfd);
        waitid(WaitId::PidFd(fd), WaitIdOptions::EXITED)
            .expect("it is ours")
            .expect("it has ended");
    }

    #[test]
    fn a_worker_gets_four_descriptors_and_the_environment_of_its_order() {
        let script = "{ ls -l /proc/self/fd | sed -n 's/.*[0-9][0-9]:[0-9][0-9] //p'; tr '\\0' \
            '\\n' < /proc/$$/environ; echo \"args $*\"; } >&3 3>&3";
        let (spawned, text) = said(script, Namespaces::Shared).expect("a shell");
        reap(&spawned);
        assert!(text.contains("0 -> /dev/null"), "{text}");
        assert!(text.contains("2 -> pipe:"), "{text}");
        assert!(text.contains("3 -> socket:"), "{text}");
        assert!(text.contains("args --lane io --parent "), "{text}");
        assert_eq!(text.matches("socket:").count(), 1, "the other end is not for it: {text}");
        let variables: Vec<_> = text.lines().filter(|line| line.contains('=')).collect();
        assert_eq!(variables, ["TZ=Asia/Tokyo"], "{text}");
    }

    #[test]
    fn signals_reach_a_worker_as_if_nobody_had_touched_them() {
        let (spawned, text) =
            said("grep ^Sig /proc/self/status >&3", Namespaces::Shared).expect("a shell");
        reap(&spawned);
        for name in ["SigBlk:", "SigIgn:"] {
            let line =
                text.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel says so");
            let bits = u64::from_str_radix(line.trim(), 16).expect("hexadecimal");
            // 32 and 33 are the C library's own; whoever started this test may have them ignored.
            assert_eq!(bits & !(0b11 << 31), 0, "{text}");
        }
        let own = SigSet::thread_get_mask().expect("ours");
        assert!(
            !own.contains(nix::sys::signal::Signal::SIGTERM),
            "this thread's own mask is as before"
        );
    }

    #[test]
    fn a_file_that_cannot_be_executed_is_told_with_the_systems_reason() {
        let missing = Path::new("/nonexistent/pool-worker");
        for namespaces in [Namespaces::Shared, Namespaces::UserAndPid] {
            let order = Order {
                program: missing,
                lane: Lane::Js,
                namespaces,
                group: None,
                environment: &[],
            };
            match spawn(&order).map(|_| ()) {
                Err(SpawnError::Exec { path, reason: Errno::ENOENT }) => assert_eq!(path, missing),
                Err(error @ SpawnError::Namespaces { .. }) => {
                    skip::partly_skipped(skip::USER_NAMESPACES, &error.to_string());
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn in_namespaces_it_is_root_and_alone() {
        let script =
            "{ id -u; cat /proc/self/uid_map; echo pid $$; grep NSpid: /proc/self/status; } >&3";
        match said(script, Namespaces::UserAndPid) {
            Ok((spawned, text)) => {
                reap(&spawned);
                assert!(text.starts_with("0\n"), "{text}");
                assert!(text.contains("pid 1\n"), "{text}");
                let uid = rustix::process::geteuid().as_raw().to_string();
                let map =
                    text.lines().nth(1).expect("a map").split_whitespace().collect::<Vec<_>>();
                assert_eq!(map, ["0", &uid, "1"], "{text}");
            }
            Err(error @ SpawnError::Namespaces { .. }) => {
                skip::skipped(skip::USER_NAMESPACES, &error.to_string())
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn with_rights_it_has_processes_of_its_own_and_users_as_they_are() {
        let script = "{ echo pid $$; ls /proc | grep -c '^[0-9]'; id -u; } >&3";
        match said(script, Namespaces::PidAndMount) {
            Ok((spawned, text)) => {
                reap(&spawned);
                let lines: Vec<_> = text.lines().collect();
                assert_eq!(lines[0], "pid 1", "{text}");
                assert!(
                    lines[1].parse::<u32>().expect("a count") < 6,
                    "it sees its own processes only: {text}"
                );
                assert!(Path::new("/proc/self/status").exists(), "our own /proc is as before");
                assert!(
                    std::fs::read_dir("/proc").expect("mounted").count() > 50,
                    "our own /proc is as before"
                );
            }
            Err(error @ SpawnError::Namespaces { .. }) => {
                skip::skipped(skip::ADMIN, &error.to_string())
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn the_end_of_a_worker_takes_all_processes_of_its_namespace_along() {
        let script = "setsid sleep 1000 3>&- & echo started >&3; exec 3>&-; sleep 1000";
        match said(script, Namespaces::UserAndPid) {
            Ok((spawned, text)) => {
                assert_eq!(text, "started\n");
                rustix::process::pidfd_send_signal(&spawned.pidfd, rustix::process::Signal::KILL)
                    .expect("it lives");
                reap(&spawned);
                // Its pipe on descriptor 2 is closed by the last of them: there is an end to read.
                let mut rest = Vec::new();
                rustix::io::ioctl_fionbio(&spawned.stderr, false).expect("ours");
                std::fs::File::from(spawned.stderr).read_to_end(&mut rest).expect("all are gone");
            }
            Err(error @ SpawnError::Namespaces { .. }) => {
                skip::skipped(skip::USER_NAMESPACES, &error.to_string())
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_group_that_takes_nobody_is_told() {
        let mut nobody = tempfile::tempfile().expect("a file");
        nobody.write_all(b"").expect("empty");
        let read_only = std::fs::File::open("/dev/null").expect("a device");
        let order = Order {
            program: Path::new("/bin/true"),
            lane: Lane::Js,
            namespaces: Namespaces::Shared,
            group: Some(std::os::fd::AsFd::as_fd(&read_only)),
            environment: &[],
        };
        assert!(matches!(spawn(&order).map(|_| ()), Err(SpawnError::Group(Errno::EBADF))));
    }
}
