//! Crashes: no task is lost, none ends twice, and the one to blame is charged.

mod common;

use common::{EndText, Pool, quiet, task, verdict};
use pool_core::action::PoolEvent;
use pool_core::event::{AttemptEnd, BodyHash, Event, NewTask};
use pool_core::settings::Settings;
use pool_protocol::id::TaskId;
use pool_protocol::outcome::{Blame, Cause, ErrorCode, Status};

const GOOD: AttemptEnd = AttemptEnd {
    code: None,
    run_us: 1000,
    cpu_us: 0,
    busy_us: 1000,
    memory_bytes: 0,
    retry_after_ms: 0,
    spoiled: false,
};

#[test]
fn a_crash_loses_no_task_and_ends_none_twice() {
    let mut pool = Pool::new(quiet(2));
    pool.teach("p", 10);
    let tasks: Vec<TaskId> = (0..40).map(|_| pool.submit(task("p"))).collect();
    let victims: Vec<_> = pool.workers.keys().copied().collect();
    for victim in victims {
        pool.gone(victim, Cause::KilledFromOutside);
    }
    // `Pool` itself asserts that no task ends twice.
    while let Some(running) =
        pool.workers.values().find_map(|process| process.tasks.first().map(|(task, _)| *task))
    {
        pool.advance_us(10);
        pool.done_after_us(running, 10);
    }
    for id in tasks {
        assert_eq!(pool.status_of(id), Status::Succeeded);
        assert_eq!(pool.end_of(id).attempts, 1, "nobody is charged for a death with many suspects");
    }
    pool.assert_nothing_is_used();
}

#[test]
fn a_death_that_may_be_the_tasks_doing_is_retried_once_at_most_and_alone() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(NewTask { max_attempts: 10, ..task("p") });
    let first = pool.worker_of(id);
    pool.gone(first, Cause::EngineFatal);
    assert!(!pool.is_held(id), "after its back-off");
    pool.advance_ms(1000);
    let second = pool.worker_of(id);
    pool.gone(second, Cause::EngineFatal);
    assert_eq!(pool.code_of(id), Some(ErrorCode::WorkerCrashed));
    assert_eq!(pool.end_of(id).attempts, 2);
    let EndText::Core { verdict: given, message } = &pool.end_of(id).text else {
        panic!("the core wrote it")
    };
    assert_eq!(given.as_ref(), Some(&verdict(Cause::EngineFatal)));
    assert!(message.contains("engine-fatal"));
    let errors = pool
        .count(|event| matches!(event, PoolEvent::WorkerError { task: Some(t), .. } if *t == id));
    assert_eq!(errors, 2);
}

#[test]
fn a_death_of_the_tasks_own_doing_is_not_retried() {
    for (cause, code) in [
        (Cause::SandboxViolation, ErrorCode::WorkerCrashed),
        (Cause::CpuLimit, ErrorCode::WorkerCrashed),
        // Too much memory is that, whether or not the engine lived to tell.
        (Cause::JsHeap, ErrorCode::MemoryLimit),
        (Cause::ArrayBuffers, ErrorCode::MemoryLimit),
    ] {
        let mut pool = Pool::new(quiet(1));
        let id = pool.submit(NewTask { max_attempts: 10, ..task("p") });
        let worker = pool.worker_of(id);
        pool.gone(worker, cause);
        assert_eq!((pool.code_of(id), pool.end_of(id).attempts), (Some(code), 1), "{cause}");
        let EndText::Core { verdict: given, .. } = &pool.end_of(id).text else {
            panic!("the core wrote it")
        };
        assert_eq!(given.as_ref(), Some(&verdict(cause)));
    }
}

#[test]
fn a_death_from_outside_is_retried_up_to_max_attempts() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(NewTask { max_attempts: 5, ..task("p") });
    for attempt in 1..=5 {
        let (worker, now) = pool.holder(id).expect("at once");
        assert_eq!(now, attempt);
        pool.gone(worker, Cause::KilledFromOutside);
    }
    assert_eq!(pool.code_of(id), Some(ErrorCode::WorkerCrashed));
    assert_eq!(pool.end_of(id).attempts, 5);
}

