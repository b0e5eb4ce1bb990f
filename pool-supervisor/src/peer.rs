//! Who is at the other end of a local socket.
//!
//! Programs of tasks run as the user who owns the sockets, so neither a socket's mode nor the
//! peer's user keeps them out. What tells them apart is the process tree: this process and its
//! workers adopt whoever loses its parent, so a program descends from this process for as long as
//! it lives.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::{PeerCredentials, PeerPidfd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Ancestors that are looked at. Only a program that means to hide has as many.
const MOST_ANCESTORS: usize = 128;
/// Looks at a tree that changes meanwhile.
const LOOKS: usize = 8;

/// Why a connection is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Stranger {
    /// Neither ours nor root's.
    #[error("of user {0}")]
    OtherUser(u32),
    /// A worker, or what a worker has started.
    #[error("of a program of this pool (process {0})")]
    Program(i32),
    /// The process that connected has ended. It may have been a program that left the connection to
    /// another one.
    #[error("of a process that has ended ({0})")]
    Gone(i32),
    /// The kernel does not say.
    #[error("of an unknown process: {0}")]
    Unknown(nix::Error),
}

/// Why the peer may not use the control socket, if so.
pub(crate) fn stranger(stream: &impl AsFd) -> Option<Stranger> {
    let own = nix::unistd::geteuid().as_raw();
    match getsockopt(stream, PeerCredentials) {
        Ok(peer) if peer.uid() != own && peer.uid() != 0 => Some(Stranger::OtherUser(peer.uid())),
        _ => program(stream),
    }
}

/// Why the peer is, or may be, a program of a task.
pub(crate) fn program(stream: &impl AsFd) -> Option<Stranger> {
    let peer = match getsockopt(stream, PeerCredentials) {
        Ok(peer) => peer,
        Err(error) => return Some(Stranger::Unknown(error)),
    };
    let own = std::process::id().cast_signed();
    // Processes outside of our process namespace have the number 0, and ours are all within it.
    // Another user's is none of ours: no program becomes somebody else unless we are root.
    let is_elsewhere = peer.pid() == 0 || peer.pid() == own;
    let own_uid = nix::unistd::geteuid();
    if is_elsewhere || (!own_uid.is_root() && peer.uid() != own_uid.as_raw()) {
        return None;
    }
    // The very process that connected, whoever has its number now.
    let pidfd = match getsockopt(stream, PeerPidfd) {
        Ok(pidfd) => Some(pidfd),
        Err(nix::Error::ESRCH) => return Some(Stranger::Gone(peer.pid())),
        // Older than Linux 6.5: the number has to do.
        Err(_) => None,
    };
    let descends = descends(peer.pid(), own);
    // INVARIANT: asked after the look. The number was the peer's for as long as the peer lived.
    if descends.is_none() || pidfd.is_some_and(|pidfd| has_ended(&pidfd)) {
        return Some(Stranger::Gone(peer.pid()));
    }
    (descends == Some(true)).then_some(Stranger::Program(peer.pid()))
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // A process descriptor is readable from the process's end on.
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&now)) != Ok(0)
}

/// Whether a process is below another. Nothing when it is not there.
fn descends(pid: i32, from: i32) -> Option<bool> {
    'look: for _ in 0..LOOKS {
        let (mut child, mut parent) = (pid, parent_of(pid)?);
        for _ in 0..MOST_ANCESTORS {
            if parent == from || parent == 0 {
                return Some(parent == from);
            }
            let above = parent_of(parent);
            // INVARIANT: asked again, after the parent was looked at. A process whose parent has
            // died has another one, and the number of the dead may be a stranger's.
            if parent_of(child) != Some(parent) {
                continue 'look;
            }
            // It is there and cannot be seen, because `/proc` hides it. Whoever may be signalled is
            // of our user and may be a program that does not want to be seen; another user's is
            // none of ours.
            let Some(above) = above else { return Some(may_be_ours(parent)) };
            (child, parent) = (parent, above);
        }
        return Some(true);
    }
    Some(true)
}

/// 0 of whoever has none that could be seen. Nothing of whoever is not there, or is hidden.
fn parent_of(pid: i32) -> Option<i32> {
    parent_by_pidfd(pid).or_else(|| parent_by_proc(pid))
}

