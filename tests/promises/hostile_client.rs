//! A client of the control socket that is no friend: rows 23 to 28 of what the pool must survive.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use pool_protocol::control::ControlRequest;
use pool_protocol::frame::{self, Kind};
use pool_tests::binaries::binaries;
use pool_tests::client::{RUN, SUBMIT};
use pool_tests::pool::{Ctl, supervisor_command};
use pool_tests::raw::{Raw, hello};
use pool_tests::tasks::{code, hold, result, sleep};
use pool_tests::{Client, Folder, Pool, json, proc, skip, unharmed, until};
use rustix::process::Signal;

#[test]
fn hostile_24_a_thousand_idle_connections_are_capped_and_the_administrator_still_gets_in() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 2, "maxWorkers": 2}}));
    pool.until_idle("js", 2);
    unharmed(&pool, || {
        let connect = |_| UnixStream::connect(pool.socket()).ok();
        let mut idle: Vec<UnixStream> = (0..1500).filter_map(connect).collect();
        let greeting = hello(u64::from(pool_protocol::version::CURRENT));
        // A byte at a time: none of them gets to the end of its hello.
        for byte in &greeting[..3] {
            for stream in &mut idle {
                // Those over the cap have been closed by now.
                let _ = stream.write_all(&[*byte]);
            }
            until("the administrator gets in", || pool.ctl(&["status"]).code == 0);
        }
        until("they are capped", || proc::descriptors(pool.pid()) < 1024 + 100);
        drop(idle);
    });
}

#[test]
fn hostile_25_requests_sent_all_at_once_are_answered_up_to_the_first_bad_one() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 2, "maxWorkers": 2}}));
    pool.until_idle("js", 2);
    unharmed(&pool, || {
        let mut bytes = Vec::new();
        for request in 1..=1000 {
            frame::put(&mut bytes, Kind::Control, request, &ControlRequest::Status, b"");
        }
        bytes.extend_from_slice(&[0xEE; 16]);
        frame::put(&mut bytes, Kind::Control, 1001, &ControlRequest::Shutdown { now: true }, b"");
        let mut raw = Raw::welcomed(pool.socket());
        raw.send(&bytes);
        let mut answered = 0;
        while let Some(frame) = raw.frame() {
            answered += u64::from(frame.kind == Kind::Reply && frame.id == answered + 1);
        }
        assert_eq!(answered, 1000, "in order, and none after the bad one");
    });
}

#[test]
fn hostile_26_a_symlink_or_a_folder_that_is_not_ours_is_refused_with_what_to_do() {
    let folder = Folder::new();
    let refused = |path: &std::path::Path| {
        let tried: Ctl = supervisor_command(&folder)
            .args(["--http", "off", "--socket"])
            .arg(path)
            .output()
            .expect("it starts")
            .into();
        assert_ne!(tried.code, 0, "{tried:?}");
        assert!(tried.stderr.contains("--socket"), "it says what to do: {tried:?}");
        tried.stderr
    };
    let target = folder.write("target", "precious");
    let link = folder.join("link.sock");
    std::os::unix::fs::symlink(&target, &link).expect("a link");
    assert!(refused(&link).contains("not a socket"));
    assert_eq!(std::fs::read_to_string(&target).expect("left alone"), "precious");
    let open = folder.join("open");
    std::fs::create_dir(&open).expect("ours");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).expect("ours");
    assert!(refused(&open.join("pool.sock")).contains("others may write"));
    if !rustix::process::geteuid().is_root() {
        return skip::partly_skipped(skip::ROOT, "a folder of another user");
    }
    let theirs = folder.join("theirs");
    std::fs::create_dir(&theirs).expect("ours");
    std::os::unix::fs::chown(&theirs, Some(65534), Some(65534)).expect("we are root");
    assert!(refused(&theirs.join("pool.sock")).contains("65534"));
}

#[test]
fn hostile_28_who_disconnects_leaves_submitted_tasks_and_loses_those_that_it_ran() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 4, "maxWorkers": 4}}));
    pool.until_idle("js", 4);
    unharmed(&pool, || {
        let mut client = pool.client();
        let (run, waiting) = (client.submit_as(&hold(), RUN), client.submit_as(&hold(), RUN));
        let submitted = client.submit_as(&sleep(700), SUBMIT);
        let (run, waiting, submitted) = (client.id(run), client.id(waiting), client.id(submitted));
        until("they run", || {
            pool.task(&submitted)["state"] == "running" && pool.task(&run)["state"] == "running"
        });
        drop(client);
        // Their outcomes are nobody's, and not kept.
        until("both are cancelled", || {
            let ended = pool.events_named("task-error");
            [&run, &waiting]
                .iter()
                .all(|id| ended.iter().any(|e| e["taskId"] == **id && e["error"] == "CANCELLED"))
        });
        assert_eq!(result(pool.outcome(&submitted)), "slept");
    });
}

