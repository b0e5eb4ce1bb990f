//! One worker's group: its limits, its end, and what the kernel counted in it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use pool_protocol::layer::{Layer, LayerSet};

/// `cpu.max` counts in shares of this, in microseconds: the kernel's own default.
const CPU_PERIOD_US: u64 = 100_000;

/// What a worker may use with all that it starts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Limits {
    /// `memory.max`
    pub(crate) memory_bytes: u64,
    /// `pids.max`; threads count.
    pub(crate) processes: u64,
    /// `cpu.max`; none when nothing is to be limited.
    pub(crate) cpus: Option<f64>,
}

/// A worker's group.
#[derive(Debug)]
pub(crate) struct Group {
    path: PathBuf,
    procs: File,
    layers: LayerSet,
    memory_max: u64,
}

/// What `memory.events` has counted since the group was made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct MemoryEvents {
    /// The limit was reached and nothing could be freed.
    pub(crate) oom: u64,
    /// Processes that the kernel killed for want of memory, its own or the machine's.
    pub(crate) oom_kill: u64,
    /// The limit.
    pub(crate) max_bytes: u64,
}

impl Group {
    /// Makes it with its limits, for those controllers that are on.
    pub(super) fn make(path: &Path, on: LayerSet, limits: &Limits) -> io::Result<Self> {
        fs::create_dir(path)?;
        Self::fill(path, on, limits)
    }

    pub(super) fn fill(path: &Path, on: LayerSet, limits: &Limits) -> io::Result<Self> {
        let write = |name: &str, text: String| {
            fs::write(path.join(name), text)
                .map_err(|e| io::Error::new(e.kind(), format!("{name}: {e}")))
        };
        let mut layers = LayerSet::NONE;
        if path.join("cgroup.kill").exists() {
            layers.insert(Layer::Cgroup);
        }
        if on.has(Layer::CgroupMemory) {
            write("memory.max", limits.memory_bytes.to_string())?;
            // The whole worker, not one program of it: half a tree is worth nothing.
            write("memory.oom.group", "1".to_owned())?;
            if path.join("memory.swap.max").exists() {
                write("memory.swap.max", "0".to_owned())?;
            }
            layers.insert(Layer::CgroupMemory);
        }
        if on.has(Layer::CgroupPids) {
            write("pids.max", limits.processes.to_string())?;
            layers.insert(Layer::CgroupPids);
        }
        if on.has(Layer::CgroupCpu)
            && let Some(cpus) = limits.cpus
        {
            let quota_us = (cpus * CPU_PERIOD_US as f64).round().max(1000.0) as u64;
            write("cpu.max", format!("{quota_us} {CPU_PERIOD_US}"))?;
            layers.insert(Layer::CgroupCpu);
        }
        let procs = OpenOptions::new().write(true).open(path.join("cgroup.procs"))?;
        Ok(Self { path: path.to_owned(), procs, layers, memory_max: limits.memory_bytes })
    }

    /// What a process writes "0" to, to be in it.
    pub(crate) fn procs(&self) -> BorrowedFd<'_> {
        self.procs.as_fd()
    }

    /// What it gives.
    pub(crate) const fn layers(&self) -> LayerSet {
        self.layers
    }

    /// SIGKILL to all processes in it at once. False where the kernel cannot.
    pub(crate) fn kill(&self) -> bool {
        self.layers.has(Layer::Cgroup) && fs::write(self.path.join("cgroup.kill"), "1").is_ok()
    }

    /// What was counted; nothing where memory is not limited by it.
    pub(crate) fn memory_events(&self) -> Option<MemoryEvents> {
        if !self.layers.has(Layer::CgroupMemory) {
            return None;
        }
        let text = fs::read_to_string(self.path.join("memory.events")).ok()?;
        let count = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
        };
        Some(MemoryEvents {
            oom: count("oom"),
            oom_kill: count("oom_kill"),
            max_bytes: self.memory_max,
        })
    }

    pub(super) fn into_path(self) -> PathBuf {
        self.path
    }
}
