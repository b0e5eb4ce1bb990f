//! What all tasks have in common, and how they end.

use pool_tests::server::{Reply, Server};
use pool_tests::tasks::{code, error, function, get, hold, program, result, sleep, with};
use pool_tests::{Pool, Value, json, until};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn a_success_holds_result_attempts_worker_and_receipt() {
    let pool = Pool::start(json!({}));
    let outcome = pool.run(code("({a: [1, null, 'x']})"));
    assert_eq!(outcome["status"], "succeeded");
    assert_eq!(outcome["result"], json!({"a": [1, null, "x"]}));
    assert_eq!(outcome["attempts"], 1);
    assert_eq!(outcome["workerId"], "w0.1");
    assert!(!outcome["taskId"].as_str().expect("an id").is_empty());
    let mut names = keys(&outcome);
    names.sort_unstable();
    assert_eq!(names, ["attempts", "receipt", "result", "status", "taskId", "workerId"]);
    let receipt = &outcome["receipt"];
    for figure in ["queuedMs", "runMs", "cpuMs"] {
        assert!(receipt[figure].as_f64().is_some_and(|ms| ms >= 0.0), "{figure}: {receipt}");
    }
    assert!(receipt["runMs"].as_f64() > Some(0.0));
    assert!(receipt["memoryBytes"].as_u64() > Some(100_000), "an engine's heap: {receipt}");
}

#[test]
fn a_failure_holds_code_name_message_and_stack() {
    let pool = Pool::start(json!({}));
    let outcome = pool.run(with(code("null.x"), json!({"maxAttempts": 1})));
    assert_eq!(outcome["status"], "failed");
    assert_eq!(outcome["error"]["code"], "JS_EXCEPTION");
    assert_eq!(outcome["error"]["name"], "TypeError");
    assert!(outcome["error"]["message"].as_str().is_some_and(|m| m.contains("null")), "{outcome}");
    assert!(
        outcome["error"]["stack"].as_str().is_some_and(|s| s.contains("TypeError")),
        "{outcome}"
    );
    assert!(outcome.get("result").is_none());
    assert!(outcome["receipt"]["runMs"].is_number());
}

#[test]
fn the_receipt_tells_waiting_from_running_and_wall_time_from_cpu_time() {
    let pool = Pool::start(json!({}));
    let waited = pool.run(with(code("1"), json!({"delay": 150})));
    assert!(waited["receipt"]["queuedMs"].as_f64() >= Some(150.0), "{waited}");
    let slept = pool.run(sleep(120));
    assert!(slept["receipt"]["runMs"].as_f64() >= Some(110.0), "{slept}");
    assert!(slept["receipt"]["cpuMs"].as_f64() < slept["receipt"]["runMs"].as_f64(), "{slept}");
    let busy = pool.run(code("let n = 0; for (let i = 0; i < 1e8; i++) n ^= i; 1"));
    assert!(busy["receipt"]["cpuMs"].as_f64() > Some(5.0), "{busy}");
}

#[test]
fn a_project_that_is_not_named_is_default() {
    let pool = Pool::start(json!({}));
    let id = pool.submit(hold());
    assert_eq!(pool.task(&id)["projectId"], "default");
    assert_eq!(pool.projects()["default"]["used"].as_u64().map(|n| n <= 1), Some(true));
}

#[test]
fn a_tag_is_given_back() {
    let pool = Pool::start(json!({}));
    assert_eq!(pool.run(with(code("1"), json!({"tag": "order 7/ü"})))["tag"], "order 7/ü");
}

#[test]
fn a_timeout_counts_from_the_start_of_the_attempt_not_from_the_queue() {
    let pool = Pool::start(json!({"projects": {"p": {"limit": 1}}}));
    let mine = |task| with(task, json!({"projectId": "p"}));
    // The second one has two seconds for what takes a moment, and waits for longer than that.
    let outcomes =
        pool.run_all(&[mine(sleep(2500)), mine(with(code("1"), json!({"timeout": 2000})))]);
    assert_eq!(result(outcomes[1].clone()), 1);
    assert!(outcomes[1]["receipt"]["queuedMs"].as_f64() > Some(2000.0), "{}", outcomes[1]);
}

#[test]
fn a_timeout_ends_the_task_as_timed_out() {
    let pool = Pool::start(json!({}));
    let outcome = pool.run(with(code("for(;;);"), json!({"timeout": 100})));
    assert_eq!(outcome["status"], "timed-out");
    assert_eq!(error(&outcome), "TIMEOUT");
    assert_eq!(outcome["attempts"], 1, "not retried by default: {outcome}");
    assert!(outcome["receipt"]["runMs"].as_f64() >= Some(100.0), "{outcome}");
}