/// In the middle of a frame, of a body, of a reply that is not read, of the events.
#[test]
fn hostile_28_who_disconnects_in_the_middle_of_anything_leaves_nothing_behind() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 2, "maxWorkers": 2}}));
    pool.until_idle("js", 2);
    let before = proc::descriptors(pool.pid());
    let mut pieces = vec![hello(u64::from(pool_protocol::version::CURRENT))[..7].to_vec()];
    for length in [0, 100, 8 << 20] {
        let mut bytes = Vec::new();
        frame::put_header(&mut bytes, Kind::Submit, 1, length);
        bytes.extend_from_slice(b"half");
        pieces.push(bytes);
    }
    let mut requests = Vec::new();
    for request in 1..=200 {
        let follow = ControlRequest::Events { since: Some(0), follow: true };
        frame::put(&mut requests, Kind::Control, request, &follow, b"");
        frame::put(
            &mut requests,
            Kind::Control,
            request + 1000,
            &ControlRequest::Workers { dead: true },
            b"",
        );
    }
    pieces.push(requests);
    unharmed(&pool, || {
        for piece in &pieces {
            for _ in 0..20 {
                let mut raw = Raw::welcomed(pool.socket());
                raw.send(piece);
            }
        }
    });
    until("no connection is kept", || proc::descriptors(pool.pid()) <= before + 2);
}

#[test]
fn hostile_23_another_user_is_refused_and_logged() {
    if !rustix::process::geteuid().is_root() {
        return skip::skipped(skip::ROOT, "another user cannot be played");
    }
    let pool = Pool::start(json!({}));
    // Wide open on purpose: what is left is the check of who is calling.
    for path in [pool.folder().path(), pool.socket().parent().expect("a folder").to_owned()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("ours");
    }
    std::fs::set_permissions(pool.socket(), std::fs::Permissions::from_mode(0o666)).expect("ours");
    let poolctl = pool.folder().copy_program(&binaries().poolctl, "poolctl");
    let mut command = Command::new(poolctl);
    let asked: Ctl = command
        .arg("--socket")
        .arg(pool.socket())
        .arg("status")
        .current_dir("/")
        .uid(65534)
        .gid(65534)
        .output()
        .expect("it starts")
        .into();
    assert_ne!(asked.code, 0, "{asked:?}");
    assert!(asked.stdout.is_empty(), "{asked:?}");
    until("the refusal is logged", || pool.log().contains("65534"));
    assert_eq!(result(pool.run(code("1"))), 1, "its own user is served on");
}

#[test]
fn hostile_25_a_malformed_or_oversized_frame_gets_an_error_and_the_connection_ends() {
    let pool = Pool::start(json!({}));
    let mut unknown = vec![0xEE, 0, 0, 0];
    unknown.extend_from_slice(&[0; 12]);
    let mut huge = Vec::new();
    frame::put_header(&mut huge, Kind::Submit, 1, 0);
    huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut long_head = Vec::new();
    frame::put_header(&mut long_head, Kind::Submit, 1, 0);
    long_head[2..4].copy_from_slice(&u16::MAX.to_le_bytes());
    let mut nonsense_head = Vec::new();
    frame::put(&mut nonsense_head, Kind::Submit, 1, &0xDEAD_BEEF_u32, b"x");
    let mut trailing = Vec::new();
    frame::put(&mut trailing, Kind::Control, 1, &(0_u8, 7_u8, 7_u8), b"");
    let mut not_ours = Vec::new();
    frame::put_plain(&mut not_ours, Kind::Ready, 1, b"");
    for bytes in [unknown, huge, long_head, nonsense_head, trailing, not_ours, hello(1)] {
        let mut raw = Raw::welcomed(pool.socket());
        raw.send(&bytes);
        let words = raw.last_words();
        assert!(
            words.iter().all(|w| w.contains("error")),
            "an error or nothing, then the end: {words:?}"
        );
    }
    assert_eq!(result(pool.run(code("1"))), 1);
    assert_eq!(pool.status()["tasks"]["total"], 1);
}

