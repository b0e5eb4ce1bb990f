//! `shell-command` with real programs: what may run, what it gets, and that nothing of it is left.

mod io_support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use io_support::programs::{allow, lives, run, script, shell_setup};
use io_support::{Worker, executable, setup, task, until};
use pool_protocol::lane::Lane;
use pool_protocol::outcome::ErrorCode;
use pool_protocol::task::TaskKind;
use serde_json::json;

fn worker() -> Worker {
    Worker::start(&shell_setup())
}

fn has_children(worker: &Worker) -> bool {
    let pid = worker.child.id();
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        parent == Some(pid)
    })
}

#[test]
fn a_program_runs_over_a_real_file_and_leaves_a_receipt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines.txt");
    fs::write(&path, "one\ntwo\n").unwrap();
    let path = path.to_str().unwrap();
    let mut worker = worker();
    let ended = run(&mut worker, &json!({"program": "/usr/bin/wc", "args": ["-l", path]}));
    assert_eq!(
        ended.result(),
        json!({"exitCode": 0, "stdout": format!("2 {path}\n"), "stderr": "", "truncated": false})
    );
    assert!(ended.head.memory_bytes > 100_000, "{:?}", ended.head);
    let ended = run(&mut worker, &json!({"command": format!("wc -c '{path}'")}));
    assert_eq!(ended.result()["stdout"], format!("8 {path}\n"));
    let ended = run(&mut worker, &json!({"program": "cat", "stdin": "x".repeat(300_000)}));
    assert_eq!(ended.result()["stdout"].as_str().unwrap().len(), 300_000);
    let ended = run(
        &mut worker,
        &json!({"program": "wc", "args": ["-l"], "cwd": folder.path(), "stdin": "a\n"}),
    );
    assert_eq!(ended.result()["stdout"], "1\n");
}

#[test]
fn what_a_shell_would_act_on_is_text() {
    let mut worker = worker();
    for text in
        ["; id", "| id", "$(id)", "`id`", "a\nid", "*", "&& id", "> /tmp/x", "$HOME", "'\"\\"]
    {
        let ended = run(&mut worker, &json!({"program": "printf", "args": ["%s", text]}));
        assert_eq!(ended.result()["stdout"], text);
    }
    let ended = run(&mut worker, &json!({"command": "printf %s,%s '$(id)' a\\ b"}));
    assert_eq!(ended.result()["stdout"], "$(id),a b");
}

#[test]
fn what_is_not_on_the_list_does_not_run() {
    let mut worker = worker();
    for data in [
        json!({"program": "/usr/bin/id"}),
        json!({"program": "id"}),
        json!({"program": "./wc"}),
        json!({"command": "id"}),
        json!({"program": "env", "args": ["id"]}),
        json!({"program": "find", "args": [".", "-exec", "id", ";"]}),
        json!({"program": "wc", "args": ["--files0-from=/etc/passwd"]}),
        json!({"program": "wc", "args": ["-l\n-c"]}),
    ] {
        let (code, message) = run(&mut worker, &data).failure();
        assert_eq!(code, ErrorCode::CommandDenied, "{data}: {message}");
    }
    let mut none = Worker::start(&setup(Lane::Io));
    assert_eq!(
        run(&mut none, &json!({"program": "/usr/bin/wc"})).failure().0,
        ErrorCode::CommandDenied
    );
}

#[test]
fn its_environment_is_what_the_configuration_and_the_task_say() {
    let mut worker = worker();
    let result = run(&mut worker, &json!({"program": "env", "env": {"NAME": "value"}})).result();
    let mut lines: Vec<_> = result["stdout"].as_str().unwrap().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["LANG=C.UTF-8", "NAME=value", "PATH=/usr/bin:/bin"]);
    for name in ["LD_PRELOAD", "BASH_ENV", "PATH", "NODE_OPTIONS"] {
        let (code, message) =
            run(&mut worker, &json!({"program": "env", "env": {name: "x"}})).failure();
        assert_eq!(code, ErrorCode::CommandDenied);
        assert!(message.contains(&format!("env.{name}")), "{message}");
    }
}

#[test]
fn it_holds_no_descriptor_but_its_three_and_may_dump_no_core() {
    let mut worker = worker();
    let result =
        script(&mut worker, "ls /proc/self/fd; ulimit -c; ulimit -f; cat /proc/self/status")
            .result();
    let text = result["stdout"].as_str().unwrap();
    assert!(text.starts_with("0\n1\n2\n3\n0\n2048\n"), "{text}");
    assert!(text.contains("NoNewPrivs:\t1"), "{text}");
}

