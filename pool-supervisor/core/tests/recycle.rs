//! Recycling: after a count of tasks, above a size, after an age; the replacement is ready before
//! the old one leaves.

mod common;

use common::{Pool, quiet, task};
use pool_core::action::Action;
use pool_core::event::{AttemptEnd, Event};
use pool_core::settings::Settings;
use pool_core::stats::WorkerStatus;
use pool_protocol::id::{TaskId, WorkerId};
use pool_protocol::outcome::{Cause, Status};

fn only_worker(pool: &Pool) -> WorkerId {
    assert_eq!(pool.living(), 1);
    *pool.workers.keys().next().expect("one")
}

/// The task that has run for the longest time.
fn running(pool: &Pool) -> Option<TaskId> {
    pool.workers.values().filter_map(|process| process.tasks.first().map(|(task, _)| *task)).min()
}

#[test]
fn a_worker_is_replaced_after_its_count_of_tasks_give_or_take_a_tenth() {
    let mut pool = Pool::new(Settings { max_tasks_per_worker: 100, ..quiet(1) });
    let mut counts = Vec::new();
    for _ in 0..20 {
        let worker = only_worker(&pool);
        let mut count = 0;
        while pool.workers.contains_key(&worker) {
            let id = pool.submit(task("p"));
            pool.advance_us(1000);
            pool.done(id);
            count += 1;
        }
        assert_eq!(pool.verdict_of(worker), Cause::Recycled);
        counts.push(count);
    }
    assert!(counts.iter().all(|count| (90..=110).contains(count)), "{counts:?}");
    assert!(counts.iter().any(|count| *count != counts[0]), "not all in step: {counts:?}");
}

#[test]
fn the_replacement_is_ready_before_the_old_one_leaves() {
    let mut pool = Pool::new(Settings { max_tasks_per_worker: 1, ..quiet(1) });
    let old = only_worker(&pool);
    pool.auto_ready = false;
    let id = pool.submit(task("p"));
    pool.done(id);
    assert_eq!(pool.living(), 2, "the replacement is being started");
    assert!(!pool.workers[&old].retiring);
    let stats = pool.core.stats();
    assert_eq!((stats.workers, stats.available), (1, 1), "one worker, and it takes tasks");
    let during = pool.submit(task("p"));
    assert_eq!(pool.worker_of(during), old, "the old one takes tasks until then");
    let new = pool.spawning()[0];
    pool.ready(new);
    assert!(pool.workers[&old].retiring);
    let after = pool.submit(task("p"));
    assert_eq!(pool.worker_of(after), new);
    pool.done(during);
    assert_eq!(pool.verdict_of(old), Cause::Recycled, "it left after the task that it had started");
    assert_eq!(pool.status_of(during), Status::Succeeded);
}

#[test]
fn the_queue_goes_on_after_a_recycle() {
    let mut pool = Pool::new(Settings { max_tasks_per_worker: 5, ..quiet(2) });
    let tasks: Vec<TaskId> = (0..500).map(|_| pool.submit(task("p"))).collect();
    while let Some(id) = running(&pool) {
        pool.advance_us(200);
        pool.done_after_us(id, 200);
    }
    assert!(tasks.iter().all(|id| pool.ended.contains_key(id)));
    let retired = pool.count_actions(|action| matches!(action, Action::Retire { .. }));
    assert!(retired > 80, "{retired}");
    assert_eq!(pool.core.stats().workers, 2);
}

#[test]
fn workers_that_are_used_up_faster_than_new_ones_start_do_not_stall_the_queue() {
    let mut pool = Pool::new(Settings { max_tasks_per_worker: 1, ..quiet(2) });
    pool.auto_ready = false;
    let tasks: Vec<TaskId> = (0..300).map(|_| pool.submit(task("p"))).collect();
    let mut turns = 0;
    while let Some(id) = running(&pool) {
        pool.advance_us(200);
        pool.done_after_us(id, 200);
        turns += 1;
        if turns % 50 == 0 {
            pool.ready_all();
        }
        assert!(pool.living() <= 4, "a worker and its replacement, no more");
        assert!(pool.core.stats().workers >= 2, "capacity never dips");
    }
    assert!(tasks.iter().all(|id| pool.ended.contains_key(id)));
}

