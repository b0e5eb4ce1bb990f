//! Workers: their life from spawn to gone, and what each holds.
//!
//! Owns the table of worker processes and the bookkeeping of the tasks they hold: who is idle, who
//! has room, which task runs. A place is used again under a new generation, so that a late message
//! of a dead process is recognised. It decides nothing about how many there should be (`scale`,
//! `recycle`, `restart`) or what they run (`assign`).

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

use pool_protocol::id::WorkerId;
use pool_protocol::limits::MAX_CREDIT;
use pool_protocol::outcome::Verdict;

use crate::Core;
use crate::action::{Action, PoolEvent};
use crate::crowd::Seats;
use crate::health::MOST_BEATS;
use crate::place::{ProjectPlace, SeatPlace, TaskPlace, WorkerPlace};
use crate::queue::PerLane;
use crate::recycle::Recycle;
use crate::settings::Lane;
use crate::tenancy::Served;
use crate::time::Time;
use crate::timers::TimerKey;

/// Work that a worker may hold beyond the task that runs, in microseconds: what a wake-up of its
/// process costs, several times over, so that tiny tasks do not wait for one each.
pub(crate) const CREDIT_US: u32 = 300;

/// Why and how a worker leaves.
#[derive(Clone, Debug)]
pub(crate) struct Leaving {
    pub(crate) manner: Manner,
    pub(crate) verdict: Verdict,
}

/// How a worker leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    /// It finishes what it has started.
    Retiring {
        /// Another was started in its stead, so that it does not count towards the pool's maximum.
        replaced: bool,
    },
    /// It serves one task and runs it now; it is told to go when that has ended.
    OneTask,
    /// It said that it must not run another task.
    Spoiled,
    /// It was sent SIGKILL.
    Killed,
}

/// Where a worker is in its life.
#[derive(Clone, Debug)]
pub(crate) enum WorkerState {
    /// Its handshake is not done.
    Spawning {
        /// The worker that goes when this one is ready.
        replaces: Option<WorkerPlace>,
    },
    /// It takes tasks.
    Ready {
        /// Why it is to be replaced, when it is.
        recycle: Option<Recycle>,
        /// The worker that is being started in its stead.
        replacement: Option<WorkerPlace>,
    },
    /// It takes no more tasks.
    Leaving(Leaving),
}

/// A task in the hands of a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) task: TaskPlace,
    /// How long it is expected to run, in microseconds.
    pub(crate) cost_us: u32,
    /// The worker was asked to give it back.
    pub(crate) asked_back: bool,
}

/// One worker process.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) lane: Lane,
    pub(crate) state: WorkerState,
    pub(crate) born: Time,
    pub(crate) ready_at: Time,
    /// In the order in which it runs them.
    pub(crate) held: VecDeque<Held>,
    /// Sum of what they are expected to take.
    pub(crate) load_us: u64,
    /// Whose tasks it has been given in its life.
    pub(crate) served: Served,
    /// When it was given the first one.
    pub(crate) bound_at: Time,
    /// How many of those it holds belong to which project.
    pub(crate) shares: Vec<(ProjectPlace, u32)>,
    /// The first one takes longer than expected: nothing is put behind it.
    pub(crate) stalled: bool,
    /// When it is killed if the first one has not ended by then; [`Time::NEVER`] unless it was
    /// asked to end it.
    pub(crate) kill_at: Time,
    pub(crate) idle_since: Time,
    pub(crate) tasks_ended: u64,
    /// How long its tasks have kept it busy, in microseconds.
    pub(crate) used_us: u64,
    /// Tasks after which it is replaced.
    pub(crate) tasks_limit: u64,
    /// It was started, or is being started, under settings that are not in force any more.
    pub(crate) outdated: bool,
    /// It leaves because of a task that has ended: none of those it still holds can be to blame.
    pub(crate) spoiled: bool,
    /// Tasks given back unasked since the last one that ended.
    pub(crate) given_back: u32,
    pub(crate) rss_bytes: u64,
    pub(crate) cpu_us: u64,
    /// Between two of its heartbeats, in milliseconds: it was told so at its start, whatever is in
    /// force now.
    pub(crate) beat_ms: u64,
    pub(crate) last_beat: Time,
    /// Heartbeats since `beats_from`.
    pub(crate) beats: u32,
    pub(crate) beats_from: Time,
    /// How many there may be since `beats_from`.
    pub(crate) most_beats: u32,
    /// It is among those that its lane counts as brisk.
    counted_brisk: bool,
    /// It is among those that nobody has been served by.
    counted_unbound: bool,
    /// Where it sits in its lane, once it is ready.
    pub(crate) seat: Option<SeatPlace>,
    /// The project that counts it among those that serve it and no other, and whether as one that
    /// stays.
    pub(crate) home: Option<(ProjectPlace, bool)>,
}

