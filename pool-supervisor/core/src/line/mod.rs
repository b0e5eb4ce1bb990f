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
mod ready;

use alloc::collections::BTreeSet;
use core::ops::Index;

use pool_protocol::limits::MAX_PRIORITY;

use crate::list::Link;
use crate::per_lane::PerLane;
use crate::place::{ProjectPlace, SeatPlace, TaskPlace};
use crate::roster::Roster;
use crate::seeds::KeyedHash;
use crate::settings::Settings;
use crate::task::Tasks;
use crate::time::Time;
use crate::timers::{TimerKey, Timers};
use pool_protocol::lane::Lane;

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

/// Questions.
impl Line {
    /// Tasks that wait.
    pub(crate) const fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Tasks that run.
    pub(crate) const fn running(&self) -> u32 {
        self.running
    }

    /// Bytes of the bodies of all tasks that have not ended.
    pub(crate) const fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    pub(crate) fn find(&self, name: &str) -> Option<ProjectPlace> {
        self.projects.find(name)
    }

    /// As `find`, for whoever often asks for the same one as before: that one is found without a
    /// hash.
    pub(crate) fn find_again(&mut self, name: &str) -> Option<ProjectPlace> {
        self.projects.find_again(name)
    }

    /// All projects, in the order of their places.
    pub(crate) fn projects(&self) -> impl Iterator<Item = (ProjectPlace, &Project)> {
        self.projects.iter()
    }

    /// Whether one more project may have a limit set by hand, or this one has one already.
    pub(crate) fn has_room_for_limit(&self, name: &str) -> bool {
        self.projects.has_room_for_limit(name)
    }

    /// Waiting tasks that a worker could take now, limits considered.
    pub(crate) fn runnable(&self, lane: Lane) -> u32 {
        self.lanes[lane].runnable
    }

    /// Tasks that workers hold.
    pub(crate) fn held(&self, lane: Lane) -> u32 {
        self.lanes[lane].held
    }

    /// Flows with waiting tasks that are not ready, for their projects are at their limits.
    pub(crate) fn at_limit(&self, lane: Lane) -> u32 {
        self.lanes[lane].at_limit
    }

    /// The ready flow whose turn it is.
    pub(crate) fn first(&self, lane: Lane) -> Option<Rank> {
        self.lanes[lane].ready.all().first().copied()
    }

    /// The ready flows, in their order.
    pub(crate) fn ready(&self, lane: Lane) -> &BTreeSet<Rank> {
        self.lanes[lane].ready.all()
    }

    /// Whether there are so many ready flows that they are kept by seat.
    pub(crate) fn is_crowd(&self, lane: Lane) -> bool {
        self.lanes[lane].ready.is_crowd()
    }

    /// In a crowd: the first of those that are served at this seat.
    pub(crate) fn first_at(&self, lane: Lane, seat: SeatPlace) -> Option<Rank> {
        self.lanes[lane].ready.first_at(seat)
    }

    /// The order inside a flow: smaller is earlier, whatever the time.
    fn static_key(&self, tasks: &Tasks, slot: TaskPlace) -> i64 {
        let task = &tasks[slot];
        task.enqueued.0 as i64 - i64::from(task.priority) * self.ageing_us
    }

    /// The first task of a flow and its key.
    fn first_with_key(
        &self,
        tasks: &Tasks,
        project: ProjectPlace,
        lane: Lane,
    ) -> Option<(TaskPlace, i64)> {
        let flow = &self.projects[project].flows[lane];
        if let Some(slot) = flow.only_list() {
            // The usual case, without comparing.
            return Some((slot, self.static_key(tasks, slot)));
        }
        flow.heads()
            .map(|slot| (slot, self.static_key(tasks, slot)))
            .min_by_key(|(slot, key)| (*key, tasks[*slot].id))
    }

    /// The first task of a flow.
    pub(crate) fn first_of(
        &self,
        tasks: &Tasks,
        project: ProjectPlace,
        lane: Lane,
    ) -> Option<TaskPlace> {
        self.first_with_key(tasks, project, lane).map(|(slot, _)| slot)
    }

    fn level_of(&self, now: Time, key: i64) -> u8 {
        let steps = (now.0 as i64 - key).max(0) / self.ageing_us;
        u8::try_from(steps).map_or(MAX_PRIORITY, |level| level.min(MAX_PRIORITY))
    }

    /// Where the flow would stand among the ready ones, were it not for its project's limit.
    pub(crate) fn rank_of(
        &self,
        tasks: &Tasks,
        now: Time,
        project: ProjectPlace,
        lane: Lane,
    ) -> Option<Rank> {
        let (_, key) = self.first_with_key(tasks, project, lane)?;
        Some(self.rank_with(now, project, lane, key))
    }

    /// Where a flow stands whose project is at its limit: it may be topped up where it runs.
    pub(crate) fn rank_at_limit(
        &self,
        tasks: &Tasks,
        now: Time,
        place: ProjectPlace,
        lane: Lane,
    ) -> Option<Rank> {
        let project = &self.projects[place];
        // A limit of 0 pauses: nothing more starts, also where it runs.
        let at_limit = project.flows[lane].at_limit
            && project.limit.is_none_or(|limit| project.holders <= limit);
        if at_limit { self.rank_of(tasks, now, place, lane) } else { None }
    }

