//! Starts that fail: the pool waits longer and longer, says so once, never spins, and recovers by
//! itself.

mod common;

use common::{Pool, quiet, task};
use pool_core::action::{Action, PoolEvent};
use pool_core::event::Event;
use pool_core::settings::Settings;
use pool_protocol::outcome::Cause;

fn failing_pool(settings: Settings) -> Pool {
    let mut pool = Pool::unstarted(settings);
    pool.auto_ready = false;
    pool.tick();
    pool
}

fn fail_all_spawns(pool: &mut Pool) {
    for worker in pool.spawning() {
        pool.workers.remove(&worker);
        pool.handle(Event::SpawnFailed { worker, reason: "no such file".into() });
    }
}

fn spawns(pool: &Pool) -> usize {
    pool.count_actions(|action| matches!(action, Action::Spawn { .. }))
}

/// Waits for the next start, lets it fail, and returns how long it took in milliseconds.
fn next_failure(pool: &mut Pool) -> u64 {
    let from_us = pool.now_us;
    while pool.spawning().is_empty() {
        pool.advance_ms(1);
        assert!(pool.now_us - from_us < 60_000_000, "it gave up");
    }
    fail_all_spawns(pool);
    (pool.now_us - from_us) / 1000
}

#[test]
fn spawn_failures_back_off_from_100_ms_to_30_s_with_jitter() {
    let mut pool = failing_pool(quiet(1));
    fail_all_spawns(&mut pool);
    let waits: Vec<u64> = (0..14).map(|_| next_failure(&mut pool)).collect();
    for (number, wait) in waits.iter().enumerate() {
        let expected = (100u64 << number).min(30_000);
        let (least, most) = (expected * 8 / 10 - 1, (expected * 12 / 10 + 2).min(30_001));
        assert!((least..=most).contains(wait), "wait {number} of {waits:?}: {least} to {most} ms");
    }
    assert_eq!(
        pool.count(|event| matches!(event, PoolEvent::Degraded { .. })),
        1,
        "it says so once"
    );
    assert!(pool.core.degraded().expect("degraded").contains("no such file"));
    assert!(!pool.core.is_ready());
}

#[test]
fn the_pool_recovers_by_itself_and_says_so_once() {
    let mut pool = failing_pool(quiet(2));
    for _ in 0..5 {
        next_failure(&mut pool);
    }
    let id = pool.submit(task("p"));
    pool.auto_ready = true;
    pool.advance_ms(60_000);
    assert!(pool.is_held(id));
    assert_eq!(pool.count(|event| *event == PoolEvent::Recovered), 1);
    assert_eq!(pool.core.degraded(), None);
    assert_eq!(pool.core.stats().workers, 2);
}

#[test]
fn a_volley_of_failed_starts_counts_once_and_then_one_is_tried_at_a_time() {
    let mut pool = failing_pool(quiet(8));
    assert_eq!(spawns(&pool), 8);
    fail_all_spawns(&mut pool);
    pool.advance_ms(125);
    assert_eq!(spawns(&pool), 9);
    pool.advance_ms(9_000);
    assert_eq!(spawns(&pool), 9, "one at a time");
}

#[test]
fn a_worker_that_is_not_ready_in_time_is_killed_as_one_that_could_not_be_started() {
    let mut pool = failing_pool(quiet(1));
    let worker = pool.spawning()[0];
    pool.advance_ms(9_999);
    assert!(!pool.was_killed(worker));
    pool.advance_ms(1);
    assert!(pool.was_killed(worker));
    assert_eq!(pool.verdict_of(worker), Cause::SpawnFailed);
    assert!(pool.core.degraded().expect("degraded").contains("10000 ms"));
    assert_eq!(pool.count(|event| matches!(event, PoolEvent::WorkerError { .. })), 1);
}

#[test]
fn a_worker_that_dies_before_it_is_ready_counts() {
    let mut pool = failing_pool(quiet(1));
    let worker = pool.spawning()[0];
    pool.gone(worker, Cause::Exited);
    assert_eq!(pool.verdict_of(worker), Cause::SpawnFailed);
    pool.advance_ms(79);
    assert!(pool.spawning().is_empty());
    pool.advance_ms(60);
    assert_eq!(pool.spawning().len(), 1);
}

