//! The HTTP API: the original's routes and shapes, the tasks, the events, the key.

use std::os::unix::fs::PermissionsExt;

use pool_tests::http::over_unix;
use pool_tests::tasks::{code, hold, sleep, with};
use pool_tests::{Pool, Value, json, until};

#[test]
fn stats_have_the_originals_shape() {
    let pool = Pool::with_http(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    pool.until_idle("js", 1);
    pool.run(with(code("1"), json!({"projectId": "my-project"})));
    pool.run(with(code("throw 1"), json!({"maxAttempts": 1})));
    let running = pool.submit(with(hold(), json!({"projectId": "my-project"})));
    until("it runs", || pool.task(&running)["state"] == "running");
    let answer = pool.api().call("GET", "/api/process-pool/stats", None);
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").is_some_and(|t| t.starts_with("application/json")));
    let stats = answer.json();
    assert_eq!(stats["workers"], json!({"total": 1, "available": 0, "busy": 1, "spawning": 0}));
    let tasks = &stats["tasks"];
    assert_eq!(
        (&tasks["queued"], &tasks["running"], &tasks["total"]),
        (&json!(0), &json!(1), &json!(3))
    );
    assert_eq!((&tasks["completed"], &tasks["failed"]), (&json!(1), &json!(1)));
    assert!(tasks["avgTime"].as_f64() > Some(0.0), "{stats}");
    assert_eq!(stats["load"], 1.0);
    assert_eq!(stats["projectUsage"]["my-project"], 1);
    assert!(stats["uptime"].as_f64() > Some(0.0));
}

#[test]
fn project_limit_sets_it_and_answers_with_it() {
    let pool = Pool::with_http(json!({}));
    let api = pool.api();
    let answer = api.call(
        "POST",
        "/api/process-pool/project-limit",
        Some(&json!({"projectId": "my-project", "limit": 5})),
    );
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!((&body["projectId"], &body["limit"]), (&json!("my-project"), &json!(5)));
    assert!(body["message"].is_string());
    let usage = api.call("GET", "/api/process-pool/project-usage", None).json();
    let own = &usage["my-project"];
    assert_eq!(
        (&own["used"], &own["limit"], &own["available"], &own["queued"]),
        (&json!(0), &json!(5), &json!(5), &json!(0))
    );
}

#[test]
fn a_malformed_limit_is_a_400_with_an_error() {
    let pool = Pool::with_http(json!({}));
    let api = pool.api();
    for body in [
        json!({"projectId": "p"}),
        json!({"limit": 5}),
        json!({"projectId": "p", "limit": -1}),
        json!({"projectId": "p", "limit": "5"}),
        json!({"projectId": "", "limit": 5}),
        json!({"projectId": "a b", "limit": 5}),
        json!([1]),
        json!({"projectId": "p", "limit": 5, "x": 1}),
    ] {
        let answer = api.call("POST", "/api/process-pool/project-limit", Some(&body));
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.json()["error"].is_string(), "{body}: {answer:?}");
    }
    assert!(pool.projects().get("p").is_none_or(|p| p["limit"].is_null()), "it changed nothing");
}

#[test]
fn a_task_is_accepted_with_202_and_can_be_asked_for() {
    let pool = Pool::with_http(json!({}));
    let api = pool.api();
    let answer = api.call("POST", "/api/tasks", Some(&sleep(300)));
    assert_eq!(answer.status, 202);
    let id = answer.json()["taskId"].as_str().expect("an id").to_owned();
    let state = api.call("GET", &format!("/api/tasks/{id}"), None);
    assert_eq!(state.status, 200);
    assert!(state.json()["state"].is_string() || state.json()["status"].is_string(), "{state:?}");
    until("it has ended", || {
        api.call("GET", &format!("/api/tasks/{id}"), None).json()["status"] == "succeeded"
    });
}

