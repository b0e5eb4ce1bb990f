//! The life of workers: states, readiness, heartbeats, recycling, scaling, idleness, and what
//! happens when they cannot start.

use std::time::Duration;

use pool_tests::tasks::{code, error, hold, program, result, sleep, with};
use pool_tests::wait::pause;
use pool_tests::{Folder, Pool, Value, json, proc, until, until_some};
use rustix::process::Signal;

fn causes(pool: &Pool) -> Vec<String> {
    pool.dead_workers()
        .iter()
        .map(|w| w["verdict"]["cause"].as_str().expect("a cause").to_owned())
        .collect()
}

#[test]
fn the_minimum_is_there_from_the_start() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 3, "maxWorkers": 4}}));
    pool.until_idle("js", 3);
    let stats = pool.status();
    assert_eq!(stats["workers"], json!({"total": 3, "available": 3, "busy": 0, "spawning": 0}));
}

#[test]
fn a_worker_is_spawning_then_idle_then_busy() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    pool.until_idle("js", 1);
    let id = pool.submit(hold());
    let busy = pool.busy_worker("js");
    assert_eq!(busy["taskId"], *id);
    assert_eq!(busy["projectId"], "default");
    assert_eq!(pool.task(&id)["workerId"], busy["workerId"]);
    assert_eq!(pool.status()["workers"]["busy"], 1);
}

#[test]
fn a_worker_that_does_not_shake_hands_in_time_is_killed() {
    let folder = Folder::new();
    let silent = folder.write_program(
        "silent",
        "#!/bin/sh\n[ \"$1\" = --make-snapshot ] && exit 1\nexec sleep 60\n",
    );
    let pool = Pool::start(json!({
        "workerPath": silent,
        "pool": {"spawnTimeout": 300, "minWorkers": 1, "maxWorkers": 1},
    }));
    let first = until_some("a process is started", || pool.workers().into_iter().next());
    assert_eq!(first["state"], "spawning", "not ready before its handshake");
    until("it is killed", || causes(&pool).iter().any(|c| c == "spawn-failed"));
}

#[test]
fn heartbeats_carry_memory_and_cpu_time() {
    let pool = Pool::start(json!({"pool": {"heartbeatInterval": 1000}}));
    assert_eq!(
        pool.run(code("let n = 0; for (let i = 0; i < 3e8; i++) n ^= i; 1"))["status"],
        "succeeded"
    );
    until("the figures arrive", || {
        let rows = pool.workers();
        let row = &rows[0];
        row["memoryBytes"].as_u64() > Some(1 << 20) && row["cpuMs"].as_f64() > Some(50.0)
    });
}

#[test]
fn heartbeats_keep_coming_while_javascript_runs() {
    // Three may be missed, so the task runs longer than four take.
    let pool = Pool::start(json!({"pool": {"heartbeatInterval": 800}}));
    let outcome =
        pool.run(code("const end = Date.now() + 3500; while (Date.now() < end); 'still here'"));
    assert_eq!((outcome["attempts"].as_u64(), result(outcome)), (Some(1), json!("still here")));
}

#[test]
fn three_missed_heartbeats_and_the_worker_is_killed_and_its_task_handled_as_a_crash() {
    let pool =
        Pool::start(json!({"pool": {"heartbeatInterval": 800, "minWorkers": 1, "maxWorkers": 1}}));
    let mut client = pool.client();
    let request = client.submit(&with(sleep(1500), json!({"retry": {"initialDelay": 1}})));
    let worker = pool.busy_worker("js");
    let pid = i32::try_from(worker["pid"].as_i64().expect("a pid")).expect("a pid");
    assert!(proc::signal(pid, Signal::STOP));
    let outcome = client.outcome(request);
    assert_eq!((outcome["attempts"].as_u64(), result(outcome)), (Some(2), json!("slept")));
    until("its end is on record", || causes(&pool).iter().any(|c| c == "unresponsive"));
    assert!(!proc::alive(pid));
}

