//! Many projects share a worker, and none may pay for another: for what it left, for its death, or
//! with what its own receipt says of the other.

use pool_tests::tasks::{code, function, with};
use pool_tests::{Pool, Value, json};

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
    let body = |n: u32| code(&format!("let x = {n}; if (globalThis.nowhere) {{ {dead} }} return 1"));
    let waits = |n: u32| code(&format!("let x = {n}; if (globalThis.nowhere) {{ {dead} await 1 }} return 1"));
    let called = |n: u32| {
        function(&format!("() => {{ let x = {n}; if (globalThis.nowhere) {{ {dead} }} return 1 }}"), json!([]))
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
            println!("{kind}, {realm}: unknown {unknown:.2} ms, again {known:.2} ms, of others {of_others:.2} ms");
            assert!(of_others > unknown / 2.0, "{kind}, {realm}: {unknown} ms if unknown, {of_others} ms for others");
            if realm != "fresh" && kind == "function" {
                assert!(known < unknown / 2.0, "{kind}, {realm}: this test can tell a known text from an unknown one");
            }
        }
    }
}