#[test]
fn hostile_25_what_a_client_announces_is_not_allocated() {
    let pool = Pool::start(json!({}));
    let before = proc::status_kib(pool.pid(), "VmRSS").expect("it lives");
    let mut open = Vec::new();
    for _ in 0..50 {
        let mut raw = Raw::welcomed(pool.socket());
        let mut bytes = Vec::new();
        frame::put_header(&mut bytes, Kind::Submit, 1, 8 << 20);
        raw.send(&bytes);
        open.push(raw);
    }
    assert_eq!(result(pool.run(code("1"))), 1);
    let after = proc::status_kib(pool.pid(), "VmRSS").expect("it lives");
    assert!(after < before + 100 * 1024, "50 announcements of 8 MiB: {before} to {after} KiB");
}

#[test]
fn hostile_26_a_second_supervisor_refuses_and_leaves_the_first_alone() {
    let first = Pool::start(json!({}));
    let folder = Folder::new();
    let second: Ctl = supervisor_command(&folder)
        .args(["--http", "off", "--socket"])
        .arg(first.socket())
        .output()
        .expect("it starts")
        .into();
    assert_ne!(second.code, 0);
    let socket = first.socket().to_str().expect("ASCII");
    assert!(second.stderr.contains(socket), "it names the socket: {second:?}");
    assert_eq!(result(first.run(code("1"))), 1);
}

#[test]
fn hostile_26_a_stale_socket_is_replaced() {
    let folder = Folder::new();
    let start = || {
        let child = supervisor_command(&folder)
            .args(["--http", "off", "--socket"])
            .arg(folder.join("run/pool.sock"))
            .spawn()
            .expect("it starts");
        until("it listens", || Client::open(&folder.join("run/pool.sock")).is_ok());
        child
    };
    for _ in 0..2 {
        let mut child = start();
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        assert!(folder.join("run/pool.sock").exists(), "a killed supervisor leaves its socket");
    }
}

#[test]
fn hostile_26_a_path_over_107_bytes_or_a_file_in_the_way_is_refused_with_what_to_do() {
    let folder = Folder::new();
    let long = folder.join("x".repeat(110));
    let tried: Ctl = supervisor_command(&folder)
        .args(["--http", "off", "--socket"])
        .arg(&long)
        .output()
        .expect("it starts")
        .into();
    assert_ne!(tried.code, 0);
    assert!(tried.stderr.contains("107"), "{tried:?}");
    let file = folder.write("in-the-way/pool.sock", "not a socket");
    let tried: Ctl = supervisor_command(&folder)
        .args(["--http", "off", "--socket"])
        .arg(&file)
        .output()
        .expect("it starts")
        .into();
    assert_ne!(tried.code, 0);
    assert_eq!(std::fs::read_to_string(&file).expect("left alone"), "not a socket", "{tried:?}");
}

#[test]
fn hostile_27_a_bad_configuration_is_refused_naming_the_key_and_the_old_one_stays() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 2}}));
    for (bad, named) in [
        (json!({"pool": {"maxWorkers": 0}}), "pool.maxWorkers"),
        (json!({"pool": {"maxWorkers": 1_000_000_000}}), "pool.maxWorkers"),
        (json!({"pool": {"minWorkers": 5, "maxWorkers": 2}}), "pool.minWorkers"),
        (json!({"pool": {"maxWorkerz": 2}}), "pool.maxWorkers"),
        (json!({"shell": {"allow": [{"program": "relative"}]}}), "shell.allow"),
    ] {
        pool.configure(bad.clone());
        let refused = pool.ctl(&["reload"]);
        assert_ne!(refused.code, 0, "{bad}");
        assert!(refused.stderr.contains(named), "{bad}: {refused:?}");
        assert_eq!(pool.status()["maxWorkers"], 2, "{bad}");
    }
    pool.signal(Signal::HUP);
    until("the refusal is logged", || pool.log().contains("shell.allow"));
    assert_eq!(result(pool.run(code("1"))), 1);
    assert!(pool.events_named("config-reloaded").is_empty());
}

#[test]
fn hostile_27_a_smaller_pool_lets_busy_workers_finish() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 3, "maxWorkers": 3}}));
    pool.until_idle("js", 3);
    let held: Vec<String> = (0..3).map(|_| pool.submit(hold())).collect();
    until("all run", || pool.status()["tasks"]["running"] == 3);
    pool.configure(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    pool.ask(&ControlRequest::Reload);
    assert_eq!(pool.status()["tasks"]["running"], 3, "nothing that runs is ended");
    for id in held {
        pool.cancel(&id);
    }
    until("one is left", || pool.status()["workers"]["total"] == 1);
    assert_eq!(result(pool.run(code("1"))), 1);
}
