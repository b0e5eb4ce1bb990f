//! The bytes of tasks that have not ended, in the places that the core names.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use pool_core::action::TaskSlot;
use pool_protocol::id::{ClientId, TaskId};
use pool_protocol::task::{OnDisconnect, Realm, TaskHead, TaskKind};

use super::buffers::{Body, BufferPool};

/// Who gets an outcome, under which number of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Waiter {
    pub(crate) client: ClientId,
    pub(crate) request: u64,
}

/// A task as the shell holds it. A million may wait, so its size counts: see the assertion below.
pub(crate) struct Held {
    pub(crate) id: TaskId,
    pub(crate) kind: TaskKind,
    pub(crate) realm: Realm,
    pub(crate) logs: bool,
    /// Whether the outcome is kept for whoever asks later.
    pub(crate) keep: bool,
    pub(crate) code_len: u32,
    pub(crate) project: Arc<str>,
    pub(crate) tag: Option<Box<str>>,
    pub(crate) body: Body,
    submitter: Waiter,
    submitter_waits: bool,
    /// Who else waits for it; rarely anybody.
    #[expect(clippy::box_collection, reason = "an empty vector is three times as large as nothing, a million times")]
    others: Option<Box<Vec<Waiter>>>,
}

const _: () = assert!(size_of::<Option<Held>>() <= 104, "a waiting task is at most 104 bytes here, besides its body");

impl Held {
    /// One more who gets the outcome.
    pub(crate) fn add_waiter(&mut self, waiter: Waiter) {
        self.others.get_or_insert_default().push(waiter);
    }

    /// Who gets the outcome; first who submitted it, when that client wants it.
    pub(crate) fn waiters(&self) -> impl Iterator<Item = Waiter> {
        let submitter = self.submitter_waits.then_some(self.submitter);
        submitter.into_iter().chain(self.others.iter().flat_map(|others| others.iter().copied()))
    }

    fn is_of(&self, waiter: Waiter) -> bool {
        self.submitter_waits && self.submitter == waiter
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Tasks {
    slots: Vec<Option<Held>>,
    /// Under a key drawn at the start, as the standard library has it: clients choose the names.
    projects: HashSet<Arc<str>>,
}

impl Tasks {
    /// Makes room for so many tasks at once: of addresses, while memory comes with the tasks. The table would move as it
    /// grows, and everything would wait for it.
    pub(crate) fn reserve(&mut self, count: usize) {
        // Without the addresses it grows by and by.
        let _reserved = self.slots.try_reserve_exact(count);
    }

    /// Puts a new task into its place.
    pub(crate) fn put(&mut self, slot: TaskSlot, held: Held) {
        let index = slot.0 as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        let before = self.slots[index].replace(held);
        assert!(before.is_none(), "a place is free before it is used again");
    }

    pub(crate) fn get(&self, slot: TaskSlot) -> &Held {
        self.slots[slot.0 as usize].as_ref().expect("the core names places of tasks that have not ended")
    }

    /// What is in a place, if anything is.
    pub(crate) fn find(&self, slot: TaskSlot) -> Option<&Held> {
        self.slots.get(slot.0 as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: TaskSlot) -> &mut Held {
        self.slots[slot.0 as usize].as_mut().expect("the core names places of tasks that have not ended")
    }

    pub(crate) fn take(&mut self, slot: TaskSlot) -> Held {
        self.slots[slot.0 as usize].take().expect("the core ends a task once")
    }

    /// The task that a client submitted under a number of its own. A walk through all of them: asked for when a person
    /// presses Ctrl-C.
    pub(crate) fn submitted_as(&self, waiter: Waiter) -> Option<TaskId> {
        self.slots.iter().flatten().find(|t| t.is_of(waiter)).map(|t| t.id)
    }

    /// The shared text of a project's name.
    pub(crate) fn intern(&mut self, project: &str) -> Arc<str> {
        if let Some(name) = self.projects.get(project) {
            return Arc::clone(name);
        }
        self.forget_unused_names();
        let name: Arc<str> = project.into();
        self.projects.insert(Arc::clone(&name));
        name
    }

    /// Names come from clients and must not pile up: those in use only here go when there are many.
    fn forget_unused_names(&mut self) {
        const MANY: usize = 4096;
        if self.projects.len() >= MANY && self.projects.len() == self.projects.capacity() {
            self.projects.retain(|name| Arc::strong_count(name) > 1);
        }
    }
}

/// A task between the client's frame and the core's answer.
pub(crate) struct Submitted {
    pub(crate) kind: TaskKind,
    pub(crate) realm: Realm,
    pub(crate) logs: bool,
    pub(crate) code_len: u32,
    pub(crate) keep: bool,
    pub(crate) ack: bool,
    pub(crate) want_outcome: bool,
    pub(crate) project: Arc<str>,
    pub(crate) tag: Option<Box<str>>,
    pub(crate) body: Bytes,
}

impl Submitted {
    pub(crate) fn new(head: &TaskHead<'_>, realm: Realm, project: Arc<str>, body: Bytes) -> Self {
        Self {
            kind: head.kind,
            realm,
            logs: head.logs,
            code_len: head.code_len,
            keep: head.on_disconnect == OnDisconnect::Keep,
            ack: head.ack,
            want_outcome: head.want_outcome,
            project,
            tag: head.tag.map(Into::into),
            body,
        }
    }

    /// Accepted under an id.
    pub(crate) fn hold(self, id: TaskId, from: Waiter, buffers: &mut BufferPool) -> Held {
        Held {
            id,
            kind: self.kind,
            realm: self.realm,
            logs: self.logs,
            keep: self.keep,
            code_len: self.code_len,
            project: self.project,
            tag: self.tag,
            body: buffers.keep(&self.body),
            submitter: from,
            submitter_waits: self.want_outcome,
            others: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_has_the_waiters_that_were_added_and_its_submitter_if_that_waits() {
        let waiter = |request| Waiter { client: ClientId { slot: 1, generation: 1 }, request };
        let held = |want_outcome| {
            let submitted = Submitted {
                kind: TaskKind::Code,
                realm: Realm::Fresh,
                logs: false,
                code_len: 0,
                keep: false,
                ack: false,
                want_outcome,
                project: "p".into(),
                tag: None,
                body: Bytes::new(),
            };
            let mut held = submitted.hold(TaskId(1), waiter(1), &mut BufferPool::default());
            held.add_waiter(waiter(2));
            held.add_waiter(waiter(3));
            held.waiters().map(|waiter| waiter.request).collect::<Vec<_>>()
        };
        assert_eq!(held(true), [1, 2, 3]);
        assert_eq!(held(false), [2, 3]);
    }
}
