//! The line: projects, their waiting tasks, and whose turn it is.
//!
//! Each lane and project has a *flow*: one first-in-first-out list per priority, through the tasks
//! themselves, so that putting a task in and taking any task out cost the same however many wait. A
//! task's age raises its priority: effective = min(10, own + waited / ageing). Which task of a flow
//! comes first does not change with time, since all age alike: the one with the smallest
//! `enqueued - own * ageing`. So a flow's first task is one of at most eleven list heads.
//!
//! Between flows: the highest effective priority of a first task; inside a priority, start-time
//! fair queueing (Goyal, Vin, Cheng 1996): each flow has a virtual time per priority that grows by
//! the worker time it used over its weight, the smallest goes next, and one that comes back starts
//! where the others are, so that idleness earns no credit.
//!
//! A flow whose project is at its limit is not among the ready ones.
//!
//! Owns all of that, and the counts of what projects use and the lanes could run. Each verb leaves
//! every flow at its rank. It must not know which worker does what, but for how many hold tasks of
//! a project, and at which seat one is served.

mod flow;
mod project;
mod questions;
mod ready;
mod usage;

use core::ops::Index;

use pool_protocol::lane::Lane;
use pool_protocol::limits::MAX_PRIORITY;

use crate::list::Link;
use crate::per_lane::PerLane;
use crate::place::{ProjectPlace, TaskPlace};
use crate::task::Tasks;
use crate::time::Time;
use crate::timers::{TimerKey, Timers};

pub(crate) use flow::{Flow, Rank};
use flow::{LEVELS, virtual_cost};
pub(crate) use project::Project;
use project::Projects;
use ready::Ready;

/// A task that goes back to its list looks at this many of those before it for its old place.
/// Enough for what all workers together give back; a mass of retries is queued roughly, but in
/// constant time each.
const SORTED_STEPS: u32 = 64;

/// One lane's ready flows, and how many tasks it has.
#[derive(Default, Debug)]
struct Queue {
    ready: Ready,
    /// Per priority: the virtual time at which the last task was chosen.
    served: [u64; LEVELS],
    /// Waiting tasks that a worker could take now, limits considered.
    runnable: u32,
    /// Tasks that workers hold.
    held: u32,
    /// Flows with waiting tasks that are not ready, for their projects are at their limits.
    at_limit: u32,
}

/// How a task is taken out of the line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Take {
    /// The rank of its flow.
    pub(crate) rank: Rank,
    /// What the flow is charged in advance, in microseconds.
    pub(crate) charge_us: u32,
    /// Others may have been passed by, from whom it must not take what they have waited for.
    pub(crate) may_pass: bool,
    /// The worker that gets it holds no other task of its project.
    pub(crate) new_holder: bool,
}

/// All projects and what waits.
#[derive(Debug)]
pub(crate) struct Line {
    projects: Projects,
    lanes: PerLane<Queue>,
    /// Waiting this long counts as one more step of priority, in microseconds.
    ageing_us: i64,
    /// Tasks that wait, over all projects.
    waiting: u32,
    /// Tasks that run.
    running: u32,
    /// Bytes of the bodies of all tasks that have not ended.
    held_bytes: u64,
}

/// Tasks come, go to a worker, and leave.
impl Line {
    /// Puts a task at the end of its list; it begins to wait now.
    pub(crate) fn enqueue(&mut self, tasks: &mut Tasks, timers: &mut Timers, slot: TaskPlace) {
        tasks[slot].enqueued = timers.now();
        let task = &tasks[slot];
        let link = self.projects[task.project].flows[task.lane].end_of(usize::from(task.priority));
        self.insert(tasks, timers, slot, link);
    }

