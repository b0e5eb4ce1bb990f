//! The configuration: files become validated settings, and errors point at the key.
//!
//! Owns every setting's name, bounds and default. What comes out is whole and sound: paths are
//! absolute and exist, programs are resolved, patterns compile, bounds agree, so that nothing
//! inside checks again. It must not accept a setting that does nothing, and decides nothing about
//! the pool itself.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

pub use pool_core::settings::Tenancy;
use pool_protocol::lane::Lane;
use pool_protocol::layer::Level;
use pool_protocol::limits;
use pool_protocol::task::{InvalidTask, Realm, TaskKind};
use pool_protocol::worker::{
    AllowedProgram, HttpSetup, IsolationSetup, JsSetup, PublicAddresses, Setup, ShellSetup,
};
use serde::Serialize;

mod allow;
mod authorities;
mod effective;
mod file;
pub mod keys;
pub mod paths;
mod read;
#[cfg(test)]
mod tests;
mod trust;
mod value;

pub use allow::{is_argument_pattern, parse_listen};
use file::cpus;
pub use trust::{Implied, Trust};

/// The most workers one pool may have.
pub const MAX_WORKERS: u32 = 4096;
/// The port of the HTTP API.
pub const DEFAULT_PORT: u16 = 45678;
/// A configuration file's bytes: far above any real one, and far below what would hurt.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// A configuration that cannot be used. The one in force stays.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read the configuration {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// The file is too large to be one.
    #[error("failed to read the configuration {path}: it is over {} MiB", MAX_FILE_BYTES >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The name does not tell the format.
    #[error("failed to read the configuration {path}: its name must end in .json or .toml")]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// The file is not of its format.
    #[error("failed to read the configuration {path}: it is no {format}: {detail}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// `JSON` or `TOML`.
        format: &'static str,
        /// What the parser said, with the line.
        detail: String,
    },
    /// A setting is not known, doubled, of the wrong type, or out of bounds.
    #[error("failed to accept the configuration {path}: {key} {problem}")]
    Setting {
        /// The file.
        path: PathBuf,
        /// The key's whole path.
        key: String,
        /// Completes "`key` ".
        problem: String,
    },
}

/// Everything that can be set, with what was not set at its default.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Workers, queue, times.
    pub pool: PoolConfig,
    /// What one task may use.
    pub limits: LimitsConfig,
    /// Whose code runs. What it implies of other settings is in these already.
    pub trust: Trust,
    /// How workers are confined.
    pub isolation: Level,
    /// Control groups.
    pub cgroup: CgroupConfig,
    /// What may share a worker.
    #[serde(serialize_with = "tenancy_name")]
    pub tenancy: Tenancy,
    /// The worker's program; `None` is beside the supervisor's own.
    #[serde(serialize_with = "effective::auto_path")]
    pub worker_path: Option<PathBuf>,
    /// Projects with settings of their own.
    pub projects: BTreeMap<String, ProjectConfig>,
    /// The JavaScript lane.
    pub js: JsConfig,
    /// Programs.
    pub shell: ShellConfig,
    /// The HTTP API, and what HTTP tasks may reach.
    pub http: HttpConfig,
    /// The log.
    pub log: LogConfig,
}

/// `pool`; see [`keys::KEYS`] for meanings and bounds.
#[expect(
    missing_docs,
    reason = "the names are those of the keys, which the table of keys explains"
)]
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolConfig {
    pub min_workers: u32,
    pub max_workers: u32,
    pub auto_scale: bool,
    pub scale_up_threshold: f64,
    pub scale_down_threshold: f64,
    #[serde(rename = "scaleCooldown")]
    pub scale_cooldown_ms: u64,
    pub max_tasks_per_worker: u32,
    pub max_memory_per_worker: u64,
    #[serde(rename = "maxWorkerAge")]
    pub max_worker_age_ms: u64,
    #[serde(rename = "workerIdleTimeout")]
    pub worker_idle_timeout_ms: u64,
    #[serde(rename = "heartbeatInterval")]
    pub heartbeat_interval_ms: u64,
    #[serde(rename = "spawnTimeout")]
    pub spawn_timeout_ms: u64,
    #[serde(rename = "drainTimeout")]
    pub drain_timeout_ms: u64,
    pub queue_size: u32,
    pub queue_bytes: u64,
    #[serde(rename = "resultTtl")]
    pub result_ttl_ms: u64,
    #[serde(rename = "priorityAgeing")]
    pub priority_ageing_ms: u64,
    #[serde(rename = "setAside")]
    pub set_aside_ms: u64,
}

