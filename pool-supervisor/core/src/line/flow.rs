//! Waiting tasks, and whose turn it is.
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
//! A flow whose project is at its limit is not among the ready ones. This file decides the order;
//! it must not know workers.

use alloc::collections::BTreeSet;
use core::ops::{Index, IndexMut};

use pool_protocol::limits::MAX_PRIORITY;

use crate::Core;
use crate::crowd::Ready;
use crate::list::{Link, Links, List};
use crate::place::{ProjectPlace, SeatPlace, TaskPlace};
use crate::settings::{Lane, Tenancy};
use crate::task::{TaskState, Tasks};
use crate::time::Time;
use crate::timers::TimerKey;

const LEVELS: usize = MAX_PRIORITY as usize + 1;
/// Virtual time is in 64ths of a microsecond, so that heavy weights do not round small tasks to
/// nothing.
const VIRTUAL_SCALE: f64 = 64.0;
/// A task that goes back to its list looks at this many of those before it for its old place.
/// Enough for what all workers together give back; a mass of retries is queued roughly, but in
/// constant time each.
const SORTED_STEPS: u32 = 64;

/// One thing per lane.
#[derive(Default, Debug)]
pub(crate) struct PerLane<T>([T; 2]);

impl<T> Index<Lane> for PerLane<T> {
    type Output = T;

    fn index(&self, lane: Lane) -> &T {
        &self.0[lane as usize]
    }
}

impl<T> IndexMut<Lane> for PerLane<T> {
    fn index_mut(&mut self, lane: Lane) -> &mut T {
        &mut self.0[lane as usize]
    }
}

/// Whose turn it is: the smallest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Rank {
    /// 10 minus the effective priority.
    below_top: u8,
    virtual_time: u64,
    pub(crate) project: ProjectPlace,
}

impl Rank {
    /// Before every other one.
    pub(crate) const FIRST: Self =
        Self { below_top: 0, virtual_time: 0, project: ProjectPlace::FIRST };

    /// The effective priority.
    pub(crate) const fn level(self) -> u8 {
        MAX_PRIORITY - self.below_top
    }

    /// By how many microseconds of worker time its flow, weighed, is ahead of another's.
    pub(crate) const fn ahead_us(self, of: Self) -> u64 {
        self.virtual_time.saturating_sub(of.virtual_time) / VIRTUAL_SCALE as u64
    }
}

/// The waiting tasks of one project in one lane, and what is known of their like.
#[derive(Debug)]
pub(crate) struct Flow {
    lists: [List<TaskPlace>; LEVELS],
    /// Which lists are not empty, one bit each.
    filled: u16,
    /// Tasks in the lists.
    pub(crate) queued: u32,
    virtual_time: [u64; LEVELS],
    /// Where it stands among the ready flows of its lane.
    rank: Option<Rank>,
    /// How many of its tasks the lane counts as runnable.
    counted: u32,
    /// It waits for its project's limit, and the lane counts it as such.
    at_limit: bool,
    /// How long its tasks run, in microseconds, once one has: a moving mean.
    mean_us: Option<u32>,
    /// The seat of the worker that took its last task: its contexts are warm there.
    pub(crate) seat: Option<SeatPlace>,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            lists: [List::default(); LEVELS],
            filled: 0,
            queued: 0,
            virtual_time: [0; LEVELS],
            rank: None,
            counted: 0,
            at_limit: false,
            mean_us: None,
            seat: None,
        }
    }
}

impl Flow {
    pub(crate) const fn rank(&self) -> Option<Rank> {
        self.rank
    }

    pub(crate) const fn counted(&self) -> u32 {
        self.counted
    }

    pub(crate) const fn at_limit(&self) -> bool {
        self.at_limit
    }

    pub(crate) const fn mean_us(&self) -> Option<u32> {
        self.mean_us
    }

    /// Learns from one more run: the mean moves by an eighth of the difference.
    pub(crate) fn learn(&mut self, run_us: u64) {
        let run = u32::try_from(run_us).unwrap_or(u32::MAX);
        self.mean_us = Some(match self.mean_us {
            None => run,
            Some(mean) if run >= mean => mean + (run - mean) / 8,
            Some(mean) => mean - (mean - run).div_ceil(8),
        });
    }

    /// The first task of each list that has any.
    fn heads(&self) -> impl Iterator<Item = TaskPlace> {
        let mut rest = self.filled;
        core::iter::from_fn(move || {
            let level = rest.trailing_zeros() as usize;
            rest &= rest.wrapping_sub(1);
            self.lists.get(level)?.first()
        })
    }

    /// Each priority with the first task of its list, if there is one.
    pub(crate) fn list_heads(&self) -> impl Iterator<Item = (u8, Option<TaskPlace>)> {
        self.lists.iter().zip(0..).map(|(list, priority)| (priority, list.first()))
    }
}

