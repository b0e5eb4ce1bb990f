//! Bugs of the pool that this one replaces. None of them may come back.

use pool_tests::tasks::{code, hold, result, sleep, with};
use pool_tests::{Pool, json, proc, until};

#[test]
fn the_usage_example_works() {
    let pool = Pool::with_http(
        json!({"daemon": {"worker": {"minProcesses": 1, "maxProcesses": 4, "autoScale": true,
        "scaleUpThreshold": 0.8,
        "scaleDownThreshold": 0.2,
        "maxTasksPerWorker": 100,
        "workerIdleTimeout": 60000}}}),
    );
    let api = pool.api();
    let limit = api.call(
        "POST",
        "/api/process-pool/project-limit",
        Some(&json!({"projectId": "my-project", "limit": 5})),
    );
    assert_eq!(limit.json()["limit"], 5);
    let task = json!({"type": "execute-code", "projectId": "my-project", "code": "return \"Hello \
        from worker\";", "priority": 5, "timeout": 30000});
    let answer = api.call("POST", "/api/tasks?wait=30s", Some(&task));
    assert_eq!(answer.json()["result"], "Hello from worker");
    assert_eq!(api.call("GET", "/api/process-pool/stats", None).json()["tasks"]["completed"], 1);
}

#[test]
fn a_top_level_return_is_not_refused() {
    let pool = Pool::start(json!({}));
    assert_eq!(result(pool.run(code("return \"Hello from worker\";"))), "Hello from worker");
}

#[test]
fn max_attempts_is_not_ignored() {
    let pool = Pool::start(json!({}));
    for attempts in [1, 4] {
        let outcome = pool.run(with(
            code("throw 1"),
            json!({"maxAttempts": attempts, "retry": {"initialDelay": 1}}),
        ));
        assert_eq!(outcome["attempts"], attempts);
    }
    assert_eq!(pool.events_named("task-started").len(), 5, "each attempt really ran");
}

#[test]
fn project_usage_does_not_leak_after_a_task_however_it_ends() {
    let pool = Pool::start(
        json!({"pool": {"minWorkers": 2, "maxWorkers": 2}, "projects": {"p": {"limit": 2}}}),
    );
    let mine = |task| {
        with(with(task, json!({"projectId": "p", "maxAttempts": 1})), json!({"timeout": 60_000}))
    };
    pool.run(mine(code("1")));
    pool.run(mine(code("throw 1")));
    pool.run(with(mine(code("for(;;);")), json!({"timeout": 50})));
    pool.run(mine(code("'a'.repeat(2**28).split('')")));
    pool.run(mine(code("new Map()")));
    for _ in 0..3 {
        let id = pool.submit(mine(hold()));
        until("it runs", || pool.task(&id)["state"] == "running");
        if pool.projects()["p"]["ended"].as_u64().is_some_and(|n| n.is_multiple_of(2)) {
            pool.cancel(&id);
        } else {
            proc::kill(pool.pid_of(&pool.task(&id)["workerId"]).expect("it lives"));
        }
        pool.outcome(&id);
    }
    let usage = &pool.projects()["p"];
    assert_eq!(
        (&usage["used"], &usage["available"], &usage["queued"]),
        (&json!(0), &json!(2), &json!(0)),
        "{usage}"
    );
    assert_eq!(usage["ended"], 8);
    assert!(pool.run_all(&vec![mine(sleep(5)); 6]).iter().all(|o| o["status"] == "succeeded"));
}

#[test]
fn a_timed_out_task_does_not_keep_its_worker() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    for source in ["for(;;);", "await new Promise(r => setTimeout(r, 1e7))"] {
        assert_eq!(pool.run(with(code(source), json!({"timeout": 50})))["status"], "timed-out");
        assert_eq!(result(pool.run(code("1"))), 1, "the only worker is free again: {source}");
    }
    assert_eq!(pool.status()["workers"]["total"], 1);
}

#[test]
fn sandboxed_code_does_not_reach_require() {
    let pool = Pool::start(json!({"js": {"allowCodeGeneration": true}}));
    for source in [
        "typeof require",
        "typeof process",
        "typeof globalThis.process",
        "this.constructor.constructor('return typeof process')()",
        "console.log.constructor('return typeof require')()",
        "setTimeout.constructor('return typeof process')()",
        "Error.prepareStackTrace = (e, frames) => typeof frames[0].getThis()?.process; new \
         Error().stack ?? 'undefined'",
        "Object.getPrototypeOf(async function () {}).constructor('return typeof process')()",
    ] {
        let outcome = pool.run(with(code(source), json!({"maxAttempts": 1})));
        assert_eq!(result(outcome), "undefined", "{source}");
    }
}

#[test]
fn scale_up_adds_workers() {
    let pool = Pool::start(json!({
        "daemon": {"worker": {"minProcesses": 1, "maxProcesses": 3, "scaleUpThreshold": 0.8}},
    }));
    let mut client = pool.client();
    let requests: Vec<u64> = (0..3).map(|_| client.submit(&hold())).collect();
    until("all three run at once", || pool.status()["tasks"]["running"] == 3);
    assert_eq!(pool.status()["workers"]["total"], 3);
    assert!(!pool.events_named("scaled-up").is_empty());
    drop(requests);
}

#[test]
fn the_queue_does_not_stall_after_a_recycle() {
    let pool = Pool::start(json!({
        "daemon": {"worker": {"minProcesses": 1, "maxProcesses": 1, "maxTasksPerWorker": 3}},
    }));
    // A worker goes on while its replacement starts, so sixty tasks may be too few on a busy
    // machine.
    until("it was recycled again and again", || {
        let outcomes = pool.run_all(&vec![sleep(2); 60]);
        assert!(outcomes.iter().all(|o| o["status"] == "succeeded" && o["attempts"] == 1));
        pool.dead_workers().len() >= 3
    });
}

#[test]
fn events_are_sent() {
    let pool = Pool::start(json!({}));
    let mut next = pool.client().follow(Some(0));
    let id = pool.submit(code("1"));
    let mut seen = Vec::new();
    while seen.last().is_none_or(|name| name != "task-complete") {
        let event = next();
        if event["taskId"] == *id || event["event"] == "worker-started" {
            seen.push(event["event"].as_str().expect("a name").to_owned());
        }
    }
    for name in ["worker-started", "task-queued", "task-started", "task-complete"] {
        assert!(seen.iter().any(|s| s == name), "{name}: {seen:?}");
    }
}

#[test]
fn a_limit_queues_and_does_not_refuse() {
    let pool = Pool::start(json!({"projects": {"p": {"limit": 1}}}));
    let tasks = vec![with(sleep(10), json!({"projectId": "p"})); 20];
    assert!(pool.run_all(&tasks).iter().all(|o| o["status"] == "succeeded"));
}

#[test]
fn a_crash_does_not_lose_the_task() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    let mut client = pool.client();
    let requests: Vec<u64> = (0..10)
        .map(|_| client.submit(&with(sleep(150), json!({"retry": {"initialDelay": 1}}))))
        .collect();
    let worker = pool.busy_worker("js");
    proc::kill(i32::try_from(worker["pid"].as_i64().expect("a pid")).expect("a pid"));
    for request in requests {
        assert_eq!(result(client.outcome(request)), "slept");
    }
}
