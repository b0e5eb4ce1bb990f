//! A worker that lies, as a compromised child would: rows 18 to 22 of what the pool must survive.
//! Each lie is noticed, the liar killed, and nobody else hurt.

use std::path::Path;

use pool_tests::bystanders::beside;
use pool_tests::tasks::{code, error, result, with};
use pool_tests::{Folder, Pool, Value, json, proc, until};

const BAD_WORKER: &str = env!("CARGO_BIN_EXE_bad_worker");

fn pool() -> Pool {
    pool_of(Path::new(BAD_WORKER))
}

fn pool_of(worker: &Path) -> Pool {
    let pool = Pool::start(json!({
        "workerPath": worker,
        "pool": {"minWorkers": 2, "maxWorkers": 2, "autoScale": false, "heartbeatInterval": 1000},
    }));
    pool.until_idle("js", 2);
    pool
}

/// Another worker's task, and one that comes afterwards, are not hurt by the attack, which is told
/// the former's id.
fn beside_a_neighbour<T>(pool: &Pool, attack: impl FnOnce(&str) -> T) -> T {
    beside(pool, code("hold"), code("fine"), attack)
}

fn lie(name: &str) -> Value {
    with(code(name), json!({"maxAttempts": 1, "timeout": 60_000}))
}

/// The verdict about the worker that a task ran on, once its process is gone.
fn verdict(pool: &Pool, outcome: &Value) -> Value {
    until("its worker is gone", || {
        pool.dead_workers().iter().any(|w| w["workerId"] == outcome["workerId"])
    });
    let dead = pool
        .dead_workers()
        .into_iter()
        .find(|w| w["workerId"] == outcome["workerId"])
        .expect("just seen");
    let pid = i32::try_from(dead["pid"].as_i64().expect("a pid")).expect("a pid");
    assert!(!proc::alive(pid), "{dead}");
    dead["verdict"].clone()
}

/// The lie ends as a crash of that worker alone.
fn is_a_crash(pool: &Pool, name: &str, cause: &str) {
    beside_a_neighbour(pool, |_| {
        let outcome = pool.run(lie(name));
        assert_eq!(error(&outcome), "WORKER_CRASHED", "{name}: {outcome}");
        assert_eq!(outcome["error"]["verdict"]["cause"], cause, "{name}: {outcome}");
        assert_eq!(verdict(pool, &outcome)["cause"], cause, "{name}");
    });
}

#[test]
fn hostile_18_a_length_of_0xffffffff_or_0_or_half_a_frame_reserves_nothing_and_ends_the_worker() {
    let pool = pool();
    // Reserved memory shows in the address space, touched or not.
    let reserved = || proc::status_kib(pool.pid(), "VmPeak").expect("it lives");
    let before = reserved();
    for (name, cause) in [
        ("huge-length", "protocol-violation"),
        ("empty", "protocol-violation"),
        ("zeroes", "protocol-violation"),
        ("half-frame", "unresponsive"),
        ("announce", "unresponsive"),
    ] {
        is_a_crash(&pool, name, cause);
    }
    let grown = reserved() - before;
    assert!(grown < 256 * 1024, "4 GiB were announced, and {grown} KiB reserved");
}

#[test]
fn hostile_19_an_unknown_message_trailing_bytes_or_a_second_hello_is_a_crash() {
    let pool = pool();
    for name in ["unknown-kind", "clients-kind", "trailing-bytes", "second-ready"] {
        is_a_crash(&pool, name, "protocol-violation");
    }
}

/// A pool whose only worker is a copy of the liar under a name that tells it how to begin.
fn at_start(name: &str) -> (Folder, Pool) {
    let folder = Folder::new();
    let program = folder.copy_program(BAD_WORKER, name);
    let pool = Pool::start(json!({
        "workerPath": program,
        "pool": {"minWorkers": 1, "maxWorkers": 1, "spawnTimeout": 500},
    }));
    (folder, pool)
}

