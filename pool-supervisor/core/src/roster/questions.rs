//! Questions to the roster, which change nothing.

use alloc::vec::Vec;

use pool_protocol::id::{TaskId, WorkerId};
use pool_protocol::lane::Lane;

use super::{Counts, Held, Homes, Roster, Seats, Worker};
use crate::place::{ProjectPlace, WorkerPlace};
use crate::task::Tasks;

impl Roster {
    /// The place of this very process, unless it is gone.
    pub(crate) fn find(&self, id: WorkerId) -> Option<WorkerPlace> {
        let worker = self.places.get(id.slot as usize)?.worker.as_ref()?;
        (worker.id == id).then(|| WorkerPlace::new(id.slot as usize))
    }

    /// How many are not gone.
    pub(crate) const fn living(&self) -> u32 {
        self.living
    }

    /// All, in the order of their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (WorkerPlace, &Worker)> {
        self.places.iter().enumerate().filter_map(|(row, place)| {
            place.worker.as_deref().map(|worker| (WorkerPlace::new(row), worker))
        })
    }

    /// Those of one lane.
    pub(crate) fn of_lane(&self, lane: Lane) -> impl Iterator<Item = (WorkerPlace, &Worker)> {
        self.iter().filter(move |(_, worker)| worker.lane == lane)
    }

    /// The places that are taken now.
    pub(crate) fn places(&self) -> Vec<WorkerPlace> {
        self.iter().map(|(w, _)| w).collect()
    }

    /// Ready and holding nothing, in the order of their places.
    pub(crate) fn idle(&self, lane: Lane) -> &[WorkerPlace] {
        &self.lanes[lane].idle.0
    }

    /// Those among the idle ones that nobody has been served by.
    pub(crate) fn unbound(&self, lane: Lane) -> &[WorkerPlace] {
        &self.lanes[lane].unbound.0
    }

    /// Those that hold something and have room for more.
    pub(crate) fn open(&self, lane: Lane) -> &[WorkerPlace] {
        &self.lanes[lane].open.0
    }

    /// How many hold tiny tasks only.
    pub(crate) fn brisk(&self, lane: Lane) -> u32 {
        self.lanes[lane].brisk
    }

    pub(crate) fn counts(&self, lane: Lane) -> Counts {
        self.lanes[lane].counts
    }

    pub(crate) fn seats(&self, lane: Lane) -> &Seats {
        &self.lanes[lane].seats
    }

    /// Busy workers that are to go as soon as one ends a task.
    pub(crate) fn shedding(&self, lane: Lane) -> u32 {
        self.lanes[lane].shedding
    }

    /// The workers that hold tasks of a project.
    pub(crate) fn holders(&self, project: ProjectPlace) -> &[WorkerPlace] {
        self.tenants.holders(project)
    }

    /// Living workers that have served the project and no other.
    pub(crate) fn tenants(&self, project: ProjectPlace) -> u32 {
        self.tenants.tenants(project)
    }

    /// The ready ones among them.
    pub(crate) fn homes(&self, project: ProjectPlace, lane: Lane) -> &Homes {
        self.tenants.homes(project, lane)
    }

    /// Where among the tasks that the worker holds this attempt is.
    pub(crate) fn position_of(
        &self,
        w: WorkerPlace,
        tasks: &Tasks,
        id: TaskId,
        attempt: u32,
    ) -> Option<usize> {
        let is_it = |held: &Held| {
            let task = &tasks[held.task];
            task.id == id && task.attempts + 1 == attempt
        };
        self[w].held.iter().position(is_it)
    }

    /// Whether their number or their state has changed, or somebody wants them looked at; since
    /// this was asked last.
    pub(crate) const fn take_changed(&mut self) -> bool {
        core::mem::replace(&mut self.changed, false)
    }

    pub(crate) const fn has_changed(&self) -> bool {
        self.changed
    }
}
