//! Every malformed task, request, frame, configuration and argument gets a clear error that names the field, and changes nothing.

use pool_protocol::frame::{self, Kind};
use pool_tests::pool::{Ctl, supervisor_command};
use pool_tests::raw::{Raw, hello};
use pool_tests::tasks::{code, result, with};
use pool_tests::{Folder, Pool, Value, json};

#[test]
fn a_malformed_task_names_its_field() {
    let pool = Pool::start(json!({}));
    let shell = |fields: Value| with(json!({"type": "shell-command"}), fields);
    let cases = [
        (json!({"code": "1"}), "type"),
        (json!({"type": "execute-cod", "code": "1"}), "type"),
        (json!({"type": "execute-code"}), "code"),
        (json!({"type": "execute-function", "args": []}), "fn"),
        (json!({"type": "execute-function", "fn": "x=>x", "args": {}}), "args"),
        (json!({"type": "execute-module"}), "modulePath"),
        (json!({"type": "http-request"}), "url"),
        (shell(json!({})), "program"),
        (shell(json!({"program": "/bin/true", "command": "true"})), "command"),
        (shell(json!({"program": "/bin/true", "args": [1]})), "args"),
        (with(code("1"), json!({"priority": 11})), "priority"),
        (with(code("1"), json!({"priority": -1})), "priority"),
        (with(code("1"), json!({"priority": 1.5})), "priority"),
        (with(code("1"), json!({"projectId": ""})), "projectId"),
        (with(code("1"), json!({"projectId": "a b"})), "projectId"),
        (with(code("1"), json!({"projectId": "x".repeat(129)})), "projectId"),
        (with(code("1"), json!({"timeout": 0})), "timeout"),
        (with(code("1"), json!({"timeout": "soon"})), "timeout"),
        (with(code("1"), json!({"timeout": u64::MAX})), "timeout"),
        (with(code("1"), json!({"maxAttempts": 0})), "maxAttempts"),
        (with(code("1"), json!({"retry": {"factor": 0.5}})), "retry.factor"),
        (with(code("1"), json!({"retry": {"speed": 1}})), "speed"),
        (with(code("1"), json!({"limits": {"cpuMs": 0}})), "limits.cpuMs"),
        (with(code("1"), json!({"limits": {"memoryBytes": 1}})), "limits.memoryBytes"),
        (with(code("1"), json!({"deadline": "tomorrow"})), "deadline"),
        (with(code("1"), json!({"realm": "hot"})), "realm"),
        (with(code("1"), json!({"tag": "t".repeat(2000)})), "tag"),
        (with(code("1"), json!({"url": "http://x"})), "url"),
        (with(code("1"), json!({"context": [1]})), "context"),
    ];
    let lines: String = cases.iter().map(|(task, _)| format!("{task}\n")).collect();
    let ctl = pool.ctl_with_input(&["submit"], &lines);
    assert_ne!(ctl.code, 0);
    let outcomes = ctl.json_lines();
    assert_eq!(outcomes.len(), cases.len(), "{ctl:?}");
    for ((task, field), outcome) in cases.iter().zip(&outcomes) {
        assert_eq!(
            (outcome["status"].as_str(), outcome["error"]["code"].as_str()),
            (Some("rejected"), Some("INVALID_TASK")),
            "{task}"
        );
        assert!(outcome["error"]["message"].as_str().is_some_and(|m| m.contains(field)), "{field}: {outcome}");
    }
    assert_eq!(pool.status()["tasks"]["total"], 0, "nothing was accepted");
}

#[test]
fn a_misspelt_field_is_refused_with_the_nearest_name() {
    let pool = Pool::start(json!({}));
    let ctl = pool.ctl_with_input(&["submit"], &with(code("1"), json!({"projectID": "p"})).to_string());
    assert!(ctl.stdout.contains("projectID") && ctl.stdout.contains("projectId"), "{ctl:?}");
}

#[test]
fn a_task_before_the_hello_is_refused() {
    let pool = Pool::start(json!({}));
    let mut raw = Raw::open(pool.socket());
    let mut bytes = Vec::new();
    frame::put_plain(&mut bytes, Kind::CancelSubmitted, 1, b"");
    raw.send(&bytes);
    raw.last_words();
    assert_eq!(pool.status()["tasks"]["total"], 0);
}

#[test]
fn another_version_is_told_which_side_is_older() {
    let pool = Pool::start(json!({}));
    for version in [0, 999] {
        let mut raw = Raw::open(pool.socket());
        raw.send(&hello(version));
        let words = raw.last_words().concat();
        assert!(
            words.contains("version") && words.contains(&version.to_string()) && words.contains("older"),
            "{words}"
        );
    }
}

