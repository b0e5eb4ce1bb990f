//! What collecting garbage costs, and who pays for it.
//!
//! V8 collects in the time of whichever task runs then: for a millisecond or two what is young, and
//! with many contexts alive for a hundred milliseconds everything, for garbage that thousands of
//! tasks have left. A task of microseconds that is charged with it looks like a long one, and its
//! project waits for its next turn until all others have had as much: with 1,000 of them, for
//! seconds.
//!
//! So the time of collections is measured, and taken out of the figures of the task that met one.
//! Instead each task pays for the bytes that it allocates, at what collecting a byte has cost
//! lately. A collection that a task causes by its own limit of memory stays its own.

use std::cell::Cell;
use std::ffi::c_void;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// With fewer bytes than this a price is not made: an engine that has just begun has collected next
/// to nothing.
const LEAST_BYTES: f64 = (1 << 20) as f64;

/// The collections of one engine.
#[derive(Debug, Default)]
pub(super) struct Collections {
    /// When the one began that is going on.
    since: Cell<Option<Instant>>,
    /// How long they have taken.
    taken: Cell<Duration>,
    price: Cell<Price>,
    /// Bytes ever allocated, up to what has been paid for.
    paid: Cell<u64>,
}

/// Time by bytes, where what is older counts less.
#[derive(Debug, Clone, Copy, Default)]
struct Price {
    ns: f64,
    bytes: f64,
    /// What the last change of it was made of.
    taken: Duration,
    allocated: u64,
}

impl Price {
    fn learn(&mut self, taken: Duration, allocated: u64) {
        self.ns = self.ns / 2.0 + (taken - self.taken).as_nanos() as f64;
        self.bytes = self.bytes / 2.0 + allocated.saturating_sub(self.allocated) as f64;
        (self.taken, self.allocated) = (taken, allocated);
    }

    fn of(self, bytes: u64) -> Duration {
        Duration::from_nanos((self.ns / self.bytes.max(LEAST_BYTES) * bytes as f64) as u64)
    }
}

impl Collections {
    /// Measures from now on.
    // INVARIANT: the caller keeps what is given back until the isolate is gone.
    pub(super) fn attach(isolate: &mut v8::OwnedIsolate) -> Rc<Self> {
        let collections = Rc::new(Self::default());
        let data = Rc::as_ptr(&collections).cast_mut().cast::<c_void>();
        isolate.add_gc_prologue_callback(begins, data, v8::GCType::kGCTypeAll);
        isolate.add_gc_epilogue_callback(ends, data, v8::GCType::kGCTypeAll);
        collections
    }

    /// How long all of them have taken, but those that tasks have to answer for.
    pub(super) fn taken(&self) -> Duration {
        self.taken.get()
    }

    /// Does something for which the running task has to answer.
    pub(super) fn as_its_own(&self, act: impl FnOnce()) {
        let taken = self.taken.get();
        act();
        self.taken.set(taken);
    }

    /// What the task pays for that has just run, or the last ones that did, where so many bytes
    /// have ever been allocated.
    pub(super) fn pay(&self, allocated: u64) -> Duration {
        let mut price = self.price.get();
        if self.taken.get() > price.taken {
            price.learn(self.taken.get(), allocated);
            self.price.set(price);
        }
        price.of(allocated.saturating_sub(self.paid.replace(allocated)))
    }

    /// What has been allocated up to here is no task's.
    pub(super) fn pass_over(&self, allocated: u64) {
        self.paid.set(allocated);
    }

    fn begin(&self) {
        self.since.set(Some(Instant::now()));
    }

    fn end(&self) {
        if let Some(since) = self.since.take() {
            self.taken.set(self.taken.get() + since.elapsed());
        }
    }
}

#[expect(unsafe_code, reason = "called by V8 with the pointer registered in `attach`")]
unsafe extern "C" fn begins(
    _isolate: v8::UnsafeRawIsolatePtr,
    _kind: v8::GCType,
    _flags: v8::GCCallbackFlags,
    data: *mut c_void,
) {
    // SAFETY: what is measured outlives the isolate, and is used on this thread alone.
    unsafe { &*data.cast::<Collections>() }.begin();
}

#[expect(unsafe_code, reason = "called by V8 with the pointer registered in `attach`")]
unsafe extern "C" fn ends(
    _isolate: v8::UnsafeRawIsolatePtr,
    _kind: v8::GCType,
    _flags: v8::GCCallbackFlags,
    data: *mut c_void,
) {
    // SAFETY: what is measured outlives the isolate, and is used on this thread alone.
    unsafe { &*data.cast::<Collections>() }.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn who_allocates_pays_in_proportion_and_not_whoever_meets_the_collection() {
        let collections = Collections::default();
        assert_eq!(collections.pay(30 * MIB), Duration::ZERO, "nothing has been collected");
        // 100 ms for 40 MiB: 2.5 ms for each.
        collections.taken.set(ms(100));
        assert_eq!(collections.pay(40 * MIB), ms(25), "for its 10");
        assert_eq!(collections.pay(40 * MIB), Duration::ZERO);
        assert_eq!(collections.pay(42 * MIB), ms(5));
        collections.pass_over(60 * MIB);
        assert_eq!(collections.pay(61 * MIB), Duration::from_micros(2500), "the 18 were nobody's");
    }

    #[test]
    fn the_price_follows_what_collections_cost_lately() {
        let collections = Collections::default();
        for round in 1..=10 {
            collections.taken.set(ms(100 * round));
            collections.pay(10 * MIB * round);
        }
        assert_eq!(collections.pay(101 * MIB), ms(10));
        // From now on they are ten times as cheap.
        let mut last = ms(10);
        for round in 1..=10 {
            collections.taken.set(ms(1000 + 10 * round));
            let paid = collections.pay(MIB * (101 + 10 * round)) / 10;
            assert!(paid < last, "{paid:?} after {last:?}");
            last = paid;
        }
        assert!(last < ms(2), "{last:?}");
    }

    #[test]
    fn what_a_task_has_to_answer_for_is_in_nobody_elses_price() {
        let collections = Collections::default();
        collections.as_its_own(|| collections.taken.set(ms(500)));
        assert_eq!((collections.taken(), collections.pay(MIB)), (Duration::ZERO, Duration::ZERO));
    }
}
