//! Two lanes share the pool's workers, and neither starves.

mod common;

use common::{Pool, quiet, task};
use pool_core::event::NewTask;
use pool_core::settings::Settings;
use pool_protocol::id::TaskId;
use pool_protocol::lane::Lane;

fn io(project: &str) -> NewTask<'_> {
    NewTask { lane: Lane::Io, ..task(project) }
}

fn of_lane(pool: &Pool, lane: Lane) -> usize {
    pool.workers.values().filter(|process| process.lane == lane).count()
}

fn elastic(min: u32, max: u32) -> Settings {
    Settings { min_workers: min, max_workers: max, auto_scale: true, ..quiet(min) }
}

#[test]
fn a_worker_runs_tasks_of_its_lane_only() {
    let mut pool = Pool::new(elastic(1, 4));
    assert_eq!(of_lane(&pool, Lane::Io), 0, "the other lane starts on demand");
    let a = pool.submit(task("p"));
    let b = pool.submit(io("p"));
    assert_eq!(pool.workers[&pool.worker_of(a)].lane, Lane::Js);
    assert_eq!(pool.workers[&pool.worker_of(b)].lane, Lane::Io);
}

#[test]
fn io_tasks_are_held_one_at_a_time() {
    let mut pool = Pool::new(Settings { auto_scale: false, ..elastic(1, 4) });
    let first = pool.submit(io("p"));
    pool.done_after_us(first, 10);
    let second = pool.submit(io("p"));
    let third = pool.submit(io("p"));
    assert!(pool.is_held(second) && !pool.is_held(third));
}

#[test]
fn when_the_pool_is_full_an_idle_worker_of_the_other_lane_makes_room() {
    let mut pool = Pool::new(quiet(3));
    let id = pool.submit(io("p"));
    assert!(pool.is_held(id));
    assert_eq!((of_lane(&pool, Lane::Js), of_lane(&pool, Lane::Io)), (2, 1));
}

#[test]
fn when_all_are_busy_the_first_that_ends_a_task_makes_room() {
    let mut pool = Pool::new(quiet(3));
    let busy: Vec<TaskId> = (0..6).map(|_| pool.submit(task("p"))).collect();
    let id = pool.submit(io("p"));
    assert!(!pool.is_held(id));
    assert_eq!(pool.living(), 3, "never more than the maximum");
    pool.done(busy[1]);
    assert!(pool.is_held(id));
    assert_eq!((of_lane(&pool, Lane::Js), of_lane(&pool, Lane::Io)), (2, 1));
}

#[test]
fn neither_lane_starves_with_one_worker() {
    let mut pool = Pool::new(quiet(1));
    let mut waiting_js: Vec<TaskId> = (0..3).map(|_| pool.submit(task("p"))).collect();
    let mut waiting_io: Vec<TaskId> = (0..3).map(|_| pool.submit(io("p"))).collect();
    let (mut ended_js, mut ended_io) = (0, 0);
    // Both lanes always have something to do, for a minute.
    for _ in 0..600 {
        pool.advance_ms(100);
        assert!(pool.living() <= 1);
        let Some(id) =
            pool.workers.values().find_map(|process| process.tasks.first().map(|(task, _)| *task))
        else {
            continue;
        };
        pool.done_after_us(id, 100_000);
        if let Some(at) = waiting_js.iter().position(|task| *task == id) {
            waiting_js.remove(at);
            ended_js += 1;
            waiting_js.push(pool.submit(task("p")));
        } else {
            waiting_io.retain(|task| *task != id);
            ended_io += 1;
            waiting_io.push(pool.submit(io("p")));
        }
    }
    assert!(ended_js >= 200 && ended_io >= 200, "{ended_js} and {ended_io}");
}

#[test]
fn what_was_lent_to_the_other_lane_comes_back() {
    let mut pool = Pool::new(Settings { worker_idle_timeout_ms: 5_000, ..elastic(2, 2) });
    let id = pool.submit(io("p"));
    assert_eq!((of_lane(&pool, Lane::Js), of_lane(&pool, Lane::Io)), (1, 1));
    pool.done(id);
    pool.advance_ms(6_000);
    assert_eq!(
        (of_lane(&pool, Lane::Js), of_lane(&pool, Lane::Io)),
        (2, 0),
        "idle for its timeout"
    );

    let id = pool.submit(io("p"));
    pool.done(id);
    let tasks: Vec<TaskId> = (0..2).map(|_| pool.submit(task("p"))).collect();
    assert!(tasks.iter().all(|task| pool.is_held(*task)), "or as soon as it is needed");
}

#[test]
fn the_io_lane_grows_with_its_load_and_keeps_its_last_worker_until_that_is_idle_for_long() {
    let mut pool = Pool::new(Settings { worker_idle_timeout_ms: 20_000, ..elastic(1, 4) });
    let tasks: Vec<TaskId> = (0..5).map(|_| pool.submit(io("p"))).collect();
    pool.advance_ms(3_000);
    assert_eq!(of_lane(&pool, Lane::Io), 3);
    for id in &tasks {
        pool.done(*id);
    }
    pool.advance_ms(10_000);
    assert_eq!(of_lane(&pool, Lane::Io), 1);
    pool.advance_ms(15_000);
    assert_eq!(of_lane(&pool, Lane::Io), 0);
    assert_eq!(of_lane(&pool, Lane::Js), 1);
}

#[test]
fn a_pool_without_a_minimum_starts_its_first_worker_with_its_first_task() {
    let mut pool = Pool::new(Settings { worker_idle_timeout_ms: 1_000, ..elastic(0, 2) });
    assert_eq!(pool.living(), 0);
    let id = pool.submit(task("p"));
    assert!(pool.is_held(id));
    pool.done(id);
    pool.advance_ms(1_100);
    assert_eq!(pool.living(), 0);
}
