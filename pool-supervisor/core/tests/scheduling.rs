//! Scheduling: highest priority first; inside a priority, projects share; inside a project, first
//! come, first served.

mod common;

use common::{Pool, quiet, task, with_project};
use pool_core::event::NewTask;
use pool_core::settings::{ProjectSettings, Settings};
use pool_protocol::id::TaskId;
use pool_protocol::outcome::ErrorCode;

/// A pool whose only worker is busy until [`free`] is called.
fn busy_pool(settings: Settings) -> (Pool, TaskId) {
    let mut pool = Pool::new(settings);
    let first = pool.submit(task("blocker"));
    assert!(pool.is_held(first));
    (pool, first)
}

/// Ends what runs, again and again, each after this time, until nothing is left. Returns the order
/// of the starts.
fn run_all(pool: &mut Pool, run_us: u64) -> Vec<TaskId> {
    let from = pool.order().len();
    while let Some(running) =
        pool.workers.values().find_map(|process| process.tasks.first().map(|(task, _)| *task))
    {
        pool.advance_us(run_us);
        pool.done_after_us(running, run_us);
    }
    pool.order().split_off(from)
}

#[test]
fn highest_priority_runs_first() {
    let (mut pool, _) = busy_pool(quiet(1));
    let low = pool.submit(NewTask { priority: 1, ..task("p") });
    let high = pool.submit(NewTask { priority: 9, ..task("p") });
    let middle = pool.submit(NewTask { priority: 5, ..task("q") });
    assert_eq!(run_all(&mut pool, 1000), [high, middle, low]);
}

#[test]
fn inside_a_project_first_come_is_first_served() {
    let (mut pool, _) = busy_pool(quiet(1));
    let tasks: Vec<TaskId> = (0..20).map(|_| pool.submit(task("p"))).collect();
    assert_eq!(run_all(&mut pool, 1000), tasks);
}

#[test]
fn projects_share_in_proportion_to_their_weight() {
    let heavy = ProjectSettings { weight: 3.0, ..ProjectSettings::default() };
    let (mut pool, _) = busy_pool(with_project(quiet(1), "heavy", heavy));
    let of_heavy: Vec<TaskId> = (0..90).map(|_| pool.submit(task("heavy"))).collect();
    let _of_light: Vec<TaskId> = (0..90).map(|_| pool.submit(task("light"))).collect();
    let order = run_all(&mut pool, 5000);
    let heavy_among_first = order[..80].iter().filter(|id| of_heavy.contains(id)).count();
    assert!(
        (57..=63).contains(&heavy_among_first),
        "three quarters of 80 are 60, not {heavy_among_first}"
    );
}

#[test]
fn projects_share_by_the_worker_time_they_used_not_by_the_count_of_tasks() {
    let (mut pool, first) = busy_pool(quiet(1));
    let slow: Vec<TaskId> = (0..50).map(|_| pool.submit(task("slow"))).collect();
    let _fast: Vec<TaskId> = (0..500).map(|_| pool.submit(task("fast"))).collect();
    pool.done(first);
    let (mut used_slow, mut used_fast) = (0u64, 0u64);
    for _ in 0..200 {
        let running = pool
            .workers
            .values()
            .find_map(|process| process.tasks.first().map(|(task, _)| *task))
            .expect("busy");
        let run_us = if slow.contains(&running) { 10_000 } else { 1_000 };
        *(if slow.contains(&running) { &mut used_slow } else { &mut used_fast }) += run_us;
        pool.advance_us(run_us);
        pool.done_after_us(running, run_us);
    }
    let ratio = used_slow as f64 / used_fast as f64;
    assert!(
        (0.8..1.25).contains(&ratio),
        "both used about the same time: {used_slow} and {used_fast} us"
    );
}

