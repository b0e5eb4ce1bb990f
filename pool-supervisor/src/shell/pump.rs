//! Events to those who listen: as far as they read, and a bounded number in each turn.

use pool_protocol::control::EventsStart;
use pool_protocol::frame::Kind;
use pool_protocol::id::ClientId;

use super::clients::EVENT_BYTES;
use super::reactor::Pool;
use super::replies::events_lost;

/// Events sent in one turn. A thousand clients may have 256 subscriptions each.
const EVENTS_AT_ONCE: usize = 2048;

/// Where the sending of events stands.
#[derive(Default)]
pub(super) struct Pump {
    /// The place of the client that is first in the next turn.
    place: u32,
    /// Somebody has room for an event that was not sent in this turn.
    pub(super) more: bool,
}

impl Pool {
    /// Sends events to those who listen, as far as they read. Clients that have seen all, or read
    /// nothing, cost a glance.
    pub(super) fn pump_events(&mut self) {
        self.pump.more = false;
        if !self.clients.has_subscribers() {
            return;
        }
        let (places, last) = (self.clients.places(), self.events.last());
        let mut left = EVENTS_AT_ONCE;
        for step in 0..places {
            let place = (self.pump.place + step) % places;
            let Some(client) = self.clients.id_at(place).and_then(|id| self.clients.get(id)) else {
                continue;
            };
            if client.seen > last
                || client.peer.pending() >= EVENT_BYTES
                || client.closing.is_some()
            {
                continue;
            }
            self.pump_to(client.id, &mut left);
            if left == 0 {
                // The others come first in the next turn.
                self.pump = Pump { place: (place + 1) % places, more: true };
                return;
            }
        }
    }

    fn pump_to(&mut self, id: ClientId, left: &mut usize) {
        let (first, last) = (self.events.first(), self.events.last());
        let mut ended = Vec::new();
        let Some(client) = self.clients.get_mut(id) else { return };
        for subscription in &mut client.subscriptions {
            if *left == 0 || client.peer.pending() >= EVENT_BYTES {
                break;
            }
            let until = subscription.until.unwrap_or(last);
            if subscription.next < first {
                let lost = first - subscription.next;
                client.peer.send_plain(
                    Kind::Event,
                    subscription.request,
                    &events_lost(first - 1, lost),
                );
                subscription.next = first;
            }
            while subscription.next <= until && *left > 0 && client.peer.pending() < EVENT_BYTES {
                let Some(json) = self.events.json(subscription.next) else { break };
                client.peer.send_plain(Kind::Event, subscription.request, json);
                subscription.next += 1;
                *left -= 1;
            }
            if subscription.until.is_some_and(|until| subscription.next > until) {
                ended.push(subscription.request);
            }
        }
        for request in ended {
            self.clients.unsubscribe(id, request);
            self.reply(id, request, &EventsStart { last, lost: 0 });
        }
        if let Some(client) = self.clients.get_mut(id) {
            client.seen = client.subscriptions.iter().map(|s| s.next).min().unwrap_or(u64::MAX);
        }
        self.mark_client(id);
    }
}
