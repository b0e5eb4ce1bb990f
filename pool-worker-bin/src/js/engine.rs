//! The engine: one isolate, and the order in which things happen around a task.
//!
//! Owns the isolate and everything that points into it. Decides which realm a task gets, what an
//! ending means, and whether the engine may be used again. One engine per thread; it stays on the
//! thread that made it.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::hash::RandomState;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::alloc::{self, BufferBudget};
use super::code::BodyChecker;
use super::collections::Collections;
pub use super::console::LogSink;
use super::console::TaskLog;
use super::context::{self, RealmRules, RealmState, Realms};
use super::errors::{self, Trouble};
use super::host::Host;
use super::memory::{self, MemoryGuard, Reached};
use super::modules::ModuleRoots;
use super::perform::{Bench, perform};
use super::task::{FailureKind, JsFailure, JsOutcome, JsTask, Realm, StopReason};
use super::timers::Timers;
use super::watch::{Ending, EngineHandle, Watch};
use super::{platform, snapshot};

/// Very short tasks share one reading of the memory's figures: so many, and as many more as there
/// are contexts.
const TASKS_PER_READING: usize = 32;

/// There is a reading after tasks that ran this long together, which takes about a microsecond.
const READING_AFTER: Duration = Duration::from_micros(50);

/// And so much later for each context: V8 counts them for each reading, one by one, and where there
/// are hundreds each is far away in memory.
const READING_LATER: Duration = Duration::from_micros(1);

/// Where fewer tasks than this share a reading, the last of them was no very short one.
const FEW_TASKS: usize = 4;

/// What a warm context takes up that has run a small function.
const CONTEXT_BYTES: usize = 192 << 10;

/// Room for compiled code. V8 maps it writable at once, so that all of it counts against
/// `RLIMIT_DATA`; its own default is twice as much.
const CODE_RANGE_BYTES: usize = 64 << 20;

/// Settings of an engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// What a task may have on V8's heap.
    pub heap_limit_bytes: usize,
    /// What a task may have in array buffers.
    pub array_buffer_limit_bytes: usize,
    /// Longest result, as JSON.
    pub result_limit_bytes: usize,
    /// Console text of a task that is kept; the rest is dropped and marked.
    pub log_limit_bytes: usize,
    /// Whether `eval` and `new Function` work.
    pub allow_code_generation: bool,
    /// Whether `WebAssembly` exists.
    pub allow_wasm: bool,
    /// Folders that modules may be loaded from.
    pub module_roots: Vec<PathBuf>,
    /// Other paths by which roots are called, and the root that each leads to.
    pub module_links: Vec<(PathBuf, PathBuf)>,
    /// Conditions of package manifests that hold, besides those that Node knows.
    pub conditions: Vec<String>,
    /// What modules find as `process.env.NODE_ENV`; nothing: they find no `process`.
    pub node_env: Option<String>,
    /// What may be alive between two tasks, on the heap and in array buffers together: contexts
    /// that are kept, and what they hold. A task has its limits on top of that.
    pub kept_limit_bytes: usize,
    /// Projects whose contexts are kept at most, where there is memory for so many.
    pub max_warm_projects: usize,
    /// What [`snapshot::create`] gave; anything else is ignored.
    pub snapshot: Option<Cow<'static, [u8]>>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            heap_limit_bytes: 128 << 20,
            array_buffer_limit_bytes: 128 << 20,
            result_limit_bytes: 8 << 20,
            log_limit_bytes: 256 << 10,
            allow_code_generation: false,
            allow_wasm: false,
            module_roots: Vec::new(),
            module_links: Vec::new(),
            conditions: Vec::new(),
            node_env: None,
            kept_limit_bytes: 128 << 20,
            max_warm_projects: 1024,
            snapshot: None,
        }
    }
}