impl Worker {
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, WorkerState::Ready { .. })
    }

    pub(crate) fn is_spawning(&self) -> bool {
        matches!(self.state, WorkerState::Spawning { .. })
    }

    pub(crate) fn was_killed(&self) -> bool {
        matches!(self.state, WorkerState::Leaving(Leaving { manner: Manner::Killed, .. }))
    }

    /// Whether it goes on with the tasks it holds.
    pub(crate) fn runs_on(&self) -> bool {
        match &self.state {
            WorkerState::Spawning { .. } => false,
            WorkerState::Ready { .. } => true,
            WorkerState::Leaving(leaving) => {
                matches!(leaving.manner, Manner::Retiring { .. } | Manner::OneTask)
            }
        }
    }

    /// Whether it runs the only task that it serves.
    pub(crate) fn runs_its_one_task(&self) -> bool {
        matches!(self.state, WorkerState::Leaving(Leaving { manner: Manner::OneTask, .. }))
    }

    /// Whether it counts towards the pool's maximum. One that is dying does not, and of a worker
    /// and its replacement only one does: so that the replacement can be ready before the old one
    /// leaves. One that runs its only task does not either: how many of those there are is bounded
    /// where tasks are handed out.
    pub(crate) fn counts(&self) -> bool {
        match &self.state {
            WorkerState::Spawning { replaces } => replaces.is_none(),
            WorkerState::Ready { .. } => true,
            WorkerState::Leaving(leaving) => leaving.manner == Manner::Retiring { replaced: false },
        }
    }

    /// Whether it takes another task of this cost behind those it holds.
    pub(crate) fn has_room(&self, cost_us: u32) -> bool {
        self.is_ready()
            && !self.stalled
            && (self.held.is_empty()
                || (self.held.len() < MAX_CREDIT
                    && self.load_us + u64::from(cost_us) <= u64::from(CREDIT_US)))
    }

    /// Whether it holds tiny tasks only, and the first has not turned out to be long: it keeps a
    /// processor busy for a moment.
    pub(crate) fn is_brisk(&self) -> bool {
        self.is_ready()
            && !self.held.is_empty()
            && !self.stalled
            && self.load_us <= u64::from(CREDIT_US)
    }

    /// Whether it holds something and takes a tiny task behind it.
    pub(crate) fn is_open(&self) -> bool {
        !self.held.is_empty() && self.has_room(1)
    }
}

/// Places in ascending order. A set that is emptied and filled again for every task must not
/// allocate for it.
#[derive(Default, Debug)]
pub(crate) struct Places(Vec<WorkerPlace>);

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

    pub(crate) fn contains(&self, w: WorkerPlace) -> bool {
        self.0.binary_search(&w).is_ok()
    }

    pub(crate) fn as_slice(&self) -> &[WorkerPlace] {
        &self.0
    }
}