#[test]
fn a_worker_is_recycled_after_its_count_of_tasks_give_or_take_a_tenth() {
    let pool =
        Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1, "maxTasksPerWorker": 50}}));
    // What a worker does while its replacement starts comes on top, so that capacity never dips: so
    // there is no telling how many tasks three workers run on a busy machine.
    until("workers were recycled", || {
        assert!(pool.run_all(&vec![sleep(2); 100]).iter().all(|o| o["status"] == "succeeded"));
        causes(&pool).iter().filter(|c| *c == "recycled").count() >= 3
    });
    let counts: Vec<u64> = pool.dead_workers().iter().filter_map(|w| w["tasks"].as_u64()).collect();
    assert!(counts.iter().all(|n| *n >= 45), "none before its time: {counts:?}");
    assert!(counts.iter().any(|n| *n != counts[0]), "not all at once: {counts:?}");
    // Each task takes 2 ms at least. So the time that the worker took to start says in how many it
    // has worked for ten times as long, and the time that its replacement took, how many may come
    // on top. Later ones may have to wait until the one before has gone.
    let starts = pool.events_named("worker-started");
    let start_ms = |number: usize| starts[number]["duration"].as_f64().expect("it is told");
    let (own, replacements) = (start_ms(0), start_ms(1));
    let most = (own * 10.0 / 2.0).max(55.0) + replacements / 2.0 + 2.0;
    assert!(
        counts[0] as f64 <= most,
        "at most {most} after starts of {own} and {replacements} ms: {counts:?}"
    );
}

#[test]
fn a_worker_is_recycled_above_its_memory() {
    let pool = Pool::start(json!({"pool": {
        "minWorkers": 1,
        "maxWorkers": 1,
        "maxMemoryPerWorker": "100MiB",
        "heartbeatInterval": 1000,
        "maxTasksPerWorker": 0,
    }, "limits": {"memoryBytes": "512MiB"}}));
    let keep = json!({"type": "execute-function", "fn": "() => { globalThis.kept = new \
        Array(12e6).fill(1.5).map((x, i) => x + i); return 1 }"});
    assert_eq!(result(pool.run(keep)), 1);
    until("it is recycled", || causes(&pool) == ["recycled"]);
    assert_eq!(result(pool.run(code("2"))), 2);
}

#[test]
fn a_worker_is_recycled_above_its_age() {
    let pool =
        Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1, "maxWorkerAge": 400}}));
    until("it is recycled", || causes(&pool).iter().any(|c| c == "recycled"));
    assert_eq!(result(pool.run(code("1"))), 1);
}

#[test]
fn the_replacement_is_ready_before_the_old_one_leaves() {
    let pool =
        Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1, "maxTasksPerWorker": 20}}));
    until("workers were recycled", || {
        let outcomes = pool.run_all(&vec![sleep(2); 100]);
        assert!(outcomes.iter().all(|o| o["status"] == "succeeded" && o["attempts"] == 1));
        causes(&pool).len() >= 2
    });
    let mut ready = 0_i32;
    for event in pool.events() {
        match event["event"].as_str() {
            Some("worker-started") => ready += 1,
            Some("worker-terminated") => ready -= 1,
            _ => continue,
        }
        assert!(ready >= 1, "capacity never dips: {event}");
        assert!(ready <= 2, "and one replacement is enough: {event}");
    }
}

#[test]
fn pressure_adds_workers_up_to_the_maximum_and_not_beyond() {
    let pool =
        Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 3, "scaleCooldown": 50}}));
    let mut client = pool.client();
    let requests: Vec<u64> = (0..12).map(|_| client.submit(&sleep(400))).collect();
    let mut most = 0;
    for request in requests {
        assert_eq!(result(client.outcome(request)), "slept");
        most = most.max(pool.status()["workers"]["total"].as_u64().expect("a count"));
    }
    assert_eq!(most, 3);
    let added: u64 =
        pool.events_named("scaled-up").iter().filter_map(|e| e["workers"].as_u64()).sum();
    assert_eq!(added, 2, "{:?}", pool.events_named("scaled-up"));
}

