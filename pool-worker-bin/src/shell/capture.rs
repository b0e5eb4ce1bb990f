//! A running program's three streams, at once, until it ends.
//!
//! Decides when to stop listening: when the program has ended, whoever still holds its pipes; when
//! it has been told to, and has had its time; when it does not stop writing.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use super::child::Child;
use super::usage::{Exit, Usage, reap, reap_any};
use super::{Stop, Stopped};
use crate::shown::Shown;
use pool_worker_core::shell::Command;

/// Bytes read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Beyond its share, a program may write this many times as much for nothing before it is ended.
const PATIENCE_TIMES: u64 = 16;
/// And at least this much: a small share is no reason to kill a talkative program.
const PATIENCE_BYTES: u64 = 64 * 1024 * 1024;
/// Of one stream, before the other and the task's end are looked at; and the most that a pipe
/// usually holds.
const CHUNKS_PER_TURN: usize = 16;

/// Between two looks at a program that was asked to end: nothing tells when the last of its group
/// is gone, nor when the supervisor is.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// How a run ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The program did.
    Exited(Exit),
    /// It was told to, at that moment.
    Stopped {
        at: Instant,
        /// How it ended within its time; nothing when it did not.
        exit: Option<Exit>,
    },
    /// It did not stop writing.
    TooMuch,
    /// The system gave no answer about it.
    Lost(Errno),
}

/// What a program wrote to one stream.
#[derive(Debug)]
pub(super) struct Stream {
    kept: Vec<u8>,
    max: usize,
    dropped: u64,
}

impl Stream {
    fn new(max: usize) -> Self {
        Self { kept: Vec::new(), max, dropped: 0 }
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = (self.max - self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(&bytes[..room]);
        self.dropped += (bytes.len() - room) as u64;
    }

    fn is_too_much(&self) -> bool {
        self.dropped > (self.max as u64).saturating_mul(PATIENCE_TIMES).max(PATIENCE_BYTES)
    }

    /// All that was kept.
    pub(super) fn into_shown(self) -> Shown {
        if self.dropped > 0 { Shown::of_cut(self.kept) } else { Shown::of(self.kept) }
    }

    /// The first bytes, and whether there were more.
    pub(super) fn start(&self, max: usize) -> (Shown, bool) {
        let len = self.kept.len().min(max);
        let start = self.kept[..len].to_vec();
        let more = len < self.kept.len() || self.dropped > 0;
        (if more { Shown::of_cut(start) } else { Shown::of(start) }, more)
    }
}

/// What a program wrote.
#[derive(Debug)]
pub(super) struct Captured {
    pub(super) stdout: Stream,
    pub(super) stderr: Stream,
}

impl Captured {
    /// Whether some of it was dropped.
    pub(super) fn truncated(&self) -> bool {
        self.stdout.dropped > 0 || self.stderr.dropped > 0
    }
}

/// The pipes of a program, as far as they are open.
struct Pipes<'a> {
    stdin: Option<File>,
    input: &'a [u8],
    outputs: [Option<File>; 2],
    chunk: Vec<u8>,
}

/// Feeds and reads the program until it ends, and kills its process group. What else is left of it
/// is not seen to. When it is told to end, it gets `kill_after` for it.
pub(super) fn capture(
    child: Child,
    command: &Command<'_>,
    kill_after: Duration,
    stopped: &dyn Stopped,
    usage: &mut Usage,
) -> (Ended, Captured) {
    let mut captured = Captured {
        stdout: Stream::new(command.max_output),
        stderr: Stream::new(command.max_output),
    };
    let Child { pid, pidfd, stdin, stdout, stderr } = child;
    let mut pipes = Pipes {
        stdin: Some(File::from(OwnedFd::from(stdin))),
        input: command.stdin.as_bytes(),
        outputs: [Some(File::from(OwnedFd::from(stdout))), Some(File::from(OwnedFd::from(stderr)))],
        chunk: vec![0; CHUNK_BYTES],
    };
    let left = pipes.prepare().and_then(|()| pipes.attend(&pidfd, &mut captured, stopped));
    if matches!(left, Ok(Left::Stopped)) {
        let asked = Asked { pid, pidfd: &pidfd, at: Instant::now(), kill_after };
        let exit = asked.until_gone(&mut pipes, &mut captured, stopped, usage);
        return (Ended::Stopped { at: asked.at, exit }, captured);
    }
    // INVARIANT: before the program is waited for: until then its number is its own, and its
    // group's.
    let _ = kill_process_group(pid, Signal::KILL);
    let ended = match left {
        Ok(Left::Ended) => match reap(pid) {
            Ok(Some((exit, used))) => {
                usage.add(&used);
                Ended::Exited(exit)
            }
            Ok(None) => Ended::Lost(Errno::CHILD),
            Err(error) => Ended::Lost(error),
        },
        Ok(Left::Stopped) => unreachable!("it was returned above"),
        Ok(Left::TooMuch) => Ended::TooMuch,
        Err(error) => Ended::Lost(error),
    };
    (ended, captured)
}

/// Why the program is attended to no longer.
enum Left {
    Ended,
    Stopped,
    TooMuch,
}

