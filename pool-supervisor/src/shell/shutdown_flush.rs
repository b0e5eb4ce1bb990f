//! The end of the process: last bytes to clients, nothing of ours left behind.

use nix::sys::epoll::{EpollEvent, EpollTimeout};
use rustix::event::Timespec;

use super::reactor::{MAX_READY, Pool, Token};

/// How long the last bytes to clients may take at the end.
const SHUTDOWN_FLUSH_US: u64 = 1_000_000;

impl Pool {
    /// The last bytes to clients, for a bounded time: outcomes of tasks that the end itself ended
    /// are among them.
    pub(super) fn shutdown_flush(&mut self) {
        let until = self.clock.now().plus_us(SHUTDOWN_FLUSH_US);
        let mut ready = [EpollEvent::empty(); MAX_READY];
        loop {
            self.pump_events();
            self.flush_dirty();
            let unsent = self.clients.iter().any(|c| c.peer.pending() > 0 || c.owed.has_parked());
            if !(unsent || self.pump.more) || self.clock.now() >= until {
                break;
            }
            let patience =
                if self.pump.more { EpollTimeout::ZERO } else { EpollTimeout::from(50u16) };
            let n = self.epoll.wait(&mut ready, patience).unwrap_or(0);
            for event in &ready[..n] {
                if let Token::Client(slot, _) = Token::unpack(event.data())
                    && let Some(id) = self.clients.id_at(slot)
                {
                    self.mark_client(id);
                }
            }
        }
        let groups = self.probes.end_all();
        self.end_orphans();
        groups.into_iter().for_each(|group| self.release_group(Some(group)));
        self.close_groups();
        if let Some(http) = self.http.take() {
            http.stop();
        }
    }

    /// Nothing of ours is left that may live on: neither programs nor a snapshot in the making.
    /// Whoever is below the killed comes to this process only then, so this takes its time, which
    /// is bounded.
    fn end_orphans(&mut self) {
        let until = self.clock.now().plus_us(SHUTDOWN_FLUSH_US);
        self.orphans.look_at(self.clock.now());
        while let Some(due) = self.orphans.deadline() {
            let now = self.clock.now();
            if now >= until {
                tracing::error!("failed to end all processes that dead workers left behind");
                return;
            }
            let nsecs = i64::try_from(due.since(now) * 1000).unwrap_or(0);
            let _nothing =
                rustix::event::poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: nsecs }));
            self.orphans.sweep(self.clock.now(), |_| false);
        }
    }
}
