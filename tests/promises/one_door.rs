//! One door: the HTTP API, `poolctl submit` and `poolctl run` take the same JSON, and refuse it
//! with the same words.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;

use pool_tests::http::{Api, over_unix};
use pool_tests::pool::Ctl;
use pool_tests::tasks::{code, error, function, hold, result, sleep, with};
use pool_tests::{Pool, Value, json, until};

/// JSON that is taken, and handed on as it is.
const TAKEN: [&str; 34] = [
    "null",
    "true",
    "0",
    "-0",
    "-0.0",
    "1e0",
    "1E+2",
    "0.5e-3",
    "1e-999",
    "123456789012345678901234567890",
    "1.7976931348623157e308",
    "\"\"",
    "\"\\u0000\"",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
    "\"\u{7f}\"",
    "\"\u{2028}\u{2029}\"",
    "\"\u{feff}\"",
    "\"\u{10ffff}\u{e000}\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud83d\"",
    "\"\\ude00\"",
    "\"\\ude00\\ud83d\"",
    "\"\\ud83d\\u0041\"",
    "\"\\uDBFF\\uDFFE\"",
    "[]",
    "[ ]",
    "[[],[[]]]",
    " [ 1 , 2 ] ",
    "{}",
    "{\"\":0}",
    "{\"a\":{\"a\":1},\"b\":[{\"a\":1},{\"a\":2}]}",
    "{\"\\ud800\":1,\"\\udc00\":2}",
    "{\"a\\u0000b\":1,\"a\":2}",
    "{\"__proto__\":{\"x\":1}}",
];

/// Text that is no JSON.
const NO_JSON: [&str; 59] = [
    "nul",
    "True",
    "truex",
    "nan",
    "NaN",
    "Infinity",
    "-Infinity",
    "undefined",
    "+1",
    ".5",
    "5.",
    "5.e1",
    "1e",
    "1e+",
    "1eE2",
    "0x10",
    "01",
    "-01",
    "- 1",
    "--1",
    "1_000",
    "1,000",
    "1 2",
    "١",
    "'a'",
    "\"",
    "\"a",
    "\"\\\"",
    "\"\\a\"",
    "\"\\x41\"",
    "\"\\u00\"",
    "\"\\u{41}\"",
    "\"\\uD83D\\u\"",
    "\"a\"b",
    "\"\u{1}\"",
    "\"\t\"",
    "[",
    "]",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[1,,2]",
    "[1;2]",
    "[1]]",
    "[\"a\":1]",
    "{",
    "{,}",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{a:1}",
    "{'a':1}",
    "{1:2}",
    "{\"a\":1 \"b\":2}",
    "{\"a\":1}}",
    "/**/1",
    "1//",
    "\u{a0}1",
];

/// JSON that is not taken, and what is said of it.
fn not_taken() -> Vec<(String, &'static str)> {
    let deep = |open: &str, close: &str, levels| {
        format!("{}1{}", open.repeat(levels), close.repeat(levels))
    };
    vec![
        ("{\"a\":1,\"a\":2}".into(), "field `args[0].a` is given twice"),
        ("{\"a\":1,\"\\u0061\":2}".into(), "field `args[0].a` is given twice"),
        ("[1,{\"x\":{\"y\":1,\"z\":2,\"y\":3}}]".into(), "field `args[0][1].x.y` is given twice"),
        ("1e400".into(), "field `args[0]` must be a number that a double can hold, not 1e400"),
        (
            "[-1E+9999]".into(),
            "field `args[0][0]` must be a number that a double can hold, not -1E+9999",
        ),
        (deep("[", "]", 1001), "field `args[0]` is nested in more than 1000 levels"),
        (deep("{\"a\":", "}", 1001), "field `args[0]` is nested in more than 1000 levels"),
        ("[".repeat(60_000), "field `args[0]` is nested in more than 1000 levels"),
    ]
}

