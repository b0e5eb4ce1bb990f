//! `http-request`: what is sent, what comes back, and what is never reached.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use pool_tests::server::{Reply, Server};
use pool_tests::tasks::{error, get, result, with};
use pool_tests::{Pool, Value, json};

fn pool_for(servers: &[&Server]) -> Pool {
    let allow: Vec<String> = servers.iter().map(|s| s.address()).collect();
    Pool::start(json!({"http": {"allow": allow}}))
}

#[test]
fn a_reply_becomes_status_headers_and_data() {
    let server = Server::start(|request| match request.path.as_str() {
        "/json" => Reply::new(
            "200 OK",
            &[("Content-Type", "application/json; charset=utf-8"), ("X-Own", "v")],
            r#"{"a":[1]}"#,
        ),
        "/problem" => {
            Reply::new("200 OK", &[("Content-Type", "application/problem+json")], r#"{"p":1}"#)
        }
        "/text" => Reply::text("grüß"),
        _ => Reply::new(
            "200 OK",
            &[("Content-Type", "application/octet-stream")],
            [0xff, 0x00, 0xfe],
        ),
    });
    let pool = pool_for(&[&server]);
    let json = result(pool.run(get(&server.url("/json"))));
    assert_eq!(json["status"], 200);
    assert_eq!(json["data"], json!({"a": [1]}));
    assert_eq!(json["headers"]["x-own"], "v");
    assert_eq!(result(pool.run(get(&server.url("/problem"))))["data"], json!({"p": 1}));
    assert_eq!(result(pool.run(get(&server.url("/text"))))["data"], "grüß");
    assert_eq!(result(pool.run(get(&server.url("/bytes"))))["data"], json!({"base64": "/wD+"}));
}

#[test]
fn method_headers_query_and_body_are_sent_as_given() {
    let server = Server::start(|_| Reply::text("ok"));
    let pool = pool_for(&[&server]);
    let send = |fields: Value| {
        assert_eq!(result(pool.run(with(get(&server.url("/p?a=1")), fields)))["data"], "ok")
    };
    send(json!({
        "query": {"b": "x y&", "n": 2, "t": true},
        "headers": {"X-Mine": "yes", "Accept": "text/plain"},
    }));
    send(json!({"method": "POST", "body": {"k": [1]}}));
    send(json!({"method": "PUT", "body": "text"}));
    send(json!({"method": "POST", "body": {"base64": "AAEC"}}));
    send(json!({"method": "DELETE"}));
    let seen = server.seen();
    assert_eq!(seen[0].method, "GET");
    assert!(
        seen[0].path.starts_with("/p?a=1&")
            && seen[0].path.contains("n=2")
            && seen[0].path.contains("t=true"),
        "{seen:?}"
    );
    assert!(
        seen[0].path.contains("b=x+y%26") || seen[0].path.contains("b=x%20y%26"),
        "{}",
        seen[0].path
    );
    assert_eq!(seen[0].header("x-mine"), Some("yes"));
    assert_eq!((seen[1].method.as_str(), seen[1].body.as_slice()), ("POST", &br#"{"k":[1]}"#[..]));
    assert!(seen[1].header("content-type").is_some_and(|t| t.starts_with("application/json")));
    assert_eq!((seen[2].method.as_str(), seen[2].body.as_slice()), ("PUT", &b"text"[..]));
    assert_eq!(seen[3].body, [0, 1, 2]);
    assert_eq!(seen[4].method, "DELETE");
}

#[test]
fn only_2xx_is_a_result_unless_any_status_is_accepted() {
    let server = Server::start(|r| match r.path.as_str() {
        "/created" => Reply::new("201 Created", &[], ""),
        _ => Reply::new("404 Not Found", &[("Content-Type", "text/plain")], "nothing here"),
    });
    let pool = pool_for(&[&server]);
    assert_eq!(result(pool.run(get(&server.url("/created"))))["status"], 201);
    let outcome = pool.run(get(&server.url("/missing")));
    assert_eq!(error(&outcome), "HTTP_STATUS");
    assert!(outcome["error"].to_string().contains("404"), "{outcome}");
    let any = result(pool.run(with(get(&server.url("/missing")), json!({"acceptStatus": "any"}))));
    assert_eq!((&any["status"], &any["data"]), (&json!(404), &json!("nothing here")));
}

#[test]
fn redirects_are_followed_up_to_the_maximum() {
    let server =
        Server::start(|r| match r.path.strip_prefix("/hop/").and_then(|n| n.parse::<u32>().ok()) {
            Some(0) | None => Reply::text("arrived"),
            Some(n) => Reply::new("302 Found", &[("Location", &format!("/hop/{}", n - 1))], ""),
        });
    let pool = pool_for(&[&server]);
    assert_eq!(result(pool.run(get(&server.url("/hop/5"))))["data"], "arrived");
    assert_ne!(pool.run(get(&server.url("/hop/6")))["status"], "succeeded", "five is the default");
    let two = pool.run(with(get(&server.url("/hop/3")), json!({"maxRedirects": 2})));
    assert_ne!(two["status"], "succeeded", "{two}");
}

#[test]
fn a_post_becomes_a_get_after_303_and_stays_a_post_after_307() {
    let server = Server::start(|r| match r.path.as_str() {
        "/see" => Reply::new("303 See Other", &[("Location", "/end")], ""),
        "/keep" => Reply::new("307 Temporary Redirect", &[("Location", "/end")], ""),
        _ => Reply::text(&format!("{} {}", r.method, String::from_utf8_lossy(&r.body))),
    });
    let pool = pool_for(&[&server]);
    let post = |path: &str| {
        result(pool.run(with(get(&server.url(path)), json!({"method": "POST", "body": "b"}))))
    };
    assert_eq!(post("/see")["data"], "GET ");
    assert_eq!(post("/keep")["data"], "POST b");
}

#[test]
fn the_allow_list_opens_exactly_what_it_names() {
    let (open, shut) =
        (Server::start(|_| Reply::text("open")), Server::start(|_| Reply::text("shut")));
    let pool = pool_for(&[&open]);
    assert_eq!(result(pool.run(get(&open.url("/"))))["data"], "open");
    assert_eq!(error(&pool.run(get(&shut.url("/")))), "URL_DENIED");
    let whole = Pool::start(json!({"http": {"allow": ["127.0.0.0/8"]}}));
    assert_eq!(result(whole.run(get(&shut.url("/"))))["data"], "shut");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes everything")
}

#[test]
fn a_compressed_reply_is_unpacked_and_its_unpacked_size_is_capped() {
    let bomb = gzip(&vec![0; 200 << 20]);
    assert!(bomb.len() < 1 << 20);
    let server = Server::start(move |r| match r.path.as_str() {
        "/bomb" => Reply::new("200 OK", &[("Content-Encoding", "gzip")], &bomb),
        _ => Reply::new(
            "200 OK",
            &[("Content-Encoding", "gzip"), ("Content-Type", "application/json")],
            gzip(br#"{"z":1}"#),
        ),
    });
    let pool = pool_for(&[&server]);
    assert_eq!(result(pool.run(get(&server.url("/small"))))["data"], json!({"z": 1}));
    assert_eq!(error(&pool.run(get(&server.url("/bomb")))), "OUTPUT_LIMIT");
}

#[test]
fn a_reply_over_max_response_bytes_is_an_output_limit() {
    let server = Server::start(|_| Reply::text(&"x".repeat(10_000)));
    let pool = pool_for(&[&server]);
    assert_eq!(
        error(&pool.run(with(get(&server.url("/")), json!({"maxResponseBytes": 9_999})))),
        "OUTPUT_LIMIT"
    );
    assert_eq!(
        result(pool.run(with(
            get(&server.url("/")),
            json!({
                "maxResponseBytes": 10_000,
            })
        )))["status"],
        200
    );
}

#[test]
fn nobody_listening_is_an_http_error() {
    let pool = Pool::start(json!({"http": {"allow": ["127.0.0.1:1"]}}));
    let outcome = pool.run(get("http://127.0.0.1:1/"));
    assert_eq!(error(&outcome), "HTTP_ERROR");
    assert!(
        outcome["error"]["message"]
            .as_str()
            .is_some_and(|m| m.contains("127.0.0.1:1") || m.contains("refused")),
        "{outcome}"
    );
}

#[test]
fn a_retry_comes_no_sooner_than_the_server_asks() {
    let asked = AtomicBool::new(false);
    let server = Server::start(move |_| match asked.swap(true, Ordering::SeqCst) {
        false => Reply::new("503 Service Unavailable", &[("Retry-After", "1")], ""),
        true => Reply::text("now"),
    });
    let pool = pool_for(&[&server]);
    let retry =
        json!({"maxAttempts": 2, "retry": {"initialDelay": 1, "maxDelay": 10, "jitter": 0}});
    let outcome = pool.run(with(get(&server.url("/")), retry));
    assert_eq!(
        (&outcome["attempts"], &outcome["result"]["data"]),
        (&json!(2), &json!("now")),
        "{outcome}"
    );
    assert!(outcome["receipt"]["queuedMs"].as_f64() >= Some(1000.0), "{outcome}");
}
