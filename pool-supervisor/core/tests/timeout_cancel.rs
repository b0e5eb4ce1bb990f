//! Timeouts, deadlines and cancels: a waiting task ends at once, a running one is asked, then its
//! worker is killed.

mod common;

use common::{CLIENT, EndText, Pool, quiet, task};
use pool_core::action::Action;
use pool_core::event::{Event, NewTask};
use pool_core::settings::Settings;
use pool_core::stats::TaskStatus;
use pool_protocol::id::ClientId;
use pool_protocol::lane::Lane;
use pool_protocol::outcome::{Cause, ErrorCode, Status};

#[test]
fn cancelling_a_waiting_task_ends_it_at_once() {
    let mut pool = Pool::new(quiet(1));
    let running = pool.submit(task("p"));
    let queued = pool.submit(task("p"));
    let delayed = pool.submit(NewTask { delay_ms: 1000, ..task("p") });
    for id in [queued, delayed] {
        assert!(pool.cancel(id));
        assert_eq!(pool.code_of(id), Some(ErrorCode::Cancelled));
        assert_eq!(pool.end_of(id).attempts, 0);
        assert!(!pool.cancel(id), "it is not there any more");
    }
    assert!(pool.is_held(running));
}

#[test]
fn cancelling_a_task_between_two_attempts_ends_it_at_once() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(task("p"));
    pool.fail(id, ErrorCode::JsException);
    assert_eq!(pool.core.task(id).expect("it waits").state, TaskStatus::Retrying);
    assert!(pool.cancel(id));
    assert_eq!(pool.code_of(id), Some(ErrorCode::Cancelled));
    assert_eq!(pool.end_of(id).attempts, 1);
    pool.advance_ms(5000);
    pool.assert_nothing_is_used();
}

#[test]
fn cancelling_a_running_task_asks_the_worker_and_then_kills_it() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(task("p"));
    let worker = pool.worker_of(id);
    assert!(pool.cancel(id) && pool.cancel(id));
    assert!(pool.was_interrupted(id));
    pool.advance_ms(249);
    assert!(!pool.was_killed(worker));
    pool.advance_ms(1);
    assert!(pool.was_killed(worker));
    assert_eq!(pool.verdict_of(worker), Cause::Cancelled);
    assert_eq!(pool.status_of(id), Status::Cancelled);
    assert_eq!(pool.end_of(id).attempts, 1);
    assert_eq!(pool.core.stats().available, 1, "another worker has taken its place");
}

#[test]
fn a_worker_that_stops_a_cancelled_task_in_time_is_not_killed_but_not_used_again() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(task("p"));
    let worker = pool.worker_of(id);
    pool.cancel(id);
    pool.advance_ms(10);
    pool.fail(id, ErrorCode::Cancelled);
    assert_eq!(pool.code_of(id), Some(ErrorCode::Cancelled));
    assert_eq!(pool.end_of(id).text, EndText::Worker);
    let next = pool.submit(task("p"));
    assert_ne!(pool.worker_of(next), worker);
    pool.gone(worker, Cause::Exited);
    assert!(!pool.was_killed(worker));
    assert_eq!(pool.verdict_of(worker), Cause::Cancelled);
}

#[test]
fn a_spoiled_worker_that_does_not_leave_is_killed() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(task("p"));
    let worker = pool.worker_of(id);
    pool.fail(id, ErrorCode::MemoryLimit);
    pool.advance_ms(1999);
    assert!(!pool.was_killed(worker), "it may have much to clear away, and nobody waits for it");
    pool.advance_ms(1);
    assert!(pool.was_killed(worker));
    assert_eq!(pool.verdict_of(worker), Cause::JsHeap);
}

