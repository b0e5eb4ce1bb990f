//! What a task may use, and what a worker is: memory, CPU time, descriptors, environment.

use pool_tests::tasks::{code, error, function, hold, program, result, with};
use pool_tests::{Pool, Value, json, proc, until};

fn pid(row: &Value) -> i32 {
    i32::try_from(row["pid"].as_i64().expect("a pid")).expect("a pid")
}

fn served_on(pool: &Pool, before: &Value) {
    let next = pool.run(code("'next'"));
    assert_ne!(next["workerId"], before["workerId"], "the worker is not reused: {before}");
    assert_eq!(result(next), "next");
}

#[test]
fn an_endless_loop_ends_at_its_timeout() {
    let pool = Pool::start(json!({}));
    for source in [
        "for(;;);",
        "const f = () => Promise.resolve().then(f); f()",
        "(async () => { for (;;) await null })()",
        "/(a+)+$/.test('a'.repeat(40) + 'b')",
        "await new Promise(r => setTimeout(r, 1e6))",
    ] {
        let outcome = pool.run(with(code(source), json!({"timeout": 150})));
        assert_eq!(
            (outcome["status"].as_str(), error(&outcome)),
            (Some("timed-out"), "TIMEOUT"),
            "{source}: {outcome}"
        );
        served_on(&pool, &outcome);
    }
}

#[test]
fn a_loop_that_the_engine_cannot_interrupt_is_ended_by_force() {
    let pool = Pool::start(json!({}));
    let outcome = pool.run(with(
        code("Array.prototype.includes.call({length: 2**53 - 1}, 1)"),
        json!({"timeout": 150}),
    ));
    assert_eq!(
        (outcome["status"].as_str(), outcome["attempts"].as_u64()),
        (Some("timed-out"), Some(1)),
        "{outcome}"
    );
    served_on(&pool, &outcome);
}

#[test]
fn cpu_time_has_a_limit_of_its_own() {
    let pool = Pool::start(json!({"limits": {"cpuMs": 200}}));
    let outcome = pool.run(code("for(;;);"));
    assert_eq!(error(&outcome), "CPU_LIMIT", "{outcome}");
    assert_eq!(outcome["attempts"], 1);
    served_on(&pool, &outcome);
    assert_eq!(
        result(pool.run(code(
            "await new Promise(r => setTimeout(r, 400)); return 'waiting costs nothing'"
        ))),
        "waiting costs nothing"
    );
}

#[test]
fn cpu_time_is_counted_per_task_not_per_worker() {
    let pool =
        Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}, "limits": {"cpuMs": 500}}));
    for _ in 0..6 {
        let outcome = pool.run(code("const end = Date.now() + 150; while (Date.now() < end); 1"));
        assert_eq!(result(outcome), 1);
    }
    assert_eq!(pool.workers()[0]["workerId"], "w0.1", "one worker did it all");
}

#[test]
fn a_heap_that_grows_too_far_is_a_memory_limit_with_figures() {
    let pool = Pool::start(json!({"limits": {"memoryBytes": "48MiB"}}));
    for source in [
        "const a = []; for(;;) a.push({x: a.length})",
        "let s = 'x'; for(;;) { s += s; s.charCodeAt(s.length - 1); globalThis[s.length] = s }",
    ] {
        let outcome = pool.run(with(code(source), json!({"timeout": 60_000})));
        if source.contains("+=") && error(&outcome) == "JS_EXCEPTION" {
            continue; // a string over the engine's longest is a RangeError before it is a limit
        }
        assert_eq!(error(&outcome), "MEMORY_LIMIT", "{outcome}");
        assert!(
            outcome["error"]["message"]
                .as_str()
                .is_some_and(|m| m.chars().any(|c| c.is_ascii_digit())),
            "{outcome}"
        );
        assert_eq!(outcome["attempts"], 1);
        served_on(&pool, &outcome);
    }
}

#[test]
fn array_buffers_count_too() {
    let pool = Pool::start(json!({"limits": {"memoryBytes": "32MiB"}}));
    for source in
        ["new ArrayBuffer(1e9)", "const a = []; for (;;) a.push(new Uint8Array(1 << 20).fill(1))"]
    {
        let outcome = pool.run(with(code(source), json!({"maxAttempts": 1, "timeout": 60_000})));
        assert!(["MEMORY_LIMIT", "JS_EXCEPTION"].contains(&error(&outcome)), "{source}: {outcome}");
        if error(&outcome) == "JS_EXCEPTION" {
            assert_eq!(outcome["error"]["name"], "RangeError", "{outcome}");
        }
    }
    let small = pool.run(code("new Uint8Array(1 << 20).fill(7)[5]"));
    assert_eq!(result(small), 7);
}

