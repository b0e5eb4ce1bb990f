//! What native functions find when JavaScript calls them: the running task's timers, log, and
//! modules.
//!
//! Owned by the engine and reachable through a slot of the isolate. A context never outlives its
//! turn: whatever calls a native function does so inside the running task, so there is one task's
//! state here and not one per context.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::atomics::Waiters;
use super::console::TaskLog;
use super::modules::{Lexer, ModuleRoots, Modules};
use super::random::Random;
use super::task::JsFailure;
use super::timers::Timers;
use super::watch::Watch;

/// State shared between the engine and the functions it gives to JavaScript.
pub(super) struct Host {
    pub(super) timers: RefCell<Timers>,
    pub(super) waiters: RefCell<Waiters>,
    /// What a callback of `queueMicrotask` threw first.
    pub(super) uncaught: RefCell<Option<JsFailure>>,
    pub(super) log: RefCell<TaskLog>,
    pub(super) modules: RefCell<Option<Rc<Modules>>>,
    pub(super) roots: ModuleRoots,
    /// Made for the first CommonJS file that an ES module imports.
    pub(super) lexer: RefCell<Option<Rc<Lexer>>>,
    /// What modules find as `process.env.NODE_ENV`.
    pub(super) node_env: Option<String>,
    pub(super) watch: Arc<Watch>,
    pub(super) random: RefCell<Random>,
    /// What the frozen realm's next `eval` means: our own call, before the task's code runs.
    pub(super) evaluated: RefCell<Option<v8::Global<v8::String>>>,
    /// The project of the running task.
    pub(super) project: RefCell<String>,
    pub(super) seed: RandomState,
    /// Time that the running task has spent waiting for its timers.
    pub(super) waited: Cell<Duration>,
    pub(super) allow_code_generation: bool,
    /// Whether the engine must run V8's queue of posted work while a task waits.
    pub(super) pump: bool,
}

impl Host {
    /// A task of this project begins.
    pub(super) fn begin(&self, project: &str) {
        let mut current = self.project.borrow_mut();
        if *current != project {
            project.clone_into(&mut current);
        }
    }

    /// The task is over: nothing that it waits for will come, and nothing it left is another's.
    pub(super) fn end(&self) {
        self.timers.borrow_mut().clear();
        self.waiters.borrow_mut().clear();
        self.uncaught.take();
        *self.modules.borrow_mut() = None;
    }

    /// A number that projects share by accident only, below 2²⁰.
    pub(super) fn project_number(&self) -> i32 {
        let hash = self.seed.hash_one(&*self.project.borrow());
        i32::try_from(hash >> 44).expect("20 bits")
    }
}

/// The host of the isolate that the scope belongs to.
pub(super) fn host(isolate: &v8::Isolate) -> Rc<Host> {
    Rc::clone(
        isolate.get_slot::<Rc<Host>>().expect("the engine sets its host before any context exists"),
    )
}

/// A V8 string; text that V8 has no room for, which only a text near 512 MiB is, becomes empty.
pub(super) fn text<'s>(scope: &v8::PinScope<'s, '_, ()>, value: &str) -> v8::Local<'s, v8::String> {
    v8::String::new(scope, value).unwrap_or_else(|| v8::String::empty(scope))
}

/// A property key, shared by all strings with the same characters.
pub(super) fn key<'s>(scope: &v8::PinScope<'s, '_, ()>, value: &str) -> v8::Local<'s, v8::String> {
    v8::String::new_from_utf8(scope, value.as_bytes(), v8::NewStringType::Internalized)
        .unwrap_or_else(|| v8::String::empty(scope))
}

/// Throws a `TypeError` in JavaScript.
pub(super) fn throw_type_error(scope: &mut v8::PinScope<'_, '_>, message: &str) {
    let message = text(scope, message);
    let error = v8::Exception::type_error(scope, message);
    scope.throw_exception(error);
}

/// Throws a `RangeError` in JavaScript.
pub(super) fn throw_range_error(scope: &mut v8::PinScope<'_, '_>, message: &str) {
    let message = text(scope, message);
    let error = v8::Exception::range_error(scope, message);
    scope.throw_exception(error);
}

/// Runs a step of a callback whose caller takes nothing for "has thrown", and makes that so: V8
/// dies of it otherwise. Never throws over a termination, which JavaScript could then catch.
pub(super) fn or_thrown<'s, 'i, T>(
    scope: &mut v8::PinScope<'s, 'i>,
    otherwise: &str,
    step: impl FnOnce(&mut v8::PinScope<'s, 'i>) -> Option<T>,
) -> Option<T> {
    v8::tc_scope!(let scope, scope);
    let value = step(scope);
    if value.is_none() {
        if !scope.has_caught() {
            let message = text(scope, otherwise);
            let error = v8::Exception::range_error(scope, message);
            scope.throw_exception(error);
        }
        scope.rethrow();
    }
    value
}