#[test]
fn an_exit_code_is_a_failure_unless_it_is_accepted() {
    let mut worker = worker();
    let text = "echo out; echo err >&2; exit 3";
    let ended = script(&mut worker, text);
    let (code, message) = ended.failure();
    assert_eq!((code, message.contains("code 3")), (ErrorCode::CommandFailed, true), "{message}");
    let error = ended.json();
    assert_eq!(
        (&error["exitCode"], &error["stdout"], &error["stderr"]),
        (&json!(3), &json!("out\n"), &json!("err\n"))
    );
    let accepted = json!({"program": "sh", "args": ["-c", text], "acceptExit": [3]});
    assert_eq!(run(&mut worker, &accepted).result()["exitCode"], 3);
    let ended = script(&mut worker, "kill -9 $$");
    assert_eq!(ended.failure().0, ErrorCode::CommandFailed);
    assert_eq!(ended.json()["signal"], "SIGKILL");
    assert_eq!(ended.json().get("exitCode"), None);
}

#[test]
fn output_is_cut_at_its_cap_and_output_without_end_is_ended() {
    let mut worker = worker();
    let data = json!({"program": "sh", "args": ["-c", "head -c 3000000 /dev/zero; echo x \
        >&2"], "maxOutputBytes": 1000});
    let result = run(&mut worker, &data).result();
    assert_eq!(
        (result["stdout"].as_str().unwrap().len(), &result["truncated"]),
        (1000, &json!(true))
    );
    assert_eq!(result["stderr"], "x\n");
    let ended = script(&mut worker, "exec yes");
    assert_eq!(ended.failure().0, ErrorCode::OutputLimit);
    assert!(ended.json()["stdout"].as_str().unwrap().starts_with("y\n"));
    let ended = script(&mut worker, "head -c 1000000 /dev/zero | tr '\\0' '\\1'; exit 1");
    assert_eq!(ended.failure().0, ErrorCode::CommandFailed);
    assert!(ended.head.result_len <= 64 * 1024);
}

#[test]
fn output_that_is_not_utf8_is_given_as_the_bytes_that_it_is() {
    let mut worker = worker();
    let result = script(&mut worker, "printf '\\377ok'; echo fine >&2").result();
    assert_eq!(
        (&result["stdout"], &result["stderr"]),
        (&json!({"base64": "/29r"}), &json!("fine\n"))
    );
    let ended = script(&mut worker, "printf '\\377ok' >&2; exit 1");
    assert_eq!(ended.failure().0, ErrorCode::CommandFailed);
    assert_eq!(ended.json()["stderr"], json!({"base64": "/29r"}));
    // A text that is cut within a character is a text.
    let data = json!({"program": "printf", "args": ["aüü"], "maxOutputBytes": 4});
    let result = run(&mut worker, &data).result();
    assert_eq!((&result["stdout"], &result["truncated"]), (&json!("aü"), &json!(true)));
    // An error holds the start of it, however it is written.
    let ended = script(&mut worker, "head -c 100000 /dev/zero | tr '\\0' '\\377'; exit 1");
    assert!(ended.json()["stdout"]["base64"].as_str().is_some_and(|text| text.starts_with("////")));
    assert_eq!(ended.json()["truncated"], true);
    assert!(ended.head.result_len <= 64 * 1024);
}

#[test]
fn a_file_beyond_the_size_limit_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker();
    let path = folder.path().join("big");
    let text = format!("exec head -c 100000000 /dev/zero > {}", path.display());
    let ended = script(&mut worker, &text);
    assert_eq!(ended.failure().0, ErrorCode::OutputLimit);
    assert_eq!(fs::metadata(path).unwrap().len(), 1 << 20);
}

#[test]
fn files_of_its_making_get_what_the_umask_leaves() {
    for (umask, file, folder) in [(0o077, 0o600, 0o700), (0o022, 0o644, 0o755)] {
        let mut setup = shell_setup();
        setup.shell.umask = umask;
        let mut worker = Worker::start(&setup);
        let place = tempfile::tempdir().unwrap();
        let text = format!("cd {} && : > file && mkdir folder", place.path().display());
        assert_eq!(script(&mut worker, &text).result()["exitCode"], 0);
        let mode = |name: &str| {
            fs::metadata(place.path().join(name)).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode("file"), mode("folder")), (file, folder));
    }
}

#[test]
fn what_it_started_dies_with_it_even_in_a_session_of_its_own_and_with_the_pipe_in_hand() {
    let mut worker = worker();
    let text = "trap '' TERM; setsid sh -c 'trap \"\" TERM HUP; sleep 1000' & sleep 0.1; \
                setsid sh -c 'setsid sleep 1000 & setsid sleep 1000 & echo $!' ; (sleep 1000 &) ; \
                echo done";
    let ended = script(&mut worker, text);
    let result = ended.result();
    assert!(result["stdout"].as_str().unwrap().ends_with("done\n"), "{result}");
    assert!(!has_children(&worker));
    let pid = result["stdout"].as_str().unwrap().lines().next().unwrap().to_owned();
    assert!(!lives(&pid), "{pid}");
    assert!(!ended.head.spoiled);
    assert_eq!(script(&mut worker, "echo again").result()["stdout"], "again\n");
}