/// `limits`; see [`keys::KEYS`] for meanings and bounds.
#[expect(
    missing_docs,
    reason = "the names are those of the keys, which the table of keys explains"
)]
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitsConfig {
    #[serde(rename = "timeout")]
    pub timeout_ms: u64,
    pub cpu_ms: u64,
    pub memory_bytes: u64,
    pub result_bytes: u64,
    pub body_bytes: u64,
    pub open_files: u64,
    pub file_bytes: u64,
    pub processes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
}

/// `cgroup`
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CgroupConfig {
    /// Whether groups are used.
    pub mode: CgroupMode,
    /// The group that is the supervisor's; `None` is the one it was started in.
    #[serde(serialize_with = "effective::auto_path")]
    pub path: Option<PathBuf>,
}

/// `cgroup.mode`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupMode {
    /// Where one was delegated, or a path names one.
    Auto,
    /// No pool without.
    Required,
    /// None.
    Off,
}

impl CgroupMode {
    /// The name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Required => "required",
            Self::Off => "off",
        }
    }
}

/// As the file has it.
fn tenancy_name<S: serde::Serializer>(tenancy: &Tenancy, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(tenancy.name())
}

/// One of `projects`.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProjectConfig {
    /// How many of its tasks may run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Its share against other projects.
    pub weight: f64,
    /// How many of its tasks may wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_queued: Option<u32>,
    /// Where its JavaScript tasks run that name no realm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realm: Option<Realm>,
    /// Nothing of it runs in a realm that is kept.
    pub forbid_warm: bool,
}

impl Default for ProjectConfig {
    fn default() -> Self {
        Self { limit: None, weight: 1.0, max_queued: None, realm: None, forbid_warm: false }
    }
}

/// `js`
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JsConfig {
    /// Existing folders.
    #[serde(serialize_with = "effective::folders_as_written")]
    pub module_roots: Vec<NamedFolder>,
    /// Of package manifests, besides those that Node knows.
    pub conditions: Vec<String>,
    /// Modules find no `process` when this is nothing.
    #[serde(serialize_with = "effective::or_none")]
    pub node_env: Option<String>,
    /// `eval` and `new Function`.
    pub allow_code_generation: bool,
    /// WebAssembly.
    pub allow_wasm: bool,
}

impl Default for JsConfig {
    fn default() -> Self {
        Self {
            module_roots: Vec::new(),
            // As for runtimes that are neither Node nor a browser: code for browsers needs less of
            // what is not there.
            conditions: ["worker", "browser"].map(str::to_owned).to_vec(),
            node_env: Some("production".to_owned()),
            allow_code_generation: false,
            allow_wasm: false,
        }
    }
}

/// A folder that has been found, both of its paths UTF-8.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedFolder {
    /// As the file has it, absolute.
    pub written: PathBuf,
    /// Its canonical path.
    pub real: PathBuf,
}

/// `shell`
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShellConfig {
    /// Resolved programs with sound patterns.
    #[serde(serialize_with = "effective::as_written")]
    pub allow: Vec<AllowedProgram>,
    /// Those programs' files.
    #[serde(skip)]
    pub held: allow::HeldFiles,
    /// The whole environment of programs, but for what their tasks may add.
    pub env: BTreeMap<String, String>,
    /// Variables that tasks may add: names, and beginnings of names that end in `*`.
    pub task_env: Vec<String>,
    /// Canonical, existing, UTF-8.
    pub cwd: PathBuf,
    /// Canonical, existing, UTF-8.
    pub readable: Vec<PathBuf>,
    /// Canonical, existing, UTF-8.
    pub writable: Vec<PathBuf>,
    /// Absolute, UTF-8; nothing need be there.
    pub sockets: Vec<PathBuf>,
    /// Between SIGTERM and SIGKILL.
    #[serde(rename = "killAfter")]
    pub kill_after_ms: u64,
    /// Permissions that files of programs' making do not get.
    #[serde(serialize_with = "effective::octal")]
    pub umask: u32,
}

