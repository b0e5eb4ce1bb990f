//! Promises, timers, and when a task is over.

use std::time::{Duration, Instant};

use pool_worker::js::FailureKind;

use crate::support::{Bench, assert_kind};

#[test]
fn timers_fire_in_order_with_their_arguments() {
    let code = "
        const seen = [];
        setTimeout((...args) => seen.push(args), 20, 'late', 1);
        setTimeout(() => seen.push('early'), 5);
        const cleared = setTimeout(() => seen.push('never'), 6);
        clearTimeout(cleared);
        queueMicrotask(() => seen.push('microtask'));
        let ticks = 0;
        const id = setInterval(() => { if (++ticks === 3) clearInterval(id) }, 1);
        await new Promise(done => setTimeout(done, 30));
        return [seen, ticks, typeof id];";
    let result = Bench::new().code(code);
    assert_eq!(result.as_deref(), Ok(r#"[["microtask","early",["late",1]],3,"number"]"#));
}

#[test]
fn microtasks_run_between_timers() {
    let code = "
        const seen = [];
        setTimeout(() => { seen.push(1); Promise.resolve().then(() => seen.push('then')) }, 2);
        setTimeout(() => seen.push(2), 2);
        await new Promise(done => setTimeout(done, 5));
        return seen";
    assert_eq!(Bench::new().code(code).as_deref(), Ok(r#"[1,"then",2]"#));
}

#[test]
fn a_promise_that_nothing_can_settle_fails_at_once() {
    let mut bench = Bench::new();
    let started = Instant::now();
    for code in [
        "new Promise(() => {})",
        "await new Promise(() => {})",
        "await new Promise(() => setTimeout(() => {}, 5))",
        "return Atomics.waitAsync(new Int32Array(new SharedArrayBuffer(4)), 0, 0).value",
    ] {
        assert_kind(&bench.code(code), FailureKind::PromiseNeverSettled);
    }
    assert!(started.elapsed() < Duration::from_secs(2));
    let result = bench.function("async () => { for (;;) await new Promise(() => {}) }", "");
    assert_kind(&result, FailureKind::PromiseNeverSettled);
    assert_eq!(bench.function("() => 1", "").as_deref(), Ok("1"));
}

#[test]
fn timers_left_over_are_dropped_with_the_task() {
    let mut bench = Bench::new();
    let result = bench.function("() => { globalThis.fired = 0; setInterval(() => fired++, 1); return 1 }", "");
    assert_eq!(result.as_deref(), Ok("1"));
    let result = bench.function("() => new Promise(done => setTimeout(() => done(fired), 20))", "");
    assert_eq!(result.as_deref(), Ok("0"));
}

#[test]
fn an_exception_in_a_timer_ends_the_task() {
    let result =
        Bench::new().code("setTimeout(() => { throw new TypeError('in a timer') }, 1); await new Promise(() => {})");
    assert_eq!(assert_kind(&result, FailureKind::Exception).message, "in a timer");
}

#[test]
fn a_rejection_beside_the_result_is_ignored() {
    let result = Bench::new().code("Promise.reject(new Error('nobody looks')); 'result'");
    assert_eq!(result.as_deref(), Ok("\"result\""));
}

#[test]
fn structured_clone_copies() {
    let code = "const a = {m: new Map([[1, {b: 2}]]), d: new Date(0)}; const c = structuredClone(a); [c.m.get(1).b, c.m !== a.m, c.d.getTime()]";
    let mut bench = Bench::new();
    assert_eq!(bench.code(code).as_deref(), Ok("[2,true,0]"));
    assert_kind(&bench.code("structuredClone(() => 1)"), FailureKind::Exception);
    assert_kind(&bench.code("structuredClone(new Proxy({}, {}))"), FailureKind::Exception);
}

#[test]
fn timers_are_bounded() {
    let result = Bench::new().code("for (let i = 0; i < 1e6; i++) setTimeout(() => {}, 1e6)");
    assert_eq!(assert_kind(&result, FailureKind::Exception).name, "RangeError");
    let result = Bench::new().code("for (let i = 0; i < 3e5; i++) clearTimeout(setTimeout(() => {}, 1e6)); 'done'");
    assert_eq!(result.as_deref(), Ok("\"done\""));
}
