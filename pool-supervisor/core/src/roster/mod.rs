//! The workers: every process that has been ordered and is not gone, and what each holds.
//!
//! Owns the table, and all that follows from it: who is idle or has room, how many there are in
//! each state, which of them serve a project and no other, who sits where. Each verb leaves all of
//! that right. Everybody may read a worker; only the verbs change one. A place is used again under
//! a new generation, so that a late message of a dead process is recognised.
//!
//! It must not decide how many workers there should be, what they run, or what becomes of a task
//! that is let go; and it does not know tasks and projects beyond their places.

mod holding;
mod questions;
mod seats;
mod tenants;
mod worker;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Index;

use pool_protocol::id::WorkerId;
use pool_protocol::lane::Lane;
use pool_protocol::outcome::Verdict;

use crate::per_lane::PerLane;
use crate::place::{ProjectPlace, SeatPlace, WorkerPlace};
use crate::time::Time;

pub(crate) use seats::{CROWD, Seats};
pub(crate) use tenants::Homes;
use tenants::Tenants;
pub(crate) use worker::{CREDIT_US, Held, Leaving, Manner, Recycle, Served, Worker, WorkerState};

/// Places in ascending order. A set that is emptied and filled again for every task must not
/// allocate for it.
#[derive(Default, Debug)]
struct Places(Vec<WorkerPlace>);

impl Places {
    /// Sees to it that the place is among them, or is not.
    fn set(&mut self, w: WorkerPlace, among: bool) {
        match self.0.binary_search(&w) {
            Ok(at) if !among => {
                self.0.remove(at);
            }
            Err(at) if among => self.0.insert(at, w),
            Ok(_) | Err(_) => {}
        }
    }
}

/// How many workers of a lane are in which state.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) ready: u32,
    /// Spawning in nobody's stead.
    pub(crate) spawning: u32,
    /// Spawning in another's stead.
    pub(crate) replacing: u32,
}

impl Counts {
    /// What the lane has to work with.
    pub(crate) const fn capacity(self) -> u32 {
        self.ready + self.spawning
    }

    /// Those whose handshake is not done.
    pub(crate) const fn starting(self) -> u32 {
        self.spawning + self.replacing
    }

    /// One more worker is in this state.
    pub(crate) const fn add(&mut self, state: &WorkerState) {
        match state {
            WorkerState::Ready { .. } => self.ready += 1,
            WorkerState::Spawning { replaces: None } => self.spawning += 1,
            WorkerState::Spawning { replaces: Some(_) } => self.replacing += 1,
            WorkerState::Leaving(_) => {}
        }
    }

    /// Counts a worker otherwise than before.
    fn replace(&mut self, before: Self, now: Self) {
        self.ready = self.ready + now.ready - before.ready;
        self.spawning = self.spawning + now.spawning - before.spawning;
        self.replacing = self.replacing + now.replacing - before.replacing;
    }
}

/// One lane's workers.
#[derive(Default, Debug)]
struct LaneWorkers {
    /// Ready and holding nothing.
    idle: Places,
    /// Those among them that nobody has been served by.
    unbound: Places,
    /// Those that hold something and have room for more.
    open: Places,
    /// How many hold tiny tasks only.
    brisk: u32,
    counts: Counts,
    seats: Seats,
    /// Busy workers that are to go as soon as one ends a task.
    shedding: u32,
}

#[derive(Debug)]
struct Place {
    generation: u32,
    worker: Option<Box<Worker>>,
}

/// All worker processes that have been ordered and are not gone.
#[derive(Default, Debug)]
pub(crate) struct Roster {
    places: Vec<Place>,
    lanes: PerLane<LaneWorkers>,
    tenants: Tenants,
    living: u32,
    /// The number or the state of workers has changed since somebody asked.
    changed: bool,
}

/// Coming and going.
impl Roster {
    /// How many are wanted has changed, or more may be started: they are to be looked at.
    pub(crate) const fn look_again(&mut self) {
        self.changed = true;
    }

