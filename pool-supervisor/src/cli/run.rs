//! `poolctl run`: one task, its result, and an exit code that tells how it ended.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use pool_protocol::control::OutcomeHead;
use pool_protocol::outcome::Status;
use pool_protocol::render::outcome_json;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::args::Run;
use super::error::CliError;
use super::exit::Exit;
use super::interrupt::on_interrupt;
use super::{output, spec};
use crate::client::{
    Batch, ClientError, Connection, Incoming, Outcome, Receiver, SubmitOptions, now_ms,
};

/// The only task of its connection.
const REQUEST: u64 = 1;

/// Runs the task that the arguments describe.
///
/// # Errors
/// [`CliError`] when there is no task in the arguments, no supervisor, or no outcome.
pub(super) fn run(
    args: &Run,
    connect: impl FnOnce() -> Result<Connection, CliError>,
) -> Result<Exit, CliError> {
    let (task, json) = spec::task(&args.task)?;
    let connection = connect()?;
    let mut batch = Batch::with_limit(connection.welcome().body_bytes);
    batch.submit(REQUEST, &task, now_ms(), SubmitOptions::RUN).map_err(CliError::TooLong)?;
    let (sender, mut receiver) = connection.split();
    let sender = Arc::new(Mutex::new(sender));
    {
        // INVARIANT: the sender is held before Ctrl-C is listened to, so that no cancel goes before
        // its task.
        let mut first = sender.lock().unwrap_or_else(PoisonError::into_inner);
        let later = Arc::clone(&sender);
        on_interrupt(move || {
            let mut cancel = Batch::default();
            cancel.cancel(REQUEST);
            // With the connection lost, the main thread says so.
            let _ = later.lock().unwrap_or_else(PoisonError::into_inner).send(&mut cancel);
        })?;
        first.send(&mut batch).map_err(|error| CliError::lost(1, error))?;
    }
    let outcome = outcome_of(&mut receiver)?;
    show(&outcome, json)
}

fn outcome_of(receiver: &mut Receiver) -> Result<Outcome, CliError> {
    match receiver.receive() {
        Ok(Incoming::Outcome(outcome)) if outcome.request == REQUEST => Ok(outcome),
        Ok(Incoming::Refused { code, error, .. }) => {
            Err(ClientError::Refused { code, error }.into())
        }
        Ok(other) => {
            Err(ClientError::Unexpected { kind: other.kind(), awaited: "the task's outcome" }
                .into())
        }
        Err(error) if error.is_lost() => Err(CliError::lost(1, error)),
        Err(error) => Err(error.into()),
    }
}

/// Prints an outcome and gives the exit code that stands for it.
///
/// # Errors
/// [`CliError`] when it is malformed or nobody reads it.
pub(super) fn show(outcome: &Outcome, json: bool) -> Result<Exit, CliError> {
    let head = outcome.head()?;
    if json {
        output::write_foreign(format!("{}\n", outcome_json(&head, &outcome.body)).as_bytes())?;
    } else {
        let (main, logs) = outcome.body.split_at(outcome.body.len().min(head.result_len as usize));
        show_logs(logs);
        if head.status == Status::Succeeded {
            output::write_foreign(&plain(main))?
        } else {
            output::complain(&failure(&head, main))
        }
    }
    Ok(head.status.into())
}

/// A result as a person reads it, with its line end: a string as it is, anything else as JSON.
fn plain(result: &[u8]) -> Vec<u8> {
    let mut text = match serde_json::from_slice::<String>(result) {
        Ok(text) => text.into_bytes(),
        Err(_) => result.to_vec(),
    };
    text.push(b'\n');
    text
}

/// One element of the captured console output: a line, or the mark that lines are missing.
#[derive(Deserialize)]
struct LogEntry<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
}

fn show_logs(logs: &[u8]) {
    // None were asked for.
    let Ok(entries) = serde_json::from_slice::<Vec<LogEntry<'_>>>(logs) else { return };
    for entry in &entries {
        match &entry.text {
            Some(text) => output::note(text),
            None => output::complain("more console output was cut"),
        }
    }
}

