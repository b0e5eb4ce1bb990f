//! Replies as servers really send them: without a body, coded, in old encodings, with many headers;
//! and what the request says besides what the task says.

mod io_support;

use std::io::Write;

use io_support::server::{Server, answer, failure, fetch, worker};
use pool_protocol::outcome::ErrorCode;
use serde_json::{Value, json};

/// `{"a":1}`, by gzip.
const GZIP: &[u8] = &[
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xab, 0x56, 0x4a, 0x54, 0xb2, 0x32,
    0xac, 0x05, 0x00, 0xaf, 0xac, 0x1b, 0x56, 0x07, 0x00, 0x00, 0x00,
];

/// A reply whose head says what it likes.
fn reply(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), body].concat()
}

#[test]
fn a_reply_without_a_body_is_not_decoded_whatever_its_head_says() {
    for coding in ["gzip", "GZIP", "deflate", "br", "zstd", "gzip, br"] {
        for (method, head) in [
            ("HEAD", format!("200 OK\r\nContent-Length: 1234\r\nContent-Encoding: {coding}")),
            ("HEAD", format!("200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: {coding}")),
            ("GET", format!("204 No Content\r\nContent-Encoding: {coding}")),
            (
                "GET",
                format!("304 Not Modified\r\nContent-Length: 27\r\nContent-Encoding: {coding}"),
            ),
            ("GET", format!("200 OK\r\nContent-Length: 0\r\nContent-Encoding: {coding}")),
            ("GET", format!("200 OK\r\nConnection: close\r\nContent-Encoding: {coding}")),
        ] {
            let server = Server::saying(reply(&head, b""));
            let data =
                json!({"url": server.url("/"), "method": method, "acceptStatus": ["2xx", 304]});
            let result = fetch(&mut worker(&[&server]), &data).result();
            assert_eq!(result["data"], "", "{method}: {head}");
            assert_eq!(result["headers"]["content-encoding"], coding);
        }
    }
    let server = Server::saying(reply(
        "200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip",
        b"0\r\n\r\n",
    ));
    assert_eq!(
        fetch(&mut worker(&[&server]), &json!({"url": server.url("/")})).result()["data"],
        ""
    );
}

#[test]
fn a_coded_reply_is_decoded_and_one_that_is_none_is_an_error() {
    let coded = |name: &str, body: &[u8]| {
        let len = body.len();
        let head = format!(
            "200 OK\r\nContent-Type: application/json\r\nContent-Encoding: \
             {name}\r\nContent-Length: {len}"
        );
        Server::saying(reply(&head, body))
    };
    for name in ["gzip", "GZIP", "X-GZip", "identity, gzip"] {
        let server = coded(name, GZIP);
        let result = fetch(&mut worker(&[&server]), &json!({"url": server.url("/")})).result();
        assert_eq!(result["data"], json!({"a": 1}), "{name}");
    }
    for (name, body) in [("gzip", &GZIP[..15]), ("gzip", b"{\"a\":1}"), ("br", GZIP)] {
        let server = coded(name, body);
        let (code, message) = failure(&mut worker(&[&server]), &json!({"url": server.url("/")}));
        assert_eq!(
            (code, message.contains("broke off")),
            (ErrorCode::HttpError, true),
            "{message}"
        );
    }
}

#[test]
fn the_length_of_an_empty_body_is_said_where_a_body_is_expected() {
    let server = Server::saying(answer("200 OK", "", ""));
    let mut worker = worker(&[&server]);
    for (task, length) in [
        (json!({"method": "POST"}), Some("0")),
        (json!({"method": "PUT"}), Some("0")),
        (json!({"method": "PATCH"}), Some("0")),
        (json!({"method": "POST", "body": ""}), Some("0")),
        (json!({"method": "DELETE", "body": ""}), Some("0")),
        (json!({"method": "POST", "body": "four"}), Some("4")),
        (json!({"method": "GET"}), None),
        (json!({"method": "DELETE"}), None),
        (json!({"method": "OPTIONS"}), None),
    ] {
        let mut data = task.clone();
        data["url"] = server.url("/").into();
        assert_eq!(fetch(&mut worker, &data).result()["status"], 200);
        let seen = server.seen().pop().unwrap();
        assert_eq!(seen.header("content-length"), length, "{task}");
        assert_eq!(seen.header("transfer-encoding"), None, "{task}");
    }
}

#[test]
fn codings_are_offered_unless_the_task_says_otherwise() {
    let server = Server::saying(answer("200 OK", "", ""));
    let mut worker = worker(&[&server]);
    for (headers, expected) in [
        (json!({}), "gzip, deflate, br, zstd"),
        (json!({"Accept-Encoding": "identity"}), "identity"),
        // Half a file that is coded cannot be decoded.
        (json!({"Range": "bytes=0-9"}), "identity"),
    ] {
        fetch(&mut worker, &json!({"url": server.url("/"), "headers": headers})).result();
        let seen = server.seen().pop().unwrap();
        assert_eq!(seen.header("accept-encoding"), Some(expected), "{headers}");
        assert_eq!(seen.header("accept"), Some("*/*"));
        assert!(seen.header("user-agent").is_some_and(|agent| agent.starts_with("process-pool/")));
    }
}

