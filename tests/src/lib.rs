//! Harness of the process tests: a real supervisor in a temporary folder, clients of every kind,
//! readers of `/proc`, and waiting for a condition with a deadline.
//!
//! Owns starting and ending the programs. It must not leave a process behind, not even when a test
//! fails, and it asserts nothing about the pool but that it starts and ends: what is promised
//! stands in the tests.

pub mod apart;
pub mod arena;
pub mod binaries;
pub mod bystanders;
pub mod client;
pub mod executable;
pub mod faults;
pub mod folder;
pub mod http;
pub mod names;
pub mod page;
pub mod pool;
pub mod proc;
pub mod raw;
pub mod server;
pub mod skip;
pub mod tasks;
pub mod tour;
pub mod wait;

pub use arena::Arena;
pub use bystanders::unharmed;
pub use client::Client;
pub use folder::Folder;
pub use pool::Pool;
pub use serde_json::{Value, json};
pub use wait::{until, until_some};
