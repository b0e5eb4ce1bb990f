//! The log of events: numbered, dated, kept for a while, written as JSON only for those who listen.

use std::collections::VecDeque;
use std::sync::Arc;

use pool_core::action::PoolEvent;
use pool_protocol::control::EventJson;
use pool_protocol::id::TaskId;
use pool_protocol::limits::MAX_EVENTS;
use pool_protocol::render::verdict_reply;
use pool_protocol::worker::LogLevel;

use super::clock::rfc3339;

/// Text that is kept with the events.
const MAX_TEXT_BYTES: usize = 16 << 20;
/// One line of console output in an event; the whole is in the outcome when it was asked for.
pub(crate) const MAX_LINE_BYTES: usize = 8 * 1024;

/// Events that are remembered as JSON.
const RENDERED: usize = 4096;
/// A longer one is rendered for each who listens.
const MAX_RENDERED_BYTES: usize = 4096;

/// Entry happened.
pub(crate) enum Entry {
    /// The core's.
    Pool(PoolEvent),
    /// A line of a task's console.
    Log { task: TaskId, level: LogLevel, text: Box<str> },
}

struct Stored {
    wall_us: u64,
    project: Option<Arc<str>>,
    entry: Entry,
}

impl Stored {
    fn text_bytes(&self) -> usize {
        match &self.entry {
            Entry::Log { text, .. } => text.len(),
            Entry::Pool(
                PoolEvent::WorkerTerminated { verdict, .. }
                | PoolEvent::WorkerError { verdict, .. },
            ) => verdict.evidence.len(),
            Entry::Pool(PoolEvent::Degraded { reason }) => reason.len(),
            Entry::Pool(_) => 0,
        }
    }
}

/// The log.
pub(crate) struct EventLog {
    first: u64,
    kept: VecDeque<Stored>,
    text_bytes: usize,
    /// Events as JSON with their numbers, each at its number modulo [`RENDERED`]: many may listen.
    rendered: Vec<(u64, Vec<u8>)>,
    /// One that is too long for `rendered`.
    long: Vec<u8>,
}

impl EventLog {
    pub(crate) fn new() -> Self {
        Self {
            first: 1,
            kept: VecDeque::new(),
            text_bytes: 0,
            rendered: Vec::new(),
            long: Vec::new(),
        }
    }

    /// The number of the newest event; 0 before the first.
    pub(crate) fn last(&self) -> u64 {
        self.first + self.kept.len() as u64 - 1
    }

    /// The number of the oldest event that is kept.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn push(&mut self, wall_us: u64, project: Option<Arc<str>>, entry: Entry) {
        let stored = Stored { wall_us, project, entry };
        self.text_bytes += stored.text_bytes();
        self.kept.push_back(stored);
        while self.kept.len() > MAX_EVENTS || self.text_bytes > MAX_TEXT_BYTES {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.text_bytes -= oldest.text_bytes();
            self.first += 1;
        }
    }

    /// One event as JSON, if it is kept. Rendered once, however many listen, unless it is long.
    pub(crate) fn json(&mut self, seq: u64) -> Option<&[u8]> {
        let index = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        let stored = self.kept.get(index)?;
        if self.rendered.is_empty() {
            self.rendered.resize(RENDERED, (0, Vec::new()));
        }
        let place = (seq % RENDERED as u64) as usize;
        if self.rendered[place].0 != seq {
            let json = render(seq, stored);
            if json.len() > MAX_RENDERED_BYTES {
                self.long = json;
                return Some(&self.long);
            }
            self.rendered[place] = (seq, json);
        }
        Some(&self.rendered[place].1)
    }
}

fn render(seq: u64, stored: &Stored) -> Vec<u8> {
    let time = rfc3339(stored.wall_us);
    let json = EventJson {
        seq,
        time: &time,
        project_id: stored.project.as_deref(),
        ..fields(&stored.entry)
    };
    serde_json::to_vec(&json).expect("strings and numbers serialise")
}

fn ms(us: u64) -> Option<f64> {
    Some(us as f64 / 1000.0)
}

