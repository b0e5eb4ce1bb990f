//! `console.*` output is captured per task, capped, and streamed.

use pool_worker::js::{JsTask, LogLevel, Realm, Work};

use crate::support::Bench;

fn lines(code: &str) -> Vec<(LogLevel, String)> {
    let mut bench = Bench::new();
    let outcome =
        bench.run("default", Realm::Fresh, Work::Code { source: code, context_json: b"" });
    outcome.result.expect("the code is fine");
    assert!(!outcome.logs_truncated);
    let lines: Vec<_> = outcome.logs.into_iter().map(|line| (line.level, line.text)).collect();
    let seen: Vec<_> =
        bench.seen.take().into_iter().map(|(_, level, text)| (level, text)).collect();
    assert_eq!(lines, seen, "captured and streamed lines are the same");
    lines
}

fn shows(expression: &str, text: &str) {
    let lines = lines(&format!("console.log({expression})"));
    assert_eq!(lines, [(LogLevel::Log, text.to_owned())], "{expression}");
}

#[test]
fn each_function_has_its_level() {
    use LogLevel::{Debug, Error, Info, Log, Warn};
    let lines = lines(
        "console.debug(1); console.log(2); console.info(3); console.warn(4); console.error(5); \
         console.assert(true, 6); console.assert(false, 'seven', 8)",
    );
    let lines: Vec<_> = lines.iter().map(|(level, text)| (*level, text.as_str())).collect();
    assert_eq!(
        lines,
        [
            (Debug, "1"),
            (Log, "2"),
            (Info, "3"),
            (Warn, "4"),
            (Error, "5"),
            (Error, "Assertion failed: seven 8")
        ]
    );
}

#[test]
fn values_are_shown_for_people() {
    shows("'a', 1, true, null, undefined", "a 1 true null undefined");
    shows("", "");
    shows(
        "{a: 1, b: 'x', c: [1, 2, {d: null}], 'e f': -0}",
        "{ a: 1, b: 'x', c: [ 1, 2, { d: null } ], 'e f': -0 }",
    );
    shows(
        "[], {}, [, 1], () => 1, function f() {}, class A {}",
        "[] {} [ <empty>, 1 ] [Function (anonymous)] [Function: f] [Function: A]",
    );
    shows("10n, Symbol('s'), NaN, -Infinity, 1e21", "10n Symbol(s) NaN -Infinity 1e+21");
    shows(
        "new Map([['a', {b: 1}]]), new Set([1, 'two'])",
        "Map(1) { 'a' => { b: 1 } } Set(2) { 1, 'two' }",
    );
    shows(
        "new Uint8Array(3), new ArrayBuffer(8), /x+/g",
        "Uint8Array(3) [ 0, 0, 0 ] ArrayBuffer { byteLength: 8 } /x+/",
    );
    shows(
        "new (class Point { x = 1 }), Object.create(null)",
        "Point { x: 1 } [Object: null prototype] {}",
    );
    shows("Promise.resolve(1), new Promise(() => {})", "Promise { 1 } Promise { <pending> }");
    shows("{a: {b: {c: {d: 1}}}}", "{ a: { b: { c: [Object] } } }");
    shows(
        "'%s is %d or %i %j %% %z', 'x', 1.5, 1.5, {a: 1}, 'rest'",
        "x is 1.5 or 1 { a: 1 } % %z rest",
    );
}

#[test]
fn showing_runs_nothing_of_the_users() {
    shows("{get a() { throw 1 }, b: 2}", "{ a: [Getter], b: 2 }");
    shows("new Proxy({}, {get() { throw 1 }, ownKeys() { throw 1 }})", "[Proxy]");
    shows("(() => { const a = {}; a.self = a; return a })()", "{ self: [Circular] }");
    let lines = lines(
        "Object.prototype.toString = Array.prototype.join = Error.prepareStackTrace = () => { \
         throw 1 }; const e = new TypeError('m'); console.log(e, [1])",
    );
    assert_eq!(lines.len(), 1);
    assert!(lines[0].1.starts_with("TypeError: m\n    at task.js:1:"), "{lines:?}");
    assert!(lines[0].1.ends_with("[ 1 ]"), "{lines:?}");
}

#[test]
fn groups_counters_and_clocks_work() {
    let lines = lines(
        "console.group('g'); console.log('in\\nside'); console.groupEnd(); console.count(); \
         console.count(); console.count('x'); console.time('t'); console.timeEnd('t'); \
         console.timeEnd('t')",
    );
    let lines: Vec<_> = lines.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(lines[..5], ["g", "  in\n  side", "default: 1", "default: 2", "x: 1"]);
    assert!(lines[5].starts_with("t: ") && lines[5].ends_with("ms"), "{lines:?}");
    assert_eq!(lines[6], "no timer named t");
}

#[test]
fn a_gigabyte_of_output_is_truncated_with_a_mark() {
    let mut bench = Bench::new();
    let source = "const line = 'x'.repeat(1023); for (let i = 0; i < 1e6; i++) console.log(line)";
    let outcome = bench.run("default", Realm::Fresh, Work::Code { source, context_json: b"" });
    outcome.result.expect("the code is fine");
    assert!(outcome.logs_truncated);
    assert_eq!(outcome.logs.len(), 257);
    assert!(outcome.logs[256].text.contains("truncated"), "{:?}", outcome.logs[256]);
    let huge =
        "console.log('y'.repeat(2 ** 29 - 24)); console.log('z'.repeat(1e5)); console.log('after')";
    let outcome =
        bench.run("default", Realm::Fresh, Work::Code { source: huge, context_json: b"" });
    outcome.result.expect("the code is fine");
    assert_eq!(outcome.logs[0].text, "(a string of 536870888 characters)");
    assert!(outcome.logs[1].text.len() < 70_000);
    assert_eq!(outcome.logs[2].text, "after");
}

#[test]
fn lines_carry_their_tasks_ticket_and_are_kept_only_on_request() {
    let mut bench = Bench::new();
    let work = Work::Code { source: "console.log('hi')", context_json: b"" };
    let outcome = bench.engine.run(&JsTask {
        ticket: 77,
        project: "p",
        realm: Realm::Fresh,
        work,
        memory_limit_bytes: None,
        capture_logs: false,
    });
    assert!(outcome.logs.is_empty());
    assert_eq!(bench.seen.take(), [(77, LogLevel::Log, "hi".to_owned())]);
}
