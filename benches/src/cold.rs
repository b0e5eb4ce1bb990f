//! From a supervisor's start to its first result, under the default configuration.
//!
//! The client tries to connect all the time, as one does that waits for nothing else. The first
//! start ever, with an empty cache folder, has no startup snapshot; all others have it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use pool_supervisor::client::{ClientError, Connection, Incoming, SubmitOptions};
use serde::Serialize;

use crate::figures::Spread;
use crate::pool::{program, stop};
use crate::workload::{Sample, Workload};

/// From the start to a result, and from the first result to a snapshot in the cache.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts to connect: a hundredth of what is measured, and no processor is kept busy
/// by it.
const PAUSE: Duration = Duration::from_micros(100);

/// One start, in milliseconds from the spawn.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// Until the supervisor has answered a hello.
    pub welcome_ms: f64,
    /// Until the first result.
    pub result_ms: f64,
}

/// Several starts.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cold {
    /// The first start ever, in milliseconds.
    pub first_ms: f64,
    /// The middle of the later ones.
    pub median_ms: f64,
    /// The fastest.
    pub min_ms: f64,
    /// The slowest.
    pub max_ms: f64,
    /// The middle of the times until the supervisor had answered a hello.
    pub welcome_median_ms: f64,
    /// The first start, then the later ones.
    pub starts: Vec<Start>,
}

/// Starts a supervisor once with an empty cache and so many times with a full one.
///
/// # Errors
/// When one does not start, or gives a wrong result.
pub fn measure(rounds: u32) -> anyhow::Result<Cold> {
    let cache = tempfile::tempdir().context("failed to make a temporary folder")?;
    let sample = Workload::Warm.sample(0)?;
    let first = start(cache.path(), &sample)?;
    let later = (0..rounds)
        .map(|_| start(cache.path(), &sample))
        .collect::<anyhow::Result<Vec<Start>>>()?;
    let middle =
        |part: fn(&Start) -> f64| Spread::of(&later.iter().map(part).collect::<Vec<f64>>());
    let results =
        middle(|start| start.result_ms).context("failed to find the middle of no rounds")?;
    let welcomes =
        middle(|start| start.welcome_ms).context("failed to find the middle of no rounds")?;
    Ok(Cold {
        first_ms: first.result_ms,
        median_ms: results.median,
        min_ms: results.min,
        max_ms: results.max,
        welcome_median_ms: welcomes.median,
        starts: std::iter::once(first).chain(later).collect(),
    })
}

fn start(cache: &Path, sample: &Sample) -> anyhow::Result<Start> {
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let socket = folder.path().join("pool.sock");
    let supervisor = program("pool-supervisor")?;
    let begun = Instant::now();
    let mut child = Command::new(&supervisor)
        .arg("--socket")
        .arg(&socket)
        // The default port may be somebody's.
        .args(["--http", "127.0.0.1:0"])
        .env("STATE_DIRECTORY", folder.path())
        .env("CACHE_DIRECTORY", cache)
        .stdin(Stdio::null())
        // Its log at the default level is not ours to show.
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("failed to start {}", supervisor.display()))?;
    let measured = first_result(&mut child, &socket, sample, begun).and_then(|start| {
        wait_for_snapshot(cache)?;
        Ok(start)
    });
    stop(&mut child);
    measured
}

fn first_result(
    child: &mut Child,
    socket: &Path,
    sample: &Sample,
    begun: Instant,
) -> anyhow::Result<Start> {
    let ms = || begun.elapsed().as_secs_f64() * 1000.0;
    let mut connection = loop {
        match Connection::open(socket, "load") {
            Ok(connection) => break connection,
            Err(ClientError::NoDaemon { .. }) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(PAUSE)
            }
            Err(error) => return Err(error.into()),
        }
        if let Some(status) = child.try_wait().context("failed to look after the supervisor")? {
            bail!("failed to start a supervisor: it ended with {status}");
        }
    };
    let welcome_ms = ms();
    let request = connection.submit(sample.task(), SubmitOptions::RUN)?;
    let Incoming::Outcome(outcome) = connection.receive()? else {
        bail!("failed to run a task: something else came")
    };
    let result_ms = ms();
    ensure!(outcome.request == request, "failed to match an outcome with its task");
    sample.check(request, &outcome)?;
    Ok(Start { welcome_ms, result_ms })
}

/// The next start is to find what this one leaves in the cache.
fn wait_for_snapshot(cache: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let files = std::fs::read_dir(cache).context("failed to read the cache folder")?;
        if files
            .flatten()
            .any(|file| file.path().extension().is_some_and(|extension| extension == "bin"))
        {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "failed to see a startup snapshot within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