#[test]
fn a_task_is_tried_three_times_unless_it_says_otherwise() {
    let pool = Pool::start(json!({}));
    let fast = json!({"retry": {"initialDelay": 1}});
    assert_eq!(pool.run(with(code("throw 1"), fast.clone()))["attempts"], 3);
    for attempts in [1, 2, 5] {
        let task = with(with(code("throw 1"), fast.clone()), json!({"maxAttempts": attempts}));
        assert_eq!(pool.run(task)["attempts"], attempts);
    }
}

#[test]
fn retries_wait_longer_each_time_up_to_the_longest_delay() {
    let pool = Pool::start(json!({}));
    let retry = json!({
        "maxAttempts": 5,
        "retry": {"initialDelay": 20, "factor": 3, "maxDelay": 100, "jitter": 0},
    });
    let outcome = pool.run(with(code("throw 1"), retry));
    assert_eq!(outcome["attempts"], 5);
    let delays: Vec<f64> =
        pool.events_named("task-retry").iter().filter_map(|e| e["duration"].as_f64()).collect();
    assert_eq!(delays, [20.0, 60.0, 100.0, 100.0]);
}

#[test]
fn retry_delays_vary_by_their_jitter() {
    let pool = Pool::start(json!({}));
    let retry =
        json!({"maxAttempts": 8, "retry": {"initialDelay": 40, "factor": 1, "jitter": 0.5}});
    assert_eq!(pool.run(with(code("throw 1"), retry))["attempts"], 8);
    let delays: Vec<f64> =
        pool.events_named("task-retry").iter().filter_map(|e| e["duration"].as_f64()).collect();
    assert!(delays.iter().all(|d| (20.0..=60.0).contains(d)), "{delays:?}");
    assert!(delays.iter().any(|d| (d - delays[0]).abs() > 0.001), "{delays:?}");
}

#[test]
fn a_task_that_succeeds_at_last_has_succeeded() {
    let count = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let server =
        Server::start(move |_| match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 | 1 => Reply::new("503 Service Unavailable", &[], "later"),
            _ => Reply::text("now"),
        });
    let pool = Pool::start(json!({"http": {"allow": [server.address()]}}));
    let outcome = pool
        .run(with(get(&server.url("/")), json!({"maxAttempts": 4, "retry": {"initialDelay": 5}})));
    assert_eq!(outcome["attempts"], 3);
    assert_eq!(result(outcome)["data"], "now");
}

#[test]
fn failures_of_the_run_are_retried_and_mistakes_in_the_task_are_not() {
    let server = Server::start(|_| Reply::new("500 Internal Server Error", &[], "no"));
    let pool = Pool::start(json!({
        "http": {"allow": [server.address(), "127.0.0.1:1"]},
        "shell": {"allow": [{"program": "/bin/false"}]},
        "js": {"moduleRoots": ["/usr/share"]},
    }));
    let cases = [
        (code("throw new Error('x')"), "JS_EXCEPTION", 2),
        (program("/bin/false", &[]), "COMMAND_FAILED", 2),
        (get(&server.url("/")), "HTTP_STATUS", 2),
        (get("http://127.0.0.1:1/"), "HTTP_ERROR", 2),
        (code("let 1 = 2"), "JS_SYNTAX", 1),
        (code("new Map()"), "RESULT_NOT_SERIALIZABLE", 1),
        (
            json!({"type": "execute-module", "modulePath": "/usr/share/none-such.mjs"}),
            "MODULE_NOT_FOUND",
            1,
        ),
        (json!({"type": "execute-module", "modulePath": "/etc/passwd.mjs"}), "MODULE_DENIED", 1),
        (program("/bin/true", &[]), "COMMAND_DENIED", 1),
        (get("http://127.0.0.1:2/"), "URL_DENIED", 1),
        (code("await new Promise(() => {})"), "PROMISE_NEVER_SETTLED", 1),
    ];
    for (task, name, attempts) in cases {
        let outcome = pool.run(with(task, json!({"maxAttempts": 2, "retry": {"initialDelay": 1}})));
        assert_eq!(
            (error(&outcome), outcome["attempts"].as_u64()),
            (name, Some(attempts)),
            "{outcome}"
        );
        assert_eq!(outcome["status"], "failed", "{outcome}");
        assert!(outcome["error"]["message"].as_str().is_some_and(|m| !m.is_empty()), "{outcome}");
    }
}

#[test]
fn a_delayed_task_waits_at_least_that_long_and_says_so() {
    let pool = Pool::start(json!({}));
    let mut client = pool.client();
    let request = client.submit(&with(code("1"), json!({"delay": 400})));
    let id = client.id(request);
    assert_eq!(pool.task(&id)["state"], "delayed");
    assert!(client.outcome(request)["receipt"]["queuedMs"].as_f64() >= Some(400.0));
}

