//! Requests to the HTTP API that no honest client makes: rows 29 to 32 of what the pool must
//! survive.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use pool_tests::tasks::{code, with};
use pool_tests::wait::pause;
use pool_tests::{Pool, json, proc, unharmed, until};

/// A pool with its API, and two workers: one for a bystander.
fn pool() -> Pool {
    let pool = Pool::with_http(json!({"pool": {"minWorkers": 2, "maxWorkers": 2}}));
    pool.until_idle("js", 2);
    pool
}

/// Two hundred requests that come a byte at a time, some of which never get to their end.
#[test]
fn hostile_29_slow_headers_and_slow_bodies_hold_up_nobody_and_cost_bounded_memory() {
    let pool = pool();
    let api = pool.api();
    let before = proc::status_kib(pool.pid(), "VmRSS").expect("it lives");
    unharmed(&pool, || {
        let connect = |_| TcpStream::connect(&api.address).expect("it listens");
        let mut slow: Vec<TcpStream> = (0..200).map(connect).collect();
        let head = format!(
            "POST /api/tasks HTTP/1.1\r\nHost: {}\r\nX-API-Key: {}\r\nContent-Length: \
             8000000\r\n\r\n",
            api.address, api.key
        );
        for (n, stream) in slow.iter_mut().enumerate() {
            // Half of them have sent the headers whole, and are slow with the body.
            let text = if n % 2 == 0 { head.as_bytes() } else { &head.as_bytes()[..20] };
            let _ = stream.write_all(text);
        }
        for _ in 0..5 {
            pause(Duration::from_millis(100));
            for stream in &mut slow {
                let _ = stream.write_all(b"x");
            }
            assert_eq!(api.with("GET", "/healthz", &[], None).status, 200);
            assert_eq!(api.call("GET", "/api/process-pool/stats", None).status, 200);
        }
    });
    let grown = proc::status_kib(pool.pid(), "VmRSS").expect("it lives").saturating_sub(before);
    assert!(grown < 128 * 1024, "100 bodies of 8 MB were announced: {grown} KiB");
}

#[test]
fn hostile_29_slow_headers_are_not_waited_for_for_ever() {
    let pool = pool();
    let api = pool.api();
    let mut stream = TcpStream::connect(&api.address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time over zero");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHo").expect("it reads");
    let mut said = String::new();
    match stream.read_to_string(&mut said) {
        Ok(_) => assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}"),
        Err(error) => assert_eq!(
            error.kind(),
            std::io::ErrorKind::ConnectionReset,
            "it was left open for a minute"
        ),
    }
}

