//! Action → calls, exhaustively. No decision is made here.

use std::sync::Arc;

use bytes::Bytes;
use pool_core::action::{Action, PoolEvent};
use pool_core::event::Event;
use pool_core::place::TaskPlace;
use pool_protocol::control::DeadWorkerRow;
use pool_protocol::frame::Kind;
use pool_protocol::id::{TaskId, WorkerId};
use pool_protocol::lane::Lane;
use pool_protocol::outcome::Verdict;
use pool_protocol::render::{error_body, verdict_reply};
use pool_protocol::task::TaskKind;
use pool_protocol::worker::{CancelHead, RunHead, TaskList};

use super::buffers::Body;
use super::clock::{Clock, rfc3339};
use super::events::Entry;
use super::reactor::Pool;

/// Bytes of bodies that are compared with those set aside in one turn: about a millisecond.
const CHECKED_BYTES: usize = 1 << 20;
/// Entry one comparison counts for besides its bytes: the core's part of it.
const CHECK_BYTES: usize = 4 << 10;

impl Pool {
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::Assign { worker, task, slot, attempt, timeout_ms, cpu_ms, memory_bytes } => {
                let limits = Limits { attempt, timeout_ms, cpu_ms, memory_bytes };
                self.assign(worker, task, slot, limits);
            }
            Action::TakeBack { worker, tasks } => {
                let tasks = tasks.into_iter().map(|(task, attempt)| (task.0, attempt)).collect();
                self.tell(worker, Kind::TakeBack, 0, &TaskList { tasks });
            }
            Action::Interrupt { worker, task, attempt, code } => {
                self.tell(worker, Kind::Cancel, task.0, &CancelHead { attempt, code });
            }
            Action::End { task, slot, ended, words } => {
                let body = error_body(&words.message, words.verdict.as_ref());
                let len = u32::try_from(body.len()).expect("a sentence is short");
                self.end(task, slot, ended, Body::Small(body), len);
            }
            Action::CheckBody { task, slot } => self.to_check.push_back((task, slot)),
            Action::Spawn { worker, lane } => self.spawn(worker, lane),
            Action::Retire { worker } => {
                self.is_given_no_more_tasks(worker);
                self.tell(worker, Kind::Retire, 0, &());
            }
            Action::Kill { worker } => {
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.kill();
                }
            }
            Action::Emit(event) => self.emit(event),
            Action::Exit => self.exiting = true,
        }
    }

    fn assign(&mut self, id: WorkerId, task: TaskId, slot: TaskPlace, limits: Limits) {
        let held = self.tasks.get(slot);
        debug_assert_eq!(held.id, task, "the core and the shell agree on places");
        let head = RunHead {
            attempt: limits.attempt,
            kind: held.kind,
            project: &held.project,
            realm: held.realm,
            timeout_ms: limits.timeout_ms,
            cpu_ms: limits.cpu_ms,
            memory_bytes: limits.memory_bytes,
            logs: held.logs,
            stream_logs: self.clients.has_subscribers(),
            code_len: held.code_len,
        };
        if let Some(worker) = self.workers.get_mut(id) {
            worker.seen.runs_program = held.kind == TaskKind::Shell;
            worker.peer.send_kept(Kind::Run, task.0, &head, &held.body);
        }
        self.mark_worker(id);
    }

    fn tell<T: bincode::Encode>(&mut self, id: WorkerId, kind: Kind, frame_id: u64, head: &T) {
        if let Some(worker) = self.workers.get_mut(id) {
            worker.peer.send(kind, frame_id, head, &Bytes::new());
            self.mark_worker(id);
        }
    }

    pub(super) fn is_given_no_more_tasks(&mut self, id: WorkerId) {
        if let Some(told) =
            self.workers.get_mut(id).and_then(|worker| worker.told_body_bytes.take())
        {
            self.body_limit.leaves(told);
        }
    }

    /// Says what the bodies of tasks are whose turn has come, as many as a turn has time for.
    pub(super) fn check_bodies(&mut self) {
        let mut left = CHECKED_BYTES;
        while let Some((task, slot)) = self.to_check.pop_front() {
            // It may have ended meanwhile, and another may be in its place.
            let Some(held) = self.tasks.find(slot).filter(|held| held.id == task) else { continue };
            let body = self.bodies.hash(&held.project, held.kind, held.code_len, held.body.bytes());
            left = left.saturating_sub(held.body.len() + CHECK_BYTES);
            self.feed(Event::BodyChecked { task, body });
            if left == 0 {
                return;
            }
        }
    }

    fn spawn(&mut self, id: WorkerId, lane: Lane) {
        if let Err(reason) = self.try_spawn(id, lane) {
            tracing::warn!(worker = %id, "{reason}");
            self.exiting |= self.confinement.fatal().is_some();
            self.follow_ups.push_back(Event::SpawnFailed { worker: id, reason });
        }
    }

    fn emit(&mut self, event: PoolEvent) {
        let project = match &event {
            PoolEvent::TaskQueued { slot, .. }
            | PoolEvent::TaskStarted { slot, .. }
            | PoolEvent::TaskComplete { slot, .. }
            | PoolEvent::TaskError { slot, .. }
            | PoolEvent::TaskRetry { slot, .. } => Some(Arc::clone(&self.tasks.get(*slot).project)),
            PoolEvent::WorkerTerminated { worker, verdict, lived_us, tasks, lane } => {
                self.log_end(*worker, *lane, verdict, *lived_us, *tasks);
                None
            }
            PoolEvent::Degraded { reason } => {
                tracing::warn!("the pool is degraded: {reason}");
                None
            }
            PoolEvent::Recovered => {
                tracing::info!("the pool has recovered");
                None
            }
            PoolEvent::WorkerStarted { .. }
            | PoolEvent::WorkerError { .. }
            | PoolEvent::ScaledUp { .. }
            | PoolEvent::ScaledDown { .. }
            | PoolEvent::QueueFull
            | PoolEvent::Reloaded => None,
        };
        self.events.push(self.clock.wall_moment_us(), project, Entry::Pool(event));
    }

    fn log_end(&mut self, id: WorkerId, lane: Lane, verdict: &Verdict, lived_us: u64, tasks: u64) {
        let pid = self.workers.get(id).map_or(0, |w| w.pid.as_raw_nonzero().get().unsigned_abs());
        tracing::info!(worker = %id, pid, cause = %verdict.cause, "worker ended: \
            {}", verdict.evidence);
        self.workers.count_end(verdict.cause);
        self.workers.remember_dead(DeadWorkerRow {
            worker_id: id.to_string(),
            pid,
            lane: lane.name().to_owned(),
            time: rfc3339(Clock::wall_us()),
            tasks,
            age: lived_us as f64 / 1e6,
            verdict: verdict_reply(verdict),
        });
    }
}

/// Entry an attempt may use.
struct Limits {
    attempt: u32,
    timeout_ms: u64,
    cpu_ms: u64,
    memory_bytes: u64,
}
