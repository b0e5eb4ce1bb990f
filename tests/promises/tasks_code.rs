//! `execute-code`: completion values, top-level `return` and `await`, results, console, and what
//! the code does not see.

use pool_tests::tasks::{code, error, program, result, with};
use pool_tests::{Pool, Value, json};

fn once(source: &str) -> Value {
    with(code(source), json!({"maxAttempts": 1}))
}

#[test]
fn a_script_gives_its_completion_value() {
    let pool = Pool::start(json!({}));
    for (source, value) in [
        ("1+1", json!(2)),
        ("const a = 20; a * 2 + 2", json!(42)),
        ("if (true) { 'yes' } else { 'no' }", json!("yes")),
        ("let s = 0; for (const n of [1, 2, 3]) s += n", json!(6)),
        ("({a: 1})", json!({"a": 1})),
        ("Promise.resolve(5)", json!(5)),
        ("// return in a comment\n'return in a string'", json!("return in a string")),
        ("(() => { return 3 })()", json!(3)),
        ("", Value::Null),
    ] {
        assert_eq!(result(pool.run(code(source))), value, "{source}");
    }
}

#[test]
fn a_top_level_return_or_await_makes_it_an_async_functions_body() {
    let pool = Pool::start(json!({}));
    for (source, value) in [
        ("return \"Hello from worker\";", json!("Hello from worker")),
        ("if (1 > 0) return 'early'; throw 1", json!("early")),
        ("const x = await Promise.resolve(20); return x + 1", json!(21)),
        ("await 1; 5", Value::Null),
        ("return", Value::Null),
        ("for await (const x of [Promise.resolve(4)]) return x", json!(4)),
        ("return new Promise(r => setTimeout(() => r('later'), 5))", json!("later")),
    ] {
        assert_eq!(result(pool.run(code(source))), value, "{source}");
    }
}

#[test]
fn the_keys_of_context_become_globals() {
    let pool = Pool::start(json!({}));
    let task = with(
        code("return name + ':' + list.length + ':' + deep.a.b"),
        json!({"context": {
        "name": "n", "list": [1, 2], "deep": {"a": {"b": true}}}}),
    );
    assert_eq!(result(pool.run(task)), "n:2:true");
    let own = with(
        code("typeof __proto__own"),
        json!({"context": {"__proto__": {"polluted": 1}, "constructor": 2}}),
    );
    assert_eq!(result(pool.run(own)), "undefined");
    assert_eq!(
        result(pool.run(code("typeof name + typeof list"))),
        "undefinedundefined",
        "only of this task"
    );
}

#[test]
fn results_are_json_values_and_undefined_becomes_null() {
    let pool = Pool::start(json!({}));
    for (source, value) in [
        ("undefined", Value::Null),
        ("[undefined, null]", json!([null, null])),
        ("'\\ud83d\\ude00 ü'", json!("😀 ü")),
        ("0.1 + 0.2", json!(0.300_000_000_000_000_04)),
        ("1e21", json!(1e21)),
        ("-5", json!(-5)),
        ("({toJSON() { return {shown: 1} }})", json!({"shown": 1})),
        ("[1, [2, [3, {}]]]", json!([1, [2, [3, {}]]])),
    ] {
        assert_eq!(result(pool.run(code(source))), value, "{source}");
    }
}

#[test]
fn a_result_that_is_no_json_value_is_refused_naming_its_path() {
    let pool = Pool::start(json!({}));
    for (source, path) in [
        ("({a: [1, {m: new Map()}]})", "a[1].m"),
        ("({s: new Set([1])})", "s"),
        ("({t: new Uint8Array(3)})", "t"),
        ("[1n]", "[0]"),
        ("({f() {}})", "f"),
        ("const o = {b: {}}; o.b.c = o; o", "b.c"),
    ] {
        let outcome = pool.run(code(source));
        assert_eq!(error(&outcome), "RESULT_NOT_SERIALIZABLE", "{source}: {outcome}");
        assert!(
            outcome["error"]["message"].as_str().is_some_and(|m| m.contains(path)),
            "{source}: {outcome}"
        );
    }
}