#[test]
fn cancelling_a_task_that_a_worker_has_not_started_spares_the_one_before_it() {
    let mut pool = Pool::new(quiet(1));
    pool.teach("p", 10);
    let running = pool.submit(task("p"));
    let behind = pool.submit(task("p"));
    assert_eq!(pool.worker_of(running), pool.worker_of(behind));
    pool.cancel(behind);
    assert_eq!(pool.code_of(behind), Some(ErrorCode::Cancelled), "it was given back");
    assert!(!pool.was_interrupted(running) && !pool.was_interrupted(behind));
    pool.done(running);
    assert_eq!(pool.status_of(running), Status::Succeeded);
}

#[test]
fn a_cancelled_task_that_started_meanwhile_is_interrupted_as_soon_as_that_is_known() {
    let mut pool = Pool::new(quiet(1));
    pool.teach("p", 10);
    pool.auto_return = false;
    let running = pool.submit(task("p"));
    let behind = pool.submit(task("p"));
    pool.cancel(behind);
    assert!(!pool.was_interrupted(behind));
    pool.done(running);
    assert!(pool.was_interrupted(behind), "it runs now");
    pool.advance_ms(250);
    assert_eq!(pool.code_of(behind), Some(ErrorCode::Cancelled));
}

#[test]
fn a_client_that_goes_takes_its_tasks_along_and_leaves_the_submitted_ones() {
    let mut pool = Pool::new(quiet(1));
    let other = ClientId { slot: 5, generation: 2 };
    let mine = |pool: &mut Pool| pool.submit(NewTask { cancel_with_client: true, ..task("p") });
    let running = mine(&mut pool);
    let waiting = [mine(&mut pool), mine(&mut pool), mine(&mut pool)];
    let submitted = pool.submit(task("p"));
    let of_other = pool
        .try_submit_as(other, NewTask { cancel_with_client: true, ..task("p") })
        .expect("accepted");
    pool.cancel(waiting[1]);
    pool.handle(Event::ClientGone { client: CLIENT });
    for id in waiting {
        assert_eq!(pool.code_of(id), Some(ErrorCode::Cancelled));
    }
    assert!(pool.was_interrupted(running));
    assert!(!pool.ended.contains_key(&submitted) && !pool.ended.contains_key(&of_other));
    pool.advance_ms(300);
    assert_eq!(pool.code_of(running), Some(ErrorCode::Cancelled));
    assert!(pool.is_held(submitted), "it goes on, on the next worker");
}

#[test]
fn a_task_that_a_second_client_wants_does_not_go_with_the_first() {
    let mut pool = Pool::new(quiet(1));
    let bound = || NewTask { cancel_with_client: true, idempotency_key: Some("k"), ..task("p") };
    let id = pool.submit(bound());
    let other = ClientId { slot: 9, generation: 1 };
    assert_eq!(pool.try_submit_as(other, bound()), Ok(id));
    pool.handle(Event::ClientGone { client: CLIENT });
    assert!(!pool.was_interrupted(id));
    pool.done(id);
    assert_eq!(pool.status_of(id), Status::Succeeded);
}

#[test]
fn a_timed_out_task_does_not_keep_its_worker() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(NewTask { timeout_ms: Some(1000), ..task("p") });
    let worker = pool.worker_of(id);
    let next = pool.submit(task("p"));
    pool.advance_ms(1000);
    assert!(!pool.was_interrupted(id), "the worker has its chance to say so by itself");
    pool.advance_ms(20);
    assert!(pool.was_interrupted(id));
    pool.advance_ms(250);
    assert!(pool.was_killed(worker));
    assert_eq!(pool.verdict_of(worker), Cause::Deadline);
    assert_eq!(pool.code_of(id), Some(ErrorCode::Timeout));
    assert_eq!(pool.status_of(id), Status::TimedOut);
    let EndText::Core { verdict, .. } = &pool.end_of(id).text else { panic!("the core wrote it") };
    assert_eq!(verdict.as_ref().map(|verdict| verdict.cause), Some(Cause::Deadline));
    assert!(pool.is_held(next), "the queue goes on");
}