#[test]
fn a_timeout_and_a_cancel_end_the_whole_tree() {
    let folder = tempfile::tempdir().unwrap();
    for cancel in [false, true] {
        let mut worker = worker();
        let file = folder.path().join(format!("pid-{cancel}"));
        let file = file.to_str().unwrap();
        let text = format!(
            "trap '' TERM; setsid sleep 1000 & echo $! > {file}; while :; do sleep 0.01; done"
        );
        let data = json!({"program": "sh", "args": ["-c", text]}).to_string();
        let mut run = task(1, TaskKind::Shell, "", &data);
        if !cancel {
            // Time for a busy machine to start two processes.
            run.head.timeout_ms = 3_000;
        }
        worker.send_runs(&[run]);
        let pid = until("the program has started its child", || {
            fs::read_to_string(file).ok().filter(|text| text.ends_with('\n'))
        });
        if cancel {
            assert!(lives(&pid));
            worker.heartbeat();
            worker.cancel(1, 1, ErrorCode::Cancelled);
        }
        let ended = worker.done();
        let expected = if cancel { ErrorCode::Cancelled } else { ErrorCode::Timeout };
        assert_eq!((ended.failure().0, ended.head.spoiled), (expected, true));
        assert!(!lives(&pid), "{pid}");
        assert_eq!(worker.exit().code(), Some(0));
    }
}

#[test]
fn a_tree_that_keeps_forking_is_ended_in_time() {
    let mut worker = worker();
    // Forks as fast as it can, but never more than some dozens at once, so that the machine
    // survives a failing test.
    let bomb = "f() { for i in 1 2 3 4 5 6 7 8; do setsid sh -c 'while :; do sh -c : ; done' & \
        done; }; f; sleep 1000";
    let data = json!({"program": "sh", "args": ["-c", bomb]}).to_string();
    let mut run = task(1, TaskKind::Shell, "", &data);
    run.head.timeout_ms = 300;
    let ended = worker.outcome(&run);
    assert_eq!(ended.failure().0, ErrorCode::Timeout);
    assert_eq!(worker.exit().code(), Some(0));
}

#[test]
fn without_its_supervisor_the_worker_takes_its_program_along() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let file = file.to_str().unwrap();
    let mut worker = worker();
    let text = format!("setsid sleep 1000 & echo $! > {file}; sleep 1000");
    let data = json!({"program": "sh", "args": ["-c", text]}).to_string();
    worker.send_runs(&[task(1, TaskKind::Shell, "", &data)]);
    let pid = until("the program has started its child", || {
        fs::read_to_string(file).ok().filter(|text| text.ends_with('\n'))
    });
    worker.hang_up();
    worker.exit();
    assert!(!lives(&pid), "{pid}");
}

#[test]
fn cpu_time_of_a_program_is_limited_and_counted() {
    let mut worker = worker();
    let data = json!({"program": "sh", "args": ["-c", "while :; do :; done"]}).to_string();
    let mut run = task(1, TaskKind::Shell, "", &data);
    run.head.cpu_ms = 500;
    let ended = worker.outcome(&run);
    assert_eq!(ended.failure().0, ErrorCode::CpuLimit);
    assert!(ended.head.cpu_us >= 500_000, "{:?}", ended.head);
}

#[test]
fn a_program_that_was_swapped_does_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tool");
    write_script(&path, "echo honest $0 \"$1\"");
    let mut setup = setup(Lane::Io);
    setup.shell.allow = vec![allow(path.to_str().unwrap(), Some("[a-z]*"))];
    let mut worker = Worker::start(&setup);
    let data = json!({"program": path, "args": ["x"]});
    let result = run(&mut worker, &data).result();
    let text = result["stdout"].as_str().unwrap();
    assert!(text.starts_with("honest ") && text.ends_with(" x\n"), "{text}");

    let other = folder.path().join("other");
    write_script(&other, "echo evil");
    fs::rename(&other, &path).unwrap();
    let (code, message) = run(&mut worker, &data).failure();
    assert_eq!(code, ErrorCode::CommandDenied, "{message}");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/usr/bin/id", &path).unwrap();
    assert_eq!(run(&mut worker, &data).failure().0, ErrorCode::CommandDenied);
    fs::remove_file(&path).unwrap();
    assert_eq!(run(&mut worker, &data).failure().0, ErrorCode::CommandDenied);
}

fn write_script(path: &Path, text: &str) {
    executable::write(path, &format!("#!/bin/sh\n{text}\n"));
}

#[test]
fn malformed_tasks_name_their_field() {
    let mut worker = worker();
    for (data, field) in [
        (json!({}), "program"),
        (json!({"program": "wc", "command": "wc"}), "command"),
        (json!({"program": "wc", "shell": true}), "shell"),
        (json!({"command": "'open"}), "command"),
        (json!({"program": "wc", "cwd": "/no/such/folder"}), "cwd"),
    ] {
        let (code, message) = run(&mut worker, &data).failure();
        assert_eq!(
            (code, message.contains(field)),
            (ErrorCode::InvalidTask, true),
            "{data}: {message}"
        );
    }
    let ended = worker.outcome(&task(1, TaskKind::Code, "1", ""));
    assert_eq!(ended.failure().0, ErrorCode::InvalidTask);
}
