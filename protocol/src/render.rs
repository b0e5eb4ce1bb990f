//! Outcomes as users see them: one JSON object, in which the result stands as the bytes that the
//! worker sent.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::control::OutcomeHead;
use crate::id::TaskId;
use crate::json::{self, Sound};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OutcomeJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    task_id: Option<String>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a RawValue>,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
    receipt: ReceiptJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    logs: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReceiptJson {
    queued_ms: f64,
    run_ms: f64,
    cpu_ms: f64,
    memory_bytes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing_layers: Vec<&'static str>,
}

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// The outcome as one JSON object without line breaks of its own.
///
/// A body that is no JSON, which only a broken worker sends, is shown as an error about itself.
#[must_use]
pub fn outcome_json(head: &OutcomeHead<'_>, body: &[u8]) -> String {
    let (main, logs) = body.split_at(body.len().min(head.result_len as usize));
    let main = as_json(main).unwrap_or_else(|| broken_body(main.len()));
    let logs = if logs.is_empty() { None } else { as_json(logs) };
    let error = head.code.map(|code| with_code(code.name(), &main));
    let shown = OutcomeJson {
        task_id: (head.task != 0).then(|| TaskId(head.task).to_string()),
        status: head.status.name(),
        result: if error.is_none() { Some(&main) } else { None },
        error: error.as_deref(),
        attempts: head.attempts,
        worker_id: head.worker.map(|w| w.to_string()),
        tag: head.tag,
        receipt: ReceiptJson {
            queued_ms: ms(head.receipt.queued_us),
            run_ms: ms(head.receipt.run_us),
            cpu_ms: ms(head.receipt.cpu_us),
            memory_bytes: head.receipt.memory_bytes,
            missing_layers: head.missing_layers.names(),
        },
        logs: logs.as_deref(),
    };
    serde_json::to_string(&shown).expect("strings, numbers and raw JSON serialise")
}

fn as_json(bytes: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(bytes).ok()?;
    RawValue::from_string(text.to_owned()).ok()
}

fn broken_body(len: usize) -> Box<RawValue> {
    let text = format!("{{\"message\":\"the worker's {len} bytes are no JSON\"}}");
    RawValue::from_string(text).expect("written here")
}

/// Puts the code in front of the worker's error object.
fn with_code(code: &str, object: &RawValue) -> Box<RawValue> {
    let fields = object.get().strip_prefix('{').map_or("}", str::trim_start);
    let comma = if fields == "}" { "" } else { "," };
    RawValue::from_string(format!("{{\"code\":\"{code}\"{comma}{fields}"))
        .expect("an object with one more field is an object")
}

/// An error object for an outcome that the supervisor makes itself.
#[must_use]
pub fn error_body(message: &str, verdict: Option<&crate::outcome::Verdict>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Error<'a> {
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        verdict: Option<crate::control::VerdictReply>,
    }
    let verdict = verdict.map(verdict_reply);
    serde_json::to_vec(&Error { message, verdict }).expect("strings serialise")
}

/// A worker's error object with another message.
#[must_use]
pub fn error_but(error: &[u8], message: &str) -> Vec<u8> {
    let fields =
        json::read(error, json::MAX_DEPTH).ok().and_then(Sound::fields).unwrap_or_default();
    let text = |text: &str| serde_json::to_string(text).expect("strings serialise");
    let mut all = format!("{{\"message\":{}", text(message));
    for (name, value) in fields.iter().filter(|(name, _)| name != "message") {
        all.push_str(&format!(",{}:{}", text(name), value.as_written()));
    }
    all.push('}');
    all.into_bytes()
}

/// A verdict as users see it.
#[must_use]
pub fn verdict_reply(verdict: &crate::outcome::Verdict) -> crate::control::VerdictReply {
    crate::control::VerdictReply {
        cause: verdict.cause.name().to_owned(),
        evidence: verdict.evidence.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::WorkerId;
    use crate::outcome::{ErrorCode, Receipt, Status};

    fn head(code: Option<ErrorCode>, result_len: usize) -> OutcomeHead<'static> {
        OutcomeHead {
            task: 33,
            status: code.map_or(Status::Succeeded, ErrorCode::status),
            code,
            attempts: 1,
            worker: Some(WorkerId { slot: 3, generation: 17 }),
            receipt: Receipt { queued_us: 200, run_us: 1100, cpu_us: 900, memory_bytes: 4_194_304 },
            missing_layers: crate::layer::LayerSet::NONE,
            tag: None,
            result_len: u32::try_from(result_len).expect("small"),
        }
    }

    #[test]
    fn a_success_shows_the_result_as_the_worker_wrote_it() {
        assert_eq!(
            outcome_json(&head(None, 7), b"{\"a\":1}"),
            r#"{"taskId":"11","status":"succeeded","result":{"a":1},"attempts":1,"workerId":"w3.17","receipt":{"queuedMs":0.2,"runMs":1.1,"cpuMs":0.9,"memoryBytes":4194304}}"#
        );
    }

    #[test]
    fn a_failure_shows_the_code_first_and_the_logs_last() {
        let shown =
            outcome_json(&head(Some(ErrorCode::JsException), 15), br#"{"message":"x"}["line"]"#);
        assert!(shown.contains(r#""error":{"code":"JS_EXCEPTION","message":"x"}"#), "{shown}");
        assert!(shown.ends_with(r#""logs":["line"]}"#), "{shown}");
        let empty = outcome_json(&head(Some(ErrorCode::Timeout), 2), b"{}");
        assert!(empty.contains(r#""error":{"code":"TIMEOUT"}"#), "{empty}");
    }

    #[test]
    fn an_error_keeps_all_but_its_message() {
        let error = br#"{"stdout":"a\n","message":"after 5 ms","truncated":false}"#;
        let changed = error_but(error, "after the \"deadline\"");
        let expected = r#"{"message":"after the \"deadline\"","stdout":"a\n","truncated":false}"#;
        assert_eq!(String::from_utf8_lossy(&changed), expected);
        for broken in [&b""[..], b"{", b"[1]"] {
            assert_eq!(error_but(broken, "late"), br#"{"message":"late"}"#);
        }
    }

    #[test]
    fn a_body_that_is_no_json_is_named_as_such() {
        let shown = outcome_json(&head(None, 3), b"\xff{]");
        assert!(shown.contains("3 bytes are no JSON"), "{shown}");
    }
}