#[test]
fn a_task_that_waits_for_its_next_attempt_is_retrying() {
    let pool = Pool::start(json!({}));
    let id = pool.submit(with(code("throw 1"), json!({"retry": {"initialDelay": 60_000}})));
    until("the first attempt has failed", || pool.task(&id)["state"] == "retrying");
    assert_eq!(pool.task(&id)["attempts"], 1);
}

#[test]
fn a_deadline_in_the_past_is_unreachable() {
    let pool = Pool::start(json!({}));
    for deadline in [json!(0), json!("2001-01-01T00:00:00Z")] {
        let outcome = pool.run(with(code("1"), json!({"deadline": deadline})));
        assert_eq!(
            (outcome["status"].as_str(), error(&outcome)),
            (Some("rejected"), "DEADLINE_UNREACHABLE"),
            "{outcome}"
        );
    }
    assert_eq!(
        result(pool.run(with(code("1"), json!({"deadline": "2999-01-01T00:00:00+02:00"})))),
        1
    );
}

#[test]
fn a_deadline_ends_a_task_that_waits_too_long_or_runs_too_long() {
    let pool = Pool::start(json!({"projects": {"paused": {"limit": 0}}}));
    let waiting = pool.run(with(code("1"), json!({"projectId": "paused", "deadline": 150})));
    assert_ne!(waiting["status"], "succeeded", "{waiting}");
    let running = pool.run(with(hold(), json!({"deadline": 300})));
    assert_eq!(running["status"], "timed-out", "{running}");
}

#[test]
fn the_same_idempotency_key_in_a_project_is_the_same_task() {
    let pool = Pool::start(json!({}));
    let keyed = |source: &str, project: &str| {
        with(code(source), json!({"idempotencyKey": "k-1", "projectId": project, "delay": 200}))
    };
    let mut client = pool.client();
    let first = client.submit(&keyed("1", "a"));
    let same = client.submit(&keyed("2", "a"));
    let other = client.submit(&keyed("3", "b"));
    let ids = [client.id(first), client.id(same), client.id(other)];
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    assert_eq!([client.outcome(first), client.outcome(same)].map(result), [json!(1), json!(1)]);
    assert_eq!(result(client.outcome(other)), 3);
    let later = pool.run(keyed("4", "a"));
    assert_eq!(
        (later["taskId"].as_str(), &later["result"]),
        (Some(ids[0].as_str()), &json!(1)),
        "known after its end too"
    );
}

#[test]
fn own_limits_can_be_lower_than_the_pools_and_never_higher() {
    let pool = Pool::start(json!({"limits": {"cpuMs": 300, "memoryBytes": "32MiB"}}));
    let spin = with(code("for(;;);"), json!({"timeout": 20_000}));
    let lower = pool.run(with(spin.clone(), json!({"limits": {"cpuMs": 50}})));
    assert_eq!(error(&lower), "CPU_LIMIT", "{lower}");
    assert!(lower["receipt"]["cpuMs"].as_f64() < Some(290.0), "{lower}");
    let higher = pool.run(with(spin, json!({"limits": {"cpuMs": 1_000_000}})));
    assert_eq!(error(&higher), "CPU_LIMIT", "{higher}");
    let hungry = with(
        code("const a = []; for (;;) a.push(new Array(1000).fill(a.length))"),
        json!({"timeout": 20_000}),
    );
    let memory = pool.run(with(hungry, json!({"limits": {"memoryBytes": 4_000_000_000_u64}})));
    assert_eq!(error(&memory), "MEMORY_LIMIT", "{memory}");
}

#[test]
fn a_full_queue_refuses_at_the_door() {
    let pool = Pool::start(
        json!({"pool": {"queueSize": 3}, "projects": {"paused": {"limit": 0, "maxQueued": 9}}}),
    );
    let waiting = with(code("1"), json!({"projectId": "paused"}));
    let mut client = pool.client();
    for _ in 0..3 {
        let request = client.submit(&waiting);
        client.id(request);
    }
    let refused = pool.run(waiting);
    assert_eq!(
        (refused["status"].as_str(), error(&refused)),
        (Some("rejected"), "QUEUE_FULL"),
        "{refused}"
    );
    assert_eq!(pool.events_named("queue-full").len(), 1);
}

