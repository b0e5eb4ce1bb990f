//! A task that ends its workers is not tried for ever: one retry where the machine may be to blame,
//! none where it is not, and then the like of it is not run for a while.

use pool_protocol::outcome::Cause;
use pool_tests::tasks::{code, error, hold, result, with};
use pool_tests::{Pool, Value, json, proc, until, until_some};
use rustix::process::Signal;

/// Ends the process from inside the engine: an allocation that it cannot refuse.
const KILLER: &str = "'a'.repeat(2**28).split('')";

fn pool(set_aside: &str) -> Pool {
    Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1, "setAside": set_aside}}))
}

fn killer() -> Value {
    with(code(KILLER), json!({"projectId": "bad", "maxAttempts": 10, "retry": {"initialDelay": 1}}))
}

fn deaths(pool: &Pool) -> usize {
    pool.events_named("worker-error").len()
}

#[test]
fn a_task_that_ends_the_engine_is_run_twice_at_most_and_its_like_not_at_all() {
    let pool = pool("10m");
    let first = pool.run(killer());
    assert_eq!((error(&first), &first["attempts"]), ("WORKER_CRASHED", &json!(2)), "{first}");
    assert_eq!(first["error"]["verdict"]["cause"], "engine-fatal", "{first}");
    until("both ends are told", || deaths(&pool) == 2);

    let again = pool.run(killer());
    assert_eq!((&again["status"], error(&again)), (&json!("failed"), "WORKER_CRASHED"), "{again}");
    assert_eq!((&again["attempts"], &again["workerId"]), (&json!(0), &Value::Null), "{again}");
    assert_eq!(again["error"]["verdict"], first["error"]["verdict"], "{again}");
    let message = again["error"]["message"].as_str().expect("a text");
    assert!(
        message.contains("engine-fatal") && message.contains("set aside for another"),
        "{message}"
    );
    assert_eq!(deaths(&pool), 2, "no worker was spent on it");

    assert_eq!(pool.status()["setAside"], 1);
    assert!(pool.ctl(&["status"]).stdout.contains("set aside"));
    assert_eq!(
        result(pool.run(with(code("1 + 1"), json!({"projectId": "bad"})))),
        2,
        "its project goes on"
    );
}

#[test]
fn the_same_body_of_another_project_has_its_own_chance() {
    let pool = pool("10m");
    pool.run(killer());
    let other = pool.run(with(killer(), json!({"projectId": "other", "maxAttempts": 1})));
    assert_eq!(other["attempts"], 1, "{other}");
}

#[test]
fn a_reload_lets_it_be_tried_again() {
    let pool = pool("10m");
    pool.run(killer());
    assert_eq!(pool.ctl(&["reload"]).code, 0);
    assert_eq!(pool.status()["setAside"], 0);
    assert_eq!(pool.run(with(killer(), json!({"maxAttempts": 1})))["attempts"], 1);
}

#[test]
fn with_set_aside_0_nothing_is_set_aside() {
    let pool = pool("0");
    let outcomes: Vec<Value> =
        (0..3).map(|_| pool.run(with(killer(), json!({"maxAttempts": 1})))).collect();
    let last = &outcomes[2];
    assert_eq!((&last["attempts"], &pool.status()["setAside"]), (&json!(1), &json!(0)), "{last}");
}

#[test]
fn a_worker_that_somebody_kills_is_not_its_tasks_doing() {
    let pool = pool("10m");
    let mut client = pool.client();
    let request = client.submit(&with(hold(), json!({"maxAttempts": 3})));
    let id = client.id(request);
    for attempt in 1..=3 {
        let running = until_some("the attempt runs", || {
            Some(pool.task(&id))
                .filter(|row| row["attempts"] == attempt && row["state"] == "running")
        });
        let pid = pool.pid_of(&running["workerId"]).expect("it runs a task that does not end");
        assert!(proc::signal(pid, Signal::KILL));
        until("it is gone", || !proc::alive(pid));
    }
    let outcome = client.outcome(request);
    assert_eq!((error(&outcome), &outcome["attempts"]), ("WORKER_CRASHED", &json!(3)), "{outcome}");
    assert_eq!(outcome["error"]["verdict"]["cause"], "killed-from-outside", "{outcome}");
    assert_eq!(pool.status()["setAside"], 0);
}

#[test]
fn limits_that_end_a_task_in_good_order_set_nothing_aside() {
    let pool = pool("10m");
    for _ in 0..2 {
        let late = pool.run(with(code("for(;;);"), json!({"timeout": 100})));
        assert_eq!((error(&late), &late["attempts"]), ("TIMEOUT", &json!(1)), "{late}");
        let large = pool.run(code("const a = []; for (;;) a.push({})"));
        assert_eq!((error(&large), &large["attempts"]), ("MEMORY_LIMIT", &json!(1)), "{large}");
    }
    assert_eq!(pool.status()["setAside"], 0);
}

#[test]
fn every_cause_has_a_counter_and_the_dead_show_cause_and_evidence() {
    let pool = Pool::with_http(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    pool.run(with(killer(), json!({"maxAttempts": 1})));
    until("its end is on record", || !pool.dead_workers().is_empty());
    let metrics = pool.api().with("GET", "/metrics", &[], None).text;
    for cause in Cause::ALL {
        let count = u8::from(*cause == Cause::EngineFatal);
        let line = format!("process_pool_workers_ended_total{{cause=\"{cause}\"}} {count}");
        assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    }
    assert!(metrics.lines().any(|l| l == "process_pool_set_aside 0"), "{metrics}");
    let shown = pool.ctl(&["workers", "--dead"]).stdout;
    let evidence =
        pool.dead_workers()[0]["verdict"]["evidence"].as_str().expect("a text").to_owned();
    assert!(
        shown.contains("engine-fatal")
            && shown.contains(evidence.split(' ').next().expect("a word")),
        "{shown}"
    );
}