#[test]
fn a_project_that_was_idle_gets_no_credit_for_it() {
    let (mut pool, first) = busy_pool(quiet(1));
    pool.done(first);
    // One project works alone for a long time.
    for _ in 0..200 {
        pool.teach("busy", 10_000);
    }
    let blocker = pool.submit(task("blocker"));
    let busy: Vec<TaskId> = (0..40).map(|_| pool.submit(task("busy"))).collect();
    for _ in 0..40 {
        pool.submit(task("newcomer"));
    }
    pool.advance_us(1000);
    pool.done(blocker);
    let order = run_all(&mut pool, 10_000);
    let of_busy = order[..20].iter().filter(|id| busy.contains(id)).count();
    assert!((8..=12).contains(&of_busy), "they share from now on: {of_busy} of 20");
}

#[test]
fn waiting_raises_a_tasks_priority_so_that_none_starves() {
    let (mut pool, mut running) = busy_pool(Settings { priority_ageing_ms: 1000, ..quiet(1) });
    let old = pool.submit(NewTask { priority: 0, ..task("patient") });
    // A stream of urgent tasks, one always waiting, that alone would keep the worker busy for ever.
    for _ in 0..200 {
        let next = pool.submit(NewTask { priority: 5, ..task("urgent") });
        pool.advance_ms(100);
        pool.done_after_us(running, 100_000);
        if pool.is_held(old) {
            let waited_ms = pool.now_us / 1000;
            assert!(
                (4900..=6200).contains(&waited_ms),
                "after five steps of priority, not {waited_ms} ms"
            );
            return;
        }
        running = next;
        while !pool.is_held(running) {
            running = pool
                .workers
                .values()
                .find_map(|process| process.tasks.first().map(|(task, _)| *task))
                .expect("busy");
        }
    }
    panic!("it starved");
}

#[test]
fn a_retried_task_keeps_its_place_in_the_queue() {
    let (mut pool, first) = busy_pool(quiet(1));
    pool.done(first);
    let failing = pool.submit(task("p"));
    let blocker = pool.submit(NewTask { priority: 10, ..task("p") });
    pool.fail(failing, ErrorCode::JsException);
    let later = pool.submit(task("p"));
    pool.advance_ms(1500);
    assert!(pool.is_held(blocker) && !pool.is_held(failing));
    pool.done(blocker);
    assert!(pool.is_held(failing), "it came before the other");
    assert!(!pool.is_held(later));
}

#[test]
fn a_delayed_task_runs_after_its_delay_and_not_before() {
    let mut pool = Pool::new(quiet(1));
    let delayed = pool.submit(NewTask { delay_ms: 500, ..task("p") });
    pool.advance_ms(499);
    assert!(!pool.is_held(delayed));
    pool.advance_ms(2);
    assert!(pool.is_held(delayed));
}

#[test]
fn a_task_of_equal_priority_does_not_pass_one_that_waits_longer_in_another_project() {
    let (mut pool, first) = busy_pool(quiet(1));
    let a = pool.submit(task("a"));
    let b = pool.submit(task("b"));
    pool.advance_us(1000);
    pool.done(first);
    pool.advance_us(1000);
    pool.done(a);
    let second_of_a = pool.submit(task("a"));
    assert!(pool.is_held(b) && !pool.is_held(second_of_a));
}

#[test]
fn a_project_pays_for_a_task_that_ran_longer_than_expected() {
    let (mut pool, blocker) = busy_pool(quiet(1));
    let surprising = [pool.submit(task("surprising")), pool.submit(task("surprising"))];
    let plain: Vec<TaskId> = (0..40).map(|_| pool.submit(task("plain"))).collect();
    pool.advance_us(1000);
    pool.done(blocker);
    assert!(pool.is_held(surprising[0]));
    pool.advance_ms(100);
    pool.done_after_us(surprising[0], 100_000);
    let order = run_all(&mut pool, 5_000);
    let passed = order.iter().position(|id| *id == surprising[1]).expect("it ran");
    assert!(
        (15..=22).contains(&passed),
        "100 ms are about 20 tasks of 5 ms, not {passed} of {}",
        plain.len()
    );
}

#[test]
fn a_worker_that_claims_an_absurd_run_time_is_believed_as_far_as_it_lives() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(task("p"));
    pool.advance_ms(10);
    pool.done_after_us(id, u64::MAX);
    assert_eq!(pool.end_of(id).receipt.run_us, pool.now_us);
}
