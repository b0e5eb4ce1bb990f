//! What clients do to connections, and how the room opens and closes.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use pool_supervisor::http::{self, HttpError, HttpOptions, Patience};
use support::{Api, BODY_BYTES, EVENT, Events, KEY, Reply, api, api_with};

use super::support;

fn impatient() -> Api {
    let ms = Duration::from_millis;
    api_with(Patience { header: ms(150), body: ms(150), stalled_write: ms(300), keepalive: ms(50) })
}

fn over_unix(api: &Api, host: &str) -> Reply {
    let mut stream = UnixStream::connect(&api.socket).expect("connected");
    let request = format!(
        "GET /api/process-pool/stats HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {KEY}\r\nConnection: \
         close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("written");
    Reply::read(stream)
}

#[test]
fn the_same_routes_are_on_a_unix_socket_that_only_its_owner_can_use() {
    let mut api = api();
    for host in ["localhost", "localhost:80", "pool.example", ""] {
        assert_eq!(
            over_unix(&api, host).json()["load"],
            0.5,
            "no web page gets here, so any name will do: {host:?}"
        );
    }
    let mode = std::fs::metadata(&api.socket).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    api.handle.take().expect("open").stop();
    assert!(!api.socket.exists(), "the socket's file goes with the room");
}

#[test]
fn slow_headers_and_slow_bodies_time_out() {
    let api = impatient();
    let started = Instant::now();
    let silent = api.connect();
    assert!([0, 408].contains(&Reply::read(silent).status));
    let slow = api.raw("GET /healthz HTTP/1.1\r\nHos");
    assert!([0, 408].contains(&slow.status), "{slow:?}");
    let host = api.addr;
    let head = format!(
        "POST /api/tasks HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {KEY}\r\nContent-Length: \
         100\r\n\r\n"
    );
    let slow = api.raw(format!("{head}{{"));
    assert_eq!(slow.status, 408, "{slow:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(api.ask("GET", "/healthz", "").status, 200);
}

#[test]
fn malformed_and_oversized_heads_are_4xx_and_nothing_else() {
    let api = api();
    let host = api.addr;
    let key = format!("X-API-Key: {KEY}\r\n");
    let task = r#"{"type":"execute-code","code":"1"}"#;
    let chunked = format!("{:x}\r\n{task}\r\n0\r\n\r\n", task.len());
    for (request, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        (format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\nBad Header: x\r\n\r\n"), 400),
        (
            format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n", "x".repeat(20_000)),
            431,
        ),
        (format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n{}\r\n", "X: y\r\n".repeat(100)), 431),
        (format!("GET /{} HTTP/1.1\r\nHost: {host}\r\n\r\n", "x".repeat(70_000)), 431),
        (
            format!(
                "POST /api/tasks HTTP/1.1\r\nHost: {host}\r\n{key}Transfer-Encoding: gzip, \
                 chunked\r\n\r\n{chunked}"
            ),
            501,
        ),
        (
            format!(
                "POST /api/tasks HTTP/1.1\r\nHost: {host}\r\n{key}Transfer-Encoding: \
                 gzip\r\n\r\n{chunked}"
            ),
            400,
        ),
        (
            format!(
                "POST /api/tasks HTTP/1.1\r\nHost: {host}\r\n{key}Content-Length: \
                 2\r\nContent-Length: 3\r\n\r\n{{}}"
            ),
            400,
        ),
        (
            format!("POST /api/tasks HTTP/1.1\r\nHost: {host}\r\n{key}Content-Length: -1\r\n\r\n"),
            400,
        ),
    ] {
        let mut stream = api.connect();
        // The other side may have refused and closed before all of it is written.
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let reply = Reply::read(stream);
        let shown: String = request.chars().take(200).collect();
        assert_eq!(reply.status, status, "{shown}: {reply:?}");
    }
    assert!(!api.supervisor.seen().iter().any(|seen| seen.starts_with("submit")));
    assert_eq!(api.ask("GET", "/healthz", "").status, 200);
}

#[test]
fn a_client_that_still_sends_gets_its_answer() {
    let api = api();
    let host = api.addr;
    let large = 4 << 20;
    let chunked = format!("{:x}\r\n", large);
    for (headers, status) in [
        (format!("X-API-Key: {KEY}\r\nContent-Length: {large}\r\n\r\n"), 413),
        (format!("X-API-Key: {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"), 413),
        (
            format!(
                "X-API-Key: {KEY}\r\nContent-Encoding: gzip\r\nContent-Length: {large}\r\n\r\n"
            ),
            415,
        ),
        (format!("X-API-Key: wrong\r\nContent-Length: {large}\r\n\r\n"), 401),
        (format!("X-API-Key: wrong\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"), 401),
    ] {
        let mut stream = api.connect();
        stream
            .write_all(format!("POST /api/tasks HTTP/1.1\r\nHost: {host}\r\n{headers}").as_bytes())
            .expect("taken");
        // More than the system holds: it is written only because the API goes on reading.
        stream.write_all(&vec![b'x'; large]).expect("taken to the end");
        let reply = Reply::read(stream);
        assert_eq!(reply.status, status, "{headers}: {reply:?}");
        assert!(reply.head.contains("connection: close"), "{}", reply.head);
    }
    assert_eq!(api.ask("GET", "/healthz", "").status, 200);
}

#[test]
fn a_request_whose_body_was_read_keeps_its_connection() {
    let api = api();
    let host = api.addr;
    let task = "nonsense";
    let request = format!(
        "POST /api/tasks HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {KEY}\r\nContent-Length: \
         {}\r\n\r\n{task}",
        task.len()
    );
    let last = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let replies = api.raw(format!("{request}{request}{last}"));
    assert_eq!(replies.status, 400);
    assert_eq!(
        format!("{}{}", replies.head, replies.body.to_lowercase()).matches("http/1.1 ").count(),
        3,
        "{replies:?}"
    );
}

#[test]
fn a_body_may_come_in_chunks_of_any_number_and_is_bounded_all_the_same() {
    let api = api();
    let host = api.addr;
    let chunked = |body: &str, size: usize| {
        let chunks = body.as_bytes().chunks(size).map(|chunk| {
            format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).expect("ASCII"))
        });
        let chunks: String = chunks.collect();
        api.raw(format!(
            "POST /api/tasks HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {KEY}\r\nTransfer-Encoding: \
             chunked\r\n\
             Connection: close\r\n\r\n{chunks}0\r\n\r\n"
        ))
    };
    let task =
        |length: usize| format!(r#"{{"type":"execute-code","code":"{}"}}"#, "x".repeat(length));
    for (length, size) in [(1, 1), (1, 1000), (1000, 7), (BODY_BYTES - 40, 4096)] {
        let reply = chunked(&task(length), size);
        assert_eq!(reply.status, 202, "{length} in chunks of {size}: {reply:?}");
    }
    assert_eq!(chunked("", 1).status, 400, "an empty body is no task");
    assert_eq!(chunked(&task(BODY_BYTES), 4096).status, 413);
}

#[test]
fn a_removed_unix_socket_is_made_again() {
    let api = api();
    std::fs::remove_file(&api.socket).expect("it is there");
    let until = Instant::now() + Duration::from_secs(20);
    while UnixStream::connect(&api.socket).is_err() {
        assert!(Instant::now() < until, "it was not made again");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(over_unix(&api, "localhost").status, 200);
    let mode = std::fs::metadata(&api.socket).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn idle_connections_in_any_number_do_not_keep_others_out_for_long() {
    let api = impatient();
    let idle: Vec<_> = (0..600).map(|_| api.connect()).collect();
    assert_eq!(over_unix(&api, "localhost").status, 200, "the Unix socket has places of its own");
    assert_eq!(api.ask("GET", "/healthz", "").status, 200);
    drop(idle);
}

/// Row 63 of what the pool must survive.
#[test]
fn hostile_63_half_sent_requests_in_any_number_keep_nobody_out() {
    let api = api_with(Patience { header: Duration::from_secs(600), ..Patience::default() });
    let half = |_| {
        let mut stream = api.connect();
        stream.write_all(b"GET / HTTP/1.1\r\nX: ").expect("written");
        stream
    };
    let mut events = Events::open(&api, "");
    events.until(": the newest event is 3");
    let held: Vec<_> = (0..400).map(half).collect();
    assert_eq!(api.ask("GET", "/healthz", "").status, 200);
    for _ in 0..50 {
        assert_eq!(api.ask("GET", "/api/process-pool/stats", "").status, 200);
    }
    api.supervisor.send(EVENT, 1, br#"{"seq":4,"event":"scaled-up"}"#).expect("sent");
    events.until("id: 4");
    drop(held);
}

#[test]
fn a_quiet_event_stream_is_kept_alive_by_comments() {
    let api = impatient();
    let mut events = Events::open(&api, "");
    events.until(":");
    events.until(":");
}

#[test]
fn a_subscriber_that_does_not_read_holds_up_nobody_and_goes_on_from_where_it_was() {
    let api = api();
    let mut slow = Events::open(&api, "");
    slow.until(": the newest event is 3");
    let text = "x".repeat(4000);
    for seq in 4..6000 {
        let event = format!(r#"{{"seq":{seq},"event":"task-log","message":"{text}"}}"#);
        api.supervisor.send(EVENT, 1, event.as_bytes()).expect("the API always reads");
    }
    api.supervisor.wait_for("end 1");
    assert_eq!(api.ask("GET", "/healthz", "").status, 200);
    // Now it reads, and the API asks for what it could not hold.
    let reader = std::thread::spawn(move || slow.until("event: scaled-up"));
    let asked = api.supervisor.wait_for_start("events Some(", |_| true);
    let (last, call) = asked.split_once(") ").expect("a number and a call");
    let (last, call): (u64, u64) =
        (last.parse().expect("a number"), call.parse().expect("a number"));
    assert!(last < 5999, "{last}");
    let next = format!(r#"{{"seq":{},"event":"scaled-up"}}"#, last + 1);
    api.supervisor.send(EVENT, call, next.as_bytes()).expect("sent");
    let lines = reader.join().expect("it came");
    let numbers: Vec<u64> =
        lines.iter().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
    assert_eq!(numbers, (4..=last + 1).collect::<Vec<_>>(), "no event is missing");
}

#[test]
fn a_client_that_does_not_read_its_answer_is_disconnected() {
    let api = impatient();
    let mut stream = api.connect();
    // The answer names the path, so that few of them fill the megabytes that the system keeps for a
    // socket.
    let path = "x".repeat(4000);
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {}\r\nX-API-Key: {KEY}\r\n\r\n", api.addr);
    let until = Instant::now() + Duration::from_secs(60);
    // Pipelined until both directions are full and the other side has had enough.
    stream.set_write_timeout(Some(Duration::from_millis(100))).expect("set");
    loop {
        match stream.write(request.as_bytes()) {
            Ok(_) => {}
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) => {}
            Err(_) => break,
        }
        assert!(Instant::now() < until, "the connection is still open");
    }
    assert_eq!(api.ask("GET", "/healthz", "").status, 200);
}

#[test]
fn an_address_that_is_taken_is_reported_to_the_caller() {
    let api = api();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let start = |listen, unix_socket| {
        let (_ours, theirs) = UnixStream::pair().expect("a socket pair");
        let options = HttpOptions { listen, unix_socket, key: KEY.to_owned(), body_bytes: 1024 };
        http::start(options, theirs).map(|handle| handle.addr)
    };
    let taken = start(Some(api.addr), None).expect_err("taken");
    assert!(matches!(taken, HttpError::Listen { .. }), "{taken}");
    assert!(
        taken.to_string().contains(&api.addr.to_string())
            && taken.to_string().contains("http.listen"),
        "{taken}"
    );
    let taken = start(None, Some(api.socket.clone())).expect_err("taken");
    assert!(matches!(taken, HttpError::SocketTaken { .. }), "{taken}");
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").expect("written");
    assert!(matches!(start(None, Some(file.clone())), Err(HttpError::NoSocket { .. })));
    assert_eq!(std::fs::read_to_string(&file).expect("untouched"), "precious");
    let stale = folder.path().join("stale");
    drop(UnixListener::bind(&stale).expect("bound"));
    assert_eq!(start(None, Some(stale)).expect("a stale socket is replaced"), None);
    assert_eq!(api.ask("GET", "/healthz", "").status, 200, "the first is left alone");
}

#[test]
fn stopping_tells_everybody_within_a_second() {
    let mut api = api();
    let mut events = Events::open(&api, "");
    events.until(": the newest event is 3");
    let host = api.addr;
    let mut waiting = api.connect();
    let ask = format!("GET /api/tasks/5 HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {KEY}\r\n\r\n");
    waiting.write_all(ask.as_bytes()).expect("written");
    api.supervisor.wait_for("Task { task: 5 }");
    let idle = api.connect();
    let started = Instant::now();
    api.handle.take().expect("open").stop();
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let reply = Reply::read(waiting);
    assert_eq!((reply.status, reply.error()), (503, "the supervisor is stopping".to_owned()));
    assert_eq!(Reply::read(idle).status, 0);
}

#[test]
fn what_the_supervisor_answered_before_the_stop_still_arrives() {
    let mut api = api();
    let host = api.addr;
    let mut waiting = api.connect();
    let ask = format!("GET /api/tasks/5 HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {KEY}\r\n\r\n");
    waiting.write_all(ask.as_bytes()).expect("written");
    api.supervisor.wait_for("Task { task: 5 }");
    api.supervisor.send(support::REPLY, 1, br#"{"late":"but there"}"#).expect("sent");
    api.handle.take().expect("open").stop();
    assert_eq!(Reply::read(waiting).json()["late"], "but there");
}

#[test]
fn without_its_supervisor_the_api_closes() {
    let api = api();
    assert_eq!(api.ask("GET", "/healthz", "").status, 200);
    api.supervisor.hang_up();
    let until = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(api.addr).is_ok_and(|mut stream| {
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n");
        stream.read(&mut [0; 64]).is_ok_and(|len| len > 0)
    }) {
        assert!(Instant::now() < until, "it still answers");
    }
}
