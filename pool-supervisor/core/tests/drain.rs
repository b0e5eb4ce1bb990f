//! Drain and shutdown: no new tasks; running ones finish in time or are cancelled; then the end,
//! always.

mod common;

use common::{EndText, Pool, quiet, task, with_project};
use pool_core::action::Action;
use pool_core::event::{Event, NewTask};
use pool_core::settings::{ProjectSettings, Settings};
use pool_protocol::id::TaskId;
use pool_protocol::lane::Lane;
use pool_protocol::outcome::{ErrorCode, Status};
use pool_protocol::policy::RetryPolicy;

#[test]
fn a_draining_pool_takes_no_new_tasks_and_finishes_those_it_has() {
    let mut pool = Pool::new(quiet(1));
    let running = pool.submit(task("p"));
    let waiting = pool.submit(task("p"));
    pool.handle(Event::Drain);
    assert!(pool.core.draining() && !pool.core.is_ready());
    assert_eq!(pool.try_submit(task("p")), Err(ErrorCode::ShuttingDown));
    pool.advance_ms(1000);
    pool.done(running);
    assert!(pool.is_held(waiting) && !pool.exited);
    pool.done(waiting);
    assert_eq!(pool.status_of(waiting), Status::Succeeded);
    assert!(pool.exited, "all tasks have ended and all workers have left");
    assert_eq!(pool.living(), 0);
    assert_eq!(pool.count_actions(|action| matches!(action, Action::Kill { .. })), 0);
}

#[test]
fn a_pool_with_nothing_to_do_drains_at_once() {
    let mut pool = Pool::new(quiet(3));
    pool.handle(Event::Drain);
    assert!(pool.exited);
    assert_eq!(pool.try_submit(task("p")), Err(ErrorCode::ShuttingDown));
    assert_eq!(pool.core.next_deadline(), None, "nothing is left to wake up for");
}

#[test]
fn what_is_left_after_the_drain_timeout_is_cancelled() {
    let mut pool = Pool::new(quiet(1));
    let running = pool.submit(task("p"));
    let waiting = pool.submit(task("p"));
    let delayed = pool.submit(NewTask { delay_ms: 29_999, ..task("p") });
    pool.handle(Event::Drain);
    pool.advance_ms(29_999);
    assert!(pool.ended.is_empty());
    pool.advance_ms(1);
    assert_eq!(pool.status_of(waiting), Status::Cancelled);
    assert_eq!(pool.status_of(delayed), Status::Cancelled);
    assert!(pool.was_interrupted(running));
    pool.advance_ms(250);
    assert_eq!(pool.status_of(running), Status::Cancelled);
    assert!(pool.exited);
    pool.assert_nothing_is_used();
}

fn message_of(pool: &Pool, id: TaskId) -> &str {
    let EndText::Core { message, verdict: None } = &pool.end_of(id).text else {
        panic!("the core wrote it")
    };
    message
}

#[test]
fn what_could_not_run_before_the_drains_end_is_not_waited_for() {
    let mut pool = Pool::new(quiet(1));
    pool.set_limit("paused", 0);
    let running = pool.submit(task("p"));
    let retrying = pool.submit(NewTask {
        retry: RetryPolicy { initial_delay_ms: 30_000, jitter: 0.0, ..RetryPolicy::default() },
        ..task("q")
    });
    pool.done(running);
    pool.fail(retrying, ErrorCode::JsException);
    let delayed = pool.submit(NewTask { delay_ms: 30_000, ..task("p") });
    let sooner = pool.submit(NewTask { delay_ms: 29_000, ..task("p") });
    let paused = pool.submit(task("paused"));
    let paused_and_delayed = pool.submit(NewTask { delay_ms: 10, ..task("paused") });
    pool.handle(Event::Drain);
    for (id, why) in [
        (delayed, "its delay ends only after that"),
        (retrying, "its next attempt is due only after that"),
        (paused, "its project is paused"),
        (paused_and_delayed, "its project is paused"),
    ] {
        assert_eq!(pool.status_of(id), Status::Cancelled);
        assert_eq!(
            message_of(&pool, id),
            format!("the task was cancelled: the pool is stopping, and {why}")
        );
    }
    assert!(!pool.ended.contains_key(&sooner) && !pool.exited);
    pool.advance_ms(29_000);
    pool.done(sooner);
    assert!(pool.exited);
    pool.assert_nothing_is_used();
}

#[test]
fn a_task_that_fails_during_a_drain_is_not_tried_again_after_its_end() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(task("p"));
    pool.handle(Event::Drain);
    pool.advance_ms(29_500);
    pool.fail(id, ErrorCode::JsException);
    assert_eq!(
        (pool.code_of(id), pool.exited),
        (Some(ErrorCode::JsException), true),
        "a second would be too late"
    );
}

