//! `Atomics.waitAsync` and `Atomics.notify`: who waits for which place of a shared buffer.
//!
//! Owns the running task's waiters; all go when it ends. V8's own answer through a queue that the
//! whole engine shares: a waiter that a task leaves would be answered in the time of another one.
//! Nobody shares a buffer with a task but the task itself, so one list is all there is to it. What
//! settles a waiter's promise is a timer, as the language wants a job of its own for that.

use super::context::define_function;
use super::host::{Host, host, key, text, throw_range_error, throw_type_error};
use super::timers::{MAX_TIMERS, What};

/// Longer waits have no end: a task does not live for thirty years.
const MAX_WAIT_MS: f64 = 1e12;

/// What the promise becomes when the place is notified, and when it is not.
const NOTIFIED: &str = "ok";
const TIMED_OUT: &str = "timed-out";

struct Waiter {
    /// Of the element in memory.
    place: usize,
    /// Holds the memory, so that no other buffer gets its address.
    _view: v8::Global<v8::TypedArray>,
    resolver: v8::Global<v8::PromiseResolver>,
    /// What ends the wait if nobody notifies.
    timer: Option<u32>,
}

/// The waiters of a task, first come first.
#[derive(Default)]
pub(super) struct Waiters(Vec<Waiter>);

impl Waiters {
    /// Forgets all waiters.
    pub(super) fn clear(&mut self) {
        self.0 = Vec::new();
    }

    /// The wait that this timer ends is over.
    pub(super) fn timed_out(&mut self, timer: u32) {
        self.0.retain(|waiter| waiter.timer != Some(timer));
    }

    /// Takes up to `most` that wait for the place.
    fn take(&mut self, place: usize, most: usize) -> Vec<Waiter> {
        let mut left = most;
        self.0
            .extract_if(.., |waiter| {
                let is_meant = waiter.place == place && left > 0;
                left -= usize::from(is_meant);
                is_meant
            })
            .collect()
    }
}

/// Puts our functions in the place of V8's.
pub(super) fn install(scope: &mut v8::PinScope<'_, '_>, global: v8::Local<'_, v8::Object>) {
    let name = key(scope, "Atomics");
    let atomics = global
        .get(scope, name.into())
        .and_then(|atomics| v8::Local::<v8::Object>::try_from(atomics).ok());
    let atomics = atomics.expect("a new context has all of the language's objects");
    for (name, length, callback) in functions() {
        define_function(scope, atomics, name, length, callback);
    }
}

/// With the number of their parameters.
pub(super) fn functions() -> Vec<(&'static str, i32, v8::FunctionCallback)> {
    use v8::MapFnTo as _;
    vec![("waitAsync", 4, wait_async.map_fn_to()), ("notify", 3, notify.map_fn_to())]
}

/// An element of a typed array that can be waited for.
struct Element<'s> {
    view: v8::Local<'s, v8::TypedArray>,
    index: u32,
    place: usize,
    is_shared: bool,
}

/// Finds the element, or throws.
fn element<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    array: v8::Local<'s, v8::Value>,
    index: v8::Local<'_, v8::Value>,
    must_be_shared: bool,
) -> Option<Element<'s>> {
    let size = if array.is_int32_array() {
        4
    } else if array.is_big_int64_array() {
        8
    } else {
        throw_type_error(scope, "the array must be an Int32Array or a BigInt64Array");
        return None;
    };
    let view = v8::Local::<v8::TypedArray>::try_from(array).expect("both are typed arrays");
    let buffer = view.buffer(scope)?;
    let is_shared = v8::Local::<v8::Value>::from(buffer).is_shared_array_buffer();
    if must_be_shared && !is_shared {
        throw_type_error(scope, "the array must be one of a SharedArrayBuffer");
        return None;
    }
    if !is_shared && buffer.was_detached() {
        throw_type_error(scope, "the array's buffer is detached");
        return None;
    }
    // Runs the task's `valueOf`.
    let index = index.integer_value(scope)?;
    let Some(index) = u32::try_from(index).ok().filter(|index| (*index as usize) < view.length())
    else {
        throw_range_error(scope, "the index is outside of the array");
        return None;
    };
    let place = view.data().addr() + index as usize * size;
    Some(Element { view, index, place, is_shared })
}

