//! Tasks that many tests need.

use serde_json::{Value, json};

/// A script.
#[must_use]
pub fn code(source: &str) -> Value {
    json!({"type": "execute-code", "code": source})
}

/// A function with arguments.
#[must_use]
pub fn function(source: &str, args: Value) -> Value {
    json!({"type": "execute-function", "fn": source, "args": args})
}

/// The default export of a module.
#[must_use]
pub fn module(path: &str) -> Value {
    json!({"type": "execute-module", "modulePath": path})
}

/// A GET request.
#[must_use]
pub fn get(url: &str) -> Value {
    json!({"type": "http-request", "url": url, "maxAttempts": 1})
}

/// A program.
#[must_use]
pub fn program(path: &str, args: &[&str]) -> Value {
    json!({"type": "shell-command", "program": path, "args": args, "maxAttempts": 1})
}

/// Waits without using the processor, then gives `"slept"`.
#[must_use]
pub fn sleep(ms: u64) -> Value {
    code(&format!("await new Promise(resolve => setTimeout(resolve, {ms})); return 'slept'"))
}

/// Runs until it is cancelled.
#[must_use]
pub fn hold() -> Value {
    sleep(120_000)
}

/// The task with more fields.
#[must_use]
pub fn with(mut task: Value, fields: Value) -> Value {
    let more = fields.as_object().expect("fields are an object");
    let object = task.as_object_mut().expect("a task is an object");
    object.extend(more.clone());
    task
}

/// The result of an outcome that succeeded.
///
/// # Panics
/// When it did not.
#[must_use]
#[track_caller]
pub fn result(outcome: Value) -> Value {
    assert_eq!(outcome["status"], "succeeded", "{outcome}");
    outcome["result"].clone()
}

/// The code of an outcome that did not succeed.
///
/// # Panics
/// When it did.
#[must_use]
#[track_caller]
pub fn error(outcome: &Value) -> &str {
    outcome["error"]["code"].as_str().unwrap_or_else(|| panic!("expected a failure, got {outcome}"))
}
