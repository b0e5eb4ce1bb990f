//! Why a command could not be carried out. How a task ended is not among these: that is data.

use std::io;
use std::path::PathBuf;

use pool_protocol::task::InvalidTask;

use super::exit::Exit;
use crate::client::{ClientError, TooLong};
use crate::config::paths::PathTooLong;

/// A command that could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The connection, or what came over it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The socket's path is of no use.
    #[error(transparent)]
    Socket(#[from] PathTooLong),
    /// The connection ended while outcomes were due.
    #[error("{reason}; {outstanding} outstanding: what became of {them} is not known")]
    LostTasks {
        /// `1 task is`, `7 tasks are`.
        outstanding: String,
        /// `it`, `them`.
        them: &'static str,
        /// What ended it.
        reason: ClientError,
    },
    /// A file that the arguments name.
    #[error("failed to read {what} {path}: {reason}", path = path.display())]
    File {
        /// What it was to be read for: `the tasks in`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A file or stream without the text that was wanted.
    #[error("failed to read {what} {name}: {problem}")]
    Content {
        /// What it was to be read for.
        what: &'static str,
        /// The file, or `standard input`.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The arguments make no task.
    #[error("INVALID_TASK: {0}")]
    Invalid(InvalidTask),
    /// The task is over the supervisor's limit.
    #[error("INVALID_TASK: the task {0}")]
    TooLong(TooLong),
    /// Our own output.
    #[error("failed to write to standard output: {0}")]
    Output(io::Error),
    /// Signals could not be watched.
    #[error("failed to watch for signals: {0}")]
    Signals(io::Error),
    /// A thread could not be made.
    #[error("failed to start a thread: {0}")]
    Thread(io::Error),
}

impl From<InvalidTask> for CliError {
    fn from(invalid: InvalidTask) -> Self {
        Self::Invalid(invalid)
    }
}

impl CliError {
    /// The connection ended with so many tasks outstanding.
    pub(super) fn lost(outstanding: usize, reason: ClientError) -> Self {
        match outstanding {
            0 => Self::Client(reason),
            1 => Self::LostTasks { outstanding: "1 task is".into(), them: "it", reason },
            n => Self::LostTasks { outstanding: format!("{n} tasks are"), them: "them", reason },
        }
    }

    /// Whether the reader of our output is gone, which needs no words.
    pub(super) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What the process exits with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Client(ClientError::Refused { .. }) | Self::Signals(_) | Self::Thread(_) => {
                Exit::Failed
            }
            Self::Client(_) | Self::LostTasks { .. } | Self::Invalid(_) | Self::TooLong(_) => {
                Exit::Rejected
            }
            Self::Socket(_) | Self::File { .. } | Self::Content { .. } => Exit::BadArguments,
            Self::Output(_) if self.is_broken_pipe() => Exit::BrokenPipe,
            Self::Output(_) => Exit::Failed,
        }
    }
}
