//! Realms: the contexts that tasks run in, and what each context's global object has.
//!
//! Owns the context made ahead for the next fresh task, the warm contexts of projects, least
//! recently used first out, and the frozen one. How many warm ones there may be follows from the
//! memory that they may take; the engine, which measures it, has them go earlier. Decides what is
//! in a global object; a snapshot carries the result. No two contexts share an object, a microtask
//! queue or a security token.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::atomics;
use super::cache::SourceCache;
use super::console;
use super::frozen::{self, KnownCode};
use super::host::key;
use super::lru::Lru;
use super::modules::{self, Modules};
use super::timers;

/// Where there are more projects than contexts, one new context in so many takes the place of one
/// that is in use; the others are the first to go. Projects that take turns would otherwise find,
/// each of them, that its context has just gone.
const KEPT_ONE_IN: u32 = 16;

/// A context with all that belongs to it.
pub(super) struct RealmState {
    pub(super) context: v8::Global<v8::Context>,
    /// Taken by the running task; changed between two tasks only.
    pub(super) queue: RefCell<v8::MicrotaskQueueHandle>,
    pub(super) functions: RefCell<SourceCache<v8::Global<v8::Function>>>,
    /// Of the frozen realm.
    pub(super) known: RefCell<KnownCode>,
    pub(super) modules: Rc<Modules>,
    /// A script has left names in it that the next one could not declare again.
    pub(super) is_spoiled: Cell<bool>,
}

/// What every context of an engine has in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct RealmRules {
    pub(super) allow_code_generation: bool,
    pub(super) allow_wasm: bool,
    /// Whether contexts come out of a snapshot, with their globals already in place.
    pub(super) from_snapshot: bool,
}

/// The contexts of an engine.
pub(super) struct Realms {
    rules: RealmRules,
    /// As many warm ones as there may be at most, and as there may be now: fewer where they hold
    /// more than was expected.
    most_warm: usize,
    max_warm: usize,
    spare: Option<Rc<RealmState>>,
    warm: Lru<String, Rc<RealmState>>,
    /// The one that the last warm task ran in. Another task of that project is no new use of it:
    /// tasks come in batches.
    last: Option<(String, Rc<RealmState>)>,
    /// Contexts that were not kept at the price of those used least recently.
    passed_over: u32,
    frozen: Option<Rc<RealmState>>,
    made: i32,
}

impl RealmState {
    /// Gives the context another microtask queue, so that what is left in this one never runs. No
    /// task may be running.
    pub(super) fn forget_microtasks(&self, isolate: &mut v8::Isolate) {
        let queue = v8::MicrotaskQueue::new(isolate, v8::MicrotasksPolicy::Explicit);
        {
            v8::scope!(let scope, isolate);
            v8::Local::new(scope, &self.context).set_microtask_queue(&queue);
        }
        // INVARIANT: the old queue goes after the context has left it.
        *self.queue.borrow_mut() = queue;
    }
}

impl Realms {
    pub(super) fn new(rules: RealmRules, most_warm: usize) -> Self {
        Self {
            rules,
            most_warm: most_warm.max(1),
            max_warm: most_warm.max(1),
            spare: None,
            warm: Lru::default(),
            last: None,
            passed_over: 0,
            frozen: None,
            made: 0,
        }
    }

    /// Makes the next fresh context ahead, if there is none.
    pub(super) fn prepare_spare(&mut self, isolate: &mut v8::Isolate) {
        if self.spare.is_none() {
            self.spare = Some(self.make(isolate));
        }
    }

    /// The context made ahead, for tests that look at it before and after a task.
    #[cfg(test)]
    pub(super) fn spare(&self) -> Option<Rc<RealmState>> {
        self.spare.clone()
    }

    /// Contexts made so far.
    pub(super) fn made(&self) -> i32 {
        self.made
    }

    /// A context that nothing has run in.
    pub(super) fn fresh(&mut self, isolate: &mut v8::Isolate) -> Rc<RealmState> {
        match self.spare.take() {
            Some(realm) => realm,
            None => self.make(isolate),
        }
    }