/// A worker whose start takes so long, ready.
fn slow_to_start(settings: Settings, start_us: u64) -> (Pool, WorkerId) {
    let mut pool = Pool::unstarted(settings);
    pool.auto_ready = false;
    pool.tick();
    pool.advance_us(start_us);
    pool.ready_all();
    let worker = only_worker(&pool);
    (pool, worker)
}

#[test]
fn tiny_tasks_do_not_use_a_worker_up_before_it_has_worked_for_80_times_as_long_as_a_start_takes() {
    let (mut pool, worker) =
        slow_to_start(Settings { max_tasks_per_worker: 100, ..quiet(1) }, 4_000);
    for _ in 0..3_199 {
        let id = pool.submit(task("p"));
        pool.advance_us(100);
        pool.done_after_us(id, 100);
    }
    assert_eq!(pool.spawning(), [], "319.9 ms of 320");
    pool.advance_us(99);
    assert_eq!(pool.spawning(), []);
    pool.advance_us(1);
    assert_eq!(pool.spawning().len(), 1, "also when no further task ends");
    pool.ready_all();
    assert_eq!(pool.verdict_of(worker), Cause::Recycled);
}

#[test]
fn tasks_that_are_not_tiny_are_counted_exactly() {
    let (mut pool, _) = slow_to_start(Settings { max_tasks_per_worker: 3, ..quiet(1) }, 4_000);
    for ended in 1..=3 {
        assert_eq!(pool.spawning(), [], "after {ended}");
        let id = pool.submit(task("p"));
        pool.advance_us(20_000);
        pool.done_after_us(id, 20_000);
    }
    assert_eq!(pool.spawning().len(), 1);
}

/// Whatever the tasks are, starts take a tenth of the time at most.
#[test]
fn a_worker_serves_for_ten_times_as_long_as_a_start_takes() {
    for run_us in [10, 100, 299, 300, 1_000, 5_000, 39_000] {
        let (mut pool, _) = slow_to_start(Settings { max_tasks_per_worker: 1, ..quiet(1) }, 4_000);
        let mut used_us = 0;
        while pool.spawning().is_empty() {
            let id = pool.submit(task("p"));
            pool.advance_us(run_us);
            pool.done_after_us(id, run_us);
            used_us += run_us;
        }
        assert!(used_us >= 40_000, "tasks of {run_us} us: replaced after {used_us} us");
    }
}

/// A loaded machine: each task uses 20 us, and takes half a millisecond.
#[test]
fn run_time_that_a_loaded_machine_has_added_does_not_use_a_worker_up() {
    const USED_20: AttemptEnd = AttemptEnd {
        code: None,
        run_us: 500,
        cpu_us: 20,
        busy_us: 20,
        memory_bytes: 1,
        retry_after_ms: 0,
        spoiled: false,
    };
    let (mut pool, _) = slow_to_start(Settings { max_tasks_per_worker: 10, ..quiet(1) }, 4_000);
    for _ in 0..1_999 {
        let id = pool.submit(task("p"));
        pool.advance_us(500);
        pool.report(id, USED_20);
    }
    assert_eq!(pool.spawning(), [], "39.98 ms of use");
    let id = pool.submit(task("p"));
    pool.advance_us(500);
    pool.report(id, USED_20);
    assert_eq!(pool.spawning().len(), 1);
}

/// Tasks of less than a microsecond: their worker tells the whole ones that they add up to.
#[test]
fn parts_of_a_microsecond_use_a_worker_up() {
    const PART: AttemptEnd = AttemptEnd {
        code: None,
        run_us: 0,
        cpu_us: 0,
        busy_us: 1,
        memory_bytes: 1,
        retry_after_ms: 0,
        spoiled: false,
    };
    let (mut pool, _) = slow_to_start(Settings { max_tasks_per_worker: 10, ..quiet(1) }, 100);
    let mut tasks = 0;
    while pool.spawning().is_empty() && tasks < 20_000 {
        let id = pool.submit(task("p"));
        pool.advance_us(1);
        pool.report(id, PART);
        tasks += 1;
    }
    assert_eq!(pool.spawning().len(), 1, "after {tasks} tasks");
}

