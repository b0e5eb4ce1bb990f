//! Work whose instructions are counted: the core's decisions and the frames, with nothing of the
//! machine in them.
//!
//! Each scenario first brings itself into its state, then does the same for every task; so the
//! difference between two runs that differ in their number of tasks is what a task costs. Nothing
//! here may depend on a clock, an address or chance.

use std::hint::black_box;

use bytes::BytesMut;
use pool_core::Core;
use pool_core::action::Action;
use pool_core::answer::{Reported, Submission};
use pool_core::event::{AttemptEnd, Event, NewTask, Report};
use pool_core::seeds::Seeds;
use pool_core::settings::{Settings, Tenancy};
use pool_core::time::Time;
use pool_protocol::control::OutcomeHead;
use pool_protocol::frame::{self, Frame, FrameLimits, Kind, Taken};
use pool_protocol::id::{ClientId, TaskId, WorkerId};
use pool_protocol::lane::Lane;
use pool_protocol::layer::LayerSet;
use pool_protocol::outcome::{Receipt, Status};
use pool_protocol::task::{OnDisconnect, Realm, TaskHead, TaskKind};
use pool_protocol::version;
use pool_protocol::worker::{DoneHead, ReadyHead, RunHead};
use pool_supervisor::session::client::{self, ClientSays};
use pool_supervisor::session::worker::{WorkerSays, WorkerSession};

/// One kind of work.
pub struct Scenario {
    /// As in the file of stored figures.
    pub name: &'static str,
    /// Tasks of the shorter run; the longer one has twice as many.
    pub tasks: u64,
    run: fn(u64),
}

impl Scenario {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self {
            name: "core",
            tasks: 20_000,
            run: |tasks| Cycles::new(&Shape::default()).run(tasks),
        },
        Self {
            name: "core-1000-projects",
            tasks: 20_000,
            run: |tasks| Cycles::new(&Shape { projects: 1_000, ..Shape::default() }).run(tasks),
        },
        Self {
            name: "core-priorities",
            tasks: 20_000,
            run: |tasks| {
                Cycles::new(&Shape { projects: 16, priorities: 11, ..Shape::default() }).run(tasks)
            },
        },
        Self {
            name: "core-100000-waiting",
            tasks: 20_000,
            run: |tasks| {
                Cycles::new(&Shape { projects: 16, window: 100_000, ..Shape::default() }).run(tasks)
            },
        },
        Self {
            name: "core-256-workers",
            tasks: 20_000,
            run: |tasks| Cycles::new(&Shape { workers: 256, ..Shape::default() }).run(tasks),
        },
        Self {
            name: "core-one-at-a-time",
            tasks: 20_000,
            run: |tasks| Cycles::new(&Shape { window: 1, ..Shape::default() }).run(tasks),
        },
        Self {
            name: "core-long-tasks",
            tasks: 20_000,
            run: |tasks| Cycles::new(&Shape { run_us: 5_000, ..Shape::default() }).run(tasks),
        },
        Self {
            name: "core-tenancy-project",
            tasks: 20_000,
            run: |tasks| {
                Cycles::new(&Shape { projects: 4, tenancy: Tenancy::Project, ..Shape::default() })
                    .run(tasks);
            },
        },
        Self { name: "frames", tasks: 20_000, run: |tasks| frames(tasks, 1) },
        Self { name: "frames-in-batches", tasks: 64 * 320, run: |tasks| frames(tasks, 64) },
        Self { name: "sessions", tasks: 20_000, run: sessions },
    ];

    /// The scenario of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|scenario| scenario.name == name)
    }

    /// Does the work for so many tasks.
    pub fn run(&self, tasks: u64) {
        (self.run)(tasks);
    }
}

/// What the core has to deal with.
struct Shape {
    workers: u32,
    projects: usize,
    priorities: u64,
    /// Tasks in flight.
    window: u64,
    run_us: u64,
    tenancy: Tenancy,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            workers: 4,
            projects: 1,
            priorities: 1,
            window: 512,
            run_us: 10,
            tenancy: Tenancy::Shared,
        }
    }
}

