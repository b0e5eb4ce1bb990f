//! What may share a worker, and what follows from it for who gets which.
//!
//! *Shared*: everything; then nothing here decides.
//!
//! *Project*: a worker is bound to the project of its first task for life. The first in line gets a
//! worker of its own project or an unbound one. If there is none, the others go on where they are
//! bound, and a *place* is made: a worker more if there is room, else one is replaced, the
//! replacement ready first. Whose? One that has nothing to do, at once. One that has, only by these
//! rules, or else workers would do nothing but start: the waiting task has a higher priority; or
//! the other project has so many workers more that giving one away leaves it no worse off than the
//! one that waits; or the waiting one has none, and the other has had its worker for a quarter of a
//! second. A running task is never disturbed: a worker is judged when it is between two tasks, or
//! runs tiny ones.
//!
//! *Task*: a worker is given one task and leaves after it. Those that run their task stand beside
//! the fresh ones: a lane has as many fresh workers as it wants, ready or starting, and as many
//! tasks at most run at a time. So the next worker is there when a task ends, for the price of up
//! to twice as many processes.

use alloc::vec::Vec;

use pool_protocol::lane::Lane;
use pool_protocol::outcome::{Cause, Verdict};

use crate::Core;
use crate::action::{Action, PoolEvent};
use crate::assign::LONG_US;
use crate::line::Rank;
use crate::place::{ProjectPlace, TaskPlace, WorkerPlace};
use crate::roster::{Manner, Recycle, Served, Worker, WorkerState};
use crate::settings::Tenancy;
use crate::suspect::Look;
use crate::time::Time;
use crate::timers::TimerKey;

/// How long a project keeps a worker, in milliseconds, when another one of the same priority has
/// none: a start costs a twentieth of that.
const TURN_MS: u64 = 250;
/// What runs no longer than this, in microseconds, may go on while the replacement starts: a start
/// takes about as long.
const SHORT_US: u32 = 10_000;
/// Waiting projects that are looked at for places in one go. They are served in their order, so the
/// rest can wait.
const MOST_LOOKED_AT: usize = 64;

/// A worker that may be replaced for another project's sake; the greatest goes first.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
enum Claim {
    /// Its project has had it for long enough: since when, the earlier the better.
    Turn(i64),
    /// Its project has this many workers more, weighed, than the one that waits.
    Share(f64),
    /// It works for a lower priority: how much lower.
    Priority(u8),
    /// It has nothing to do: since when, the earlier the better.
    Idle(i64),
}

impl Core {
    /// New settings are in force: workers that may serve nobody under them leave.
    pub(crate) fn evict(&mut self, out: &mut Vec<Action>) {
        let tenancy = self.settings.tenancy;
        for w in self.roster.places() {
            let worker = &self.roster[w];
            let may_serve = match tenancy {
                Tenancy::Shared => true,
                Tenancy::Project => worker.served != Served::Several,
                Tenancy::Task => worker.served == Served::Nobody,
            };
            if worker.is_ready() && !may_serve {
                let evidence = "it has served more than the new tenancy allows".into();
                self.retire(w, Verdict { cause: Cause::Recycled, evidence }, true, out);
            }
        }
    }

    /// How many processes may live for each one that the pool may have, those that are going
    /// included.
    pub(crate) const fn most_per_place(&self) -> u32 {
        match self.settings.tenancy {
            Tenancy::Shared | Tenancy::Project => 2,
            // One that runs its task, one that is ready for the next, one that is on its way out.
            Tenancy::Task => 3,
        }
    }

    /// Whether the lane could do with a worker fewer and lose nothing by it now.
    pub(crate) fn has_idle_place(&self, lane: Lane) -> bool {
        let idle = !self.roster.idle(lane).is_empty();
        match self.settings.tenancy {
            Tenancy::Shared | Tenancy::Project => idle,
            // The idle ones stand beside those at work.
            Tenancy::Task => idle && self.line.held(lane) < self.pace[lane].want,
        }
    }

    /// Whether there is room for tasks since they were last assigned: more workers are wanted, or
    /// one stays that was to go.
    pub(crate) fn has_new_places(&self) -> bool {
        match self.settings.tenancy {
            Tenancy::Shared => false,
            Tenancy::Project => Lane::ALL.into_iter().any(|lane| self.best_at_home(lane).is_some()),
            Tenancy::Task => Lane::ALL
                .into_iter()
                .any(|lane| self.line.first(lane).is_some() && self.next_fresh(lane).is_some()),
        }
    }

    /// A fresh worker, if one more task of the lane may run.
    pub(crate) fn next_fresh(&self, lane: Lane) -> Option<WorkerPlace> {
        let held = |lane| self.line.held(lane);
        let may_run = held(lane) < self.pace[lane].want
            && held(lane) + held(lane.other()) < self.settings.max_workers;
        if may_run { self.roster.idle(lane).first().copied() } else { None }
    }