#[test]
fn a_timeout_that_the_worker_reports_ends_the_task_and_the_worker() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(NewTask { timeout_ms: Some(1000), ..task("p") });
    let worker = pool.worker_of(id);
    assert_eq!(pool.timeouts[&id], 1000);
    pool.advance_ms(1005);
    pool.fail(id, ErrorCode::Timeout);
    assert_eq!(pool.status_of(id), Status::TimedOut);
    assert_eq!(pool.core.stats().available, 1, "a replacement was started at once");
    pool.gone(worker, Cause::Exited);
    assert_eq!(pool.verdict_of(worker), Cause::Deadline);
    assert!(!pool.was_killed(worker));
}

#[test]
fn a_deadline_shortens_the_attempt() {
    let mut pool = Pool::new(quiet(1));
    let running = pool.submit(task("p"));
    let id =
        pool.submit(NewTask { timeout_ms: Some(10_000), deadline_ms: Some(3000), ..task("p") });
    pool.advance_ms(1000);
    pool.done(running);
    assert_eq!(pool.timeouts[&id], 2000);
    pool.advance_ms(2300);
    assert_eq!(pool.code_of(id), Some(ErrorCode::Timeout));
}

#[test]
fn a_deadline_is_told_as_a_deadline_whoever_noticed_it() {
    let told = "the task did not end before its deadline, 3000 ms after it was accepted";
    let start = |timeout_ms| {
        let mut pool = Pool::new(quiet(1));
        let id = pool.submit(NewTask {
            timeout_ms: Some(timeout_ms),
            deadline_ms: Some(3000),
            ..task("p")
        });
        (pool, id)
    };
    let (mut pool, id) = start(10_000);
    pool.advance_ms(3000);
    pool.fail(id, ErrorCode::Timeout);
    assert_eq!(pool.end_of(id).text, EndText::WorkerBut { message: told.into() });
    let (mut pool, id) = start(10_000);
    pool.advance_ms(3300);
    let EndText::Core { message, .. } = &pool.end_of(id).text else {
        panic!("its worker was killed")
    };
    assert_eq!(message, told);
    let (mut pool, id) = start(1000);
    pool.advance_ms(1000);
    pool.fail(id, ErrorCode::Timeout);
    assert_eq!(pool.end_of(id).text, EndText::Worker, "its timeout came first");
    let (mut pool, id) = start(1000);
    pool.advance_ms(3300);
    let EndText::Core { message, .. } = &pool.end_of(id).text else {
        panic!("its worker was killed")
    };
    assert_eq!(message, "the task ran longer than its timeout of 1000 ms");
}

#[test]
fn a_task_that_waits_past_its_deadline_ends_as_timed_out() {
    let mut pool = Pool::new(quiet(1));
    let running = pool.submit(task("p"));
    let id = pool.submit(NewTask { deadline_ms: Some(3000), ..task("p") });
    pool.advance_ms(2999);
    assert!(!pool.ended.contains_key(&id));
    pool.advance_ms(1);
    assert_eq!(pool.status_of(id), Status::TimedOut);
    assert_eq!(pool.end_of(id).attempts, 0);
    assert!(pool.is_held(running));
}

#[test]
fn the_timeout_of_each_task_counts_from_its_own_start() {
    let mut pool = Pool::new(quiet(1));
    pool.teach("p", 10);
    let first = pool.submit(NewTask { timeout_ms: Some(1000), ..task("p") });
    let second = pool.submit(NewTask { timeout_ms: Some(1000), ..task("p") });
    pool.advance_us(500);
    pool.done_after_us(first, 500);
    pool.advance_ms(1000);
    assert!(!pool.was_interrupted(second));
    pool.advance_ms(20);
    assert!(pool.was_interrupted(second));
}

#[test]
fn the_innocent_behind_a_killed_task_are_not_charged() {
    let mut pool = Pool::new(Settings { ..quiet(1) });
    pool.teach("p", 10);
    pool.auto_return = false;
    let stuck = pool.submit(NewTask { timeout_ms: Some(1000), ..task("p") });
    let behind = pool.submit(NewTask { max_attempts: 1, ..task("p") });
    assert_eq!(pool.worker_of(stuck), pool.worker_of(behind));
    pool.advance_ms(1300);
    assert_eq!(pool.code_of(stuck), Some(ErrorCode::Timeout));
    assert_eq!(pool.holder(behind).expect("it runs elsewhere").1, 1, "still its first attempt");
}

