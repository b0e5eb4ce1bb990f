//! A program that is told to end: asked first, killed when it does not, and never without what it
//! had printed.

mod io_support;

use io_support::programs::{run, shell_setup};
use io_support::{Ended, PATIENCE, Worker, task, until};
use pool_protocol::outcome::ErrorCode;
use pool_protocol::task::TaskKind;
use serde_json::json;
use std::fs;

/// Time that a program does not need in order to end, in milliseconds. Less than the test's own
/// patience: a shell that is asked while it starts another program can lose the signal for that
/// one, which then has to be killed.
const ENOUGH_MS: u64 = PATIENCE.as_millis() as u64 / 3;

/// A worker whose programs get this long to end.
fn worker(kill_after_ms: u64) -> Worker {
    let mut setup = shell_setup();
    setup.shell.kill_after_ms = kill_after_ms;
    Worker::start(&setup)
}

/// Runs a script that makes the file `begun` once it has begun, and cancels it then.
fn cancelled(worker: &mut Worker, text: &str) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let begun = folder.path().join("begun");
    let data = json!({"program": "sh", "args": ["-c", text, "sh", begun]}).to_string();
    worker.send_runs(&[task(1, TaskKind::Shell, "", &data)]);
    until("the program has begun", || fs::exists(&begun).unwrap().then_some(()));
    worker.cancel(1, 1, ErrorCode::Cancelled);
    worker.done()
}

#[test]
fn a_program_that_listens_ends_by_itself_and_everything_it_printed_is_told() {
    let mut worker = worker(ENOUGH_MS);
    let text = "trap 'echo tidied up; exit 3' TERM; echo step 1; echo warned >&2; : > $1; sleep \
        1000 & wait";
    let ended = cancelled(&mut worker, text);
    assert_eq!((ended.failure().0, ended.head.spoiled), (ErrorCode::Cancelled, true));
    let error = ended.json();
    assert_eq!(
        (&error["stdout"], &error["stderr"]),
        (&json!("step 1\ntidied up\n"), &json!("warned\n"))
    );
    assert_eq!((&error["exitCode"], &error["truncated"]), (&json!(3), &json!(false)));
    assert_eq!(worker.exit().code(), Some(0));
}

#[test]
fn a_program_that_does_not_listen_is_killed_and_what_it_printed_is_told() {
    for kill_after_ms in [0, 100] {
        let mut worker = worker(kill_after_ms);
        let ended = cancelled(
            &mut worker,
            "trap '' TERM; echo step 1; : > $1; while :; do sleep 0.01; done",
        );
        assert_eq!(ended.failure().0, ErrorCode::Cancelled);
        let error = ended.json();
        assert_eq!((&error["stdout"], &error["signal"]), (&json!("step 1\n"), &json!("SIGKILL")));
        assert!(ended.head.run_us >= kill_after_ms * 1000, "{:?}", ended.head);
    }
}

#[test]
fn at_its_timeout_a_program_is_asked_too() {
    let mut worker = worker(ENOUGH_MS);
    let data = json!({"program": "sh", "args": ["-c", "echo step 1; exec sleep 1000"]}).to_string();
    let mut run = task(1, TaskKind::Shell, "", &data);
    // Time for a busy machine to start it.
    run.head.timeout_ms = 2_000;
    let ended = worker.outcome(&run);
    let message = "the task ran longer than its timeout of 2000 ms".to_owned();
    assert_eq!(ended.failure(), (ErrorCode::Timeout, message));
    assert_eq!(
        (&ended.json()["stdout"], &ended.json()["signal"]),
        (&json!("step 1\n"), &json!("SIGTERM"))
    );
}

#[test]
fn all_of_its_process_group_is_asked_and_gets_the_time() {
    let mut worker = worker(ENOUGH_MS);
    let text = "sh -c 'trap \"sleep 0.3; echo child is done; exit\" TERM; : > $1; while :; do \
        sleep 0.01; done' sh $1; echo never";
    let ended = cancelled(&mut worker, text);
    let error = ended.json();
    assert_eq!(
        (&error["stdout"], &error["signal"]),
        (&json!("child is done\n"), &json!("SIGTERM")),
        "{error}"
    );
}

#[test]
fn one_that_is_stopped_hears_of_it() {
    let mut worker = worker(ENOUGH_MS);
    let ended =
        cancelled(&mut worker, "trap 'echo woken; exit 0' TERM; : > $1; kill -STOP $$; sleep 0.01");
    let error = ended.json();
    assert_eq!((&error["stdout"], &error["exitCode"]), (&json!("woken\n"), &json!(0)), "{error}");
}

#[test]
fn what_was_printed_is_told_as_bytes_where_it_is_no_text_and_cut_where_it_is_long() {
    let mut worker = worker(0);
    let text = "printf '\\377'; head -c 100000 /dev/zero | tr '\\0' x >&2; : > $1; sleep 1000";
    let error = cancelled(&mut worker, text).json();
    assert_eq!((&error["stdout"], &error["truncated"]), (&json!({"base64": "/w=="}), &json!(true)));
    assert!(error["stderr"].as_str().is_some_and(|text| text.starts_with("xxx")), "{error}");
}

#[test]
fn a_program_that_has_ended_before_is_told_as_it_ended() {
    let mut worker = worker(2_000);
    let ended = run(&mut worker, &json!({"program": "printf", "args": ["x"]}));
    assert_eq!(ended.result()["stdout"], "x");
    worker.cancel(1, 1, ErrorCode::Cancelled);
    assert_eq!(
        run(&mut worker, &json!({"program": "printf", "args": ["y"]})).result()["stdout"],
        "y"
    );
}
