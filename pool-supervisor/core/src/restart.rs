//! Starting workers, and starting them again when that fails.
//!
//! A worker that cannot be started, is not ready in time, or dies as soon as it is ready, is a
//! failed start. After the n-th in a row the pool waits 100 ms * 2^(n-1), at most 30 s, with
//! jitter, and then tries one at a time: it never spins. It says once that it is degraded and once
//! that it has recovered. Recovered is: a worker became ready; or, if workers died right after
//! that, one ended a task or lived for a second.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use pool_protocol::id::WorkerId;
use pool_protocol::outcome::{Cause, Verdict};

use crate::Core;
use crate::action::{Action, PoolEvent};
use crate::place::WorkerPlace;
use crate::recycle::Recycle;
use crate::settings::Lane;
use crate::time::Time;
use crate::timers::TimerKey;
use crate::worker::WorkerState;

const BACKOFF_FIRST_MS: u64 = 100;
const BACKOFF_MOST_MS: u64 = 30_000;
const BACKOFF_JITTER: f64 = 0.2;
/// Failed starts in a row after which the pool is degraded though other workers live.
const DEGRADED_AFTER: u32 = 3;
/// Processes that are ordered from one tick to the next. Making one holds up the shell for as long
/// as the machine takes for it, and what others have said lies unread meanwhile: of five hundred at
/// once the first would be late before it is heard.
const MOST_STARTS: u32 = 32;
/// A worker that lives this long after it was ready, in microseconds, was started well.
pub(crate) const PROOF_US: u64 = 1_000_000;

/// How the last starts went.
#[derive(Default, Debug)]
pub(crate) struct Restart {
    /// Failed starts in a row; those of one volley count as one.
    failures: u32,
    /// When the last one was counted.
    counted_at: Time,
    /// No start before this.
    not_before: Time,
    /// To be ready is not enough: workers died right after it.
    proof_needed: bool,
    /// Why the pool is degraded, when it is.
    degraded: Option<String>,
    /// Processes that were ordered since the last tick.
    ordered: u32,
}

impl Restart {
    pub(crate) const fn failing(&self) -> bool {
        self.failures > 0
    }

    pub(crate) fn degraded(&self) -> Option<&str> {
        self.degraded.as_deref()
    }

    /// More processes may be ordered.
    pub(crate) const fn on_tick(&mut self) {
        self.ordered = 0;
    }

    pub(crate) const fn need_proof(&mut self) {
        self.proof_needed = true;
    }
}

impl Core {
    /// Whether another process may be started now, as far as failed starts and the processes that
    /// live are concerned. The bound holds whatever dies slowly.
    pub(crate) fn may_spawn(&self) -> bool {
        let starting = |lane| self.workers.counts(lane).1 + self.workers.counts(lane).2;
        let probing =
            self.restart.failing() && Lane::ALL.into_iter().any(|lane| starting(lane) > 0);
        self.now >= self.restart.not_before
            && !probing
            && self.workers.living()
                < self.settings.max_workers.saturating_mul(self.most_per_place())
    }

    /// Whether one more process may be ordered before the next tick, which is asked for otherwise.
    pub(crate) fn take_start(&mut self) -> bool {
        if self.restart.ordered >= MOST_STARTS {
            self.timers.arm_no_later(TimerKey::Respawn, self.now.plus_us(1));
            return false;
        }
        self.restart.ordered += 1;
        true
    }

    /// Counts a failed start.
    pub(crate) fn spawn_failed(&mut self, w: WorkerPlace, reason: &str, out: &mut Vec<Action>) {
        let restart = &mut self.restart;
        // All of one volley fail of the same thing.
        let same_volley = restart.failing() && self.workers[w].born <= restart.counted_at;
        if !same_volley {
            restart.failures = restart.failures.saturating_add(1);
            restart.counted_at = self.now;
            let doublings = (restart.failures - 1).min(16);
            let wait_ms = (BACKOFF_FIRST_MS << doublings).min(BACKOFF_MOST_MS);
            let wait_us =
                self.prng.vary(wait_ms * 1000, BACKOFF_JITTER).min(BACKOFF_MOST_MS * 1000);
            restart.not_before = self.now.plus_us(wait_us);
            self.timers.arm(TimerKey::Respawn, restart.not_before);
        }
        let none_ready =
            !self.workers.iter().any(|(other, worker)| other != w && worker.is_ready());
        let restart = &mut self.restart;
        if restart.degraded.is_none() && (none_ready || restart.failures >= DEGRADED_AFTER) {
            let reason = format!("workers cannot be started: {reason}");
            out.push(Action::Emit(PoolEvent::Degraded { reason: reason.clone() }));
            restart.degraded = Some(reason);
        }
    }