#[test]
fn what_aborts_the_engine_ends_that_worker_alone() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 2, "maxWorkers": 2}}));
    let mut client = pool.client();
    let other = client.submit(&pool_tests::tasks::sleep(1500));
    let outcome = pool.run(with(code("'a'.repeat(2**28).split('')"), json!({"maxAttempts": 1})));
    assert!(["WORKER_CRASHED", "MEMORY_LIMIT"].contains(&error(&outcome)), "{outcome}");
    let neighbour = client.outcome(other);
    assert_eq!((neighbour["attempts"].as_u64(), result(neighbour)), (Some(1), json!("slept")));
    served_on(&pool, &outcome);
}

#[test]
fn deep_recursion_is_a_range_error_and_costs_no_worker() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    for source in [
        "(function f() { f() })()",
        "const p = new Proxy({}, {get: (t, k, self) => self[k]}); p.x",
        "const f = { toJSON() { return JSON.stringify(f) } }; JSON.stringify(f)",
    ] {
        let outcome = pool.run(with(code(source), json!({"maxAttempts": 1})));
        assert_eq!(outcome["error"]["name"], "RangeError", "{source}: {outcome}");
    }
    assert_eq!(pool.run(code("1"))["workerId"], "w0.1");
}

#[test]
fn a_result_nested_too_deep_is_refused_and_not_a_crash() {
    let pool = Pool::start(json!({}));
    let outcome = pool.run(with(
        code("let a = []; for (let i = 0; i < 1e5; i++) a = [a]; a"),
        json!({"maxAttempts": 1}),
    ));
    assert!(
        ["RESULT_NOT_SERIALIZABLE", "JS_EXCEPTION", "OUTPUT_LIMIT"].contains(&error(&outcome)),
        "{outcome}"
    );
}

#[test]
fn a_worker_has_few_descriptors_no_core_file_and_a_bounded_file_size() {
    let pool = Pool::start(json!({
        "limits": {"openFiles": 50, "fileBytes": "1MiB"},
        "shell": {"allow": [{"program": "/bin/true"}]},
    }));
    assert_eq!(result(pool.run(program("/bin/true", &[])))["exitCode"], 0);
    pool.until_idle("js", 1);
    for worker in pool.workers() {
        let pid = pid(&worker);
        // The lane that runs programs holds each of the list open besides.
        let files = proc::soft_limit(pid, "Max open files").expect("it is bounded");
        assert!((50..=51).contains(&files), "{worker}: {files}");
        assert_eq!(proc::soft_limit(pid, "Max core file size"), Some(0), "{worker}");
        assert_eq!(
            proc::soft_limit(pid, "Max address space"),
            None,
            "it breaks the engine: {worker}"
        );
    }
    let js = pid(&pool.workers_that_are("js", "idle")[0]);
    assert!(proc::soft_limit(js, "Max data size").is_some());
    assert_eq!(proc::soft_limit(js, "Max file size"), Some(0), "JavaScript writes no file at all");
}

#[test]
fn a_worker_has_an_empty_environment_and_no_descriptors_but_its_own() {
    let pool = Pool::start_with(json!({}), |c| {
        c.env("SECRET_TOKEN", "do-not-leak");
    });
    pool.until_idle("js", 1);
    let _client = pool.client();
    let worker = pid(&pool.workers()[0]);
    assert!(
        proc::environment(worker).is_empty(),
        "{:?}",
        String::from_utf8_lossy(&proc::environment(worker))
    );
    let links: Vec<String> = std::fs::read_dir(format!("/proc/{worker}/fd"))
        .expect("it lives")
        .filter_map(|e| Some(std::fs::read_link(e.ok()?.path()).ok()?.display().to_string()))
        .collect();
    assert!(links.len() <= 16, "{links:?}");
    let sockets = links.iter().filter(|l| l.starts_with("socket:")).count();
    assert_eq!(sockets, 1, "only the link to its supervisor: {links:?}");
    assert!(!links.iter().any(|l| l.contains(&pool.folder().text())), "{links:?}");
}

#[test]
fn a_program_may_not_write_more_than_the_file_limit() {
    let folder = pool_tests::Folder::new();
    let pool = Pool::start(json!({
        "limits": {"fileBytes": "64KiB"},
        "shell": {"allow": [{"program": "/bin/dd", "args": ".*"}]},
    }));
    let target = folder.join("big");
    let of = format!("of={}", target.display());
    let outcome = pool.run(program("/bin/dd", &["if=/dev/zero", &of, "bs=4096", "count=1000"]));
    assert_ne!(outcome["status"], "succeeded", "{outcome}");
    assert!(target.metadata().is_ok_and(|m| m.len() <= 64 * 1024));
}

