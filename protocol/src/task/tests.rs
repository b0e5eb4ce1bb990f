//! The shape of a task, field by field.

use super::*;

fn refused(json: &str) -> String {
    parse(json.as_bytes()).expect_err(json).to_string()
}

#[test]
fn the_usage_example_of_the_original_is_a_task() {
    let task = parse(
        br#"{"type":"execute-code","code":"return \"Hello from worker\";","projectId":"my-project","priority":5,"timeout":30000}"#,
    )
    .expect("valid");
    assert_eq!((task.kind, task.priority, task.timeout_ms), (TaskKind::Code, 5, Some(30000)));
    let body = Body::split(&task.body, task.code_len).expect("whole");
    assert_eq!((body.code, body.data), ("return \"Hello from worker\";", &b""[..]));
}

#[test]
fn a_malformed_task_is_refused_naming_the_field() {
    for (json, field) in [
        ("[]", "task"),
        ("{}", "`type`"),
        (r#"{"type":"execute"}"#, "`type`"),
        (r#"{"type":"execute-code"}"#, "`code`"),
        (r#"{"type":"execute-code","code":1}"#, "`code`"),
        (r#"{"type":"execute-code","code":"1","code":"2"}"#, "`code` is given twice"),
        (r#"{"type":"execute-code","code":"1","prioritiy":3}"#, "`prioritiy` is not known; did you mean `priority`?"),
        (r#"{"type":"execute-code","code":"1","priority":11}"#, "`priority`"),
        (r#"{"type":"execute-code","code":"1","priority":-1}"#, "`priority`"),
        (r#"{"type":"execute-code","code":"1","priority":1.5}"#, "`priority`"),
        (r#"{"type":"execute-code","code":"1","timeout":0}"#, "`timeout`"),
        (r#"{"type":"execute-code","code":"1","timeout":"soon"}"#, "`timeout`"),
        (r#"{"type":"execute-code","code":"1","maxAttempts":0}"#, "`maxAttempts`"),
        (r#"{"type":"execute-code","code":"1","retry":{"factor":0}}"#, "`retry.factor`"),
        (r#"{"type":"execute-code","code":"1","retry":{"tries":0}}"#, "`tries`"),
        (r#"{"type":"execute-code","code":"1","delay":1e12}"#, "`delay`"),
        (r#"{"type":"execute-code","code":"1","deadline":"tomorrow"}"#, "`deadline`"),
        (r#"{"type":"execute-code","code":"1","projectId":"a b"}"#, "`projectId`"),
        (r#"{"type":"execute-code","code":"1","realm":"hot"}"#, "`realm`"),
        (r#"{"type":"execute-code","code":"1","context":[]}"#, "`context`"),
        (r#"{"type":"execute-code","code":"1","limits":{"cpuMs":0}}"#, "`limits.cpuMs`"),
        (r#"{"type":"execute-code","code":"1","limits":{"memoryBytes":1}}"#, "`limits.memoryBytes`"),
        (
            r#"{"type":"execute-code","code":"1","url":"http://x/"}"#,
            "`url` does not belong to a task of type execute-code",
        ),
        (r#"{"type":"execute-function","fn":"()=>1","args":{}}"#, "`args`"),
        (r#"{"type":"execute-function","fn":"()=>1","code":"()=>1"}"#, "`code`"),
        (r#"{"type":"execute-module"}"#, "`modulePath`"),
        (r#"{"type":"http-request"}"#, "`url`"),
        (r#"{"type":"http-request","url":"http://x/","query":{"a":[]}}"#, "`query.a`"),
        (r#"{"type":"http-request","url":"http://x/","acceptStatus":"6xx"}"#, "`acceptStatus`"),
        (r#"{"type":"shell-command"}"#, "`program`"),
        (r#"{"type":"shell-command","program":"/bin/true","command":"true"}"#, "`command`"),
        (r#"{"type":"shell-command","command":"true","args":[]}"#, "`args`"),
        (r#"{"type":"shell-command","program":"/bin/true","args":[1]}"#, "`args`"),
        (r#"{"type":"execute-code","code":"1"} 2"#, "task"),
    ] {
        let message = refused(json);
        assert!(message.contains(field), "{json}: {message}");
    }
}

#[test]
fn an_array_is_no_task_and_stands_for_none_of_its_objects() {
    let mut elements = vec!["null"; 34];
    (elements[0], elements[14]) = ("\"execute-code\"", "\"1\"");
    for (json, subject) in [
        (format!("[{}]", elements.join(",")), "the task"),
        (r#"{"type":"execute-code","code":"1","limits":[1000,8000000]}"#.to_owned(), "field `limits`"),
        (r#"{"type":"execute-code","code":"1","retry":[1000,2,9000,0]}"#.to_owned(), "field `retry`"),
    ] {
        let message = refused(&json);
        assert!(message.starts_with(&format!("{subject} is malformed: ")), "{json}: {message}");
        assert!(message.contains("expected a JSON object"), "{json}: {message}");
    }
}

#[test]
fn text_that_is_no_json_is_called_that_with_its_place() {
    for (json, message) in [
        ("", "the task is not valid JSON: EOF while parsing a value at column 0"),
        ("nope", "the task is not valid JSON: expected ident at column 2"),
        (
            r#"{"type":"execute-code","limits":{"cpuMs":"#,
            "the task is not valid JSON: EOF while parsing a value at column 41",
        ),
        ("{\n\"type\": x}", "the task is not valid JSON: expected value at line 2 column 9"),
    ] {
        assert_eq!(refused(json), message, "{json}");
    }
}

#[test]
fn a_deadline_is_a_time_or_milliseconds_from_now() {
    let at = parse(br#"{"type":"execute-code","code":"1","deadline":"1970-01-01T00:00:10Z"}"#).expect("valid");
    let head = |task: &Task, now| task.head(now, OnDisconnect::Keep, false, true).deadline_ms;
    assert_eq!(head(&at, 4_000), Some(6_000));
    assert_eq!(head(&at, 40_000), Some(0), "a past time is no time at all");
    let within = parse(br#"{"type":"execute-code","code":"1","deadline":500}"#).expect("valid");
    assert_eq!(head(&within, 4_000), Some(500));
}

#[test]
fn code_is_accepted_for_fn() {
    let task = parse(br#"{"type":"execute-function","code":"(a)=>a","args":[ 1 ]}"#).expect("valid");
    let body = Body::split(&task.body, task.code_len).expect("whole");
    assert_eq!((body.code, body.data), ("(a)=>a", &b"[ 1 ]"[..]));
}

#[test]
fn a_head_written_by_hand_is_checked_too() {
    let task = parse(br#"{"type":"execute-code","code":"1"}"#).expect("valid");
    let good = task.head(0, OnDisconnect::Keep, false, true);
    assert_eq!(good.check(1), Ok(()));
    type Spoil = fn(&mut TaskHead<'_>);
    let spoil: [(&str, Spoil); 6] = [
        ("priority", |h| h.priority = 11),
        ("projectId", |h| h.project = "a b"),
        ("timeout", |h| h.timeout_ms = Some(0)),
        ("maxAttempts", |h| h.max_attempts = Some(0)),
        ("retry.jitter", |h| h.retry = Some(RetryPolicy { jitter: f64::NAN, ..RetryPolicy::default() })),
        ("code", |h| h.code_len = 2),
    ];
    for (field, change) in spoil {
        let mut head = good.clone();
        change(&mut head);
        assert_eq!(head.check(1).expect_err(field).field, field);
    }
}
