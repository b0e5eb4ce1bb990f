//! What takes all it can get: heap, buffers, WebAssembly memories, arguments, console output.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pool_tests::tasks::{code, error, function, result, with};
use pool_tests::wait::pause;
use pool_tests::{Arena, Value, json, proc};

use super::{limited, threw};

/// For tasks that end by a limit of memory: far longer than that takes.
const LONG: u64 = 120_000;

const MIB: u64 = 1 << 20;

#[test]
fn hostile_03_a_growing_heap_is_a_memory_limit_with_the_heap_figures() {
    for (limit, of_task) in [(32, None), (64, None), (128, None), (128, Some(16))] {
        let mut arena = Arena::new(json!({"limits": {"memoryBytes": limit * MIB}}));
        for source in [
            "const a=[]; for(;;) a.push({})",
            "const a = []; for (;;) a.push([a.length, String(a.length)])",
            "const m = new Map(); for (let i = 0; ; i++) m.set(i, {i})",
            "let o; for (;;) o = {o}",
            "const a = []; for (;;) a.push(() => a)",
            "const a = []; for (;;) { a.push(new Error('x')); await null }",
        ] {
            let mut task = limited(source, LONG);
            if let Some(own) = of_task {
                task = with(task, json!({"limits": {"memoryBytes": own * MIB}}));
            }
            let outcome = arena.costs_its_worker(task);
            assert_eq!(
                (outcome["status"].as_str(), error(&outcome)),
                (Some("failed"), "MEMORY_LIMIT"),
                "{source}: {outcome}"
            );
            let message = outcome["error"]["message"].as_str().expect("a message");
            let figures = format!("limit of {} MiB with ", of_task.unwrap_or(limit));
            assert!(
                message.contains("heap")
                    && message.contains(&figures)
                    && message.ends_with("in use"),
                "{source}: {message}"
            );
        }
        arena.finish();
    }
}

/// Runs the task while somebody watches how much memory of their own its workers have; the most
/// that was seen, in MiB.
fn watched(arena: &mut Arena, task: Value) -> (Value, u64) {
    let supervisor = arena.pool().pid();
    let over = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&over);
    let watching = std::thread::spawn(move || {
        let mut most = 0;
        while !is_over.load(Ordering::Relaxed) {
            let resident = proc::workers_of(supervisor)
                .into_iter()
                .filter_map(|pid| proc::status_kib(pid, "RssAnon"));
            most = resident.max().unwrap_or(0).max(most);
            pause(Duration::from_millis(2));
        }
        most >> 10
    });
    let outcome = arena.pool().run(with(task, json!({"maxAttempts": 1})));
    over.store(true, Ordering::Relaxed);
    let most = watching.join().expect("it does not panic");
    if outcome["status"] == "succeeded" || error(&outcome) == "JS_EXCEPTION" {
        arena.goes_on(&outcome);
    } else {
        arena.was_replaced(&outcome);
    }
    (outcome, most)
}

/// Buffers that the engine takes from a counted allocator: no byte beyond the limit is ever there.
const COUNTED: &[&str] = &[
    "new ArrayBuffer(2 ** 40)",
    "for (;;) fill(new ArrayBuffer(1 << 20))",
    "for (;;) kept.push(new Uint8Array(1 << 20).fill(1))",
    "for (;;) kept.push(new Float64Array(1 << 17).fill(1).slice())",
    "for (;;) fill(new SharedArrayBuffer(1 << 20))",
    "for (;;) kept.push(structuredClone(new Uint8Array(1 << 20).fill(1)))",
];

