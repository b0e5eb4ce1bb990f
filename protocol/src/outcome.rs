//! Every way a task can end: status, error codes, receipt; and every way a worker can end:
//! verdicts.
//!
//! These are data. A task that fails is not an error of the pool.

use alloc::string::String;
use core::fmt;

use crate::id::WorkerId;

/// How a task ended. A task ends exactly once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "std", derive(bincode::Encode, bincode::Decode))]
pub enum Status {
    /// It gave a result.
    Succeeded,
    /// It ran and failed, or could not be run.
    Failed,
    /// Its time ran out.
    TimedOut,
    /// Somebody asked for it.
    Cancelled,
    /// Refused at the door; it never waited.
    Rejected,
}

impl Status {
    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
        }
    }
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a task did not succeed.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[cfg_attr(feature = "std", derive(bincode::Encode, bincode::Decode))]
        pub enum ErrorCode { $($(#[$doc])* $variant,)* }

        impl ErrorCode {
            /// All codes, in the order of the wire.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

error_codes! {
    /// A field of the task is wrong.
    InvalidTask = "INVALID_TASK",
    /// The queue is at its bound.
    QueueFull = "QUEUE_FULL",
    /// The project has as many waiting tasks as it may.
    ProjectQuota = "PROJECT_QUOTA",
    /// The deadline is past.
    DeadlineUnreachable = "DEADLINE_UNREACHABLE",
    /// The pool takes no more tasks.
    ShuttingDown = "SHUTTING_DOWN",
    /// The source does not parse.
    JsSyntax = "JS_SYNTAX",
    /// The result is no JSON value.
    ResultNotSerializable = "RESULT_NOT_SERIALIZABLE",
    /// No such module.
    ModuleNotFound = "MODULE_NOT_FOUND",
    /// The module is outside the configured roots, or a built-in of another runtime.
    ModuleDenied = "MODULE_DENIED",
    /// The program or its arguments are not on the allow-list.
    CommandDenied = "COMMAND_DENIED",
    /// The address, the scheme or a header is not allowed.
    UrlDenied = "URL_DENIED",
    /// The code threw.
    JsException = "JS_EXCEPTION",
    /// The program exited with a code that is not accepted, or could not be started.
    CommandFailed = "COMMAND_FAILED",
    /// The reply's status is not accepted.
    HttpStatus = "HTTP_STATUS",
    /// No reply.
    HttpError = "HTTP_ERROR",
    /// The wall time ran out.
    Timeout = "TIMEOUT",
    /// The CPU time ran out.
    CpuLimit = "CPU_LIMIT",
    /// The memory ran out.
    MemoryLimit = "MEMORY_LIMIT",
    /// The result or the output is too large.
    OutputLimit = "OUTPUT_LIMIT",
    /// The promise is pending and nothing is left that could settle it.
    PromiseNeverSettled = "PROMISE_NEVER_SETTLED",
    /// The worker died under the task.
    WorkerCrashed = "WORKER_CRASHED",
    /// Somebody asked for it.
    Cancelled = "CANCELLED",
}

impl ErrorCode {
    /// Whether another attempt is made by default while attempts are left.
    ///
    /// `WorkerCrashed` is judged by its verdict instead, see [`Cause::blame`].
    #[must_use]
    pub const fn retried_by_default(self) -> bool {
        matches!(self, Self::JsException | Self::CommandFailed | Self::HttpStatus | Self::HttpError)
    }

    /// The status of a task that ends with this code.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::InvalidTask
            | Self::QueueFull
            | Self::ProjectQuota
            | Self::DeadlineUnreachable
            | Self::ShuttingDown => Status::Rejected,
            Self::Timeout => Status::TimedOut,
            Self::Cancelled => Status::Cancelled,
            _ => Status::Failed,
        }
    }

    /// Whether the worker that reports this code must not serve another task.
    #[must_use]
    pub const fn spoils_worker(self) -> bool {
        matches!(self, Self::Timeout | Self::CpuLimit | Self::MemoryLimit | Self::Cancelled)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a task cost. Zero where it was not measured.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "std", derive(bincode::Encode, bincode::Decode))]
pub struct Receipt {
    /// From acceptance to the start of the last attempt, in microseconds; delays and back-off
    /// included.
    pub queued_us: u64,
    /// The last attempt's wall time, in microseconds.
    pub run_us: u64,
    /// The last attempt's CPU time, in microseconds: the engine's thread for JavaScript, the
    /// process tree for programs.
    pub cpu_us: u64,
    /// For JavaScript the engine's heap after the task, for programs the peak resident set, in
    /// bytes.
    pub memory_bytes: u64,
}

macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a worker ended.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[cfg_attr(feature = "std", derive(bincode::Encode, bincode::Decode))]
        pub enum Cause { $($(#[$doc])* $variant,)* }

        impl Cause {
            /// All causes, in the order of the wire.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

causes! {
    /// Replaced after its count of tasks, its memory or its age.
    Recycled = "recycled",
    /// Had nothing to do for long enough, or the pool shrank or stopped.
    Idle = "idle",
    /// Ended with the task that somebody cancelled.
    Cancelled = "cancelled",
    /// Ended with the task whose time ran out.
    Deadline = "deadline",
    /// Ended with the task whose CPU time ran out.
    CpuLimit = "cpu-limit",
    /// The engine's heap was full.
    JsHeap = "js-heap",
    /// The array buffers were over their limit.
    ArrayBuffers = "array-buffers",
    /// The kernel ended it for want of memory.
    KernelOom = "kernel-oom",
    /// The engine gave up.
    EngineFatal = "engine-fatal",
    /// It made a system call that the sandbox forbids.
    SandboxViolation = "sandbox-violation",
    /// Its heartbeats stopped.
    Unresponsive = "unresponsive",
    /// It broke the protocol.
    ProtocolViolation = "protocol-violation",
    /// It could not be started, or was not ready in time.
    SpawnFailed = "spawn-failed",
    /// A signal that the supervisor did not send.
    KilledFromOutside = "killed-from-outside",
    /// It exited by itself.
    Exited = "exited",
}

/// Whose doing a worker's end was: decides how often its task is tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blame {
    /// The task's, beyond doubt: not tried again.
    Task,
    /// Most likely the task's, and perhaps the machine's: tried once more at most, alone on a
    /// worker.
    Unclear,
    /// The machine's or a person's: tried up to `maxAttempts`.
    Outside,
}

impl Cause {
    /// Whose doing an end of this kind is, when it came under a task and nothing more is known. Of
    /// `kernel-oom` more may be: whether it was the worker's own limit or the machine's memory.
    #[must_use]
    pub const fn blame(self) -> Blame {
        match self {
            Self::Recycled | Self::Idle | Self::SpawnFailed | Self::KilledFromOutside => {
                Blame::Outside
            }
            Self::KernelOom
            | Self::EngineFatal
            | Self::Unresponsive
            | Self::ProtocolViolation
            | Self::Exited => Blame::Unclear,
            Self::Cancelled
            | Self::Deadline
            | Self::CpuLimit
            | Self::JsHeap
            | Self::ArrayBuffers
            | Self::SandboxViolation => Blame::Task,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a worker ended, and what shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "std", derive(bincode::Encode, bincode::Decode))]
pub struct Verdict {
    /// The cause.
    pub cause: Cause,
    /// The evidence in one line: exit status, signal, last words, age of the heartbeat.
    pub evidence: String,
}

/// Where a task ran last: absent when it never ran.
pub type RanOn = Option<WorkerId>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_of_the_run_itself_are_retried_by_default() {
        let retried = ErrorCode::ALL.iter().filter(|c| c.retried_by_default()).map(|c| c.name());
        assert!(retried.eq(["JS_EXCEPTION", "COMMAND_FAILED", "HTTP_STATUS", "HTTP_ERROR"]));
    }

    #[test]
    fn every_code_has_a_status_of_its_own_kind() {
        assert_eq!(ErrorCode::QueueFull.status().name(), "rejected");
        assert_eq!(ErrorCode::Timeout.status().name(), "timed-out");
        assert_eq!(ErrorCode::Cancelled.status().name(), "cancelled");
        assert_eq!(ErrorCode::MemoryLimit.status().name(), "failed");
    }
}