/// One isolate and its realms.
// INVARIANT: fields are dropped from first to last; the isolate must go after everything that
// points into it, and before what it points to.
pub struct Engine {
    pub(super) realms: Realms,
    checker: Option<BodyChecker>,
    host: Rc<Host>,
    watch: Arc<Watch>,
    buffers: Arc<BufferBudget>,
    result_limit: usize,
    has_snapshot: bool,
    memory_bytes: u64,
    tasks_since_reading: usize,
    ran_since_reading: Duration,
    /// What each of the very short tasks owes that share the next reading, by the last one.
    owed_by_each: Duration,
    /// V8's posted work has been done since the last task's microtasks were.
    has_pumped: bool,
    /// More is kept than may be, if it is not garbage.
    is_untidy: bool,
    /// One warm context keeps more than may be kept: it goes when somebody else comes.
    is_crowded: bool,
    /// What the task about to run has been given.
    entered: Option<Rc<RealmState>>,
    pub(super) isolate: v8::OwnedIsolate,
    /// V8 holds its address for as long as the isolate lives.
    memory: Rc<MemoryGuard>,
    /// As it does that of this.
    collections: Rc<Collections>,
}

impl Engine {
    /// Makes an engine on this thread. `sink` gets each console line as it is written.
    #[must_use]
    pub fn new(config: EngineConfig, sink: LogSink) -> Self {
        platform::initialize(config.array_buffer_limit_bytes.div_ceil(64 << 10));
        let buffers = Arc::new(BufferBudget::new(config.array_buffer_limit_bytes));
        let snapshot = config.snapshot.and_then(snapshot::accept);
        let rules = RealmRules {
            allow_code_generation: config.allow_code_generation,
            allow_wasm: config.allow_wasm,
            from_snapshot: snapshot.is_some(),
        };
        let mut params = v8::CreateParams::default()
            .heap_limits(0, config.heap_limit_bytes + config.kept_limit_bytes)
            .set_code_range_size_in_bytes(CODE_RANGE_BYTES)
            .array_buffer_allocator(alloc::allocator(Arc::clone(&buffers)))
            .allow_atomics_wait(false)
            .external_references(Cow::Owned(context::external_references()));
        if let Some(snapshot) = snapshot {
            params = params.snapshot_blob(snapshot);
        }
        let mut isolate = v8::Isolate::new(params);
        // The machine's time zone is looked for now, and not with the first date: by then its files
        // may be out of reach.
        isolate.date_time_configuration_change_notification(v8::TimeZoneDetection::Redetect);
        let watch = Arc::new(Watch::new(isolate.thread_safe_handle()));
        let host = Rc::new(Host {
            timers: RefCell::new(Timers::default()),
            waiters: RefCell::default(),
            uncaught: RefCell::default(),
            log: RefCell::new(TaskLog::new(sink, config.log_limit_bytes)),
            modules: RefCell::new(None),
            roots: ModuleRoots::new(&config.module_roots, &config.module_links, &config.conditions),
            lexer: RefCell::default(),
            node_env: config.node_env,
            watch: Arc::clone(&watch),
            random: RefCell::default(),
            evaluated: RefCell::default(),
            project: RefCell::default(),
            seed: RandomState::new(),
            waited: Cell::default(),
            allow_code_generation: config.allow_code_generation,
            pump: config.allow_wasm,
        });
        isolate.set_slot(Rc::clone(&host));
        context::prepare_isolate(&mut isolate, rules);
        isolate.set_oom_error_handler(platform::out_of_memory);
        let collections = Collections::attach(&mut isolate);
        let memory = MemoryGuard::attach(
            &mut isolate,
            Arc::clone(&watch),
            (Arc::clone(&buffers), Rc::clone(&collections)),
            config.heap_limit_bytes,
            config.kept_limit_bytes,
        );
        // Seven eighths of what may be kept are for contexts as such, the rest is for what they
        // hold.
        let most_warm =
            (config.kept_limit_bytes / 8 * 7 / CONTEXT_BYTES).min(config.max_warm_projects);
        Self {
            realms: Realms::new(rules, most_warm),
            checker: None,
            host,
            memory,
            collections,
            watch,
            buffers,
            result_limit: config.result_limit_bytes,
            has_snapshot: rules.from_snapshot,
            memory_bytes: 0,
            tasks_since_reading: TASKS_PER_READING,
            ran_since_reading: Duration::ZERO,
            owed_by_each: Duration::ZERO,
            has_pumped: false,
            is_untidy: false,
            is_crowded: false,
            entered: None,
            isolate,
        }
    }

