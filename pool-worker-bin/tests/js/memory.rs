//! The heap limit, and deaths of the engine. Each case that ends the process runs in a child of its
//! own.

use std::process::{Command, Output};
use std::time::Duration;

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
        "let s = 'x'; for (;;) { s += s; s.charCodeAt(s.length - 1); globalThis[s.length] = s }",
        "let s = 'x'; const kept = []; for (;;) { kept.push((s + \
         kept.length).repeat(1e4).split('x').join('y')) }",
        "const a = []; const f = () => { a.push(() => a); queueMicrotask(f) }; f(); await new \
         Promise(() => {})",
    ] {
        let mut bench = Bench::with(|config| config.heap_limit_bytes = 32 << 20);
        assert!(!bench.engine.must_be_replaced());
        let result = bench.code(code);
        let failure = assert_kind(&result, FailureKind::MemoryLimit);
        assert!(failure.message.contains("32 MiB"), "{code}: {failure:?}");
        assert!(bench.engine.must_be_replaced(), "{code}");
        assert_eq!(
            bench.code("'next'").as_deref(),
            Ok("\"next\""),
            "what is ended once does not spoil what follows"
        );
    }
}

/// V8 keeps what it has compiled, and 100,000 times that is several times this limit.
#[test]
fn code_that_is_new_each_time_does_not_fill_the_heap() {
    for realm in [Realm::Warm, Realm::Frozen] {
        let mut bench = Bench::with(|config| config.heap_limit_bytes = 32 << 20);
        for number in 0..100_000 {
            let source = format!("const f = (a) => a + {number}; f(1)");
            let outcome =
                bench.run("default", realm, Work::Code { source: &source, context_json: b"" });
            let result =
                outcome.result.unwrap_or_else(|e| panic!("{realm:?}, source {number}: {e:?}"));
            assert_eq!(result, (number + 1).to_string().as_bytes());
        }
        assert!(!bench.engine.must_be_replaced());
    }
}

/// A task's own limit in these tests; the engine's is 128 MiB.
const OWN: usize = 16 << 20;

/// Keeps about this many MiB: objects of 56 bytes and their places in the array.
fn keeps(mebibytes: u32) -> String {
    format!(
        "const a = []; for (let i = 0; i < {mebibytes} * 16384; i++) a.push({{i, j: i + 0.5}}); \
         a.length"
    )
}

#[test]
fn a_task_that_keeps_more_than_its_own_limit_ends_with_the_figures() {
    for code in [
        keeps(40),
        "const m = new Map(); for (let i = 0; i < 4e5; i++) m.set('k' + i, {i}); m.size".to_owned(),
        "const a = []; for (let i = 0; i < 40; i++) a.push('xy'.repeat(1 << 16).split('x')); \
         a.length"
            .to_owned(),
        "const a = []; const f = () => { for (let i = 0; i < 1e4; i++) a.push({i}); return \
         a.length < 1e6 && Promise.resolve().then(f) }; await f(); return a.length"
            .to_owned(),
    ] {
        let mut bench = Bench::new();
        let result = bench.code_within(OWN, &code);
        let failure = assert_kind(&result, FailureKind::MemoryLimit);
        assert!(failure.message.contains("limit of 16 MiB with "), "{code}: {failure:?}");
        assert!(bench.engine.must_be_replaced(), "{code}");
        bench.code(&code).expect("it has room under the engine's limit");
    }
}

#[test]
fn one_large_object_is_seen_by_a_look_from_outside() {
    let mut bench = Bench::new();
    let code = "const a = new Array(5e6).fill(0); const end = Date.now() + 10000; while \
        (Date.now() < end); a.length";
    let result = bench.code_within(OWN, code);
    assert_kind(&result, FailureKind::MemoryLimit);
}

