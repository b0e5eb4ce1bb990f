//! Project limits, bounds of the queue, and what is refused at the door.

mod common;

use common::{Pool, quiet, task, with_project};
use pool_core::action::PoolEvent;
use pool_core::event::{Event, NewTask};
use pool_core::settings::{Lane, ProjectSettings, Settings};
use pool_protocol::id::TaskId;
use pool_protocol::outcome::{Cause, ErrorCode};

fn limited(workers: u32, limit: u32) -> Settings {
    with_project(quiet(workers), "p", ProjectSettings { limit: Some(limit), ..ProjectSettings::default() })
}

fn submit_many(pool: &mut Pool, count: usize) -> Vec<TaskId> {
    (0..count).map(|_| pool.submit(task("p"))).collect()
}

fn held(pool: &Pool, tasks: &[TaskId]) -> usize {
    tasks.iter().filter(|task| pool.is_held(**task)).count()
}

#[test]
fn a_project_limit_queues_and_does_not_refuse() {
    let mut pool = Pool::new(limited(4, 2));
    let tasks = submit_many(&mut pool, 10);
    assert_eq!(held(&pool, &tasks), 2);
    assert_eq!(pool.project_running("p"), 2);
    assert!(pool.ended.is_empty());
    for task in tasks.clone() {
        assert!(pool.is_held(task), "in their order, two at a time");
        pool.done(task);
        assert!(pool.project_running("p") <= 2);
    }
    assert_eq!(pool.ended.len(), 10);
    pool.assert_nothing_is_used();
}

#[test]
fn a_limit_holds_over_both_lanes() {
    let mut pool = Pool::new(Settings { min_workers: 2, max_workers: 4, ..limited(2, 1) });
    let js = pool.submit(task("p"));
    let io = pool.submit(NewTask { lane: Lane::Io, ..task("p") });
    assert!(pool.is_held(js) && !pool.is_held(io));
    pool.done(js);
    assert!(pool.is_held(io), "the other lane's task gets the place");
}

#[test]
fn other_projects_pass_one_that_is_at_its_limit() {
    let mut pool = Pool::new(limited(2, 1));
    let tasks = submit_many(&mut pool, 3);
    let other = pool.submit(task("other"));
    assert!(pool.is_held(tasks[0]) && pool.is_held(other));
}

#[test]
fn a_limit_of_zero_pauses_the_project() {
    let mut pool = Pool::new(limited(2, 0));
    let tasks = submit_many(&mut pool, 3);
    pool.advance_ms(10_000);
    assert_eq!(held(&pool, &tasks), 0);
    pool.set_limit("p", 1);
    assert_eq!(held(&pool, &tasks), 1);
}

#[test]
fn changing_a_limit_takes_effect_at_once() {
    let mut pool = Pool::new(limited(4, 1));
    let tasks = submit_many(&mut pool, 4);
    pool.set_limit("p", 3);
    assert_eq!(held(&pool, &tasks), 3, "raised: more run");
    pool.set_limit("p", 1);
    pool.done(tasks[0]);
    pool.done(tasks[1]);
    assert_eq!(held(&pool, &tasks), 1, "lowered: nothing more starts");
    pool.done(tasks[2]);
    assert!(pool.is_held(tasks[3]));
}

#[test]
fn lowering_a_limit_takes_back_what_has_not_started() {
    let mut pool = Pool::new(quiet(2));
    pool.teach("p", 10);
    let tasks = submit_many(&mut pool, 12);
    assert_eq!(held(&pool, &tasks), 12, "tiny tasks are held several at a time");
    pool.set_limit("p", 1);
    assert_eq!(pool.project_running("p"), 2, "what runs goes on");
    assert_eq!(held(&pool, &tasks), 2, "the rest came back");
}

#[test]
fn a_project_at_its_limit_still_gets_credit_where_it_runs() {
    let mut pool = Pool::new(limited(2, 1));
    pool.teach("p", 10);
    let tasks = submit_many(&mut pool, 8);
    assert_eq!(held(&pool, &tasks), 8);
    let workers: std::collections::BTreeSet<_> = tasks.iter().map(|task| pool.worker_of(*task)).collect();
    assert_eq!(workers.len(), 1, "one worker runs them one after the other");
    assert_eq!(pool.project_running("p"), 1);
}

#[test]
fn a_limit_set_by_hand_outlives_a_reload_that_does_not_name_the_project() {
    let mut pool = Pool::new(quiet(4));
    pool.set_limit("p", 1);
    pool.handle(Event::Reload(Box::new(quiet(4))));
    let tasks = submit_many(&mut pool, 3);
    assert_eq!(held(&pool, &tasks), 1);
    pool.handle(Event::Reload(Box::new(limited(4, 2))));
    assert_eq!(held(&pool, &tasks), 2, "a configuration that names it goes before");
}

