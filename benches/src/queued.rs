//! What a long queue costs: the rate of submission on top of it, memory for each waiting task, and
//! the rate at which tasks are chosen from it.
//!
//! A project whose limit is 0 is paused, so that its tasks wait. Two pools are compared, of which
//! one has little waiting and the other has all; where it can be done they are measured in turns.

use std::time::Instant;

use anyhow::{Context, ensure};
use pool_protocol::control::ControlRequest;
use pool_supervisor::client::{Connection, SubmitOptions};
use serde::Serialize;

use crate::clients::Clients;
use crate::figures::Spread;
use crate::memory::pss_of;
use crate::pool::{Pool, Setup};
use crate::usage::nanoseconds_of_first_thread;
use crate::workload::Workload;

const ROUNDS: u32 = 5;
/// Submissions that are not yet accepted.
const WINDOW: u64 = 512;
/// Tasks that wait in the pool where few do.
const FEW: u64 = 1000;
/// More than can run.
const NO_LIMIT: u32 = 1_000_000;
/// The outcome is wanted, and so is the word that the task is queued.
const ACKNOWLEDGED: SubmitOptions = SubmitOptions { ack: true, ..SubmitOptions::RUN };

/// Figures of both pools. Rates are tasks a second, medians of rounds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Queued {
    /// Of submission when nothing waits at the beginning of the round.
    pub empty_rate: f64,
    /// The supervisor's CPU time for each of these, in nanoseconds.
    pub empty_cpu_ns: f64,
    /// Of submission from an empty queue until all of them wait, into memory that the supervisor
    /// has not used before.
    pub fill_rate: f64,
    /// The supervisor's CPU time for each of these, in nanoseconds.
    pub fill_cpu_ns: f64,
    /// Of submission when all of them wait.
    pub full_rate: f64,
    /// The supervisor's CPU time for each of these, in nanoseconds.
    pub full_cpu_ns: f64,
    /// The latter as a share of the former.
    pub submit_ratio: f64,
    /// Bytes of a task's body.
    pub body_bytes: usize,
    /// Bytes that the supervisor grew by for each waiting task, besides its body.
    pub bytes_per_task: f64,
    /// The supervisor's proportional set size before, in bytes.
    pub pss_before: u64,
    /// And with all of them waiting.
    pub pss_after: u64,
    /// Of tasks that run while about a thousand wait: for each outcome one more is submitted.
    pub few_drain_rate: f64,
    /// The supervisor's CPU time for each of these, in nanoseconds.
    pub few_drain_cpu_ns: f64,
    /// The same while all of them wait.
    pub many_drain_rate: f64,
    /// The supervisor's CPU time for each of these, in nanoseconds.
    pub many_drain_cpu_ns: f64,
    /// The latter as a share of the former.
    pub drain_ratio: f64,
    /// Of running all that waited to the end.
    pub drain_rate: f64,
}

/// Measures with so many tasks waiting.
///
/// # Errors
/// When a pool does not start, or a task is lost, ends twice or wrongly.
pub fn measure(tasks: u64, workers: u32) -> anyhow::Result<Queued> {
    let round = (tasks / 20).clamp(1, 50_000);
    let mut few = Side::start(tasks, workers)?;
    let mut many = Side::start(tasks, workers)?;
    // Compiled code, grown buffers and learned credit are part of a pool at work.
    for side in [&mut few, &mut many] {
        side.empty_round(FEW.max(round))?;
    }
    let pss_before = many.pss()?;
    many.clients.begin(tasks + 2 * u64::from(ROUNDS) * round)?;
    let fill = many.submit(tasks)?;
    let pss_after = many.pss()?;
    let (mut empty, mut full) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        empty.push(few.empty_round(round)?);
        full.push(many.submit(round)?);
    }
    few.clients.begin(FEW + u64::from(ROUNDS) * round)?;
    few.submit(FEW)?;
    let few_drain = few.steady_rounds(round)?;
    few.drain()?;
    let many_drain = many.steady_rounds(round)?;
    let drain = many.drain()?;
    let (empty, full) = (Speed::middle(&empty)?, Speed::middle(&full)?);
    let (few_drain, many_drain) = (Speed::middle(&few_drain)?, Speed::middle(&many_drain)?);
    let body_bytes = many.clients.sample().task().body.len();
    Ok(Queued {
        empty_rate: empty.rate,
        empty_cpu_ns: empty.cpu_ns,
        fill_rate: fill.rate,
        fill_cpu_ns: fill.cpu_ns,
        full_rate: full.rate,
        full_cpu_ns: full.cpu_ns,
        submit_ratio: full.rate / empty.rate,
        body_bytes,
        bytes_per_task: (pss_after as f64 - pss_before as f64) / tasks as f64 - body_bytes as f64,
        pss_before,
        pss_after,
        few_drain_rate: few_drain.rate,
        few_drain_cpu_ns: few_drain.cpu_ns,
        many_drain_rate: many_drain.rate,
        many_drain_cpu_ns: many_drain.cpu_ns,
        drain_ratio: many_drain.rate / few_drain.rate,
        drain_rate: drain.rate,
    })
}