    /// A process is ordered, perhaps in the stead of a ready worker.
    pub(crate) fn order(
        &mut self,
        now: Time,
        lane: Lane,
        replaces: Option<WorkerPlace>,
        beat_ms: u64,
    ) -> WorkerPlace {
        let row = self.places.iter().position(|place| place.worker.is_none());
        let row = row.unwrap_or_else(|| {
            self.places.push(Place { generation: 0, worker: None });
            self.places.len() - 1
        });
        let w = WorkerPlace::new(row);
        let place = &mut self.places[row];
        place.generation = place.generation.wrapping_add(1);
        let id = WorkerId { slot: row as u32, generation: place.generation };
        place.worker = Some(Worker::ordered(id, lane, now, replaces, beat_ms));
        self.living += 1;
        if let Some(old) = replaces
            && let WorkerState::Ready { replacement, .. } = &mut self.at(old).state
        {
            *replacement = Some(w);
        }
        self.note_state(w);
        w
    }

    /// A spawning worker is ready. It sits where the one sat whose stead it takes, else at a free
    /// seat. Returns that one, and how long the start took in microseconds.
    pub(crate) fn make_ready(
        &mut self,
        w: WorkerPlace,
        now: Time,
        tasks_limit: u64,
    ) -> (Option<WorkerPlace>, u64) {
        let WorkerState::Spawning { replaces } = self[w].state else {
            unreachable!("a worker becomes ready once")
        };
        self.unpair(w);
        let old = replaces.and_then(|old| Some((old, self[old].seat?)));
        let lane = self[w].lane;
        let seats = &mut self.lanes[lane].seats;
        let seat = match old {
            Some((old, seat)) if seats.at(seat) == Some(old) => seats.pass_on(seat, w),
            Some(_) | None => seats.take(w),
        };
        let worker = self.at(w);
        worker.seat = Some(seat);
        let recycle = worker.outdated.then_some(Recycle::Outdated);
        worker.state = WorkerState::Ready { recycle, replacement: None };
        (worker.ready_at, worker.idle_since, worker.last_beat) = (now, now, now);
        worker.tasks_limit = tasks_limit;
        let start_us = now.since(worker.ordered_at);
        self.note_state(w);
        (replaces, start_us)
    }

    /// A ready worker is to be replaced.
    pub(crate) fn want_recycled(&mut self, w: WorkerPlace, why: Recycle) {
        if let WorkerState::Ready { recycle: recycle @ None, .. } = &mut self.at(w).state {
            *recycle = Some(why);
            self.note_state(w);
        }
    }

    /// The worker was started under settings that are not in force any more.
    pub(crate) fn outdate(&mut self, w: WorkerPlace) {
        self.at(w).outdated = true;
        self.want_recycled(w, Recycle::Outdated);
    }

    /// The worker takes no more tasks from now on. If it is one of a pair, each stands for itself.
    pub(crate) fn leave(&mut self, w: WorkerPlace, manner: Manner, verdict: Verdict) {
        self.unpair(w);
        let worker = self.at(w);
        worker.spoiled |= manner == Manner::Spoiled;
        worker.state = WorkerState::Leaving(Leaving { manner, verdict });
        self.note_state(w);
    }

    /// Takes out a worker that is gone and holds nothing any more.
    pub(crate) fn remove(&mut self, w: WorkerPlace) -> Box<Worker> {
        self.unpair(w);
        if let Served::One(project) = self[w].served {
            self.tenants.remove_tenant(project);
        }
        self.leave_home(w);
        let worker = self.places[w.index()].worker.take().expect("a worker goes once");
        debug_assert!(worker.held.is_empty(), "its tasks were dealt with before");
        let lane = &mut self.lanes[worker.lane];
        lane.idle.set(w, false);
        lane.unbound.set(w, false);
        lane.open.set(w, false);
        lane.brisk -= u32::from(worker.counted_brisk);
        if let Some(seat) = worker.seat {
            lane.seats.leave(seat, w);
        }
        lane.counts.replace(worker.counted, Counts::default());
        self.living -= 1;
        self.changed = true;
        worker
    }

