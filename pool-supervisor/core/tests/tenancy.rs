//! Tenancy: what may share a worker, that nobody starves for it, and that workers do not spend
//! their time starting.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Pool, quiet, task};
use pool_core::action::{Action, PoolEvent};
use pool_core::event::{Event, NewTask};
use pool_core::settings::{Settings, Tenancy};
use pool_core::stats::WorkerStatus;
use pool_protocol::id::{TaskId, WorkerId};
use pool_protocol::lane::Lane;
use pool_protocol::outcome::{Cause, Status};

fn with(tenancy: Tenancy, workers: u32) -> Settings {
    Settings { tenancy, ..quiet(workers) }
}

fn only_worker(pool: &Pool) -> WorkerId {
    assert_eq!(pool.living(), 1);
    *pool.workers.keys().next().expect("one")
}

/// The task that has run for the longest time.
fn running(pool: &Pool) -> Option<TaskId> {
    pool.workers.values().filter_map(|process| process.tasks.first().map(|(task, _)| *task)).min()
}

/// Runs all that is there, each task for this long; every worker works at the same time as the
/// others.
fn run_all(pool: &mut Pool, run_us: u64) {
    while running(pool).is_some() {
        let heads: Vec<TaskId> = pool
            .workers
            .values()
            .filter_map(|process| process.tasks.first().map(|t| t.0))
            .collect();
        pool.advance_us(run_us);
        for id in heads {
            if pool.is_held(id) {
                pool.done_after_us(id, run_us);
            }
        }
    }
}

fn starts(pool: &Pool) -> usize {
    pool.count_actions(|action| matches!(action, Action::Spawn { .. }))
}

/// Which projects each worker was given tasks of; `tasks` says whose each is.
fn served(
    pool: &Pool,
    tasks: &BTreeMap<TaskId, &'static str>,
) -> BTreeMap<WorkerId, BTreeSet<&'static str>> {
    let mut served: BTreeMap<WorkerId, BTreeSet<&'static str>> = BTreeMap::new();
    for (task, worker, _) in &pool.assigned {
        served.entry(*worker).or_default().insert(tasks[task]);
    }
    served
}

#[test]
fn shared_workers_serve_all_projects() {
    let mut pool = Pool::new(with(Tenancy::Shared, 1));
    let (a, b) = (pool.submit(task("a")), pool.submit(task("b")));
    run_all(&mut pool, 1000);
    assert_eq!(pool.end_of(a).worker, pool.end_of(b).worker);
    assert_eq!(starts(&pool), 1);
}

#[test]
fn a_worker_that_has_served_a_project_is_replaced_before_it_serves_another() {
    let mut pool = Pool::new(with(Tenancy::Project, 1));
    let first = only_worker(&pool);
    let a = pool.submit(task("a"));
    pool.done(a);
    assert_eq!(only_worker(&pool), first, "it stays while nobody else needs it");
    pool.auto_ready = false;
    let b = pool.submit(task("b"));
    assert!(!pool.is_held(b));
    assert!(!pool.workers[&first].retiring, "the replacement is ready first");
    let again = pool.submit(task("a"));
    assert_eq!(pool.worker_of(again), first, "and a short task of its own goes on there meanwhile");
    pool.ready_all();
    assert_ne!(pool.worker_of(b), first);
    pool.done(again);
    assert_eq!(pool.verdict_of(first), Cause::Recycled);
    assert_eq!(only_worker(&pool), pool.worker_of(b));
}

#[test]
fn no_worker_serves_two_projects_and_all_tasks_of_all_projects_end() {
    for workers in [1, 2, 4] {
        let mut pool = Pool::new(with(Tenancy::Project, workers));
        let mut whose = BTreeMap::new();
        for _ in 0..40 {
            for project in ["a", "b", "c", "d", "e", "f"] {
                whose.insert(pool.submit(task(project)), project);
            }
        }
        run_all(&mut pool, 20_000);
        assert!(whose.keys().all(|id| pool.status_of(*id) == Status::Succeeded));
        let served = served(&pool, &whose);
        assert!(served.values().all(|projects| projects.len() == 1), "{served:?}");
        pool.assert_nothing_is_used();
    }
}