    /// The project's own context.
    pub(super) fn warm(&mut self, isolate: &mut v8::Isolate, project: &str) -> Rc<RealmState> {
        if let Some((of, realm)) = &self.last
            && *of == project
        {
            return Rc::clone(realm);
        }
        let realm = match self.warm.get(project) {
            Some(realm) => Rc::clone(realm),
            None => self.keep_another(isolate, project),
        };
        self.last = Some((project.to_owned(), Rc::clone(&realm)));
        realm
    }

    fn keep_another(&mut self, isolate: &mut v8::Isolate, project: &str) -> Rc<RealmState> {
        let is_full = self.warm.len() >= self.max_warm;
        if is_full {
            self.warm.pop_oldest();
            self.passed_over += 1;
        }
        let realm = self.fresh(isolate);
        if is_full && !self.passed_over.is_multiple_of(KEPT_ONE_IN) {
            self.warm.insert_oldest(project.to_owned(), Rc::clone(&realm));
        } else {
            self.warm.insert(project.to_owned(), Rc::clone(&realm));
        }
        realm
    }

    /// Whether the project has a context here.
    pub(super) fn is_warm(&self, project: &str) -> bool {
        self.warm.contains(project)
    }

    /// Warm contexts that are kept now.
    pub(super) fn warm_count(&self) -> usize {
        self.warm.len()
    }

    /// Forgets so many of the warm contexts, those that were used least recently, but never the
    /// last one; and keeps no more from now on. How many that was.
    pub(super) fn evict_oldest(&mut self, count: usize) -> usize {
        let count = count.min(self.warm.len().saturating_sub(1));
        self.last = None;
        for _ in 0..count {
            self.warm.pop_oldest();
        }
        self.max_warm = self.warm.len().max(1);
        count
    }

    /// As many as the settings say may be kept again.
    pub(super) fn lift_bound(&mut self) {
        self.max_warm = self.most_warm;
    }

    /// Forgets every warm context and the frozen one. How many that was.
    pub(super) fn evict_all(&mut self) -> usize {
        let kept = self.warm.len() + usize::from(self.frozen.is_some());
        self.warm = Lru::default();
        self.last = None;
        self.frozen = None;
        kept
    }

    /// Forgets the project's context, whose state can no longer be relied on.
    pub(super) fn discard_warm(&mut self, project: &str) {
        self.warm.remove(project);
        self.last = None;
    }

    /// The context that all tasks of this realm share, made for the first of them. `None` only if
    /// V8 is out of memory or is being told to stop.
    pub(super) fn frozen(&mut self, isolate: &mut v8::Isolate) -> Option<Rc<RealmState>> {
        self.frozen_with(isolate, |_, _| {})
    }

    /// As `frozen`, with something done to the global object before it is frozen.
    pub(super) fn frozen_with(
        &mut self,
        isolate: &mut v8::Isolate,
        plant: impl for<'s> FnOnce(&mut v8::PinScope<'s, '_>, v8::Local<'s, v8::Object>),
    ) -> Option<Rc<RealmState>> {
        if self.frozen.is_none() {
            let realm = self.make(isolate);
            v8::scope!(let scope, isolate);
            let context = v8::Local::new(scope, &realm.context);
            let scope = &mut v8::ContextScope::new(scope, context);
            let global = context.global(scope);
            plant(scope, global);
            frozen::freeze(scope, context)?;
            self.frozen = Some(realm);
        }
        self.frozen.clone()
    }

    /// Forgets the frozen context, for the next task to get another one.
    pub(super) fn discard_frozen(&mut self) {
        self.frozen = None;
    }

    fn make(&mut self, isolate: &mut v8::Isolate) -> Rc<RealmState> {
        self.made = self.made.wrapping_add(1);
        let queue = v8::MicrotaskQueue::new(isolate, v8::MicrotasksPolicy::Explicit);
        let context = {
            v8::scope!(let scope, isolate);
            let options = v8::ContextOptions {
                microtask_queue: Some(queue_pointer(&queue)),
                ..Default::default()
            };
            let context = v8::Context::new(scope, options);
            let scope = &mut v8::ContextScope::new(scope, context);
            let token = v8::Integer::new(scope, self.made);
            context.set_security_token(token.into());
            context.set_allow_generation_from_strings(self.rules.allow_code_generation);
            if !self.rules.from_snapshot {
                install_globals(scope, context);
            }
            self.take_away(scope, context);
            v8::Global::new(scope, context)
        };
        Rc::new(RealmState {
            context,
            queue: RefCell::new(queue),
            functions: RefCell::default(),
            known: RefCell::default(),
            modules: Rc::default(),
            is_spoiled: Cell::default(),
        })
    }

    /// Removes what depends on this engine's settings and so is not decided in the snapshot.
    fn take_away(&self, scope: &mut v8::PinScope<'_, '_>, context: v8::Local<'_, v8::Context>) {
        let global = context.global(scope);
        if !self.rules.allow_wasm {
            delete(scope, global, "WebAssembly");
            return;
        }
        // Its callbacks would run from the queue that WebAssembly needs pumped, in whichever task
        // comes next.
        delete(scope, global, "FinalizationRegistry");
    }
}

