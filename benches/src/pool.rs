//! A pool of the measurement's own: a supervisor in a temporary folder, ended with it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pool_protocol::control::{ControlRequest, ReadyReply};
use pool_supervisor::client::{ClientError, Connection, Reply};
use serde_json::{Value, json};
use tempfile::TempDir;

/// From the start to ready: a cold file cache is the slowest part.
const START: Duration = Duration::from_secs(30);
/// And for each worker, on a busy machine.
const START_OF_EACH: Duration = Duration::from_millis(200);
/// More than a small task's body takes of the queue's bytes.
const SMALL_BODY_BYTES: u64 = 1024;
/// From asking to stop to gone.
const STOP: Duration = Duration::from_secs(10);

/// A supervisor that is started for a measurement.
#[derive(Clone, PartialEq, Debug)]
pub struct Setup {
    /// So many workers for JavaScript, no more and no fewer.
    pub workers: u32,
    /// Tasks until a worker is replaced; 0 is never.
    pub recycle: u32,
    /// `isolation`
    pub isolation: Isolation,
    /// `tenancy`
    pub tenancy: Tenancy,
    /// Programs that shell tasks may start. With some, as many workers more may live for them.
    pub programs: &'static [&'static str],
    /// So many small tasks of one project may wait; the default without.
    pub queue: Option<u64>,
}

/// How workers are confined.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Every layer that is promised
    Strict,
    /// Every layer that the machine gives
    Standard,
    /// Limits of resources only
    Off,
}

impl Isolation {
    /// The word of the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Standard => "standard",
            Self::Off => "off",
        }
    }
}

/// What may share a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tenancy {
    /// Tasks of all projects
    Shared,
    /// Tasks of one project
    Project,
    /// Nothing: a worker serves one task
    Task,
}

impl Setup {
    /// The default configuration but for a fixed number of workers, none of which is replaced: a
    /// worker's start is not what most measurements are of.
    #[must_use]
    pub fn new(workers: u32) -> Self {
        let (isolation, tenancy) = (Isolation::Standard, Tenancy::Shared);
        Self { workers, recycle: 0, isolation, tenancy, programs: &[], queue: None }
    }

    fn config(&self) -> Value {
        let most = if self.programs.is_empty() { self.workers } else { self.workers * 2 };
        let allow: Vec<Value> =
            self.programs.iter().map(|program| json!({ "program": program })).collect();
        let mut config = json!({
            "pool": {
                "minWorkers": self.workers,
                "maxWorkers": most,
                "autoScale": !self.programs.is_empty(),
                "maxTasksPerWorker": self.recycle,
            },
            "isolation": self.isolation,
            "tenancy": self.tenancy,
            "shell": { "allow": allow },
            "http": { "listen": "off" },
            // What is missing is the measured machine's affair, not news.
            "log": { "level": "error" },
        });
        if let Some(tasks) = self.queue {
            // One project gets half of the queue.
            config["pool"]["queueSize"] = json!(2 * tasks);
            config["pool"]["queueBytes"] = json!((2 * tasks * SMALL_BODY_BYTES).max(1 << 30));
        }
        config
    }
}

/// Where tasks go.
#[derive(Debug)]
pub enum Pool {
    /// One that somebody else runs.
    Theirs(PathBuf),
    /// Ours.
    Ours {
        /// Its control socket.
        socket: PathBuf,
        /// The supervisor.
        child: Child,
        /// Everything it writes.
        folder: TempDir,
    },
}

impl Pool {
    /// Uses the supervisor on a socket, or starts one.
    ///
    /// # Errors
    /// When the programs are missing or do not start; says which.
    pub fn reach(socket: Option<&Path>, setup: &Setup) -> anyhow::Result<Self> {
        socket.map_or_else(|| Self::start(setup), |socket| Ok(Self::Theirs(socket.to_owned())))
    }

