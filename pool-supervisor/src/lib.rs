//! The supervisor daemon and its command line, as a library that both programs are thin wrappers
//! of.

pub mod cli;
pub mod http;
mod peer;
pub mod shell;

// What tests of all packages share.
#[cfg(test)]
#[path = "../../tests/src/executable.rs"]
#[expect(unreachable_pub, dead_code, reason = "the other packages use more of it")]
mod executable;
#[cfg(test)]
#[path = "../../tests/src/skip.rs"]
#[expect(unreachable_pub, reason = "it is public in the package that owns it")]
mod skip;

pub use pool_client as client;
pub use pool_edge::{config, session};
