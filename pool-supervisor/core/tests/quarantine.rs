//! Tasks that end their workers are set aside by their bodies.

mod common;

use common::{EndText, Pool, quiet, task};
use pool_core::action::Action;
use pool_core::event::{BodyHash, Event, NewTask};
use pool_core::settings::Settings;
use pool_protocol::id::TaskId;
use pool_protocol::limits::MAX_CREDIT;
use pool_protocol::outcome::{Cause, ErrorCode, Status};

const BAD: BodyHash = BodyHash(7);
const OTHER: BodyHash = BodyHash(8);

fn pool() -> Pool {
    Pool::new(Settings { set_aside_ms: 600_000, ..quiet(2) })
}

/// A task with this body, as the shell submits it: hashed when that matters.
fn submit(pool: &mut Pool, body: BodyHash) -> TaskId {
    let body = pool.core.suspects_body_of(100).then_some(body);
    pool.submit(NewTask { body, ..task("p") })
}

/// The task's worker ends of this, and the shell answers what it is asked. All tasks have this
/// body.
fn dies(pool: &mut Pool, id: TaskId, cause: Cause, body: BodyHash) {
    if !pool.is_held(id) {
        pool.handle(Event::BodyChecked { task: id, body });
    }
    let worker = pool.worker_of(id);
    let from = pool.actions.len();
    pool.body = Some(body);
    pool.gone(worker, cause);
    answer(pool, from, |_| body);
}

/// What the shell says to the actions from here on, and to those that follow. Returns how many
/// bodies it looked at.
fn answer(pool: &mut Pool, mut from: usize, body_of: impl Fn(TaskId) -> BodyHash) -> usize {
    let mut looked_at = 0;
    while from < pool.actions.len() {
        if let Action::CheckBody { task, .. } = pool.actions[from] {
            looked_at += 1;
            pool.handle(Event::BodyChecked { task, body: body_of(task) });
        }
        from += 1;
    }
    looked_at
}

fn is_set_aside(pool: &Pool, id: TaskId, cause: Cause) {
    let ended = pool.end_of(id);
    assert_eq!((ended.code, ended.attempts), (Some(ErrorCode::WorkerCrashed), 0));
    assert_eq!((pool.status_of(id), ended.worker), (Status::Failed, None));
    let EndText::Core { message, verdict } = &ended.text else { panic!("the core wrote it") };
    assert_eq!(verdict.as_ref().map(|verdict| verdict.cause), Some(cause));
    assert!(
        message.contains(cause.name()) && message.contains("set aside for another"),
        "{message}"
    );
}

#[test]
fn a_death_of_the_tasks_own_doing_sets_its_body_aside_at_once() {
    let mut pool = pool();
    let id = submit(&mut pool, BAD);
    dies(&mut pool, id, Cause::SandboxViolation, BAD);
    assert_eq!(pool.end_of(id).attempts, 1);
    let again = submit(&mut pool, BAD);
    is_set_aside(&pool, again, Cause::SandboxViolation);
    assert_eq!(pool.core.stats().set_aside, 1);
    let from = pool.actions.len();
    let other = submit(&mut pool, OTHER);
    answer(&mut pool, from, |_| OTHER);
    pool.done(other);
    assert_eq!(pool.status_of(other), Status::Succeeded, "its length is the same, its body is not");
    pool.assert_nothing_is_used();
}

#[test]
fn a_death_that_may_be_the_tasks_doing_sets_it_aside_after_its_one_retry() {
    let mut pool = pool();
    let id = submit(&mut pool, BAD);
    dies(&mut pool, id, Cause::EngineFatal, BAD);
    assert_eq!(pool.core.stats().set_aside, 0, "it is a suspect");
    pool.advance_ms(1000);
    dies(&mut pool, id, Cause::EngineFatal, BAD);
    assert_eq!(pool.end_of(id).attempts, 2);
    let again = submit(&mut pool, BAD);
    is_set_aside(&pool, again, Cause::EngineFatal);
}

#[test]
fn a_body_that_comes_again_with_one_attempt_each_is_set_aside_at_its_second_death() {
    let mut pool = pool();
    for _ in 0..2 {
        let body = pool.core.suspects_body_of(100).then_some(BAD);
        let id = pool.submit(NewTask { max_attempts: 1, body, ..task("p") });
        dies(&mut pool, id, Cause::Exited, BAD);
        assert_eq!(pool.end_of(id).attempts, 1);
    }
    let again = submit(&mut pool, BAD);
    is_set_aside(&pool, again, Cause::Exited);
}

#[test]
fn copies_that_wait_end_when_it_is_their_turn_and_those_that_run_go_on() {
    let mut pool = pool();
    let tasks: Vec<TaskId> = (0..10).map(|_| submit(&mut pool, BAD)).collect();
    dies(&mut pool, tasks[0], Cause::SandboxViolation, BAD);
    let (running, waiting): (Vec<TaskId>, Vec<TaskId>) =
        tasks[1..].iter().partition(|id| pool.is_held(**id));
    assert_eq!(running.len(), 1, "the one that the other worker had");
    let from = pool.actions.len();
    for id in running {
        pool.done(id);
    }
    answer(&mut pool, from, |_| BAD);
    for id in waiting {
        is_set_aside(&pool, id, Cause::SandboxViolation);
    }
    pool.assert_nothing_is_used();
}

