//! Every malformed task, request, frame, configuration and argument gets a clear error that names
//! the field, and changes nothing.

use std::os::unix::fs::PermissionsExt;

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
        assert!(
            outcome["error"]["message"].as_str().is_some_and(|m| m.contains(field)),
            "{field}: {outcome}"
        );
    }
    assert_eq!(pool.status()["tasks"]["total"], 0, "nothing was accepted");
}

#[test]
fn a_misspelt_field_is_refused_with_the_nearest_name() {
    let pool = Pool::start(json!({}));
    let ctl =
        pool.ctl_with_input(&["submit"], &with(code("1"), json!({"projectID": "p"})).to_string());
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
            words.contains("version")
                && words.contains(&version.to_string())
                && words.contains("older"),
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
        (r#"{"http": {"public": "sometimes"}}"#, "http.public"),
        (r#"{"trust": "some"}"#, "trust"),
        (r#"{"trust": ["untrusted"]}"#, "trust"),
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
        assert!(
            checked.stderr.contains(named) && checked.stderr.contains("bad.json"),
            "{text}: {checked:?}"
        );
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
    for arguments in
        [&["--confg", "x"][..], &["--http", "nowhere"], &["--config", "/no/such.json"], &["extra"]]
    {
        let tried: Ctl = supervisor_command(&folder)
            .env("RUNTIME_DIRECTORY", folder.join("run"))
            .args(arguments)
            .output()
            .expect("it starts")
            .into();
        assert_ne!(tried.code, 0, "{arguments:?}");
        assert!(
            tried.stderr.contains(arguments.last().expect("some"))
                || tried.stderr.contains(arguments[0]),
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

/// A phrase of four words that stands in the text twice.
fn said_twice(text: &str) -> Option<String> {
    let bare = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let words: Vec<String> =
        text.split_whitespace().map(bare).filter(|word| !word.is_empty()).collect();
    let mut seen = std::collections::BTreeSet::new();
    words.windows(4).find(|phrase| !seen.insert(*phrase)).map(|phrase| phrase.join(" "))
}

#[track_caller]
fn says_it_once(what: &str, text: &str) {
    assert!(!text.trim().is_empty(), "{what} said nothing");
    assert_eq!(said_twice(text), None, "{what}: {text}");
}

/// An outcome or a refusal without the stack, whose first line is the engine's and holds the
/// message again.
fn without_stack(mut answer: Value) -> String {
    if let Some(error) = answer["error"].as_object_mut() {
        error.remove("stack");
    }
    answer.to_string()
}

#[test]
fn what_is_said_twice_is_found() {
    for text in [
        "failed to read x: No such file or directory (os error 2): No such file or directory (os \
         error 2)",
        "SyntaxError: Unexpected end of input (task.js:1:4)\nSyntaxError: Unexpected end of \
         input\n    at task.js:1:4",
    ] {
        assert!(said_twice(text).is_some(), "{text}");
    }
    assert_eq!(said_twice("failed to read a: failed to read b"), None, "three words are no phrase");
}

#[test]
fn a_supervisor_that_does_not_start_says_why_once() {
    let folder = Folder::new();
    let run = |arguments: &[&str]| -> Ctl {
        let mut command = supervisor_command(&folder);
        command.env("RUNTIME_DIRECTORY", folder.join("run")).args(arguments);
        command.output().expect("it starts").into()
    };
    let path = |name: &str| folder.join(name).to_str().expect("UTF-8").to_owned();
    folder.write("short.key", "short");
    std::fs::set_permissions(folder.join("short.key"), PermissionsExt::from_mode(0o600))
        .expect("our own file");
    std::fs::write(folder.join("bytes.key"), [0xff; 20]).expect("our own folder");
    std::fs::set_permissions(folder.join("bytes.key"), PermissionsExt::from_mode(0o600))
        .expect("our own file");
    std::fs::write(folder.join("bytes.json"), [0xff; 20]).expect("our own folder");
    let with_key =
        |key: &str| json!({"http": {"listen": "127.0.0.1:0", "keyFile": key}}).to_string();
    let configurations = [
        ("{ bad", "JSON"),
        ("[1]", "one table of settings"),
        (r#"{"poool": {}}"#, "poool"),
        (r#"{"js": {"moduleRoots": ["/no/such/folder"]}}"#, "/no/such/folder"),
        (r#"{"shell": {"allow": [{"program": "/usr/bin/wc", "args": "("}]}}"#, "shell.allow"),
        (r#"{"workerPath": "/no/such/worker"}"#, "workerPath"),
        (
            r#"{"http": {"listen": "off"}, "workerPath": "/usr/bin/false", "isolation": "strict"}"#,
            "isolation",
        ),
        (
            r#"{"http": {"listen": "off"}, "cgroup": {"mode": "required", "path": "/tmp"}}"#,
            "cgroup",
        ),
        (r#"{"http": {"socket": "/no/such/folder/api.sock"}}"#, "/no/such/folder/api.sock"),
        (&with_key("/no/such/folder/key"), "/no/such/folder/key"),
        (&with_key(&path("short.key")), "short.key"),
        (&with_key(&path("bytes.key")), "bytes.key"),
        (&with_key("/tmp"), "plain file"),
    ];
    for (text, named) in configurations {
        let file = folder.write("config.json", text);
        let tried = run(&["--config", file.to_str().expect("UTF-8")]);
        assert_ne!(tried.code, 0, "{text}");
        assert!(tried.stderr.contains(named), "{text}: {tried:?}");
        tried.stderr.lines().for_each(|line| says_it_once(text, line));
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("it listens").to_string();
    let pool = Pool::start(json!({}));
    let socket = pool.socket().to_str().expect("UTF-8");
    for arguments in [
        &["--config", "/no/such.json"][..],
        &["--config", "/tmp"],
        &["--config", &path("bytes.json")],
        &["--http", "nowhere"],
        &["--http", &taken],
        &["--http", "off", "--socket", socket],
        &["--http", "off", "--socket", "/proc/no/such/pool.sock"],
        &["--http", "off", "--socket", &format!("/{}", "x".repeat(200))],
    ] {
        let tried = run(arguments);
        assert_ne!(tried.code, 0, "{arguments:?}");
        tried.stderr.lines().for_each(|line| says_it_once(&format!("{arguments:?}"), line));
    }
}

/// Wrong tasks as arguments of `poolctl run`, with the code or the words that they come to.
const WRONG_RUNS: [(&[&str], &str); 24] = [
    (&["code", "1 +"], "JS_SYNTAX"),
    (&["code", "throw new TypeError('none of these words twice')"], "JS_EXCEPTION"),
    (&["code", "nowhere.near.defined"], "JS_EXCEPTION"),
    (&["code", "new Map()"], "RESULT_NOT_SERIALIZABLE"),
    (&["code", "await new Promise(() => {})"], "PROMISE_NEVER_SETTLED"),
    (&["code", "for (;;);", "--timeout", "50ms"], "TIMEOUT"),
    (&["code", "const a = []; for (;;) a.push({})", "--memory", "8MiB"], "MEMORY_LIMIT"),
    (&["code", "1", "--project", "full"], "PROJECT_QUOTA"),
    (&["code", "1", "--project", "cold", "--realm", "warm"], "INVALID_TASK"),
    (&["function", "x =>"], "JS_SYNTAX"),
    (&["function", "1"], "INVALID_TASK"),
    (&["module", "none.mjs"], "MODULE_NOT_FOUND"),
    (&["module", "/etc/passwd"], "MODULE_DENIED"),
    (&["module", "broken.mjs"], "JS_SYNTAX"),
    (&["module", "lost.mjs"], "MODULE_NOT_FOUND"),
    (&["module", "throws.mjs"], "JS_EXCEPTION"),
    (&["module", "throws.mjs", "--method", "none"], "INVALID_TASK"),
    (&["http", "no-url"], "INVALID_TASK"),
    (&["http", "ftp://x/"], "URL_DENIED"),
    (&["http", "http://127.0.0.1:9/"], "HTTP_ERROR"),
    (&["http", "http://127.0.0.1:10/"], "URL_DENIED"),
    (&["http", "http://no-such-host.invalid/"], "HTTP_ERROR"),
    (&["shell", "/usr/bin/id"], "COMMAND_DENIED"),
    (&["shell", "--cwd", "/no/such", "/usr/bin/true"], "INVALID_TASK"),
];

#[test]
fn a_wrong_task_is_told_its_fault_once() {
    let folder = Folder::new();
    folder.write("broken.mjs", "export const x = ;");
    folder.write("lost.mjs", "import './none.mjs'");
    folder
        .write("throws.mjs", "export default () => { throw new RangeError('far from all of it') }");
    let pool = Pool::with_http(json!({
        "projects": {"full": {"limit": 0, "maxQueued": 0}, "cold": {"forbidWarm": true}},
        "js": {"moduleRoots": [folder.path()]}, "http": {"allow": ["127.0.0.1:9"]},
        "shell": {"allow": [{"program": "/usr/bin/true"}]},
    }));
    for (arguments, expected) in WRONG_RUNS {
        let all = |json: &[&'static str]| -> Vec<&str> {
            [&["run", arguments[0]], json, &arguments[1..]].concat()
        };
        let text = pool.ctl(&all(&[]));
        assert!(text.code != 0 && text.stderr.contains(expected), "{arguments:?}: {text:?}");
        says_it_once(&format!("{arguments:?}"), &text.stderr);
        let json = pool.ctl(&all(&["--json"]));
        says_it_once(&format!("{arguments:?} --json"), &without_stack(json.json()));
    }
    let lines = [
        "not json",
        "[1]",
        "17",
        r#"{"type":"execute-code""#,
        r#"{"type":"execute-cod","code":"1"}"#,
        r#"{"type":"execute-code","code":1}"#,
        r#"{"type":"execute-code","code":"1","limits":{"cpu":1}}"#,
        r#"{"type":"execute-code","code":"1","deadline":"tomorrow"}"#,
        r#"{"type":"http-request","url":"x"}"#,
        r#"{"type":"shell-command","command":"a 'b"}"#,
        r#"{"type":"execute-code","code":"1","durable":true}"#,
    ];
    let api = pool.api();
    for line in lines {
        let submitted = pool.ctl_with_input(&["submit"], line);
        assert_ne!(submitted.code, 0, "{line}");
        submitted.stderr.lines().for_each(|said| says_it_once(line, said));
        submitted
            .json_lines()
            .into_iter()
            .for_each(|answer| says_it_once(line, &without_stack(answer)));
        let posted =
            api.with("POST", "/api/tasks?wait=30s", &[("X-API-Key", &api.key)], Some(line));
        says_it_once(line, &without_stack(posted.json()));
    }
}

#[test]
fn a_wrong_request_is_told_its_fault_once() {
    let pool = Pool::with_http(json!({}));
    let api = pool.api();
    let limits = [
        "x",
        "{}",
        r#"{"projectId":"a b","limit":1}"#,
        r#"{"projectId":"a"}"#,
        r#"{"projectId":"a","limit":-1}"#,
        r#"{"projectId":"a","limit":1,"x":1}"#,
        r#"{"projectId":"a","limit":1,"limit":2}"#,
    ];
    for body in limits {
        says_it_once(
            body,
            &api.with(
                "POST",
                "/api/process-pool/project-limit",
                &[("X-API-Key", &api.key)],
                Some(body),
            )
            .text,
        );
    }
    for path in [
        "/api/tasks/zz",
        "/api/tasks/NOT",
        "/api/none",
        "/api/tasks?wait=soon",
        "/api/tasks?wiat=1s",
    ] {
        says_it_once(path, &api.call("GET", path, None).text);
        says_it_once(path, &api.with("POST", path, &[("X-API-Key", &api.key)], Some("{}")).text);
    }
    for arguments in [
        &["task", "zz"][..],
        &["task", "NOT-AN-ID"],
        &["cancel", "zz"],
        &["limit", "p", "many"],
        &["events", "--since", "x"],
        &["submit", "/no/such/file"],
        &["submit", "/tmp"],
        &["run", "code", "1", "--context", "/no/such/file"],
        &["run", "code", "1", "--timeout", "soon"],
        &["--socket", "/no/such/pool.sock", "status"],
        &["--socket", "/etc/passwd", "status"],
    ] {
        says_it_once(&format!("{arguments:?}"), &pool.ctl(arguments).stderr);
    }
    for text in ["{ no", r#"{"poool": 1}"#, r#"{"log": {"level": "debug"}}"#] {
        std::fs::write(pool.config_path(), text).expect("our own file");
        says_it_once(text, &pool.ctl(&["reload"]).stderr);
    }
    std::fs::remove_file(pool.config_path()).expect("our own file");
    says_it_once("a configuration that is gone", &pool.ctl(&["reload"]).stderr);
    pool.log().lines().for_each(|line| says_it_once("the log", line));
}
