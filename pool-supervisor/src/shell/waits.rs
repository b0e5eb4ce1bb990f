//! What one client waits for besides its own tasks: the outcomes of tasks that another request
//! began.
//!
//! Owns the list and its bounds, in number and in bytes of tags. A task's list of waiters is a
//! hint; this is what holds.

use std::collections::HashMap;

use pool_protocol::control::OutcomeHead;
use pool_protocol::id::TaskId;

/// Outcomes of others' tasks that one connection may wait for at once.
pub(crate) const MAX_WAITS: usize = 65_536;
/// Bytes of tags that may wait with them.
const MAX_TAG_BYTES: usize = 4 << 20;

/// Whose `tag` an outcome has when it comes to somebody who waits for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum TagOf {
    /// The task's: it was only asked about.
    Task,
    /// The waiter's own: it submitted the task as well, under a key that was known.
    Submission(Option<Box<str>>),
}

impl TagOf {
    /// Bytes that are held for it.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Task | Self::Submission(None) => 0,
            Self::Submission(Some(tag)) => tag.len(),
        }
    }

    /// An outcome's head, as this waiter gets it.
    pub(crate) fn on<'a>(&'a self, head: OutcomeHead<'a>) -> OutcomeHead<'a> {
        match self {
            Self::Task => head,
            Self::Submission(tag) => OutcomeHead { tag: tag.as_deref(), ..head },
        }
    }
}

/// A client's wish for the outcome of a task that another request began.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Wait {
    task: TaskId,
    tag: TagOf,
}

/// All of one client, by its own numbers.
#[derive(Default, Debug)]
pub(crate) struct Waits {
    by_request: HashMap<u64, Wait>,
    tag_bytes: usize,
}

impl Waits {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_request.is_empty()
    }

    /// Notes one more.
    ///
    /// # Errors
    /// How many there are, when it would be one too many.
    pub(crate) fn add(&mut self, request: u64, task: TaskId, tag: TagOf) -> Result<(), usize> {
        let tag_bytes = self.tag_bytes + tag.bytes();
        if self.by_request.len() >= MAX_WAITS || tag_bytes > MAX_TAG_BYTES {
            return Err(self.by_request.len());
        }
        self.tag_bytes = tag_bytes;
        if let Some(before) = self.by_request.insert(request, Wait { task, tag }) {
            self.tag_bytes -= before.tag.bytes();
        }
        Ok(())
    }

    /// Whether this number still waits for this task.
    pub(crate) fn holds(&self, request: u64, task: TaskId) -> bool {
        self.by_request.get(&request).is_some_and(|wait| wait.task == task)
    }

    /// The task that this number waits for, and whether it was submitted under it.
    pub(crate) fn find(&self, request: u64) -> Option<(TaskId, bool)> {
        let wait = self.by_request.get(&request)?;
        Some((wait.task, matches!(wait.tag, TagOf::Submission(_))))
    }

    /// Ends a wait, if this number still waits for this task.
    pub(crate) fn take(&mut self, request: u64, task: TaskId) -> Option<TagOf> {
        if !self.holds(request, task) {
            return None;
        }
        let Wait { tag, .. } = self.by_request.remove(&request)?;
        self.tag_bytes -= tag.bytes();
        Some(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(tag: &str) -> TagOf {
        TagOf::Submission(Some(tag.into()))
    }

    #[test]
    fn a_wait_is_for_one_task_and_ends_once() {
        let mut waits = Waits::default();
        waits.add(7, TaskId(1), own("mine")).expect("room");
        assert!(
            waits.holds(7, TaskId(1)) && !waits.holds(7, TaskId(2)) && !waits.holds(8, TaskId(1))
        );
        assert_eq!(waits.find(7), Some((TaskId(1), true)));
        assert_eq!(waits.take(7, TaskId(2)), None);
        assert_eq!(waits.take(7, TaskId(1)), Some(own("mine")));
        assert_eq!((waits.take(7, TaskId(1)), waits.is_empty(), waits.tag_bytes), (None, true, 0));
    }

    #[test]
    fn waits_are_bounded_in_number_and_in_bytes_of_tags() {
        let mut waits = Waits::default();
        for request in 0..MAX_WAITS as u64 {
            waits.add(request, TaskId(1), TagOf::Task).expect("room");
        }
        assert_eq!(waits.add(u64::MAX, TaskId(1), TagOf::Task), Err(MAX_WAITS));
        let mut waits = Waits::default();
        let tag = "x".repeat(1024);
        let added =
            (0..).take_while(|request| waits.add(*request, TaskId(1), own(&tag)).is_ok()).count();
        assert_eq!(added, MAX_TAG_BYTES / tag.len());
        assert_eq!(waits.add(0, TaskId(1), own(&tag)), Err(added), "the older one is still there");
        assert!(waits.take(0, TaskId(1)).is_some());
        waits.add(0, TaskId(1), own(&tag)).expect("room again");
    }

    #[test]
    fn whoever_submitted_gets_its_own_tag_and_others_the_tasks() {
        let head = OutcomeHead {
            task: 1,
            status: pool_protocol::outcome::Status::Succeeded,
            code: None,
            attempts: 1,
            worker: None,
            receipt: pool_protocol::outcome::Receipt::default(),
            missing_layers: pool_protocol::layer::LayerSet::NONE,
            tag: Some("first"),
            result_len: 0,
        };
        assert_eq!(TagOf::Task.on(head.clone()).tag, Some("first"));
        assert_eq!(own("second").on(head.clone()).tag, Some("second"));
        assert_eq!(TagOf::Submission(None).on(head).tag, None, "it gave none");
    }
}