#[test]
fn the_shell_may_know_that_it_was_the_machines_memory() {
    for (blame, tries) in [(None, 2), (Some(Blame::Outside), 5)] {
        let mut pool = Pool::new(quiet(1));
        let id = pool.submit(NewTask { max_attempts: 5, ..task("p") });
        let mut deaths = 0;
        while !pool.ended.contains_key(&id) {
            let (worker, _) = pool.holder(id).expect("it runs");
            pool.workers.remove(&worker);
            pool.handle(Event::WorkerGone {
                worker,
                verdict: verdict(Cause::KernelOom),
                blame,
                body: None,
            });
            deaths += 1;
            pool.advance_ms(1000);
        }
        assert_eq!(deaths, tries, "{blame:?}");
    }
}

#[test]
fn a_task_with_one_attempt_is_not_tried_again() {
    for cause in [Cause::EngineFatal, Cause::KilledFromOutside] {
        let mut pool = Pool::new(quiet(1));
        let id = pool.submit(NewTask { max_attempts: 1, ..task("p") });
        let worker = pool.worker_of(id);
        pool.gone(worker, cause);
        assert_eq!(pool.code_of(id), Some(ErrorCode::WorkerCrashed));
    }
}

#[test]
fn suspects_run_alone_so_that_the_next_death_has_one() {
    let mut pool = Pool::new(quiet(1));
    pool.teach("p", 10);
    let culprit = pool.submit(NewTask { max_attempts: 3, ..task("p") });
    let innocent = pool.submit(task("p"));
    let worker = pool.worker_of(culprit);
    assert_eq!(pool.worker_of(innocent), worker);
    pool.gone(worker, Cause::EngineFatal);
    assert_eq!(pool.holder(culprit).expect("it runs again").1, 1, "not charged");
    assert!(!pool.is_held(innocent), "nothing behind a suspect");
    let worker = pool.worker_of(culprit);
    pool.gone(worker, Cause::EngineFatal);
    assert_eq!(pool.code_of(culprit), Some(ErrorCode::WorkerCrashed), "that was its second chance");
    assert_eq!(pool.end_of(culprit).attempts, 1, "one that counts");
    assert!(pool.is_held(innocent));
    pool.done(innocent);
    assert_eq!(pool.end_of(innocent).attempts, 1);
}

#[test]
fn a_late_word_of_a_dead_worker_is_dropped() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(task("p"));
    let (dead, attempt) = pool.holder(id).expect("held");
    pool.gone(dead, Cause::KilledFromOutside);
    let (living, _) = pool.holder(id).expect("it runs again");
    assert_eq!(living.slot, dead.slot, "the same place, another generation");
    pool.word(dead, id, attempt, GOOD);
    pool.handle(Event::Heartbeat { worker: dead, rss_bytes: 1, cpu_us: 1 });
    pool.handle(Event::TasksReturned { worker: dead, tasks: &[(id, attempt)] });
    pool.handle(Event::WorkerReady { worker: dead });
    pool.handle(Event::WorkerBroke { worker: dead, reason: "x".into() });
    pool.handle(Event::WorkerGone {
        worker: dead,
        verdict: verdict(Cause::Exited),
        blame: None,
        body: None,
    });
    assert!(pool.ended.is_empty() && pool.is_held(id));
}

#[test]
fn a_word_about_another_workers_task_kills_the_liar_and_spares_the_task() {
    let mut pool = Pool::new(quiet(2));
    let a = pool.submit(task("p"));
    let b = pool.submit(NewTask { max_attempts: 1, ..task("p") });
    let (honest, attempt) = pool.holder(a).expect("held");
    let liar = pool.worker_of(b);
    assert_ne!(honest, liar);
    pool.word(liar, a, attempt, GOOD);
    assert!(pool.was_killed(liar));
    assert_eq!(pool.verdict_of(liar), Cause::ProtocolViolation);
    assert!(pool.is_held(a) && !pool.ended.contains_key(&a));
    assert_eq!(pool.code_of(b), Some(ErrorCode::WorkerCrashed), "what the liar ran is charged");
    pool.done(a);
    assert_eq!(pool.status_of(a), Status::Succeeded);
}

