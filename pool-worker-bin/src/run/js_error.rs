//! The error object of a JavaScript task that failed, as far as it fits.

use pool_protocol::limits::MAX_ERROR_BYTES;
use pool_protocol::outcome::ErrorCode;
use pool_worker::js::{Held, HeldCode, HeldError, JsFailure};
use serde::Serialize;

use super::end::{TaskEnd, TaskError, bound};

/// A JavaScript stack in an error object.
const MAX_STACK_BYTES: usize = 16 * 1024;

/// An error that another one holds. Its `code` is the task's own word, which at the top would
/// stand in the place of the pool's: there it is `errorCode`.
#[derive(Debug, Serialize)]
pub(super) struct HeldJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<CodeJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stack: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<Box<HeldJson<'a>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<HeldJson<'a>>,
}

/// A `code` is text or a number, as the task has set it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum CodeJson<'a> {
    Text(&'a str),
    Number(i64),
}

/// The failure's text. Only what JavaScript threw has a class, and a code of its own.
pub(super) fn explained(code: ErrorCode, mut failure: JsFailure) -> TaskEnd {
    if let Some(stack) = &mut failure.stack {
        bound(stack, MAX_STACK_BYTES);
    }
    let own_code = failure.held.code.as_ref().filter(|_| code == ErrorCode::JsException);
    let mut error = TaskError {
        name: matches!(code, ErrorCode::JsException | ErrorCode::JsSyntax)
            .then_some(&*failure.name),
        stack: failure.stack.as_deref(),
        path: failure.path.as_deref(),
        error_code: own_code.map(code_json),
        cause: failure.held.cause.as_deref().map(|cause| Box::new(held_json(cause, true))),
        errors: failure.held.errors.iter().map(|error| held_json(error, true)).collect(),
        ..TaskError::new(failure.message)
    };
    // Escaped characters take up to six times their place: then the parts that matter less go.
    if json_len(&error) > MAX_ERROR_BYTES {
        error.cause = failure.held.cause.as_deref().map(|cause| Box::new(held_json(cause, false)));
        error.errors = failure.held.errors.iter().map(|error| held_json(error, false)).collect();
    }
    if json_len(&error) > MAX_ERROR_BYTES {
        error.stack = None;
    }
    if json_len(&error) > MAX_ERROR_BYTES {
        error.cause = None;
        error.errors = Vec::new();
    }
    if json_len(&error) > MAX_ERROR_BYTES {
        error.path = None;
        error.name = None;
    }
    TaskEnd::failed(code, &error)
}

fn held_json(error: &HeldError, with_stack: bool) -> HeldJson<'_> {
    let Held { code, cause, errors } = &error.held;
    HeldJson {
        name: error.name.as_deref(),
        message: &error.message,
        code: code.as_ref().map(code_json),
        stack: error.stack.as_deref().filter(|_| with_stack),
        cause: cause.as_deref().map(|cause| Box::new(held_json(cause, with_stack))),
        errors: errors.iter().map(|error| held_json(error, with_stack)).collect(),
    }
}

fn code_json(code: &HeldCode) -> CodeJson<'_> {
    match code {
        HeldCode::Text(text) => CodeJson::Text(text),
        HeldCode::Number(number) => CodeJson::Number(*number),
    }
}

fn json_len(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |bytes| bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pool_worker::js::FailureKind;

    fn failure(message: &str) -> JsFailure {
        JsFailure {
            kind: FailureKind::Exception,
            name: "TypeError".into(),
            message: message.into(),
            stack: None,
            path: None,
            held: Box::default(),
        }
    }

    fn held(message: &str, held: Held) -> HeldError {
        HeldError {
            name: Some("Error".into()),
            message: message.into(),
            stack: Some("at".into()),
            held,
        }
    }

    #[test]
    fn an_error_of_the_worst_characters_still_fits() {
        let worst = |len: usize| "\u{1}".repeat(len);
        let inner =
            held(&worst(2048), Held { code: Some(HeldCode::Text(worst(256))), ..Held::default() });
        let failure = JsFailure {
            name: worst(8192),
            stack: Some(worst(16384)),
            held: Box::new(Held {
                code: Some(HeldCode::Text(worst(256))),
                cause: Some(Box::new(inner.clone())),
                errors: vec![inner; 15],
            }),
            ..failure(&worst(8192))
        };
        let end = explained(ErrorCode::JsException, failure);
        assert!(end.body.len() <= MAX_ERROR_BYTES, "{}", end.body.len());
        assert_eq!(end.code, Some(ErrorCode::JsException));
    }

    #[test]
    fn what_matters_less_goes_first() {
        let inner = HeldError { stack: Some("x".repeat(4096)), ..held("inner", Held::default()) };
        let held = Held {
            cause: Some(Box::new(inner.clone())),
            errors: vec![inner; 15],
            ..Held::default()
        };
        let failure = JsFailure {
            stack: Some("outer stack".into()),
            held: Box::new(held),
            ..failure("outer")
        };
        let end = explained(ErrorCode::JsException, failure);
        let body: serde_json::Value = serde_json::from_slice(&end.body).unwrap();
        assert_eq!(body["stack"], "outer stack");
        assert_eq!(body["cause"], serde_json::json!({"name": "Error", "message": "inner"}));
        assert_eq!(body["errors"].as_array().map(Vec::len), Some(15));
    }

    #[test]
    fn only_what_javascript_threw_has_a_class() {
        let end = explained(ErrorCode::JsSyntax, failure("m"));
        assert_eq!(end.body, br#"{"name":"TypeError","message":"m"}"#);
        let end = explained(ErrorCode::ResultNotSerializable, failure("m"));
        assert_eq!(end.body, br#"{"message":"m"}"#);
    }

    #[test]
    fn an_errors_own_code_does_not_take_the_place_of_the_pools() {
        let cause = held("inner", Held { code: Some(HeldCode::Number(7)), ..Held::default() });
        let held = Held {
            code: Some(HeldCode::Text("E_OWN".into())),
            cause: Some(Box::new(cause)),
            errors: vec![],
        };
        let end =
            explained(ErrorCode::JsException, JsFailure { held: Box::new(held), ..failure("m") });
        let body = String::from_utf8(end.body).unwrap();
        assert_eq!(
            body,
            concat!(
                r#"{"name":"TypeError","message":"m","errorCode":"E_OWN","#,
                r#""cause":{"name":"Error","message":"inner","code":7,"stack":"at"}}"#
            )
        );
    }
}