/// No worker can stand by here: all of them are of the program that lies.
#[test]
fn hostile_19_a_wrong_version_or_a_reply_before_the_hello_is_killed_and_gets_no_task() {
    for (name, cause) in [
        ("old-version", "protocol-violation"),
        ("new-version", "protocol-violation"),
        ("replies-before-ready", "protocol-violation"),
        ("silent", "spawn-failed"),
        ("exits-at-start", "spawn-failed"),
    ] {
        let (_folder, pool) = at_start(name);
        let id = pool.submit(code("fine"));
        until("it is given up", || !pool.dead_workers().is_empty());
        until("the pool says that it cannot run tasks", || pool.status()["state"] == "degraded");
        let dead = pool.dead_workers();
        assert!(dead.iter().all(|row| row["verdict"]["cause"] == cause), "{name}: {dead:?}");
        assert!(
            dead.iter().all(|row| !proc::alive(row["pid"].as_i64().expect("a pid") as i32)),
            "{name}"
        );
        assert_eq!(pool.task(&id)["attempts"], 0, "{name}: {}", pool.task(&id));
        assert!(pool.events_named("worker-started").is_empty(), "{name}");
    }
}

#[test]
fn hostile_19_a_version_mismatch_is_told_with_both_versions() {
    let (_folder, pool) = at_start("old-version");
    until("it is given up", || !pool.dead_workers().is_empty());
    let evidence = pool.dead_workers()[0]["verdict"]["evidence"].as_str().expect("text").to_owned();
    let (ours, theirs) = (format!("speaks {}", pool_protocol::version::CURRENT), "speaks 0");
    assert!(evidence.contains(&ours) && evidence.contains(theirs), "{evidence}");
}

#[test]
fn hostile_20_a_reply_for_another_workers_task_is_dropped_and_the_liar_killed() {
    let pool = pool();
    beside_a_neighbour(&pool, |neighbour| {
        let outcome = pool.run(lie(&format!("steal:{neighbour}")));
        assert_eq!(error(&outcome), "WORKER_CRASHED", "{outcome}");
        assert_eq!(verdict(&pool, &outcome)["cause"], "protocol-violation");
        assert_eq!(pool.task(neighbour)["state"], "running", "the other task is unaffected");
    });
    is_a_crash(&pool, "wrong-task", "protocol-violation");
}

#[test]
fn hostile_20_a_second_reply_is_dropped_and_the_liar_killed() {
    let pool = pool();
    beside_a_neighbour(&pool, |_| {
        let outcome = pool.run(lie("second-reply"));
        assert_eq!(result(outcome.clone()), "once");
        assert_eq!(verdict(&pool, &outcome)["cause"], "protocol-violation");
        assert_eq!(result(pool.task(outcome["taskId"].as_str().expect("an id"))), "once");
        assert_eq!(pool.status()["tasks"]["completed"], 1);
    });
}

#[test]
fn hostile_20_a_reply_of_an_old_attempt_is_dropped_and_the_liar_killed() {
    let pool = pool();
    beside_a_neighbour(&pool, |_| {
        let twice = json!({"maxAttempts": 2, "retry": {"initialDelay": 1}});
        let outcome = pool.run(with(lie("old-attempt"), twice));
        assert_eq!(
            (error(&outcome), &outcome["attempts"]),
            ("WORKER_CRASHED", &json!(2)),
            "{outcome}"
        );
        assert_eq!(verdict(&pool, &outcome)["cause"], "protocol-violation");
    });
}

#[test]
fn hostile_21_heartbeats_do_not_save_a_stuck_task_from_its_deadline() {
    let pool = pool();
    beside_a_neighbour(&pool, |_| {
        for (field, value) in [("timeout", 500), ("deadline", 700)] {
            let outcome = pool.run(with(lie("heartbeats-only"), json!({field: value})));
            assert_eq!(outcome["status"], "timed-out", "{field}: {outcome}");
            assert_eq!(verdict(&pool, &outcome)["cause"], "deadline", "{field}");
            pool.until_idle("js", 1);
        }
    });
}

