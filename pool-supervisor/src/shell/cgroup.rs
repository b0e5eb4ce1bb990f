//! Control groups: one for each worker, below one that is the supervisor's.
//!
//! Owns the tree below that group: `supervisor` holds the supervisor itself (the kernel lets a
//! group have either processes or children with limits), and each worker starts in a group with its
//! own name, such as `w3.17`. Its limits are written before there is a process, it is killed as a
//! whole, and it is removed when its worker is gone. A layer is reported only when its files were
//! written.
//!
//! It must not touch a group that nobody gave to this supervisor: others' processes live there.

mod find;
mod group;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use pool_core::time::Time;
use pool_protocol::id::WorkerId;
use pool_protocol::layer::{Layer, LayerSet};

use crate::config::{CgroupConfig, CgroupMode};

pub(crate) use find::own as own_group;
pub(crate) use group::{Group, Limits, MemoryEvents};

/// Where the supervisor itself is.
const OWN: &str = "supervisor";
/// Between the first tries to remove a group: the killed need time to die.
const FIRST_PAUSE_US: u64 = 1000;
/// Between the later ones: nothing is won by looking more often.
const LONGEST_PAUSE_US: u64 = 1_000_000;
/// For groups that are left when the supervisor ends.
const FAREWELL_TRIES: u32 = 100;

/// Controllers that limit something here, with the layer each gives.
const CONTROLLERS: [(&str, Layer); 3] =
    [("memory", Layer::CgroupMemory), ("pids", Layer::CgroupPids), ("cpu", Layer::CgroupCpu)];

/// Why the control groups that were asked for cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GroupError {
    #[error(
        "failed to use control groups, which cgroup.mode \"required\" asks for: {0}; to start \
         without the limits of a group, set \
         cgroup.mode = \"auto\""
    )]
    None(String),
    #[error(
        "failed to limit workers by control groups, which cgroup.mode \"required\" asks for: \
         {layers} cannot be had in {path}: {why}; \
         use a group whose cgroup.controllers names what is missing, or set cgroup.mode = \"auto\" \
         to start with the limits that are \
         there"
    )]
    Incomplete { path: PathBuf, layers: LayerSet, why: String },
    #[error(
        "failed to use the control group of cgroup.path, {path}: it is not in a cgroup2 file system"
    )]
    NoGroup { path: PathBuf },
    #[error(
        "failed to use the control group {path}: {reason}; it must be the supervisor's own to write"
    )]
    Take { path: PathBuf, reason: io::Error },
    #[error(
        "failed to use the control group {path}: another supervisor uses it; give each a group of \
         its own with cgroup.path"
    )]
    Occupied { path: PathBuf },
    #[error("failed to make the control group {path}: {reason}")]
    Make { path: PathBuf, reason: io::Error },
}

/// All groups of this supervisor.
#[derive(Debug)]
pub(crate) struct Groups {
    root: PathBuf,
    /// Held as long as the tree is ours.
    _lock: File,
    /// Those that limits can be written for.
    on: LayerSet,
    /// Why the others are not.
    missing: Vec<(Layer, String)>,
    leaving: Vec<Leftover>,
}

/// A group that is to be removed and was not empty yet.
#[derive(Debug)]
struct Leftover {
    path: PathBuf,
    due: Time,
    pause_us: u64,
}

impl Groups {
    /// Takes the tree that is configured or was delegated; the reason when there is none and none
    /// is required.
    pub(crate) fn open(
        config: &CgroupConfig,
        wants_cpu: bool,
    ) -> Result<Result<Self, String>, GroupError> {
        let found = match (config.mode, &config.path) {
            (CgroupMode::Off, _) => return Ok(Err("cgroup.mode is \"off\"".to_owned())),
            (_, Some(path)) if find::is_group(path) => Ok(path.clone()),
            (_, Some(path)) => return Err(GroupError::NoGroup { path: path.clone() }),
            (_, None) => find::delegated(),
        };
        let required = config.mode == CgroupMode::Required;
        let root = match found {
            Ok(root) => root,
            Err(why) if required => return Err(GroupError::None(why)),
            Err(why) => return Ok(Err(why)),
        };
        let groups = match Self::take(&root) {
            Ok(groups) => groups,
            Err(error) if required || config.path.is_some() => return Err(error),
            Err(error) => return Ok(Err(error.to_string())),
        };
        if required {
            groups.check_required(wants_cpu)?;
        }
        Ok(Ok(groups))
    }

    /// Makes the tree ready, whatever file system it lies in.
    fn take(root: &Path) -> Result<Self, GroupError> {
        let trouble = |reason| GroupError::Take { path: root.to_owned(), reason };
        let lock = File::open(root).map_err(trouble)?;
        if !super::lock::take(&lock).map_err(trouble)? {
            return Err(GroupError::Occupied { path: root.to_owned() });
        }
        let own = root.join(OWN);
        make_folder(&own).map_err(trouble)?;
        fs::write(own.join("cgroup.procs"), "0").map_err(trouble)?;
        let mut groups = Self {
            root: root.to_owned(),
            _lock: lock,
            on: LayerSet::NONE,
            missing: Vec::new(),
            leaving: Vec::new(),
        };
        groups.sweep();
        groups.enable_controllers();
        Ok(groups)
    }

