//! `http-request` against real servers on loopback, which `http.allow` names where a test means to
//! reach them.

#![expect(clippy::disallowed_methods, reason = "slow servers are what is tested")]

mod io_support;

use std::io::Write;
use std::sync::atomic::Ordering;

use io_support::server::{Server, answer, failure, fetch, worker};
use io_support::{PATIENCE, Worker, setup, task};
use pool_protocol::lane::Lane;
use pool_protocol::outcome::ErrorCode;
use pool_protocol::task::TaskKind;
use serde_json::json;

#[test]
fn a_reply_comes_back_with_status_headers_and_parsed_data() {
    let server = Server::saying(answer(
        "200 OK",
        "Content-Type: application/json\r\nX-Two: a\r\nx-two: b\r\nSet-Cookie: c=1\r\n",
        "{\n \"n\": 12345678901234567890123, \"t\": [true]\n}",
    ));
    let mut worker = worker(&[&server]);
    let ended = fetch(&mut worker, &json!({"url": server.url("/p"), "query": {"q": "a b"}}));
    let text = String::from_utf8(ended.body.clone()).unwrap();
    assert!(text.contains(r#""data":{"n":12345678901234567890123,"t":[true]}"#), "{text}");
    assert!(!text.contains('\n'));
    let result = ended.result();
    assert_eq!(result["status"], 200);
    assert_eq!(result["headers"]["x-two"], "a, b");
    assert_eq!(result["headers"]["set-cookie"], json!(["c=1"]));
    let seen = &server.seen()[0];
    assert_eq!(seen.line, "GET /p?q=a+b HTTP/1.1");
    assert_eq!(seen.header("host").unwrap(), server.address.to_string());
    assert!(ended.head.run_us > 0);
}

#[test]
fn text_bytes_and_request_bodies_go_both_ways() {
    let server = Server::start(|seen, stream| {
        let body: &[u8] =
            if seen.line.contains("/bytes") { &[0xFF, 0xFE] } else { "grüß".as_bytes() };
        let head = format!("HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    });
    let mut worker = worker(&[&server]);
    let sent = json!({
        "url": server.url("/text"),
        "method": "put",
        "body": {"a": [1]},
        "headers": {"X-Mine": "1"},
    });
    let result = fetch(&mut worker, &sent).result();
    assert_eq!((&result["status"], &result["data"]), (&json!(201), &json!("grüß")));
    let result = fetch(
        &mut worker,
        &json!({"url": server.url("/bytes"), "method": "POST", "body": "plain"}),
    )
    .result();
    assert_eq!(result["data"], json!({"base64": "//4="}));
    let result =
        fetch(&mut worker, &json!({"url": server.url("/get"), "body": {"base64": "aGk="}}))
            .result();
    assert_eq!(result["status"], 201);
    let seen = server.seen();
    assert_eq!(
        (seen[0].line.as_str(), seen[0].body.as_str()),
        ("PUT /text HTTP/1.1", r#"{"a":[1]}"#)
    );
    assert_eq!(
        (seen[0].header("content-type"), seen[0].header("x-mine")),
        (Some("application/json"), Some("1"))
    );
    assert_eq!((seen[1].body.as_str(), seen[1].header("content-type")), ("plain", None));
    assert_eq!((seen[2].line.as_str(), seen[2].body.as_str()), ("GET /get HTTP/1.1", "hi"));
    assert_eq!(
        server.connections.load(Ordering::SeqCst),
        3,
        "no connection is kept for another task"
    );
}

#[test]
fn a_status_that_is_not_accepted_is_a_failure_that_shows_the_reply() {
    let server = Server::saying(answer("404 Not Found", "X-Why: lost\r\n", &"z".repeat(100_000)));
    let mut worker = worker(&[&server]);
    let ended = fetch(&mut worker, &json!({"url": server.url("/")}));
    let (code, message) = ended.failure();
    assert_eq!(code, ErrorCode::HttpStatus);
    assert!(message.contains("404"), "{message}");
    let error = ended.json();
    assert_eq!((&error["status"], &error["headers"]["x-why"]), (&json!(404), &json!("lost")));
    let shown = error["data"].as_str().unwrap().len();
    assert!((1000..64 * 1024).contains(&shown), "{shown}");
    let result =
        fetch(&mut worker, &json!({"url": server.url("/"), "acceptStatus": "any"})).result();
    assert_eq!(result["status"], 404);
}

#[test]
fn addresses_that_are_not_public_are_never_dialled_however_they_are_written() {
    let server = Server::saying(answer("200 OK", "", "secret"));
    let port = server.address.port();
    let mut worker = Worker::start(&setup(Lane::Io));
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "localhost",
        "LOCALHOST",
        "0.0.0.0",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::7f00:1]",
        "10.0.0.1",
        "169.254.169.254",
        "192.168.0.1",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
    ] {
        let (code, message) =
            failure(&mut worker, &json!({"url": format!("http://{host}:{port}/")}));
        assert_eq!(code, ErrorCode::UrlDenied, "{host}: {message}");
        assert!(message.contains("http.allow"), "{message}");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn the_list_allows_an_address_with_its_port_and_a_name() {
    let server = Server::saying(answer("200 OK", "", "ok"));
    let other = Server::saying(answer("200 OK", "", "no"));
    let mut by_address = worker(&[&server]);
    assert_eq!(fetch(&mut by_address, &json!({"url": server.url("/")})).result()["data"], "ok");
    let mapped = format!("http://[::ffff:127.0.0.1]:{}/", server.address.port());
    assert_eq!(fetch(&mut by_address, &json!({"url": mapped})).result()["data"], "ok");
    assert_eq!(failure(&mut by_address, &json!({"url": other.url("/")})).0, ErrorCode::UrlDenied);

    let mut setup = setup(Lane::Io);
    setup.http.allow = vec![format!("localhost:{}", server.address.port())];
    let mut by_name = Worker::start(&setup);
    let url = format!("http://localhost:{}/", server.address.port());
    assert_eq!(fetch(&mut by_name, &json!({"url": url})).result()["data"], "ok");
    assert_eq!(failure(&mut by_name, &json!({"url": server.url("/")})).0, ErrorCode::UrlDenied);
    assert_eq!(other.connections.load(Ordering::SeqCst), 0);

    let mut silent = Worker::silent(Lane::Io);
    setup.http.allow = vec!["10.0.0.0/99".into()];
    silent.send_setup(&setup, u64::from(pool_protocol::version::CURRENT));
    assert_eq!(silent.exit().code(), Some(1));
    assert!(silent.stderr().contains("http.allow"));
}

#[test]
fn schemes_users_and_forbidden_headers_are_refused_before_anything_is_sent() {
    let server = Server::saying(answer("200 OK", "", ""));
    let mut worker = worker(&[&server]);
    let port = server.address.port();
    for url in ["file:///etc/passwd", "unix:/run/x.sock", "ftp://127.0.0.1/"] {
        assert_eq!(failure(&mut worker, &json!({"url": url})).0, ErrorCode::UrlDenied, "{url}");
    }
    let url = format!("http://user:pass@127.0.0.1:{port}/");
    assert_eq!(failure(&mut worker, &json!({"url": url})).0, ErrorCode::UrlDenied);
    for (headers, field) in [
        (json!({"Host": "x"}), "headers.Host"),
        (json!({"Content-Length": "9"}), "headers.Content-Length"),
        (json!({"transfer-encoding": "chunked"}), "headers.transfer-encoding"),
        (json!({"X": "a\r\nHost: b"}), "headers.X"),
        (json!({"X\r\nHost: b": "a"}), "headers.X"),
    ] {
        let (code, message) =
            failure(&mut worker, &json!({"url": server.url("/"), "headers": headers}));
        assert_eq!(code, ErrorCode::InvalidTask, "{message}");
        assert!(message.contains(field), "{message}");
    }
    let (code, message) =
        failure(&mut worker, &json!({"url": format!("{}\r\nX: y", server.url("/"))}));
    assert_eq!((code, message.contains("`url`")), (ErrorCode::InvalidTask, true), "{message}");
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn redirects_are_followed_by_the_rules_and_counted() {
    let server = Server::start(|seen, stream| {
        let path = seen.line.split(' ').nth(1).unwrap();
        let reply = match path {
            "/see" => answer("303 See Other", "Location: end?1\r\n", ""),
            "/found" => answer("302 Found", "Location: /end\r\n", ""),
            "/keep" => answer("307 Temporary Redirect", "Location: /end\r\n", ""),
            "/loop" => answer("301 Moved Permanently", "Location: /loop\r\n", ""),
            "/file" => answer("302 Found", "Location: file:///etc/passwd\r\n", ""),
            "/inner" => answer("302 Found", "Location: http://[::ffff:169.254.169.254]/\r\n", ""),
            _ => answer("200 OK", "", "end"),
        };
        stream.write_all(&reply).unwrap();
    });
    let mut worker = worker(&[&server]);
    let post = |path: &str| json!({"url": server.url(path), "method": "POST", "body": {"a": 1}});
    assert_eq!(fetch(&mut worker, &post("/see")).result()["data"], "end");
    assert_eq!(fetch(&mut worker, &post("/found")).result()["data"], "end");
    assert_eq!(fetch(&mut worker, &post("/keep")).result()["data"], "end");
    let seen = server.seen();
    let lines: Vec<_> = seen.iter().map(|s| (s.line.as_str(), s.body.as_str())).collect();
    assert_eq!(lines[1], ("GET /end?1 HTTP/1.1", ""));
    assert_eq!(lines[3], ("GET /end HTTP/1.1", ""));
    assert_eq!(lines[5], ("POST /end HTTP/1.1", r#"{"a":1}"#));
    assert_eq!(seen[1].header("content-type"), None);

    let before = server.connections.load(Ordering::SeqCst);
    let (code, message) =
        failure(&mut worker, &json!({"url": server.url("/loop"), "maxRedirects": 3}));
    assert_eq!(
        (code, message.contains("too many redirects")),
        (ErrorCode::HttpError, true),
        "{message}"
    );
    assert_eq!(server.connections.load(Ordering::SeqCst) - before, 4);
    assert_eq!(failure(&mut worker, &json!({"url": server.url("/file")})).0, ErrorCode::UrlDenied);
    assert_eq!(failure(&mut worker, &json!({"url": server.url("/inner")})).0, ErrorCode::UrlDenied);
    let unfollowed = json!({"url": server.url("/loop"), "maxRedirects": 0, "acceptStatus": "any"});
    assert_eq!(fetch(&mut worker, &unfollowed).result()["status"], 301);
    let unfollowed = json!({"url": server.url("/loop"), "maxRedirects": 0});
    assert_eq!(failure(&mut worker, &unfollowed).0, ErrorCode::HttpStatus);
}

#[test]
fn a_redirect_to_another_server_is_judged_again_and_loses_what_identifies_the_task() {
    let target = Server::saying(answer("200 OK", "", "there"));
    let location = format!("Location: {}\r\n", target.url("/"));
    let source = Server::saying(answer("302 Found", &location, ""));
    let data = json!({
        "url": source.url("/"),
        "headers": {"Authorization": "Bearer x", "Cookie": "a=b", "X-Other": "kept"},
    });
    let mut trusting = worker(&[&source, &target]);
    assert_eq!(fetch(&mut trusting, &data).result()["data"], "there");
    let (first, second) = (&source.seen()[0], &target.seen()[0]);
    assert_eq!(
        (first.header("authorization"), first.header("cookie")),
        (Some("Bearer x"), Some("a=b"))
    );
    assert_eq!((second.header("authorization"), second.header("cookie")), (None, None));
    assert_eq!(second.header("x-other"), Some("kept"));

    let mut careful = worker(&[&source]);
    assert_eq!(failure(&mut careful, &data).0, ErrorCode::UrlDenied);
    assert_eq!(target.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn a_body_is_capped_once_decompressed_and_an_endless_one_too() {
    // A thousand zero bytes for each byte sent: raw deflate in a gzip frame, made by gzip itself.
    let bomb = gzip(&vec![0; 20 << 20]);
    assert!(bomb.len() < 100_000);
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        bomb.len()
    );
    let bomb = Server::saying([head.as_bytes(), &bomb].concat());
    let endless = Server::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let small = gzip(b"small");
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        small.len()
    );
    let small = Server::saying([head.as_bytes(), &small].concat());
    let mut worker = worker(&[&bomb, &endless, &small]);
    for url in [bomb.url("/"), endless.url("/")] {
        let (code, message) = failure(&mut worker, &json!({"url": url}));
        assert_eq!(code, ErrorCode::OutputLimit, "{message}");
        let (code, message) = failure(&mut worker, &json!({"url": url, "maxResponseBytes": 1000}));
        assert_eq!(
            (code, message.contains("maxResponseBytes")),
            (ErrorCode::OutputLimit, true),
            "{message}"
        );
    }
    assert_eq!(fetch(&mut worker, &json!({"url": small.url("/")})).result()["data"], "small");
    let beat = worker.heartbeat();
    assert!(beat.rss_bytes < 128 << 20, "{beat:?}");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut child = std::process::Command::new("gzip")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("gzip is on every Linux");
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes).unwrap());
        child.wait_with_output().unwrap().stdout
    })
}

#[test]
fn a_server_that_dawdles_or_is_silent_meets_the_timeout_or_the_cancel() {
    let dribble = Server::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    let mut dribbled = worker(&[&dribble]);
    let data = json!({"url": dribble.url("/")}).to_string();
    let mut run = task(1, TaskKind::Http, "", &data);
    run.head.timeout_ms = 100;
    let ended = dribbled.outcome(&run);
    let message = "the task ran longer than its timeout of 100 ms".to_owned();
    assert_eq!((ended.failure(), ended.head.spoiled), ((ErrorCode::Timeout, message), true));
    assert_eq!(dribbled.exit().code(), Some(0));

    let silent = Server::start(|_, _| std::thread::sleep(PATIENCE));
    let mut waiting = worker(&[&silent]);
    let data = json!({"url": silent.url("/")}).to_string();
    waiting.send_runs(&[task(1, TaskKind::Http, "", &data), task(2, TaskKind::Http, "", &data)]);
    io_support::until("the request arrives", || (!silent.seen().is_empty()).then_some(()));
    waiting.heartbeat();
    waiting.cancel(1, 1, ErrorCode::Cancelled);
    assert_eq!(waiting.returned(), [(2, 1)]);
    let ended = waiting.done();
    assert_eq!((ended.id, ended.failure().0, ended.head.spoiled), (1, ErrorCode::Cancelled, true));
    assert_eq!(waiting.exit().code(), Some(0));
}

#[test]
fn a_proxy_in_the_environment_is_ignored() {
    let proxy = Server::saying(answer("200 OK", "", "proxied"));
    let server = Server::saying(answer("200 OK", "", "direct"));
    let mut setup = setup(Lane::Io);
    setup.http.allow = vec!["127.0.0.1".into()];
    let variables =
        ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"].map(|name| (name, proxy.url("")));
    let mut worker = Worker::start_with(&setup, &variables);
    assert_eq!(fetch(&mut worker, &json!({"url": server.url("/")})).result()["data"], "direct");
    assert_eq!(proxy.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn what_is_no_reply_is_an_http_error() {
    let cut = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort");
    let nonsense = Server::saying("SSH-2.0-OpenSSH_9.9\r\n\r\n");
    let mut setup = setup(Lane::Io);
    setup.http.allow = vec!["127.0.0.1".into()];
    let mut worker = Worker::start(&setup);
    for url in [
        cut.url("/"),
        nonsense.url("/"),
        "http://127.0.0.1:1/".to_owned(),
        format!("https://{}/", cut.address),
    ] {
        let (code, message) = failure(&mut worker, &json!({"url": url}));
        assert_eq!(code, ErrorCode::HttpError, "{url}: {message}");
    }
    let (code, _) = failure(&mut worker, &json!({"url": "http://no-such-name.invalid/"}));
    assert_eq!(code, ErrorCode::HttpError);
    let (code, message) =
        failure(&mut worker, &json!({"url": "http://127.0.0.1/", "colour": "red"}));
    assert_eq!((code, message.contains("colour")), (ErrorCode::InvalidTask, true), "{message}");
}
