//! The watching thread: heartbeats, deadlines, CPU budgets, and the supervisor's words while a task
//! runs.
//!
//! Decides when a running task has used up its time. Must not run tasks, nor be woken for each of
//! them: while tasks run it looks every few milliseconds, and when none has run for a while it
//! sleeps until the next heartbeat or until the running thread, which then finds it asleep, wakes
//! it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use pool_protocol::worker::HeartbeatHead;

use super::{Link, Running, StopOrder, StopReason};
use crate::clock::{ThreadClock, process_cpu};
use crate::lockdown::{self, CpuWall};

/// Between two looks while tasks run: a cancel is seen this late, a short task's result behind a
/// long one goes out so late.
const LOOK: Duration = Duration::from_millis(5);
/// Without a task for this long, it sleeps.
const DROWSY: Duration = Duration::from_millis(50);
/// For the running task to end after the supervisor is gone: programs are killed in this time.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);

/// Ends the running task from this thread. An order for a task that is over must come to nothing.
pub(crate) trait EndTask: Send + 'static {
    /// Asks for the end; does not wait for it.
    fn end(&self, order: StopOrder);

    /// Called now and then while a task runs that is within its time.
    fn look(&self) {}
}

/// What the thread owns.
pub(crate) struct Watch<E> {
    link: Arc<Link>,
    end: E,
    heartbeat: Duration,
    /// Of the thread that runs tasks; nothing where tasks' CPU time is not that thread's.
    clock: Option<ThreadClock>,
    wall: CpuWall,
    statm: File,
    page_bytes: u64,
    next_beat: Instant,
    last_busy: Instant,
    seen: u64,
    /// The running thread's clock at the last look.
    last: Reading,
    watched: Option<Watched>,
}

/// What the running thread's clock said, and when.
#[derive(Clone, Copy)]
struct Reading {
    at: Instant,
    cpu: Duration,
}

/// What keeps the thread from its work.
#[must_use]
pub(crate) struct Gate(Sender<()>);

impl Gate {
    /// Lets the thread begin.
    pub(crate) fn open(self) {
        self.0.send(()).expect("the thread waits for it");
    }

    fn wait(opened: &Receiver<()>) {
        if opened.recv().is_err() {
            // The process gives up before it began, and ends.
            loop {
                thread::park();
            }
        }
    }
}

/// What is known of the running task.
struct Watched {
    ticket: u64,
    /// It may begin anew.
    started: Instant,
    /// The running thread's clock when the task began, or later.
    cpu_base: Duration,
    told: bool,
}