#[test]
fn both_lanes_keep_to_the_tenancy() {
    let mut pool = Pool::new(Settings {
        min_workers: 1,
        max_workers: 2,
        auto_scale: true,
        ..with(Tenancy::Project, 2)
    });
    let mut whose = BTreeMap::new();
    for _ in 0..10 {
        for project in ["a", "b"] {
            whose.insert(pool.submit(task(project)), project);
            whose.insert(pool.submit(NewTask { lane: Lane::Io, ..task(project) }), project);
        }
    }
    for _ in 0..400 {
        run_all(&mut pool, 20_000);
        pool.advance_ms(100);
    }
    assert!(whose.keys().all(|id| pool.status_of(*id) == Status::Succeeded));
    assert!(served(&pool, &whose).values().all(|projects| projects.len() == 1));
}

/// One worker, a project that always has the next task, and another one that wants a single task
/// run.
#[test]
fn a_project_that_never_ends_does_not_keep_the_only_worker() {
    for run_us in [20, 5_000, 100_000] {
        let mut pool = Pool::new(with(Tenancy::Project, 1));
        for _ in 0..100 {
            pool.submit(task("greedy"));
        }
        let other = pool.submit(task("other"));
        let begin = pool.now_us;
        while !pool.ended.contains_key(&other) {
            pool.submit(task("greedy"));
            let id = running(&pool).expect("the worker is not idle while there is work");
            pool.advance_us(run_us);
            if pool.is_held(id) {
                pool.done_after_us(id, run_us);
            }
            assert!(pool.now_us - begin < 2_000_000, "tasks of {run_us} us");
        }
    }
}

#[test]
fn two_projects_that_alternate_do_not_spend_their_time_starting_workers() {
    let mut pool = Pool::new(with(Tenancy::Project, 1));
    let mut whose = BTreeMap::new();
    for _ in 0..1000 {
        for project in ["a", "b"] {
            whose.insert(pool.submit(task(project)), project);
        }
    }
    run_all(&mut pool, 1_000);
    assert_eq!(pool.ended.len(), 2000);
    // Two seconds of work in turns of a quarter of a second.
    assert!((3..=20).contains(&starts(&pool)), "{} starts", starts(&pool));
}

#[test]
fn workers_are_shared_out_evenly_and_then_stay() {
    let mut pool = Pool::new(with(Tenancy::Project, 4));
    for _ in 0..50 {
        pool.submit(task("a"));
    }
    assert_eq!(pool.project_running("a"), 4);
    let b: Vec<TaskId> = (0..2000).map(|_| pool.submit(task("b"))).collect();
    let more: Vec<TaskId> = (0..2000).map(|_| pool.submit(task("a"))).collect();
    let mut begun = 0;
    for turn in 0..500 {
        let heads: Vec<TaskId> = pool
            .workers
            .values()
            .filter_map(|process| process.tasks.first().map(|t| t.0))
            .collect();
        pool.advance_us(2_000);
        heads.into_iter().for_each(|id| pool.done_after_us(id, 2_000));
        if turn == 250 {
            assert_eq!((pool.project_running("a"), pool.project_running("b")), (2, 2));
            begun = starts(&pool);
        }
    }
    assert_eq!(starts(&pool), begun, "nobody is replaced once the shares are even");
    let done = |tasks: &[TaskId]| tasks.iter().filter(|id| pool.ended.contains_key(id)).count();
    assert!(done(&b) > 700 && done(&more) > 700, "{} and {}", done(&b), done(&more));
}

#[test]
fn a_higher_priority_takes_a_worker_from_a_lower_one_without_disturbing_its_task() {
    let mut pool = Pool::new(with(Tenancy::Project, 1));
    let low: Vec<TaskId> = (0..3).map(|_| pool.submit(task("low"))).collect();
    let high = pool.submit(NewTask { priority: 9, ..task("high") });
    assert_eq!(running(&pool), Some(low[0]));
    assert_eq!(starts(&pool), 1, "a long task runs to its end first");
    pool.advance_us(50_000);
    pool.done_after_us(low[0], 50_000);
    assert_eq!(running(&pool), Some(high), "and then the next one waits");
    pool.done(high);
    run_all(&mut pool, 50_000);
    assert!(
        low.iter()
            .all(|id| pool.status_of(*id) == Status::Succeeded && pool.end_of(*id).attempts == 1)
    );
}

