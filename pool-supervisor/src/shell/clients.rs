//! Connections of clients, each with its bounded outbox.

use pool_core::time::Time;
use pool_protocol::id::ClientId;

use super::outbox::Peer;
use super::owed::Owed;
use super::waits::Waits;

/// Connections at once. Whoever never said hello makes room for newcomers, and then whoever is
/// idle.
pub(crate) const MAX_CLIENTS: usize = 1024;
/// Connections above [`MAX_CLIENTS`], for processes that have no other one and for root: an
/// administrator gets in beside a thousand busy clients.
pub(crate) const RESERVE: usize = 32;
/// From this many unsent bytes on nothing more is read from a client, and no outcome is put into
/// its outbox, until it has read what it was sent.
pub(crate) const PAUSE_BYTES: usize = 1 << 20;
/// From this many bytes of outcomes on that wait for room in its outbox, nothing more is read from
/// a client. One large outcome must not stop it: it leaves at the end of the turn.
pub(crate) const PAUSE_PARKED_BYTES: usize = 8 << 20;
/// From this many unsent bytes on no event is put into an outbox. A thousand subscribers may not
/// read.
pub(crate) const EVENT_BYTES: usize = 256 << 10;
/// A client that is to get one more frame while so much is unsent is dropped. Nothing that the
/// rules above let through comes near it, so this is the last wall.
pub(crate) const MAX_OUTBOX_BYTES: usize = 64 << 20;

/// A client's wish for events.
pub(crate) struct Subscription {
    pub(crate) request: u64,
    /// The next number to send.
    pub(crate) next: u64,
    /// The list ends behind this number; without, it goes on.
    pub(crate) until: Option<u64>,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Caller {
    /// The supervisor's own HTTP room.
    Own,
    /// A process, by the kernel's word.
    Process { pid: i32, uid: u32 },
}

/// One connection.
pub(crate) struct Client {
    pub(crate) id: ClientId,
    pub(crate) peer: Peer,
    pub(crate) caller: Caller,
    pub(crate) since: Time,
    /// When it said something last.
    pub(crate) heard: Time,
    /// It has said hello.
    pub(crate) greeted: bool,
    /// The largest body that it was told it may send.
    pub(crate) body_bytes: usize,
    pub(crate) subscriptions: Vec<Subscription>,
    /// No event before this one is to be sent to any of its subscriptions; without any, the highest
    /// number.
    pub(crate) seen: u64,
    /// Outcomes on their way to it.
    pub(crate) owed: Owed,
    /// Its tasks that have not ended and whose outcomes it wants.
    pub(crate) awaited: u32,
    /// What else it waits for.
    pub(crate) waits: Waits,
    pub(crate) dirty: bool,
    pub(crate) wants_room: bool,
    /// Nothing is read from it for now.
    pub(crate) paused: bool,
    /// Its inbox may hold frames that were not handled in their turn.
    pub(crate) backlog: bool,
    /// It is in the list of those whose backlog is handled in the next turn.
    pub(crate) queued: bool,
    /// It broke the protocol, then. It is dropped as soon as its outbox is empty, or after a while.
    pub(crate) closing: Option<Time>,
}

impl Client {
    /// Whether it is the supervisor's own HTTP room.
    pub(crate) fn is_own(&self) -> bool {
        self.caller == Caller::Own
    }

    /// Whether its next frame may be handled: there is room for the answer.
    pub(crate) fn has_room(&self) -> bool {
        self.peer.pending() < PAUSE_BYTES && self.owed.parked_bytes() < PAUSE_PARKED_BYTES
    }

