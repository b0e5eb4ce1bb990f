//! A client that costs more than it asks for: rows 57 to 61 and 63 of what the pool must survive,
//! and rows 67 and 68, where the supervisor itself was stopped or told new limits.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use pool_protocol::codec;
use pool_protocol::control::{AcceptedHead, ControlRequest, OutcomeHead, RefusedCode, RefusedHead};
use pool_protocol::frame::{self, Frame, Kind};
use pool_protocol::id::TaskId;
use pool_protocol::outcome::Status;
use pool_protocol::task::{self, OnDisconnect};
use pool_tests::client::SUBMIT;
use pool_tests::raw::Raw;
use pool_tests::tasks::{code, error, hold, result, with};
use pool_tests::wait::pause;
use pool_tests::{Pool, Value, json, proc, unharmed, until, until_some};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;

/// What one client may make the supervisor hold, whatever it does.
const MOST_KIB: u64 = 400 << 10;

fn two_workers() -> Pool {
    let pool =
        Pool::start(json!({"pool": {"minWorkers": 2, "maxWorkers": 2, "queueSize": 200_000}}));
    pool.until_idle("js", 2);
    pool
}

/// The bytes that submit tasks under the numbers from 1 on: their ids and their outcomes are
/// wanted.
fn submissions(tasks: &[Value], on_disconnect: OnDisconnect, ack: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, task) in (1..).zip(tasks) {
        let task = task::parse(task.to_string().as_bytes()).expect("the task is well-formed");
        frame::put(
            &mut bytes,
            Kind::Submit,
            number,
            &task.head(0, on_disconnect, ack, true),
            &task.body,
        );
    }
    bytes
}

fn control(number: u64, request: &ControlRequest<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::put(&mut bytes, Kind::Control, number, request, b"");
    bytes
}

fn cancel(bytes: &mut Vec<u8>, number: u64) {
    frame::put_plain(bytes, Kind::CancelSubmitted, number, b"");
}

fn next(raw: &mut Raw) -> Frame {
    raw.frame().expect("the connection lives")
}

fn outcome_of(frame: &Frame) -> OutcomeHead<'_> {
    assert_eq!(frame.kind, Kind::Outcome, "{frame:?}");
    codec::decode("outcome", &frame.head).expect("an outcome")
}

fn accepted(frame: &Frame) -> TaskId {
    assert_eq!(frame.kind, Kind::Accepted, "{frame:?}");
    let head: AcceptedHead = codec::decode("accepted", &frame.head).expect("an id");
    TaskId(head.task)
}

fn refused(frame: &Frame) -> (RefusedCode, String) {
    assert_eq!(frame.kind, Kind::Refused, "{frame:?}");
    let head: RefusedHead = codec::decode("refusal", &frame.head).expect("a refusal");
    (head.code, String::from_utf8_lossy(&frame.body).into_owned())
}

fn ended(pool: &Pool) -> u64 {
    let tasks = &pool.status()["tasks"];
    tasks["completed"].as_u64().expect("a count") + tasks["failed"].as_u64().expect("a count")
}

fn peak_kib(pool: &Pool) -> u64 {
    proc::status_kib(pool.pid(), "VmHWM").expect("it lives")
}

/// Results of `bytes` bytes.
fn large(bytes: usize, count: usize) -> Vec<Value> {
    vec![with(code(&format!("'x'.repeat({bytes})")), json!({"realm": "warm"})); count]
}

#[test]
fn hostile_57_a_client_that_never_reads_is_dropped_at_a_bound_and_its_outcomes_are_kept() {
    let pool = two_workers();
    let count = 60;
    let (mut raw, last) = unharmed(&pool, || {
        let mut raw = Raw::welcomed(pool.socket());
        raw.send(&submissions(&large(4_000_000, count), OnDisconnect::Keep, true));
        until("all have ended", || ended(&pool) == count as u64);
        let last = (0..count).map(|_| accepted(&next(&mut raw))).last().expect("more than none");
        (raw, last)
    });
    assert!(peak_kib(&pool) < MOST_KIB, "{} KiB", peak_kib(&pool));
    let mut received = 0;
    while let Some(frame) = raw.frame() {
        received += 1;
        assert_eq!(outcome_of(&frame).status, Status::Succeeded);
    }
    assert!(received < 20, "it was dropped at the bound, with {received} on their way");
    assert_eq!(
        pool.task(&last.to_string())["status"],
        "succeeded",
        "what it has not received is kept"
    );
}

