//! How many workers there are.
//!
//! Each lane has a wanted number. Load is (running + waiting) / workers, where only tasks count
//! that a worker could take: a paused project's queue wants no workers. Above the threshold the
//! wanted number grows by a step, at once when tasks wait for which no worker is being started,
//! else when the load lasts; steps double while pressure lasts, with a cool-down between them.
//! Below the lower threshold for a cool-down it shrinks by one. Both lanes together never want more
//! than `max_workers`.
//!
//! The JavaScript lane always wants `min_workers`; the other starts its first worker with its first
//! task and keeps the last until that was idle for `worker_idle_timeout`. Without `auto_scale` the
//! JavaScript lane stays at `min_workers`, and the other may grow to as many.
//!
//! A lane that has no worker and needs one gets it: from what is free; else from the other lane, if
//! that has several, or has nothing to do, or has had its only one for a second. So neither
//! starves, even at `max_workers` 1.

use alloc::vec::Vec;

use pool_protocol::lane::Lane;
use pool_protocol::outcome::{Cause, Verdict};

use crate::Core;
use crate::action::{Action, PoolEvent};
use crate::roster::{Served, Worker, WorkerState};
use crate::settings::Tenancy;
use crate::time::Time;
use crate::timers::TimerKey;

/// A high load without waiting tasks has to last this long, in milliseconds: a worker is not
/// started for every tiny task.
const LASTING_MS: u64 = 100;
/// A lane keeps its only worker this long, in milliseconds, while the other waits for one: a start
/// costs less than that.
const TENURE_MS: u64 = 1_000;
/// Steps double up to this power of two.
const MOST_DOUBLINGS: u32 = 6;

/// How one lane's number of workers moves.
#[derive(Debug)]
pub(crate) struct Pace {
    /// The wanted number.
    pub(crate) want: u32,
    /// When it was given its first worker; when that was ready, once it was.
    gained: Time,
    /// That worker is not ready yet.
    awaited: bool,
    /// Since when the load is high; [`Time::NEVER`] when it is not.
    high_since: Time,
    /// Since when the load is low; [`Time::NEVER`] when it is not.
    low_since: Time,
    /// No step before this.
    steady_until: Time,
    /// Steps up in a row.
    streak: u32,
    /// From spawn to ready, in microseconds, of the worker that took least.
    pub(crate) fastest_start_us: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            want: 0,
            gained: Time(0),
            awaited: true,
            high_since: Time::NEVER,
            low_since: Time::NEVER,
            steady_until: Time(0),
            streak: 0,
            fastest_start_us: u64::MAX,
        }
    }
}

impl Pace {
    /// The lane wants its first worker.
    const fn await_first(&mut self, now: Time) {
        self.gained = now;
        self.awaited = true;
    }

    /// A worker of the lane is ready. Only the first one's time counts for how long the lane keeps
    /// its place: one whose workers come and go must not keep it for that.
    pub(crate) fn note_start(&mut self, now: Time, start_us: u64) {
        if self.awaited {
            self.gained = now;
            self.awaited = false;
        }
        self.fastest_start_us = self.fastest_start_us.min(start_us);
    }
}

impl Core {
    /// Moves the wanted numbers with the load.
    pub(crate) fn scale(&mut self, out: &mut Vec<Action>) {
        if !self.runs_tasks() {
            return;
        }
        for lane in Lane::ALL {
            if self.pace[lane].want == 0 {
                if self.line.runnable(lane) > 0 {
                    self.claim_first(lane, out);
                }
                continue;
            }
            let demand = f64::from(self.demand(lane));
            let workers = f64::from(self.pace[lane].want);
            if demand > self.settings.scale_up_threshold * workers {
                self.raise(lane, out);
            } else if demand < self.settings.scale_down_threshold * workers {
                self.lower(lane, out);
            } else {
                let pace = &mut self.pace[lane];
                (pace.high_since, pace.low_since, pace.streak) = (Time::NEVER, Time::NEVER, 0);
            }
        }
    }

    /// Tasks that run or could run.
    fn demand(&self, lane: Lane) -> u32 {
        self.line.held(lane).saturating_add(self.line.runnable(lane))
    }

    pub(crate) fn wanted(&self) -> u32 {
        self.pace[Lane::Js].want + self.pace[Lane::Io].want
    }

