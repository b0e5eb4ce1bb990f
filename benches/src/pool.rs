//! A pool of the measurement's own: a supervisor in a temporary folder, ended with it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pool_protocol::control::{ControlRequest, ReadyReply};
use pool_supervisor::client::{ClientError, Connection, Reply};
use serde_json::{Value, json};
use tempfile::TempDir;

/// From the start to ready: a cold file cache is the slowest part.
const START: Duration = Duration::from_secs(30);
/// From asking to stop to gone.
const STOP: Duration = Duration::from_secs(10);

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
    /// Uses the supervisor on a socket, or starts one with so many workers.
    ///
    /// # Errors
    /// When the programs are missing or do not start; says which.
    pub fn reach(socket: Option<&Path>, workers: u32) -> anyhow::Result<Self> {
        if let Some(socket) = socket {
            return Ok(Self::Theirs(socket.to_owned()));
        }
        // A worker's start is not what is measured: none is replaced.
        Self::start(workers, &json!({ "maxTasksPerWorker": 0 }), None)
    }

    /// Starts a supervisor with so many workers, these settings of the pool, and this isolation.
    ///
    /// # Errors
    /// When the programs are missing or do not start; says which.
    pub fn start(workers: u32, more: &Value, isolation: Option<&str>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
        let mut config = json!({
            "pool": { "minWorkers": workers, "maxWorkers": workers, "autoScale": false },
            "isolation": isolation.unwrap_or("standard"),
            "http": { "listen": "off" },
            // What is missing is the measured machine's affair, not news.
            "log": { "level": "error" },
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            config["pool"][name] = value.clone();
        }
        let path = folder.path().join("pool.json");
        std::fs::write(&path, config.to_string()).context("failed to write the configuration")?;
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
        pool.wait_until_ready(workers)?;
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
        let deadline = Instant::now() + START;
        loop {
            if let Self::Ours { child, .. } = self
                && let Some(status) = child.try_wait().context("failed to look after the supervisor")?
            {
                bail!("failed to start a supervisor: it ended with {status}");
            }
            match self.is_ready(workers) {
                Ok(true) => return Ok(()),
                Ok(false) | Err(ClientError::NoDaemon { .. }) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(false) => bail!("failed to start a supervisor: its workers were not ready after {START:?}"),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn is_ready(&self, workers: u32) -> Result<bool, ClientError> {
        let mut connection = Connection::open(self.socket(), "load")?;
        let Reply::Body(body) = connection.control(&ControlRequest::Ready)? else { return Ok(false) };
        let reply: ReadyReply = serde_json::from_slice(&body).map_err(ClientError::Reply)?;
        Ok(reply.ready
            && crate::usage::workers(&mut connection)?.iter().filter(|w| w.state == "idle").count() as u32 >= workers)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let Self::Ours { child, .. } = self else { return };
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
}

/// One of the project's programs: beside this one, else in `target/release` below the current folder.
///
/// # Errors
/// When it is in neither place; says where it was looked for.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("failed to find this program's own file")?;
    let places = [own.with_file_name(name), Path::new("target/release").join(name)];
    match places.iter().find(|place| place.is_file()) {
        Some(place) => Ok(place.clone()),
        None => bail!(
            "failed to find {name}: it is neither {} nor {}; build it with `cargo build --release`",
            places[0].display(),
            places[1].display()
        ),
    }
}
