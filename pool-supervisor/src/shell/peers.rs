//! Peers come and go: accepting connections, watching sockets, one write per peer and turn.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::epoll::{EpollEvent, EpollFlags};
use pool_core::event::Event;
use pool_protocol::id::{ClientId, WorkerId};

use super::clients::{Caller, EVENT_BYTES, MAX_CLIENTS, MAX_OUTBOX_BYTES, RESERVE};
use super::listener::caller;
use super::outbox::Peer;
use super::reactor::{Pool, Token};
use crate::peer::stranger;

/// What may be done in one turn about clients that are gone: outcomes that they missed, tasks that
/// end with them.
const SEEN_OFF_AT_ONCE: usize = 4096;

impl Pool {
    pub(super) fn accept_clients(&mut self) {
        // As many as fit into one turn: the others' turn comes next.
        for _ in 0..64 {
            match self.control.accept() {
                Ok(None) => return,
                Ok(Some(stream)) => {
                    if let Some(who) = stranger(&stream) {
                        tracing::warn!("refused a connection to the control socket {who}");
                        continue;
                    }
                    let caller = caller(&stream);
                    if let Err(error) =
                        self.make_room(caller).and_then(|()| self.adopt(stream, caller))
                    {
                        tracing::warn!("failed to take a connection: {error}");
                    }
                }
                Err(error) => {
                    // Most likely out of descriptors: somebody has to go, or this turns for ever.
                    tracing::warn!("failed to accept a connection: {error}");
                    match self.least_needed() {
                        Some(id) => self.drop_client(id, "the supervisor is out of descriptors"),
                        None => self.listen(false),
                    }
                    return;
                }
            }
        }
    }

    /// Whether newcomers are looked at. The listener is always readable while one waits whom there
    /// is no descriptor for, so it is left alone until the next round of housekeeping.
    pub(super) fn listen(&mut self, on: bool) {
        self.listens = on;
        let wanted = if on { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
        let mut event = EpollEvent::new(wanted, Token::Listener.pack());
        if let Err(error) = self.epoll.modify(&self.control.listener, &mut event) {
            tracing::error!("failed to watch for connections: {error}");
        }
    }

    /// The connection that goes when another is to come: whoever never said hello, then whoever is
    /// idle; in each, the one that has been silent longest.
    fn least_needed(&self) -> Option<ClientId> {
        let busy = |id| self.core.ends_tasks_with(id) || self.probes.has_client(id);
        self.clients.oldest_ungreeted().or_else(|| self.clients.longest_idle(busy))
    }

    /// At the cap, the least needed connection makes room. Where all are busy, places are left for
    /// processes that have no other connection and for root, so that whoever wants to see or stop a
    /// crowded pool gets in.
    fn make_room(&mut self, caller: Caller) -> io::Result<()> {
        if self.clients.count() < MAX_CLIENTS {
            return Ok(());
        }
        if let Some(id) = self.least_needed() {
            self.drop_client(id, "another one wants its place");
            return Ok(());
        }
        let may_use_reserve = match caller {
            Caller::Own => true,
            Caller::Process { pid, uid } => {
                uid == 0 && !nix::unistd::geteuid().is_root() || !self.clients.has_one_of(pid)
            }
        };
        if may_use_reserve && self.clients.count() < MAX_CLIENTS + RESERVE {
            return Ok(());
        }
        Err(io::Error::other(format!("{MAX_CLIENTS} connections are busy; close some")))
    }

    /// Takes a connected stream into the set.
    pub(crate) fn adopt(&mut self, stream: UnixStream, caller: Caller) -> io::Result<()> {
        let peer = Peer::new(stream)?;
        let id = self.clients.add(self.clock.now(), peer, caller);
        let client = self.clients.get_mut(id).expect("just added");
        let token = Token::Client(id.slot, id.generation).pack();
        self.epoll.add(&client.peer.stream, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        Ok(())
    }

    /// Watches a new child.
    pub(super) fn watch_worker(
        &self,
        id: WorkerId,
        link: &Peer,
        pidfd: &OwnedFd,
        output: &OwnedFd,
    ) -> io::Result<()> {
        self.watch(&link.stream, Token::Link(id))?;
        self.watch(pidfd, Token::Process(id))?;
        self.watch(output, Token::Output(id))
    }

    /// Asks to be told when there is something to read.
    pub(super) fn watch(&self, fd: &dyn AsFd, token: Token) -> io::Result<()> {
        Ok(self.epoll.add(fd.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, token.pack()))?)
    }

    /// Stops listening to a child's socket.
    pub(super) fn deafen(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(id)
            && !worker.deaf
        {
            worker.deaf = true;
            let _was_watched = self.epoll.delete(&worker.peer.stream);
        }
    }

    pub(super) fn scratch(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.scratch)
    }

