//! The way of an outcome to those who want it.

use pool_core::event::Event;
use pool_core::place::TaskPlace;
use pool_protocol::control::RefusedCode;
use pool_protocol::frame::Kind;
use pool_protocol::id::{ClientId, TaskId};

use super::clients::PAUSE_BYTES;
use super::outcomes::Outcome;
use super::owed::Standing;
use super::reactor::Pool;
use super::tasks::{Held, Waiter};
use super::waits::TagOf;

/// What may be filed as received in one turn before it has left. All of it must fit on the shelf
/// of what was received, or it would be gone from there before the end of the turn says whether it
/// belongs there.
const MAX_HOPES: usize = 4096;
const MAX_HOPE_BYTES: usize = 4 << 20;

/// Outcomes that were filed as received in this turn, in the hope that they leave at its end.
#[derive(Default)]
pub(super) struct Hopes {
    outcomes: usize,
    bytes: usize,
    /// Outcomes that were owed and have left. They are filed after the last hope was judged, since
    /// a large one leaves no room for others on that shelf.
    left: Vec<TaskId>,
}

impl Pool {
    /// Gives an ended task's outcome to everybody who waits for it, and keeps it until they have
    /// it, or for whoever asks later.
    pub(super) fn hand_out(&mut self, mut held: Held, outcome: Outcome) {
        let others = held.take_others();
        let submitter =
            held.submitter().filter(|waiter| match self.clients.open_mut(waiter.client) {
                Some(client) => {
                    client.awaited -= 1;
                    true
                }
                None => false,
            });
        if let Some(to) = submitter
            && others.is_empty()
            && self.may_hope(to.client, &outcome)
        {
            self.put_into_outbox(to, &outcome, Standing::Hoped { keep: held.keep });
            self.outcomes.put_received(self.clock.moment(), outcome);
            return;
        }
        let mut waiting: Vec<(Waiter, TagOf)> =
            submitter.map(|of| (of, TagOf::Task)).into_iter().collect();
        waiting.extend(
            others.into_iter().filter_map(|other| Some((other, self.take_wait(other, held.id)?))),
        );
        if waiting.is_empty() && !held.keep {
            self.follow_ups.push_back(Event::Forget { task: held.id });
            return;
        }
        let bytes = outcome.bytes();
        let awaited = u32::try_from(waiting.len()).expect("waits are bounded");
        self.outcomes.put_unreceived(self.clock.moment(), outcome, held.keep, awaited);
        for (to, tag) in waiting {
            self.park(to, held.id, tag, bytes);
        }
    }

    /// Whether an outcome goes straight into a client's outbox: the usual way, and the cheap one.
    fn may_hope(&mut self, id: ClientId, outcome: &Outcome) -> bool {
        let bytes = outcome.bytes();
        if self.hopes.outcomes >= MAX_HOPES || self.hopes.bytes + bytes > MAX_HOPE_BYTES {
            return false;
        }
        let has_room = self
            .clients
            .get(id)
            .is_some_and(|c| !c.owed.has_parked() && c.peer.pending() < PAUSE_BYTES);
        if has_room {
            self.hopes.outcomes += 1;
            self.hopes.bytes += bytes;
        }
        has_room
    }

    fn put_into_outbox(&mut self, to: Waiter, outcome: &Outcome, standing: Standing) {
        let Some(client) = self.clients.open_mut(to.client) else { return };
        client.peer.send_kept(Kind::Outcome, to.request, &outcome.head(), &outcome.body);
        client.owed.put(client.peer.end(), outcome.task, standing);
        self.mark_client(to.client);
    }

    /// An outcome that is kept waits for room in a client's outbox.
    fn park(&mut self, to: Waiter, task: TaskId, tag: TagOf, bytes: usize) {
        let Some(client) = self.clients.open_mut(to.client) else {
            return self.outcomes.note_missed(task);
        };
        // The HTTP room speaks for many, and always reads: what is too much for the shelf is
        // answered as expired.
        if client.owed.park(to.request, task, tag, bytes) || client.is_own() {
            self.mark_client(to.client);
        } else {
            self.drop_client(to.client, "it does not read the outcomes it asked for");
        }
    }

