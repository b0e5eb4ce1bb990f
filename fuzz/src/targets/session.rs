//! The supervisor's side of its workers: bytes → session → core, with clients, faults and time in
//! between.
//!
//! Workers say what they like. After every event the core's invariants are checked, and every
//! action is held against a ledger of what the shell was told: a task is in one worker's hands,
//! ends once, and succeeds only by the word of the worker that had that very attempt. At the end
//! the pool is told to stop: whatever came before, it does.
//!
//! A script begins with the number of a setting; its steps stand at [`STEPS`].

mod ledger;

use std::collections::{BTreeMap, VecDeque};

use bytes::BytesMut;
use pool_core::Core;
use pool_core::action::Action;
use pool_core::answer::Reported;
use pool_core::event::{BodyHash, Event, NewTask, Report};
use pool_core::seeds::Seeds;
use pool_core::settings::{ProjectSettings, Settings, Tenancy};
use pool_core::time::Time;
use pool_edge::session::worker::{
    MAX_LAST_WORDS, MAX_REASON_CHARS, MAY_SAY, WorkerSays, WorkerSession,
};
use pool_protocol::frame::{self, FrameLimits, Kind, Taken};
use pool_protocol::id::{ClientId, TaskId, WorkerId};
use pool_protocol::lane::Lane;
use pool_protocol::layer::{Layer, LayerSet};
use pool_protocol::limits::MAX_CREDIT;
use pool_protocol::outcome::{Blame, Cause, ErrorCode, Verdict};
use pool_protocol::policy::RetryPolicy;
use pool_protocol::version;
use pool_protocol::worker::{DoneHead, HeartbeatHead, LastWordsHead, ReadyHead, TaskList};

use crate::input::Script;
use ledger::Ledger;

/// `s` submit, `c` cancel, `g` a client goes, `t` time passes, `T` time passes to the next
/// deadline, `x` the next start fails, `r` a worker is ready, `u` it is and lacks what it should
/// have, `d` it reports a task that it holds, `l` it reports one that it does not, `k` it gives
/// tasks back, `b` it lives, `q` it says last words, `y` it says what is in the script, `G` it is
/// gone, `L` a limit is set, `R` a reload, `C` all workers are replaced, `F` an outcome is
/// forgotten, `D` drain, `S` shutdown.
const STEPS: &[u8] = b"sscgtTxrdddlkbqyGLRCFDSu";
const LIMITS: FrameLimits = FrameLimits { body_bytes: 256 };
const PROJECTS: [&str; 3] = ["a", "b", "limited"];
const BODY_BYTES: u32 = 100;
/// Steps of one script: more says nothing new, and takes long.
const MOST_STEPS: usize = 300;

struct Worker {
    wire: BytesMut,
    session: WorkerSession,
    /// It broke the protocol: nothing more is read.
    deaf: bool,
    killed: bool,
}

struct World {
    core: Core,
    now: u64,
    workers: BTreeMap<WorkerId, Worker>,
    ledger: Ledger,
    failing_start: bool,
    /// What follows from actions, and is still to be told.
    follow_ups: VecDeque<Event<'static>>,
    settings: usize,
}

/// See the module's documentation.
pub fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let number = script.number(4);
    let settings = settings(number);
    let mut world = World {
        ledger: Ledger::new(settings.max_workers),
        core: Core::new(Time(0), settings, TaskId(1), Seeds::fixed(7)),
        now: 0,
        workers: BTreeMap::new(),
        failing_start: false,
        follow_ups: VecDeque::new(),
        settings: number,
    };
    world.tell(Event::Tick);
    for _ in 0..MOST_STEPS {
        let Some(step) = script.step(STEPS) else { break };
        if world.ledger.exited {
            return;
        }
        world.step(step, &mut script);
    }
    world.stop();
}

