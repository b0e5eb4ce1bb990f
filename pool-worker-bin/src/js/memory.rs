//! Memory of the running task: the engine's heap limit, and the task's own, which may be lower.
//!
//! V8 has one heap limit, fixed when the isolate is made; [`MemoryGuard`] answers when it is
//! reached. A task's limit is watched instead: each collection, and the watching thread now and
//! then, asks whether more is in use than the task may have; if so, a full collection tells what is
//! garbage, and only what is left ends the task. Between two such looks a task can go beyond its
//! limit, for the few milliseconds that takes, never beyond V8's. Buffers and WebAssembly memories
//! that are mapped by V8 itself are watched in the same way, against the limit of all. What V8 does
//! not count at all, such as shared buffers that grow, is watched by what the process has left: at
//! its wall V8 finds no page for a collection, and dies.
//!
//! Nobody pays for what others left. Between tasks there may be `kept_limit` bytes alive, on the
//! heap and in buffers, for warm contexts above all; V8's limit is higher by that, and a task's
//! limit counts from what was there when it began. What is above the bound is collected between two
//! tasks, and if it is alive the engine lets contexts go.
//!
//! What a task keeps is what the heap holds more than at its start. The heap may hold garbage then,
//! which would be a gift to the task. To clean it before each task would cost small ones more than
//! they take themselves; so it is cleaned at the first look after the task has allocated
//! [`SLACK_SHARE`] of its limit, and what the task holds by then, or the garbage if that was less,
//! remains a gift.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::rc::Rc;
use std::sync::Arc;

use super::alloc::BufferBudget;
use super::collections::Collections;
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
    /// Array buffers of all kinds that V8 counts.
    Buffers,
    /// With WebAssembly memories, and what else V8 knows of outside of its heap.
    Outside,
    /// The process, by what the kernel says.
    Process,
}

/// How many bytes the process may still take, if somebody knows.
pub(super) type RoomLeft = Box<dyn Fn() -> Option<usize>>;

impl Reached {
    /// What to tell the task's owner. The figures leave out what was there before the task.
    pub(super) fn message(self) -> String {
        let what = match self.what {
            Kept::Heap => "the JavaScript heap reached its",
            Kept::HeapOfTask => "the task's JavaScript heap reached its",
            Kept::Buffers => "array buffers reached their",
            Kept::Outside => "array buffers and WebAssembly memories reached their",
            Kept::Process => {
                let left = mebibytes(self.limit.saturating_sub(self.used));
                return format!(
                    "the worker's process had only {left} left of the memory that it may take"
                );
            }
        };
        format!("{what} limit of {} with {} in use", mebibytes(self.limit), mebibytes(self.used))
    }

