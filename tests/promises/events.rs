//! Events: numbered, resumable, each with the fields that apply.

use pool_tests::tasks::{code, hold, sleep, with};
use pool_tests::{Pool, Value, json, proc, until};

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|e| e["event"].as_str()).collect()
}

#[test]
fn the_life_of_a_task_is_queued_started_complete_in_that_order() {
    let pool = Pool::start(json!({}));
    let outcome = pool.run(with(sleep(20), json!({"projectId": "p"})));
    let events: Vec<Value> =
        pool.events().into_iter().filter(|e| e["taskId"] == outcome["taskId"]).collect();
    assert_eq!(names(&events), ["task-queued", "task-started", "task-complete"]);
    assert!(events.iter().all(|e| e["projectId"] == "p"), "{events:?}");
    assert_eq!(events[1]["workerId"], outcome["workerId"]);
    assert!(events[2]["duration"].as_f64() >= Some(15.0), "{}", events[2]);
}

#[test]
fn a_failure_is_retried_and_ends_as_an_error() {
    let pool = Pool::start(json!({}));
    let outcome = pool.run(with(
        code("throw new Error('why')"),
        json!({"maxAttempts": 2, "retry": {"initialDelay": 1}}),
    ));
    let events: Vec<Value> =
        pool.events().into_iter().filter(|e| e["taskId"] == outcome["taskId"]).collect();
    assert_eq!(
        names(&events),
        ["task-queued", "task-started", "task-retry", "task-started", "task-error"]
    );
    assert!(
        events[4]["error"].as_str().is_some_and(|e| e.contains("JS_EXCEPTION")),
        "{}",
        events[4]
    );
}

#[test]
fn console_output_is_streamed_as_events() {
    let pool = Pool::start(json!({}));
    let mut next = pool.client().follow(None);
    // Lines are wanted by whoever follows; the first task may run before the worker knows.
    let id = pool.submit(code(
        "console.log('streamed', 1); console.error('bad'); await new Promise(r => \
            setTimeout(r, 50)); 1",
    ));
    let mut seen = Vec::new();
    loop {
        let event = next();
        match event["event"].as_str() {
            Some("task-log") => seen.push((event["level"].clone(), event["message"].clone())),
            Some("task-complete") if event["taskId"] == *id => break,
            _ => {}
        }
    }
    assert_eq!(seen, [(json!("log"), json!("streamed 1")), (json!("error"), json!("bad"))]);
}

#[test]
fn workers_come_and_go_with_a_verdict() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    let id = pool.submit(with(hold(), json!({"maxAttempts": 1})));
    let worker = pool.busy_worker("js");
    proc::kill(i32::try_from(worker["pid"].as_i64().expect("a pid")).expect("a pid"));
    pool.outcome(&id);
    let events = pool.events();
    let of = |name: &str| {
        events.iter().find(|e| e["event"] == name && e["workerId"] == worker["workerId"]).cloned()
    };
    assert!(of("worker-started").is_some_and(|e| e["duration"].as_f64() > Some(0.0)), "{events:?}");
    let ended = of("worker-terminated").expect("it ended");
    assert_eq!(ended["verdict"]["cause"], "killed-from-outside");
    assert!(ended["verdict"]["evidence"].is_string());
    assert!(
        of("worker-error").is_some_and(|e| e["taskId"] == *id),
        "it died under a task: {events:?}"
    );
}

#[test]
fn events_are_numbered_without_gaps_and_dated() {
    let pool = Pool::start(json!({}));
    assert!(pool.run_all(&vec![code("1"); 50]).iter().all(|o| o["status"] == "succeeded"));
    let events = pool.events();
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], index + 1, "{event}");
        let time = event["time"].as_str().expect("a time");
        assert!(
            time.len() >= 20 && time.starts_with("20") && time.contains('T') && time.ends_with('Z'),
            "{time}"
        );
    }
    assert!(events.len() >= 151);
}

#[test]
fn a_list_can_be_resumed_from_a_number() {
    let pool = Pool::start(json!({}));
    assert!(pool.run_all(&vec![code("1"); 10]).iter().all(|o| o["status"] == "succeeded"));
    let all = pool.events();
    let rest = pool.client().events(all[14]["seq"].as_u64());
    // More may have come in between.
    assert!(rest.starts_with(&all[15..]), "{rest:?}");
    let last = all.last().expect("some")["seq"].as_u64();
    assert!(pool.client().events(last).iter().all(|e| e["seq"].as_u64() > last));
}

#[test]
fn following_gives_what_was_and_then_what_comes() {
    let pool = Pool::start(json!({}));
    pool.run(code("1"));
    let mut next = pool.client().follow(Some(0));
    assert_eq!(next()["seq"], 1);
    let id = pool.submit(code("2"));
    loop {
        let event = next();
        if event["taskId"] == *id && event["event"] == "task-complete" {
            break;
        }
    }
}

#[test]
fn a_follower_that_never_reads_holds_up_nobody() {
    let pool = Pool::start(json!({}));
    let _silent = pool.client().follow(Some(0));
    for _ in 0..5 {
        assert!(
            pool.run_all(&vec![with(code("1"), json!({"tag": "x".repeat(900)})); 1000])
                .iter()
                .all(|o| o["status"] == "succeeded")
        );
    }
    until("the supervisor's memory is bounded", || {
        proc::status_kib(pool.pid(), "VmRSS").is_some_and(|kib| kib < 300 * 1024)
    });
}
