//! Many projects share a worker, and none may pay for another: for what it left, for its death, or
//! with what its own receipt says of the other.

use pool_tests::tasks::{code, error, function, result, with};
use pool_tests::{Pool, Value, json, proc};

const MIB: u64 = 1 << 20;
const REALMS: [&str; 3] = ["fresh", "warm", "frozen"];

/// A pool of one worker, so that whoever comes next is served by the same one.
fn one_worker(memory_mib: u64) -> Pool {
    let pool = Pool::start(json!({
        "pool": {"minWorkers": 1, "maxWorkers": 1, "autoScale": false},
        "limits": {"memoryBytes": memory_mib * MIB},
    }));
    pool.until_idle("js", 1);
    pool
}

fn of(project: &str, realm: &str, task: Value) -> Value {
    with(task, json!({"projectId": project, "realm": realm, "timeout": 120_000}))
}

/// The writable private memory of the worker that is there now, in MiB.
fn data_mib(pool: &Pool) -> u64 {
    pool.until_idle("js", 1);
    let pids = proc::workers_of(pool.pid());
    pids.into_iter().filter_map(|pid| proc::status_kib(pid, "VmData")).min().expect("it lives")
        >> 10
}

/// An engine counts a few words for an object whose kilobytes are a library's.
#[test]
fn hostile_51_what_the_engine_does_not_count_is_gone_before_the_next_task_begins() {
    let leaves = "const k = []; try { for (let i = 0; i < 124500; i++) k.push(new \
        Intl.PluralRules('ar')) } catch {}
        return k.length";
    let needs = "const a = []; for (let i = 0; i < 3e5; i++) a.push({i}); return a.length";
    for realm in REALMS {
        let pool = one_worker(128);
        let before = data_mib(&pool);
        for round in 0..2 {
            let left = pool.run(with(of("large", realm, code(leaves)), json!({"maxAttempts": 1})));
            let worker = left["workerId"].clone();
            println!(
                "{realm}, round {round}: {} objects, then {} MiB",
                left["result"],
                data_mib(&pool)
            );
            assert!(result(left).as_u64().expect("a number") > 10_000, "it left much");
            // A worker may keep half of a task's limit, and a limit's worth of what the engine
            // counts.
            assert!(data_mib(&pool) < before + 64 + 128, "{realm}: {} MiB", data_mib(&pool));
            let next = pool.run(of("small", realm, code(needs)));
            assert_eq!(
                (&next["attempts"], &next["result"]),
                (&json!(1), &json!(300_000)),
                "{realm}, {worker}: {next}"
            );
        }
        assert_eq!(pool.status()["setAside"], 0, "{realm}");
    }
}

/// Objects of the same kind in a context that is kept are no garbage: then the context goes, or the
/// worker.
#[test]
fn hostile_51_a_warm_realm_that_holds_what_the_engine_does_not_count_is_let_go() {
    let pool = one_worker(64);
    let holds = "globalThis.k = []; for (let i = 0; i < 40000; i++) k.push(new \
        Intl.PluralRules('ar')); k.length";
    assert_eq!(result(pool.run(of("large", "warm", code(holds)))), 40_000);
    let next = pool.run(of(
        "small",
        "warm",
        code("const a = []; for (let i = 0; i < 2e5; i++) a.push({i}); a.length"),
    ));
    assert_eq!((&next["attempts"], &next["result"]), (&json!(1), &json!(200_000)), "{next}");
    let again = result(pool.run(of("large", "warm", code("typeof k"))));
    assert_eq!(again, "undefined", "it was more than may be kept");
}

#[test]
fn hostile_52_a_task_gets_its_full_limit_whoever_keeps_what_in_a_warm_realm() {
    const LIMIT_MIB: u64 = 32;
    let pool = one_worker(LIMIT_MIB);
    // Objects of 56 bytes and their places in the array, as many as are 25 MiB; a little less than
    // the limit in buffers.
    let heap = |name: &str| {
        format!(
            "{{ const a = []; for (let i = 0; i < 4e5; i++) a.push({{i, j: i + 0.5}}); {name} = a; \
             }}"
        )
    };
    let buffers = |name: &str| {
        format!("{name} = Array.from({{length: 28}}, () => new Uint8Array(1 << 20).fill(1));")
    };
    for round in 0..2 {
        for (what, fill) in [("heap", &heap as &dyn Fn(&str) -> String), ("buffers", &buffers)] {
            let keep = format!("{} 'kept'", fill(&format!("globalThis.kept{round}{what}")));
            let keeper = format!("keeper-{what}");
            assert_eq!(
                result(pool.run(of(&keeper, "warm", code(&keep)))),
                "kept",
                "round {round}, {what}"
            );
            for realm in REALMS {
                let fills = format!(
                    "let mine, more; {} {} mine.length + more.length",
                    heap("mine"),
                    buffers("more")
                );
                let outcome =
                    pool.run(with(of("next", realm, code(&fills)), json!({"maxAttempts": 1})));
                assert_eq!(
                    outcome["result"], 400_028,
                    "round {round}, {what} kept, {realm}: {outcome}"
                );
            }
        }
    }
    // A limit is one all the same.
    let outcome = pool.run(of("greedy", "warm", code("const a = []; for (;;) a.push({})")));
    assert_eq!(error(&outcome), "MEMORY_LIMIT", "{outcome}");
    let message = outcome["error"]["message"].as_str().expect("a message");
    assert!(message.contains("limit of 32 MiB with "), "{message}");
}