    /// Whether nothing is under way between it and this process. Tasks that end with it are the
    /// core's to know.
    fn is_idle(&self) -> bool {
        self.greeted
            && !self.is_own()
            && self.closing.is_none()
            && self.subscriptions.is_empty()
            && self.waits.is_empty()
            && self.awaited == 0
            && self.owed.is_empty()
            && self.peer.pending() == 0
            && !self.backlog
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Clients {
    slots: Vec<(u32, Option<Client>)>,
    free: Vec<u32>,
    count: usize,
    subscribers: usize,
}

impl Clients {
    /// Adds a connection and names it.
    pub(crate) fn add(&mut self, now: Time, peer: Peer, caller: Caller) -> ClientId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            u32::try_from(self.slots.len() - 1).expect("connections are bounded")
        });
        let entry = &mut self.slots[slot as usize];
        entry.0 += 1;
        let id = ClientId { slot, generation: entry.0 };
        entry.1 = Some(Client {
            id,
            peer,
            caller,
            since: now,
            heard: now,
            greeted: false,
            body_bytes: 0,
            subscriptions: Vec::new(),
            seen: u64::MAX,
            owed: Owed::default(),
            awaited: 0,
            waits: Waits::default(),
            dirty: false,
            wants_room: false,
            paused: false,
            backlog: false,
            queued: false,
            closing: None,
        });
        self.count += 1;
        id
    }

    pub(crate) fn get(&self, id: ClientId) -> Option<&Client> {
        let (generation, client) = self.slots.get(id.slot as usize)?;
        if *generation == id.generation { client.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, id: ClientId) -> Option<&mut Client> {
        let (generation, client) = self.slots.get_mut(id.slot as usize)?;
        if *generation == id.generation { client.as_mut() } else { None }
    }

    /// A connection that something may be sent to.
    pub(crate) fn open_mut(&mut self, id: ClientId) -> Option<&mut Client> {
        self.get_mut(id).filter(|client| client.closing.is_none())
    }

    pub(crate) fn remove(&mut self, id: ClientId) -> Option<Client> {
        let (generation, client) = self.slots.get_mut(id.slot as usize)?;
        if *generation != id.generation {
            return None;
        }
        let client = client.take()?;
        self.free.push(id.slot);
        self.count -= 1;
        self.subscribers -= usize::from(!client.subscriptions.is_empty());
        Some(client)
    }

    /// The connection in a place, whatever its generation: for epoll's shortened names.
    pub(crate) fn id_at(&self, slot: u32) -> Option<ClientId> {
        self.slots.get(slot as usize)?.1.as_ref().map(|c| c.id)
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.slots.iter().filter_map(|(_, c)| c.as_ref())
    }

    /// Places of connections, taken or not.
    pub(crate) fn places(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Whether anybody listens to events.
    pub(crate) fn has_subscribers(&self) -> bool {
        self.subscribers > 0
    }

    pub(crate) fn subscribe(&mut self, id: ClientId, subscription: Subscription) {
        let Some(client) = self.get_mut(id) else { return };
        // A list that ends is looked at once more even if nothing is in it: its end is to be told.
        client.seen =
            client.seen.min(if subscription.until.is_some() { 0 } else { subscription.next });
        client.subscriptions.push(subscription);
        let first = client.subscriptions.len() == 1;
        self.subscribers += usize::from(first);
    }

    pub(crate) fn unsubscribe(&mut self, id: ClientId, request: u64) {
        let Some(client) = self.get_mut(id).filter(|c| !c.subscriptions.is_empty()) else { return };
        client.subscriptions.retain(|s| s.request != request);
        let last = client.subscriptions.is_empty();
        if last {
            client.seen = u64::MAX;
        }
        self.subscribers -= usize::from(last);
    }

    /// The connection that has been silent longest without a hello.
    pub(crate) fn oldest_ungreeted(&self) -> Option<ClientId> {
        self.iter().filter(|c| !c.greeted && !c.is_own()).min_by_key(|c| c.since).map(|c| c.id)
    }

    /// The connection that has been silent longest with nothing under way. `busy` knows of what is
    /// not kept here.
    pub(crate) fn longest_idle(&self, busy: impl Fn(ClientId) -> bool) -> Option<ClientId> {
        self.iter().filter(|c| c.is_idle() && !busy(c.id)).min_by_key(|c| c.heard).map(|c| c.id)
    }

    /// Whether a process has a connection.
    pub(crate) fn has_one_of(&self, pid: i32) -> bool {
        self.iter().any(|c| matches!(c.caller, Caller::Process { pid: of, .. } if of == pid))
    }
}
