//! What must be true of the core's actions, whatever happens: checked on each of them, from the
//! shell's side.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write};

use pool_core::action::{Action, Ended, PoolEvent};
use pool_core::answer::Submission;
use pool_core::event::BodyHash;
use pool_core::place::TaskPlace;
use pool_core::settings::Tenancy;
use pool_protocol::id::{TaskId, WorkerId};
use pool_protocol::lane::Lane;

/// The beginning of what `Debug` would write, without writing the rest: half of a simulation's time
/// went there.
pub(crate) fn glance(value: &dyn Debug, most: usize) -> String {
    struct Short {
        text: String,
        most: usize,
    }
    impl Write for Short {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.text.push_str(text);
            if self.text.len() < self.most { Ok(()) } else { Err(std::fmt::Error) }
        }
    }
    let mut short = Short { text: String::new(), most };
    // The error only says that there was more to write.
    let _more = write!(short, "{value:?}");
    short.text
}

fn first_word(value: &dyn Debug) -> String {
    let text = glance(value, 1);
    text.split([' ', '(']).next().expect("a name").to_owned()
}

#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) project: usize,
    pub(crate) lane: Lane,
    pub(crate) max_attempts: u32,
    pub(crate) slot: TaskPlace,
    pub(crate) body: BodyHash,
}

pub(crate) struct Check {
    tenancy: Tenancy,
    /// Whether `task` was ever in force: its processes may be going still.
    was_task: bool,
    /// The projects whose tasks each living worker was given, one entry a task.
    served: BTreeMap<WorkerId, Vec<usize>>,
    /// Tasks that were accepted and have not ended.
    pub(crate) open: BTreeMap<TaskId, Known>,
    pub(crate) ended: BTreeMap<TaskId, Ended>,
    slots: BTreeSet<TaskPlace>,
    /// Who holds what, as far as the shell was told.
    pub(crate) held: BTreeMap<TaskId, (WorkerId, u32)>,
    /// Words of workers about the end of a task they really ran.
    pub(crate) true_words: BTreeSet<(TaskId, u32, WorkerId)>,
    living: BTreeMap<WorkerId, Lane>,
    last_event: Option<PoolEvent>,
    degraded: bool,
    exited: bool,
    /// Names of what has happened, to see that the simulation reaches what it is about.
    pub(crate) reached: BTreeSet<String>,
}

impl Check {
    pub(crate) fn new(tenancy: Tenancy) -> Self {
        Self {
            tenancy,
            was_task: tenancy == Tenancy::Task,
            served: BTreeMap::new(),
            open: BTreeMap::new(),
            ended: BTreeMap::new(),
            slots: BTreeSet::new(),
            held: BTreeMap::new(),
            true_words: BTreeSet::new(),
            living: BTreeMap::new(),
            last_event: None,
            degraded: false,
            exited: false,
            reached: BTreeSet::new(),
        }
    }

    /// Another one is in force from now on.
    pub(crate) fn tenancy(&mut self, tenancy: Tenancy) {
        self.tenancy = tenancy;
        self.was_task |= tenancy == Tenancy::Task;
    }

    pub(crate) fn accepted(&mut self, task: TaskId, known: Known) {
        assert!(
            self.slots.insert(known.slot),
            "a place is used again only after its task has ended"
        );
        assert!(!self.ended.contains_key(&task), "a task's id is used once");
        assert!(self.open.insert(task, known).is_none(), "a task is accepted once");
    }

    /// The body of the task in this place: a suspect is named before it ends.
    pub(crate) fn body_at(&self, slot: TaskPlace) -> BodyHash {
        self.open.values().find(|known| known.slot == slot).expect("a task in its place").body
    }

    pub(crate) fn gone(&mut self, worker: WorkerId) {
        self.living.remove(&worker).expect("a worker goes once");
        self.held.retain(|_, (holder, _)| *holder != worker);
        self.served.remove(&worker);
    }

    pub(crate) fn exited(&self) -> bool {
        self.exited
    }