#[test]
fn deaths_from_outside_and_ordinary_failures_set_nothing_aside() {
    let mut pool = pool();
    let killed = submit(&mut pool, BAD);
    dies(&mut pool, killed, Cause::KilledFromOutside, BAD);
    pool.done(killed);
    for code in [ErrorCode::MemoryLimit, ErrorCode::Timeout, ErrorCode::CpuLimit] {
        let id = submit(&mut pool, BAD);
        pool.fail(id, code);
        assert_eq!(pool.code_of(id), Some(code));
    }
    let late = pool.submit(NewTask { timeout_ms: Some(100), ..task("p") });
    pool.advance_ms(1000);
    assert_eq!(pool.code_of(late), Some(ErrorCode::Timeout), "killed at its deadline");
    assert!(!pool.core.suspects_body_of(100));
}

#[test]
fn what_is_set_aside_is_tried_again_after_its_time_or_a_reload() {
    for reload in [false, true] {
        let mut pool = pool();
        let id = submit(&mut pool, BAD);
        dies(&mut pool, id, Cause::SandboxViolation, BAD);
        let settings = pool.core.settings().clone();
        if reload {
            pool.handle(Event::Reload(Box::new(settings)));
        } else {
            pool.advance_ms(599_999);
            let early = submit(&mut pool, BAD);
            is_set_aside(&pool, early, Cause::SandboxViolation);
            pool.advance_ms(1);
        }
        let again = submit(&mut pool, BAD);
        assert!(pool.is_held(again));
        assert_eq!(pool.core.stats().set_aside, 0);
    }
}

#[test]
fn nothing_is_set_aside_when_that_is_off() {
    let mut pool = Pool::new(Settings { set_aside_ms: 0, ..quiet(1) });
    let id = submit(&mut pool, BAD);
    dies(&mut pool, id, Cause::SandboxViolation, BAD);
    let again = submit(&mut pool, BAD);
    assert!(pool.is_held(again));
}

#[test]
fn nothing_is_set_aside_after_the_end() {
    let mut pool = Pool::new(Settings { set_aside_ms: 600_000, ..quiet(1) });
    let id = submit(&mut pool, BAD);
    pool.handle(Event::Drain);
    dies(&mut pool, id, Cause::SandboxViolation, BAD);
    assert!(pool.exited);
    assert_eq!(pool.actions.last(), Some(&Action::Exit));
}

/// Row 65: many tasks with bodies of the same length wait when one ends its worker. (Invariants are
/// checked after each event, so "many" is not 20,000 here.)
#[test]
fn hostile_65_a_death_looks_at_none_of_the_tasks_that_wait_and_each_is_looked_at_once_in_its_turn()
{
    let mut pool = Pool::new(Settings { set_aside_ms: 600_000, ..quiet(2) });
    let bad = submit(&mut pool, BAD);
    let others: Vec<TaskId> = (0..400).map(|_| submit(&mut pool, OTHER)).collect();
    let worker = pool.worker_of(bad);
    let from = pool.actions.len();
    pool.body = Some(BAD);
    pool.gone(worker, Cause::SandboxViolation);
    let body_of = |_| OTHER;
    let mut looked_at = answer(&mut pool, from, body_of);
    assert!(looked_at <= MAX_CREDIT, "{looked_at} looks after a death");

    for id in others {
        let from = pool.actions.len();
        pool.done(id);
        let looks = answer(&mut pool, from, body_of);
        assert!(
            looks <= 2 * MAX_CREDIT,
            "{looks} looks after one end, more than workers take at once"
        );
        looked_at += looks;
    }
    assert!((390..=400).contains(&looked_at), "{looked_at}");
    pool.assert_nothing_is_used();
}

/// Many tasks whose turn comes at once are not all asked about at once.
#[test]
fn the_shell_is_asked_about_a_bounded_number_of_bodies_at_a_time() {
    let mut pool = Pool::new(Settings { set_aside_ms: 600_000, ..quiet(2) });
    let bad = submit(&mut pool, BAD);
    let copies: Vec<TaskId> = (0..1000).map(|_| submit(&mut pool, BAD)).collect();
    let worker = pool.worker_of(bad);
    let from = pool.actions.len();
    pool.body = Some(BAD);
    pool.gone(worker, Cause::SandboxViolation);
    let asked = |action: &&Action| matches!(action, Action::CheckBody { .. });
    assert_eq!(pool.actions[from..].iter().filter(asked).count(), 64);
    // One of them is cancelled before the answer comes, which is too late then.
    assert!(pool.cancel(copies[20]));
    assert_eq!(pool.code_of(copies[20]), Some(ErrorCode::Cancelled));
    answer(&mut pool, from, |_| BAD);
    for id in copies.into_iter().filter(|id| *id != TaskId(0)) {
        if pool.is_held(id) {
            pool.done(id);
        }
    }
    pool.assert_nothing_is_used();
}
