//! The HTTP API alone: real sockets on both sides, a scripted supervisor behind it, and a client that writes raw bytes.

mod connections;
mod requests;
mod support;
