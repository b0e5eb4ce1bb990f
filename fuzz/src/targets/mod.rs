//! The targets, each a `run` that panics on a finding.

pub mod command;
pub mod config;
pub mod control;
pub mod frame;
pub mod session;
pub mod task;
pub mod url;
pub mod worker;

/// One target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its program is `fuzz_` and this; its inputs lie in the folders of this name.
    pub name: &'static str,
    /// Panics on a finding.
    pub run: fn(&[u8]),
}

/// All of them.
pub const ALL: &[Target] = &[
    Target { name: "frame", run: frame::run },
    Target { name: "session", run: session::run },
    Target { name: "worker", run: worker::run },
    Target { name: "control", run: control::run },
    Target { name: "task", run: task::run },
    Target { name: "config", run: config::run },
    Target { name: "url", run: url::run },
    Target { name: "command", run: command::run },
];
