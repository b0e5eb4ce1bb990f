//! A client of the control socket that sends whatever bytes it is told to.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use bytes::BytesMut;
use pool_protocol::control::HelloHead;
use pool_protocol::frame::{self, Frame, FrameLimits, Kind, Taken};
use pool_protocol::version::CURRENT;

use crate::wait::DEADLINE;

/// One connection without a handshake.
#[derive(Debug)]
pub struct Raw {
    stream: UnixStream,
    buffer: BytesMut,
}

impl Raw {
    /// Connects, and says nothing.
    ///
    /// # Panics
    /// When nobody listens.
    #[must_use]
    pub fn open(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("the supervisor listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time over zero");
        Self { stream, buffer: BytesMut::new() }
    }

    /// Connects and shakes hands.
    ///
    /// # Panics
    /// When the supervisor does not welcome us.
    #[must_use]
    pub fn welcomed(socket: &Path) -> Self {
        let mut raw = Self::open(socket);
        raw.send(&hello(u64::from(CURRENT)));
        assert_eq!(raw.frame().expect("an answer").kind, Kind::Welcome);
        raw
    }

    /// Sends bytes; a connection that the other side has closed is no failure here.
    pub fn send(&mut self, bytes: &[u8]) {
        // The peer may close while we write: that is what many tests are about.
        let _ = self.stream.write_all(bytes);
    }

    /// The same stream, for a thread that writes while another reads.
    ///
    /// # Panics
    /// When there are no descriptors left.
    #[must_use]
    pub fn writer(&self) -> UnixStream {
        self.stream.try_clone().expect("there are descriptors")
    }

    /// The next frame, or nothing when the other side closed.
    ///
    /// # Panics
    /// When nothing comes in time or it is no frame.
    pub fn frame(&mut self) -> Option<Frame> {
        let limits = FrameLimits { body_bytes: pool_protocol::limits::MAX_BODY_BYTES };
        let mut scratch = [0; 4096];
        loop {
            if let Taken::Frame(frame) =
                frame::take(&mut self.buffer, limits).expect("the supervisor's frames are sound")
            {
                return Some(frame);
            }
            match self.stream.read(&mut scratch) {
                Ok(0) => return None,
                Ok(n) => self.buffer.extend_from_slice(&scratch[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(e) => panic!("the supervisor neither answers nor closes: {e}"),
            }
        }
    }

    /// Reads until the other side closes; gives the bodies of what it said before, as text.
    pub fn last_words(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        while let Some(frame) = self.frame() {
            words.push(String::from_utf8_lossy(&frame.body).into_owned());
        }
        words
    }
}

/// The bytes of a hello of some version.
#[must_use]
pub fn hello(version: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::put(&mut bytes, Kind::Hello, version, &HelloHead { program: "raw" }, b"");
    bytes
}
