//! What each route answers, and what is refused.

use support::{Api, BODY_BYTES, Events, KEY, api};

use super::support;

fn submits(api: &Api) -> usize {
    api.supervisor.seen().iter().filter(|seen| seen.starts_with("submit")).count()
}

#[test]
fn every_route_but_the_health_ones_needs_the_key() {
    let api = api();
    for (method, path) in [
        ("GET", "/api/process-pool/stats"),
        ("POST", "/api/process-pool/project-limit"),
        ("GET", "/api/process-pool/project-usage"),
        ("POST", "/api/tasks"),
        ("GET", "/api/tasks/1"),
        ("DELETE", "/api/tasks/1"),
        ("GET", "/api/events"),
        ("GET", "/no/such/route"),
    ] {
        for headers in ["", "X-API-Key: wrong\r\n", "Authorization: Bearer wrong\r\n"] {
            let reply = api.ask_with(method, path, headers, "");
            assert_eq!(reply.status, 401, "{method} {path} {headers}");
            assert!(reply.head.contains("www-authenticate: bearer"), "{}", reply.head);
        }
    }
    assert_eq!(api.supervisor.seen(), ["hello http"], "nothing was asked of the supervisor");
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_ne!(api.ask_with("GET", path, "", "").status, 401, "{path}");
    }
    // The gate comes before the routes: what it refuses is not about the method.
    let wrong_method = api.ask_with("GET", "/api/tasks", "", "");
    assert_eq!(
        (wrong_method.status, wrong_method.head.contains("allow:")),
        (401, false),
        "{}",
        wrong_method.head
    );
    let bearer = format!("Authorization: Bearer {KEY}\r\n");
    assert_eq!(api.ask_with("GET", "/api/process-pool/stats", &bearer, "").status, 200);
}

#[test]
fn a_host_that_is_not_the_bound_address_is_refused() {
    let api = api();
    let addr = api.addr;
    let ask = |target: &str, hosts: &str| {
        let key = format!("X-API-Key: {KEY}\r\nConnection: close\r\n");
        api.raw(format!("GET {target} HTTP/1.1\r\n{hosts}{key}\r\n")).status
    };
    assert_eq!(ask("/healthz", &format!("Host: {addr}\r\n")), 200);
    assert_eq!(ask("/healthz", &format!("Host: localhost:{}\r\n", addr.port())), 200);
    assert_eq!(ask(&format!("http://{addr}/healthz"), &format!("Host: {addr}\r\n")), 200);
    assert_eq!(ask("/healthz", "Host: evil.example\r\n"), 403);
    assert_eq!(ask("/healthz", "Host: 127.0.0.1\r\n"), 403);
    assert_eq!(ask("/api/process-pool/stats", "Host: evil.example\r\n"), 403);
    assert_eq!(ask("http://evil.example/healthz", &format!("Host: {addr}\r\n")), 403);
    assert_eq!(ask("/healthz", ""), 400);
    assert_eq!(ask("/healthz", &format!("Host: {addr}\r\nHost: {addr}\r\n")), 400);
}

#[test]
fn stats_usage_health_and_metrics_are_the_supervisors_own() {
    let api = api();
    assert_eq!(api.ask("GET", "/api/process-pool/stats", "").json()["load"], 0.5);
    assert_eq!(api.ask("GET", "/api/process-pool/project-usage", "").json()["p"]["available"], 4);
    assert_eq!(api.ask("GET", "/healthz", "").status, 200);
    let ready = api.ask("GET", "/readyz", "");
    assert_eq!(
        (ready.status, ready.json()["reason"].as_str()),
        (503, Some("no worker is ready yet"))
    );
    let metrics = api.ask("GET", "/metrics", "");
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
    assert_eq!(metrics.body, "process_pool_load 0.5\n");
}