#[test]
fn a_redirect_may_name_its_target_in_utf8() {
    let server = Server::start(|seen, stream| {
        let reply = match seen.line.as_str() {
            "GET / HTTP/1.1" => answer("302 Found", "Location: /bücher?q=größe\r\n", ""),
            _ => answer("200 OK", "", "there"),
        };
        stream.write_all(&reply).unwrap();
    });
    assert_eq!(
        fetch(&mut worker(&[&server]), &json!({"url": server.url("/")})).result()["data"],
        "there"
    );
    assert_eq!(server.seen()[1].line, "GET /b%C3%BCcher?q=gr%C3%B6%C3%9Fe HTTP/1.1");
}

#[test]
fn a_text_in_another_encoding_is_a_text() {
    let body = b"gr\xfc\xdfe";
    for (kind, expected) in [
        ("text/plain; charset=ISO-8859-1", json!("grüße")),
        ("text/plain", json!({"base64": "Z3L832U="})),
    ] {
        let server = Server::saying(reply(
            &format!("200 OK\r\nContent-Type: {kind}\r\nContent-Length: 5"),
            body,
        ));
        assert_eq!(
            fetch(&mut worker(&[&server]), &json!({"url": server.url("/")})).result()["data"],
            expected
        );
    }
}

#[test]
fn a_task_says_which_statuses_are_results() {
    let server = Server::saying(answer("404 Not Found", "", "lost"));
    let mut worker = worker(&[&server]);
    let mut ask = |accept: Value| {
        fetch(&mut worker, &json!({"url": server.url("/"), "acceptStatus": accept}))
    };
    for accept in [json!("any"), json!("4xx"), json!(404), json!(["2xx", 404]), json!([500, "4xx"])]
    {
        assert_eq!(ask(accept.clone()).result()["status"], 404, "{accept}");
    }
    for accept in [json!("2xx"), json!("5xx"), json!(403), json!(["2xx", 403])] {
        assert_eq!(ask(accept.clone()).failure().0, ErrorCode::HttpStatus, "{accept}");
    }
}

#[test]
fn an_array_in_the_query_repeats_its_name() {
    let server = Server::saying(answer("200 OK", "", ""));
    let query = json!({"tag": ["a b", 2, true], "none": [], "q": "x"});
    fetch(&mut worker(&[&server]), &json!({"url": server.url("/?k=v"), "query": query})).result();
    assert_eq!(server.seen()[0].line, "GET /?k=v&q=x&tag=a+b&tag=2&tag=true HTTP/1.1");
}

#[test]
fn a_reply_may_have_256_headers() {
    let lines = |count: usize| (0..count).map(|n| format!("x-{n}: {n}\r\n")).collect::<String>();
    // One more is the length of the body.
    let server = Server::saying(answer("200 OK", &lines(255), "ok"));
    let result = fetch(&mut worker(&[&server]), &json!({"url": server.url("/")})).result();
    assert_eq!((&result["data"], &result["headers"]["x-254"]), (&json!("ok"), &json!("254")));
    let server = Server::saying(answer("200 OK", &lines(256), "ok"));
    let (code, message) = failure(&mut worker(&[&server]), &json!({"url": server.url("/")}));
    assert_eq!(code, ErrorCode::HttpError, "{message}");
    let headers: Value =
        (0..256).map(|n| (format!("x-{n}"), json!("v"))).collect::<serde_json::Map<_, _>>().into();
    let server = Server::saying(answer("200 OK", "", "ok"));
    let data = json!({"url": server.url("/"), "headers": headers});
    assert_eq!(fetch(&mut worker(&[&server]), &data).result()["data"], "ok");
    assert!(server.seen()[0].header("x-255").is_some());
}

#[test]
fn how_long_a_server_asks_to_be_left_alone_goes_with_the_failure() {
    let date =
        "Date: Sun, 06 Nov 1994 08:49:00 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    for (status, headers, expected_ms) in [
        ("503 Service Unavailable", "Retry-After: 7\r\n", 7_000),
        ("429 Too Many Requests", date, 37_000),
        ("429 Too Many Requests", "Retry-After: later\r\n", 0),
        ("503 Service Unavailable", "", 0),
    ] {
        let server = Server::saying(answer(status, headers, ""));
        let ended = fetch(&mut worker(&[&server]), &json!({"url": server.url("/")}));
        assert_eq!(
            (ended.failure().0, ended.head.retry_after_ms),
            (ErrorCode::HttpStatus, expected_ms),
            "{headers}"
        );
    }
}
