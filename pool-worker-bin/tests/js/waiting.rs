//! Promises, timers, and when a task is over.

use std::time::{Duration, Instant};

use pool_worker::js::{FailureKind, Realm, Work};

use crate::support::{Bench, assert_kind, text};

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
    let result = bench
        .function("() => { globalThis.fired = 0; setInterval(() => fired++, 1); return 1 }", "");
    assert_eq!(result.as_deref(), Ok("1"));
    let result = bench.function("() => new Promise(done => setTimeout(() => done(fired), 20))", "");
    assert_eq!(result.as_deref(), Ok("0"));
}

#[test]
fn an_exception_in_a_timer_ends_the_task() {
    let result = Bench::new().code(
        "setTimeout(() => { throw new TypeError('in a timer') }, 1); await new Promise(() => {})",
    );
    assert_eq!(assert_kind(&result, FailureKind::Exception).message, "in a timer");
}

#[test]
fn an_exception_in_a_microtask_ends_the_task() {
    for code in [
        "queueMicrotask(() => { throw new TypeError('in a microtask') }); await new Promise(r => \
         setTimeout(r, 5)); return 1",
        "queueMicrotask(() => { throw new TypeError('in a microtask') }); 'a result'",
        "setTimeout(() => queueMicrotask(() => { throw new TypeError('in a microtask') }), 1); \
         await new Promise(() => {})",
        "({get a() { queueMicrotask(() => { throw new TypeError('in a microtask') }); return 1 }})",
        "queueMicrotask(() => { throw new TypeError('in a microtask') }); queueMicrotask(() => { \
         throw 'a second' }); 1",
        // The others that were queued are not called any more, or this would have no end.
        "queueMicrotask(() => { throw new TypeError('in a microtask') }); const again = () => \
         queueMicrotask(again); again(); 1",
    ] {
        for realm in [Realm::Fresh, Realm::Warm, Realm::Frozen] {
            let mut bench = Bench::new();
            let result =
                text(bench.run("p", realm, Work::Code { source: code, context_json: b"" }));
            let failure = assert_kind(&result, FailureKind::Exception);
            assert_eq!(
                (&*failure.name, &*failure.message),
                ("TypeError", "in a microtask"),
                "{realm:?}: {code}"
            );
            assert!(
                failure.stack.as_ref().is_some_and(|stack| stack.contains("task.js:1:")),
                "{failure:?}"
            );
            let next =
                text(bench.run("p", realm, Work::Code { source: "'next'", context_json: b"" }));
            assert_eq!(next.as_deref(), Ok("\"next\""), "{realm:?}: after {code}");
        }
    }
    let caught = "let seen; queueMicrotask(() => { try { throw 1 } catch (e) { seen = e } }); \
        await null; return seen";
    assert_eq!(Bench::new().code(caught).as_deref(), Ok("1"));
}

#[test]
fn a_rejection_beside_the_result_is_ignored() {
    let result = Bench::new().code("Promise.reject(new Error('nobody looks')); 'result'");
    assert_eq!(result.as_deref(), Ok("\"result\""));
}

#[test]
fn structured_clone_copies() {
    let code = "const a = {m: new Map([[1, {b: 2}]]), d: new Date(0)}; const c = \
        structuredClone(a); [c.m.get(1).b, c.m !== a.m, c.d.getTime()]";
    let mut bench = Bench::new();
    assert_eq!(bench.code(code).as_deref(), Ok("[2,true,0]"));
    for value in ["() => 1", "Symbol()", "new Proxy({}, {})", "new WeakMap()", "{a: [() => 1]}"] {
        let result = bench.code(&format!("structuredClone({value})"));
        assert_eq!(assert_kind(&result, FailureKind::Exception).name, "DataCloneError", "{value}");
        let code = format!(
            "try {{ structuredClone({value}) }} catch (e) {{ [e instanceof Error, e.name, e.code, \
             Object.keys(e)] }}"
        );
        assert_eq!(bench.code(&code).as_deref(), Ok(r#"[true,"DataCloneError",25,[]]"#), "{value}");
    }
    assert_eq!(
        assert_kind(&bench.code("structuredClone()"), FailureKind::Exception).name,
        "TypeError"
    );
    assert_eq!(bench.code("structuredClone(undefined)").as_deref(), Ok("null"));
    let thrown = bench.code("structuredClone({get a() { throw new RangeError('mine') }})");
    assert_eq!(assert_kind(&thrown, FailureKind::Exception).message, "mine");
}

#[test]
fn a_timer_is_cleared_by_its_id_as_a_number_or_as_text() {
    let cleared = |how: &str| {
        let code = format!(
            "let fired = false; const id = setTimeout(() => fired = true, 1); clearTimeout({how}); \
             clearInterval(undefined); await new Promise(done => setTimeout(done, 8)); return \
             !fired"
        );
        Bench::new().code(&code)
    };
    for how in
        ["id", "String(id)", "`${id}`", "Object.keys({[id]: 0})[0]", "id + 0.5", "' ' + id + ' '"]
    {
        assert_eq!(cleared(how).as_deref(), Ok("true"), "{how}");
    }
    for how in [
        "",
        "null",
        "'x'",
        "-id",
        "NaN",
        "Infinity",
        "id + 1",
        "Symbol()",
        "10n",
        "{valueOf() { throw 1 }}",
        "[id]",
    ] {
        assert_eq!(cleared(how).as_deref(), Ok("false"), "{how}");
    }
}

#[test]
fn timers_are_bounded() {
    let result = Bench::new().code("for (let i = 0; i < 1e6; i++) setTimeout(() => {}, 1e6)");
    assert_eq!(assert_kind(&result, FailureKind::Exception).name, "RangeError");
    let result = Bench::new()
        .code("for (let i = 0; i < 3e5; i++) clearTimeout(setTimeout(() => {}, 1e6)); 'done'");
    assert_eq!(result.as_deref(), Ok("\"done\""));
}