    /// Ends the relation between a worker and its replacement: each stands for itself from now on.
    fn unpair(&mut self, w: WorkerPlace) {
        let partner = match &mut self.at(w).state {
            WorkerState::Spawning { replaces } => replaces.take(),
            WorkerState::Ready { replacement, .. } => replacement.take(),
            WorkerState::Leaving(_) => None,
        };
        let Some(partner) = partner else { return };
        match &mut self.at(partner).state {
            WorkerState::Spawning { replaces } => *replaces = None,
            WorkerState::Ready { replacement, .. } => *replacement = None,
            WorkerState::Leaving(_) => {}
        }
        self.note_state(partner);
    }

    /// So many busy workers are to go as soon as one ends a task.
    pub(crate) fn set_shedding(&mut self, lane: Lane, surplus: u32) {
        self.lanes[lane].shedding = surplus;
    }

    /// One of those goes.
    pub(crate) fn shed_one(&mut self, lane: Lane) {
        let shedding = &mut self.lanes[lane].shedding;
        *shedding = shedding.saturating_sub(1);
    }

    /// A project is served at `to` from now on, and no longer at `from`.
    pub(crate) fn change_seat(
        &mut self,
        lane: Lane,
        from: Option<SeatPlace>,
        to: Option<SeatPlace>,
    ) {
        self.lanes[lane].seats.change(from, to);
    }
}

/// What follows from a change.
impl Roster {
    fn at(&mut self, w: WorkerPlace) -> &mut Worker {
        self.places[w.index()].worker.as_deref_mut().expect("only living workers are kept")
    }

    /// The worker is given a task of this project.
    fn bind(&mut self, w: WorkerPlace, project: ProjectPlace, now: Time) {
        match self[w].served {
            Served::Nobody => {
                let worker = self.at(w);
                worker.served = Served::One(project);
                worker.bound_at = now;
                self.tenants.add_tenant(project);
                self.note_home(w);
            }
            Served::One(of) if of != project => {
                self.at(w).served = Served::Several;
                self.tenants.remove_tenant(of);
                self.note_home(w);
            }
            Served::One(_) | Served::Several => {}
        }
    }

    /// Its state has changed.
    fn note_state(&mut self, w: WorkerPlace) {
        self.changed = true;
        self.note_home(w);
        self.note_room(w);
        let worker = self.at(w);
        let (lane, mut now) = (worker.lane, Counts::default());
        now.add(&worker.state);
        let before = core::mem::replace(&mut worker.counted, now);
        self.lanes[lane].counts.replace(before, now);
    }

    /// Counts the worker among those of the project that it serves alone, or no more: whom it
    /// serves or whether it stays may have changed.
    fn note_home(&mut self, w: WorkerPlace) {
        let worker = &self[w];
        let home = match (worker.served, &worker.state) {
            (Served::One(project), WorkerState::Ready { recycle, .. }) => {
                Some((project, recycle.is_none()))
            }
            _ => None,
        };
        if worker.home == home {
            return;
        }
        self.leave_home(w);
        let worker = self.at(w);
        worker.home = home;
        let lane = worker.lane;
        if let Some((project, stays)) = home {
            self.tenants.come_home(project, lane, w, stays);
        }
    }

    fn leave_home(&mut self, w: WorkerPlace) {
        let worker = self.at(w);
        let lane = worker.lane;
        if let Some((project, stayed)) = worker.home.take() {
            self.tenants.leave_home(project, lane, w, stayed);
        }
    }

    /// Whether it is idle or has room may have changed.
    fn note_room(&mut self, w: WorkerPlace) {
        let worker = self.places[w.index()].worker.as_mut().expect("a living worker");
        let lane = &mut self.lanes[worker.lane];
        let idle = worker.is_idle();
        lane.idle.set(w, idle);
        let unbound = idle && worker.served == Served::Nobody;
        if worker.counted_unbound != unbound {
            lane.unbound.set(w, unbound);
            worker.counted_unbound = unbound;
        }
        lane.open.set(w, worker.is_open());
        let brisk = worker.is_brisk();
        lane.brisk = lane.brisk + u32::from(brisk) - u32::from(worker.counted_brisk);
        worker.counted_brisk = brisk;
    }
}

impl Index<WorkerPlace> for Roster {
    type Output = Worker;

    fn index(&self, w: WorkerPlace) -> &Worker {
        self.places[w.index()].worker.as_deref().expect("only living workers are kept")
    }
}
