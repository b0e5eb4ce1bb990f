//! Tasks and their places.
//!
//! Owns every task that has not ended, each in a place that is used again. A task leaves only by
//! [`Tasks::remove`], which hands it over whole: so it ends once. It must not decide anything about
//! them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

use hashbrown::HashMap;
use pool_protocol::id::{ClientId, TaskId, WorkerId};
use pool_protocol::lane::Lane;
use pool_protocol::outcome::ErrorCode;
use pool_protocol::policy::RetryPolicy;
use rustc_hash::FxBuildHasher;

use crate::ids::Ids;
use crate::list::{Link, Links, List};
use crate::place::{ProjectPlace, TaskPlace};
use crate::time::Time;

/// Where a task is in its life. The end is not among them: an ended task is not there any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TaskState {
    /// Its delay is not over; a timer wakes it.
    Delayed,
    /// In the queue of its project, lane and priority.
    Queued {
        /// Its neighbours there.
        link: Link<TaskPlace>,
    },
    /// Between two attempts; a timer wakes it.
    Retrying,
    /// Its turn has come, and its body is compared with those that are set aside.
    Checking,
    /// A worker holds it.
    Held {
        /// Which.
        worker: WorkerId,
        /// Whether it is the one that runs: the first that the worker holds.
        started: bool,
    },
    /// Let go by its worker; what becomes of it is being decided. Never seen between two events.
    LetGo,
}

/// The client whose going cancels the task, and the next such tasks of that client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    client: ClientId,
    link: Link<TaskPlace>,
}

/// What few tasks ask for, kept apart so that the others do not pay for it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Wishes {
    /// [`Time::NEVER`] when it has none.
    pub(crate) deadline: Time,
    pub(crate) retry: RetryPolicy,
}

impl Wishes {
    /// Nothing, when the wishes are everybody's.
    pub(crate) fn kept(self) -> Option<Box<Self>> {
        let usual = Self { deadline: Time::NEVER, retry: RetryPolicy::default() };
        (self != usual).then(|| Box::new(self))
    }
}

/// One task. A million may wait, so its size counts: see the assertion below.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) project: ProjectPlace,
    pub(crate) lane: Lane,
    pub(crate) priority: u8,
    /// The effective priority at which it was last chosen, where its cost is accounted.
    pub(crate) level: u8,
    /// How often a worker died of it.
    pub(crate) crashes: u8,
    /// It may have killed a worker that held others too: it runs alone, so that the next death has
    /// one suspect.
    pub(crate) solo: bool,
    /// Its body is none that was set aside when it was compared. Until it is assigned.
    pub(crate) checked: bool,
    /// It uses up what a worker makes ahead; see [`crate::event::NewTask::made_ahead`].
    pub(crate) made_ahead: bool,
    /// What its end will be called as soon as its worker lets go of it: cancelled, or past its
    /// deadline.
    pub(crate) stop: Option<ErrorCode>,
    pub(crate) max_attempts: u16,
    pub(crate) body_bytes: u32,
    /// Attempts that count. The number of the one being made is one more.
    pub(crate) attempts: u32,
    /// Worker time it was charged for in advance, in microseconds.
    pub(crate) charged_us: u32,
    pub(crate) state: TaskState,
    pub(crate) ran_on: Option<WorkerId>,
    pub(crate) owner: Option<Owner>,
    pub(crate) timeout_ms: u64,
    pub(crate) cpu_ms: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) accepted: Time,
    /// Since when it waits for a worker: decides first come, first served, and its age.
    pub(crate) enqueued: Time,
    /// When the last attempt started.
    pub(crate) started: Time,
    pub(crate) wishes: Option<Box<Wishes>>,
}

const _: () = assert!(size_of::<Entry>() <= 136, "a waiting task is at most 136 bytes here");

impl Task {
    /// [`Time::NEVER`] when it has none.
    pub(crate) fn deadline(&self) -> Time {
        self.wishes.as_ref().map_or(Time::NEVER, |wishes| wishes.deadline)
    }

    pub(crate) fn retry(&self) -> RetryPolicy {
        self.wishes.as_ref().map_or_else(RetryPolicy::default, |wishes| wishes.retry)
    }
}

#[derive(Debug)]
enum Entry {
    Vacant { next: Option<TaskPlace> },
    Occupied(Task),
}

/// All tasks that have not ended.
#[derive(Debug)]
pub(crate) struct Tasks {
    places: Vec<Entry>,
    vacant: Option<TaskPlace>,
    by_id: Ids,
    first: u64,
    next: u64,
}

impl Tasks {
    pub(crate) fn new(first: TaskId) -> Self {
        Self {
            places: Vec::new(),
            vacant: None,
            by_id: Ids::default(),
            first: first.0,
            next: first.0,
        }
    }

