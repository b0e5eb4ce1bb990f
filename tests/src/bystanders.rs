//! What every hostile input must leave as it was: the supervisor, the other workers, the other
//! tasks; and that a replacement for whoever died is ready within a second.

use serde_json::{Value, json};

use crate::pool::Pool;
use crate::proc::Process;
use crate::tasks::hold;
use crate::wait::until;

/// From a worker's death to a replacement that is ready, in milliseconds.
const REPLACED_MS: f64 = 1000.0;
/// The same on a machine so busy that an ordinary start takes long, in starts of the same pool.
const REPLACED_STARTS: f64 = 10.0;

/// Runs an attack beside a task that another worker holds, and sees that nothing but what was
/// attacked is hurt.
///
/// # Panics
/// When something is.
pub fn unharmed<T>(pool: &Pool, attack: impl FnOnce() -> T) -> T {
    beside(pool, hold(), json!({"type": "execute-code", "code": "6 * 7"}), |_| attack())
}

/// The same with a task of the caller's that runs until it is cancelled, whose id the attack is
/// told, and another that succeeds.
///
/// # Panics
/// See [`unharmed`].
pub fn beside<T>(pool: &Pool, held: Value, probe: Value, attack: impl FnOnce(&str) -> T) -> T {
    let bystanders = Bystanders::of(pool, held);
    let result = attack(&bystanders.task);
    bystanders.are_unharmed(probe);
    result
}

/// Those who only stand by.
#[derive(Debug)]
struct Bystanders<'a> {
    pool: &'a Pool,
    supervisor: Process,
    /// The task that another worker holds, and that worker.
    task: String,
    worker: Value,
    process: Process,
    /// Workers that were ready before the attack.
    ready: Vec<Value>,
    /// The last event before it.
    since: u64,
}

impl<'a> Bystanders<'a> {
    fn of(pool: &'a Pool, held: Value) -> Self {
        let task = pool.submit(held);
        until("the neighbour runs", || pool.task(&task)["state"] == "running");
        until("nobody is being started", || pool.workers().iter().all(is_ready));
        let worker = pool.task(&task)["workerId"].clone();
        let process = Process::of(pool.pid_of(&worker).expect("it runs a task")).expect("it lives");
        let ready = pool.workers().iter().map(|row| row["workerId"].clone()).collect();
        let since = pool.events().last().and_then(|event| event["seq"].as_u64()).unwrap_or(0);
        Self {
            pool,
            supervisor: Process::of(pool.pid()).expect("it lives"),
            task,
            worker,
            process,
            ready,
            since,
        }
    }

    fn are_unharmed(self, probe: Value) {
        let pool = self.pool;
        assert!(self.supervisor.lives(), "the supervisor:\n{}", pool.log());
        let outcome = pool.run(probe);
        assert_eq!(outcome["status"], "succeeded", "another task: {outcome}");
        let row = pool.task(&self.task);
        assert_eq!(
            (&row["state"], &row["workerId"]),
            (&json!("running"), &self.worker),
            "the neighbour: {row}"
        );
        assert!(self.process.lives(), "the neighbour's worker: {row}");
        until("there are as many workers as before", || {
            pool.workers().iter().filter(|row| is_ready(row)).count() >= self.ready.len()
        });
        self.were_replaced_in_time();
        pool.cancel(&self.task);
        let outcome = pool.outcome(&self.task);
        assert_eq!(
            (&outcome["status"], &outcome["attempts"]),
            (&json!("cancelled"), &json!(1)),
            "{outcome}"
        );
    }

    /// By the supervisor's own record: how long there were fewer ready workers than before.
    fn were_replaced_in_time(&self) {
        let (before, after): (Vec<Value>, Vec<Value>) = self
            .pool
            .events()
            .into_iter()
            .partition(|event| event["seq"].as_u64() <= Some(self.since));
        let starts = before.iter().filter(|event| event["event"] == "worker-started");
        let slowest = starts.filter_map(|event| event["duration"].as_f64()).fold(0.0, f64::max);
        let allowed_ms = REPLACED_MS.max(REPLACED_STARTS * slowest);
        let mut ready = self.ready.clone();
        let mut short_since = None;
        for event in &after {
            match event["event"].as_str() {
                Some("worker-started") => ready.push(event["workerId"].clone()),
                Some("worker-terminated") => ready.retain(|worker| *worker != event["workerId"]),
                _ => continue,
            }
            if ready.len() < self.ready.len() {
                short_since.get_or_insert_with(|| wall_ms(event));
            } else if let Some(since) = short_since.take() {
                let took_ms = wall_ms(event) - since;
                assert!(
                    took_ms <= allowed_ms,
                    "a replacement took {took_ms} ms, {allowed_ms} are allowed: {after:#?}"
                );
            }
        }
        assert_eq!(short_since, None, "somebody was not replaced: {after:#?}");
    }
}

fn is_ready(row: &Value) -> bool {
    row["state"] == "idle" || row["state"] == "busy"
}

fn wall_ms(event: &Value) -> f64 {
    let text = event["time"].as_str().expect("events have times");
    let at: jiff::Timestamp = text.parse().expect("in RFC 3339");
    at.as_millisecond() as f64
}