/// One lane's ready flows, and how many tasks and workers it has. The worker counts are kept by
/// [`crate::worker`].
#[derive(Default, Debug)]
pub(crate) struct LaneQueue {
    pub(crate) ready: Ready,
    /// Per priority: the virtual time at which the last task was chosen.
    served: [u64; LEVELS],
    /// Waiting tasks that a worker could take now, limits considered.
    pub(crate) runnable: u32,
    /// Tasks that workers hold.
    pub(crate) held: u32,
    /// Flows with waiting tasks that are not ready, for their projects are at their limits.
    pub(crate) at_limit: u32,
}

impl LaneQueue {
    /// The ready flow whose turn it is.
    pub(crate) fn first(&self) -> Option<Rank> {
        self.ready.all().first().copied()
    }

    pub(crate) const fn ready(&self) -> &BTreeSet<Rank> {
        self.ready.all()
    }

    /// The least virtual time of the ready flows that stand at this priority or below.
    fn least_from(&self, below_top: u8) -> Option<u64> {
        let from = Rank { below_top, ..Rank::FIRST };
        self.ready
            .all()
            .range(from..)
            .next()
            .filter(|rank| rank.below_top == below_top)
            .map(|rank| rank.virtual_time)
    }
}

/// The tasks, as the lists of flows go through them.
struct Queued<'a>(&'a mut Tasks);

impl Links<TaskPlace> for Queued<'_> {
    fn link(&mut self, slot: TaskPlace) -> &mut Link<TaskPlace> {
        let TaskState::Queued { link } = &mut self.0[slot].state else {
            unreachable!("a list holds queued tasks only")
        };
        link
    }
}

impl Core {
    fn ageing_us(&self) -> i64 {
        i64::try_from(self.settings.priority_ageing_ms.max(1).saturating_mul(1000))
            .unwrap_or(i64::MAX / 64)
    }

    /// The order inside a flow: smaller is earlier, whatever the time.
    fn static_key(&self, slot: TaskPlace, ageing_us: i64) -> i64 {
        let task = &self.tasks[slot];
        task.enqueued.0 as i64 - i64::from(task.priority) * ageing_us
    }

    /// The first task of a flow and its key.
    pub(crate) fn first_of(&self, project: ProjectPlace, lane: Lane) -> Option<(TaskPlace, i64)> {
        let ageing = self.ageing_us();
        let flow = &self.projects[project].flows[lane];
        if flow.filled.is_power_of_two() {
            // The usual case, without comparing.
            let slot = flow.lists[flow.filled.trailing_zeros() as usize].first()?;
            return Some((slot, self.static_key(slot, ageing)));
        }
        let heads = flow.heads();
        heads
            .map(|slot| (slot, self.static_key(slot, ageing)))
            .min_by_key(|(slot, key)| (*key, self.tasks[*slot].id))
    }

    fn level_of(&self, key: i64) -> u8 {
        let steps = (self.now.0 as i64 - key).max(0) / self.ageing_us();
        u8::try_from(steps).map_or(MAX_PRIORITY, |level| level.min(MAX_PRIORITY))
    }

    /// Where the flow would stand among the ready ones, were it not for its project's limit.
    pub(crate) fn rank_of(&self, project: ProjectPlace, lane: Lane) -> Option<Rank> {
        let (_, key) = self.first_of(project, lane)?;
        Some(self.rank_with(project, lane, key))
    }

    fn rank_with(&self, project: ProjectPlace, lane: Lane, key: i64) -> Rank {
        let level = self.level_of(key);
        let flow = &self.projects[project].flows[lane];
        // Start where the others are: time in which it wanted nothing here earns no credit.
        let virtual_time =
            flow.virtual_time[level as usize].max(self.lanes[lane].served[level as usize]);
        Rank { below_top: MAX_PRIORITY - level, virtual_time, project }
    }

    /// Puts a task at the end of its list; it begins to wait now.
    pub(crate) fn enqueue(&mut self, slot: TaskPlace) {
        self.tasks[slot].enqueued = self.now;
        let (project, lane, priority) = self.list_of(slot);
        let prev = self.projects[project].flows[lane].lists[priority].last();
        self.link(slot, Link { prev, next: None });
    }

    /// Puts a task back where it was: before all that came after it.
    pub(crate) fn enqueue_again(&mut self, slot: TaskPlace) {
        let (project, lane, priority) = self.list_of(slot);
        let mine = (self.tasks[slot].enqueued, self.tasks[slot].id);
        let first = self.projects[project].flows[lane].lists[priority].first();
        let mut link = Link { prev: None, next: first };
        for _ in 0..SORTED_STEPS {
            let Some(next) = link.next else { break };
            if (self.tasks[next].enqueued, self.tasks[next].id) > mine {
                break;
            }
            link = Link { prev: Some(next), next: self.next_in_list(next) };
        }
        self.link(slot, link);
    }

    fn list_of(&self, slot: TaskPlace) -> (ProjectPlace, Lane, usize) {
        let task = &self.tasks[slot];
        (task.project, task.lane, usize::from(task.priority))
    }

    /// The task behind this one in its list.
    pub(crate) fn next_in_list(&self, slot: TaskPlace) -> Option<TaskPlace> {
        let TaskState::Queued { link } = self.tasks[slot].state else {
            unreachable!("a list holds queued tasks only")
        };
        link.next
    }

