//! Numbers of one round, and the middle of several.

use anyhow::Context;
use hdrhistogram::Histogram;
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
    /// Bytes of bodies and results a second; absent where they are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<f64>,
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

impl Latency {
    /// Of a histogram of nanoseconds.
    #[must_use]
    pub fn of(nanoseconds: &Histogram<u64>) -> Self {
        let us = |ns: u64| ns as f64 / 1000.0;
        let at = |quantile| us(nanoseconds.value_at_quantile(quantile));
        Self { p50: at(0.5), p99: at(0.99), max: us(nanoseconds.max()) }
    }
}

/// A histogram of nanoseconds, three digits exact.
///
/// # Errors
/// Never with these settings.
pub fn histogram() -> anyhow::Result<Histogram<u64>> {
    Histogram::new(3).context("failed to make a histogram")
}

impl Round {
    /// Figures of so many tasks in so many seconds.
    #[must_use]
    pub fn new(tasks: u64, seconds: f64, latency_us: Option<Latency>, cpu: CpuSeconds) -> Self {
        Self {
            tasks,
            seconds,
            rate: tasks as f64 / seconds,
            latency_us,
            bytes_per_second: None,
            cpu,
        }
    }

    /// With each task's bytes in both directions.
    #[must_use]
    pub fn with_bytes(self, of_a_task: usize) -> Self {
        Self { bytes_per_second: Some(self.rate * of_a_task as f64), ..self }
    }

    /// The line a person reads.
    #[must_use]
    pub fn line(&self, name: &str) -> String {
        let each = |seconds: f64| seconds * 1e6 / self.tasks as f64;
        let latency = self.latency_us.map_or_else(String::new, |l| {
            format!("  p50 {:>7.0} µs  p99 {:>7.0} µs  max {:>7.0} µs", l.p50, l.p99, l.max)
        });
        let bytes = self
            .bytes_per_second
            .map_or_else(String::new, |bytes| format!("  {:>6.1} MB/s", bytes / 1e6));
        format!(
            "{name:>8}  {:>8.0} tasks/s  {:>6.2} s{latency}{bytes}  CPU µs/task: supervisor {:.1}, \
             workers {:.1}, client {:.1}",
            self.rate,
            self.seconds,
            each(self.cpu.supervisor),
            each(self.cpu.workers),
            each(self.cpu.client)
        )
    }
}

/// The round whose rate is in the middle. Whole rounds are compared, so that its figures belong
/// together.
#[must_use]
pub fn middle(rounds: &[Round]) -> Option<Round> {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    sorted.get(sorted.len() / 2).copied()
}

/// The middle and the ends of single numbers.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Spread {
    /// The one in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Of some numbers; nothing of none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: *sorted.get(sorted.len() / 2)?,
            min: *sorted.first()?,
            max: *sorted.last()?,
        })
    }
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
        assert_eq!(round(2.0).with_bytes(40).bytes_per_second, Some(2000.0));
    }

    #[test]
    fn a_spread_has_its_middle_between_its_ends() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn latencies_are_microseconds_of_the_nanoseconds_recorded() {
        let mut nanoseconds = histogram().expect("a histogram");
        (1..=100).for_each(|us| nanoseconds.record(us * 1000).expect("in range"));
        let latency = Latency::of(&nanoseconds);
        assert!(
            (latency.p50 - 50.0).abs() < 0.1
                && (latency.p99 - 99.0).abs() < 0.1
                && latency.max >= 100.0,
            "{latency:?}"
        );
    }
}
