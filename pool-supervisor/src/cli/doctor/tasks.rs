//! Tasks of the doctor's own, run one after the other.

use pool_protocol::control::OutcomeHead;
use pool_protocol::task::{self, Task};
use serde_json::{Value, json};

use super::super::error::CliError;
use super::row::Finding;
use crate::client::{ClientError, Connection, Incoming, SubmitOptions};

/// Whose tasks these are: limits of other projects do not concern them.
const PROJECT: &str = "doctor";
/// From submitting to the end: a pool that is busy for longer cannot be examined.
const PATIENCE_MS: u64 = 60_000;

/// The way to run them.
pub(super) struct Tasks<'a> {
    connection: &'a mut Connection,
}

/// How one ended.
pub(super) struct Ended {
    /// The error's code; nothing when it succeeded.
    pub(super) code: Option<&'static str>,
    /// The result, or the error object.
    pub(super) body: Value,
    /// Bytes of captured console lines, as JSON.
    pub(super) logs: Vec<u8>,
    /// Whether it was ever handed to a worker.
    pub(super) ran: bool,
    pub(super) queued_ms: f64,
    pub(super) run_ms: f64,
}

impl<'a> Tasks<'a> {
    pub(super) fn new(connection: &'a mut Connection) -> Self {
        Self { connection }
    }

    /// Runs a task once. The common fields are added.
    pub(super) fn run(&mut self, mut fields: Value) -> Result<Ended, CliError> {
        let common =
            json!({"projectId": PROJECT, "priority": 0, "maxAttempts": 1, "deadline": PATIENCE_MS});
        let object = fields.as_object_mut().expect("written here as objects");
        object.extend(common.as_object().expect("written here as an object").clone());
        let task: Task = task::parse(fields.to_string().as_bytes())?;
        let number = self.connection.submit(&task, SubmitOptions::RUN)?;
        match self.connection.receive()? {
            Incoming::Outcome(outcome) if outcome.request == number => {
                Ok(ended(&outcome.head()?, &outcome.body))
            }
            Incoming::Refused { code, error, .. } => {
                Err(ClientError::Refused { code, error }.into())
            }
            other => {
                Err(ClientError::Unexpected { kind: other.kind(), awaited: "the task's outcome" }
                    .into())
            }
        }
    }
}

fn ended(head: &OutcomeHead<'_>, body: &[u8]) -> Ended {
    let (main, logs) = body.split_at(body.len().min(head.result_len as usize));
    Ended {
        code: head.code.map(pool_protocol::outcome::ErrorCode::name),
        body: serde_json::from_slice(main).unwrap_or_default(),
        logs: logs.to_vec(),
        ran: head.attempts > 0,
        queued_ms: head.receipt.queued_us as f64 / 1000.0,
        run_ms: head.receipt.run_us as f64 / 1000.0,
    }
}

impl Ended {
    /// `CODE: message`, or that it succeeded.
    pub(super) fn words(&self) -> String {
        match self.code {
            None => "nothing: it succeeded".to_owned(),
            Some(code) => {
                let message = self.body["message"].as_str().unwrap_or_default();
                format!("{code}: {}", message.lines().next().unwrap_or_default())
            }
        }
    }

    /// Stopped when it ended with one of these codes, not stopped when it succeeded. Any other end
    /// shows nothing.
    pub(super) fn stopped_by(&self, codes: &[&str]) -> (Finding, String) {
        let verdict = match self.code {
            Some(code) if self.ran && codes.contains(&code) => Finding::Bites,
            None => Finding::Leaks,
            Some(_) => Finding::NotTried,
        };
        (verdict, self.words())
    }
}