#[test]
fn garbage_does_not_count_against_a_tasks_own_limit() {
    let mut bench = Bench::new();
    for code in [
        // Dies young.
        "let n = 0; for (let i = 0; i < 8e6; i++) n += [i, i, i].length; n",
        // Survives a few collections first: 8 MiB are alive at any time.
        "const ring = new Array(1e5); for (let i = 0; i < 8e6; i++) ring[i % 1e5] = {i, j: i + \
         0.5}; ring.length",
        // Large objects.
        "let a; for (let i = 0; i < 100; i++) a = new Array(655360).fill(i); a.length",
        "let a; for (let i = 0; i < 100; i++) a = new Uint8Array(5 << 20); a.length",
    ] {
        bench.code_within(OWN, code).unwrap_or_else(|failure| panic!("{code}: {failure:?}"));
        assert!(!bench.engine.must_be_replaced(), "{code}");
    }
}

#[test]
fn array_buffers_above_a_tasks_own_limit_are_range_errors() {
    let mut bench = Bench::new();
    let code =
        "const a = []; for (let i = 0; i < 20; i++) a.push(new Uint8Array(2 << 20)); a.length";
    let result = bench.code_within(OWN, code);
    let failure = assert_kind(&result, FailureKind::Exception);
    assert_eq!(failure.name, "RangeError");
    assert!(!bench.engine.must_be_replaced());
    assert_eq!(bench.code(code).as_deref(), Ok("20"), "a later task has all of the engine's room");
    assert_eq!(bench.code(&keeps(60)).as_deref(), Ok("983040"));
    // What tasks before left is no gift: at most half of the limit of it is not found out.
    for _ in 0..3 {
        bench
            .code("let a; for (let i = 0; i < 12; i++) a = new Uint8Array(5 << 20); 1")
            .expect("there is room");
        assert_kind(&bench.code_within(OWN, code), FailureKind::Exception);
    }
}

#[test]
fn buffers_that_the_engine_maps_itself_are_watched_too() {
    for (code, is_of_task) in [
        (
            "const b = new ArrayBuffer(1, {maxByteLength: 2 ** 30}); for (let n = 1 << 20; ; n += \
             1 << 20) { b.resize(n); new Uint8Array(b, n - (1 << 20)).fill(1) }",
            false,
        ),
        (
            "const a = []; for (;;) { const b = new ArrayBuffer(1, {maxByteLength: 2 ** 21}); \
             b.resize(2 ** 21); new Uint8Array(b).fill(1); a.push(b) }",
            true,
        ),
    ] {
        let mut bench = Bench::with(|config| config.array_buffer_limit_bytes = 64 << 20);
        let result = bench.code_within(if is_of_task { OWN } else { usize::MAX }, code);
        let failure = assert_kind(&result, FailureKind::MemoryLimit);
        let figures = if is_of_task { "limit of 16 MiB with " } else { "limit of 64 MiB with " };
        assert!(
            failure.message.contains(figures) && failure.message.contains("buffers"),
            "{code}: {failure:?}"
        );
        let garbage = "let b; for (let i = 0; i < 100; i++) { b = new ArrayBuffer(1, \
            {maxByteLength: 2 ** 22}); b.resize(2 ** 22); new Uint8Array(b).fill(1) } b.byteLength";
        assert_eq!(
            bench.code_within(usize::MAX, garbage).as_deref(),
            Ok("4194304"),
            "garbage does not count"
        );
    }
}

#[test]
fn webassembly_memories_count_with_the_buffers() {
    let keep = "const kept = []; for (;;) kept.push(new WebAssembly.Memory({initial: 16}))";
    let grow = "const kept = []; for (;;) { const m = new WebAssembly.Memory({initial: 1}); \
        m.grow(15); kept.push(m) }";
    for code in [keep, grow] {
        let mut bench = Bench::with(|config| {
            config.array_buffer_limit_bytes = 64 << 20;
            config.allow_wasm = true;
        });
        let result = bench.code_within(usize::MAX, code);
        let failure = assert_kind(&result, FailureKind::MemoryLimit);
        let is_told =
            failure.message.contains("WebAssembly memories reached their limit of 64 MiB with ");
        assert!(is_told, "{code}: {failure:?}");
        let garbage = "let m; for (let i = 0; i < 200; i++) m = new WebAssembly.Memory({initial: \
            16}); m.buffer.byteLength";
        assert_eq!(
            bench.code_within(usize::MAX, garbage).as_deref(),
            Ok("1048576"),
            "garbage does not count"
        );
    }
}

