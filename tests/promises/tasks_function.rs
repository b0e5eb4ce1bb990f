//! `execute-function`: calls, and the warm realm that is its default.

use pool_tests::tasks::{code, error, function, result, with};
use pool_tests::{Pool, json};

#[test]
fn a_function_gives_what_it_returns_awaited() {
    let pool = Pool::start(json!({}));
    for (source, args, value) in [
        ("(a, b) => a + b", json!([40, 2]), json!(42)),
        ("function add(a, b) { return a + b }", json!([1, 2]), json!(3)),
        ("async (a) => { await null; return a * 2 }", json!([4]), json!(8)),
        ("async function f(o) { return o.x.length }", json!([{"x": [1, 2, 3]}]), json!(3)),
        ("(...all) => all", json!([null, "s", [1], {"a": 1}]), json!([null, "s", [1], {"a": 1}])),
        ("() => new Promise(r => setTimeout(r, 5, 'later'))", json!([]), json!("later")),
        ("function () { return arguments.length }", json!([1, 2]), json!(2)),
        ("x => x", json!([]), json!(null)),
    ] {
        assert_eq!(result(pool.run(function(source, args))), value, "{source}");
    }
}

#[test]
fn code_is_accepted_for_fn() {
    let pool = Pool::start(json!({}));
    let task = json!({"type": "execute-function", "code": "(a) => a + 1", "args": [1]});
    assert_eq!(result(pool.run(task)), 2);
}

#[test]
fn args_may_be_left_out() {
    let pool = Pool::start(json!({}));
    assert_eq!(result(pool.run(json!({"type": "execute-function", "fn": "() => 'none'"}))), "none");
}

#[test]
fn a_source_that_is_no_function_is_the_tasks_mistake() {
    let pool = Pool::start(json!({}));
    for source in ["1 + 1", "(a, b) =>", "class A {"] {
        let outcome = pool.run(with(function(source, json!([])), json!({"maxAttempts": 1})));
        assert!(["JS_SYNTAX", "INVALID_TASK"].contains(&error(&outcome)), "{source}: {outcome}");
    }
}

#[test]
fn a_function_that_throws_or_rejects_is_an_exception() {
    let pool = Pool::start(json!({}));
    for source in
        ["() => { throw new RangeError('far') }", "async () => { throw new RangeError('far') }"]
    {
        let outcome = pool.run(with(function(source, json!([])), json!({"maxAttempts": 1})));
        assert_eq!(
            (error(&outcome), &outcome["error"]["name"]),
            ("JS_EXCEPTION", &json!("RangeError")),
            "{outcome}"
        );
        assert_eq!(outcome["error"]["message"], "far");
    }
}

const COUNT: &str = "() => globalThis.n = (globalThis.n ?? 0) + 1";

#[test]
fn a_warm_realm_is_kept_for_the_tasks_of_one_project_in_one_worker() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    let counts: Vec<_> = (0..3).map(|_| result(pool.run(function(COUNT, json!([]))))).collect();
    assert_eq!(counts, [1, 2, 3]);
}

#[test]
fn a_warm_realm_is_never_shared_between_projects() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    for project in ["a", "b", "c/d"] {
        let mine = with(function(COUNT, json!([])), json!({"projectId": project}));
        assert_eq!(result(pool.run(mine.clone())), 1, "{project}");
        assert_eq!(result(pool.run(mine)), 2, "{project}");
    }
    let spoil =
        function("() => { Object.prototype.evil = 1; Array.prototype.map = null }", json!([]));
    assert_eq!(pool.run(with(spoil, json!({"projectId": "a"})))["status"], "succeeded");
    let look = with(
        function("() => [({}).evil === undefined, typeof [].map]", json!([])),
        json!({"projectId": "b"}),
    );
    assert_eq!(result(pool.run(look)), json!([true, "function"]));
}

#[test]
fn a_task_can_ask_for_the_other_realm() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    let fresh = with(function(COUNT, json!([])), json!({"realm": "fresh"}));
    assert_eq!([result(pool.run(fresh.clone())), result(pool.run(fresh))], [1, 1]);
    let warm = with(code("globalThis.m = (globalThis.m ?? 0) + 1"), json!({"realm": "warm"}));
    assert_eq!([result(pool.run(warm.clone())), result(pool.run(warm))], [1, 2]);
    assert_eq!(result(pool.run(code("typeof m"))), "undefined", "fresh does not see warm");
    let frozen = with(code("globalThis.m = 1"), json!({"realm": "frozen", "maxAttempts": 1}));
    assert_eq!(error(&pool.run(frozen)), "JS_EXCEPTION");
    let frozen = with(function(COUNT, json!([])), json!({"realm": "frozen", "maxAttempts": 1}));
    assert_eq!(error(&pool.run(frozen)), "JS_EXCEPTION");
    let frozen = with(code("a + 1"), json!({"realm": "frozen", "context": {"a": 41}}));
    assert_eq!(result(pool.run(frozen)), 42);
    let module = json!({"type": "execute-module", "modulePath": "a.mjs", "realm": "frozen"});
    let refused = pool.run(module);
    assert_eq!(error(&refused), "INVALID_TASK");
    assert!(refused["error"]["message"].as_str().is_some_and(|m| m.contains("realm")), "{refused}");
}

#[test]
fn a_projects_configuration_can_set_another_realm_and_forbid_warm() {
    let pool = Pool::start(json!({
        "pool": {"minWorkers": 1, "maxWorkers": 1},
        "projects": {
            "fresh": {"realm": "fresh"},
            "strict": {"forbidWarm": true},
            "kept": {"realm": "warm"},
        },
    }));
    let count = |project: &str| {
        result(pool.run(with(function(COUNT, json!([])), json!({"projectId": project}))))
    };
    assert_eq!([count("fresh"), count("fresh")], [1, 1]);
    assert_eq!([count("strict"), count("strict")], [1, 1]);
    let script = with(code("globalThis.n = (globalThis.n ?? 0) + 1"), json!({"projectId": "kept"}));
    assert_eq!([result(pool.run(script.clone())), result(pool.run(script))], [1, 2]);
    let asked =
        pool.run(with(function(COUNT, json!([])), json!({"projectId": "strict", "realm": "warm"})));
    assert_eq!(
        (asked["status"].as_str(), error(&asked)),
        (Some("rejected"), "INVALID_TASK"),
        "{asked}"
    );
    assert!(asked["error"]["message"].as_str().is_some_and(|m| m.contains("realm")), "{asked}");
}

#[test]
fn timers_of_a_task_do_not_run_in_the_next_one() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    let leave = "() => { setTimeout(() => { globalThis.late = 1 }, 20); setInterval(() => { \
        globalThis.late = 2 }, 10) }";
    assert_eq!(pool.run(function(leave, json!([])))["status"], "succeeded");
    let look = "async () => { await new Promise(r => setTimeout(r, 100)); return typeof late }";
    assert_eq!(result(pool.run(function(look, json!([])))), "undefined");
}
