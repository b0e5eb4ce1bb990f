//! A supervisor with its workers in a temporary folder.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use pool_protocol::control::ControlRequest;
use pool_protocol::id::TaskId;
use pool_supervisor::client::ClientError;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::binaries::binaries;
use crate::client::Client;
use crate::executable;
use crate::folder::Folder;
use crate::http::Api;
use crate::proc;
use crate::skip;
use crate::wait::{until, until_some};

/// A number that no user of the machine is likely to have.
pub const ORDINARY_USER: u32 = 60_613;

/// Ended when it is dropped; a worker that outlives it fails the test.
#[derive(Debug)]
pub struct Pool {
    folder: Folder,
    child: Child,
    socket: PathBuf,
    config: PathBuf,
    ended: Option<ExitStatus>,
}

/// What `poolctl` answered.
#[derive(Clone, Debug)]
pub struct Ctl {
    /// Its exit code.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Ctl {
    /// What it printed, as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// What it printed, line by line as JSON.
    ///
    /// # Panics
    /// When a line is none.
    #[must_use]
    pub fn json_lines(&self) -> Vec<Value> {
        let read = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        self.stdout.lines().map(read).collect()
    }
}

impl From<Output> for Ctl {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A command for the supervisor with an environment of ours: what the machine has set must not
/// matter.
#[must_use]
pub fn supervisor_command(folder: &Folder) -> Command {
    let mut command = Command::new(&binaries().supervisor);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("STATE_DIRECTORY", folder.join("state"))
        // Shared by all tests, as by all starts of one installation.
        .env("CACHE_DIRECTORY", cache_folder())
        .current_dir("/")
        .stdin(Stdio::null());
    command
}

fn cache_folder() -> PathBuf {
    let folder = std::env::temp_dir()
        .join(format!("pool-tests-cache-{}", rustix::process::getuid().as_raw()));
    std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
    folder
}

impl Pool {
    /// Starts one with this configuration, and waits until it listens. The HTTP API is off unless
    /// the configuration says otherwise.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(config: Value) -> Self {
        Self::start_with(config, |_| {})
    }