    fn link(&mut self, slot: TaskPlace, link: Link<TaskPlace>) {
        let (project, lane, priority) = self.list_of(slot);
        self.tasks[slot].state = TaskState::Queued { link };
        let flow = &mut self.projects[project].flows[lane];
        flow.lists[priority].insert(&mut Queued(&mut self.tasks), slot, link);
        flow.filled |= 1 << priority;
        flow.queued += 1;
        if link.prev.is_some() && flow.rank.is_some() {
            // It is not the first of its list: nothing that the flow's rank is made of has changed.
            self.recount(project, lane);
        } else {
            self.rerank(project, lane);
        }
    }

    /// Takes a queued task out of its list. The caller ranks the flow anew, when all it changes has
    /// changed.
    pub(crate) fn unlink(&mut self, slot: TaskPlace) {
        let (project, lane, priority) = self.list_of(slot);
        let TaskState::Queued { link } = self.tasks[slot].state else {
            unreachable!("only a queued task is taken out of the queue")
        };
        self.tasks[slot].state = TaskState::LetGo;
        let flow = &mut self.projects[project].flows[lane];
        let list = &mut flow.lists[priority];
        list.remove(&mut Queued(&mut self.tasks), link);
        if list.is_empty() {
            flow.filled &= !(1 << priority);
        }
        flow.queued -= 1;
    }

    /// Puts the flow where it belongs among the ready ones of its lane, after anything about it has
    /// changed.
    pub(crate) fn rerank(&mut self, project: ProjectPlace, lane: Lane) {
        let allowance = self.projects[project].allowance();
        let key =
            if allowance == 0 { None } else { self.first_of(project, lane).map(|(_, key)| key) };
        let rank = key.map(|key| self.rank_with(project, lane, key));
        let flow = &mut self.projects[project].flows[lane];
        let queue = &mut self.lanes[lane];
        if flow.rank != rank {
            if let Some(old) = flow.rank {
                queue.ready.remove(old, flow.seat);
            }
            if let Some(new) = rank {
                queue.ready.insert(new, flow.seat);
                flow.virtual_time[usize::from(new.level())] = new.virtual_time;
            }
            flow.rank = rank;
        }
        self.recount(project, lane);
        if let (Some(key), Some(rank)) = (key, rank)
            && rank.level() < MAX_PRIORITY
        {
            let at =
                key.saturating_add((i64::from(rank.level()) + 1).saturating_mul(self.ageing_us()));
            self.timers.arm_no_later(TimerKey::Ageing(lane, project), Time(at.max(0) as u64));
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

    /// The first waiting task of a flow may have aged into the next priority.
    pub(crate) fn on_ageing(&mut self, lane: Lane, project: ProjectPlace) {
        // A forgotten project's timer may still come: there is nothing to rank then, or another
        // project has the place.
        if self.projects.exists(project) {
            self.rerank(project, lane);
        }
    }

    /// Ranks a project's flows in both lanes: its limit, its weight or its use of workers has
    /// changed.
    pub(crate) fn rerank_project(&mut self, project: ProjectPlace) {
        for lane in Lane::ALL {
            self.rerank(project, lane);
        }
    }

    /// Takes the first task of a flow out and charges the flow for it in advance. Returns the
    /// effective priority.
    pub(crate) fn take_first(&mut self, slot: TaskPlace, rank: Rank, charge_us: u32) {
        let lane = self.tasks[slot].lane;
        let level = usize::from(rank.level());
        // One that passes others must not take from them what they have waited for.
        let queue = &self.lanes[lane];
        let may_pass = self.settings.tenancy == Tenancy::Project || queue.ready.is_crowd();
        let reached = if !may_pass {
            rank.virtual_time
        } else {
            let least = queue.least_from(rank.below_top);
            least.map_or(rank.virtual_time, |least| least.min(rank.virtual_time))
        };
        self.unlink(slot);
        let served = &mut self.lanes[lane].served[level];
        *served = (*served).max(reached);
        let project = &mut self.projects[rank.project];
        let cost = virtual_cost(u64::from(charge_us), project.weight);
        project.flows[lane].virtual_time[level] = rank.virtual_time.saturating_add(cost);
        let task = &mut self.tasks[slot];
        task.level = rank.level();
        task.charged_us = charge_us;
    }

    /// Replaces what the flow was charged for a task in advance by what the task used.
    pub(crate) fn settle_charge(&mut self, slot: TaskPlace, used_us: u64) {
        let task = &self.tasks[slot];
        let (project, lane, level) = (task.project, task.lane, usize::from(task.level));
        let charged = u64::from(task.charged_us);
        let weight = self.projects[project].weight;
        let time = &mut self.projects[project].flows[lane].virtual_time[level];
        *time = if used_us >= charged {
            time.saturating_add(virtual_cost(used_us - charged, weight))
        } else {
            time.saturating_sub(virtual_cost(charged - used_us, weight))
        };
        self.tasks[slot].charged_us = 0;
    }
}

fn virtual_cost(us: u64, weight: f64) -> u64 {
    (us as f64 * VIRTUAL_SCALE / weight) as u64
}