/// One lane's workers, counted anew after every change.
#[derive(Default, Debug)]
pub(crate) struct LaneWorkers {
    /// Ready and holding nothing.
    pub(crate) idle: Places,
    /// Those among them that nobody has been served by.
    pub(crate) unbound: Places,
    /// Those that hold something and have room for more.
    pub(crate) open: Places,
    /// How many hold tiny tasks only.
    pub(crate) brisk: u32,
    /// Ready, or spawning in nobody's stead: what the lane has to work with.
    pub(crate) capacity: u32,
    pub(crate) ready: u32,
    /// Spawning in nobody's stead.
    pub(crate) spawning: u32,
    /// Spawning in another's stead.
    pub(crate) replacing: u32,
    pub(crate) seats: Seats,
    /// Busy workers that are to go as soon as one ends a task.
    pub(crate) shedding: u32,
}

#[derive(Debug)]
struct Place {
    generation: u32,
    worker: Option<Box<Worker>>,
}

/// All worker processes that have been started and are not gone.
#[derive(Default, Debug)]
pub(crate) struct Workers {
    places: Vec<Place>,
    pub(crate) lanes: PerLane<LaneWorkers>,
    living: u32,
}

impl Workers {
    /// The place of this very process, unless it is gone.
    pub(crate) fn find(&self, id: WorkerId) -> Option<WorkerPlace> {
        let worker = self.places.get(id.slot as usize)?.worker.as_ref()?;
        (worker.id == id).then(|| WorkerPlace::new(id.slot as usize))
    }

