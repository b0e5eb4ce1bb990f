//! What may share a worker, by `tenancy`.

use std::collections::{BTreeMap, BTreeSet};

use pool_tests::tasks::{code, function, program, result, with};
use pool_tests::{Pool, Value, json, until};

fn pool(tenancy: &str, workers: u32) -> Pool {
    Pool::start(json!({
        "tenancy": tenancy, "pool": {"minWorkers": 1, "maxWorkers": workers, "scaleCooldown": 50},
        "shell": {"allow": [{"program": "/usr/bin/echo", "args": "^[a-z]+$"}]},
    }))
}

/// JavaScript and programs of these projects, in turn, each succeeding.
fn mixed(projects: &[&str], each: usize) -> Vec<Value> {
    let of = |project: &&str| {
        let whose = json!({"projectId": project, "maxAttempts": 1});
        [with(code("1 + 1"), whose.clone()), with(program("/usr/bin/echo", &["hello"]), whose)]
    };
    (0..each).flat_map(|_| projects.iter().flat_map(of)).collect()
}

/// The projects whose tasks each worker ran, one entry a task.
fn by_worker(tasks: &[Value], outcomes: &[Value]) -> BTreeMap<String, Vec<String>> {
    let mut ran: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (task, outcome) in tasks.iter().zip(outcomes) {
        assert_eq!(outcome["status"], "succeeded", "{outcome}");
        let worker = outcome["workerId"].as_str().expect("it ran on a worker").to_owned();
        ran.entry(worker).or_default().push(task["projectId"].as_str().expect("ours").to_owned());
    }
    ran
}

#[test]
fn shared_workers_run_tasks_of_several_projects() {
    let pool = pool("shared", 1);
    let tasks =
        [with(code("1"), json!({"projectId": "a"})), with(code("1"), json!({"projectId": "b"}))];
    assert_eq!(by_worker(&tasks, &pool.run_all(&tasks)).len(), 1);
}

#[test]
fn with_tenancy_project_no_worker_ever_runs_tasks_of_two_projects() {
    for workers in [1, 3] {
        let pool = pool("project", workers);
        let tasks = mixed(&["a", "b", "c"], 20);
        let ran = by_worker(&tasks, &pool.run_all(&tasks));
        for (worker, projects) in &ran {
            let projects: BTreeSet<&String> = projects.iter().collect();
            assert_eq!(projects.len(), 1, "{worker} ran tasks of {projects:?}");
        }
        assert!(
            ran.values().any(|tasks| tasks.len() > 1),
            "a worker stays with its project: {ran:?}"
        );
    }
}

#[test]
fn with_tenancy_project_a_worker_that_is_replaced_for_another_project_says_so() {
    // Of one lane: a place may also change hands with the lanes, and then the pool needs fewer of
    // one and more of the other.
    let pool = pool("project", 1);
    for project in ["a", "b"] {
        assert_eq!(result(pool.run(with(code("1"), json!({"projectId": project})))), 1);
    }
    until("the first one is gone", || !pool.dead_workers().is_empty());
    let dead = pool.dead_workers();
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(
        dead[0]["verdict"],
        json!({"cause": "recycled", "evidence": "to serve another project, after its own"}),
        "{dead:?}"
    );
}

#[test]
fn with_tenancy_project_what_a_task_leaves_in_its_realm_is_there_for_its_own_project_only() {
    let pool = pool("project", 1);
    let count = |project: &str| {
        let task = function("() => globalThis.count = (globalThis.count ?? 0) + 1", json!([]));
        result(pool.run(with(task, json!({"projectId": project, "maxAttempts": 1}))))
    };
    assert_eq!((count("a"), count("a")), (json!(1), json!(2)));
    assert_eq!((count("b"), count("a")), (json!(1), json!(1)), "it came back to a new process");
}

#[test]
fn with_tenancy_task_every_attempt_has_a_worker_of_its_own() {
    let pool = pool("task", 2);
    let tasks = mixed(&["a", "b"], 15);
    let ran = by_worker(&tasks, &pool.run_all(&tasks));
    assert_eq!(ran.len(), tasks.len(), "{ran:?}");
    // A fresh one that the pool turned out not to need goes as idle.
    let served =
        || pool.dead_workers().into_iter().filter(|dead| dead["tasks"] != 0).collect::<Vec<_>>();
    until("they are gone", || served().len() >= tasks.len());
    for dead in served() {
        assert_eq!(
            dead["verdict"],
            json!({"cause": "recycled", "evidence": "after its one task"}),
            "{dead}"
        );
        assert_eq!(dead["tasks"], 1, "{dead}");
    }
    let again = json!({"maxAttempts": 2, "retry": {"initialDelay": 1, "jitter": 0}});
    let failed = pool.run(with(code("throw new Error('no')"), again));
    assert_eq!(failed["attempts"], 2, "{failed}");
    let started =
        pool.events_named("task-started").into_iter().filter(|e| e["taskId"] == failed["taskId"]);
    let workers: BTreeSet<String> = started.map(|e| e["workerId"].to_string()).collect();
    assert_eq!(workers.len(), 2, "{workers:?}");
}

#[test]
fn with_tenancy_task_no_more_tasks_run_at_once_than_workers_may_and_the_next_worker_stands_ready() {
    let pool = pool("task", 2);
    let held: Vec<String> = (0..3).map(|_| pool.submit(pool_tests::tasks::hold())).collect();
    until("two run", || pool.status()["tasks"]["running"] == 2);
    until("and two stand ready", || pool.workers_that_are("js", "idle").len() == 2);
    assert_eq!(pool.workers_that_are("js", "busy").len(), 2);
    assert_eq!(
        pool.status()["tasks"],
        json!({
            "queued": 1, "running": 2, "total": 3, "completed": 0, "failed": 0, "avgTime": 0.0,
        })
    );
    for id in held {
        pool.cancel(&id);
    }
}

#[test]
fn a_reload_changes_the_tenancy_of_the_next_tasks() {
    let pool = pool("shared", 1);
    let run = |project: &str| {
        pool.run(with(code("1"), json!({"projectId": project})))["workerId"].clone()
    };
    let shared = run("a");
    assert_eq!(run("b"), shared);
    pool.configure(json!({"tenancy": "task", "pool": {"minWorkers": 1, "maxWorkers": 1}}));
    assert_eq!(pool.ctl(&["reload"]).code, 0);
    let (first, second) = (run("a"), run("a"));
    assert!(first != shared && first != second && second != shared, "{shared} {first} {second}");
}
