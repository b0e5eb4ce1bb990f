//! What confines the workers: what is promised, what each has, what is missing and why, and who is
//! told.
//!
//! A worker's own word is not enough for what is put around it, and its word is bounded. Under
//! `strict` a worker without a promised layer runs no task: when the pool has not had one that had
//! them all, there is no pool.

use std::collections::BTreeMap;

use pool_core::event::Event;
use pool_protocol::id::WorkerId;
use pool_protocol::lane::Lane;
use pool_protocol::layer::{Layer, LayerSet, Level};
use pool_protocol::outcome::{Cause, Verdict};

use super::cgroup::Groups;
use super::reactor::Pool;
use super::spawn::SpawnError;
use super::workers::Confined;
use crate::config::{CgroupMode, Config};

/// Bit of `CAP_SYS_ADMIN` in `/proc/self/status`.
const SYS_ADMIN: u32 = 21;

/// The supervisor's side of confinement.
pub(super) struct Confinement {
    /// The tree of control groups; else why there is none.
    groups: Result<Groups, String>,
    /// Whether this process may make namespaces without one of users.
    admin: bool,
    /// Why the last worker of a lane was started without namespaces.
    refused: BTreeMap<&'static str, String>,
    /// Lanes of which somebody has been told what they lack.
    told: Vec<Lane>,
    /// A worker has had everything that is promised: what happens now is a worker's trouble, not
    /// the machine's.
    proven: bool,
    /// Why there cannot be a pool.
    fatal: Option<String>,
}

impl Confinement {
    pub(super) fn new(groups: Result<Groups, String>) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
        Self {
            groups,
            admin: bits & (1 << SYS_ADMIN) != 0,
            refused: BTreeMap::new(),
            told: Vec::new(),
            proven: false,
            fatal: None,
        }
    }

    pub(super) const fn groups_mut(&mut self) -> Option<&mut Groups> {
        match &mut self.groups {
            Ok(groups) => Some(groups),
            Err(_) => None,
        }
    }

    pub(super) const fn groups(&self) -> Option<&Groups> {
        match &self.groups {
            Ok(groups) => Some(groups),
            Err(_) => None,
        }
    }

    pub(super) const fn is_admin(&self) -> bool {
        self.admin
    }

    pub(super) fn fatal(&self) -> Option<&str> {
        self.fatal.as_deref()
    }

    /// What a worker of the lane must have to be one.
    pub(super) fn promised(&self, config: &Config, lane: Lane) -> LayerSet {
        let by_level = match config.isolation {
            Level::Strict => LayerSet::promised(Level::Strict, lane),
            Level::Standard | Level::Off => LayerSet::NONE,
        };
        match config.cgroup.mode {
            CgroupMode::Required => by_level.with(Groups::required(config.limits.cpus.is_some())),
            CgroupMode::Auto | CgroupMode::Off => by_level,
        }
    }

    /// A worker is started without namespaces.
    pub(super) fn no_namespaces(&mut self, lane: Lane, why: &SpawnError) {
        let why = why.to_string();
        if self.refused.get(lane.name()) != Some(&why) {
            tracing::debug!(lane = lane.name(), "{why}; it starts without");
            self.refused.insert(lane.name(), why);
        }
    }

    /// A worker could not be started.
    pub(super) fn cannot_start(&mut self, lane: Lane, why: &SpawnError, level: Level) {
        if let SpawnError::Namespaces { .. } = why
            && level == Level::Strict
        {
            self.broken_promise(lane, &why.to_string());
        }
    }

    /// A promise is not kept. Before the first worker that keeps it, that is the end: nobody may
    /// take the pool for a safe one.
    fn broken_promise(&mut self, lane: Lane, why: &str) {
        if !self.proven && self.fatal.is_none() {
            self.fatal = Some(format!(
                "failed to confine the workers of lane {} as the configuration promises: {why}; \
                 give the supervisor what it \
                 needs, or ask for less with isolation = \"standard\"",
                lane.name()
            ));
        }
    }
}