    /// Puts a task back where it was: before all that came after it.
    pub(crate) fn enqueue_again(
        &mut self,
        tasks: &mut Tasks,
        timers: &mut Timers,
        slot: TaskPlace,
    ) {
        let task = &tasks[slot];
        let mine = (task.enqueued, task.id);
        let flow = &self.projects[task.project].flows[task.lane];
        let mut link = flow.start_of(usize::from(task.priority));
        for _ in 0..SORTED_STEPS {
            let Some(next) = link.next else { break };
            if (tasks[next].enqueued, tasks[next].id) > mine {
                break;
            }
            link = Link { prev: Some(next), next: tasks.next_in_list(next) };
        }
        self.insert(tasks, timers, slot, link);
    }

    fn insert(
        &mut self,
        tasks: &mut Tasks,
        timers: &mut Timers,
        slot: TaskPlace,
        link: Link<TaskPlace>,
    ) {
        let (project, lane) = (tasks[slot].project, tasks[slot].lane);
        let flow = &mut self.projects[project].flows[lane];
        flow.insert(tasks, slot, link);
        if link.prev.is_some() && flow.rank.is_some() {
            // It is not the first of its list: nothing that the flow's rank is made of has changed.
            self.recount(project, lane);
        } else {
            self.rerank(tasks, timers, project, lane);
        }
    }

    /// Takes a waiting task out of its list.
    pub(crate) fn remove(&mut self, tasks: &mut Tasks, timers: &mut Timers, slot: TaskPlace) {
        let (project, lane) = (tasks[slot].project, tasks[slot].lane);
        self.projects[project].flows[lane].remove(tasks, slot);
        self.rerank(tasks, timers, project, lane);
    }

    /// Takes the first task of a flow out for a worker, and charges the flow for it in advance.
    pub(crate) fn take(
        &mut self,
        tasks: &mut Tasks,
        timers: &mut Timers,
        slot: TaskPlace,
        take: Take,
    ) {
        let Take { rank, charge_us, may_pass, new_holder } = take;
        let (place, lane) = (rank.project, tasks[slot].lane);
        let level = usize::from(rank.level());
        let queue = &mut self.lanes[lane];
        let least = if may_pass { queue.ready.least_at(rank) } else { None };
        let reached = least.map_or(rank.virtual_time(), |least| least.min(rank.virtual_time()));
        let served = &mut queue.served[level];
        *served = (*served).max(reached);
        queue.held += 1;
        self.waiting -= 1;
        let project = &mut self.projects[place];
        let cost = virtual_cost(u64::from(charge_us), project.weight);
        let flow = &mut project.flows[lane];
        flow.remove(tasks, slot);
        flow.virtual_time[level] = rank.virtual_time().saturating_add(cost);
        project.waiting -= 1;
        project.held += 1;
        project.holders += u32::from(new_holder);
        let task = &mut tasks[slot];
        task.level = rank.level();
        task.charged_us = charge_us;
        self.rerank_after_use(tasks, timers, place, lane);
    }

    /// A worker has let go of a task: whether it ran, and whether the worker holds no other one of
    /// its project. `used_us`: what it has used, in place of what was charged in advance.
    pub(crate) fn release(
        &mut self,
        tasks: &mut Tasks,
        timers: &mut Timers,
        slot: TaskPlace,
        (ran, was_last): (bool, bool),
        used_us: u64,
    ) {
        let (place, lane) = (tasks[slot].project, tasks[slot].lane);
        self.lanes[lane].held -= 1;
        self.running -= u32::from(ran);
        let project = &mut self.projects[place];
        project.held -= 1;
        project.running -= u32::from(ran);
        project.holders -= u32::from(was_last);
        self.settle_charge(tasks, slot, used_us);
        self.rerank_after_use(tasks, timers, place, lane);
    }

    /// Learns how long tasks of this one's like run.
    pub(crate) fn learn(&mut self, project: ProjectPlace, lane: Lane, busy_us: u64) {
        self.projects[project].flows[lane].learn(busy_us);
    }

