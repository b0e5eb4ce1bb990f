//! Peers come and go: accepting connections, watching sockets, one write per peer and turn.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::epoll::{EpollEvent, EpollFlags};
use pool_protocol::id::{ClientId, WorkerId};

use super::clients::{MAX_CLIENTS, PAUSE_BYTES};
use super::listener::stranger;
use super::outbox::Peer;
use super::reactor::{Pool, Token};

impl Pool {
    pub(super) fn accept_clients(&mut self) {
        // As many as fit into one turn: the others' turn comes next.
        for _ in 0..64 {
            match self.control.accept() {
                Ok(None) => return,
                Ok(Some(stream)) => {
                    if let Some(uid) = stranger(&stream) {
                        tracing::warn!(uid, "refused a connection of another user");
                        continue;
                    }
                    self.make_room();
                    if let Err(error) = self.adopt(stream, false) {
                        tracing::warn!("failed to take a connection: {error}");
                    }
                }
                Err(error) => {
                    // Most likely out of descriptors: somebody has to go, or this turns for ever.
                    tracing::warn!("failed to accept a connection: {error}");
                    match self.clients.oldest_ungreeted() {
                        Some(id) => self.drop_client(id, "the supervisor is out of descriptors"),
                        None => self.listen(false),
                    }
                    return;
                }
            }
        }
    }

    /// Whether newcomers are looked at. The listener is always readable while one waits whom there is no descriptor for, so it is
    /// left alone until the next round of housekeeping.
    pub(super) fn listen(&mut self, on: bool) {
        self.listens = on;
        let wanted = if on { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
        let mut event = EpollEvent::new(wanted, Token::Listener.pack());
        if let Err(error) = self.epoll.modify(&self.control.listener, &mut event) {
            tracing::error!("failed to watch for connections: {error}");
        }
    }

    /// At the cap, those who never said hello make room; if all have, the newcomer waits in vain and is closed.
    fn make_room(&mut self) {
        if self.clients.count() >= MAX_CLIENTS
            && let Some(id) = self.clients.oldest_ungreeted()
        {
            self.drop_client(id, "too many connections");
        }
    }

    /// Takes a connected stream into the set. `own` is the supervisor's own HTTP room.
    pub(crate) fn adopt(&mut self, stream: UnixStream, own: bool) -> io::Result<()> {
        if self.clients.count() > MAX_CLIENTS && !own {
            return Err(io::Error::other("too many connections; raise nothing, close some"));
        }
        let peer = Peer::new(stream)?;
        let id = self.clients.add(self.clock.now(), peer, own);
        let client = self.clients.get_mut(id).expect("just added");
        let token = Token::Client(id.slot, id.generation).pack();
        self.epoll.add(&client.peer.stream, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        Ok(())
    }

    /// Watches a new child.
    pub(super) fn watch_worker(&self, id: WorkerId, link: &Peer, pidfd: &OwnedFd, output: &OwnedFd) -> io::Result<()> {
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

    pub(super) fn flush_dirty(&mut self) {
        while let Some(id) = self.dirty_workers.pop() {
            self.flush_worker(id);
        }
        while let Some(id) = self.dirty_clients.pop() {
            self.flush_client(id);
        }
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
        let Ok(drained) = client.peer.flush() else {
            self.drop_client(id, "its connection broke");
            return;
        };
        if client.closing && drained {
            self.drop_client(id, "it broke the protocol");
            return;
        }
        let paused = client.closing || client.peer.pending() > PAUSE_BYTES;
        if client.wants_room == drained || client.paused != paused {
            client.wants_room = !drained;
            client.paused = paused;
            let event = EpollEvent::new(interest(!paused, !drained), Token::Client(id.slot, id.generation).pack());
            let _is_watched = self.epoll.modify(&client.peer.stream, &mut { event });
        }
    }
}

fn interest(read: bool, write: bool) -> EpollFlags {
    let mut flags = EpollFlags::empty();
    flags.set(EpollFlags::EPOLLIN, read);
    flags.set(EpollFlags::EPOLLOUT, write);
    flags
}
