//! One worker: its life from order to gone, and what it holds.
//!
//! Everybody may read all of it; it is changed by the verbs of [`super::Roster`] alone.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use pool_protocol::id::WorkerId;
use pool_protocol::lane::Lane;
use pool_protocol::limits::MAX_CREDIT;
use pool_protocol::outcome::Verdict;

use super::Counts;
use crate::place::{ProjectPlace, SeatPlace, TaskPlace, WorkerPlace};
use crate::time::Time;

/// Work that a worker may hold beyond the task that runs, in microseconds: what a wake-up of its
/// process costs, several times over, so that tiny tasks do not wait for one each.
pub(crate) const CREDIT_US: u32 = 300;

/// Heartbeats in ten intervals; more is an attack. This is the only bound on them.
const MOST_BEATS: u32 = 1_000;
/// How many more there may be for each interval in which nothing was heard: when the supervisor was
/// stopped for a while, the worker's beats have piled up.
const PILED_UP: u64 = 2;

/// Why a worker is to be replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Recycle {
    /// It has run as many tasks as it may.
    Tasks,
    /// It uses more memory than it may.
    Memory,
    /// It has lived as long as it may.
    Age,
    /// It was started under settings that are not in force any more.
    Outdated,
    /// It serves a project, and another one needs a worker.
    Tenant,
}

/// Whose tasks a worker has been given in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Served {
    /// Nobody's yet.
    Nobody,
    /// This project's only.
    One(ProjectPlace),
    /// Those of several.
    Several,
}

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

/// A task that a worker holds.
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
    pub(crate) ordered_at: Time,
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
    /// As what its lane counts it.
    pub(super) counted: Counts,
    /// It is among those that its lane counts as brisk.
    pub(super) counted_brisk: bool,
    /// It is among those that nobody has been served by.
    pub(super) counted_unbound: bool,
    /// Where it sits in its lane, once it is ready.
    pub(crate) seat: Option<SeatPlace>,
    /// The project that counts it among those that serve it and no other, and whether as one that
    /// stays.
    pub(super) home: Option<(ProjectPlace, bool)>,
}

impl Worker {
    /// One whose process has just been ordered.
    pub(super) fn ordered(
        id: WorkerId,
        lane: Lane,
        now: Time,
        replaces: Option<WorkerPlace>,
        beat_ms: u64,
    ) -> Box<Self> {
        Box::new(Self {
            id,
            lane,
            state: WorkerState::Spawning { replaces },
            ordered_at: now,
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
            counted: Counts::default(),
            counted_brisk: false,
            counted_unbound: false,
            seat: None,
            home: None,
        })
    }

    /// Counts a heartbeat. False when there have been too many.
    pub(super) fn count_beat(&mut self, now: Time) -> bool {
        let silent_for = now.since(core::mem::replace(&mut self.last_beat, now));
        if now >= self.beats_from.plus_ms(self.beat_window_ms()) {
            let piled_up = (silent_for / 1000).saturating_mul(PILED_UP) / self.beat_ms.max(1);
            (self.beats_from, self.beats) = (now, 0);
            self.most_beats =
                MOST_BEATS.saturating_add(u32::try_from(piled_up).unwrap_or(u32::MAX));
        }
        self.beats += 1;
        self.beats <= self.most_beats
    }

    /// Over how long heartbeats are counted, in milliseconds.
    pub(crate) const fn beat_window_ms(&self) -> u64 {
        self.beat_ms.saturating_mul(10)
    }

    /// Whether it holds a task of this project.
    pub(crate) fn holds_of(&self, project: ProjectPlace) -> bool {
        self.shares.iter().any(|(of, _)| *of == project)
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, WorkerState::Ready { .. })
    }

    /// Whether it is one of a worker and its replacement.
    pub(crate) const fn is_paired(&self) -> bool {
        match self.state {
            WorkerState::Spawning { replaces } => replaces.is_some(),
            WorkerState::Ready { replacement, .. } => replacement.is_some(),
            WorkerState::Leaving(_) => false,
        }
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

    pub(crate) fn is_idle(&self) -> bool {
        self.is_ready() && self.held.is_empty()
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