fn fields(entry: &Entry) -> EventJson<'_> {
    let event = match entry {
        Entry::Log { task, level, text } => {
            return EventJson {
                event: "task-log",
                task_id: Some(task.to_string()),
                level: Some(level.name()),
                message: Some(text.to_string()),
                ..EventJson::default()
            };
        }
        Entry::Pool(event) => event,
    };
    let named = |event| EventJson { event, ..EventJson::default() };
    match event {
        PoolEvent::WorkerStarted { worker, start_us } => EventJson {
            worker_id: Some(worker.to_string()),
            duration: ms(*start_us),
            ..named("worker-started")
        },
        PoolEvent::WorkerTerminated { worker, verdict, lived_us, .. } => EventJson {
            worker_id: Some(worker.to_string()),
            duration: ms(*lived_us),
            verdict: Some(verdict_reply(verdict)),
            ..named("worker-terminated")
        },
        PoolEvent::WorkerError { worker, task, verdict } => EventJson {
            worker_id: Some(worker.to_string()),
            task_id: task.map(|t| t.to_string()),
            error: Some(verdict.evidence.clone()),
            verdict: Some(verdict_reply(verdict)),
            ..named("worker-error")
        },
        PoolEvent::ScaledUp { workers } => {
            EventJson { workers: Some(*workers), ..named("scaled-up") }
        }
        PoolEvent::ScaledDown { workers } => {
            EventJson { workers: Some(*workers), ..named("scaled-down") }
        }
        PoolEvent::QueueFull => named("queue-full"),
        PoolEvent::Degraded { reason } => {
            EventJson { error: Some(reason.clone()), ..named("pool-degraded") }
        }
        PoolEvent::Recovered => named("pool-recovered"),
        PoolEvent::Reloaded => named("config-reloaded"),
        PoolEvent::TaskQueued { .. }
        | PoolEvent::TaskStarted { .. }
        | PoolEvent::TaskComplete { .. }
        | PoolEvent::TaskError { .. }
        | PoolEvent::TaskRetry { .. } => task_fields(event),
    }
}