    pub(crate) fn reserve(&mut self, count: usize) {
        // Without the addresses it grows by and by.
        let _reserved = self.places.try_reserve_exact(count);
    }

    /// The id that the next task will have.
    pub(crate) const fn next_id(&self) -> TaskId {
        TaskId(self.next)
    }

    /// Gives the task, whose id is [`Self::next_id`], a place.
    pub(crate) fn insert(&mut self, task: Task) -> TaskPlace {
        debug_assert_eq!(task.id.0, self.next);
        self.next += 1;
        let id = task.id;
        let slot = if let Some(slot) = self.vacant {
            let Entry::Vacant { next } = self.places[slot.index()] else {
                unreachable!("the list of vacant places")
            };
            self.vacant = next;
            self.places[slot.index()] = Entry::Occupied(task);
            slot
        } else {
            self.places.push(Entry::Occupied(task));
            TaskPlace::new(self.places.len() - 1)
        };
        self.by_id.insert(id.0, slot);
        slot
    }

    /// Takes the task out; its place is free.
    pub(crate) fn remove(&mut self, slot: TaskPlace) -> Task {
        let entry =
            core::mem::replace(&mut self.places[slot.index()], Entry::Vacant { next: self.vacant });
        let Entry::Occupied(task) = entry else { unreachable!("a task is removed once") };
        self.vacant = Some(slot);
        self.by_id.remove(task.id.0);
        task
    }

    pub(crate) fn find(&self, id: TaskId) -> Option<TaskPlace> {
        self.by_id.find(id.0)
    }

    /// Whether the id was ever given.
    pub(crate) const fn known(&self, id: TaskId) -> bool {
        self.first <= id.0 && id.0 < self.next
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.len() == 0
    }

    /// The task behind this one in its list.
    pub(crate) fn next_in_list(&self, slot: TaskPlace) -> Option<TaskPlace> {
        let TaskState::Queued { link } = self[slot].state else {
            unreachable!("a list holds queued tasks only")
        };
        link.next
    }

    /// All, in the order of their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TaskPlace, &Task)> {
        self.places.iter().enumerate().filter_map(|(row, entry)| match entry {
            Entry::Vacant { .. } => None,
            Entry::Occupied(task) => Some((TaskPlace::new(row), task)),
        })
    }
}

impl Index<TaskPlace> for Tasks {
    type Output = Task;

    fn index(&self, slot: TaskPlace) -> &Task {
        match &self.places[slot.index()] {
            Entry::Occupied(task) => task,
            Entry::Vacant { .. } => {
                unreachable!("only places of tasks that have not ended are kept")
            }
        }
    }
}

impl IndexMut<TaskPlace> for Tasks {
    fn index_mut(&mut self, slot: TaskPlace) -> &mut Task {
        match &mut self.places[slot.index()] {
            Entry::Occupied(task) => task,
            Entry::Vacant { .. } => {
                unreachable!("only places of tasks that have not ended are kept")
            }
        }
    }
}

/// The tasks that end when their client goes: one list per client, through the tasks themselves.
#[derive(Default, Debug)]
pub(crate) struct Owners(HashMap<ClientId, List<TaskPlace>, FxBuildHasher>);

/// The tasks, as the lists of clients go through them.
struct Owned<'a>(&'a mut Tasks);

impl Links<TaskPlace> for Owned<'_> {
    fn link(&mut self, slot: TaskPlace) -> &mut Link<TaskPlace> {
        &mut self.0[slot].owner.as_mut().expect("it is in its client's list").link
    }
}

impl Owners {
    /// The task ends with this client from now on.
    pub(crate) fn add(&mut self, tasks: &mut Tasks, slot: TaskPlace, client: ClientId) {
        let list = self.0.entry(client).or_default();
        let link = Link { prev: None, next: list.first() };
        tasks[slot].owner = Some(Owner { client, link });
        list.insert(&mut Owned(tasks), slot, link);
    }

    /// The task does not end with its client any more, if it did.
    pub(crate) fn remove(&mut self, tasks: &mut Tasks, slot: TaskPlace) {
        let Some(Owner { client, link }) = tasks[slot].owner.take() else { return };
        let list = self.0.get_mut(&client).expect("a client with tasks has a list");
        list.remove(&mut Owned(tasks), link);
        if list.is_empty() {
            self.0.remove(&client);
        }
    }

    /// Whether the task ends with this client.
    pub(crate) fn owns(&self, tasks: &Tasks, slot: TaskPlace, client: ClientId) -> bool {
        tasks[slot].owner.is_some_and(|owner| owner.client == client)
    }

    /// The first of the client's tasks.
    pub(crate) fn first(&self, client: ClientId) -> Option<TaskPlace> {
        self.0.get(&client)?.first()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
