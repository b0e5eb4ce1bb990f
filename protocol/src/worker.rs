//! Supervisor ⇄ worker messages.
//!
//! A worker runs the tasks it holds one after the other, in the order they came. So the supervisor
//! knows which one runs: the first that has not ended.

use bincode::{BorrowDecode, Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::lane::Lane;
use crate::layer::{LayerSet, Level};
use crate::outcome::{Cause, ErrorCode};
use crate::task::{Realm, TaskKind};

/// What a worker is told at its start, as JSON in the body of a `Setup` frame: not on the hot path,
/// and readable in a trace.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Setup {
    /// Which tasks will come.
    pub lane: Lane,
    /// The worker's own name, for its messages.
    pub worker: String,
    /// Between two heartbeats.
    pub heartbeat_ms: u64,
    /// The largest body either way, in bytes.
    pub body_bytes: u64,
    /// The largest result, in bytes.
    pub result_bytes: u64,
    /// Descriptors the process may hold.
    pub open_files: u64,
    /// Memory one task may use: the heap limit, and the array buffers' limit.
    pub memory_bytes: u64,
    /// Settings of the JavaScript lane.
    pub js: JsSetup,
    /// Settings of programs.
    pub shell: ShellSetup,
    /// Settings of HTTP requests.
    pub http: HttpSetup,
    /// How the process is confined.
    pub isolation: IsolationSetup,
    /// Instead of serving tasks: one attack, a report of what came of it in a `Probed` frame, and
    /// exit. Only the supervisor can say so, and only before the process has run anything: no task
    /// reaches this.
    pub probe: Option<ProbeSetup>,
}

/// An attack that a process is to make instead of serving tasks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProbeSetup {
    /// The name of a [`crate::probe::Attack`].
    pub attack: String,
    /// The supervisor's process id: whom to attack, harmlessly.
    pub supervisor: u32,
    /// The control socket's path.
    pub control_socket: String,
}

impl Setup {
    /// Memory that the lane's tasks may take up in the process, in bytes, besides the process's
    /// own: the engine's limits, which a task survives as an error, lie within it, so that they
    /// come before the kernel's, which it does not.
    ///
    /// For JavaScript a full heap, as much again for unwinding the task that filled it, full array
    /// buffers, and what may be left of tasks before; in both lanes the bodies.
    #[must_use]
    pub const fn tasks_memory_bytes(&self) -> u64 {
        let tasks = match self.lane {
            Lane::Js => (self.memory_bytes.saturating_mul(3))
                .saturating_add(self.kept_memory_bytes())
                .saturating_add(self.unaccounted_memory_bytes()),
            Lane::Io => self.memory_bytes,
        };
        tasks
            .saturating_add(self.body_bytes.saturating_mul(2))
            .saturating_add(self.result_bytes.saturating_mul(4))
    }

    /// What an engine may keep between two tasks, in bytes: warm contexts and what they hold on the
    /// heap and in array buffers.
    #[must_use]
    pub const fn kept_memory_bytes(&self) -> u64 {
        at_least_16_mib(self.memory_bytes)
    }

    /// What a process may have between two tasks that its engine does not account for, in bytes:
    /// objects of libraries, code.
    #[must_use]
    pub const fn unaccounted_memory_bytes(&self) -> u64 {
        at_least_16_mib(self.memory_bytes / 2)
    }
}

const fn at_least_16_mib(bytes: u64) -> u64 {
    if bytes < 16 << 20 { 16 << 20 } else { bytes }
}

/// How a worker process is confined.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IsolationSetup {
    /// What is asked for. With `strict` a layer that cannot be put on is a failed start.
    pub level: Level,
    /// The supervisor has started the process in a user and a process namespace of its own, as
    /// their root.
    pub namespaced: bool,
    /// The io lane: files and folders that may be read, besides what programs of the system need.
    pub readable: Vec<String>,
    /// The io lane: folders that may be read and written.
    pub writable: Vec<String>,
    /// The io lane: Unix sockets of the machine that programs may use. When there are none,
    /// programs can make no Unix socket.
    pub sockets: Vec<String>,
    /// The io lane: the pool's own sockets and the API's key, which are covered where the process
    /// has a mount namespace of its own.
    pub covered: Vec<String>,
}

/// Body of a `Probed` frame, as JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProbeReport {
    /// Whether the attack did what it tried to do.
    pub succeeded: bool,
    /// What was tried and what answered, such as `open("/etc/passwd"): EACCES`.
    pub detail: String,
}

/// Settings of the JavaScript lane.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JsSetup {
    /// Folders from which modules may come, by their real paths.
    pub module_roots: Vec<String>,
    /// Paths that the configuration has for such folders and that are not their real ones.
    pub module_links: std::collections::BTreeMap<String, String>,
    /// Conditions of package manifests that hold, besides those that Node knows.
    pub conditions: Vec<String>,
    /// What modules find as `process.env.NODE_ENV`; without it they find no `process`.
    pub node_env: Option<String>,
    /// `eval` and `new Function`.
    pub allow_code_generation: bool,
    /// WebAssembly.
    pub allow_wasm: bool,
    /// The startup snapshot's file, when there is one.
    pub snapshot: Option<String>,
}