fn settings(number: usize) -> Settings {
    let limited = ProjectSettings { limit: Some(1), weight: 2.0, max_queued: Some(4) };
    Settings {
        min_workers: [1, 2, 0, 1][number],
        max_workers: [2, 3, 1, 4][number],
        processors: [1, 2, 1, 8][number],
        auto_scale: number != 1,
        scale_up_threshold: 0.8,
        scale_down_threshold: 0.2,
        scale_cooldown_ms: 100,
        max_tasks_per_worker: [0, 3, 1, 0][number],
        max_memory_per_worker: [0, 0, 1000, 0][number],
        max_worker_age_ms: [0, 0, 0, 500][number],
        worker_idle_timeout_ms: [0, 100, 200, 0][number],
        heartbeat_interval_ms: [1_000_000, 200, 200, 1000][number],
        spawn_timeout_ms: 300,
        drain_timeout_ms: 2000,
        queue_size: [1000, 6, 20, 1000][number],
        queue_bytes: 1 << 20,
        timeout_ms: 1000,
        cpu_ms: 1000,
        memory_bytes: 1 << 20,
        priority_ageing_ms: [20, 10_000, 1000, 1][number],
        tenancy: [Tenancy::Shared, Tenancy::Shared, Tenancy::Task, Tenancy::Project][number],
        set_aside_ms: [0, 5000, 100, 60_000][number],
        kill_after_ms: 500,
        projects: BTreeMap::from([("limited".into(), limited)]),
    }
}

impl World {
    fn tell(&mut self, event: Event<'_>) {
        self.handle(event);
        self.follow_up();
    }

    fn follow(&mut self, actions: Vec<Action>) {
        self.perform_all(actions);
        self.follow_up();
    }