/// Nobody else comes, so nothing has to go.
#[test]
fn hostile_52_a_project_that_is_alone_in_a_worker_keeps_its_warm_realm() {
    let pool = one_worker(32);
    let keep = "() => { globalThis.a ??= Array.from({length: 28}, () => new Uint8Array(1 << \
        20).fill(1)); return a.length }";
    for _ in 0..3 {
        assert_eq!(result(pool.run(of("alone", "warm", function(keep, json!([]))))), 28);
        assert_eq!(
            result(pool.run(of("alone", "warm", function("() => typeof a", json!([]))))),
            "object"
        );
    }
}

#[test]
fn hostile_53_what_a_task_leaves_behind_does_not_run_in_the_next_ones_time() {
    let spin =
        "(() => { const end = Date.now() + 3000; while (Date.now() < end); console.log('late') })";
    for (wasm, left) in [
        (false, format!("Promise.resolve().then({spin}); throw 0")),
        (false, format!("queueMicrotask({spin}); throw 0")),
        (
            false,
            format!(
                "(async () => {{ for (let i = 0; i < 3; i++) await null; {spin}() }})(); throw 0"
            ),
        ),
        (false, format!("setTimeout({spin}, 1); setInterval({spin}, 1); 1")),
        (false, format!("return {{toJSON() {{ Promise.resolve().then({spin}); throw 0 }}}}")),
        (
            false,
            format!(
                "const r = new FinalizationRegistry({spin}); for (let i = 0; i < 1e4; i++) \
                 r.register({{}}, 1); 1"
            ),
        ),
        (
            false,
            format!(
                "Atomics.waitAsync(new Int32Array(new SharedArrayBuffer(8)), 0, 0, \
                 1).value.then({spin}); 1"
            ),
        ),
        (
            true,
            format!(
                "Atomics.waitAsync?.(new Int32Array(new SharedArrayBuffer(8)), 0, 0, \
                 1).value.then({spin}); 1"
            ),
        ),
        (
            true,
            format!(
                "WebAssembly.compile(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])).then({spin}); \
                 throw 0"
            ),
        ),
        (
            true,
            format!(
                "WebAssembly.instantiate(new Uint8Array([0, 97, 115, 109, 1, 0, 0, \
                 0])).then({spin}); 1"
            ),
        ),
    ] {
        let pool = Pool::start(json!({
            "pool": {"minWorkers": 1, "maxWorkers": 1, "autoScale": false},
            "js": {"allowWasm": wasm},
        }));
        let first =
            pool.run(with(of("p", "warm", code(&left)), json!({"maxAttempts": 1, "logs": true})));
        let had_its_turn = first["logs"].to_string().contains("late");
        // Garbage for collections, and time for timers.
        let next = "for (let i = 0; i < 20; i++) { new Array(1e5).fill(i); await new Promise(done \
            => setTimeout(done, 1)) } return 'next'";
        for (project, realm) in [("p", "warm"), ("q", "warm"), ("q", "fresh")] {
            let outcome = pool.run(with(of(project, realm, code(next)), json!({"logs": true})));
            let cpu_ms = outcome["receipt"]["cpuMs"].as_f64().expect("a figure");
            assert!(cpu_ms < 2500.0, "{left} was done first ({had_its_turn}): {outcome}");
            assert!(!outcome["logs"].to_string().contains("late"), "{left}: {outcome}");
            assert_eq!(result(outcome), "next", "{left}");
        }
    }
}

/// A receipt's CPU time, in milliseconds.
fn cpu_ms(pool: &Pool, task: Value) -> f64 {
    let outcome = pool.run(task);
    assert_eq!(outcome["result"], 1, "{outcome}");
    outcome["receipt"]["cpuMs"].as_f64().expect("a figure")
}

/// The machine adds to single figures; so the least of several tells what something takes.
fn least(figures: impl Iterator<Item = f64>) -> f64 {
    figures.fold(f64::INFINITY, f64::min)
}

#[test]
fn hostile_55_a_receipt_does_not_tell_that_another_project_ran_the_same_text() {
    const TIMES: u32 = 6;
    let pool = one_worker(128);
    // Takes milliseconds to compile, and nothing to run.
    let dead = "x = (x * 31 + 7) % 1000003; ".repeat(8000);
    let script = |n: u32| code(&format!("let x = {n}; if (globalThis.nowhere) {{ {dead} }} 1"));
    let body =
        |n: u32| code(&format!("let x = {n}; if (globalThis.nowhere) {{ {dead} }} return 1"));
    let waits = |n: u32| {
        code(&format!("let x = {n}; if (globalThis.nowhere) {{ {dead} await 1 }} return 1"))
    };
    let called = |n: u32| {
        function(
            &format!("() => {{ let x = {n}; if (globalThis.nowhere) {{ {dead} }} return 1 }}"),
            json!([]),
        )
    };
    let works: [(&str, &dyn Fn(u32) -> Value); 4] =
        [("script", &script), ("body", &body), ("async body", &waits), ("function", &called)];
    for (kind, work) in works {
        for realm in REALMS {
            let run = |project: &str, n: u32| {
                let project = format!("{project}-{}-{realm}", kind.replace(' ', "-"));
                cpu_ms(&pool, of(&project, realm, work(n)))
            };
            let unknown = least((0..TIMES).map(|n| run("first", n)));
            let known = least((0..TIMES).map(|_| run("first", 0)));
            let of_others = least((0..TIMES).map(|n| run(&format!("other-{n}"), 0)));
            println!(
                "{kind}, {realm}: unknown {unknown:.2} ms, again {known:.2} ms, of others \
                 {of_others:.2} ms"
            );
            assert!(
                of_others > unknown / 2.0,
                "{kind}, {realm}: {unknown} ms if unknown, {of_others} ms for others"
            );
            if realm != "fresh" && kind == "function" {
                assert!(
                    known < unknown / 2.0,
                    "{kind}, {realm}: this test can tell a known text from an unknown one"
                );
            }
        }
    }
}
