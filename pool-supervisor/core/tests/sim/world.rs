//! The simulated world: the shell, its clock, its clients, and the wires to the workers.

use std::collections::{BTreeMap, BTreeSet};

use pool_core::Core;
use pool_core::action::Action;
use pool_core::answer::{Reported, Submission};
use pool_core::event::{AttemptEnd, BodyHash, Event, NewTask};
use pool_core::seeds::Seeds;
use pool_core::settings::{ProjectSettings, Settings, Tenancy};
use pool_core::time::Time;
use pool_protocol::id::{ClientId, TaskId, WorkerId};
use pool_protocol::lane::Lane;
use pool_protocol::outcome::{Cause, Verdict};
use pool_protocol::policy::RetryPolicy;

use crate::check::{Check, Known, glance};
use crate::log::Log;
use crate::rng::Rng;
use crate::worker::{Next, Order, Report, Worker};

const PROJECTS: [&str; 4] = ["tiny", "tiny-2", "slow", "limited"];
/// How long things break, in microseconds.
const FAULTS_US: u64 = 3_000_000;
const SUBMISSIONS: u64 = 120;
const DISTURBANCES: u64 = 60;
const BEAT_US: u64 = 200_000;

#[derive(Debug)]
enum Happening {
    Arrives(WorkerId, Order),
    Heard(WorkerId, Report),
    Finish(WorkerId, u64),
    Exit(WorkerId, Cause),
    Beat(WorkerId),
    Submit,
    Disturb,
    /// The shell tells which tasks have a body that was set aside.
    Checked(TaskId, BodyHash),
}

pub(crate) struct World {
    rng: Rng,
    core: Core,
    now_us: u64,
    faults: bool,
    calendar: BTreeMap<(u64, u64), Happening>,
    serial: u64,
    workers: BTreeMap<WorkerId, Worker>,
    check: Check,
    limits: Vec<Option<u32>>,
    most_workers: u32,
    clients: Vec<ClientId>,
    requests: u64,
    /// Sum over all actions, to compare two runs.
    digest: u64,
    /// What the core was told and what it said, for whoever looks into a failure.
    log: Log,
    actions: Vec<Action>,
}

