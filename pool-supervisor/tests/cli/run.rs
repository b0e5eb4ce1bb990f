//! `poolctl run`.

use std::time::Duration;

use pool_protocol::frame::Kind;
use pool_protocol::outcome::ErrorCode;
use pool_protocol::task::{Body, OnDisconnect, TaskKind};

use crate::fake::{BODY_BYTES, Fake, head};
use crate::{poolctl, start};

/// A supervisor that ends the first task like this.
fn ending(code: Option<ErrorCode>, body: &'static str) -> Fake {
    Fake::serving(move |peer| {
        let task = peer.task();
        peer.end(task.id, code, body, "");
    })
}

#[test]
fn the_exit_code_tells_how_the_task_ended() {
    for (code, exit) in [
        (None, 0),
        (Some(ErrorCode::JsException), 1),
        (Some(ErrorCode::MemoryLimit), 1),
        (Some(ErrorCode::Timeout), 124),
        (Some(ErrorCode::QueueFull), 125),
        (Some(ErrorCode::Cancelled), 130),
    ] {
        let fake = ending(code, r#"{"message":"because"}"#);
        let ended = poolctl(&fake.socket, &["run", "code", "1"]);
        match code {
            None => ended.expect(0, "{\"message\":\"because\"}\n"),
            Some(code) => {
                ended.expect(exit, "").says(&format!("poolctl: {}: because", code.name()))
            }
        };
    }
}

#[test]
fn a_string_is_printed_plainly_and_anything_else_as_json() {
    for (result, shown) in [(r#""a\tb""#, "a\tb\n"), ("[1, 2]", "[1, 2]\n"), ("null", "null\n")] {
        let fake = ending(None, result);
        poolctl(&fake.socket, &["run", "code", "1"]).expect(0, shown);
    }
}

#[test]
fn json_prints_the_outcome_with_its_receipt() {
    let fake = ending(None, "42");
    poolctl(&fake.socket, &["run", "code", "1", "--json"]).expect(
        0,
        "{\"taskId\":\"11\",\"status\":\"succeeded\",\"result\":42,\"attempts\":1,\
         \"workerId\":\"w3.17\",\"receipt\":{\"queuedMs\":0.2,\"runMs\":1.1,\
         \"cpuMs\":0.9,\"memoryBytes\":4194304}}\n",
    );
    let fake = ending(Some(ErrorCode::JsException), r#"{"name":"Error","message":"no"}"#);
    let ended = poolctl(&fake.socket, &["run", "code", "1", "--json"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), ""));
    assert!(
        ended.stdout.contains(r#""error":{"code":"JS_EXCEPTION","name":"Error","message":"no"}"#),
        "{ended:?}"
    );
}

#[test]
fn an_error_comes_with_its_stack() {
    let fake = ending(
        Some(ErrorCode::JsException),
        r#"{"name":"TypeError","message":"x is null","stack":"TypeError: x is null\n    at task:1:1"}"#,
    );
    let ended = poolctl(&fake.socket, &["run", "code", "1"]);
    assert_eq!(ended.stderr, "poolctl: JS_EXCEPTION: TypeError: x is null\n    at task:1:1\n");
}

#[test]
fn console_lines_go_to_standard_error() {
    let fake = Fake::serving(|peer| {
        let task = peer.task();
        assert!(head(&task).logs);
        peer.end(
            task.id,
            None,
            "1",
            r#"[{"level":"log","text":"hello"},{"level":"warn","text":"y\"ou"},{"truncated":true}]"#,
        );
    });
    let ended = poolctl(&fake.socket, &["run", "code", "1", "--logs"]);
    ended.expect(0, "1\n");
    assert_eq!(ended.stderr, "hello\ny\"ou\npoolctl: more console output was cut\n");
}

#[test]
fn a_run_ends_with_its_client_and_is_tried_once() {
    let fake = Fake::serving(|peer| {
        let task = peer.task();
        let shown = head(&task);
        assert_eq!((shown.kind, shown.project), (TaskKind::Function, "p"));
        assert_eq!((shown.on_disconnect, shown.max_attempts), (OnDisconnect::Cancel, Some(1)));
        assert_eq!(shown.timeout_ms, Some(30_000));
        let body = Body::split(&task.body, shown.code_len).expect("whole");
        assert_eq!((body.code, body.data), ("(a,b)=>a+b", &b"[40,2]"[..]));
        peer.succeed(task.id, "42");
    });
    let args = ["run", "function", "(a,b)=>a+b", "40", "2", "--project", "p", "--timeout", "30s"];
    poolctl(&fake.socket, &args).expect(0, "42\n");
    fake.finish();
}

#[test]
fn source_and_context_may_come_from_elsewhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let context = folder.path().join("context.json");
    std::fs::write(&context, "{\"a\": 1.50}\n").expect("written");
    let fake = Fake::serving(|peer| {
        let task = peer.task();
        let body = Body::split(&task.body, head(&task).code_len).expect("whole");
        assert_eq!((body.code, body.data), ("a + 1\n", &b"{\"a\": 1.50}"[..]));
        peer.succeed(task.id, "2.5");
    });
    let args = ["run", "code", "-", "--context", context.to_str().expect("text")];
    start(&fake.socket, &args).feed("a + 1\n").end().expect(0, "2.5\n");
}

#[test]
fn without_a_supervisor_it_says_how_to_start_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = folder.path().join("pool.sock");
    let stale = folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("a short path"));
    for socket in [nowhere, stale] {
        let ended = poolctl(&socket, &["run", "code", "1"]);
        ended.expect(125, "").says(socket.to_str().expect("text"));
        ended.says("start it with `pool-supervisor` or `systemctl start process-pool`");
    }
}

