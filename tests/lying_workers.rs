//! Workers that break the protocol, as a compromised child would: each is noticed, killed, and hurts nobody else.

use std::path::Path;

use pool_tests::tasks::{code, error, result, with};
use pool_tests::{Folder, Pool, Value, json, proc, until};

const BAD_WORKER: &str = env!("CARGO_BIN_EXE_bad_worker");

fn pool() -> Pool {
    Pool::start(json!({
        "workerPath": BAD_WORKER, "pool": {"minWorkers": 2, "maxWorkers": 2, "autoScale": false, "heartbeatInterval": 300},
    }))
}

fn lie(name: &str) -> Value {
    with(code(name), json!({"maxAttempts": 1, "timeout": 60_000}))
}

/// A worker's process and its verdict, once it is dead.
fn verdict(pool: &Pool, outcome: &Value) -> Value {
    until("its worker is gone", || pool.dead_workers().iter().any(|w| w["workerId"] == outcome["workerId"]));
    let dead = pool.dead_workers().into_iter().find(|w| w["workerId"] == outcome["workerId"]).expect("just seen");
    let pid = i32::try_from(dead["pid"].as_i64().expect("a pid")).expect("a pid");
    assert!(!proc::alive(pid), "{dead}");
    dead["verdict"].clone()
}

/// The lie ends as a crash of that worker alone: a task on the other worker is not touched, and the pool goes on.
fn is_a_crash(name: &str, cause: &str) {
    let pool = pool();
    pool.until_idle("js", 2);
    let mut client = pool.client();
    let neighbour = client.submit(&with(code("sleep:600"), json!({"maxAttempts": 1})));
    client.id(neighbour);
    let outcome = pool.run(lie(name));
    assert_eq!(error(&outcome), "WORKER_CRASHED", "{name}: {outcome}");
    assert_eq!(outcome["error"]["verdict"]["cause"], cause, "{name}: {outcome}");
    assert_eq!(verdict(&pool, &outcome)["cause"], cause, "{name}");
    assert_eq!(result(client.outcome(neighbour)), "ok", "{name}");
    assert_eq!(result(pool.run(code("fine"))), "ok", "{name}");
    until("both places are filled again", || pool.workers_that_are("js", "idle").len() == 2);
}

#[test]
fn a_length_that_is_too_large_is_a_crash_and_is_not_allocated() {
    is_a_crash("huge-length", "protocol-violation");
}

#[test]
fn half_a_frame_and_silence_is_a_crash() {
    is_a_crash("half-frame", "unresponsive");
}

#[test]
fn an_unknown_message_is_a_crash() {
    is_a_crash("unknown-kind", "protocol-violation");
}

#[test]
fn a_message_of_another_side_is_a_crash() {
    is_a_crash("clients-kind", "protocol-violation");
}

#[test]
fn trailing_bytes_are_a_crash() {
    is_a_crash("trailing-bytes", "protocol-violation");
}

#[test]
fn a_second_hello_is_a_crash() {
    is_a_crash("second-ready", "protocol-violation");
}

#[test]
fn a_reply_for_a_task_of_another_is_a_crash() {
    is_a_crash("wrong-task", "protocol-violation");
}

#[test]
fn a_reply_of_an_old_attempt_is_a_crash() {
    is_a_crash("old-attempt", "protocol-violation");
}

#[test]
fn a_worker_that_stops_itself_is_a_crash() {
    is_a_crash("stop", "unresponsive");
}

#[test]
fn a_worker_that_exits_with_0_under_a_task_is_a_crash() {
    is_a_crash("exit", "exited");
}

#[test]
fn a_worker_that_closes_its_socket_and_lives_on_is_killed() {
    let pool = pool();
    let outcome = pool.run(lie("close"));
    assert_eq!(error(&outcome), "WORKER_CRASHED", "{outcome}");
    verdict(&pool, &outcome);
    assert_eq!(result(pool.run(code("fine"))), "ok");
}

#[test]
fn a_flood_of_heartbeats_is_a_crash_and_holds_up_nobody() {
    is_a_crash("flood", "protocol-violation");
}

#[test]
fn a_second_reply_changes_nothing_and_ends_the_worker() {
    let pool = pool();
    let outcome = pool.run(lie("second-reply"));
    assert_eq!(result(outcome.clone()), "once");
    assert_eq!(verdict(&pool, &outcome)["cause"], "protocol-violation");
    assert_eq!(result(pool.task(outcome["taskId"].as_str().expect("an id"))), "once");
    assert_eq!(pool.status()["tasks"]["completed"], 1);
}

#[test]
fn heartbeats_do_not_save_a_stuck_task_from_its_timeout() {
    for name in ["heartbeats-only", "deaf"] {
        let pool = pool();
        let outcome = pool.run(with(lie(name), json!({"timeout": 500})));
        assert_eq!(outcome["status"], "timed-out", "{name}: {outcome}");
        verdict(&pool, &outcome);
        assert_eq!(result(pool.run(code("fine"))), "ok");
    }
}

#[test]
fn descriptors_that_a_worker_sends_are_discarded() {
    let pool = pool();
    pool.until_idle("js", 2);
    pool.run(code("fine"));
    let before = proc::descriptors(pool.pid());
    for _ in 0..30 {
        pool.run(lie("descriptors"));
    }
    pool.until_idle("js", 2);
    until("no descriptor is kept", || proc::descriptors(pool.pid()) <= before + 2);
}

#[test]
fn a_result_that_is_no_json_does_not_reach_the_client_as_one() {
    let pool = pool();
    let outcome = pool.run(lie("junk-body"));
    assert_ne!(outcome["result"], "{no json", "{outcome}");
    assert_eq!(result(pool.run(code("fine"))), "ok");
}

/// A copy under a name that tells it how to begin.
fn at_start(name: &str) -> (Folder, Pool) {
    let folder = Folder::new();
    let program = folder.join(name);
    std::fs::copy(Path::new(BAD_WORKER), &program).expect("copied");
    let pool =
        Pool::start(json!({"workerPath": program, "pool": {"minWorkers": 1, "maxWorkers": 1, "spawnTimeout": 500}}));
    (folder, pool)
}

#[test]
fn a_worker_that_begins_wrongly_never_gets_a_task() {
    for name in ["old-version", "new-version", "replies-before-ready", "silent", "exits-at-start"] {
        let (_folder, pool) = at_start(name);
        let id = pool.submit(code("fine"));
        until("it is given up", || !pool.dead_workers().is_empty());
        until("the pool says that it cannot run tasks", || pool.status()["state"] == "degraded");
        assert_eq!(pool.task(&id)["attempts"], 0, "{name}: {}", pool.task(&id));
        assert!(pool.events_named("worker-started").is_empty(), "{name}");
    }
}

#[test]
fn a_program_that_only_hangs_does_not_keep_the_supervisor_from_starting() {
    let folder = Folder::new();
    let hangs = folder.write_program("hangs", "#!/bin/sh\nexec sleep 1000\n");
    let pool =
        Pool::start(json!({"workerPath": hangs, "pool": {"minWorkers": 1, "maxWorkers": 1, "spawnTimeout": 300}}));
    until("it says that it cannot run tasks", || pool.status()["state"] == "degraded");
}

#[test]
fn a_version_mismatch_is_told_with_both_versions() {
    let (_folder, pool) = at_start("old-version");
    until("it is given up", || !pool.dead_workers().is_empty());
    let evidence = pool.dead_workers()[0]["verdict"]["evidence"].as_str().expect("text").to_owned();
    assert!(evidence.contains("version") && evidence.contains('0') && evidence.contains('1'), "{evidence}");
}
