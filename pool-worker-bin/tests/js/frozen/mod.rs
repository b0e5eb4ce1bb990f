//! The frozen realm: what works in it, and that no task meets what another one has left.

mod channels;

use std::time::Duration;

use pool_worker::js::{FailureKind, Realm, StopReason, Work};

use crate::support::{Bench, assert_kind, text};
use channels::{CHANNELS, Channel};

/// Everything that a task can reach and has not made, asked whether it can be changed. Written
/// apart from what freezes.
const LOOSE: &str = include_str!("loose.js");

fn ok(result: &str) -> Result<String, pool_worker::js::JsFailure> {
    Ok(result.to_owned())
}

#[test]
fn nothing_that_tasks_share_can_be_changed() {
    let mut bench = Bench::new();
    let found = bench.frozen_code(LOOSE).expect("the walk ends");
    let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
    assert!(found["objects"].as_u64() > Some(700), "{found}");
    assert_eq!(found["loose"], serde_json::json!([]));
}

#[test]
fn code_gives_its_completion_value_or_what_it_returns() {
    let mut bench = Bench::new();
    for (code, result) in [
        ("1+1", "2"),
        ("var a = 1; let b = 2; const c = 3; function d() { return 4 } a + b + c + d()", "10"),
        ("typeof a + typeof b + typeof c + typeof d", "\"undefinedundefinedundefinedundefined\""),
        ("if (true) { 'inside' }", "\"inside\""),
        ("for (var i = 0; i < 3; i++) i", "2"),
        ("return 'Hello from worker';", "\"Hello from worker\""),
        ("const x = await Promise.resolve(20); return x + 1", "21"),
        ("await Promise.resolve(5); 7", "null"),
        ("await (async () => 7)()", "null"),
        (
            "setTimeout(() => {}, 1000); new Promise(done => setTimeout(done, 1, 'waited'))",
            "\"waited\"",
        ),
        ("'use strict'; 3", "3"),
        ("let s = 'return'; s", "\"return\""),
        ("// ends with a comment\n1 // here", "1"),
        ("this === globalThis", "true"),
        ("typeof arguments", "\"undefined\""),
        ("class A { #x = 1; get x() { return this.#x } } new A().x", "1"),
        ("`a${1}b`", "\"a1b\""),
        ("", "null"),
    ] {
        for _ in 0..2 {
            assert_eq!(bench.frozen_code(code), ok(result), "{code}");
        }
    }
}

#[test]
fn functions_are_made_anew_for_each_task() {
    let mut bench = Bench::new();
    for (source, args, result) in [
        ("(a, b) => a + b", "[1, 2]", "3"),
        (
            "function add(a, b) { add.calls = (add.calls ?? 0) + 1; return add.calls }",
            "[1, 2]",
            "1",
        ),
        ("async (a) => { await null; return a }", "[[1]]", "[1]"),
        ("add(a, b) { return a * b }", "[2, 3]", "6"),
        ("(() => { let n = 0; return () => ++n })()", "", "1"),
        ("class { constructor() {} }", "", ""),
    ] {
        for _ in 0..3 {
            let given = bench.frozen_function(source, args);
            if result.is_empty() {
                assert_kind(&given, FailureKind::Exception);
            } else {
                assert_eq!(given, ok(result), "{source}");
            }
        }
    }
    assert_kind(&bench.frozen_function("1", ""), FailureKind::InvalidTask);
    assert_kind(&bench.frozen_function("1", ""), FailureKind::InvalidTask);
    assert_kind(&bench.frozen_function("() => {", ""), FailureKind::Syntax);
    assert_kind(&bench.frozen_function("() => 1) => (2", ""), FailureKind::Syntax);
}

#[test]
fn code_that_does_not_parse_says_where() {
    let mut bench = Bench::new();
    for (code, place) in [
        ("1 +", "task.js:1:"),
        ("let a;\nlet a", "task.js:2:5"),
        ("ok();\nreturn (", "task.js:2:"),
        ("await x;\n+;", "task.js:2:2"),
        ("} function f() {", "task.js:1:1"),
        ("return 1 } function f() {", "task.js:1:"),
        ("await 1 } async function f() {", "task.js:1:"),
        ("with ({}) 1", "task.js:1:"),
        ("010", "task.js:1:"),
    ] {
        for _ in 0..2 {
            let result = bench.frozen_code(code);
            let failure = assert_kind(&result, FailureKind::Syntax);
            assert!(failure.message.contains(place), "{code}: {failure:?}");
        }
    }
    // What the task itself throws is no matter of the parser.
    for code in ["throw new SyntaxError('mine')", "JSON.parse('{')", "new RegExp('(')"] {
        for _ in 0..2 {
            let result = bench.frozen_code(code);
            assert_eq!(assert_kind(&result, FailureKind::Exception).name, "SyntaxError", "{code}");
        }
    }
}

