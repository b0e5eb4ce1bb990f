//! Which waiting task goes to which worker.
//!
//! Tasks go out in the order of `queue`. A worker holds *credit*: tiny tasks behind the one that
//! runs, as many as are expected to end within 300 µs, so that none of them waits for a wake-up.
//! Tasks of unknown or longer run time go to idle workers only; if there is none, the first in line
//! waits and nobody passes it, or else a stream of tiny tasks would keep every worker from ever
//! being idle.
//!
//! The limit of a project bounds how many workers hold tasks of it, since each runs one at a time.
//! So a project at its limit may still be topped up where it runs: those flows are *topped up*,
//! and compete with the first in line there.

use alloc::vec::Vec;

use pool_protocol::lane::Lane;

use crate::Core;
use crate::action::Action;
use crate::crowd::{PATIENCE_US, Turn};
use crate::line::{Rank, Take};
use crate::place::{ProjectPlace, TaskPlace, WorkerPlace};
use crate::recycle::CONTEXT_US;
use crate::roster::CREDIT_US;
use crate::settings::Tenancy;
use crate::suspect::Look;
use crate::task::TaskState;
use crate::time::Time;
use crate::timers::TimerKey;

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
        self.line.note_crowd(lane);
        let mut topped_up = self.topped_up.filter(|w| self.roster[*w].lane == lane);
        loop {
            let first = self.line.first(lane);
            // Without a flow at its limit there is none to be topped up.
            let local = topped_up
                .filter(|_| self.line.at_limit(lane) > 0)
                .and_then(|w| self.first_topped_up(w, lane).map(|rank| (w, rank)));
            if let Some((w, rank)) = local
                && first.is_none_or(|first| rank < first)
            {
                let (slot, cost_us) = self.next_of(rank, lane);
                if self.roster[w].has_room(cost_us) {
                    if self.assign_known(slot, rank, w, cost_us, out) == Look::Later {
                        return;
                    }
                    continue;
                }
                topped_up = None;
            }
            let Some(rank) = first else { return };
            let is_crowd = self.line.is_crowd(lane);
            let turn = if is_crowd { self.turn_in_crowd(lane, rank) } else { Turn::OfTheFirst };
            let (rank, slot, cost_us, w) = match turn {
                Turn::Of(rank, slot, cost_us, w) => (rank, slot, cost_us, w),
                Turn::OfTheFirst | Turn::Visit => {
                    let (slot, cost_us) = self.next_of(rank, lane);
                    let Some(w) = self.worker_of_lane(slot, lane, cost_us) else { return };
                    (rank, slot, cost_us, w)
                }
                Turn::Nobodys => {
                    self.timers.arm_no_later(
                        TimerKey::Scale(lane),
                        self.timers.now().plus_us(PATIENCE_US),
                    );
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
    pub(crate) fn offer_top_up(&mut self, slot: TaskPlace) {
        let (place, lane) = (self.tasks[slot].project, self.tasks[slot].lane);
        let flow = &self.line[place].flows[lane];
        if flow.rank.is_some() || flow.mean_us.is_none_or(|mean| mean > CREDIT_US) {
            return;
        }
        let open = |w: &WorkerPlace| self.roster[*w].lane == lane && self.roster[*w].is_open();
        self.topped_up = self.roster.holders(place).iter().copied().find(open);
    }

    /// The best flow among those at their limit that the worker holds tasks of.
    fn first_topped_up(&self, w: WorkerPlace, lane: Lane) -> Option<Rank> {
        let worker = &self.roster[w];
        if !worker.is_open() {
            return None;
        }
        let flows = worker.shares.iter().map(|(project, _)| *project);
        let now = self.timers.now();
        flows.filter_map(|of| self.line.rank_at_limit(&self.tasks, now, of, lane)).min()
    }

    /// The task that is next in a flow, and what it is expected to cost.
    pub(crate) fn next_of(&self, rank: Rank, lane: Lane) -> (TaskPlace, u32) {
        let slot = self.line.first_of(&self.tasks, rank.project, lane);
        let slot = slot.expect("a ranked flow has a task");
        let mean = self.line[rank.project].flows[lane].mean_us;
        let alone = self.tasks[slot].solo || lane == Lane::Io;
        let cost = if alone { LONG_US } else { mean.unwrap_or(LONG_US).clamp(1, LONG_US) };
        (slot, cost)
    }

    /// The worker for the first in line, of all of the lane.
    fn worker_of_lane(&self, slot: TaskPlace, lane: Lane, cost_us: u32) -> Option<WorkerPlace> {
        let (open, idle) = (self.roster.open(lane), self.roster.idle(lane));
        let least = self.busy_or_idle(
            lane,
            cost_us,
            || self.least_loaded(open.iter().copied(), cost_us),
            || {
                let is_idle = |w: WorkerPlace| self.roster[w].is_idle();
                self.warm_or_first(slot, lane, idle.iter().copied(), is_idle)
            },
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
        let (task, seats) = (&self.tasks[slot], self.roster.seats(lane));
        if cost_us > CREDIT_US || task.made_ahead || !seats.serve_many() {
            return None;
        }
        let home = seats.at(self.line[task.project].flows[lane].seat?)?;
        let worker = &self.roster[home];
        let elsewhere_us = least.map_or(u64::MAX, |w| self.roster[w].load_us + CONTEXT_US);
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
        if tiny && self.roster.brisk(lane) >= self.settings.processors {
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
        let with_room = open.filter(|w| self.roster[*w].has_room(cost_us));
        with_room.min_by_key(|w| (self.roster[*w].load_us, *w))
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
            return idle.min_by_key(|w| (self.roster[*w].idle_since, *w));
        }
        let seat = self.line[task.project].flows[lane].seat;
        let warm = seat.and_then(|seat| self.roster.seats(lane).at(seat));
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
        let (lane, seat) = (self.tasks[slot].lane, self.roster[w].seat);
        self.line.sit(rank.project, lane, seat, &mut self.roster);
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
        let project = rank.project;
        let take = Take {
            rank,
            charge_us: self.line[project].flows[lane].mean_us.unwrap_or(UNKNOWN_CHARGE_US),
            may_pass: self.settings.tenancy == Tenancy::Project || self.line.is_crowd(lane),
            new_holder: !self.roster[w].holds_of(project),
        };
        self.line.take(&mut self.tasks, &mut self.timers, slot, take);
        self.tasks[slot].state = TaskState::Held { worker: self.roster[w].id, started: false };
        self.roster.hold(w, slot, project, cost_us, self.timers.now());

        let task = &self.tasks[slot];
        let timeout_ms = if task.deadline() == Time::NEVER {
            task.timeout_ms
        } else {
            task.timeout_ms.min(task.deadline().since(self.timers.now()).div_ceil(1000)).max(1)
        };
        out.push(Action::Assign {
            worker: self.roster[w].id,
            task: task.id,
            slot,
            attempt: task.attempts + 1,
            timeout_ms,
            cpu_ms: task.cpu_ms,
            memory_bytes: task.memory_bytes,
        });
        self.start_first(w, out);
    }

    pub(crate) fn on_set_limit(&mut self, name: &str, limit: Option<u32>, out: &mut Vec<Action>) {
        let project = match (self.line.find(name), limit) {
            (Some(project), _) => project,
            (None, Some(_)) => self.line.make(name, &self.settings, &mut self.roster),
            // Nobody knows it, so there is nothing to lift.
            (None, None) => return,
        };
        let (tasks, timers) = (&self.tasks, &mut self.timers);
        if self.line.set_limit(project, limit, &self.settings, tasks, timers) {
            self.take_back_over_limit(project, out);
            if limit == Some(0) {
                self.end_what_cannot_run(out);
            }
        }
    }

    /// If more workers hold tasks of the project than its limit allows, takes back what has not
    /// been started.
    pub(crate) fn take_back_over_limit(&mut self, project: ProjectPlace, out: &mut Vec<Action>) {
        let project_now = &self.line[project];
        if project_now.limit.is_none_or(|limit| project_now.holders <= limit) {
            return;
        }
        for w in self.roster.holders(project).to_vec() {
            self.take_back(w, |task| task.project == project, out);
        }
    }
}