impl Shape {
    fn settings(&self) -> Settings {
        Settings {
            min_workers: self.workers,
            max_workers: self.workers,
            max_tasks_per_worker: 0,
            max_memory_per_worker: 0,
            max_worker_age_ms: 0,
            // Longer than any run: beats are not what is counted.
            heartbeat_interval_ms: u64::from(u32::MAX),
            tenancy: self.tenancy,
            ..Settings::default()
        }
    }
}

const CLIENT: ClientId = ClientId { slot: 0, generation: 1 };

/// A core between a client that keeps its window full and workers that end whatever they are given.
struct Cycles {
    core: Core,
    projects: Vec<String>,
    priorities: u64,
    window: u64,
    end: AttemptEnd,
    now_us: u64,
    submitted: u64,
    ended: u64,
    actions: Vec<Action>,
    assigned: Vec<(WorkerId, TaskId, u32)>,
    returned: Vec<(WorkerId, Vec<(TaskId, u32)>)>,
}

impl Cycles {
    /// With its workers ready, its window full, and the tasks' run time learned.
    fn new(shape: &Shape) -> Self {
        let mut core = Core::new(Time(0), shape.settings(), TaskId(1), Seeds::fixed(1));
        let mut actions = Vec::new();
        core.handle(Time(0), Event::Tick, &mut actions);
        let spawned: Vec<WorkerId> =
            actions
                .drain(..)
                .filter_map(|action| {
                    if let Action::Spawn { worker, .. } = action { Some(worker) } else { None }
                })
                .collect();
        for worker in spawned {
            core.handle(Time(1), Event::WorkerReady { worker }, &mut actions);
        }
        let (run_us, cpu_us) = (shape.run_us, shape.run_us);
        let mut cycles = Self {
            core,
            projects: (0..shape.projects).map(|number| format!("project-{number}")).collect(),
            priorities: shape.priorities,
            window: shape.window,
            end: AttemptEnd {
                code: None,
                run_us,
                cpu_us,
                busy_us: run_us,
                memory_bytes: 0,
                retry_after_ms: 0,
                spoiled: false,
            },
            now_us: 10,
            submitted: 0,
            ended: 0,
            actions,
            assigned: Vec::new(),
            returned: Vec::new(),
        };
        cycles.run(shape.projects as u64 * 2 + 2_000);
        cycles
    }

    fn run(&mut self, tasks: u64) {
        let until = self.ended + tasks;
        while self.ended < until {
            self.turn();
        }
    }

    /// The client fills its window, then the workers end what they hold.
    fn turn(&mut self) {
        while self.submitted - self.ended < self.window {
            let number = self.submitted;
            self.submitted += 1;
            let project = &self.projects[(number % self.projects.len() as u64) as usize];
            let priority = ((number / self.projects.len() as u64) % self.priorities) as u8;
            let task = NewTask { priority, body_bytes: 100, ..NewTask::new(Lane::Js, project) };
            let now = Time(self.now_us);
            let answer = self.core.submit(now, CLIENT, &task, &mut self.actions);
            assert!(matches!(answer, Submission::Accepted { .. }), "there is room");
        }
        self.perform();
        self.now_us += self.end.run_us * 8;
        for (worker, tasks) in std::mem::take(&mut self.returned) {
            self.assigned.retain(|(_, task, attempt)| !tasks.contains(&(*task, *attempt)));
            self.core.handle(
                Time(self.now_us),
                Event::TasksReturned { worker, tasks: &tasks },
                &mut self.actions,
            );
        }
        for (worker, task, attempt) in std::mem::take(&mut self.assigned) {
            let report = Report { worker, task, attempt, end: self.end };
            let reported = self.core.report(Time(self.now_us), &report, &mut self.actions);
            self.ended += u64::from(matches!(reported, Reported::Ended { .. }));
        }
        self.perform();
    }

    fn perform(&mut self) {
        for action in self.actions.drain(..) {
            match action {
                Action::Assign { worker, task, attempt, .. } => {
                    self.assigned.push((worker, task, attempt))
                }
                Action::TakeBack { worker, tasks } => self.returned.push((worker, tasks)),
                _ => {}
            }
        }
    }
}

const BODY: &[u8] = br#"({a,b})=>a+b{"a":1,"b":2}"#;
const LIMITS: FrameLimits = FrameLimits { body_bytes: 1 << 20 };

