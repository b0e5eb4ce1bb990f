//! Answers: JSON for everything that a person or a program reads, and which status says what.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use hyper::body::{Frame as BodyFrame, SizeHint};
use pool_protocol::codec;
use pool_protocol::control::{OutcomeHead, RefusedCode, RefusedHead};
use pool_protocol::frame::{Frame, Kind};
use pool_protocol::id::TaskId;
use pool_protocol::outcome::ErrorCode;
use pool_protocol::render::outcome_json;
use serde::Serialize;

use super::link::NoAnswer;

/// Seconds after which a refused client may try again: a full queue of short tasks is another one
/// by then.
const RETRY_AFTER_S: &str = "1";

/// A request that is not granted: `{"error": …}`, with the code of the contract where there is one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) error: String,
    pub(super) code: Option<&'static str>,
    /// The task that it is about, if that has an id.
    pub(super) task: Option<TaskId>,
    /// The task's own string.
    pub(super) tag: Option<String>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), code: None, task: None, tag: None }
    }

    pub(super) fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// The supervisor sent what the protocol does not allow here.
    pub(super) fn misunderstood(detail: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::BAD_GATEWAY,
            format!("the supervisor's answer was not understood: {detail}"),
        )
    }

    /// A task that was refused at the door.
    pub(super) fn of_task(code: ErrorCode, message: String) -> Self {
        let status = match code {
            ErrorCode::QueueFull | ErrorCode::ProjectQuota => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        Self { code: Some(code.name()), ..Self::new(status, message) }
    }

    /// Names the task by its own string.
    pub(super) fn with_tag(self, tag: Option<String>) -> Self {
        Self { tag, ..self }
    }
}

impl From<NoAnswer> for Refusal {
    fn from(none: NoAnswer) -> Self {
        let error = match none {
            NoAnswer::Gone => "the supervisor is stopping",
            NoAnswer::Late => "the supervisor did not answer in time; look at its log",
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Shown<'a> {
            error: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            code: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            task_id: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            tag: Option<&'a str>,
        }
        let task_id = self.task.map(|task| task.to_string());
        let shown =
            Shown { error: &self.error, code: self.code, task_id, tag: self.tag.as_deref() };
        let mut response = json(self.status, &shown);
        let headers = response.headers_mut();
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        response
    }
}

/// A value as JSON.
pub(super) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    json_text(status, serde_json::to_vec(value).expect("strings and numbers serialise"))
}

/// What is JSON already.
pub(super) fn json_text(status: StatusCode, text: impl Into<Body>) -> Response {
    typed(status, "application/json", text)
}

/// Any text.
pub(super) fn typed(
    status: StatusCode,
    content_type: &'static str,
    text: impl Into<Body>,
) -> Response {
    let headers = [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store")];
    (status, headers, text.into()).into_response()
}

/// An answer that keeps something for as long as it is being written.
pub(super) fn holding<T: Send + Unpin + 'static>(response: Response, held: T) -> Response {
    response.map(|body| Body::new(Holding { body, _held: held }))
}

struct Holding<T> {
    body: Body,
    _held: T,
}

impl<T: Unpin> HttpBody for Holding<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The answer to an administrative request, as it came.
pub(super) fn answer(frame: Frame) -> Result<Response, Refusal> {
    match frame.kind {
        Kind::Reply => Ok(json_text(StatusCode::OK, frame.body)),
        Kind::Outcome => outcome(&frame).map(|outcome| json_text(StatusCode::OK, outcome.json)),
        _ => Err(refused(&frame)),
    }
}

/// The reply's bytes, where nothing else is an answer.
pub(super) fn reply_body(frame: Frame) -> Result<bytes::Bytes, Refusal> {
    match frame.kind {
        Kind::Reply => Ok(frame.body),
        _ => Err(refused(&frame)),
    }
}

/// How a task ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ending {
    /// Nothing when it was refused before it had an id.
    pub(super) task: Option<TaskId>,
    pub(super) code: Option<ErrorCode>,
    /// As users see it.
    pub(super) json: String,
}

/// Reads an outcome.
pub(super) fn outcome(frame: &Frame) -> Result<Ending, Refusal> {
    let head: OutcomeHead<'_> =
        codec::decode("outcome", &frame.head).map_err(Refusal::misunderstood)?;
    Ok(ending(&head, &frame.body))
}

/// Reads the outcome of a task that was submitted with this tag. A task that was known by its
/// idempotency key has the tag of its first submission.
pub(super) fn outcome_of(frame: &Frame, tag: Option<&str>) -> Result<Ending, Refusal> {
    let head: OutcomeHead<'_> =
        codec::decode("outcome", &frame.head).map_err(Refusal::misunderstood)?;
    Ok(ending(&OutcomeHead { tag, ..head }, &frame.body))
}

fn ending(head: &OutcomeHead<'_>, body: &[u8]) -> Ending {
    let task = (head.task != 0).then_some(TaskId(head.task));
    Ending { task, code: head.code, json: outcome_json(head, body) }
}

/// What a frame that is no answer means.
pub(super) fn refused(frame: &Frame) -> Refusal {
    if frame.kind != Kind::Refused {
        return Refusal::misunderstood(format!("a {:?} frame", frame.kind));
    }
    let head: RefusedHead = match codec::decode("refusal", &frame.head) {
        Ok(head) => head,
        Err(error) => return Refusal::misunderstood(error),
    };
    let status = match head.code {
        RefusedCode::Malformed => StatusCode::BAD_REQUEST,
        RefusedCode::Unknown => StatusCode::NOT_FOUND,
        RefusedCode::Expired => StatusCode::GONE,
        RefusedCode::Conflict => StatusCode::CONFLICT,
    };
    match serde_json::from_slice::<pool_protocol::control::Refusal>(&frame.body) {
        Ok(refusal) => Refusal::new(status, refusal.error),
        Err(error) => Refusal::misunderstood(error),
    }
}