const ECHO: &str = "x => JSON.stringify(x)";

fn task_with(arg: &str) -> String {
    format!(r#"{{"tag":"mine","type":"execute-function","fn":"{ECHO}","args":[{arg}]}}"#)
}

/// What a door says of a task: its result, or why it was refused.
type Verdict = Result<Value, String>;

fn verdict(outcome: &Value) -> Verdict {
    verdict_of("mine", outcome)
}

fn verdict_of(tag: &str, outcome: &Value) -> Verdict {
    assert_eq!(outcome["tag"], tag, "{outcome}");
    match outcome["status"].as_str() {
        Some("succeeded") => Ok(outcome["result"].clone()),
        _ => {
            assert_eq!(error(outcome), "INVALID_TASK", "{outcome}");
            Err(outcome["error"]["message"].as_str().expect("a message").to_owned())
        }
    }
}

fn posted(api: &Api, body: &[u8]) -> (u16, Value) {
    let head = format!(
        "POST /api/tasks?wait=60s HTTP/1.1\r\nHost: {}\r\nX-API-Key: {}\r\nConnection: \
         close\r\nContent-Length: {}\r\n\r\n",
        api.address,
        api.key,
        body.len()
    );
    let answer = api.bytes(&[head.as_bytes(), body].concat());
    (answer.status, answer.json())
}

fn over_http(api: &Api, task: &str) -> Verdict {
    match posted(api, task.as_bytes()) {
        (200, outcome) => verdict(&outcome),
        (400, refusal) => {
            assert_eq!(
                (&refusal["code"], &refusal["tag"]),
                (&json!("INVALID_TASK"), &json!("mine")),
                "{refusal}"
            );
            Err(refusal["error"].as_str().expect("a sentence").to_owned())
        }
        other => panic!("{task:.200}: {other:?}"),
    }
}

/// As one of an array of two.
fn over_http_in_an_array(api: &Api, task: &str) -> Verdict {
    match posted(api, format!("[{},{task}]", task_with("1")).as_bytes()) {
        (200, outcomes) => verdict(&outcomes[1]),
        (400, refusal) => {
            let said = refusal["error"].as_str().expect("a sentence");
            Err(said
                .strip_prefix("task [1]: ")
                .unwrap_or_else(|| panic!("which? {said}"))
                .to_owned())
        }
        other => panic!("{task:.200}: {other:?}"),
    }
}

/// All in one run, a line each. A line that is no task can be answered before a task in front of
/// it, so each has a tag of its own, as long as the one it was written with: where a fault is, is
/// counted in characters.
fn submitted(pool: &Pool, tasks: &[String]) -> Vec<Verdict> {
    let tags: Vec<String> = (0..tasks.len()).map(|n| format!("{n:04}")).collect();
    let lines: String =
        tasks.iter().zip(&tags).map(|(task, tag)| task.replacen("mine", tag, 1) + "\n").collect();
    let ctl = pool.ctl_with_input(&["submit", "--window", "1"], &lines);
    let mut outcomes = ctl.json_lines();
    assert_eq!(outcomes.len(), tasks.len(), "{}", ctl.stderr);
    outcomes.sort_by(|a, b| a["tag"].as_str().cmp(&b["tag"].as_str()));
    outcomes.iter().zip(&tags).map(|(outcome, tag)| verdict_of(tag, outcome)).collect()
}

fn run(pool: &Pool, arg: &str) -> Verdict {
    let ctl = pool.ctl(&["run", "function", ECHO, "--tag", "mine", "--json", "--", arg]);
    if ctl.code == 0 {
        return verdict(&ctl.json());
    }
    let said = ctl.stderr.trim_end().strip_prefix("poolctl: INVALID_TASK: ");
    Err(said.unwrap_or_else(|| panic!("{arg:.200}: {ctl:?}")).to_owned())
}

/// What `JSON.stringify` makes of a string.
fn stringified(text: &str) -> Value {
    json!(serde_json::to_string(text).expect("a string"))
}

#[test]
fn the_three_doors_take_the_same_json_and_refuse_it_with_the_same_words() {
    let pool = Pool::with_http(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    let api = pool.api();
    let not_taken = not_taken();
    let args: Vec<&str> = TAKEN
        .iter()
        .chain(&NO_JSON)
        .copied()
        .chain(not_taken.iter().map(|(text, _)| text.as_str()))
        .collect();
    let tasks: Vec<String> = args.iter().map(|arg| task_with(arg)).collect();
    let submitted = submitted(&pool, &tasks);
    for ((arg, task), by_submit) in args.iter().zip(&tasks).zip(&submitted) {
        let shown: String = arg.chars().take(60).collect();
        assert_eq!(over_http(&api, task), *by_submit, "{shown}");
        if !NO_JSON.contains(arg) {
            assert_eq!(over_http_in_an_array(&api, task), *by_submit, "in an array: {shown}");
        }
        let by_run = run(&pool, arg);
        if NO_JSON.contains(arg) {
            let said = by_submit.as_ref().expect_err(&shown);
            assert!(said.starts_with("the task is not valid JSON: "), "{shown}: {said}");
            // A word that is no JSON is a string, as the page about it says.
            assert_eq!(by_run.as_ref().map_err(|e| format!("{shown}: {e}")), Ok(&stringified(arg)));
        } else {
            assert_eq!(by_run, *by_submit, "{shown}");
        }
        match not_taken.iter().find(|(text, _)| text == arg) {
            Some((_, said)) => assert_eq!(*by_submit, Err((*said).to_owned()), "{shown}"),
            None => assert_eq!(by_submit.is_ok(), TAKEN.contains(arg), "{shown}: {by_submit:?}"),
        }
    }
}

#[test]
fn text_that_is_not_utf_8_is_refused_at_each_door() {
    let pool = Pool::with_http(json!({}));
    for bytes in
        [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\xbf\xbf\xbf", b"\xe9", b"\xfe\xff"]
    {
        let task = [
            br#"{"tag":"mine","type":"execute-function","fn":"x => x","args":[""#,
            bytes,
            br#""]}"#,
        ]
        .concat();
        let (status, refusal) = posted(&pool.api(), &task);
        assert_eq!((status, &refusal["tag"]), (400, &json!("mine")), "{bytes:?}: {refusal}");
        let file = pool.folder().join("tasks.ndjson");
        std::fs::write(&file, &task).expect("our own folder");
        let lines = pool.ctl(&["submit", &file.display().to_string()]).json_lines();
        assert_eq!(
            verdict(&lines[0]),
            Err(refusal["error"].as_str().expect("a sentence").to_owned()),
            "{bytes:?}"
        );
        let mut command = pool.ctl_command(&["run", "function", "x => x"]);
        let ctl: Ctl = command.arg(OsStr::from_bytes(bytes)).output().expect("poolctl").into();
        assert_ne!(ctl.code, 0, "{bytes:?}: {ctl:?}");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_task() {
    let pool = Pool::with_http(json!({}));
    let marked = format!("\u{feff}{}", task_with("[1]"));
    assert_eq!(over_http(&pool.api(), &marked), Ok(json!("[1]")));
    assert_eq!(submitted(&pool, &[marked.clone(), marked]), [Ok(json!("[1]")), Ok(json!("[1]"))]);
    assert_eq!(run(&pool, "\u{feff}[1]"), Ok(json!("[1]")));
    let context = pool.folder().write("context.json", "\u{feff}{\"x\": 41}");
    assert_eq!(
        pool.ctl(&["run", "code", "x + 1", "--context", &context.display().to_string()]).stdout,
        "42\n"
    );
}

/// Fields that are refused, beside `"type":"execute-code","code":"1","tag":"mine"`.
const WRONG_FIELDS: [&str; 26] = [
    r#""priority":11"#,
    r#""priority":-1"#,
    r#""priority":1.5"#,
    r#""priority":"1""#,
    r#""timeout":0"#,
    r#""timeout":"30s""#,
    r#""timeout":99999999999999999999999"#,
    r#""maxAttempts":1001"#,
    r#""retry":[]"#,
    r#""retry":{"factor":"2"}"#,
    r#""retry":{"tries":2}"#,
    r#""delay":-5"#,
    r#""deadline":{}"#,
    r#""deadline":"tomorrow""#,
    r#""idempotencyKey":"""#,
    r#""idempotencyKey":5"#,
    r#""durable":"yes""#,
    r#""realm":"hot""#,
    r#""limits":{"cpuMs":true}"#,
    r#""limits":5"#,
    r#""logs":1"#,
    r#""context":"x""#,
    r#""projectId":["p"]"#,
    r#""code":"2""#,
    r#""url":"http://example.org/""#,
    r#""prioritiy":1"#,
];

#[test]
fn a_wrong_field_is_refused_with_the_same_words_and_comes_back_with_its_tag() {
    let pool = Pool::with_http(json!({}));
    let task =
        |field: &&str| format!(r#"{{"type":"execute-code","code":"1","tag":"mine",{field}}}"#);
    let tasks: Vec<String> = WRONG_FIELDS.iter().map(task).collect();
    for (task, by_submit) in tasks.iter().zip(submitted(&pool, &tasks)) {
        let said = by_submit.clone().expect_err(task);
        assert!(said.starts_with("field `"), "{said}");
        for word in ["u64", "i32", "f64", "struct", "sequence", "`?`", "invalid type"] {
            assert!(!said.contains(word), "{said}");
        }
        assert_eq!(over_http(&pool.api(), task), by_submit);
        assert_eq!(over_http_in_an_array(&pool.api(), task), by_submit);
    }
    assert_eq!(pool.status()["tasks"]["total"], 0, "nothing was accepted");
    let whole = r#"{"type":"execute-code","code":"1","tag":"mine","timeout":60000.0,"priority":1e0,"maxAttempts":2.0}"#;
    assert_eq!(over_http(&pool.api(), whole), Ok(json!(1)));
    assert_eq!(submitted(&pool, &[whole.to_owned()]), [Ok(json!(1))]);
}

#[test]
fn each_of_several_submissions_of_one_task_gets_its_own_tag() {
    let pool = Pool::with_http(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    let one = |key: &str, tag: Value| with(sleep(100), json!({"idempotencyKey": key, "tag": tag}));
    let tags = ["a", "b", "c"];
    for window in ["1", "8"] {
        let lines: String =
            tags.iter().map(|tag| format!("{}\n", one(window, json!(tag)))).collect();
        let outcomes = pool.ctl_with_input(&["submit", "--window", window], &lines).json_lines();
        let mut seen: Vec<&str> =
            outcomes.iter().map(|outcome| outcome["tag"].as_str().expect("a tag")).collect();
        seen.sort_unstable();
        assert_eq!(seen, tags, "with {window} in flight");
        assert!(
            outcomes.iter().all(|outcome| outcome["taskId"] == outcomes[0]["taskId"]),
            "{outcomes:?}"
        );
    }
    let api = pool.api();
    let waited = |tag: Value| api.call("POST", "/api/tasks?wait=60s", Some(&one("1", tag))).json();
    assert_eq!(waited(json!("d"))["tag"], "d");
    assert_eq!(waited(Value::Null).get("tag"), None, "it gave none");
    let both = json!([one("1", json!("e")), one("1", json!("f"))]);
    let both = api.call("POST", "/api/tasks?wait=60s", Some(&both)).json();
    assert_eq!((&both[0]["tag"], &both[1]["tag"]), (&json!("e"), &json!("f")));
    let shown = api
        .call("GET", &format!("/api/tasks/{}", both[0]["taskId"].as_str().expect("an id")), None)
        .json();
    assert_eq!(shown["tag"], "a", "the task's own");
}

#[test]
fn a_task_that_its_worker_finds_invalid_is_named_by_its_id() {
    let pool = Pool::with_http(json!({}));
    let api = pool.api();
    let task = with(function("1", json!([])), json!({"tag": "mine"}));
    let refused = api.call("POST", "/api/tasks?wait=60s", Some(&task));
    let body = refused.json();
    assert_eq!(
        (refused.status, &body["code"], &body["tag"]),
        (400, &json!("INVALID_TASK"), &json!("mine")),
        "{body}"
    );
    let id = body["taskId"].as_str().expect("an id");
    assert_eq!(api.call("GET", &format!("/api/tasks/{id}"), None).json()["status"], "rejected");
    let in_array = api.call("POST", "/api/tasks?wait=60s", Some(&json!([code("1"), task])));
    assert!(
        in_array.json()[1]["taskId"].is_string() && in_array.json()[1]["tag"] == "mine",
        "{in_array:?}"
    );
}

#[test]
fn a_full_queue_slows_submit_down_and_refuses_nothing() {
    for config in [
        json!({"pool": {"minWorkers": 1, "maxWorkers": 1, "queueSize": 6}}),
        json!({"pool": {"minWorkers": 1, "maxWorkers": 1}, "projects": {"p": {"maxQueued": 2}}}),
    ] {
        let pool = Pool::start(config);
        let lines: String = (0..40)
            .map(|n| {
                format!("{}\n", with(function("n => n", json!([n])), json!({"projectId": "p"})))
            })
            .collect();
        let ctl = pool.ctl_with_input(&["submit", "--window", "40"], &lines);
        assert_eq!(ctl.code, 0, "{ctl:?}");
        let mut results: Vec<u64> =
            ctl.json_lines().iter().map(|o| o["result"].as_u64().expect("a number")).collect();
        results.sort_unstable();
        assert_eq!(results, (0..40).collect::<Vec<_>>());
    }
}

/// Sends a request with a body that is larger than what the system holds, all of it, and reads the
/// answer.
fn answered_while_sending(api: &Api, headers: &str, body: usize) -> String {
    let mut stream = TcpStream::connect(&api.address).expect("the API listens");
    let head = format!(
        "POST /api/tasks HTTP/1.1\r\nHost: {}\r\n{headers}Content-Length: {body}\r\n\r\n",
        api.address
    );
    stream.write_all(head.as_bytes()).expect("it is taken");
    stream.write_all(&vec![b'x'; body]).expect("it is taken to its end");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_client_that_still_sends_gets_its_413_and_its_401() {
    let pool = Pool::with_http(json!({}));
    let api = pool.api();
    let too_large = answered_while_sending(&api, &format!("X-API-Key: {}\r\n", api.key), 12 << 20);
    assert!(too_large.starts_with("HTTP/1.1 413 "), "{too_large}");
    let no_key = answered_while_sending(&api, "", 12 << 20);
    assert!(
        no_key.starts_with("HTTP/1.1 401 ") && no_key.contains("connection: close"),
        "{no_key}"
    );
}

#[test]
fn an_event_stream_goes_on_past_what_the_api_holds_at_once() {
    let pool = Pool::with_http(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    let tasks: Vec<Value> = (0..1500).map(|n| function("n => n", json!([n]))).collect();
    assert_eq!(pool.run_all(&tasks).len(), 1500);
    let last = pool.events().last().expect("events")["seq"].as_u64().expect("a number");
    assert!(last > 4 * 1024, "more than are held: {last}");
    let mut next = pool.api().event_stream(Some("0"));
    for number in 1..=last {
        assert_eq!(next().1["seq"], number);
    }
    let id = pool.submit(code("1"));
    until("it goes on", || next().1["taskId"] == *id);
}

#[test]
fn a_task_can_be_waited_for_by_its_id() {
    let pool = Pool::with_http(json!({}));
    let api = pool.api();
    let id = pool.submit(sleep(300));
    assert_eq!(result(api.call("GET", &format!("/api/tasks/{id}?wait=60s"), None).json()), "slept");
    let held = pool.submit(hold());
    let state = api.call("GET", &format!("/api/tasks/{held}?wait=50ms"), None);
    assert_eq!((state.status, state.json()["state"].is_string()), (200, true), "{state:?}");
}

#[test]
fn a_body_that_is_compressed_is_a_415_and_one_in_chunks_is_taken() {
    let pool = Pool::with_http(json!({}));
    let api = pool.api();
    let headers = [("X-API-Key", api.key.as_str()), ("Content-Encoding", "gzip")];
    let compressed = api.with("POST", "/api/tasks", &headers, Some(&code("1").to_string()));
    assert_eq!(
        (compressed.status, compressed.header("accept-encoding")),
        (415, Some("identity")),
        "{compressed:?}"
    );
    let task = code("6 * 7").to_string();
    let (first, rest) = task.split_at(5);
    let chunks = format!(
        "{:x}\r\n{first}\r\n{:x};x=y\r\n{rest}\r\n0\r\nTrailer: x\r\n\r\n",
        first.len(),
        rest.len()
    );
    let chunked = api.bytes(
        format!(
            "POST /api/tasks?wait=60s HTTP/1.1\r\nHost: {}\r\nX-API-Key: {}\r\nConnection: \
             close\r\n\
             Transfer-Encoding: chunked\r\n\r\n{chunks}",
            api.address, api.key
        )
        .as_bytes(),
    );
    assert_eq!(result(chunked.json()), 42);
}

#[test]
fn a_removed_socket_is_made_again_and_until_then_the_message_helps() {
    let mut pool = Pool::with_http(json!({}));
    let http = pool.socket().with_file_name("api.sock");
    let mut old = pool.client();
    std::fs::remove_file(pool.socket()).expect("it is there");
    let away = pool.ctl(&["status"]);
    // It may be there again already.
    assert!(away.code == 0 || away.stderr.contains("made again within a second"), "{away:?}");
    std::fs::remove_file(&http).expect("it is there");
    until("both are there again", || {
        pool.ctl(&["status"]).code == 0 && UnixStream::connect(&http).is_ok()
    });
    let key = pool.api().key;
    let answer = over_unix(
        &http,
        "GET",
        "/api/process-pool/stats",
        &[("X-API-Key", &key), ("Host", "any.name")],
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(result(old.run(&code("1"))), 1, "connections are not touched");
    let folder = pool.socket().parent().expect("it has one").to_owned();
    std::fs::remove_dir_all(&folder).expect("ours");
    until("its folder too", || pool.ctl(&["status"]).code == 0);
    assert_eq!(pool.ctl(&["shutdown"]).code, 0);
    assert_eq!(pool.wait().code(), Some(0));
    assert!(!pool.socket().exists());
}

#[test]
fn a_deadline_is_told_as_a_deadline_and_a_timeout_as_a_timeout() {
    let pool = Pool::start(json!({}));
    for (fields, said) in [
        (
            json!({"deadline": 300}),
            "the task did not end before its deadline, 300 ms after it was accepted",
        ),
        (json!({"timeout": 300, "deadline": 60_000}), "300 ms"),
    ] {
        for task in [code("for (;;);"), hold()] {
            let outcome = pool.run(with(task, fields.clone()));
            assert_eq!(error(&outcome), "TIMEOUT", "{outcome}");
            let message = outcome["error"]["message"].as_str().expect("a message");
            assert!(message.contains(said), "{message}");
            assert_eq!(message.contains("deadline"), said.contains("deadline"), "{message}");
        }
    }
}
