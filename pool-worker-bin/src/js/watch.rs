//! Ending a running task from another thread, and never the one after it.
//!
//! Owns the answer to "which task runs now, and has somebody asked for its end". Every order names
//! a ticket; begin, end and orders take the same lock, so an order either meets its task or comes
//! to nothing. `terminate_execution` is a flag of the isolate that would outlive the task, so it is
//! taken back under that lock when the task ends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::memory;
use super::task::StopReason;

/// Orders for tasks that have not begun yet which are remembered at most.
const EARLY_ORDERS: usize = 4096;

/// Ends the engine's running task; may be cloned and sent to other threads.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    watch: Arc<Watch>,
}

impl EngineHandle {
    pub(super) fn new(watch: Arc<Watch>) -> Self {
        Self { watch }
    }

    /// Ends the task with this ticket. If it has not begun, it will end as soon as it begins.
    /// Returns false when there is nothing to end: the task is over, or was told before.
    #[expect(
        clippy::must_use_candidate,
        reason = "asking is enough; the task's outcome tells what came of it"
    )]
    pub fn terminate(&self, ticket: u64, reason: StopReason) -> bool {
        self.watch.order(ticket, reason)
    }

    /// Has the running task's memory looked at soon. Between collections nobody else does.
    pub fn look_at_memory(&self) {
        self.watch.ask_about_memory();
    }

    /// The ticket of the running task, if any.
    #[must_use]
    pub fn running(&self) -> Option<u64> {
        let state = self.watch.lock();
        (state.running != 0).then_some(state.running)
    }
}

/// How a task's end was ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) stop: Option<StopReason>,
    pub(super) heap_exceeded: bool,
}

/// The shared state behind handles and engine.
#[derive(Debug)]
pub(super) struct Watch {
    state: Mutex<State>,
    wake: Condvar,
    heap_exceeded: AtomicBool,
    /// Whether V8 has been asked for an interrupt that looks at memory, and has not come to it.
    memory_asked: AtomicBool,
}

#[derive(Debug)]
struct State {
    running: u64,
    /// The largest ticket that has begun.
    begun: u64,
    stop: Option<StopReason>,
    early: BTreeMap<u64, StopReason>,
    isolate: v8::IsolateHandle,
}

impl Watch {
    pub(super) fn new(isolate: v8::IsolateHandle) -> Self {
        Self {
            state: Mutex::new(State {
                running: 0,
                begun: 0,
                stop: None,
                early: BTreeMap::new(),
                isolate,
            }),
            wake: Condvar::new(),
            heap_exceeded: AtomicBool::new(false),
            memory_asked: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, ticket: u64, reason: StopReason) -> bool {
        let mut state = self.lock();
        if state.running == ticket && ticket != 0 {
            if state.stop.is_some() {
                return false;
            }
            state.stop = Some(reason);
            // INVARIANT: under the lock, so that `end` of this very task takes the flag back.
            state.isolate.terminate_execution();
            self.wake.notify_all();
            return true;
        }
        if ticket <= state.begun || state.early.len() >= EARLY_ORDERS {
            return false;
        }
        state.early.entry(ticket).or_insert(reason);
        true
    }

    /// Marks the task as running, unless its end was ordered before.
    pub(super) fn begin(&self, ticket: u64) -> Result<(), StopReason> {
        let mut state = self.lock();
        debug_assert!(ticket > state.begun, "tickets grow from task to task");
        state.begun = state.begun.max(ticket);
        if !state.early.is_empty() {
            let later = state.early.split_off(&(ticket + 1));
            let due = std::mem::replace(&mut state.early, later).remove(&ticket);
            if let Some(reason) = due {
                return Err(reason);
            }
        }
        state.running = ticket;
        state.stop = None;
        Ok(())
    }

    /// Marks the task as over and tells how its end was ordered, if it was.
    pub(super) fn end(&self) -> Ending {
        let mut state = self.lock();
        state.running = 0;
        let ending = Ending {
            stop: state.stop.take(),
            heap_exceeded: self.heap_exceeded.swap(false, Ordering::Relaxed),
        };
        if ending.stop.is_some() || ending.heap_exceeded {
            state.isolate.cancel_terminate_execution();
        }
        ending
    }

    /// Whether the running task has been told to end.
    pub(super) fn stopped(&self) -> bool {
        self.heap_exceeded.load(Ordering::Relaxed) || self.lock().stop.is_some()
    }

    /// Sleeps until the instant or until the task is told to end; true if it was.
    pub(super) fn sleep_until(&self, due: Instant) -> bool {
        let mut state = self.lock();
        loop {
            if state.stop.is_some() {
                return true;
            }
            let Some(rest) = due.checked_duration_since(Instant::now()) else {
                return false;
            };
            if rest.is_zero() {
                return false;
            }
            state = self.wake.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Asks V8 for an interrupt that looks at memory. One that comes after the task finds another
    /// one, or none, and a look does no harm.
    pub(super) fn ask_about_memory(&self) {
        if !self.memory_asked.swap(true, Ordering::Relaxed) {
            self.lock().isolate.request_interrupt(memory::interrupt, std::ptr::null_mut());
        }
    }

    /// The interrupt has come.
    pub(super) fn memory_is_looked_at(&self) {
        self.memory_asked.store(false, Ordering::Relaxed);
    }

    /// The task is to end because of its memory. Called on the engine's own thread, from inside V8.
    /// False if the task has been told before.
    pub(super) fn heap_exceeded(&self) -> bool {
        let is_first = !self.heap_exceeded.swap(true, Ordering::Relaxed);
        if is_first {
            self.lock().isolate.terminate_execution();
        }
        is_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> (v8::OwnedIsolate, Watch) {
        super::super::platform::initialize(1);
        let isolate = v8::Isolate::new(v8::CreateParams::default());
        let handle = isolate.thread_safe_handle();
        (isolate, Watch::new(handle))
    }

    #[test]
    fn an_order_that_comes_after_the_end_does_not_reach_the_next_task() {
        let (isolate, watch) = watch();
        assert_eq!(watch.begin(1), Ok(()));
        assert_eq!(watch.end().stop, None);
        assert!(!watch.order(1, StopReason::Timeout));
        assert_eq!(watch.begin(2), Ok(()));
        assert!(!watch.stopped());
        assert!(!isolate.is_execution_terminating());
        assert_eq!(watch.end().stop, None);
    }

    #[test]
    fn an_order_that_comes_before_the_begin_is_kept_for_its_task() {
        let (_isolate, watch) = watch();
        assert!(watch.order(2, StopReason::Cancelled));
        assert_eq!(watch.begin(1), Ok(()));
        assert!(!watch.stopped());
        assert_eq!(watch.end().stop, None);
        assert_eq!(watch.begin(2), Err(StopReason::Cancelled));
        assert_eq!(watch.begin(3), Ok(()));
    }

    #[test]
    fn the_first_order_gives_the_reason() {
        let (_isolate, watch) = watch();
        assert_eq!(watch.begin(7), Ok(()));
        assert!(watch.order(7, StopReason::CpuLimit));
        assert!(!watch.order(7, StopReason::Cancelled));
        assert_eq!(watch.end().stop, Some(StopReason::CpuLimit));
    }
}
