//! The worker's life as the supervisor sees it: handshake, order, heartbeats, limits, cancel,
//! take-back, retirement, death.

mod io_support;

use io_support::{Worker, code, setup, spawn, task, until, wait, warm};
use pool_protocol::codec;
use pool_protocol::frame::{self, Kind};
use pool_protocol::lane::Lane;
use pool_protocol::outcome::{Cause, ErrorCode};
use pool_protocol::task::TaskKind;
use pool_protocol::version;
use pool_protocol::worker::{LogHead, LogLevel};
use serde_json::json;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;

/// Long enough for anything to be said while it runs.
const SLOW: &str = "await new Promise(r => setTimeout(r, 300)); return 1";

#[test]
fn started_by_hand_it_says_what_it_is_and_exits_2() {
    for args in [&[][..], &["--lane", "js"], &["--lane", "nonsense"], &["--what"]] {
        let mut child = spawn(args, None);
        assert_eq!(wait(&mut child).code(), Some(2), "{args:?}");
        let mut text = String::new();
        child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("pool-supervisor"), "{text}");
    }
}

#[test]
fn another_version_is_refused_and_both_versions_are_named() {
    let mut worker = Worker::silent(Lane::Js);
    worker.send_setup(&setup(Lane::Js), u64::from(version::CURRENT) + 1);
    let answer = worker.next();
    assert_eq!((answer.kind, answer.id), (Kind::Ready, u64::from(version::CURRENT)));
    assert_eq!(worker.exit().code(), Some(1));
    let text = worker.stderr();
    let (own, other) = (version::CURRENT, version::CURRENT + 1);
    assert!(
        text.contains(&format!("worker speaks {own}, supervisor speaks {other}; worker is older")),
        "{text}"
    );
}

#[test]
fn a_setup_that_is_none_ends_the_worker_with_a_message() {
    let mut worker = Worker::silent(Lane::Js);
    let mut bytes = Vec::new();
    frame::put_plain(
        &mut bytes,
        Kind::Setup,
        u64::from(version::CURRENT),
        br#"{"lane":"js","colour":1}"#,
    );
    worker.send(&bytes);
    assert_eq!(worker.exit().code(), Some(1));
    let text = worker.stderr();
    assert!(text.contains("colour"), "{text}");

    let mut worker = Worker::silent(Lane::Io);
    worker.send_setup(&setup(Lane::Js), u64::from(version::CURRENT));
    assert_eq!(worker.exit().code(), Some(1));
    assert!(worker.stderr().contains("lane"));
}

#[test]
fn a_worker_whose_parent_is_another_does_not_stay() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut child = spawn(&["--lane", "js", "--parent", "1"], Some(&theirs));
    drop(theirs);
    assert_eq!(wait(&mut child).code(), Some(0));
    drop(ours);
}

