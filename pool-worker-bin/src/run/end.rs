//! How a task ended, on its way to the wire: code, body, cost.

use std::time::{Duration, Instant};

use pool_protocol::limits::MAX_ERROR_BYTES;
use pool_protocol::outcome::ErrorCode;
use pool_protocol::worker::DoneHead;
use serde::Serialize;

use super::js_error::{CodeJson, HeldJson};
use super::micros;
use crate::link::{Job, Link, LinkError, StopReason};

/// A task may begin so much later than the supervisor believes: on a busy machine this process
/// waits for a processor before it reads of the task. What the supervisor ends earlier than that,
/// it ends for another reason than the timeout.
const BEGINS_LATE: Duration = Duration::from_millis(250);

/// How a task ended.
#[derive(Debug)]
pub(crate) struct TaskEnd {
    /// Nothing when it succeeded.
    pub(crate) code: Option<ErrorCode>,
    /// The result, or the error, as JSON.
    pub(crate) body: Vec<u8>,
    /// Captured console lines as JSON, or nothing.
    pub(crate) logs: Vec<u8>,
    /// CPU time.
    pub(crate) cpu: Duration,
    /// See [`DoneHead::busy_us`]; nothing when that is its wall time.
    pub(crate) busy: Option<Duration>,
    /// See [`DoneHead::memory_bytes`].
    pub(crate) memory_bytes: u64,
    /// See [`DoneHead::retry_after_ms`].
    pub(crate) retry_after: Duration,
    /// Whether this worker must not run another task.
    pub(crate) spoiled: bool,
}

impl TaskEnd {
    /// Without cost: the task never ran.
    pub(crate) fn failed(code: ErrorCode, error: &impl Serialize) -> Self {
        let body =
            serde_json::to_vec(error).expect("error objects are made of strings and numbers");
        debug_assert!(body.len() <= MAX_ERROR_BYTES);
        Self { code: Some(code), spoiled: code.spoils_worker(), ..Self::done(body) }
    }

    /// With this result as JSON; what it took is added by whoever measured it.
    pub(crate) fn done(body: Vec<u8>) -> Self {
        Self {
            code: None,
            body,
            logs: Vec::new(),
            cpu: Duration::ZERO,
            busy: None,
            memory_bytes: 0,
            retry_after: Duration::ZERO,
            spoiled: false,
        }
    }

    /// A failure with nothing but words.
    pub(crate) fn refused(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::failed(code, &TaskError::new(message))
    }

    /// Ended from outside, after it `ran` for so long.
    pub(crate) fn stopped(reason: StopReason, job: &Job, ran: Duration) -> Self {
        let (code, message) = why_stopped(reason, job, ran);
        Self::refused(code, message)
    }

    /// Sends it; what waits behind a task that spoils the worker is given back before. False when
    /// it was the last one. `ran`: from when until when.
    pub(crate) fn send(
        self,
        link: &Link,
        job: &Job,
        (began, ended): (Instant, Instant),
        urgent: bool,
    ) -> Result<bool, LinkError> {
        let head = DoneHead {
            attempt: job.attempt,
            code: self.code,
            run_us: micros(ended - began),
            cpu_us: micros(self.cpu),
            busy_us: micros(self.busy.unwrap_or(ended - began)),
            memory_bytes: self.memory_bytes,
            retry_after_ms: u64::try_from(self.retry_after.as_millis()).unwrap_or(u64::MAX),
            result_len: u32::try_from(self.body.len()).expect("results are bounded"),
            spoiled: self.spoiled,
        };
        if self.spoiled {
            link.return_waiting();
        }
        link.finish(job.id, &head, [&self.body, &self.logs], ended, urgent || self.spoiled)?;
        Ok(!self.spoiled)
    }
}

/// What the end of a task is called that was ended from outside, after it `ran` for so long.
pub(super) fn why_stopped(reason: StopReason, job: &Job, ran: Duration) -> (ErrorCode, String) {
    match reason {
        // The supervisor's word, for a reason of its own.
        StopReason::Timeout if is_cut_short(ran, job.timeout) => {
            (ErrorCode::Timeout, "the task did not end before its deadline".to_owned())
        }
        StopReason::Timeout => {
            let message =
                format!("the task ran longer than its timeout of {} ms", job.timeout.as_millis());
            (ErrorCode::Timeout, message)
        }
        StopReason::CpuLimit => {
            let message =
                format!("the task used more than its CPU time of {} ms", job.cpu.as_millis());
            (ErrorCode::CpuLimit, message)
        }
        StopReason::Cancelled | StopReason::Orphaned => {
            (ErrorCode::Cancelled, "the task was cancelled".to_owned())
        }
    }
}

/// The error object of every kind of task; each adds its own fields.
#[derive(Debug, Default, Serialize)]
pub(crate) struct TaskError<'a> {
    /// The class of what JavaScript threw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<&'a str>,
    /// What went wrong.
    pub(crate) message: String,
    /// Where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stack: Option<&'a str>,
    /// The path of the value that is no JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<&'a str>,
    /// The `code` of what JavaScript threw.
    #[serde(rename = "errorCode", skip_serializing_if = "Option::is_none")]
    pub(super) error_code: Option<CodeJson<'a>>,
    /// Its `cause`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<Box<HeldJson<'a>>>,
    /// Its `errors`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) errors: Vec<HeldJson<'a>>,
}

impl TaskError<'_> {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        let mut message = message.into();
        bound(&mut message, MAX_MESSAGE_BYTES);
        Self { message, ..Self::default() }
    }
}

/// A text of this length fits into an error object whatever JSON makes of its characters.
pub(crate) const MAX_MESSAGE_BYTES: usize = 8 * 1024;

/// Cuts a text at a character's border.
pub(crate) fn bound(text: &mut String, max: usize) {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
    }
}

/// Whether a task that the supervisor called late had time left by its own clock.
fn is_cut_short(ran: Duration, timeout: Duration) -> bool {
    ran + BEGINS_LATE < timeout
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_began_late_ran_into_its_timeout_all_the_same() {
        let timeout = Duration::from_millis(300);
        assert!(!is_cut_short(Duration::from_millis(200), timeout));
        assert!(is_cut_short(Duration::from_millis(200), Duration::from_secs(300)));
    }

    #[test]
    fn the_longest_and_worst_message_fits_into_an_error() {
        let end = TaskEnd::refused(ErrorCode::HttpError, "\u{1}".repeat(1_000_000));
        assert!(end.body.len() <= MAX_ERROR_BYTES, "{}", end.body.len());
        let end = TaskEnd::refused(ErrorCode::HttpError, "ä".repeat(5000));
        assert!(std::str::from_utf8(&end.body).unwrap().contains('ä'));
    }
}