/// Settings of programs.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShellSetup {
    /// The programs that may run; none when empty.
    pub allow: Vec<AllowedProgram>,
    /// The whole environment of a program, but for what its task adds.
    pub env: std::collections::BTreeMap<String, String>,
    /// Variables that tasks may add, besides: names, and beginnings of names that end in `*`.
    pub task_env: Vec<String>,
    /// Where programs start when the task does not say.
    pub cwd: Option<String>,
    /// The largest file a program may write, in bytes.
    pub file_bytes: u64,
    /// Between SIGTERM and SIGKILL, in milliseconds.
    pub kill_after_ms: u64,
    /// Permissions that files of its making do not get.
    pub umask: u32,
}

/// One program that may run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AllowedProgram {
    /// As the task names it.
    pub program: String,
    /// What it was resolved to when the supervisor read its configuration; this file runs, whatever
    /// the name points to by then.
    pub resolved: String,
    /// Device and inode of that file: another file put in its place does not run.
    pub device: u64,
    /// See `device`.
    pub inode: u64,
    /// A pattern each argument must match whole; without one, no argument is allowed.
    pub args: Option<String>,
}

/// Settings of HTTP requests.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpSetup {
    /// Whether public addresses may be reached that `allow` does not list.
    pub public: PublicAddresses,
    /// What may be reached besides: `ADDRESS`, `ADDRESS:PORT`, `NETWORK/BITS`, `NAME`,
    /// `NAME:PORT`.
    pub allow: Vec<String>,
    /// Certificates in PEM, of authorities that are trusted besides the machine's.
    pub authorities: String,
}

/// What holds for an address of the public internet that no list names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PublicAddresses {
    /// It may be reached.
    #[default]
    Allow,
    /// It may not. A listed name opens the public addresses that it resolves to, and no others,
    /// because the owner of a public name decides where it leads.
    Deny,
}

impl PublicAddresses {
    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// Head of `Ready`. The frame's id is the worker's protocol version; its body is a JSON object of
/// the layers that it could not put on, each with the reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct ReadyHead {
    /// From the process's first instruction to ready, in microseconds.
    pub start_us: u64,
    /// The layers that the worker has put on and checked.
    pub layers: LayerSet,
}

/// Head of `Run`. The frame's id is the task's; the body is [`crate::task::Body`]'s bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub struct RunHead<'a> {
    /// Numbered from 1; a late result of an old attempt is recognised by it.
    pub attempt: u32,
    /// What kind of task.
    pub kind: TaskKind,
    /// Whose task: warm contexts are kept per project.
    pub project: &'a str,
    /// JavaScript tasks: where it runs.
    pub realm: Realm,
    /// Wall time of this attempt, in milliseconds.
    pub timeout_ms: u64,
    /// CPU time of this attempt, in milliseconds.
    pub cpu_ms: u64,
    /// Memory of this attempt, in bytes.
    pub memory_bytes: u64,
    /// Whether captured console lines belong into the outcome.
    pub logs: bool,
    /// Whether console lines are wanted as they come.
    pub stream_logs: bool,
    /// Where the body's code ends and its data begins.
    pub code_len: u32,
}

/// Head of `Cancel`. The frame's id is the task's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct CancelHead {
    /// The attempt that is meant.
    pub attempt: u32,
    /// [`ErrorCode::Cancelled`] or [`ErrorCode::Timeout`]: what the task's end will be called.
    pub code: ErrorCode,
}

/// Head of `TakeBack` and of `Returned`: the tasks meant, at most [`crate::limits::MAX_CREDIT`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct TaskList {
    /// Ids with their attempts.
    pub tasks: Vec<(u64, u32)>,
}

/// Head of `Done`. The frame's id is the task's.
///
/// The body is the result as JSON, or the error as a JSON object with `name`, `message` and what
/// else is known of it; then, from `result_len` on, captured console lines as a JSON array, when
/// they were asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct DoneHead {
    /// The attempt that ended.
    pub attempt: u32,
    /// Nothing when it succeeded.
    pub code: Option<ErrorCode>,
    /// Wall time in microseconds.
    pub run_us: u64,
    /// CPU time in microseconds, without that for making the task's context.
    pub cpu_us: u64,
    /// How long a task like it will keep a worker from others, in microseconds, by this run: its
    /// CPU time, and the time that it waited for something of its own. Unlike the wall time it does
    /// not grow because the machine is busy.
    pub busy_us: u64,
    /// See [`crate::outcome::Receipt::memory_bytes`].
    pub memory_bytes: u64,
    /// How long whoever refused the attempt asks to be left alone, in milliseconds; 0 when nobody
    /// does.
    pub retry_after_ms: u64,
    /// Where the console lines begin.
    pub result_len: u32,
    /// The worker must not run another task and is about to exit.
    pub spoiled: bool,
}

/// Head of `Heartbeat`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct HeartbeatHead {
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// CPU time of the process since its start, in microseconds.
    pub cpu_us: u64,
}

/// Head of `Log`. The frame's id is the task's; the body is the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct LogHead {
    /// `console.log`'s name for it.
    pub level: LogLevel,
}

/// Which function of `console` was called.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub enum LogLevel {
    /// `console.debug`, `console.trace`
    Debug,
    /// `console.log`
    Log,
    /// `console.info`
    Info,
    /// `console.warn`
    Warn,
    /// `console.error`
    Error,
}

impl LogLevel {
    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Log => "log",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Head of `LastWords`: sent by the engine's handlers before it ends the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, BorrowDecode)]
pub struct LastWordsHead<'a> {
    /// [`Cause::JsHeap`] or [`Cause::EngineFatal`].
    pub cause: Cause,
    /// Figures or the engine's own message, at most 1 KiB.
    pub detail: &'a str,
}