fn task_head() -> TaskHead<'static> {
    TaskHead {
        kind: TaskKind::Function,
        project: "project-1",
        priority: 5,
        timeout_ms: Some(30_000),
        max_attempts: None,
        retry: None,
        delay_ms: 0,
        deadline_ms: None,
        idempotency_key: None,
        durable: false,
        realm: None,
        tag: None,
        cpu_ms: None,
        memory_bytes: None,
        logs: false,
        on_disconnect: OnDisconnect::Cancel,
        ack: false,
        want_outcome: true,
        code_len: 12,
    }
}

fn run_head() -> RunHead<'static> {
    RunHead {
        attempt: 1,
        kind: TaskKind::Function,
        project: "project-1",
        realm: Realm::Warm,
        timeout_ms: 30_000,
        cpu_ms: 60_000,
        memory_bytes: 128 << 20,
        logs: false,
        stream_logs: false,
        code_len: 12,
    }
}

const DONE: DoneHead = DoneHead {
    attempt: 1,
    code: None,
    run_us: 10,
    cpu_us: 9,
    busy_us: 9,
    memory_bytes: 4096,
    retry_after_ms: 0,
    result_len: 1,
    spoiled: false,
};

fn outcome_head(task: u64) -> OutcomeHead<'static> {
    OutcomeHead {
        task,
        status: Status::Succeeded,
        code: None,
        attempts: 1,
        worker: Some(WorkerId { slot: 1, generation: 1 }),
        receipt: Receipt { queued_us: 900, run_us: 10, cpu_us: 9, memory_bytes: 4096 },
        missing_layers: LayerSet::NONE,
        tag: None,
        result_len: 1,
    }
}

/// A task's four frames, written and taken apart again, so many tasks in a read.
fn frames(tasks: u64, batch: u64) {
    let mut wire = Vec::new();
    let mut inbox = BytesMut::new();
    for first in (0..tasks).step_by(batch as usize) {
        wire.clear();
        for id in first..first + batch {
            frame::put(&mut wire, Kind::Submit, id, &task_head(), BODY);
            frame::put(&mut wire, Kind::Run, id, &run_head(), BODY);
            frame::put(&mut wire, Kind::Done, id, &DONE, b"3");
            frame::put(&mut wire, Kind::Outcome, id, &outcome_head(id), b"3");
        }
        inbox.extend_from_slice(&wire);
        let mut taken = 0;
        while let Ok(Taken::Frame(frame)) = frame::take(&mut inbox, LIMITS) {
            black_box(&frame);
            taken += 1;
        }
        assert_eq!(taken, 4 * batch, "every frame comes out whole");
    }
}

fn frame_of(put: impl FnOnce(&mut Vec<u8>)) -> Frame {
    let mut bytes = Vec::new();
    put(&mut bytes);
    match frame::take(&mut BytesMut::from(&bytes[..]), LIMITS) {
        Ok(Taken::Frame(frame)) => frame,
        other => unreachable!("written just now: {other:?}"),
    }
}

/// What the supervisor makes of a client's submission and of a worker's result.
fn sessions(tasks: u64) {
    let submit = frame_of(|out| frame::put(out, Kind::Submit, 1, &task_head(), BODY));
    let done = frame_of(|out| frame::put(out, Kind::Done, 1, &DONE, b"3"));
    let ready = ReadyHead { start_us: 1, layers: LayerSet::NONE };
    let ready =
        frame_of(|out| frame::put(out, Kind::Ready, u64::from(version::CURRENT), &ready, b"{}"));
    let mut worker = WorkerSession::default();
    assert!(matches!(worker.hear(&ready), Ok(WorkerSays::Ready { .. })));
    for _ in 0..tasks {
        let submit: &Frame = black_box(&submit);
        match client::hear(true, submit.kind, submit.id, &submit.head) {
            Ok(ClientSays::Submit(head)) => {
                assert!(head.check(submit.body.len()).is_ok(), "a sound task");
                black_box(client::new_task(&head, Realm::Warm, submit.body.len()));
            }
            other => unreachable!("a submission: {other:?}"),
        }
        let heard = worker.hear(black_box(&done));
        assert!(matches!(black_box(heard), Ok(WorkerSays::Done { .. })), "a result");
    }
}