fn settings(rng: &mut Rng) -> Settings {
    let max_workers = rng.between(1, 6) as u32;
    let mut projects = BTreeMap::new();
    let limit = Some(rng.between(1, 3) as u32);
    projects.insert("limited".into(), ProjectSettings { limit, weight: 2.0, max_queued: Some(20) });
    Settings {
        min_workers: rng.between(0, u64::from(max_workers) + 1) as u32,
        max_workers,
        processors: *rng.pick(&[1, 2, 64]),
        auto_scale: rng.percent(80),
        scale_cooldown_ms: rng.between(0, 200),
        max_tasks_per_worker: *rng.pick(&[0, 1, 5, 50]),
        max_memory_per_worker: *rng.pick(&[0, 900]),
        max_worker_age_ms: *rng.pick(&[0, 500]),
        worker_idle_timeout_ms: *rng.pick(&[0, 100, 2000]),
        heartbeat_interval_ms: BEAT_US / 1000,
        spawn_timeout_ms: 300,
        drain_timeout_ms: 2_000,
        queue_size: *rng.pick(&[30, 1000]),
        timeout_ms: 1_000,
        cpu_ms: 1_000,
        memory_bytes: 1 << 20,
        priority_ageing_ms: *rng.pick(&[20, 10_000]),
        set_aside_ms: *rng.pick(&[0, 200, 600_000]),
        tenancy: *rng.pick(&[Tenancy::Shared, Tenancy::Project, Tenancy::Task]),
        projects,
        ..Settings::default()
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let settings = settings(&mut rng);
        let (most_workers, limit) = (settings.max_workers, settings.projects["limited"].limit);
        let tenancy = settings.tenancy;
        let mut world = Self {
            core: Core::new(Time(0), settings, TaskId(1), Seeds::fixed(seed)),
            rng,
            now_us: 0,
            faults: true,
            calendar: BTreeMap::new(),
            serial: 0,
            workers: BTreeMap::new(),
            check: Check::new(tenancy),
            limits: vec![None, None, None, limit],
            most_workers,
            clients: (0..3).map(|slot| ClientId { slot, generation: 1 }).collect(),
            requests: 0,
            digest: 0,
            log: Log::new(seed),
            actions: Vec::new(),
        };
        for _ in 0..SUBMISSIONS {
            let at = world.rng.between(0, FAULTS_US);
            world.at(at, Happening::Submit);
        }
        for _ in 0..DISTURBANCES {
            let at = world.rng.between(0, FAULTS_US);
            world.at(at, Happening::Disturb);
        }
        world.tell(Event::Tick);
        world
    }

    fn at(&mut self, at_us: u64, what: Happening) {
        self.serial += 1;
        self.calendar.insert((at_us, self.serial), what);
    }

    pub(crate) fn run_with_faults(&mut self) {
        self.run_until(FAULTS_US, |_| false);
    }

    /// No more faults, no more tasks: all that are there end.
    pub(crate) fn run_without_faults(&mut self) {
        self.faults = false;
        for (project, limit) in [("tiny", 2), ("tiny-2", 9), ("slow", 9), ("limited", 9)] {
            self.set_limit(project, limit);
        }
        // Timeouts of a second, three attempts, back-off of failed starts: a minute is far more
        // than it takes.
        self.run_until(self.now_us + 120_000_000, |world| world.check.open.is_empty());
        assert!(self.check.open.is_empty(), "tasks that never end: {:?}", self.check.open);
        let stats = self.core.stats();
        assert_eq!(
            (stats.queued, stats.running, stats.busy),
            (0, 0, 0),
            "nothing is used any more"
        );
        for project in self.core.projects() {
            assert_eq!((project.running, project.queued), (0, 0));
        }
        assert!(
            self.core.draining() || stats.completed + stats.failed == self.check.ended.len() as u64
        );
    }

    /// The pool ends when it is told to.
    pub(crate) fn end(&mut self) {
        if !self.check.exited() {
            self.tell(Event::Drain);
        }
        self.run_until(self.now_us + 10_000_000, |world| world.check.exited());
        assert!(self.check.exited(), "a drained pool ends");
        assert_eq!(self.core.next_deadline(), None, "and has nothing to wake up for");
    }

    pub(crate) fn fingerprint(&self) -> (u64, usize, u64) {
        (self.digest, self.check.ended.len(), self.serial)
    }

    pub(crate) fn reached(&self) -> &BTreeSet<String> {
        &self.check.reached
    }

    fn run_until(&mut self, end_us: u64, over: impl Fn(&Self) -> bool) {
        let mut turns = 0;
        while !over(self) && !self.check.exited() {
            turns += 1;
            assert!(turns < 200_000, "the core spins");
            let wake = self.core.next_deadline().map_or(u64::MAX, |at| at.0);
            let next = self.calendar.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
            if wake.min(next) > end_us {
                break;
            }
            self.now_us = self.now_us.max(wake.min(next));
            if wake <= next {
                self.tell(Event::Tick);
            } else {
                let (_, what) = self.calendar.pop_first().expect("just seen");
                self.happen(what);
            }
        }
        if !over(self) {
            self.now_us = self.now_us.max(end_us);
        }
    }

    fn happen(&mut self, what: Happening) {
        let faults = self.faults;
        match what {
            Happening::Submit => self.submit(),
            Happening::Disturb => self.disturb(),
            Happening::Checked(task, body) => self.tell(Event::BodyChecked { task, body }),
            Happening::Heard(worker, report) => self.hear(worker, report),
            Happening::Arrives(id, order) => {
                let Some(worker) = self.workers.get_mut(&id) else { return };
                let next = worker.obey(order, &mut self.rng, faults);
                self.follow(id, next);
            }
            Happening::Finish(id, token) => {
                let Some(worker) = self.workers.get_mut(&id) else { return };
                let next = worker.finish(token, &mut self.rng, faults);
                self.follow(id, next);
            }
            Happening::Exit(id, cause) => self.die(id, cause),
            Happening::Beat(id) => {
                let Some(worker) = self.workers.get(&id) else { return };
                if !worker.mute {
                    let rss_bytes = self.rng.between(0, 1000);
                    self.say(id, 0, Report::Beat { rss_bytes });
                    self.at(self.now_us + BEAT_US, Happening::Beat(id));
                }
            }
        }
    }

    fn follow(&mut self, id: WorkerId, next: Vec<(u64, Next)>) {
        for (after_us, what) in next {
            match what {
                Next::Finish(token) => {
                    self.at(self.now_us + after_us, Happening::Finish(id, token))
                }
                Next::Exit(cause) => self.at(self.now_us + after_us, Happening::Exit(id, cause)),
                Next::Say(report) => self.say(id, after_us, report),
            }
        }
    }

    /// A word of a worker to the supervisor; words keep their order.
    fn say(&mut self, id: WorkerId, after_us: u64, report: Report) {
        let wire_us = self.rng.between(1, 40);
        let worker = self.workers.get_mut(&id).expect("only a living worker speaks");
        worker.last_out = worker.last_out.max(self.now_us + after_us + wire_us);
        let at = worker.last_out;
        self.at(at, Happening::Heard(id, report));
    }

    /// An order of the supervisor to a worker; orders keep their sequence.
    fn order(&mut self, id: WorkerId, order: Order) {
        let wire_us = self.rng.between(1, 40);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.last_in = worker.last_in.max(self.now_us + wire_us);
        let at = worker.last_in;
        self.at(at, Happening::Arrives(id, order));
    }

    /// The process is gone; what it has said is still heard, or lost with it.
    fn die(&mut self, id: WorkerId, cause: Cause) {
        let Some(worker) = self.workers.remove(&id) else { return };
        let heard_at =
            if self.rng.percent(50) { worker.last_out.max(self.now_us) } else { self.now_us };
        if heard_at == self.now_us {
            self.calendar.retain(|_, what| !matches!(what, Happening::Heard(of, _) if *of == id));
        }
        let reaped_at = heard_at + self.rng.between(1, 2_000);
        self.at(reaped_at, Happening::Heard(id, Report::Gone(cause)));
    }

    fn hear(&mut self, worker: WorkerId, report: Report) {
        match report {
            Report::SpawnFailed => {
                self.check.gone(worker);
                self.tell(Event::SpawnFailed { worker, reason: "out of processes".into() });
            }
            Report::Ready => {
                if let Some(process) = self.workers.get_mut(&worker)
                    && !process.ready
                {
                    process.ready = true;
                    self.at(self.now_us + BEAT_US, Happening::Beat(worker));
                }
                self.tell(Event::WorkerReady { worker });
            }
            Report::Done { task, attempt, code, run_us, spoiled } => {
                if self.check.held.get(&task) == Some(&(worker, attempt)) {
                    self.check.held.remove(&task);
                    self.check.true_words.insert((task, attempt, worker));
                }
                let end = AttemptEnd {
                    code,
                    run_us,
                    cpu_us: run_us,
                    busy_us: run_us,
                    memory_bytes: 1,
                    retry_after_ms: 0,
                    spoiled,
                };
                self.word(&pool_core::event::Report { worker, task, attempt, end });
            }
            Report::Returned(tasks) => {
                for (task, attempt) in &tasks {
                    if self.check.held.get(task) == Some(&(worker, *attempt)) {
                        self.check.held.remove(task);
                    }
                }
                self.tell(Event::TasksReturned { worker, tasks: &tasks });
            }
            Report::Beat { rss_bytes } => {
                self.tell(Event::Heartbeat { worker, rss_bytes, cpu_us: 1 })
            }
            Report::Broke => {
                self.tell(Event::WorkerBroke { worker, reason: "half a frame".into() })
            }
            Report::Gone(cause) => {
                let running = self.core.running_on(worker);
                let body = running.map(|(_, slot)| self.check.body_at(slot));
                self.check.gone(worker);
                let verdict = Verdict { cause, evidence: "seen by the simulation".into() };
                self.tell(Event::WorkerGone { worker, verdict, blame: None, body });
            }
        }
    }

    fn tell(&mut self, event: Event<'_>) {
        self.log.input(self.now_us, &event);
        let mut actions = std::mem::take(&mut self.actions);
        self.core.handle(Time(self.now_us), event, &mut actions);
        self.perform_all(actions);
    }

    fn word(&mut self, report: &pool_core::event::Report) {
        self.log.input(self.now_us, report);
        let mut actions = std::mem::take(&mut self.actions);
        let reported = self.core.report(Time(self.now_us), report, &mut actions);
        let told = self.check.told(&actions, report.task);
        self.perform_all(actions);
        if let Reported::Ended { task, slot, ended, .. } = reported {
            self.check.reported(task, slot, &ended, told);
        }
    }

    fn cancel(&mut self, task: TaskId) {
        self.log.input(self.now_us, &("cancel", task));
        let mut actions = std::mem::take(&mut self.actions);
        assert!(self.core.cancel(Time(self.now_us), task, &mut actions), "it has not ended");
        self.perform_all(actions);
    }

    fn perform_all(&mut self, mut actions: Vec<Action>) {
        for action in &actions {
            self.log.output(action);
        }
        self.core.check_invariants();
        for action in actions.drain(..) {
            let shown = glance(&action, 60);
            self.digest = shown
                .bytes()
                .fold(self.digest, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
            self.check.action(&action, &self.limits, self.most_workers);
            self.perform(action);
        }
        self.actions = actions;
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Spawn { worker, .. } => self.spawn(worker),
            Action::Assign { worker, task, attempt, timeout_ms, .. } => {
                let tiny = self.check.open[&task].project < 2;
                self.order(worker, Order::Run { task, attempt, timeout_ms, tiny });
            }
            Action::TakeBack { worker, tasks } => self.order(worker, Order::TakeBack(tasks)),
            Action::Interrupt { worker, task, attempt, code } => {
                self.order(worker, Order::Interrupt { task, attempt, code });
            }
            Action::Retire { worker } => self.order(worker, Order::Retire),
            Action::Kill { worker } => self.die(worker, Cause::KilledFromOutside),
            Action::CheckBody { task, slot } => {
                let body = self.check.body_at(slot);
                let later_us = self.rng.between(0, 2_000);
                self.at(self.now_us + later_us, Happening::Checked(task, body));
            }
            Action::End { .. } | Action::Emit(_) | Action::Exit => {}
        }
    }

    fn spawn(&mut self, id: WorkerId) {
        if self.faults && self.rng.percent(5) {
            let at = self.now_us + self.rng.between(0, 5_000);
            self.at(at, Happening::Heard(id, Report::SpawnFailed));
            return;
        }
        let worker = Worker::new(&mut self.rng, self.faults);
        self.workers.insert(id, worker);
        let start_us = self.rng.between(1_000, 50_000);
        if !self.faults || self.rng.percent(95) {
            self.say(id, start_us, Report::Ready);
        }
        if self.faults && self.rng.percent(5) {
            let at = self.now_us + self.rng.between(0, 100_000);
            self.at(at, Happening::Exit(id, Cause::Exited));
        }
    }

    fn submit(&mut self) {
        let project = self.rng.between(0, PROJECTS.len() as u64) as usize;
        let client = *self.rng.pick(&self.clients);
        let max_attempts = self.rng.between(1, 5) as u16;
        let lane = if self.rng.percent(25) { Lane::Io } else { Lane::Js };
        // Few bodies, so that one which has ended a worker comes again.
        let body = BodyHash(self.rng.between(0, 30).into());
        let key = format!("key-{}", self.rng.between(0, 20));
        let task = NewTask {
            priority: self.rng.between(0, 11) as u8,
            timeout_ms: self.rng.percent(50).then_some(300),
            max_attempts,
            retry: RetryPolicy {
                initial_delay_ms: 20,
                factor: 2.0,
                max_delay_ms: 500,
                jitter: 0.2,
            },
            delay_ms: if self.rng.percent(10) { self.rng.between(1, 500) } else { 0 },
            deadline_ms: if self.rng.percent(10) { Some(self.rng.between(0, 1000)) } else { None },
            idempotency_key: self.rng.percent(10).then_some(key.as_str()),
            body_bytes: 100,
            made_ahead: self.rng.percent(20),
            cancel_with_client: self.rng.percent(30),
            body: (self.core.suspects_body_of(100) && self.rng.percent(90)).then_some(body),
            ..NewTask::new(lane, PROJECTS[project])
        };
        self.requests += 1;
        // Tasks come in bunches of up to thirty.
        if self.rng.percent(40) && self.requests < SUBMISSIONS * 2 {
            self.at(self.now_us, Happening::Submit);
        }
        let mut actions = std::mem::take(&mut self.actions);
        self.log.input(self.now_us, &task);
        let answer = self.core.submit(Time(self.now_us), client, &task, &mut actions);
        self.log.output(&answer);
        self.check.answered(&answer);
        if let Submission::Accepted { task, slot } = answer {
            let max_attempts = u32::from(max_attempts);
            self.check.accepted(task, Known { project, lane, max_attempts, slot, body });
        }
        self.perform_all(actions);
    }

    fn some_task(&mut self) -> Option<TaskId> {
        let open: Vec<TaskId> = self.check.open.keys().copied().collect();
        (!open.is_empty()).then(|| *self.rng.pick(&open))
    }

    fn some_worker(&mut self) -> Option<WorkerId> {
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        (!ids.is_empty()).then(|| *self.rng.pick(&ids))
    }

    fn set_limit(&mut self, name: &str, limit: u32) {
        let project = PROJECTS.iter().position(|project| *project == name).expect("one of ours");
        self.limits[project] = Some(limit);
        self.tell(Event::SetLimit { project: name, limit: Some(limit) });
    }

    /// One of the things that go wrong or change under load.
    fn disturb(&mut self) {
        match self.rng.between(0, 100) {
            0..25 => {
                if let Some(task) = self.some_task() {
                    self.cancel(task);
                }
            }
            25..32 => {
                let at = self.rng.between(0, 3) as usize;
                let client = self.clients[at];
                self.clients[at].generation += 1;
                self.tell(Event::ClientGone { client });
            }
            32..42 => {
                let (project, limit) = (*self.rng.pick(&PROJECTS), self.rng.between(0, 4) as u32);
                self.set_limit(project, limit);
            }
            42..47 => self.reload(),
            47..50 => self.tell(Event::RecycleWorkers),
            50..55 => {
                let ended: Vec<TaskId> = self.check.ended.keys().copied().collect();
                if !ended.is_empty() {
                    let task = *self.rng.pick(&ended);
                    self.tell(Event::Forget { task });
                }
            }
            55..75 => {
                if let Some(id) = self.some_worker() {
                    self.die(id, Cause::KilledFromOutside);
                }
            }
            75..82 => {
                if let Some(id) = self.some_worker() {
                    self.workers.get_mut(&id).expect("it lives").mute = true;
                }
            }
            82..96 => {
                if let Some(id) = self.some_worker() {
                    let others: Vec<_> =
                        self.check.held.iter().filter(|(_, (w, _))| *w != id).collect();
                    let others: Vec<(TaskId, u32)> =
                        others.into_iter().map(|(task, (_, n))| (*task, *n)).collect();
                    let next =
                        self.workers.get_mut(&id).expect("it lives").lie(&others, &mut self.rng);
                    self.follow(id, next);
                }
            }
            96..97 => self.tell(Event::Drain),
            // Time passes unseen: the machine was asleep, or the supervisor stopped.
            _ => self.now_us += self.rng.between(1_000, 900_000),
        }
    }

    fn reload(&mut self) {
        let settings = settings(&mut self.rng);
        // What lives under the old maximum may live on for a while.
        self.most_workers = self.most_workers.max(settings.max_workers);
        self.limits[3] = settings.projects["limited"].limit;
        self.check.tenancy(settings.tenancy);
        self.tell(Event::Reload(Box::new(settings)));
    }
}
