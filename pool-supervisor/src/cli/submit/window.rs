//! How many tasks are in flight, and which.
//!
//! Four threads meet here: the one that feeds tasks takes room, the one that collects outcomes
//! gives it back, one sends again what a full queue had no place for, and Ctrl-C stops them all.
//! Room is taken and given back many tasks at a time, so that the lock is no part of a task's cost.
//!
//! A task stays here until it is answered, since it may have to be sent again. So what is in flight
//! is bounded in bytes too. While tasks wait to be sent again nothing new is fed: the queue is
//! full, and first come is first served.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pool_protocol::task::Task;
use rustc_hash::FxHashMap;

use crate::client::Outcome;

/// Bytes of bodies in flight, above which nothing more is fed.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The window of one `submit`.
#[derive(Debug)]
pub(super) struct Window {
    state: Mutex<State>,
    /// There is room again, or nothing more is to be fed.
    room: Condvar,
    /// There is something to wait for, or nothing will ever be.
    work: Condvar,
    /// Tasks wait to be sent again, or their chances have changed.
    again: Condvar,
}

#[derive(Debug)]
struct State {
    /// Tasks that may still be sent. Room that was taken and is not used yet is in neither count.
    free: usize,
    /// Sent, and not answered for good.
    sent: FxHashMap<u64, Box<Task>>,
    /// Bytes of their bodies.
    bytes: usize,
    /// Those among them that the queue had no place for, each with the refusal, in the order of
    /// their numbers.
    refused: VecDeque<Outcome>,
    /// Answers for good since refused ones were sent again last.
    answered: usize,
    /// How many are sent again next, and whether any of the last such ones came back.
    next_batch: usize,
    came_back: bool,
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

impl State {
    fn in_flight(&self) -> usize {
        self.sent.len() - self.refused.len()
    }

    fn is_over(&self) -> bool {
        match self.feeding {
            Feeding::Open => false,
            Feeding::Ended => self.sent.is_empty(),
            Feeding::Stopped => true,
        }
    }

