//! What the shell is told to do. Performing one contains no decision.

use alloc::string::String;
use alloc::vec::Vec;

use pool_protocol::id::{ClientId, TaskId, WorkerId};
use pool_protocol::outcome::{ErrorCode, Receipt, Verdict};

use crate::place::TaskPlace;
use crate::settings::Lane;

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
    /// Who wrote the error text.
    pub text: EndText,
}

/// Who wrote what a person will read of the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EndText {
    /// The worker: the body of the `Done` that is being handled.
    Worker,
    /// The worker, but for its message: it knows a deadline only as a timeout.
    WorkerBut {
        /// One sentence.
        message: String,
    },
    /// The core.
    Core {
        /// One sentence.
        message: String,
        /// Why the worker ended, when that is why the task did.
        verdict: Option<Verdict>,
    },
}

/// Why a worker is killed, for its verdict.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KillReason(pub Verdict);

/// What to do.
#[derive(Clone, PartialEq, Debug)]
#[must_use]
pub enum Action {
    /// The task is queued (or was known by its key: then `known`). Its bytes belong into this
    /// place.
    Accept {
        /// Who submitted it.
        client: ClientId,
        /// The client's number for it.
        request: u64,
        /// Its id.
        task: TaskId,
        /// Its place.
        slot: TaskPlace,
    },
    /// The key is that of a task which has not ended: its outcome goes to this client too; the new
    /// bytes are dropped.
    AcceptKnown {
        /// Who submitted it.
        client: ClientId,
        /// The client's number for it.
        request: u64,
        /// The known task.
        task: TaskId,
        /// The known task's place.
        slot: TaskPlace,
    },
    /// The key is that of a task which has ended and was not forgotten yet (see
    /// [`crate::event::Event::Forget`]): its kept outcome is delivered to this client; the new
    /// bytes are dropped.
    AcceptEnded {
        /// Who submitted it.
        client: ClientId,
        /// The client's number for it.
        request: u64,
        /// The ended task.
        task: TaskId,
    },
    /// Refused at the door; nothing is kept of it.
    Refuse {
        /// Who submitted it.
        client: ClientId,
        /// The client's number for it.
        request: u64,
        /// Why.
        code: ErrorCode,
        /// Why, for a person.
        message: String,
    },
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
    /// The task has ended: deliver its outcome to who wants it, keep it for `resultTtl`, free its
    /// place.
    End {
        /// The task.
        task: TaskId,
        /// Its place, free after this.
        slot: TaskPlace,
        /// How.
        ended: Ended,
    },
    /// A worker ended under the task, perhaps by the task's doing: answer with
    /// [`crate::event::Event::BodyHashed`]. Comes before the task's end.
    Suspect {
        /// The task's place.
        slot: TaskPlace,
        /// Why the worker ended.
        verdict: Verdict,
        /// To be given back.
        certain: bool,
    },
    /// The task's turn has come, and a body of its length is set aside: answer with
    /// [`crate::event::Event::BodyChecked`], now or in one of the next turns. It waits until then.
    CheckBody {
        /// The task.
        task: TaskId,
        /// Its place, for as long as the task has not ended.
        slot: TaskPlace,
    },
    /// Answer to a cancel.
    CancelAnswer {
        /// Whom.
        client: ClientId,
        /// Under which number.
        request: u64,
        /// The task.
        task: TaskId,
        /// Whether it was there to be cancelled.
        found: bool,
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
