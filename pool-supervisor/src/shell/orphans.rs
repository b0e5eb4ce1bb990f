//! What a dead worker leaves behind.
//!
//! An io worker ends its programs' whole trees itself. When it is killed under one, nobody else
//! would: so the supervisor is a subreaper, whoever loses its worker becomes its child, and a child
//! that is no worker is ended, with all below it.
//!
//! A tree may fork as fast as it is killed, and whatever bounds its number, each process that dies
//! makes room for another. So all are stopped first, which makes room for nobody, and killed when
//! none is left that moves. A turn of the reactor does a bounded part of that.

use std::collections::HashSet;
use std::fs;

use pool_core::time::Time;
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal, set_child_subreaper,
};

use super::verdict::reap;

/// Between two parts of the work: the signalled need time to stop or die, and others their turn.
const PAUSE_US: u64 = 3_000;
/// Processes that one turn looks at or kills; looking at one takes some 30 µs.
const PER_TURN: usize = 128;
/// Passes that find nobody new, after which those are killed too that have not stopped: one that
/// waits for a child it shares its memory with (`vfork`) cannot while that one is stopped.
const STEADY_PASSES: u32 = 4;

/// When to look, and how far the work has come.
#[derive(Default)]
pub(crate) struct Orphans {
    due: Option<Time>,
    pass: Option<Pass>,
    /// Who was found since there was nobody.
    known: HashSet<Process>,
    /// Passes in a row that found nobody new.
    steady: u32,
    /// Those to be killed before the next pass.
    doomed: Vec<Process>,
}

/// One look at all strangers and everybody below them.
#[derive(Default)]
struct Pass {
    ahead: Vec<Pid>,
    seen: Vec<Process>,
    any_moves: bool,
    any_new: bool,
}

/// A process for good: the moment of its start tells it from a later one with the same number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Process {
    pid: Pid,
    started: u64,
}

impl Orphans {
    /// Takes in those who lose their parent below this process.
    pub(crate) fn adopt_all() -> std::io::Result<()> {
        set_child_subreaper(Some(getpid()))?;
        Ok(())
    }

    /// A worker has ended.
    pub(crate) const fn look_at(&mut self, now: Time) {
        self.due = Some(now);
    }

    /// When the next part of the work is to be done; nothing when nobody is left.
    pub(crate) const fn deadline(&self) -> Option<Time> {
        self.due
    }

    /// Does a part of ending every child that is no worker, with all below it.
    pub(crate) fn sweep(&mut self, now: Time, is_worker: impl Fn(Pid) -> bool) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = Some(now.plus_us(PAUSE_US));
        if !self.doomed.is_empty() {
            let rest = self.doomed.len().saturating_sub(PER_TURN);
            self.doomed.drain(rest..).for_each(|process| process.signal(Signal::KILL));
            return;
        }
        let mut pass = self.pass.take().unwrap_or_else(|| Pass::over(is_worker));
        if pass.ahead.is_empty() && pass.seen.is_empty() {
            self.finish();
            return;
        }
        for _ in 0..PER_TURN {
            let Some(pid) = pass.ahead.pop() else { break };
            pass.look(pid, &mut self.known);
        }
        if pass.ahead.is_empty() {
            self.judge(pass);
        } else {
            self.pass = Some(pass);
        }
    }

    fn judge(&mut self, pass: Pass) {
        self.steady = if pass.any_new { 0 } else { self.steady + 1 };
        if !pass.any_moves || self.steady >= STEADY_PASSES {
            self.doomed = pass.seen;
        }
    }

    fn finish(&mut self) {
        if !self.known.is_empty() {
            tracing::info!(processes = self.known.len(), "ended what a dead worker left behind");
        }
        *self = Self::default();
    }
}

impl Pass {
    fn over(is_worker: impl Fn(Pid) -> bool) -> Self {
        let mut ahead = children(getpid());
        ahead.retain(|pid| !is_worker(*pid) && !has_been_reaped(*pid));
        Self { ahead, ..Self::default() }
    }

    /// Stops the process if it moves.
    fn look(&mut self, pid: Pid, known: &mut HashSet<Process>) {
        let Some((process, moves)) = Process::of(pid) else { return };
        if moves {
            self.any_moves = true;
            process.signal(Signal::STOP);
        }
        self.any_new |= known.insert(process);
        self.seen.push(process);
        self.ahead.extend(children(pid));
    }
}

