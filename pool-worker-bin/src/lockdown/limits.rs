//! Resource limits: of the process for life, and the wall behind each task's CPU time.

use std::io;
use std::time::Duration;

use pool_protocol::lane::Lane;
use pool_protocol::worker::Setup;
use rlimit::{INFINITY, Resource, setrlimit};

use crate::clock::process_cpu;

/// Writable private memory of an idle engine, rounded up (72 MB were measured), and of this
/// program's own buffers.
const ENGINE_BYTES: u64 = 96 << 20;
/// Seconds that `RLIMIT_CPU` leaves a task beyond its budget: the engine is asked first, the kernel
/// counts whole seconds.
const CPU_WALL_SECS: u64 = 2;

/// Private memory that a process for JavaScript may take.
pub(crate) fn data_bytes(setup: &Setup) -> u64 {
    ENGINE_BYTES.saturating_add(setup.tasks_memory_bytes())
}

/// Sets what holds for the process's whole life.
pub(super) fn set(setup: &Setup) -> io::Result<()> {
    setrlimit(Resource::CORE, 0, 0)?;
    // Each program of the list is held open.
    let files = setup
        .open_files
        .saturating_add(setup.shell.allow.len() as u64)
        .min(Resource::NOFILE.get_hard()?);
    setrlimit(Resource::NOFILE, files, files)?;
    if setup.lane == Lane::Js {
        setrlimit(Resource::FSIZE, 0, 0)?;
        let data = data_bytes(setup);
        setrlimit(Resource::DATA, data, data)?;
    }
    Ok(())
}

/// `RLIMIT_CPU`, the wall behind a task's budget.
///
/// The limit counts the process's whole life. So it is moved along: far enough behind each task
/// that is seen running, and never closer than the next one may need.
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
            // Cannot fail for a soft limit below an unlimited hard one; where the hard one is
            // lower, it is the wall.
            let _ = setrlimit(Resource::CPU, secs, INFINITY);
        }
    }
}