fn task_fields(event: &PoolEvent) -> EventJson<'_> {
    let of = |event, task: &TaskId| EventJson {
        event,
        task_id: Some(task.to_string()),
        ..EventJson::default()
    };
    match event {
        PoolEvent::TaskStarted { task, worker, attempt, .. } => EventJson {
            worker_id: Some(worker.to_string()),
            attempts: Some(*attempt),
            ..of("task-started", task)
        },
        PoolEvent::TaskComplete { task, worker, run_us, .. } => EventJson {
            worker_id: Some(worker.to_string()),
            duration: ms(*run_us),
            ..of("task-complete", task)
        },
        PoolEvent::TaskError { task, worker, code, run_us, .. } => EventJson {
            worker_id: worker.map(|w| w.to_string()),
            duration: ms(*run_us),
            error: Some(code.name().to_owned()),
            ..of("task-error", task)
        },
        PoolEvent::TaskRetry { task, code, delay_us, attempts, .. } => EventJson {
            duration: ms(*delay_us),
            error: Some(code.name().to_owned()),
            attempts: Some(*attempts),
            ..of("task-retry", task)
        },
        PoolEvent::TaskQueued { task, .. } => of("task-queued", task),
        PoolEvent::WorkerStarted { .. }
        | PoolEvent::WorkerTerminated { .. }
        | PoolEvent::WorkerError { .. }
        | PoolEvent::ScaledUp { .. }
        | PoolEvent::ScaledDown { .. }
        | PoolEvent::QueueFull
        | PoolEvent::Degraded { .. }
        | PoolEvent::Recovered
        | PoolEvent::Reloaded => unreachable!("the caller sends events of tasks only"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn events_are_numbered_from_1_and_the_oldest_goes_first() {
        let mut log = EventLog::new();
        assert_eq!((log.last(), log.json(1)), (0, None));
        for _ in 0..MAX_EVENTS + 10 {
            log.push(0, None, Entry::Pool(PoolEvent::QueueFull));
        }
        assert_eq!((log.first(), log.last()), (11, MAX_EVENTS as u64 + 10));
        assert!(log.json(10).is_none() && log.json(11).is_some());
    }

    #[test]
    fn an_event_is_one_json_object_with_the_original_names() {
        let mut log = EventLog::new();
        log.push(0, None, Entry::Pool(PoolEvent::ScaledUp { workers: 2 }));
        assert_eq!(
            std::str::from_utf8(log.json(1).expect("kept")).expect("UTF-8"),
            r#"{"seq":1,"time":"1970-01-01T00:00:00.000Z","event":"scaled-up","workers":2}"#
        );
    }

    #[test]
    fn an_event_is_rendered_once_however_many_listen_and_a_long_one_is_not_remembered() {
        let mut log = EventLog::new();
        log.push(0, None, Entry::Pool(PoolEvent::QueueFull));
        let at = log.json(1).expect("kept").as_ptr();
        let text = "x".repeat(MAX_LINE_BYTES).into_boxed_str();
        log.push(0, None, Entry::Log { task: TaskId(1), level: LogLevel::Log, text });
        assert!(log.json(2).is_some_and(|json| json.len() > MAX_LINE_BYTES));
        assert_eq!(log.json(1).expect("kept").as_ptr(), at);
        assert!(log.rendered.iter().all(|(_, json)| json.len() <= MAX_RENDERED_BYTES));
        for _ in 0..RENDERED {
            log.push(0, None, Entry::Pool(PoolEvent::QueueFull));
        }
        let newer = log.json(1 + RENDERED as u64).map(<[u8]>::to_vec);
        assert_ne!(newer.as_deref(), log.json(1), "one place, two events");
    }

    /// One of each, with all that it can have.
    fn one_of_each() -> Vec<Entry> {
        use pool_core::place::TaskPlace;
        use pool_protocol::id::WorkerId;
        use pool_protocol::lane::Lane;
        use pool_protocol::outcome::{Cause, ErrorCode, Verdict};
        let (task, slot, worker) =
            (TaskId(1), TaskPlace::new(0), WorkerId { slot: 0, generation: 1 });
        let (run_us, code) = (1, ErrorCode::JsException);
        let verdict = Verdict { cause: Cause::Idle, evidence: String::new() };
        let events = [
            PoolEvent::WorkerStarted { worker, start_us: 1 },
            PoolEvent::WorkerTerminated {
                worker,
                lane: Lane::Js,
                verdict: verdict.clone(),
                lived_us: 1,
                tasks: 1,
            },
            PoolEvent::WorkerError { worker, task: Some(task), verdict },
            PoolEvent::TaskQueued { task, slot },
            PoolEvent::TaskStarted { task, slot, worker, attempt: 1 },
            PoolEvent::TaskComplete { task, slot, worker, run_us },
            PoolEvent::TaskError { task, slot, worker: Some(worker), code, run_us },
            PoolEvent::TaskRetry { task, slot, code, delay_us: 1, attempts: 1 },
            PoolEvent::ScaledUp { workers: 1 },
            PoolEvent::ScaledDown { workers: 1 },
            PoolEvent::QueueFull,
            PoolEvent::Degraded { reason: String::new() },
            PoolEvent::Recovered,
            PoolEvent::Reloaded,
        ];
        let log = Entry::Log { task, level: LogLevel::Log, text: "".into() };
        events.into_iter().map(Entry::Pool).chain([log]).collect()
    }

    /// The number of an event's kind; a new kind does not compile before it is in [`one_of_each`].
    fn number(entry: &Entry) -> usize {
        match entry {
            Entry::Pool(PoolEvent::WorkerStarted { .. }) => 0,
            Entry::Pool(PoolEvent::WorkerTerminated { .. }) => 1,
            Entry::Pool(PoolEvent::WorkerError { .. }) => 2,
            Entry::Pool(PoolEvent::TaskQueued { .. }) => 3,
            Entry::Pool(PoolEvent::TaskStarted { .. }) => 4,
            Entry::Pool(PoolEvent::TaskComplete { .. }) => 5,
            Entry::Pool(PoolEvent::TaskError { .. }) => 6,
            Entry::Pool(PoolEvent::TaskRetry { .. }) => 7,
            Entry::Pool(PoolEvent::ScaledUp { .. }) => 8,
            Entry::Pool(PoolEvent::ScaledDown { .. }) => 9,
            Entry::Pool(PoolEvent::QueueFull) => 10,
            Entry::Pool(PoolEvent::Degraded { .. }) => 11,
            Entry::Pool(PoolEvent::Recovered) => 12,
            Entry::Pool(PoolEvent::Reloaded) => 13,
            Entry::Log { .. } => 14,
        }
    }

    /// Name and other fields of the event that this JSON is.
    fn shape(json: &[u8]) -> (String, BTreeSet<String>) {
        let event: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(json).expect("an object");
        let fields = event.keys().filter(|name| !["seq", "time", "event"].contains(&name.as_str()));
        (event["event"].as_str().expect("a name").to_owned(), fields.cloned().collect())
    }

    #[test]
    fn the_page_about_the_http_api_has_every_event_with_its_fields() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/http-api.md");
        let page = std::fs::read_to_string(page).expect("the page is part of the project");
        let table = page
            .split_once("| event | fields | when |\n|---|---|---|\n")
            .expect("the table of events")
            .1;
        let rows = table.lines().map_while(|line| line.strip_prefix("| `"));
        let listed = rows.map(|row| {
            let (name, rest) = row.split_once("` |").expect("a name");
            let fields = rest.split_once('|').expect("a cell").0;
            (name.to_owned(), fields.split('`').skip(1).step_by(2).map(str::to_owned).collect())
        });
        let kinds = one_of_each();
        assert!(kinds.iter().map(number).eq([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]));
        let mut log = EventLog::new();
        for entry in kinds {
            let project = matches!(number(&entry), 3..=7 | 14).then(|| Arc::from("p"));
            log.push(0, project, entry);
        }
        let known = (1..=log.last()).map(|seq| shape(log.json(seq).expect("kept")));
        let known = known.chain([shape(&super::super::replies::events_lost(1, 1))]);
        assert_eq!(listed.collect::<BTreeMap<_, BTreeSet<_>>>(), known.collect());
    }

    #[test]
    fn a_gigabyte_of_console_output_does_not_grow_the_log() {
        let mut log = EventLog::new();
        for _ in 0..10_000 {
            let text = "x".repeat(MAX_LINE_BYTES).into_boxed_str();
            log.push(0, None, Entry::Log { task: TaskId(1), level: LogLevel::Log, text });
        }
        assert!(log.text_bytes <= MAX_TEXT_BYTES);
    }
}
