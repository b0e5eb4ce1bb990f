//! A pool on virtual time for tests: a core, and workers that do as they are told unless the test
//! says otherwise.
//!
//! Nothing sleeps. The core's invariants are checked after every event.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pool_core::Core;
use pool_core::action::{Action, Ended, PoolEvent};
use pool_core::answer::{Reported, Submission};
use pool_core::event::{AttemptEnd, BodyHash, Event, NewTask, Report};
use pool_core::seeds::Seeds;
use pool_core::settings::{ProjectSettings, Settings};
use pool_core::time::Time;
use pool_protocol::id::{ClientId, TaskId, WorkerId};
use pool_protocol::lane::Lane;
use pool_protocol::outcome::{Cause, ErrorCode, Receipt, Status, Verdict};
use pool_protocol::policy::RetryPolicy;

pub(crate) const CLIENT: ClientId = ClientId { slot: 0, generation: 1 };
pub(crate) const FIRST_TASK: u64 = 1000;

/// Settings under which nothing happens by itself: a test turns on what it is about.
pub(crate) fn quiet(workers: u32) -> Settings {
    Settings {
        min_workers: workers,
        max_workers: workers,
        auto_scale: false,
        max_tasks_per_worker: 0,
        max_memory_per_worker: 0,
        max_worker_age_ms: 0,
        worker_idle_timeout_ms: 0,
        heartbeat_interval_ms: 1_000_000_000,
        ..Settings::default()
    }
}

pub(crate) fn with_project(
    mut settings: Settings,
    name: &str,
    project: ProjectSettings,
) -> Settings {
    settings.projects.insert(name.into(), project);
    settings
}

/// A plain task: JavaScript, priority 0, three attempts a second apart and doubling.
pub(crate) fn task(project: &str) -> NewTask<'_> {
    let retry = RetryPolicy { jitter: 0.0, ..RetryPolicy::default() };
    NewTask { retry, body_bytes: 100, ..NewTask::new(Lane::Js, project) }
}

pub(crate) fn verdict(cause: Cause) -> Verdict {
    Verdict { cause, evidence: "seen by the test".into() }
}

/// Who wrote what a person reads of an end.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum EndText {
    /// The worker.
    Worker,
    /// The worker, but for its message.
    WorkerBut { message: String },
    /// The core.
    Core { message: String, verdict: Option<Verdict> },
}

/// The end of a task.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) code: Option<ErrorCode>,
    pub(crate) attempts: u32,
    pub(crate) worker: Option<WorkerId>,
    pub(crate) receipt: Receipt,
    pub(crate) text: EndText,
}

impl End {
    fn new(ended: Ended, text: EndText) -> Self {
        let Ended { code, attempts, worker, receipt } = ended;
        Self { code, attempts, worker, receipt, text }
    }
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) lane: Lane,
    pub(crate) ready: bool,
    pub(crate) retiring: bool,
    pub(crate) killed: bool,
    pub(crate) tasks: Vec<(TaskId, u32)>,
}

/// What a worker does about what it was told.
#[derive(Debug)]
enum Reaction {
    Ready(WorkerId),
    GiveBack(WorkerId, Vec<(TaskId, u32)>),
    LeaveIfDone(WorkerId),
    Gone(WorkerId),
}

pub(crate) struct Pool {
    pub(crate) core: Core,
    pub(crate) now_us: u64,
    /// Whether spawned workers are ready at once.
    pub(crate) auto_ready: bool,
    /// Whether killed workers are gone at once.
    pub(crate) auto_gone: bool,
    /// Whether unstarted tasks are given back as soon as they are asked for.
    pub(crate) auto_return: bool,
    pub(crate) workers: BTreeMap<WorkerId, Process>,
    /// Every assignment, in order.
    pub(crate) assigned: Vec<(TaskId, WorkerId, u32)>,
    pub(crate) timeouts: BTreeMap<TaskId, u64>,
    pub(crate) ended: BTreeMap<TaskId, End>,
    pub(crate) events: Vec<PoolEvent>,
    /// All actions but events, in order.
    pub(crate) actions: Vec<Action>,
    pub(crate) exited: bool,
    /// What the body of every task hashes to that a worker dies under.
    pub(crate) body: Option<BodyHash>,
    reactions: VecDeque<Reaction>,
    reacting: bool,
}