fn may_be_ours(pid: i32) -> bool {
    let Some(Ok(pidfd)) = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
        return true;
    };
    #[expect(unsafe_code, reason = "no library sends the signal 0, which only asks")]
    // SAFETY: numbers, and a null pointer that the call allows.
    let answer =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), 0, 0_usize, 0) };
    answer == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::EPERM)
}

/// From Linux 6.13 on. It hides nobody, while `/proc` may: the unit that comes with the pool has
/// `ProtectProc=invisible`, under which a worker, which is not dumpable, cannot be seen.
fn parent_by_pidfd(pid: i32) -> Option<i32> {
    /// `struct pidfd_info` of the first version.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup: u64,
        pid: u32,
        tgid: u32,
        ppid: u32,
        identity: [u32; 8],
        exit_code: i32,
    }
    const PIDFD_GET_INFO: u32 = 0xC040_FF0B;
    const PIDFD_INFO_PID: u64 = 1;
    let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    let mut info = Info { mask: PIDFD_INFO_PID, ..Info::default() };
    #[expect(unsafe_code, reason = "no library wraps this call")]
    // SAFETY: the kernel writes as many bytes as the call's number says, which the structure has.
    let answer = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO.into(), &raw mut info) };
    // Another's number would be that of a later process.
    let is_told = answer == 0 && info.mask & PIDFD_INFO_PID != 0 && info.pid == pid.cast_unsigned();
    is_told.then_some(info.ppid.cast_signed())
}

fn parent_by_proc(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name is in parentheses and may hold anything, parentheses too.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    use std::io::Read;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    fn listener(folder: &tempfile::TempDir) -> UnixListener {
        UnixListener::bind(folder.path().join("x.sock")).expect("a new name")
    }

    /// A shell below this process that connects, and has the connection for its standard output.
    fn connects(listener: &UnixListener, script: &str) -> (Child, UnixStream) {
        let path = listener.local_addr().expect("bound");
        let address = UnixAddr::new(path.as_pathname().expect("a path")).expect("a short one");
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script]).stdin(Stdio::piped());
        let dial = move || {
            let made = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None)?;
            connect(made.as_raw_fd(), &address)?;
            nix::unistd::dup2_stdout(made)?;
            Ok(())
        };
        #[expect(unsafe_code, reason = "it is the new process that must connect")]
        // SAFETY: three system calls on what was made before the fork.
        unsafe {
            shell.pre_exec(dial);
        }
        let child = shell.spawn().expect("a shell");
        (child, listener.accept().expect("it has connected").0)
    }

    #[test]
    fn what_is_below_this_process_is_a_program_and_the_process_itself_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = listener(&folder);
        let (mut child, stream) = connects(&listener, "read line");
        let pid = child.id().cast_signed();
        assert_eq!(stranger(&stream), Some(Stranger::Program(pid)));
        let own = UnixStream::connect(folder.path().join("x.sock")).expect("it listens");
        assert_eq!(stranger(&listener.accept().expect("connected").0), None);
        drop((own, child.stdin.take()));
        child.wait().expect("it ends");
        assert_eq!(
            stranger(&stream),
            Some(Stranger::Gone(pid)),
            "the connection outlives who made it"
        );
    }

    #[test]
    fn a_connection_that_was_left_to_another_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        // The heir says so when it is there, and stays until its standard input ends.
        let (mut child, mut stream) = connects(&listener(&folder), "{ echo; cat <&3; } 3<&0 &");
        stream.read_exact(&mut [0]).expect("the heir lives");
        let stdin = child.stdin.take();
        child.wait().expect("the first one ends");
        assert_eq!(stranger(&stream), Some(Stranger::Gone(child.id().cast_signed())));
        drop(stdin);
    }

    #[test]
    fn ancestors_are_seen_and_others_are_not() {
        let own = std::process::id().cast_signed();
        let parent = std::os::unix::process::parent_id().cast_signed();
        assert_eq!(descends(own, parent), Some(true));
        assert_eq!(descends(parent, own), Some(false));
        assert_eq!(descends(i32::MAX, own), None);
    }

    #[test]
    fn both_ways_to_ask_for_a_parent_agree() {
        let own = std::process::id().cast_signed();
        for pid in [own, std::os::unix::process::parent_id().cast_signed(), 1] {
            let told = parent_by_pidfd(pid);
            assert!(told.is_none() || told == parent_by_proc(pid), "{pid}: {told:?}");
        }
        assert_eq!((parent_by_pidfd(i32::MAX), parent_by_proc(i32::MAX)), (None, None));
    }
}