impl<E: EndTask> Watch<E> {
    /// Opens what is needed, so that nothing has to be opened later.
    pub(crate) fn new(
        link: Arc<Link>,
        heartbeat: Duration,
        clock: Option<ThreadClock>,
        wall: CpuWall,
        end: E,
    ) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            link,
            end,
            heartbeat,
            clock,
            wall,
            statm: File::open("/proc/self/statm")?,
            // It asks the kernel, once.
            page_bytes: rustix::param::page_size() as u64,
            next_beat: now,
            last_busy: now,
            seen: 0,
            last: Reading { at: now, cpu: clock.map_or(Duration::ZERO, ThreadClock::now) },
            watched: None,
        })
    }

    /// Starts the thread, which does nothing before the gate is opened: threads cannot be started
    /// any more when all is locked down, and the first frame on the link must not be a heartbeat.
    /// It ends with the process.
    pub(crate) fn start(self) -> io::Result<Gate> {
        let link = Arc::clone(&self.link);
        let ((gate, opened), (here, arrived)) = (channel(), channel());
        let run = move || {
            here.send(()).expect("it is waited for");
            Gate::wait(&opened);
            self.run();
        };
        let thread =
            thread::Builder::new().name("watch".into()).stack_size(256 * 1024).spawn(run)?;
        // INVARIANT: waited for: a beginning thread gives itself a name and a stack for signals, by
        // calls that are taken away next.
        arrived.recv().expect("a panic ends the process");
        link.watch_thread.set(thread.thread().clone()).expect("there is one watch");
        Ok(Gate(gate))
    }

    fn run(mut self) {
        loop {
            let now = Instant::now();
            let beat = (now >= self.next_beat).then(|| self.measure());
            let Some(look) = self.link.look(beat.as_ref()) else {
                return self.orphaned();
            };
            if look.beat_taken {
                self.next_beat = now + self.heartbeat;
            }
            if let Some(order) = look.stop {
                self.tell(order);
            }
            let (running, begun) = self.link.running();
            if running.is_some() || begun != self.seen {
                self.seen = begun;
                self.last_busy = now;
            }
            // Read at each look, also while nothing runs: see `Reading::base_of`.
            let reading =
                Reading { at: now, cpu: self.clock.map_or(Duration::ZERO, ThreadClock::now) };
            let judged = running.map_or(LOOK, |running| self.judge(&running, reading));
            self.last = reading;
            if now.duration_since(self.last_busy) < DROWSY {
                thread::park_timeout(judged.min(self.next_beat.saturating_duration_since(now)));
            } else {
                self.sleep(now);
            }
        }
    }

    /// Sleeps until the next heartbeat or until there is a task.
    fn sleep(&mut self, now: Instant) {
        self.link.watch_asleep.store(true, Ordering::SeqCst);
        // INVARIANT: asked after the flag is up: a task that came before is seen here, one that
        // comes later wakes.
        if !self.link.is_busy() {
            thread::park_timeout(self.next_beat.saturating_duration_since(now));
        }
        self.link.watch_asleep.store(false, Ordering::SeqCst);
        if self.link.is_busy() {
            self.last_busy = Instant::now();
        }
    }

    /// Ends the running task when its time is over; how long until it has to be looked at again.
    fn judge(&mut self, running: &Running, reading: Reading) -> Duration {
        let now = reading.at;
        let &Running { ticket, started, .. } = running;
        if self.watched.as_ref().is_none_or(|w| (w.ticket, w.started) != (ticket, started)) {
            let cpu_base = self.last.base_of(started, reading);
            self.watched = Some(Watched { ticket, started, cpu_base, told: false });
            self.wall.move_behind(running.cpu);
        }
        let watched = self.watched.as_ref().expect("set above");
        if watched.told {
            return LOOK;
        }
        let cpu_left = match self.clock {
            Some(_) => running.cpu.saturating_sub(reading.cpu.saturating_sub(watched.cpu_base)),
            None => LOOK,
        };
        let wall_left = running.deadline.map_or(LOOK, |at| at.saturating_duration_since(now));
        let reason = if wall_left.is_zero() {
            StopReason::Timeout
        } else if cpu_left.is_zero() {
            StopReason::CpuLimit
        } else {
            self.end.look();
            return LOOK.min(wall_left).min(cpu_left);
        };
        self.tell(StopOrder { ticket: running.ticket, reason });
        LOOK
    }

    fn tell(&mut self, order: StopOrder) {
        if let Some(watched) = self.watched.as_mut().filter(|w| w.ticket == order.ticket) {
            watched.told = true;
        }
        self.end.end(order);
    }

    fn measure(&self) -> HeartbeatHead {
        HeartbeatHead { rss_bytes: self.resident().unwrap_or(0), cpu_us: micros(process_cpu()) }
    }

    fn resident(&self) -> Option<u64> {
        let mut text = [0; 128];
        let len = self.statm.read_at(&mut text, 0).ok()?;
        let pages: u64 = std::str::from_utf8(&text[..len]).ok()?.split(' ').nth(1)?.parse().ok()?;
        Some(pages * self.page_bytes)
    }

    /// Nobody will read what this worker does: it ends, and if the running task does not let it, it
    /// dies.
    #[expect(clippy::disallowed_methods, reason = "nothing is left to wait for but the end")]
    fn orphaned(self) {
        if let Some(running) = self.link.running().0 {
            self.end.end(StopOrder { ticket: running.ticket, reason: StopReason::Orphaned });
        }
        thread::sleep(ORPHAN_GRACE);
        lockdown::end_at_once()
    }
}

impl Reading {
    /// The clock at the beginning of a task that is seen `first` by now, and had not begun at this
    /// reading: or later, never earlier. The clock cannot be read for each task. But until the task
    /// began, the thread used no more CPU time than passed, so the rest is the task's. Where this
    /// thread was kept waiting, the task may get that much more; it is not ended for CPU time that
    /// it has not used.
    fn base_of(self, started: Instant, first: Self) -> Duration {
        let before = started.saturating_duration_since(self.at);
        first.cpu.min(self.cpu + before)
    }
}

/// A duration as the wire counts it.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_charged_with_what_is_surely_its_own() {
        let zero = Instant::now();
        let reading = |at, cpu| Reading {
            at: zero + Duration::from_millis(at),
            cpu: Duration::from_millis(cpu),
        };
        let used = |last: Reading, started, first: Reading| {
            (first.cpu - last.base_of(zero + Duration::from_millis(started), first)).as_millis()
        };
        // The thread was busy all the time: the task began 2 ms after the last look, and runs for
        // 3.
        assert_eq!(used(reading(100, 50), 102, reading(105, 55)), 3);
        // This thread was kept waiting, and the task's as well: it has run for 38 ms of 90.
        assert_eq!(used(reading(100, 50), 101, reading(191, 89)), 38);
        // Others may have used the time in which it had not begun.
        assert_eq!(used(reading(100, 50), 140, reading(145, 88)), 0);
        assert_eq!(used(reading(100, 50), 140, reading(145, 93)), 3);
        // It began while the last look was being made.
        assert_eq!(used(reading(100, 50), 100, reading(105, 54)), 4);
    }
}