    /// `limits` are those in force, per project; `most_workers` is the pool's maximum.
    pub(crate) fn action(&mut self, action: &Action, limits: &[Option<u32>], most_workers: u32) {
        assert!(!self.exited, "nothing is said after the end");
        match action {
            Action::Spawn { worker, lane } => {
                assert!(
                    self.living.insert(*worker, *lane).is_none(),
                    "a worker's name is used once"
                );
                let most = most_workers as usize * if self.was_task { 3 } else { 2 };
                assert!(self.living.len() <= most, "processes are bounded: {:?}", self.living);
            }
            Action::Assign { worker, task, slot, attempt, timeout_ms, .. } => {
                self.assign(*worker, *task, *slot, *attempt, limits);
                assert!(*timeout_ms > 0);
            }
            Action::TakeBack { worker, tasks } => {
                assert!(self.living.contains_key(worker) && !tasks.is_empty());
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
            Action::Retire { worker } | Action::Kill { worker } => {
                assert!(self.living.contains_key(worker))
            }
            Action::End { task, slot, ended, .. } => self.end(*task, *slot, ended),
            Action::Emit(event) => self.event(event),
            Action::Exit => {
                assert!(self.open.is_empty(), "every task has ended before the end");
                self.exited = true;
            }
            Action::CheckBody { .. } => {}
        }
        if !matches!(action, Action::Emit(_)) {
            self.reach(&first_word(action));
            self.last_event = None;
        }
    }

    /// A submission has been answered.
    pub(crate) fn answered(&mut self, answer: &Submission) {
        assert!(!self.exited, "nothing is said after the end");
        self.reach(&first_word(answer));
        match answer {
            Submission::Accepted { .. } => {}
            Submission::Known { task, slot } => assert_eq!(self.open[task].slot, *slot),
            Submission::KnownEnded { task } => assert!(self.ended.contains_key(task)),
            Submission::Refused { message, .. } => assert!(!message.is_empty()),
        }
    }

    /// What these actions tell of a task's end.
    pub(crate) fn told(&self, actions: &[Action], of: TaskId) -> Option<PoolEvent> {
        let event = actions.iter().find_map(|action| match action {
            Action::Emit(
                event @ (PoolEvent::TaskComplete { task, .. } | PoolEvent::TaskError { task, .. }),
            ) if *task == of => Some(event),
            _ => None,
        });
        event.cloned()
    }

    /// A task has ended as its worker said.
    pub(crate) fn reported(
        &mut self,
        task: TaskId,
        slot: TaskPlace,
        ended: &Ended,
        told: Option<PoolEvent>,
    ) {
        self.last_event = told;
        self.end(task, slot, ended);
        self.reach("Reported");
        self.last_event = None;
    }

    fn reach(&mut self, name: &str) {
        if !self.reached.contains(name) {
            self.reached.insert(name.to_owned());
        }
    }

    fn assign(
        &mut self,
        worker: WorkerId,
        task: TaskId,
        slot: TaskPlace,
        attempt: u32,
        limits: &[Option<u32>],
    ) {
        let known = self.open.get(&task).expect("only a task that has not ended is assigned");
        assert_eq!(known.slot, slot);
        assert_eq!(self.living.get(&worker), Some(&known.lane), "to a living worker of its lane");
        assert!(
            (1..=known.max_attempts).contains(&attempt),
            "attempt {attempt} of {}",
            known.max_attempts
        );
        assert!(
            self.held.insert(task, (worker, attempt)).is_none(),
            "one worker holds a task at a time"
        );
        let project = known.project;
        let served = self.served.entry(worker).or_default();
        match self.tenancy {
            Tenancy::Shared => {}
            Tenancy::Project => {
                assert!(
                    served.iter().all(|of| *of == project),
                    "{worker} served {served:?} and is given {project}"
                );
            }
            Tenancy::Task => {
                assert!(served.is_empty(), "{worker} has had its task and is given another")
            }
        }
        served.push(project);
        let holders: BTreeSet<WorkerId> = self
            .held
            .iter()
            .filter(|(id, _)| self.open[*id].project == project)
            .map(|(_, (w, _))| *w)
            .collect();
        if let Some(limit) = limits[project] {
            assert!(
                holders.len() as u32 <= limit,
                "{} workers hold tasks of a project limited to {limit}",
                holders.len()
            );
        }
    }

    fn end(&mut self, task: TaskId, slot: TaskPlace, ended: &Ended) {
        let known = self.open.remove(&task).expect("a task ends once");
        assert_eq!(known.slot, slot);
        assert!(self.slots.remove(&slot));
        assert!(!self.held.contains_key(&task), "no worker holds a task that has ended");
        assert!(ended.attempts <= known.max_attempts, "{ended:?}");
        match (&self.last_event, ended.code) {
            (Some(PoolEvent::TaskComplete { task: told, .. }), None) => assert_eq!(*told, task),
            (Some(PoolEvent::TaskError { task: told, code, .. }), Some(with)) => {
                assert_eq!((*told, *code), (task, with))
            }
            (told, with) => {
                panic!("a task's last event stands right before its end: {told:?}, {with:?}")
            }
        }
        if ended.code.is_none() {
            let worker = ended.worker.expect("it ran somewhere");
            let word = (task, ended.attempts, worker);
            assert!(
                self.true_words.contains(&word),
                "a success was reported by the worker that had it: {word:?}"
            );
        }
        self.reach(&format!("end {:?}", ended.code));
        self.ended.insert(task, ended.clone());
    }

    fn event(&mut self, event: &PoolEvent) {
        self.reach(&first_word(event));
        match event {
            PoolEvent::WorkerTerminated { verdict, .. } => {
                self.reach(&format!("worker {}", verdict.cause))
            }
            PoolEvent::Degraded { .. } => {
                assert!(!self.degraded, "told once");
                self.degraded = true;
            }
            PoolEvent::Recovered => {
                assert!(self.degraded, "only what was degraded recovers");
                self.degraded = false;
            }
            PoolEvent::TaskStarted { task, worker, attempt, .. } => {
                assert_eq!(
                    self.held.get(task),
                    Some(&(*worker, *attempt)),
                    "what starts was assigned"
                );
            }
            _ => {}
        }
        self.last_event = Some(event.clone());
    }
}