#[test]
fn a_third_project_gets_a_worker_more_where_there_is_room() {
    let mut pool =
        Pool::new(Settings { max_workers: 3, auto_scale: true, ..with(Tenancy::Project, 2) });
    let (a, b) = (pool.submit(task("a")), pool.submit(task("b")));
    pool.done(a);
    pool.done(b);
    let c = pool.submit(task("c"));
    assert!(pool.is_held(c));
    assert_eq!(pool.living(), 3, "the warm ones stay");
    assert_eq!(pool.count(|event| matches!(event, PoolEvent::ScaledUp { workers: 1 })), 1);
}

#[test]
fn unbound_workers_are_used_before_others_are_replaced() {
    let mut pool = Pool::new(with(Tenancy::Project, 2));
    let a = pool.submit(task("a"));
    pool.done(a);
    let b = pool.submit(task("b"));
    assert_ne!(pool.worker_of(b), pool.end_of(a).worker.expect("it ran"));
    let again = pool.submit(task("a"));
    assert_eq!(Some(pool.worker_of(again)), pool.end_of(a).worker, "back to its own");
    assert_eq!(starts(&pool), 2);
}

#[test]
fn tiny_tasks_of_a_project_share_the_credit_of_its_worker_and_of_no_other() {
    let mut pool = Pool::new(with(Tenancy::Project, 2));
    pool.teach("a", 10);
    pool.teach("b", 10);
    let mut whose: BTreeMap<TaskId, &str> =
        pool.assigned.iter().zip(["a", "b"]).map(|(a, p)| (a.0, p)).collect();
    for _ in 0..20 {
        for project in ["a", "b"] {
            whose.insert(pool.submit(task(project)), project);
        }
    }
    assert!(pool.workers.values().all(|process| process.tasks.len() > 10), "several at a time");
    run_all(&mut pool, 10);
    assert!(served(&pool, &whose).values().all(|projects| projects.len() == 1));
}

#[test]
fn a_projects_limit_holds_on_its_own_workers() {
    let mut pool = Pool::new(with(Tenancy::Project, 3));
    pool.set_limit("a", 1);
    let tasks: Vec<TaskId> = (0..5).map(|_| pool.submit(task("a"))).collect();
    while let Some(id) = running(&pool) {
        assert_eq!(pool.project_running("a"), 1);
        pool.advance_us(50_000);
        pool.done_after_us(id, 50_000);
    }
    assert!(tasks.iter().all(|id| pool.ended.contains_key(id)));
    assert_eq!(starts(&pool), 3, "nobody was replaced for it");
}

#[test]
fn a_worker_serves_one_task_and_leaves() {
    let mut pool = Pool::new(with(Tenancy::Task, 2));
    let tasks: Vec<TaskId> = (0..200).map(|_| pool.submit(task("p"))).collect();
    run_all(&mut pool, 10);
    let workers: BTreeSet<WorkerId> =
        tasks.iter().map(|id| pool.end_of(*id).worker.expect("it ran")).collect();
    assert_eq!(workers.len(), 200, "each had its own");
    for worker in workers {
        assert_eq!(pool.verdict_of(worker), Cause::Recycled);
    }
    let evidence = pool.events.iter().find_map(|event| match event {
        PoolEvent::WorkerTerminated { verdict, tasks: 1, .. } => Some(verdict.evidence.clone()),
        _ => None,
    });
    assert_eq!(evidence.as_deref(), Some("after its one task"));
}

#[test]
fn another_attempt_is_another_worker() {
    let mut pool = Pool::new(with(Tenancy::Task, 1));
    let id = pool.submit(task("p"));
    let first = pool.worker_of(id);
    pool.fail(id, pool_protocol::outcome::ErrorCode::JsException);
    pool.advance_ms(1000);
    assert_ne!(pool.worker_of(id), first);
    pool.done(id);
    assert_eq!(pool.end_of(id).attempts, 2);
}

#[test]
fn the_next_worker_is_ready_when_a_task_ends_and_no_more_tasks_run_than_workers_may() {
    let mut pool = Pool::new(with(Tenancy::Task, 2));
    let tasks: Vec<TaskId> = (0..6).map(|_| pool.submit(task("p"))).collect();
    assert_eq!(pool.project_running("p"), 2);
    assert_eq!(pool.living(), 4, "two at work, and two stand ready");
    assert_eq!(pool.core.workers().filter(|worker| worker.state == WorkerStatus::Busy).count(), 2);
    assert_eq!(pool.core.stats().stopping, 0);
    pool.auto_ready = false;
    pool.done(tasks[0]);
    assert!(pool.is_held(tasks[2]), "without a start in between");
    assert_eq!(pool.project_running("p"), 2);
}