#[test]
fn workers_leave_again_down_to_the_minimum_and_not_below() {
    let pool = Pool::start(json!({
        "pool": {
            "minWorkers": 1,
            "maxWorkers": 3,
            "scaleCooldown": 50,
            "workerIdleTimeout": 200,
        },
    }));
    assert!(pool.run_all(&vec![sleep(300); 9]).iter().all(|o| o["status"] == "succeeded"));
    until("one is left", || pool.status()["workers"]["total"] == 1);
    pause(Duration::from_millis(500));
    assert_eq!(pool.status()["workers"]["total"], 1, "the minimum stays");
    let removed: u64 =
        pool.events_named("scaled-down").iter().filter_map(|e| e["workers"].as_u64()).sum();
    assert!(removed >= 1, "{:?}", pool.events_named("scaled-down"));
    assert!(causes(&pool).iter().all(|c| c == "idle"), "{:?}", causes(&pool));
}

#[test]
fn a_fixed_pool_does_not_scale() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 2, "maxWorkers": 4, "autoScale": false}}));
    assert!(pool.run_all(&vec![sleep(60); 12]).iter().all(|o| o["status"] == "succeeded"));
    assert!(pool.events_named("scaled-up").is_empty());
    assert_eq!(pool.status()["workers"]["total"], 2);
}

#[test]
fn a_worker_of_the_other_lane_comes_when_it_is_needed_even_if_all_places_are_taken() {
    let pool = Pool::start(json!({
        "pool": {"minWorkers": 1, "maxWorkers": 1},
        "shell": {"allow": [{"program": "/bin/true"}]},
    }));
    for _ in 0..3 {
        assert_eq!(result(pool.run(program("/bin/true", &[])))["exitCode"], 0);
        assert_eq!(result(pool.run(code("1"))), 1);
    }
    assert!(
        pool.status()["workers"]["total"].as_u64() <= Some(1),
        "and the maximum holds: {}",
        pool.status()
    );
}

#[test]
fn spawn_failures_back_off_say_degraded_and_recover_by_themselves() {
    let folder = Folder::new();
    let tries = folder.join("tries");
    let broken = folder
        .write_program("worker", &format!("#!/bin/sh\necho x >> {}\nexit 1\n", tries.display()));
    let pool =
        Pool::start(json!({"workerPath": broken, "pool": {"minWorkers": 1, "maxWorkers": 1}}));
    until("it says so", || pool.status()["state"] == "degraded");
    assert!(pool.status()["degraded"].as_str().is_some_and(|reason| !reason.is_empty()));
    assert!(!pool.events_named("pool-degraded").is_empty());
    let mut client = pool.client();
    let request = client.submit(&code("'after all'"));
    pause(Duration::from_millis(1500));
    let count = std::fs::read_to_string(&tries).expect("it was tried").lines().count();
    assert!((2..=12).contains(&count), "100 ms, 200 ms, 400 ms, …: {count} tries");
    let real = pool_tests::binaries::binaries().worker.clone();
    std::fs::remove_file(&broken).expect("ours");
    std::os::unix::fs::symlink(real, &broken).expect("a link");
    assert_eq!(result(client.outcome(request)), "after all");
    until("it has recovered", || pool.status()["state"] == "running");
    assert_eq!(pool.events_named("pool-recovered").len(), 1);
}

#[test]
fn a_missing_worker_program_is_said_and_survived() {
    let folder = Folder::new();
    let path = folder.write_program("worker", "#!/bin/sh\nexit 1\n");
    let pool = Pool::launch(json!({"workerPath": path}), |_| {});
    std::fs::remove_file(&path).expect("ours");
    until("it says so, or refuses to start", || {
        !proc::alive(pool.pid())
            || pool.try_status().is_some_and(|status| status["state"] == "degraded")
    });
}

