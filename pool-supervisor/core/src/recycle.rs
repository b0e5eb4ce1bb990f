//! Workers that leave in good order: replaced after their count of tasks, their memory or their
//! age; or not needed.
//!
//! The replacement is ready before the old one leaves, and the old one takes tasks until then:
//! capacity never dips, and a pool whose workers are used up faster than new ones start goes on
//! with the old ones. So a count of tasks bounds what builds up in a process, but does not make a
//! pool spend its time on starting workers: each serves tasks for ten times as long as a start
//! takes, and where they are tiny it lives for 80 times as long. What tasks took is counted without
//! what a loaded machine added to it, or else replacing workers would load the machine, so that
//! more are replaced. (A queue that waits for fresh workers while worn ones refuse tasks is where
//! Celery and CPython's executor deadlocked.) A worker and its replacement count once towards the
//! maximum; at most half the workers are being replaced at a time.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use pool_protocol::lane::Lane;
use pool_protocol::outcome::{Cause, Verdict};

use crate::Core;
use crate::action::Action;
use crate::place::WorkerPlace;
use crate::roster::{CREDIT_US, Manner, Recycle, Worker, WorkerState};
use crate::time::Time;
use crate::timers::TimerKey;

/// What a worker gets to exit, in milliseconds: a retired one once it holds no task, and one that
/// has said that it exits. Nobody waits for its place, and one that is killed earlier on a loaded
/// machine could not say what it ended of.
pub(crate) const RETIRE_GRACE_MS: u64 = 2_000;
/// A worker that is used up by its count of tiny tasks works at least so many times as long as the
/// fastest start of its lane took: so workers spend an eightieth of their time on starting, however
/// short the tasks are. (The fastest, since others were slowed by whatever else the machine did:
/// that is no cost of theirs.)
const EARNED_BY: u64 = 80;
/// But no longer than this, in microseconds: where even the fastest start took this share of it,
/// something was wrong.
const EARNED_AT_MOST_US: u64 = 5_000_000;
/// A successor has to make the contexts of all projects that the worker serves, of so many
/// microseconds each: they are part of what a start takes.
pub(crate) const CONTEXT_US: u64 = 300;
/// But not those of so many: with few projects a start is all that counts.
const FEW_PROJECTS: u32 = 16;
/// Whatever its tasks are, they have kept a worker busy for so many times as long as a start takes:
/// then starts take a tenth of the processors' time at most.
const USED_BY: u64 = 10;
/// A worker whose tasks have not done so in so many times the time that tiny ones get has little to
/// do, and its place is no burden.
const UNUSED_BY: u64 = 5;
/// So that workers of the same age are not replaced in step.
const TASKS_JITTER: f64 = 0.1;

impl Core {
    /// After how many tasks a new worker is replaced.
    pub(crate) fn tasks_limit(&mut self) -> u64 {
        match self.settings.max_tasks_per_worker {
            0 => u64::MAX,
            tasks => self.prng.vary(u64::from(tasks), TASKS_JITTER).max(1),
        }
    }

    /// When the worker has worked for so long that its start was worth it, if it ends no further
    /// task until then.
    fn earned_at(&self, worker: &Worker) -> Time {
        let by_start_us = self.pace[worker.lane]
            .fastest_start_us
            .saturating_mul(EARNED_BY)
            .min(EARNED_AT_MOST_US);
        let seats = self.roster.seats(worker.lane);
        let projects = worker.seat.map_or(0, |seat| seats.projects_at(seat));
        let projects = projects.saturating_sub(FEW_PROJECTS);
        let by_contexts_us =
            (u64::from(projects) * CONTEXT_US * EARNED_BY).min(2 * EARNED_AT_MOST_US);
        let by_start_us = by_start_us + by_contexts_us;
        if worker.used_us < by_start_us / (EARNED_BY / USED_BY) {
            return worker.ready_at.plus_us(by_start_us * UNUSED_BY);
        }
        let are_tiny = worker.used_us < worker.tasks_ended.saturating_mul(u64::from(CREDIT_US));
        worker.ready_at.plus_us(if are_tiny { by_start_us } else { 0 })
    }

    /// A worker has ended a task: is it used up, or one too many?
    pub(crate) fn after_task(&mut self, w: WorkerPlace, out: &mut Vec<Action>) {
        let worker = &self.roster[w];
        if !worker.is_ready() {
            return;
        }
        if self.roster.shedding(worker.lane) > 0 {
            self.retire_surplus(w, out);
        } else if worker.tasks_ended >= worker.tasks_limit {
            let earned_at = self.earned_at(worker);
            if earned_at <= self.timers.now() {
                self.roster.want_recycled(w, Recycle::Tasks);
            } else {
                self.timers.arm_no_later(TimerKey::Age(w), earned_at);
            }
        }
    }

