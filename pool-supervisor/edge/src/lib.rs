//! What comes into the supervisor from outside, made into what it can rely on: the configuration's
//! files, and what peers say.
//!
//! Must not touch a socket, a thread or a clock, nor need what does: it is built in seconds, and
//! can be tried with any bytes.

pub mod config;
pub mod session;
