//! Starting workers, and starting them again when that fails ([`crate::restart`] knows when).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use pool_protocol::id::WorkerId;
use pool_protocol::lane::Lane;
use pool_protocol::outcome::{Cause, Verdict};

use crate::Core;
use crate::action::{Action, PoolEvent};
use crate::place::WorkerPlace;
use crate::roster::WorkerState;
use crate::timers::TimerKey;

impl Core {
    /// Whether another process may be started now, as far as failed starts and the processes that
    /// live are concerned. The bound holds whatever dies slowly.
    pub(crate) fn may_spawn(&self) -> bool {
        let is_starting = |lane: Lane| self.roster.counts(lane).starting() > 0;
        let probing = self.restart.failing() && Lane::ALL.into_iter().any(is_starting);
        self.timers.now() >= self.restart.not_before()
            && !probing
            && self.roster.living()
                < self.settings.max_workers.saturating_mul(self.most_per_place())
    }

    /// Whether one more process may be ordered before the next tick, which is asked for otherwise.
    pub(crate) fn take_start(&mut self) -> bool {
        let may_start = self.restart.take_start();
        if !may_start {
            self.timers.arm_no_later(TimerKey::Respawn, self.timers.now().plus_us(1));
        }
        may_start
    }

    /// Orders a process.
    pub(crate) fn spawn(
        &mut self,
        lane: Lane,
        replaces: Option<WorkerPlace>,
        out: &mut Vec<Action>,
    ) {
        let now = self.timers.now();
        let beat_ms = self.settings.heartbeat_interval_ms.max(1);
        let w = self.roster.order(now, lane, replaces, beat_ms);
        self.timers.arm(TimerKey::Spawn(w), now.plus_ms(self.settings.spawn_timeout_ms));
        out.push(Action::Spawn { worker: self.roster[w].id, lane });
    }

    /// Counts a failed start.
    pub(crate) fn spawn_failed(&mut self, w: WorkerPlace, reason: &str, out: &mut Vec<Action>) {
        if self.restart.fail(self.timers.now(), self.roster[w].ordered_at, &mut self.prng) {
            self.timers.arm(TimerKey::Respawn, self.restart.not_before());
        }
        let others_ready =
            self.roster.iter().any(|(other, worker)| other != w && worker.is_ready());
        let reason = format!("workers cannot be started: {reason}");
        if self.restart.degrade(others_ready, &reason) {
            out.push(Action::Emit(PoolEvent::Degraded { reason }));
        }
    }

    /// A worker has shown that starting workers works.
    fn recovered(&mut self, out: &mut Vec<Action>) {
        self.roster.look_again();
        if self.restart.recover(self.timers.now()) {
            out.push(Action::Emit(PoolEvent::Recovered));
        }
    }

    /// The worker did more than become ready. That proves something if it was started after the
    /// last failure.
    pub(crate) fn note_proof(&mut self, w: WorkerPlace, out: &mut Vec<Action>) {
        if self.restart.is_proof(self.roster[w].ordered_at) {
            self.recovered(out);
        }
    }

    pub(crate) fn on_spawn_failed(
        &mut self,
        worker: WorkerId,
        reason: String,
        out: &mut Vec<Action>,
    ) {
        let Some(w) = self.roster.find(worker) else { return };
        match self.roster[w].state {
            WorkerState::Spawning { .. } => self.spawn_failed(w, &reason, out),
            // Given up before: that was counted then.
            WorkerState::Leaving(_) => {}
            WorkerState::Ready { .. } => return,
        }
        let verdict = Verdict { cause: Cause::SpawnFailed, evidence: reason };
        out.push(Action::Emit(PoolEvent::WorkerError { worker, task: None, verdict }));
        self.discard(w);
    }

    pub(crate) fn on_spawn_timeout(&mut self, w: WorkerPlace, out: &mut Vec<Action>) {
        if !self.roster[w].is_spawning() {
            return;
        }
        let evidence = format!("it was not ready within {} ms", self.settings.spawn_timeout_ms);
        self.kill(w, Verdict { cause: Cause::SpawnFailed, evidence }, out);
    }

    pub(crate) fn on_worker_unfit(
        &mut self,
        worker: WorkerId,
        reason: String,
        out: &mut Vec<Action>,
    ) {
        if let Some(w) = self.roster.find(worker) {
            self.kill(w, Verdict { cause: Cause::SpawnFailed, evidence: reason }, out);
        }
    }

    pub(crate) fn on_worker_ready(&mut self, worker: WorkerId, out: &mut Vec<Action>) {
        let Some(w) = self.roster.find(worker) else { return };
        match self.roster[w].state {
            WorkerState::Spawning { .. } => {}
            WorkerState::Ready { .. } => {
                let evidence = "it said twice that it is ready".into();
                self.kill(w, Verdict { cause: Cause::ProtocolViolation, evidence }, out);
                return;
            }
            WorkerState::Leaving(_) => return,
        }
        let now = self.timers.now();
        let tasks_limit = self.tasks_limit();
        let (replaces, start_us) = self.roster.make_ready(w, now, tasks_limit);
        self.timers.disarm(TimerKey::Spawn(w));
        self.arm_heartbeat_check(w);
        if self.settings.max_worker_age_ms > 0 {
            self.timers.arm(TimerKey::Age(w), now.plus_ms(self.settings.max_worker_age_ms));
        }
        self.pace[self.roster[w].lane].note_start(now, start_us);
        out.push(Action::Emit(PoolEvent::WorkerStarted { worker, start_us }));
        if self.restart.is_ready_enough() {
            self.recovered(out);
        }
        if let Some(old) = replaces {
            self.retire_recycled(old, out);
        }
        self.after_change(w, out);
    }
}
