//! Questions to the line, which change nothing.

use alloc::collections::BTreeSet;

use pool_protocol::lane::Lane;
use pool_protocol::limits::MAX_PRIORITY;

use super::{Line, Project, Rank};
use crate::place::{ProjectPlace, SeatPlace, TaskPlace};
use crate::task::Tasks;
use crate::time::Time;

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
    pub(super) fn first_with_key(
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

    pub(super) fn rank_with(&self, now: Time, project: ProjectPlace, lane: Lane, key: i64) -> Rank {
        let level = self.level_of(now, key);
        let flow = &self.projects[project].flows[lane];
        // Start where the others are: time in which it wanted nothing here earns no credit.
        let virtual_time =
            flow.virtual_time[level as usize].max(self.lanes[lane].served[level as usize]);
        Rank::new(level, virtual_time, project)
    }
}