#[test]
fn an_exception_carries_its_name_message_and_line() {
    let pool = Pool::start(json!({}));
    let outcome =
        pool.run(once("\nclass Odd extends Error { name = 'Odd' }\nthrow new Odd('very')"));
    assert_eq!(outcome["error"]["name"], "Odd");
    assert_eq!(outcome["error"]["message"], "very");
    assert!(
        outcome["error"]["stack"].as_str().is_some_and(|s| s.contains(":3")),
        "the third line: {outcome}"
    );
    for source in
        ["throw null", "throw 'text'", "throw {a: 1}", "throw new Proxy({}, {get() { throw 1 }})"]
    {
        assert_eq!(error(&pool.run(once(source))), "JS_EXCEPTION", "{source}");
    }
}

#[test]
fn a_rejected_promise_is_an_exception_wherever_it_comes_from() {
    let pool = Pool::start(json!({}));
    assert_eq!(error(&pool.run(once("Promise.reject(new TypeError('no'))"))), "JS_EXCEPTION");
    assert_eq!(error(&pool.run(once("await null; throw new Error('later')"))), "JS_EXCEPTION");
}

#[test]
fn source_that_does_not_parse_is_a_syntax_error_with_its_place() {
    let pool = Pool::start(json!({}));
    let outcome = pool.run(code("let a = 1;\nlet b = ;"));
    assert_eq!(error(&outcome), "JS_SYNTAX");
    assert!(
        outcome["error"]["stack"]
            .as_str()
            .or(outcome["error"]["message"].as_str())
            .is_some_and(|s| s.contains('2'))
    );
}

#[test]
fn a_promise_that_nothing_can_settle_ends_at_once() {
    let pool = Pool::start(json!({}));
    let outcome = pool.run(with(code("await new Promise(() => {})"), json!({"timeout": 60_000})));
    assert_eq!(error(&outcome), "PROMISE_NEVER_SETTLED");
    assert!(outcome["receipt"]["runMs"].as_f64() < Some(30_000.0), "{outcome}");
}

#[test]
fn timers_run_in_order_and_can_be_cleared() {
    let pool = Pool::start(json!({}));
    let source = "const seen = []; const t = setTimeout(() => seen.push('never'), 5);
        setTimeout(() => seen.push('b'), 20); setTimeout(x => seen.push(x), 1, 'a'); \
        clearTimeout(t);
        let n = 0; await new Promise(done => { const i = setInterval(() => { if (++n === 3) { \
        clearInterval(i); done() } }, 10) });
        await new Promise(r => setTimeout(r, 30)); return [seen, n]";
    assert_eq!(result(pool.run(code(source))), json!([["a", "b"], 3]));
}

