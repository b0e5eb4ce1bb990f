//! The end of a program's whole process tree.
//!
//! A process group is not enough: a child that calls `setsid` leaves it. But this process is a
//! subreaper, so whoever loses its parent becomes its child, and while no program runs it has no
//! children. So the tree is gone when there is nothing left to wait for.
//!
//! In a process namespace of its own one call reaches all at once, those that are just being forked
//! too. Elsewhere a tree that forks as fast as it is killed never ends if it is killed one by one:
//! whatever bounds the number of processes, each that dies makes room for another. So all are
//! stopped first, which makes room for nobody, and killed when none is left that moves.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use super::usage::{Usage, reap_any};
use crate::lockdown::is_init;

/// Longer than this nothing is swept: a tree that forks faster than it can be stopped is the
/// supervisor's to end.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two sweeps, for the signalled to stop or die.
const PAUSE: Duration = Duration::from_millis(1);
/// Sweeps that find nobody new, after which those are killed too that have not stopped: one that
/// waits for a child it shares its memory with (`vfork`) cannot while that one is stopped.
const STEADY_SWEEPS: u32 = 8;

/// Whether anything is left of the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sweep {
    /// Nothing.
    Clean,
    /// Something could not be ended in time.
    LeftBehind,
}

/// Ends everything that descends from this process and adds up what it used.
#[expect(
    clippy::disallowed_methods,
    reason = "the kernel tells nobody when the last descendant is gone"
)]
pub(super) fn end_descendants(usage: &mut Usage) -> Sweep {
    let end = Instant::now() + PATIENCE;
    let mut known = HashSet::new();
    let mut steady = 0;
    loop {
        match reap_any() {
            Ok(Some(used)) => {
                usage.add(&used);
                continue;
            }
            // No child is left, and who has no children has no descendants.
            Err(Errno::CHILD) => return Sweep::Clean,
            Ok(None) | Err(_) => {}
        }
        if Instant::now() >= end {
            return Sweep::LeftBehind;
        }
        if is_init() {
            // Everybody but the caller. It fails when there is nobody.
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(-1),
                nix::sys::signal::Signal::SIGKILL,
            );
            std::thread::sleep(PAUSE);
            continue;
        }
        let tree = descendants(getpid());
        let news =
            tree.iter().filter(|process| known.insert((process.pid, process.started))).count();
        steady = if news == 0 { steady + 1 } else { 0 };
        if steady >= STEADY_SWEEPS || tree.iter().all(|process| !process.moves) {
            tree.iter().for_each(|process| process.signal(Signal::KILL));
        } else {
            tree.iter()
                .filter(|process| process.moves)
                .for_each(|process| process.signal(Signal::STOP));
        }
        std::thread::sleep(PAUSE);
    }
}

/// A process as it was when it was looked at. The moment of its start tells it from a later one
/// with the same number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Process {
    pid: Pid,
    parent: Pid,
    started: u64,
    /// It is neither stopped nor dead.
    moves: bool,
}

impl Process {
    fn of(pid: Pid) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        Self::read(pid, &stat)
    }

    /// Of a line of `/proc/PID/stat`. The program's name is in parentheses and may hold anything,
    /// parentheses too.
    fn read(pid: Pid, stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let moves = !matches!(fields.next()?, "T" | "t" | "Z" | "X");
        let parent = Pid::from_raw(fields.next()?.parse().ok()?)?;
        // The 22nd field of all.
        let started = fields.nth(17)?.parse().ok()?;
        Some(Self { pid, parent, started, moves })
    }

    /// Through a descriptor, and only if that is of the process that was looked at: grandchildren
    /// are reaped by others, and their numbers given to strangers.
    fn signal(&self, signal: Signal) {
        let Ok(pidfd) = pidfd_open(self.pid, PidfdFlags::empty()) else { return };
        if Self::of(self.pid).is_some_and(|now| now.started == self.started) {
            let _gone_already = pidfd_send_signal(&pidfd, signal);
        }
    }
}

/// Everything below a process, by the parents that the kernel names.
fn descendants(root: Pid) -> Vec<Process> {
    let mut children: HashMap<Pid, Vec<Process>> = HashMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    for process in pids.filter_map(Process::of) {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = children.remove(&root).unwrap_or_default();
    let mut at = 0;
    while at < found.len() {
        found.extend(children.remove(&found[at].pid).unwrap_or_default());
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_parentheses_does_not_confuse() {
        let pid = Pid::from_raw(12).unwrap();
        let stat = "12 (a) S 1 2 (b) T 7 9 3 0 -1 4194560 100 0 0 0 120 30 0 0 20 0 1 0 4711 1 1";
        let process = Process::read(pid, stat).unwrap();
        assert_eq!(
            process,
            Process { pid, parent: Pid::from_raw(7).unwrap(), started: 4711, moves: false }
        );
        assert!(Process::read(pid, "nonsense").is_none());
    }

    #[test]
    fn this_process_is_among_its_parents_descendants_and_moves() {
        let parent = rustix::process::getppid().unwrap();
        assert!(descendants(parent).iter().any(|p| p.pid == getpid() && p.moves));
    }
}