    /// The most workers that the lane may want.
    pub(crate) fn ceiling(&self) -> u32 {
        if self.settings.auto_scale {
            self.settings.max_workers
        } else {
            self.settings.min_workers.max(1)
        }
    }

    /// The load is high.
    fn raise(&mut self, lane: Lane, out: &mut Vec<Action>) {
        let (ceiling, demand) = (self.ceiling(), self.demand(lane));
        let counts = self.roster.counts(lane);
        let urgent = self.line.runnable(lane) > counts.spawning;
        let pace = &mut self.pace[lane];
        pace.low_since = Time::NEVER;
        if pace.high_since == Time::NEVER {
            pace.high_since = self.timers.now();
        }
        // What was wanted before is not there yet: more would not come sooner.
        if pace.want >= ceiling || counts.capacity() < pace.want {
            return;
        }
        let since = if urgent { self.timers.now() } else { pace.high_since.plus_ms(LASTING_MS) };
        let due = since.max(pace.steady_until);
        if due > self.timers.now() {
            self.timers.arm_no_later(TimerKey::Scale(lane), due);
            return;
        }
        let missing = demand.saturating_sub(pace.want).max(1);
        let step = (1 << pace.streak.min(MOST_DOUBLINGS)).min(missing).min(ceiling - pace.want);
        let added = self.grow(lane, step, out);
        if added > 0 {
            let pace = &mut self.pace[lane];
            pace.streak += 1;
            pace.steady_until = self.timers.now().plus_ms(self.settings.scale_cooldown_ms);
            self.timers.arm_no_later(
                TimerKey::Scale(lane),
                pace.steady_until.max(self.timers.now().plus_us(1)),
            );
        }
    }

    /// Raises the wanted number by up to `step`: by what is free, else by one that the other lane
    /// does not use. Returns by how many.
    fn grow(&mut self, lane: Lane, step: u32, out: &mut Vec<Action>) -> u32 {
        let free = self.settings.max_workers.saturating_sub(self.wanted());
        let mut added = step.min(free);
        if added > 0 {
            out.push(Action::Emit(PoolEvent::ScaledUp { workers: added }));
        } else if self.spares_idle(lane.other()) {
            self.pace[lane.other()].want -= 1;
            added = 1;
        } else {
            return 0;
        }
        self.pace[lane].want += added;
        self.roster.look_again();
        added
    }

    /// Whether the lane has an idle worker that it does not need to keep.
    fn spares_idle(&self, lane: Lane) -> bool {
        let keeps = match lane {
            Lane::Js => self.settings.min_workers,
            Lane::Io => u32::from(self.demand(lane) > 0),
        };
        self.pace[lane].want > keeps && self.has_idle_place(lane)
    }

    /// The load is low.
    fn lower(&mut self, lane: Lane, out: &mut Vec<Action>) {
        let keeps = self.floor(lane).max(1);
        let cooldown_ms = self.settings.scale_cooldown_ms;
        let pace = &mut self.pace[lane];
        (pace.high_since, pace.streak) = (Time::NEVER, 0);
        if pace.low_since == Time::NEVER {
            pace.low_since = self.timers.now();
        }
        if !self.settings.auto_scale || pace.want <= keeps {
            return;
        }
        let due = pace.low_since.plus_ms(cooldown_ms).max(pace.steady_until);
        if due > self.timers.now() {
            self.timers.arm_no_later(TimerKey::Scale(lane), due);
            return;
        }
        pace.want -= 1;
        pace.low_since = self.timers.now();
        pace.steady_until = self.timers.now().plus_ms(cooldown_ms);
        self.timers.arm_no_later(
            TimerKey::Scale(lane),
            pace.steady_until.max(self.timers.now().plus_us(1)),
        );
        self.roster.look_again();
        out.push(Action::Emit(PoolEvent::ScaledDown { workers: 1 }));
    }

    /// A lane without a worker has a task to run.
    fn claim_first(&mut self, lane: Lane, out: &mut Vec<Action>) {
        if self.wanted() < self.settings.max_workers {
            out.push(Action::Emit(PoolEvent::ScaledUp { workers: 1 }));
        } else {
            let other = lane.other();
            let pace = &self.pace[other];
            let tenure_ms = if pace.awaited { self.settings.spawn_timeout_ms } else { TENURE_MS };
            let may_give_at = pace.gained.plus_ms(tenure_ms);
            if self.pace[other].want == 1
                && self.demand(other) > 0
                && self.timers.now() < may_give_at
            {
                self.timers.arm_no_later(TimerKey::Scale(lane), may_give_at);
                return;
            }
            self.pace[other].want -= 1;
        }
        self.pace[lane].want = 1;
        self.pace[lane].await_first(self.timers.now());
        self.roster.look_again();
    }