/// `Atomics.waitAsync(array, index, value, timeout)`
fn wait_async<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    args: v8::FunctionCallbackArguments<'s>,
    mut rv: v8::ReturnValue<'s, v8::Value>,
) {
    if let Some(answer) = answer(scope, &args) {
        rv.set(answer.into());
    }
}

/// `None` where it has thrown.
fn answer<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    args: &v8::FunctionCallbackArguments<'s>,
) -> Option<v8::Local<'s, v8::Object>> {
    let element = element(scope, args.get(0), args.get(1), true)?;
    let is_long = args.get(0).is_big_int64_array();
    let expected = number(scope, args.get(2), is_long)?;
    let timeout_ms = match args.get(3).number_value(scope)? {
        ms if ms.is_nan() => f64::INFINITY,
        ms => ms.max(0.0),
    };
    let found = element.view.get_index(scope, element.index)?;
    if number(scope, found, is_long)? != expected {
        return at_once(scope, "not-equal");
    }
    if timeout_ms == 0.0 {
        return at_once(scope, TIMED_OUT);
    }
    let host = host(scope);
    if host.waiters.borrow().0.len() >= MAX_TIMERS {
        throw_range_error(scope, "too many waiters: a task may have 100000 at a time");
        return None;
    }
    let resolver = v8::PromiseResolver::new(scope)?;
    let promise = resolver.get_promise(scope);
    let resolver = v8::Global::new(scope, resolver);
    let timer = (timeout_ms <= MAX_WAIT_MS).then(|| {
        host.timers.borrow_mut().add(What::settle(resolver.clone(), TIMED_OUT), timeout_ms)
    });
    let view = v8::Global::new(scope, element.view);
    host.waiters.borrow_mut().0.push(Waiter { place: element.place, _view: view, resolver, timer });
    result(scope, true, promise.into())
}

/// As the array would store it.
fn number(
    scope: &mut v8::PinScope<'_, '_>,
    value: v8::Local<'_, v8::Value>,
    is_long: bool,
) -> Option<i64> {
    if is_long {
        return value.to_big_int(scope).map(|value| value.i64_value().0);
    }
    value.int32_value(scope).map(i64::from)
}

fn at_once<'s>(scope: &mut v8::PinScope<'s, '_>, why: &str) -> Option<v8::Local<'s, v8::Object>> {
    let why = text(scope, why);
    result(scope, false, why.into())
}

fn result<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    is_async: bool,
    value: v8::Local<'_, v8::Value>,
) -> Option<v8::Local<'s, v8::Object>> {
    let object = v8::Object::new(scope);
    let (name, is_async) = (key(scope, "async"), v8::Boolean::new(scope, is_async));
    object.create_data_property(scope, name.into(), is_async.into())?;
    let name = key(scope, "value");
    object.create_data_property(scope, name.into(), value)?;
    Some(object)
}

/// `Atomics.notify(array, index, count)`
fn notify<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    args: v8::FunctionCallbackArguments<'s>,
    mut rv: v8::ReturnValue<'s, v8::Value>,
) {
    let Some(element) = element(scope, args.get(0), args.get(1), false) else {
        return;
    };
    let most = if args.get(2).is_undefined() {
        usize::MAX
    } else {
        let Some(count) = args.get(2).integer_value(scope) else {
            return;
        };
        usize::try_from(count.max(0)).unwrap_or(usize::MAX)
    };
    let count = if element.is_shared { wake(&host(scope), element.place, most) } else { 0 };
    rv.set_uint32(count);
}

/// How many were woken.
fn wake(host: &Host, place: usize, most: usize) -> u32 {
    let woken = host.waiters.borrow_mut().take(place, most);
    let count = u32::try_from(woken.len()).expect("the list is bounded");
    let mut timers = host.timers.borrow_mut();
    for waiter in woken {
        if let Some(timer) = waiter.timer {
            timers.remove(timer);
        }
        timers.add(What::settle(waiter.resolver, NOTIFIED), 0.0);
    }
    count
}
