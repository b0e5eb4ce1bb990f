//! CPU time of the pool's processes, read from the kernel's own books.

use pool_protocol::control::{ControlRequest, WorkerRow};
use pool_supervisor::client::{ClientError, Connection, Reply};

/// `utime` and `stime` count in these; the kernel has told user space 100 a second on every
/// architecture since 2.6.
const TICKS_A_SECOND: f64 = 100.0;

/// CPU seconds since the processes' start.
#[derive(Clone, Copy, PartialEq, Debug, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuSeconds {
    /// Of the supervisor.
    pub supervisor: f64,
    /// Of all workers and their programs, those that have ended too.
    pub workers: f64,
    /// Of this process.
    pub client: f64,
}

impl CpuSeconds {
    /// What they are now.
    ///
    /// # Errors
    /// When the supervisor does not say who its workers are.
    pub fn now(connection: &mut Connection) -> Result<Self, ClientError> {
        let living: f64 = workers(connection)?
            .iter()
            .filter_map(|w| of_process(w.pid))
            .map(|cpu| cpu.own + cpu.ended)
            .sum();
        let supervisor = of_process(connection.welcome().pid).unwrap_or_default();
        Ok(Self {
            supervisor: supervisor.own,
            workers: living + supervisor.ended,
            client: of_this_process(),
        })
    }

    /// What was used since.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            supervisor: self.supervisor - before.supervisor,
            workers: self.workers - before.workers,
            client: self.client - before.client,
        }
    }
}

/// The living workers.
///
/// # Errors
/// When the supervisor does not answer.
pub fn workers(connection: &mut Connection) -> Result<Vec<WorkerRow>, ClientError> {
    match connection.control(&ControlRequest::Workers { dead: false })? {
        Reply::Body(body) => serde_json::from_slice(&body).map_err(ClientError::Reply),
        Reply::Outcome(_) => Ok(Vec::new()),
    }
}

/// CPU seconds of a process with all its threads.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Cpu {
    /// Its own.
    pub own: f64,
    /// Those of its children that have ended, and of theirs.
    pub ended: f64,
}

/// Of a process; nothing if it is gone.
#[must_use]
pub fn of_process(pid: u32) -> Option<Cpu> {
    from_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// CPU seconds of this process.
#[must_use]
pub fn of_this_process() -> f64 {
    of_process(std::process::id()).unwrap_or_default().own
}

/// Nanoseconds that a process's living threads have run: finer than ticks, of which an idle process
/// may use none in a minute.
#[must_use]
pub fn nanoseconds_of(pid: u32) -> Option<u64> {
    let mut sum = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        // One that ended meanwhile is as if it had been asked later.
        let Ok(text) = std::fs::read_to_string(thread.ok()?.path().join("schedstat")) else {
            continue;
        };
        sum += from_schedstat(&text)?;
    }
    Some(sum)
}

/// Nanoseconds that a process's first thread has run: in a supervisor the one that does the work,
/// while others may end, whose time goes with them.
#[must_use]
pub fn nanoseconds_of_first_thread(pid: u32) -> Option<u64> {
    from_schedstat(&std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?)
}

/// The first of three numbers is the time on a processor.
fn from_schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// The name, which stands second and in parentheses, may hold blanks and parentheses of its own.
fn from_stat(stat: &str) -> Option<Cpu> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut ticks =
        after_name.split_ascii_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    let mut both = || Some((ticks.next()? + ticks.next()?) as f64 / TICKS_A_SECOND);
    Some(Cpu { own: both()?, ended: both()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 120 30 200 50 20 0 1 0 5 1 1";
        assert_eq!(from_stat(stat), Some(Cpu { own: 1.5, ended: 2.5 }));
        assert_eq!(from_stat("7 (a"), None);
        assert!(of_process(std::process::id()).is_some());
    }

    #[test]
    fn a_thread_has_run_for_the_first_of_its_three_numbers() {
        assert_eq!(from_schedstat("123456 789 42\n"), Some(123_456));
        assert_eq!(from_schedstat(""), None);
        let own = std::process::id();
        assert!(
            nanoseconds_of(own).is_some_and(|ns| ns > 0)
                && nanoseconds_of_first_thread(own).is_some_and(|ns| ns > 0)
        );
    }
}
