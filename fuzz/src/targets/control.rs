//! The control parser: what a client may send.
//!
//! An input is what comes on the socket. Every frame goes through the session; statements survive
//! being encoded and decoded, and tasks that pass the check keep the contract's bounds, as they are
//! written down here once more. They are given to a core with a worker that fails every attempt, so
//! that retry policies, delays and deadlines at their extremes are acted on.

use bytes::BytesMut;
use pool_core::Core;
use pool_core::action::Action;
use pool_core::answer::{Reported, Submission};
use pool_core::event::{AttemptEnd, Event, Report};
use pool_core::seeds::Seeds;
use pool_core::time::Time;
use pool_edge::config::Config;
use pool_edge::session::client::{ClientSays, hear, new_task};
use pool_protocol::codec;
use pool_protocol::frame::{self, FrameLimits, Kind, Taken};
use pool_protocol::id::{ClientId, TaskId};
use pool_protocol::outcome::ErrorCode;
use pool_protocol::task::{Body, TaskHead};
use pool_protocol::version;

const DAYS_30_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// Deadlines of the core that are waited for after a task.
const WAKES: usize = 12;
const LIMITS: FrameLimits = FrameLimits { body_bytes: 4096 };
const CLIENT: ClientId = ClientId { slot: 0, generation: 1 };

/// A connection from its first byte on.
pub fn run(input: &[u8]) {
    let mut buffer = BytesMut::from(input);
    let mut greeted = false;
    let mut pool = None;
    while let Ok(Taken::Frame(frame)) = frame::take(&mut buffer, LIMITS) {
        let Ok(says) = hear(greeted, frame.kind, frame.id, &frame.head) else { return };
        match says {
            ClientSays::Hello(hello) => {
                assert!(
                    !greeted && frame.id == u64::from(version::CURRENT),
                    "one hello, in our version"
                );
                greeted = true;
                same_again(&frame.head, &encoded(&hello));
            }
            ClientSays::Submit(head) => {
                same_again(&frame.head, &encoded(&head));
                on_submit(&head, &frame.body, pool.get_or_insert_with(Failing::new));
            }
            ClientSays::CancelSubmitted => assert!(greeted && frame.kind == Kind::CancelSubmitted),
            ClientSays::Control(request) => same_again(&frame.head, &encoded(&request)),
        }
        assert!(greeted, "nothing is understood before the hello");
    }
}

fn encoded<T: bincode::Encode>(head: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode_into(head, &mut bytes);
    bytes
}

/// Encoding is the shortest form; what came may be a longer one of the same.
fn same_again(came: &[u8], encoded: &[u8]) {
    assert!(
        encoded.len() <= came.len() && (encoded.len() < came.len() || encoded == came),
        "{came:?} is {encoded:?}"
    );
}

fn on_submit(head: &TaskHead<'_>, body: &[u8], pool: &mut Failing) {
    let sound = is_sound(head, body.len());
    assert_eq!(head.check(body.len()).is_ok(), sound, "{head:?}: {:?}", head.check(body.len()));
    if !sound {
        return;
    }
    if let Ok(parts) = Body::split(body, head.code_len) {
        assert_eq!(parts.code.len() + parts.data.len(), body.len());
    }
    let realm = pool
        .config
        .realm_for(head.project, head.kind, head.realm)
        .expect("no project forbids anything");
    assert_eq!(realm, head.realm.unwrap_or(head.kind.default_realm()));
    pool.submit(head, body.len());
}