    /// Whether it was not the heap.
    pub(super) fn is_of_buffers(self) -> bool {
        !matches!(self.what, Kept::Heap | Kept::HeapOfTask)
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
        usize::try_from(heap.total_allocated_bytes().saturating_sub(self.began_at))
            .unwrap_or(usize::MAX)
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

/// What V8 has been given over its limit, which it asks for when it finds no room.
#[derive(Debug, Clone, Copy, Default)]
enum Raised {
    /// Nothing.
    #[default]
    No,
    /// The limit was this. The heap was not full, so it is not clear yet that this is the heap's
    /// doing: V8 asks in the same way before it throws for a buffer that is too large.
    Perhaps(usize),
    /// The heap is full, and the task has been told to end.
    Full,
}

/// What V8's callbacks find and leave; a slot of the isolate holds it.
pub(super) struct MemoryGuard {
    isolate: v8::UnsafeRawIsolatePtr,
    watch: Arc<Watch>,
    buffers: Arc<BufferBudget>,
    collections: Rc<Collections>,
    heap_limit: usize,
    room_left: RefCell<Option<RoomLeft>>,
    /// What may be alive between two tasks, on the heap and in buffers together.
    kept_limit: usize,
    task: Cell<Option<TaskLimit>>,
    before: Cell<Before>,
    /// About what was alive on the heap between tasks when it was cleaned last; less if less was in
    /// use since.
    floor: Cell<usize>,
    /// With more than this in use between tasks the heap is cleaned.
    untidy_above: Cell<usize>,
    /// Whether V8's limit was raised for the running task.
    raised: Cell<Raised>,
    /// The limit that was reached last, if any was.
    reached: Cell<Option<Reached>>,
}

impl MemoryGuard {
    /// Sets the callbacks.
    // INVARIANT: the caller keeps the guard in its place until the isolate is gone.
    pub(super) fn attach(
        isolate: &mut v8::OwnedIsolate,
        watch: Arc<Watch>,
        (buffers, collections): (Arc<BufferBudget>, Rc<Collections>),
        heap_limit: usize,
        kept_limit: usize,
    ) -> Rc<Self> {
        let floor = isolate.get_heap_statistics().used_heap_size();
        let guard = Rc::new(Self {
            isolate: raw_isolate(isolate),
            watch,
            buffers,
            collections,
            heap_limit,
            room_left: RefCell::default(),
            kept_limit,
            task: Cell::new(None),
            before: Cell::new(Before { heap: floor, buffers: 0, allocated: 0 }),
            floor: Cell::new(floor),
            untidy_above: Cell::new(kept_limit),
            raised: Cell::default(),
            reached: Cell::new(None),
        });
        let data = Rc::as_ptr(&guard).cast_mut().cast::<c_void>();
        isolate.add_near_heap_limit_callback(near_heap_limit, data);
        isolate.add_gc_epilogue_callback(after_collection, data, v8::GCType::kGCTypeAll);
        isolate.set_slot(Rc::clone(&guard));
        guard
    }

    /// From now on the process's memory is looked at as well.
    pub(super) fn watch_process(&self, room_left: RoomLeft) {
        *self.room_left.borrow_mut() = Some(room_left);
    }

    /// Whether the process has so little left that its task must end. It runs no other one.
    pub(super) fn process_is_short(&self) -> Option<Reached> {
        let left = self.room_left.borrow().as_ref()?()?;
        if left >= self.heap_limit {
            return None;
        }
        let used = self.heap_limit - left;
        let reached = Reached { used, limit: self.heap_limit, what: Kept::Process };
        self.reached.set(Some(reached));
        Some(reached)
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
            buffers_base: outside_of_heap(isolate),
            began_at: heap.total_allocated_bytes(),
            base_is_clean: base - self.floor.get() <= limit / SLACK_SHARE,
        }));
    }

    /// Between two tasks: notes what is in use, and says whether that is too much to be left as it
    /// is. A heap whose limit was reached is not used again, and a collection that finds it full
    /// would end the process before the task's outcome is told.
    pub(super) fn is_untidy(&self, isolate: &mut v8::Isolate, heap: &v8::HeapStatistics) -> bool {
        self.note(isolate, heap);
        self.before.get().kept() > self.untidy_above.get() && self.reached.get().is_none()
    }

    /// Whether half of what may be kept is free.
    pub(super) fn has_plenty(&self) -> bool {
        self.before.get().kept() < self.kept_limit / 2
    }

    /// How many of so many parts of what is kept have to go, as if they were equal, so that an
    /// eighth of what may be kept is free: room for others before the next collection.
    pub(super) fn parts_too_many(&self, parts: usize) -> usize {
        let kept = self.before.get().kept();
        let too_much = kept.saturating_sub(self.kept_limit / 8 * 7);
        too_much.div_ceil((kept / parts.max(1)).max(1))
    }

    fn note(&self, isolate: &mut v8::Isolate, heap: &v8::HeapStatistics) {
        let buffers = self.buffers.used().max(outside_of_heap(isolate));
        let allocated = heap.total_allocated_bytes();
        self.before.set(Before { heap: heap.used_heap_size(), buffers, allocated });
    }

    /// Between two tasks: collects, and says whether what is alive is within the bound. V8 keeps
    /// compiled code until it is old, and asks for more room before it lets go of it; so a stream
    /// of code that is new each time would fill the heap, and end a task that is not to blame. What
    /// is kept on purpose is not collected over and over.
    ///
    /// One collection takes about a millisecond for each megabyte that is alive, and mostly
    /// suffices. All that the engine can do takes two to seven of them.
    pub(super) fn collect(&self, isolate: &mut v8::Isolate) -> bool {
        isolate.memory_pressure_notification(v8::MemoryPressureLevel::Critical);
        let heap = isolate.get_heap_statistics();
        self.note(isolate, &heap);
        if self.before.get().kept() > self.kept_limit {
            isolate.low_memory_notification();
            let heap = isolate.get_heap_statistics();
            self.note(isolate, &heap);
        }
        self.floor.set(self.before.get().heap);
        let kept = self.before.get().kept();
        self.untidy_above.set(self.kept_limit.max(kept + self.kept_limit / 2));
        kept <= self.kept_limit
    }

    /// The task is over.
    pub(super) fn end(&self, isolate: &mut v8::Isolate) {
        if let Raised::Perhaps(limit) = self.raised.get() {
            self.lower(isolate, limit);
        }
        self.raised.set(Raised::No);
        self.task.set(None);
    }

    /// V8 has its limit back, or what the heap takes by now.
    fn lower(&self, isolate: &mut v8::Isolate, limit: usize) {
        self.raised.set(Raised::No);
        isolate.remove_near_heap_limit_callback(near_heap_limit, limit);
        isolate.add_near_heap_limit_callback(
            near_heap_limit,
            std::ptr::from_ref(self).cast_mut().cast::<c_void>(),
        );
    }

    /// Collects because of the running task, which has to answer for it.
    fn collect_for_task(&self, isolate: &mut v8::Isolate) {
        self.collections.as_its_own(|| isolate.low_memory_notification());
    }

    /// Ends the task if it keeps more than it may have.
    fn judge(&self, isolate: &mut v8::Isolate) {
        if let Raised::Perhaps(limit) = self.raised.get() {
            self.judge_heap(isolate, limit);
        }
        self.judge_buffers(isolate);
        self.judge_process(isolate);
        let Some(task) = self.task.get() else {
            return;
        };
        if !task.is_doubtful(&isolate.get_heap_statistics()) || self.watch.stopped() {
            return;
        }
        self.collect_for_task(isolate);
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

    /// Finds out what V8 wanted more room for: a large object, which then lies above the limit, or
    /// something that is not on the heap.
    fn judge_heap(&self, isolate: &mut v8::Isolate, limit: usize) {
        let mut used = isolate.get_heap_statistics().used_heap_size();
        if used > limit {
            self.collect_for_task(isolate);
            used = isolate.get_heap_statistics().used_heap_size();
        }
        if used <= limit {
            self.lower(isolate, limit);
        } else {
            self.heap_is_full(used);
        }
    }

    /// The task is to end, in the room that V8 has been given.
    fn heap_is_full(&self, used: usize) {
        self.raised.set(Raised::Full);
        // A task that is ending by its own limit keeps its figures.
        if self.watch.heap_exceeded() {
            let used = used.saturating_sub(self.before.get().heap);
            self.reached.set(Some(Reached { used, limit: self.heap_limit, what: Kept::Heap }));
        }
    }

    /// Resizable buffers and WebAssembly memories do not come from our allocator, so nothing stops
    /// them while they grow; V8 counts them with the others. What is shared it does not count.
    fn judge_buffers(&self, isolate: &mut v8::Isolate) {
        let Some(task) = self.task.get() else {
            return;
        };
        let (base, bytes) =
            (task.buffers_base.min(self.kept_limit), task.bytes.min(self.buffers.limit()));
        let limit = base.saturating_add(bytes);
        if outside_of_heap(isolate) <= limit || self.watch.stopped() {
            return;
        }
        self.collect_for_task(isolate);
        let used = outside_of_heap(isolate);
        if used > limit && self.watch.heap_exceeded() {
            let in_buffers = isolate.get_heap_statistics().external_memory();
            let what = if in_buffers > limit { Kept::Buffers } else { Kept::Outside };
            self.reached.set(Some(Reached { used: used - base, limit: bytes, what }));
        }
    }

    /// A task may have all that its limits add up to, and the process has room for as much again to
    /// end it. Once it takes that, it ends, however it came by it.
    fn judge_process(&self, isolate: &mut v8::Isolate) {
        let room_left = self.room_left.borrow();
        let Some(room_left) = &*room_left else {
            return;
        };
        let is_short = || room_left().is_some_and(|bytes| bytes < self.heap_limit);
        if !is_short() || self.watch.stopped() {
            return;
        }
        self.collect_for_task(isolate);
        let left = room_left().unwrap_or(usize::MAX);
        if left < self.heap_limit && self.watch.heap_exceeded() {
            let used = self.heap_limit - left;
            self.reached.set(Some(Reached { used, limit: self.heap_limit, what: Kept::Process }));
        }
    }
}