#[test]
fn errors_have_their_names_and_the_places_in_the_source() {
    let mut bench = Bench::new();
    for (code, name, place) in [
        ("1;\nnull.x", "TypeError", "task.js:2:6"),
        ("1;\nawait null; function f() { undefined_name }\nf()", "ReferenceError", "task.js:2:28"),
        ("1;\n\nreturn null.x", "TypeError", "task.js:3:13"),
        (
            "class Mine extends RangeError { get name() { return 'x' } }\nthrow new Mine('m')",
            "RangeError",
            "task.js:2:7",
        ),
    ] {
        let result = bench.frozen_code(code);
        let failure = assert_kind(&result, FailureKind::Exception);
        assert_eq!(failure.name, name, "{failure:?}");
        assert!(failure.stack.as_ref().is_some_and(|stack| stack.contains(place)), "{failure:?}");
        assert!(
            failure.stack.as_ref().is_some_and(|stack| stack.lines().count() <= 3),
            "{failure:?}"
        );
    }
    let result = bench.frozen_function("() => {\n  null.x\n}", "");
    let failure = assert_kind(&result, FailureKind::Exception);
    assert!(
        failure.stack.as_ref().is_some_and(|stack| stack.contains("task.js:2:8")),
        "{failure:?}"
    );
}

