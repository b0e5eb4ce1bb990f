//! Credit: tiny tasks are held several at a time, others one, and none waits behind one that runs
//! long.

mod common;

use common::{Pool, quiet, task};
use pool_core::action::Action;
use pool_core::event::AttemptEnd;
use pool_core::settings::Settings;
use pool_core::stats::TaskStatus;
use pool_protocol::id::TaskId;

fn submit_many(pool: &mut Pool, count: usize) -> Vec<TaskId> {
    (0..count).map(|_| pool.submit(task("p"))).collect()
}

fn held(pool: &Pool) -> usize {
    pool.workers.values().map(|process| process.tasks.len()).sum()
}

#[test]
fn a_task_of_unknown_run_time_is_held_alone() {
    let mut pool = Pool::new(quiet(1));
    submit_many(&mut pool, 10);
    assert_eq!(held(&pool), 1);
}

#[test]
fn tiny_tasks_are_held_up_to_300_us_of_work() {
    let mut pool = Pool::new(quiet(1));
    pool.teach("p", 30);
    submit_many(&mut pool, 100);
    assert_eq!(held(&pool), 10);
}

#[test]
fn tasks_that_a_busy_machine_makes_wait_are_tiny_all_the_same() {
    for (busy_us, expected) in [(30, 10), (5_000, 1), (60_000, 1)] {
        let mut pool = Pool::new(quiet(1));
        let id = pool.submit(task("p"));
        pool.advance_us(5_000);
        let end = AttemptEnd {
            code: None,
            run_us: 5_000,
            cpu_us: 30,
            busy_us,
            memory_bytes: 1,
            retry_after_ms: 0,
            spoiled: false,
        };
        pool.report(id, end);
        submit_many(&mut pool, 100);
        assert_eq!(held(&pool), expected, "busy for {busy_us} us of 5 ms");
    }
}

#[test]
fn never_more_than_64_tasks_are_held() {
    let mut pool = Pool::new(quiet(1));
    pool.teach("p", 1);
    submit_many(&mut pool, 100);
    assert_eq!(held(&pool), 64);
}

#[test]
fn long_tasks_are_held_one_at_a_time() {
    let mut pool = Pool::new(quiet(1));
    pool.teach("p", 5_000);
    submit_many(&mut pool, 10);
    assert_eq!(held(&pool), 1);
}

#[test]
fn tasks_spread_over_idle_workers_before_any_holds_two() {
    let mut pool = Pool::new(quiet(4));
    pool.teach("p", 10);
    submit_many(&mut pool, 4);
    assert!(pool.workers.values().all(|process| process.tasks.len() == 1));
    submit_many(&mut pool, 8);
    assert!(pool.workers.values().all(|process| process.tasks.len() == 3), "and evenly after that");
}

fn busy(pool: &Pool) -> usize {
    pool.workers.values().filter(|process| !process.tasks.is_empty()).count()
}

#[test]
fn tiny_tasks_wake_no_more_workers_than_there_are_processors_while_these_have_room() {
    let mut pool = Pool::new(Settings { processors: 2, ..quiet(8) });
    pool.teach("p", 10);
    submit_many(&mut pool, 60);
    assert_eq!(busy(&pool), 2);
    submit_many(&mut pool, 1);
    assert_eq!(busy(&pool), 3, "these two have no room");
}

#[test]
fn tasks_that_are_not_tiny_use_every_worker_whatever_the_processors() {
    for run_us in [301, 5_000] {
        let mut pool = Pool::new(Settings { processors: 2, ..quiet(8) });
        pool.teach("p", run_us);
        submit_many(&mut pool, 8);
        assert_eq!(busy(&pool), 8, "{run_us} µs");
    }
}

#[test]
fn a_task_does_not_wait_behind_one_that_runs_long_while_another_worker_is_idle() {
    let mut pool = Pool::new(Settings { processors: 1, ..quiet(2) });
    pool.teach("p", 10);
    let tasks = submit_many(&mut pool, 2);
    assert_eq!(busy(&pool), 1);
    pool.advance_us(2_000);
    assert_ne!(pool.worker_of(tasks[0]), pool.worker_of(tasks[1]));
    let next = pool.submit(task("p"));
    assert_eq!(pool.worker_of(next), pool.worker_of(tasks[1]), "the other processor is free again");
}

