//! Ending a task from another thread, whatever it does, and never the next one.

use std::time::{Duration, Instant};

use pool_worker::js::{FailureKind, StopReason};

use crate::support::{Bench, assert_kind};

/// What a task may do to stay; each must end within this time of the order.
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn whatever_loops_is_ended_and_the_next_task_is_untouched() {
    let mut bench = Bench::new();
    for code in [
        "for(;;);",
        "try { for(;;); } finally { for(;;); }",
        "try { for(;;); } catch { for(;;); }",
        "(async () => { for (;;) await null })()",
        "const again = () => queueMicrotask(again); again(); await new Promise(() => {})",
        "Promise.resolve().then(function f() { return Promise.resolve().then(f) })",
        "await new Promise(done => setTimeout(done, 1e6))",
        "setInterval(() => {}, 1); await new Promise(() => {})",
        "setTimeout(() => { for(;;); }, 1); await new Promise(() => {})",
        "({get a() { for(;;); }})",
        "({toJSON() { for(;;); }})",
        "new Proxy({}, {ownKeys() { for(;;); }})",
        "({then() { for(;;); }})",
        "({get a() { const f = () => queueMicrotask(f); f(); return 1 }})",
        "structuredClone({get a() { for(;;); }})",
        "try { structuredClone({get a() { for(;;); }}) } catch { for(;;); }",
        "/(a*)*b/.test('a'.repeat(40))",
        "let x = 3n; for (;;) x = x ** 3n % (10n ** 10000n) + 7n",
        "const p = new Proxy({}, {get: () => { for(;;); }}); `${p}`",
        "Object.defineProperty(globalThis, 'await', {get() { for(;;); }}); globalThis.await",
        "throw {get message() { for(;;); }, get stack() { for(;;); }, toString() { for(;;); }}; \
         for(;;);",
    ] {
        if code.starts_with("throw") {
            // Reading the error runs none of it, so it ends by itself.
            assert_kind(&bench.code(code), FailureKind::Exception);
            continue;
        }
        let started = Instant::now();
        let failure = bench.code_ended_after(code, Duration::from_millis(30));
        assert_eq!(failure.kind, FailureKind::Terminated(StopReason::Timeout), "{code}");
        assert!(started.elapsed() < PATIENCE, "{code}: {:?}", started.elapsed());
        assert_eq!(bench.code("'next'").as_deref(), Ok("\"next\""), "after {code}");
    }
}

#[test]
fn a_module_that_loops_while_it_loads_is_ended() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for (name, content) in [
        ("esm.mjs", "for(;;);"),
        ("cjs.cjs", "for(;;);"),
        ("inner.mjs", "import './cjs.cjs'; export default 1;"),
        ("dynamic.mjs", "export default () => import('./cjs.cjs');"),
        ("meta.mjs", "await new Promise(() => setInterval(() => {}, 1))"),
    ] {
        std::fs::write(folder.path().join(name), content).expect("files can be written");
    }
    let root = folder.path().to_owned();
    let mut bench = Bench::with(|config| config.module_roots = vec![root]);
    for path in ["esm.mjs", "cjs.cjs", "inner.mjs", "dynamic.mjs", "meta.mjs"] {
        let failure = bench.module_ended_after(path, Duration::from_millis(30));
        assert_eq!(failure.kind, FailureKind::Terminated(StopReason::Timeout), "{path}");
    }
}

#[test]
fn an_order_that_races_with_the_end_never_hits_the_next_task() {
    let mut bench = Bench::new();
    let handle = bench.engine.handle();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let watching = std::sync::Arc::clone(&stop);
    let hits = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counting = std::sync::Arc::clone(&hits);
    let hit = move || hits.load(std::sync::atomic::Ordering::Relaxed) > 0;
    let shooter = std::thread::spawn(move || {
        // Orders the end of what was running a moment ago, over and over.
        while !watching.load(std::sync::atomic::Ordering::Relaxed) {
            if let Some(ticket) = handle.running() {
                std::hint::black_box((0..200).sum::<u32>());
                if ticket % 2 == 1 && handle.terminate(ticket, StopReason::Cancelled) {
                    counting.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            }
        }
    });
    // On a busy machine the other thread may not even have begun after 4,000 rounds.
    for round in (0..4_000_000).take_while(|round| *round < 4000 || !hit()) {
        let odd = bench.next_ticket() % 2 == 1;
        let result = bench
            .function("() => { let n = 0; for (let i = 0; i < 2000; i++) n += i; return n }", "");
        match result {
            Ok(json) => assert_eq!(json, "1999000"),
            Err(failure) => {
                assert!(odd, "round {round}: a task that nobody ended was ended");
                assert_eq!(failure.kind, FailureKind::Terminated(StopReason::Cancelled));
            }
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    shooter.join().expect("the thread does not panic");
    assert!(hit(), "no order came while a task ran");
}

#[test]
fn an_order_given_before_the_task_begins_is_kept_for_it() {
    let mut bench = Bench::new();
    let handle = bench.engine.handle();
    assert!(handle.terminate(bench.next_ticket(), StopReason::CpuLimit));
    let result = bench.code("1");
    assert_kind(&result, FailureKind::Terminated(StopReason::CpuLimit));
    assert_eq!(bench.code("1").as_deref(), Ok("1"));
    assert!(!handle.terminate(1, StopReason::Timeout));
}

#[test]
fn a_warm_context_in_which_a_task_was_ended_is_not_used_again() {
    let mut bench = Bench::new();
    assert_eq!(bench.function("() => globalThis.left = 1", "").as_deref(), Ok("1"));
    let handle = bench.engine.handle();
    let ticket = bench.next_ticket();
    let ender = std::thread::spawn(move || {
        // An order that is given before the task begins ends it before it has touched its context.
        while handle.running() != Some(ticket) {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(100));
        handle.terminate(ticket, StopReason::Timeout)
    });
    let result = bench.function("() => { for(;;); }", "");
    assert_kind(&result, FailureKind::Terminated(StopReason::Timeout));
    assert!(ender.join().expect("the thread does not panic"));
    assert_eq!(bench.function("() => typeof left", "").as_deref(), Ok("\"undefined\""));
}

#[test]
fn a_clean_up_callback_never_runs_in_another_tasks_time() {
    let mut bench = Bench::new();
    let result = bench.function(
        "() => { globalThis.r = new FinalizationRegistry(() => { for(;;); }); for (let i = 0; i < \
         1000; i++) r.register({}, i); return 1 }",
        "",
    );
    assert_eq!(result.as_deref(), Ok("1"));
    // Enough garbage for several collections.
    let result = bench.function(
        "async () => { for (let i = 0; i < 200; i++) { new Array(1e5).fill(i); await new \
         Promise(done => setTimeout(done, 1)) } return 2 }",
        "",
    );
    assert_eq!(result.as_deref(), Ok("2"));
}
