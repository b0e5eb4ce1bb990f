//! A task as users write it, and as it travels.
//!
//! Users write one JSON object. It is checked field by field here, at the client's edge, and
//! becomes a routing head, which the supervisor reads, and an opaque body, which only the worker
//! reads. The body is two pieces one after the other: the `code` (source text or a module's path)
//! and the `data` (JSON: arguments, context, or the fields of a request or command).

use std::borrow::Cow;

use bincode::{BorrowDecode, Decode, Encode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::id::check_project_id;
use crate::lane::Lane;
use crate::limits;
use crate::policy::RetryPolicy;

mod accept;
mod raw;
#[cfg(test)]
mod tests;

pub use accept::AcceptStatus;
pub use raw::{FIELDS, InvalidItem, Tasks, parse, split_array, tag_of};

/// The five kinds of task.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
pub enum TaskKind {
    /// A script.
    Code,
    /// A function and its arguments.
    Function,
    /// A function of a module.
    Module,
    /// An HTTP request.
    Http,
    /// A program.
    Shell,
}

impl TaskKind {
    /// All kinds.
    pub const ALL: &'static [Self] =
        &[Self::Code, Self::Function, Self::Module, Self::Http, Self::Shell];

    /// The value of `type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Code => "execute-code",
            Self::Function => "execute-function",
            Self::Module => "execute-module",
            Self::Http => "http-request",
            Self::Shell => "shell-command",
        }
    }

    /// The kind of worker it needs.
    #[must_use]
    pub const fn lane(self) -> Lane {
        match self {
            Self::Code | Self::Function | Self::Module => Lane::Js,
            Self::Http | Self::Shell => Lane::Io,
        }
    }

    /// The realm of a task that names none, in a project that names none.
    #[must_use]
    pub const fn default_realm(self) -> Realm {
        match self {
            Self::Code => Realm::Fresh,
            _ => Realm::Warm,
        }
    }
}

/// What a JavaScript task runs in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Realm {
    /// A context of its own.
    Fresh,
    /// A context kept per project and worker.
    Warm,
    /// A context that all projects share, in which nothing can be left behind.
    Frozen,
}

/// What happens to a task when the client that submitted it goes away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub enum OnDisconnect {
    /// It is cancelled: nobody will read the outcome.
    Cancel,
    /// It goes on; the outcome is kept for `resultTtl`.
    Keep,
}

/// What the supervisor reads of a task.
///
/// Absent numbers mean the pool's default, which may change while the task is on its way.
#[derive(Clone, PartialEq, Debug, Encode, BorrowDecode)]
pub struct TaskHead<'a> {
    /// `type`
    pub kind: TaskKind,
    /// `projectId`
    pub project: &'a str,
    /// `priority`, 0 to 10
    pub priority: u8,
    /// `timeout` in milliseconds
    pub timeout_ms: Option<u64>,
    /// `maxAttempts`
    pub max_attempts: Option<u16>,
    /// `retry`
    pub retry: Option<RetryPolicy>,
    /// `delay` in milliseconds
    pub delay_ms: u64,
    /// `deadline` in milliseconds from when the client sent it
    pub deadline_ms: Option<u64>,
    /// `idempotencyKey`
    pub idempotency_key: Option<&'a str>,
    /// `durable`
    pub durable: bool,
    /// `realm`
    pub realm: Option<Realm>,
    /// `tag`
    pub tag: Option<&'a str>,
    /// `limits.cpuMs`
    pub cpu_ms: Option<u64>,
    /// `limits.memoryBytes`
    pub memory_bytes: Option<u64>,
    /// `logs`
    pub logs: bool,
    /// Not a field of the task: the client's own wish.
    pub on_disconnect: OnDisconnect,
    /// Whether `Accepted` is wanted besides the outcome.
    pub ack: bool,
    /// Whether the outcome is wanted on this connection; without, it is only kept.
    pub want_outcome: bool,
    /// Where the body's code ends.
    pub code_len: u32,
}

impl TaskHead<'_> {
    /// Checks what a client could have written into the head by hand.
    ///
    /// # Errors
    /// [`InvalidTask`] naming the field.
    pub fn check(&self, body_len: usize) -> Result<(), InvalidTask> {
        check_project_id(self.project).map_err(|e| InvalidTask::new("projectId", e.to_string()))?;
        check_priority(i64::from(self.priority))?;
        if let Some(ms) = self.timeout_ms {
            check_timeout(ms)?;
        }
        if let Some(n) = self.max_attempts {
            check_attempts(u64::from(n))?;
        }
        if let Some(retry) = &self.retry {
            check_retry(retry)?;
        }
        check_duration("delay", self.delay_ms)?;
        check_duration("deadline", self.deadline_ms.unwrap_or(0))?;
        check_key(self.idempotency_key)?;
        check_text("tag", self.tag, limits::MAX_TAG)?;
        check_own_limits(self.cpu_ms, self.memory_bytes)?;
        if self.code_len as usize > body_len {
            return Err(InvalidTask::new("code", "is longer than the body that holds it".into()));
        }
        Ok(())
    }
}