    /// A worker has shown that starting workers works.
    fn recovered(&mut self, out: &mut Vec<Action>) {
        self.restart.failures = 0;
        self.restart.proof_needed = false;
        self.restart.not_before = self.now;
        self.workers_changed = true;
        if self.restart.degraded.take().is_some() {
            out.push(Action::Emit(PoolEvent::Recovered));
        }
    }

    /// The worker did more than become ready. That proves something if it was started after the
    /// last failure.
    pub(crate) fn note_proof(&mut self, w: WorkerPlace, out: &mut Vec<Action>) {
        if self.restart.failing() && self.workers[w].born > self.restart.counted_at {
            self.recovered(out);
        }
    }

    pub(crate) fn on_worker_spawned(&mut self, worker: WorkerId) {
        // The clock of its start runs from the order: making the process is part of what may take
        // too long.
        if let Some(w) = self.workers.find(worker) {
            debug_assert!(!self.workers[w].is_ready(), "a process is made before its handshake");
        }
    }

    pub(crate) fn on_spawn_failed(
        &mut self,
        worker: WorkerId,
        reason: String,
        out: &mut Vec<Action>,
    ) {
        let Some(w) = self.workers.find(worker) else { return };
        match self.workers[w].state {
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
        if !self.workers[w].is_spawning() {
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
        if let Some(w) = self.workers.find(worker) {
            self.kill(w, Verdict { cause: Cause::SpawnFailed, evidence: reason }, out);
        }
    }

    pub(crate) fn on_worker_ready(&mut self, worker: WorkerId, out: &mut Vec<Action>) {
        let Some(w) = self.workers.find(worker) else { return };
        let replaces = match self.workers[w].state {
            WorkerState::Spawning { replaces } => replaces,
            WorkerState::Ready { .. } => {
                let evidence = "it said twice that it is ready".into();
                self.kill(w, Verdict { cause: Cause::ProtocolViolation, evidence }, out);
                return;
            }
            WorkerState::Leaving(_) => return,
        };
        self.timers.disarm(TimerKey::Spawn(w));
        self.workers_changed = true;
        self.unpair(w);
        self.make_ready(w);
        self.workers.seat(w, replaces);
        let start_us = self.now.since(self.workers[w].born);
        out.push(Action::Emit(PoolEvent::WorkerStarted { worker, start_us }));
        if self.restart.failing() && !self.restart.proof_needed {
            self.recovered(out);
        }
        if let Some(old) = replaces {
            self.retire_recycled(old, out);
        }
        self.after_change(w, out);
    }

    fn make_ready(&mut self, w: WorkerPlace) {
        let (tasks_limit, age_ms) = (self.tasks_limit(), self.settings.max_worker_age_ms);
        let worker = &mut self.workers[w];
        let recycle = worker.outdated.then_some(Recycle::Outdated);
        worker.state = WorkerState::Ready { recycle, replacement: None };
        worker.ready_at = self.now;
        worker.idle_since = self.now;
        worker.last_beat = self.now;
        worker.tasks_limit = tasks_limit;
        let (lane, start_us) = (worker.lane, self.now.since(worker.born));
        self.arm_heartbeat_check(w);
        if age_ms > 0 {
            self.timers.arm(TimerKey::Age(w), self.now.plus_ms(age_ms));
        }
        let pace = &mut self.pace[lane];
        pace.begin_tenure(self.now);
        pace.fastest_start_us = pace.fastest_start_us.min(start_us);
    }
}
