//! CPU clocks: of the process, and of one thread as another thread reads it.

use std::time::Duration;

use nix::time::ClockId;

/// A thread's CPU clock. Reading it costs a system call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThreadClock(ClockId);

impl ThreadClock {
    /// The calling thread's, readable from any thread of this process.
    pub(crate) fn current() -> Self {
        // The kernel's encoding of "the scheduler's clock of the thread with this id", which libc
        // makes for pthread_getcpuclockid too: the id's complement, then 4 for a thread and 2 for
        // the scheduler's clock.
        let tid = nix::unistd::gettid().as_raw();
        Self(ClockId::from_raw((!tid << 3) | 4 | 2))
    }

    /// CPU time since the thread's start.
    pub(crate) fn now(self) -> Duration {
        read(self.0)
    }
}

/// CPU time of the process since its start.
pub(crate) fn process_cpu() -> Duration {
    read(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

fn read(clock: ClockId) -> Duration {
    clock.now().expect("the kernel keeps CPU clocks of living threads").into()
}

/// CPU time of tasks on one thread, without a system call for each.
///
/// A thread cannot use more CPU time than passes. So a short task's wall time stands for its CPU
/// time, and a long one's is what the clock says has been used since it was last asked, less the
/// short tasks in between.
#[derive(Debug)]
pub(crate) struct Meter {
    clock: ThreadClock,
    asked: Duration,
    short: Duration,
}

/// Up to this wall time a task is short.
const SHORT: Duration = Duration::from_micros(200);

impl Meter {
    pub(crate) fn new(clock: ThreadClock) -> Self {
        Self { clock, asked: clock.now(), short: Duration::ZERO }
    }

    /// The CPU time of a task that has just ended.
    pub(crate) fn charge(&mut self, wall: Duration) -> Duration {
        if wall <= SHORT {
            self.short += wall;
            return wall;
        }
        let now = self.clock.now();
        let used = (now.saturating_sub(self.asked)).saturating_sub(self.short).min(wall);
        self.asked = now;
        self.short = Duration::ZERO;
        used
    }

    /// To be called in spare time, so that what is not a task's is not charged to one.
    pub(crate) fn rest(&mut self) {
        self.asked = self.clock.now();
        self.short = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn burn(wall: Duration) {
        let start = Instant::now();
        while start.elapsed() < wall {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn another_thread_reads_this_threads_clock() {
        let clock = ThreadClock::current();
        burn(Duration::from_millis(20));
        let (seen, own) =
            std::thread::spawn(move || (clock.now(), ThreadClock::current().now())).join().unwrap();
        assert!(seen > own, "{seen:?} is the burning thread's, {own:?} the fresh one's");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "sleeping is what is measured")]
    fn sleeping_is_not_charged_and_burning_is() {
        let mut meter = Meter::new(ThreadClock::current());
        std::thread::sleep(Duration::from_millis(30));
        let slept = meter.charge(Duration::from_millis(30));
        let start = Instant::now();
        while meter.clock.now() < meter.asked + Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let burnt = meter.charge(start.elapsed());
        assert!(burnt >= Duration::from_millis(20).min(start.elapsed()), "{burnt:?}");
        assert!(slept < burnt, "{slept:?} < {burnt:?}");
        assert_eq!(meter.charge(Duration::from_micros(3)), Duration::from_micros(3));
    }
}
