//! The worker: a process that runs tasks for the supervisor, one at a time.

pub mod js;
