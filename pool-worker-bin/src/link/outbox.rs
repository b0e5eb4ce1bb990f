//! What goes to the supervisor: collected, and sent in one write for many results.
//!
//! Owns the send buffer. Whoever holds it may send; a write that was cut short is finished before
//! anything else goes.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use pool_protocol::frame::{self, Kind};
use pool_protocol::worker::DoneHead;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

/// Above this many bytes nothing more is collected; and a larger body is sent from where it lies.
const FULL_BYTES: usize = 64 * 1024;
/// A result does not wait longer than this for the next one.
const OLDEST: Duration = Duration::from_micros(100);

/// Collected frames.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    buffer: Vec<u8>,
    sent: usize,
    oldest: Option<Instant>,
    heartbeats: u32,
}

impl Outbox {
    /// For frames that are small and may wait for the next flush.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// A task's end. Sends when enough has come together, or when `urgent`.
    pub(crate) fn put_done(
        &mut self,
        socket: BorrowedFd<'_>,
        id: u64,
        head: &DoneHead,
        parts: [&[u8]; 2],
        now: Instant,
    ) -> Result<(), Errno> {
        let len = parts[0].len() + parts[1].len();
        frame::put_head(&mut self.buffer, Kind::Done, id, head, len);
        if len > FULL_BYTES {
            // A head that goes alone wakes the supervisor for nothing.
            let (with_head, rest) = parts[0].split_at(parts[0].len().min(FULL_BYTES));
            self.buffer.extend_from_slice(with_head);
            self.flush(socket)?;
            for part in [rest, parts[1]] {
                send_all(socket, part)?;
            }
            return Ok(());
        }
        for part in parts {
            self.buffer.extend_from_slice(part);
        }
        let oldest = *self.oldest.get_or_insert(now);
        if self.buffer.len() > FULL_BYTES || now.saturating_duration_since(oldest) > OLDEST {
            self.flush(socket)?;
        }
        Ok(())
    }

    /// A sign of life, unless the last one has not even been sent.
    pub(crate) fn put_heartbeat(&mut self, head: &pool_protocol::worker::HeartbeatHead) {
        if self.heartbeats == 0 {
            frame::put(&mut self.buffer, Kind::Heartbeat, 0, head, &[]);
            self.heartbeats += 1;
        }
    }

    /// Sends everything, however long it takes.
    pub(crate) fn flush(&mut self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        if !self.buffer.is_empty() {
            send_all(socket, &self.buffer[self.sent..])?;
            self.clear();
        }
        Ok(())
    }

    /// Sends everything and one more frame, touching no memory but this.
    pub(crate) fn flush_with(&mut self, socket: BorrowedFd<'_>, frame: &[u8]) -> Result<(), Errno> {
        send_all(socket, &self.buffer[self.sent..])?;
        self.sent = self.buffer.len();
        send_all(socket, frame)
    }

    /// Sends what goes without waiting.
    pub(crate) fn flush_some(&mut self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        while self.sent < self.buffer.len() {
            match send(socket, &self.buffer[self.sent..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            {
                Ok(n) => self.sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.clear();
        Ok(())
    }

    fn clear(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(2 * FULL_BYTES);
        self.sent = 0;
        self.oldest = None;
        self.heartbeats = 0;
    }
}

fn send_all(socket: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};
    use std::os::fd::{AsFd, OwnedFd};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
    }

    fn arrived(socket: &OwnedFd) -> Vec<u8> {
        let mut all = Vec::new();
        let mut chunk = vec![0; 64 * 1024];
        while let Ok((n, _)) = recv(socket, &mut chunk[..], RecvFlags::DONTWAIT) {
            all.extend_from_slice(&chunk[..n]);
        }
        all
    }

    fn head(len: usize) -> DoneHead {
        DoneHead {
            attempt: 1,
            code: None,
            run_us: 1,
            cpu_us: 1,
            busy_us: 1,
            memory_bytes: 1,
            retry_after_ms: 0,
            result_len: len as u32,
            spoiled: false,
        }
    }

    #[test]
    fn results_wait_for_each_other_but_not_for_long() {
        let (ours, theirs) = pair();
        let mut outbox = Outbox::default();
        let start = Instant::now();
        outbox.put_done(ours.as_fd(), 1, &head(1), [b"1", b""], start).unwrap();
        outbox
            .put_done(ours.as_fd(), 2, &head(1), [b"2", b""], start + Duration::from_micros(50))
            .unwrap();
        assert!(arrived(&theirs).is_empty());
        outbox
            .put_done(ours.as_fd(), 3, &head(1), [b"3", b""], start + Duration::from_micros(200))
            .unwrap();
        assert!(!arrived(&theirs).is_empty());
        assert!(outbox.buffer().is_empty());
    }

    #[test]
    fn a_peer_that_does_not_read_stops_a_flush_only_halfway_and_no_byte_is_lost() {
        let (ours, theirs) = pair();
        let mut outbox = Outbox::default();
        let bytes: Vec<u8> = (0..2_000_000u32).map(|n| n as u8).collect();
        outbox.buffer().extend_from_slice(&bytes);
        outbox.flush_some(ours.as_fd()).unwrap();
        let mut seen = arrived(&theirs);
        assert!(!seen.is_empty() && seen.len() < bytes.len());
        while seen.len() < bytes.len() {
            outbox.flush_some(ours.as_fd()).unwrap();
            seen.extend(arrived(&theirs));
        }
        assert!(seen == bytes);
        assert!(outbox.buffer().is_empty());
    }

    #[test]
    fn heartbeats_do_not_pile_up() {
        let (ours, theirs) = pair();
        let mut outbox = Outbox::default();
        let beat = pool_protocol::worker::HeartbeatHead { rss_bytes: 1, cpu_us: 1 };
        outbox.put_heartbeat(&beat);
        let one = outbox.buffer().len();
        outbox.put_heartbeat(&beat);
        assert_eq!(outbox.buffer().len(), one);
        outbox.flush_some(ours.as_fd()).unwrap();
        assert_eq!(arrived(&theirs).len(), one);
        outbox.put_heartbeat(&beat);
        assert_eq!(outbox.buffer().len(), one);
    }
}