#[test]
fn a_slow_start_does_not_lengthen_a_life_where_others_were_faster() {
    let mut pool = Pool::unstarted(Settings { max_tasks_per_worker: 1, ..quiet(2) });
    pool.auto_ready = false;
    pool.tick();
    let [fast, slow] = pool.spawning()[..] else { panic!("two are started") };
    pool.advance_us(3);
    pool.ready(fast);
    pool.advance_ms(1_000);
    pool.ready(slow);
    let tasks = [pool.submit(task("p")), pool.submit(task("p"))];
    let id = *tasks.iter().find(|id| pool.worker_of(**id) == slow).expect("each has one");
    pool.advance_us(239);
    pool.done_after_us(id, 239);
    assert_eq!(pool.spawning(), []);
    pool.advance_us(1);
    assert_eq!(pool.spawning().len(), 1);
}

#[test]
fn a_start_that_took_very_long_is_no_measure() {
    let (mut pool, _) =
        slow_to_start(Settings { max_tasks_per_worker: 100, ..quiet(1) }, 9_000_000);
    for _ in 0..25_000 {
        let id = pool.submit(task("p"));
        pool.advance_us(199);
        pool.done_after_us(id, 199);
    }
    assert_eq!(pool.spawning(), [], "4,975 ms of 5,000");
    pool.advance_us(25_000);
    assert_eq!(pool.spawning().len(), 1);
}

#[test]
fn a_worker_above_its_memory_is_replaced() {
    let mut pool = Pool::new(Settings { max_memory_per_worker: 1000, ..quiet(1) });
    let old = only_worker(&pool);
    pool.handle(Event::Heartbeat { worker: old, rss_bytes: 1000, cpu_us: 0 });
    assert!(pool.workers.contains_key(&old));
    pool.handle(Event::Heartbeat { worker: old, rss_bytes: 1001, cpu_us: 0 });
    assert_eq!(pool.verdict_of(old), Cause::Recycled);
    assert_eq!(pool.core.stats().available, 1);
}

#[test]
fn a_worker_of_age_is_replaced() {
    let mut pool = Pool::new(Settings { max_worker_age_ms: 60_000, ..quiet(1) });
    let old = only_worker(&pool);
    pool.advance_ms(59_990);
    assert!(pool.workers.contains_key(&old));
    pool.advance_ms(20);
    assert_eq!(pool.verdict_of(old), Cause::Recycled);
    assert_eq!(pool.core.stats().available, 1);
}

#[test]
fn a_retiring_worker_gives_back_what_it_has_not_started() {
    let mut pool = Pool::new(Settings { max_worker_age_ms: 60_000, ..quiet(1) });
    pool.teach("p", 10);
    let old = only_worker(&pool);
    pool.advance_ms(59_990);
    pool.auto_ready = false;
    let first = pool.submit(task("p"));
    let second = pool.submit(task("p"));
    pool.advance_ms(100);
    // Both have been held for long: the second was taken back as soon as the first did not end.
    assert_eq!(pool.worker_of(first), old);
    assert!(!pool.is_held(second));
    pool.ready_all();
    assert!(pool.is_held(second) && pool.worker_of(second) != old);
    assert_eq!(pool.worker_of(first), old, "it finishes what it has started");
    pool.done(first);
    assert!(!pool.workers.contains_key(&old));
}

#[test]
fn a_recycled_worker_that_does_not_exit_is_killed_as_recycled() {
    let mut pool = Pool::new(Settings { max_tasks_per_worker: 1, ..quiet(1) });
    let old = only_worker(&pool);
    let id = pool.submit(task("p"));
    // It is retired while the test does not let it leave.
    let (worker, attempt) = pool.holder(id).expect("held");
    pool.workers.get_mut(&worker).expect("alive").tasks.push((TaskId(1), 1));
    pool.workers.get_mut(&worker).expect("alive").tasks.retain(|(task, _)| *task != id);
    let end = AttemptEnd {
        code: None,
        run_us: 1,
        cpu_us: 0,
        busy_us: 1,
        memory_bytes: 0,
        retry_after_ms: 0,
        spoiled: false,
    };
    pool.word(worker, id, attempt, end);
    assert!(pool.workers[&old].retiring);
    pool.advance_ms(1_999);
    assert!(!pool.was_killed(old));
    pool.advance_ms(1);
    assert!(pool.was_killed(old));
    assert_eq!(pool.verdict_of(old), Cause::Recycled);
}

