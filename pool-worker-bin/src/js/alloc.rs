//! Memory of array buffers, which V8's heap limit does not count.
//!
//! Owns the count of live bytes and refuses what would exceed the limit, or the running task's own;
//! V8 then collects garbage, asks once more, and throws a `RangeError`. Resizable buffers and
//! WebAssembly memories are not taken from here: they are mapped by V8 itself. `memory` watches
//! them; a flag bounds each of the latter, and the process's `RLIMIT_DATA` all.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Alignment that any element type of a typed array is happy with.
const ALIGN: usize = 16;

/// Live bytes and the limit.
#[derive(Debug)]
pub(super) struct BufferBudget {
    used: AtomicUsize,
    limit: usize,
    /// The running task's: its limit over what was live when it began.
    ceiling: AtomicUsize,
}

impl BufferBudget {
    pub(super) fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit, ceiling: AtomicUsize::new(limit) }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// A task begins that may take `bytes`, but no more than the limit, over what is live. Of what
    /// is live, as much as `kept` is not the task's.
    pub(super) fn set_ceiling(&self, bytes: usize, kept: usize) {
        let bytes = bytes.min(self.limit);
        self.ceiling.store(self.used().min(kept).saturating_add(bytes), Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, len: usize) -> bool {
        let ceiling = self.ceiling.load(Ordering::Relaxed);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(len).filter(|sum| *sum <= ceiling)
            })
            .is_ok()
    }

    fn give_back(&self, len: usize) {
        self.used.fetch_sub(len, Ordering::Relaxed);
    }
}

static VTABLE: v8::RustAllocatorVtable<BufferBudget> =
    v8::RustAllocatorVtable { allocate, allocate_uninitialized, free, drop: drop_budget };

/// An allocator for one isolate that counts into the budget.
pub(super) fn allocator(budget: Arc<BufferBudget>) -> v8::UniqueRef<v8::Allocator> {
    #[expect(
        unsafe_code,
        reason = "V8 takes a custom allocator as a handle and a table of functions"
    )]
    // SAFETY: the handle is a counted reference that `drop_budget` gives back; the table is static
    // and its functions match the handle's type.
    unsafe {
        v8::new_rust_allocator(Arc::into_raw(budget), &VTABLE)
    }
}

/// `None` for a length no allocator could serve. Zero bytes still get an address of their own.
fn layout(len: usize) -> Option<Layout> {
    Layout::from_size_align(len.max(1), ALIGN).ok()
}

fn claim(budget: &BufferBudget, len: usize, get: impl FnOnce(Layout) -> *mut u8) -> *mut c_void {
    let Some(layout) = layout(len) else {
        return null_mut();
    };
    if !budget.take(len) {
        return null_mut();
    }
    let data = get(layout);
    if data.is_null() {
        budget.give_back(len);
    }
    data.cast()
}

#[expect(unsafe_code, reason = "called by V8 through the table")]
unsafe extern "C" fn allocate(budget: &BufferBudget, len: usize) -> *mut c_void {
    // SAFETY: the layout's size is not zero.
    claim(budget, len, |layout| unsafe { alloc_zeroed(layout) })
}

#[expect(unsafe_code, reason = "called by V8 through the table")]
unsafe extern "C" fn allocate_uninitialized(budget: &BufferBudget, len: usize) -> *mut c_void {
    // SAFETY: the layout's size is not zero.
    claim(budget, len, |layout| unsafe { alloc(layout) })
}

#[expect(unsafe_code, reason = "called by V8 through the table")]
unsafe extern "C" fn free(budget: &BufferBudget, data: *mut c_void, len: usize) {
    let layout = layout(len).expect("this length was allocated before");
    // SAFETY: V8 gives back what one of the functions above returned for the same length.
    unsafe { dealloc(data.cast(), layout) };
    budget.give_back(len);
}

#[expect(unsafe_code, reason = "called by V8 through the table")]
unsafe extern "C" fn drop_budget(budget: *const BufferBudget) {
    // SAFETY: the pointer came from `Arc::into_raw` in `allocator`, and V8 drops its handle once.
    drop(unsafe { Arc::from_raw(budget) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exceeds_the_budget_is_refused_and_freed_bytes_can_be_taken_again() {
        let budget = BufferBudget::new(100);
        assert!(budget.take(60));
        assert!(!budget.take(41));
        assert!(!budget.take(usize::MAX));
        budget.give_back(60);
        assert!(budget.take(100));
        assert_eq!(budget.used(), 100);
    }

    #[test]
    fn a_task_gets_its_limit_over_what_is_kept_and_over_no_more_than_may_be_kept() {
        let budget = BufferBudget::new(100);
        budget.set_ceiling(50, 40);
        assert!(!budget.take(51));
        assert!(budget.take(30));
        budget.set_ceiling(50, 40);
        assert!(!budget.take(51));
        assert!(budget.take(50));
        budget.set_ceiling(1000, 40);
        assert!(!budget.take(61), "80 are live, of which 40 may be others'");
        assert!(budget.take(60));
    }
}
