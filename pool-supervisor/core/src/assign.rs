//! Which waiting task goes to which worker.
//!
//! Tasks go out in the order of `queue`. A worker holds *credit*: tiny tasks behind the one that
//! runs, as many as are expected to end within 300 µs, so that none of them waits for a wake-up.
//! Tasks of unknown or longer run time go to idle workers only; if there is none, the first in line
//! waits and nobody passes it, or else a stream of tiny tasks would keep every worker from ever
//! being idle.
//!
//! The limit of a project bounds how many workers hold tasks of it, since each runs one at a time.
//! So a project at its limit may still be topped up where it runs: those flows are *near* a worker,
//! and compete with the first in line there.

use alloc::vec::Vec;

use crate::Core;
use crate::action::Action;
use crate::aside::Look;
use crate::crowd::{PATIENCE_US, Turn};
use crate::place::{ProjectPlace, TaskPlace, WorkerPlace};
use crate::queue::Rank;
use crate::recycle::CONTEXT_US;
use crate::settings::{Lane, Tenancy};
use crate::time::Time;
use crate::timers::TimerKey;
use crate::worker::CREDIT_US;

/// What an idle worker is needed for: a task that is not known to be tiny.
pub(crate) const LONG_US: u32 = 1_000_000;
/// What a project is charged in advance for a task of unknown run time, in microseconds.
const UNKNOWN_CHARGE_US: u32 = 1_000;

impl Core {
    /// Assigns tasks of the lane while there are workers for them.
    pub(crate) fn assign_from(&mut self, lane: Lane, out: &mut Vec<Action>) {
        match self.settings.tenancy {
            Tenancy::Shared => self.assign_shared(lane, out),
            Tenancy::Project => self.assign_by_project(lane, out),
            Tenancy::Task => self.assign_one_each(lane, out),
        }
    }

    /// Any worker serves anybody: the first in line is served while it finds one.
    fn assign_shared(&mut self, lane: Lane, out: &mut Vec<Action>) {
        self.note_crowd(lane);
        let mut near = self.near.filter(|w| self.workers[*w].lane == lane);
        loop {
            let first = self.lanes[lane].first();
            // Without a flow at its limit nobody need be looked for who could be near.
            let local = near
                .filter(|_| self.lanes[lane].at_limit > 0)
                .and_then(|w| self.first_near(w, lane).map(|rank| (w, rank)));
            if let Some((w, rank)) = local
                && first.is_none_or(|first| rank < first)
            {
                let (slot, cost_us) = self.next_of(rank, lane);
                if self.workers[w].has_room(cost_us) {
                    if self.assign_known(slot, rank, w, cost_us, out) == Look::Later {
                        return;
                    }
                    continue;
                }
                near = None;
            }
            let Some(rank) = first else { return };
            let is_crowd = self.lanes[lane].ready.is_crowd();
            let turn = if is_crowd { self.turn_in_crowd(lane, rank) } else { Turn::OfTheFirst };
            let (rank, slot, cost_us, w) = match turn {
                Turn::Of(rank, slot, cost_us, w) => (rank, slot, cost_us, w),
                Turn::OfTheFirst | Turn::Visit => {
                    let (slot, cost_us) = self.next_of(rank, lane);
                    let Some(w) = self.worker_of_lane(slot, lane, cost_us) else { return };
                    (rank, slot, cost_us, w)
                }
                Turn::Nobodys => {
                    self.timers.arm_no_later(TimerKey::Scale(lane), self.now.plus_us(PATIENCE_US));
                    return;
                }
            };
            match self.look_at_body(slot, out) {
                Look::Runs if turn == Turn::Visit => {
                    self.assign_visitor(slot, rank, w, cost_us, out)
                }
                Look::Runs => self.assign(slot, rank, w, cost_us, out),
                Look::Asked => {}
                Look::Later => return,
            }
        }
    }

    /// A task has come: if its project is at its limit, it may go where the project runs already.
    pub(crate) fn offer_to_holders(&mut self, slot: TaskPlace) {
        let (place, lane) = (self.tasks[slot].project, self.tasks[slot].lane);
        let project = &self.projects[place];
        if project.flows[lane].rank().is_some()
            || project.flows[lane].mean_us().is_none_or(|mean| mean > CREDIT_US)
        {
            return;
        }
        let open = |w: &WorkerPlace| self.workers[*w].lane == lane && self.workers[*w].is_open();
        self.near = project.holders.iter().copied().find(open);
    }

