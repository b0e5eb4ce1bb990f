//! The supervisor daemon and its command line, as a library that both programs are thin wrappers of.

pub mod cli;
pub mod client;
pub mod config;
pub mod http;
pub mod session;
pub mod shell;