#[test]
fn a_second_word_or_one_of_an_old_attempt_kills_the_worker() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(task("p"));
    let (worker, attempt) = pool.holder(id).expect("held");
    pool.done(id);
    pool.word(worker, id, attempt, GOOD);
    assert!(pool.was_killed(worker), "a second reply");

    let id = pool.submit(task("p"));
    pool.fail(id, ErrorCode::JsException);
    pool.advance_ms(1000);
    let (worker, attempt) = pool.holder(id).expect("held");
    assert_eq!(attempt, 2);
    pool.word(worker, id, 1, GOOD);
    assert!(pool.was_killed(worker), "an old attempt");
    assert!(!pool.ended.contains_key(&id));
}

#[test]
fn a_worker_that_breaks_the_protocol_is_killed_and_its_task_handled_as_a_crash() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(task("p"));
    let worker = pool.worker_of(id);
    pool.handle(Event::WorkerBroke { worker, reason: "unknown kind 0x99".into() });
    assert_eq!(pool.verdict_of(worker), Cause::ProtocolViolation);
    assert!(!pool.ended.contains_key(&id));
    pool.advance_ms(1000);
    assert_eq!(pool.holder(id).expect("tried again").1, 2);
}

#[test]
fn a_worker_that_gives_back_everything_for_ever_is_killed() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(task("p"));
    let first = pool.worker_of(id);
    for _ in 0..1000 {
        let (worker, attempt) = pool.holder(id).expect("held");
        if worker != first {
            break;
        }
        pool.give_back(worker, &[(id, attempt)]);
    }
    assert!(pool.was_killed(first));
    assert!(pool.is_held(id), "the next worker has it");
}

#[test]
fn three_missed_heartbeats_and_the_worker_is_killed() {
    let mut pool = Pool::new(Settings { heartbeat_interval_ms: 1000, ..quiet(1) });
    let id = pool.submit(task("p"));
    let worker = pool.worker_of(id);
    for _ in 0..10 {
        pool.advance_ms(1000);
        pool.handle(Event::Heartbeat { worker, rss_bytes: 5, cpu_us: 7 });
    }
    let view = pool.core.workers().next().expect("it lives");
    assert_eq!((view.rss_bytes, view.cpu_us), (5, 7));
    pool.advance_ms(2999);
    assert!(!pool.was_killed(worker));
    pool.advance_ms(1);
    assert!(pool.was_killed(worker));
    assert_eq!(pool.verdict_of(worker), Cause::Unresponsive);
    assert!(!pool.is_held(id), "it may be the task's doing: after its back-off");
    pool.advance_ms(1000);
    assert_eq!(pool.holder(id).expect("tried again").1, 2);
}

#[test]
fn a_pool_that_was_stopped_for_a_while_does_not_kill_its_workers() {
    let mut pool = Pool::new(Settings { heartbeat_interval_ms: 1000, ..quiet(1) });
    let id = pool.submit(task("p"));
    let worker = pool.worker_of(id);
    pool.now_us += 60_000_000;
    pool.tick();
    pool.handle(Event::Heartbeat { worker, rss_bytes: 1, cpu_us: 1 });
    pool.advance_ms(2000);
    assert!(!pool.was_killed(worker), "the heartbeats were there, unread");
}

/// The supervisor is woken a little late each time: so is the worker that should beat.
#[test]
fn on_a_busy_machine_a_worker_may_miss_ten_heartbeats_and_no_more() {
    let mut pool = Pool::new(Settings { heartbeat_interval_ms: 1000, ..quiet(1) });
    let worker = *pool.workers.keys().next().expect("one is ready");
    let mut silent_ms = 0;
    while !pool.was_killed(worker) {
        let due = pool.core.next_deadline().expect("it is watched");
        pool.now_us = due.0 + 150_000;
        pool.tick();
        silent_ms = pool.now_us / 1000;
    }
    assert!((10_000..12_000).contains(&silent_ms), "{silent_ms}");
}

