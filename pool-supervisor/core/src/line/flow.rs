//! One flow: the waiting tasks of a project in a lane, and where it stands.

use pool_protocol::limits::MAX_PRIORITY;

use crate::list::{Link, Links, List};
use crate::place::{ProjectPlace, SeatPlace, TaskPlace};
use crate::task::{TaskState, Tasks};

pub(super) const LEVELS: usize = MAX_PRIORITY as usize + 1;
/// Virtual time is in 64ths of a microsecond, so that heavy weights do not round small tasks to
/// nothing.
const VIRTUAL_SCALE: f64 = 64.0;

/// Worker time as virtual time.
pub(super) fn virtual_cost(us: u64, weight: f64) -> u64 {
    (us as f64 * VIRTUAL_SCALE / weight) as u64
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
    pub(super) const FIRST: Self =
        Self { below_top: 0, virtual_time: 0, project: ProjectPlace::FIRST };

    pub(super) const fn new(level: u8, virtual_time: u64, project: ProjectPlace) -> Self {
        Self { below_top: MAX_PRIORITY - level, virtual_time, project }
    }

    /// The effective priority.
    pub(crate) const fn level(self) -> u8 {
        MAX_PRIORITY - self.below_top
    }

    pub(super) const fn virtual_time(self) -> u64 {
        self.virtual_time
    }

    /// Before every other one of the same effective priority.
    pub(super) const fn first_of_its_level(self) -> Self {
        Self { below_top: self.below_top, ..Self::FIRST }
    }

    /// Its virtual time, if its effective priority is the other's.
    pub(super) const fn virtual_time_at(self, other: Self) -> Option<u64> {
        if self.below_top == other.below_top { Some(self.virtual_time) } else { None }
    }

    /// By how many microseconds of worker time its flow, weighed, is ahead of another's.
    pub(crate) const fn ahead_us(self, of: Self) -> u64 {
        self.virtual_time.saturating_sub(of.virtual_time) / VIRTUAL_SCALE as u64
    }
}

/// The waiting tasks of one project in one lane, and what is known of their like. Everybody may
/// read it; the line alone changes it.
#[derive(Default, Debug)]
pub(crate) struct Flow {
    lists: [List<TaskPlace>; LEVELS],
    /// Which lists are not empty, one bit each.
    filled: u16,
    /// Tasks in the lists.
    pub(crate) queued: u32,
    pub(super) virtual_time: [u64; LEVELS],
    /// Where it stands among the ready flows of its lane.
    pub(crate) rank: Option<Rank>,
    /// How many of its tasks the lane counts as runnable.
    pub(crate) counted: u32,
    /// It waits for its project's limit, and the lane counts it as such.
    pub(crate) at_limit: bool,
    /// How long its tasks run, in microseconds, once one has: a moving mean.
    pub(crate) mean_us: Option<u32>,
    /// The seat of the worker that took its last task: its contexts are warm there.
    pub(crate) seat: Option<SeatPlace>,
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

impl Flow {
    /// Learns from one more run: the mean moves by an eighth of the difference.
    pub(super) fn learn(&mut self, run_us: u64) {
        let run = u32::try_from(run_us).unwrap_or(u32::MAX);
        self.mean_us = Some(match self.mean_us {
            None => run,
            Some(mean) if run >= mean => mean + (run - mean) / 8,
            Some(mean) => mean - (mean - run).div_ceil(8),
        });
    }

    /// Between which tasks of its list one stands that comes last.
    pub(super) fn end_of(&self, priority: usize) -> Link<TaskPlace> {
        Link { prev: self.lists[priority].last(), next: None }
    }

    /// Between which tasks of its list one stands that comes first.
    pub(super) fn start_of(&self, priority: usize) -> Link<TaskPlace> {
        Link { prev: None, next: self.lists[priority].first() }
    }

    /// Puts a task between these two of its list.
    pub(super) fn insert(&mut self, tasks: &mut Tasks, slot: TaskPlace, link: Link<TaskPlace>) {
        let priority = usize::from(tasks[slot].priority);
        tasks[slot].state = TaskState::Queued { link };
        self.lists[priority].insert(&mut Queued(tasks), slot, link);
        self.filled |= 1 << priority;
        self.queued += 1;
    }

    /// Takes a task out of its list.
    pub(super) fn remove(&mut self, tasks: &mut Tasks, slot: TaskPlace) {
        let task = &mut tasks[slot];
        let TaskState::Queued { link } = task.state else {
            unreachable!("only a queued task is taken out of the queue")
        };
        task.state = TaskState::LetGo;
        let priority = usize::from(task.priority);
        let list = &mut self.lists[priority];
        list.remove(&mut Queued(tasks), link);
        if list.is_empty() {
            self.filled &= !(1 << priority);
        }
        self.queued -= 1;
    }

    /// The only list that has tasks, if only one has.
    pub(super) fn only_list(&self) -> Option<TaskPlace> {
        let level = self.filled.trailing_zeros() as usize;
        if self.filled.is_power_of_two() { self.lists[level].first() } else { None }
    }

    /// The first task of each list that has any.
    pub(super) fn heads(&self) -> impl Iterator<Item = TaskPlace> {
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
