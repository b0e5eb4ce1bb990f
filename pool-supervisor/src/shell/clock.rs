//! The only clock: monotonic for decisions, wall time for what people read.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pool_core::time::Time;

/// Reads both clocks; the origin of the monotonic one is the supervisor's start.
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the owner of the supervisor's clock")]
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Microseconds since the start; jumps of the wall clock do not show here.
    pub(crate) fn now(&self) -> Time {
        Time(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
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
    #[test]
    fn times_are_rfc_3339_with_milliseconds() {
        assert_eq!(super::rfc3339(1_795_540_000_123_456), "2026-11-24T17:06:40.123Z");
    }
}