#[test]
fn a_projects_own_bound_on_waiting_tasks_refuses_with_project_quota() {
    let pool = Pool::start(json!({"projects": {"p": {"limit": 0, "maxQueued": 2}}}));
    let mine = with(code("1"), json!({"projectId": "p"}));
    let mut client = pool.client();
    for _ in 0..2 {
        let request = client.submit(&mine);
        client.id(request);
    }
    assert_eq!(error(&pool.run(mine)), "PROJECT_QUOTA");
    assert_eq!(result(pool.run(code("1"))), 1, "others are not concerned");
}

#[test]
fn too_large_a_result_is_an_output_limit() {
    let pool = Pool::start(json!({"limits": {"resultBytes": "64KiB"}}));
    let outcome = pool.run(code("'x'.repeat(100000)"));
    assert_eq!(error(&outcome), "OUTPUT_LIMIT", "{outcome}");
    assert_eq!(result(pool.run(code("'x'.repeat(1000).length"))), 1000);
}

#[test]
fn a_death_of_the_tasks_own_doing_is_retried_once_at_most() {
    let pool = Pool::start(json!({}));
    let task = with(
        code("'a'.repeat(2**28).split('')"),
        json!({"maxAttempts": 5, "retry": {"initialDelay": 1}}),
    );
    let outcome = pool.run(task);
    assert_eq!(error(&outcome), "WORKER_CRASHED", "{outcome}");
    assert_eq!(outcome["attempts"], 2, "{outcome}");
    assert_eq!(outcome["error"]["verdict"]["cause"], "engine-fatal", "{outcome}");
    assert!(!outcome["error"]["verdict"]["evidence"].as_str().expect("evidence").is_empty());
}

#[test]
fn a_death_from_outside_is_retried_up_to_max_attempts() {
    let pool = Pool::start(json!({}));
    let mut client = pool.client();
    let request =
        client.submit(&with(hold(), json!({"maxAttempts": 3, "retry": {"initialDelay": 1}})));
    let id = client.id(request);
    for attempt in 1..=3 {
        until("the attempt runs", || {
            pool.task(&id)["attempts"] == attempt && pool.task(&id)["state"] == "running"
        });
        let pid = pool.pid_of(&pool.task(&id)["workerId"]).expect("it lives");
        assert!(pool_tests::proc::kill(pid));
    }
    let outcome = client.outcome(request);
    assert_eq!(
        (error(&outcome), outcome["attempts"].as_u64()),
        ("WORKER_CRASHED", Some(3)),
        "{outcome}"
    );
    assert_eq!(outcome["error"]["verdict"]["cause"], "killed-from-outside", "{outcome}");
    assert!(
        outcome["error"]["verdict"]["evidence"]
            .as_str()
            .is_some_and(|e| e.contains('9') || e.contains("KILL"))
    );
}

#[test]
fn outcomes_are_kept_for_result_ttl_and_no_longer() {
    let pool = Pool::start(json!({"pool": {"resultTtl": 300}}));
    let id = pool.submit(code("7"));
    assert_eq!(result(pool.outcome(&id)), 7);
    let asked = pool_protocol::control::ControlRequest::Task {
        task: id.parse::<pool_protocol::id::TaskId>().expect("an id").0,
    };
    until("the outcome is dropped", || pool.try_ask(&asked).is_err());
}

#[test]
fn all_five_types_give_the_same_kind_of_outcome() {
    let server = Server::start(|_| Reply::json(&json!({"n": 1})));
    let folder = pool_tests::Folder::new();
    folder.write("one.mjs", "export default () => 1");
    let pool = Pool::start(json!({
        "http": {"allow": [server.address()]},
        "shell": {"allow": [{"program": "/bin/true"}]},
        "js": {"moduleRoots": [folder.text()]},
    }));
    let tasks = [
        code("1"),
        function("() => 1", json!([])),
        json!({"type": "execute-module", "modulePath": format!("{}/one.mjs", folder.text())}),
        get(&server.url("/")),
        program("/bin/true", &[]),
    ];
    for outcome in pool.run_all(&tasks) {
        assert_eq!(outcome["status"], "succeeded", "{outcome}");
        assert!(
            outcome["receipt"]["runMs"].is_number() && outcome["workerId"].is_string(),
            "{outcome}"
        );
    }
}

#[test]
fn a_durable_task_is_refused_rather_than_promised_what_is_not_there() {
    let pool = Pool::start(json!({}));
    let outcome = pool.run(with(code("1"), json!({"durable": true})));
    assert_eq!(
        (outcome["status"].as_str(), error(&outcome)),
        (Some("rejected"), "INVALID_TASK"),
        "{outcome}"
    );
    assert!(
        outcome["error"]["message"].as_str().is_some_and(|m| m.contains("durable")),
        "{outcome}"
    );
    assert_eq!(result(pool.run(with(code("1"), json!({"durable": false})))), 1);
}
