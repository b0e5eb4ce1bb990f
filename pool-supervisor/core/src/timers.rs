//! All deadlines of the core, in one ordered table.
//!
//! Owns when each thing is due; what is done then is decided where the thing lives. Each key has at most one deadline.
//! Most deadlines of a busy pool never come true, so the ones on the hot path are armed lazily: a timer may come early,
//! its handler looks again and arms it anew. What must never happen is that it comes late.

use alloc::collections::BTreeSet;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::settings::Lane;
use crate::time::Time;

/// What a deadline is about. Numbers are places of tasks, projects and workers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum TimerKey {
    /// When to queue a task whose delay or back-off is over.
    Wake(u32),
    /// When to end a task that has not been started by its deadline.
    Deadline(u32),
    /// When to look whether a project's first waiting task has aged into the next priority.
    Ageing(Lane, u32),
    /// When to kill a worker that is not ready.
    Spawn(u32),
    /// When to look whether a worker's heartbeats have stopped.
    Heartbeat(u32),
    /// When to look how long a worker has been busy with its first task.
    Head(u32),
    /// When to kill a worker that should have left.
    Leave(u32),
    /// When to look whether a worker has been idle for too long.
    Idle(u32),
    /// When to replace a worker for its age.
    Age(u32),
    /// When to look at a lane's load again.
    Scale(Lane),
    /// When to try again to start a worker.
    Respawn,
    /// When to cancel what a drain has left.
    Drain,
    /// When to stop waiting for workers that do not end.
    GiveUp,
}

/// The table.
#[derive(Default, Debug)]
pub(crate) struct Timers {
    order: BTreeSet<(Time, TimerKey)>,
    armed: HashMap<TimerKey, Time, FxBuildHasher>,
}

impl Timers {
    /// Sets the deadline of this key.
    pub(crate) fn arm(&mut self, key: TimerKey, at: Time) {
        if let Some(old) = self.armed.insert(key, at) {
            if old == at {
                return;
            }
            self.order.remove(&(old, key));
        }
        self.order.insert((at, key));
    }

    /// Makes sure that this key comes up at this moment or earlier.
    pub(crate) fn arm_no_later(&mut self, key: TimerKey, at: Time) {
        if self.armed.get(&key).is_none_or(|armed| *armed > at) {
            self.arm(key, at);
        }
    }

    pub(crate) fn disarm(&mut self, key: TimerKey) {
        if let Some(at) = self.armed.remove(&key) {
            self.order.remove(&(at, key));
        }
    }

    /// The earliest deadline.
    pub(crate) fn first(&self) -> Option<(Time, TimerKey)> {
        self.order.first().copied()
    }

    /// Takes out the earliest deadline that has come, with the moment it was set for.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<(Time, TimerKey)> {
        let (at, key) = self.first()?;
        if at > now {
            return None;
        }
        self.order.pop_first();
        self.armed.remove(&key);
        Some((at, key))
    }

    /// When this key is due.
    pub(crate) fn armed(&self, key: TimerKey) -> Option<Time> {
        self.armed.get(&key).copied()
    }

    /// Whether both views of the table are the same.
    pub(crate) fn is_consistent(&self) -> bool {
        self.order.len() == self.armed.len() && self.order.iter().all(|(at, key)| self.armed.get(key) == Some(at))
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
        assert_eq!(timers.pop_due(Time(30)), Some((Time(20), TimerKey::Respawn)));
        assert_eq!(timers.pop_due(Time(30)), Some((Time(25), TimerKey::Drain)));
        assert_eq!(timers.pop_due(Time(30)), None);
        assert!(timers.is_consistent());
    }

    #[test]
    fn a_disarmed_timer_does_not_come() {
        let mut timers = Timers::default();
        timers.arm(TimerKey::Wake(1), Time(5));
        timers.disarm(TimerKey::Wake(1));
        assert_eq!(timers.pop_due(Time(9)), None);
        assert!(timers.is_consistent());
    }
}