#[test]
fn hostile_21_a_flood_of_heartbeats_is_killed() {
    is_a_crash(&pool(), "flood", "protocol-violation");
}

#[test]
fn hostile_22_a_worker_that_never_reads_its_socket_is_killed_at_the_deadline() {
    let pool = pool();
    beside_a_neighbour(&pool, |_| {
        let outcome = pool.run(with(lie("deaf"), json!({"timeout": 500})));
        assert_eq!(outcome["status"], "timed-out", "{outcome}");
        assert_eq!(verdict(&pool, &outcome)["cause"], "deadline");
    });
}

/// Its heartbeats come, its socket is full: the task's bytes wait in the supervisor until the
/// deadline ends both.
#[test]
fn hostile_22_a_worker_that_never_reads_at_all_does_not_hold_up_the_supervisor() {
    let folder = Folder::new();
    let program = folder.copy_program(BAD_WORKER, "deaf");
    let pool = pool_of(&program);
    let large = format!("'{}'", "x".repeat(4 << 20));
    let outcome = pool.run(with(lie(&large), json!({"timeout": 500})));
    assert_eq!(outcome["status"], "timed-out", "{:.300}", outcome.to_string());
    assert_eq!(verdict(&pool, &outcome)["cause"], "deadline");
    pool.until_idle("js", 2);
    let dead = pool.dead_workers().len();
    assert_eq!(dead, 1, "the other one, which is as deaf but has no task, is left alone");
}

#[test]
fn hostile_22_descriptors_that_a_worker_sends_are_discarded() {
    let pool = pool();
    pool.run(code("fine"));
    let before = proc::descriptors(pool.pid());
    beside_a_neighbour(&pool, |_| {
        for _ in 0..30 {
            assert_eq!(
                result(pool.run(lie("descriptors"))),
                "ok",
                "what was said with them still counts"
            );
        }
    });
    pool.until_idle("js", 2);
    until("no descriptor is kept", || proc::descriptors(pool.pid()) <= before + 2);
}

#[test]
fn hostile_22_a_worker_that_stops_itself_or_exits_with_0_under_a_task_is_a_crash() {
    let pool = pool();
    beside_a_neighbour(&pool, |_| {
        let id = pool.submit(lie("stop"));
        until("it runs", || pool.task(&id)["state"] == "running");
        // The first process of a namespace cannot stop itself; somebody outside can.
        let worker = pool.pid_of(&pool.task(&id)["workerId"]).expect("it lives");
        proc::signal(worker, rustix::process::Signal::STOP);
        let outcome = pool.outcome(&id);
        assert_eq!(error(&outcome), "WORKER_CRASHED", "{outcome}");
        assert_eq!(verdict(&pool, &outcome)["cause"], "unresponsive");
    });
    is_a_crash(&pool, "exit", "exited");
}

#[test]
fn hostile_22_a_worker_that_closes_its_socket_and_lives_on_is_killed() {
    is_a_crash(&pool(), "close", "protocol-violation");
}

#[test]
fn a_result_that_is_no_json_does_not_reach_the_client_as_one() {
    let pool = pool();
    beside_a_neighbour(&pool, |_| {
        let outcome = pool.run(lie("junk-body"));
        assert_ne!(outcome["result"], "{no json", "{outcome}");
    });
}

#[test]
fn a_program_that_only_hangs_does_not_keep_the_supervisor_from_starting() {
    let folder = Folder::new();
    let hangs = folder.write_program("hangs", "#!/bin/sh\nexec sleep 60\n");
    let pool = Pool::start(json!({
        "workerPath": hangs,
        "pool": {"minWorkers": 1, "maxWorkers": 1, "spawnTimeout": 300},
    }));
    until("it says that it cannot run tasks", || pool.status()["state"] == "degraded");
}