#[test]
fn a_projects_limit_is_set_and_a_malformed_one_is_refused_with_400() {
    let api = api();
    let path = "/api/process-pool/project-limit";
    let reply = api.ask("POST", path, r#"{"projectId":"my-project","limit":5}"#);
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.json(),
        serde_json::json!({"message": "set", "projectId": "my-project", "limit": 5})
    );
    let lifted = api.ask("POST", path, r#"{"projectId":"my-project","limit":null}"#);
    assert_eq!((lifted.status, &lifted.json()["message"]), (200, &serde_json::json!("lifted")));
    for (body, field) in [
        ("", "JSON"),
        (r#"{"projectId":"a"}"#, "limit"),
        ("{}", "projectId"),
        (r#"{"projectId":"a","limit":-1}"#, "limit"),
        (r#"{"projectId":"a","limit":"5"}"#, "limit"),
        (r#"{"projectId":"a b","limit":5}"#, "projectId"),
        (r#"{"projectId":"a","limit":5,"limt":5}"#, "limt"),
    ] {
        let reply = api.ask("POST", path, body);
        assert_eq!(reply.status, 400, "{body}");
        assert!(reply.error().contains(field), "{body}: {}", reply.error());
    }
    let set = api.supervisor.seen().iter().filter(|seen| seen.starts_with("SetLimit")).count();
    assert_eq!(set, 1, "a refused request changes nothing");
}

#[test]
fn a_task_is_answered_with_its_id_or_after_a_wait_with_its_outcome() {
    let api = api();
    let task = r#"{"type":"execute-code","code":"6*7","projectId":"fast"}"#;
    let accepted = api.ask("POST", "/api/tasks", task);
    assert_eq!(accepted.status, 202);
    assert!(accepted.json()["taskId"].is_string(), "{}", accepted.body);
    let outcome = api.ask("POST", "/api/tasks?wait=30s", task);
    assert_eq!(outcome.status, 200);
    assert_eq!(
        (&outcome.json()["status"], &outcome.json()["result"]),
        (&"succeeded".into(), &42.into())
    );
    let waited = api.ask("POST", "/api/tasks?wait=50ms", &task.replace("fast", "slow"));
    assert_eq!(waited.status, 202);
    assert!(waited.json()["taskId"].is_string(), "{}", waited.body);
    assert_eq!(submits(&api), 3);
    let seen = api.supervisor.seen();
    let ends: Vec<_> = seen.iter().filter(|seen| seen.starts_with("end")).collect();
    let wait = seen.iter().filter(|seen| seen.starts_with("Wait")).count();
    assert_eq!(
        (wait, ends.len()),
        (2, 1),
        "the wait that was too long is taken back, and no task: {seen:?}"
    );
}

/// Row 57 of what the pool must survive: what the API has not passed on, nobody has received.
#[test]
fn an_outcome_that_comes_while_its_wait_is_taken_back_is_passed_on() {
    let api = api();
    let reply = api.ask(
        "POST",
        "/api/tasks?wait=50ms",
        r#"{"type":"execute-code","code":"1","projectId":"close"}"#,
    );
    assert_eq!((reply.status, &reply.json()["result"]), (200, &42.into()));
}

/// Row 60 of what the pool must survive.
#[test]
fn the_reply_to_an_array_is_bounded_in_bytes_and_names_the_tasks_that_did_not_fit() {
    let api = api();
    let task = r#"{"type":"execute-code","code":"1","projectId":"large"}"#;
    let reply = api.ask("POST", "/api/tasks?wait=30s", &format!("[{}]", vec![task; 500].join(",")));
    assert_eq!(reply.status, 202, "not all are there");
    assert!(reply.body.len() < 64 << 20, "{} bytes", reply.body.len());
    let json = reply.json();
    let items = json.as_array().expect("an array");
    assert_eq!(items.len(), 500);
    let whole = items.iter().take_while(|item| item["result"].is_string()).count();
    assert!((7..=13).contains(&whole), "{whole} of 4 MiB are shown");
    assert!(
        items[whole..].iter().all(|item| item["taskId"].is_string() && item["status"].is_null())
    );
    let asked = api.supervisor.seen().iter().filter(|seen| seen.starts_with("Wait")).count();
    assert_eq!(asked, whole, "what is not passed on was not asked for");
}

#[test]
fn a_malformed_task_is_refused_naming_the_field_and_changes_nothing() {
    let api = api();
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let in_context =
        |json: &str| format!(r#"{{"type":"execute-code","code":"1","context":{{"x":{json}}}}}"#);
    for (body, said) in [
        ("".to_owned(), "JSON"),
        ("nonsense".to_owned(), "JSON"),
        ("{}".to_owned(), "`type`"),
        ("17".to_owned(), "the task must be a JSON object, not 17"),
        (r#"{"type":"execute-code"}"#.to_owned(), "`code`"),
        (r#"{"type":"execute-code","code":"1","priority":11}"#.to_owned(), "`priority`"),
        (r#"{"type":"execute-code","code":"1","prio":1}"#.to_owned(), "`prio`"),
        (r#"{"type":"execute-code","code":"1","code":"2"}"#.to_owned(), "`code` is given twice"),
        (in_context(r#"{"a":1,"a":2}"#), "field `context.x.a` is given twice"),
        (in_context("1e400"), "`context.x` must be a number that a double can hold"),
        (in_context(&deep), "field `context.x` is nested in more than 1000 levels"),
        (deep.clone(), "nested in more than 1000 levels"),
    ] {
        let reply = api.ask("POST", "/api/tasks", &body);
        assert_eq!(reply.status, 400, "{said}: {reply:?}");
        assert!(reply.error().contains(said), "{said}: {}", reply.error());
        assert_eq!(reply.json()["code"], "INVALID_TASK", "{said}");
    }
    let tagged = api.ask("POST", "/api/tasks", r#"{"type":"execute-code","tag":"mine"}"#).json();
    assert_eq!(tagged["tag"], "mine", "{tagged}");
    let host = api.addr;
    let head = format!(
        "POST /api/tasks HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {KEY}\r\nConnection: close\r\n"
    );
    let reply = api.raw([head.as_bytes(), b"Content-Length: 3\r\n\r\n\"\xff\""].concat());
    assert_eq!(reply.status, 400, "bytes that are no UTF-8");
    for query in ["wait=soon", "wait=2h", "wiat=1s", "wait=1s&wait=2s"] {
        let reply = api.ask(
            "POST",
            &format!("/api/tasks?{query}"),
            r#"{"type":"execute-code","code":"1"}"#,
        );
        assert_eq!(reply.status, 400, "{query}");
    }
    assert_eq!(submits(&api), 0);
}

#[test]
fn an_array_submits_a_batch_whole_or_not_at_all() {
    let api = api();
    let task =
        |project: &str| format!(r#"{{"type":"execute-code","code":"1","projectId":"{project}"}}"#);
    let bad = format!("[{},{{\"type\":\"execute-code\"}}]", task("fast"));
    let reply = api.ask("POST", "/api/tasks", &bad);
    assert_eq!(
        (reply.status, reply.error()),
        (400, "task [1]: field `code` is missing".to_owned())
    );
    assert_eq!(api.ask("POST", "/api/tasks", "[]").status, 400);
    assert_eq!(submits(&api), 0);

    let reply = api.ask("POST", "/api/tasks", &format!(" [{},{}]", task("a"), task("b")));
    assert_eq!((reply.status, reply.json()["taskIds"].as_array().map(Vec::len)), (202, Some(2)));

    let mixed = api.ask("POST", "/api/tasks", &format!("[{},{}]", task("a"), task("full"))).json();
    assert!(mixed["taskIds"][0].is_string() && mixed["taskIds"][1].is_null(), "{mixed}");
    assert_eq!(
        (&mixed["rejected"][0]["index"], &mixed["rejected"][0]["code"]),
        (&1.into(), &"QUEUE_FULL".into())
    );
    assert_eq!(api.ask("POST", "/api/tasks", &format!("[{}]", task("full"))).status, 429);

    let all = api.ask("POST", "/api/tasks?wait=10s", &format!("[{},{}]", task("a"), task("b")));
    assert_eq!((all.status, &all.json()[1]["result"]), (200, &42.into()));
    let some = api.ask(
        "POST",
        "/api/tasks?wait=50ms",
        &format!("[{},{},{}]", task("a"), task("slow"), task("full")),
    );
    assert_eq!((some.status, &some.json()[0]["result"]), (202, &42.into()));
    assert!(some.json()[1]["taskId"].is_string(), "{}", some.body);
    assert_eq!(some.json()[2]["error"]["code"], "QUEUE_FULL");
}

#[test]
fn a_full_queue_is_429_with_retry_after_and_a_stopping_pool_503() {
    let api = api();
    for (project, status, code) in [
        ("full", 429, "QUEUE_FULL"),
        ("quota", 429, "PROJECT_QUOTA"),
        ("closing", 503, "SHUTTING_DOWN"),
        ("late", 400, "DEADLINE_UNREACHABLE"),
    ] {
        let task = format!(r#"{{"type":"execute-code","code":"1","projectId":"{project}"}}"#);
        for path in ["/api/tasks", "/api/tasks?wait=5s"] {
            let reply = api.ask("POST", path, &task);
            assert_eq!((reply.status, &reply.json()["code"]), (status, &code.into()), "{project}");
            assert_eq!(reply.error(), "refused at the door");
            assert_eq!(reply.head.contains("retry-after: 1"), status == 429, "{}", reply.head);
        }
    }
}

#[test]
fn a_body_over_the_cap_is_413() {
    let api = api();
    let host = api.addr;
    let head = format!(
        "POST /api/tasks HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {KEY}\r\nConnection: close\r\n"
    );
    let announced = api.raw(format!("{head}Content-Length: {}\r\n\r\n", BODY_BYTES + 1));
    assert_eq!(announced.status, 413);
    assert!(announced.error().contains("limits.bodyBytes"), "{}", announced.error());
    assert_eq!(api.raw(format!("{head}Content-Length: 99999999999999999\r\n\r\n")).status, 413);
    let fits = format!(r#"{{"type":"execute-code","code":"{}"}}"#, "x".repeat(BODY_BYTES - 40));
    assert_eq!(api.ask("POST", "/api/tasks", &fits).status, 202);
}

#[test]
fn a_task_is_shown_or_cancelled_by_its_id() {
    let api = api();
    assert_eq!(api.ask("GET", "/api/tasks/1", "").json()["state"], "running");
    assert_eq!(api.ask("GET", "/api/tasks/2", "").json()["result"], "done");
    assert_eq!(api.ask("DELETE", "/api/tasks/1", "").json()["message"], "cancelled");
    for method in ["GET", "DELETE"] {
        let unknown = api.ask(method, "/api/tasks/3", "");
        assert_eq!((unknown.status, unknown.error()), (404, "Unknown it is".to_owned()));
        assert_eq!(api.ask(method, "/api/tasks/4", "").status, 410);
        for id in [
            "../",
            "../stats",
            "..%2f..%2fetc",
            "%ff",
            "UPPER",
            "1/2",
            "zzzzzzzzzzzzzzzz",
            "-1",
            "%00",
        ] {
            let reply = api.ask(method, &format!("/api/tasks/{id}"), "");
            assert_eq!(reply.status, 400, "{method} {id}: {reply:?}");
            assert!(reply.error().contains("task id"), "{id}: {}", reply.error());
        }
    }
}

#[test]
fn a_client_from_before_a_restart_is_told_and_gets_all_that_is_kept() {
    let api = api();
    let mut events = Events::open(&api, "Last-Event-ID: 40\r\n");
    let lines = events.until(r#"data: {"seq":3,"time":"t","event":"task-queued"}"#);
    let ids: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids, ["0", "1", "2", "3"], "{lines:?}");
    let gap = lines
        .iter()
        .find(|line| line.contains("events-lost") && line.starts_with("data: "))
        .expect("a gap");
    assert!(gap.contains("started anew since event 40"), "{gap}");
}

#[test]
fn with_wait_a_task_is_shown_as_soon_as_it_has_ended_or_as_it_is_when_the_time_is_over() {
    let api = api();
    assert_eq!(api.ask("GET", "/api/tasks/9?wait=30s", "").json()["result"], 42);
    let slow = format!("/api/tasks/{}?wait=20ms", pool_protocol::id::TaskId((1 << 32) + 1));
    let state = api.ask("GET", &slow, "");
    assert_eq!((state.status, &state.json()["state"]), (200, &"running".into()), "{state:?}");
    assert!(
        api.supervisor.seen().iter().any(|seen| seen.starts_with("end ")),
        "the wait was taken back"
    );
    for query in ["wait=soon", "wait=2h", "wiat=1s"] {
        assert_eq!(api.ask("GET", &format!("/api/tasks/1?{query}"), "").status, 400, "{query}");
    }
}

#[test]
fn an_unknown_route_is_404_and_a_wrong_method_405_with_what_is_allowed() {
    let api = api();
    for path in ["/", "/api", "/api/tasks/", "/api/process-pool/stat", "/index.html"] {
        let reply = api.ask("GET", path, "");
        assert_eq!((reply.status, reply.error()), (404, format!("there is no {path}")));
    }
    for (method, path, allowed) in [
        ("GET", "/api/tasks", "allow: post"),
        ("POST", "/api/tasks/1", "allow: get,head,delete"),
        ("DELETE", "/api/process-pool/stats", "allow: get,head"),
        ("PUT", "/api/process-pool/project-limit", "allow: post"),
    ] {
        let reply = api.ask(method, path, "");
        assert_eq!(reply.status, 405, "{method} {path}");
        assert!(reply.head.contains(allowed), "{}", reply.head);
        assert!(reply.error().contains(method));
    }
}

#[test]
fn events_stream_from_the_last_event_id_on() {
    let api = api();
    let mut events = Events::open(&api, "Last-Event-ID: 1\r\n");
    let lines = events.until(r#"data: {"seq":3,"time":"t","event":"task-queued"}"#);
    assert!(lines[0].starts_with("HTTP/1.1 200"), "{lines:?}");
    assert!(lines.iter().any(|line| line == "content-type: text/event-stream"), "{lines:?}");
    assert!(
        lines.iter().any(|line| line == ": 1 events of those wanted are no longer kept"),
        "{lines:?}"
    );
    let ids: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids, ["2", "3"], "{lines:?}");
    let gap = lines.iter().position(|line| line == "id: 2").expect("just seen");
    assert_eq!(lines[gap + 1], "event: events-lost");
    let event = lines.iter().position(|line| line == "id: 3").expect("just seen");
    assert_eq!(lines[event + 1], "event: task-queued");
    api.supervisor.wait_for("events Some(1) 1");
    api.supervisor
        .send(super::support::EVENT, 1, br#"{"seq":4,"event":"scaled-up"}"#)
        .expect("sent");
    events.until("id: 4");
    drop(events);
    api.supervisor.wait_for("end 1");
    assert_eq!(
        api.ask_with(
            "GET",
            "/api/events",
            &format!("X-API-Key: {KEY}\r\nLast-Event-ID: x\r\n"),
            ""
        )
        .status,
        400
    );
}
