//! Client ⇄ supervisor messages.
//!
//! Heads are binary; what a person will read (replies and events) is JSON in the body, in the
//! shapes below.

use std::collections::BTreeMap;

use bincode::{BorrowDecode, Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::id::WorkerId;
use crate::lane::Lane;
use crate::layer::LayerSet;
use crate::outcome::{ErrorCode, Receipt, Status};
use crate::worker::ProbeReport;

/// Head of `Hello`. The frame's id is the client's protocol version.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub struct HelloHead<'a> {
    /// The program's name, for the supervisor's log.
    pub program: &'a str,
}

/// Head of `Welcome`. The frame's id is the supervisor's protocol version.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub struct WelcomeHead<'a> {
    /// The supervisor's release, such as `0.1.0`.
    pub release: &'a str,
    /// Its process id.
    pub pid: u32,
    /// The largest body it accepts, in bytes.
    pub body_bytes: u64,
}

/// Head of `Accepted`. The frame's id is the request's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct AcceptedHead {
    /// The task's id.
    pub task: u64,
}

/// Head of `Outcome`. The frame's id is the request's.
///
/// The body is as in [`crate::worker::DoneHead`]: the result or the error object, then captured
/// console lines.
#[derive(Clone, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub struct OutcomeHead<'a> {
    /// The task's id; 0 when it was refused before it had one.
    pub task: u64,
    /// How it ended.
    pub status: Status,
    /// Why it did not succeed.
    pub code: Option<ErrorCode>,
    /// How many attempts were started.
    pub attempts: u32,
    /// Where the last one ran.
    pub worker: Option<WorkerId>,
    /// What it cost.
    pub receipt: Receipt,
    /// Layers of confinement that the worker lacked where it ran last; see [`LayerSet::lacking`].
    pub missing_layers: LayerSet,
    /// The caller's own string.
    pub tag: Option<&'a str>,
    /// Where the console lines begin.
    pub result_len: u32,
}

/// Head of `Control`: an administrative request.
#[derive(Clone, PartialEq, Debug, Encode, BorrowDecode)]
pub enum ControlRequest<'a> {
    /// [`Stats`]
    Stats,
    /// [`StatusReply`]
    Status,
    /// A list of [`WorkerRow`]
    Workers {
        /// Ended ones instead of living ones: a list of [`DeadWorkerRow`].
        dead: bool,
    },
    /// A map of project to [`ProjectRow`]
    Projects,
    /// [`TaskReply`]
    Task {
        /// The task's id.
        task: u64,
    },
    /// Answers with an `Outcome` frame once the task has ended; at once when it has.
    Wait {
        /// The task's id.
        task: u64,
    },
    /// [`Done`]; the task ends as cancelled unless it has ended.
    Cancel {
        /// The task's id.
        task: u64,
    },
    /// [`LimitReply`]
    SetLimit {
        /// The project.
        project: &'a str,
        /// How many tasks of it may run at once; 0 pauses it.
        limit: u32,
    },
    /// `Event` frames from a number on. First comes a `Reply` ([`EventsStart`]); without `follow`,
    /// another `Reply` ends the list.
    Events {
        /// The first number that is wanted is one above this.
        since: Option<u64>,
        /// Go on with what comes.
        follow: bool,
    },
    /// [`Done`] as soon as the drain has begun.
    Drain,
    /// [`Done`] when the new configuration is in force.
    Reload,
    /// [`Done`] as soon as it has begun.
    Shutdown {
        /// Without waiting for running tasks.
        now: bool,
    },
    /// Prometheus text.
    Metrics,
    /// [`ReadyReply`]
    Ready,
    /// [`ProbeReply`]: a process started and confined like a worker of the lane attacks a layer or
    /// limit.
    Probe {
        /// Which lane's confinement.
        lane: Lane,
        /// The name of a [`crate::probe::Attack`].
        attack: &'a str,
    },
    /// The configuration in force, as `pool-supervisor --check-config` prints it.
    Config,
    /// [`LimitReply`]: what `SetLimit` has set holds no more, and what the configuration says holds
    /// again.
    LiftLimit {
        /// The project.
        project: &'a str,
    },
    /// As `Reload`, and with new workers for JavaScript, which load every module anew.
    ReloadModules,
}

/// Why an administrative request failed: head of `Refused`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub enum RefusedCode {
    /// The request is malformed.
    Malformed,
    /// No such task was ever known.
    Unknown,
    /// The task was known; its outcome is no longer kept.
    Expired,
    /// The request is sound and cannot be granted now.
    Conflict,
}

/// Head of `Refused`; the body is a [`Refusal`] as JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct RefusedHead {
    /// What kind of failure.
    pub code: RefusedCode,
}

/// What a person reads of a failed request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// What is wrong and what to do.
    pub error: String,
}

/// What a person reads of a granted request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Done {
    /// What was done.
    pub message: String,
}

/// `GET /api/process-pool/stats`
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Workers by state.
    pub workers: WorkerCounts,
    /// Tasks by state.
    pub tasks: TaskCounts,
    /// (running + waiting) / workers.
    pub load: f64,
    /// Running tasks per project.
    pub project_usage: BTreeMap<String, u32>,
    /// Seconds since the start.
    pub uptime: f64,
}

/// Workers by state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct WorkerCounts {
    /// Living processes.
    pub total: u32,
    /// Ready and without a task.
    pub available: u32,
    /// With a task.
    pub busy: u32,
    /// Not ready yet.
    pub spawning: u32,
}