/// Those that it maps itself: looked at now and then, one by one bounded, or bounded by the
/// kernel's wall around the process. And one of the others that leaves ever larger pieces behind,
/// which the C library keeps for a while.
const MAPPED: &[&str] = &[
    "let b = new ArrayBuffer(1); for (let n = 1 << 20; ; n += 1 << 20) { b = b.transfer(n); new \
     Uint8Array(b).fill(1) }",
    "const b = new ArrayBuffer(1, {maxByteLength: 2 ** 32}); for (let n = 1 << 20; ; n += 1 << 20) \
     { b.resize(n); new Uint8Array(b, n - (1 << 20)).fill(1) }",
    "for (;;) { const b = new ArrayBuffer(1, {maxByteLength: 2 ** 22}); b.resize(2 ** 22); fill(b) \
     }",
    "const b = new SharedArrayBuffer(1, {maxByteLength: 2 ** 31}); for (let n = 1 << 20; ; n += 1 \
     << 20) { b.grow(n); new Uint8Array(b, n - (1 << 20)).fill(1) }",
    "const m = new WebAssembly.Memory({initial: 1}); for (;;) { m.grow(16); new \
     Uint8Array(m.buffer).fill(1) }",
    "for (;;) { const m = new WebAssembly.Memory({initial: 16}); fill(m.buffer); kept.push(m) }",
    "for (;;) { const m = new WebAssembly.Memory({initial: 1, maximum: 900, shared: true}); \
     m.grow(15); fill(m.buffer); kept.push(m) }",
];

#[test]
fn hostile_04_buffers_and_webassembly_memories_that_grow_stay_under_the_limit() {
    const LIMIT_MIB: u64 = 64;
    let mut arena =
        Arena::new(json!({"limits": {"memoryBytes": LIMIT_MIB * MIB}, "js": {"allowWasm": true}}));
    let pid = i32::try_from(arena.target()["pid"].as_i64().expect("a pid")).expect("a pid");
    let wall = proc::soft_limit(pid, "Max data size").expect("it is bounded") / MIB;
    let keep = "const kept = []; const fill = b => { new Uint8Array(b).fill(1); kept.push(b) };";
    for source in COUNTED.iter().chain(MAPPED) {
        let (outcome, most) = watched(&mut arena, limited(&format!("{keep} {source}"), LONG));
        println!("{most:>4} MiB at most: {source}");
        match error(&outcome) {
            // By whom the limit was seen: not by an engine that died of it.
            "MEMORY_LIMIT" => assert!(outcome["error"]["verdict"].is_null(), "{source}: {outcome}"),
            _ => assert_eq!(threw(source, &outcome).0, "RangeError", "{source}: {outcome}"),
        }
        assert!(most < wall, "{source}: {most} MiB resident, of {wall} that the kernel allows");
        // What the engine needs for itself comes on top.
        assert!(most < LIMIT_MIB + 48 || MAPPED.contains(source), "{source}: {most} MiB resident");
        let small = arena.pool().run(code("new Uint8Array(1 << 20).fill(7)[5]"));
        assert_eq!(result(small), 7, "what the task had is given back");
    }
    arena.finish();
}

/// Memory that neither the heap's limit nor that of buffers bounds: a parser's, a library's, shared
/// buffers.
#[test]
fn too_much_memory_is_a_memory_limit_whichever_part_of_the_engine_takes_it() {
    let settings = json!({
        "limits": {"memoryBytes": 32 * MIB},
        "js": {"allowCodeGeneration": true, "allowWasm": true},
    });
    let mut arena = Arena::new(settings);
    for source in [
        "eval('[' + 'f(1),'.repeat(3e6) + ']')",
        "const kept = []; for (;;) kept.push(new Intl.DateTimeFormat('de', {dateStyle: 'full'}))",
        "const kept = []; for (;;) { const b = new SharedArrayBuffer(1, {maxByteLength: 2 ** 20}); \
         b.grow(2 ** 20); new Uint8Array(b).fill(1); kept.push(b) }",
        "const kept = []; for (;;) { const m = new WebAssembly.Memory({initial: 16, maximum: 16, \
         shared: true}); new Uint8Array(m.buffer).fill(1); kept.push(m) }",
    ] {
        let outcome = arena.pool().run(with(limited(source, LONG), json!({"maxAttempts": 3})));
        arena.was_replaced(&outcome);
        assert_eq!(error(&outcome), "MEMORY_LIMIT", "{source}: {outcome}");
        assert_eq!(outcome["attempts"], 1, "{source}: {outcome}");
    }
    arena.finish();
}

