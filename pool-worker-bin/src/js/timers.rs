//! `setTimeout`, `setInterval` and their `clear` functions: a heap of deadlines per task; and
//! `queueMicrotask`.
//!
//! Owns the pending timers of the running task; all go when it ends. Must not wait: the loop in
//! `settle` does.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use super::errors;
use super::host::{host, text, throw_range_error, throw_type_error};

/// Timers a task may have at a time: each holds memory that the heap limit does not count.
pub(super) const MAX_TIMERS: usize = 100_000;

/// Longest delay; longer ones count as 1 ms, as in browsers and Node.
const MAX_DELAY_MS: f64 = 2_147_483_647.0;

/// What happens when a timer is due.
#[derive(Clone)]
pub(super) enum What {
    /// A function is called, with its arguments.
    Call(v8::Global<v8::Function>, Vec<v8::Global<v8::Value>>),
    /// A promise of ours gets this text as its value.
    Settle(v8::Global<v8::PromiseResolver>, &'static str),
}

impl What {
    /// The promise becomes that.
    pub(super) fn settle(resolver: v8::Global<v8::PromiseResolver>, value: &'static str) -> Self {
        Self::Settle(resolver, value)
    }
}

struct Timer {
    what: What,
    repeat: Option<Duration>,
}

/// The pending timers of a task.
#[derive(Default)]
pub(super) struct Timers {
    last_id: u32,
    live: HashMap<u32, Timer>,
    /// Deadlines in order; entries whose timer was cleared are skipped.
    due: BinaryHeap<Reverse<(Instant, u32)>>,
}

impl Timers {
    /// Forgets all timers, and starts ids again from 1.
    pub(super) fn clear(&mut self) {
        // The common case is a task without timers, and this runs for each.
        if self.last_id != 0 {
            *self = Self::default();
        }
    }

    /// When the next timer is due.
    pub(super) fn next_due(&mut self) -> Option<Instant> {
        while let Some(Reverse((due, id))) = self.due.peek() {
            if self.live.contains_key(id) {
                return Some(*due);
            }
            self.due.pop();
        }
        None
    }

    /// A timer that fires once, so many milliseconds from now; its id.
    pub(super) fn add(&mut self, what: What, delay_ms: f64) -> u32 {
        self.put(Timer { what, repeat: None }, Duration::from_secs_f64(delay_ms / 1000.0))
    }

    fn put(&mut self, timer: Timer, delay: Duration) -> u32 {
        self.last_id += 1;
        let id = self.last_id;
        self.due.push(Reverse((Instant::now() + delay, id)));
        self.live.insert(id, timer);
        id
    }

    /// The timer will not fire.
    pub(super) fn remove(&mut self, id: u32) {
        self.live.remove(&id);
        // A task that sets and clears in a loop must not grow the heap of deadlines.
        if self.due.len() > 2 * self.live.len() + 64 {
            let live = &self.live;
            self.due.retain(|Reverse((_, id))| live.contains_key(id));
        }
    }

    /// The same, if the task has set it: it may not guess the numbers of ours.
    fn clear_own(&mut self, id: u32) {
        if matches!(self.live.get(&id), Some(Timer { what: What::Call(..), .. })) {
            self.remove(id);
        }
    }

    /// Takes the next timer that is due; an interval is put back.
    fn pop_due(&mut self, now: Instant) -> Option<(u32, What)> {
        let due = self.next_due()?;
        if due > now {
            return None;
        }
        let Reverse((_, id)) = self.due.pop()?;
        let repeat = self.live.get(&id)?.repeat;
        if let Some(period) = repeat {
            self.due.push(Reverse((now + period, id)));
            return Some((id, self.live.get(&id)?.what.clone()));
        }
        Some((id, self.live.remove(&id)?.what))
    }
}

/// Fires the next timer that is due at `now`. `Some(false)`: none was; `None`: it threw.
pub(super) fn fire_one(scope: &mut v8::PinScope<'_, '_>, now: Instant) -> Option<bool> {
    let host = host(scope);
    let due = host.timers.borrow_mut().pop_due(now);
    let Some((id, what)) = due else {
        return Some(false);
    };
    v8::scope!(let scope, scope);
    match what {
        What::Call(callback, args) => {
            let callback = v8::Local::new(scope, callback);
            let args: Vec<_> = args.iter().map(|arg| v8::Local::new(scope, arg)).collect();
            let receiver = v8::undefined(scope).into();
            callback.call(scope, receiver, &args)?;
        }
        What::Settle(resolver, value) => {
            host.waiters.borrow_mut().timed_out(id);
            let value = text(scope, value);
            v8::Local::new(scope, resolver).resolve(scope, value.into())?;
        }
    }
    Some(true)
}

/// `setTimeout(callback, delay, ...args)`
pub(super) fn set_timeout<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    args: v8::FunctionCallbackArguments<'s>,
    rv: v8::ReturnValue<'s, v8::Value>,
) {
    set_timer(scope, &args, rv, false);
}