#[test]
fn code_functions_and_errors_come_back_as_json() {
    let mut worker = Worker::js();
    let ended = worker.outcome(&code(1, r#"return "Hello from worker";"#));
    assert_eq!(ended.result(), "Hello from worker");
    assert!(!ended.head.spoiled);
    assert!(ended.head.memory_bytes > 0);
    assert_eq!(worker.outcome(&task(2, TaskKind::Code, "a * 2", r#"{"a":21}"#)).result(), 42);
    assert_eq!(worker.outcome(&warm(3, "async (a, b) => a + b", "[40,2]")).result(), 42);
    let ended = worker.outcome(&code(4, "throw new TypeError('no')"));
    assert_eq!(ended.failure(), (ErrorCode::JsException, "no".into()));
    assert_eq!(ended.json()["name"], "TypeError");
    assert_eq!(
        worker.outcome(&code(5, "return new Map()")).failure().0,
        ErrorCode::ResultNotSerializable
    );
    assert_eq!(worker.outcome(&code(6, "return (")).failure().0, ErrorCode::JsSyntax);
    assert_eq!(
        worker.outcome(&task(7, TaskKind::Shell, "", "{}")).failure().0,
        ErrorCode::InvalidTask
    );
    assert_eq!(worker.outcome(&code(8, "1+1")).result(), 2);
}

#[test]
fn a_burst_is_run_in_its_order_to_the_last_task() {
    let mut worker = Worker::js();
    for round in 0..20u64 {
        let ids: Vec<u64> = (1..=64).map(|n| round * 100 + n).collect();
        let args: Vec<String> = ids.iter().map(|id| format!("[{id}]")).collect();
        let runs: Vec<_> =
            ids.iter().zip(&args).map(|(id, args)| warm(*id, "n => n + 1", args)).collect();
        worker.send_runs(&runs);
        for id in ids {
            let ended = worker.done();
            assert_eq!((ended.id, ended.result()), (id, json!(id + 1)));
        }
    }
}

#[test]
fn no_task_is_overlooked_that_comes_just_before_the_worker_waits() {
    let mut worker = Worker::js();
    // A fresh realm is made ahead before each wait, and in that time the other thread may read.
    for id in 0..2000 {
        assert_eq!(worker.outcome(&code(id, "1")).result(), 1);
    }
}

#[test]
fn a_large_result_arrives_whole() {
    let mut worker = Worker::js();
    let ended = worker.outcome(&code(1, "return 'x'.repeat(5e6)"));
    assert_eq!(ended.result().as_str().unwrap().len(), 5_000_000);
    assert_eq!(
        worker.outcome(&code(2, "return 'x'.repeat(9e6)")).failure().0,
        ErrorCode::OutputLimit
    );
}

#[test]
fn console_lines_are_streamed_as_they_come_and_captured_when_wanted() {
    let mut worker = Worker::js();
    let mut run = code(1, "console.log('one'); console.error('two', 2); return 3");
    run.head.stream_logs = true;
    run.head.logs = true;
    worker.send_runs(&[run]);
    for (level, text) in [(LogLevel::Log, "one"), (LogLevel::Error, "two 2")] {
        let frame = worker.next();
        assert_eq!((frame.kind, frame.id), (Kind::Log, 1));
        assert_eq!(codec::decode::<LogHead>("log", &frame.head).unwrap().level, level);
        assert_eq!(frame.body, text);
    }
    let ended = worker.done();
    assert_eq!(ended.result(), 3);
    assert_eq!(
        ended.logs(),
        json!([{"level": "log", "text": "one"}, {"level": "error", "text": "two 2"}])
    );
    let ended = worker.outcome(&code(2, "console.log('unwanted'); return 4"));
    assert_eq!(ended.head.result_len as usize, ended.body.len());
}

#[test]
fn a_line_is_sent_while_its_task_still_runs() {
    let mut worker = Worker::js();
    let mut run = code(1, "console.log('before'); for(;;);");
    run.head.stream_logs = true;
    worker.send_runs(&[run]);
    assert_eq!(worker.next().kind, Kind::Log);
    worker.cancel(1, 1, ErrorCode::Cancelled);
    assert_eq!(worker.done().failure().0, ErrorCode::Cancelled);
}

#[test]
fn heartbeats_keep_coming_while_a_loop_runs() {
    let mut worker = Worker::js();
    worker.send_started("for(;;);");
    let first = worker.heartbeat();
    assert!(first.rss_bytes > 1 << 20);
    let last = (0..10).map(|_| worker.heartbeat()).last().unwrap();
    assert!(last.cpu_us > first.cpu_us, "{first:?} {last:?}");
}

#[test]
fn an_endless_loop_ends_at_its_timeout_and_takes_the_worker_with_it() {
    let mut worker = Worker::js();
    let mut run = code(1, "for(;;);");
    run.head.timeout_ms = 100;
    worker.send_runs(&[run, code(2, "1"), code(3, "1")]);
    assert_eq!(worker.returned(), [(2, 1), (3, 1)]);
    let ended = worker.done();
    assert_eq!(ended.failure().0, ErrorCode::Timeout);
    assert_eq!(ended.json(), json!({"message": "the task ran longer than its timeout of 100 ms"}));
    assert!(ended.head.spoiled);
    assert!(ended.head.run_us >= 100_000);
    assert_eq!(worker.next_or_end(), None);
    assert_eq!(worker.exit().code(), Some(0));
}

#[test]
fn a_timeout_covers_timers_promises_and_microtasks() {
    for source in [
        "await new Promise(r => setTimeout(r, 1e6))",
        "const f = () => Promise.resolve().then(f); await f()",
        "try { for(;;); } finally { for(;;); }",
        "/(a+)+$/.test('a'.repeat(64) + 'b')",
    ] {
        let mut worker = Worker::js();
        let mut run = code(1, source);
        run.head.timeout_ms = 50;
        assert_eq!(worker.outcome(&run).failure().0, ErrorCode::Timeout, "{source}");
    }
}

#[test]
fn cpu_time_is_limited_and_waiting_costs_none() {
    let mut worker = Worker::js();
    let mut run = code(1, "await new Promise(r => setTimeout(r, 300)); return 1");
    run.head.cpu_ms = 100;
    let ended = worker.outcome(&run);
    assert_eq!(ended.result(), 1);
    assert!(ended.head.cpu_us < ended.head.run_us, "{:?}", ended.head);
    let mut run = code(2, "for(;;);");
    run.head.cpu_ms = 50;
    let ended = worker.outcome(&run);
    assert_eq!(ended.failure().0, ErrorCode::CpuLimit);
    assert_eq!(ended.json(), json!({"message": "the task used more than its CPU time of 50 ms"}));
    assert!(ended.head.spoiled);
    assert!(ended.head.cpu_us >= 50_000, "{:?}", ended.head);
}

#[test]
fn what_never_looks_at_its_termination_dies_of_the_kernels_cpu_limit() {
    let mut worker = Worker::js();
    let mut run = code(1, "Array.prototype.includes.call({length: 2**53 - 1}, 1)");
    run.head.cpu_ms = 50;
    worker.send_runs(&[run]);
    assert_eq!(
        worker.last_words(),
        (Cause::CpuLimit, "the kernel's limit of CPU time was reached".into())
    );
    assert_eq!(worker.exit().signal(), Some(libc::SIGXCPU));
}

#[test]
fn a_cancel_ends_the_running_task_and_takes_a_waiting_one_out() {
    let mut worker = Worker::js();
    worker.send_started("for(;;);");
    worker.send_runs(&[code(2, "1"), code(3, "1")]);
    worker.cancel(9, 1, ErrorCode::Cancelled);
    worker.cancel(2, 7, ErrorCode::Cancelled);
    worker.cancel(2, 1, ErrorCode::Cancelled);
    let ended = worker.done();
    assert_eq!((ended.id, ended.failure().0, ended.head.spoiled), (2, ErrorCode::Cancelled, false));
    worker.cancel(1, 1, ErrorCode::Timeout);
    assert_eq!(worker.returned(), [(3, 1)]);
    let ended = worker.done();
    assert_eq!((ended.id, ended.head.spoiled), (1, true));
    // Its own timeout is far away.
    assert_eq!(
        ended.failure(),
        (ErrorCode::Timeout, "the task did not end before its deadline".into())
    );
    assert_eq!(worker.exit().code(), Some(0));
}

#[test]
fn a_cancel_reaches_a_task_that_waits_for_a_timer() {
    let mut worker = Worker::js();
    worker.send_started("await new Promise(r => setTimeout(r, 1e8))");
    worker.cancel(1, 1, ErrorCode::Cancelled);
    assert_eq!(worker.done().failure().0, ErrorCode::Cancelled);
}

#[test]
fn unstarted_tasks_are_given_back_while_another_runs() {
    let mut worker = Worker::js();
    worker.send_started(SLOW);
    worker.send_runs(&[code(2, "2"), code(3, "3")]);
    worker.take_back(&[(3, 1), (1, 1), (77, 1)]);
    assert_eq!(worker.returned(), [(3, 1)]);
    assert_eq!(worker.done().id, 1);
    assert_eq!(worker.done().id, 2);
    worker.take_back(&[(2, 1)]);
    assert_eq!(worker.returned(), []);
}

#[test]
fn a_retiring_worker_finishes_what_it_started_and_gives_back_the_rest() {
    let mut worker = Worker::js();
    worker.send_started(SLOW);
    worker.send_runs(&[code(2, "2")]);
    worker.retire();
    assert_eq!(worker.returned(), [(2, 1)]);
    assert_eq!(worker.done().result(), 1);
    assert_eq!(worker.next_or_end(), None);
    assert_eq!(worker.exit().code(), Some(0));

    let mut idle = Worker::js();
    idle.retire();
    assert_eq!(idle.next_or_end(), None);
    assert_eq!(idle.exit().code(), Some(0));
}

#[test]
fn without_its_supervisor_it_ends_idle_or_busy_even_if_the_engine_does_not_listen() {
    for source in
        [None, Some("for(;;);"), Some("Array.prototype.includes.call({length: 2**53 - 1}, 1)")]
    {
        let mut worker = Worker::js();
        if let Some(source) = source {
            worker.send_started(source);
        }
        worker.hang_up();
        let status = worker.exit();
        assert!(
            status.code() == Some(0) || status.signal() == Some(libc::SIGKILL),
            "{source:?}: {status}"
        );
    }
}

#[test]
fn a_supervisor_that_speaks_nonsense_is_left_with_a_message() {
    let mut run_with_bad_head = Vec::new();
    frame::put_plain(&mut run_with_bad_head, Kind::Run, 1, b"");
    let mut misplaced = Vec::new();
    frame::put_plain(&mut misplaced, Kind::Ready, 1, b"");
    for bytes in [&[0xFF; 64][..], &[0; 64], &run_with_bad_head, &misplaced] {
        let mut worker = Worker::js();
        worker.send(bytes);
        assert_eq!(worker.exit().code(), Some(1), "{bytes:?}");
        let text = worker.stderr();
        assert!(text.contains("failed to"), "{text}");
    }
}

#[test]
fn a_full_heap_is_a_memory_limit_and_not_a_lost_worker_whatever_the_limit() {
    for mib in [16, 64, 256] {
        let mut setup = setup(Lane::Js);
        setup.memory_bytes = mib << 20;
        let mut worker = Worker::start(&setup);
        let mut run = code(1, "const a = []; for(;;) a.push({})");
        run.head.memory_bytes = mib << 20;
        let ended = worker.outcome(&run);
        assert_eq!(ended.failure().0, ErrorCode::MemoryLimit, "{mib}");
        assert!(ended.head.spoiled);
        assert_eq!(worker.exit().code(), Some(0));
    }
}

#[test]
fn a_tasks_own_memory_limit_is_below_the_workers() {
    let bomb = "const a = []; for(;;) a.push({})";
    // One allocation that no collection follows: the watch notices.
    let block = "const a = new Array(3e6).fill(0); for(;;);";
    for source in [bomb, block] {
        let mut worker = Worker::js();
        let small = "return new Array(3e5).fill(0).length";
        let mut run = code(1, small);
        run.head.memory_bytes = 8 << 20;
        assert_eq!(worker.outcome(&run).result(), 300_000);
        let mut run = code(2, source);
        run.head.memory_bytes = 8 << 20;
        let ended = worker.outcome(&run);
        let (code, message) = ended.failure();
        assert_eq!(code, ErrorCode::MemoryLimit, "{source}: {message}");
        assert!(message.contains("limit of 8 MiB with "), "{source}: {message}");
        assert!(ended.head.spoiled);
        assert_eq!(worker.exit().code(), Some(0));
    }
}

#[test]
fn array_buffers_are_limited_before_the_kernel_steps_in() {
    for source in [
        "const a = []; for(;;) a.push(new Uint8Array(1 << 20).fill(1))",
        "return new ArrayBuffer(2 ** 40)",
        "const a = new ArrayBuffer(1, {maxByteLength: 2 ** 34}); a.resize(2 ** 34); return \
         a.byteLength",
    ] {
        let mut setup = setup(Lane::Js);
        setup.memory_bytes = 256 << 20;
        let mut worker = Worker::start(&setup);
        let mut run = code(1, source);
        run.head.memory_bytes = setup.memory_bytes;
        let ended = worker.outcome(&run);
        let (code, message) = ended.failure();
        assert!(
            matches!(code, ErrorCode::JsException | ErrorCode::MemoryLimit),
            "{source}: {code} {message}"
        );
        let name = if code == ErrorCode::JsException { json!("RangeError") } else { json!(null) };
        assert_eq!(ended.json()["name"], name, "{source}: {message}");
    }
}

#[test]
fn an_engine_that_dies_says_why_after_everything_that_was_done_before() {
    let mut worker = Worker::js();
    worker.send_runs(&[code(1, "return 1"), code(2, "return 'a'.repeat(2**28).split('').length")]);
    assert_eq!(worker.done().result(), 1);
    let (cause, detail) = worker.last_words();
    assert!(matches!(cause, Cause::EngineFatal | Cause::JsHeap), "{cause:?}");
    assert!(!detail.is_empty());
    assert!(worker.exit().signal().is_some());
}

#[test]
fn it_runs_with_what_it_was_given_and_no_more() {
    let worker = Worker::js();
    let pid = worker.child.id();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find(|l| l.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(limit("Max core file size"), "0");
    assert_eq!(limit("Max open files"), "64");
    assert_eq!(limit("Max file size"), "0");
    assert!(limit("Max data size").parse::<u64>().unwrap() < 1 << 30);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let descriptors =
        until("descriptors can be listed", || std::fs::read_dir(format!("/proc/{pid}/fd")).ok());
    let targets: Vec<_> = descriptors
        .map(|fd| std::fs::read_link(fd.unwrap().path()).unwrap().display().to_string())
        .filter(|t| {
            !t.starts_with("/dev/null") && !t.starts_with("pipe:") && !t.starts_with("socket:")
        })
        .collect();
    // One for heartbeats, one to see between tasks what they left, one to see what one of them
    // takes.
    assert_eq!(targets, vec![format!("/proc/{pid}/statm"); 3]);
}

#[test]
fn a_snapshot_is_written_whole_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot");
    let mut child = spawn(&["--make-snapshot", path.to_str().unwrap()], None);
    assert_eq!(wait(&mut child).code(), Some(0));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let mut setup = setup(Lane::Js);
    setup.js.snapshot = Some(path.to_str().unwrap().to_owned());
    let mut worker = Worker::start(&setup);
    assert_eq!(worker.outcome(&code(1, "return typeof console")).result(), "object");
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", worker.child.id())).unwrap();
    assert!(maps.contains(path.to_str().unwrap()), "the file is mapped, not copied");

    let mut child = spawn(&["--make-snapshot", "/no/such/folder/snapshot"], None);
    assert_eq!(wait(&mut child).code(), Some(1));
    let mut setup = setup.clone();
    setup.js.snapshot = Some("/no/such/snapshot".into());
    assert_eq!(Worker::start(&setup).outcome(&code(1, "return 1")).result(), 1);
}