    /// Whether the ready flows of a lane are found by their seats.
    pub(crate) fn is_consistent(&self, lane: Lane) -> bool {
        self.lanes[lane].ready.is_consistent(|project| self.projects[project].flows[lane].seat)
    }

    fn rank_with(&self, now: Time, project: ProjectPlace, lane: Lane, key: i64) -> Rank {
        let level = self.level_of(now, key);
        let flow = &self.projects[project].flows[lane];
        // Start where the others are: time in which it wanted nothing here earns no credit.
        let virtual_time =
            flow.virtual_time[level as usize].max(self.lanes[lane].served[level as usize]);
        Rank::new(level, virtual_time, project)
    }
}

/// Projects and their settings.
impl Line {
    pub(crate) fn new(hash: KeyedHash, settings: &Settings) -> Self {
        let mut line = Self {
            projects: Projects::new(hash),
            lanes: PerLane::default(),
            ageing_us: 1,
            waiting: 0,
            running: 0,
            held_bytes: 0,
        };
        line.take_settings(settings);
        line
    }

    fn take_settings(&mut self, settings: &Settings) {
        self.projects.configure(settings);
        let ageing_us = settings.priority_ageing_ms.max(1).saturating_mul(1000);
        self.ageing_us = i64::try_from(ageing_us).unwrap_or(i64::MAX / 64);
    }

    /// Puts new settings in force for all projects.
    pub(crate) fn configure(&mut self, settings: &Settings, tasks: &Tasks, timers: &mut Timers) {
        self.take_settings(settings);
        let places: alloc::vec::Vec<ProjectPlace> =
            self.projects.iter().map(|(place, _)| place).collect();
        for place in places {
            self.rerank_both(tasks, timers, place);
        }
    }

    /// A place for a project that is new here. Others may be forgotten for it, and leave their
    /// seats.
    pub(crate) fn make(
        &mut self,
        name: &str,
        settings: &Settings,
        roster: &mut Roster,
    ) -> ProjectPlace {
        if self.projects.are_too_many() {
            for (lane, seat) in self.projects.sweep(|place| roster.tenants(place) > 0) {
                roster.change_seat(lane, Some(seat), None);
            }
        }
        self.projects.make(name, settings)
    }

    /// Sets a limit by hand, or lifts it: then what the configuration says holds again. False: too
    /// many projects have one.
    pub(crate) fn set_limit(
        &mut self,
        place: ProjectPlace,
        limit: Option<u32>,
        settings: &Settings,
        tasks: &Tasks,
        timers: &mut Timers,
    ) -> bool {
        let was_set = self.projects.set_limit(place, limit, settings);
        if was_set {
            self.rerank_both(tasks, timers, place);
        }
        was_set
    }

    /// A task has been accepted.
    pub(crate) fn count_accepted(&mut self, project: ProjectPlace, body_bytes: u32) {
        self.held_bytes += u64::from(body_bytes);
        self.projects[project].held_bytes += u64::from(body_bytes);
    }

    /// A task has ended.
    pub(crate) fn count_ended(&mut self, project: ProjectPlace, body_bytes: u32) {
        self.held_bytes -= u64::from(body_bytes);
        let project = &mut self.projects[project];
        project.ended += 1;
        project.held_bytes -= u64::from(body_bytes);
    }

    /// An idempotency key of the project is kept.
    pub(crate) fn count_key(&mut self, project: ProjectPlace) {
        self.projects[project].keys += 1;
    }

    /// A key of the project has been dropped.
    pub(crate) fn uncount_key(&mut self, project: ProjectPlace) {
        self.projects[project].keys -= 1;
    }

    /// One more task waits.
    pub(crate) fn count_waiting(&mut self, project: ProjectPlace) {
        self.waiting += 1;
        self.projects[project].waiting += 1;
    }

    /// A task waits no more.
    pub(crate) fn uncount_waiting(&mut self, project: ProjectPlace) {
        self.waiting -= 1;
        self.projects[project].waiting -= 1;
    }

    /// A task runs from now on.
    pub(crate) fn count_started(&mut self, project: ProjectPlace) {
        self.running += 1;
        self.projects[project].running += 1;
    }

    /// The flow is served at this seat from now on.
    pub(crate) fn sit(
        &mut self,
        project: ProjectPlace,
        lane: Lane,
        seat: Option<SeatPlace>,
        roster: &mut Roster,
    ) {
        let flow = &mut self.projects[project].flows[lane];
        if flow.seat != seat {
            if let Some(rank) = flow.rank {
                self.lanes[lane].ready.change_seat(rank, flow.seat, seat);
            }
            roster.change_seat(lane, flow.seat, seat);
            flow.seat = seat;
        }
    }

    /// Keeps the flows in line by seat while there are many.
    pub(crate) fn note_crowd(&mut self, lane: Lane) {
        let projects = &self.projects;
        self.lanes[lane].ready.note_crowd(|project| projects[project].flows[lane].seat);
    }
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