#[test]
fn with_wait_the_outcome_is_the_answer() {
    let pool = Pool::with_http(json!({}));
    let api = pool.api();
    let answer =
        api.call("POST", "/api/tasks?wait=30s", Some(&code("return \"Hello from worker\";")));
    assert_eq!(
        (answer.status, &answer.json()["result"]),
        (200, &json!("Hello from worker")),
        "{answer:?}"
    );
    let failed = api.call(
        "POST",
        "/api/tasks?wait=30s",
        Some(&with(code("throw 1"), json!({"maxAttempts": 1}))),
    );
    assert_eq!(
        (failed.status, &failed.json()["error"]["code"]),
        (200, &json!("JS_EXCEPTION")),
        "{failed:?}"
    );
    let slow = api.call("POST", "/api/tasks?wait=100ms", Some(&hold()));
    assert_eq!(slow.status, 202, "a wait that is over answers with the id: {slow:?}");
    assert!(slow.json()["taskId"].is_string());
}

#[test]
fn an_array_submits_a_batch() {
    let pool = Pool::with_http(json!({}));
    let api = pool.api();
    let batch = json!([code("1"), code("2"), code("3")]);
    let accepted = api.call("POST", "/api/tasks", Some(&batch));
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let waited = api.call("POST", "/api/tasks?wait=30s", Some(&batch));
    assert_eq!(waited.status, 200, "{waited:?}");
    let text = waited.json().to_string();
    for n in 1..=3 {
        assert!(text.contains(&format!("\"result\":{n}")), "{text}");
    }
}

#[test]
fn one_malformed_task_of_a_batch_refuses_it_whole_and_runs_nothing() {
    let pool = Pool::with_http(json!({}));
    let answer =
        pool.api().call("POST", "/api/tasks", Some(&json!([code("1"), {"type": "execute-code"}])));
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.text.contains("code"), "{answer:?}");
    assert_eq!(pool.status()["tasks"]["total"], 0);
}

#[test]
fn unknown_tasks_are_404_and_expired_ones_410() {
    let pool = Pool::with_http(json!({"pool": {"resultTtl": 100}}));
    let api = pool.api();
    assert_eq!(api.call("GET", "/api/tasks/7", None).status, 404);
    assert!([400, 404].contains(&api.call("GET", "/api/tasks/..%2f..%2fx", None).status));
    assert_eq!(api.call("DELETE", "/api/tasks/7", None).status, 404);
    let id = api.call("POST", "/api/tasks?wait=30s", Some(&code("1"))).json()["taskId"]
        .as_str()
        .expect("an id")
        .to_owned();
    until("it has expired", || api.call("GET", &format!("/api/tasks/{id}"), None).status == 410);
}

#[test]
fn delete_cancels() {
    let pool = Pool::with_http(json!({}));
    let api = pool.api();
    let id = pool.submit(hold());
    until("it runs", || pool.task(&id)["state"] == "running");
    let answer = api.call("DELETE", &format!("/api/tasks/{id}"), None);
    assert!((200..300).contains(&answer.status), "{answer:?}");
    assert_eq!(pool.outcome(&id)["status"], "cancelled");
}