/// Bytes that V8 has outside of its heap, or is told that somebody else has: array buffers,
/// WebAssembly memories, an estimate for `Intl`. Its statistics have the buffers alone.
pub(super) fn outside_of_heap(isolate: &mut v8::Isolate) -> usize {
    usize::try_from(isolate.adjust_amount_of_external_allocated_memory(0)).unwrap_or(0)
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
unsafe extern "C" fn near_heap_limit(
    data: *mut c_void,
    current_limit: usize,
    _initial_limit: usize,
) -> usize {
    // SAFETY: the guard outlives the isolate, and is used on this thread alone.
    let guard = unsafe { &*data.cast::<MemoryGuard>() };
    // SAFETY: V8 calls from inside this very isolate; reading figures allocates nothing.
    let used = unsafe { v8::Isolate::from_raw_isolate_ptr(guard.isolate) }
        .get_heap_statistics()
        .used_heap_size();
    let is_full = used >= current_limit / 4 * 3;
    match guard.raised.get() {
        Raised::No if !is_full => {
            guard.raised.set(Raised::Perhaps(current_limit));
            guard.watch.ask_about_memory();
        }
        Raised::No | Raised::Perhaps(_) if is_full => guard.heap_is_full(used),
        // V8 has got what there is. If that was for something else than the heap, it throws; if the
        // task has not ended in the room it was given, let V8 die, with its last words.
        Raised::No | Raised::Perhaps(_) | Raised::Full => return current_limit,
    }
    current_limit + guard.heap_limit
}

/// V8 has collected garbage. That leaves some, so nothing is decided here; and nothing can be
/// collected here.
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
    let mut isolate = unsafe { v8::Isolate::from_raw_isolate_ptr(isolate) };
    if task.is_doubtful(&isolate.get_heap_statistics()) {
        guard.watch.ask_about_memory();
    }
}

/// V8 has come to a point of the task's code where it can be interrupted, and a collection is
/// allowed.
#[expect(unsafe_code, reason = "called by V8")]
pub(super) unsafe extern "C" fn interrupt(isolate: v8::UnsafeRawIsolatePtr, _data: *mut c_void) {
    // SAFETY: V8 calls on the isolate's thread, from inside it.
    let mut isolate = unsafe { v8::Isolate::from_raw_isolate_ptr(isolate) };
    if let Some(guard) = isolate.get_slot::<Rc<MemoryGuard>>().cloned() {
        guard.watch.memory_is_looked_at();
        guard.judge(&mut isolate);
    }
}
