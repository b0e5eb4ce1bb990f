//! Memory of the running task: the engine's heap limit, and the task's own, which may be lower.
//!
//! V8 has one heap limit, fixed when the isolate is made; [`MemoryGuard`] answers when it is
//! reached. A task's limit
//! is watched instead: each collection, and the watching thread now and then, asks whether more is in use than the task
//! may have; if so, a full collection tells what is garbage, and only what is left ends the task. Between two such looks
//! a task can go beyond its limit, for the few milliseconds that takes, never beyond V8's. Buffers
//! that are mapped
//! by V8 itself are watched in the same way, against the limit of all.
//!
//! Nobody pays for what others left. Between tasks there may be `kept_limit` bytes alive, on the
//! heap and in buffers, for warm contexts above all; V8's limit is higher by that, and a task's
//! limit counts from what was there when it began. What is above the bound is collected between two
//! tasks, and if it is alive the engine lets contexts go.
//!
//! What a task keeps is what the heap holds more than at its start. The heap may hold garbage then,
//! which would be a gift to the task. To clean it before each task would cost small ones more
//! than they take themselves; so it is cleaned at the first look after the task has allocated [`SLACK_SHARE`] of its
//! limit, and what the task holds by then, or the garbage if that was less, remains a gift.

use std::cell::Cell;
use std::ffi::c_void;
use std::rc::Rc;
use std::sync::Arc;

use super::alloc::BufferBudget;
use super::watch::Watch;

/// The part of a task's limit, as a divisor, that is not worth a collection.
const SLACK_SHARE: usize = 2;

/// A limit that was reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached {
    used: usize,
    limit: usize,
    what: Kept,
}

/// What has a limit.
#[derive(Debug, Clone, Copy)]
enum Kept {
    /// The engine's heap, which all tasks share.
    Heap,
    /// What one task has on the heap.
    HeapOfTask,
    /// Array buffers of all kinds.
    Buffers,
}

impl Reached {
    /// What to tell the task's owner. The figures leave out what was there before the task.
    pub(super) fn message(self) -> String {
        let what = match self.what {
            Kept::Heap => "the JavaScript heap reached its",
            Kept::HeapOfTask => "the task's JavaScript heap reached its",
            Kept::Buffers => "array buffers reached their",
        };
        format!("{what} limit of {} with {} in use", mebibytes(self.limit), mebibytes(self.used))
    }

    /// Whether it was not the heap.
    pub(super) fn is_of_buffers(self) -> bool {
        matches!(self.what, Kept::Buffers)
    }
}

fn mebibytes(bytes: usize) -> String {
    if bytes.is_multiple_of(1 << 20) {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
    }
}

/// A task's limit, the engine's or a lower one.
#[derive(Debug, Clone, Copy)]
struct TaskLimit {
    bytes: usize,
    /// Bytes on the heap that are not the task's.
    base: usize,
    /// Bytes in buffers that are not the task's.
    buffers_base: usize,
    /// Bytes ever allocated when it began.
    began_at: u64,
    /// Whether the base is mostly alive.
    base_is_clean: bool,
}

impl TaskLimit {
    fn slack(&self) -> usize {
        self.bytes / SLACK_SHARE
    }

    /// Bytes the task has allocated, garbage included.
    fn allocated(&self, heap: &v8::HeapStatistics) -> usize {
        usize::try_from(heap.total_allocated_bytes().saturating_sub(self.began_at)).unwrap_or(usize::MAX)
    }

    /// What may be too much, garbage included.
    fn excess(&self, heap: &v8::HeapStatistics) -> Option<Reached> {
        let used = heap.used_heap_size().saturating_sub(self.base);
        (used > self.bytes).then_some(Reached { used, limit: self.bytes, what: Kept::HeapOfTask })
    }

    /// Whether a collection would tell something worth knowing.
    fn is_doubtful(&self, heap: &v8::HeapStatistics) -> bool {
        self.excess(heap).is_some() || (!self.base_is_clean && self.allocated(heap) > self.slack())
    }
}

/// What was there between two tasks, when that was looked at last.
#[derive(Debug, Clone, Copy, Default)]
struct Before {
    /// Bytes in use, garbage included.
    heap: usize,
    buffers: usize,
    /// Bytes ever allocated on the heap.
    allocated: u64,
}

impl Before {
    fn kept(self) -> usize {
        self.heap + self.buffers
    }
}

/// What V8's callbacks find and leave; a slot of the isolate holds it.
pub(super) struct MemoryGuard {
    isolate: v8::UnsafeRawIsolatePtr,
    watch: Arc<Watch>,
    buffers: Arc<BufferBudget>,
    heap_limit: usize,
    /// What may be alive between two tasks, on the heap and in buffers together.
    kept_limit: usize,
    task: Cell<Option<TaskLimit>>,
    before: Cell<Before>,
    /// About what was alive on the heap between tasks when it was cleaned last; less if less was in use since.
    floor: Cell<usize>,
    /// With more than this in use between tasks the heap is cleaned.
    untidy_above: Cell<usize>,
    /// Whether V8's limit was raised for the running task.
    raised: Cell<bool>,
    /// The limit that was reached last, if any was.
    reached: Cell<Option<Reached>>,
}