    pub(crate) const fn living(&self) -> u32 {
        self.living
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (WorkerPlace, &Worker)> {
        self.places.iter().enumerate().filter_map(|(row, place)| {
            place.worker.as_deref().map(|worker| (WorkerPlace::new(row), worker))
        })
    }

    /// The places that are taken now.
    pub(crate) fn places(&self) -> Vec<WorkerPlace> {
        self.iter().map(|(w, _)| w).collect()
    }

    fn insert(
        &mut self,
        now: Time,
        lane: Lane,
        replaces: Option<WorkerPlace>,
        beat_ms: u64,
    ) -> WorkerPlace {
        let slot =
            self.places.iter().position(|place| place.worker.is_none()).unwrap_or_else(|| {
                self.places.push(Place { generation: 0, worker: None });
                self.places.len() - 1
            });
        let place = &mut self.places[slot];
        place.generation = place.generation.wrapping_add(1);
        let id = WorkerId { slot: slot as u32, generation: place.generation };
        place.worker = Some(Box::new(Worker {
            id,
            lane,
            state: WorkerState::Spawning { replaces },
            born: now,
            ready_at: Time::NEVER,
            held: VecDeque::new(),
            load_us: 0,
            served: Served::Nobody,
            bound_at: Time::NEVER,
            shares: Vec::new(),
            stalled: false,
            kill_at: Time::NEVER,
            idle_since: now,
            tasks_ended: 0,
            used_us: 0,
            tasks_limit: u64::MAX,
            outdated: false,
            spoiled: false,
            given_back: 0,
            rss_bytes: 0,
            cpu_us: 0,
            beat_ms,
            last_beat: now,
            beats: 0,
            beats_from: now,
            most_beats: MOST_BEATS,
            counted_brisk: false,
            counted_unbound: false,
            seat: None,
            home: None,
        }));
        self.living += 1;
        WorkerPlace::new(slot)
    }

    /// Notes whether the worker is idle or has room, after anything about that has changed.
    pub(crate) fn note_room(&mut self, w: WorkerPlace) {
        let worker = self.places[w.index()].worker.as_mut().expect("a living worker");
        let lane = &mut self.lanes[worker.lane];
        let idle = worker.is_ready() && worker.held.is_empty();
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

    /// The worker sits down: where the one sat whose stead it takes, else at a free seat.
    pub(crate) fn seat(&mut self, w: WorkerPlace, replaces: Option<WorkerPlace>) {
        let old = replaces.map(|old| (old, self[old].seat));
        let lane = self[w].lane;
        let seats = &mut self.lanes[lane].seats;
        let seat = match old {
            Some((old, Some(seat))) if seats.at(seat) == Some(old) => seats.pass_on(seat, w),
            Some(_) | None => seats.take(w),
        };
        self[w].seat = Some(seat);
    }

    /// Takes out a worker that is gone and holds nothing any more.
    fn remove(&mut self, w: WorkerPlace) -> Box<Worker> {
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
        self.living -= 1;
        worker
    }

    /// Counts the workers of each lane by state.
    pub(crate) fn recount(&mut self) {
        for lane in Lane::ALL {
            let counts = self.counts(lane);
            let lane = &mut self.lanes[lane];
            (lane.ready, lane.spawning, lane.replacing) = counts;
            lane.capacity = lane.ready + lane.spawning;
        }
    }

    /// Ready, spawning in nobody's stead, spawning in another's stead.
    pub(crate) fn counts(&self, lane: Lane) -> (u32, u32, u32) {
        let mut counts = (0, 0, 0);
        for (_, worker) in self.iter().filter(|(_, worker)| worker.lane == lane) {
            match worker.state {
                WorkerState::Ready { .. } => counts.0 += 1,
                WorkerState::Spawning { replaces: None } => counts.1 += 1,
                WorkerState::Spawning { replaces: Some(_) } => counts.2 += 1,
                WorkerState::Leaving(_) => {}
            }
        }
        counts
    }
}

impl Index<WorkerPlace> for Workers {
    type Output = Worker;

    fn index(&self, w: WorkerPlace) -> &Worker {
        self.places[w.index()].worker.as_deref().expect("only living workers are kept")
    }
}

impl IndexMut<WorkerPlace> for Workers {
    fn index_mut(&mut self, w: WorkerPlace) -> &mut Worker {
        self.places[w.index()].worker.as_deref_mut().expect("only living workers are kept")
    }
}

impl Core {
    /// Orders a process.
    pub(crate) fn spawn(
        &mut self,
        lane: Lane,
        replaces: Option<WorkerPlace>,
        out: &mut Vec<Action>,
    ) {
        let w = self.workers.insert(
            self.now,
            lane,
            replaces,
            self.settings.heartbeat_interval_ms.max(1),
        );
        if let Some(old) = replaces
            && let WorkerState::Ready { replacement, .. } = &mut self.workers[old].state
        {
            *replacement = Some(w);
        }
        self.timers.arm(TimerKey::Spawn(w), self.now.plus_ms(self.settings.spawn_timeout_ms));
        self.workers_changed = true;
        out.push(Action::Spawn { worker: self.workers[w].id, lane });
    }

    /// Removes a worker that is gone, and tells.
    pub(crate) fn bury(&mut self, w: WorkerPlace, verdict: Verdict, out: &mut Vec<Action>) {
        let worker = self.discard(w);
        out.push(Action::Emit(PoolEvent::WorkerTerminated {
            worker: worker.id,
            lane: worker.lane,
            verdict,
            lived_us: self.now.since(worker.born),
            tasks: worker.tasks_ended,
        }));
    }

    /// Removes a worker that is gone or never was, with all its timers.
    pub(crate) fn discard(&mut self, w: WorkerPlace) -> Box<Worker> {
        self.unpair(w);
        self.end_tenancy(w);
        self.leave_home(w);
        for key in [
            TimerKey::Spawn(w),
            TimerKey::Heartbeat(w),
            TimerKey::Head(w),
            TimerKey::Leave(w),
            TimerKey::Idle(w),
            TimerKey::Age(w),
        ] {
            self.timers.disarm(key);
        }
        self.workers_changed = true;
        self.near = None;
        self.workers.remove(w)
    }

    /// Ends the relation between a worker and its replacement: each stands for itself from now on.
    /// Says whether it had one.
    pub(crate) fn unpair(&mut self, w: WorkerPlace) -> bool {
        let partner = match &mut self.workers[w].state {
            WorkerState::Spawning { replaces } => replaces.take(),
            WorkerState::Ready { replacement, .. } => replacement.take(),
            WorkerState::Leaving(_) => None,
        };
        let Some(partner) = partner else { return false };
        match &mut self.workers[partner].state {
            WorkerState::Spawning { replaces } => *replaces = None,
            WorkerState::Ready { replacement, .. } => *replacement = None,
            WorkerState::Leaving(_) => {}
        }
        self.workers_changed = true;
        true
    }
}