#[test]
fn a_buffer_that_is_too_large_is_a_range_error_and_no_matter_of_the_heap() {
    let mut bench = Bench::with(|config| {
        config.heap_limit_bytes = 32 << 20;
        config.kept_limit_bytes = 32 << 20;
        config.array_buffer_limit_bytes = 32 << 20;
        config.allow_wasm = true;
    });
    for code in [
        "new ArrayBuffer(0, {maxByteLength: 2 ** 46})",
        "new ArrayBuffer(2 ** 30, {maxByteLength: 2 ** 46})",
        "new ArrayBuffer(0, {maxByteLength: 2 ** 53 - 1})",
        "new SharedArrayBuffer(0, {maxByteLength: 2 ** 46})",
        "new ArrayBuffer(2 ** 40)",
        "new ArrayBuffer(2 ** 53)",
        "new SharedArrayBuffer(2 ** 40)",
        "new Uint8Array(2 ** 40)",
        "new Float64Array(2 ** 32)",
        "new ArrayBuffer(1).transfer(2 ** 40)",
        "new ArrayBuffer(1, {maxByteLength: 8}).resize(9)",
        "new WebAssembly.Memory({initial: 1}).grow(65535)",
    ] {
        let attempt = format!("try {{ {code}; 'made' }} catch (e) {{ e.name }}");
        for _ in 0..3 {
            assert_eq!(
                bench.code_within(usize::MAX, &attempt).as_deref(),
                Ok("\"RangeError\""),
                "{code}"
            );
        }
        assert!(!bench.engine.must_be_replaced(), "{code}");
        assert_eq!(bench.code("'next'").as_deref(), Ok("\"next\""), "after {code}");
    }
    let result = bench.code("const a = []; for (;;) a.push({})");
    assert!(
        assert_kind(&result, FailureKind::MemoryLimit).message.contains("32 MiB"),
        "{result:?}"
    );
}

#[test]
fn one_object_above_the_limit_ends_the_task() {
    let mut bench = Bench::with(|config| {
        config.heap_limit_bytes = 64 << 20;
        config.kept_limit_bytes = 32 << 20;
    });
    // Of 120 MB: less than V8 is given to end a task in.
    let result = bench.code("const a = new Array(15e6).fill(0); for (;;);");
    let failure = assert_kind(&result, FailureKind::MemoryLimit);
    assert!(failure.message.contains("heap") && failure.message.contains("64 MiB"), "{failure:?}");
    assert!(bench.engine.must_be_replaced());
}

#[test]
fn a_process_with_little_memory_left_ends_its_task() {
    let mut bench = Bench::new();
    bench.engine.watch_process(|| Some(1 << 40));
    assert_eq!(
        bench.code_within(usize::MAX, "let a; for (let i = 0; i < 1e6; i++) a = {i}; 1").as_deref(),
        Ok("1")
    );
    bench.engine.watch_process(|| Some(100 << 20));
    let failure = bench.code_within(usize::MAX, "for (;;);").expect_err("it never ends by itself");
    assert_eq!(failure.kind, FailureKind::MemoryLimit);
    assert!(failure.message.contains("only 100 MiB left"), "{failure:?}");
    assert!(bench.engine.must_be_replaced());
}

