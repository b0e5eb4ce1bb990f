//! The way from the supervisor: one read brings as many frames as there are, and they share its
//! buffer.

use std::os::unix::net::UnixStream;

use bytes::Bytes;
use pool_protocol::buffer::FrameBuffer;
use pool_protocol::codec;
use pool_protocol::control::{AcceptedHead, OutcomeHead, Refusal, RefusedCode, RefusedHead};
use pool_protocol::frame::{Frame, FrameLimits, Kind};
use pool_protocol::limits::MAX_BODY_BYTES;

use super::ClientError;
use pool_os::socket;

/// Bytes asked for in one read: some hundred small outcomes.
const READ_BYTES: usize = 128 * 1024;

/// The supervisor decides how large a result may be; this is only the wire's own bound.
const LIMITS: FrameLimits = FrameLimits { body_bytes: MAX_BODY_BYTES };

/// A message from the supervisor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Incoming {
    /// A task is queued.
    Accepted {
        /// The number it was submitted under.
        request: u64,
        /// Its id.
        task: u64,
    },
    /// A task ended.
    Outcome(Outcome),
    /// An administrative request was granted.
    Reply {
        /// The request's number.
        request: u64,
        /// JSON, or Prometheus text.
        body: Bytes,
    },
    /// An administrative request was refused.
    Refused {
        /// The request's number.
        request: u64,
        /// What kind of refusal.
        code: RefusedCode,
        /// The supervisor's words.
        error: String,
    },
    /// An event.
    Event {
        /// The subscription's number.
        request: u64,
        /// JSON.
        body: Bytes,
    },
}

impl Incoming {
    /// The frame it came as.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Accepted { .. } => Kind::Accepted,
            Self::Outcome(_) => Kind::Outcome,
            Self::Reply { .. } => Kind::Reply,
            Self::Refused { .. } => Kind::Refused,
            Self::Event { .. } => Kind::Event,
        }
    }
}

/// How a task ended, still as bytes: who only counts need not take it apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The number the task was submitted or asked about under.
    pub request: u64,
    head: Bytes,
    /// See [`OutcomeHead`].
    pub body: Bytes,
}

impl Outcome {
    /// One that came under this number, with the bytes of its frame's head and body.
    #[must_use]
    pub const fn new(request: u64, head: Bytes, body: Bytes) -> Self {
        Self { request, head, body }
    }

    /// The head, taken apart.
    ///
    /// # Errors
    /// [`ClientError::Head`] when the supervisor sent something else.
    pub fn head(&self) -> Result<OutcomeHead<'_>, ClientError> {
        Ok(codec::decode("outcome", &self.head)?)
    }
}

/// The reading half of a connection.
#[derive(Debug)]
pub struct Receiver {
    stream: UnixStream,
    buffer: FrameBuffer,
    /// Small frames are read here first: handing `buffer`'s spare room to the system call would
    /// need `unsafe`, and a copy costs less than a hundredth of the call.
    scratch: Box<[u8]>,
}

impl Receiver {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            buffer: FrameBuffer::default(),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
        }
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// [`ClientError`] when the connection is lost or the other side breaks the protocol.
    pub fn receive(&mut self) -> Result<Incoming, ClientError> {
        let frame = self.frame()?;
        incoming(frame)
    }

    /// The next message if it is here already, whole. Does not read.
    ///
    /// # Errors
    /// [`ClientError`] when the other side breaks the protocol.
    pub fn receive_here(&mut self) -> Result<Option<Incoming>, ClientError> {
        self.buffer.next(LIMITS)?.map(incoming).transpose()
    }

    pub(super) fn frame(&mut self) -> Result<Frame, ClientError> {
        loop {
            match self.buffer.next(LIMITS)? {
                Some(frame) => return Ok(frame),
                None => self.read()?,
            }
        }
    }

    fn read(&mut self) -> Result<(), ClientError> {
        match socket::read_into(&self.stream, &mut self.buffer, &mut self.scratch) {
            Ok(0) => Err(ClientError::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(ClientError::Read(error.into())),
        }
    }
}

fn incoming(frame: Frame) -> Result<Incoming, ClientError> {
    let request = frame.id;
    match frame.kind {
        Kind::Accepted => {
            let head: AcceptedHead = codec::decode("accepted", &frame.head)?;
            Ok(Incoming::Accepted { request, task: head.task })
        }
        Kind::Outcome => {
            Ok(Incoming::Outcome(Outcome { request, head: frame.head, body: frame.body }))
        }
        Kind::Reply => Ok(Incoming::Reply { request, body: frame.body }),
        Kind::Event => Ok(Incoming::Event { request, body: frame.body }),
        Kind::Refused => match refusal(&frame)? {
            ClientError::Refused { code, error } => Ok(Incoming::Refused { request, code, error }),
            other => Err(other),
        },
        kind => Err(ClientError::Unexpected { kind, awaited: "an answer" }),
    }
}

/// What a `Refused` frame says.
pub(super) fn refusal(frame: &Frame) -> Result<ClientError, ClientError> {
    let head: RefusedHead = codec::decode("refusal", &frame.head)?;
    let words: Refusal = serde_json::from_slice(&frame.body).map_err(ClientError::Reply)?;
    Ok(ClientError::Refused { code: head.code, error: words.error })
}
