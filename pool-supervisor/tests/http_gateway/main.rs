//! The HTTP API alone: real sockets on both sides, a scripted supervisor behind it, and a client
//! that writes raw bytes.

#![expect(clippy::disallowed_methods, reason = "real processes and sockets take real time")]

mod connections;
mod requests;
mod support;