    /// By which other threads end the running task.
    #[must_use]
    pub fn handle(&self) -> EngineHandle {
        EngineHandle::new(Arc::clone(&self.watch))
    }

    /// Whether contexts come out of the snapshot that was given.
    #[must_use]
    pub fn uses_snapshot(&self) -> bool {
        self.has_snapshot
    }

    /// Whether a heap limit was ever reached. The engine's has been raised for it, and the heap has
    /// grown, so take another process.
    #[must_use]
    pub fn must_be_replaced(&self) -> bool {
        self.memory.reached().is_some()
    }

    /// What is known of array buffers that ended a task: the heap may have been nearly empty.
    #[must_use]
    pub fn buffers_exceeded(&self) -> Option<String> {
        self.memory.reached().filter(|reached| reached.is_of_buffers()).map(Reached::message)
    }

    /// From now on a task also ends when the process has little memory left. `room_left`: how much
    /// it may still take, if that is known; asked each time a task's memory is looked at.
    pub fn watch_process(&mut self, room_left: impl Fn() -> Option<usize> + 'static) {
        self.memory.watch_process(Box::new(room_left));
    }

    /// Makes the next fresh context ahead; for the time when there is nothing else to do.
    pub fn prepare_spare(&mut self) {
        self.realms.prepare_spare(&mut self.isolate);
    }

    /// To be called before a task begins, and before its time counts: takes away what others left,
    /// if that could get into its way. Whether that took any time.
    pub fn make_room(&mut self, task: &JsTask<'_>) -> bool {
        let is_owners = task.realm == Realm::Warm && self.realms.is_warm(task.project);
        if self.is_crowded && !is_owners {
            self.is_crowded = false;
            self.realms.evict_all();
            self.memory.collect(&mut self.isolate);
            return true;
        }
        task.memory_limit_bytes.is_some_and(|limit| self.memory.make_room(&mut self.isolate, limit))
    }

    /// Gets the task's context ready. Whether one had to be made, which is not the task's doing.
    pub fn enter(&mut self, task: &JsTask<'_>) -> bool {
        let made = self.realms.made();
        self.entered = match task.realm {
            Realm::Fresh => Some(self.realms.fresh(&mut self.isolate)),
            Realm::Warm => Some(self.realms.warm(&mut self.isolate, task.project)),
            Realm::Frozen => self.realms.frozen(&mut self.isolate),
        };
        let is_new = self.realms.made() != made;
        if is_new {
            self.collections.pass_over(self.isolate.get_heap_statistics().total_allocated_bytes());
        }
        is_new
    }

    /// Runs one task to its end.
    pub fn run(&mut self, task: &JsTask<'_>) -> JsOutcome {
        if self.entered.is_none() {
            self.make_room(task);
            self.enter(task);
        }
        let started = Instant::now();
        let realm = self.entered.take();
        if let Err(reason) = self.watch.begin(task.ticket) {
            drop(realm);
            return self.outcome(Err(terminated(reason)), Duration::ZERO, Duration::ZERO);
        }
        let collected = self.collections.taken();
        self.host.begin(task.project);
        self.host.log.borrow_mut().begin(task.ticket, task.capture_logs);
        let result = match &realm {
            Some(realm) => self.run_in(task, realm),
            None => Err(Trouble::Thrown),
        };
        let collected = self.collections.taken() - collected;
        let ending = self.watch.end();
        let result = match result {
            Ok(json) => Ok(json),
            Err(Trouble::Failed(failure)) => Err(self.judged(*failure)),
            Err(Trouble::Thrown) => Err(self.explain(ending)),
        };
        if let Some(realm) = &realm {
            self.tidy(task, realm, &result);
        }
        // INVARIANT: before memory is looked at, since a context that is held is not collected.
        drop(realm);
        self.outcome(result, started.elapsed(), collected)
    }