impl Pool {
    /// A worker says which layers it has put on. Gives whether it may run tasks; one that may not
    /// is ended here.
    pub(super) fn confine(
        &mut self,
        id: WorkerId,
        said: LayerSet,
        mut missing: BTreeMap<String, String>,
    ) -> bool {
        let Some(worker) = self.workers.get(id) else { return false };
        let (lane, promised) = (worker.lane, worker.promised);
        let around = worker.group.as_ref().map_or(LayerSet::NONE, |group| group.layers());
        // What is put around a worker is not the worker's to claim.
        let layers = said.without(LayerSet::CGROUP).with(around);
        self.explain(lane, worker.namespaced, &mut missing);
        let lacking = layers.lacking(lane);
        missing.retain(|name, _| lacking.names().contains(&name.as_str()));
        for layer in lacking.iter() {
            missing
                .entry(layer.name().to_owned())
                .or_insert_with(|| "its worker did not say why".to_owned());
        }
        let broken = promised.without(layers);
        let reason = |set: LayerSet| {
            let why = |layer: Layer| missing.get(layer.name()).map_or("", String::as_str);
            set.iter()
                .map(|layer| format!("{layer} ({})", why(layer)))
                .collect::<Vec<_>>()
                .join(", ")
        };
        if !broken.is_empty() {
            let reason = format!("it lacks promised layers: {}", reason(broken));
            tracing::error!(worker = %id, lane = lane.name(), "{reason}");
            self.confinement.broken_promise(lane, &reason);
            self.exiting |= self.confinement.fatal().is_some();
            self.deafen(id);
            self.feed(Event::WorkerUnfit { worker: id, reason });
            return false;
        }
        self.confinement.proven |= lane == Lane::Js;
        if !self.confinement.told.contains(&lane) {
            self.confinement.told.push(lane);
            if lacking.is_empty() {
                tracing::info!(lane = lane.name(), "workers are confined by every layer there is");
            } else if self.config.isolation != Level::Off {
                tracing::warn!(
                    lane = lane.name(),
                    "workers lack layers of confinement: {}",
                    reason(lacking)
                );
            }
        }
        self.workers.confine(id, Confined { layers, missing });
        true
    }

    /// The reasons that the supervisor knows better than the worker.
    fn explain(&self, lane: Lane, namespaced: bool, missing: &mut BTreeMap<String, String>) {
        let mut because =
            |layer: Layer, why: &str| drop(missing.insert(layer.name().to_owned(), why.to_owned()));
        if let Some(why) = self.confinement.refused.get(lane.name()).filter(|_| !namespaced) {
            because(Layer::UserNamespace, why);
            because(Layer::PidNamespace, why);
        }
        match &self.confinement.groups {
            Err(why) => because(Layer::Cgroup, why),
            Ok(groups) => {
                because(Layer::Cgroup, "the kernel has no cgroup.kill");
                because(Layer::CgroupCpu, "limits.cpus is not set");
                for (layer, why) in groups.missing() {
                    because(*layer, why);
                }
            }
        }
    }

    /// Before a reload: what the new configuration promises must be what the living workers have,
    /// as far as they were asked for it. Else the pool would replace workers that run by ones that
    /// cannot start.
    pub(super) fn check_promise(&self, new: &Config) -> Result<(), String> {
        if self.config.isolation == Level::Off {
            return Ok(());
        }
        for lane in [Lane::Js, Lane::Io] {
            let Some(confined) = self.workers.confined().get(lane.name()) else { continue };
            let broken = self.confinement.promised(new, lane).without(confined.layers);
            if !broken.is_empty() {
                return Err(format!(
                    "failed to reload: isolation \"{}\" promises layers that workers of lane {} do \
                     not have here: {broken}",
                    new.isolation.name(),
                    lane.name()
                ));
            }
        }
        Ok(())
    }

    /// Removes the groups of workers that end with the supervisor.
    pub(super) fn close_groups(&mut self) {
        let now = self.clock.now();
        let left = self.workers.take_groups();
        if let Some(groups) = self.confinement.groups_mut() {
            left.into_iter().for_each(|group| groups.release(group, now));
            groups.close();
        }
    }

    /// A worker ended by itself before it was ready. Under `strict` that is how one ends that
    /// cannot put on a layer: when none has ever been ready, there is nothing to wait for.
    pub(super) fn gave_up(&mut self, lane: Lane, verdict: &Verdict) {
        let by_itself = matches!(verdict.cause, Cause::SpawnFailed | Cause::SandboxViolation);
        if self.config.isolation == Level::Strict && by_itself {
            self.confinement.broken_promise(lane, &verdict.evidence);
            self.exiting |= self.confinement.fatal().is_some();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_is_the_end_only_before_the_first_worker_that_kept_it() {
        let mut early = Confinement::new(Err("none".into()));
        early.broken_promise(Lane::Js, "it lacks seccomp");
        assert!(early.fatal().expect("no pool").contains("it lacks seccomp"));
        let mut late = Confinement::new(Err("none".into()));
        late.proven = true;
        late.broken_promise(Lane::Io, "it lacks landlock");
        assert_eq!(late.fatal(), None);
    }
}