/// The engine throws for a buffer that the process cannot map. On a busy machine that comes before
/// anybody has looked at the memory.
#[test]
fn a_range_error_where_the_process_has_no_memory_left_is_a_memory_limit() {
    let mut bench = Bench::new();
    bench.engine.watch_process(|| Some(1 << 40));
    let thrown = bench
        .code("throw new RangeError('Array buffer allocation failed')")
        .expect_err("it throws");
    assert_eq!((thrown.kind, bench.engine.must_be_replaced()), (FailureKind::Exception, false));
    bench.engine.watch_process(|| Some(1 << 20));
    let other = bench.code("throw new TypeError('mine')").expect_err("it throws");
    assert_eq!((other.kind, bench.engine.must_be_replaced()), (FailureKind::Exception, false));
    let failure = bench
        .code("throw new RangeError('Array buffer allocation failed')")
        .expect_err("it throws");
    assert_eq!(failure.kind, FailureKind::MemoryLimit);
    assert!(failure.message.contains("only 1 MiB left"), "{failure:?}");
    assert!(bench.engine.must_be_replaced());
}

#[test]
fn what_a_warm_context_holds_does_not_count_against_the_next_task() {
    let mut bench = Bench::new();
    bench
        .warm_code("default", &format!("{{ {}; globalThis.kept = a }} 1", keeps(40)))
        .expect("there is room");
    bench
        .warm_code("default", "globalThis.bytes = new Uint8Array(40 << 20); 1")
        .expect("there is room");
    let modest = format!("{{ {}; globalThis.more = a }} new Uint8Array(4 << 20).length", keeps(8));
    for _ in 0..3 {
        let result = bench.warm_code_within(OWN, &modest);
        assert_eq!(result.as_deref(), Ok("4194304"));
    }
    assert_kind(&bench.warm_code_within(OWN, &keeps(40)), FailureKind::MemoryLimit);
}

#[test]
fn garbage_of_earlier_tasks_is_no_gift_to_a_task_with_its_own_limit() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.code(&keeps(50)).expect("there is room");
        let result = bench.code_within(OWN, &keeps(70));
        assert_kind(&result, FailureKind::MemoryLimit);
    }
}

#[test]
fn a_task_that_ends_by_its_own_limit_may_reach_the_engines_while_it_unwinds() {
    let mut bench = Bench::with(|config| config.heap_limit_bytes = 32 << 20);
    let code = "const a = []; for (;;) a.push(new Array(1e5).fill({}))";
    let failure = bench.code_within(OWN, code).expect_err("it never ends by itself");
    assert_eq!(failure.kind, FailureKind::MemoryLimit);
    assert_eq!(bench.code("'next'").as_deref(), Ok("\"next\""));
}

#[test]
fn a_collection_is_paid_for_by_all_who_left_something_to_collect() {
    let mut bench = Bench::new();
    bench
        .warm_code("holder", &format!("{{ {}; globalThis.kept = a }} 1", keeps(60)))
        .expect("there is room");
    // What lives for a while before it is garbage is left to the collections of everything.
    let source = "n => { (globalThis.ring ??= [])[n % 20] = new Array(1e5).fill(n); return n }";
    let (mut collected, mut owed) = (Vec::new(), Vec::new());
    for n in 0..1000 {
        let args = format!("[{n}]");
        let outcome =
            bench.run("other", Realm::Warm, Work::Function { source, args_json: args.as_bytes() });
        assert!(outcome.result.is_ok(), "{:?}", outcome.result);
        collected.push(outcome.collected);
        owed.push(outcome.owed);
    }
    let met = collected.iter().filter(|time| !time.is_zero()).count();
    let paid = owed.iter().filter(|time| !time.is_zero()).count();
    assert!(met > 0 && met < 500 && paid > 500, "{met} of 1000 met a collection, {paid} paid");
    let (dearest, sum) = (owed.iter().max().expect("many"), owed.iter().sum::<Duration>());
    assert!(*dearest < sum / 10, "one paid {dearest:?} of {sum:?}");
}

#[test]
fn the_memory_figure_follows_the_heap() {
    let mut bench = Bench::new();
    let work =
        Work::Code { source: "globalThis.kept = new Array(4e6).fill(0); 1", context_json: b"" };
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
        // One builtin that allocates far more than there is, without looking whether it should
        // stop.
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