/// Row 67 of what the pool must survive, for minutes.
#[test]
fn heartbeats_that_piled_up_while_the_pool_was_stopped_end_no_worker() {
    let mut pool = Pool::new(Settings { heartbeat_interval_ms: 50, ..quiet(1) });
    let id = pool.submit(task("p"));
    let worker = pool.worker_of(id);
    pool.now_us += 300_000_000;
    pool.tick();
    for _ in 0..6_000 {
        pool.handle(Event::Heartbeat { worker, rss_bytes: 1, cpu_us: 1 });
    }
    assert!(!pool.was_killed(worker), "five minutes of heartbeats were there, unread");
    for _ in 0..10_000 {
        pool.handle(Event::Heartbeat { worker, rss_bytes: 1, cpu_us: 1 });
    }
    assert!(pool.was_killed(worker), "no honest worker sends so many");
}

#[test]
fn a_million_heartbeats_are_an_attack() {
    let mut pool = Pool::new(Settings { heartbeat_interval_ms: 1000, ..quiet(1) });
    let worker = *pool.workers.keys().next().expect("one");
    for _ in 0..1_001 {
        pool.handle(Event::Heartbeat { worker, rss_bytes: 1, cpu_us: 1 });
    }
    assert!(pool.was_killed(worker));
    assert_eq!(pool.verdict_of(worker), Cause::ProtocolViolation);
}

#[test]
fn events_of_a_task_come_in_order_and_its_last_stands_right_before_its_end() {
    let mut pool = Pool::new(quiet(1));
    let id = pool.submit(task("p"));
    pool.fail(id, ErrorCode::JsException);
    pool.advance_ms(1000);
    pool.done(id);
    let names: Vec<&str> = pool
        .events
        .iter()
        .filter_map(|event| match event {
            PoolEvent::TaskQueued { .. } => Some("queued"),
            PoolEvent::TaskStarted { .. } => Some("started"),
            PoolEvent::TaskRetry { .. } => Some("retry"),
            PoolEvent::TaskComplete { .. } => Some("complete"),
            PoolEvent::TaskError { .. } => Some("error"),
            _ => None,
        })
        .collect();
    assert_eq!(names, ["queued", "started", "retry", "started", "complete"]);
}

/// The worker broke its word under its first task, and that one's result was under way. Row 56 of
/// what the pool must survive.
#[test]
fn hostile_56_a_task_that_had_not_started_is_neither_charged_nor_suspected() {
    for cause in [Cause::EngineFatal, Cause::JsHeap, Cause::SandboxViolation, Cause::Exited] {
        let mut pool = Pool::new(Settings { set_aside_ms: 600_000, ..quiet(1) });
        pool.teach("p", 10);
        pool.auto_gone = false;
        let ends = pool.submit(task("p"));
        let waits = pool.submit(NewTask { max_attempts: 1, ..task("p") });
        let worker = pool.worker_of(ends);
        assert_eq!(pool.worker_of(waits), worker, "it waits behind the other");
        pool.body = Some(BodyHash(1));
        pool.handle(Event::WorkerBroke { worker, reason: "it lied".into() });
        pool.report(ends, GOOD);
        pool.gone(worker, cause);
        assert_eq!(pool.status_of(ends), Status::Succeeded);
        let (next, attempt) = pool.holder(waits).expect("it runs elsewhere, at once");
        assert!(next != worker && attempt == 1, "{cause}: attempt {attempt}");
        assert!(!pool.core.suspects_body_of(100), "{cause}");
        pool.done(waits);
        assert_eq!(
            (pool.status_of(waits), pool.end_of(waits).attempts),
            (Status::Succeeded, 1),
            "{cause}"
        );
    }
}
