//! What the process gives up, in order, and when.
//!
//! 1. [`at_birth`], before anything is read: the ties to whoever started it, but descriptors 0 to
//!    3.
//! 2. [`before_threads`], when the setup is known, the engine is up and everything is open that
//!    will ever be: resources, and every way to files, other processes and rights. The process has
//!    one thread: most of it holds for the thread that asks for it.
//! 3. [`before_tasks`], when the second thread waits: system calls, of both threads; last, since
//!    what has been done so far needs more of them than what comes.
//!
//! Says what is on and why the rest is not; decides nothing about it but that `strict` ends here
//! when something is missing.

mod capabilities;
mod landlock;
mod limits;
mod namespaces;
mod programs;
mod root;
mod seccomp;
mod seccomp_io;
mod seccomp_js;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{OwnedFd, RawFd};

use anyhow::{Context, bail};
use pool_protocol::lane::Lane;
use pool_protocol::layer::{Layer, LayerSet, Level};
use pool_protocol::worker::Setup;
use rustix::process::{DumpableBehavior, Signal};

pub(crate) use limits::{CpuWall, data_bytes};
pub(crate) use namespaces::is_init;

/// The first thing the process does. False when the parent is dead already: then nobody waits for
/// this worker.
pub(crate) fn at_birth(parent: Option<u32>) -> io::Result<bool> {
    die_with_parent(true)?;
    // INVARIANT: asked after the signal is ordered: a parent that died in between is not missed. In
    // a process namespace of its own it has no parent that it could name; there a dead one is
    // noticed by its end of the socket, which nobody else holds.
    let is_alive = match (parent, rustix::process::getppid()) {
        (Some(pid), Some(now)) => now.as_raw_nonzero().get().cast_unsigned() == pid,
        (Some(_), None) | (None, _) => true,
    };
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    close_from(4)?;
    reset_signals()?;
    Ok(is_alive)
}

/// Whether the kernel kills this process when its parent dies.
///
/// While a program runs it must not, where the program's descendants would live on: they are this
/// process's to kill first, and it notices by the closed socket that the supervisor is gone.
pub(crate) fn die_with_parent(on: bool) -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(on.then_some(Signal::KILL))?)
}

/// What keeps a program from signalling its own worker. Nothing where the kernel cannot, or nothing
/// is asked for.
pub(crate) fn apart(level: Level) -> Option<OwnedFd> {
    if level == Level::Off { None } else { landlock::for_one_program() }
}

/// Puts it on this process, which is about to become a program. Nothing but a system call: it is
/// made between `fork` and `execve`.
pub(crate) fn keep_apart(apart: RawFd) -> io::Result<()> {
    #[expect(
        unsafe_code,
        reason = "the crate wants to own the rules, which are put on every program"
    )]
    // SAFETY: a number, of whatever descriptor, and a call that reads no memory.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, apart, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ends this process at once, whatever its other thread does.
pub(crate) fn end_at_once() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
    // The first process of a namespace cannot kill itself.
    #[expect(unsafe_code, reason = "leaving without destructors")]
    // SAFETY: takes nothing and does not return.
    unsafe {
        libc::_exit(128 + libc::SIGKILL)
    }
}

fn close_from(first: u32) -> io::Result<()> {
    #[expect(unsafe_code, reason = "closing descriptors by number")]
    // SAFETY: nothing in this process owns a descriptor from this number on: it has opened none
    // yet.
    let result = unsafe { libc::close_range(first, u32::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whoever started this process may have blocked or ignored signals; a worker wants the defaults.
fn reset_signals() -> io::Result<()> {
    use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
    for number in Signal::iterator()
        .filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP | Signal::SIGPIPE))
    {
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

impl Confined {
    fn note(&mut self, layer: Layer, result: Result<(), String>) {
        match result {
            Ok(()) => self.layers.insert(layer),
            Err(reason) => drop(self.missing.insert(layer.name(), reason)),
        }
    }

    /// Refuses to go on without what the level promises.
    fn check(&self, setup: &Setup) -> anyhow::Result<()> {
        let promised = LayerSet::promised(setup.isolation.level, setup.lane);
        if setup.isolation.level != Level::Strict || promised.without(self.layers).is_empty() {
            return Ok(());
        }
        let reasons = promised.without(self.layers).iter().map(|layer| {
            let reason = self.missing.get(layer.name()).map_or("it was not tried", |reason| reason);
            format!("{layer} ({reason})")
        });
        bail!(
            "failed to confine the worker as isolation \"strict\" promises; missing: {}; allow it \
             on this machine, or set isolation to \
             \"standard\" to go on with what there is",
            reasons.collect::<Vec<_>>().join(", ")
        )
    }
}

/// All but the system calls. To be called by the only thread.
pub(crate) fn before_threads(setup: &Setup) -> anyhow::Result<Confined> {
    let mut confined =
        Confined { layers: LayerSet::of(&[Layer::Descriptors]), ..Confined::default() };
    limits::set(setup).context("failed to limit the process's resources")?;
    confined.layers.insert(Layer::ResourceLimits);
    if setup.isolation.level == Level::Off {
        for layer in LayerSet::promised(Level::Strict, setup.lane).without(confined.layers).iter() {
            confined.note(layer, Err("isolation is off".to_owned()));
        }
        return Ok(confined);
    }
    match setup.lane {
        Lane::Js => {
            namespaces::enter(setup.isolation.namespaced, &setup.js.module_roots, &mut confined)
        }
        Lane::Io => own_processes(setup, &mut confined),
    }
    let no_new_privs = rustix::thread::set_no_new_privs(true)
        .map_err(|e| format!("prctl(PR_SET_NO_NEW_PRIVS): {e}"));
    confined.note(Layer::NoNewPrivs, no_new_privs);
    confined.note(Layer::Capabilities, capabilities::drop_for(setup.lane));
    // INVARIANT: after the namespaces, whose maps lie in a folder that this gives to root.
    let hidden = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    confined.note(Layer::NotDumpable, hidden.map_err(|e| format!("prctl(PR_SET_DUMPABLE): {e}")));
    let files = match setup.lane {
        Lane::Js => landlock::for_javascript(&setup.js.module_roots),
        Lane::Io => landlock::for_programs(setup),
    };
    confined.note(Layer::Landlock, files);
    // INVARIANT: after the last change of rights: such a change takes it back.
    die_with_parent(true).context("failed to tie the process to the supervisor")?;
    Ok(confined)
}

/// Where the supervisor has made a namespace of processes: makes `/proc` show it, and covers the
/// pool's own sockets.
fn own_processes(setup: &Setup, confined: &mut Confined) {
    if is_init() {
        confined.note(Layer::PidNamespace, Ok(()));
        let files = root::own_proc().and_then(|()| root::cover(&setup.isolation.covered));
        confined.note(Layer::MountNamespace, files);
    }
}

/// System calls, of all threads; the last thing before `Ready`.
///
/// # Errors
/// With `strict`, when anything that it promises is missing.
pub(crate) fn before_tasks(setup: &Setup, mut confined: Confined) -> anyhow::Result<Confined> {
    if setup.isolation.level != Level::Off {
        confined.note(Layer::Seccomp, seccomp::install(setup));
    }
    confined.check(setup)?;
    Ok(confined)
}

/// The system calls that end a process of the JavaScript lane, by number and name.
pub(crate) fn deadly_calls() -> impl Iterator<Item = (i64, &'static str)> {
    seccomp_js::deadly()
}

/// An error as people look it up: its name and what it means.
fn errno(error: nix::Error) -> String {
    format!("{error:?} ({})", error.desc())
}