    /// The best flow among those at their limit that the worker holds tasks of.
    fn first_near(&self, w: WorkerPlace, lane: Lane) -> Option<Rank> {
        let worker = &self.workers[w];
        if !worker.is_open() {
            return None;
        }
        let flows = worker.shares.iter().map(|(project, _)| *project);
        flows.filter_map(|project| self.rank_at_limit(project, lane)).min()
    }

    /// Where a flow stands whose project is at its limit: it may be topped up where it runs.
    pub(crate) fn rank_at_limit(&self, place: ProjectPlace, lane: Lane) -> Option<Rank> {
        let project = &self.projects[place];
        // A limit of 0 pauses: nothing more starts, also where it runs.
        let at_limit = project.flows[lane].at_limit()
            && project.limit.is_none_or(|limit| project.holders.len() as u32 <= limit);
        if at_limit { self.rank_of(place, lane) } else { None }
    }

    /// The task that is next in a flow, and what it is expected to cost.
    pub(crate) fn next_of(&self, rank: Rank, lane: Lane) -> (TaskPlace, u32) {
        let (slot, _) = self.first_of(rank.project, lane).expect("a ranked flow has a task");
        let mean = self.projects[rank.project].flows[lane].mean_us();
        let alone = self.tasks[slot].solo || lane == Lane::Io;
        let cost = if alone { LONG_US } else { mean.unwrap_or(LONG_US).clamp(1, LONG_US) };
        (slot, cost)
    }

    /// The worker for the first in line, of all of the lane.
    fn worker_of_lane(&self, slot: TaskPlace, lane: Lane, cost_us: u32) -> Option<WorkerPlace> {
        let workers = &self.workers.lanes[lane];
        let (open, idle) = (workers.open.as_slice(), workers.idle.as_slice());
        let least = self.busy_or_idle(
            lane,
            cost_us,
            || self.least_loaded(open.iter().copied(), cost_us),
            || self.warm_or_first(slot, lane, idle.iter().copied(), |w| workers.idle.contains(w)),
        );
        self.home_if_worth_it(slot, lane, cost_us, least).or(least)
    }

    /// Where many projects are served, though few of them are in line: the worker with the warm
    /// context, unless its tasks take longer than another one takes to make that context.
    fn home_if_worth_it(
        &self,
        slot: TaskPlace,
        lane: Lane,
        cost_us: u32,
        least: Option<WorkerPlace>,
    ) -> Option<WorkerPlace> {
        let (task, seats) = (&self.tasks[slot], &self.workers.lanes[lane].seats);
        if cost_us > CREDIT_US || task.made_ahead || !seats.serve_many() {
            return None;
        }
        let home = seats.at(self.projects[task.project].flows[lane].seat?)?;
        let worker = &self.workers[home];
        let elsewhere_us = least.map_or(u64::MAX, |w| self.workers[w].load_us + CONTEXT_US);
        (worker.has_room(cost_us) && worker.load_us <= elsewhere_us).then_some(home)
    }

    /// Whether a task goes to a busy worker or an idle one, where there are both.
    ///
    /// An idle worker, unless as many run tiny tasks as there are processors and this is another
    /// tiny one: then a third process would be woken to wait for a processor, and hundreds of
    /// workers would each get one task at a time. So a tiny task goes behind others where there is
    /// room, and wakes somebody where there is none.
    pub(crate) fn busy_or_idle(
        &self,
        lane: Lane,
        cost_us: u32,
        busy: impl FnOnce() -> Option<WorkerPlace>,
        idle: impl FnOnce() -> Option<WorkerPlace>,
    ) -> Option<WorkerPlace> {
        let tiny = cost_us <= CREDIT_US;
        let busy = || if tiny { busy() } else { None };
        if tiny && self.workers.lanes[lane].brisk >= self.settings.processors {
            busy().or_else(idle)
        } else {
            idle().or_else(busy)
        }
    }

    /// Of these that run tasks, the one that will be done with them first.
    pub(crate) fn least_loaded(
        &self,
        open: impl Iterator<Item = WorkerPlace>,
        cost_us: u32,
    ) -> Option<WorkerPlace> {
        let with_room = open.filter(|w| self.workers[*w].has_room(cost_us));
        with_room.min_by_key(|w| (self.workers[*w].load_us, *w))
    }

