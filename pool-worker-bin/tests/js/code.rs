//! `execute-code`

use pool_worker::js::FailureKind;

use crate::support::{Bench, assert_kind};

fn gives(code: &str, json: &str) {
    let result = Bench::new().code(code);
    assert_eq!(result.as_deref(), Ok(json), "{code}");
}

#[test]
fn a_script_gives_its_completion_value() {
    gives("1+1", "2");
    gives("const a = 20; let b = 22; a + b", "42");
    gives("if (true) { 'yes' } else { 'no' }", "\"yes\"");
    gives("const unused = 1;", "null");
    gives("", "null");
}

#[test]
fn a_top_level_return_makes_it_the_body_of_a_function() {
    gives("return \"Hello from worker\";", "\"Hello from worker\"");
    gives("const x = 4; return x * x", "16");
    gives("return;", "null");
    gives("if (1) return 'a'; return 'b'", "\"a\"");
    gives("return new Promise(resolve => setTimeout(resolve, 1, 'later'))", "\"later\"");
}

#[test]
fn a_top_level_await_makes_it_the_body_of_an_async_function() {
    gives("const x = await Promise.resolve(5); return x + 1", "6");
    gives("await (async () => 1)(); return 'done'", "\"done\"");
    gives("return await (async () => 7)()", "7");
    gives("const x = await 1; x", "null");
    gives("for await (const x of [Promise.resolve(3)]) return x", "3");
}

#[test]
fn the_word_await_alone_does_not_change_how_code_runs() {
    gives("async function f() { return await 5 } f()", "5");
    gives("// await nothing\n'script'", "\"script\"");
    gives("var await_count = 3; await_count", "3");
}

#[test]
fn a_promise_as_completion_value_is_awaited() {
    gives("Promise.resolve({a: 1})", "{\"a\":1}");
    gives("(async () => { return [1, 2] })()", "[1,2]");
    gives("({ then(resolve) { resolve('thenable') } })", "\"thenable\"");
}

#[test]
fn code_cannot_break_out_of_its_wrapper() {
    for code in [
        "}, async function () {",
        "await 1; }); globalThis.escaped = 1; (async function () {",
        "return 1; } function other() { await 2",
        "}",
        "await 1 }), (async function () { return 2",
    ] {
        let result = Bench::new().code(code);
        assert_kind(&result, FailureKind::Syntax);
    }
}

#[test]
fn a_syntax_error_names_the_place_in_the_users_source() {
    let at = |code: &str| {
        let result = Bench::new().code(code);
        assert_kind(&result, FailureKind::Syntax).message.clone()
    };
    assert!(at("let a = ;").ends_with("(task.js:1:9)"), "{}", at("let a = ;"));
    assert!(at("return 1 +* 2").ends_with("(task.js:1:11)"), "{}", at("return 1 +* 2"));
    let message = at("const x = await 1;\nconst y = ;\nreturn x");
    assert!(message.ends_with("(task.js:2:11)"), "{message}");
}

#[test]
fn an_exception_has_name_message_and_the_users_stack() {
    let code = "function inner() {\n  throw new RangeError('too far');\n}\ninner();";
    let result = Bench::new().code(code);
    let failure = assert_kind(&result, FailureKind::Exception);
    assert_eq!(failure.name, "RangeError");
    assert_eq!(failure.message, "too far");
    let stack = failure.stack.as_deref().expect("errors have a stack");
    assert_eq!(stack, "RangeError: too far\n    at inner (task.js:2:9)\n    at task.js:4:1");
}

#[test]
fn lines_in_stacks_are_right_in_bodies_too() {
    let place = |code: &str| {
        let result = Bench::new().code(code);
        let failure = assert_kind(&result, FailureKind::Exception);
        failure.stack.clone().expect("errors have a stack")
    };
    let sync = place("if (0) return;\nthrow new Error('x')");
    assert!(sync.contains("task.js:2:7"), "{sync}");
    let asynchronous = place("await 1;\nthrow new Error('x')");
    assert!(asynchronous.contains("task.js:2:7"), "{asynchronous}");
}

#[test]
fn the_keys_of_context_become_globals() {
    let mut bench = Bench::new();
    let result = bench.code_with("a + b.c", r#"{"a": 1, "b": {"c": 2}}"#);
    assert_eq!(result.as_deref(), Ok("3"));
    let result = bench.code_with("typeof a", "");
    assert_eq!(result.as_deref(), Ok("\"undefined\""));
    let result = bench.code_with("const a = 5; a", r#"{"a": 1}"#);
    assert_eq!(result.as_deref(), Ok("5"));
    let result = bench.code_with("1", r#"{"undefined": 1}"#);
    let failure = assert_kind(&result, FailureKind::InvalidTask);
    assert!(failure.message.contains("undefined"), "{failure:?}");
    assert_kind(&bench.code_with("1", "[1]"), FailureKind::InvalidTask);
    assert_kind(&bench.code_with("1", "{"), FailureKind::InvalidTask);
}

#[test]
fn sandboxed_code_sees_no_file_network_process_or_environment() {
    let absent = [
        "require",
        "process",
        "Deno",
        "global",
        "module",
        "exports",
        "fetch",
        "XMLHttpRequest",
        "WebAssembly",
        "Bun",
        "Buffer",
        "importScripts",
        "load",
        "print",
        "gc",
    ];
    let mut bench = Bench::new();
    for name in absent {
        let result = bench.code(&format!("typeof {name}"));
        assert_eq!(result.as_deref(), Ok("\"undefined\""), "{name}");
    }
    let result = bench
        .code("return Object.getOwnPropertyNames(globalThis).filter(k => /^[a-z]/.test(k)).sort()");
    assert_eq!(
        result.as_deref(),
        Ok(concat!(
            r#"["clearInterval","clearTimeout","console","decodeURI","decodeURIComponent","encodeURI","#,
            r#""encodeURIComponent","escape","eval","globalThis","isFinite","isNaN","parseFloat","parseInt","#,
            r#""queueMicrotask","setInterval","setTimeout","structuredClone","undefined","unescape"]"#
        ))
    );
}

#[test]
fn code_generation_from_strings_is_off_unless_allowed() {
    let mut bench = Bench::new();
    for code in ["eval('1+1')", "new Function('return 1')()", "(async () => {}).constructor('1')"] {
        let result = bench.code(code);
        let failure = assert_kind(&result, FailureKind::Exception);
        assert_eq!(failure.name, "EvalError", "{code}");
        assert!(failure.message.contains("Code generation from strings"), "{failure:?}");
    }
    let result = bench.code("setTimeout('1', 1)");
    assert_eq!(assert_kind(&result, FailureKind::Exception).name, "TypeError");
    assert_eq!(
        bench.code("eval(7) + eval([1, 2]).length").as_deref(),
        Ok("9"),
        "nothing is generated"
    );
    let mut allowed = Bench::with(|config| config.allow_code_generation = true);
    assert_eq!(allowed.code("eval('1+1') + new Function('return 1')()").as_deref(), Ok("3"));
}

#[test]
fn dynamic_import_in_code_is_a_clear_error() {
    let result = Bench::new().code("return import('fs')");
    let failure = assert_kind(&result, FailureKind::Exception);
    assert_eq!(failure.name, "TypeError");
    assert!(failure.message.contains("execute-module"), "{failure:?}");
}