    fn is_held_up(&self) -> bool {
        !self.refused.is_empty() || self.bytes >= MAX_BYTES
    }
}

impl Window {
    pub(super) fn new(size: usize) -> Self {
        let state = State {
            free: size,
            sent: HashMap::default(),
            bytes: 0,
            refused: VecDeque::new(),
            answered: 0,
            next_batch: 1,
            came_back: false,
            feeding: Feeding::Open,
        };
        Self {
            state: Mutex::new(state),
            room: Condvar::new(),
            work: Condvar::new(),
            again: Condvar::new(),
        }
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

    /// The tasks of these numbers are about to be sent; `false`, and nothing noted, if they must
    /// not be any more.
    pub(super) fn note_sent(&self, tasks: &mut Vec<(u64, Box<Task>)>) -> bool {
        let mut state = self.lock();
        if state.feeding == Feeding::Stopped {
            return false;
        }
        state.bytes += tasks.iter().map(|(_, task)| task.body.len()).sum::<usize>();
        state.sent.extend(tasks.drain(..));
        self.work.notify_one();
        true
    }

    /// Waits while the queue is full, or too much is in flight.
    pub(super) fn wait_until_clear(&self) {
        let mut state = self.lock();
        while state.is_held_up() && state.feeding == Feeding::Open {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The tasks of these numbers are answered and their room is free. Fails with a number that was
    /// not in flight.
    pub(super) fn note_ended(&self, numbers: impl Iterator<Item = u64>) -> Result<(), u64> {
        let mut state = self.lock();
        for number in numbers {
            let task = state.sent.remove(&number).ok_or(number)?;
            state.bytes -= task.body.len();
            state.free += 1;
            state.answered += 1;
        }
        self.room.notify_one();
        self.again.notify_one();
        Ok(())
    }

    /// The queue had no place for these: they are sent again. Fails with a number that was not in
    /// flight.
    pub(super) fn note_refused(&self, refusals: impl Iterator<Item = Outcome>) -> Result<(), u64> {
        let mut state = self.lock();
        for refusal in refusals {
            if !state.sent.contains_key(&refusal.request) {
                return Err(refusal.request);
            }
            state.came_back = true;
            if state.refused.is_empty() {
                // What was answered before made no room.
                state.answered = 0;
            }
            // Those that come back again go before those that came after them.
            let place = state.refused.partition_point(|other| other.request < refusal.request);
            state.refused.insert(place, refusal);
        }
        self.again.notify_one();
        Ok(())
    }

    /// Waits until refused tasks may be sent again: when others were answered, and in any case
    /// after this time. `false` once there are none, and will be none.
    pub(super) fn wait_for_refused(&self, pause: Duration) -> bool {
        let mut state = self.lock();
        while state.refused.is_empty() {
            if state.is_over() {
                return false;
            }
            state = self.again.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let is_hopeless = |state: &mut State| state.answered == 0 && !state.is_over();
        let waited = self.again.wait_timeout_while(state, pause, is_hopeless);
        !waited.unwrap_or_else(PoisonError::into_inner).0.is_over()
    }

    /// Takes the refused tasks that are to be sent again now, in the order of their numbers. At
    /// first one, and one for each that was answered; twice as many as the last time when none of
    /// those came back.
    pub(super) fn take_refused(&self, mut send: impl FnMut(u64, &Task)) {
        let mut state = self.lock();
        if state.is_over() {
            return;
        }
        state.next_batch = if std::mem::take(&mut state.came_back) {
            1
        } else {
            state.next_batch.saturating_mul(2)
        };
        let count =
            state.next_batch.max(std::mem::take(&mut state.answered)).min(state.refused.len());
        for refusal in state.refused.drain(..count).collect::<Vec<_>>() {
            send(refusal.request, &state.sent[&refusal.request]);
        }
        self.work.notify_one();
        self.room.notify_one();
    }

    /// What was never taken, once nothing more is sent: the refusals stand.
    pub(super) fn take_refusals(&self) -> Vec<Outcome> {
        let mut state = self.lock();
        let refusals = std::mem::take(&mut state.refused);
        for refusal in &refusals {
            state.sent.remove(&refusal.request);
        }
        refusals.into()
    }

    /// Waits until an answer is due. `false` once none is, and none will be.
    pub(super) fn wait_for_work(&self) -> bool {
        let mut state = self.lock();
        loop {
            if state.in_flight() > 0 {
                return true;
            }
            if state.is_over() {
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
        self.wake_all();
    }

    /// Nothing more may be sent. Gives what is in flight.
    pub(super) fn stop(&self) -> Vec<u64> {
        let mut state = self.lock();
        state.feeding = Feeding::Stopped;
        self.wake_all();
        let is_refused =
            |number| state.refused.binary_search_by_key(&number, |refusal| refusal.request).is_ok();
        state.sent.keys().copied().filter(|number| !is_refused(*number)).collect()
    }

    fn wake_all(&self) {
        self.work.notify_one();
        self.room.notify_one();
        self.again.notify_one();
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
    use bytes::Bytes;

    fn tasks(numbers: &[u64]) -> Vec<(u64, Box<Task>)> {
        let task =
            pool_protocol::task::parse(br#"{"type":"execute-code","code":"1"}"#).expect("valid");
        numbers.iter().map(|number| (*number, Box::new(task.clone()))).collect()
    }

    fn refusals(numbers: &[u64]) -> impl Iterator<Item = Outcome> {
        numbers.iter().map(|number| Outcome::new(*number, Bytes::new(), Bytes::new()))
    }

    fn taken(window: &Window) -> Vec<u64> {
        let mut numbers = Vec::new();
        window.take_refused(|number, _| numbers.push(number));
        numbers
    }

    #[test]
    fn room_is_what_was_given_back() {
        let window = Window::new(3);
        assert_eq!(window.take_room(), Some(3));
        assert!(window.note_sent(&mut tasks(&[1, 2, 3])));
        assert_eq!(window.note_ended([2, 3].into_iter()), Ok(()));
        assert_eq!(window.take_room(), Some(2));
        assert_eq!(window.outstanding(), 1);
        assert_eq!(window.note_ended([2].into_iter()), Err(2), "a task ends once");
    }

    #[test]
    fn the_end_of_the_input_leaves_what_is_in_flight_to_wait_for() {
        let window = Window::new(3);
        assert!(window.note_sent(&mut tasks(&[1])));
        window.end_feeding();
        assert!(window.wait_for_work());
        assert_eq!(window.note_ended([1].into_iter()), Ok(()));
        assert!(!window.wait_for_work());
        assert_eq!(window.take_room(), None);
        assert!(!window.wait_for_refused(Duration::ZERO));
    }

    #[test]
    fn after_a_stop_nothing_more_is_sent() {
        let window = Window::new(3);
        assert!(window.note_sent(&mut tasks(&[7])));
        assert_eq!(window.stop(), [7]);
        assert!(!window.note_sent(&mut tasks(&[8])));
        window.end_feeding();
        assert!(window.is_stopped());
    }

    #[test]
    fn what_was_refused_is_sent_again_in_order_and_more_of_it_as_long_as_none_comes_back() {
        let window = Window::new(9);
        assert!(window.note_sent(&mut tasks(&[1, 2, 3, 4, 5, 6, 7, 8, 9])));
        assert_eq!(window.note_refused(refusals(&[3, 2, 9, 4, 5, 6, 7, 8])), Ok(()));
        assert_eq!(window.note_refused(refusals(&[10])), Err(10));
        assert!(window.wait_for_refused(Duration::ZERO));
        assert_eq!(taken(&window), [2]);
        assert_eq!(window.note_refused(refusals(&[2])), Ok(()));
        assert_eq!(taken(&window), [2], "it came back, and is the first again");
        assert_eq!(taken(&window), [3, 4], "it did not come back");
        assert_eq!(taken(&window), [5, 6, 7, 8]);
        assert_eq!(window.note_refused(refusals(&[8])), Ok(()));
        assert_eq!(window.note_ended([1, 2, 3].into_iter()), Ok(()));
        assert_eq!(taken(&window), [8, 9], "room for one that was answered is room for another");
        assert_eq!(window.outstanding(), 6);
        window.end_feeding();
        assert!(window.wait_for_work(), "they are in flight again");
    }

    #[test]
    fn what_was_refused_when_all_is_stopped_stays_refused() {
        let window = Window::new(3);
        assert!(window.note_sent(&mut tasks(&[1, 2])));
        assert_eq!(window.note_refused(refusals(&[2])), Ok(()));
        assert_eq!(window.stop(), [1], "the supervisor does not know the other");
        assert!(!window.wait_for_refused(Duration::ZERO) && taken(&window).is_empty());
        assert_eq!(window.note_ended([1].into_iter()), Ok(()));
        assert!(!window.wait_for_work());
        assert_eq!(
            window.take_refusals().iter().map(|refusal| refusal.request).collect::<Vec<_>>(),
            [2]
        );
        assert_eq!(window.outstanding(), 0);
    }
}