    /// Sends an outcome that is kept. False when it is not.
    pub(super) fn deliver_kept(&mut self, to: Waiter, task: TaskId, tag: TagOf) -> bool {
        let Some(outcome) = self.outcomes.get(task) else { return false };
        let bytes = outcome.bytes();
        self.outcomes.await_one_more(task);
        self.park(to, task, tag, bytes);
        true
    }

    /// Answers a question about a task with its outcome, which does not count as received by that.
    /// False when it is not kept.
    pub(super) fn show_kept(&mut self, to: Waiter, task: TaskId) -> bool {
        let Some(outcome) = self.outcomes.get(task) else { return false };
        if let Some(client) = self.clients.open_mut(to.client) {
            client.peer.send_kept(Kind::Outcome, to.request, &outcome.head(), &outcome.body);
            self.mark_client(to.client);
        }
        true
    }

    /// Outcomes that waited for room in a client's outbox, as many as there is room for.
    pub(super) fn unpark(&mut self, id: ClientId) {
        while let Some(client) = self.clients.open_mut(id)
            && client.peer.pending() < PAUSE_BYTES
            && let Some(parked) = client.owed.unpark()
        {
            match self.outcomes.get(parked.task) {
                Some(outcome) => {
                    let head = parked.tag.on(outcome.head());
                    client.peer.send_kept(Kind::Outcome, parked.request, &head, &outcome.body);
                    client.owed.put(client.peer.end(), parked.task, Standing::Owed);
                }
                None => self.refuse_unknown(id, parked.request, parked.task),
            }
        }
    }

    /// What follows from a write: outcomes that have left are received, and none is hoped to have
    /// left any more.
    pub(super) fn note_left(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let now = self.clock.moment();
        while let Some(left) = client.owed.left(client.peer.written()) {
            match left.standing {
                Standing::Hoped { .. } => {}
                // At once where it can be: the next large result gets the memory of the last.
                Standing::Owed if self.hopes.outcomes == 0 => {
                    self.outcomes.note_received(now, left.task)
                }
                Standing::Owed => self.hopes.left.push(left.task),
            }
        }
        for (task, keep) in client.owed.give_up_hope() {
            self.outcomes.not_received(task, keep);
        }
    }

    /// The end of a turn: all that was hoped for has come true or was given up.
    pub(super) fn settle_hopes(&mut self) {
        (self.hopes.outcomes, self.hopes.bytes) = (0, 0);
        let now = self.clock.moment();
        for task in self.hopes.left.drain(..) {
            self.outcomes.note_received(now, task);
        }
    }

    /// Notes that a client waits for the outcome of a task that another request began, or says why
    /// it must not.
    pub(super) fn add_wait(&mut self, from: Waiter, slot: TaskPlace, task: TaskId, tag: TagOf) {
        let Some(client) = self.clients.open_mut(from.client) else { return };
        if let Err(count) = client.waits.add(from.request, task, tag) {
            let error = format!(
                "failed to wait for task {task}: this connection waits for {count} outcomes \
                 already; use another one"
            );
            return self.refuse(from.client, from.request, RefusedCode::Conflict, &error);
        }
        let clients = &self.clients;
        self.tasks.get_mut(slot).add_waiter(from, |other| {
            clients.get(other.client).is_some_and(|client| client.waits.holds(other.request, task))
        });
    }

    /// Ends a wait because the task has ended. Nothing when it was not waited for any more.
    fn take_wait(&mut self, of: Waiter, task: TaskId) -> Option<TagOf> {
        self.clients.open_mut(of.client)?.waits.take(of.request, task)
    }

    /// What a client submitted, or asked for, under this number is not wanted any more.
    pub(super) fn cancel_submitted(&mut self, id: ClientId, request: u64) {
        let of = Waiter { client: id, request };
        self.clients.unsubscribe(id, request);
        self.probes.end_of_request(id, request);
        let wait = self.clients.get(id).and_then(|client| client.waits.find(request));
        let submitted = self
            .tasks
            .submitted_as(of)
            .or_else(|| wait.filter(|(_, own)| *own).map(|(task, _)| task));
        match (submitted, wait) {
            // Everybody who waits for it, this client too, gets the outcome that says so.
            (Some(task), _) => self.cancel(task, None),
            (None, Some((task, _))) => {
                let _its_tag = self.take_wait(of, task);
                self.reply_done(id, request, &format!("no longer waiting for task {task}"));
            }
            (None, None) => {}
        }
    }
}
