//! The worker's side: what a supervisor may order, in any sequence.
//!
//! The inbox is compared with a model that only knows sets: an order that was taken in is waiting,
//! or was begun, given back or ended as cancelled, and never two of them; every question is
//! answered; what is answered is well formed.
//!
//! A script's steps: `r` run, `c` cancel, `t` take back, `b` begin the next one, `R` retire, `y`
//! bytes as they are.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use pool_protocol::codec;
use pool_protocol::frame::{self, Frame, FrameLimits, Kind, Taken};
use pool_protocol::limits::MAX_CREDIT;
use pool_protocol::outcome::ErrorCode;
use pool_protocol::task::{Realm, TaskKind};
use pool_protocol::worker::{CancelHead, DoneHead, RunHead, TaskList};
use pool_worker_core::inbox::{Inbox, StopReason};

use crate::input::Script;

const LIMITS: FrameLimits = FrameLimits { body_bytes: 1024 };
const STEPS: &[u8] = b"rctbRy";

type Id = (u64, u32);

struct World {
    inbox: Inbox,
    /// What comes on the socket.
    wire: BytesMut,
    /// In the order in which they came.
    waiting: Vec<Id>,
    running: Option<Id>,
    retiring: bool,
    begun: u64,
    now: Instant,
}

/// See the module's documentation.
#[expect(
    clippy::disallowed_methods,
    reason = "an instant can be had in no other way; that it is now decides nothing"
)]
pub fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let mut world = World {
        inbox: Inbox::default(),
        wire: BytesMut::new(),
        waiting: Vec::new(),
        running: None,
        retiring: false,
        begun: 0,
        now: Instant::now(),
    };
    while let Some(step) = script.step(STEPS) {
        if !world.step(step, &mut script) {
            return;
        }
        assert!(world.inbox.is_retiring() == world.retiring && world.inbox.begun() == world.begun);
        assert_eq!(world.inbox.is_busy(), world.running.is_some() || !world.waiting.is_empty());
    }
}

impl World {
    /// False when the connection is of no more use.
    fn step(&mut self, step: u8, script: &mut Script<'_>) -> bool {
        let mut bytes = Vec::new();
        let mut id = || (script.number(80) as u64, script.number(3) as u32);
        match step {
            b'r' => {
                let (task, attempt) = id();
                frame::put(&mut bytes, Kind::Run, task, &run_head(attempt), b"code");
            }
            b'c' => {
                let (task, attempt) = id();
                let code = script.pick(&[ErrorCode::Cancelled, ErrorCode::Timeout]);
                frame::put(&mut bytes, Kind::Cancel, task, &CancelHead { attempt, code }, &[]);
            }
            b't' => {
                let tasks = vec![id(), id()];
                frame::put(&mut bytes, Kind::TakeBack, 0, &TaskList { tasks }, &[]);
            }
            b'R' => frame::put_plain(&mut bytes, Kind::Retire, 0, &[]),
            b'b' => {
                self.begin();
                return true;
            }
            _ => {
                let len = script.number(64);
                bytes.extend_from_slice(script.raw(len));
            }
        }
        self.wire.extend_from_slice(&bytes);
        loop {
            match frame::take(&mut self.wire, LIMITS) {
                Ok(Taken::Frame(frame)) => {
                    if !self.receive(frame) {
                        return false;
                    }
                }
                Ok(Taken::Needs(_)) => return true,
                Err(_) => return false,
            }
        }
    }