/// `setInterval(callback, delay, ...args)`
pub(super) fn set_interval<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    args: v8::FunctionCallbackArguments<'s>,
    rv: v8::ReturnValue<'s, v8::Value>,
) {
    set_timer(scope, &args, rv, true);
}

fn set_timer<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    args: &v8::FunctionCallbackArguments<'s>,
    mut rv: v8::ReturnValue<'s, v8::Value>,
    repeats: bool,
) {
    let Ok(callback) = v8::Local::<v8::Function>::try_from(args.get(0)) else {
        let message = "the first argument of a timer must be a function; strings are not compiled";
        return throw_type_error(scope, message);
    };
    // May call the user's `valueOf`, so the timers are borrowed only afterwards.
    let Some(delay_ms) = args.get(1).number_value(scope) else {
        return;
    };
    let delay_ms = if (1.0..=MAX_DELAY_MS).contains(&delay_ms) { delay_ms } else { 1.0 };
    let delay = Duration::from_secs_f64(delay_ms.trunc() / 1000.0);
    let given = (2..args.length()).map(|index| v8::Global::new(scope, args.get(index))).collect();
    let what = What::Call(v8::Global::new(scope, callback), given);
    let timer = Timer { what, repeat: repeats.then_some(delay) };
    let host = host(scope);
    let mut timers = host.timers.borrow_mut();
    if timers.live.len() >= MAX_TIMERS {
        drop(timers);
        return throw_range_error(scope, "too many timers: a task may have 100000 at a time");
    }
    rv.set_uint32(timers.put(timer, delay));
}

/// `clearTimeout(id)` and `clearInterval(id)`
pub(super) fn clear_timer<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    args: v8::FunctionCallbackArguments<'s>,
    _rv: v8::ReturnValue<'s, v8::Value>,
) {
    // An id may have become text on its way, as a key of an object does. Anything else names no
    // timer, and must not run user code to find out.
    let id = args.get(0);
    if !id.is_number() && !id.is_string() {
        return;
    }
    let id = id.number_value(scope).unwrap_or(f64::NAN);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what is no id becomes 0, as NaN does"
    )]
    host(scope).timers.borrow_mut().clear_own(id as u32);
}

/// `queueMicrotask(callback)`
pub(super) fn queue_microtask<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    args: v8::FunctionCallbackArguments<'s>,
    _rv: v8::ReturnValue<'s, v8::Value>,
) {
    let Ok(callback) = v8::Local::<v8::Function>::try_from(args.get(0)) else {
        return throw_type_error(scope, "the argument of queueMicrotask must be a function");
    };
    // V8 drops what a callback throws, so ours is called in its place.
    let Some(microtask) = v8::Function::builder(run_microtask)
        .data(callback.into())
        .constructor_behavior(v8::ConstructorBehavior::Throw)
        .build(scope)
    else {
        return;
    };
    // The context's own queue, not the isolate's: that one is never run.
    let context = scope.get_current_context();
    if let Some(queue) = context.get_microtask_queue() {
        queue.enqueue_microtask(scope, microtask);
    }
}

/// Calls what `queueMicrotask` was given. An exception is kept for `settle`, which ends the task
/// with it; no other callback is called after it.
fn run_microtask<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    args: v8::FunctionCallbackArguments<'s>,
    _rv: v8::ReturnValue<'s, v8::Value>,
) {
    let host = host(scope);
    let callback =
        v8::Local::<v8::Function>::try_from(args.data()).expect("it was made with a function");
    if host.uncaught.borrow().is_some() {
        return;
    }
    v8::tc_scope!(let scope, scope);
    let receiver = v8::undefined(scope).into();
    if callback.call(scope, receiver, &[]).is_some() {
        return;
    }
    if scope.has_terminated() {
        scope.rethrow();
        return;
    }
    let message = scope.message();
    let thrown = scope.exception();
    scope.reset();
    if let Some(thrown) = thrown {
        *host.uncaught.borrow_mut() = Some(errors::describe(scope, thrown, message));
    }
}
