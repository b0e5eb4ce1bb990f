//! `shell-command`: a program of the allow-list, its output, and the end of everything it started.
//!
//! Owns the child process while it runs; on return nothing of it is left. Decides when output is
//! too much and which exits are results. Must not run a shell, nor anything that the configuration
//! does not list.

mod capture;
mod child;
mod image;
mod tree;
mod usage;

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use pool_protocol::limits::MAX_ERROR_BYTES;
use pool_protocol::outcome::ErrorCode;
use serde::Serialize;

use crate::shown::Shown;

pub(crate) use child::Limits;
pub(crate) use pool_worker_core::shell::{Command, Refusal, Rules, TIME_ZONE};

use capture::{Captured, Ended};
use child::{StartError, Terms};
use tree::Sweep;
use usage::{Exit, Usage};

/// Of each stream, in an error object; the start of it.
const ERROR_OUTPUT_BYTES: usize = 16 * 1024;

/// Whether the running command has been told to end.
pub(crate) trait Stopped {
    /// Readable as soon as it may have been.
    fn wake(&self) -> BorrowedFd<'_>;
    /// Asked whenever `wake` is readable, and now and then once it has been.
    fn is_stopped(&self) -> Option<Stop>;
}

/// How a command is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// By itself, if it does in the time that it has for that.
    InTime,
    /// Killed: nobody waits for it.
    AtOnce,
}

/// A command's end and what it cost.
#[derive(Debug)]
pub(crate) struct ShellEnd {
    /// What came of it.
    pub(crate) result: Result<Output, ShellTrouble>,
    /// CPU time of all its processes.
    pub(crate) cpu: Duration,
    /// The largest resident set of any of them.
    pub(crate) peak_bytes: u64,
    /// Something could not be killed: this worker must go, and take it along.
    pub(crate) left_behind: bool,
}

/// A command's result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Output {
    exit_code: i32,
    stdout: Shown,
    stderr: Shown,
    truncated: bool,
}

/// Why a command has no result.
#[derive(Debug)]
pub(crate) enum ShellTrouble {
    /// It failed.
    Failed(Box<ShellFailure>),
    /// It was told to end.
    Stopped(Remains),
}

/// What is left of a command that was told to end.
#[derive(Debug)]
pub(crate) struct Remains {
    /// When it was told.
    pub(crate) at: Instant,
    exit: Option<Exit>,
    captured: Captured,
}

impl Remains {
    /// The error object, with what the program wrote before its end and how it ended.
    pub(crate) fn failure(self, code: ErrorCode, message: String) -> ShellFailure {
        let failure = ShellFailure::new(code, message);
        let failure = match self.exit {
            Some(Exit::Code(code)) => ShellFailure { exit_code: Some(code), ..failure },
            Some(Exit::Signal(number)) => {
                ShellFailure { signal: Some(signal_name(number)), ..failure }
            }
            None => ShellFailure { signal: Some(signal_name(libc::SIGKILL)), ..failure },
        };
        failure.wrote(&self.captured)
    }
}

/// The error object of a command.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShellFailure {
    #[serde(skip)]
    pub(crate) code: ErrorCode,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr: Option<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<bool>,
}

impl ShellFailure {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        crate::run::bound(&mut message, crate::run::MAX_MESSAGE_BYTES);
        Self {
            code,
            message,
            exit_code: None,
            signal: None,
            stdout: None,
            stderr: None,
            truncated: None,
        }
    }

    /// With the start of what it wrote, as much of it as an error may hold.
    fn wrote(mut self, captured: &Captured) -> Self {
        let mut max = ERROR_OUTPUT_BYTES;
        loop {
            let (stdout, stderr) = (captured.stdout.start(max), captured.stderr.start(max));
            self.truncated = Some(stdout.1 || stderr.1);
            (self.stdout, self.stderr) = (Some(stdout.0), Some(stderr.0));
            if max == 0 || serde_json::to_vec(&self).is_ok_and(|json| json.len() <= MAX_ERROR_BYTES)
            {
                return self;
            }
            // Escaped characters take up to six times their place, other bytes more than theirs.
            max /= 2;
        }
    }
}

