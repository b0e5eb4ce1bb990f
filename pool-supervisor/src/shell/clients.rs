//! Connections of clients, each with its bounded outbox.

use pool_protocol::id::ClientId;

use super::outbox::Peer;
use pool_core::time::Time;

/// Connections at once. Those who have not said hello make room for newcomers.
pub(crate) const MAX_CLIENTS: usize = 1024;
/// Above this nothing more is read from a client until it has read what it was sent.
pub(crate) const PAUSE_BYTES: usize = 4 << 20;
/// Above this a client that does not read is dropped.
pub(crate) const MAX_OUTBOX_BYTES: usize = 256 << 20;

/// A client's wish for events.
pub(crate) struct Subscription {
    pub(crate) request: u64,
    /// The next number to send.
    pub(crate) next: u64,
    /// The list ends behind this number; without, it goes on.
    pub(crate) until: Option<u64>,
}

/// One connection.
pub(crate) struct Client {
    pub(crate) id: ClientId,
    pub(crate) peer: Peer,
    pub(crate) since: Time,
    /// It has said hello.
    pub(crate) greeted: bool,
    /// It is the supervisor's own HTTP room.
    pub(crate) own: bool,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) dirty: bool,
    pub(crate) wants_room: bool,
    /// Nothing is read from it for now.
    pub(crate) paused: bool,
    /// It is dropped as soon as its outbox is empty.
    pub(crate) closing: bool,
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
    pub(crate) fn add(&mut self, now: Time, peer: Peer, own: bool) -> ClientId {
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
            since: now,
            greeted: false,
            own,
            subscriptions: Vec::new(),
            dirty: false,
            wants_room: false,
            paused: false,
            closing: false,
        });
        self.count += 1;
        id
    }

    pub(crate) fn get_mut(&mut self, id: ClientId) -> Option<&mut Client> {
        let (generation, client) = self.slots.get_mut(id.slot as usize)?;
        if *generation == id.generation { client.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, id: ClientId) -> Option<Client> {
        let (generation, client) = self.slots.get_mut(id.slot as usize)?;
        if *generation != id.generation {
            return None;
        }
        let client = client.take()?;
        self.free.push(id.slot);
        self.count -= 1;
        self.subscribers -= client.subscriptions.len();
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

    /// Whether anybody listens to events.
    pub(crate) fn has_subscribers(&self) -> bool {
        self.subscribers > 0
    }

    pub(crate) fn subscribe(&mut self, id: ClientId, subscription: Subscription) {
        if let Some(client) = self.get_mut(id) {
            client.subscriptions.push(subscription);
            self.subscribers += 1;
        }
    }

    pub(crate) fn unsubscribe(&mut self, id: ClientId, request: u64) {
        let Some(client) = self.get_mut(id) else { return };
        let before = client.subscriptions.len();
        client.subscriptions.retain(|s| s.request != request);
        let removed = before - client.subscriptions.len();
        self.subscribers -= removed;
    }

    /// The connection that has been silent longest without a hello.
    pub(crate) fn oldest_ungreeted(&self) -> Option<ClientId> {
        self.iter().filter(|c| !c.greeted && !c.own).min_by_key(|c| c.since).map(|c| c.id)
    }
}