#[test]
fn hostile_57_a_client_that_reads_late_receives_every_outcome() {
    let pool = two_workers();
    let count = 1000;
    let mut raw = Raw::welcomed(pool.socket());
    raw.send(&submissions(&large(50_000, count), OnDisconnect::Cancel, false));
    until("all have ended", || ended(&pool) == count as u64);
    assert!(peak_kib(&pool) < MOST_KIB, "{} KiB", peak_kib(&pool));
    let mut numbers: Vec<u64> = (0..count)
        .map(|_| next(&mut raw))
        .map(|frame| {
            assert_eq!(outcome_of(&frame).status, Status::Succeeded);
            assert_eq!(frame.body.len(), 50_002);
            frame.id
        })
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(1..=count as u64));
}

#[test]
fn hostile_57_an_outcome_counts_as_received_when_its_bytes_have_left() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    let keyed = with(large(7_000_000, 1).remove(0), json!({"idempotencyKey": "once"}));
    let before = proc::descriptors(pool.pid());
    let mut raw = Raw::welcomed(pool.socket());
    raw.send(&submissions(std::slice::from_ref(&keyed), OnDisconnect::Keep, true));
    let id = accepted(&next(&mut raw)).to_string();
    until("it has ended", || ended(&pool) == 1);
    // More than the shelf of what was received holds; what nobody has received is not on that.
    for _ in 0..3 {
        assert_eq!(pool.run(large(5_000_000, 1).remove(0))["status"], "succeeded");
    }
    assert_eq!(
        pool.task(&id)["status"],
        "succeeded",
        "its bytes lie in the socket and in the outbox"
    );
    drop(raw);
    until("its client is gone", || proc::descriptors(pool.pid()) <= before);
    let again = pool.run(keyed);
    assert_eq!(
        (&again["taskId"], &again["status"]),
        (&json!(id), &json!("succeeded")),
        "the key still means the task"
    );
    assert_eq!(pool.status()["tasks"]["total"], 4, "it did not run again");
}

#[test]
fn hostile_57_a_wait_over_http_that_timed_out_has_received_nothing() {
    let paused = json!({"paused": {"limit": 0}});
    let pool =
        Pool::with_http(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}, "projects": paused}));
    let api = pool.api();
    let late = with(code("'late'"), json!({"projectId": "paused"}));
    let answer = api.call("POST", "/api/tasks?wait=1ms", Some(&late));
    assert_eq!(answer.status, 202, "{answer:?}");
    let id = answer.json()["taskId"].as_str().expect("an id").to_owned();
    pool.limit("paused", 1);
    until("it has ended", || ended(&pool) == 1);
    // More than the shelf of what was received holds.
    for _ in 0..3 {
        assert_eq!(pool.run(large(5_000_000, 1).remove(0))["status"], "succeeded");
    }
    assert_eq!(result(api.call("GET", &format!("/api/tasks/{id}"), None).json()), "late");
}

#[test]
fn hostile_58_a_hundred_thousand_cancels_are_looked_up_and_hold_up_nobody() {
    let pool = two_workers();
    pool.limit("paused", 0);
    let count = 100_000;
    let mut raw = Raw::welcomed(pool.socket());
    let task = with(code("1"), json!({"projectId": "paused"}));
    raw.send(&submissions(&vec![task; count as usize], OnDisconnect::Keep, false));
    until("all wait", || pool.status()["tasks"]["queued"] == count);
    let before = proc::cpu_ms(pool.pid()).expect("it lives");
    let mut bytes = Vec::new();
    for number in 1..=count {
        cancel(&mut bytes, number);
        cancel(&mut bytes, number + count);
    }
    let mut writer = raw.writer();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all(&bytes).expect("the supervisor reads on while its answers are read")
        });
        scope.spawn(|| {
            until("all have been cancelled", || {
                assert_eq!(result(pool.run(code("6 * 7"))), 42, "others are served meanwhile");
                pool.status()["tasks"]["queued"] == 0
            });
        });
        for _ in 0..count {
            assert_eq!(outcome_of(&next(&mut raw)).status, Status::Cancelled);
        }
    });
    let used = proc::cpu_ms(pool.pid()).expect("it lives") - before;
    // A walk through all tasks for each of them took 40 s.
    assert!(used < 10_000, "{used} ms of processor time");
}

