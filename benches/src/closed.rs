//! A closed loop: a fixed number of tasks is always in flight, and each outcome is followed by the next task.
//!
//! One thread does both directions, and answers whatever came in one read with one write: the generator must cost less
//! than what it measures.

use std::time::Instant;

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use pool_protocol::task::TaskHead;
use pool_supervisor::client::{Batch, Connection, Incoming, Outcome, Receiver, Sender, SubmitOptions, now_ms};

use crate::figures::{Latency, Round};
use crate::usage::CpuSeconds;
use crate::workload::Sample;

/// Bytes that may be on their way at once. More, and this thread could wait to write while the supervisor waits for it to
/// read.
const FLYING_BYTES: usize = 4 * 1024 * 1024;

/// The loop's two ends.
pub struct Load<'a> {
    sample: &'a Sample,
    window: usize,
    sender: Sender,
    receiver: Receiver,
    batch: Batch,
    /// When each task of the round was sent. One slot for each: a slow task outlives many windows.
    sent: Vec<Instant>,
    /// The number of the round's first task; a late answer of an earlier round would be below it.
    first: u64,
}

/// The largest window for which this task's bytes are not too many.
#[must_use]
pub fn fitting_window(wanted: usize, sample: &Sample) -> usize {
    wanted.min(FLYING_BYTES / (sample.task.body.len() + sample.result.len())).max(1)
}

impl<'a> Load<'a> {
    /// Takes a connection for the loop.
    #[must_use]
    pub fn new(connection: Connection, sample: &'a Sample, window: usize) -> Self {
        let batch = Batch::with_limit(connection.welcome().body_bytes);
        let (sender, receiver) = connection.split();
        Self { sample, window, sender, receiver, batch, sent: Vec::new(), first: 0 }
    }

    /// Runs so many tasks and says how it went. `usage` answers questions about CPU time.
    ///
    /// # Errors
    /// When the connection is lost, or a task has another outcome than its result.
    pub fn round(&mut self, tasks: u64, usage: &mut Connection) -> anyhow::Result<Round> {
        let mut latencies: Histogram<u64> = Histogram::new(3).context("failed to make a histogram")?;
        let options = SubmitOptions::RUN;
        let head = self.sample.task.head(now_ms(), options.on_disconnect, options.ack, options.want_outcome);
        self.first += self.sent.len() as u64;
        self.sent.clear();
        self.sent.reserve(usize::try_from(tasks).context("failed to count the tasks")?);
        let before = CpuSeconds::now(usage)?;
        let start = Instant::now();
        self.submit(&head, tasks.min(self.window as u64))?;
        let mut to_send = tasks - tasks.min(self.window as u64);
        let mut ended = 0;
        while ended < tasks {
            let mut came = 0;
            let mut incoming = Some(self.receiver.receive()?);
            let now = Instant::now();
            while let Some(message) = incoming {
                let request = self.check(&message)?;
                let sent = request.checked_sub(self.first).and_then(|index| self.sent.get(index as usize));
                let took = now.duration_since(*sent.context("failed to match an outcome with a task of the round")?);
                latencies.record(took.as_nanos() as u64).expect("the histogram grows with what it is given");
                came += 1;
                incoming = self.receiver.receive_here()?;
            }
            ended += came;
            let follow = came.min(to_send);
            to_send -= follow;
            self.submit(&head, follow)?;
        }
        let seconds = start.elapsed().as_secs_f64();
        let cpu = CpuSeconds::now(usage)?.since(&before);
        let us = |ns: u64| ns as f64 / 1000.0;
        let latency = Latency {
            p50: us(latencies.value_at_quantile(0.5)),
            p99: us(latencies.value_at_quantile(0.99)),
            max: us(latencies.max()),
        };
        Ok(Round::new(tasks, seconds, Some(latency), cpu))
    }

    fn submit(&mut self, head: &TaskHead<'_>, count: u64) -> anyhow::Result<()> {
        let now = Instant::now();
        for _ in 0..count {
            let number = self.first + self.sent.len() as u64;
            self.sent.push(now);
            self.batch.submit_parts(number, head, &self.sample.task.body)?;
        }
        Ok(self.sender.send(&mut self.batch)?)
    }

    fn check(&self, message: &Incoming) -> anyhow::Result<u64> {
        let Incoming::Outcome(outcome) = message else { bail!("failed to run a task: {message:?} came instead") };
        if !self.is_right(outcome)? {
            let shown = pool_protocol::render::outcome_json(&outcome.head()?, &outcome.body);
            bail!("failed to run a task: its outcome is {shown}");
        }
        Ok(outcome.request)
    }

    fn is_right(&self, outcome: &Outcome) -> anyhow::Result<bool> {
        Ok(outcome.head()?.code.is_none() && outcome.body == self.sample.result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo;
    use crate::workload::Workload;

    fn round_of(workload: Workload, tasks: u64) -> anyhow::Result<Round> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("echo.sock");
        echo::serve(&socket, 2)?;
        let mut usage = Connection::open(&socket, "test")?;
        let sample = workload.sample(0);
        Load::new(Connection::open(&socket, "test")?, &sample, 8).round(tasks, &mut usage)
    }

    #[test]
    fn every_task_of_a_round_is_timed() {
        for tasks in [1, 8, 1001] {
            let round = round_of(Workload::Warm, tasks).expect("42 is right");
            assert_eq!(round.tasks, tasks);
            let latency = round.latency_us.expect("single tasks are seen");
            assert!(latency.p50 > 0.0 && latency.p50 <= latency.p99 && latency.p99 <= latency.max, "{latency:?}");
        }
    }

    #[test]
    fn a_wrong_result_is_not_counted_as_speed() {
        let error = round_of(Workload::Fresh, 10).expect_err("42 is not 2");
        assert!(error.to_string().contains("\"result\":42"), "{error}");
    }

    #[test]
    fn large_tasks_shrink_the_window() {
        assert_eq!(fitting_window(512, &Workload::Warm.sample(0)), 512);
        let large = fitting_window(512, &Workload::Echo.sample(1 << 20));
        assert!((1..=2).contains(&large), "{large}");
        assert_eq!(fitting_window(512, &Workload::Echo.sample(8 << 20)), 1);
    }
}
