//! Retries: which failures, how often, after how long.

mod common;

use common::{Pool, quiet, task};
use pool_core::action::PoolEvent;
use pool_core::event::NewTask;
use pool_protocol::outcome::{ErrorCode, Status};
use pool_protocol::policy::RetryPolicy;

#[test]
fn max_attempts_is_kept() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(NewTask { max_attempts: 3, ..task("p") });
    for attempt in 1..=3 {
        assert_eq!(pool.holder(id).expect("it runs").1, attempt, "attempts are numbered");
        assert!(!pool.ended.contains_key(&id));
        pool.fail(id, ErrorCode::JsException);
        pool.advance_ms(10_000);
    }
    assert_eq!(pool.end_of(id).attempts, 3);
    assert_eq!(pool.code_of(id), Some(ErrorCode::JsException));
    assert_eq!(pool.status_of(id), Status::Failed);
    assert_eq!(pool.count(|event| matches!(event, PoolEvent::TaskRetry { .. })), 2);
    assert_eq!(pool.count(|event| matches!(event, PoolEvent::TaskStarted { .. })), 3);
    assert_eq!(pool.count(|event| matches!(event, PoolEvent::TaskError { .. })), 1);
}

#[test]
fn delays_between_attempts_grow_by_the_factor() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(NewTask { max_attempts: 4, ..task("p") });
    for delay_ms in [1000, 2000, 4000] {
        pool.fail(id, ErrorCode::CommandFailed);
        pool.advance_us(delay_ms * 1000 - 1);
        assert!(!pool.is_held(id), "not before {delay_ms} ms");
        pool.advance_us(1);
        assert!(pool.is_held(id), "after {delay_ms} ms");
    }
}

#[test]
fn delays_vary_by_the_jitter_and_stay_below_the_maximum() {
    let mut pool = Pool::new(quiet(1));
    let retry =
        RetryPolicy { initial_delay_ms: 1000, factor: 1.0, max_delay_ms: 1050, jitter: 0.5 };
    let id = pool.submit(NewTask { max_attempts: 40, retry, ..task("p") });
    for _ in 0..39 {
        pool.fail(id, ErrorCode::HttpError);
        pool.advance_ms(1050);
    }
    let delays: Vec<u64> = pool
        .events
        .iter()
        .filter_map(|event| {
            if let PoolEvent::TaskRetry { delay_us, .. } = event { Some(*delay_us) } else { None }
        })
        .collect();
    assert_eq!(delays.len(), 39);
    assert!(delays.iter().all(|delay| (500_000..=1_050_000).contains(delay)), "{delays:?}");
    assert!(delays.iter().any(|delay| *delay < 700_000), "they vary: {delays:?}");
}

#[test]
fn only_failures_of_the_run_itself_are_retried() {
    for code in ErrorCode::ALL.iter().copied().filter(|code| *code != ErrorCode::WorkerCrashed) {
        let mut pool = Pool::new(quiet(1));
        let id = pool.submit(task("p"));
        pool.fail(id, code);
        assert_eq!(pool.ended.contains_key(&id), !code.retried_by_default(), "{code}");
    }
}

#[test]
fn a_retry_that_could_not_start_before_the_deadline_is_not_waited_for() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(NewTask { deadline_ms: Some(900), ..task("p") });
    pool.advance_ms(100);
    pool.fail(id, ErrorCode::JsException);
    assert_eq!(pool.code_of(id), Some(ErrorCode::JsException), "it ends with its last error, now");
}

#[test]
fn a_task_that_is_tried_again_can_succeed() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(task("p"));
    pool.fail(id, ErrorCode::HttpStatus);
    pool.advance_ms(1000);
    pool.done(id);
    assert_eq!(pool.status_of(id), Status::Succeeded);
    assert_eq!(pool.end_of(id).attempts, 2);
    assert!(pool.end_of(id).receipt.queued_us >= 1_000_000, "back-off counts as waiting");
    assert_eq!(pool.end_of(id).receipt.run_us, 1000);
}

#[test]
fn a_delay_of_zero_tries_again_at_once() {
    let mut pool = Pool::new(quiet(1));
    let retry = RetryPolicy { initial_delay_ms: 0, factor: 2.0, max_delay_ms: 0, jitter: 0.1 };
    let id = pool.submit(NewTask { retry, ..task("p") });
    pool.fail(id, ErrorCode::JsException);
    assert_eq!(pool.holder(id).expect("it runs again").1, 2);
}

/// A server refuses the first attempt and asks to be left alone; when the next one starts, if at
/// all.
fn next_attempt_ms(task: NewTask<'_>, asked_ms: u64) -> Option<u64> {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(task);
    pool.refused_for(id, ErrorCode::HttpStatus, asked_ms);
    if pool.ended.contains_key(&id) {
        return None;
    }
    let mut waited = 0;
    while !pool.is_held(id) {
        pool.advance_ms(1);
        waited += 1;
        assert!(waited < 100_000, "it never comes");
    }
    Some(waited)
}

#[test]
fn a_server_that_asks_to_be_left_alone_is_left_alone() {
    let retry =
        RetryPolicy { initial_delay_ms: 1000, factor: 2.0, max_delay_ms: 2000, jitter: 0.0 };
    let request = || NewTask { retry, ..task("p") };
    assert_eq!(next_attempt_ms(request(), 0), Some(1000));
    assert_eq!(next_attempt_ms(request(), 500), Some(1000), "the longer of both");
    assert_eq!(next_attempt_ms(request(), 60_000), Some(60_000), "above the task's own maximum");
    assert_eq!(next_attempt_ms(NewTask { deadline_ms: Some(50_000), ..request() }, 60_000), None);
    assert_eq!(next_attempt_ms(request(), 24 * 3600 * 1000 + 1), None);
    assert_eq!(next_attempt_ms(request(), u64::MAX), None);
}