    /// It may be time to replace the worker: for its age, or for the tasks that it had run before
    /// it had earned its start.
    pub(crate) fn on_age(&mut self, w: WorkerPlace) {
        let worker = &self.roster[w];
        if !worker.is_ready() {
            return;
        }
        let used_up_at = if worker.tasks_ended >= worker.tasks_limit {
            self.earned_at(worker)
        } else {
            Time::NEVER
        };
        let old_at = match self.settings.max_worker_age_ms {
            0 => Time::NEVER,
            age_ms => worker.ready_at.plus_ms(age_ms),
        };
        if used_up_at <= self.timers.now() {
            self.roster.want_recycled(w, Recycle::Tasks);
        } else if old_at <= self.timers.now() {
            self.roster.want_recycled(w, Recycle::Age);
        } else if used_up_at.min(old_at) != Time::NEVER {
            self.timers.arm(TimerKey::Age(w), used_up_at.min(old_at));
        }
    }

    pub(crate) fn on_recycle_workers(&mut self) {
        for w in self.roster.places() {
            self.roster.outdate(w);
        }
    }

    /// Starts replacements for workers that are to be replaced.
    pub(crate) fn start_replacements(&mut self, lane: Lane, out: &mut Vec<Action>) {
        let at_once = (self.roster.counts(lane).capacity() / 2).max(1);
        for w in self.roster.places() {
            let worker = &self.roster[w];
            let waits =
                matches!(worker.state, WorkerState::Ready { recycle: Some(_), replacement: None });
            if !waits || worker.lane != lane {
                continue;
            }
            if self.roster.counts(lane).replacing >= at_once
                || !self.may_spawn()
                || !self.take_start()
            {
                return;
            }
            self.spawn(lane, Some(w), out);
        }
    }

    /// The replacement of this worker is ready.
    pub(crate) fn retire_recycled(&mut self, w: WorkerPlace, out: &mut Vec<Action>) {
        let WorkerState::Ready { recycle, .. } = self.roster[w].state else { return };
        let evidence = self.recycle_evidence(w, recycle.unwrap_or(Recycle::Outdated));
        self.retire(w, Verdict { cause: Cause::Recycled, evidence }, true, out);
    }

    fn recycle_evidence(&self, w: WorkerPlace, why: Recycle) -> String {
        let worker = &self.roster[w];
        match why {
            Recycle::Tasks => format!("after {} tasks", worker.tasks_ended),
            Recycle::Memory => {
                format!(
                    "{} bytes resident, more than {}",
                    worker.rss_bytes, self.settings.max_memory_per_worker
                )
            }
            Recycle::Age => format!("after {} ms", self.timers.now().since(worker.ready_at) / 1000),
            Recycle::Outdated => "the settings changed".into(),
            Recycle::Tenant => "to serve another project, after its own".into(),
        }
    }

    /// Lets a worker go that is one too many.
    pub(crate) fn retire_surplus(&mut self, w: WorkerPlace, out: &mut Vec<Action>) {
        self.roster.shed_one(self.roster[w].lane);
        let evidence = "the pool needs fewer workers of its lane".into();
        self.retire(w, Verdict { cause: Cause::Idle, evidence }, false, out);
    }

    /// Lets a worker finish what it has started and exit.
    pub(crate) fn retire(
        &mut self,
        w: WorkerPlace,
        verdict: Verdict,
        replaced: bool,
        out: &mut Vec<Action>,
    ) {
        self.take_back(w, |_| true, out);
        let replaced = replaced || self.roster[w].is_paired();
        self.roster.leave(w, Manner::Retiring { replaced }, verdict);
        out.push(Action::Retire { worker: self.roster[w].id });
        self.after_change(w, out);
    }

    /// The worker said that it exits.
    pub(crate) fn expect_to_leave(&mut self, w: WorkerPlace) {
        self.timers.arm(TimerKey::Leave(w), self.timers.now().plus_ms(RETIRE_GRACE_MS));
    }

    pub(crate) fn on_leave_check(&mut self, w: WorkerPlace, out: &mut Vec<Action>) {
        let worker = &self.roster[w];
        let WorkerState::Leaving(leaving) = &worker.state else { return };
        match leaving.manner {
            Manner::Killed | Manner::OneTask => {}
            Manner::Spoiled => self.kill_leaving(w, leaving.verdict.clone(), out),
            Manner::Retiring { .. } => {
                if worker.held.is_empty() {
                    self.kill_leaving(w, leaving.verdict.clone(), out);
                }
            }
        }
    }

    fn kill_leaving(&mut self, w: WorkerPlace, verdict: Verdict, out: &mut Vec<Action>) {
        let evidence = format!("{}; it did not exit by itself", verdict.evidence);
        self.kill(w, Verdict { cause: verdict.cause, evidence }, out);
    }
}