#[test]
fn hostile_58_a_client_that_goes_with_a_hundred_thousand_tasks_holds_up_nobody() {
    let pool = two_workers();
    pool.limit("paused", 0);
    let count = 100_000;
    let mut raw = Raw::welcomed(pool.socket());
    let task = with(code("1"), json!({"projectId": "paused"}));
    raw.send(&submissions(&vec![task; count as usize], OnDisconnect::Cancel, false));
    until("all wait", || pool.status()["tasks"]["queued"] == count);
    drop(raw);
    until("all have been cancelled", || {
        assert_eq!(result(pool.run(code("6 * 7"))), 42, "others are served meanwhile");
        pool.status()["tasks"]["queued"] == 0
    });
}

#[test]
fn hostile_58_a_wait_ends_when_it_is_cancelled_or_its_client_goes_and_the_task_goes_on() {
    let pool = two_workers();
    let id = pool.submit(hold());
    let task = id.parse::<TaskId>().expect("an id").0;
    let mut raw = Raw::welcomed(pool.socket());
    let mut bytes = control(7, &ControlRequest::Wait { task });
    cancel(&mut bytes, 7);
    cancel(&mut bytes, 7);
    bytes.extend(control(8, &ControlRequest::Ready));
    raw.send(&bytes);
    let (first, second) = (next(&mut raw), next(&mut raw));
    assert_eq!((first.kind, first.id), (Kind::Reply, 7), "a wait is answered once: {first:?}");
    assert!(String::from_utf8_lossy(&first.body).contains("no longer waiting"), "{first:?}");
    assert_eq!((second.kind, second.id), (Kind::Reply, 8));
    let mut other = Raw::welcomed(pool.socket());
    other.send(&control(1, &ControlRequest::Wait { task }));
    drop(other);
    assert_eq!(pool.task(&id)["state"], "running");
    pool.cancel(&id);
    raw.send(&control(9, &ControlRequest::Ready));
    assert_eq!(next(&mut raw).id, 9, "no outcome comes to who does not wait any more");
}

#[test]
fn hostile_58_who_submitted_under_a_known_key_can_cancel_too() {
    let pool = two_workers();
    let keyed = with(hold(), json!({"idempotencyKey": "both"}));
    let id = pool.submit(keyed.clone());
    let mut raw = Raw::welcomed(pool.socket());
    raw.send(&submissions(&[keyed], OnDisconnect::Keep, true));
    assert_eq!(accepted(&next(&mut raw)).to_string(), id);
    let mut bytes = Vec::new();
    cancel(&mut bytes, 1);
    raw.send(&bytes);
    let outcome = next(&mut raw);
    assert_eq!((outcome.id, outcome_of(&outcome).status), (1, Status::Cancelled));
}

#[test]
fn hostile_59_a_thousand_large_replies_are_made_as_fast_as_they_are_read() {
    let pool = two_workers();
    let mut raw = Raw::welcomed(pool.socket());
    let projects = 4000;
    for number in 1..=projects {
        raw.send(&control(
            number,
            &ControlRequest::SetLimit { project: &format!("project-{number}"), limit: 1 },
        ));
        assert_eq!(next(&mut raw).kind, Kind::Reply);
    }
    let before = peak_kib(&pool);
    let wanted = 1000;
    let bytes: Vec<u8> =
        (1..=wanted).flat_map(|number| control(number, &ControlRequest::Projects)).collect();
    raw.send(&bytes);
    unharmed(&pool, || until("others are answered", || pool.ctl(&["status"]).code == 0));
    let after = peak_kib(&pool);
    assert!(after < before + (64 << 10), "from {before} to {after} KiB");
    let mut length = 0;
    for number in 1..=wanted {
        let frame = next(&mut raw);
        assert_eq!((frame.kind, frame.id), (Kind::Reply, number), "in order, and none is missing");
        length += frame.body.len();
    }
    assert!(length > 200 << 20, "{length} bytes: more than would be let pile up");
}