    /// Tenancy `task`: each task to a worker of its own.
    pub(crate) fn assign_one_each(&mut self, lane: Lane, out: &mut Vec<Action>) {
        while let Some(rank) = self.line.first(lane) {
            let Some(w) = self.next_fresh(lane) else { return };
            let (slot, _) = self.next_of(rank, lane);
            match self.assign_known(slot, rank, w, LONG_US, out) {
                Look::Runs => {}
                Look::Asked => continue,
                Look::Later => return,
            }
            let verdict = Verdict { cause: Cause::Recycled, evidence: "after its one task".into() };
            self.roster.leave(w, Manner::OneTask, verdict);
        }
    }

    /// A worker has let go of its only task.
    pub(crate) fn dismiss(&mut self, w: WorkerPlace, out: &mut Vec<Action>) {
        let verdict = Verdict { cause: Cause::Recycled, evidence: "after its one task".into() };
        self.retire(w, verdict, true, out);
    }

    /// Tenancy `project`: tasks to workers of their own project or of none.
    pub(crate) fn assign_by_project(&mut self, lane: Lane, out: &mut Vec<Action>) {
        loop {
            if let Some(rank) = self.line.first(lane) {
                let (slot, cost_us) = self.next_of(rank, lane);
                if let Some(w) = self.worker_of_project(rank.project, slot, lane, cost_us) {
                    if self.assign_known(slot, rank, w, cost_us, out) == Look::Later {
                        return;
                    }
                    continue;
                }
                self.make_places(lane, out);
            }
            // The first in line cannot use the others' workers: those go on until one is replaced
            // for it.
            let Some((rank, w)) = self.best_at_home(lane) else { return };
            let (slot, cost_us) = self.next_of(rank, lane);
            if self.assign_known(slot, rank, w, cost_us, out) == Look::Later {
                return;
            }
        }
    }

    /// A worker that takes this task of the project: one of its own, an unbound one where its own
    /// are busy. Looks at the project's own workers only.
    fn worker_of_project(
        &self,
        project: ProjectPlace,
        slot: TaskPlace,
        lane: Lane,
        cost_us: u32,
    ) -> Option<WorkerPlace> {
        let homes = self.roster.homes(project, lane).workers();
        let unbound = self.roster.unbound(lane);
        let takes = |w: WorkerPlace, idle: bool| {
            let worker = &self.roster[w];
            worker.held.is_empty() == idle && worker.has_room(cost_us) && self.is_fed(w, cost_us)
        };
        let is_idle =
            |w: WorkerPlace| takes(w, true) && self.roster[w].served == Served::One(project);
        self.busy_or_idle(
            lane,
            cost_us,
            || self.least_loaded(homes.iter().copied().filter(|w| takes(*w, false)), cost_us),
            || {
                let own = homes.iter().copied().filter(|w| is_idle(*w));
                let own = self.warm_or_first(slot, lane, own, is_idle);
                own.or_else(|| self.warm_or_first(slot, lane, unbound.iter().copied(), |_| false))
            },
        )
    }

    /// Whether a worker of the task's own project is given it: not if it is about to be replaced
    /// for another project's sake and the task would keep it beyond that.
    fn is_fed(&self, w: WorkerPlace, cost_us: u32) -> bool {
        match self.roster[w].state {
            WorkerState::Ready { recycle: Some(Recycle::Tenant), replacement } => {
                cost_us <= SHORT_US || (replacement.is_none() && !self.may_spawn())
            }
            WorkerState::Ready { .. } => true,
            WorkerState::Spawning { .. } | WorkerState::Leaving(_) => false,
        }
    }

    /// The best flow among those that have room on a worker of their own, with that worker.
    pub(crate) fn best_at_home(&self, lane: Lane) -> Option<(Rank, WorkerPlace)> {
        let now = self.timers.now();
        let of_lane = self.roster.of_lane(lane).filter(|(_, worker)| worker.is_ready());
        let homes = of_lane.filter_map(|(w, worker)| {
            let Served::One(project) = worker.served else { return None };
            let ranked = self.line[project].flows[lane].rank;
            let rank = if worker.held.is_empty() {
                ranked?
            } else {
                ranked.or_else(|| self.line.rank_at_limit(&self.tasks, now, project, lane))?
            };
            let (_, cost_us) = self.next_of(rank, lane);
            (worker.has_room(cost_us) && self.is_fed(w, cost_us)).then_some((rank, w))
        });
        homes.min()
    }