/// The contract's bounds.
fn is_sound(head: &TaskHead<'_>, body_len: usize) -> bool {
    let id = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/-".contains(&b));
    let retry = head.retry.is_none_or(|retry| {
        retry.factor >= 1.0
            && retry.factor <= 100.0
            && retry.jitter >= 0.0
            && retry.jitter <= 1.0
            && u64::from(retry.initial_delay_ms.max(retry.max_delay_ms)) <= DAYS_30_MS
    });
    (1..=128).contains(&head.project.len())
        && id(head.project)
        && head.priority <= 10
        && head.timeout_ms.is_none_or(|ms| (1..=DAYS_30_MS).contains(&ms))
        && head.max_attempts.is_none_or(|n| (1..=1000).contains(&n))
        && retry
        && head.delay_ms <= DAYS_30_MS
        && head.deadline_ms.is_none_or(|ms| ms <= DAYS_30_MS)
        && head.idempotency_key.is_none_or(|key| key.len() <= 256)
        && head.tag.is_none_or(|tag| tag.len() <= 1024)
        && head.cpu_ms.is_none_or(|ms| (1..=DAYS_30_MS).contains(&ms))
        && head.memory_bytes.is_none_or(|bytes| bytes >= 4 << 20)
        && head.code_len as usize <= body_len
}

/// A pool of which every worker fails every task at once.
struct Failing {
    config: Config,
    core: Core,
    now: Time,
}

impl Failing {
    fn new() -> Self {
        let config = Config::load(None).expect("the defaults are sound");
        let core = Core::new(Time(0), config.core_settings(), TaskId(1), Seeds::fixed(1));
        let mut pool = Self { config, core, now: Time(0) };
        pool.tell(Event::Tick);
        pool
    }

    fn submit(&mut self, head: &TaskHead<'_>, body_len: usize) {
        let realm = head.realm.unwrap_or(head.kind.default_realm());
        let task = new_task(head, realm, body_len);
        assert_eq!(task.lane, head.kind.lane());
        let mut actions = Vec::new();
        let answer = self.core.submit(self.now, CLIENT, &task, &mut actions);
        if let Submission::Refused { code, message } = answer {
            assert!(
                !message.is_empty() && code.status() == pool_protocol::outcome::Status::Rejected,
                "{code} {message}"
            );
        }
        self.follow(actions);
        for _ in 0..WAKES {
            let Some(at) = self.core.next_deadline() else { break };
            assert!(at > self.now, "what is due has been done");
            self.now = at;
            self.tell(Event::Tick);
        }
    }

    fn tell(&mut self, event: Event<'_>) {
        let mut actions = Vec::new();
        self.core.handle(self.now, event, &mut actions);
        self.follow(actions);
    }

    fn follow(&mut self, mut actions: Vec<Action>) {
        self.core.check_invariants();
        let mut turns = 0;
        while !actions.is_empty() {
            turns += 1;
            assert!(turns < 10_000, "the pool comes to rest");
            for action in std::mem::take(&mut actions) {
                self.perform(action, &mut actions);
            }
        }
    }

    fn perform(&mut self, action: Action, then: &mut Vec<Action>) {
        match action {
            Action::Spawn { worker, .. } => {
                self.core.handle(self.now, Event::WorkerReady { worker }, then);
            }
            Action::Assign { worker, task, attempt, timeout_ms, .. } => {
                assert!(timeout_ms > 0);
                let code = Some(ErrorCode::JsException);
                let end = AttemptEnd {
                    code,
                    run_us: 1,
                    cpu_us: 1,
                    busy_us: 1,
                    memory_bytes: 1,
                    retry_after_ms: 0,
                    spoiled: false,
                };
                let report = Report { worker, task, attempt, end };
                if let Reported::Ended { ended, .. } = self.core.report(self.now, &report, then) {
                    assert!(ended.code.is_some(), "nothing succeeds here");
                }
            }
            Action::Retire { worker } | Action::Kill { worker } => {
                let verdict = pool_protocol::outcome::Verdict {
                    cause: pool_protocol::outcome::Cause::Exited,
                    evidence: "as it was told".into(),
                };
                self.core.handle(
                    self.now,
                    Event::WorkerGone { worker, verdict, blame: None, body: None },
                    then,
                );
            }
            Action::End { ended, .. } => assert!(ended.code.is_some(), "nothing succeeds here"),
            _ => {}
        }
        self.core.check_invariants();
    }
}
