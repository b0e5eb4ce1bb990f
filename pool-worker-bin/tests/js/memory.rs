//! The heap limit, and deaths of the engine. Each case that ends the process runs in a child of its own.

use std::process::{Command, Output};

use pool_worker::js::{FailureKind, Realm, Verdict, Work, set_last_words};

use crate::support::{Bench, assert_kind};

const CHILD: &str = "POOL_JS_TEST_CHILD";

#[test]
fn a_heap_bomb_is_a_memory_limit_with_the_heap_figures() {
    for code in [
        "const a = []; for (;;) a.push({})",
        "const a = []; for (;;) a.push([1, 2, 3].map(x => x * 1.1))",
        "let s = {}; for (let i = 0; ; i++) s['key' + i] = i",
        "const m = new Map(); for (let i = 0; ; i++) m.set(i, {i})",
        "const a = []; for (;;) a.push(new Array(1e5).fill({}))",
        "let s = 'x'; const kept = []; for (;;) { kept.push((s + kept.length).repeat(1e4).split('x').join('y')) }",
        "const a = []; const f = () => { a.push(() => a); queueMicrotask(f) }; f(); await new Promise(() => {})",
    ] {
        let mut bench = Bench::with(|config| config.heap_limit_bytes = 32 << 20);
        assert!(!bench.engine.must_be_replaced());
        let result = bench.code(code);
        let failure = assert_kind(&result, FailureKind::MemoryLimit);
        assert!(failure.message.contains("32 MiB"), "{code}: {failure:?}");
        assert!(bench.engine.must_be_replaced(), "{code}");
        assert_eq!(bench.code("'next'").as_deref(), Ok("\"next\""), "what is ended once does not spoil what follows");
    }
}

#[test]
fn the_memory_figure_follows_the_heap() {
    let mut bench = Bench::new();
    let work = Work::Code { source: "globalThis.kept = new Array(4e6).fill(0); 1", context_json: b"" };
    let outcome = bench.run("default", Realm::Warm, work);
    assert!(outcome.memory_bytes > 32_000_000, "{}", outcome.memory_bytes);
    let work = Work::Code { source: "globalThis.kept = new Uint8Array(5e7); 1", context_json: b"" };
    let outcome = bench.run("default", Realm::Warm, work);
    assert!(outcome.memory_bytes > 50_000_000, "{}", outcome.memory_bytes);
}

/// Runs one test of this file again, in a child, where it does what kills it.
fn child(test: &str) -> Output {
    Command::new(std::env::current_exe().expect("a test knows its own file"))
        .args([&format!("memory::{test}"), "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .expect("the test's own program can be started")
}

fn in_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

fn speak(verdict: Verdict, place: &str) {
    println!("last words: {} {place}", verdict.as_str());
}

#[test]
fn an_array_too_large_for_the_engine_leaves_last_words() {
    if in_child() {
        set_last_words(speak);
        let result = Bench::new().code("'a'.repeat(2 ** 28).split('')");
        panic!("the engine survived: {result:?}");
    }
    let output = child("an_array_too_large_for_the_engine_leaves_last_words");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success());
    assert!(text.contains("last words: engine-fatal"), "{text}");
}

#[test]
fn a_heap_that_cannot_be_unwound_leaves_last_words() {
    if in_child() {
        set_last_words(speak);
        let mut bench = Bench::with(|config| config.heap_limit_bytes = 32 << 20);
        // One builtin that allocates far more than there is, without looking whether it should stop.
        let result = bench.code("const a = Array.from({length: 3e7}, () => 1.5); a.map(String)");
        println!("ended: {result:?}");
        let result = bench.code("Array(1e8).fill('x').join('ab')");
        panic!("the engine survived: {result:?}");
    }
    let output = child("a_heap_that_cannot_be_unwound_leaves_last_words");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success());
    assert!(text.contains("last words: js-heap"), "{text}");
}