#[test]
fn hostile_29_broken_requests_are_4xx_or_closed() {
    let pool = pool();
    let api = pool.api();
    let key = format!("Host: {}\r\nX-API-Key: {}\r\n", api.address, api.key);
    let task = code("1").to_string();
    let bodied = |headers: &str, body: &str| {
        format!("POST /api/tasks HTTP/1.1\r\n{key}{headers}\r\n{body}").into_bytes()
    };
    let huge = |count: usize, size: usize| {
        let headers: String =
            (0..count).map(|n| format!("X-{n}: {}\r\n", "h".repeat(size))).collect();
        format!("GET /healthz HTTP/1.1\r\n{key}{headers}\r\n").into_bytes()
    };
    let before = proc::status_kib(pool.pid(), "VmRSS").expect("it lives");
    unharmed(&pool, || {
        for bytes in [
            bodied("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            bodied(&format!("Content-Length: {}\r\nContent-Length: 5\r\n", task.len()), &task),
            bodied("Content-Length: nine\r\n", &task),
            bodied("Content-Length: -1\r\n", &task),
            bodied("Transfer-Encoding: chunked\r\n", "ffffffffffffffffff\r\nx"),
            bodied("Content-Length: 9\r\n", "{\"type\"\u{0}:"),
            [
                &bodied("Content-Length: 30\r\n", "")[..],
                b"{\"type\":\"execute-code\",\"code\":\"\xff\xfe\"}",
            ]
            .concat(),
            b"\xff\xfe\xfd\r\n\r\n".to_vec(),
            b"GET /\r\n\r\n\r\n".to_vec(),
            b"GET /\xff HTTP/1.1\r\n\r\n".to_vec(),
            huge(1, 1 << 20),
            huge(2_000, 1_000),
        ] {
            let answer = api.bytes(&bytes);
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
            assert!(
                answer.status == 0 || (400..500).contains(&answer.status),
                "{shown}: {answer:?}"
            );
        }
    });
    assert_eq!(
        pool.status()["tasks"]["total"],
        2,
        "none of them was a task: the bystanders' alone"
    );
    let grown = proc::status_kib(pool.pid(), "VmRSS").expect("it lives").saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB");
}

#[test]
fn hostile_31_json_that_is_deep_doubled_or_out_of_range_and_odd_ids_are_400() {
    let pool = pool();
    let api = pool.api();
    let post =
        |text: &str| api.with("POST", "/api/tasks", &[("X-API-Key", &api.key)], Some(text)).status;
    unharmed(&pool, || {
        let deep = "[".repeat(100_000);
        let deep_objects = r#"{"type":"execute-code","code":"1","context":"#.to_owned()
            + &"{\"a\":".repeat(100_000);
        let closed = format!("{deep}{}", "]".repeat(100_000));
        for text in [
            &deep,
            &closed,
            &deep_objects,
            "",
            "nonsense",
            r#"{"type":"execute-code","code":"1","code":"2"}"#,
            r#"{"type":"execute-code","code":"1","timeout":1e400}"#,
            r#"{"type":"execute-code","code":"1","priority":1e400}"#,
            r#"{"type":"execute-code","code":"1","projectId":"../../etc"}x"#,
        ] {
            assert_eq!(post(text), 400, "{:.80}", text);
        }
        for id in ["../", "..%2f", "..%2f..%2fetc%2fpasswd", "%00", "a%0d%0ab", &"9".repeat(10_000)]
        {
            let answer = api.call("GET", &format!("/api/tasks/{id}"), None);
            // A path that is cleaned up on the way leads to no route at all.
            assert!([400, 404, 414, 431].contains(&answer.status), "{id:.40}: {answer:?}");
            let answer = api.call("DELETE", &format!("/api/tasks/{id}"), None);
            assert!([400, 404, 405, 414, 431].contains(&answer.status), "{id:.40}: {answer:?}");
        }
    });
    assert_eq!(pool.status()["tasks"]["total"], 2, "the bystanders' alone");
}

#[test]
fn hostile_30_every_route_but_the_health_ones_needs_the_key() {
    let pool = Pool::with_http(json!({}));
    let api = pool.api();
    let routes = [
        ("GET", "/api/process-pool/stats"),
        ("POST", "/api/process-pool/project-limit"),
        ("GET", "/api/process-pool/project-usage"),
        ("POST", "/api/tasks"),
        ("GET", "/api/tasks/7"),
        ("DELETE", "/api/tasks/7"),
        ("GET", "/api/events"),
    ];
    for (method, path) in routes {
        for headers in [
            &[][..],
            &[("X-API-Key", "wrong")],
            &[("Authorization", "Bearer wrong")],
            &[("X-API-Key", "")],
        ] {
            assert_eq!(
                api.with(method, path, headers, None).status,
                401,
                "{method} {path} {headers:?}"
            );
        }
    }
    let bearer = format!("Bearer {}", api.key);
    assert_eq!(
        api.with("GET", "/api/process-pool/stats", &[("Authorization", &bearer)], None).status,
        200
    );
    until("it is ready", || api.with("GET", "/readyz", &[], None).status == 200);
    for path in ["/healthz", "/metrics"] {
        assert_eq!(api.with("GET", path, &[], None).status, 200, "{path}");
    }
}

#[test]
fn hostile_30_a_foreign_host_is_refused() {
    let pool = Pool::with_http(json!({}));
    let api = pool.api();
    for host in ["example.org", "example.org:45678", "127.0.0.1.example.org", "127.0.0.1:1", ""] {
        let answer = api.with(
            "GET",
            "/api/process-pool/stats",
            &[("X-API-Key", &api.key), ("Host", host)],
            None,
        );
        assert!([400, 403].contains(&answer.status), "{host:?}: {answer:?}");
        assert!(host.is_empty() || answer.status == 403, "{host:?}: {answer:?}");
    }
}

#[test]
fn hostile_32_a_full_queue_is_a_429_with_retry_after() {
    let pool =
        Pool::with_http(json!({"pool": {"queueSize": 1}, "projects": {"paused": {"limit": 0}}}));
    let task = with(code("1"), json!({"projectId": "paused"}));
    assert_eq!(pool.api().call("POST", "/api/tasks", Some(&task)).status, 202);
    let full = pool.api().call("POST", "/api/tasks", Some(&task));
    assert_eq!(full.status, 429, "{full:?}");
    assert!(full.header("retry-after").is_some_and(|v| v.parse::<u32>().is_ok()), "{full:?}");
}