    /// Groups of workers whose supervisor is gone, as this one holds the lock.
    fn sweep(&mut self) {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        for entry in entries.filter(|e| e.file_name().to_str().is_some_and(is_workers)) {
            tracing::info!(group = %entry.path().display(), "removing the group of a worker whose \
                supervisor is gone");
            self.leave(entry.path(), Time::default());
        }
        // Their names are about to be used again.
        self.close();
    }

    /// Those that the kernel offers here. One that cannot be had is missed by every worker, and by
    /// its own reason.
    fn enable_controllers(&mut self) {
        let offered = fs::read_to_string(self.root.join("cgroup.controllers")).unwrap_or_default();
        for (name, layer) in CONTROLLERS {
            if !offered.split_ascii_whitespace().any(|word| word == name) {
                self.missing.push((
                    layer,
                    format!("the kernel offers no {name} controller in {}", self.root.display()),
                ));
                continue;
            }
            match fs::write(self.root.join("cgroup.subtree_control"), format!("+{name}")) {
                Ok(()) => self.on.insert(layer),
                Err(error) => self
                    .missing
                    .push((layer, format!("the {name} controller cannot be enabled: {error}"))),
            }
        }
    }

    fn check_required(&self, wants_cpu: bool) -> Result<(), GroupError> {
        let mut required = LayerSet::of(&[Layer::CgroupMemory, Layer::CgroupPids]);
        if wants_cpu {
            required.insert(Layer::CgroupCpu);
        }
        let layers = required.without(self.on);
        if layers.is_empty() {
            return Ok(());
        }
        let reasons = self
            .missing
            .iter()
            .filter(|(layer, _)| layers.has(*layer))
            .map(|(_, why)| why.as_str());
        Err(GroupError::Incomplete {
            path: self.root.clone(),
            layers,
            why: reasons.collect::<Vec<_>>().join("; "),
        })
    }

    /// What `cgroup.mode = "required"` promises of each worker.
    pub(crate) fn required(wants_cpu: bool) -> LayerSet {
        let all = LayerSet::of(&[Layer::Cgroup, Layer::CgroupMemory, Layer::CgroupPids]);
        if wants_cpu { all.with(LayerSet::of(&[Layer::CgroupCpu])) } else { all }
    }

    /// A group for a worker that is about to start.
    pub(crate) fn make(&mut self, worker: WorkerId, limits: &Limits) -> Result<Group, GroupError> {
        let path = self.root.join(worker.to_string());
        match Group::make(&path, self.on, limits) {
            Ok(group) => Ok(group),
            Err(reason) => {
                // Half a group must not stay.
                self.leave(path.clone(), Time::default());
                Err(GroupError::Make { path, reason })
            }
        }
    }

    /// Why a worker's group has not these layers.
    pub(crate) fn missing(&self) -> &[(Layer, String)] {
        &self.missing
    }

    /// Ends whatever is left in a worker's group, and the group.
    pub(crate) fn release(&mut self, group: Group, now: Time) {
        self.leave(group.into_path(), now);
    }

    fn leave(&mut self, path: PathBuf, now: Time) {
        let mut leftover = Leftover { path, due: now, pause_us: FIRST_PAUSE_US };
        if !leftover.remove(now) {
            self.leaving.push(leftover);
        }
    }

    /// When the next group is to be looked at again.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.leaving.iter().map(|leftover| leftover.due).min()
    }

    /// Removes groups that have become empty.
    pub(crate) fn tend(&mut self, now: Time) {
        self.leaving.retain_mut(|leftover| leftover.due > now || !leftover.remove(now));
    }

    /// Waits a fraction of a second for groups to become empty: at the supervisor's start, when
    /// nobody waits for it yet, and at its end. What stays then is the next one's to sweep.
    pub(crate) fn close(&mut self) {
        for _ in 0..FAREWELL_TRIES {
            self.tend(Time(u64::MAX));
            if self.leaving.is_empty() {
                return;
            }
            let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
            let _nothing_to_wait_for = rustix::event::poll(&mut [], Some(&pause));
        }
        tracing::warn!(
            groups = self.leaving.len(),
            "control groups of ended workers are left behind"
        );
    }
}

impl Leftover {
    /// Whether it is gone.
    fn remove(&mut self, now: Time) -> bool {
        let _gone_already = fs::write(self.path.join("cgroup.kill"), "1");
        match fs::remove_dir(&self.path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(_) => {
                self.due = now.plus_us(self.pause_us);
                self.pause_us = (self.pause_us * 2).min(LONGEST_PAUSE_US);
                false
            }
        }
    }
}

/// Whether it is the name of a worker's group.
fn is_workers(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parts = name.strip_prefix('w').and_then(|rest| rest.split_once('.'));
    parts.is_some_and(|(slot, generation)| digits(slot) && digits(generation))
}

fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