    pub(super) fn put_scratch_back(&mut self, scratch: Vec<u8>) {
        self.scratch = scratch;
    }

    pub(super) fn mark_client(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(id)
            && !client.dirty
        {
            client.dirty = true;
            self.dirty_clients.push(id);
        }
    }

    pub(super) fn mark_worker(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(id)
            && !worker.dirty
        {
            worker.dirty = true;
            self.dirty_workers.push(id);
        }
    }

    /// Queues a frame for a client; not for one that is parted with. A client that lets too much
    /// pile up is dropped.
    pub(super) fn post(&mut self, id: ClientId, put: impl FnOnce(&mut Peer)) {
        let Some(client) = self.clients.open_mut(id) else { return };
        if client.peer.pending() > MAX_OUTBOX_BYTES && !client.is_own() {
            return self.drop_client(id, "it does not read its answers");
        }
        put(&mut client.peer);
        self.mark_client(id);
    }

    /// Closes a connection at once: its descriptor, its memory. What follows for tasks and outcomes
    /// comes before the turn ends, or in the next ones if it is much: this may be called while
    /// actions of the core are performed.
    pub(super) fn drop_client(&mut self, id: ClientId, why: &str) {
        let Some(mut client) = self.clients.remove(id) else { return };
        tracing::trace!(client = id.slot, why, "connection closed");
        self.probes.end_of_client(id);
        for (task, keep) in client.owed.give_up_hope() {
            self.outcomes.not_received(task, keep);
        }
        self.departed.push_back((id, client.owed));
    }

    /// Tells of clients that are gone, as far as `left` allows.
    fn see_off(&mut self, left: &mut usize) {
        while *left > 0
            && let Some((id, mut owed)) = self.departed.pop_front()
        {
            while *left > 0
                && let Some(task) = owed.pop()
            {
                self.outcomes.note_missed(task);
                *left -= 1;
            }
            self.feed(Event::ClientGone { client: id });
            let has_more = self.core.ends_tasks_with(id);
            *left = left.saturating_sub(if has_more { SEEN_OFF_AT_ONCE / 4 } else { 1 });
            if has_more || !owed.is_empty() {
                self.departed.push_back((id, owed));
            }
        }
    }

    /// One write for each peer. What that leads to (a client whose connection breaks, tasks that
    /// end with it) is written in the same turn.
    pub(super) fn flush_dirty(&mut self) {
        let mut left = SEEN_OFF_AT_ONCE;
        loop {
            self.see_off(&mut left);
            while let Some(id) = self.dirty_workers.pop() {
                self.flush_worker(id);
            }
            while let Some(id) = self.dirty_clients.pop() {
                self.flush_client(id);
            }
            let seen_off = self.departed.is_empty() || left == 0;
            if seen_off && self.dirty_workers.is_empty() && self.dirty_clients.is_empty() {
                break;
            }
        }
        self.settle_hopes();
    }

    fn flush_worker(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        worker.dirty = false;
        if worker.deaf {
            return;
        }
        // A broken socket shows itself to the reader or through the pidfd, with its reason.
        let Ok(drained) = worker.peer.flush() else { return };
        if worker.wants_room == drained {
            worker.wants_room = !drained;
            let interest = interest(true, !drained);
            let event = EpollEvent::new(interest, Token::Link(id).pack());
            let _is_watched = self.epoll.modify(&worker.peer.stream, &mut { event });
        }
    }

    pub(super) fn flush_client(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        client.dirty = false;
        self.unpark(id);
        let Some(client) = self.clients.get_mut(id) else { return };
        let Ok(drained) = client.peer.flush() else {
            self.drop_client(id, "its connection broke");
            return;
        };
        self.note_left(id);
        let Some(client) = self.clients.get_mut(id) else { return };
        if client.closing.is_some() && drained {
            self.drop_client(id, "it broke the protocol");
            return;
        }
        // With room and outcomes that wait for it, the socket says at once that it can be written
        // to.
        let wants_room = !drained || client.owed.has_parked();
        let paused = client.closing.is_some() || !client.has_room();
        self.pump.more |= client.seen <= self.events.last() && client.peer.pending() < EVENT_BYTES;
        if client.wants_room != wants_room || client.paused != paused {
            client.wants_room = wants_room;
            client.paused = paused;
            let event = EpollEvent::new(
                interest(!paused, wants_room),
                Token::Client(id.slot, id.generation).pack(),
            );
            let _is_watched = self.epoll.modify(&client.peer.stream, &mut { event });
        }
        self.put_off(id);
    }
}

fn interest(read: bool, write: bool) -> EpollFlags {
    let mut flags = EpollFlags::empty();
    flags.set(EpollFlags::EPOLLIN, read);
    flags.set(EpollFlags::EPOLLOUT, write);
    flags
}
