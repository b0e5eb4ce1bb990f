//! All deadlines of the core, in one ordered table.
//!
//! Owns the moment of the event that is being handled, and when each thing is due; what is done
//! then is decided where the thing lives. Each key has at most one deadline. Most deadlines of a
//! busy pool never come true, so the ones on the hot path are armed lazily: a timer may come early,
//! its handler looks again and arms it anew. What must never happen is that it comes late.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use pool_protocol::lane::Lane;

use crate::place::{ProjectPlace, TaskPlace, WorkerPlace};
use crate::time::Time;

/// What a deadline is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum TimerKey {
    /// When to queue a task whose delay or back-off is over.
    Wake(TaskPlace),
    /// When to end a task that has not been started by its deadline.
    Deadline(TaskPlace),
    /// When to look whether a project's first waiting task has aged into the next priority.
    Ageing(Lane, ProjectPlace),
    /// When to kill a worker that is not ready.
    Spawn(WorkerPlace),
    /// When to look whether a worker's heartbeats have stopped.
    Heartbeat(WorkerPlace),
    /// When to look how long a worker has been busy with its first task.
    Running(WorkerPlace),
    /// When to kill a worker that should have left.
    Leave(WorkerPlace),
    /// When to look whether a worker has been idle for too long.
    Idle(WorkerPlace),
    /// When to replace a worker for its age.
    Age(WorkerPlace),
    /// When to look at a lane's load again.
    Scale(Lane),
    /// When to try again to start a worker.
    Respawn,
    /// When to cancel what a drain has left.
    Drain,
    /// When to stop waiting for workers that do not end.
    GiveUp,
}

/// Kinds of deadlines, with each lane's apart.
const KINDS: usize = 15;

impl TimerKey {
    /// Its kind and its place among those of that kind.
    const fn place(self) -> (usize, usize) {
        match self {
            Self::Wake(slot) => (0, slot.index()),
            Self::Deadline(slot) => (1, slot.index()),
            Self::Ageing(Lane::Js, project) => (2, project.index()),
            Self::Ageing(Lane::Io, project) => (3, project.index()),
            Self::Spawn(w) => (4, w.index()),
            Self::Heartbeat(w) => (5, w.index()),
            Self::Running(w) => (6, w.index()),
            Self::Leave(w) => (7, w.index()),
            Self::Idle(w) => (8, w.index()),
            Self::Age(w) => (9, w.index()),
            Self::Scale(Lane::Js) => (10, 0),
            Self::Scale(Lane::Io) => (11, 0),
            Self::Respawn => (12, 0),
            Self::Drain => (13, 0),
            Self::GiveUp => (14, 0),
        }
    }
}

/// The table, and the moment from which it is looked at.
#[derive(Default, Debug)]
pub(crate) struct Timers {
    now: Time,
    order: BTreeSet<(Time, TimerKey)>,
    /// When each key is due, by kind and place; [`Time::NEVER`] when it is not armed. Every task
    /// asks several times whether a deadline is early enough, and places are small numbers: so this
    /// is no hash table.
    armed: [Vec<Time>; KINDS],
}

impl Timers {
    pub(crate) fn new(now: Time) -> Self {
        Self { now, ..Self::default() }
    }

    /// The moment of the event that is being handled.
    pub(crate) const fn now(&self) -> Time {
        self.now
    }

