//! How many tasks are in flight, and which.
//!
//! Three threads meet here: the one that feeds tasks takes room, the one that collects outcomes gives it back, and Ctrl-C
//! stops both. Room is taken and given back many tasks at a time, so that the lock is no part of a task's cost.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashSet;

/// The window of one `submit`.
#[derive(Debug)]
pub(super) struct Window {
    state: Mutex<State>,
    /// There is room again, or nothing more is to be fed.
    room: Condvar,
    /// There is something to wait for, or nothing will ever be.
    work: Condvar,
}

#[derive(Debug)]
struct State {
    /// Tasks that may still be sent. Room that was taken and is not used yet is in neither count.
    free: usize,
    /// Sent, and not answered.
    sent: FxHashSet<u64>,
    feeding: Feeding,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Feeding {
    /// More tasks may come.
    Open,
    /// The input is at its end, or broken.
    Ended,
    /// Ctrl-C.
    Stopped,
}

impl Window {
    pub(super) fn new(size: usize) -> Self {
        let state = State { free: size, sent: HashSet::default(), feeding: Feeding::Open };
        Self { state: Mutex::new(state), room: Condvar::new(), work: Condvar::new() }
    }

    /// Waits for room and takes all there is. `None` once nothing more is to be fed.
    pub(super) fn take_room(&self) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if state.feeding != Feeding::Open {
                return None;
            }
            if state.free > 0 {
                return Some(std::mem::take(&mut state.free));
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The tasks of these numbers are about to be sent; `false`, and nothing noted, if they must not be any more.
    pub(super) fn note_sent(&self, numbers: &[u64]) -> bool {
        let mut state = self.lock();
        if state.feeding == Feeding::Stopped {
            return false;
        }
        state.sent.extend(numbers);
        self.work.notify_one();
        true
    }

    /// The tasks of these numbers are answered and their room is free. Fails with a number that was not in flight.
    pub(super) fn note_ended(&self, numbers: impl Iterator<Item = u64>) -> Result<(), u64> {
        let mut state = self.lock();
        for number in numbers {
            if !state.sent.remove(&number) {
                return Err(number);
            }
            state.free += 1;
        }
        self.room.notify_one();
        Ok(())
    }

    /// Waits until an answer is due. `false` once none is, and none will be.
    pub(super) fn wait_for_work(&self) -> bool {
        let mut state = self.lock();
        loop {
            if !state.sent.is_empty() {
                return true;
            }
            if state.feeding != Feeding::Open {
                return false;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing more will be fed.
    pub(super) fn end_feeding(&self) {
        let mut state = self.lock();
        if state.feeding == Feeding::Open {
            state.feeding = Feeding::Ended;
        }
        self.work.notify_one();
        self.room.notify_one();
    }

    /// Nothing more may be sent. Gives what is in flight.
    pub(super) fn stop(&self) -> Vec<u64> {
        let mut state = self.lock();
        state.feeding = Feeding::Stopped;
        self.work.notify_one();
        self.room.notify_one();
        state.sent.iter().copied().collect()
    }

    /// Whether Ctrl-C stopped it.
    pub(super) fn is_stopped(&self) -> bool {
        self.lock().feeding == Feeding::Stopped
    }

    /// How many answers are due.
    pub(super) fn outstanding(&self) -> usize {
        self.lock().sent.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_was_given_back() {
        let window = Window::new(3);
        assert_eq!(window.take_room(), Some(3));
        assert!(window.note_sent(&[1, 2, 3]));
        assert_eq!(window.note_ended([2, 3].into_iter()), Ok(()));
        assert_eq!(window.take_room(), Some(2));
        assert_eq!(window.outstanding(), 1);
        assert_eq!(window.note_ended([2].into_iter()), Err(2), "a task ends once");
    }

    #[test]
    fn the_end_of_the_input_leaves_what_is_in_flight_to_wait_for() {
        let window = Window::new(3);
        assert!(window.note_sent(&[1]));
        window.end_feeding();
        assert!(window.wait_for_work());
        assert_eq!(window.note_ended([1].into_iter()), Ok(()));
        assert!(!window.wait_for_work());
        assert_eq!(window.take_room(), None);
    }

    #[test]
    fn after_a_stop_nothing_more_is_sent() {
        let window = Window::new(3);
        assert!(window.note_sent(&[7]));
        assert_eq!(window.stop(), [7]);
        assert!(!window.note_sent(&[8]));
        window.end_feeding();
        assert!(window.is_stopped());
    }
}
