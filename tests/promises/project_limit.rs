//! At most N tasks of a project run at once, over the whole pool.

use pool_tests::tasks::{code, hold, result, sleep, with};
use pool_tests::wait::pause;
use pool_tests::{Pool, Value, json, until};

use std::time::Duration;

fn of(project: &str, task: Value) -> Value {
    with(task, json!({"projectId": project}))
}

#[test]
fn no_more_than_the_limit_run_at_once_and_the_others_wait() {
    let pool = Pool::start(json!({
        "pool": {"minWorkers": 4, "maxWorkers": 4}, "projects": {"p": {"limit": 2}},
    }));
    pool.until_idle("js", 4);
    let mut client = pool.client();
    let requests: Vec<u64> = (0..6).map(|_| client.submit(&of("p", hold()))).collect();
    let held: Vec<String> = requests.into_iter().map(|request| client.id(request)).collect();
    until("two run", || pool.projects()["p"]["used"] == 2);
    assert_eq!(result(pool.run(of("other", code("1")))), 1, "there were workers to spare");
    assert_eq!(
        pool.projects()["p"],
        with(
            pool.projects()["p"].clone(),
            json!({"used": 2, "limit": 2, "available": 0, "queued": 4})
        )
    );
    pool.cancel(&held[0]);
    until("the next one runs", || {
        pool.projects()["p"]["queued"] == 3 && pool.projects()["p"]["used"] == 2
    });
}

#[test]
fn the_limit_holds_for_many_quick_tasks() {
    let pool = Pool::start(
        json!({"pool": {"minWorkers": 3, "maxWorkers": 3}, "projects": {"one": {"limit": 1}}}),
    );
    let tasks: Vec<Value> = (0..40).map(|_| of("one", sleep(3))).collect();
    for outcome in pool.run_all(&tasks) {
        assert_eq!(result(outcome), "slept");
    }
    // Never two between a start and an end.
    let mut running = 0;
    for event in pool.events() {
        match event["event"].as_str() {
            Some("task-started") => running += 1,
            Some("task-complete") => running -= 1,
            _ => {}
        }
        assert!((0..=1).contains(&running), "{event}");
    }
}

#[test]
fn zero_pauses_the_project_and_a_new_limit_takes_effect_at_once() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 2, "maxWorkers": 2}}));
    pool.limit("p", 0);
    let mut client = pool.client();
    let requests: Vec<u64> = (0..3).map(|_| client.submit(&of("p", code("1")))).collect();
    client.id(requests[2]);
    pause(Duration::from_millis(200));
    assert_eq!(pool.projects()["p"]["queued"], 3, "not refused, and not run");
    assert_eq!(pool.limit("p", 5)["limit"], 5);
    for request in requests {
        assert_eq!(result(client.outcome(request)), 1);
    }
}

#[test]
fn a_lower_limit_ends_nothing_that_runs() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 2, "maxWorkers": 2}}));
    let tasks = [of("p", sleep(400)), of("p", sleep(400))];
    let mut client = pool.client();
    let requests = tasks.map(|t| client.submit(&t));
    until("both run", || pool.projects()["p"]["used"] == 2);
    pool.limit("p", 1);
    for request in requests {
        assert_eq!(result(client.outcome(request)), "slept");
    }
}

#[test]
fn a_limit_set_by_hand_outlives_a_reload_that_does_not_name_the_project() {
    let pool = Pool::start(json!({"projects": {"named": {"limit": 4}}}));
    pool.limit("p", 3);
    pool.configure(json!({"projects": {"named": {"limit": 6}}}));
    pool.ask(&pool_protocol::control::ControlRequest::Reload);
    assert_eq!(
        (&pool.projects()["p"]["limit"], &pool.projects()["named"]["limit"]),
        (&json!(3), &json!(6))
    );
}

#[test]
fn a_retry_that_waits_does_not_count_against_the_limit() {
    let pool = Pool::start(json!({"projects": {"p": {"limit": 1}}}));
    let failing = with(of("p", code("throw 1")), json!({"retry": {"initialDelay": 60_000}}));
    let id = pool.submit(failing);
    until("it waits for its next attempt", || pool.task(&id)["state"] == "retrying");
    assert_eq!(result(pool.run(of("p", code("2")))), 2);
}