#[test]
fn a_contexts_keys_are_variables_of_the_task() {
    let mut bench = Bench::new();
    let context = r#"{"a": 2, "list": [1], "Math": "mine", "__proto__": 5}"#;
    for (code, result) in [
        ("a + list[0]", "3"),
        ("a = 7; list.push(1); a + list.length", "9"),
        ("let a = 1; a", "1"),
        ("var a; a", "null"),
        ("let a = 4; return a", "4"),
        ("await null; return a + list.length", "3"),
        ("Math + __proto__", "\"mine5\""),
        ("typeof globalThis.a", "\"undefined\""),
    ] {
        for _ in 0..2 {
            assert_eq!(bench.frozen_code_with(code, context), ok(result), "{code}");
        }
    }
    assert_eq!(bench.frozen_code("typeof a + typeof Math"), ok("\"undefinedobject\""));
    // The same names in another order, and the same text with other names.
    assert_eq!(bench.frozen_code_with("a - b", r#"{"a": 5, "b": 3}"#), ok("2"));
    assert_eq!(bench.frozen_code_with("a - b", r#"{"b": 5, "a": 3}"#), ok("-2"));
    assert_kind(&bench.frozen_code_with("a - b", r#"{"a": 3}"#), FailureKind::Exception);
    for key in ["a-b", "1", "class", "eval", "undefined", "a) => {}) (", "²"] {
        let context = serde_json::json!({ key: 1 }).to_string();
        let result = bench.frozen_code_with("1", &context);
        let failure = assert_kind(&result, FailureKind::InvalidTask);
        assert!(failure.message.starts_with("context has "), "{failure:?}");
    }
    assert_kind(&bench.frozen_code_with("1", "[1]"), FailureKind::InvalidTask);
}

#[test]
fn what_an_object_inherits_can_be_overridden_by_assignment() {
    let mut bench = Bench::new();
    for code in [
        "const o = {}; o.toString = () => 'own'; `${o}` === 'own' && Object.keys(o)[0] === \
         'toString'",
        "const o = {}; o.constructor = 1; o.hasOwnProperty = 2; o.valueOf = 3; o.isPrototypeOf = \
         4; o.toLocaleString = 5; Object.keys(o).length === 5",
        "class A {} A.prototype.toString = () => 'A'; `${new A()}` === 'A'",
        "function B() {} B.prototype = Object.create(Object.prototype); B.prototype.constructor = \
         B; new B().constructor === B",
        "const e = new Error('a'); e.message = 'b'; e.name = 'C'; e.toString() === 'C: b'",
        "const e = new TypeError(); e.message = 'b'; e.name = 'C'; e.constructor = 1; String(e) \
         === 'C: b'",
        "function E(m) { this.message = m } E.prototype = Object.create(Error.prototype); \
         E.prototype.constructor = E; E.prototype.name = 'E'; E.prototype.toString = function () { \
         return this.name + this.message }; String(new E('m')) === 'Em'",
        "class E extends RangeError { constructor(m) { super(m); this.name = 'E' } } String(new \
         E('m')) === 'E: m'",
        "const f = () => 1; f.toString = () => 'f'; f.constructor = 1; f.bind = 2; `${f}` === 'f'",
        "const a = [1]; a.toString = () => 'list'; a.toLocaleString = 1; a.valueOf = 2; `${a}` === \
         'list'",
        "const d = new Date(0); d.toJSON = () => 'date'; d.toString = () => 'D'; JSON.stringify(d) \
         + d.toString() === '\"date\"D'",
        "const m = new Map(); m.toString = () => 'M'; m.constructor = 1; `${m}` === 'M'",
        "Object.freeze({}).toString !== 1 && (() => { try { Object.freeze({}).toString = 1 } catch \
         (e) { return e instanceof TypeError } })()",
        "(() => { try { Object.prototype.toString = 1 } catch (e) { return e instanceof TypeError \
         } })()",
        "(() => { try { (5).toString = 1 } catch (e) { return e instanceof TypeError } })()",
        "Reflect.set({}, 'toString', 1) && !Reflect.set(Object.freeze({}), 'x', 1)",
        "const p = Object.create({ toString() { return 'p' } }); p.toString = () => 'q'; `${p}` \
         === 'q'",
        "const seen = []; const p = new Proxy({}, { defineProperty(t, k, d) { seen.push(k); return \
         Reflect.defineProperty(t, k, d) } }); p.valueOf = 1; seen[0] === 'valueOf'",
        "JSON.parse('{\"toString\": 1}').toString === 1 && ({ ...{ valueOf: 2 } }).valueOf === 2 \
         && Object.assign({}, { constructor: 3 }).constructor === 3",
        "[3, 1, 2].sort().map(x => x * 2).join() === '2,4,6' && Object.prototype.toString.call([]) \
         === '[object Array]'",
    ] {
        assert_eq!(bench.frozen_code(code), ok("true"), "{code}");
    }
}

#[test]
fn no_channel_leads_from_one_task_to_another() {
    assert!(CHANNELS.len() >= 30, "{}", CHANNELS.len());
    for permissive in [false, true] {
        for known in [false, true] {
            let mut bench = bench(permissive);
            for channel in CHANNELS {
                for receiver in ["sender", "another"] {
                    let came = comes_through(
                        &mut bench,
                        channel,
                        Realm::Frozen,
                        known,
                        "sender",
                        receiver,
                    );
                    assert_eq!(
                        came, None,
                        "{}, known {known}, permissive {permissive}",
                        channel.name
                    );
                }
            }
        }
    }
}

/// The attempts are real: each leads somewhere, where realms are kept, if it is said to.
#[test]
fn the_channels_are_open_in_the_warm_realm() {
    let mut bench = bench(true);
    for channel in CHANNELS {
        for known in [false, true] {
            let project = format!("{} {known}", channel.name);
            let came = comes_through(&mut bench, channel, Realm::Warm, known, &project, &project);
            assert_eq!(
                came.is_some(),
                channel.is_open_when_warm,
                "{}, known {known}: {came:?}",
                channel.name
            );
        }
    }
}

fn bench(permissive: bool) -> Bench {
    Bench::with(|config| {
        config.allow_code_generation = permissive;
        config.allow_wasm = permissive;
        config.max_warm_projects = 2;
    })
}

/// Sends and receives; what is received then and was not before. `known`: by one and the same code,
/// so that what the engine keeps of it is shared.
fn comes_through(
    bench: &mut Bench,
    channel: &Channel,
    realm: Realm,
    known: bool,
    sender: &str,
    receiver: &str,
) -> Option<String> {
    let Channel { common, send, receive, .. } = channel;
    let (sending, receiving) = if known {
        let both = format!("{common} if (sends) {{ {send} }} else {{ {receive} }}");
        (both.clone(), both)
    } else {
        (format!("{common} {send}"), format!("{common} {receive}"))
    };
    let mut run = |project: &str, source: &str, sends: bool| {
        bench.seen.borrow_mut().clear();
        let context = serde_json::json!({ "sends": sends, "secret": "s3cret" }).to_string();
        let result = text(bench.run(
            project,
            realm,
            Work::Code { source, context_json: context.as_bytes() },
        ));
        let lines: Vec<_> = bench.seen.borrow().iter().map(|(_, _, line)| line.clone()).collect();
        format!("{:?} {lines:?}", result.map_err(|failure| (failure.name, failure.message)))
    };
    let before = run(receiver, &receiving, false);
    let sent = run(sender, &sending, true);
    assert!(!sent.contains("SyntaxError"), "{}: {sent}", channel.name);
    let after = run(receiver, &receiving, false);
    (before != after).then(|| format!("{before}, then {after}"))
}

#[test]
fn a_frozen_task_is_ended_as_any_other_and_the_next_one_is_untouched() {
    let mut bench = Bench::new();
    assert_eq!(bench.frozen_code("'first'"), ok("\"first\""));
    for code in [
        "for (;;);",
        "const again = () => queueMicrotask(again); again(); await new Promise(() => {})",
        "setTimeout(() => { for (;;); }, 1); await new Promise(() => {})",
        "({ get a() { for (;;); } })",
    ] {
        let failure = bench.frozen_code_ended_after(code, Duration::from_millis(30));
        assert_eq!(failure.kind, FailureKind::Terminated(StopReason::Timeout), "{code}");
        assert_eq!(bench.frozen_code("'next'"), ok("\"next\""), "after {code}");
    }
    assert_kind(&bench.frozen_code("new Promise(() => {})"), FailureKind::PromiseNeverSettled);
    assert_kind(&bench.frozen_code("(function f() { f() })()"), FailureKind::Exception);
    assert_kind(&bench.frozen_code("new Map()"), FailureKind::NotSerializable);
    assert_eq!(bench.frozen_code("'last'"), ok("\"last\""));
}

#[test]
fn a_frozen_task_has_a_memory_limit_and_a_log() {
    let mut bench = Bench::new();
    let bomb = "const a = []; for (;;) a.push({})";
    assert_kind(&bench.frozen_code_within(16 << 20, bomb), FailureKind::MemoryLimit);
    assert!(bench.engine.must_be_replaced());
    bench.seen.borrow_mut().clear();
    let code = "class Point { constructor() { this.x = 1 } } console.log(new Point(), new \
        RangeError('m').name, {}, [new Date(0)]); console.error(new TypeError('m'))";
    assert_eq!(bench.frozen_code(code), ok("null"));
    let lines: Vec<_> = bench.seen.borrow().iter().map(|(_, _, line)| line.clone()).collect();
    assert_eq!(lines[0], format!("Point {{ x: 1 }} RangeError {{}} [ {} ]", date(&mut bench)));
    assert!(lines[1].starts_with("TypeError: m\n    at task.js:1:"), "{lines:?}");
}

/// How the console shows the first moment of 1970 here.
fn date(bench: &mut Bench) -> String {
    let text = bench.code("String(new Date(0))").expect("a date has a text");
    text.trim_matches('"').to_owned()
}

#[test]
fn a_module_is_refused_in_the_frozen_realm() {
    let mut bench = Bench::new();
    let work = Work::Module { path: "a.mjs", method: None, args_json: b"" };
    let result = text(bench.run("default", Realm::Frozen, work));
    assert!(
        assert_kind(&result, FailureKind::InvalidTask)
            .message
            .starts_with("realm must not be `frozen`")
    );
}

/// Nobody else could read it, but it would stay as long as the worker.
#[test]
fn no_private_name_can_be_put_on_what_tasks_share() {
    let mut bench = Bench::new();
    let stamp = "class Given { constructor(it) { return it } } class Stamp extends Given { #left = \
        1; #method() {} }";
    for shared in ["Math", "globalThis", "Array.prototype", "(all => all)`a`", "console.log"] {
        let result = bench.frozen_code(&format!("{stamp} new Stamp({shared})"));
        assert_eq!(assert_kind(&result, FailureKind::Exception).name, "TypeError", "{shared}");
    }
    assert_eq!(bench.frozen_code(&format!("{stamp} new Stamp({{}}); 1")), ok("1"));
}

#[test]
fn random_numbers_are_numbers_below_one_and_differ() {
    let mut bench = Bench::new();
    let code = "const all = Array.from({ length: 2000 }, () => Math.random()); new Set(all).size \
        === 2000 && all.every(x => x >= 0 && x < 1) && Math.max(...all) > 0.9 && Math.min(...all) \
        < 0.1";
    assert_eq!(bench.frozen_code(code), ok("true"));
    assert_ne!(bench.frozen_code("Math.random()"), bench.frozen_code("Math.random()"));
}
