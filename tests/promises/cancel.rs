//! Cancel stops a waiting task at once and a running one for real.

use pool_tests::tasks::{code, error, hold, program, result, with};
use pool_tests::{Folder, Pool, Value, json, proc, until, until_some};

fn narrow() -> Pool {
    Pool::start(json!({
        "pool": {"minWorkers": 1, "maxWorkers": 1},
        "shell": {"allow": [{"program": "/bin/sh", "args": "(?s).*"}]},
    }))
}

fn cancelled(outcome: &Value) {
    assert_eq!(
        (outcome["status"].as_str(), error(outcome)),
        (Some("cancelled"), "CANCELLED"),
        "{outcome}"
    );
}

#[test]
fn a_waiting_task_ends_at_once_and_its_worker_is_not_touched() {
    let pool = narrow();
    let running = pool.submit(hold());
    until("it runs", || pool.task(&running)["state"] == "running");
    let waiting = pool.submit(code("1"));
    pool.cancel(&waiting);
    let outcome = pool.outcome(&waiting);
    cancelled(&outcome);
    assert_eq!(outcome["attempts"], 0);
    assert_eq!(pool.task(&running)["state"], "running");
}

#[test]
fn a_running_task_ends_for_real_and_its_worker_is_replaced() {
    for source in [
        "for(;;);",
        "await new Promise(r => setTimeout(r, 1e6))",
        "for(;;) await null",
        "while (true) try { for(;;); } finally { continue }",
    ] {
        let pool = narrow();
        let id = pool.submit(code(source));
        until("it runs", || pool.task(&id)["state"] == "running");
        let pid = pool.pid_of(&pool.task(&id)["workerId"]).expect("it lives");
        pool.cancel(&id);
        cancelled(&pool.outcome(&id));
        until("its process is gone", || !proc::alive(pid));
        assert_eq!(result(pool.run(code("1"))), 1, "{source}");
    }
}

#[test]
fn what_the_engine_cannot_stop_is_killed() {
    let pool = narrow();
    let id = pool.submit(code("Array.prototype.includes.call({length: 2**53 - 1}, 1)"));
    until("it runs", || pool.task(&id)["state"] == "running");
    pool.cancel(&id);
    cancelled(&pool.outcome(&id));
    assert_eq!(result(pool.run(code("1"))), 1);
    until("its end is on record", || {
        pool.dead_workers().iter().any(|w| w["verdict"]["cause"] == "cancelled")
    });
}

#[test]
fn a_programs_whole_process_tree_goes_setsid_children_included() {
    let pool = narrow();
    let folder = Folder::new();
    let script = format!(
        "setsid sh -c 'trap \"\" TERM; echo > {0}/deep; sleep 1000; :' & sh -c 'echo > {0}/near; \
         sleep 1000; :' & wait",
        folder.text()
    );
    let id = pool.submit(program("/bin/sh", &["-c", &script]));
    until("the script runs", || folder.join("deep").exists() && folder.join("near").exists());
    let worker = pool.pid_of(&pool.task(&id)["workerId"]).expect("it runs the script");
    let tree = until_some("three shells and two sleeps are up", || {
        Some(proc::descendants(worker)).filter(|tree| tree.len() == 5)
    });
    pool.cancel(&id);
    cancelled(&pool.outcome(&id));
    until("the tree is gone", || tree.iter().all(|process| !process.lives()));
}

#[test]
fn a_delayed_task_and_one_between_attempts_can_be_cancelled() {
    let pool = narrow();
    let delayed = pool.submit(with(code("1"), json!({"delay": 60_000})));
    let retrying = pool.submit(with(code("throw 1"), json!({"retry": {"initialDelay": 60_000}})));
    until("it waits", || pool.task(&retrying)["state"] == "retrying");
    for id in [delayed, retrying] {
        pool.cancel(&id);
        cancelled(&pool.outcome(&id));
    }
}

#[test]
fn a_task_that_has_ended_stays_as_it_ended() {
    let pool = narrow();
    let id = pool.submit(code("1"));
    assert_eq!(result(pool.outcome(&id)), 1);
    let task = id.parse::<pool_protocol::id::TaskId>().expect("an id").0;
    let _ = pool.try_ask(&pool_protocol::control::ControlRequest::Cancel { task });
    assert_eq!(result(pool.task(&id)), 1);
}

#[test]
fn a_task_that_nobody_knows_cannot_be_cancelled() {
    let pool = narrow();
    let refused = pool.try_ask(&pool_protocol::control::ControlRequest::Cancel { task: 7 });
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn a_cancelled_task_is_not_retried() {
    let pool = narrow();
    let id = pool.submit(with(hold(), json!({"maxAttempts": 10, "retry": {"initialDelay": 1}})));
    until("it runs", || pool.task(&id)["state"] == "running");
    pool.cancel(&id);
    assert_eq!(pool.outcome(&id)["attempts"], 1);
}

#[test]
fn the_other_tasks_of_a_worker_whose_task_is_cancelled_still_run() {
    let pool = narrow();
    let mut client = pool.client();
    // Tiny tasks are handed out in bundles: one of them must not take the others with it.
    let tiny: Vec<u64> = (0..300).map(|_| client.submit(&code("1"))).collect();
    let stuck = client.submit(&code("for(;;);"));
    let after: Vec<u64> = (0..300).map(|_| client.submit(&code("2"))).collect();
    let id = client.id(stuck);
    until("it runs", || pool.task(&id)["state"] == "running");
    pool.cancel(&id);
    for request in tiny {
        assert_eq!(result(client.outcome(request)), 1);
    }
    for request in after {
        assert_eq!(result(client.outcome(request)), 2);
    }
    cancelled(&client.outcome(stuck));
}
