//! The bytes of tasks that have not ended, in the places that the core names.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashTable;
use pool_core::place::TaskPlace;
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
    #[expect(
        clippy::box_collection,
        reason = "an empty vector is three times as large as nothing, a million times"
    )]
    others: Option<Box<Vec<Waiter>>>,
}

const _: () = assert!(
    size_of::<Option<Held>>() <= 104,
    "a waiting task is at most 104 bytes here, besides its body"
);

impl Held {
    /// One more who gets the outcome. `holds` tells which of those that are noted still wait: the
    /// list forgets the others whenever it would grow, so that it is never longer than twice what
    /// is waited for.
    pub(crate) fn add_waiter(&mut self, waiter: Waiter, holds: impl Fn(Waiter) -> bool) {
        let others = self.others.get_or_insert_default();
        if others.len() == others.capacity() {
            others.retain(|other| holds(*other));
        }
        others.push(waiter);
    }

    /// The client that submitted it, when that wants the outcome.
    pub(crate) fn submitter(&self) -> Option<Waiter> {
        self.submitter_waits.then_some(self.submitter)
    }

    /// Who else may wait for it.
    pub(crate) fn take_others(&mut self) -> Vec<Waiter> {
        self.others.take().map_or_else(Vec::new, |others| *others)
    }

    fn is_of(&self, waiter: Waiter) -> bool {
        self.submitter_waits && self.submitter == waiter
    }
}

/// Places of tasks by the client and the number that they were submitted under. An entry is a place
/// alone, four bytes for each of a million tasks; the task that lies there knows the rest.
#[derive(Debug)]
struct Submissions {
    places: HashTable<TaskPlace>,
    /// Drawn at each start: clients choose their numbers.
    keys: [u64; 2],
}

impl Default for Submissions {
    fn default() -> Self {
        let key = || RandomState::new().hash_one(0_u8);
        Self { places: HashTable::new(), keys: [key(), key()] }
    }
}

impl Submissions {
    /// Two words folded into one by a multiplication with what nobody outside knows.
    fn hash(keys: [u64; 2], of: Waiter) -> u64 {
        let client = u64::from(of.client.generation) << 32 | u64::from(of.client.slot);
        let product = u128::from(of.request ^ keys[0]) * u128::from((client ^ keys[1]) | 1);
        product as u64 ^ (product >> 64) as u64
    }

    /// Notes a task in its place. A number that is in use already means the newer task from now on.
    fn insert(&mut self, slots: &[Option<Held>], place: TaskPlace, of: Waiter) {
        let keys = self.keys;
        let hash = Self::hash(keys, of);
        match self.places.find_mut(hash, |place| is_of(slots, *place, of)) {
            Some(older) => *older = place,
            None => {
                let rehash = |place: &TaskPlace| {
                    let held = slots[place.index()].as_ref().expect("its entry goes with the task");
                    Self::hash(keys, held.submitter)
                };
                self.places.insert_unique(hash, place, rehash);
            }
        }
    }

    fn find(&self, slots: &[Option<Held>], of: Waiter) -> Option<TaskPlace> {
        self.places.find(Self::hash(self.keys, of), |place| is_of(slots, *place, of)).copied()
    }

    /// Forgets a task, unless a newer one has its number.
    fn remove(&mut self, place: TaskPlace, of: Waiter) {
        if let Ok(entry) =
            self.places.find_entry(Self::hash(self.keys, of), |other| *other == place)
        {
            entry.remove();
        }
    }
}

fn is_of(slots: &[Option<Held>], place: TaskPlace, waiter: Waiter) -> bool {
    slots[place.index()].as_ref().is_some_and(|held| held.is_of(waiter))
}

/// All of them.
#[derive(Default)]
pub(crate) struct Tasks {
    slots: Vec<Option<Held>>,
    submissions: Submissions,
    /// Under a key drawn at the start, as the standard library has it: clients choose the names.
    projects: HashSet<Arc<str>>,
}

