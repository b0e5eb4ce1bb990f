//! The tests' only clock: a condition is polled until it holds or a generous deadline has passed.

#![expect(clippy::disallowed_methods, reason = "the tests' only clock")]

use std::time::{Duration, Instant};

/// Far above anything that works takes on a busy machine; only a failure waits this long.
pub const DEADLINE: Duration = Duration::from_secs(40);

/// Between two looks.
const STEP: Duration = Duration::from_millis(10);

/// The time, for tests that compare what the pool says with what passed.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Waits; for things that must *not* happen in the meantime.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Polls until the condition holds.
///
/// # Panics
/// With `what` when it does not hold in time.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    until_some(what, || condition().then_some(()));
}

/// Polls until there is a value.
///
/// # Panics
/// With `what` when there is none in time.
pub fn until_some<T>(what: &str, mut value: impl FnMut() -> Option<T>) -> T {
    let start = now();
    loop {
        if let Some(value) = value() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for: {what}");
        pause(STEP);
    }
}