#[test]
fn a_task_that_takes_long_does_not_hold_up_the_others() {
    let mut pool = Pool::new(with(Tenancy::Task, 2));
    let long = pool.submit(task("p"));
    let others: Vec<TaskId> = (0..50).map(|_| pool.submit(task("p"))).collect();
    for id in others {
        assert!(pool.is_held(id));
        pool.done(id);
        // As the shell does at the end of each turn.
        pool.tick();
    }
    pool.done(long);
    assert_eq!(pool.status_of(long), Status::Succeeded);
}

#[test]
fn both_lanes_run_tasks_of_one_worker_each_though_one_worker_is_all_there_may_be() {
    let mut pool = Pool::new(Settings { auto_scale: true, ..with(Tenancy::Task, 1) });
    let js: Vec<TaskId> = (0..60).map(|_| pool.submit(task("p"))).collect();
    let io: Vec<TaskId> =
        (0..60).map(|_| pool.submit(NewTask { lane: Lane::Io, ..task("p") })).collect();
    for _ in 0..200 {
        if let Some(id) = running(&pool) {
            assert_eq!(pool.project_running("p"), 1);
            pool.advance_us(100_000);
            pool.done_after_us(id, 100_000);
        } else {
            pool.advance_us(10_000);
        }
    }
    assert!(js.iter().chain(&io).all(|id| pool.ended.contains_key(id)));
}

#[test]
fn a_crash_under_its_one_task_is_judged_as_any_other() {
    let mut pool = Pool::new(with(Tenancy::Task, 1));
    let id = pool.submit(task("p"));
    let first = pool.worker_of(id);
    pool.gone(first, Cause::KilledFromOutside);
    assert_eq!(pool.verdict_of(first), Cause::KilledFromOutside);
    assert_ne!(pool.worker_of(id), first);
    pool.done(id);
    assert_eq!(pool.end_of(id).attempts, 2);
}

#[test]
fn a_drain_ends_under_every_tenancy() {
    for tenancy in [Tenancy::Shared, Tenancy::Project, Tenancy::Task] {
        let mut pool = Pool::new(with(tenancy, 2));
        for project in ["a", "b", "c"] {
            pool.submit(task(project));
        }
        pool.handle(Event::Drain);
        run_all(&mut pool, 1000);
        pool.advance_ms(5_000);
        assert!(pool.exited, "{tenancy:?}");
        assert_eq!(
            pool.ended.values().filter(|ended| ended.code.is_none()).count(),
            3,
            "{tenancy:?}"
        );
    }
}

#[test]
fn a_reload_that_changes_the_tenancy_holds_for_the_next_assignment() {
    let mut pool = Pool::new(with(Tenancy::Shared, 1));
    for project in ["a", "b"] {
        pool.teach(project, 1000);
    }
    let worn = only_worker(&pool);
    pool.handle(Event::Reload(Box::new(with(Tenancy::Project, 1))));
    assert_eq!(pool.verdict_of(worn), Cause::Recycled, "it has served two");
    let a = pool.submit(task("a"));
    let bound = pool.worker_of(a);
    pool.done(a);
    pool.handle(Event::Reload(Box::new(with(Tenancy::Task, 1))));
    let b = pool.submit(task("a"));
    assert_ne!(pool.worker_of(b), bound);
    let last = pool.worker_of(b);
    pool.handle(Event::Reload(Box::new(with(Tenancy::Shared, 1))));
    assert_eq!(pool.worker_of(b), last, "what runs goes on");
    pool.done(b);
    assert_eq!(pool.verdict_of(last), Cause::Recycled);
}

#[test]
fn what_a_worker_holds_unstarted_goes_to_others_when_the_tenancy_changes() {
    let mut pool = Pool::new(with(Tenancy::Shared, 1));
    pool.teach("p", 10);
    let old = only_worker(&pool);
    let tasks: Vec<TaskId> = (0..5).map(|_| pool.submit(task("p"))).collect();
    assert!(tasks.iter().all(|id| pool.worker_of(*id) == old));
    pool.handle(Event::Reload(Box::new(with(Tenancy::Task, 1))));
    assert!(tasks[1..].iter().all(|id| !pool.is_held(*id) || pool.worker_of(*id) != old));
    run_all(&mut pool, 10);
    let workers: BTreeSet<_> = tasks.iter().map(|id| pool.end_of(*id).worker).collect();
    assert_eq!(workers.len(), 5);
}
