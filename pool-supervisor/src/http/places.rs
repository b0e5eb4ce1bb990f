//! Places for connections: who gets one, and who gives way.
//!
//! A connection that is not answering a request with the key can be closed at no loss: it is idle,
//! or has sent half a request, or is somebody's without the key. When all places are taken, the one
//! of those that has been so for longest gives way to a newcomer. So nobody keeps others out who
//! has no key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Connections of one listener at once. Each listener has its own, so that the Unix socket still
/// answers when the network's places are taken.
pub(super) const CONNECTIONS: usize = 256;
/// More of them while all others are busy: there is always somebody who asks whether the pool is
/// well.
const RESERVE: usize = 32;

/// The places of one listener.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    /// Those that have been given and not taken back; some of them have ended.
    taken: Vec<Arc<Occupancy>>,
    freed: Arc<Freed>,
}

/// What the connections of a listener tell it.
#[derive(Default, Debug)]
struct Freed {
    /// A busy connection has become idle.
    notify: Notify,
    /// Counts up with each connection and each answer: what happened later has a higher number.
    moments: AtomicU64,
}

impl Freed {
    fn moment(&self) -> u64 {
        self.moments.fetch_add(1, Ordering::Relaxed)
    }
}

/// One connection, as its listener sees it.
#[derive(Debug)]
pub(super) struct Occupancy {
    /// Requests with the key that are being answered.
    requests: AtomicU32,
    /// When it was idle first, or again.
    idle_since: AtomicU64,
    give_way: Notify,
    freed: Arc<Freed>,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) occupancy: Arc<Occupancy>,
    _permit: OwnedSemaphorePermit,
}

/// While it lives its connection is not asked to give way.
#[derive(Debug)]
pub(super) struct Busy(Arc<Occupancy>);

impl Occupancy {
    /// A request with the key has come.
    pub(super) fn busy(self: Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Busy(self)
    }

    /// Until its place is wanted for another.
    pub(super) async fn given_away(&self) {
        self.give_way.notified().await;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.freed.moment(), Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
        self.0.freed.notify.notify_one();
    }
}

impl Places {
    pub(super) fn new() -> Self {
        Self {
            free: Arc::new(Semaphore::new(CONNECTIONS + RESERVE)),
            taken: Vec::new(),
            freed: Arc::default(),
        }
    }

    /// What is free: all of it once every connection has ended.
    pub(super) fn free(&self) -> Arc<Semaphore> {
        Arc::clone(&self.free)
    }

    /// Waits until every connection has ended.
    pub(super) async fn all_free(free: &Semaphore) {
        let _permits = free.acquire_many((CONNECTIONS + RESERVE) as u32).await;
    }

    /// A place for a newcomer; who is least needed gives way. Waits while all are busy.
    pub(super) async fn take(&mut self) -> Place {
        loop {
            // Alone here means that the connection has ended.
            self.taken.retain(|taken| Arc::strong_count(taken) > 1);
            if self.taken.len() >= CONNECTIONS {
                self.make_room();
            }
            let permit = tokio::select! {
                permit = Arc::clone(&self.free).acquire_owned() => permit.expect("nobody closes \
                    the places"),
                () = self.freed.notify.notified() => continue,
            };
            let occupancy = Arc::new(Occupancy {
                requests: AtomicU32::new(0),
                idle_since: AtomicU64::new(self.freed.moment()),
                give_way: Notify::new(),
                freed: Arc::clone(&self.freed),
            });
            self.taken.push(Arc::clone(&occupancy));
            return Place { occupancy, _permit: permit };
        }
    }

    fn make_room(&mut self) {
        let idle = self
            .taken
            .iter()
            .enumerate()
            .filter(|(_, taken)| taken.requests.load(Ordering::Relaxed) == 0);
        let longest = idle.min_by_key(|(_, taken)| taken.idle_since.load(Ordering::Relaxed));
        if let Some((at, _)) = longest {
            self.taken.swap_remove(at).give_way.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn now<F: Future>(future: F) -> Option<F::Output> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn the_longest_idle_gives_way_and_a_busy_one_does_not() {
        let mut places = Places::new();
        let mut taken: Vec<Place> =
            (0..CONNECTIONS).map(|_| now(places.take()).expect("free")).collect();
        let busy = Arc::clone(&taken[0].occupancy).busy();
        let newcomer = now(places.take()).expect("the reserve, until the other has gone");
        let gave_way: Vec<usize> = (0..CONNECTIONS)
            .filter(|at| now(taken[*at].occupancy.given_away()).is_some())
            .collect();
        assert_eq!(gave_way, [1], "the first is busy");
        drop((newcomer, taken.swap_remove(1)));
        drop(busy);
        drop(now(places.take()).expect("there is room"));
        assert!(
            taken.iter().all(|place| now(place.occupancy.given_away()).is_none()),
            "nobody had to go"
        );
    }

    #[test]
    fn when_all_are_busy_a_few_more_get_in_and_then_one_waits() {
        let mut places = Places::new();
        let take = |places: &mut Places| {
            let place = now(places.take())?;
            let busy = Arc::clone(&place.occupancy).busy();
            Some((place, busy))
        };
        let mut all: Vec<_> =
            (0..CONNECTIONS + RESERVE).map(|_| take(&mut places).expect("room")).collect();
        assert!(take(&mut places).is_none());
        all.pop();
        assert!(take(&mut places).is_some());
    }
}