/// `CODE: Name: message`, then the stack, then what else the error holds.
pub(super) fn failure(head: &OutcomeHead<'_>, error: &[u8]) -> String {
    let code = head.code.map_or(head.status.name(), |code| code.name());
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(error) else {
        return format!("{code}: {}", String::from_utf8_lossy(error));
    };
    let mut text = |field: &str| match fields.remove(field) {
        Some(Value::String(text)) => text,
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let (name, message, stack) = (text("name"), text("message"), text("stack"));
    let summary = if name.is_empty() || message.starts_with(&name) {
        message
    } else {
        format!("{name}: {message}")
    };
    let mut shown = format!("{code}: {summary}");
    let frames = frames(&stack, &summary);
    if !frames.is_empty() {
        shown.push('\n');
        shown.push_str(frames);
    }
    shown.push_str(&details(&fields));
    shown
}

/// A stack without what its error's summary has said already: an engine's stack begins with the
/// summary, and the message of a syntax error ends with its place, which is then the only frame.
fn frames<'a>(stack: &'a str, summary: &str) -> &'a str {
    let placed = summary.strip_suffix(')').and_then(|text| text.rsplit_once(" ("));
    let (said, place) = placed.unwrap_or((summary, ""));
    let frames = stack
        .strip_prefix(summary)
        .or_else(|| stack.strip_prefix(said))
        .unwrap_or(stack)
        .trim_matches('\n');
    if frames.trim() == format!("at {place}") { "" } else { frames.trim_end() }
}

fn details(fields: &Map<String, Value>) -> String {
    let mut shown = String::new();
    for (name, value) in fields {
        let text = match (name.as_str(), value) {
            ("verdict", Value::Object(verdict)) => {
                let part =
                    |field: &str| verdict.get(field).and_then(Value::as_str).unwrap_or_default();
                format!("{} ({})", part("cause"), part("evidence"))
            }
            (_, Value::String(text)) => text.trim_end().to_owned(),
            (_, other) => other.to_string(),
        };
        shown.push_str(&format!("\n  {name}: {text}"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use pool_protocol::outcome::{ErrorCode, Receipt};

    fn failed(code: ErrorCode, error: &str) -> String {
        let head = OutcomeHead {
            task: 1,
            status: code.status(),
            code: Some(code),
            attempts: 1,
            worker: None,
            receipt: Receipt::default(),
            missing_layers: pool_protocol::layer::LayerSet::NONE,
            tag: None,
            result_len: 0,
        };
        failure(&head, error.as_bytes())
    }

    #[test]
    fn a_string_is_printed_plainly_and_anything_else_as_json() {
        for (result, shown) in [
            (r#""a\nb é \u00e9""#, "a\nb é é\n"),
            ("42", "42\n"),
            ("null", "null\n"),
            (r#"{"a": [1,2.50]}"#, "{\"a\": [1,2.50]}\n"),
        ] {
            assert_eq!(String::from_utf8(plain(result.as_bytes())).expect("text"), shown);
        }
    }

    #[test]
    fn an_error_names_code_message_and_stack_once() {
        assert_eq!(
            failed(
                ErrorCode::JsException,
                r#"{"name":"TypeError","message":"x is null","stack":"TypeError: x is null\n    at f (task:1:2)"}"#
            ),
            "JS_EXCEPTION: TypeError: x is null\n    at f (task:1:2)"
        );
        let syntax = r#"{"name":"SyntaxError","message":"Unexpected token ')' (task.js:2:1)","stack":"SyntaxError: Unexpected token ')'\n    at task.js:2:1"}"#;
        assert_eq!(
            failed(ErrorCode::JsSyntax, syntax),
            "JS_SYNTAX: SyntaxError: Unexpected token ')' (task.js:2:1)"
        );
        assert_eq!(
            failed(ErrorCode::Timeout, r#"{"message":"after 30000 ms"}"#),
            "TIMEOUT: after 30000 ms"
        );
        assert_eq!(
            failed(
                ErrorCode::WorkerCrashed,
                r#"{"message":"gone","verdict":{"cause":"killed-from-outside","evidence":"signal 9"}}"#
            ),
            "WORKER_CRASHED: gone\n  verdict: killed-from-outside (signal 9)"
        );
        assert_eq!(failed(ErrorCode::CommandFailed, "no json"), "COMMAND_FAILED: no json");
    }
}