    /// Of these that are idle, the one with warm contexts; for a task that wants what is made
    /// ahead, the one that has had most time to.
    pub(crate) fn warm_or_first(
        &self,
        slot: TaskPlace,
        lane: Lane,
        mut idle: impl Iterator<Item = WorkerPlace>,
        is_among: impl Fn(WorkerPlace) -> bool,
    ) -> Option<WorkerPlace> {
        let task = &self.tasks[slot];
        if task.made_ahead {
            return idle.min_by_key(|w| (self.workers[*w].idle_since, *w));
        }
        let seat = self.projects[task.project].flows[lane].seat;
        let warm = seat.and_then(|seat| self.workers.lanes[lane].seats.at(seat));
        warm.filter(|w| is_among(*w)).or_else(|| idle.next())
    }

    /// Assigns the task unless its body has to be looked at before.
    pub(crate) fn assign_known(
        &mut self,
        slot: TaskPlace,
        rank: Rank,
        w: WorkerPlace,
        cost_us: u32,
        out: &mut Vec<Action>,
    ) -> Look {
        let look = self.look_at_body(slot, out);
        if look == Look::Runs {
            self.assign(slot, rank, w, cost_us, out);
        }
        look
    }

    fn assign(
        &mut self,
        slot: TaskPlace,
        rank: Rank,
        w: WorkerPlace,
        cost_us: u32,
        out: &mut Vec<Action>,
    ) {
        self.sit(rank.project, self.tasks[slot].lane, self.workers[w].seat);
        self.assign_visitor(slot, rank, w, cost_us, out);
    }

    /// Assigns a task of a project whose seat is, and stays, somewhere else.
    fn assign_visitor(
        &mut self,
        slot: TaskPlace,
        rank: Rank,
        w: WorkerPlace,
        cost_us: u32,
        out: &mut Vec<Action>,
    ) {
        self.tasks[slot].checked = false;
        let lane = self.tasks[slot].lane;
        let mean = self.projects[rank.project].flows[lane].mean_us();
        self.take_first(slot, rank, mean.unwrap_or(UNKNOWN_CHARGE_US));
        self.uncount_waiting(slot);
        self.hand_over(slot, w, cost_us);
        self.rerank_after_use(rank.project, lane);

        let task = &self.tasks[slot];
        let timeout_ms = if task.deadline() == Time::NEVER {
            task.timeout_ms
        } else {
            task.timeout_ms.min(task.deadline().since(self.now).div_ceil(1000)).max(1)
        };
        out.push(Action::Assign {
            worker: self.workers[w].id,
            task: task.id,
            slot,
            attempt: task.attempts + 1,
            timeout_ms,
            cpu_ms: task.cpu_ms,
            memory_bytes: task.memory_bytes,
        });
        self.start_head(w, out);
    }

    /// Ranks a project anew after a worker took or let go of a task of it: the other lane's flow
    /// too if there is a limit, which both share.
    pub(crate) fn rerank_after_use(&mut self, project: ProjectPlace, lane: Lane) {
        self.rerank(project, lane);
        if self.projects[project].limit.is_some() {
            self.rerank(project, lane.other());
        }
    }

    pub(crate) fn on_set_limit(&mut self, name: &str, limit: Option<u32>, out: &mut Vec<Action>) {
        let project = match (self.projects.find(name), limit) {
            (Some(project), _) => project,
            (None, Some(_)) => self.make_project(name),
            // Nobody knows it, so there is nothing to lift.
            (None, None) => return,
        };
        if self.projects.set_limit(project, limit, &self.settings) {
            self.rerank_project(project);
            self.take_back_over_limit(project, out);
            if limit == Some(0) {
                self.end_what_cannot_run(out);
            }
        }
    }

    /// If more workers hold tasks of the project than its limit allows, takes back what has not
    /// been started.
    pub(crate) fn take_back_over_limit(&mut self, project: ProjectPlace, out: &mut Vec<Action>) {
        let holders = &self.projects[project].holders;
        if self.projects[project].limit.is_none_or(|limit| holders.len() as u32 <= limit) {
            return;
        }
        for w in holders.clone() {
            self.take_back(w, |task| task.project == project, out);
        }
    }
}
