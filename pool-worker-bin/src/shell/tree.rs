//! The end of a program's whole process tree.
//!
//! A process group is not enough: a child that calls `setsid` leaves it. But this process is a subreaper, so whoever
//! loses its parent becomes its child, and while no program runs it has no children. So the tree is gone when there is
//! nothing left to wait for.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpgrp, getpid, kill_process, kill_process_group};

use super::usage::{Usage, reap_any};

/// Longer than this nothing is swept: a tree that forks faster than it can be killed is the supervisor's to end.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two sweeps, for the killed to die.
const PAUSE: Duration = Duration::from_millis(1);

/// Whether anything is left of the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sweep {
    /// Nothing.
    Clean,
    /// Something could not be ended in time.
    LeftBehind,
}

/// Ends everything that descends from this process and adds up what it used.
#[expect(clippy::disallowed_methods, reason = "the kernel tells nobody when the last descendant is gone")]
pub(super) fn end_descendants(usage: &mut Usage) -> Sweep {
    let end = Instant::now() + PATIENCE;
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
        kill_all();
        std::thread::sleep(PAUSE);
    }
}

/// Kills by group where it can: that reaches all members at once, those that are just being forked too.
fn kill_all() {
    let own_group = getpgrp();
    for process in descendants(getpid()) {
        match process.group {
            Some(group) if group != own_group => drop(kill_process_group(group, Signal::KILL)),
            _ => {}
        }
        // A descendant may have gone into this worker's own group.
        let _ = kill_process(process.pid, Signal::KILL);
    }
}

struct Process {
    pid: Pid,
    group: Option<Pid>,
}

/// Everything below a process, by the parents that the kernel names.
fn descendants(root: Pid) -> Vec<Process> {
    let mut children: HashMap<Pid, Vec<Process>> = HashMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    for pid in pids {
        let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())) else {
            continue;
        };
        if let Some((parent, group)) = parent_and_group(&stat) {
            children.entry(parent).or_default().push(Process { pid, group });
        }
    }
    let mut found = children.remove(&root).unwrap_or_default();
    let mut at = 0;
    while at < found.len() {
        found.extend(children.remove(&found[at].pid).unwrap_or_default());
        at += 1;
    }
    found
}

/// Of a line of `/proc/PID/stat`. The program's name is in parentheses and may hold anything, parentheses too.
fn parent_and_group(stat: &str) -> Option<(Pid, Option<Pid>)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let _state = fields.next()?;
    let parent = Pid::from_raw(fields.next()?.parse().ok()?)?;
    let group = Pid::from_raw(fields.next()?.parse().ok()?);
    Some((parent, group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_parentheses_does_not_confuse() {
        let (parent, group) = parent_and_group("12 (a) S 1 2 (b) Z 7 9 3 0").unwrap();
        assert_eq!((parent, group), (Pid::from_raw(7).unwrap(), Pid::from_raw(9)));
        assert!(parent_and_group("nonsense").is_none());
    }

    #[test]
    fn this_process_is_among_its_parents_descendants() {
        let parent = rustix::process::getppid().unwrap();
        assert!(descendants(parent).iter().any(|p| p.pid == getpid()));
    }
}
