//! A pool in which something hostile runs beside something that must not notice.
//!
//! Two JavaScript workers: one holds a task all the while, the *neighbour*; the other gets what is
//! hostile. After each attack the supervisor, the neighbour and its worker must be as they were,
//! and the worker that was lost, if one was, must have been replaced soon.

use std::time::Duration;

use serde_json::{Value, json};

use crate::tasks::{code, error, hold, result, with};
use crate::wait::{now, until, until_some};
use crate::{Client, Pool, proc};

/// Within this time a worker that ended is replaced by one that is ready. On a busy machine single
/// starts take longer, so it is held against the median of a test's attacks.
const REPLACED_WITHIN: Duration = Duration::from_secs(1);
/// The same on a machine so busy that an ordinary start takes long, in starts of the same pool.
const REPLACED_STARTS: u32 = 5;

/// The pool, the neighbour, and how long replacements took.
#[derive(Debug)]
pub struct Arena {
    pool: Pool,
    client: Client,
    request: u64,
    neighbour: String,
    worker: Value,
    replaced: Vec<Duration>,
}

impl Arena {
    /// Starts the pool and the neighbour. The configuration is the pool's, but for the number of
    /// workers.
    ///
    /// # Panics
    /// When something does not start.
    #[must_use]
    pub fn new(mut config: Value) -> Self {
        config["pool"]["minWorkers"] = json!(2);
        config["pool"]["maxWorkers"] = json!(2);
        let pool = Pool::start(config);
        pool.until_idle("js", 2);
        let mut client = pool.client();
        let request = client.submit(&hold());
        let neighbour = client.id(request);
        let worker = pool.busy_worker("js")["workerId"].clone();
        Self { pool, client, request, neighbour, worker, replaced: Vec::new() }
    }

    /// The pool.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The worker that attacks go to.
    ///
    /// # Panics
    /// When none is ready.
    #[must_use]
    pub fn target(&self) -> Value {
        until_some("the other worker is ready", || {
            self.pool.workers_that_are("js", "idle").into_iter().next()
        })
    }

    /// Runs the task once; its worker must be replaced, and is never used again.
    ///
    /// # Panics
    /// When anything but its worker suffers.
    pub fn costs_its_worker(&mut self, task: Value) -> Value {
        let outcome = self.pool.run(with(task, json!({"maxAttempts": 1})));
        self.was_replaced(&outcome);
        outcome
    }

    /// The worker that gave this outcome must be replaced.
    ///
    /// # Panics
    /// When it is not, or anything else suffers.
    pub fn was_replaced(&mut self, outcome: &Value) {
        let ended = now();
        let lost = &outcome["workerId"];
        until("a replacement is ready", || {
            let idle = self.pool.workers_that_are("js", "idle");
            idle.iter().any(|worker| worker["workerId"] != *lost)
        });
        self.replaced.push(ended.elapsed());
        until("the worker is gone", || {
            self.pool.dead_workers().iter().any(|worker| worker["workerId"] == *lost)
        });
        self.goes_on(outcome);
        let next = self.pool.run(code("'next'"));
        assert_ne!(next["workerId"], *lost, "the worker is used again after {outcome}");
        assert_eq!(result(next), "next");
    }

    /// Runs the task once; its worker must serve the next one.
    ///
    /// # Panics
    /// When it does not, or anything else suffers.
    pub fn costs_nothing(&mut self, task: Value) -> Value {
        let target = self.target()["workerId"].clone();
        let outcome = self.pool.run(with(task, json!({"maxAttempts": 1})));
        self.goes_on(&outcome);
        let next = self.pool.run(code("'next'"));
        assert_eq!(next["workerId"], target, "the same worker goes on after {outcome}");
        assert_eq!(result(next), "next");
        outcome
    }

    /// Supervisor, neighbour and its worker are as they were.
    ///
    /// # Panics
    /// When they are not.
    pub fn goes_on(&self, after: &Value) {
        assert!(proc::alive(self.pool.pid()), "the supervisor ended: {after}");
        let neighbour = self.pool.task(&self.neighbour);
        assert_eq!(
            (neighbour["state"].as_str(), neighbour["attempts"].as_u64(), &neighbour["workerId"]),
            (Some("running"), Some(1), &self.worker),
            "the neighbour suffered: {neighbour} after {after}"
        );
    }

    /// The median of what all its workers took to start.
    fn ordinary_start(&self) -> Duration {
        let started = self.pool.events_named("worker-started");
        let mut starts_ms: Vec<f64> =
            started.iter().filter_map(|event| event["duration"].as_f64()).collect();
        starts_ms.sort_unstable_by(f64::total_cmp);
        Duration::from_secs_f64(starts_ms[starts_ms.len() / 2] / 1000.0)
    }

    /// Ends the neighbour, which must be where it was, and says how fast replacements were there.
    ///
    /// # Panics
    /// When the neighbour is not itself, or replacements took too long.
    pub fn finish(mut self) {
        self.pool.cancel(&self.neighbour);
        let outcome = self.client.outcome(self.request);
        assert_eq!(
            (error(&outcome), outcome["attempts"].as_u64()),
            ("CANCELLED", Some(1)),
            "{outcome}"
        );
        self.replaced.sort_unstable();
        if let Some(median) = self.replaced.get(self.replaced.len() / 2) {
            let slowest = self.replaced.last().expect("there is one");
            println!(
                "{} workers replaced; ready after {median:?} (median), {slowest:?} (slowest)",
                self.replaced.len()
            );
            let allowed = REPLACED_WITHIN.max(self.ordinary_start() * REPLACED_STARTS);
            assert!(*median < allowed, "replacements take {median:?}, {allowed:?} are allowed");
        }
    }
}