#[test]
fn malformed_tasks_are_400_naming_the_field() {
    let pool = Pool::with_http(json!({}));
    let api = pool.api();
    for (task, field) in [
        (json!({"code": "1"}), "type"),
        (json!({"type": "execute-code"}), "code"),
        (with(code("1"), json!({"priority": 11})), "priority"),
        (with(code("1"), json!({"projectID": "p"})), "projectID"),
        (with(code("1"), json!({"retry": {"factor": 0}})), "retry.factor"),
    ] {
        let answer = api.call("POST", "/api/tasks", Some(&task));
        assert_eq!(answer.status, 400, "{task}");
        assert!(answer.text.contains(field), "{field}: {answer:?}");
    }
    for text in [
        "",
        "nonsense",
        "{\"type\":\"execute-code\",\"code\":\"1\",\"code\":\"2\"}",
        "{\"type\":\"execute-code\",\"code\":\"1\",\"timeout\":1e400}",
    ] {
        assert_eq!(
            api.with("POST", "/api/tasks", &[("X-API-Key", &api.key)], Some(text)).status,
            400,
            "{text}"
        );
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(api.with("POST", "/api/tasks", &[("X-API-Key", &api.key)], Some(&deep)).status, 400);
    assert_eq!(pool.status()["tasks"]["total"], 0);
}

#[test]
fn a_body_over_8_mib_is_a_413() {
    let pool = Pool::with_http(json!({}));
    let api = pool.api();
    let big = code(&format!("'{}'", "x".repeat(9 << 20))).to_string();
    let answer = api.with("POST", "/api/tasks", &[("X-API-Key", &api.key)], Some(&big));
    assert_eq!(answer.status, 413, "{:.200}", answer.text);
}

#[test]
fn the_key_file_is_made_at_first_start_with_mode_0600() {
    let pool = Pool::with_http(json!({}));
    let file = pool.socket().with_file_name("api.key");
    assert_eq!(file.metadata().expect("it was made").permissions().mode() & 0o7777, 0o600);
    assert!(pool.api().key.len() >= 32, "{}", pool.api().key);
}

#[test]
fn a_key_file_that_is_there_is_kept() {
    let folder = pool_tests::Folder::new();
    let file = folder.write("my.key", "0123456789abcdef0123456789abcdef0123456789abcdef\n");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("ours");
    let pool = Pool::with_http(json!({"http": {"keyFile": file}}));
    let status = pool.status();
    let address =
        status["http"].as_str().expect("it listens").trim_start_matches("http://").to_owned();
    let api = pool_tests::http::Api {
        address,
        key: "0123456789abcdef0123456789abcdef0123456789abcdef".to_owned(),
    };
    assert_eq!(api.call("GET", "/api/process-pool/stats", None).status, 200);
}

#[test]
fn health_ready_and_metrics() {
    let pool = Pool::with_http(json!({}));
    let api = pool.api();
    assert_eq!(api.with("GET", "/healthz", &[], None).status, 200);
    until("it is ready", || api.with("GET", "/readyz", &[], None).status == 200);
    pool.run(code("1"));
    let metrics = api.with("GET", "/metrics", &[], None);
    assert!(
        metrics.header("content-type").is_some_and(|t| t.starts_with("text/plain")),
        "{metrics:?}"
    );
    assert!(metrics.text.contains("# TYPE ") && metrics.text.contains("# HELP "), "{metrics:?}");
    for line in metrics.text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(
            value.parse::<f64>().is_ok() && name.starts_with(|c: char| c.is_ascii_alphabetic()),
            "{line}"
        );
    }
    pool.ask(&pool_protocol::control::ControlRequest::Ready);
}

#[test]
fn a_pool_that_drains_is_alive_and_not_ready() {
    let pool = Pool::with_http(json!({}));
    let api = pool.api();
    let id = pool.submit(hold());
    until("it runs", || pool.task(&id)["state"] == "running");
    pool.ask(&pool_protocol::control::ControlRequest::Drain);
    until("it says so", || api.with("GET", "/readyz", &[], None).status == 503);
    assert_eq!(api.with("GET", "/healthz", &[], None).status, 200);
    let refused = api.call("POST", "/api/tasks", Some(&code("1")));
    assert_eq!(refused.status, 503, "{refused:?}");
}

#[test]
fn events_are_sent_by_the_server_and_resumed_from_last_event_id() {
    let pool = Pool::with_http(json!({}));
    pool.run(code("1"));
    let api = pool.api();
    let mut all = api.event_stream(Some("0"));
    let first: Vec<(String, Value)> = (0..4).map(|_| all()).collect();
    assert_eq!(first[0].1["seq"], 1);
    assert!(
        first.iter().all(|(id, event)| id.parse() == Ok(event["seq"].as_u64().expect("a number")))
    );
    let mut rest = api.event_stream(Some(&first[1].0));
    assert_eq!(rest().1, first[2].1);
    let id = pool.submit(code("2"));
    loop {
        let (_, event) = rest();
        if event["event"] == "task-complete" && event["taskId"] == *id {
            break;
        }
    }
}

#[test]
fn the_same_routes_answer_on_a_unix_socket() {
    let pool = Pool::with_http(json!({}));
    let socket = pool.socket().with_file_name("api.sock");
    let key = pool.api().key;
    let answer = over_unix(&socket, "GET", "/api/process-pool/stats", &[("X-API-Key", &key)]);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["tasks"]["total"], 0);
    assert_eq!(over_unix(&socket, "GET", "/api/process-pool/stats", &[]).status, 401);
}

#[test]
fn unknown_routes_are_404_and_other_methods_405() {
    let pool = Pool::with_http(json!({}));
    let api = pool.api();
    assert_eq!(api.call("GET", "/api/nothing", None).status, 404);
    assert_eq!(api.call("DELETE", "/api/process-pool/stats", None).status, 405);
}