    /// Starts one whose HTTP API listens on a free port.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn with_http(mut config: Value) -> Self {
        config["http"]["listen"] = json!("127.0.0.1:0");
        Self::start(config)
    }

    /// Starts one whose workers have every layer that isolation `strict` promises, and waits until
    /// one of them is ready. Nothing where the machine does not have every layer, which is said.
    ///
    /// # Panics
    /// When it does not start for another reason.
    #[must_use]
    pub fn strict(mut config: Value) -> Option<Self> {
        config["isolation"] = json!("strict");
        let pool = Self::launch(config, |_| {});
        let is_ready = until_some("a worker is ready, or the supervisor has ended", || {
            let ended = !proc::alive(pool.pid());
            let ready = || {
                pool.try_status()
                    .is_some_and(|status| status["workers"]["available"].as_u64() > Some(0))
            };
            if ended { Some(false) } else { ready().then_some(true) }
        });
        if is_ready {
            return Some(pool);
        }
        let log = pool.log();
        let why = log.lines().find(|line| line.contains("as the configuration promises"));
        skip::skipped(
            skip::STRICT,
            why.unwrap_or_else(|| panic!("the supervisor ended at its start:\n{log}")),
        );
        None
    }

    /// Starts one; the function may change the command.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_with(config: Value, change: impl FnOnce(&mut Command)) -> Self {
        let pool = Self::launch(config, change);
        until("the supervisor listens", || {
            assert!(proc::alive(pool.pid()), "the supervisor ended at its start:\n{}", pool.log());
            Client::open(&pool.socket).is_ok()
        });
        pool
    }

    /// Starts the program and waits for nothing.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn launch(mut config: Value, change: impl FnOnce(&mut Command)) -> Self {
        fill_in(&mut config);
        let folder = Folder::new();
        let path = folder.write("config.json", config.to_string());
        let socket = folder.join("run/pool.sock");
        let log = File::create(folder.join("log")).expect("a file can be made");
        let mut command = supervisor_command(&folder);
        command.arg("--config").arg(&path).arg("--socket").arg(&socket);
        change(&mut command);
        command.stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("the supervisor can be started");
        Self { folder, child, socket, config: path, ended: None }
    }

    /// Starts one as an ordinary user, and waits until it listens: one with the number
    /// [`ORDINARY_USER`], which owns the pool's folder. Nothing where this test is no root.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_as_ordinary_user(config: Value) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        Some(Self::start_with(config, |command| {
            let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            let folder =
                Path::new(&arguments[1]).parent().expect("the configuration's folder").to_owned();
            // Wherever the programs lie, they may be out of that user's reach.
            let supervisor = folder.join("pool-supervisor");
            executable::copy(&binaries().supervisor, &supervisor);
            executable::copy(&binaries().worker, &folder.join("pool-worker"));
            chown(&folder, Some(ORDINARY_USER), Some(ORDINARY_USER)).expect("we are root");
            let mut theirs = Command::new(supervisor);
            theirs.args(arguments).env_clear().current_dir("/").stdin(Stdio::null());
            theirs.env("PATH", "/usr/bin:/bin").env("STATE_DIRECTORY", folder.join("state"));
            theirs
                .env("CACHE_DIRECTORY", folder.join("cache"))
                .uid(ORDINARY_USER)
                .gid(ORDINARY_USER);
            *command = theirs;
        }))
    }

    /// The supervisor's process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    /// The control socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(self.folder.join("log")) {
            let _ = file.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A connection.
    ///
    /// # Panics
    /// When the supervisor does not answer.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::open(&self.socket).unwrap_or_else(|e| panic!("{e}\n{}", self.log()))
    }

    /// Runs one task to its end, on a connection of its own.
    pub fn run(&self, task: Value) -> Value {
        self.client().run(&task)
    }

    /// Submits tasks all at once and gives their outcomes in the same order.
    #[must_use]
    pub fn run_all(&self, tasks: &[Value]) -> Vec<Value> {
        let mut client = self.client();
        let requests: Vec<u64> = tasks.iter().map(|task| client.submit(task)).collect();
        requests.into_iter().map(|request| client.outcome(request)).collect()
    }

    /// Submits a task that goes on without us; gives its id.
    #[must_use]
    pub fn submit(&self, task: Value) -> String {
        let mut client = self.client();
        let request = client.submit(&task);
        client.id(request)
    }

    /// The outcome of a task that was submitted, once it has ended.
    pub fn outcome(&self, id: &str) -> Value {
        self.ask(&ControlRequest::Wait { task: number(id) })
    }

    /// A task's state or outcome.
    #[must_use]
    pub fn task(&self, id: &str) -> Value {
        self.ask(&ControlRequest::Task { task: number(id) })
    }

    /// Cancels a task.
    pub fn cancel(&self, id: &str) -> Value {
        self.ask(&ControlRequest::Cancel { task: number(id) })
    }

    /// Sets a project's limit.
    pub fn limit(&self, project: &str, limit: u32) -> Value {
        self.ask(&ControlRequest::SetLimit { project, limit })
    }

    /// An administrative request that is granted.
    ///
    /// # Panics
    /// When it is refused.
    pub fn ask(&self, request: &ControlRequest<'_>) -> Value {
        self.try_ask(request).unwrap_or_else(|e| panic!("{request:?}: {e}\n{}", self.log()))
    }

    /// An administrative request.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub fn try_ask(&self, request: &ControlRequest<'_>) -> Result<Value, ClientError> {
        self.client().ask(request)
    }

    /// `poolctl status`
    #[must_use]
    pub fn status(&self) -> Value {
        self.ask(&ControlRequest::Status)
    }

    /// As [`Self::status`], of a supervisor that may not answer.
    #[must_use]
    pub fn try_status(&self) -> Option<Value> {
        Client::open(&self.socket).ok()?.ask(&ControlRequest::Status).ok()
    }

    /// Living workers.
    #[must_use]
    pub fn workers(&self) -> Vec<Value> {
        list(self.ask(&ControlRequest::Workers { dead: false }))
    }

    /// Living workers of a lane in a state.
    #[must_use]
    pub fn workers_that_are(&self, lane: &str, state: &str) -> Vec<Value> {
        self.workers().into_iter().filter(|w| w["lane"] == lane && w["state"] == state).collect()
    }

    /// Ended workers.
    #[must_use]
    pub fn dead_workers(&self) -> Vec<Value> {
        list(self.ask(&ControlRequest::Workers { dead: true }))
    }

    /// Projects by name.
    #[must_use]
    pub fn projects(&self) -> Value {
        self.ask(&ControlRequest::Projects)
    }

    /// All events that are kept.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.client().events(Some(0))
    }

    /// Those of one name.
    #[must_use]
    pub fn events_named(&self, name: &str) -> Vec<Value> {
        self.events().into_iter().filter(|e| e["event"] == name).collect()
    }

    /// The process id of a living worker by its name.
    #[must_use]
    pub fn pid_of(&self, worker: &Value) -> Option<i32> {
        let rows = self.workers();
        let row = rows.iter().find(|row| &row["workerId"] == worker)?;
        i32::try_from(row["pid"].as_i64()?).ok()
    }

    /// Waits until a worker of the lane runs a task; gives its row.
    #[must_use]
    pub fn busy_worker(&self, lane: &str) -> Value {
        until_some("a worker is busy", || self.workers_that_are(lane, "busy").into_iter().next())
    }

    /// Waits until so many workers of the lane are idle.
    pub fn until_idle(&self, lane: &str, count: usize) {
        until("workers are idle", || self.workers_that_are(lane, "idle").len() == count);
    }

    /// Writes a new configuration file; nothing happens until a reload.
    pub fn configure(&self, mut config: Value) {
        fill_in(&mut config);
        std::fs::write(&self.config, config.to_string()).expect("our own file");
    }

    /// The configuration file.
    #[must_use]
    pub fn config_path(&self) -> &Path {
        &self.config
    }

    /// The HTTP API.
    ///
    /// # Panics
    /// When it does not listen.
    #[must_use]
    pub fn api(&self) -> Api {
        let status = self.status();
        let address = status["http"]
            .as_str()
            .unwrap_or_else(|| panic!("no HTTP API: {status}\n{}", self.log()));
        let key = std::fs::read_to_string(self.socket.with_file_name("api.key"))
            .expect("the key file was made");
        Api {
            address: address.trim_start_matches("http://").to_owned(),
            key: key.trim().to_owned(),
        }
    }

    /// `poolctl`, with the socket named.
    #[must_use]
    pub fn ctl(&self, arguments: &[&str]) -> Ctl {
        self.ctl_command(arguments).output().expect("poolctl can be started").into()
    }

    /// `poolctl` with a text for its standard input.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn ctl_with_input(&self, arguments: &[&str], input: &str) -> Ctl {
        let file = self.folder.write("input", input);
        let input = File::open(file).expect("just written");
        self.ctl_command(arguments).stdin(input).output().expect("poolctl can be started").into()
    }

    /// The command, for tests that do more with it.
    #[must_use]
    pub fn ctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&binaries().poolctl);
        command
            .args(arguments)
            .env_remove("XDG_RUNTIME_DIR")
            .env("POOL_SOCKET", &self.socket)
            .stdin(Stdio::null());
        command
    }

    /// Signals the supervisor.
    pub fn signal(&self, signal: Signal) {
        assert!(proc::signal(self.pid(), signal), "the supervisor is gone:\n{}", self.log());
    }

    /// Waits until the supervisor has ended by itself.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait(&mut self) -> ExitStatus {
        if let Some(status) = self.ended {
            return status;
        }
        let child = &mut self.child;
        let status =
            until_some("the supervisor exits", || child.try_wait().expect("our own child"));
        self.ended = Some(status);
        status
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let pid = self.pid();
        if self.ended.is_none() {
            // Also the hardest end that there is: no worker may outlive even this.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "--- the supervisor's log:\n{}",
                lines[lines.len().saturating_sub(60)..].join("\n")
            );
            proc::workers_of(pid).into_iter().for_each(|worker| {
                proc::kill(worker);
            });
            return;
        }
        until("no worker outlives its supervisor", || {
            proc::workers_of(pid).into_iter().all(|worker| !proc::alive(worker))
        });
    }
}

/// What tests mean that do not say otherwise: no HTTP API, and programs that may use the tests' own
/// folders and start others.
fn fill_in(config: &mut Value) {
    if config["http"]["listen"].is_null() {
        config["http"]["listen"] = json!("off");
    }
    if config["shell"]["allow"].is_array() && config["shell"]["writable"].is_null() {
        config["shell"]["writable"] = json!([std::env::temp_dir()]);
    }
    // Scripts of tests start what they need.
    if config["shell"]["allow"].is_array() && config["shell"]["readable"].is_null() {
        config["shell"]["readable"] = json!(["/usr"]);
    }
}

fn number(id: &str) -> u64 {
    id.parse::<TaskId>().expect("an id that the supervisor gave").0
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(rows) => rows,
        other => panic!("expected a list, got {other}"),
    }
}
