//! What confinement costs: the same tasks and the same starts under a level and under `off`, in turns, so that whatever else
//! the machine does falls on both.

use anyhow::{Context, bail};
use pool_protocol::control::{ControlRequest, EventJson};
use pool_supervisor::client::{Connection, Incoming};
use serde::Serialize;
use serde_json::json;

use crate::closed::Load;
use crate::figures::{Round, middle};
use crate::pool::Pool;
use crate::workload::{Sample, Workload};

/// Starts at the beginning that are not counted: without a startup snapshot, from a cold file cache.
const WARM_UP: usize = 3;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Compared with `off`.
    pub level: &'a str,
    /// Workers of each pool.
    pub workers: u32,
    /// Tasks in a round.
    pub tasks: u64,
    /// Rounds of each.
    pub rounds: u32,
    /// Tasks in flight.
    pub window: usize,
    /// Workers started of each.
    pub starts: u32,
}

/// One side's figures.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// The round in the middle.
    pub round: Round,
    /// From a worker's spawn to ready, in milliseconds; the median.
    pub start_ms: f64,
}

/// Both sides.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Compared {
    /// Under the level.
    pub confined: Side,
    /// Under `off`.
    pub off: Side,
    /// Throughput under the level, as a share of that under `off`.
    pub rate_ratio: f64,
    /// What a start takes longer, in milliseconds.
    pub start_difference_ms: f64,
}

impl Compared {
    fn of(confined: Side, off: Side) -> Self {
        let rate_ratio = confined.round.rate / off.round.rate;
        Self { confined, off, rate_ratio, start_difference_ms: confined.start_ms - off.start_ms }
    }

    /// What a person reads.
    #[must_use]
    pub fn lines(&self, level: &str) -> String {
        let p50 = |side: &Side| side.round.latency_us.map_or(0.0, |latency| latency.p50);
        let row = |name: &str, side: &Side| {
            let (rate, p50, start) = (side.round.rate, p50(side), side.start_ms);
            format!("{name:>10}  {rate:>9.0} tasks/s  p50 {p50:>7.0} µs  worker start {start:>6.1} ms\n")
        };
        format!(
            "medians\n{}{}{:>10}  {:>8.1} % of the throughput  {:+.1} ms a start",
            row(level, &self.confined),
            row("off", &self.off),
            "",
            self.rate_ratio * 100.0,
            self.start_difference_ms
        )
    }
}

impl Plan<'_> {
    /// Measures; each round's line is said as it ends.
    ///
    /// # Errors
    /// When a pool does not start, most likely because this machine cannot keep what the level promises; or a task fails.
    pub fn measure(&self, mut say: impl FnMut(String)) -> anyhow::Result<Compared> {
        let levels = [self.level, "off"];
        let sample = Workload::Warm.sample(0);
        let rounds = self.throughput(levels, &sample, &mut say)?;
        let starts = [self.starts_of(levels[0])?, self.starts_of(levels[1])?];
        let side = |at: usize| -> anyhow::Result<Side> {
            let round = middle(&rounds[at]).context("failed to find the middle of no rounds")?;
            Ok(Side { round, start_ms: median(&starts[at]).context("failed to see a worker start")? })
        };
        Ok(Compared::of(side(0)?, side(1)?))
    }

    fn throughput(
        &self,
        levels: [&str; 2],
        sample: &Sample,
        say: &mut impl FnMut(String),
    ) -> anyhow::Result<[Vec<Round>; 2]> {
        // Both live all the time; the one that is not measured has nothing to do.
        let start = |level| Pool::start(self.workers, &json!({ "maxTasksPerWorker": 0 }), Some(level));
        let pools = [start(levels[0])?, start(levels[1])?];
        let mut loads = Vec::new();
        for pool in &pools {
            let mut usage = Connection::open(pool.socket(), "load")?;
            let mut load = Load::new(Connection::open(pool.socket(), "load")?, sample, self.window);
            load.round(self.tasks.div_ceil(10), &mut usage)?;
            loads.push((load, usage));
        }
        let mut rounds = [Vec::new(), Vec::new()];
        for number in 1..=self.rounds {
            // Each goes first as often as the other.
            let order = if number % 2 == 0 { [1, 0] } else { [0, 1] };
            for at in order {
                let (load, usage) = &mut loads[at];
                let round = load.round(self.tasks, usage)?;
                say(round.line(levels[at]));
                rounds[at].push(round);
            }
        }
        Ok(rounds)
    }

    /// Milliseconds from spawn to ready of workers that are started one after the other.
    fn starts_of(&self, level: &str) -> anyhow::Result<Vec<f64>> {
        let pool = Pool::start(1, &json!({ "maxTasksPerWorker": 1 }), Some(level))?;
        let sample = Workload::Warm.sample(0);
        let wanted = self.starts as usize + WARM_UP;
        let mut usage = Connection::open(pool.socket(), "load")?;
        let mut load = Load::new(Connection::open(pool.socket(), "load")?, &sample, 1);
        let mut seen = started(pool.socket())?;
        while seen.len() < wanted {
            // A worker serves one task, and its replacement starts.
            load.round(10, &mut usage)?;
            seen = started(pool.socket())?;
        }
        Ok(seen.split_off(WARM_UP))
    }
}

/// What the pool's events say of starts, in milliseconds.
fn started(socket: &std::path::Path) -> anyhow::Result<Vec<f64>> {
    let mut connection = Connection::open(socket, "load")?;
    connection.ask(&ControlRequest::Events { since: Some(0), follow: false })?;
    let Incoming::Reply { .. } = connection.receive()? else { bail!("failed to read events: no reply came first") };
    let mut starts = Vec::new();
    loop {
        match connection.receive()? {
            Incoming::Event { body, .. } => {
                let event: EventJson<'_> = serde_json::from_slice(&body).context("failed to read an event")?;
                starts.extend(event.duration.filter(|_| event.event == "worker-started"));
            }
            Incoming::Reply { .. } => return Ok(starts),
            other => bail!("failed to read events: {other:?} came instead"),
        }
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::CpuSeconds;

    #[test]
    fn the_comparison_is_a_share_and_a_difference() {
        let side =
            |rate: f64, start_ms| Side { round: Round::new(100, 100.0 / rate, None, CpuSeconds::default()), start_ms };
        let compared = Compared::of(side(95.0, 14.0), side(100.0, 10.0));
        assert!((compared.rate_ratio - 0.95).abs() < 1e-9);
        assert_eq!(compared.start_difference_ms, 4.0);
        let text = compared.lines("strict");
        assert!(text.contains("95.0 % of the throughput") && text.contains("+4.0 ms a start"), "{text}");
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[]), None);
    }
}
