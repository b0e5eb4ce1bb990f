//! Bytes from the supervisor, cut into frames.

use std::os::fd::BorrowedFd;

use bytes::BytesMut;
use pool_protocol::frame::{self, Frame, FrameError, FrameLimits, Taken};
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
    buffer: BytesMut,
    chunk: Box<[u8]>,
    limits: FrameLimits,
}

impl Reader {
    pub(crate) fn new(body_bytes: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
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
        match frame::take(&mut self.buffer, self.limits)? {
            Taken::Frame(frame) => Ok(Some(frame)),
            Taken::Needs(_) => Ok(None),
        }
    }

    /// Receives once. False when nothing was there and it should not wait.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>, wait: bool) -> Result<bool, ReadError> {
        let flags = if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        loop {
            match recv(socket, &mut self.chunk[..], flags) {
                Ok((0, _)) | Err(Errno::CONNRESET) => return Err(ReadError::Closed),
                Ok((n, _)) => {
                    self.buffer.extend_from_slice(&self.chunk[..n]);
                    return Ok(true);
                }
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