/// `http`
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpConfig {
    /// The API's address; `None` is `off`.
    #[serde(serialize_with = "effective::off_address")]
    pub listen: Option<SocketAddr>,
    /// The API's Unix socket. See [`HttpConfig::socket_beside`].
    pub socket: ApiSocket,
    /// See [`HttpConfig::key_file_beside`].
    #[serde(serialize_with = "effective::auto_path")]
    pub key_file: Option<PathBuf>,
    /// Whether HTTP tasks may reach public addresses that `allow` does not list.
    pub public: PublicAddresses,
    /// What HTTP tasks may reach besides.
    pub allow: Vec<String>,
    /// Files of authorities that HTTP tasks trust besides the machine's: canonical, existing,
    /// UTF-8.
    pub ca: Vec<PathBuf>,
    /// What is in them: certificates in PEM.
    #[serde(skip)]
    pub authorities: String,
}

/// `http.socket`
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ApiSocket {
    /// Beside the control socket, when the API listens at all.
    Auto,
    /// None.
    Off,
    /// There.
    At(PathBuf),
}

/// `log`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct LogConfig {
    /// The least important line that is written.
    pub level: LogLevel,
    /// Its form.
    pub format: LogFormat,
}

/// `log.level`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the usual names")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// All levels.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The name in the file, which is also `tracing`'s.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// `log.format`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text.
    Auto,
    /// One JSON object a line.
    Json,
    /// Text.
    Text,
}

