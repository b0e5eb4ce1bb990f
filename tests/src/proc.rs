//! What the kernel says of processes.

use std::fs;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// One line of `/proc/PID/stat` that matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// `R`, `S`, `T`, `Z`, …
    pub state: char,
    /// The parent.
    pub parent: i32,
    /// The session.
    pub session: i32,
    /// When it started, in ticks since the machine did: with the id it names a process for good.
    pub started: u64,
}

/// A living process's figures; nothing when there is none.
#[must_use]
pub fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    let numbers: Vec<i64> = fields.map(|f| f.trim().parse().unwrap_or(0)).collect();
    Some(Stat {
        state,
        parent: i32::try_from(*numbers.first()?).ok()?,
        session: i32::try_from(*numbers.get(2)?).ok()?,
        started: u64::try_from(*numbers.get(18)?).ok()?,
    })
}

/// A process for good: numbers are used again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    started: u64,
}

impl Process {
    /// The process that has this number now, zombies too.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, started: stat(pid)?.started })
    }

    /// Whether it is there, and no zombie.
    #[must_use]
    pub fn lives(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.state != 'Z' && stat.started == self.started)
    }
}

/// All living processes below this one, whatever session they are in.
///
/// Between its fork and its exec a process still has its parent's command line, and a program may
/// be in a namespace where it has another number. So a tree of processes is told by who started
/// whom.
#[must_use]
pub fn descendants(ancestor: i32) -> Vec<Process> {
    let mut found = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        let below = children(parent);
        found.extend(
            below.iter().filter_map(|pid| Process::of(*pid)).filter(|process| process.lives()),
        );
        parents.extend(below);
    }
    found
}

/// Whether there is such a process, and it is no zombie.
#[must_use]
pub fn alive(pid: i32) -> bool {
    stat(pid).is_some_and(|s| s.state != 'Z')
}

/// All processes whose parent is this one, zombies too.
#[must_use]
pub fn children(parent: i32) -> Vec<i32> {
    all().into_iter().filter(|pid| stat(*pid).is_some_and(|s| s.parent == parent)).collect()
}

/// All processes.
#[must_use]
pub fn all() -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Its command line, argument by argument.
#[must_use]
pub fn command_line(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes
        .split(|b| *b == 0)
        .filter(|a| !a.is_empty())
        .map(|a| String::from_utf8_lossy(a).into_owned())
        .collect()
}

/// Living processes whose command line names this text. How many they are says little: one that has
/// forked, and not yet executed another program, is there twice.
#[must_use]
pub fn naming(text: &str) -> Vec<i32> {
    let names = |pid: &i32| {
        alive(*pid) && command_line(*pid).iter().any(|argument| argument.contains(text))
    };
    all().into_iter().filter(names).collect()
}

/// The workers that a supervisor started, its children or not.
#[must_use]
pub fn workers_of(supervisor: i32) -> Vec<i32> {
    let marks = ["--parent".to_owned(), supervisor.to_string()];
    all()
        .into_iter()
        .filter(|pid| command_line(*pid).windows(2).any(|pair| pair == marks))
        .collect()
}

/// Processor time that it has used, user's and system's, in milliseconds.
#[must_use]
pub fn cpu_ms(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    // The kernel counts in hundredths of a second.
    Some(10 * (fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?))
}

/// How many descriptors it holds.
#[must_use]
pub fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Its environment as it was at its start.
#[must_use]
pub fn environment(pid: i32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()
}

/// A line of `/proc/PID/status` behind its name.
#[must_use]
pub fn status_field(pid: i32, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// A field of `/proc/PID/status` in kilobytes, such as `VmRSS`.
#[must_use]
pub fn status_kib(pid: i32, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// The soft limit of a line of `/proc/PID/limits`, such as `Max open files`; `None` is unlimited.
///
/// # Panics
/// When there is no such process or line.
#[must_use]
pub fn soft_limit(pid: i32, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).expect("the process lives");
    let line =
        text.lines().find_map(|l| l.strip_prefix(name)).expect("the kernel knows this limit");
    line.split_whitespace().next()?.parse().ok()
}

/// Sends a signal to a process that is known to be ours. Whether it was still there.
///
/// # Panics
/// When the system refuses for another reason than that it is gone.
pub fn signal(pid: i32, signal: Signal) -> bool {
    let Some(id) = Pid::from_raw(pid) else { return false };
    let Ok(fd) = pidfd_open(id, PidfdFlags::empty()) else { return false };
    pidfd_send_signal(&fd, signal).is_ok()
}

/// SIGKILL.
pub fn kill(pid: i32) -> bool {
    signal(pid, Signal::KILL)
}