    fn run_in(&mut self, task: &JsTask<'_>, realm: &Rc<RealmState>) -> Result<Vec<u8>, Trouble> {
        *self.host.modules.borrow_mut() = Some(Rc::clone(&realm.modules));
        self.memory.begin(&mut self.isolate, task.memory_limit_bytes.unwrap_or(usize::MAX));
        let result = self.execute(task, realm);
        self.finish_posted_work();
        self.memory.end(&mut self.isolate);
        self.host.end();
        result
    }

    /// Has V8 do what the task has had it post, such as the rest of a compilation, in the time of
    /// this task. What a task that is told to end leaves goes with the worker, which runs no other
    /// one.
    fn finish_posted_work(&mut self) {
        if !self.host.pump {
            return;
        }
        let platform = v8::V8::get_current_platform();
        while !self.watch.stopped()
            && v8::Platform::pump_message_loop(&platform, &self.isolate, false)
        {
            self.has_pumped = true;
        }
    }

    /// Leaves nothing in a kept realm that the next task there must not meet.
    fn tidy(&mut self, task: &JsTask<'_>, realm: &RealmState, result: &Result<Vec<u8>, JsFailure>) {
        // Only a result is waited for until the queue of microtasks is empty, and posted work may
        // fill it again.
        let has_microtasks = std::mem::take(&mut self.has_pumped) || result.is_err();
        match task.realm {
            Realm::Fresh => {}
            Realm::Warm => {
                if realm.modules.failed() || realm.is_spoiled.get() || leaves_doubt(result) {
                    self.realms.discard_warm(task.project);
                } else if has_microtasks {
                    realm.forget_microtasks(&mut self.isolate);
                }
            }
            Realm::Frozen => {
                if result.as_ref().is_err_and(|failure| is_cut_short(failure.kind)) {
                    self.realms.discard_frozen();
                } else if has_microtasks {
                    realm.forget_microtasks(&mut self.isolate);
                }
            }
        }
    }

    fn execute(&mut self, task: &JsTask<'_>, realm: &RealmState) -> Result<Vec<u8>, Trouble> {
        v8::scope!(let scope, &mut self.isolate);
        let context = v8::Local::new(scope, &realm.context);
        let scope = &mut v8::ContextScope::new(scope, context);
        v8::tc_scope!(let scope, scope);
        let bench =
            Bench { host: &self.host, checker: &mut self.checker, result_limit: self.result_limit };
        let result = perform(scope, bench, realm, task.realm, &task.work);
        match result {
            Err(Trouble::Thrown) if !self.watch.stopped() && !scope.has_terminated() => {
                let message = scope.message();
                let thrown = scope.exception();
                scope.reset();
                match thrown {
                    Some(thrown) => Err(errors::describe(scope, thrown, message).into()),
                    None => Err(Trouble::Thrown),
                }
            }
            other => other,
        }
    }

    /// Where the process gets no more memory, V8 throws for a buffer as it does for one that is too
    /// long. If that is seen before the look at the memory, it is the same end.
    fn judged(&self, failure: JsFailure) -> JsFailure {
        if failure.kind == FailureKind::Exception
            && failure.name == "RangeError"
            && let Some(reached) = self.memory.process_is_short()
        {
            return JsFailure::new(FailureKind::MemoryLimit, "RangeError", reached.message());
        }
        failure
    }

    /// Why a task without result and without exception ended.
    fn explain(&self, ending: Ending) -> JsFailure {
        if ending.heap_exceeded {
            let message = self.memory.reached().map(Reached::message).unwrap_or_default();
            return JsFailure::new(FailureKind::MemoryLimit, "RangeError", message);
        }
        match ending.stop {
            Some(reason) => terminated(reason),
            None => JsFailure::new(
                FailureKind::Exception,
                "Error",
                "the engine gave neither a result nor an exception",
            ),
        }
    }

