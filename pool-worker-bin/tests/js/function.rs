//! `execute-function`

use pool_worker::js::{FailureKind, Realm, Work};

use crate::support::{Bench, assert_kind};

#[test]
fn a_function_of_any_form_is_called_with_args_and_awaited() {
    let mut bench = Bench::new();
    for source in [
        "(a, b) => a + b",
        "function (a, b) { return a + b }",
        "function add(a, b) { return a + b }",
        "async (a, b) => a + b",
        "async function add(a, b) { await null; return a + b }",
        "add(a, b) { return a + b }",
        "async add(a, b) { return a + b }",
        "(a, b) => a + b;",
        "  (a, b) => new Promise(done => setTimeout(done, 1, a + b)) // trailing words",
        "/* leading words */ (a, b) => a + b",
    ] {
        let result = bench.function(source, "[40, 2]");
        assert_eq!(result.as_deref(), Ok("42"), "{source}");
    }
    assert_eq!(
        bench.function("() => arguments.length", "[]").map_err(|f| f.name),
        Err("ReferenceError".to_owned())
    );
    assert_eq!(bench.function("function () { return arguments.length }", "").as_deref(), Ok("0"));
}

#[test]
fn what_is_not_one_function_expression_is_refused() {
    let mut bench = Bench::new();
    for source in ["a) (b", "", "function", "x => {", "1); (x => x", "x => x] [0", "{}) => 1"] {
        let result = bench.function(source, "[]");
        assert_kind(&result, FailureKind::Syntax);
    }
    for source in ["42", "'text'", "({a: 1})", "null"] {
        let result = bench.function(source, "[]");
        assert_kind(&result, FailureKind::InvalidTask);
    }
    for args in ["{}", "1", "[", "null"] {
        let result = bench.function("x => x", args);
        assert_kind(&result, FailureKind::InvalidTask);
    }
}

#[test]
fn a_lone_text_arrives_as_it_was_sent_whatever_is_in_it() {
    let mut bench = Bench::new();
    let long = "long ".repeat(1000);
    for text in [
        "",
        "x",
        "two words",
        "\u{7f}",
        "a\"b",
        "back\\slash",
        "line\nbreak",
        "é",
        "語",
        "😀",
        "\",\"",
        &long,
    ] {
        let args = serde_json::json!([text]).to_string();
        let sent = serde_json::json!(text).to_string();
        assert_eq!(
            bench.function("(...all) => all.length === 1 && all[0]", &args),
            Ok(sent),
            "{args}"
        );
    }
    assert_eq!(bench.function("(...all) => all.length", r#"["a","b"]"#).as_deref(), Ok("2"));
    for args in ["[\"\n\"]", "[\"\\\"]", "[\"a\"b\"]", "[\"]", "[\"a\",]"] {
        let result = bench.function("x => x", args);
        assert_kind(&result, FailureKind::InvalidTask);
    }
}

#[test]
fn a_function_that_throws_or_rejects_fails_with_its_error() {
    let mut bench = Bench::new();
    for source in [
        "() => { throw new TypeError('no') }",
        "async () => { throw new TypeError('no') }",
        "() => Promise.reject(new TypeError('no'))",
        "() => new Promise((_, reject) => setTimeout(() => reject(new TypeError('no')), 1))",
    ] {
        let result = bench.function(source, "[]");
        let failure = assert_kind(&result, FailureKind::Exception);
        assert_eq!((failure.name.as_str(), failure.message.as_str()), ("TypeError", "no"));
        assert!(
            failure.stack.as_deref().is_some_and(|stack| stack.contains("task.js:1:")),
            "{failure:?}"
        );
    }
}

#[test]
fn warm_state_stays_within_a_project_and_never_crosses() {
    let mut bench = Bench::new();
    let count = "() => globalThis.count = (globalThis.count ?? 0) + 1";
    assert_eq!(bench.function_of("a", count, "").as_deref(), Ok("1"));
    assert_eq!(bench.function_of("a", count, "").as_deref(), Ok("2"));
    assert_eq!(bench.function_of("b", count, "").as_deref(), Ok("1"));
    assert_eq!(bench.function_of("a", count, "").as_deref(), Ok("3"));
    assert_eq!(bench.code("typeof count").as_deref(), Ok("\"undefined\""));
}

#[test]
fn the_least_recently_used_project_loses_its_context() {
    let mut bench = Bench::with(|config| config.max_warm_projects = 2);
    let count = "() => globalThis.count = (globalThis.count ?? 0) + 1";
    for (project, expected) in
        [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1"), ("a", "3"), ("b", "1")]
    {
        assert_eq!(bench.function_of(project, count, "").as_deref(), Ok(expected), "{project}");
    }
}

/// With as many contexts as half of the projects, a list by last use alone would serve none of
/// them.
#[test]
fn projects_that_take_turns_do_not_all_lose_their_contexts() {
    let mut bench = Bench::with(|config| config.max_warm_projects = 8);
    let count = "() => globalThis.count = (globalThis.count ?? 0) + 1";
    let mut warm = 0;
    for _ in 0..40 {
        for project in 0..16 {
            let project = project.to_string();
            // They come in batches: the second of one is no sign that the project will be back
            // soon.
            let first = bench.function_of(&project, count, "").expect("it counts");
            warm += u32::from(first != "1");
            bench.function_of(&project, count, "").expect("it counts");
        }
    }
    assert!(warm > 40 * 16 / 10, "{warm} of 640 batches found their project's context");
}

#[test]
fn contexts_are_kept_by_the_memory_that_they_hold() {
    const KEPT: usize = 8 << 20;
    let mut bench = Bench::with(|config| config.kept_limit_bytes = KEPT);
    let hold = "n => { globalThis.held = new Array(1e5).fill(n); return held.length }";
    for project in 0..100 {
        let work = Work::Function { source: hold, args_json: b"[1]" };
        let outcome = bench.run(&project.to_string(), Realm::Warm, work);
        assert_eq!(outcome.result.as_deref(), Ok(b"100000".as_slice()));
        // Each holds 800 KB. The figure is from before the bound was seen to.
        assert!(outcome.memory_bytes < (KEPT + (6 << 20)) as u64, "{} bytes", outcome.memory_bytes);
    }
    let held = bench.function_of("99", "() => held.length", "");
    assert_eq!(held.as_deref(), Ok("100000"), "the one used last is there");
    assert!(bench.function_of("0", "() => held.length", "").is_err(), "the first has gone");
}

#[test]
fn the_same_warm_code_can_run_again() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        let result =
            bench.warm_code("a", "'use strict'; const x = 20; class Y {} function z() {} x + 22");
        assert_eq!(result.as_deref(), Ok("42"));
    }
    assert_eq!(
        bench
            .warm_code("a", "'use strict'; (function () { return this === undefined })()")
            .as_deref(),
        Ok("true")
    );
}