#[test]
fn a_project_that_is_paused_during_a_drain_is_not_waited_for() {
    let mut pool = Pool::new(quiet(1));
    pool.teach("p", 10);
    let running = pool.submit(task("p"));
    let held = pool.submit(task("p"));
    let waiting = pool.submit(NewTask { delay_ms: 5, ..task("p") });
    pool.handle(Event::Drain);
    pool.set_limit("p", 0);
    for id in [held, waiting] {
        assert_eq!(
            message_of(&pool, id),
            "the task was cancelled: the pool is stopping, and its project is paused"
        );
    }
    pool.fail(running, ErrorCode::JsException);
    assert_eq!(pool.code_of(running), Some(ErrorCode::JsException), "there is no other attempt");
    assert!(pool.exited);
}

#[test]
fn a_reload_that_pauses_a_project_during_a_drain_ends_its_waiting_tasks() {
    let mut pool = Pool::new(quiet(1));
    let running = pool.submit(task("p"));
    let waiting = pool.submit(task("q"));
    pool.handle(Event::Drain);
    let paused = ProjectSettings { limit: Some(0), ..ProjectSettings::default() };
    pool.handle(Event::Reload(Box::new(with_project(quiet(1), "q", paused))));
    assert_eq!(pool.status_of(waiting), Status::Cancelled);
    pool.done(running);
    assert!(pool.exited);
}

#[test]
fn retries_still_come_during_a_drain() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(task("p"));
    pool.handle(Event::Drain);
    pool.fail(id, ErrorCode::JsException);
    pool.advance_ms(1000);
    pool.done(id);
    assert_eq!(pool.status_of(id), Status::Succeeded);
    assert!(pool.exited);
}

#[test]
fn a_worker_that_dies_during_a_drain_is_replaced_while_tasks_are_left() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(task("p"));
    pool.handle(Event::Drain);
    let worker = pool.worker_of(id);
    pool.gone(worker, pool_protocol::outcome::Cause::KilledFromOutside);
    assert!(pool.is_held(id));
    pool.done(id);
    assert!(pool.exited);
}

#[test]
fn a_shutdown_ends_everything_at_once() {
    let mut pool = Pool::new(quiet(2));
    let tasks: Vec<_> = (0..5).map(|_| pool.submit(task("p"))).collect();
    pool.handle(Event::Drain);
    pool.handle(Event::Shutdown);
    for id in tasks {
        assert_eq!(pool.status_of(id), Status::Cancelled);
    }
    assert!(pool.exited);
    assert_eq!(pool.living(), 0);
}

#[test]
fn the_end_comes_even_if_the_system_does_not_end_a_process() {
    let mut pool = Pool::new(quiet(1));
    pool.auto_gone = false;
    let id = pool.submit(task("p"));
    pool.handle(Event::Shutdown);
    assert!(!pool.exited && !pool.ended.contains_key(&id));
    pool.advance_ms(2_000);
    assert_eq!(pool.status_of(id), Status::Cancelled);
    assert!(pool.exited);
}

#[test]
fn a_worker_that_does_not_retire_is_killed_and_the_end_comes() {
    let mut pool = Pool::new(quiet(1));
    let worker = *pool.workers.keys().next().expect("one");
    // To the test it still holds something, so it does not leave by itself.
    pool.workers.get_mut(&worker).expect("alive").tasks.push((pool_protocol::id::TaskId(1), 1));
    pool.handle(Event::Drain);
    assert!(!pool.exited);
    pool.advance_ms(2_000);
    assert!(pool.was_killed(worker) && pool.exited);
}

#[test]
fn a_drain_while_workers_cannot_be_started_ends() {
    let mut pool = Pool::unstarted(Settings { drain_timeout_ms: 5_000, ..quiet(1) });
    pool.auto_ready = false;
    pool.tick();
    let id = pool.submit(task("p"));
    let worker = pool.spawning()[0];
    pool.workers.remove(&worker);
    pool.handle(Event::SpawnFailed { worker, reason: "no such file".into() });
    pool.handle(Event::Drain);
    pool.advance_ms(5_000);
    assert_eq!(pool.status_of(id), Status::Cancelled);
    pool.advance_ms(5_000);
    assert!(pool.exited);
}

#[test]
fn a_drain_while_a_worker_is_being_started_ends() {
    let mut pool = Pool::unstarted(quiet(2));
    pool.auto_ready = false;
    pool.tick();
    pool.handle(Event::Drain);
    assert!(pool.exited, "a worker that is not ready is not waited for");
    pool.handle(Event::Drain);
    pool.handle(Event::Shutdown);
    assert_eq!(pool.count_actions(|action| *action == Action::Exit), 1);
}

#[test]
fn programs_that_a_drain_cancels_get_their_time_to_end() {
    let mut pool = Pool::new(Settings { kill_after_ms: 10_000, ..quiet(1) });
    let id = pool.submit(NewTask { lane: Lane::Io, ..task("p") });
    let worker = pool.worker_of(id);
    pool.handle(Event::Drain);
    pool.advance_ms(30_000);
    assert!(pool.was_interrupted(id));
    pool.advance_ms(10_249);
    assert!(!pool.was_killed(worker) && !pool.exited);
    pool.advance_ms(1);
    assert!(pool.was_killed(worker) && pool.exited);
}
