//! The log of events: numbered, dated, kept for a while, written as JSON only for those who listen.

use std::collections::VecDeque;
use std::sync::Arc;

use pool_core::action::PoolEvent;
use pool_protocol::control::EventJson;
use pool_protocol::id::TaskId;
use pool_protocol::render::verdict_reply;
use pool_protocol::worker::LogLevel;

use super::clock::rfc3339;

/// Events that are kept.
const MAX_EVENTS: usize = 65_536;
/// Text that is kept with them.
const MAX_TEXT_BYTES: usize = 16 << 20;
/// One line of console output in an event; the whole is in the outcome when it was asked for.
pub(crate) const MAX_LINE_BYTES: usize = 8 * 1024;

/// What happened.
pub(crate) enum What {
    /// The core's.
    Pool(PoolEvent),
    /// A line of a task's console.
    Log { task: TaskId, level: LogLevel, text: Box<str> },
}

struct Stored {
    wall_us: u64,
    project: Option<Arc<str>>,
    what: What,
}

impl Stored {
    fn text_bytes(&self) -> usize {
        match &self.what {
            What::Log { text, .. } => text.len(),
            What::Pool(PoolEvent::WorkerTerminated { verdict, .. } | PoolEvent::WorkerError { verdict, .. }) => {
                verdict.evidence.len()
            }
            What::Pool(PoolEvent::Degraded { reason }) => reason.len(),
            What::Pool(_) => 0,
        }
    }
}

/// The log.
pub(crate) struct EventLog {
    first: u64,
    kept: VecDeque<Stored>,
    text_bytes: usize,
}

impl EventLog {
    pub(crate) fn new() -> Self {
        Self { first: 1, kept: VecDeque::new(), text_bytes: 0 }
    }

    /// The number of the newest event; 0 before the first.
    pub(crate) fn last(&self) -> u64 {
        self.first + self.kept.len() as u64 - 1
    }

    /// The number of the oldest event that is kept.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    pub(crate) fn push(&mut self, wall_us: u64, project: Option<Arc<str>>, what: What) {
        let stored = Stored { wall_us, project, what };
        self.text_bytes += stored.text_bytes();
        self.kept.push_back(stored);
        while self.kept.len() > MAX_EVENTS || self.text_bytes > MAX_TEXT_BYTES {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.text_bytes -= oldest.text_bytes();
            self.first += 1;
        }
    }

    /// One event as JSON, if it is kept.
    pub(crate) fn json(&self, seq: u64) -> Option<Vec<u8>> {
        let index = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        let stored = self.kept.get(index)?;
        let time = rfc3339(stored.wall_us);
        let json = EventJson { seq, time: &time, project_id: stored.project.as_deref(), ..fields(&stored.what) };
        Some(serde_json::to_vec(&json).expect("strings and numbers serialise"))
    }
}

fn ms(us: u64) -> Option<f64> {
    Some(us as f64 / 1000.0)
}

fn fields(what: &What) -> EventJson<'_> {
    let event = match what {
        What::Log { task, level, text } => {
            return EventJson {
                event: "task-log",
                task_id: Some(task.to_string()),
                level: Some(level.name()),
                message: Some(text.to_string()),
                ..EventJson::default()
            };
        }
        What::Pool(event) => event,
    };
    let named = |event| EventJson { event, ..EventJson::default() };
    match event {
        PoolEvent::WorkerStarted { worker, start_us } => {
            EventJson { worker_id: Some(worker.to_string()), duration: ms(*start_us), ..named("worker-started") }
        }
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
        PoolEvent::ScaledUp { workers } => EventJson { workers: Some(*workers), ..named("scaled-up") },
        PoolEvent::ScaledDown { workers } => EventJson { workers: Some(*workers), ..named("scaled-down") },
        PoolEvent::QueueFull => named("queue-full"),
        PoolEvent::Degraded { reason } => EventJson { error: Some(reason.clone()), ..named("pool-degraded") },
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
    let of = |event, task: &TaskId| EventJson { event, task_id: Some(task.to_string()), ..EventJson::default() };
    match event {
        PoolEvent::TaskStarted { task, worker, attempt, .. } => {
            EventJson { worker_id: Some(worker.to_string()), attempts: Some(*attempt), ..of("task-started", task) }
        }
        PoolEvent::TaskComplete { task, worker, run_us, .. } => {
            EventJson { worker_id: Some(worker.to_string()), duration: ms(*run_us), ..of("task-complete", task) }
        }
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

    #[test]
    fn events_are_numbered_from_1_and_the_oldest_goes_first() {
        let mut log = EventLog::new();
        assert_eq!((log.last(), log.json(1)), (0, None));
        for _ in 0..MAX_EVENTS + 10 {
            log.push(0, None, What::Pool(PoolEvent::QueueFull));
        }
        assert_eq!((log.first(), log.last()), (11, MAX_EVENTS as u64 + 10));
        assert!(log.json(10).is_none() && log.json(11).is_some());
    }

    #[test]
    fn an_event_is_one_json_object_with_the_original_names() {
        let mut log = EventLog::new();
        log.push(0, None, What::Pool(PoolEvent::ScaledUp { workers: 2 }));
        assert_eq!(
            String::from_utf8(log.json(1).expect("kept")).expect("UTF-8"),
            r#"{"seq":1,"time":"1970-01-01T00:00:00.000Z","event":"scaled-up","workers":2}"#
        );
    }

    #[test]
    fn a_gigabyte_of_console_output_does_not_grow_the_log() {
        let mut log = EventLog::new();
        for _ in 0..10_000 {
            let text = "x".repeat(MAX_LINE_BYTES).into_boxed_str();
            log.push(0, None, What::Log { task: TaskId(1), level: LogLevel::Log, text });
        }
        assert!(log.text_bytes <= MAX_TEXT_BYTES);
    }
}
