//! Waiting for a task's promise: microtasks, timers, nothing else.
//!
//! Decides when a promise can never settle: it is pending, no microtask is left and no timer is
//! set. There is no other source of events in a realm.

use std::time::Instant;

use super::errors::{self, Trouble};
use super::host::{Host, key};
use super::method::method;
use super::task::{FailureKind, JsFailure};
use super::timers;

/// What the value becomes when awaited.
pub(super) fn settle<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    queue: &v8::MicrotaskQueue,
    value: v8::Local<'s, v8::Value>,
) -> Result<v8::Local<'s, v8::Value>, Trouble> {
    let Some(promise) = as_promise(scope, value)? else {
        // Microtasks may be left all the same, and must not meet the next task.
        run_microtasks(scope, host, queue)?;
        return Ok(value);
    };
    wait(scope, host, queue, promise)?;
    let result = promise.result(scope);
    if promise.state() == v8::PromiseState::Rejected {
        promise.mark_as_handled();
        let message = v8::Exception::create_message(scope, result);
        return Err(errors::describe(scope, result, Some(message)).into());
    }
    Ok(result)
}

/// Runs the realm until the promise is settled.
pub(super) fn wait(
    scope: &mut v8::PinScope<'_, '_>,
    host: &Host,
    queue: &v8::MicrotaskQueue,
    promise: v8::Local<'_, v8::Promise>,
) -> Result<(), Trouble> {
    loop {
        run_microtasks(scope, host, queue)?;
        if promise.state() != v8::PromiseState::Pending {
            return Ok(());
        }
        if host.pump
            && v8::Platform::pump_message_loop(&v8::V8::get_current_platform(), scope, false)
        {
            continue;
        }
        let Some(due) = host.timers.borrow_mut().next_due() else {
            return Err(never_settled());
        };
        let began = Instant::now();
        let was_stopped = host.watch.sleep_until(due);
        host.waited.set(host.waited.get() + began.elapsed());
        if was_stopped {
            return Err(Trouble::Thrown);
        }
        timers::fire_one(scope, Instant::now()).ok_or(Trouble::Thrown)?;
    }
}

/// Runs microtasks until none is left. What a callback of `queueMicrotask` throws ends the task, as
/// it does in a timer's.
pub(super) fn run_microtasks(
    scope: &mut v8::PinScope<'_, '_>,
    host: &Host,
    queue: &v8::MicrotaskQueue,
) -> Result<(), Trouble> {
    queue.perform_checkpoint(scope);
    if host.watch.stopped() {
        return Err(Trouble::Thrown);
    }
    match host.uncaught.take() {
        Some(failure) => Err(failure.into()),
        None => Ok(()),
    }
}

fn never_settled() -> Trouble {
    let message = "the task's promise can never settle: nothing is left that could run";
    JsFailure::new(FailureKind::PromiseNeverSettled, "Error", message).into()
}

/// The value as a promise, if it is one or has a `then` of its own or of its class.
fn as_promise<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    value: v8::Local<'s, v8::Value>,
) -> Result<Option<v8::Local<'s, v8::Promise>>, Trouble> {
    if !value.is_object() {
        return Ok(None);
    }
    if let Ok(promise) = v8::Local::<v8::Promise>::try_from(value) {
        return Ok(Some(promise));
    }
    let object = v8::Local::<v8::Object>::try_from(value).expect("checked above");
    let name = key(scope, "then");
    if method(scope, object, name)?.is_none() {
        return Ok(None);
    }
    let resolver = v8::PromiseResolver::new(scope).ok_or(Trouble::Thrown)?;
    resolver.resolve(scope, value).ok_or(Trouble::Thrown)?;
    Ok(Some(resolver.get_promise(scope)))
}
