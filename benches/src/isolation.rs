//! What confinement costs: the same tasks and the same starts under a level and under `off`, in
//! turns, so that whatever else the machine does falls on both.

use anyhow::Context;
use pool_supervisor::client::Connection;
use serde::Serialize;

use crate::clients::Clients;
use crate::closed;
use crate::figures::{Round, middle};
use crate::pool::{Isolation, Pool, Setup};
use crate::starts;
use crate::workload::Workload;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Compared with `off`.
    pub level: Isolation,
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
            format!(
                "{name:>10}  {rate:>9.0} tasks/s  p50 {p50:>7.0} µs  worker start {start:>6.1} ms\n"
            )
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

impl Plan {
    /// Measures; each round's line is said as it ends.
    ///
    /// # Errors
    /// When a pool does not start, most likely because this machine cannot keep what the level
    /// promises; or a task fails.
    pub fn measure(&self, mut say: impl FnMut(String)) -> anyhow::Result<Compared> {
        let levels = [self.level, Isolation::Off];
        let rounds = self.throughput(levels, &mut say)?;
        let side = |at: usize| -> anyhow::Result<Side> {
            let round = middle(&rounds[at]).context("failed to find the middle of no rounds")?;
            Ok(Side { round, start_ms: starts::measure(levels[at], self.starts)?.median_ms })
        };
        Ok(Compared::of(side(0)?, side(1)?))
    }

    fn throughput(
        &self,
        levels: [Isolation; 2],
        say: &mut impl FnMut(String),
    ) -> anyhow::Result<[Vec<Round>; 2]> {
        let sample = Workload::Warm.sample(0)?;
        // Both live all the time; the one that is not measured has nothing to do.
        let start = |isolation| Pool::start(&Setup { isolation, ..Setup::new(self.workers) });
        let pools = [start(levels[0])?, start(levels[1])?];
        let mut loads = Vec::new();
        for pool in &pools {
            let mut usage = Connection::open(pool.socket(), "load")?;
            let mut clients = Clients::open(pool.socket(), 1, &sample)?;
            closed::round(&mut clients, self.tasks.div_ceil(10), self.window, &mut usage)?;
            loads.push((clients, usage));
        }
        let mut rounds = [Vec::new(), Vec::new()];
        for number in 1..=self.rounds {
            // Each goes first as often as the other.
            let order = if number % 2 == 0 { [1, 0] } else { [0, 1] };
            for at in order {
                let (clients, usage) = &mut loads[at];
                let round = closed::round(clients, self.tasks, self.window, usage)?;
                say(round.line(levels[at].name()));
                rounds[at].push(round);
            }
        }
        Ok(rounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::CpuSeconds;

    #[test]
    fn the_comparison_is_a_share_and_a_difference() {
        let side = |rate: f64, start_ms| Side {
            round: Round::new(100, 100.0 / rate, None, CpuSeconds::default()),
            start_ms,
        };
        let compared = Compared::of(side(95.0, 14.0), side(100.0, 10.0));
        assert!((compared.rate_ratio - 0.95).abs() < 1e-9);
        assert_eq!(compared.start_difference_ms, 4.0);
        let text = compared.lines("strict");
        assert!(
            text.contains("95.0 % of the throughput") && text.contains("+4.0 ms a start"),
            "{text}"
        );
    }
}