/// Of one round.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Speed {
    rate: f64,
    cpu_ns: f64,
}

impl Speed {
    /// Each figure's own middle: a busy machine moves the one and not the other.
    fn middle(rounds: &[Self]) -> anyhow::Result<Self> {
        let median = |figure: fn(&Self) -> f64| {
            let figures: Vec<f64> = rounds.iter().map(figure).collect();
            Spread::of(&figures)
                .map(|spread| spread.median)
                .context("failed to find the middle of no rounds")
        };
        Ok(Self { rate: median(|round| round.rate)?, cpu_ns: median(|round| round.cpu_ns)? })
    }
}

/// A pool, and its only client.
struct Side {
    // Before the pool: its connections end before it does.
    clients: Clients,
    control: Connection,
    _pool: Pool,
}

impl Side {
    /// Starts it paused.
    fn start(tasks: u64, workers: u32) -> anyhow::Result<Self> {
        let pool = Pool::start(&Setup { queue: Some(2 * tasks + FEW), ..Setup::new(workers) })?;
        let clients = Clients::open(pool.socket(), 1, &Workload::Count.sample(0)?)?;
        let control = Connection::open(pool.socket(), "load")?;
        let mut side = Self { clients, control, _pool: pool };
        side.limit(0)?;
        Ok(side)
    }

    fn limit(&mut self, limit: u32) -> anyhow::Result<()> {
        let project = self.clients.sample().task().project.clone();
        self.control.control(&ControlRequest::SetLimit { project: &project, limit })?;
        Ok(())
    }

    fn pss(&self) -> anyhow::Result<u64> {
        pss_of(self.control.welcome().pid)
            .context("failed to read the supervisor's memory: it is another user's")
    }

    /// Does something with so many tasks, and says how fast it went.
    fn timed(
        &mut self,
        tasks: u64,
        work: impl FnOnce(&mut Clients) -> anyhow::Result<()>,
    ) -> anyhow::Result<Speed> {
        let pid = self.control.welcome().pid;
        let run_time =
            || nanoseconds_of_first_thread(pid).context("failed to read the supervisor's run time");
        let before = run_time()?;
        let start = Instant::now();
        work(&mut self.clients)?;
        let seconds = start.elapsed().as_secs_f64();
        let cpu_ns = (run_time()? - before) as f64 / tasks as f64;
        Ok(Speed { rate: tasks as f64 / seconds, cpu_ns })
    }

    /// Submits tasks to the paused project until all are queued.
    fn submit(&mut self, tasks: u64) -> anyhow::Result<Speed> {
        self.timed(tasks, |clients| {
            let (mut sent, mut accepted) = (0, 0);
            while accepted < tasks {
                let next = (tasks - sent).min(WINDOW - (sent - accepted));
                clients.submit(0, next, Instant::now(), ACKNOWLEDGED)?;
                clients.send(0)?;
                sent += next;
                let came = clients.receive(0)?;
                ensure!(came.ended == 0, "failed to keep tasks waiting: one has ended");
                accepted += came.accepted;
            }
            Ok(())
        })
    }

    /// Submits tasks to an empty queue, and lets them run thereafter. How fast the former went.
    fn empty_round(&mut self, tasks: u64) -> anyhow::Result<Speed> {
        self.clients.begin(tasks)?;
        let submitted = self.submit(tasks)?;
        self.limit(NO_LIMIT)?;
        self.drain()?;
        self.limit(0)?;
        Ok(submitted)
    }

    /// Lets tasks run, each followed by a new one, so that as many wait all the time.
    fn steady_rounds(&mut self, tasks: u64) -> anyhow::Result<Vec<Speed>> {
        self.limit(NO_LIMIT)?;
        (0..ROUNDS).map(|_| self.steady(tasks)).collect()
    }

    fn steady(&mut self, tasks: u64) -> anyhow::Result<Speed> {
        self.timed(tasks, |clients| {
            let mut to_follow = tasks;
            while to_follow > 0 {
                let follow = clients.receive(0)?.ended.min(to_follow);
                clients.submit(0, follow, Instant::now(), SubmitOptions::RUN)?;
                clients.send(0)?;
                to_follow -= follow;
            }
            Ok(())
        })
    }

    /// Takes the outcomes of all that is in flight.
    fn drain(&mut self) -> anyhow::Result<Speed> {
        self.timed(self.clients.in_flight(), |clients| {
            while clients.in_flight() > 0 {
                clients.receive(0)?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_cpu_times_have_their_own_middles() {
        let speed = |rate, cpu_ns| Speed { rate, cpu_ns };
        let rounds = [speed(1.0, 500.0), speed(3.0, 400.0), speed(2.0, 600.0)];
        assert_eq!(Speed::middle(&rounds).expect("rounds"), speed(2.0, 500.0));
        assert!(Speed::middle(&[]).is_err());
    }
}
