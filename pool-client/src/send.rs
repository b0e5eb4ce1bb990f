//! The way to the supervisor: frames are gathered and leave in one write.

use std::io::Write;
use std::os::unix::net::UnixStream;

use pool_protocol::control::{ControlRequest, HelloHead};
use pool_protocol::frame::{self, Kind};
use pool_protocol::limits::MAX_BODY_BYTES;
use pool_protocol::task::{OnDisconnect, Task, TaskHead};
use pool_protocol::version::CURRENT;

use super::ClientError;

/// What a client wants to hear of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubmitOptions {
    /// What becomes of the task when this connection ends first.
    pub on_disconnect: OnDisconnect,
    /// Whether the task's id is wanted as soon as it is queued.
    pub ack: bool,
    /// Whether the outcome is wanted on this connection.
    pub want_outcome: bool,
}

impl SubmitOptions {
    /// Somebody waits for this task: it ends with the connection.
    pub const RUN: Self =
        Self { on_disconnect: OnDisconnect::Cancel, ack: false, want_outcome: true };
    /// The outcome is wanted, and the task goes on without us.
    pub const SUBMIT: Self =
        Self { on_disconnect: OnDisconnect::Keep, ack: false, want_outcome: true };
    /// The id is wanted; the outcome is kept by the supervisor. A refusal still comes as an
    /// outcome.
    pub const NO_WAIT: Self =
        Self { on_disconnect: OnDisconnect::Keep, ack: true, want_outcome: false };
}

/// The task's body is over the supervisor's limit. Sending it would cost the connection, so it
/// stays here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("has a body of {len} bytes; the supervisor accepts at most {max} (`limits.bodyBytes`)")]
pub struct TooLong {
    /// Bytes of the body.
    pub len: usize,
    /// Bytes allowed.
    pub max: usize,
}

/// Frames that wait to be sent.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    max_body: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self { bytes: Vec::new(), max_body: MAX_BODY_BYTES }
    }
}

impl Batch {
    /// An empty batch that holds bodies of up to so many bytes; see [`super::Welcome::body_bytes`].
    #[must_use]
    pub fn with_limit(body_bytes: u64) -> Self {
        let mut batch = Self::default();
        batch.limit_bodies(body_bytes);
        batch
    }

    pub(super) fn limit_bodies(&mut self, body_bytes: u64) {
        self.max_body = usize::try_from(body_bytes).unwrap_or(usize::MAX).min(MAX_BODY_BYTES);
    }

    /// Adds a task under a number of the caller's choice.
    ///
    /// # Errors
    /// [`TooLong`] when its body is over the limit; nothing is added then.
    pub fn submit(
        &mut self,
        request: u64,
        task: &Task,
        now_ms: i64,
        options: SubmitOptions,
    ) -> Result<(), TooLong> {
        let head = task.head(now_ms, options.on_disconnect, options.ack, options.want_outcome);
        self.submit_parts(request, &head, &task.body)
    }

    /// Adds a task that is there in the wire's own pieces.
    ///
    /// # Errors
    /// See [`Batch::submit`].
    pub fn submit_parts(
        &mut self,
        request: u64,
        head: &TaskHead<'_>,
        body: &[u8],
    ) -> Result<(), TooLong> {
        if body.len() > self.max_body {
            return Err(TooLong { len: body.len(), max: self.max_body });
        }
        frame::put(&mut self.bytes, Kind::Submit, request, head, body);
        Ok(())
    }

    /// Adds the wish to cancel what was submitted under a number, or to end the wait or the
    /// subscription under it.
    pub fn cancel(&mut self, request: u64) {
        frame::put_plain(&mut self.bytes, Kind::CancelSubmitted, request, b"");
    }

    /// Adds an administrative request.
    pub fn control(&mut self, request: u64, what: &ControlRequest<'_>) {
        frame::put(&mut self.bytes, Kind::Control, request, what, b"");
    }

    pub(super) fn hello(&mut self, program: &str) {
        frame::put(&mut self.bytes, Kind::Hello, u64::from(CURRENT), &HelloHead { program }, b"");
    }

    /// How many bytes wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets what waits.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }
}

/// The writing half of a connection.
#[derive(Debug)]
pub struct Sender {
    stream: UnixStream,
}

impl Sender {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream }
    }

    /// Writes the batch and empties it. Waits while the supervisor does not read.
    ///
    /// # Errors
    /// [`ClientError::Write`] when the connection is lost.
    pub fn send(&mut self, batch: &mut Batch) -> Result<(), ClientError> {
        let written = self.stream.write_all(&batch.bytes);
        batch.bytes.clear();
        written.map_err(ClientError::Write)
    }
}
