//! `Atomics.waitAsync` and `Atomics.notify`, which are the pool's own.

use std::time::{Duration, Instant};

use pool_worker::js::{FailureKind, Realm, Work};

use crate::support::{Bench, assert_kind, text};

const SHARED: &str = "const a = new Int32Array(new SharedArrayBuffer(16));";

fn gives(body: &str, json: &str) {
    let code = format!("{SHARED} {body}");
    for realm in [Realm::Fresh, Realm::Warm, Realm::Frozen] {
        for allow_wasm in [false, true] {
            let mut bench = Bench::with(|config| config.allow_wasm = allow_wasm);
            let result =
                text(bench.run("p", realm, Work::Code { source: &code, context_json: b"" }));
            assert_eq!(result.as_deref(), Ok(json), "{realm:?}: {body}");
        }
    }
}

#[test]
fn a_wait_ends_by_its_time_or_by_a_notice() {
    gives("return await Atomics.waitAsync(a, 0, 0, 5).value", "\"timed-out\"");
    gives(
        "const w = Atomics.waitAsync(a, 0, 0, 1e6); return [w.async, Atomics.notify(a, 0), await \
         w.value]",
        "[true,1,\"ok\"]",
    );
    gives(
        "const w = Atomics.waitAsync(a, 0, 0); setTimeout(() => Atomics.notify(a, 0), 2); return \
         await w.value",
        "\"ok\"",
    );
    gives("return await Atomics.waitAsync(a, 0, 0, 0.25).value", "\"timed-out\"");
}

#[test]
fn what_needs_no_wait_is_answered_at_once() {
    gives("Atomics.waitAsync(a, 0, 1)", r#"{"async":false,"value":"not-equal"}"#);
    gives("Atomics.waitAsync(a, 0, 0, 0)", r#"{"async":false,"value":"timed-out"}"#);
    gives("Atomics.waitAsync(a, 0, 0, -5)", r#"{"async":false,"value":"timed-out"}"#);
    gives("Atomics.waitAsync(a, 0, 0, '0')", r#"{"async":false,"value":"timed-out"}"#);
}

#[test]
fn waiters_are_woken_in_order_and_no_more_than_asked_for() {
    gives(
        "const seen = []; for (const n of [1, 2, 3]) Atomics.waitAsync(a, 0, 0).value.then(() => \
         seen.push(n));
         const counts = [Atomics.notify(a, 1), Atomics.notify(a, 0, 2)];
         await new Promise(done => setTimeout(done, 5)); seen.push('later');
         counts.push(Atomics.notify(a, 0), Atomics.notify(a, 0));
         await new Promise(done => setTimeout(done, 5)); return [seen, counts]",
        r#"[[1,2,"later",3],[0,2,1,0]]"#,
    );
    gives(
        "const w = Atomics.waitAsync(a, 0, 0, 1); await w.value; return Atomics.notify(a, 0)",
        "0",
    );
}

#[test]
fn a_place_is_the_same_through_every_view_of_it() {
    gives(
        "const b = new Int32Array(a.buffer, 4); const w = Atomics.waitAsync(a, 2, 0); return \
         [Atomics.notify(b, 2), Atomics.notify(b, 1), await w.value]",
        "[0,1,\"ok\"]",
    );
    gives(
        "const b = new BigInt64Array(a.buffer); const w = Atomics.waitAsync(b, 1, 0n); return \
         [Atomics.notify(a, 3), Atomics.notify(a, 2), await w.value]",
        "[0,1,\"ok\"]",
    );
    gives(
        "const b = new BigInt64Array(a.buffer); b[0] = -1n; return Atomics.waitAsync(b, 0, 2n ** \
         64n - 1n, 0).value",
        "\"timed-out\"",
    );
    gives("a[0] = -1; return Atomics.waitAsync(a, 0, 2 ** 32 - 1, 0).value", "\"timed-out\"");
}

#[test]
fn a_notice_is_answered_after_the_code_that_gave_it() {
    gives(
        "const seen = []; Atomics.waitAsync(a, 0, 0).value.then(() => seen.push('woken'));
         Atomics.notify(a, 0); Promise.resolve().then(() => seen.push('microtask')); \
         seen.push('code');
         await new Promise(done => setTimeout(done, 5)); return seen",
        r#"["code","microtask","woken"]"#,
    );
}

#[test]
fn wrong_arguments_throw() {
    let throws = |call: &str, name: &str| {
        gives(
            &format!("try {{ {call}; return 'nothing' }} catch (e) {{ return e.name }}"),
            &format!("\"{name}\""),
        );
    };
    for call in [
        "Atomics.waitAsync()",
        "Atomics.waitAsync(new Int32Array(1), 0, 0)",
        "Atomics.waitAsync(new Uint32Array(a.buffer), 0, 0)",
        "Atomics.waitAsync(new Float64Array(a.buffer), 0, 0)",
        "Atomics.waitAsync(new BigInt64Array(a.buffer), 0, 0)",
        "Atomics.waitAsync(a, Symbol(), 0)",
        "Atomics.waitAsync(a, 0, 0n)",
        "Atomics.waitAsync(a, 0, 0, 5n)",
        "Atomics.notify([], 0)",
        "Atomics.notify(new Uint8Array(1), 0)",
        "new Atomics.waitAsync(a, 0, 0)",
    ] {
        throws(call, "TypeError");
    }
    for call in [
        "Atomics.waitAsync(a, 4, 0)",
        "Atomics.waitAsync(a, -1, 0)",
        "Atomics.notify(a, 2 ** 53, 0)",
    ] {
        throws(call, "RangeError");
    }
    gives("return Atomics.notify(new Int32Array(1), 0)", "0");
    gives(
        "return [Atomics.waitAsync.length, Atomics.notify.length, Atomics.waitAsync.name]",
        r#"[4,3,"waitAsync"]"#,
    );
}

#[test]
fn a_wait_that_nobody_can_end_fails_at_once() {
    let mut bench = Bench::new();
    let started = Instant::now();
    for body in [
        "await Atomics.waitAsync(a, 0, 0).value",
        "await Atomics.waitAsync(a, 0, 0, Infinity).value",
    ] {
        assert_kind(&bench.code(&format!("{SHARED} {body}")), FailureKind::PromiseNeverSettled);
    }
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_waiter_that_a_task_leaves_is_gone_with_it() {
    let mut bench = Bench::new();
    let leaves = "() => { globalThis.a = new Int32Array(new SharedArrayBuffer(4)); globalThis.seen \
        = []; Atomics.waitAsync(a, 0, 0, 1).value.then(text => seen.push(text)); \
        Atomics.waitAsync(a, 0, 0).value.then(text => seen.push(text)); return 1 }";
    assert_eq!(bench.function(leaves, "").as_deref(), Ok("1"));
    let looks = "async () => { const woken = Atomics.notify(a, 0); await new Promise(done => \
        setTimeout(done, 10)); return [woken, seen] }";
    assert_eq!(bench.function(looks, "").as_deref(), Ok("[0,[]]"));
}

#[test]
fn waiters_are_bounded_and_no_timer_of_the_tasks_own() {
    let mut bench = Bench::new();
    let result = bench.code(&format!("{SHARED} for (;;) Atomics.waitAsync(a, 0, 0)"));
    assert_eq!(assert_kind(&result, FailureKind::Exception).name, "RangeError");
    let guess = "const w = Atomics.waitAsync(a, 0, 0, 5).value; for (let id = 0; id < 100; id++) \
        clearTimeout(id); return await w";
    assert_eq!(bench.code(&format!("{SHARED} {guess}")).as_deref(), Ok("\"timed-out\""));
}
