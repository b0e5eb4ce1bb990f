//! What the process exits with.

use std::process::ExitCode;

use pool_protocol::outcome::Status;

/// An ending that a script can tell from the others. The numbers are those of `timeout(1)` and of
/// shells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Everything succeeded.
    Ok,
    /// A task failed, or the supervisor refused a request.
    Failed,
    /// The arguments, or a file that they name, are of no use; nothing was tried.
    BadArguments,
    /// The task's time ran out.
    TimedOut,
    /// The task was refused at the door, or there is no supervisor to take it.
    Rejected,
    /// The task was cancelled.
    Cancelled,
    /// Nobody reads our standard output any more: what a shell reports of a program that ended by
    /// SIGPIPE.
    BrokenPipe,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::BadArguments => 2,
            Self::TimedOut => 124,
            Self::Rejected => 125,
            Self::Cancelled => 130,
            Self::BrokenPipe => 141,
        }
    }
}

impl From<Status> for Exit {
    fn from(status: Status) -> Self {
        match status {
            Status::Succeeded => Self::Ok,
            Status::Failed => Self::Failed,
            Status::TimedOut => Self::TimedOut,
            Status::Cancelled => Self::Cancelled,
            Status::Rejected => Self::Rejected,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