    fn follow_up(&mut self) {
        // INVARIANT: as in the shell, what follows from an action comes after all of an event's
        // actions.
        while let Some(event) = self.follow_ups.pop_front() {
            if let Event::SpawnFailed { worker, .. } = event {
                self.ledger.gone(worker);
            }
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event<'_>) {
        let mut actions = Vec::new();
        self.core.handle(Time(self.now), event, &mut actions);
        self.perform_all(actions);
    }

    fn perform_all(&mut self, actions: Vec<Action>) {
        self.core.check_invariants();
        for action in actions {
            self.ledger.action(&action);
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Spawn { worker, .. } => {
                if std::mem::take(&mut self.failing_start) {
                    self.follow_ups
                        .push_back(Event::SpawnFailed { worker, reason: "no room".into() });
                    return;
                }
                let session = WorkerSession::default();
                self.workers.insert(
                    worker,
                    Worker { wire: BytesMut::new(), session, deaf: false, killed: false },
                );
            }
            Action::Kill { worker } => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.killed = true;
                }
            }
            Action::CheckBody { task, slot } => {
                self.follow_ups
                    .push_back(Event::BodyChecked { task, body: self.ledger.body(slot) });
            }
            _ => {}
        }
    }

    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        match step {
            b's' => self.submit(script),
            b'c' => {
                let task = TaskId(1 + script.number(64) as u64);
                let mut actions = Vec::new();
                let found = self.core.cancel(Time(self.now), task, &mut actions);
                assert_eq!(found, self.ledger.is_open(task), "what has not ended is found");
                self.follow(actions);
            }
            b'g' => self.tell(Event::ClientGone { client: client(script.number(2)) }),
            b't' => self.pass(1 << script.number(24)),
            b'T' => self.wake(),
            b'x' => self.failing_start = true,
            b'L' => {
                let (project, limit) = (PROJECTS[script.number(3)], script.number(3) as u32);
                self.tell(Event::SetLimit { project, limit: Some(limit) });
            }
            b'R' => {
                self.settings = script.number(4);
                let settings = settings(self.settings);
                self.ledger.most_workers = self.ledger.most_workers.max(settings.max_workers);
                self.tell(Event::Reload(Box::new(settings)));
            }
            b'C' => self.tell(Event::RecycleWorkers),
            b'F' => self.tell(Event::Forget { task: TaskId(1 + script.number(64) as u64) }),
            b'D' => self.tell(Event::Drain),
            b'S' => self.tell(Event::Shutdown),
            _ => self.worker_step(step, script),
        }
    }

    fn submit(&mut self, script: &mut Script<'_>) {
        let (project, shape) = (PROJECTS[script.number(3)], script.number(10));
        let body = BodyHash(shape as u128);
        let retry =
            RetryPolicy { initial_delay_ms: 10, factor: 2.0, max_delay_ms: 1000, jitter: 0.1 };
        let task = NewTask {
            lane: if shape == 5 { Lane::Io } else { Lane::Js },
            project,
            priority: [0, 10, 5][shape % 3],
            timeout_ms: (shape == 6).then_some(1),
            max_attempts: [3, 1, 1000][shape % 3],
            retry,
            delay_ms: if shape == 7 { 50 } else { 0 },
            deadline_ms: (shape == 8).then_some(100),
            idempotency_key: (shape == 9).then_some("key"),
            cpu_ms: None,
            memory_bytes: None,
            body_bytes: BODY_BYTES,
            made_ahead: shape == 3,
            cancel_with_client: shape == 4,
            body: self.core.suspects_body_of(BODY_BYTES).then_some(body),
        };
        let (now, client) = (Time(self.now), client(shape % 2));
        let mut actions = Vec::new();
        let answer = self.core.submit(now, client, &task, &mut actions);
        self.ledger.submitted(&answer, task.lane, u32::from(task.max_attempts), body);
        self.follow(actions);
    }

    fn pass(&mut self, us: u64) {
        self.now += us;
        self.tell(Event::Tick);
    }

    fn wake(&mut self) {
        if let Some(at) = self.core.next_deadline() {
            assert!(at > Time(self.now), "what is due has been done");
            self.now = at.0;
            self.tell(Event::Tick);
        }
    }

    /// A step of one worker, if there is any.
    fn worker_step(&mut self, step: u8, script: &mut Script<'_>) {
        let place = script.number(self.workers.len().max(1));
        let Some(id) = self.workers.keys().nth(place).copied() else { return };
        let held = self.ledger.held_by(id);
        let mut wire = Vec::new();
        match step {
            b'G' => return self.gone(id, script.pick(Cause::ALL)),
            b'u' => return self.unfit(id),
            b'r' => {
                let head = ReadyHead { start_us: 1, layers: LayerSet::NONE };
                frame::put(&mut wire, Kind::Ready, u64::from(version::CURRENT), &head, b"{}");
            }
            b'd' | b'l' => {
                let at = script.number(held.len().max(1));
                let (task, attempt) = match held.get(at) {
                    Some((task, attempt)) if step == b'd' => (task.0, *attempt),
                    _ => (1 + script.number(64) as u64, script.number(4) as u32),
                };
                frame::put(&mut wire, Kind::Done, task, &done(attempt, script), b"result");
            }
            b'k' => {
                let from = script.number(MAX_CREDIT + 1).min(held.len());
                let tasks = held[from..].iter().map(|(task, attempt)| (task.0, *attempt)).collect();
                frame::put(&mut wire, Kind::Returned, 0, &TaskList { tasks }, &[]);
            }
            b'b' => {
                let head =
                    HeartbeatHead { rss_bytes: script.pick(&[0, 500, 5000, u64::MAX]), cpu_us: 1 };
                frame::put(&mut wire, Kind::Heartbeat, 0, &head, &[]);
            }
            b'q' => {
                let cause = script.pick(Cause::ALL);
                frame::put(
                    &mut wire,
                    Kind::LastWords,
                    0,
                    &LastWordsHead { cause, detail: "the end" },
                    &[],
                );
            }
            _ => {
                let len = script.number(64);
                wire.extend_from_slice(script.raw(len));
            }
        }
        self.says(id, &wire);
    }

    /// As the shell reads a worker's socket.
    fn says(&mut self, id: WorkerId, bytes: &[u8]) {
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| !worker.deaf) else { return };
        worker.wire.extend_from_slice(bytes);
        while let Some(worker) = self.workers.get_mut(&id).filter(|worker| !worker.deaf) {
            let heard = match frame::take(&mut worker.wire, LIMITS) {
                Ok(Taken::Needs(_)) => return,
                Ok(Taken::Frame(frame)) => {
                    let heard = worker.session.hear(&frame);
                    heard.map(|says| {
                        if let WorkerSays::Done { result_len, .. } = says {
                            assert!(
                                result_len as usize <= frame.body.len(),
                                "a result lies within its body"
                            );
                        }
                        says
                    })
                }
                Err(error) => Err(error.to_string()),
            };
            match heard {
                Ok(says) => self.heed(id, says),
                Err(reason) => {
                    worker.deaf = true;
                    assert!(
                        !reason.chars().any(char::is_control),
                        "a worker writes no lines into the log: {reason:?}"
                    );
                    self.tell(Event::WorkerBroke { worker: id, reason });
                }
            }
        }
    }

    fn heed(&mut self, id: WorkerId, says: WorkerSays) {
        match says {
            WorkerSays::Ready { missing, .. } => {
                for (name, reason) in missing {
                    assert!(
                        Layer::ALL.iter().any(|layer| layer.name() == name),
                        "{name:?} is a layer"
                    );
                    assert!(
                        reason.chars().count() <= MAX_REASON_CHARS
                            && !reason.contains(char::is_control),
                        "{reason:?}"
                    );
                }
                self.tell(Event::WorkerReady { worker: id });
            }
            WorkerSays::Done { task, attempt, end, .. } => {
                self.ledger.word(id, task, attempt, end.code);
                let mut actions = Vec::new();
                let report = Report { worker: id, task, attempt, end };
                let reported = self.core.report(Time(self.now), &report, &mut actions);
                self.perform_all(actions);
                if let Reported::Ended { task, slot, ended, .. } = reported {
                    self.ledger.end(task, slot, &ended);
                }
                self.follow_up();
            }
            WorkerSays::Heartbeat(HeartbeatHead { rss_bytes, cpu_us }) => {
                self.tell(Event::Heartbeat { worker: id, rss_bytes, cpu_us });
            }
            WorkerSays::Returned(tasks) => {
                assert!(tasks.len() <= MAX_CREDIT);
                self.ledger.returned(id, &tasks);
                self.tell(Event::TasksReturned { worker: id, tasks: &tasks });
            }
            WorkerSays::LastWords { cause, detail } => {
                assert!(MAY_SAY.contains(&cause), "{cause}");
                assert!(detail.chars().count() <= MAX_LAST_WORDS);
            }
            WorkerSays::Log { .. } => {}
        }
    }

    /// The shell asks for this once in a worker's life, instead of calling it ready.
    fn unfit(&mut self, id: WorkerId) {
        let mut wire = Vec::new();
        let head = ReadyHead { start_us: 1, layers: LayerSet::NONE };
        frame::put(
            &mut wire,
            Kind::Ready,
            u64::from(version::CURRENT),
            &head,
            br#"{"landlock":"no kernel"}"#,
        );
        let Some(worker) =
            self.workers.get_mut(&id).filter(|worker| !worker.deaf && worker.wire.is_empty())
        else {
            return;
        };
        worker.wire.extend_from_slice(&wire);
        let Ok(Taken::Frame(frame)) = frame::take(&mut worker.wire, LIMITS) else {
            panic!("written above")
        };
        worker.deaf = true;
        match worker.session.hear(&frame) {
            Ok(_) => {
                self.tell(Event::WorkerUnfit { worker: id, reason: "it lacks landlock".into() })
            }
            Err(reason) => self.tell(Event::WorkerBroke { worker: id, reason }),
        }
    }

    fn gone(&mut self, id: WorkerId, cause: Cause) {
        self.workers.remove(&id);
        let body = self.core.running_on(id).map(|(_, slot)| self.ledger.body(slot));
        self.ledger.gone(id);
        let verdict = Verdict { cause, evidence: "seen by the shell".into() };
        let blame = (cause == Cause::KernelOom).then_some(Blame::Task);
        self.tell(Event::WorkerGone { worker: id, verdict, blame, body });
    }

    /// A drain, in which workers do nothing but die when they are killed, ends within its
    /// deadlines.
    fn stop(&mut self) {
        self.tell(Event::Drain);
        for _ in 0..10_000 {
            if self.ledger.exited {
                return;
            }
            let killed = self.workers.iter().find(|(_, worker)| worker.killed).map(|(id, _)| *id);
            match killed {
                Some(id) => self.gone(id, Cause::KilledFromOutside),
                None => {
                    assert!(
                        self.core.next_deadline().is_some(),
                        "a pool that drains waits for something"
                    );
                    self.wake();
                }
            }
        }
        panic!(
            "a drain ends: {} workers, {} tasks are left",
            self.workers.len(),
            self.ledger.open()
        );
    }
}

fn done(attempt: u32, script: &mut Script<'_>) -> DoneHead {
    let code = script.number(ErrorCode::ALL.len() + 1).checked_sub(1).map(|at| ErrorCode::ALL[at]);
    let run_us = script.pick(&[1, 100, 5000, 1 << 40, u64::MAX]);
    DoneHead {
        attempt,
        code,
        run_us,
        cpu_us: run_us,
        busy_us: run_us,
        memory_bytes: 1,
        retry_after_ms: 0,
        result_len: 6,
        spoiled: script.number(16) == 15,
    }
}

fn client(slot: usize) -> ClientId {
    ClientId { slot: slot as u32, generation: 1 }
}
