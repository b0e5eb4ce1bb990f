//! Tasks of which some spin for ever: what their timeouts cost the others.
//!
//! The same tasks run twice on the same pool, once without the spinners. A spinner takes its
//! timeout on one worker, which is then replaced; what the whole may take beyond that is
//! [`ALLOWANCE`].

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use pool_protocol::outcome::ErrorCode;
use pool_protocol::task::{self, Task};
use pool_supervisor::client::{Connection, Incoming, SubmitOptions};
use serde::Serialize;
use serde_json::json;

/// Times the least that the spinners' timeouts can take.
const ALLOWANCE: f64 = 1.3;

/// What is run.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// All tasks, at most 4 billion.
    pub tasks: u64,
    /// One in so many spins.
    pub one_in: u64,
    /// A spinner's timeout.
    pub timeout: Duration,
    /// On so many workers.
    pub workers: u32,
}

/// How it went.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spun {
    /// Tasks that ended with their result.
    pub succeeded: u64,
    /// Spinners, each ended by its timeout.
    pub timed_out: u64,
    /// The tasks without the spinners.
    pub plain_seconds: f64,
    /// All of them.
    pub seconds: f64,
    /// The least that the timeouts take, one after the other on each worker.
    pub least_seconds: f64,
    /// What `seconds` must be less than.
    pub bound_seconds: f64,
}

impl Spun {
    /// Whether the whole took less than its bound.
    #[must_use]
    pub fn is_within(&self) -> bool {
        self.seconds < self.bound_seconds
    }

    /// What the spinners took beyond the plain run, in times of the least; below [`ALLOWANCE`] is
    /// within.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        (self.seconds - self.plain_seconds) / self.least_seconds
    }
}

impl Mix {
    fn spins(&self, number: u64) -> bool {
        number % self.one_in == self.one_in / 2
    }

    fn spinners(&self) -> u64 {
        (0..self.tasks).filter(|n| self.spins(*n)).count() as u64
    }

    fn task(&self, number: u64) -> Task {
        let task = if self.spins(number) {
            let timeout = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
            json!({
                "type": "execute-function",
                "fn": "()=>{for(;;);}",
                "args": [],
                "timeout": timeout,
            })
        } else {
            json!({"type": "execute-function", "fn": "n=>n+1", "args": [number]})
        };
        task::parse(task.to_string().as_bytes()).expect("the task is written here")
    }

    /// Runs the mix without its spinners, then with them.
    ///
    /// # Errors
    /// When the connection is lost, or a task ends otherwise than it must.
    pub fn measure(&self, connection: &mut Connection) -> anyhow::Result<Spun> {
        let plain = |number: &u64| !self.spins(*number);
        // Compiled code and learned credit are part of a pool at work.
        self.round(connection, (0..self.tasks).filter(plain))?;
        let (succeeded, _, plain_seconds) =
            self.round(connection, (0..self.tasks).filter(plain))?;
        ensure!(
            succeeded == self.tasks - self.spinners(),
            "failed to run the tasks: {succeeded} succeeded"
        );
        let (succeeded, timed_out, seconds) = self.round(connection, 0..self.tasks)?;
        let least_seconds =
            self.spinners() as f64 * self.timeout.as_secs_f64() / f64::from(self.workers);
        let bound_seconds = ALLOWANCE * least_seconds + plain_seconds;
        Ok(Spun { succeeded, timed_out, plain_seconds, seconds, least_seconds, bound_seconds })
    }

    /// Submits the tasks all at once and checks each outcome. How many succeeded and timed out, and
    /// the seconds of it.
    fn round(
        &self,
        connection: &mut Connection,
        numbers: impl Iterator<Item = u64>,
    ) -> anyhow::Result<(u64, u64, f64)> {
        let tasks: Vec<(u64, Task)> = numbers.map(|number| (number, self.task(number))).collect();
        let start = Instant::now();
        let mut numbers = std::collections::HashMap::new();
        for (number, task) in &tasks {
            numbers.insert(connection.submit(task, SubmitOptions::RUN)?, *number);
        }
        let (mut succeeded, mut timed_out) = (0, 0);
        while let Some(outcome) = (!numbers.is_empty()).then(|| connection.receive()).transpose()? {
            let Incoming::Outcome(outcome) = outcome else {
                bail!("failed to run a task: {outcome:?} came instead")
            };
            let Some(number) = numbers.remove(&outcome.request) else {
                bail!("failed to match {outcome:?} with a task")
            };
            match outcome.head()?.code {
                None if !self.spins(number)
                    && outcome.body == (number + 1).to_string().as_bytes() =>
                {
                    succeeded += 1
                }
                Some(ErrorCode::Timeout) if self.spins(number) => timed_out += 1,
                _ => {
                    let shown =
                        pool_protocol::render::outcome_json(&outcome.head()?, &outcome.body);
                    bail!("failed to run task {number}: its outcome is {shown}");
                }
            }
        }
        Ok((succeeded, timed_out, start.elapsed().as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIX: Mix =
        Mix { tasks: 1000, one_in: 20, timeout: Duration::from_millis(100), workers: 2 };

    #[test]
    fn one_in_twenty_spins() {
        assert_eq!(MIX.spinners(), 50);
    }

    #[test]
    fn the_bound_is_what_the_timeouts_must_take_with_an_allowance_and_the_plain_run() {
        let spun = Spun {
            succeeded: 950,
            timed_out: 50,
            plain_seconds: 0.5,
            seconds: 3.0,
            least_seconds: 2.5,
            bound_seconds: ALLOWANCE * 2.5 + 0.5,
        };
        assert!(spun.is_within() && (spun.ratio() - 1.0).abs() < 1e-9);
        assert!(!Spun { seconds: 3.8, ..spun }.is_within());
    }
}