#[test]
fn a_supervisor_of_another_version_is_named_as_older_or_newer() {
    for (version, older) in [(99, "client is older"), (0, "supervisor is older")] {
        let fake = Fake::with_version(version, |_| {});
        poolctl(&fake.socket, &["run", "code", "1"]).expect(125, "").says(older);
    }
}

#[test]
fn a_connection_that_breaks_under_a_task_is_not_taken_for_an_outcome() {
    let fake = Fake::serving(|peer| drop(peer.task()));
    let ended = poolctl(&fake.socket, &["run", "code", "1"]);
    ended.expect(125, "").says("closed the connection; 1 task is outstanding");
}

#[test]
fn a_task_over_the_supervisors_limit_is_not_sent() {
    let fake = Fake::serving(|peer| assert!(peer.frame().is_none()));
    let long = "1".repeat(BODY_BYTES as usize + 1);
    let ended = poolctl(&fake.socket, &["run", "code", &long]);
    ended.expect(125, "").says(
        "INVALID_TASK: the task has a body of 4097 bytes; the supervisor accepts at most 4096",
    );
    fake.finish();
}

#[test]
fn ctrl_c_cancels_the_task_and_waits_for_its_end() {
    let (sent, arrived) = std::sync::mpsc::channel();
    let fake = Fake::serving(move |peer| {
        let task = peer.task();
        sent.send(()).expect("the test waits");
        let cancel = peer.frame().expect("a cancel");
        assert_eq!((cancel.kind, cancel.id), (Kind::CancelSubmitted, task.id));
        peer.end(
            task.id,
            Some(ErrorCode::Cancelled),
            r#"{"message":"cancelled by its client"}"#,
            "",
        );
    });
    let ctl = start(&fake.socket, &["run", "code", "for(;;);"]);
    arrived.recv_timeout(crate::fake::PATIENCE).expect("a task");
    ctl.interrupt();
    ctl.end().expect(130, "").says("CANCELLED: cancelled by its client");
    fake.finish();
}

#[test]
fn a_second_ctrl_c_does_not_wait() {
    let (sent, seen) = std::sync::mpsc::channel();
    let fake = Fake::serving(move |peer| {
        drop(peer.task());
        sent.send(()).expect("the test waits");
        assert_eq!(peer.frame().expect("a cancel").kind, Kind::CancelSubmitted);
        sent.send(()).expect("the test waits");
        assert!(peer.frame().is_none(), "it is gone");
    });
    let ctl = start(&fake.socket, &["run", "code", "for(;;);"]);
    for _ in 0..2 {
        seen.recv_timeout(crate::fake::PATIENCE).expect("a frame");
        ctl.interrupt();
    }
    let ended = ctl.end();
    ended.expect(130, "");
    assert!(ended.took < Duration::from_secs(5), "{:?}", ended.took);
    fake.finish();
}
