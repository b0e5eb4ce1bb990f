//! The supervisor daemon and its command line, as a library that both programs are thin wrappers of.

pub mod cli;
pub mod client;
pub mod http;
pub mod shell;
mod socket;

pub use pool_edge::{config, session};
