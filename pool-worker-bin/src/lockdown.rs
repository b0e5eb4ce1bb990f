//! What the process gives up, in order, and when.
//!
//! 1. [`at_birth`], before anything is read: the ties to whoever started it, but descriptors 0 to 3.
//! 2. [`before_tasks`], when the setup is known and the engine is up: resources, and every way to gain rights.
//!
//! What the process may still ask of the kernel is restricted at the end of [`before_tasks`], and nowhere else: by then
//! everything is open that will ever be, and no task has run.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use pool_protocol::layer::{Layer, LayerSet};
use pool_protocol::worker::{Lane, Setup};
use rlimit::{INFINITY, Resource, setrlimit};
use rustix::process::Signal;

use crate::clock::process_cpu;

/// Writable private memory of an idle engine, rounded up (72 MB were measured), and of this program's own buffers.
const ENGINE_BYTES: u64 = 96 << 20;
/// Seconds that `RLIMIT_CPU` leaves a task beyond its budget: the engine is asked first, the kernel counts whole seconds.
const CPU_WALL_SECS: u64 = 2;

/// The first thing the process does. False when the parent is dead already: then nobody waits for this worker.
pub(crate) fn at_birth(parent: Option<u32>) -> io::Result<bool> {
    die_with_parent(true)?;
    // INVARIANT: asked after the signal is ordered: a parent that died in between is not missed.
    let is_alive = match parent {
        // None is a parent outside of this process's own namespace, who cannot be told from one that is gone. A closed socket
        // tells of that.
        Some(pid) => rustix::process::getppid().is_none_or(|p| p.as_raw_nonzero().get().cast_unsigned() == pid),
        None => true,
    };
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    close_from(4)?;
    reset_signals()?;
    Ok(is_alive)
}

/// Whether the kernel kills this process when its parent dies.
///
/// While a program runs it must not: the program's descendants are this process's to kill first, and it notices by the
/// closed socket that the supervisor is gone.
pub(crate) fn die_with_parent(on: bool) -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(on.then_some(Signal::KILL))?)
}

fn close_from(first: u32) -> io::Result<()> {
    #[expect(unsafe_code, reason = "closing descriptors by number")]
    // SAFETY: nothing in this process owns a descriptor from this number on: it has opened none yet.
    let result = unsafe { libc::close_range(first, u32::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whoever started this process may have blocked or ignored signals; a worker wants the defaults.
fn reset_signals() -> io::Result<()> {
    use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
    for number in Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP | Signal::SIGPIPE)) {
        #[expect(unsafe_code, reason = "setting a signal's action")]
        // SAFETY: the default action runs no code of this process.
        unsafe { signal(number, SigHandler::SigDfl) }?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// What confines this process, by its own word.
#[derive(Debug, Default)]
pub(crate) struct Confined {
    /// Put on and checked.
    pub(crate) layers: LayerSet,
    /// What its lane should have besides, by name, and why it has not.
    pub(crate) missing: BTreeMap<&'static str, String>,
}

/// The last thing before `Ready`.
pub(crate) fn before_tasks(setup: &Setup) -> io::Result<Confined> {
    setrlimit(Resource::CORE, 0, 0)?;
    // Each program of the list is held open.
    let files = setup.open_files.saturating_add(setup.shell.allow.len() as u64).min(Resource::NOFILE.get_hard()?);
    setrlimit(Resource::NOFILE, files, files)?;
    if setup.lane == Lane::Js {
        setrlimit(Resource::FSIZE, 0, 0)?;
        let data = data_limit(setup);
        setrlimit(Resource::DATA, data, data)?;
    }
    rustix::thread::set_no_new_privs(true)?;
    let layers = LayerSet::of(&[Layer::Descriptors, Layer::ResourceLimits, Layer::NoNewPrivs]);
    let missing = layers.lacking(setup.lane).iter().map(|layer| (layer.name(), "not put on".to_owned())).collect();
    Ok(Confined { layers, missing })
}

/// The engine, a full heap and as much again for unwinding the task that filled it, full array buffers, and the bodies: so that the engine's own limits, which a task survives as
/// an error, come before the kernel's, which it does not.
fn data_limit(setup: &Setup) -> u64 {
    ENGINE_BYTES
        .saturating_add(setup.memory_bytes.saturating_mul(3))
        .saturating_add(setup.body_bytes.saturating_mul(2))
        .saturating_add(setup.result_bytes.saturating_mul(4))
}

/// `RLIMIT_CPU`, the wall behind a task's budget.
///
/// The limit counts the process's whole life. So it is moved along: far enough behind each task that is seen running,
/// and never closer than the next one may need.
#[derive(Debug)]
pub(crate) struct CpuWall {
    /// Where it stands; nothing where tasks use the CPU in other processes.
    secs: Option<u64>,
}

impl CpuWall {
    /// For tasks that run in this process.
    pub(crate) fn around_this_process() -> Self {
        Self { secs: Some(0) }
    }

    /// For tasks that do not.
    pub(crate) fn none() -> Self {
        Self { secs: None }
    }

    /// Makes room for a task that has just begun.
    pub(crate) fn move_behind(&mut self, budget: Duration) {
        let Some(stands) = self.secs else {
            return;
        };
        let secs = process_cpu().saturating_add(budget).as_secs().saturating_add(CPU_WALL_SECS);
        if secs != stands {
            self.secs = Some(secs);
            // Cannot fail for a soft limit below an unlimited hard one; where the hard one is lower, it is the wall.
            let _ = setrlimit(Resource::CPU, secs, INFINITY);
        }
    }
}
