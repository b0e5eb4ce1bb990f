//! What became of an input: a submission, a worker's report. It is given back by value, so that
//! whoever holds the bytes that came with the input knows at once what they are for.

use alloc::string::String;

use pool_protocol::id::TaskId;
use pool_protocol::outcome::ErrorCode;

use crate::action::Ended;
use crate::place::TaskPlace;

/// What became of a task that a client submitted.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Submission {
    /// It is accepted. Its bytes belong into this place before any action is performed.
    Accepted {
        /// Its id.
        task: TaskId,
        /// Its place.
        slot: TaskPlace,
    },
    /// Its key is that of a task which has not ended: that one's outcome goes to this client too;
    /// the new bytes are dropped.
    Known {
        /// The known task.
        task: TaskId,
        /// The known task's place.
        slot: TaskPlace,
    },
    /// Its key is that of a task which has ended and was not forgotten yet (see
    /// [`crate::event::Event::Forget`]): its kept outcome is delivered to this client; the new
    /// bytes are dropped.
    KnownEnded {
        /// The ended task.
        task: TaskId,
    },
    /// Nothing is kept of it.
    Refused {
        /// Why.
        code: ErrorCode,
        /// Why, for a person.
        message: String,
    },
}

/// What became of a task of which a worker reported that an attempt ended.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Reported {
    /// The task has ended as the worker said, and the bytes of the report are its result or its
    /// error. They are delivered to whoever wants the outcome, and its place is free, once all
    /// actions have been performed.
    Ended {
        /// The task.
        task: TaskId,
        /// Its place, free after this.
        slot: TaskPlace,
        /// How it ended.
        ended: Ended,
        /// One sentence in place of the worker's message: a worker knows a deadline only as a
        /// timeout.
        message: Option<String>,
    },
    /// The bytes are dropped: the task is tried again, or ended otherwise, or it was none of this
    /// worker's.
    Dropped,
}