#[test]
fn half_a_frame_and_silence_holds_up_nobody() {
    let pool = Pool::start(json!({}));
    let mut silent: Vec<Raw> = (0..20).map(|_| Raw::open(pool.socket())).collect();
    for raw in &mut silent {
        raw.send(&hello(1)[..7]);
    }
    assert_eq!(result(pool.run(code("1"))), 1);
}

#[test]
fn a_malformed_configuration_names_its_key_and_starts_nothing() {
    let folder = Folder::new();
    let cases = [
        ("{", "JSON"),
        (r#"{"poool": {}}"#, "pool"),
        (r#"{"pool": {"minWorkers": -1}}"#, "pool.minWorkers"),
        (r#"{"pool": {"maxWorkers": "many"}}"#, "pool.maxWorkers"),
        (r#"{"pool": {"minWorkers": 3, "maxWorkers": 2}}"#, "pool.minWorkers"),
        (r#"{"pool": {"scaleUpThreshold": "x"}}"#, "pool.scaleUpThreshold"),
        (r#"{"limits": {"memoryBytes": "1 potato"}}"#, "limits.memoryBytes"),
        (r#"{"limits": {"timeout": "99 fortnights"}}"#, "limits.timeout"),
        (r#"{"projects": {"a b": {}}}"#, "a b"),
        (r#"{"projects": {"p": {"weight": 0}}}"#, "projects.p.weight"),
        (r#"{"js": {"moduleRoots": ["/no/such/folder"]}}"#, "js.moduleRoots"),
        (r#"{"shell": {"allow": [{"program": "wc"}]}}"#, "shell.allow"),
        (r#"{"shell": {"allow": [{"program": "/usr/bin/wc", "args": "("}]}}"#, "shell.allow"),
        (r#"{"http": {"listen": "nowhere"}}"#, "http.listen"),
        (r#"{"http": {"allow": ["???"]}}"#, "http.allow"),
        (r#"{"log": {"level": "loud"}}"#, "log.level"),
        (r#"{"pool": {"minWorkers": 1}, "daemon": {"worker": {"minProcesses": 1}}}"#, "minWorkers"),
    ];
    for (text, named) in cases {
        let file = folder.write("bad.json", text);
        let checked: Ctl = supervisor_command(&folder)
            .arg("--check-config")
            .arg("--config")
            .arg(&file)
            .output()
            .expect("it starts")
            .into();
        assert_ne!(checked.code, 0, "{text}");
        assert!(checked.stderr.contains(named) && checked.stderr.contains("bad.json"), "{text}: {checked:?}");
        assert!(checked.stdout.is_empty(), "{text}");
    }
    let started: Ctl = supervisor_command(&folder)
        .arg("--config")
        .arg(folder.join("bad.json"))
        .arg("--socket")
        .arg(folder.join("run/pool.sock"))
        .output()
        .expect("it starts")
        .into();
    assert_ne!(started.code, 0);
    assert!(!folder.join("run/pool.sock").exists(), "{started:?}");
}

#[test]
fn malformed_arguments_are_explained() {
    let folder = Folder::new();
    for arguments in [&["--confg", "x"][..], &["--http", "nowhere"], &["--config", "/no/such.json"], &["extra"]] {
        let tried: Ctl = supervisor_command(&folder)
            .env("RUNTIME_DIRECTORY", folder.join("run"))
            .args(arguments)
            .output()
            .expect("it starts")
            .into();
        assert_ne!(tried.code, 0, "{arguments:?}");
        assert!(
            tried.stderr.contains(arguments.last().expect("some")) || tried.stderr.contains(arguments[0]),
            "{arguments:?}: {tried:?}"
        );
    }
    let pool = Pool::start(json!({}));
    for (arguments, named) in [
        (&["run", "code", "1", "--priority", "11"][..], "priority"),
        (&["run", "code", "1", "--timeout", "soon"], "timeout"),
        (&["run", "kode", "1"], "kode"),
        (&["limit", "p", "-1"], "-1"),
        (&["task", "NOT-AN-ID"], "NOT-AN-ID"),
        (&["submit", "/no/such/file"], "/no/such/file"),
    ] {
        let tried = pool.ctl(arguments);
        assert_ne!(tried.code, 0, "{arguments:?}");
        assert!(tried.stderr.contains(named), "{arguments:?}: {tried:?}");
    }
    assert_eq!(pool.status()["tasks"]["total"], 0);
}
