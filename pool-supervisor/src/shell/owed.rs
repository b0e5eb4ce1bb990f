//! Outcomes on their way to one client: some wait for room in its outbox, some lie in it.
//!
//! An outcome counts as received when its bytes have left, not when they are queued. Until then it
//! is kept, so a client that reads slowly costs what the outcomes cost that are kept anyway.
//!
//! Nearly every outcome leaves in the turn in which it came. So it is filed as received at once, in
//! that hope, and filed again only when the socket did not take it: [`Standing::Hoped`].

use std::collections::VecDeque;

use pool_protocol::id::TaskId;

use super::waits::TagOf;

/// Bytes of outcomes that may wait for one client's outbox. Above this it is dropped.
pub(crate) const MAX_PARKED_BYTES: usize = 128 << 20;

/// How an outcome in the outbox is filed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// As one that nobody has received yet.
    Owed,
    /// As one that was received. `keep`: whether its task was submitted to be asked about later.
    Hoped { keep: bool },
}

/// An outcome in the outbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Leaving {
    /// It has left once the socket has taken so many bytes.
    until: u64,
    pub(crate) task: TaskId,
    pub(crate) standing: Standing,
}

/// An outcome that waits for room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Parked {
    pub(crate) request: u64,
    pub(crate) task: TaskId,
    pub(crate) tag: TagOf,
    bytes: usize,
}

/// One client's outcomes.
#[derive(Default, Debug)]
pub(crate) struct Owed {
    /// In the order of their bytes.
    leaving: VecDeque<Leaving>,
    hoped: usize,
    parked: VecDeque<Parked>,
    parked_bytes: usize,
}

impl Owed {
    pub(crate) fn is_empty(&self) -> bool {
        self.leaving.is_empty() && self.parked.is_empty()
    }

    pub(crate) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Bytes of the outcomes that wait for room.
    pub(crate) const fn parked_bytes(&self) -> usize {
        self.parked_bytes
    }

    /// An outcome that waits for room. False when it is one too many.
    #[must_use]
    pub(crate) fn park(&mut self, request: u64, task: TaskId, tag: TagOf, bytes: usize) -> bool {
        let bytes = bytes + tag.bytes();
        self.parked.push_back(Parked { request, task, tag, bytes });
        self.parked_bytes += bytes;
        self.parked_bytes <= MAX_PARKED_BYTES
    }

    /// The next one that there is room for now.
    pub(crate) fn unpark(&mut self) -> Option<Parked> {
        let parked = self.parked.pop_front()?;
        self.parked_bytes -= parked.bytes;
        Some(parked)
    }

    /// An outcome was put into the outbox, which ends there now.
    pub(crate) fn put(&mut self, until: u64, task: TaskId, standing: Standing) {
        self.hoped += usize::from(standing != Standing::Owed);
        self.leaving.push_back(Leaving { until, task, standing });
    }

    /// Takes out the next one that has left, when the socket has taken so many bytes.
    pub(crate) fn left(&mut self, written: u64) -> Option<Leaving> {
        // Where hopes alone came true nobody has to be told.
        if self.hoped == self.leaving.len()
            && self.leaving.back().is_some_and(|last| last.until <= written)
        {
            self.leaving.clear();
            self.hoped = 0;
            return None;
        }
        let left = self.leaving.pop_front_if(|first| first.until <= written)?;
        self.hoped -= usize::from(left.standing != Standing::Owed);
        Some(left)
    }

    /// Those that were hoped to have left and have not: they are owed from now on.
    pub(crate) fn give_up_hope(&mut self) -> Vec<(TaskId, bool)> {
        if self.hoped == 0 {
            return Vec::new();
        }
        self.hoped = 0;
        let hopes = self.leaving.iter_mut().filter_map(|leaving| match leaving.standing {
            Standing::Owed => None,
            Standing::Hoped { keep } => {
                leaving.standing = Standing::Owed;
                Some((leaving.task, keep))
            }
        });
        hopes.collect()
    }

    /// All that is owed, one by one: for a client that is gone.
    pub(crate) fn pop(&mut self) -> Option<TaskId> {
        debug_assert_eq!(self.hoped, 0, "hope was given up first");
        self.leaving
            .pop_front()
            .map(|leaving| leaving.task)
            .or_else(|| self.unpark().map(|parked| parked.task))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_has_left_when_its_last_byte_has() {
        let mut owed = Owed::default();
        owed.put(100, TaskId(1), Standing::Owed);
        owed.put(300, TaskId(2), Standing::Hoped { keep: true });
        assert_eq!(owed.left(99), None);
        assert_eq!(owed.left(100).map(|left| left.task), Some(TaskId(1)));
        assert_eq!(owed.left(299), None);
        assert_eq!(owed.give_up_hope(), [(TaskId(2), true)]);
        assert_eq!(owed.give_up_hope(), []);
        assert_eq!(owed.left(300).map(|left| left.standing), Some(Standing::Owed));
        assert!(owed.is_empty());
    }

    #[test]
    fn hopes_that_came_true_are_forgotten_at_once() {
        let mut owed = Owed::default();
        for n in 1..=3 {
            owed.put(n * 10, TaskId(n), Standing::Hoped { keep: false });
        }
        assert_eq!(owed.left(30), None);
        assert!(owed.is_empty());
    }

    #[test]
    fn what_waits_for_room_is_bounded_in_bytes() {
        let mut owed = Owed::default();
        assert!(owed.park(1, TaskId(1), TagOf::Task, MAX_PARKED_BYTES));
        assert!(!owed.park(2, TaskId(2), TagOf::Task, 1));
        assert_eq!(owed.unpark().map(|parked| parked.request), Some(1));
        let tag = TagOf::Submission(Some("x".into()));
        assert!(owed.park(3, TaskId(3), tag.clone(), MAX_PARKED_BYTES - 2), "its tag counts too");
        assert!(!owed.park(4, TaskId(4), tag, 0));
        let left = std::array::from_fn(|_| owed.pop());
        assert_eq!(left, [Some(TaskId(2)), Some(TaskId(3)), Some(TaskId(4)), None]);
    }
}
