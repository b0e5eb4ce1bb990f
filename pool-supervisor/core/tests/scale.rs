//! Scaling: up with the load, doubling; down when it is low, with cool-down; idle workers go; never
//! outside min..max.

mod common;

use common::{Pool, quiet, task};
use pool_core::action::PoolEvent;
use pool_core::event::Event;
use pool_core::settings::Settings;
use pool_protocol::id::TaskId;
use pool_protocol::outcome::Cause;

fn elastic(min: u32, max: u32) -> Settings {
    Settings { min_workers: min, max_workers: max, auto_scale: true, ..quiet(min) }
}

fn up(pool: &Pool) -> Vec<u32> {
    pool.events
        .iter()
        .filter_map(
            |event| if let PoolEvent::ScaledUp { workers } = event { Some(*workers) } else { None },
        )
        .collect()
}

fn down(pool: &Pool) -> Vec<u32> {
    pool.events
        .iter()
        .filter_map(|event| {
            if let PoolEvent::ScaledDown { workers } = event { Some(*workers) } else { None }
        })
        .collect()
}

fn submit_many(pool: &mut Pool, count: usize) -> Vec<TaskId> {
    (0..count).map(|_| pool.submit(task("p"))).collect()
}

#[test]
fn the_minimum_is_there_from_the_start() {
    let pool = Pool::new(elastic(3, 8));
    assert_eq!(pool.living(), 3);
    assert!(pool.core.is_ready());
    assert!(up(&pool).is_empty());
}

#[test]
fn scale_up_adds_a_worker() {
    let mut pool = Pool::new(elastic(1, 4));
    let tasks = submit_many(&mut pool, 2);
    assert_eq!(pool.living(), 2, "at once: a task waits that no worker will take");
    assert_eq!(up(&pool), [1]);
    assert!(pool.is_held(tasks[1]), "the new worker runs it");
}

#[test]
fn lasting_pressure_doubles_the_steps_with_a_cool_down_between_them() {
    let mut pool = Pool::new(elastic(1, 16));
    submit_many(&mut pool, 100);
    assert_eq!(pool.living(), 2);
    pool.advance_ms(999);
    assert_eq!(pool.living(), 2, "cool-down");
    pool.advance_ms(1);
    assert_eq!(pool.living(), 4);
    pool.advance_ms(1000);
    assert_eq!(pool.living(), 8);
    pool.advance_ms(1000);
    assert_eq!(pool.living(), 16);
    pool.advance_ms(10_000);
    assert_eq!(pool.living(), 16, "never above the maximum");
    assert_eq!(up(&pool), [1, 2, 4, 8]);
}

#[test]
fn no_more_workers_are_added_than_there_are_tasks_for() {
    let mut pool = Pool::new(elastic(1, 16));
    submit_many(&mut pool, 3);
    pool.advance_ms(1000);
    assert_eq!(pool.living(), 3);
}

#[test]
fn a_load_above_the_threshold_that_lasts_adds_a_worker_though_nothing_waits() {
    let mut pool = Pool::new(elastic(1, 4));
    submit_many(&mut pool, 1);
    assert_eq!(pool.living(), 1);
    pool.advance_ms(99);
    assert_eq!(pool.living(), 1, "not for a tiny task");
    pool.advance_ms(1);
    assert_eq!(pool.living(), 2, "load 1/1 is above 0.8");
    pool.advance_ms(10_000);
    assert_eq!(pool.living(), 2, "load 1/2 is not");
}

#[test]
fn a_low_load_removes_one_worker_per_cool_down_down_to_the_minimum() {
    let mut pool = Pool::new(elastic(1, 8));
    let tasks = submit_many(&mut pool, 8);
    pool.advance_ms(5_000);
    assert_eq!(pool.living(), 8);
    for id in tasks {
        pool.done(id);
    }
    let mut expected = 8;
    for _ in 0..7 {
        pool.advance_ms(1_000);
        expected -= 1;
        assert_eq!(pool.living(), expected);
    }
    pool.advance_ms(60_000);
    assert_eq!(pool.living(), 1);
    assert_eq!(down(&pool), [1; 7]);
}

#[test]
fn a_worker_idle_for_its_timeout_goes_down_to_the_minimum() {
    let mut pool = Pool::new(Settings {
        worker_idle_timeout_ms: 5_000,
        scale_down_threshold: 0.0,
        ..elastic(1, 4)
    });
    let tasks = submit_many(&mut pool, 4);
    pool.advance_ms(3_000);
    assert_eq!(pool.living(), 4);
    for id in tasks {
        pool.done(id);
    }
    pool.advance_ms(4_999);
    assert_eq!(pool.living(), 4);
    pool.advance_ms(2);
    assert_eq!(pool.living(), 1);
    assert_eq!(down(&pool), [1, 1, 1]);
    let idle = |event: &PoolEvent| match event {
        PoolEvent::WorkerTerminated { verdict, .. } => verdict.cause == Cause::Idle,
        _ => false,
    };
    assert_eq!(pool.count(idle), 3);
    pool.advance_ms(60_000);
    assert_eq!(pool.living(), 1);
}

#[test]
fn a_paused_projects_queue_wants_no_workers() {
    let mut pool = Pool::new(elastic(1, 8));
    pool.set_limit("p", 0);
    submit_many(&mut pool, 100);
    pool.advance_ms(30_000);
    assert_eq!(pool.living(), 1);
}

#[test]
fn without_auto_scale_the_number_stays_at_the_minimum() {
    let mut pool = Pool::new(Settings { auto_scale: false, ..elastic(2, 8) });
    let tasks = submit_many(&mut pool, 50);
    pool.advance_ms(30_000);
    assert_eq!(pool.living(), 2);
    for id in &tasks[..2] {
        pool.done(*id);
    }
    assert_eq!(pool.living(), 2);
}

#[test]
fn a_reload_with_other_bounds_grows_the_pool_at_once_and_shrinks_it_gracefully() {
    let mut pool = Pool::new(elastic(1, 4));
    pool.handle(Event::Reload(Box::new(elastic(4, 8))));
    assert_eq!(pool.living(), 4);
    let tasks = submit_many(&mut pool, 4);
    pool.handle(Event::Reload(Box::new(elastic(1, 2))));
    assert_eq!(pool.living(), 4, "busy workers finish what they run");
    let waiting = submit_many(&mut pool, 2);
    pool.done(tasks[0]);
    pool.done(tasks[1]);
    assert_eq!(pool.living(), 2, "and leave as soon as they have");
    assert!(waiting.iter().all(|id| !pool.is_held(*id)));
    pool.done(tasks[2]);
    assert!(pool.is_held(waiting[0]), "the rest goes on");
    assert_eq!(pool.count(|event| *event == PoolEvent::Reloaded), 2);
}

#[test]
fn a_worker_that_dies_is_replaced_at_once() {
    let mut pool = Pool::new(elastic(2, 2));
    let id = pool.submit(task("p"));
    let worker = pool.worker_of(id);
    pool.gone(worker, Cause::EngineFatal);
    assert_eq!(pool.core.stats().available, 2);
}

#[test]
fn load_is_running_and_waiting_over_workers() {
    let mut pool = Pool::new(quiet(2));
    submit_many(&mut pool, 5);
    let stats = pool.core.stats();
    assert_eq!((stats.running, stats.queued, stats.workers, stats.busy), (2, 3, 2, 2));
    assert!((stats.load - 2.5).abs() < 1e-9);
}