#[test]
fn a_task_that_wants_what_is_made_ahead_goes_to_the_worker_that_was_idle_for_longest() {
    let mut pool = Pool::new(quiet(3));
    let mut workers = Vec::new();
    for _ in 0..6 {
        let id = pool.submit(pool_core::event::NewTask { made_ahead: true, ..task("p") });
        workers.push(pool.worker_of(id));
        pool.advance_us(100);
        pool.done_after_us(id, 100);
    }
    assert_eq!(workers[..3], workers[3..]);
    assert!(workers[0] != workers[1] && workers[1] != workers[2] && workers[2] != workers[0]);
}

#[test]
fn only_the_first_task_a_worker_holds_is_running() {
    let mut pool = Pool::new(quiet(1));
    pool.teach("p", 10);
    let tasks = submit_many(&mut pool, 3);
    let states: Vec<TaskStatus> =
        tasks.iter().map(|id| pool.core.task(*id).expect("it is there").state).collect();
    assert_eq!(states, [TaskStatus::Running, TaskStatus::Queued, TaskStatus::Queued]);
    let stats = pool.core.stats();
    assert_eq!((stats.running, stats.queued), (1, 2));
    pool.done_after_us(tasks[0], 10);
    assert_eq!(pool.core.task(tasks[1]).expect("it is there").state, TaskStatus::Running);
}

#[test]
fn tasks_behind_one_that_runs_long_are_taken_back_and_run_elsewhere() {
    let mut pool = Pool::new(quiet(2));
    pool.teach("p", 10);
    let tasks = submit_many(&mut pool, 6);
    let stuck = tasks[0];
    let behind: Vec<TaskId> = tasks[1..]
        .iter()
        .copied()
        .filter(|id| pool.worker_of(*id) == pool.worker_of(stuck))
        .collect();
    assert_eq!(behind.len(), 2);
    for id in tasks[1..].iter().filter(|id| !behind.contains(id)) {
        pool.done_after_us(*id, 10);
    }
    pool.advance_us(1_999);
    assert!(behind.iter().all(|id| pool.worker_of(*id) == pool.worker_of(stuck)));
    pool.advance_us(1);
    assert!(behind.iter().all(|id| pool.worker_of(*id) != pool.worker_of(stuck)));
    for id in behind {
        pool.done_after_us(id, 10);
        assert_eq!(pool.end_of(id).attempts, 1, "being taken back is no attempt");
    }
    assert!(pool.is_held(stuck));
}

#[test]
fn nothing_is_put_behind_a_task_that_runs_long() {
    let mut pool = Pool::new(quiet(1));
    pool.teach("p", 10);
    submit_many(&mut pool, 2);
    pool.advance_us(2_000);
    assert_eq!(held(&pool), 1);
    submit_many(&mut pool, 3);
    assert_eq!(held(&pool), 1);
}

#[test]
fn a_stream_of_tiny_tasks_is_not_taken_back() {
    let mut pool = Pool::new(quiet(1));
    pool.teach("p", 30);
    submit_many(&mut pool, 500);
    while let Some(id) =
        pool.workers.values().find_map(|process| process.tasks.first().map(|(task, _)| *task))
    {
        pool.advance_us(30);
        pool.done_after_us(id, 30);
    }
    assert_eq!(pool.count_actions(|action| matches!(action, Action::TakeBack { .. })), 0);
}

#[test]
fn a_long_task_does_not_wait_for_ever_behind_a_stream_of_tiny_ones() {
    let mut pool = Pool::new(Settings { ..quiet(1) });
    pool.teach("p", 10);
    let mut in_flight = submit_many(&mut pool, 50);
    let long = pool.submit(task("unknown"));
    for _ in 0..200 {
        let first = pool
            .workers
            .values()
            .find_map(|process| process.tasks.first().map(|(task, _)| *task))
            .expect("busy");
        if first == long {
            return;
        }
        pool.advance_us(10);
        pool.done_after_us(first, 10);
        in_flight.push(pool.submit(task("p")));
    }
    panic!("the worker never became idle for it");
}

#[test]
fn a_project_goes_back_to_the_worker_that_is_warm_for_it() {
    let mut pool = Pool::new(quiet(3));
    let [a, b] = ["a", "b"].map(|project| pool.submit(task(project)));
    let (of_a, of_b) = (pool.worker_of(a), pool.worker_of(b));
    assert_ne!(of_a, of_b);
    pool.done(a);
    pool.done(b);
    let [b, a] = ["b", "a"].map(|project| pool.submit(task(project)));
    assert_eq!((pool.worker_of(a), pool.worker_of(b)), (of_a, of_b));
}