#[test]
fn hostile_59_large_outcomes_that_are_asked_for_in_one_write_all_come() {
    let pool = two_workers();
    let id = pool.submit(large(5_000_000, 1).remove(0));
    let task = id.parse::<TaskId>().expect("an id").0;
    assert_eq!(pool.outcome(&id)["status"], "succeeded");
    let mut raw = Raw::welcomed(pool.socket());
    let wanted = 60;
    let ask = |number| match number % 2 {
        0 => control(number, &ControlRequest::Wait { task }),
        _ => control(number, &ControlRequest::Task { task }),
    };
    raw.send(&(1..=wanted).flat_map(ask).collect::<Vec<u8>>());
    let mut numbers: Vec<u64> = (0..wanted).map(|_| next(&mut raw).id).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(1..=wanted), "300 MB of answers");
    assert!(peak_kib(&pool) < MOST_KIB, "{} KiB", peak_kib(&pool));
}

#[test]
fn hostile_60_an_array_over_http_with_large_results_is_bounded_and_names_the_rest() {
    let pool = Pool::with_http(json!({"pool": {"minWorkers": 2, "maxWorkers": 2}}));
    let api = pool.api();
    let answer =
        api.call("POST", "/api/tasks?wait=60s", Some(&Value::Array(large(4_000_000, 150))));
    assert_eq!(answer.status, 202, "{}", &answer.text[..200]);
    assert!(answer.text.len() < 64 << 20, "{} bytes", answer.text.len());
    let items = answer.json();
    let items = items.as_array().expect("an array");
    assert_eq!(items.len(), 150);
    assert_eq!(items[0]["status"], "succeeded");
    let last = items[149]["taskId"].as_str().expect("its id");
    assert!(items[149]["status"].is_null());
    let outcome =
        until_some("it has ended", || Some(pool.task(last)).filter(|task| task["state"].is_null()));
    assert_eq!(outcome["status"], "succeeded", "it is there for who asks");
    assert!(peak_kib(&pool) < MOST_KIB, "{} KiB", peak_kib(&pool));
}

#[test]
fn hostile_61_waits_are_bounded_and_forgotten_with_their_client() {
    const MOST_WAITS: u64 = 65_536;
    let pool = two_workers();
    let id = pool.submit(hold());
    let task = id.parse::<TaskId>().expect("an id").0;
    let before = proc::status_kib(pool.pid(), "VmRSS").expect("it lives");
    for _ in 0..8 {
        let mut raw = Raw::welcomed(pool.socket());
        let bytes: Vec<u8> = (1..=MOST_WAITS + 1)
            .flat_map(|number| control(number, &ControlRequest::Wait { task }))
            .collect();
        raw.send(&bytes);
        let frame = next(&mut raw);
        let (code, text) = refused(&frame);
        assert_eq!((frame.id, code), (MOST_WAITS + 1, RefusedCode::Conflict));
        assert!(text.contains("use another one"), "{text}");
    }
    let after = proc::status_kib(pool.pid(), "VmRSS").expect("it lives");
    assert!(
        after < before + (48 << 10),
        "half a million waits of clients that are gone: {before} to {after} KiB"
    );
    pool.cancel(&id);
    assert_eq!(pool.outcome(&id)["status"], "cancelled");
}