#[test]
fn a_program_does_not_inherit_the_workers_descriptors_or_signals() {
    let pool = Pool::start(json!({"shell": {"allow": [{"program": "/bin/sh", "args": "(?s).*"}]}}));
    let shown = result(pool.run(program(
        "/bin/sh",
        &["-c", "ls /proc/$$/fd; exec grep -E 'SigBlk|SigIgn' /proc/self/status"],
    )));
    let text = shown["stdout"].as_str().expect("text");
    let descriptors: Vec<&str> = text.lines().filter(|l| l.parse::<u32>().is_ok()).collect();
    assert!(descriptors.iter().all(|d| ["0", "1", "2"].contains(d)), "{text}");
    assert!(text.contains("SigBlk:\t0000000000000000"), "{text}");
}

#[test]
fn a_large_argument_is_refused_before_it_reaches_an_engine() {
    let pool = Pool::start(json!({"limits": {"bodyBytes": "1MiB"}}));
    let task = function("a => a.length", json!(["x".repeat(2 << 20)]));
    let file = pool.folder().write("big.ndjson", task.to_string());
    let submitted = pool.ctl(&["submit", file.to_str().expect("ASCII")]);
    assert_ne!(submitted.code, 0);
    assert_eq!(submitted.json_lines()[0]["status"], "rejected", "{submitted:?}");
    let half = function("a => a.length", json!(["x".repeat(500_000)]));
    assert_eq!(result(pool.run(half)), 500_000);
}

#[test]
fn bodies_of_many_megabytes_go_there_and_back() {
    let pool = Pool::start(json!({}));
    let text = "y".repeat(6 << 20);
    let outcome = pool.run(function("a => a + '!'", json!([text])));
    assert_eq!(result(outcome).as_str().map(str::len), Some((6 << 20) + 1));
}

#[test]
fn memory_of_a_task_is_given_back_to_the_next() {
    let pool = Pool::start(json!({
        "pool": {"minWorkers": 1, "maxWorkers": 1, "heartbeatInterval": 1000},
        "limits": {"memoryBytes": "128MiB"},
    }));
    for _ in 0..12 {
        let outcome =
            pool.run(code("const a = []; for (let i = 0; i < 4e5; i++) a.push({i}); a.length"));
        assert_eq!(result(outcome), 400_000);
    }
    assert_eq!(
        pool.run(code("1"))["workerId"],
        "w0.1",
        "twelve times a third of the limit, one after the other"
    );
}

#[test]
fn a_held_task_can_be_looked_at_while_others_run() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 2, "maxWorkers": 2}}));
    let id = pool.submit(hold());
    until("it runs", || pool.task(&id)["state"] == "running");
    for n in 0..20 {
        assert_eq!(result(pool.run(code(&n.to_string()))), n);
    }
    assert_eq!(pool.task(&id)["state"], "running");
}

#[test]
fn the_kernels_cpu_limit_stands_behind_the_budget_of_the_task_that_runs() {
    let pool = Pool::start(json!({"limits": {"cpuMs": 5000}}));
    for _ in 0..2 {
        let id = pool.submit(hold());
        let worker = pid(&pool.busy_worker("js"));
        until("the limit is set", || {
            proc::soft_limit(worker, "Max cpu time").is_some_and(|secs| (5..=30).contains(&secs))
        });
        pool.cancel(&id);
        pool.outcome(&id);
    }
}

/// How long it takes is for `load spinners` to say.
#[test]
fn of_a_thousand_tasks_every_twentieth_spins_and_ends_as_a_timeout_and_all_others_succeed() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 2, "maxWorkers": 2, "autoScale": false}}));
    let spins = |n: usize| n % 20 == 10;
    let task = |n: usize| {
        let source = if spins(n) { "() => { for (;;); }" } else { "n => n + 1" };
        with(
            function(source, json!([n])),
            if spins(n) { json!({"timeout": 100}) } else { json!({}) },
        )
    };
    let outcomes = pool.run_all(&(0..1000).map(task).collect::<Vec<_>>());
    for (n, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome["attempts"], 1, "{n}: {outcome}");
        if spins(n) {
            assert_eq!(
                (&outcome["status"], error(outcome)),
                (&json!("timed-out"), "TIMEOUT"),
                "{n}: {outcome}"
            );
        } else {
            assert_eq!(result(outcome.clone()), n + 1, "{n}");
        }
    }
    assert_eq!(outcomes.iter().filter(|outcome| outcome["status"] == "timed-out").count(), 50);
}
