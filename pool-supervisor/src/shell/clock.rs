//! The only clock: monotonic for decisions, wall time for what people read.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pool_core::time::Time;

/// Events that may take one moment for theirs: some microseconds' worth.
const EVENTS_PER_MOMENT: u32 = 16;

/// Reads both clocks; the origin of the monotonic one is the supervisor's start.
///
/// Reading a clock costs about as much as parsing a frame, and a task's events need a moment seven
/// times. So they take the *moment* that the clock was read last, which is when their socket was
/// read or a few events ago.
pub(crate) struct Clock {
    origin: Instant,
    moment: Time,
    /// Events that took this moment for theirs.
    taken: u32,
    /// Of the wall clock over the monotonic one, in microseconds. The wall clock may jump, so it is
    /// looked at again and again.
    wall_ahead_us: u64,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the owner of the supervisor's clock")]
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now(), moment: Time(0), taken: 0, wall_ahead_us: Self::wall_us() }
    }

    /// Microseconds since the start; jumps of the wall clock do not show here.
    pub(crate) fn now(&self) -> Time {
        Time(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Reads the clock: this is the moment from now on.
    pub(crate) fn tick(&mut self) -> Time {
        self.moment = self.now();
        self.taken = 0;
        self.moment
    }

    /// The moment.
    pub(crate) const fn moment(&self) -> Time {
        self.moment
    }

    /// The moment of an event that the socket read last has brought.
    pub(crate) fn moment_of_event(&mut self) -> Time {
        self.taken += 1;
        if self.taken > EVENTS_PER_MOMENT { self.tick() } else { self.moment }
    }

    /// The moment in microseconds since 1970.
    pub(crate) const fn wall_moment_us(&self) -> u64 {
        self.moment.0.saturating_add(self.wall_ahead_us)
    }

    /// Looks at the wall clock.
    pub(crate) fn follow_wall(&mut self) {
        self.wall_ahead_us = Self::wall_us().saturating_sub(self.now().0);
    }

    /// Microseconds since 1970.
    #[expect(clippy::disallowed_methods, reason = "the owner of the supervisor's clock")]
    pub(crate) fn wall_us() -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}

/// RFC 3339 with milliseconds, in UTC.
pub(crate) fn rfc3339(wall_us: u64) -> String {
    let us = i64::try_from(wall_us).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_microsecond(us) {
        Ok(at) => format!("{at:.3}"),
        Err(_) => String::from("9999-12-31T23:59:59.999Z"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_serves_a_few_events_and_no_more() {
        let mut clock = Clock::start();
        let first = clock.tick();
        while clock.now() == first {}
        for _ in 0..EVENTS_PER_MOMENT {
            assert_eq!(clock.moment_of_event(), first);
        }
        let dated = clock.wall_moment_us();
        assert!(clock.moment_of_event() > first);
        assert!(clock.wall_moment_us() > dated, "what is dated moves on with the moment");
    }

    #[test]
    fn times_are_rfc_3339_with_milliseconds() {
        assert_eq!(rfc3339(1_795_540_000_123_456), "2026-11-24T17:06:40.123Z");
    }
}
