//! What the shell was told, and what must be true of it.

use std::collections::{BTreeMap, BTreeSet};

use pool_core::action::{Action, Ended, PoolEvent};
use pool_core::answer::Submission;
use pool_core::event::BodyHash;
use pool_core::place::TaskPlace;
use pool_protocol::id::{TaskId, WorkerId};
use pool_protocol::lane::Lane;
use pool_protocol::outcome::ErrorCode;

#[derive(Clone, Copy)]
struct Open {
    slot: TaskPlace,
    lane: Lane,
    max_attempts: u32,
    body: BodyHash,
    /// Of the last assignment.
    attempt: u32,
}

pub(super) struct Ledger {
    /// The most that any setting allowed.
    pub(super) most_workers: u32,
    pub(super) exited: bool,
    open: BTreeMap<TaskId, Open>,
    ended: BTreeSet<TaskId>,
    slots: BTreeSet<TaskPlace>,
    living: BTreeMap<WorkerId, Lane>,
    killed: BTreeSet<WorkerId>,
    retired: BTreeSet<WorkerId>,
    held: BTreeMap<TaskId, (WorkerId, u32)>,
    /// The word that is being handled, if it is about a task in the speaker's hands.
    word: Option<(TaskId, u32, WorkerId, Option<ErrorCode>)>,
}

impl Ledger {
    pub(super) fn new(most_workers: u32) -> Self {
        Self {
            most_workers,
            exited: false,
            open: BTreeMap::new(),
            ended: BTreeSet::new(),
            slots: BTreeSet::new(),
            living: BTreeMap::new(),
            killed: BTreeSet::new(),
            retired: BTreeSet::new(),
            held: BTreeMap::new(),
            word: None,
        }
    }

    /// A submission has been answered.
    pub(super) fn submitted(
        &mut self,
        answer: &Submission,
        lane: Lane,
        max_attempts: u32,
        body: BodyHash,
    ) {
        assert!(!self.exited, "nothing is said after the end");
        match answer {
            Submission::Accepted { task, slot } => {
                assert!(
                    self.slots.insert(*slot),
                    "a place is used again only after its task has ended"
                );
                assert!(!self.ended.contains(task), "a task's id is used once");
                let open = Open { slot: *slot, lane, max_attempts, body, attempt: 0 };
                assert!(self.open.insert(*task, open).is_none(), "a task is accepted once");
            }
            Submission::Known { task, slot } => {
                assert_eq!(
                    self.open.get(task).map(|open| open.slot),
                    Some(*slot),
                    "a known task has not ended"
                );
            }
            Submission::KnownEnded { task } => assert!(self.ended.contains(task)),
            Submission::Refused { message, .. } => assert!(!message.is_empty()),
        }
    }

    /// Whether the task has not ended.
    pub(super) fn is_open(&self, task: TaskId) -> bool {
        self.open.contains_key(&task)
    }

    /// Of the task in this place.
    pub(super) fn body(&self, slot: TaskPlace) -> BodyHash {
        self.open.values().find(|open| open.slot == slot).expect("a suspect has not ended").body
    }

    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    pub(super) fn held_by(&self, worker: WorkerId) -> Vec<(TaskId, u32)> {
        self.held
            .iter()
            .filter(|(_, (holder, _))| *holder == worker)
            .map(|(task, (_, attempt))| (*task, *attempt))
            .collect()
    }

    /// A worker's word about a task.
    pub(super) fn word(
        &mut self,
        worker: WorkerId,
        task: TaskId,
        attempt: u32,
        code: Option<ErrorCode>,
    ) {
        self.word = None;
        if self.held.get(&task) == Some(&(worker, attempt)) {
            self.held.remove(&task);
            self.word = Some((task, attempt, worker, code));
        }
    }

    pub(super) fn returned(&mut self, worker: WorkerId, tasks: &[(TaskId, u32)]) {
        self.held.retain(|task, (holder, attempt)| {
            *holder != worker || !tasks.contains(&(*task, *attempt))
        });
    }