fn check_priority(value: i64) -> Result<u8, InvalidTask> {
    u8::try_from(value).ok().filter(|p| *p <= limits::MAX_PRIORITY).ok_or_else(|| {
        InvalidTask::new(
            "priority",
            format!("must be 0 to {} (10 runs first), not {value}", limits::MAX_PRIORITY),
        )
    })
}

fn check_timeout(ms: u64) -> Result<(), InvalidTask> {
    if ms == 0 {
        return Err(InvalidTask::new("timeout", "must be at least 1 ms".into()));
    }
    check_duration("timeout", ms)
}

fn check_duration(field: &'static str, ms: u64) -> Result<(), InvalidTask> {
    if ms > limits::MAX_DURATION_MS {
        return Err(InvalidTask::new(
            field,
            format!("must be at most {} ms (30 days), not {ms}", limits::MAX_DURATION_MS),
        ));
    }
    Ok(())
}

fn check_attempts(n: u64) -> Result<(), InvalidTask> {
    if n == 0 || n > u64::from(limits::MAX_ATTEMPTS) {
        return Err(InvalidTask::new(
            "maxAttempts",
            format!("must be 1 to {}, not {n}", limits::MAX_ATTEMPTS),
        ));
    }
    Ok(())
}

fn check_retry(retry: &RetryPolicy) -> Result<(), InvalidTask> {
    check_duration("retry.initialDelay", u64::from(retry.initial_delay_ms))?;
    check_duration("retry.maxDelay", u64::from(retry.max_delay_ms))?;
    if !(1.0..=100.0).contains(&retry.factor) {
        return Err(InvalidTask::new(
            "retry.factor",
            format!("must be 1 to 100, not {}", retry.factor),
        ));
    }
    if !(0.0..=1.0).contains(&retry.jitter) {
        return Err(InvalidTask::new(
            "retry.jitter",
            format!("must be 0 to 1, not {}", retry.jitter),
        ));
    }
    Ok(())
}

fn check_text(field: &'static str, text: Option<&str>, max: usize) -> Result<(), InvalidTask> {
    match text {
        Some(t) if t.len() > max => Err(InvalidTask::new(
            field,
            format!("must be at most {max} bytes long, not {}", t.len()),
        )),
        _ => Ok(()),
    }
}

/// An empty key is a mistake, and would make all tasks that have it one.
fn check_key(key: Option<&str>) -> Result<(), InvalidTask> {
    if key == Some("") {
        return Err(InvalidTask::new(
            "idempotencyKey",
            "must not be empty; leave it out for none".into(),
        ));
    }
    check_text("idempotencyKey", key, limits::MAX_IDEMPOTENCY_KEY)
}

fn check_own_limits(cpu_ms: Option<u64>, memory_bytes: Option<u64>) -> Result<(), InvalidTask> {
    if cpu_ms == Some(0) {
        return Err(InvalidTask::new("limits.cpuMs", "must be at least 1".into()));
    }
    check_duration("limits.cpuMs", cpu_ms.unwrap_or(0))?;
    if memory_bytes.is_some_and(|n| n < MIN_MEMORY_BYTES) {
        return Err(InvalidTask::new(
            "limits.memoryBytes",
            format!("must be at least {MIN_MEMORY_BYTES} (4 MiB)"),
        ));
    }
    Ok(())
}

/// An engine does not start a task in less.
pub const MIN_MEMORY_BYTES: u64 = 4 * 1024 * 1024;

/// A task, or what stands in its place, is not what the contract says.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{} {problem}", subject(field))]
pub struct InvalidTask {
    /// The field's path, such as `retry.factor`; empty where the whole task is meant.
    pub field: String,
    /// Completes "field `…` " or "the task ".
    pub problem: String,
}

fn subject(field: &str) -> String {
    if field.is_empty() { "the task".to_owned() } else { format!("field `{field}`") }
}

impl InvalidTask {
    /// A problem with a field.
    #[must_use]
    pub fn new(field: &str, problem: String) -> Self {
        Self { field: field.to_owned(), problem }
    }

    /// A problem with the task as a whole.
    #[must_use]
    pub fn whole(problem: String) -> Self {
        Self { field: String::new(), problem }
    }
}

