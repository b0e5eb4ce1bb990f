//! Signs of life: heartbeats, memory, idleness.
//!
//! Decides when a worker is held for dead, has grown too large, or has had nothing to do for too
//! long.

use alloc::format;
use alloc::vec::Vec;

use pool_protocol::id::WorkerId;
use pool_protocol::lane::Lane;
use pool_protocol::outcome::{Cause, Verdict};

use crate::Core;
use crate::action::{Action, PoolEvent};
use crate::place::WorkerPlace;
use crate::restart::PROOF_US;
use crate::roster::{Recycle, WorkerState};
use crate::time::Time;
use crate::timers::TimerKey;

/// Heartbeats that may be missed.
const MISSED_BEATS: u64 = 3;
/// Heartbeats that may be missed where the supervisor itself is woken late, by a tenth of the time
/// between two: the worker waits for a processor as well.
const MISSED_ON_A_BUSY_MACHINE: u64 = 10;

impl Core {
    pub(crate) fn arm_heartbeat_check(&mut self, w: WorkerPlace) {
        let worker = &self.roster[w];
        let due = worker.last_beat.plus_ms(worker.beat_ms.saturating_mul(MISSED_BEATS));
        self.timers.arm_no_later(TimerKey::Heartbeat(w), due);
    }

    pub(crate) fn on_heartbeat(
        &mut self,
        worker: WorkerId,
        rss_bytes: u64,
        cpu_us: u64,
        out: &mut Vec<Action>,
    ) {
        let Some(w) = self.roster.find(worker) else { return };
        let most_memory = self.settings.max_memory_per_worker;
        if !self.roster.heard(w, self.timers.now(), rss_bytes, cpu_us) {
            let (beats, window_ms) = (self.roster[w].beats, self.roster[w].beat_window_ms());
            let evidence = format!("it sent {beats} heartbeats within {window_ms} ms");
            self.kill(w, Verdict { cause: Cause::ProtocolViolation, evidence }, out);
            return;
        }
        let ready_for = self.timers.now().since(self.roster[w].ready_at);
        if most_memory > 0 && rss_bytes > most_memory {
            self.roster.want_recycled(w, Recycle::Memory);
        }
        if ready_for >= PROOF_US {
            self.note_proof(w, out);
        }
    }

    /// The check was due at `at`.
    pub(crate) fn on_heartbeat_check(&mut self, w: WorkerPlace, at: Time, out: &mut Vec<Action>) {
        let worker = &self.roster[w];
        if worker.is_spawning() || worker.was_killed() {
            return;
        }
        let (silent_ms, beat_ms) =
            (self.timers.now().since(worker.last_beat) / 1000, worker.beat_ms);
        let (late_us, beat_us) = (self.timers.now().since(at), beat_ms.saturating_mul(1000));
        let most_ms = beat_ms.saturating_mul(MISSED_ON_A_BUSY_MACHINE);
        if silent_ms < beat_ms.saturating_mul(MISSED_BEATS) {
            self.arm_heartbeat_check(w);
        } else if late_us > beat_us || (late_us > beat_us / 10 && silent_ms < most_ms) {
            // It was us who slept: this check comes late, and its heartbeats may lie unread. Or
            // the machine is so busy that we were woken late, and so is the worker.
            self.timers.arm(TimerKey::Heartbeat(w), self.timers.now().plus_ms(beat_ms));
        } else {
            let evidence = format!("no heartbeat for {silent_ms} ms");
            self.kill(w, Verdict { cause: Cause::Unresponsive, evidence }, out);
        }
    }

    /// The worker has nothing to do from now on.
    pub(crate) fn arm_idle(&mut self, w: WorkerPlace) {
        let timeout_ms = self.settings.worker_idle_timeout_ms;
        if timeout_ms > 0 {
            let due = self.roster[w].idle_since.plus_ms(timeout_ms);
            self.timers.arm_no_later(TimerKey::Idle(w), due.max(self.timers.now().plus_us(1)));
        }
    }

    pub(crate) fn on_idle_check(&mut self, w: WorkerPlace, out: &mut Vec<Action>) {
        let timeout_ms = self.settings.worker_idle_timeout_ms;
        let worker = &self.roster[w];
        if timeout_ms == 0 || !worker.is_ready() || !worker.held.is_empty() {
            return;
        }
        if worker.idle_since.plus_ms(timeout_ms) > self.timers.now() {
            self.arm_idle(w);
        } else if self.pace[worker.lane].want > self.floor(worker.lane)
            && self.has_idle_place(worker.lane)
        {
            let idle_ms = self.timers.now().since(worker.idle_since) / 1000;
            self.pace[worker.lane].want -= 1;
            let verdict =
                Verdict { cause: Cause::Idle, evidence: format!("nothing to do for {idle_ms} ms") };
            out.push(Action::Emit(PoolEvent::ScaledDown { workers: 1 }));
            self.retire(w, verdict, false, out);
        } else {
            self.timers.arm(TimerKey::Idle(w), self.timers.now().plus_ms(timeout_ms));
        }
    }

    /// New settings are in force: the checks of living workers follow them.
    pub(crate) fn rearm_workers(&mut self) {
        for w in self.roster.places() {
            if !matches!(self.roster[w].state, WorkerState::Ready { .. }) {
                continue;
            }
            let limit = self.tasks_limit();
            self.roster.set_tasks_limit(w, limit);
            if self.settings.max_worker_age_ms > 0 {
                let due = self.roster[w].ready_at.plus_ms(self.settings.max_worker_age_ms);
                self.timers.arm_no_later(TimerKey::Age(w), due.max(self.timers.now().plus_us(1)));
            }
            if self.roster[w].held.is_empty() {
                self.arm_idle(w);
            }
        }
    }

    /// Fewest workers of the lane that always live, unless the other lane needs the place.
    pub(crate) const fn floor(&self, lane: Lane) -> u32 {
        match lane {
            Lane::Js => self.settings.min_workers,
            Lane::Io => 0,
        }
    }
}
