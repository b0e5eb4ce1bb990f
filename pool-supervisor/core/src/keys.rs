//! Idempotency keys: the same key in the same project is the same task, for as long as its outcome
//! is kept.
//!
//! Owns which key means which task. A key lives from the acceptance of its task until the shell
//! says that it has forgotten the outcome; the shell bounds how many outcomes it keeps.

use alloc::boxed::Box;
use core::hash::BuildHasher;

use hashbrown::{HashMap, HashTable};
use pool_protocol::id::TaskId;
use rustc_hash::FxBuildHasher;

use crate::place::ProjectPlace;
use crate::seeds::KeyedHash;

#[derive(Debug)]
struct Known {
    hash: u64,
    project: ProjectPlace,
    key: Box<str>,
    task: TaskId,
}

/// All keys that are in use.
#[derive(Debug)]
pub(crate) struct Keys {
    hash: KeyedHash,
    by_key: HashTable<Known>,
    /// The hash under which a task's key is found.
    by_task: HashMap<TaskId, u64, FxBuildHasher>,
}

impl Keys {
    pub(crate) fn new(hash: KeyedHash) -> Self {
        Self { hash, by_key: HashTable::default(), by_task: HashMap::default() }
    }

    pub(crate) fn find(&self, project: ProjectPlace, key: &str) -> Option<TaskId> {
        let is_it = |known: &Known| known.project == project && &*known.key == key;
        self.by_key.find(self.hash.hash_one((project, key)), is_it).map(|known| known.task)
    }

    pub(crate) fn insert(&mut self, project: ProjectPlace, key: &str, task: TaskId) {
        let hash = self.hash.hash_one((project, key));
        self.by_key.insert_unique(hash, Known { hash, project, key: key.into(), task }, |known| {
            known.hash
        });
        self.by_task.insert(task, hash);
    }

    /// Drops the task's key. Returns the project whose it was, if it had one.
    pub(crate) fn remove(&mut self, task: TaskId) -> Option<ProjectPlace> {
        let hash = self.by_task.remove(&task)?;
        let entry = self.by_key.find_entry(hash, |known| known.task == task).ok()?;
        Some(entry.remove().0.project)
    }

    pub(crate) fn has(&self, task: TaskId) -> bool {
        self.by_task.contains_key(&task)
    }

    pub(crate) fn len(&self) -> usize {
        debug_assert_eq!(self.by_key.len(), self.by_task.len());
        self.by_key.len()
    }
}