    /// Time has passed. A moment before that of an earlier event counts as that one's.
    pub(crate) fn advance(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    /// Nothing is due any more.
    pub(crate) fn disarm_all(&mut self) {
        *self = Self::new(self.now);
    }

    /// Sets the deadline of this key.
    pub(crate) fn arm(&mut self, key: TimerKey, at: Time) {
        let old = self.set(key, at);
        if old == at {
            return;
        }
        if old != Time::NEVER {
            self.order.remove(&(old, key));
        }
        if at != Time::NEVER {
            self.order.insert((at, key));
        }
    }

    /// Makes sure that this key comes up at this moment or earlier.
    pub(crate) fn arm_no_later(&mut self, key: TimerKey, at: Time) {
        if self.due(key) > at {
            self.arm(key, at);
        }
    }

    pub(crate) fn disarm(&mut self, key: TimerKey) {
        self.arm(key, Time::NEVER);
    }

    /// The earliest deadline.
    pub(crate) fn first(&self) -> Option<(Time, TimerKey)> {
        self.order.first().copied()
    }

    /// Takes out the earliest deadline that has come, with the moment it was set for.
    pub(crate) fn pop_due(&mut self) -> Option<(Time, TimerKey)> {
        let (at, key) = self.first()?;
        if at > self.now {
            return None;
        }
        self.order.pop_first();
        self.set(key, Time::NEVER);
        Some((at, key))
    }

    /// When this key is due.
    pub(crate) fn armed(&self, key: TimerKey) -> Option<Time> {
        let due = self.due(key);
        (due != Time::NEVER).then_some(due)
    }

    fn due(&self, key: TimerKey) -> Time {
        let (kind, place) = key.place();
        self.armed[kind].get(place).copied().unwrap_or(Time::NEVER)
    }

    /// Notes when the key is due, and returns when it was.
    fn set(&mut self, key: TimerKey, at: Time) -> Time {
        let (kind, place) = key.place();
        let of_kind = &mut self.armed[kind];
        if let Some(due) = of_kind.get_mut(place) {
            return core::mem::replace(due, at);
        }
        if at != Time::NEVER {
            of_kind.resize(place + 1, Time::NEVER);
            of_kind[place] = at;
        }
        Time::NEVER
    }

    /// Whether both views of the table are the same.
    pub(crate) fn is_consistent(&self) -> bool {
        let armed = self.armed.iter().flatten().filter(|due| **due != Time::NEVER).count();
        self.order.len() == armed && self.order.iter().all(|(at, key)| self.due(*key) == *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_deadline_and_arming_moves_it() {
        let mut timers = Timers::default();
        timers.arm(TimerKey::Respawn, Time(50));
        timers.arm(TimerKey::Respawn, Time(20));
        timers.arm_no_later(TimerKey::Respawn, Time(30));
        timers.arm(TimerKey::Drain, Time(25));
        assert_eq!(timers.first(), Some((Time(20), TimerKey::Respawn)));
        assert_eq!(timers.pop_due(), None);
        timers.advance(Time(30));
        timers.advance(Time(10));
        assert_eq!(timers.now(), Time(30), "time does not go back");
        assert_eq!(timers.pop_due(), Some((Time(20), TimerKey::Respawn)));
        assert_eq!(timers.pop_due(), Some((Time(25), TimerKey::Drain)));
        assert_eq!(timers.pop_due(), None);
        assert!(timers.is_consistent());
    }

    #[test]
    fn a_disarmed_timer_does_not_come() {
        let mut timers = Timers::default();
        let [task, other] = [1, 1_000_000].map(|row| TimerKey::Wake(TaskPlace::new(row)));
        timers.arm(task, Time(5));
        timers.disarm(task);
        timers.disarm(other);
        timers.advance(Time(9));
        assert_eq!((timers.pop_due(), timers.armed(task)), (None, None));
        assert!(timers.is_consistent());
    }

    #[test]
    fn keys_of_one_place_are_apart() {
        let mut timers = Timers::default();
        let lanes = Lane::ALL
            .into_iter()
            .flat_map(|lane| [TimerKey::Ageing(lane, ProjectPlace::new(3)), TimerKey::Scale(lane)]);
        let single = [TimerKey::Respawn, TimerKey::Drain, TimerKey::GiveUp];
        let of_task = [TimerKey::Wake, TimerKey::Deadline].map(|of| of(TaskPlace::new(3)));
        let of_worker = [
            TimerKey::Spawn,
            TimerKey::Heartbeat,
            TimerKey::Running,
            TimerKey::Leave,
            TimerKey::Idle,
            TimerKey::Age,
        ]
        .map(|of| of(WorkerPlace::new(3)));
        for (key, at) in lanes.chain(single).chain(of_task).chain(of_worker).zip(1..) {
            timers.arm(key, Time(at));
        }
        assert!(timers.is_consistent() && timers.order.len() == KINDS);
    }
}