impl From<Refusal> for ShellFailure {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::Invalid(_) => ErrorCode::InvalidTask,
            Refusal::Denied(_) => ErrorCode::CommandDenied,
        };
        Self::new(code, refusal.to_string())
    }
}

/// Makes this process the one that orphans of its programs come to. Once, before any program.
pub(crate) fn adopt_orphans() -> std::io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Runs a command to its end, or to that of the task.
///
/// `apart`: what keeps it from its worker, see [`crate::lockdown::apart`].
pub(crate) fn run(
    rules: &Rules,
    command: &Command<'_>,
    limits: Limits,
    apart: Option<BorrowedFd<'_>>,
    stopped: &dyn Stopped,
) -> ShellEnd {
    let mut usage = Usage::default();
    let terms = Terms { file_bytes: rules.file_bytes, umask: rules.umask };
    let child = match child::start(command, terms, limits, apart) {
        Ok(child) => child,
        Err(error) => {
            let failure = match error {
                StartError::Refused(refusal) => refusal.into(),
                failed @ StartError::Failed { .. } => {
                    ShellFailure::new(ErrorCode::CommandFailed, failed.to_string())
                }
            };
            let left_behind = tree::end_descendants(&mut usage) == Sweep::LeftBehind;
            return ShellEnd {
                result: Err(ShellTrouble::Failed(Box::new(failure))),
                cpu: usage.cpu,
                peak_bytes: usage.peak_bytes,
                left_behind,
            };
        }
    };
    let (ended, captured) = capture::capture(child, command, rules.kill_after, stopped, &mut usage);
    let left_behind = tree::end_descendants(&mut usage) == Sweep::LeftBehind;
    let result = judge(ended, captured, command, usage.cpu >= limits.cpu);
    ShellEnd { result, cpu: usage.cpu, peak_bytes: usage.peak_bytes, left_behind }
}

fn judge(
    ended: Ended,
    captured: Captured,
    command: &Command<'_>,
    used_up: bool,
) -> Result<Output, ShellTrouble> {
    let program = &command.program.listed.program;
    let failure = match ended {
        Ended::Stopped { at, exit } => {
            return Err(ShellTrouble::Stopped(Remains { at, exit, captured }));
        }
        Ended::TooMuch => {
            let message = format!(
                "{program} did not stop writing; {} bytes per stream are kept",
                command.max_output
            );
            ShellFailure::new(ErrorCode::OutputLimit, message)
        }
        Ended::Lost(error) => {
            ShellFailure::new(ErrorCode::CommandFailed, format!("{program} was lost: {error}"))
        }
        Ended::Exited(Exit::Code(code)) if code == 0 || command.accept_exit.contains(&code) => {
            let truncated = captured.truncated();
            return Ok(Output {
                exit_code: code,
                stdout: captured.stdout.into_shown(),
                stderr: captured.stderr.into_shown(),
                truncated,
            });
        }
        Ended::Exited(Exit::Code(code)) => {
            let message = format!("{program} exited with code {code}");
            ShellFailure {
                exit_code: Some(code),
                ..ShellFailure::new(ErrorCode::CommandFailed, message)
            }
        }
        Ended::Exited(Exit::Signal(number)) => killed(program, number, used_up),
    };
    Err(ShellTrouble::Failed(Box::new(failure.wrote(&captured))))
}

/// `used_up`: whether it had used its CPU time; a program may ignore the first signal about that,
/// not the second.
fn killed(program: &str, number: i32, used_up: bool) -> ShellFailure {
    let name = signal_name(number);
    let (code, message) = match number {
        libc::SIGXCPU | libc::SIGKILL if used_up => {
            (ErrorCode::CpuLimit, format!("{program} used more CPU time than its limit"))
        }
        libc::SIGXFSZ => {
            (ErrorCode::OutputLimit, format!("{program} wrote a file beyond the size limit"))
        }
        _ => (ErrorCode::CommandFailed, format!("{program} was killed by {name}")),
    };
    ShellFailure { signal: Some(name), ..ShellFailure::new(code, message) }
}

fn signal_name(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number)
        .map_or_else(|_| number.to_string(), |signal| signal.to_string())
}