    fn receive(&mut self, frame: Frame) -> bool {
        let mut out = Vec::new();
        let ordered = self.inbox.receive(frame.clone(), &mut out);
        let answers = whole_frames(&out);
        let Ok(stop) = ordered else {
            assert!(answers.is_empty(), "what is not understood is not answered");
            return false;
        };
        match frame.kind {
            Kind::Run => {
                let head: RunHead<'_> = codec::decode("run", &frame.head).expect("it was taken in");
                let id = (frame.id, head.attempt);
                if self.retiring {
                    assert_eq!(
                        returned(&answers),
                        [id],
                        "a retiring worker gives back what still comes"
                    );
                } else {
                    self.waiting.push(id);
                    assert!(
                        answers.is_empty() && self.waiting.len() <= MAX_CREDIT,
                        "it holds no more than its credit"
                    );
                }
            }
            Kind::TakeBack => {
                let wanted: TaskList =
                    codec::decode("take-back", &frame.head).expect("it was taken in");
                let (given, kept) =
                    self.waiting.iter().partition::<Vec<Id>, _>(|id| wanted.tasks.contains(id));
                assert_eq!(
                    returned(&answers),
                    given,
                    "what waits is given back, and every question is answered"
                );
                self.waiting = kept;
            }
            Kind::Cancel => {
                let head: CancelHead =
                    codec::decode("cancel", &frame.head).expect("it was taken in");
                self.cancelled(
                    (frame.id, head.attempt),
                    head.code,
                    stop.map(|order| (order.ticket, order.reason)),
                    &answers,
                );
                return true;
            }
            Kind::Retire => {
                self.retiring = true;
                let waiting = std::mem::take(&mut self.waiting);
                assert_eq!(returned(&answers), waiting, "a retiring worker gives back what waits");
            }
            other => panic!("a {other:?} frame is not for a worker"),
        }
        assert_eq!(stop, None, "only a cancel ends what runs");
        true
    }

    fn cancelled(
        &mut self,
        id: Id,
        code: ErrorCode,
        stop: Option<(u64, StopReason)>,
        answers: &[Frame],
    ) {
        if let Some(at) = self.waiting.iter().position(|waiting| *waiting == id) {
            self.waiting.remove(at);
            let [answer] = answers else { panic!("one answer, not {answers:?}") };
            let head: DoneHead = codec::decode("done", &answer.head).expect("it was written by us");
            assert_eq!(
                (answer.kind, answer.id, head.attempt, head.code),
                (Kind::Done, id.0, id.1, Some(code))
            );
            assert_eq!(head.result_len as usize, answer.body.len());
            assert_eq!(stop, None);
            return;
        }
        assert!(answers.is_empty(), "an attempt that is not here is nobody's");
        let reason =
            if code == ErrorCode::Timeout { StopReason::Timeout } else { StopReason::Cancelled };
        assert_eq!(
            stop,
            (self.running == Some(id)).then_some((self.begun, reason)),
            "only the one that runs is stopped"
        );
    }

    fn begin(&mut self) {
        self.now += Duration::from_millis(1);
        let begun = self.inbox.begin(self.now);
        self.running = (!self.waiting.is_empty()).then(|| self.waiting.remove(0));
        self.begun += u64::from(self.running.is_some());
        let named = begun.as_ref().map(|(ticket, job)| (*ticket, (job.id, job.attempt)));
        assert_eq!(
            named,
            self.running.map(|id| (self.begun, id)),
            "the first that came is the first to run"
        );
        if let Some((_, job)) = begun {
            assert!(job.project().len() <= pool_protocol::limits::MAX_HEAD_BYTES);
            let running = self.inbox.running().expect("it has just begun");
            assert!(
                running.started == self.now && running.deadline.is_none_or(|at| at >= self.now)
            );
        }
    }
}

fn run_head(attempt: u32) -> RunHead<'static> {
    RunHead {
        attempt,
        kind: TaskKind::Code,
        project: "p",
        realm: Realm::Fresh,
        timeout_ms: 1000,
        cpu_ms: 1000,
        memory_bytes: 1 << 20,
        logs: false,
        stream_logs: false,
        code_len: 4,
    }
}

fn whole_frames(bytes: &[u8]) -> Vec<Frame> {
    let mut buffer = BytesMut::from(bytes);
    let mut frames = Vec::new();
    while let Taken::Frame(frame) =
        frame::take(&mut buffer, LIMITS).expect("what we write is well formed")
    {
        frames.push(frame);
    }
    assert!(buffer.is_empty(), "frames are written whole");
    frames
}

/// What the answers give back, all together.
fn returned(answers: &[Frame]) -> Vec<Id> {
    let tasks = answers.iter().flat_map(|answer| {
        assert_eq!(answer.kind, Kind::Returned);
        codec::decode::<TaskList>("returned", &answer.head).expect("it was written by us").tasks
    });
    tasks.collect()
}
