//! From a worker's spawn to ready: under tenancy `task` each worker serves one, so that the next
//! one is started.
//!
//! Nothing else runs meanwhile, and the times are the supervisor's own, from its events.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use pool_protocol::control::{ControlRequest, EventJson};
use pool_supervisor::client::{Connection, Incoming, SubmitOptions};
use serde::Serialize;

use crate::figures::Spread;
use crate::pool::{Isolation, Pool, Setup, Tenancy};
use crate::usage::CpuSeconds;
use crate::workload::Workload;

/// Starts at the beginning that are not counted: without a startup snapshot, from a cold file
/// cache.
const WARM_UP: u32 = 3;
/// For a replacement to be there.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks: rare enough to cost nothing.
const PAUSE: Duration = Duration::from_millis(5);

/// Workers' starts.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Starts {
    /// From spawn to ready, in milliseconds: the middle.
    pub median_ms: f64,
    /// The fastest.
    pub min_ms: f64,
    /// The slowest.
    pub max_ms: f64,
    /// CPU time of a worker's whole life with one task, in milliseconds.
    pub worker_cpu_ms: f64,
    /// CPU time of the supervisor for it, in milliseconds.
    pub supervisor_cpu_ms: f64,
    /// Each start's milliseconds.
    pub starts: Vec<f64>,
}

/// Measures so many starts.
///
/// # Errors
/// When the pool does not start or does not replace its worker.
pub fn measure(isolation: Isolation, count: u32) -> anyhow::Result<Starts> {
    let pool = Pool::start(&Setup { tenancy: Tenancy::Task, isolation, ..Setup::new(1) })?;
    let mut workers = Connection::open(pool.socket(), "load")?;
    let mut events = Events { connection: Connection::open(pool.socket(), "load")?, last: 0 };
    events.starts()?;
    for _ in 0..WARM_UP {
        replace(&mut workers, &mut events)?;
    }
    let before = CpuSeconds::now(&mut workers)?;
    let starts = (0..count)
        .map(|_| replace(&mut workers, &mut events))
        .collect::<anyhow::Result<Vec<f64>>>()?;
    let cpu = CpuSeconds::now(&mut workers)?.since(&before);
    let each_ms = |seconds: f64| seconds * 1000.0 / f64::from(count);
    let Spread { median, min, max } =
        Spread::of(&starts).context("failed to see a worker start")?;
    Ok(Starts {
        median_ms: median,
        min_ms: min,
        max_ms: max,
        worker_cpu_ms: each_ms(cpu.workers),
        supervisor_cpu_ms: each_ms(cpu.supervisor),
        starts,
    })
}

/// Uses a worker up, and gives the milliseconds that its replacement's start took.
fn replace(connection: &mut Connection, events: &mut Events) -> anyhow::Result<f64> {
    let sample = Workload::Warm.sample(0)?;
    let request = connection.submit(sample.task(), SubmitOptions::RUN)?;
    let Incoming::Outcome(outcome) = connection.receive()? else {
        bail!("failed to run a task: something else came")
    };
    ensure!(outcome.request == request, "failed to match an outcome with its task");
    sample.check(request, &outcome)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(ms) = events.starts()?.first() {
            return Ok(*ms);
        }
        ensure!(Instant::now() < deadline, "failed to see a worker replaced within {PATIENCE:?}");
        std::thread::sleep(PAUSE);
    }
}

struct Events {
    connection: Connection,
    last: u64,
}

impl Events {
    /// What has been said of starts since the last time, in milliseconds.
    fn starts(&mut self) -> anyhow::Result<Vec<f64>> {
        self.connection.ask(&ControlRequest::Events { since: Some(self.last), follow: false })?;
        let Incoming::Reply { .. } = self.connection.receive()? else {
            bail!("failed to read events: no reply came first")
        };
        let mut starts = Vec::new();
        loop {
            match self.connection.receive()? {
                Incoming::Event { body, .. } => {
                    let event: EventJson<'_> =
                        serde_json::from_slice(&body).context("failed to read an event")?;
                    self.last = event.seq;
                    starts.extend(event.duration.filter(|_| event.event == "worker-started"));
                }
                Incoming::Reply { .. } => return Ok(starts),
                other => bail!("failed to read events: {other:?} came instead"),
            }
        }
    }
}