#[test]
fn a_cancel_of_a_task_that_never_was_finds_nothing() {
    let mut pool = Pool::new(quiet(1));
    assert!(!pool.cancel(pool_protocol::id::TaskId(5)));
    assert!(!pool.core.task_known(pool_protocol::id::TaskId(5)));
    let id = pool.submit(task("p"));
    pool.done(id);
    assert!(!pool.cancel(id));
    assert!(pool.core.task_known(id) && pool.core.task(id).is_none());
}

#[test]
fn asking_again_for_a_cancel_neither_asks_the_worker_twice_nor_gives_it_more_time() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(task("p"));
    let worker = pool.worker_of(id);
    pool.cancel(id);
    pool.advance_ms(200);
    assert!(pool.cancel(id));
    let asked = |action: &Action| matches!(action, Action::Interrupt { .. });
    assert_eq!(pool.count_actions(asked), 1);
    pool.advance_ms(50);
    assert!(pool.was_killed(worker));
}

#[test]
fn the_innocent_behind_a_killed_task_are_no_suspects() {
    let mut pool = Pool::new(quiet(1));
    pool.teach("p", 10);
    pool.auto_return = false;
    pool.submit(NewTask { timeout_ms: Some(1000), ..task("p") });
    let behind = [pool.submit(task("p")), pool.submit(task("p"))];
    pool.advance_ms(1300);
    assert_eq!(pool.worker_of(behind[0]), pool.worker_of(behind[1]), "they need not run alone");
}

#[test]
fn the_workers_last_words_say_which_memory_it_was() {
    for (seen, told) in [(Cause::ArrayBuffers, Cause::ArrayBuffers), (Cause::Exited, Cause::JsHeap)]
    {
        let mut pool = Pool::new(quiet(1));
        let id = pool.submit(task("p"));
        let worker = pool.worker_of(id);
        pool.fail(id, ErrorCode::MemoryLimit);
        pool.gone(worker, seen);
        assert_eq!(pool.verdict_of(worker), told);
    }
}

/// Row 58 of what the pool must survive: a client that goes with many tasks holds up nobody.
#[test]
fn a_client_that_goes_takes_many_tasks_along_a_bounded_number_at_a_time() {
    let mut pool = Pool::new(quiet(1));
    let tasks: Vec<_> =
        (0..3000).map(|_| pool.submit(NewTask { cancel_with_client: true, ..task("p") })).collect();
    let mut rounds = 0;
    while pool.core.ends_tasks_with(CLIENT) {
        let ended = pool.core.stats().failed;
        pool.handle(Event::ClientGone { client: CLIENT });
        rounds += 1;
        assert!(pool.core.stats().failed - ended <= 1024, "the others' turn comes in between");
    }
    assert_eq!(rounds, 3);
    let code = |id: &_| pool.code_of(*id);
    assert!(
        tasks[1..].iter().all(|id| code(id) == Some(ErrorCode::Cancelled)),
        "all but the one that runs"
    );
}

#[test]
fn a_worker_for_programs_gets_the_time_that_programs_get_besides_its_own() {
    let settings = Settings { kill_after_ms: 3_000, ..quiet(1) };
    let mut pool = Pool::new(settings.clone());
    let id = pool.submit(NewTask { lane: Lane::Io, ..task("p") });
    let worker = pool.worker_of(id);
    pool.cancel(id);
    pool.advance_ms(3_249);
    assert!(!pool.was_killed(worker));
    pool.advance_ms(1);
    assert!(pool.was_killed(worker));
    let mut pool = Pool::new(settings);
    let id = pool.submit(task("p"));
    let worker = pool.worker_of(id);
    pool.cancel(id);
    pool.advance_ms(250);
    assert!(pool.was_killed(worker), "JavaScript is not asked by anybody else");
}