#[test]
fn hostile_61_subscriptions_that_nobody_reads_cost_little() {
    let pool = two_workers();
    let before = peak_kib(&pool);
    unharmed(&pool, || {
        let mut listeners = Vec::new();
        for _ in 0..100 {
            let mut raw = Raw::welcomed(pool.socket());
            let follow = ControlRequest::Events { since: Some(0), follow: true };
            raw.send(&(1..=256).flat_map(|number| control(number, &follow)).collect::<Vec<u8>>());
            listeners.push(raw);
        }
        for _ in 0..200 {
            assert_eq!(result(pool.run(code("1"))), 1);
        }
        let mut one_more = listeners.pop().expect("a hundred");
        one_more.send(&control(257, &ControlRequest::Events { since: None, follow: true }));
        let last = one_more.last_words().pop().expect("it is told why");
        assert!(last.contains("256 subscriptions"), "{last}");
    });
    let after = peak_kib(&pool);
    assert!(after < before + (100 << 10), "25,600 subscriptions: {before} to {after} KiB");
}

#[test]
fn hostile_63_idle_clients_that_said_hello_make_room_for_the_administrator() {
    let pool = two_workers();
    unharmed(&pool, || {
        let idle: Vec<Raw> = (0..1100).map(|_| Raw::welcomed(pool.socket())).collect();
        assert!(proc::descriptors(pool.pid()) < 1024 + 100, "they are capped");
        for command in [&["status"][..], &["workers"], &["limit", "p", "3"]] {
            let asked = pool.ctl(command);
            assert_eq!(asked.code, 0, "{command:?}: {asked:?}");
        }
        drop(idle);
    });
}

#[test]
fn hostile_63_a_thousand_busy_clients_of_one_process_leave_places_for_others_and_are_not_cut_off() {
    let mut pool = two_workers();
    let id = pool.submit(hold());
    let task = id.parse::<TaskId>().expect("an id").0;
    let mut busy: Vec<Raw> = Vec::new();
    for _ in 0..1024 {
        let mut raw = Raw::welcomed(pool.socket());
        raw.send(&control(1, &ControlRequest::Wait { task }));
        busy.push(raw);
    }
    let mut late = Raw::open(pool.socket());
    late.send(&pool_tests::raw::hello(u64::from(pool_protocol::version::CURRENT)));
    assert_eq!(late.frame(), None, "this process has its places");
    assert_eq!(pool.ctl(&["cancel", &id]).code, 0, "another process gets in");
    for raw in &mut busy {
        assert_eq!(outcome_of(&next(raw)).status, Status::Cancelled);
    }
    assert_eq!(pool.ctl(&["shutdown"]).code, 0);
    assert!(pool.wait().success());
}