    /// Brings the wanted numbers into new bounds.
    pub(crate) fn fit_to_bounds(&mut self, out: &mut Vec<Action>) {
        if !self.runs_tasks() {
            return;
        }
        let before = self.wanted();
        let (ceiling, most) = (self.ceiling(), self.settings.max_workers);
        let io = self.pace[Lane::Io].want.min(ceiling);
        // At its maximum the lane that has more gives; the other keeps its last one.
        let js = self.pace[Lane::Js].want.clamp(self.settings.min_workers.min(ceiling), ceiling);
        let io = io.min(most.saturating_sub(js).max(u32::from(io > 0)));
        self.pace[Lane::Io].want = io;
        self.pace[Lane::Js].want = js.min(most - io);
        self.roster.look_again();
        let after = self.wanted();
        if after > before {
            out.push(Action::Emit(PoolEvent::ScaledUp { workers: after - before }));
        } else if after < before {
            out.push(Action::Emit(PoolEvent::ScaledDown { workers: before - after }));
        }
    }

    /// Brings the workers to the wanted numbers, and starts replacements.
    pub(crate) fn reconcile(&mut self, out: &mut Vec<Action>) {
        while self.roster.take_changed() {
            self.restore_minimum();
            for lane in Lane::ALL {
                self.shed(lane, out);
                self.spawn_missing(lane, out);
                if self.runs_tasks() {
                    self.start_replacements(lane, out);
                }
            }
        }
    }

    /// What the JavaScript lane lent the other comes back when that has less.
    fn restore_minimum(&mut self) {
        if self.runs_tasks() {
            let free = self.settings.max_workers.saturating_sub(self.pace[Lane::Io].want);
            let least = self.settings.min_workers.min(free);
            let pace = &mut self.pace[Lane::Js];
            if pace.want == 0 && least > 0 {
                pace.await_first(self.timers.now());
            }
            pace.want = pace.want.max(least);
        }
    }

    /// Lets surplus workers go: those to be replaced anyway, idle ones, those not ready. Busy ones
    /// as soon as one ends a task.
    fn shed(&mut self, lane: Lane, out: &mut Vec<Action>) {
        let capacity = self.roster.counts(lane).capacity();
        let surplus = capacity.saturating_sub(self.pace[lane].want);
        self.roster.set_shedding(lane, surplus);
        for _ in 0..surplus {
            let of_lane = self.roster.of_lane(lane);
            let Some((w, _)) = of_lane
                .filter(|(_, worker)| ease_of_shedding(worker, self.settings.tenancy) > 0)
                .max_by_key(|(w, worker)| (ease_of_shedding(worker, self.settings.tenancy), *w))
            else {
                return;
            };
            if self.roster[w].is_spawning() {
                let evidence = "the pool needs fewer workers of its lane".into();
                self.roster.shed_one(lane);
                self.kill(w, Verdict { cause: Cause::Idle, evidence }, out);
            } else {
                self.retire_surplus(w, out);
            }
        }
    }

    fn spawn_missing(&mut self, lane: Lane, out: &mut Vec<Action>) {
        let mut missing = self.pace[lane].want.saturating_sub(self.roster.counts(lane).capacity());
        while missing > 0 && self.may_spawn() {
            let counted = self.roster.iter().filter(|(_, worker)| worker.counts()).count();
            if counted >= self.settings.max_workers as usize || !self.take_start() {
                return;
            }
            self.spawn(lane, None, out);
            missing -= 1;
        }
    }
}

/// Which workers go first when there are too many: the highest; 0 is one that is not to go now.
fn ease_of_shedding(worker: &Worker, tenancy: Tenancy) -> u8 {
    match &worker.state {
        WorkerState::Ready { recycle, .. } if worker.held.is_empty() => {
            // One that can serve anybody is worth more than one that cannot.
            let bound = tenancy == Tenancy::Project && worker.served != Served::Nobody;
            2 + u8::from(bound) + 2 * u8::from(recycle.is_some())
        }
        WorkerState::Spawning { replaces: None } => 1,
        WorkerState::Spawning { .. } | WorkerState::Ready { .. } | WorkerState::Leaving(_) => 0,
    }
}
