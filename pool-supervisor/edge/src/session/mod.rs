//! What a peer may say, and when: a frame becomes a checked statement, or breaks the protocol.
//!
//! Decides whether a frame is in its place and whether what it claims is possible by itself.
//! Whether it is true is for the core to judge, and what follows from it for the shell to do. Must
//! not touch a socket or a clock, so that every sequence of bytes can be tried without a process at
//! the other end.

pub mod client;
pub mod worker;

use pool_protocol::frame::Kind;

/// A frame that is out of its place.
fn misplaced(kind: Kind, greeted: bool) -> String {
    format!(
        "a {kind:?} frame {}",
        if greeted { "is not for a supervisor" } else { "before its hello" }
    )
}