#[test]
fn hostile_63_a_client_that_broke_the_protocol_is_closed_though_it_does_not_read_why() {
    let pool = two_workers();
    let mut stream = UnixStream::connect(pool.socket()).expect("it listens");
    let greeting = pool_tests::raw::hello(u64::from(pool_protocol::version::CURRENT));
    stream.write_all(&greeting).expect("it reads");
    let unread = |stream: &UnixStream| rustix::io::ioctl_fionread(stream).expect("a socket");
    // A few answers at a time, until the socket takes no more of them and some lie in the outbox.
    for number in 1.. {
        let before = unread(&stream);
        stream.write_all(&control(number, &ControlRequest::Config).repeat(20)).expect("it reads");
        let grows = (0..30).any(|_| {
            pause(Duration::from_millis(10));
            unread(&stream) > before
        });
        if !grows {
            break;
        }
    }
    stream.write_all(&[0xEE; 16]).expect("it reads");
    until("it is closed", || {
        let mut polled = [PollFd::new(&stream, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut polled, Some(&now)).expect("a socket") > 0
            && polled[0].revents().contains(PollFlags::HUP)
    });
}

#[test]
fn hostile_67_a_supervisor_that_was_stopped_and_continued_ends_no_worker() {
    let pool =
        Pool::start(json!({"pool": {"minWorkers": 2, "maxWorkers": 2, "heartbeatInterval": 50}}));
    pool.until_idle("js", 2);
    let id = pool.submit(hold());
    until("it runs", || pool.task(&id)["state"] == "running");
    let workers = proc::workers_of(pool.pid());
    let wakes = |pid: i32| -> u64 {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it lives").flatten();
        let of = |thread: std::fs::DirEntry| {
            let status = std::fs::read_to_string(thread.path().join("status")).ok()?;
            let line =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            line.trim().parse::<u64>().ok()
        };
        threads.filter_map(of).sum()
    };
    pool.signal(Signal::STOP);
    let before: Vec<u64> = workers.iter().map(|pid| wakes(*pid)).collect();
    // A worker wakes for each of its heartbeats, and for little else: more than used to be believed
    // in one second.
    until("heartbeats have piled up", || {
        workers.iter().zip(&before).all(|(pid, before)| wakes(*pid) > before + 250)
    });
    pool.signal(Signal::CONT);
    assert_eq!(result(pool.run(code("6 * 7"))), 42);
    assert_eq!(pool.task(&id)["state"], "running");
    assert_eq!(proc::workers_of(pool.pid()), workers, "{}", pool.log());
    assert_eq!(pool.dead_workers(), Vec::<Value>::new());
}

#[test]
fn hostile_68_after_a_reload_each_worker_and_client_is_judged_by_the_limits_it_was_told() {
    let config = |bytes: u64| {
        json!({
            "pool": {"minWorkers": 1, "maxWorkers": 1},
            "limits": {"bodyBytes": bytes, "resultBytes": bytes},
        })
    };
    let pool = Pool::start(config(8 << 20));
    pool.until_idle("js", 1);
    let mut before = pool.client();
    let running =
        code("await new Promise(done => setTimeout(done, 700)); return 'x'.repeat(2_000_000)");
    let id = pool.submit(running);
    until("it runs", || pool.task(&id)["state"] == "running");
    pool.configure(config(64 << 10));
    pool.ask(&ControlRequest::Reload);
    let outcome = pool.outcome(&id);
    assert_eq!(result(outcome).as_str().map(str::len), Some(2_000_000), "its worker was told so");
    let long = with(code("data.length"), json!({"context": {"data": "y".repeat(1 << 20)}}));
    let request = before.submit_as(&long, SUBMIT);
    assert_eq!(result(before.outcome(request)), 1 << 20, "this client was told so");
    let mut after = Raw::welcomed(pool.socket());
    after.send(&submissions(&[long], OnDisconnect::Keep, true));
    let words = after.last_words();
    assert!(words.iter().any(|words| words.contains("error")), "and this one was not: {words:?}");
    until("workers are told the new limits", || {
        pool.run(code("'x'.repeat(1_000_000)"))["error"]["code"] == "OUTPUT_LIMIT"
    });
}

#[test]
fn hostile_68_larger_bodies_are_taken_once_no_worker_from_before_takes_tasks() {
    let config = |bytes: u64| {
        json!({
            "pool": {"minWorkers": 1, "maxWorkers": 1},
            "limits": {"bodyBytes": bytes},
        })
    };
    let pool = Pool::start(config(64 << 10));
    pool.until_idle("js", 1);
    pool.configure(config(8 << 20));
    pool.ask(&ControlRequest::Reload);
    let long = with(code("data.length"), json!({"context": {"data": "y".repeat(1 << 20)}}));
    until("clients are told the new limit", || {
        let mut client = pool.client();
        client.body_bytes() == 8 << 20 && result(client.run(&long)) == 1 << 20
    });
    until("the old worker has left", || !pool.dead_workers().is_empty());
    let dead = pool.dead_workers();
    assert!(dead.iter().all(|row| row["verdict"]["cause"] == "recycled"), "{dead:?}");
}

#[test]
fn refusals_at_the_door_are_counted_in_the_metrics() {
    let pool = Pool::with_http(json!({"projects": {"full": {"limit": 0, "maxQueued": 1}}}));
    let mut client = pool.client();
    let task = with(code("1"), json!({"projectId": "full"}));
    let (waits, refused) = (client.submit(&task), client.submit(&task));
    assert_eq!(error(&client.outcome(refused)), "PROJECT_QUOTA");
    client.id(waits);
    let metrics = pool.api().call("GET", "/metrics", None).text;
    let line = r#"process_pool_task_errors_total{code="PROJECT_QUOTA"} 1"#;
    assert!(metrics.lines().any(|l| l == line), "{metrics}");
}
