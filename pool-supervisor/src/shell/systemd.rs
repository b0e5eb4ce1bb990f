//! What an init system is told: ready, stopping, still alive.
//!
//! Without `NOTIFY_SOCKET` nothing is said and nothing fails.

use std::time::Duration;

use pool_core::time::Time;
use sd_notify::NotifyState;

pub(crate) struct Systemd {
    ready: bool,
    watchdog: Option<Duration>,
    next_ping: Option<Time>,
}

impl Systemd {
    pub(crate) fn new() -> Self {
        // Half the interval, as sd_watchdog_enabled(3) advises.
        let watchdog = sd_notify::watchdog_enabled().map(|d| d / 2);
        Self { ready: false, watchdog, next_ping: None }
    }

    /// The pool can run tasks. Only the first call says so.
    pub(crate) fn ready(&mut self) {
        if !self.ready {
            self.ready = true;
            say(&[NotifyState::Ready]);
        }
    }

    pub(crate) fn stopping(&self) {
        say(&[NotifyState::Stopping]);
    }

    /// When the next ping is due.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.watchdog.map(|_| self.next_ping.unwrap_or_default())
    }

    /// Pings when it is due: from the owner thread's own loop, so that a stuck loop is noticed.
    pub(crate) fn ping(&mut self, now: Time) {
        let Some(interval) = self.watchdog else { return };
        if self.next_ping.is_none_or(|due| due <= now) {
            say(&[NotifyState::Watchdog]);
            let us = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
            self.next_ping = Some(now.plus_us(us));
        }
    }
}

fn say(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("failed to notify the init system: {error}");
    }
}