#[test]
fn an_idle_worker_killed_from_outside_is_replaced() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    pool.until_idle("js", 1);
    let pid = pool.pid_of(&json!("w0.1")).expect("it lives");
    assert!(proc::kill(pid));
    until("its replacement is ready", || {
        pool.workers().iter().any(|w| w["state"] == "idle" && w["workerId"] != "w0.1")
    });
    until("its end is on record", || causes(&pool) == ["killed-from-outside"]);
    assert_eq!(result(pool.run(code("1"))), 1);
}

#[test]
fn many_workers_dying_at_once_are_all_reaped_and_replaced() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 6, "maxWorkers": 6}}));
    pool.until_idle("js", 6);
    for worker in proc::workers_of(pool.pid()) {
        proc::kill(worker);
    }
    until("all are dead", || causes(&pool).len() == 6);
    pool.until_idle("js", 6);
    let zombies = proc::children(pool.pid())
        .into_iter()
        .filter(|c| proc::stat(*c).is_some_and(|s| s.state == 'Z'))
        .count();
    assert_eq!(zombies, 0);
}

#[test]
fn load_is_running_and_waiting_over_workers() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 2, "maxWorkers": 2}}));
    pool.until_idle("js", 2);
    let mut client = pool.client();
    for _ in 0..6 {
        client.submit(&hold());
    }
    until("two run and four wait", || {
        pool.status()["tasks"]["running"] == 2 && pool.status()["tasks"]["queued"] == 4
    });
    assert_eq!(pool.status()["load"], json!(3.0));
}

#[test]
fn no_worker_outlives_a_supervisor_that_is_killed() {
    let pool = Pool::start(json!({
        "pool": {"minWorkers": 2, "maxWorkers": 3},
        "shell": {"allow": [{"program": "/bin/sleep", "args": "[0-9]+"}]},
    }));
    pool.until_idle("js", 2);
    let _running = pool.submit(program("/bin/sleep", &["1000"]));
    let io = pool.busy_worker("io");
    let io = i32::try_from(io["pid"].as_i64().expect("a pid")).expect("a pid");
    let sleeping = until_some("the program runs", || proc::children(io).into_iter().next());
    // Between its fork and its exec the program still looks like its worker.
    let workers = until_some("three workers and nothing that looks like one", || {
        Some(proc::workers_of(pool.pid())).filter(|workers| workers.len() == 3)
    });
    pool.signal(Signal::KILL);
    until("nothing of it is left", || {
        workers.iter().chain([&sleeping]).all(|pid| !proc::alive(*pid))
    });
}

#[test]
fn the_worker_of_a_task_that_ran_out_of_time_is_replaced() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    let outcome = pool.run(with(code("for(;;);"), json!({"timeout": 50})));
    assert_eq!(error(&outcome), "TIMEOUT");
    let next = pool.run(code("1"));
    assert_ne!(next["workerId"], outcome["workerId"]);
    until("its end is on record", || causes(&pool) == ["deadline"]);
}

#[test]
fn a_lost_worker_is_told_with_its_exit() {
    // In a process namespace of its own a worker is its first process, to which SIGTERM does
    // nothing.
    let pool = Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}, "isolation": "off"}));
    pool.until_idle("js", 1);
    assert!(proc::signal(pool.pid_of(&json!("w0.1")).expect("it lives"), Signal::TERM));
    let dead = until_some("it is gone", || pool.dead_workers().into_iter().next());
    assert!(
        dead["verdict"]["evidence"]
            .as_str()
            .is_some_and(|e| e.contains("15") || e.contains("TERM") || e.contains("exit")),
        "{dead}"
    );
    let event: Value = pool.events_named("worker-terminated").remove(0);
    assert_eq!(event["verdict"], dead["verdict"]);
}
