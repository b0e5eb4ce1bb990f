//! CPU time of the pool's processes, read from the kernel's own books.

use pool_protocol::control::{ControlRequest, WorkerRow};
use pool_supervisor::client::{ClientError, Connection, Reply};

/// `utime` and `stime` count in these; the kernel has told user space 100 a second on every architecture since 2.6.
const TICKS_A_SECOND: f64 = 100.0;

/// CPU seconds since the processes' start.
#[derive(Clone, Copy, PartialEq, Debug, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuSeconds {
    /// Of the supervisor.
    pub supervisor: f64,
    /// Of all living workers.
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
        let workers = workers(connection)?.iter().filter_map(|worker| of_process(worker.pid)).sum();
        Ok(Self {
            supervisor: of_process(connection.welcome().pid).unwrap_or_default(),
            workers,
            client: of_process(std::process::id()).unwrap_or_default(),
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

/// CPU seconds of a process with all its threads; nothing if it is gone.
#[must_use]
pub fn of_process(pid: u32) -> Option<f64> {
    from_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name, which stands second and in parentheses, may hold blanks and parentheses of its own.
fn from_stat(stat: &str) -> Option<f64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut ticks = after_name.split_ascii_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some((user + system) as f64 / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 120 30 0 0 20 0 1 0 5 1 1";
        assert_eq!(from_stat(stat), Some(1.5));
        assert_eq!(from_stat("7 (a"), None);
        assert!(of_process(std::process::id()).is_some());
    }
}
