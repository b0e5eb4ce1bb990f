//! Bytes from the supervisor, cut into frames.

use std::os::fd::BorrowedFd;

use pool_protocol::buffer::FrameBuffer;
use pool_protocol::frame::{Frame, FrameError, FrameLimits};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// Bytes taken from the socket at once: a hundred small tasks.
const CHUNK_BYTES: usize = 64 * 1024;

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The supervisor closed its end, or is dead.
    #[error("failed to hear from the supervisor: it closed the connection")]
    Closed,
    /// The socket does not work.
    #[error("failed to receive from the supervisor: {0}")]
    Receive(Errno),
    /// The supervisor broke the rules.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// The receive buffer. Its memory is shared with the frames cut from it.
#[derive(Debug)]
pub(crate) struct Reader {
    buffer: FrameBuffer,
    chunk: Box<[u8]>,
    limits: FrameLimits,
}

impl Reader {
    pub(crate) fn new(body_bytes: usize) -> Self {
        Self {
            buffer: FrameBuffer::default(),
            chunk: vec![0; CHUNK_BYTES].into_boxed_slice(),
            limits: FrameLimits { body_bytes },
        }
    }

    /// From now on bodies may be this large.
    pub(crate) fn set_body_bytes(&mut self, body_bytes: usize) {
        self.limits = FrameLimits { body_bytes };
    }

    /// The next whole frame that has been received.
    pub(crate) fn take(&mut self) -> Result<Option<Frame>, FrameError> {
        self.buffer.next(self.limits)
    }

    /// Receives once. False when nothing was there and it should not wait.
    pub(crate) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        wait: bool,
    ) -> Result<bool, ReadError> {
        let flags = if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        loop {
            let received = match self.buffer.room() {
                Some(room) => recv(socket, spare_capacity(room), flags).map(|(n, _)| n),
                None => {
                    recv(socket, &mut self.chunk[..CHUNK_BYTES.min(self.buffer.piece())], flags)
                        .map(|(n, _)| n)
                        .inspect(|n| self.buffer.push(&self.chunk[..*n]))
                }
            };
            match received {
                Ok(0) | Err(Errno::CONNRESET) => return Err(ReadError::Closed),
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(ReadError::Receive(error)),
            }
        }
    }

    /// Waits for one frame.
    pub(crate) fn next(&mut self, socket: BorrowedFd<'_>) -> Result<Frame, ReadError> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(frame);
            }
            self.receive(socket, true)?;
        }
    }
}
