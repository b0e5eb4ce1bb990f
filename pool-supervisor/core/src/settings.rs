//! The pool's settings as the core needs them: validated, in milliseconds and bytes.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use pool_protocol::limits::{DEFAULT_SPAWN_TIMEOUT_MS, DEFAULT_TIMEOUT_MS};

/// What may share a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tenancy {
    /// Tasks of all projects, one after the other.
    Shared,
    /// Tasks of one project: a worker is replaced before another project is served.
    Project,
    /// Nothing: a worker serves one attempt of one task and leaves.
    Task,
}

impl Tenancy {
    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Project => "project",
            Self::Task => "task",
        }
    }
}

/// One project's settings.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ProjectSettings {
    /// How many of its tasks may run at once; `None` is no limit, 0 pauses it.
    pub limit: Option<u32>,
    /// Its share of worker time against other projects of the same priority; over 0.
    pub weight: f64,
    /// How many of its tasks may wait; `None` is no limit but the queue's.
    pub max_queued: Option<u32>,
}

impl Default for ProjectSettings {
    fn default() -> Self {
        Self { limit: None, weight: 1.0, max_queued: None }
    }
}

/// The whole. Every field has been validated; see each one's unit.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// Workers that always live. These are of the JavaScript lane; the other lane starts on demand.
    pub min_workers: u32,
    /// Workers that may live at once, both lanes together; at least 1 and at least `min_workers`.
    pub max_workers: u32,
    /// Processors that the workers share; at least 1. So many workers busy with tiny tasks keep
    /// them all busy.
    pub processors: u32,
    /// Whether the number follows the load.
    pub auto_scale: bool,
    /// One more worker above this load.
    pub scale_up_threshold: f64,
    /// One fewer below this load.
    pub scale_down_threshold: f64,
    /// Between two steps of scaling, in milliseconds.
    pub scale_cooldown_ms: u64,
    /// Tasks until a worker is replaced (± 10 %); 0 is never.
    pub max_tasks_per_worker: u32,
    /// Resident bytes above which a worker is replaced; 0 is never.
    pub max_memory_per_worker: u64,
    /// Age above which a worker is replaced, in milliseconds; 0 is never.
    pub max_worker_age_ms: u64,
    /// Idle time after which a worker above the minimum goes, in milliseconds; 0 is never.
    pub worker_idle_timeout_ms: u64,
    /// Between two heartbeats, in milliseconds; three missed ones and the worker is killed, ten on
    /// a busy machine.
    pub heartbeat_interval_ms: u64,
    /// From the spawn to ready, in milliseconds.
    pub spawn_timeout_ms: u64,
    /// What running tasks get to finish in a drain, in milliseconds.
    pub drain_timeout_ms: u64,
    /// Tasks that may wait.
    pub queue_size: u32,
    /// Bytes that the bodies of tasks that have not ended may hold, together.
    pub queue_bytes: u64,
    /// A task's `timeout` when it names none, in milliseconds.
    pub timeout_ms: u64,
    /// CPU time per task: the default and the most, in milliseconds.
    pub cpu_ms: u64,
    /// Memory per task: the default and the most, in bytes.
    pub memory_bytes: u64,
    /// Waiting this long counts as one more step of priority, in milliseconds.
    pub priority_ageing_ms: u64,
    /// What a program that is to end gets for it, in milliseconds: between SIGTERM and SIGKILL.
    pub kill_after_ms: u64,
    /// What may share a worker.
    pub tenancy: Tenancy,
    /// How long a body that has ended workers is not run again, in milliseconds; 0 is not at all.
    pub set_aside_ms: u64,
    /// Named projects; others have the default settings.
    pub projects: BTreeMap<Box<str>, ProjectSettings>,
}

impl Default for Settings {
    /// What holds without a configuration, on a machine with four processors.
    fn default() -> Self {
        Self {
            min_workers: 1,
            max_workers: 4,
            processors: 4,
            auto_scale: true,
            scale_up_threshold: 0.8,
            scale_down_threshold: 0.2,
            scale_cooldown_ms: 1000,
            max_tasks_per_worker: 100,
            max_memory_per_worker: 512 << 20,
            max_worker_age_ms: 3_600_000,
            worker_idle_timeout_ms: 60_000,
            heartbeat_interval_ms: 1000,
            spawn_timeout_ms: DEFAULT_SPAWN_TIMEOUT_MS,
            drain_timeout_ms: 30_000,
            queue_size: 100_000,
            queue_bytes: 1 << 30,
            timeout_ms: DEFAULT_TIMEOUT_MS,
            cpu_ms: 60_000,
            memory_bytes: 128 << 20,
            priority_ageing_ms: 10_000,
            kill_after_ms: 2_000,
            tenancy: Tenancy::Shared,
            set_aside_ms: 600_000,
            projects: BTreeMap::new(),
        }
    }
}