#[test]
fn project_usage_does_not_leak() {
    let mut pool = Pool::new(limited(1, 1));
    let endings: [fn(&mut Pool, TaskId); 6] = [
        |pool, task| pool.done(task),
        |pool, task| pool.fail(task, ErrorCode::JsSyntax),
        |pool, task| {
            let worker = pool.worker_of(task);
            pool.fail(task, ErrorCode::Timeout);
            pool.gone(worker, Cause::Exited);
        },
        |pool, task| {
            assert!(pool.cancel(task));
            pool.advance_ms(300);
        },
        |pool, task| {
            for _ in 0..2 {
                let worker = pool.worker_of(task);
                pool.gone(worker, Cause::EngineFatal);
                pool.advance_ms(2000);
            }
        },
        |pool, task| {
            for _ in 0..3 {
                pool.fail(task, ErrorCode::HttpError);
                pool.advance_ms(5000);
            }
        },
    ];
    for (number, end) in endings.into_iter().enumerate() {
        let id = pool.submit(task("p"));
        assert!(pool.is_held(id), "ending {number}: the project may run one");
        assert_eq!(pool.project_running("p"), 1);
        end(&mut pool, id);
        assert!(pool.ended.contains_key(&id), "ending {number}");
        pool.assert_nothing_is_used();
    }
}

#[test]
fn bodies_that_wait_are_bounded_in_bytes_and_given_back_at_the_end() {
    let mut pool = Pool::new(Settings { queue_bytes: 250, ..quiet(1) });
    let of = |body_bytes| NewTask { body_bytes, ..task("p") };
    let first = pool.submit(of(100));
    pool.submit(of(100));
    assert_eq!(pool.try_submit(of(51)), Err(ErrorCode::QueueFull));
    pool.submit(of(50));
    pool.done(first);
    pool.submit(of(100));
    assert_eq!(pool.try_submit(of(1)), Err(ErrorCode::QueueFull));
}

#[test]
fn a_full_queue_refuses_and_says_so_once_until_there_is_room() {
    let mut pool = Pool::new(Settings { queue_size: 2, ..quiet(1) });
    let running = pool.submit(task("p"));
    pool.submit(task("p"));
    pool.submit(task("p"));
    for _ in 0..3 {
        assert_eq!(pool.try_submit(task("p")), Err(ErrorCode::QueueFull));
    }
    assert_eq!(pool.count(|event| *event == PoolEvent::QueueFull), 1);
    pool.done(running);
    pool.submit(task("p"));
    assert_eq!(pool.try_submit(task("p")), Err(ErrorCode::QueueFull));
    assert_eq!(pool.count(|event| *event == PoolEvent::QueueFull), 2);
}

#[test]
fn a_project_may_have_a_bound_of_its_own_in_the_queue() {
    let bound = ProjectSettings { max_queued: Some(1), ..ProjectSettings::default() };
    let mut pool = Pool::new(with_project(quiet(1), "p", bound));
    pool.submit(task("p"));
    pool.submit(task("p"));
    assert_eq!(pool.try_submit(task("p")), Err(ErrorCode::ProjectQuota));
    assert!(pool.try_submit(task("other")).is_ok());
}

#[test]
fn a_deadline_that_cannot_be_met_is_refused() {
    let mut pool = Pool::new(quiet(1));
    let unreachable = Err(ErrorCode::DeadlineUnreachable);
    assert_eq!(pool.try_submit(NewTask { deadline_ms: Some(0), ..task("p") }), unreachable);
    assert_eq!(pool.try_submit(NewTask { deadline_ms: Some(50), delay_ms: 50, ..task("p") }), unreachable);
    assert!(pool.try_submit(NewTask { deadline_ms: Some(50), delay_ms: 49, ..task("p") }).is_ok());
}

#[test]
fn the_same_key_is_the_same_task_as_long_as_its_outcome_is_kept() {
    let mut pool = Pool::new(quiet(1));
    let keyed = || NewTask { idempotency_key: Some("k"), ..task("p") };
    let id = pool.submit(keyed());
    assert_eq!(pool.submit(keyed()), id);
    assert_ne!(pool.submit(NewTask { idempotency_key: Some("k"), ..task("q") }), id, "keys belong to projects");
    pool.handle(Event::Forget { task: id });
    assert_eq!(pool.submit(keyed()), id, "a task that has not ended is not forgotten");
    pool.done(id);
    assert_eq!(pool.submit(keyed()), id, "its kept outcome is delivered");
    let last = pool.actions.last().cloned();
    assert!(matches!(last, Some(pool_core::action::Action::AcceptEnded { task, .. }) if task == id));
    pool.handle(Event::Forget { task: id });
    assert_ne!(pool.submit(keyed()), id, "a new task");
}

#[test]
fn limits_of_a_task_are_lowered_to_the_pools_never_raised() {
    let mut pool = Pool::new(quiet(1));
    pool.submit(NewTask { cpu_ms: Some(u64::MAX), memory_bytes: Some(1 << 20), ..task("p") });
    let assigned = pool.actions.iter().find_map(|action| match action {
        pool_core::action::Action::Assign { cpu_ms, memory_bytes, timeout_ms, .. } => {
            Some((*cpu_ms, *memory_bytes, *timeout_ms))
        }
        _ => None,
    });
    assert_eq!(assigned, Some((60_000, 1 << 20, 300_000)));
}
