//! What hostile JavaScript must not achieve, on real processes: one test per numbered threat, the
//! number in its name. In each the supervisor, the other worker and its task go on, and a worker
//! that is lost is replaced.

mod language;
mod memory;
mod neighbours;
mod time;

use pool_tests::tasks::{code, error, with};
use pool_tests::{Value, json};

/// A script with this time limit in milliseconds.
fn limited(source: &str, timeout: u64) -> Value {
    with(code(source), json!({"timeout": timeout}))
}

#[track_caller]
fn timed_out(source: &str, outcome: &Value) {
    assert_eq!(
        (outcome["status"].as_str(), error(outcome), outcome["attempts"].as_u64()),
        (Some("timed-out"), "TIMEOUT", Some(1)),
        "{source}: {outcome}"
    );
}

/// The failure's class and message.
#[track_caller]
fn threw<'o>(source: &str, outcome: &'o Value) -> (&'o str, &'o str) {
    assert_eq!(error(outcome), "JS_EXCEPTION", "{source}: {outcome}");
    let text = |field: &str| outcome["error"][field].as_str();
    (text("name").unwrap_or_default(), text("message").unwrap_or_default())
}