#[test]
fn an_old_worker_that_dies_leaves_its_place_to_the_replacement() {
    let mut pool = Pool::new(Settings { max_tasks_per_worker: 1, ..quiet(1) });
    let old = only_worker(&pool);
    pool.auto_ready = false;
    let id = pool.submit(task("p"));
    pool.done(id);
    pool.gone(old, Cause::KilledFromOutside);
    assert_eq!(pool.living(), 1, "no third one is started");
    pool.ready_all();
    assert_eq!(pool.core.stats().available, 1);
}

#[test]
fn a_replacement_that_cannot_be_started_leaves_the_old_one_at_work() {
    let mut pool = Pool::new(Settings { max_tasks_per_worker: 1, ..quiet(1) });
    let old = only_worker(&pool);
    pool.auto_ready = false;
    let id = pool.submit(task("p"));
    pool.done(id);
    let new = pool.spawning()[0];
    pool.workers.remove(&new);
    pool.handle(Event::SpawnFailed { worker: new, reason: "no memory".into() });
    let next = pool.submit(task("p"));
    assert_eq!(pool.worker_of(next), old);
    pool.advance_ms(200);
    assert_eq!(pool.spawning().len(), 1, "after the back-off it is tried again");
}

#[test]
fn workers_under_old_settings_are_replaced_one_by_one_the_replacement_ready_first() {
    let mut pool = Pool::new(quiet(4));
    let old: Vec<WorkerId> = pool.workers.keys().copied().collect();
    pool.auto_ready = false;
    pool.handle(Event::RecycleWorkers);
    let mut rounds = 0;
    while !pool.spawning().is_empty() {
        assert!(pool.spawning().len() <= 2, "at most half at a time");
        assert_eq!(pool.core.stats().available, 4, "capacity never dips");
        let next = pool.spawning()[0];
        pool.ready(next);
        rounds += 1;
        assert!(rounds <= 4);
    }
    assert!(old.iter().all(|worker| !pool.workers.contains_key(worker)));
    assert!(pool.core.workers().all(|worker| worker.state == WorkerStatus::Idle));
}

#[test]
fn what_a_retired_worker_holds_unstarted_goes_to_its_replacement_at_once() {
    let mut pool = Pool::new(quiet(1));
    pool.teach("p", 10);
    let old = only_worker(&pool);
    pool.auto_ready = false;
    pool.handle(Event::RecycleWorkers);
    let tasks: Vec<TaskId> = (0..3).map(|_| pool.submit(task("p"))).collect();
    assert!(tasks.iter().all(|id| pool.worker_of(*id) == old));
    pool.ready_all();
    assert_eq!(pool.worker_of(tasks[0]), old);
    assert!(tasks[1..].iter().all(|id| pool.worker_of(*id) != old));
}

#[test]
fn a_replacement_does_not_take_the_place_of_another_worker_that_died() {
    let mut pool = Pool::new(Settings { max_tasks_per_worker: 1, ..quiet(2) });
    pool.auto_ready = false;
    let id = pool.submit(task("p"));
    let used_up = pool.worker_of(id);
    pool.done(id);
    assert_eq!(pool.spawning().len(), 1);
    let other = *pool
        .workers
        .iter()
        .find(|(id, process)| **id != used_up && process.ready)
        .expect("two are ready")
        .0;
    let running = [pool.submit(task("p")), pool.submit(task("p"))];
    assert!(running.iter().any(|id| pool.worker_of(*id) == other));
    pool.gone(other, Cause::KilledFromOutside);
    assert_eq!(pool.spawning().len(), 2, "one for each");
}
