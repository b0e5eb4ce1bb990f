//! What a worker decides before it does anything: which orders it holds, which address it may
//! reach, which program it may start.
//!
//! Owns these decisions and the checks of a task's fields that go with them. Must not know V8,
//! sockets, threads or clocks, so that the decisions can be tested and fuzzed without an engine; of
//! the file system it sees what a rule is about: the listed programs and the folder that a command
//! starts in.

pub mod http;
pub mod inbox;
pub mod shell;