    pub(super) fn gone(&mut self, worker: WorkerId) {
        self.living.remove(&worker).expect("a worker goes once");
        self.held.retain(|_, (holder, _)| *holder != worker);
    }

    pub(super) fn action(&mut self, action: &Action) {
        assert!(!self.exited, "nothing is said after the end");
        match action {
            Action::Spawn { worker, lane } => {
                assert!(
                    self.living.insert(*worker, *lane).is_none(),
                    "a worker's name is used once"
                );
                // Those that were told to go do so when the script says so: a worker that does not
                // is killed after a while, and a killed one is the kernel's. Tenancy `task` has
                // fresh workers beside those that run, and those are replaced.
                let staying = |worker: &&WorkerId| {
                    !self.killed.contains(worker) && !self.retired.contains(worker)
                };
                let staying = self.living.keys().filter(staying).count();
                assert!(
                    staying <= 3 * self.most_workers as usize,
                    "processes are bounded: {:?}",
                    self.living
                );
            }
            Action::Assign { worker, task, slot, attempt, timeout_ms, .. } => {
                assert!(*timeout_ms > 0);
                self.assign(*worker, *task, *slot, *attempt);
            }
            Action::TakeBack { worker, tasks } => {
                for (task, attempt) in tasks {
                    assert_eq!(
                        self.held.get(task),
                        Some(&(*worker, *attempt)),
                        "only what it holds is asked back"
                    );
                }
            }
            Action::Interrupt { worker, task, attempt, .. } => {
                assert_eq!(
                    self.held.get(task),
                    Some(&(*worker, *attempt)),
                    "only what it holds is interrupted"
                );
            }
            Action::Retire { worker } => {
                assert!(self.living.contains_key(worker), "only who lives is told to go");
                assert!(self.retired.insert(*worker), "told once");
            }
            Action::Kill { worker } => {
                assert!(self.living.contains_key(worker), "only who lives is killed");
                self.killed.insert(*worker);
            }
            Action::End { task, slot, ended, .. } => self.end(*task, *slot, ended),
            Action::Exit => {
                assert!(self.open.is_empty(), "every task has ended before the end");
                let mut left = self.living.keys();
                assert!(
                    left.all(|worker| self.killed.contains(worker)),
                    "who is left behind was killed and did not go"
                );
                self.exited = true;
            }
            Action::Emit(PoolEvent::WorkerTerminated { worker, .. }) => {
                assert!(
                    !self.living.contains_key(worker) || self.killed.contains(worker),
                    "only on a worker that was killed, and that the system does not end, is given \
                     up"
                );
                self.held.retain(|_, (holder, _)| holder != worker);
            }
            Action::CheckBody { .. } | Action::Emit(_) => {}
        }
    }

    fn assign(&mut self, worker: WorkerId, task: TaskId, slot: TaskPlace, attempt: u32) {
        let open = self.open.get_mut(&task).expect("only a task that has not ended is assigned");
        assert_eq!(open.slot, slot);
        assert_eq!(self.living.get(&worker), Some(&open.lane), "to a living worker of its lane");
        assert!(
            (1..=open.max_attempts).contains(&attempt),
            "attempt {attempt} of {}",
            open.max_attempts
        );
        assert!(
            (open.attempt..=open.attempt + 1).contains(&attempt),
            "attempts are counted one by one"
        );
        open.attempt = attempt;
        assert!(
            self.held.insert(task, (worker, attempt)).is_none(),
            "one worker holds a task at a time"
        );
    }

    pub(super) fn end(&mut self, task: TaskId, slot: TaskPlace, ended: &Ended) {
        let open = self.open.remove(&task).expect("a task ends once");
        assert!(open.slot == slot && self.slots.remove(&slot));
        assert!(!self.held.contains_key(&task), "no worker holds a task that has ended");
        assert!(ended.attempts <= open.max_attempts, "{ended:?}");
        if ended.code.is_none() {
            let word = self.word.take();
            let worker = ended.worker.expect("it ran somewhere");
            assert_eq!(
                word,
                Some((task, ended.attempts, worker, None)),
                "a success is the word of who had the task"
            );
        }
        self.ended.insert(task);
    }
}