#[test]
fn workers_that_die_as_soon_as_they_are_ready_do_not_make_the_pool_spin() {
    let mut pool = failing_pool(quiet(1));
    for _ in 0..1_000 {
        if let Some(worker) = pool.spawning().first().copied() {
            pool.ready(worker);
            pool.gone(worker, Cause::Exited);
        }
        pool.advance_ms(10);
    }
    assert!(spawns(&pool) <= 9, "in ten seconds: {}", spawns(&pool));
    assert_eq!(pool.count(|event| matches!(event, PoolEvent::Degraded { .. })), 1);
    assert_eq!(
        pool.count(|event| *event == PoolEvent::Recovered),
        0,
        "to be ready proves nothing now"
    );
    pool.auto_ready = true;
    pool.advance_ms(60_000);
    let id = pool.submit(task("p"));
    pool.done(id);
    assert_eq!(pool.count(|event| *event == PoolEvent::Recovered), 1);
}

#[test]
fn a_worker_that_dies_under_a_task_is_no_failed_start() {
    let mut pool = Pool::new(quiet(1));
    for _ in 0..50 {
        let id = pool.submit(pool_core::event::NewTask { max_attempts: 1, ..task("p") });
        let worker = pool.worker_of(id);
        pool.gone(worker, Cause::EngineFatal);
        // As the shell does at the end of each turn.
        pool.tick();
    }
    assert_eq!(pool.core.degraded(), None);
    assert_eq!(pool.core.stats().available, 1, "replaced at once");
}

#[test]
fn a_large_pool_is_started_a_part_at_a_tick() {
    let mut pool = Pool::unstarted(quiet(100));
    pool.auto_ready = false;
    let mut ordered = Vec::new();
    while ordered.last() != Some(&100) {
        pool.tick();
        ordered.push(pool.spawning().len());
        assert!(ordered.len() < 10, "no more are ordered: {ordered:?}");
        let next = pool.core.next_deadline().expect("the spawn timeouts");
        assert!(
            ordered.last() == Some(&100) || next.0 <= pool.now_us + 1,
            "the next part is due at once"
        );
        pool.now_us += 1;
    }
    assert_eq!(ordered, [32, 64, 96, 100]);
}

#[test]
fn one_failed_start_among_living_workers_is_not_yet_a_degraded_pool() {
    let mut pool = Pool::new(Settings { auto_scale: true, max_workers: 2, ..quiet(1) });
    pool.auto_ready = false;
    for _ in 0..3 {
        pool.submit(task("p"));
    }
    assert_eq!(pool.spawning().len(), 1);
    fail_all_spawns(&mut pool);
    assert_eq!(pool.core.degraded(), None);
    next_failure(&mut pool);
    next_failure(&mut pool);
    assert!(pool.core.degraded().is_some(), "three in a row are");
    assert!(pool.core.is_ready(), "what lives goes on");
}

#[test]
fn a_late_word_of_a_worker_that_was_given_up_changes_nothing() {
    let mut pool = failing_pool(quiet(1));
    pool.auto_gone = false;
    let worker = pool.spawning()[0];
    pool.advance_ms(10_000);
    pool.handle(Event::WorkerReady { worker });
    let id = pool.submit(task("p"));
    assert!(!pool.is_held(id));
    pool.gone(worker, Cause::KilledFromOutside);
    assert_eq!(pool.verdict_of(worker), Cause::SpawnFailed);
}

#[test]
fn after_deaths_right_after_ready_a_worker_that_lives_for_a_second_is_proof() {
    let mut pool = failing_pool(Settings { heartbeat_interval_ms: 500, ..quiet(1) });
    let worker = pool.spawning()[0];
    pool.ready(worker);
    pool.gone(worker, Cause::Exited);
    assert!(pool.core.degraded().is_some());
    pool.auto_ready = true;
    pool.advance_ms(130);
    let worker = *pool.workers.keys().next().expect("tried again");
    for (passed_ms, recovered) in [(500, 0), (1000, 1)] {
        pool.advance_ms(500);
        pool.handle(Event::Heartbeat { worker, rss_bytes: 1, cpu_us: 1 });
        assert_eq!(
            pool.count(|event| *event == PoolEvent::Recovered),
            recovered,
            "after {passed_ms} ms"
        );
    }
}
