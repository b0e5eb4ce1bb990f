//! A blocking client of the control socket: what poolctl and the load generator speak through.
//!
//! Owns the connection, the handshake and the reading and writing of frames. It must not print,
//! parse a command line or decide what an answer means to a person. A connection comes apart into a
//! [`Sender`] and a [`Receiver`], so that one thread can keep a window of tasks in flight while
//! another takes the outcomes: with one thread for both, each would wait for the other's system
//! call.

use std::os::unix::net::UnixStream;
use std::path::Path;

use pool_protocol::control::{ControlRequest, WelcomeHead};
use pool_protocol::frame::Kind;
use pool_protocol::task::Task;
use pool_protocol::version::Mismatch;

use pool_os::socket;

mod error;
mod receive;
mod send;

pub use error::ClientError;
pub use receive::{Incoming, Outcome, Receiver};
pub use send::{Batch, Sender, SubmitOptions, TooLong};

/// What the supervisor said of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// Its release, such as `0.1.0`.
    pub release: String,
    /// Its process id.
    pub pid: u32,
    /// The largest body it accepts, in bytes.
    pub body_bytes: u64,
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct Connection {
    welcome: Welcome,
    sender: Sender,
    receiver: Receiver,
    batch: Batch,
    next_request: u64,
}

/// What an administrative request was answered with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// JSON, or Prometheus text.
    Body(bytes::Bytes),
    /// The task that was asked about has ended.
    Outcome(Outcome),
}

impl Connection {
    /// Connects and shakes hands. `program` is the caller's name, for the supervisor's log.
    ///
    /// # Errors
    /// [`ClientError`] when nobody listens, the versions differ, or the other side is no
    /// supervisor.
    pub fn open(socket: &Path, program: &str) -> Result<Self, ClientError> {
        let stream =
            UnixStream::connect(socket).map_err(|source| ClientError::connect(socket, source))?;
        let reading = stream.try_clone().map_err(|source| ClientError::connect(socket, source))?;
        Self::over(stream, reading, program)
    }

    /// Shakes hands over two handles of one stream.
    ///
    /// # Errors
    /// See [`Connection::open`].
    pub fn over(
        writing: UnixStream,
        reading: UnixStream,
        program: &str,
    ) -> Result<Self, ClientError> {
        socket::widen(&writing).map_err(ClientError::Write)?;
        let mut sender = Sender::new(writing);
        let mut receiver = Receiver::new(reading);
        let mut batch = Batch::default();
        batch.hello(program);
        sender.send(&mut batch)?;
        let frame = receiver.frame()?;
        let welcome = match frame.kind {
            Kind::Welcome => {
                // INVARIANT: the version is judged first; the head's shape belongs to a version.
                Mismatch::check("client", "supervisor", frame.id)?;
                let head: WelcomeHead<'_> = pool_protocol::codec::decode("welcome", &frame.head)?;
                Welcome {
                    release: head.release.to_owned(),
                    pid: head.pid,
                    body_bytes: head.body_bytes,
                }
            }
            Kind::Refused => return Err(receive::refusal(&frame)?),
            kind => return Err(ClientError::Unexpected { kind, awaited: "a welcome" }),
        };
        batch.limit_bodies(welcome.body_bytes);
        Ok(Self { welcome, sender, receiver, batch, next_request: 1 })
    }

    /// What the supervisor said of itself.
    #[must_use]
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Submits one task and gives the request's number, under which its answers come.
    ///
    /// # Errors
    /// [`ClientError`] when the body is longer than the supervisor accepts (the connection is still
    /// good), or when the connection is lost.
    pub fn submit(&mut self, task: &Task, options: SubmitOptions) -> Result<u64, ClientError> {
        let request = self.number();
        self.batch.submit(request, task, now_ms(), options)?;
        self.sender.send(&mut self.batch)?;
        Ok(request)
    }

    /// Sends an administrative request and gives its number; the answers are taken with
    /// [`Connection::receive`].
    ///
    /// # Errors
    /// [`ClientError`] when the connection is lost.
    pub fn ask(&mut self, request: &ControlRequest<'_>) -> Result<u64, ClientError> {
        let number = self.number();
        self.batch.control(number, request);
        self.sender.send(&mut self.batch)?;
        Ok(number)
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// [`ClientError`] when the connection is lost or the other side breaks the protocol.
    pub fn receive(&mut self) -> Result<Incoming, ClientError> {
        self.receiver.receive()
    }

    /// Sends an administrative request and waits for its answer. Not for
    /// [`ControlRequest::Events`], which has many.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the supervisor refuses; else as [`Connection::receive`].
    pub fn control(&mut self, request: &ControlRequest<'_>) -> Result<Reply, ClientError> {
        let number = self.ask(request)?;
        match self.receive()? {
            Incoming::Reply { request, body } if request == number => Ok(Reply::Body(body)),
            Incoming::Outcome(outcome) if outcome.request == number => Ok(Reply::Outcome(outcome)),
            Incoming::Refused { code, error, .. } => Err(ClientError::Refused { code, error }),
            other => Err(ClientError::Unexpected {
                kind: other.kind(),
                awaited: "the answer to a request",
            }),
        }
    }

    /// The two directions, for two threads.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    fn number(&mut self) -> u64 {
        let number = self.next_request;
        self.next_request += 1;
        number
    }
}

/// Milliseconds since 1970: a deadline is sent as what is left of it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the client's side of the wire has only this clock")]
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
