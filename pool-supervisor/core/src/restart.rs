//! How starts of workers have gone, and when the next may be tried.
//!
//! A worker that cannot be started, is not ready in time, or dies as soon as it is ready, is a
//! failed start. After the n-th in a row the pool waits 100 ms * 2^(n-1), at most 30 s, with
//! jitter, and then tries one at a time: it never spins. It says once that it is degraded and once
//! that it has recovered. Recovered is: a worker became ready; or, if workers died right after
//! that, one ended a task or lived for a second.

use alloc::string::String;

use crate::prng::Prng;
use crate::time::Time;

const BACKOFF_FIRST_MS: u64 = 100;
const BACKOFF_MOST_MS: u64 = 30_000;
const BACKOFF_JITTER: f64 = 0.2;
/// Failed starts in a row after which the pool is degraded though other workers live.
const DEGRADED_AFTER: u32 = 3;
/// Processes that are ordered from one tick to the next. Making one holds up the shell for as long
/// as the machine takes for it, and what others have said lies unread meanwhile: of five hundred at
/// once the first would be late before it is heard.
const MOST_STARTS: u32 = 32;
/// A worker that lives this long after it was ready, in microseconds, was started well.
pub(crate) const PROOF_US: u64 = 1_000_000;

/// How the last starts went.
#[derive(Default, Debug)]
pub(crate) struct Restart {
    /// Failed starts in a row; those of one volley count as one.
    failures: u32,
    /// When the last one was counted.
    counted_at: Time,
    /// No start before this.
    not_before: Time,
    /// To be ready is not enough: workers died right after it.
    proof_needed: bool,
    /// Why the pool is degraded, when it is.
    degraded: Option<String>,
    /// Processes that were ordered since the last tick.
    ordered: u32,
}

impl Restart {
    pub(crate) const fn failing(&self) -> bool {
        self.failures > 0
    }

    /// No start before this.
    pub(crate) const fn not_before(&self) -> Time {
        self.not_before
    }

    /// Whether one more process may be ordered before the next tick. Counts it then.
    pub(crate) const fn take_start(&mut self) -> bool {
        if self.ordered >= MOST_STARTS {
            return false;
        }
        self.ordered += 1;
        true
    }

    /// A worker that was ordered at this moment could not be started. True when no start may be
    /// tried for a while that was not awaited already.
    pub(crate) fn fail(&mut self, now: Time, ordered_at: Time, prng: &mut Prng) -> bool {
        // All of one volley fail of the same thing.
        if self.failing() && ordered_at <= self.counted_at {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        self.counted_at = now;
        let doublings = (self.failures - 1).min(16);
        let wait_ms = (BACKOFF_FIRST_MS << doublings).min(BACKOFF_MOST_MS);
        let wait_us = prng.vary(wait_ms * 1000, BACKOFF_JITTER).min(BACKOFF_MOST_MS * 1000);
        self.not_before = now.plus_us(wait_us);
        true
    }

    /// The pool is degraded from now on, if it was not and has reason to be: other workers are
    /// ready, or not. True when it has become so.
    pub(crate) fn degrade(&mut self, others_ready: bool, reason: &str) -> bool {
        let is_new = self.degraded.is_none() && (!others_ready || self.failures >= DEGRADED_AFTER);
        if is_new {
            self.degraded = Some(reason.into());
        }
        is_new
    }

    /// Whether a worker that was ordered at this moment proves, by more than being ready, that
    /// starting works.
    pub(crate) fn is_proof(&self, ordered_at: Time) -> bool {
        self.failing() && ordered_at > self.counted_at
    }

    /// Whether a worker that becomes ready is proof enough.
    pub(crate) const fn is_ready_enough(&self) -> bool {
        self.failing() && !self.proof_needed
    }

    /// Starting works. True when the pool was degraded.
    pub(crate) fn recover(&mut self, now: Time) -> bool {
        self.failures = 0;
        self.proof_needed = false;
        self.not_before = now;
        self.degraded.take().is_some()
    }

    pub(crate) fn degraded(&self) -> Option<&str> {
        self.degraded.as_deref()
    }

    /// More processes may be ordered.
    pub(crate) const fn on_tick(&mut self) {
        self.ordered = 0;
    }

    pub(crate) const fn need_proof(&mut self) {
        self.proof_needed = true;
    }
}
