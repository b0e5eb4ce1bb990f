//! Projects, their settings, and the counts of what they use.

use alloc::vec::Vec;

use pool_protocol::lane::Lane;

use super::{Line, Projects};
use crate::per_lane::PerLane;
use crate::place::{ProjectPlace, SeatPlace};
use crate::roster::Roster;
use crate::seeds::KeyedHash;
use crate::settings::Settings;
use crate::task::Tasks;
use crate::timers::Timers;

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
        let places: Vec<ProjectPlace> = self.projects.iter().map(|(place, _)| place).collect();
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