impl Pool {
    /// A pool whose minimum of workers is ready.
    pub(crate) fn new(settings: Settings) -> Self {
        let mut pool = Self::unstarted(settings);
        pool.tick();
        // No task may run longer than its worker lives: let it be a little older than the tasks of
        // most tests.
        pool.now_us += 5_000;
        pool
    }

    /// A pool that has not been woken yet.
    pub(crate) fn unstarted(settings: Settings) -> Self {
        Self {
            core: Core::new(Time(0), settings, TaskId(FIRST_TASK), Seeds::fixed(42)),
            now_us: 0,
            auto_ready: true,
            auto_gone: true,
            auto_return: true,
            workers: BTreeMap::new(),
            assigned: Vec::new(),
            timeouts: BTreeMap::new(),
            ended: BTreeMap::new(),
            events: Vec::new(),
            actions: Vec::new(),
            exited: false,
            body: None,
            reactions: VecDeque::new(),
            reacting: false,
        }
    }

    pub(crate) fn tick(&mut self) {
        self.handle(Event::Tick);
    }

    pub(crate) fn handle(&mut self, event: Event<'_>) {
        let mut out = Vec::new();
        self.core.handle(Time(self.now_us), event, &mut out);
        self.core.check_invariants();
        self.perform(out);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            if let Action::Emit(event) = action {
                self.events.push(event);
                continue;
            }
            self.actions.push(action.clone());
            match action {
                Action::Spawn { worker, lane } => {
                    let process = Process {
                        lane,
                        ready: false,
                        retiring: false,
                        killed: false,
                        tasks: Vec::new(),
                    };
                    assert!(
                        self.workers.insert(worker, process).is_none(),
                        "a worker's name is used once"
                    );
                    if self.auto_ready {
                        self.reactions.push_back(Reaction::Ready(worker));
                    }
                }
                Action::Assign { worker, task, attempt, timeout_ms, .. } => {
                    self.assigned.push((task, worker, attempt));
                    self.timeouts.insert(task, timeout_ms);
                    self.workers
                        .get_mut(&worker)
                        .expect("an assignment names a living worker")
                        .tasks
                        .push((task, attempt));
                }
                Action::TakeBack { worker, tasks } => {
                    if self.auto_return {
                        self.reactions.push_back(Reaction::GiveBack(worker, tasks));
                    }
                }
                Action::Retire { worker } => {
                    self.workers.get_mut(&worker).expect("alive").retiring = true;
                    self.reactions.push_back(Reaction::LeaveIfDone(worker));
                }
                Action::Kill { worker } => {
                    self.workers.get_mut(&worker).expect("alive").killed = true;
                    if self.auto_gone {
                        self.reactions.push_back(Reaction::Gone(worker));
                    }
                }
                Action::End { task, ended, words, .. } => {
                    let text = EndText::Core { message: words.message, verdict: words.verdict };
                    self.note_end(task, End::new(ended, text));
                }
                Action::Exit => self.exited = true,
                Action::Interrupt { .. } | Action::CheckBody { .. } | Action::Emit(_) => {}
            }
        }
        // Workers react after everything has been performed, as processes do.
        if !self.reacting {
            self.reacting = true;
            while let Some(reaction) = self.reactions.pop_front() {
                self.react(reaction);
            }
            self.reacting = false;
        }
    }

    fn note_end(&mut self, task: TaskId, end: End) {
        assert!(self.ended.insert(task, end).is_none(), "a task ends once");
    }

    fn react(&mut self, reaction: Reaction) {
        let alive = |worker: &WorkerId| self.workers.contains_key(worker);
        match reaction {
            Reaction::Ready(worker) if alive(&worker) => self.ready(worker),
            Reaction::GiveBack(worker, tasks) if alive(&worker) => self.give_back(worker, &tasks),
            Reaction::LeaveIfDone(worker) if alive(&worker) => self.leave_if_done(worker),
            Reaction::Gone(worker) if alive(&worker) => self.gone(worker, Cause::KilledFromOutside),
            Reaction::Ready(_)
            | Reaction::GiveBack(..)
            | Reaction::LeaveIfDone(_)
            | Reaction::Gone(_) => {}
        }
    }

    fn leave_if_done(&mut self, worker: WorkerId) {
        let process = &self.workers[&worker];
        if process.retiring && process.tasks.is_empty() {
            self.gone(worker, Cause::Exited);
        }
    }

    /// Lets time pass, waking the core whenever it wants to be.
    pub(crate) fn advance_ms(&mut self, ms: u64) {
        self.advance_us(ms * 1000);
    }

    pub(crate) fn advance_us(&mut self, us: u64) {
        let target = self.now_us + us;
        let mut turns = 0;
        while let Some(Time(at)) = self.core.next_deadline().filter(|at| at.0 <= target) {
            self.now_us = self.now_us.max(at);
            self.tick();
            turns += 1;
            assert!(turns < 100_000, "the core spins");
        }
        self.now_us = target;
    }

    pub(crate) fn ready(&mut self, worker: WorkerId) {
        self.workers.get_mut(&worker).expect("alive").ready = true;
        self.handle(Event::WorkerReady { worker });
    }

    pub(crate) fn ready_all(&mut self) {
        for worker in self.spawning() {
            self.ready(worker);
        }
    }

    pub(crate) fn spawning(&self) -> Vec<WorkerId> {
        self.workers
            .iter()
            .filter(|(_, process)| !process.ready && !process.killed)
            .map(|(id, _)| *id)
            .collect()
    }

    pub(crate) fn gone(&mut self, worker: WorkerId, cause: Cause) {
        self.workers.remove(&worker).expect("a worker goes once");
        let body = self.core.running_on(worker).and(self.body);
        self.handle(Event::WorkerGone { worker, verdict: verdict(cause), blame: None, body });
    }

    pub(crate) fn give_back(&mut self, worker: WorkerId, tasks: &[(TaskId, u32)]) {
        self.workers.get_mut(&worker).expect("alive").tasks.retain(|task| !tasks.contains(task));
        self.handle(Event::TasksReturned { worker, tasks });
    }

    pub(crate) fn submit(&mut self, task: NewTask<'_>) -> TaskId {
        self.try_submit(task).expect("the task is accepted")
    }

    pub(crate) fn try_submit(&mut self, task: NewTask<'_>) -> Result<TaskId, ErrorCode> {
        self.try_submit_as(CLIENT, task)
    }

    pub(crate) fn try_submit_as(
        &mut self,
        client: ClientId,
        task: NewTask<'_>,
    ) -> Result<TaskId, ErrorCode> {
        match self.answer_to(client, task) {
            Submission::Accepted { task, .. }
            | Submission::Known { task, .. }
            | Submission::KnownEnded { task } => Ok(task),
            Submission::Refused { code, message } => {
                assert!(!message.is_empty());
                Err(code)
            }
        }
    }

    /// What a client is answered.
    pub(crate) fn answer_to(&mut self, client: ClientId, task: NewTask<'_>) -> Submission {
        let mut out = Vec::new();
        let answer = self.core.submit(Time(self.now_us), client, &task, &mut out);
        self.core.check_invariants();
        self.perform(out);
        answer
    }

    /// The worker that holds the task, with the attempt.
    pub(crate) fn holder(&self, task: TaskId) -> Option<(WorkerId, u32)> {
        self.workers.iter().find_map(|(id, process)| {
            process.tasks.iter().find(|(held, _)| *held == task).map(|(_, attempt)| (*id, *attempt))
        })
    }

    pub(crate) fn worker_of(&self, task: TaskId) -> WorkerId {
        self.holder(task).expect("a worker holds the task").0
    }

    pub(crate) fn is_held(&self, task: TaskId) -> bool {
        self.holder(task).is_some()
    }

    /// The task succeeds after this run time.
    pub(crate) fn done_after_us(&mut self, task: TaskId, run_us: u64) {
        self.report(
            task,
            AttemptEnd {
                code: None,
                run_us,
                cpu_us: run_us,
                busy_us: run_us,
                memory_bytes: 1,
                retry_after_ms: 0,
                spoiled: false,
            },
        );
    }

    pub(crate) fn done(&mut self, task: TaskId) {
        self.done_after_us(task, 1000);
    }

    pub(crate) fn fail(&mut self, task: TaskId, code: ErrorCode) {
        self.report(
            task,
            AttemptEnd {
                code: Some(code),
                run_us: 1000,
                cpu_us: 1000,
                busy_us: 1000,
                memory_bytes: 1,
                retry_after_ms: 0,
                spoiled: false,
            },
        );
    }

    /// The attempt fails, and no other is wanted before this time.
    pub(crate) fn refused_for(&mut self, task: TaskId, code: ErrorCode, retry_after_ms: u64) {
        let code = Some(code);
        self.report(
            task,
            AttemptEnd {
                code,
                run_us: 1000,
                cpu_us: 1000,
                busy_us: 1000,
                memory_bytes: 1,
                retry_after_ms,
                spoiled: false,
            },
        );
    }

    pub(crate) fn report(&mut self, task: TaskId, end: AttemptEnd) {
        let (worker, attempt) = self.holder(task).expect("a worker holds the task");
        self.workers.get_mut(&worker).expect("alive").tasks.retain(|(held, _)| *held != task);
        self.word(worker, task, attempt, end);
        if self.workers.contains_key(&worker) {
            self.leave_if_done(worker);
        }
    }

    /// A worker says that an attempt ended.
    pub(crate) fn word(&mut self, worker: WorkerId, task: TaskId, attempt: u32, end: AttemptEnd) {
        let mut out = Vec::new();
        let report = Report { worker, task, attempt, end };
        let reported = self.core.report(Time(self.now_us), &report, &mut out);
        self.core.check_invariants();
        if let Reported::Ended { task, ended, message, .. } = reported {
            let text = message.map_or(EndText::Worker, |message| EndText::WorkerBut { message });
            self.note_end(task, End::new(ended, text));
        }
        self.perform(out);
    }

    /// Teaches the core that tasks of this project take this long.
    pub(crate) fn teach(&mut self, project: &str, run_us: u64) {
        let id = self.submit(task(project));
        self.advance_us(run_us);
        self.done_after_us(id, run_us);
    }

    pub(crate) fn cancel(&mut self, task: TaskId) -> bool {
        let mut out = Vec::new();
        let found = self.core.cancel(Time(self.now_us), task, &mut out);
        self.core.check_invariants();
        self.perform(out);
        found
    }

    pub(crate) fn set_limit(&mut self, project: &str, limit: u32) {
        self.handle(Event::SetLimit { project, limit: Some(limit) });
    }

    /// Tasks in the order in which they were first assigned.
    pub(crate) fn order(&self) -> Vec<TaskId> {
        let mut seen = BTreeSet::new();
        self.assigned.iter().map(|(task, ..)| *task).filter(|task| seen.insert(*task)).collect()
    }

    pub(crate) fn end_of(&self, task: TaskId) -> &End {
        self.ended.get(&task).expect("the task has ended")
    }

    pub(crate) fn code_of(&self, task: TaskId) -> Option<ErrorCode> {
        self.end_of(task).code
    }

    pub(crate) fn status_of(&self, task: TaskId) -> Status {
        self.code_of(task).map_or(Status::Succeeded, ErrorCode::status)
    }

    pub(crate) fn living(&self) -> usize {
        self.workers.len()
    }

    pub(crate) fn count(&self, is: impl Fn(&PoolEvent) -> bool) -> usize {
        self.events.iter().filter(|event| is(event)).count()
    }

    pub(crate) fn count_actions(&self, is: impl Fn(&Action) -> bool) -> usize {
        self.actions.iter().filter(|action| is(action)).count()
    }

    pub(crate) fn was_interrupted(&self, task: TaskId) -> bool {
        self.count_actions(
            |action| matches!(action, Action::Interrupt { task: t, .. } if *t == task),
        ) > 0
    }

    pub(crate) fn was_killed(&self, worker: WorkerId) -> bool {
        self.count_actions(|action| matches!(action, Action::Kill { worker: w } if *w == worker))
            > 0
    }

    pub(crate) fn verdict_of(&self, worker: WorkerId) -> Cause {
        let verdict = self.events.iter().find_map(|event| match event {
            PoolEvent::WorkerTerminated { worker: w, verdict, .. } if *w == worker => {
                Some(verdict.cause)
            }
            _ => None,
        });
        verdict.expect("the worker is gone")
    }

    pub(crate) fn project_running(&self, name: &str) -> u32 {
        self.core
            .projects()
            .find(|project| project.name == name)
            .map_or(0, |project| project.running)
    }

    /// Nothing is left that any project, lane or worker would count.
    pub(crate) fn assert_nothing_is_used(&self) {
        let stats = self.core.stats();
        assert_eq!((stats.queued, stats.running, stats.busy), (0, 0, 0));
        for project in self.core.projects() {
            assert_eq!((project.running, project.queued), (0, 0), "{}", project.name);
        }
    }
}