/// A program that was asked to end.
struct Asked<'a> {
    pid: Pid,
    pidfd: &'a OwnedFd,
    at: Instant,
    kill_after: Duration,
}

impl Asked<'_> {
    /// Asks its whole process group, and attends to it until all of that is gone or has had its
    /// time. Then kills what is left of the group.
    fn until_gone(
        &self,
        pipes: &mut Pipes<'_>,
        captured: &mut Captured,
        stopped: &dyn Stopped,
        usage: &mut Usage,
    ) -> Option<Exit> {
        if !self.kill_after.is_zero() {
            // One that is stopped could not act on it.
            for signal in [Signal::TERM, Signal::CONT] {
                let _gone_already = kill_process_group(self.pid, signal);
            }
        }
        let mut exit = None;
        while exit.is_none() && self.has_time(stopped) {
            let Ok(ended) = pipes.wait_a_moment(Some(self.pidfd)) else { break };
            pipes.feed();
            pipes.drain(captured);
            if ended && let Ok(Some((how, used))) = reap(self.pid) {
                usage.add(&used);
                exit = Some(how);
            }
        }
        if exit.is_none() {
            // INVARIANT: it is not waited for yet, so its number is its own, and its group's.
            let _ = kill_process_group(self.pid, Signal::KILL);
            // What it had printed by now is in the pipes, also where it got no time at all.
            pipes.drain(captured);
            return None;
        }
        while self.has_time(stopped) && self.group_lives(usage) {
            if pipes.wait_a_moment(None).is_err() {
                break;
            }
            pipes.drain(captured);
        }
        pipes.drain(captured);
        exit
    }

    fn has_time(&self, stopped: &dyn Stopped) -> bool {
        self.at.elapsed() < self.kill_after && stopped.is_stopped() != Some(Stop::AtOnce)
    }

    /// Whether any process is left in its group. A number that was given to another group by now
    /// makes for a longer wait and for nothing else.
    fn group_lives(&self, usage: &mut Usage) -> bool {
        while let Ok(Some(used)) = reap_any() {
            usage.add(&used);
        }
        test_kill_process_group(self.pid).is_ok()
    }
}

impl Pipes<'_> {
    fn prepare(&mut self) -> Result<(), Errno> {
        if self.input.is_empty() {
            self.stdin = None;
        }
        for pipe in self.stdin.iter().chain(self.outputs.iter().flatten()) {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(())
    }

    fn attend(
        &mut self,
        pidfd: &OwnedFd,
        captured: &mut Captured,
        stopped: &dyn Stopped,
    ) -> Result<Left, Errno> {
        loop {
            // INVARIANT: asked before the pipes are read: what it wrote last is in them by now.
            let has_ended = self.wait(pidfd, stopped)?;
            if stopped.is_stopped().is_some() {
                return Ok(Left::Stopped);
            }
            self.feed();
            self.drain(captured);
            if captured.stdout.is_too_much() || captured.stderr.is_too_much() {
                return Ok(Left::TooMuch);
            }
            if has_ended {
                return Ok(Left::Ended);
            }
        }
    }

    /// Until something can be read or written, the program has ended, or it is to be. True when it
    /// has.
    fn wait(&self, pidfd: &OwnedFd, stopped: &dyn Stopped) -> Result<bool, Errno> {
        let wake = stopped.wake();
        let mut fds =
            vec![PollFd::new(pidfd, PollFlags::IN), PollFd::from_borrowed_fd(wake, PollFlags::IN)];
        fds.extend(self.stdin.iter().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
        fds.extend(self.outputs.iter().flatten().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => Ok(!fds[0].revents().is_empty()),
            Err(error) => Err(error),
        }
    }

    /// As [`Self::wait`], but for no longer than [`MOMENT`].
    fn wait_a_moment(&self, pidfd: Option<&OwnedFd>) -> Result<bool, Errno> {
        let mut fds: Vec<_> = pidfd.iter().map(|fd| PollFd::new(*fd, PollFlags::IN)).collect();
        fds.extend(self.stdin.iter().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
        fds.extend(self.outputs.iter().flatten().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        match poll(&mut fds, Some(&MOMENT)) {
            Ok(_) | Err(Errno::INTR) => Ok(pidfd.is_some() && !fds[0].revents().is_empty()),
            Err(error) => Err(error),
        }
    }

    fn feed(&mut self) {
        let Some(mut pipe) = self.stdin.as_ref() else {
            return;
        };
        loop {
            match pipe.write(self.input) {
                Ok(n) => self.input = &self.input[n..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // It does not read on: no concern of ours.
                Err(_) => break,
            }
            if self.input.is_empty() {
                break;
            }
        }
        self.stdin = None;
    }

    fn drain(&mut self, captured: &mut Captured) {
        let streams = [&mut captured.stdout, &mut captured.stderr];
        for (output, stream) in self.outputs.iter_mut().zip(streams) {
            for _ in 0..CHUNKS_PER_TURN {
                let Some(mut pipe) = output.as_ref() else {
                    break;
                };
                match pipe.read(&mut self.chunk) {
                    Ok(n) if n > 0 => stream.take(&self.chunk[..n]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Ok(_) | Err(_) => *output = None,
                }
            }
        }
    }
}