#[test]
fn console_output_comes_with_the_outcome_when_asked() {
    let pool = Pool::start(json!({}));
    let source = "console.log('a', {b: 1}, [2]); console.error(new Error('bad').message); \
        console.warn(3); 'done'";
    let with_logs = pool.run(with(code(source), json!({"logs": true})));
    let text = with_logs["logs"].to_string();
    for part in ["a", "b", "bad", "3", "error", "warn"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(with_logs["logs"].as_array().map(Vec::len), Some(3), "a line each: {text}");
    assert!(pool.run(code(source)).get("logs").is_none(), "only when asked");
}

#[test]
fn console_output_of_a_task_that_fails_is_kept_too() {
    let pool = Pool::start(json!({}));
    let outcome =
        pool.run(with(once("console.log('before the end'); throw 1"), json!({"logs": true})));
    assert!(outcome["logs"].to_string().contains("before the end"), "{outcome}");
}

#[test]
fn console_output_is_capped_and_marked() {
    let pool = Pool::start(json!({}));
    let source = "for (let i = 0; i < 100000; i++) console.log('0123456789'); 'done'";
    let outcome = pool.run(with(code(source), json!({"logs": true})));
    let text = outcome["logs"].to_string();
    assert!(text.len() < 2_000_000, "{} bytes", text.len());
    assert!(text.contains("truncated"), "{}", &text[text.len() - 300..]);
    assert_eq!(result(outcome), "done");
}

#[test]
fn the_code_sees_no_file_network_process_or_environment() {
    let pool = Pool::start(json!({}));
    for name in [
        "require",
        "process",
        "module",
        "exports",
        "fetch",
        "Deno",
        "Bun",
        "XMLHttpRequest",
        "WebSocket",
        "importScripts",
    ] {
        assert_eq!(result(pool.run(code(&format!("typeof {name}")))), "undefined", "{name}");
    }
    for source in ["await import('fs')", "await import('node:fs')", "await import('/etc/passwd')"] {
        assert_ne!(pool.run(once(source))["status"], "succeeded", "{source}");
    }
}

#[test]
fn code_from_strings_is_off_unless_allowed() {
    let sources =
        ["eval('1+1')", "new Function('return 2')()", "(() => {}).constructor('return 2')()"];
    let pool = Pool::start(json!({}));
    for source in sources {
        let outcome = pool.run(once(source));
        assert_eq!(error(&outcome), "JS_EXCEPTION", "{source}: {outcome}");
        assert_eq!(outcome["error"]["name"], "EvalError", "{source}: {outcome}");
    }
    let open = Pool::start(json!({"js": {"allowCodeGeneration": true}}));
    for source in sources {
        assert_eq!(result(open.run(once(source))), 2, "{source}");
    }
}

#[test]
fn webassembly_is_off_unless_allowed() {
    let source = "typeof WebAssembly === 'undefined' ? 'off'
        : (() => { try { new WebAssembly.Module(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])); \
        return 'on' } catch { return 'off' } })()";
    assert_eq!(result(Pool::start(json!({})).run(code(source))), "off");
    assert_eq!(result(Pool::start(json!({"js": {"allowWasm": true}})).run(code(source))), "on");
}

#[test]
fn a_fresh_realm_shows_nothing_of_the_task_before() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    let spoil = "globalThis.left = 1; var alsoLeft = 2; Object.prototype.evil = 3; \
        Array.prototype.push = () => 'no';
        JSON.stringify = () => 'x'; Promise.prototype.then = null; 'ok'";
    assert_eq!(result(pool.run(code(spoil))), "ok");
    let look = "const a = []; a.push(1); return [typeof left, typeof alsoLeft, ({}).evil === \
        undefined, a.length, JSON.stringify(1)]";
    let next = pool.run(code(look));
    assert_eq!(next["workerId"], "w0.1", "the same worker: {next}");
    assert_eq!(result(next), json!(["undefined", "undefined", true, 1, "1"]));
}

#[test]
fn intl_and_unicode_work() {
    let pool = Pool::start(json!({}));
    assert_eq!(result(pool.run(code("new Intl.NumberFormat('de').format(1234.5)"))), "1.234,5");
    assert_eq!(
        result(pool.run(code("[/\\p{Lu}/u.test('Ü'), 'a\\u0308'.normalize('NFC').length]"))),
        json!([true, 1])
    );
}

#[test]
fn atomics_wait_and_shared_memory_between_tasks_are_not_there() {
    let pool = Pool::start(json!({}));
    let outcome = pool.run(once("Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)"));
    assert_ne!(outcome["status"], "succeeded", "{outcome}");
    assert_ne!(outcome["status"], "timed-out", "{outcome}");
}

#[test]
fn the_supervisors_time_zone_holds_for_dates_and_for_programs() {
    let config = json!({"shell": {"allow": [{"program": "/bin/date", "args": ".*"}]}});
    for (zone, minutes, hours) in
        [("America/New_York", 240, "-0400"), ("Asia/Kolkata", -330, "+0530")]
    {
        let pool = Pool::start_with(config.clone(), |supervisor| {
            supervisor.env("TZ", zone);
        });
        for realm in ["fresh", "warm", "frozen"] {
            let task =
                with(code("new Date(2026, 6, 1).getTimezoneOffset()"), json!({"realm": realm}));
            assert_eq!(result(pool.run(task)), minutes, "{zone}, {realm}");
        }
        let shown =
            result(pool.run(program("/bin/date", &["-d", "2026-07-01", "+%z"])))["stdout"].clone();
        assert_eq!(shown, format!("{hours}\n"), "{zone}");
    }
}