fn delete(scope: &mut v8::PinScope<'_, '_>, holder: v8::Local<'_, v8::Object>, name: &str) {
    let name = key(scope, name);
    holder.delete(scope, name.into());
}

/// The address that V8 wants to know a queue by. The handle owns the queue, and the realm owns the
/// handle.
fn queue_pointer(queue: &v8::MicrotaskQueueHandle) -> *mut v8::MicrotaskQueue {
    std::ptr::from_ref::<v8::MicrotaskQueue>(queue).cast_mut()
}

/// Puts our functions into a new context's global object.
pub(super) fn install_globals(
    scope: &mut v8::PinScope<'_, '_>,
    context: v8::Local<'_, v8::Context>,
) {
    let global = context.global(scope);
    for (name, callback) in globals() {
        define_function(scope, global, name, 0, callback);
    }
    atomics::install(scope, global);
    let console = v8::Object::new(scope);
    for (name, callback) in console::functions() {
        define_function(scope, console, name, 0, callback);
    }
    let name = key(scope, "console");
    global.define_own_property(
        scope,
        name.into(),
        console.into(),
        v8::PropertyAttribute::DONT_ENUM,
    );
}

/// Addresses of everything native that a context can refer to: a snapshot stores positions in this
/// list.
pub(super) fn external_references() -> Vec<v8::ExternalReference> {
    let atomics = atomics::functions().into_iter().map(|(name, _, function)| (name, function));
    let functions = globals().into_iter().chain(console::functions()).chain(atomics);
    functions.map(|(_, function)| v8::ExternalReference { function }).collect()
}

type Native = (&'static str, v8::FunctionCallback);

fn globals() -> Vec<Native> {
    use v8::MapFnTo as _;
    vec![
        ("setTimeout", timers::set_timeout.map_fn_to()),
        ("setInterval", timers::set_interval.map_fn_to()),
        ("clearTimeout", timers::clear_timer.map_fn_to()),
        ("clearInterval", timers::clear_timer.map_fn_to()),
        ("queueMicrotask", timers::queue_microtask.map_fn_to()),
        ("structuredClone", super::clone::structured_clone.map_fn_to()),
    ]
}

pub(super) fn define_function(
    scope: &mut v8::PinScope<'_, '_>,
    target: v8::Local<'_, v8::Object>,
    name: &str,
    parameters: i32,
    callback: v8::FunctionCallback,
) {
    let name = key(scope, name);
    let function = v8::Function::builder_raw(callback)
        .constructor_behavior(v8::ConstructorBehavior::Throw)
        .length(parameters)
        .build(scope)
        .expect("a new context has room for its own functions");
    function.set_name(name);
    target.define_own_property(
        scope,
        name.into(),
        function.into(),
        v8::PropertyAttribute::DONT_ENUM,
    );
}

/// Connects the isolate with what contexts need while they run.
pub(super) fn prepare_isolate(isolate: &mut v8::Isolate, rules: RealmRules) {
    isolate.set_microtasks_policy(v8::MicrotasksPolicy::Explicit);
    isolate.set_capture_stack_trace_for_uncaught_exceptions(true, super::errors::MAX_FRAMES);
    if !rules.allow_wasm {
        isolate.set_allow_wasm_code_generation_callback(refuse_wasm);
    }
    modules::prepare_isolate(isolate);
}

#[expect(unsafe_code, reason = "called by V8")]
unsafe extern "C" fn refuse_wasm(
    _context: v8::Local<'_, v8::Context>,
    _source: v8::Local<'_, v8::String>,
) -> bool {
    false
}
