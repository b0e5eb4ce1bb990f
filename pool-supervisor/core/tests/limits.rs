//! Project limits, bounds of the queue, and what is refused at the door.

mod common;

use common::{CLIENT, Pool, quiet, task, with_project};
use pool_core::Core;
use pool_core::action::PoolEvent;
use pool_core::answer::Submission;
use pool_core::event::{Event, NewTask};
use pool_core::seeds::Seeds;
use pool_core::settings::{ProjectSettings, Settings};
use pool_core::time::Time;
use pool_protocol::id::TaskId;
use pool_protocol::lane::Lane;
use pool_protocol::outcome::{Cause, ErrorCode};

fn limited(workers: u32, limit: u32) -> Settings {
    with_project(
        quiet(workers),
        "p",
        ProjectSettings { limit: Some(limit), ..ProjectSettings::default() },
    )
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
    let workers: std::collections::BTreeSet<_> =
        tasks.iter().map(|task| pool.worker_of(*task)).collect();
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
    let of = |project, body_bytes| NewTask { body_bytes, ..task(project) };
    let first = pool.submit(of("p", 100));
    pool.submit(of("q", 100));
    assert_eq!(pool.try_submit(of("r", 51)), Err(ErrorCode::QueueFull));
    pool.submit(of("r", 50));
    pool.done(first);
    pool.submit(of("p", 100));
    assert_eq!(pool.try_submit(of("r", 1)), Err(ErrorCode::QueueFull));
    assert_eq!(pool.try_submit(of("r", 251)), Err(ErrorCode::InvalidTask), "it would never fit");
}

/// Row 64: delayed tasks count, however long they are delayed.
#[test]
fn hostile_64_one_project_gets_half_of_the_queue_unless_the_configuration_says_otherwise() {
    let wide = ProjectSettings { max_queued: Some(9), ..ProjectSettings::default() };
    let mut pool = Pool::new(with_project(Settings { queue_size: 10, ..quiet(1) }, "wide", wide));
    let delayed = |project| NewTask { delay_ms: 2_592_000_000, ..task(project) };
    for _ in 0..5 {
        pool.submit(delayed("greedy"));
    }
    assert_eq!(pool.try_submit(delayed("greedy")), Err(ErrorCode::ProjectQuota));
    let other = pool.submit(task("other"));
    pool.done(other);
    for _ in 0..5 {
        pool.submit(delayed("wide"));
    }
    assert_eq!(
        pool.try_submit(delayed("wide")),
        Err(ErrorCode::QueueFull),
        "its own bound is higher"
    );
}

#[test]
fn one_project_gets_half_of_the_queues_bytes_but_a_single_task_may_be_larger() {
    let mut pool = Pool::new(Settings { queue_bytes: 200, ..quiet(1) });
    let of = |project, body_bytes| NewTask { body_bytes, ..task(project) };
    let large = pool.submit(of("p", 150));
    assert_eq!(pool.try_submit(of("p", 1)), Err(ErrorCode::ProjectQuota));
    let small = pool.submit(of("q", 50));
    pool.done(large);
    pool.done(small);
    pool.submit(of("p", 60));
    pool.submit(of("p", 40));
    assert_eq!(pool.try_submit(of("p", 1)), Err(ErrorCode::ProjectQuota));
    pool.submit(of("q", 100));
}

#[test]
fn a_limit_that_was_set_can_be_lifted_and_the_configurations_holds_again() {
    let mut pool = Pool::new(limited(4, 2));
    for (project, configured) in [("p", Some(2)), ("q", None)] {
        pool.set_limit(project, 1);
        assert_eq!(pool.core.limit_of(project), Some(1));
        pool.handle(Event::SetLimit { project, limit: None });
        assert_eq!(pool.core.limit_of(project), configured);
    }
    let tasks: Vec<TaskId> = (0..4).map(|_| pool.submit(task("q"))).collect();
    assert_eq!(held(&pool, &tasks), 4);
    pool.handle(Event::SetLimit { project: "nobody", limit: None });
    assert!(
        pool.core.projects().all(|project| project.name != "nobody"),
        "nothing is made for what is not there"
    );
}

/// Row 61: anybody may make up names.
#[test]
fn hostile_61_limits_of_made_up_projects_are_bounded_and_room_comes_back_when_they_are_lifted() {
    let mut core = Core::new(Time(0), quiet(1), TaskId(1), Seeds::fixed(1));
    let mut out = Vec::new();
    let names: Vec<String> = (0..40_000).map(|number| format!("made-up-{number}")).collect();
    for project in &names {
        core.handle(Time(0), Event::SetLimit { project, limit: Some(1) }, &mut out);
    }
    let limits = |core: &Core| core.projects().filter(|project| project.limit.is_some()).count();
    assert_eq!(limits(&core), 32_768);
    assert!(!core.may_set_limit("one-more") && core.may_set_limit(&names[0]));
    for project in &names {
        core.handle(Time(0), Event::SetLimit { project, limit: None }, &mut out);
    }
    assert_eq!(limits(&core), 0);
    assert!(core.may_set_limit("one-more"));
}

#[test]
fn a_full_queue_refuses_and_says_so_once_until_there_is_room() {
    let mut pool = Pool::new(Settings { queue_size: 2, ..quiet(1) });
    let running = pool.submit(task("p"));
    pool.submit(task("p"));
    pool.submit(task("q"));
    for _ in 0..3 {
        assert_eq!(pool.try_submit(task("p")), Err(ErrorCode::QueueFull));
    }
    assert_eq!(pool.count(|event| *event == PoolEvent::QueueFull), 1);
    pool.done(running);
    pool.submit(task("r"));
    assert_eq!(pool.try_submit(task("s")), Err(ErrorCode::QueueFull));
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
    assert_eq!(
        pool.try_submit(NewTask { deadline_ms: Some(50), delay_ms: 50, ..task("p") }),
        unreachable
    );
    assert!(pool.try_submit(NewTask { deadline_ms: Some(50), delay_ms: 49, ..task("p") }).is_ok());
}

#[test]
fn the_same_key_is_the_same_task_as_long_as_its_outcome_is_kept() {
    let mut pool = Pool::new(quiet(1));
    let keyed = || NewTask { idempotency_key: Some("k"), ..task("p") };
    let id = pool.submit(keyed());
    assert_eq!(pool.submit(keyed()), id);
    assert_ne!(
        pool.submit(NewTask { idempotency_key: Some("k"), ..task("q") }),
        id,
        "keys belong to projects"
    );
    pool.handle(Event::Forget { task: id });
    assert_eq!(pool.submit(keyed()), id, "a task that has not ended is not forgotten");
    pool.done(id);
    assert_eq!(
        pool.answer_to(CLIENT, keyed()),
        Submission::KnownEnded { task: id },
        "its kept outcome is delivered"
    );
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