/// A checked task: a head that borrows nothing, and the body.
#[derive(Clone, PartialEq, Debug)]
pub struct Task {
    /// `type`
    pub kind: TaskKind,
    /// `projectId`
    pub project: String,
    /// `priority`
    pub priority: u8,
    /// `timeout`
    pub timeout_ms: Option<u64>,
    /// `maxAttempts`
    pub max_attempts: Option<u16>,
    /// `retry`
    pub retry: Option<RetryPolicy>,
    /// `delay`
    pub delay_ms: u64,
    /// `deadline`
    pub deadline: Option<Deadline>,
    /// `idempotencyKey`
    pub idempotency_key: Option<String>,
    /// `durable`
    pub durable: bool,
    /// `realm`
    pub realm: Option<Realm>,
    /// `tag`
    pub tag: Option<String>,
    /// `limits.cpuMs`
    pub cpu_ms: Option<u64>,
    /// `limits.memoryBytes`
    pub memory_bytes: Option<u64>,
    /// `logs`
    pub logs: bool,
    /// Where the body's code ends.
    pub code_len: u32,
    /// See the module's documentation.
    pub body: Vec<u8>,
}

/// `deadline`, before a clock is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deadline {
    /// Milliseconds from when it is sent.
    In(u64),
    /// Milliseconds since 1970.
    At(i64),
}

impl Task {
    /// The head as it is sent at `now_ms` (since 1970). `run` means that the client waits: the task
    /// is cancelled with it.
    #[must_use]
    pub fn head(
        &self,
        now_ms: i64,
        on_disconnect: OnDisconnect,
        ack: bool,
        want_outcome: bool,
    ) -> TaskHead<'_> {
        TaskHead {
            kind: self.kind,
            project: &self.project,
            priority: self.priority,
            timeout_ms: self.timeout_ms,
            max_attempts: self.max_attempts,
            retry: self.retry,
            delay_ms: self.delay_ms,
            deadline_ms: self.deadline.map(|d| match d {
                Deadline::In(ms) => ms,
                Deadline::At(at) => u64::try_from(at.saturating_sub(now_ms))
                    .unwrap_or(0)
                    .min(limits::MAX_DURATION_MS),
            }),
            idempotency_key: self.idempotency_key.as_deref(),
            durable: self.durable,
            realm: self.realm,
            tag: self.tag.as_deref(),
            cpu_ms: self.cpu_ms,
            memory_bytes: self.memory_bytes,
            logs: self.logs,
            on_disconnect,
            ack,
            want_outcome,
            code_len: self.code_len,
        }
    }
}

/// The two pieces of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Body<'a> {
    /// Source text, or a module's path; empty for requests and commands.
    pub code: &'a str,
    /// JSON, or empty for "none given".
    pub data: &'a [u8],
}

impl<'a> Body<'a> {
    /// Takes a body apart.
    ///
    /// # Errors
    /// [`InvalidTask`] when the code is not UTF-8 or longer than the body.
    pub fn split(body: &'a [u8], code_len: u32) -> Result<Self, InvalidTask> {
        let (code, data) = body.split_at_checked(code_len as usize).ok_or_else(|| {
            InvalidTask::new("code", "is longer than the body that holds it".into())
        })?;
        let code = std::str::from_utf8(code)
            .map_err(|_| InvalidTask::new("code", "is not UTF-8".into()))?;
        Ok(Self { code, data })
    }
}

/// The data of a module task.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleData<'a> {
    /// The export to call; the default export without.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Cow<'a, str>>,
    /// Its arguments, a JSON array.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub args: Option<&'a RawValue>,
}

/// The data of an HTTP task, as the user wrote it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpData<'a> {
    /// Required.
    #[serde(default)]
    pub url: String,
    /// `GET`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Names and values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<std::collections::BTreeMap<String, String>>,
    /// Appended to the URL's query: strings, numbers and booleans, and arrays of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<std::collections::BTreeMap<String, serde_json::Value>>,
    /// A string, JSON, or `{base64}`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub body: Option<&'a RawValue>,
    /// 5
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_redirects: Option<u32>,
    /// 10 MiB
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_response_bytes: Option<u64>,
    /// `"2xx"`; see [`AcceptStatus`]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_status: Option<AcceptStatus>,
}

/// The data of a shell task, as the user wrote it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShellData {
    /// The program; with `args`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Instead of both: one string, split by POSIX word rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Where it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Added to the configured environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<std::collections::BTreeMap<String, String>>,
    /// Text for its standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Per stream; 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_bytes: Option<u64>,
    /// Exit codes that are results, besides 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_exit: Option<Vec<i32>>,
}