impl Config {
    /// Reads and checks a file; without one, all defaults.
    ///
    /// # Errors
    /// [`ConfigError`], naming the file and, when it is a setting's fault, the key and what is
    /// allowed.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else {
            return Ok(Self::with_defaults(cpus()));
        };
        Self::from_text(path, &file::read(path)?)
    }

    /// Checks a file's text; the path names the format, and the file in errors.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn from_text(path: &Path, text: &str) -> Result<Self, ConfigError> {
        read::config(file::tree(path, text)?, cpus()).map_err(|value::Problem { key, problem }| {
            ConfigError::Setting { path: path.to_owned(), key, problem }
        })
    }

    fn with_defaults(cpus: u32) -> Self {
        let core = pool_core::settings::Settings::default();
        Self {
            pool: PoolConfig {
                min_workers: core.min_workers,
                max_workers: cpus,
                auto_scale: core.auto_scale,
                scale_up_threshold: core.scale_up_threshold,
                scale_down_threshold: core.scale_down_threshold,
                scale_cooldown_ms: core.scale_cooldown_ms,
                max_tasks_per_worker: core.max_tasks_per_worker,
                max_memory_per_worker: core.max_memory_per_worker,
                max_worker_age_ms: core.max_worker_age_ms,
                worker_idle_timeout_ms: core.worker_idle_timeout_ms,
                heartbeat_interval_ms: core.heartbeat_interval_ms,
                spawn_timeout_ms: core.spawn_timeout_ms,
                drain_timeout_ms: core.drain_timeout_ms,
                queue_size: core.queue_size,
                queue_bytes: core.queue_bytes,
                result_ttl_ms: 600_000,
                priority_ageing_ms: core.priority_ageing_ms,
                set_aside_ms: core.set_aside_ms,
            },
            limits: LimitsConfig {
                timeout_ms: core.timeout_ms,
                cpu_ms: core.cpu_ms,
                memory_bytes: core.memory_bytes,
                result_bytes: limits::DEFAULT_BODY_BYTES as u64,
                body_bytes: limits::DEFAULT_BODY_BYTES as u64,
                open_files: 64,
                file_bytes: 1 << 30,
                processes: 64,
                cpus: None,
            },
            trust: Trust::Trusted,
            isolation: Level::Standard,
            cgroup: CgroupConfig { mode: CgroupMode::Auto, path: None },
            tenancy: Tenancy::Shared,
            worker_path: None,
            projects: BTreeMap::new(),
            js: JsConfig::default(),
            shell: ShellConfig {
                allow: Vec::new(),
                held: allow::HeldFiles::default(),
                env: BTreeMap::new(),
                task_env: Vec::new(),
                cwd: PathBuf::from("/"),
                readable: Vec::new(),
                writable: Vec::new(),
                sockets: Vec::new(),
                kill_after_ms: core.kill_after_ms,
                umask: 0o077,
            },
            http: HttpConfig {
                listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT))),
                socket: ApiSocket::Auto,
                key_file: None,
                public: PublicAddresses::Allow,
                allow: Vec::new(),
                ca: Vec::new(),
                authorities: String::new(),
            },
            log: LogConfig { level: LogLevel::Info, format: LogFormat::Auto },
        }
    }

    /// What the core is told.
    #[must_use]
    pub fn core_settings(&self) -> pool_core::settings::Settings {
        let projects = self.projects.iter().map(|(id, project)| {
            let ProjectConfig { limit, weight, max_queued, .. } = *project;
            (
                Box::from(id.as_str()),
                pool_core::settings::ProjectSettings { limit, weight, max_queued },
            )
        });
        let pool = &self.pool;
        pool_core::settings::Settings {
            min_workers: pool.min_workers,
            max_workers: pool.max_workers,
            processors: file::cpus(),
            auto_scale: pool.auto_scale,
            scale_up_threshold: pool.scale_up_threshold,
            scale_down_threshold: pool.scale_down_threshold,
            scale_cooldown_ms: pool.scale_cooldown_ms,
            max_tasks_per_worker: pool.max_tasks_per_worker,
            max_memory_per_worker: pool.max_memory_per_worker,
            max_worker_age_ms: pool.max_worker_age_ms,
            worker_idle_timeout_ms: pool.worker_idle_timeout_ms,
            heartbeat_interval_ms: pool.heartbeat_interval_ms,
            spawn_timeout_ms: pool.spawn_timeout_ms,
            drain_timeout_ms: pool.drain_timeout_ms,
            queue_size: pool.queue_size,
            queue_bytes: pool.queue_bytes,
            timeout_ms: self.limits.timeout_ms,
            cpu_ms: self.limits.cpu_ms,
            memory_bytes: self.limits.memory_bytes,
            priority_ageing_ms: pool.priority_ageing_ms,
            set_aside_ms: pool.set_aside_ms,
            kill_after_ms: self.shell.kill_after_ms,
            tenancy: self.tenancy,
            projects: projects.collect(),
        }
    }

    /// What a worker is told at its start; whether it has namespaces, and where the pool's own
    /// sockets are, is for whoever starts its process to add.
    #[must_use]
    pub fn worker_setup(&self, lane: Lane, worker: String, snapshot: Option<String>) -> Setup {
        let utf8 =
            |path: &PathBuf| path.to_str().expect("paths are checked to be UTF-8").to_owned();
        let links = self.js.module_roots.iter().filter(|root| root.written != root.real);
        // Who starts at the root has not said that programs may write everything.
        let cwd = Some(&self.shell.cwd).filter(|cwd| cwd.parent().is_some());
        Setup {
            lane,
            worker,
            heartbeat_ms: self.pool.heartbeat_interval_ms,
            body_bytes: self.limits.body_bytes,
            result_bytes: self.limits.result_bytes,
            open_files: self.limits.open_files,
            memory_bytes: self.limits.memory_bytes,
            js: JsSetup {
                module_roots: self.js.module_roots.iter().map(|root| utf8(&root.real)).collect(),
                module_links: links.map(|root| (utf8(&root.written), utf8(&root.real))).collect(),
                conditions: self.js.conditions.clone(),
                node_env: self.js.node_env.clone(),
                allow_code_generation: self.js.allow_code_generation,
                allow_wasm: self.js.allow_wasm,
                snapshot,
            },
            shell: ShellSetup {
                allow: self.shell.allow.clone(),
                env: self.shell.env.clone(),
                task_env: self.shell.task_env.clone(),
                cwd: Some(utf8(&self.shell.cwd)),
                file_bytes: self.limits.file_bytes,
                kill_after_ms: self.shell.kill_after_ms,
                umask: self.shell.umask,
            },
            http: HttpSetup {
                public: self.http.public,
                allow: self.http.allow.clone(),
                authorities: self.http.authorities.clone(),
            },
            isolation: IsolationSetup {
                level: self.isolation,
                namespaced: false,
                readable: self.shell.readable.iter().map(utf8).collect(),
                writable: cwd.into_iter().chain(&self.shell.writable).map(utf8).collect(),
                sockets: self.shell.sockets.iter().map(utf8).collect(),
                covered: Vec::new(),
            },
            probe: None,
        }
    }

    /// Where a task runs: what it asks for, else its project's default, else its type's. A
    /// project's default of `frozen` means code and functions, since a module is kept.
    ///
    /// # Errors
    /// [`InvalidTask`] when it asks for `warm` and its project forbids that, or for a module in
    /// `frozen`.
    pub fn realm_for(
        &self,
        project: &str,
        kind: TaskKind,
        asked: Option<Realm>,
    ) -> Result<Realm, InvalidTask> {
        let settings = self.projects.get(project);
        let forbid_warm = settings.is_some_and(|p| p.forbid_warm);
        match asked {
            Some(Realm::Warm) if forbid_warm => Err(InvalidTask::new(
                "realm",
                format!(
                    "must not be `warm`: the configuration forbids it to project {project}; \
                    use `fresh`"
                ),
            )),
            Some(Realm::Frozen) if kind == TaskKind::Module => Err(InvalidTask::new(
                "realm",
                "must not be `frozen` for a module, which keeps what it holds; use `fresh` or \
                 `warm`"
                    .to_owned(),
            )),
            Some(realm) => Ok(realm),
            None => {
                let default = settings.and_then(|p| p.realm);
                let default =
                    default.filter(|realm| kind != TaskKind::Module || *realm != Realm::Frozen);
                Ok(default.unwrap_or(if forbid_warm { Realm::Fresh } else { kind.default_realm() }))
            }
        }
    }

    /// What a person should know who has asked for it: told at start and at a reload.
    #[must_use]
    pub fn notices(&self) -> Vec<String> {
        let off = match self.isolation {
            Level::Strict | Level::Standard => None,
            Level::Off => Some(
                "isolation is \"off\": tasks are kept apart by limits of resources only, and code \
                 that breaks out of its engine \
                 has the supervisor's rights; for code that is trusted"
                    .to_owned(),
            ),
        };
        off.into_iter().chain(self.weakened()).collect()
    }

    /// The whole, defaults included, as a file that loads to the same again.
    #[must_use]
    pub fn effective_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and UTF-8 texts serialise")
    }
}

impl HttpConfig {
    /// The API's key file: as configured, else `api.key` beside the control socket.
    #[must_use]
    pub fn key_file_beside(&self, control_socket: &Path) -> PathBuf {
        self.key_file.clone().unwrap_or_else(|| paths::beside(control_socket, "api.key"))
    }

    /// The API's Unix socket, if it has one: as configured, else `api.sock` beside the control
    /// socket.
    #[must_use]
    pub fn socket_beside(&self, control_socket: &Path) -> Option<PathBuf> {
        match &self.socket {
            ApiSocket::At(path) => Some(path.clone()),
            ApiSocket::Auto if self.listen.is_some() => {
                Some(paths::beside(control_socket, "api.sock"))
            }
            ApiSocket::Auto | ApiSocket::Off => None,
        }
    }
}
