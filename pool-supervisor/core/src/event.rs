//! What can happen to the pool. Closed: everything that reaches the core is one of these, or a
//! call that is answered by value.

use alloc::boxed::Box;
use alloc::string::String;

use pool_protocol::id::{ClientId, TaskId, WorkerId};
use pool_protocol::lane::Lane;
use pool_protocol::limits::DEFAULT_MAX_ATTEMPTS;
use pool_protocol::outcome::{Blame, ErrorCode, Verdict};
use pool_protocol::policy::RetryPolicy;

use crate::settings::Settings;

/// A task as it comes to the door, its fields checked one by one already.
#[derive(Clone, PartialEq, Debug)]
pub struct NewTask<'a> {
    /// The lane it needs.
    pub lane: Lane,
    /// Whose it is.
    pub project: &'a str,
    /// 0 to 10, 10 first.
    pub priority: u8,
    /// Wall time of each attempt, in milliseconds; `None` is the pool's default.
    pub timeout_ms: Option<u64>,
    /// How often it may be tried, at least once.
    pub max_attempts: u16,
    /// When it is tried again.
    pub retry: RetryPolicy,
    /// How long it waits before it may run, in milliseconds.
    pub delay_ms: u64,
    /// When it must have ended, in milliseconds from now; 0 is past.
    pub deadline_ms: Option<u64>,
    /// The same key in the same project is the same task, as long as its outcome is kept.
    pub idempotency_key: Option<&'a str>,
    /// CPU time of each attempt, in milliseconds; lowered to the pool's.
    pub cpu_ms: Option<u64>,
    /// Memory of each attempt, in bytes; lowered to the pool's.
    pub memory_bytes: Option<u64>,
    /// Bytes of its body, which the shell holds until its end.
    pub body_bytes: u32,
    /// Whether it uses up something that a worker makes ahead in its idle time, so that who has
    /// been idle for longest serves it soonest: a fresh context.
    pub made_ahead: bool,
    /// Whether it is cancelled when its client goes.
    pub cancel_with_client: bool,
    /// What its body hashes to, when [`crate::Core::suspects_body_of`] says that it matters.
    pub body: Option<BodyHash>,
}

/// What a task's project, type and body hash to, under a key that nobody outside knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BodyHash(pub u128);

impl<'a> NewTask<'a> {
    /// A task that asks for nothing but its lane: the default of every field.
    #[must_use]
    pub fn new(lane: Lane, project: &'a str) -> Self {
        Self {
            lane,
            project,
            priority: 0,
            timeout_ms: None,
            max_attempts: DEFAULT_MAX_ATTEMPTS,
            retry: RetryPolicy::default(),
            delay_ms: 0,
            deadline_ms: None,
            idempotency_key: None,
            cpu_ms: None,
            memory_bytes: None,
            body_bytes: 0,
            made_ahead: false,
            cancel_with_client: false,
            body: None,
        }
    }
}

/// How an attempt ended, by the worker's word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AttemptEnd {
    /// Nothing when it succeeded.
    pub code: Option<ErrorCode>,
    /// Wall time in microseconds.
    pub run_us: u64,
    /// CPU time in microseconds.
    pub cpu_us: u64,
    /// How long a task like it will keep a worker from others, in microseconds: what the machine's
    /// other work added to the wall time is not in it.
    pub busy_us: u64,
    /// Bytes; see the receipt.
    pub memory_bytes: u64,
    /// No other attempt before this many milliseconds, says whoever refused this one; 0 when nobody
    /// does.
    pub retry_after_ms: u64,
    /// The worker says that it must not run another task.
    pub spoiled: bool,
}

/// A worker's word that an attempt of a task ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    /// Which worker says so.
    pub worker: WorkerId,
    /// The task.
    pub task: TaskId,
    /// The attempt it means.
    pub attempt: u32,
    /// How it ended.
    pub end: AttemptEnd,
}

/// What happened, but for submissions, reports and cancels: those are answered by value
/// ([`crate::Core::submit`], [`crate::Core::report`], [`crate::Core::cancel`]).
#[derive(Clone, PartialEq, Debug)]
pub enum Event<'a> {
    /// A client is gone: tasks bound to it are cancelled, a bounded number of them. While
    /// [`crate::Core::ends_tasks_with`] says that there are more, the event is sent again.
    ClientGone {
        /// Who.
        client: ClientId,
    },
    /// A project's limit is set by hand, if [`crate::Core::may_set_limit`] says so; it outlives a
    /// reload that does not name the project. Or it is lifted: what the configuration says holds
    /// again.
    SetLimit {
        /// The project.
        project: &'a str,
        /// How many at once; 0 pauses it; `None` lifts what was set.
        limit: Option<u32>,
    },
    /// A new configuration is in force.
    Reload(Box<Settings>),
    /// What a worker is told at its start has changed: each is replaced by a new one, the
    /// replacement ready first.
    RecycleWorkers,
    /// The kept outcome of an ended task is dropped, and with it its idempotency key. For a task
    /// without a key: nothing.
    Forget {
        /// The task.
        task: TaskId,
    },
    /// No new tasks; running and waiting ones get `drain_timeout_ms`, then are cancelled; then
    /// [`crate::action::Action::Exit`].
    Drain,
    /// Everything ends at once.
    Shutdown,
    /// The process could not be made. Answers [`crate::action::Action::Spawn`]; no
    /// [`Event::WorkerGone`] follows.
    SpawnFailed {
        /// Which.
        worker: WorkerId,
        /// What the system said.
        reason: String,
    },
    /// The worker's handshake is done.
    WorkerReady {
        /// Which.
        worker: WorkerId,
    },
    /// The worker gives back tasks that it had not started.
    TasksReturned {
        /// Which worker.
        worker: WorkerId,
        /// The tasks, with the attempts it means.
        tasks: &'a [(TaskId, u32)],
    },
    /// A sign of life.
    Heartbeat {
        /// Which worker.
        worker: WorkerId,
        /// Resident bytes.
        rss_bytes: u64,
        /// CPU time of the process in microseconds.
        cpu_us: u64,
    },
    /// The worker broke the protocol; the shell reads nothing more from it. It is killed.
    WorkerBroke {
        /// Which.
        worker: WorkerId,
        /// How.
        reason: String,
    },
    /// The worker's handshake is done, but it lacks what the pool promises of every worker. It is
    /// killed, as a failed start.
    WorkerUnfit {
        /// Which.
        worker: WorkerId,
        /// What it lacks.
        reason: String,
    },
    /// The process is gone and reaped.
    WorkerGone {
        /// Which.
        worker: WorkerId,
        /// Why, by what the shell saw. The core's own reason for ending it, when it had one, goes
        /// before.
        verdict: Verdict,
        /// Whose doing that was, where the shell knows more than the cause says.
        blame: Option<Blame>,
        /// What the body of the task hashes to that it ran ([`crate::Core::running_on`]), if
        /// bodies are set aside.
        body: Option<BodyHash>,
    },
    /// What the body of a task hashes to whose turn has come. Answers
    /// [`crate::action::Action::CheckBody`].
    BodyChecked {
        /// The task.
        task: TaskId,
        /// Its body.
        body: BodyHash,
    },
    /// The time has come that [`crate::Core::next_deadline`] named; or any other time, which
    /// changes nothing.
    Tick,
}