/// Tasks by state.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskCounts {
    /// Waiting, delayed and between attempts.
    pub queued: u64,
    /// On a worker.
    pub running: u64,
    /// All that were ever accepted.
    pub total: u64,
    /// Ended and succeeded.
    pub completed: u64,
    /// Ended otherwise.
    pub failed: u64,
    /// Mean run time of ended tasks, in milliseconds.
    pub avg_time: f64,
}

/// `poolctl status`
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusReply {
    /// The supervisor's release.
    pub release: String,
    /// Its process id.
    pub pid: u32,
    /// `running`, `draining`, `degraded`.
    pub state: String,
    /// Why it is degraded, when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
    /// The configured bounds.
    pub min_workers: u32,
    /// See `min_workers`.
    pub max_workers: u32,
    /// The HTTP API's address, when it listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// For whose code the pool is configured.
    pub trust: TrustReply,
    /// How workers are confined.
    pub isolation: IsolationReply,
    /// Tasks, by their bodies, that are not run for having ended their workers.
    #[serde(default)]
    pub set_aside: u32,
    /// The figures.
    #[serde(flatten)]
    pub stats: Stats,
}

/// For whose code the pool is configured.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TrustReply {
    /// `trusted` or `untrusted`.
    pub value: String,
    /// By key, settings in force that differ from what the trust implies.
    pub overridden: BTreeMap<String, String>,
}

/// How workers are confined, by the word of the last worker of each lane that became ready.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IsolationReply {
    /// `strict`, `standard` or `off`.
    pub level: String,
    /// By lane; a lane whose workers have not been started yet is absent.
    pub lanes: BTreeMap<String, LaneLayers>,
}

/// The layers of one lane.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LaneLayers {
    /// Those that are on.
    pub on: Vec<String>,
    /// Those that are not, each with the reason.
    pub missing: BTreeMap<String, String>,
}

/// What came of a probe.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProbeReply {
    /// `js` or `io`.
    pub lane: String,
    /// The attack's name.
    pub attack: String,
    /// The layers that confined the process.
    pub layers: Vec<String>,
    /// What the process itself could say, when it lived through its attack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<ProbeReport>,
    /// How the process ended.
    pub verdict: VerdictReply,
}

/// One living worker.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerRow {
    /// `w3.17`
    pub worker_id: String,
    /// Process id.
    pub pid: u32,
    /// `js` or `io`.
    pub lane: String,
    /// `spawning`, `idle`, `busy`, `stopping`.
    pub state: String,
    /// Tasks ended on it.
    pub tasks: u64,
    /// Resident memory at its last heartbeat, in bytes.
    pub memory_bytes: u64,
    /// CPU time at its last heartbeat, in milliseconds.
    pub cpu_ms: f64,
    /// Seconds since it was started.
    pub age: f64,
    /// What it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// Whose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
}

/// One ended worker.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadWorkerRow {
    /// `w3.17`
    pub worker_id: String,
    /// Process id; 0 when there was none.
    pub pid: u32,
    /// `js` or `io`.
    pub lane: String,
    /// RFC 3339.
    pub time: String,
    /// Tasks ended on it.
    pub tasks: u64,
    /// Seconds it lived.
    pub age: f64,
    /// Why it ended.
    pub verdict: VerdictReply,
}

/// A verdict as JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VerdictReply {
    /// Such as `killed-from-outside`.
    pub cause: String,
    /// What shows it.
    pub evidence: String,
}

/// One project: `GET /api/process-pool/project-usage`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ProjectRow {
    /// Running tasks.
    pub used: u32,
    /// The most at once; absent without a limit.
    pub limit: Option<u32>,
    /// How many more may run; absent without a limit.
    pub available: Option<u32>,
    /// Waiting tasks.
    pub queued: u64,
    /// Its share against other projects'.
    pub weight: f64,
    /// Ended tasks.
    pub ended: u64,
}

/// State of a task that has not ended; of one that has, the outcome is the reply.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskReply {
    /// The task's id.
    pub task_id: String,
    /// `queued`, `delayed`, `retrying`, `running`.
    pub state: String,
    /// Whose.
    pub project_id: String,
    /// Attempts started.
    pub attempts: u32,
    /// The caller's own string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Where it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
}

/// `POST /api/process-pool/project-limit`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitReply {
    /// What was done.
    pub message: String,
    /// The project.
    pub project_id: String,
    /// Its limit now; `null` is none.
    pub limit: Option<u32>,
}

/// The two ends of a list of events.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventsStart {
    /// The number of the newest event.
    pub last: u64,
    /// How many of those wanted are no longer kept.
    pub lost: u64,
}

/// `GET /readyz`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadyReply {
    /// Whether a task submitted now would run.
    pub ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One event, as users see it. What does not apply is absent.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventJson<'a> {
    /// From 1, without gaps.
    pub seq: u64,
    /// RFC 3339.
    pub time: &'a str,
    /// The name.
    pub event: &'a str,
    /// `w3.17`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    /// The task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// Whose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<&'a str>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<f64>,
    /// A code with a message, or a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How many workers were added or removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    /// Why the worker ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<VerdictReply>,
    /// Attempts started, of a task that is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// `console`'s function, of a `task-log`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<&'a str>,
    /// The text, of a `task-log`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