    /// Starts a supervisor and waits for its workers.
    ///
    /// # Errors
    /// When the programs are missing or do not start; says which.
    pub fn start(setup: &Setup) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
        let path = folder.path().join("pool.json");
        std::fs::write(&path, setup.config().to_string())
            .context("failed to write the configuration")?;
        let socket = folder.path().join("pool.sock");
        let supervisor = program("pool-supervisor")?;
        let child = Command::new(&supervisor)
            .arg("--config")
            .arg(&path)
            .arg("--socket")
            .arg(&socket)
            .env("STATE_DIRECTORY", folder.path())
            .env("CACHE_DIRECTORY", folder.path())
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("failed to start {}", supervisor.display()))?;
        let mut pool = Self::Ours { socket, child, folder };
        pool.wait_until_ready(setup.workers)?;
        Ok(pool)
    }

    /// The control socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        match self {
            Self::Theirs(socket) | Self::Ours { socket, .. } => socket,
        }
    }

    fn wait_until_ready(&mut self, workers: u32) -> anyhow::Result<()> {
        let patience = START + START_OF_EACH * workers;
        let deadline = Instant::now() + patience;
        loop {
            if let Self::Ours { child, .. } = self
                && let Some(status) =
                    child.try_wait().context("failed to look after the supervisor")?
            {
                bail!("failed to start a supervisor: it ended with {status}");
            }
            match self.is_ready(workers) {
                Ok(true) => return Ok(()),
                Ok(false) | Err(ClientError::NoDaemon { .. }) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(false) => bail!(
                    "failed to start a supervisor: its workers were not ready after {patience:?}"
                ),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn is_ready(&self, workers: u32) -> Result<bool, ClientError> {
        let mut connection = Connection::open(self.socket(), "load")?;
        let Reply::Body(body) = connection.control(&ControlRequest::Ready)? else {
            return Ok(false);
        };
        let reply: ReadyReply = serde_json::from_slice(&body).map_err(ClientError::Reply)?;
        Ok(reply.ready
            && crate::usage::workers(&mut connection)?.iter().filter(|w| w.state == "idle").count()
                as u32
                >= workers)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Self::Ours { child, .. } = self {
            stop(child);
        }
    }
}

/// Asks a supervisor to stop, and makes it when it does not.
pub fn stop(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    let deadline = Instant::now() + STOP;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// One of the project's programs: beside this one, in the release build beside this one's, or in
/// `target/release` below the current folder. A build of this program for tests looks for the
/// release first: what is measured is what is shipped.
///
/// # Errors
/// When it is in none of these; says where it was looked for.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("failed to find this program's own file")?;
    let folder = own.parent().context("failed to find this program's own folder")?;
    let mut places = [
        folder.join(name),
        folder.join("../release").join(name),
        Path::new("target/release").join(name),
    ];
    if cfg!(debug_assertions) {
        places.swap(0, 1);
    }
    places.iter().find(|place| place.is_file()).cloned().with_context(|| {
        let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        format!("failed to find {name} as {}; build it with scripts/build.sh", places.join(" or "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setup_becomes_the_configuration_of_its_words() {
        let plain = Setup::new(3).config();
        assert_eq!(
            (&plain["pool"]["minWorkers"], &plain["pool"]["maxWorkers"]),
            (&json!(3), &json!(3))
        );
        assert_eq!(
            (&plain["isolation"], &plain["tenancy"]),
            (&json!("standard"), &json!("shared"))
        );
        assert_eq!(plain["pool"].get("queueSize"), None);
        let setup =
            Setup { tenancy: Tenancy::Task, recycle: 100, queue: Some(2_000_000), ..Setup::new(1) };
        let config = setup.config();
        assert_eq!(
            (&config["tenancy"], &config["pool"]["maxTasksPerWorker"]),
            (&json!("task"), &json!(100))
        );
        assert_eq!(config["pool"]["queueSize"], json!(4_000_000), "of which one project gets half");
    }
}
