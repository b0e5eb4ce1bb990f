//! What can go wrong between a client and the supervisor.

use std::io;
use std::path::{Path, PathBuf};

use pool_protocol::codec::HeadError;
use pool_protocol::control::RefusedCode;
use pool_protocol::frame::{FrameError, Kind};
use pool_protocol::version::Mismatch;

use super::send::TooLong;

/// A failed operation of the client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "failed to reach a supervisor at {path}: {reason}; {}start it with `pool-supervisor` or \
         `systemctl start \
         process-pool`, or name its socket with --socket",
        if_it_runs(reason)
    )]
    NoDaemon {
        /// Where.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The system does not let us.
    #[error(
        "failed to connect to {path}: {reason}; the socket belongs to the user who started the \
         supervisor"
    )]
    Denied {
        /// Where.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Anything else on the way to a connection.
    #[error("failed to connect to {path}: {reason}")]
    Connect {
        /// Where.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The other side closed.
    #[error("failed to read from the supervisor: it closed the connection")]
    Closed,
    /// Reading failed.
    #[error("failed to read from the supervisor: {0}")]
    Read(io::Error),
    /// Writing failed.
    #[error("failed to write to the supervisor: {0}")]
    Write(io::Error),
    /// The other side speaks another version.
    #[error(transparent)]
    Version(#[from] Mismatch),
    /// Bytes that are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame whose head is malformed.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// A frame out of place.
    #[error("failed to understand the supervisor: it sent {kind:?} where {awaited} was due")]
    Unexpected {
        /// What came.
        kind: Kind,
        /// What was due.
        awaited: &'static str,
    },
    /// A reply whose JSON is not of the promised shape.
    #[error(
        "failed to understand the supervisor's reply: {0}; poolctl and pool-supervisor may be of \
         different releases"
    )]
    Reply(serde_json::Error),
    /// The task's body is over the supervisor's limit.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// The request was understood and refused.
    #[error("{error}")]
    Refused {
        /// What kind of refusal.
        code: RefusedCode,
        /// The supervisor's words.
        error: String,
    },
}

/// A supervisor that runs looks for its socket once a second.
fn if_it_runs(reason: &io::Error) -> &'static str {
    match reason.kind() {
        io::ErrorKind::NotFound => {
            "if it runs, its socket was removed and is made again within a second; else "
        }
        _ => "",
    }
}

impl ClientError {
    pub(super) fn connect(path: &Path, reason: io::Error) -> Self {
        let path = path.to_owned();
        match reason.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::NotADirectory => Self::NoDaemon { path, reason },
            io::ErrorKind::PermissionDenied => Self::Denied { path, reason },
            _ => Self::Connect { path, reason },
        }
    }

    /// Whether the connection ended, as opposed to being misunderstood.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Closed | Self::Read(_) | Self::Write(_))
    }
}
