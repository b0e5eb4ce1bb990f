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
        (
            r#"{"type":"execute-code","code":"1","prioritiy":3}"#,
            "`prioritiy` is not known; did you mean `priority`?",
        ),
        (r#"{"type":"execute-code","code":"1","priority":11}"#, "`priority`"),
        (r#"{"type":"execute-code","code":"1","priority":-1}"#, "`priority`"),
        (r#"{"type":"execute-code","code":"1","priority":1.5}"#, "`priority`"),
        (r#"{"type":"execute-code","code":"1","timeout":0}"#, "`timeout`"),
        (r#"{"type":"execute-code","code":"1","timeout":"soon"}"#, "`timeout`"),
        (r#"{"type":"execute-code","code":"1","maxAttempts":0}"#, "`maxAttempts`"),
        (r#"{"type":"execute-code","code":"1","retry":{"factor":0}}"#, "`retry.factor`"),
        (r#"{"type":"execute-code","code":"1","retry":{"tries":0}}"#, "`retry.tries` is not known"),
        (r#"{"type":"execute-code","code":"1","limits":{"cpums":1}}"#, "did you mean `cpuMs`?"),
        (r#"{"type":"execute-code","code":"1","delay":1e12}"#, "`delay`"),
        (r#"{"type":"execute-code","code":"1","deadline":"tomorrow"}"#, "`deadline`"),
        (r#"{"type":"execute-code","code":"1","projectId":"a b"}"#, "`projectId`"),
        (
            r#"{"type":"execute-code","code":"1","idempotencyKey":""}"#,
            "`idempotencyKey` must not be empty",
        ),
        (r#"{"type":"execute-code","code":"1","realm":"hot"}"#, "`realm`"),
        (r#"{"type":"execute-code","code":"1","context":[]}"#, "`context`"),
        (r#"{"type":"execute-code","code":"1","limits":{"cpuMs":0}}"#, "`limits.cpuMs`"),
        (
            r#"{"type":"execute-code","code":"1","limits":{"memoryBytes":1}}"#,
            "`limits.memoryBytes`",
        ),
        (
            r#"{"type":"execute-code","code":"1","url":"http://x/"}"#,
            "`url` does not belong to a task of type execute-code",
        ),
        (r#"{"type":"execute-function","fn":"()=>1","args":{}}"#, "`args`"),
        (r#"{"type":"execute-function","fn":"()=>1","code":"()=>1"}"#, "`code`"),
        (r#"{"type":"execute-module"}"#, "`modulePath`"),
        (r#"{"type":"http-request"}"#, "`url`"),
        (r#"{"type":"http-request","url":"http://x/","query":{"a":[null]}}"#, "`query.a`"),
        (r#"{"type":"http-request","url":"http://x/","acceptStatus":"6xx"}"#, "`acceptStatus`"),
        (r#"{"type":"shell-command"}"#, "`program`"),
        (r#"{"type":"shell-command","program":"/bin/true","command":"true"}"#, "`command`"),
        (r#"{"type":"shell-command","command":"true","args":[]}"#, "`args`"),
        (
            r#"{"type":"shell-command","program":"/bin/true","args":[1]}"#,
            "`args[0]` must be a string, not 1",
        ),
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
    for (json, message) in [
        (format!("[{}]", elements.join(",")), "the task must be a JSON object, not an array"),
        (
            r#"{"type":"execute-code","code":"1","limits":[1000,8000000]}"#.to_owned(),
            "field `limits` must be an object, not an array",
        ),
        (
            r#"{"type":"execute-code","code":"1","retry":[1000,2,9000,0]}"#.to_owned(),
            "field `retry` must be an object, not an array",
        ),
    ] {
        assert_eq!(refused(&json), message);
    }
}

#[test]
fn text_that_is_no_json_is_called_that_with_its_place() {
    for (json, message) in [
        ("", "the task is not valid JSON: it ends at column 1, where a value should follow"),
        ("nope", "the task is not valid JSON: a value should be at column 1, not 'n'"),
        (
            r#"{"type":"execute-code","limits":{"cpuMs":"#,
            "the task is not valid JSON: it ends at column 42, where a value should follow",
        ),
        (
            "{\n\"type\": x}",
            "the task is not valid JSON: a value should be at line 2 column 9, not 'x'",
        ),
    ] {
        assert_eq!(refused(json), message, "{json}");
    }
}

/// What a message must not say: names of this program's own types, and words of its reader.
const OWN_WORDS: [&str; 12] = [
    "u8",
    "u16",
    "u32",
    "u64",
    "i32",
    "i64",
    "f64",
    "usize",
    "struct",
    "sequence",
    "`?`",
    "invalid type",
];

#[test]
fn no_message_speaks_of_types_of_this_program() {
    for field in FIELDS {
        for value in [
            "true",
            "17",
            "-17",
            "1.5",
            "1e99",
            "\"x\"",
            "\"\\ud800\"",
            "[]",
            "[[]]",
            "{}",
            "{\"a\":[]}",
        ] {
            for kind in TaskKind::ALL {
                let rest = match (*kind, field) {
                    (_, "type") => String::new(),
                    (TaskKind::Code, "code") => "\"type\":\"execute-code\",".to_owned(),
                    (TaskKind::Code, _) => "\"type\":\"execute-code\",\"code\":\"1\",".to_owned(),
                    (kind, _) => format!("\"type\":\"{}\",", kind.name()),
                };
                let Err(error) = parse(format!("{{{rest}\"{field}\":{value}}}").as_bytes()) else {
                    continue;
                };
                let message = error.to_string();
                for word in OWN_WORDS {
                    assert!(!message.contains(word), "{field} {value}: {message}");
                }
            }
        }
    }
}

#[test]
fn a_whole_number_is_whole_however_it_is_written() {
    let task = parse(
        br#"{"type":"execute-code","code":"1","timeout":1000.0,"priority":1e1,"delay":25e-0}"#,
    );
    let task = task.expect("valid");
    assert_eq!((task.timeout_ms, task.priority, task.delay_ms), (Some(1000), 10, 25));
}

#[test]
fn what_is_handed_on_is_looked_at_as_closely_as_what_is_read() {
    let deep = |levels| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let with_args =
        |args: &str| format!(r#"{{"type":"execute-function","fn":"x=>x","args":{args}}}"#);
    assert!(
        refused(&with_args(r#"[{"a":1,"a":2}]"#)).starts_with("field `args[0].a` is given twice")
    );
    assert!(
        refused(&with_args("[1e999]"))
            .starts_with("field `args[0]` must be a number that a double can hold")
    );
    assert!(refused(&with_args(&deep(1002))).contains("nested in more than 1000 levels"));
    for args in [&*deep(1001), r#"["\ud83d"]"#, r#"[{"\ud83d":1}]"#] {
        let task = parse(with_args(args).as_bytes()).expect("valid");
        let body = Body::split(&task.body, task.code_len).expect("whole");
        assert_eq!(body.data, args.as_bytes(), "handed on as it was written");
    }
    let marked = format!("\u{feff}{}", with_args("[1]"));
    assert!(parse(marked.as_bytes()).is_ok(), "a byte order mark is passed over");
    let half = refused(r#"{"type":"execute-code","code":"'\ud83d'"}"#);
    assert!(half.starts_with("field `code` holds half of a surrogate pair"), "{half}");
}

#[test]
fn an_array_is_split_into_tasks_and_the_unsound_one_is_named() {
    let tasks = split_array(br#" [ {"a":1} , 2 ] "#, 1).expect("sound").expect("an array");
    assert_eq!(tasks, Tasks { first: vec![r#"{"a":1}"#], count: 2 });
    assert_eq!(split_array(b"{}", 9), Ok(None));
    let InvalidItem { place, invalid } =
        split_array(br#"[1,{"code":"1","code":"2"}]"#, 9).expect_err("a key twice");
    assert_eq!((place, invalid.to_string()), (Some(1), "field `code` is given twice".to_owned()));
    let InvalidItem { place, invalid } = split_array(b"[1,", 9).expect_err("it ends");
    assert!(place.is_none() && invalid.to_string().contains("not valid JSON"), "{invalid}");
}

#[test]
fn the_tag_of_a_refused_task_is_known_as_far_as_it_can_be_read() {
    for (json, tag) in [
        (r#"{"tag":"mine","priority":11}"#, Some("mine")),
        (r#"{"tag":"mine","code":"1",}"#, Some("mine")),
        (r#"{"tag":"mine","tag":"yours"}"#, Some("mine")),
        (r#"{"code":"1" "tag":"mine"}"#, None),
        (r#"{"tag":7}"#, None),
        (r#"[{"tag":"mine"}]"#, None),
        ("", None),
    ] {
        assert_eq!(tag_of(json.as_bytes()).as_deref(), tag, "{json}");
    }
    assert_eq!(
        tag_of(format!(r#"{{"tag":"{}"}}"#, "x".repeat(limits::MAX_TAG + 1)).as_bytes()),
        None
    );
}

#[test]
fn a_deadline_is_a_time_or_milliseconds_from_now() {
    let at = parse(br#"{"type":"execute-code","code":"1","deadline":"1970-01-01T00:00:10Z"}"#)
        .expect("valid");
    let head = |task: &Task, now| task.head(now, OnDisconnect::Keep, false, true).deadline_ms;
    assert_eq!(head(&at, 4_000), Some(6_000));
    assert_eq!(head(&at, 40_000), Some(0), "a past time is no time at all");
    let within = parse(br#"{"type":"execute-code","code":"1","deadline":500}"#).expect("valid");
    assert_eq!(head(&within, 4_000), Some(500));
}

#[test]
fn code_is_accepted_for_fn() {
    let task =
        parse(br#"{"type":"execute-function","code":"(a)=>a","args":[ 1 ]}"#).expect("valid");
    let body = Body::split(&task.body, task.code_len).expect("whole");
    assert_eq!((body.code, body.data), ("(a)=>a", &b"[ 1 ]"[..]));
}

#[test]
fn a_head_written_by_hand_is_checked_too() {
    let task = parse(br#"{"type":"execute-code","code":"1"}"#).expect("valid");
    let good = task.head(0, OnDisconnect::Keep, false, true);
    assert_eq!(good.check(1), Ok(()));
    type Spoil = fn(&mut TaskHead<'_>);
    let spoil: [(&str, Spoil); 7] = [
        ("idempotencyKey", |h| h.idempotency_key = Some("")),
        ("priority", |h| h.priority = 11),
        ("projectId", |h| h.project = "a b"),
        ("timeout", |h| h.timeout_ms = Some(0)),
        ("maxAttempts", |h| h.max_attempts = Some(0)),
        ("retry.jitter", |h| {
            h.retry = Some(RetryPolicy { jitter: f64::NAN, ..RetryPolicy::default() })
        }),
        ("code", |h| h.code_len = 2),
    ];
    for (field, change) in spoil {
        let mut head = good.clone();
        change(&mut head);
        assert_eq!(head.check(1).expect_err(field).field, field);
    }
}
