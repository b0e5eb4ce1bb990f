//! What a dead worker leaves behind.
//!
//! An io worker ends its programs' whole trees itself. When it is killed under one, nobody else would: so the supervisor
//! is a subreaper, whoever loses its worker becomes its child, and a child that is no worker is ended.

use std::fs;

use pool_core::time::Time;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, set_child_subreaper};

use super::verdict::reap;

/// Between two looks while something is left: the killed need time to die, and their children to become ours.
const PAUSE_US: u64 = 10_000;

/// When to look.
#[derive(Default)]
pub(crate) struct Orphans {
    due: Option<Time>,
}

impl Orphans {
    /// Takes in those who lose their parent below this process.
    pub(crate) fn adopt_all() -> std::io::Result<()> {
        set_child_subreaper(Some(rustix::process::getpid()))?;
        Ok(())
    }

    /// A worker has ended.
    pub(crate) const fn look_at(&mut self, now: Time) {
        self.due = Some(now);
    }

    pub(crate) const fn deadline(&self) -> Option<Time> {
        self.due
    }

    /// Ends every child that is no worker; looks again until there is none.
    pub(crate) fn sweep(&mut self, now: Time, is_worker: impl Fn(Pid) -> bool) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        let strangers: Vec<Pid> = children().into_iter().filter(|pid| !is_worker(*pid)).collect();
        self.due = if strangers.is_empty() { None } else { Some(now.plus_us(PAUSE_US)) };
        for pid in strangers {
            end(pid);
        }
    }
}

/// A child of ours that has not been reaped: its number names no other process.
fn end(pid: Pid) {
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if let Ok(None) = reap(&pidfd) {
        tracing::info!(pid = pid.as_raw_nonzero(), "ended a process that a dead worker left behind");
        let _already_gone = pidfd_send_signal(&pidfd, Signal::KILL);
    }
}

fn children() -> Vec<Pid> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_ascii_whitespace().filter_map(|n| Pid::from_raw(n.parse().ok()?)).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    #[expect(clippy::disallowed_methods, reason = "real processes take real time to end")]
    fn children_that_are_no_workers_are_ended_and_reaped() {
        let sleep = || Command::new("/bin/sleep").arg("60").stdin(Stdio::null()).spawn().expect("coreutils");
        let (mut worker, stranger) = (sleep(), sleep());
        let pid = |child: &std::process::Child| Pid::from_raw(child.id().cast_signed()).expect("positive");
        let stranger = pid(&stranger);
        let mut orphans = Orphans::default();
        orphans.look_at(Time(0));
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let mut now = 0;
        while children().contains(&stranger) {
            assert!(std::time::Instant::now() < until, "the stranger is still there");
            now += PAUSE_US;
            // Other tests' children of this process are none of this test's business.
            orphans.sweep(Time(now), |child| child != stranger);
            orphans.look_at(Time(now));
        }
        assert!(worker.try_wait().expect("ours").is_none(), "a worker is left alone");
        worker.kill().expect("it lives");
        worker.wait().expect("ours");
    }
}
