//! What clients may say.

use pool_core::event::NewTask;
use pool_protocol::codec;
use pool_protocol::control::{ControlRequest, HelloHead};
use pool_protocol::frame::Kind;
use pool_protocol::lane::Lane;
use pool_protocol::limits::DEFAULT_MAX_ATTEMPTS;
use pool_protocol::task::{OnDisconnect, Realm, TaskHead};
use pool_protocol::version::Mismatch;

/// What a client said. Bodies stay in the frame.
#[derive(Clone, PartialEq, Debug)]
pub enum ClientSays<'a> {
    /// Its first frame, in our version.
    Hello(HelloHead<'a>),
    /// A task, whose fields are still to be checked: a wrong one is the task's trouble, not the
    /// connection's.
    Submit(TaskHead<'a>),
    /// What it submitted or asked for under this number is not wanted any more.
    CancelSubmitted,
    /// An administrative request.
    Control(ControlRequest<'a>),
}

/// Reads a frame's kind, id and head. `greeted`: whether the hello has come.
///
/// # Errors
/// How it breaks the protocol; the connection is of no more use.
pub fn hear(greeted: bool, kind: Kind, id: u64, head: &[u8]) -> Result<ClientSays<'_>, String> {
    match kind {
        Kind::Hello if !greeted => {
            Mismatch::check("supervisor", "client", id).map_err(|e| e.to_string())?;
            codec::decode("hello", head).map(ClientSays::Hello).map_err(|e| e.to_string())
        }
        Kind::Submit if greeted => {
            codec::decode("submit", head).map(ClientSays::Submit).map_err(|e| e.to_string())
        }
        Kind::CancelSubmitted if greeted => Ok(ClientSays::CancelSubmitted),
        Kind::Control if greeted => {
            codec::decode("control", head).map(ClientSays::Control).map_err(|e| e.to_string())
        }
        kind => Err(super::misplaced(kind, greeted)),
    }
}

/// What the core is told of a task whose head has been checked, and which runs in this realm.
///
/// # Panics
/// If the body is longer than a frame can be.
#[must_use]
pub fn new_task<'a>(head: &TaskHead<'a>, realm: Realm, body_len: usize) -> NewTask<'a> {
    NewTask {
        lane: head.kind.lane(),
        project: head.project,
        priority: head.priority,
        timeout_ms: head.timeout_ms,
        max_attempts: head.max_attempts.unwrap_or(DEFAULT_MAX_ATTEMPTS),
        retry: head.retry.unwrap_or_default(),
        delay_ms: head.delay_ms,
        deadline_ms: head.deadline_ms,
        idempotency_key: head.idempotency_key,
        cpu_ms: head.cpu_ms,
        memory_bytes: head.memory_bytes,
        body_bytes: u32::try_from(body_len).expect("a frame's length is 32 bits"),
        made_ahead: head.kind.lane() == Lane::Js && realm == Realm::Fresh,
        cancel_with_client: head.on_disconnect == OnDisconnect::Cancel,
        body: None,
    }
}