    /// Sees to workers for projects that wait and have none to go to.
    fn make_places(&mut self, lane: Lane, out: &mut Vec<Action>) {
        if !self.runs_tasks() {
            return;
        }
        let mut coming = self.unbound_to_come(lane);
        let waiting: Vec<Rank> =
            self.line.ready(lane).iter().take(MOST_LOOKED_AT).copied().collect();
        // No weight up to this one has a claim to anything.
        let mut in_vain = 0.0;
        for rank in waiting {
            let (slot, cost_us) = self.next_of(rank, lane);
            if self.worker_of_project(rank.project, slot, lane, cost_us).is_some() {
                continue;
            }
            // An unbound worker goes to who is first in line when it is ready.
            if coming > 0 {
                coming -= 1;
            } else if !self.has_tenant(rank.project, lane) && self.has_room_to_grow(lane) {
                self.pace[lane].want += 1;
                self.roster.look_again();
                out.push(Action::Emit(PoolEvent::ScaledUp { workers: 1 }));
            } else if self.line[rank.project].weight <= in_vain {
                // Whoever stands behind one that has no worker and can claim none, and weighs no
                // more, can claim none either.
            } else if let Some(w) = self.worker_to_replace(rank, lane) {
                self.roster.want_recycled(w, Recycle::Tenant);
            } else if !self.has_tenant(rank.project, lane) {
                in_vain = self.line[rank.project].weight;
            }
        }
    }

    /// Workers of the lane that are being started or about to be: each can serve anybody.
    fn unbound_to_come(&self, lane: Lane) -> u32 {
        let (mut standing, mut coming) = (0, 0);
        for (_, worker) in self.roster.of_lane(lane) {
            match worker.state {
                WorkerState::Spawning { replaces } => {
                    coming += 1;
                    standing += u32::from(replaces.is_none());
                }
                WorkerState::Ready { recycle, replacement } => {
                    coming += u32::from(recycle.is_some() && replacement.is_none());
                    standing += 1;
                }
                WorkerState::Leaving(_) => {}
            }
        }
        coming + self.pace[lane].want.saturating_sub(standing)
    }

    fn has_room_to_grow(&self, lane: Lane) -> bool {
        self.pace[lane].want < self.ceiling() && self.wanted() < self.settings.max_workers
    }

    /// How many of the project's workers in the lane stay.
    fn tenants(&self, project: ProjectPlace, lane: Lane) -> u32 {
        self.roster.homes(project, lane).staying()
    }

    fn has_tenant(&self, project: ProjectPlace, lane: Lane) -> bool {
        self.tenants(project, lane) > 0
    }

    /// The worker of another project that this flow has the best claim to, if any.
    fn worker_to_replace(&mut self, rank: Rank, lane: Lane) -> Option<WorkerPlace> {
        let mut best: Option<(Claim, WorkerPlace)> = None;
        let mut turn_over = Time::NEVER;
        let own = self.tenants(rank.project, lane);
        for (w, worker) in self.roster.of_lane(lane) {
            let free =
                matches!(worker.state, WorkerState::Ready { recycle: None, replacement: None });
            let Served::One(project) = worker.served else { continue };
            if !free || project == rank.project {
                continue;
            }
            match self.claim(rank, own, project, worker) {
                Some(Claim::Turn(_)) if worker.bound_at.plus_ms(TURN_MS) > self.timers.now() => {
                    turn_over = turn_over.min(worker.bound_at.plus_ms(TURN_MS));
                }
                Some(claim) if best.is_none_or(|(most, _)| claim > most) => best = Some((claim, w)),
                Some(_) | None => {}
            }
        }
        if best.is_none() && turn_over != Time::NEVER {
            self.timers.arm_no_later(TimerKey::Scale(lane), turn_over);
        }
        best.map(|(_, w)| w)
    }

    /// By what right the flow, whose project has `own` workers, may have this one of another
    /// project's.
    fn claim(&self, rank: Rank, own: u32, project: ProjectPlace, worker: &Worker) -> Option<Claim> {
        let lane = worker.lane;
        let flow = &self.line[project].flows[lane];
        let level = match (worker.held.front(), flow.rank) {
            (None, None) => return Some(Claim::Idle(-(worker.idle_since.0 as i64))),
            (None, Some(next)) => next.level(),
            (Some(head), _) if flow.mean_us.is_some_and(|mean| mean <= SHORT_US) => {
                self.tasks[head.task].level
            }
            // It is judged again when its task has ended.
            (Some(_), _) => return None,
        };
        if rank.level() != level {
            return rank.level().checked_sub(level).map(Claim::Priority);
        }
        let theirs = f64::from(self.tenants(project, lane)) / self.line[project].weight;
        let ours = f64::from(own + 1) / self.line[rank.project].weight;
        if theirs > ours {
            return Some(Claim::Share(theirs - ours));
        }
        (own == 0).then(|| Claim::Turn(-(worker.bound_at.0 as i64)))
    }
}