    /// Replaces what the flow was charged for a task in advance by what the task used.
    fn settle_charge(&mut self, tasks: &mut Tasks, slot: TaskPlace, used_us: u64) {
        let task = &mut tasks[slot];
        let charged = u64::from(core::mem::take(&mut task.charged_us));
        let project = &mut self.projects[task.project];
        let time = &mut project.flows[task.lane].virtual_time[usize::from(task.level)];
        *time = if used_us >= charged {
            time.saturating_add(virtual_cost(used_us - charged, project.weight))
        } else {
            time.saturating_sub(virtual_cost(charged - used_us, project.weight))
        };
    }
}

/// What follows from a change.
impl Line {
    /// The first waiting task of a flow may have aged into the next priority.
    pub(crate) fn on_ageing(
        &mut self,
        tasks: &Tasks,
        timers: &mut Timers,
        lane: Lane,
        project: ProjectPlace,
    ) {
        // A forgotten project's timer may still come: there is nothing to rank then, or another
        // project has the place.
        if self.projects.exists(project) {
            self.rerank(tasks, timers, project, lane);
        }
    }

    /// A project's limit, weight or use of workers has changed.
    fn rerank_both(&mut self, tasks: &Tasks, timers: &mut Timers, project: ProjectPlace) {
        for lane in Lane::ALL {
            self.rerank(tasks, timers, project, lane);
        }
    }

    /// A worker took or let go of a task: the other lane's flow is ranked too if there is a limit,
    /// which both share.
    fn rerank_after_use(
        &mut self,
        tasks: &Tasks,
        timers: &mut Timers,
        project: ProjectPlace,
        lane: Lane,
    ) {
        self.rerank(tasks, timers, project, lane);
        if self.projects[project].limit.is_some() {
            self.rerank(tasks, timers, project, lane.other());
        }
    }

    /// Puts the flow where it belongs among the ready ones of its lane, after anything about it has
    /// changed.
    fn rerank(&mut self, tasks: &Tasks, timers: &mut Timers, project: ProjectPlace, lane: Lane) {
        let allowance = self.projects[project].allowance();
        let first = if allowance == 0 { None } else { self.first_with_key(tasks, project, lane) };
        let rank = first.map(|(_, key)| self.rank_with(timers.now(), project, lane, key));
        let flow = &mut self.projects[project].flows[lane];
        if flow.rank != rank {
            let ready = &mut self.lanes[lane].ready;
            if let Some(old) = flow.rank {
                ready.remove(old, flow.seat);
            }
            if let Some(new) = rank {
                ready.insert(new, flow.seat);
                flow.virtual_time[usize::from(new.level())] = new.virtual_time();
            }
            flow.rank = rank;
        }
        self.recount(project, lane);
        if let (Some((_, key)), Some(rank)) = (first, rank)
            && rank.level() < MAX_PRIORITY
        {
            let steps = i64::from(rank.level()) + 1;
            let at = key.saturating_add(steps.saturating_mul(self.ageing_us));
            timers.arm_no_later(TimerKey::Ageing(lane, project), Time(at.max(0) as u64));
        }
    }

    /// Counts anew how many of the flow's tasks could be taken now, or whether they wait for a
    /// limit.
    fn recount(&mut self, project: ProjectPlace, lane: Lane) {
        let allowance = self.projects[project].allowance();
        let flow = &mut self.projects[project].flows[lane];
        let counted = if flow.rank.is_some() { flow.queued.min(allowance) } else { 0 };
        let queue = &mut self.lanes[lane];
        queue.runnable = queue.runnable + counted - flow.counted;
        flow.counted = counted;
        let at_limit = flow.rank.is_none() && flow.queued > 0;
        queue.at_limit = queue.at_limit + u32::from(at_limit) - u32::from(flow.at_limit);
        flow.at_limit = at_limit;
    }
}

impl Index<ProjectPlace> for Line {
    type Output = Project;

    fn index(&self, place: ProjectPlace) -> &Project {
        &self.projects[place]
    }
}
