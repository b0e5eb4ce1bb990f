//! Numbers of one round, and the middle of several.

use serde::Serialize;

use crate::usage::CpuSeconds;

/// One round's figures.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Round {
    /// Tasks ended.
    pub tasks: u64,
    /// Wall seconds.
    pub seconds: f64,
    /// Tasks a second.
    pub rate: f64,
    /// From submission to outcome, in microseconds; absent where single tasks are not seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<Latency>,
    /// CPU time used.
    pub cpu: CpuSeconds,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Latency {
    /// Half are faster.
    pub p50: f64,
    /// 99 of 100 are faster.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

impl Round {
    /// Figures of so many tasks in so many seconds.
    #[must_use]
    pub fn new(tasks: u64, seconds: f64, latency_us: Option<Latency>, cpu: CpuSeconds) -> Self {
        Self { tasks, seconds, rate: tasks as f64 / seconds, latency_us, cpu }
    }

    /// The line a person reads.
    #[must_use]
    pub fn line(&self, name: &str) -> String {
        let each = |seconds: f64| seconds * 1e6 / self.tasks as f64;
        let latency = self.latency_us.map_or_else(String::new, |l| {
            format!("  p50 {:>7.0} µs  p99 {:>7.0} µs  max {:>7.0} µs", l.p50, l.p99, l.max)
        });
        format!(
            "{name:>8}  {:>8.0} tasks/s  {:>6.2} s{latency}  CPU µs/task: supervisor {:.1}, workers {:.1}, client {:.1}",
            self.rate,
            self.seconds,
            each(self.cpu.supervisor),
            each(self.cpu.workers),
            each(self.cpu.client)
        )
    }
}

/// The round whose rate is in the middle. Whole rounds are compared, so that its figures belong together.
#[must_use]
pub fn middle(rounds: &[Round]) -> Option<Round> {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_round_is_the_one_with_the_middle_rate() {
        let round = |seconds| Round::new(100, seconds, None, CpuSeconds::default());
        let rounds = [round(1.0), round(4.0), round(2.0)];
        assert_eq!(middle(&rounds).map(|round| round.rate), Some(50.0));
        assert_eq!(middle(&[]), None);
    }
}