    fn outcome(
        &mut self,
        result: Result<Vec<u8>, JsFailure>,
        ran: Duration,
        collected: Duration,
    ) -> JsOutcome {
        self.tasks_since_reading += 1;
        self.ran_since_reading += ran;
        let contexts = self.realms.warm_count();
        let is_due = self.ran_since_reading > READING_AFTER + READING_LATER * contexts as u32
            || self.tasks_since_reading >= TASKS_PER_READING + contexts;
        let mut owed = self.owed_by_each;
        if is_due {
            let tasks = std::mem::take(&mut self.tasks_since_reading);
            self.ran_since_reading = Duration::ZERO;
            let heap = self.isolate.get_heap_statistics();
            self.memory_bytes = (heap.used_heap_size() + self.buffers.used()) as u64;
            owed = self.pay(heap.total_allocated_bytes(), tasks);
            self.is_untidy = self.memory.is_untidy(&mut self.isolate, &heap);
            if self.memory.has_plenty() {
                self.realms.lift_bound();
            }
        }
        let (logs, logs_truncated) = self.host.log.borrow_mut().end();
        let waited = self.host.waited.take();
        JsOutcome {
            result,
            logs,
            logs_truncated,
            memory_bytes: self.memory_bytes,
            waited,
            collected,
            owed,
            memory_was_read: is_due,
        }
    }

    /// What the task owes that has just run, where so many share this reading. The next ones owe as
    /// much as each of these, if they were many: one of them is not to look long for the others.
    fn pay(&mut self, allocated: u64, tasks: usize) -> Duration {
        let owed = self.collections.pay(allocated);
        if tasks < FEW_TASKS {
            self.owed_by_each = Duration::ZERO;
            return owed;
        }
        self.owed_by_each = owed / tasks as u32;
        self.owed_by_each
    }

    /// To be called between tasks, after one whose figures of memory were read. Brings what is kept
    /// below its bound: garbage first, then contexts, those that were used least recently before
    /// others. Whether that took any time.
    pub fn tidy_up(&mut self) -> bool {
        if !std::mem::take(&mut self.is_untidy) {
            return false;
        }
        let mut fits = self.memory.collect(&mut self.isolate);
        // If those were small ones, the next step takes half of what is left.
        let mut going = self.memory.parts_too_many(self.realms.warm_count());
        while !fits && self.realms.evict_oldest(going) > 0 {
            fits = self.memory.collect(&mut self.isolate);
            going = self.realms.warm_count().div_ceil(2);
        }
        // The last one may stay as long as nobody else comes: a project that is alone here loses
        // nothing.
        self.is_crowded = !fits;
        true
    }

    /// Bytes that the engine has taken from the system and accounts for: heap and array buffers.
    #[must_use]
    pub fn accounted_bytes(&mut self) -> usize {
        let heap = self.isolate.get_heap_statistics();
        heap.total_heap_size() + self.buffers.used().max(memory::outside_of_heap(&mut self.isolate))
    }

    /// Collects what no task can reach any more, with the memory behind it that the engine does not
    /// account for.
    pub fn collect(&mut self) {
        self.memory.collect(&mut self.isolate);
    }

    /// Lets go of every context that is kept, and of all that was compiled for them.
    pub fn forget_contexts(&mut self) {
        self.realms.evict_all();
        self.is_crowded = false;
        self.collect();
    }
}

/// Whether a task may have left its warm context in a state nobody expects.
fn leaves_doubt(result: &Result<Vec<u8>, JsFailure>) -> bool {
    result.as_ref().is_err_and(|failure| {
        is_cut_short(failure.kind) || failure.kind == FailureKind::PromiseNeverSettled
    })
}

/// Whether the task ended in the middle of anything.
fn is_cut_short(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::Terminated(_) | FailureKind::MemoryLimit)
}

fn terminated(reason: StopReason) -> JsFailure {
    let message = match reason {
        StopReason::Timeout => "the task ran longer than its time limit",
        StopReason::CpuLimit => "the task used more CPU time than its limit",
        StopReason::Cancelled => "the task was cancelled",
    };
    JsFailure::new(FailureKind::Terminated(reason), "Error", message)
}
