//! What a pool costs that has nothing to do.

use std::time::{Duration, Instant};

use anyhow::Context;
use pool_supervisor::client::Connection;
use serde::Serialize;

use crate::clients::Clients;
use crate::closed;
use crate::memory::Memory;
use crate::pool::{Pool, Setup};
use crate::usage::{CpuSeconds, nanoseconds_of, workers};
use crate::workload::Workload;

/// So that what is made ahead is made, and pages that are given back are.
const SETTLE: Duration = Duration::from_secs(2);
/// Each worker runs some before: a pool that never had work keeps less.
const TASKS_BEFORE: u64 = 1000;

/// Figures of an idle pool. CPU is in percent of one processor.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Idle {
    /// Wall seconds.
    pub seconds: f64,
    /// The supervisor's, from the scheduler's nanoseconds.
    pub supervisor_percent: f64,
    /// Each worker's, from the same.
    pub workers_percent: Vec<f64>,
    /// All together, from the same.
    pub total_percent: f64,
    /// All together, from ticks of 10 ms.
    pub total_percent_by_ticks: f64,
    /// At the end.
    pub memory: Memory,
}

/// Leaves a pool of so many workers alone.
///
/// # Errors
/// When it does not start, or a worker is another one at the end.
pub fn measure(count: u32, time: Duration) -> anyhow::Result<Idle> {
    let pool = Pool::start(&Setup::new(count))?;
    let mut usage = Connection::open(pool.socket(), "load")?;
    let sample = Workload::Warm.sample(0)?;
    closed::round(&mut Clients::open(pool.socket(), 1, &sample)?, TASKS_BEFORE, 64, &mut usage)?;
    let mut pids = vec![usage.welcome().pid];
    pids.extend(workers(&mut usage)?.iter().map(|worker| worker.pid));
    std::thread::sleep(SETTLE);
    let ticks = CpuSeconds::now(&mut usage)?;
    let before = run_times(&pids)?;
    let start = Instant::now();
    std::thread::sleep(time);
    let after = run_times(&pids)?;
    let seconds = start.elapsed().as_secs_f64();
    let ticks = CpuSeconds::now(&mut usage)?.since(&ticks);
    let percent = before.iter().zip(&after).map(|(before, after)| {
        // The time of a thread that ended goes with it.
        let used = after
            .checked_sub(*before)
            .context("failed to see an idle pool: a thread ended meanwhile")?;
        Ok(used as f64 / 1e7 / seconds)
    });
    let percent: Vec<f64> = percent.collect::<anyhow::Result<_>>()?;
    Ok(Idle {
        seconds,
        supervisor_percent: percent[0],
        workers_percent: percent[1..].to_vec(),
        total_percent: percent.iter().sum(),
        total_percent_by_ticks: (ticks.supervisor + ticks.workers) * 100.0 / seconds,
        memory: Memory::now(&mut usage)?,
    })
}

fn run_times(pids: &[u32]) -> anyhow::Result<Vec<u64>> {
    pids.iter()
        .map(|pid| {
            nanoseconds_of(*pid).with_context(|| format!("failed to read process {pid}'s run time"))
        })
        .collect()
}
