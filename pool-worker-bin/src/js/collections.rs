//! What collecting garbage costs, and who pays for it.
//!
//! V8 collects in the time of whichever task runs then: for a millisecond or two what is young, and
//! with many contexts alive for a hundred milliseconds everything, for garbage that thousands of
//! tasks have left. A task of microseconds that is charged with it looks like a long one, and its
//! project waits for its next turn until all others have had as much: with 1,000 of them, for
//! seconds.
//!
//! So the time of collections is measured, and taken out of the figures of the task that met one.
//! Instead the time is a debt of all, and each task pays off a part of it, by the bytes that it
//! allocates. So what was taken is paid in the end, once, and nobody pays much of it. (A price
//! for each byte, from what the last collections took and the bytes between them, was tried: after
//! a collection of everything the young ones come every few bytes, and made it six times too high.)
//! A collection that a task causes by its own limit of memory stays its own.

use std::cell::Cell;
use std::ffi::c_void;
use std::rc::Rc;
use std::time::Duration;

use nix::time::ClockId;

/// Whoever allocates so many bytes pays the whole debt: as much as tasks allocate between two
/// collections of everything, in a worker of a usual size.
const PAID_OVER: u64 = 32 << 20;

/// The collections of one engine.
///
/// Times are CPU times of the engine's thread: what a loaded machine adds to them is nobody's debt.
#[derive(Debug, Default)]
pub(super) struct Collections {
    /// When the one began that is going on.
    since: Cell<Option<Duration>>,
    /// How long they have taken.
    taken: Cell<Duration>,
    /// How much of that is in the debt, or has been.
    noted: Cell<Duration>,
    /// What has been taken and is not paid yet.
    debt: Cell<Duration>,
    /// Bytes ever allocated, up to what has been paid for.
    paid: Cell<u64>,
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
        let bytes = allocated.saturating_sub(self.paid.replace(allocated));
        let taken = self.taken.get();
        let debt = self.debt.get() + (taken - self.noted.replace(taken));
        let payment = debt.mul_f64((bytes as f64 / PAID_OVER as f64).min(1.0));
        self.debt.set(debt - payment);
        payment
    }

    /// What has been allocated up to here is no task's, and its part of the debt is paid by nobody.
    /// (If others paid that too, the debt would grow where a worker does little but make contexts:
    /// tiny tasks would seem long, go wherever there is room, and need more contexts.)
    pub(super) fn pass_over(&self, allocated: u64) {
        self.pay(allocated);
    }

    fn begin(&self) {
        self.since.set(Some(cpu_time()));
    }

    fn end(&self) {
        if let Some(since) = self.since.take() {
            self.taken.set(self.taken.get() + cpu_time().saturating_sub(since));
        }
    }
}

/// CPU time of the calling thread.
fn cpu_time() -> Duration {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    clock.now().expect("the kernel keeps the clock of the thread that asks").into()
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
        collections.taken.set(ms(100));
        assert_eq!(collections.pay(30 * MIB), Duration::ZERO, "it met it and allocated nothing");
        assert_eq!(collections.pay(38 * MIB), ms(25), "for its 8");
        collections.pass_over(60 * MIB);
        let rest = ms(75) * 10 / 32;
        assert_eq!(
            collections.pay(68 * MIB),
            rest / 4,
            "the 22 were nobody's, and so was their part"
        );
        assert_eq!(collections.pay(200 * MIB), rest - rest / 4, "no more than the rest");
        assert_eq!(collections.pay(300 * MIB), Duration::ZERO);
    }

    #[test]
    fn all_that_collections_took_is_paid_and_no_more_however_often_they_come() {
        let collections = Collections::default();
        let (mut allocated, mut dearest, mut sum) = (0, Duration::ZERO, Duration::ZERO);
        for task in 0..10_000 {
            // One of everything now and then, and after it young ones in a row.
            let taken = match task % 100 {
                0 => ms(10),
                1..=10 => ms(1) / 4,
                _ => Duration::ZERO,
            };
            collections.taken.set(collections.taken() + taken);
            allocated += MIB / 2;
            let payment = collections.pay(allocated);
            (dearest, sum) = (dearest.max(payment), sum + payment);
        }
        assert!(dearest < ms(1), "{dearest:?}");
        assert_eq!(sum + collections.debt.get(), collections.taken());
        assert!(collections.debt.get() < ms(20));
    }

    #[test]
    fn what_a_task_has_to_answer_for_is_in_nobody_elses_price() {
        let collections = Collections::default();
        collections.as_its_own(|| collections.taken.set(ms(500)));
        assert_eq!((collections.taken(), collections.pay(MIB)), (Duration::ZERO, Duration::ZERO));
    }
}
