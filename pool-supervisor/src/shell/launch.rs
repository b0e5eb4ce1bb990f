//! How a worker process is started: its group, its namespaces, its process, its setup.
//!
//! Does what the level of isolation says: under `strict` a process without the namespaces that are
//! promised is no worker, under `standard` it starts without them and the reason is kept for those
//! who ask.

use std::os::fd::BorrowedFd;

use pool_protocol::frame::{FrameLimits, Kind};
use pool_protocol::id::WorkerId;
use pool_protocol::lane::Lane;
use pool_protocol::layer::{LayerSet, Level};
use pool_protocol::limits::OUTCOME_OVERHEAD_BYTES;
use pool_protocol::version;
use pool_protocol::worker::{ProbeSetup, Setup};

use super::cgroup::{Group, Limits};
use super::outbox::Peer;
use super::reactor::Pool;
use super::spawn::{self, Namespaces, Order, SpawnError, Spawned};
use super::verdict::Circumstances;
use super::workers::Worker;
use crate::session::worker::WorkerSession;

/// Memory of a worker besides what tasks are given: the program's pages, the engine, stacks, the
/// kernel's own share.
const WORKER_BYTES: u64 = 192 << 20;
/// Threads of a worker for JavaScript, and then some: it starts no process.
const JS_PROCESSES: u64 = 32;
/// Threads of a worker for requests and programs, besides the programs.
const IO_PROCESSES: u64 = 16;

impl Pool {
    pub(super) fn try_spawn(&mut self, id: WorkerId, lane: Lane) -> Result<(), String> {
        let worker = self.launch(id, lane, None)?;
        if let Err(error) = self.watch_worker(id, &worker.peer, &worker.pidfd, &worker.stderr) {
            self.abandon(worker);
            return Err(format!("failed to watch a worker: {error}"));
        }
        self.workers.insert(worker);
        self.mark_worker(id);
        Ok(())
    }

    /// A process of the lane, with its first order waiting to be sent: to serve tasks, or to probe
    /// its own confinement.
    pub(super) fn launch(
        &mut self,
        id: WorkerId,
        lane: Lane,
        probe: Option<ProbeSetup>,
    ) -> Result<Worker, String> {
        let mut setup = self.config.worker_setup(lane, id.to_string(), self.snapshot.path());
        setup.probe = probe;
        setup.body_bytes = self.body_limit.for_workers();
        if lane == Lane::Io {
            setup.isolation.covered = self.own_files();
        }
        let group = self.make_group(id, &setup)?;
        let made = self.start_process(lane, group.as_ref().map(Group::procs));
        let (spawned, namespaces) = match made {
            Ok(made) => made,
            Err(error) => {
                self.release_group(group);
                self.confinement.cannot_start(lane, &error, self.config.isolation);
                return Err(error.to_string());
            }
        };
        setup.isolation.namespaced = namespaces != Namespaces::Shared;
        self.take_in(id, setup, spawned, group)
    }

    /// What no program is to find where it could be covered: both sockets, and the key of the one
    /// over the network.
    fn own_files(&self) -> Vec<String> {
        let (control, http) = (&self.control.path, &self.config.http);
        let files = [
            Some(control.clone()),
            http.socket_beside(control),
            Some(http.key_file_beside(control)),
        ];
        files.into_iter().flatten().filter_map(|path| path.to_str().map(str::to_owned)).collect()
    }

    /// A process that nobody watches: its closed socket ends it, and as a child that is no worker
    /// it is reaped.
    pub(super) fn abandon(&mut self, worker: Worker) {
        self.release_group(worker.group);
        self.orphans.look_at(self.clock.now());
    }

    fn make_group(&mut self, id: WorkerId, setup: &Setup) -> Result<Option<Group>, String> {
        let limits = group_limits(setup, self.config.limits.processes, self.config.limits.cpus);
        let Some(groups) = self.confinement.groups_mut() else { return Ok(None) };
        groups.make(id, &limits).map(Some).map_err(|e| e.to_string())
    }

    pub(super) fn release_group(&mut self, group: Option<Group>) {
        let now = self.clock.now();
        if let (Some(group), Some(groups)) = (group, self.confinement.groups_mut()) {
            groups.release(group, now);
        }
    }

    fn start_process(
        &mut self,
        lane: Lane,
        group: Option<BorrowedFd<'_>>,
    ) -> Result<(Spawned, Namespaces), SpawnError> {
        let wanted = match (self.config.isolation, lane) {
            (Level::Off, _) => Namespaces::Shared,
            (Level::Strict | Level::Standard, Lane::Js) => Namespaces::UserAndPid,
            // Programs keep their users: in a namespace of one, others' files belong to nobody, and
            // some programs refuse.
            (Level::Strict | Level::Standard, Lane::Io) if self.confinement.is_admin() => {
                Namespaces::PidAndMount
            }
            (Level::Strict | Level::Standard, Lane::Io) => Namespaces::Shared,
        };
        let (program, environment) = (&*self.worker_path, &self.worker_environment[..]);
        let mut order = Order { program, lane, namespaces: wanted, group, environment };
        match spawn::spawn(&order) {
            // For programs none is promised.
            Err(SpawnError::Namespaces { step, reason })
                if self.config.isolation == Level::Standard || lane == Lane::Io =>
            {
                self.confinement.no_namespaces(lane, &SpawnError::Namespaces { step, reason });
                order.namespaces = Namespaces::Shared;
                spawn::spawn(&order).map(|spawned| (spawned, Namespaces::Shared))
            }
            other => other.map(|spawned| (spawned, wanted)),
        }
    }

    fn take_in(
        &mut self,
        id: WorkerId,
        setup: Setup,
        spawned: Spawned,
        group: Option<Group>,
    ) -> Result<Worker, String> {
        let mut peer = match Peer::new(spawned.link) {
            Ok(peer) => peer,
            Err(error) => {
                self.release_group(group);
                self.orphans.look_at(self.clock.now());
                return Err(format!("failed to use the socket of a worker: {error}"));
            }
        };
        let body = serde_json::to_vec(&setup).expect("settings serialise");
        peer.send_plain(Kind::Setup, u64::from(version::CURRENT), &body);
        Ok(Worker {
            id,
            lane: setup.lane,
            layers: LayerSet::NONE,
            promised: self.confinement.promised(&self.config, setup.lane),
            namespaced: setup.isolation.namespaced,
            group,
            pid: spawned.pid,
            pidfd: spawned.pidfd,
            peer,
            stderr: spawned.stderr,
            seen: Circumstances::default(),
            session: WorkerSession::default(),
            told_body_bytes: Some(setup.body_bytes),
            frames: FrameLimits {
                body_bytes: self.config.limits.result_bytes as usize + OUTCOME_OVERHEAD_BYTES,
            },
            output_read: false,
            deaf: false,
            dirty: false,
            wants_room: false,
        })
    }
}

/// What a worker's group may use. For JavaScript the engine's limits come first, then
/// `RLIMIT_DATA`, then this; for programs this is the one that counts the tree as a whole.
fn group_limits(setup: &Setup, processes: u64, cpus: Option<f64>) -> Limits {
    let processes = match setup.lane {
        Lane::Js => JS_PROCESSES,
        Lane::Io => IO_PROCESSES.saturating_add(processes),
    };
    Limits {
        memory_bytes: WORKER_BYTES.saturating_add(setup.tasks_memory_bytes()),
        processes,
        cpus,
    }
}
