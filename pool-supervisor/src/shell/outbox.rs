//! One peer's socket with what came in and what is to go out.
//!
//! A turn of the reactor reads once and writes once per peer, however many frames that is. Small
//! bodies are copied behind their heads; large ones are sent from where they lie. The outbox is
//! bounded by its owner, who asks for its length.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::os::unix::net::UnixStream;

use bytes::{Buf, Bytes};
use pool_protocol::buffer::FrameBuffer;
use pool_protocol::frame::{self, Frame, FrameError, FrameLimits, Kind};
use rustix::io::Errno;

use super::buffers::Body;
use pool_os::socket;

/// Below this a copy is cheaper than another entry of the vectored write.
const COPY_BYTES: usize = 4096;
/// Reads of one peer in one turn, where the next is the rest of a large frame. With all that a
/// socket holds that is no more than a few large bodies.
pub(crate) const MAX_READS: u32 = 8;
/// What an empty tail may keep of its memory.
const TAIL_BYTES: usize = 256 * 1024;
/// Entries of one vectored write.
const MAX_SLICES: usize = 64;

/// What one read gave.
pub(crate) enum Received {
    /// Something.
    Bytes,
    /// Nothing now.
    Nothing,
    /// The peer has closed its end, or the connection broke.
    Closed,
}

pub(crate) struct Peer {
    pub(crate) stream: UnixStream,
    inbox: FrameBuffer,
    queue: VecDeque<Bytes>,
    tail: Vec<u8>,
    queued: usize,
    /// Bytes that the socket has taken since the connection began.
    written: u64,
}

impl Peer {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        socket::widen(&stream)?;
        Ok(Self {
            stream,
            inbox: FrameBuffer::default(),
            queue: VecDeque::new(),
            tail: Vec::new(),
            queued: 0,
            written: 0,
        })
    }

    /// Bytes that wait to be written.
    pub(crate) fn pending(&self) -> usize {
        self.queued + self.tail.len()
    }

    /// Bytes that the socket has taken since the connection began.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    /// What [`Self::written`] will be once all that is queued now has left.
    pub(crate) fn end(&self) -> u64 {
        self.written + self.pending() as u64
    }

    /// Reads once into the inbox: small frames through a buffer that all peers share.
    pub(crate) fn receive(&mut self, scratch: &mut [u8]) -> Received {
        match socket::read_into(&self.stream, &mut self.inbox, scratch) {
            Ok(0) => Received::Closed,
            Ok(_) => Received::Bytes,
            Err(Errno::AGAIN) => Received::Nothing,
            Err(_) => Received::Closed,
        }
    }

    /// Whether what comes next is the rest of a large frame.
    pub(crate) fn awaits_large(&self) -> bool {
        self.inbox.awaits_large()
    }

    /// The next whole frame of the inbox.
    pub(crate) fn next_frame(&mut self, limits: FrameLimits) -> Result<Option<Frame>, FrameError> {
        self.inbox.next(limits)
    }

    /// Queues a frame.
    pub(crate) fn send<T: bincode::Encode>(&mut self, kind: Kind, id: u64, head: &T, body: &Bytes) {
        frame::put_head(&mut self.tail, kind, id, head, body.len());
        self.attach(body);
    }

    /// Queues a frame with a body that is kept.
    pub(crate) fn send_kept<T: bincode::Encode>(
        &mut self,
        kind: Kind,
        id: u64,
        head: &T,
        body: &Body,
    ) {
        match body {
            Body::Small(body) => frame::put(&mut self.tail, kind, id, head, body),
            Body::Large(body) => self.send(kind, id, head, body),
        }
    }

    /// Queues a frame without a head.
    pub(crate) fn send_plain(&mut self, kind: Kind, id: u64, body: &[u8]) {
        frame::put_plain(&mut self.tail, kind, id, body);
    }

    fn attach(&mut self, body: &Bytes) {
        if body.len() < COPY_BYTES {
            self.tail.extend_from_slice(body);
            return;
        }
        self.seal_tail();
        self.queued += body.len();
        self.queue.push_back(body.clone());
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            self.queued += self.tail.len();
            self.queue.push_back(Bytes::from(std::mem::take(&mut self.tail)));
        }
    }

    /// Writes what the socket takes. True when nothing is left.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        if self.queue.is_empty() && !self.tail.is_empty() {
            let written = match write_some(&self.stream, &[IoSlice::new(&self.tail)])? {
                Some(n) => n,
                None => return Ok(false),
            };
            if written == self.tail.len() {
                self.written += written as u64;
                self.tail.clear();
                self.tail.shrink_to(TAIL_BYTES);
                return Ok(true);
            }
            self.seal_tail();
            self.advance(written);
            return Ok(false);
        }
        self.seal_tail();
        while !self.queue.is_empty() {
            let slices: Vec<IoSlice<'_>> =
                self.queue.iter().take(MAX_SLICES).map(|b| IoSlice::new(b)).collect();
            match write_some(&self.stream, &slices)? {
                Some(n) => self.advance(n),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn advance(&mut self, mut written: usize) {
        self.queued -= written;
        self.written += written as u64;
        while written > 0 {
            let front = self.queue.front_mut().expect("no more was written than was queued");
            if front.len() > written {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.queue.pop_front();
        }
    }
}

fn write_some(mut stream: &UnixStream, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
    loop {
        match stream.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => return Ok(Some(n)),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_large_and_small_arrive_in_order_through_a_full_socket() {
        let (a, b) = UnixStream::pair().expect("socket pair");
        let mut sender = Peer::new(a).expect("non-blocking");
        let mut receiver = Peer::new(b).expect("non-blocking");
        let sizes = [0usize, 10, 5_000, 1_000_000, 3, 70_000, 4_095, 4_096];
        for (id, size) in sizes.iter().enumerate() {
            sender.send(Kind::Submit, id as u64, &7u32, &Bytes::from(vec![id as u8; *size]));
        }
        let mut scratch = vec![0; 65_536];
        let mut seen = 0;
        let limits = FrameLimits { body_bytes: 2_000_000 };
        let mut all_written = false;
        while seen < sizes.len() {
            all_written = sender.flush().expect("the peer lives");
            while let Received::Bytes = receiver.receive(&mut scratch) {}
            while let Some(frame) = receiver.next_frame(limits).expect("well formed") {
                assert_eq!((frame.id, frame.body.len()), (seen as u64, sizes[seen]));
                assert!(frame.body.iter().all(|b| *b == seen as u8));
                seen += 1;
            }
        }
        assert!(all_written && sender.pending() == 0);
        assert_eq!(sender.written(), sender.end());
    }
}
