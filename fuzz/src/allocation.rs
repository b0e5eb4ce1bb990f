//! Counts what a piece of code allocates, so that a target can hold it to a bound.
//!
//! Counted per thread: tests run side by side.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that live, and the most that lived since the last [`peak_during`] began. A thread may
    /// free what another made.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn note(change: isize) {
    // A thread that ends frees without its counters.
    let _ended = LIVE.try_with(|live| {
        live.set(live.get() + change);
        PEAK.try_with(|peak| peak.set(peak.get().max(live.get())))
    });
}

#[expect(clippy::cast_possible_wrap, reason = "no layout is larger than isize::MAX")]
const fn size(layout: &Layout) -> isize {
    layout.size() as isize
}

#[expect(unsafe_code, reason = "an allocator can be given only so")]
// SAFETY: every call goes on to the system's allocator unchanged; the counters own no memory and
// never allocate, being constant-initialised cells without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(size(&layout));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(-size(&layout));
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

/// The result of `work`, and the most bytes that it held at once beyond what lived before.
pub fn peak_during<R>(work: impl FnOnce() -> R) -> (R, usize) {
    let before = LIVE.get();
    let outer = PEAK.replace(before);
    let result = work();
    let peak = PEAK.get();
    PEAK.set(outer.max(peak));
    (result, usize::try_from(peak - before).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::peak_during;

    #[test]
    fn the_most_that_lived_at_once_is_counted() {
        let (kept, peak) = peak_during(|| {
            drop(std::hint::black_box(vec![0u8; 5000]));
            std::hint::black_box(vec![0u8; 3000])
        });
        assert_eq!(peak, 5000);
        let (_, peak) = peak_during(|| drop(kept));
        assert_eq!(peak, 0);
    }
}