#[test]
fn hostile_05_what_aborts_the_engine_is_a_crash_with_a_verdict_and_tried_twice_at_most() {
    let mut arena = Arena::new(json!({}));
    for source in [
        "'a'.repeat(2**28).split('')",
        "Array.prototype.sort.call({length: 2 ** 53 - 1})",
        "Array.prototype.toSorted.call({length: 2 ** 32 - 1})",
    ] {
        let task = with(code(source), json!({"maxAttempts": 5, "retry": {"initialDelay": 1}}));
        let outcome = arena.pool().run(task);
        arena.was_replaced(&outcome);
        assert_eq!(error(&outcome), "WORKER_CRASHED", "{source}: {outcome}");
        assert_eq!(outcome["error"]["verdict"]["cause"], "engine-fatal", "{source}: {outcome}");
        assert!(
            outcome["error"]["verdict"]["evidence"]
                .as_str()
                .is_some_and(|evidence| !evidence.is_empty()),
            "{outcome}"
        );
        let attempts = outcome["attempts"].as_u64().expect("a number");
        assert!((1..=2).contains(&attempts), "not retried more than once: {outcome}");
    }
    arena.finish();
}

#[test]
fn hostile_06_an_argument_of_60_mb_is_refused_before_it_reaches_an_engine() {
    let arena = Arena::new(json!({}));
    let before = arena.pool().status();
    let task = function("text => text.length", json!(["x".repeat(60_000_000)]));
    let file = arena.pool().folder().write("large.ndjson", task.to_string());
    let submitted = arena.pool().ctl(&["submit", file.to_str().expect("ASCII")]);
    assert_ne!(submitted.code, 0);
    let outcome = &submitted.json_lines()[0];
    assert_eq!(outcome["status"], "rejected", "{outcome}");
    assert!(outcome["workerId"].is_null(), "no worker saw it: {outcome}");
    arena.goes_on(outcome);
    let after = arena.pool().status();
    assert_eq!(before["tasks"]["completed"], after["tasks"]["completed"]);
    let small = arena.pool().run(function("text => text.length", json!(["x".repeat(1_000_000)])));
    assert_eq!(result(small), 1_000_000);
    arena.finish();
}

#[test]
fn hostile_14_a_gigabyte_of_console_output_is_truncated_and_costs_the_supervisor_nothing() {
    let mut arena = Arena::new(json!({}));
    let supervisor = arena.pool().pid();
    let resident = || proc::status_kib(supervisor, "VmHWM").expect("it lives") >> 10;
    let before = resident();
    for source in [
        "const line = 'x'.repeat(1023); for (let i = 0; i < 1 << 20; i++) console.log(line); \
         'done'",
        "for (let i = 0; i < 4; i++) console.log('x'.repeat(2 ** 28)); 'done'",
        "const o = {a: Array(1000).fill('y'.repeat(1000))}; for (let i = 0; i < 1000; i++) \
         console.error(o); 'done'",
        "for (let i = 0; i < 1e7; i++) console.log(); 'done'",
    ] {
        let outcome = arena.costs_nothing(with(limited(source, LONG), json!({"logs": true})));
        let logs = outcome["logs"].clone();
        assert_eq!(result(outcome), "done", "{source}");
        let lines = logs.as_array().expect("lines");
        assert!(logs.to_string().len() <= 300_000, "{source}: {} bytes", logs.to_string().len());
        if !source.contains("2 ** 28") {
            // Four lines too long to show are four short ones.
            assert_eq!(lines.last().map(|line| &line["truncated"]), Some(&json!(true)), "{source}");
        }
    }
    let grown = resident().saturating_sub(before);
    println!("the supervisor grew by {grown} MiB");
    assert!(grown < 64, "{grown} MiB");
    arena.finish();
}
