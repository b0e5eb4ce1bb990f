//! What goes into the engine and what comes out: plain data, no V8 types.

use std::time::Duration;

/// Which context a task runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Realm {
    /// A new context for this task alone.
    Fresh,
    /// The project's context, kept from task to task.
    Warm,
    /// The engine's one context in which no task can leave anything, for code and functions.
    Frozen,
}

/// What a task asks for.
#[derive(Debug, Clone, Copy)]
pub enum Work<'a> {
    /// A script, or the body of an async function when it has a top-level `return` or `await`.
    Code {
        /// JavaScript source.
        source: &'a str,
        /// A JSON object whose keys become globals; empty for none.
        context_json: &'a [u8],
    },
    /// A function given by its source.
    Function {
        /// Source of a function expression, an arrow or a method, sync or async.
        source: &'a str,
        /// A JSON array; empty for none.
        args_json: &'a [u8],
    },
    /// A function exported by a module below one of the roots.
    Module {
        /// Path inside a root, or the name of a package in a root's `node_modules`.
        path: &'a str,
        /// Name of the export; by default the default export, else `module.exports`.
        method: Option<&'a str>,
        /// A JSON array; empty for none.
        args_json: &'a [u8],
    },
}

/// One task as the engine sees it.
#[derive(Debug, Clone, Copy)]
pub struct JsTask<'a> {
    /// Names this run towards [`super::EngineHandle::terminate`]; larger than that of every task
    /// before it, and not 0.
    pub ticket: u64,
    /// Owner of the warm context.
    pub project: &'a str,
    /// Which context to run in.
    pub realm: Realm,
    /// What to run.
    pub work: Work<'a>,
    /// What the task may keep on the heap and, besides, in array buffers, over what was there
    /// before it. Nothing, or what is not below the engine's limits, for those alone.
    pub memory_limit_bytes: Option<usize>,
    /// Whether the outcome carries the log lines; the sink given to the engine gets them either
    /// way.
    pub capture_logs: bool,
}

/// How a task ended.
#[derive(Debug)]
pub struct JsOutcome {
    /// The result as JSON text, or why there is none.
    pub result: Result<Vec<u8>, JsFailure>,
    /// Captured console lines, if asked for.
    pub logs: Vec<LogLine>,
    /// Whether lines were dropped because the task's log was full.
    pub logs_truncated: bool,
    /// Live bytes of the V8 heap and of array buffers, when the task ended. Taken now and then for
    /// very short tasks.
    pub memory_bytes: u64,
    /// Time that the task spent waiting for its own timers.
    pub waited: Duration,
    /// Time in which V8 collected garbage while the task ran, for all that left some.
    pub collected: Duration,
    /// What the task owes for that which it leaves; of very short ones, each owes an equal part of
    /// what they left together.
    pub owed: Duration,
    /// Whether the figures of memory were read after this task. They are not after each of the very
    /// short ones.
    pub memory_was_read: bool,
}

/// One line of a task's console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Which console function wrote it.
    pub level: LogLevel,
    /// The line, formatted.
    pub text: String,
}

/// Severity of a console line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// `console.debug`
    Debug,
    /// `console.log` and the rest
    Log,
    /// `console.info`
    Info,
    /// `console.warn`
    Warn,
    /// `console.error`, `console.trace`, a failed `console.assert`
    Error,
}

/// Why somebody ended a running task from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// Its wall time is over.
    Timeout,
    /// Its CPU time is over.
    CpuLimit,
    /// It was cancelled.
    Cancelled,
}

/// The kinds of failure a task can end with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The source does not parse.
    Syntax,
    /// The task threw, or its promise was rejected.
    Exception,
    /// The result is not a JSON value.
    NotSerializable,
    /// A module or package does not exist.
    ModuleNotFound,
    /// A module exists, or might, but is not for tasks.
    ModuleDenied,
    /// Nothing can settle the promise any more.
    PromiseNeverSettled,
    /// The heap limit, or the task's own, was reached.
    MemoryLimit,
    /// The result is larger than allowed.
    OutputLimit,
    /// Ended from outside.
    Terminated(StopReason),
    /// The task's own fields make no sense to the engine: `fn` is not a function, `args` is not an
    /// array.
    InvalidTask,
}

/// Why a task has no result. All texts are bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsFailure {
    /// The kind of failure.
    pub kind: FailureKind,
    /// Name of the error, such as `TypeError`.
    pub name: String,
    /// What went wrong; at most 8 KiB.
    pub message: String,
    /// JavaScript stack, the user's frames only; at most 16 KiB.
    pub stack: Option<String>,
    /// Where in the result, for values that are not JSON: `result.items[3].when`.
    pub path: Option<String>,
    /// What else the error holds that was thrown.
    pub held: Box<Held>,
}

/// What an error holds besides its name and message. At most 16 other errors, at most 4 deep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Its `code`, if that is a string or a whole number.
    pub code: Option<HeldCode>,
    /// Its `cause`.
    pub cause: Option<Box<HeldError>>,
    /// Its `errors`; where some are left out the last one says how many.
    pub errors: Vec<HeldError>,
}

/// The `code` of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeldCode {
    /// At most 256 bytes.
    Text(String),
    /// As in `structuredClone`'s errors.
    Number(i64),
}

/// An error that another one holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldError {
    /// Its class; nothing where the value is no error.
    pub name: Option<String>,
    /// Its message, or the value as text; at most 2 KiB.
    pub message: String,
    /// Its stack; at most 4 KiB.
    pub stack: Option<String>,
    /// What it holds in turn.
    pub held: Held,
}

impl JsFailure {
    pub(super) fn new(kind: FailureKind, name: &str, message: impl Into<String>) -> Self {
        let (name, message) = (name.to_owned(), message.into());
        Self { kind, name, message, stack: None, path: None, held: Box::default() }
    }
}