impl MemoryGuard {
    /// Sets the callbacks.
    // INVARIANT: the caller keeps the guard in its place until the isolate is gone.
    pub(super) fn attach(
        isolate: &mut v8::OwnedIsolate,
        watch: Arc<Watch>,
        buffers: Arc<BufferBudget>,
        heap_limit: usize,
        kept_limit: usize,
    ) -> Rc<Self> {
        let floor = isolate.get_heap_statistics().used_heap_size();
        let guard = Rc::new(Self {
            isolate: raw_isolate(isolate),
            watch,
            buffers,
            heap_limit,
            kept_limit,
            task: Cell::new(None),
            before: Cell::new(Before { heap: floor, buffers: 0, allocated: 0 }),
            floor: Cell::new(floor),
            untidy_above: Cell::new(kept_limit),
            raised: Cell::new(false),
            reached: Cell::new(None),
        });
        let data = Rc::as_ptr(&guard).cast_mut().cast::<c_void>();
        isolate.add_near_heap_limit_callback(near_heap_limit, data);
        isolate.add_gc_epilogue_callback(after_collection, data, v8::GCType::kGCTypeAll);
        isolate.set_slot(Rc::clone(&guard));
        guard
    }

    /// The limit that was reached last, if any was.
    pub(super) fn reached(&self) -> Option<Reached> {
        self.reached.get()
    }

    /// Before a task with this limit begins, and before its time counts: collects what others left
    /// in buffers, if that may be garbage worth mentioning. No task is so small that it leaves this
    /// much by the way. Whether it did.
    pub(super) fn make_room(&self, isolate: &mut v8::Isolate, limit: usize) -> bool {
        let is_due = self.is_own(limit) && self.buffers.used() > limit / SLACK_SHARE;
        if is_due {
            isolate.low_memory_notification();
        }
        is_due
    }

    /// Whether a limit is the task's own: it is below the engine's.
    fn is_own(&self, limit: usize) -> bool {
        limit < self.heap_limit.max(self.buffers.limit())
    }

    /// A task begins, in a realm that is there already.
    pub(super) fn begin(&self, isolate: &mut v8::Isolate, limit: usize) {
        // Whatever is there, it gets all of its limit, up to what the process has room for.
        self.buffers.set_ceiling(limit, self.kept_limit);
        if !self.is_own(limit) {
            // So as not to read the figures before each task: what was there when they were read
            // last will do.
            let before = self.before.get();
            self.task.set(Some(TaskLimit {
                bytes: self.heap_limit,
                base: before.heap,
                buffers_base: before.buffers,
                began_at: before.allocated,
                base_is_clean: true,
            }));
            return;
        }
        let heap = isolate.get_heap_statistics();
        let base = heap.used_heap_size();
        self.floor.set(self.floor.get().min(base));
        self.task.set(Some(TaskLimit {
            bytes: limit,
            base,
            buffers_base: heap.external_memory(),
            began_at: heap.total_allocated_bytes(),
            base_is_clean: base - self.floor.get() <= limit / SLACK_SHARE,
        }));
    }

    /// Between two tasks: notes what is in use, and says whether that is too much to be left as it
    /// is. A heap whose limit was reached is not used again, and a collection that finds it full
    /// would end the process before the task's outcome is told.
    pub(super) fn is_untidy(&self, heap: &v8::HeapStatistics) -> bool {
        self.note(heap);
        self.before.get().kept() > self.untidy_above.get() && self.reached.get().is_none()
    }

    fn note(&self, heap: &v8::HeapStatistics) {
        let buffers = self.buffers.used().max(heap.external_memory());
        let allocated = heap.total_allocated_bytes();
        self.before.set(Before { heap: heap.used_heap_size(), buffers, allocated });
    }

    /// Between two tasks: collects, and says whether what is alive is within the bound. V8 keeps
    /// compiled code until it is old, and asks for more room before it lets go of it; so a stream
    /// of code that is new each time would fill the heap, and end a task that is not to blame. What
    /// is kept on purpose is not collected over and over.
    pub(super) fn collect(&self, isolate: &mut v8::Isolate) -> bool {
        isolate.low_memory_notification();
        self.note(&isolate.get_heap_statistics());
        self.floor.set(self.before.get().heap);
        let kept = self.before.get().kept();
        self.untidy_above.set(self.kept_limit.max(kept + self.kept_limit / 2));
        kept <= self.kept_limit
    }

    /// The task is over.
    pub(super) fn end(&self) {
        self.raised.set(false);
        self.task.set(None);
    }

