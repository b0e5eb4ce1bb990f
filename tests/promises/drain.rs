//! Drain and shutdown: nothing new, what runs may finish, then the end.

use pool_protocol::control::ControlRequest;
use pool_tests::tasks::{code, error, hold, result, sleep, with};
use pool_tests::{Client, Pool, Value, json, proc, until};
use rustix::process::Signal;

fn rejected(outcome: &Value) {
    assert_eq!(
        (outcome["status"].as_str(), error(outcome)),
        (Some("rejected"), "SHUTTING_DOWN"),
        "{outcome}"
    );
}

#[test]
fn sigterm_lets_running_tasks_finish_refuses_new_ones_and_exits_with_0() {
    let mut pool = Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    let mut client = pool.client();
    let request = client.submit(&sleep(1500));
    let id = client.id(request);
    until("it runs", || pool.task(&id)["state"] == "running");
    pool.signal(Signal::TERM);
    until("it drains", || pool.status()["state"] == "draining");
    rejected(&client.run(&code("1")));
    assert_eq!(result(client.outcome(request)), "slept");
    assert_eq!(pool.wait().code(), Some(0));
    assert!(Client::open(pool.socket()).is_err());
}

#[test]
fn poolctl_drain_does_the_same() {
    let mut pool = Pool::start(json!({}));
    let mut client = pool.client();
    let request = client.submit(&sleep(500));
    let id = client.id(request);
    until("it runs", || pool.task(&id)["state"] == "running");
    assert_eq!(pool.ctl(&["drain"]).code, 0);
    assert_eq!(result(client.outcome(request)), "slept");
    assert_eq!(pool.wait().code(), Some(0));
}

#[test]
fn what_runs_longer_than_the_drain_timeout_is_cancelled() {
    let mut pool =
        Pool::start(json!({"pool": {"drainTimeout": 300, "minWorkers": 1, "maxWorkers": 1}}));
    let mut client = pool.client();
    let running = client.submit(&hold());
    let waiting = client.submit(&with(code("1"), json!({"delay": 100_000})));
    let id = client.id(running);
    until("it runs", || pool.task(&id)["state"] == "running");
    pool.ask(&ControlRequest::Drain);
    assert_eq!(client.outcome(running)["status"], "cancelled");
    assert_ne!(client.outcome(waiting)["status"], "succeeded");
    assert_eq!(pool.wait().code(), Some(0));
}

#[test]
fn a_stop_does_not_wait_for_what_could_not_run_before_its_end() {
    let mut pool = Pool::start(json!({
        "pool": {"drainTimeout": 600_000, "minWorkers": 1, "maxWorkers": 1},
        "projects": {"paused": {"limit": 0}},
    }));
    let mut client = pool.client();
    let delayed = client.submit(&with(code("1"), json!({"delay": 1_000_000})));
    let paused = client.submit(&with(code("1"), json!({"projectId": "paused"})));
    let retry =
        json!({"maxAttempts": 2, "retry": {"initialDelay": 1_000_000, "maxDelay": 1_000_000}});
    let retrying = client.submit(&with(code("throw 1"), retry));
    let id = client.id(retrying);
    until("it waits for its next attempt", || pool.task(&id)["state"] == "retrying");
    pool.signal(Signal::TERM);
    for request in [delayed, paused, retrying] {
        let outcome = client.outcome(request);
        assert_eq!(
            (outcome["status"].as_str(), error(&outcome)),
            (Some("cancelled"), "CANCELLED"),
            "{outcome}"
        );
        assert!(
            outcome["error"]["message"]
                .as_str()
                .is_some_and(|m| m.contains("the pool is stopping")),
            "{outcome}"
        );
    }
    assert_eq!(pool.wait().code(), Some(0));
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let mut pool =
        Pool::start(json!({"pool": {"drainTimeout": 600_000, "minWorkers": 1, "maxWorkers": 1}}));
    let id = pool.submit(hold());
    until("it runs", || pool.task(&id)["state"] == "running");
    let workers = proc::workers_of(pool.pid());
    pool.signal(Signal::TERM);
    until("it drains", || pool.status()["state"] == "draining");
    pool.signal(Signal::TERM);
    pool.wait();
    until("no worker is left", || workers.iter().all(|pid| !proc::alive(*pid)));
}

#[test]
fn shutdown_waits_for_running_tasks_and_shutdown_now_does_not() {
    let mut pool = Pool::start(json!({}));
    let mut client = pool.client();
    let request = client.submit(&sleep(400));
    let id = client.id(request);
    until("it runs", || pool.task(&id)["state"] == "running");
    assert_eq!(pool.ctl(&["shutdown"]).code, 0);
    assert_eq!(result(client.outcome(request)), "slept");
    assert_eq!(pool.wait().code(), Some(0));

    let mut pool = Pool::start(json!({"pool": {"drainTimeout": 600_000}}));
    let id = pool.submit(hold());
    until("it runs", || pool.task(&id)["state"] == "running");
    assert_eq!(pool.ctl(&["shutdown", "--now"]).code, 0);
    pool.wait();
}

#[test]
fn an_idle_pool_stops_cleanly_and_removes_its_socket() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut pool = Pool::start(json!({}));
        pool.until_idle("js", 1);
        pool.signal(signal);
        assert_eq!(pool.wait().code(), Some(0));
        assert!(!pool.socket().exists());
    }
}

#[test]
fn sigterm_while_workers_are_starting_ends_them_too() {
    for _ in 0..3 {
        let mut pool = Pool::start(json!({"pool": {"minWorkers": 4, "maxWorkers": 4}}));
        pool.signal(Signal::TERM);
        assert_eq!(pool.wait().code(), Some(0));
        assert!(proc::workers_of(pool.pid()).is_empty());
    }
}