impl Process {
    /// With whether it is neither stopped nor dead.
    fn of(pid: Pid) -> Option<(Self, bool)> {
        Self::read(pid, &fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?)
    }

    /// Of a line of `/proc/PID/stat`. The program's name is in parentheses and may hold anything,
    /// parentheses too.
    fn read(pid: Pid, stat: &str) -> Option<(Self, bool)> {
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let moves = !matches!(fields.next()?, "T" | "t" | "Z" | "X");
        // The 22nd field of all.
        let started = fields.nth(18)?.parse().ok()?;
        Some((Self { pid, started }, moves))
    }

    /// Through a descriptor, and only if that is of the process that was looked at: whoever is no
    /// child of ours is reaped by another, and its number given to a stranger.
    fn signal(self, signal: Signal) {
        let Ok(pidfd) = pidfd_open(self.pid, PidfdFlags::empty()) else { return };
        if Self::of(self.pid).is_some_and(|(now, _)| now == self) {
            let _already_gone = pidfd_send_signal(&pidfd, signal);
        }
    }
}

/// A child of ours that has not been reaped: its number names no other process.
fn has_been_reaped(pid: Pid) -> bool {
    pidfd_open(pid, PidfdFlags::empty()).map_or(true, |pidfd| !matches!(reap(&pidfd), Ok(None)))
}

fn children(of: Pid) -> Vec<Pid> {
    let threads =
        fs::read_dir(format!("/proc/{}/task", of.as_raw_nonzero())).into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_ascii_whitespace()
                .filter_map(|n| Pid::from_raw(n.parse().ok()?))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn pid(child: &Child) -> Pid {
        Pid::from_raw(child.id().cast_signed()).expect("positive")
    }

    /// Other tests' children of this process are none of this test's business.
    #[expect(clippy::disallowed_methods, reason = "real processes take real time to end")]
    fn sweep_until_gone(stranger: Pid) {
        let mut orphans = Orphans::default();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let mut now = 0;
        while children(getpid()).contains(&stranger) || Process::of(stranger).is_some() {
            assert!(std::time::Instant::now() < until, "the stranger is still there");
            orphans.look_at(Time(now));
            orphans.sweep(Time(now), |child| child != stranger);
            now += PAUSE_US;
            std::thread::sleep(std::time::Duration::from_micros(PAUSE_US));
        }
    }

    #[test]
    fn children_that_are_no_workers_are_ended_and_reaped() {
        let sleep = || {
            Command::new("/bin/sleep").arg("60").stdin(Stdio::null()).spawn().expect("coreutils")
        };
        let (mut worker, stranger) = (sleep(), sleep());
        sweep_until_gone(pid(&stranger));
        assert!(worker.try_wait().expect("ours").is_none(), "a worker is left alone");
        worker.kill().expect("it lives");
        worker.wait().expect("ours");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "real processes take real time to end")]
    #[expect(clippy::zombie_processes, reason = "it is reaped by what is tested")]
    fn a_stranger_goes_with_all_below_it() {
        let script = "setsid sh -c 'trap \"\" TERM HUP; sleep 60 & echo $!; wait' & wait";
        let stranger = Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let above = pid(&stranger);
        let mut line = String::new();
        let mut said = std::io::BufReader::new(stranger.stdout.expect("piped"));
        std::io::BufRead::read_line(&mut said, &mut line).expect("its deepest process's number");
        let deepest = Pid::from_raw(line.trim().parse().expect("a number")).expect("positive");
        let before = Process::of(deepest).expect("it lives");
        sweep_until_gone(above);
        // Its zombie is whoever's who adopted it: stopped and dead look the same here, and stopped
        // it is killed with the rest. A signal wakes a stopped process, and it moves once more
        // before it is dead.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while Process::of(deepest).is_some_and(|(now, moves)| now == before.0 && moves) {
            assert!(std::time::Instant::now() < until, "the deepest lives on");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_name_full_of_parentheses_does_not_confuse() {
        let pid = Pid::from_raw(12).expect("positive");
        let stat = "12 (a) S 1 2 (b) T 7 9 3 0 -1 4194560 100 0 0 0 120 30 0 0 20 0 1 0 4711 1 1";
        assert_eq!(Process::read(pid, stat), Some((Process { pid, started: 4711 }, false)));
        assert_eq!(Process::read(pid, "nonsense"), None);
    }
}
