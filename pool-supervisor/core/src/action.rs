//! What the shell is told to do. Performing one contains no decision.

use alloc::string::String;
use alloc::vec::Vec;

use pool_protocol::id::{TaskId, WorkerId};
use pool_protocol::lane::Lane;
use pool_protocol::outcome::{ErrorCode, Receipt, Verdict};

use crate::place::TaskPlace;

/// How a task ended, but for the bytes of its result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Nothing when it succeeded.
    pub code: Option<ErrorCode>,
    /// Attempts started.
    pub attempts: u32,
    /// Where the last one ran.
    pub worker: Option<WorkerId>,
    /// What it cost.
    pub receipt: Receipt,
}

/// What a person reads of an end that the core decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Words {
    /// One sentence.
    pub message: String,
    /// Why the worker ended, when that is why the task did.
    pub verdict: Option<Verdict>,
}

/// What to do.
#[derive(Clone, PartialEq, Debug)]
#[must_use]
pub enum Action {
    /// Send the task to the worker.
    Assign {
        /// Which worker.
        worker: WorkerId,
        /// The task.
        task: TaskId,
        /// Its place.
        slot: TaskPlace,
        /// The number of this attempt, from 1.
        attempt: u32,
        /// Its wall time, in milliseconds.
        timeout_ms: u64,
        /// Its CPU time, in milliseconds.
        cpu_ms: u64,
        /// Its memory, in bytes.
        memory_bytes: u64,
    },
    /// Ask the worker for tasks that it has not started.
    TakeBack {
        /// Which worker.
        worker: WorkerId,
        /// The tasks with their attempts.
        tasks: Vec<(TaskId, u32)>,
    },
    /// Ask the worker to end a task, running or not.
    Interrupt {
        /// Which worker.
        worker: WorkerId,
        /// The task.
        task: TaskId,
        /// The attempt meant.
        attempt: u32,
        /// What its end will be called: `Cancelled` or `Timeout`.
        code: ErrorCode,
    },
    /// The task has ended otherwise than by its worker's report: deliver its outcome to who wants
    /// it, keep it for `resultTtl`, free its place.
    End {
        /// The task.
        task: TaskId,
        /// Its place, free after this.
        slot: TaskPlace,
        /// How.
        ended: Ended,
        /// Why, for a person.
        words: Words,
    },
    /// The task's turn has come, and a body of its length is set aside: answer with
    /// [`crate::event::Event::BodyChecked`], now or in one of the next turns. It waits until then.
    CheckBody {
        /// The task.
        task: TaskId,
        /// Its place, for as long as the task has not ended.
        slot: TaskPlace,
    },
    /// Start a process.
    Spawn {
        /// Its name.
        worker: WorkerId,
        /// Its lane.
        lane: Lane,
    },
    /// Let the worker finish what it has started and exit.
    Retire {
        /// Which.
        worker: WorkerId,
    },
    /// SIGKILL.
    Kill {
        /// Which.
        worker: WorkerId,
    },
    /// Tell whoever listens.
    Emit(PoolEvent),
    /// Everything has ended: close and exit.
    Exit,
}

/// An event as the core knows it; the shell numbers it, dates it and writes it as JSON.
#[derive(Clone, PartialEq, Debug)]
pub enum PoolEvent {
    /// `worker-started`: ready.
    WorkerStarted {
        /// Which.
        worker: WorkerId,
        /// From spawn to ready, in microseconds.
        start_us: u64,
    },
    /// `worker-terminated`
    WorkerTerminated {
        /// Which.
        worker: WorkerId,
        /// Its lane.
        lane: Lane,
        /// Why.
        verdict: Verdict,
        /// How long it lived, in microseconds.
        lived_us: u64,
        /// Tasks ended on it.
        tasks: u64,
    },
    /// `worker-error`: it could not be started, broke the protocol, or died under a task.
    WorkerError {
        /// Which.
        worker: WorkerId,
        /// The task it died under.
        task: Option<TaskId>,
        /// Why.
        verdict: Verdict,
    },
    /// `task-queued`
    TaskQueued {
        /// The task.
        task: TaskId,
        /// Its place, for its project's name.
        slot: TaskPlace,
    },
    /// `task-started`
    TaskStarted {
        /// The task.
        task: TaskId,
        /// Its place.
        slot: TaskPlace,
        /// Where.
        worker: WorkerId,
        /// The attempt.
        attempt: u32,
    },
    /// `task-complete`
    TaskComplete {
        /// The task.
        task: TaskId,
        /// Its place; freed by the `End` that follows.
        slot: TaskPlace,
        /// Where.
        worker: WorkerId,
        /// Its run time in microseconds.
        run_us: u64,
    },
    /// `task-error`: it ended otherwise than well.
    TaskError {
        /// The task.
        task: TaskId,
        /// Its place; freed by the `End` that follows.
        slot: TaskPlace,
        /// Where it ran last.
        worker: Option<WorkerId>,
        /// Why.
        code: ErrorCode,
        /// Its run time in microseconds.
        run_us: u64,
    },
    /// `task-retry`: it will be tried again.
    TaskRetry {
        /// The task.
        task: TaskId,
        /// Its place.
        slot: TaskPlace,
        /// Why.
        code: ErrorCode,
        /// After how long, in microseconds.
        delay_us: u64,
        /// Attempts started so far.
        attempts: u32,
    },
    /// `scaled-up`
    ScaledUp {
        /// By how many.
        workers: u32,
    },
    /// `scaled-down`
    ScaledDown {
        /// By how many.
        workers: u32,
    },
    /// `queue-full`: the first refusal since there was room.
    QueueFull,
    /// `pool-degraded`
    Degraded {
        /// Why.
        reason: String,
    },
    /// `pool-recovered`
    Recovered,
    /// `config-reloaded`
    Reloaded,
}