    /// Ends the task if it keeps more than it may have.
    fn judge(&self, isolate: &mut v8::Isolate) {
        self.judge_buffers(isolate);
        let Some(task) = self.task.get() else {
            return;
        };
        if !task.is_doubtful(&isolate.get_heap_statistics()) || self.watch.stopped() {
            return;
        }
        isolate.low_memory_notification();
        let heap = isolate.get_heap_statistics();
        let left = heap.used_heap_size();
        self.floor.set(left.saturating_sub(task.allocated(&heap)));
        // What is left is the task's and what was alive before it: so that was no more than this.
        let task = TaskLimit { base: task.base.min(left), base_is_clean: true, ..task };
        self.task.set(Some(task));
        if let Some(reached) = task.excess(&heap)
            && self.watch.heap_exceeded()
        {
            self.reached.set(Some(reached));
        }
    }

    /// Resizable buffers do not come from our allocator, so nothing stops them while they grow; V8 counts them with the
    /// others. What is shared it does not count, nor WebAssembly memories: there `RLIMIT_DATA` is the only bound.
    fn judge_buffers(&self, isolate: &mut v8::Isolate) {
        let Some(task) = self.task.get() else {
            return;
        };
        let (base, bytes) = (task.buffers_base.min(self.kept_limit), task.bytes.min(self.buffers.limit()));
        let limit = base.saturating_add(bytes);
        if isolate.get_heap_statistics().external_memory() <= limit || self.watch.stopped() {
            return;
        }
        isolate.low_memory_notification();
        let used = isolate.get_heap_statistics().external_memory();
        if used > limit && self.watch.heap_exceeded() {
            let used = used - base;
            self.reached.set(Some(Reached { used, limit: bytes, what: Kept::Buffers }));
        }
    }
}

#[expect(unsafe_code, reason = "the heap's callback is given nothing but a pointer of ours")]
fn raw_isolate(isolate: &v8::Isolate) -> v8::UnsafeRawIsolatePtr {
    // SAFETY: kept in the guard, and used in a callback of this very isolate alone.
    unsafe { isolate.as_raw_isolate_ptr() }
}

/// V8 asks for more room. It gets as much again as a task may have, so that the unwinding of the
/// task does not die of the same shortage,
/// and the task is told to end. An array that doubles needs that much for one step.
#[expect(unsafe_code, reason = "called by V8 with the pointer registered in `attach`")]
unsafe extern "C" fn near_heap_limit(data: *mut c_void, current_limit: usize, _initial_limit: usize) -> usize {
    // SAFETY: the guard outlives the isolate, and is used on this thread alone.
    let guard = unsafe { &*data.cast::<MemoryGuard>() };
    // SAFETY: V8 calls from inside this very isolate; reading figures allocates nothing.
    let used = unsafe { v8::Isolate::from_raw_isolate_ptr(guard.isolate) }.get_heap_statistics().used_heap_size();
    // A refused array buffer looks like a full heap to V8; the `RangeError` that follows is enough.
    if guard.buffers.was_refused() && used < current_limit / 4 * 3 {
        return current_limit;
    }
    if guard.raised.replace(true) {
        // The task has not ended in the room it was given: let V8 die, with its last words.
        return current_limit;
    }
    // A task that is ending by its own limit gets the room too, and keeps its figures.
    if guard.watch.heap_exceeded() {
        let used = used.saturating_sub(guard.before.get().heap);
        guard.reached.set(Some(Reached { used, limit: guard.heap_limit, what: Kept::Heap }));
    }
    current_limit + guard.heap_limit
}

/// V8 has collected garbage. That leaves some, so nothing is decided here; and nothing can be collected here.
#[expect(unsafe_code, reason = "called by V8 with the pointer registered in `attach`")]
unsafe extern "C" fn after_collection(
    isolate: v8::UnsafeRawIsolatePtr,
    _kind: v8::GCType,
    _flags: v8::GCCallbackFlags,
    data: *mut c_void,
) {
    // SAFETY: the guard outlives the isolate, and is used on this thread alone.
    let guard = unsafe { &*data.cast::<MemoryGuard>() };
    let Some(task) = guard.task.get() else {
        return;
    };
    // SAFETY: V8 calls from inside this very isolate; reading figures allocates nothing.
    if task.is_doubtful(&unsafe { v8::Isolate::from_raw_isolate_ptr(isolate) }.get_heap_statistics()) {
        guard.watch.ask_about_memory();
    }
}

/// V8 has come to a point of the task's code where it can be interrupted, and a collection is allowed.
#[expect(unsafe_code, reason = "called by V8")]
pub(super) unsafe extern "C" fn interrupt(isolate: v8::UnsafeRawIsolatePtr, _data: *mut c_void) {
    // SAFETY: V8 calls on the isolate's thread, from inside it.
    let mut isolate = unsafe { v8::Isolate::from_raw_isolate_ptr(isolate) };
    if let Some(guard) = isolate.get_slot::<Rc<MemoryGuard>>().cloned() {
        guard.watch.memory_is_looked_at();
        guard.judge(&mut isolate);
    }
}