impl Tasks {
    /// Makes room for so many tasks at once: of addresses, while memory comes with the tasks. The
    /// table would move as it grows, and everything would wait for it.
    pub(crate) fn reserve(&mut self, count: usize) {
        // Without the addresses it grows by and by.
        let _reserved = self.slots.try_reserve_exact(count);
    }

    /// Puts a new task into its place.
    pub(crate) fn put(&mut self, slot: TaskPlace, held: Held) {
        let index = slot.index();
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        let submitter = held.submitter();
        let before = self.slots[index].replace(held);
        assert!(before.is_none(), "a place is free before it is used again");
        if let Some(of) = submitter {
            self.submissions.insert(&self.slots, slot, of);
        }
    }

    pub(crate) fn get(&self, slot: TaskPlace) -> &Held {
        self.slots[slot.index()]
            .as_ref()
            .expect("the core names places of tasks that have not ended")
    }

    /// What is in a place, if anything is.
    pub(crate) fn find(&self, slot: TaskPlace) -> Option<&Held> {
        self.slots.get(slot.index())?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: TaskPlace) -> &mut Held {
        self.slots[slot.index()]
            .as_mut()
            .expect("the core names places of tasks that have not ended")
    }

    pub(crate) fn take(&mut self, slot: TaskPlace) -> Held {
        let held = self.slots[slot.index()].take().expect("the core ends a task once");
        if let Some(of) = held.submitter() {
            self.submissions.remove(slot, of);
        }
        held
    }

    /// The task that a client submitted under a number of its own and whose outcome it wants.
    pub(crate) fn submitted_as(&self, waiter: Waiter) -> Option<TaskId> {
        let place = self.submissions.find(&self.slots, waiter)?;
        Some(self.get(place).id)
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

    const CLIENT: ClientId = ClientId { slot: 1, generation: 1 };

    fn waiter(request: u64) -> Waiter {
        Waiter { client: CLIENT, request }
    }

    fn held(id: u64, from: Waiter, want_outcome: bool) -> Held {
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
        submitted.hold(TaskId(id), from, &mut BufferPool::default())
    }

    #[test]
    fn a_task_has_the_waiters_that_were_added_and_its_submitter_if_that_waits() {
        let waiters = |want_outcome| {
            let mut held = held(1, waiter(1), want_outcome);
            held.add_waiter(waiter(2), |_| true);
            held.add_waiter(waiter(3), |_| true);
            (held.submitter(), held.take_others())
        };
        assert_eq!(waiters(true), (Some(waiter(1)), vec![waiter(2), waiter(3)]));
        assert_eq!(waiters(false), (None, vec![waiter(2), waiter(3)]));
    }

    #[test]
    fn waiters_that_do_not_wait_any_more_do_not_pile_up() {
        let mut held = held(1, waiter(0), true);
        for request in 1..=100_000 {
            held.add_waiter(waiter(request), |other| other.request + 10 > request);
        }
        assert!(held.take_others().len() <= 64);
    }

    #[test]
    fn a_submission_is_found_by_its_client_and_number_until_it_ends() {
        let mut tasks = Tasks::default();
        for place in 0..1000 {
            let held = held(place as u64, waiter(place as u64 % 500), place % 3 > 0);
            tasks.put(TaskPlace::new(place), held);
        }
        let of_other = Waiter { client: ClientId { slot: 1, generation: 2 }, request: 1 };
        assert_eq!(tasks.submitted_as(of_other), None);
        assert_eq!(
            tasks.submitted_as(waiter(1)),
            Some(TaskId(1)),
            "place 501 does not want its outcome"
        );
        assert_eq!(
            tasks.submitted_as(waiter(2)),
            Some(TaskId(502)),
            "the newer of two with one number"
        );
        tasks.take(TaskPlace::new(2));
        assert_eq!(tasks.submitted_as(waiter(2)), Some(TaskId(502)));
        tasks.take(TaskPlace::new(502));
        assert_eq!(tasks.submitted_as(waiter(2)), None);
        for place in (0..1000).filter(|place| ![2, 502].contains(place)) {
            tasks.take(TaskPlace::new(place));
        }
        assert!(tasks.submissions.places.is_empty());
    }
}
