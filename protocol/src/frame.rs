//! Frames: a fixed header, a small head, an opaque body.
//!
//! ```text
//! 0       1       2               4               8                              16
//! | kind  | zero  | head length   | body length   | id                           | head … | body …
//! ```
//! Numbers are little-endian. The lengths are judged when the header is there, before anything is
//! reserved for them: a peer cannot make the reader allocate what it only announces. The id is a
//! task's on the worker's side, the request's number on the client's side (events carry that of
//! their subscription), and the version in a hello.

use bytes::{Buf, Bytes, BytesMut};

use crate::limits::{HEADER_BYTES, MAX_HEAD_BYTES};

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $value:literal,)*) => {
        /// What a frame is.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $variant = $value,)* }

        impl Kind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            const fn from_byte(byte: u8) -> Option<Self> {
                match byte { $($value => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

kinds! {
    // client → supervisor
    /// First frame of a client; the id is its version.
    Hello = 0x01,
    /// A task; the id is the client's number for it.
    Submit = 0x02,
    /// Cancel the task submitted under this id, or end the wait or the subscription asked for under
    /// it.
    CancelSubmitted = 0x03,
    /// An administrative request.
    Control = 0x04,
    // supervisor → client
    /// Answer to the hello; the id is the supervisor's version.
    Welcome = 0x21,
    /// The task is queued.
    Accepted = 0x22,
    /// The task ended.
    Outcome = 0x23,
    /// Answer to an administrative request: JSON.
    Reply = 0x24,
    /// An administrative request failed.
    Refused = 0x25,
    /// One event: JSON.
    Event = 0x26,
    // supervisor → worker
    /// First frame to a worker; the id is the supervisor's version.
    Setup = 0x41,
    /// Run this task.
    Run = 0x42,
    /// Give back these tasks if they have not started.
    TakeBack = 0x43,
    /// End this task, running or not.
    Cancel = 0x44,
    /// Finish what has been started and exit.
    Retire = 0x45,
    // worker → supervisor
    /// The worker can run tasks; the id is its version.
    Ready = 0x61,
    /// The task ended.
    Done = 0x62,
    /// Still alive; memory and CPU time.
    Heartbeat = 0x63,
    /// A line of console output.
    Log = 0x64,
    /// These tasks are given back unstarted.
    Returned = 0x65,
    /// The engine is about to end the process, and why.
    LastWords = 0x66,
    /// A probe's attack was not stopped by the process's death: what came of it, as JSON.
    Probed = 0x67,
}

/// What the reader accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameLimits {
    /// Body bytes.
    pub body_bytes: usize,
}

/// A frame as it was received. Head and body share the receive buffer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// See the module's documentation.
    pub id: u64,
    /// Encoded by [`crate::codec`].
    pub head: Bytes,
    /// Opaque.
    pub body: Bytes,
}

impl Frame {
    /// Its bytes on the wire.
    pub(crate) fn whole(&self) -> usize {
        HEADER_BYTES + self.head.len() + self.body.len()
    }

    /// Its body without what was read together with it.
    pub(crate) fn alone(self) -> Self {
        Self { body: Bytes::copy_from_slice(&self.body), ..self }
    }
}

/// A frame that breaks the rules. The connection is of no more use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// No such kind.
    #[error("failed to read a frame: unknown kind {0:#04x}")]
    UnknownKind(u8),
    /// The reserved byte is not zero.
    #[error("failed to read a frame: reserved byte is {0:#04x}, not zero")]
    Reserved(u8),
    /// The head is too long.
    #[error("failed to read a frame: head of {len} bytes, at most {max} are allowed")]
    HeadTooLong {
        /// What the header says.
        len: usize,
        /// What is allowed.
        max: usize,
    },
    /// The body is too long.
    #[error("failed to read a frame: body of {len} bytes, at most {max} are allowed")]
    BodyTooLong {
        /// What the header says.
        len: usize,
        /// What is allowed.
        max: usize,
    },
}

/// A header whose lengths have been judged.
struct Header {
    kind: Kind,
    id: u64,
    head_len: usize,
    whole: usize,
}

impl Header {
    /// Nothing as long as the header is not whole.
    fn read(bytes: &[u8], limits: FrameLimits) -> Result<Option<Self>, FrameError> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let kind = Kind::from_byte(header[0]).ok_or(FrameError::UnknownKind(header[0]))?;
        if header[1] != 0 {
            return Err(FrameError::Reserved(header[1]));
        }
        let head_len = usize::from(u16::from_le_bytes([header[2], header[3]]));
        if head_len > MAX_HEAD_BYTES {
            return Err(FrameError::HeadTooLong { len: head_len, max: MAX_HEAD_BYTES });
        }
        let body_len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if body_len > limits.body_bytes {
            return Err(FrameError::BodyTooLong { len: body_len, max: limits.body_bytes });
        }
        let id = u64::from_le_bytes(header[8..].try_into().expect("eight bytes are left"));
        Ok(Some(Self { kind, id, head_len, whole: HEADER_BYTES + head_len + body_len }))
    }

    /// Cuts the frame, whose bytes these are and no others.
    fn cut(&self, mut bytes: Bytes) -> Frame {
        bytes.advance(HEADER_BYTES);
        let head = bytes.split_to(self.head_len);
        Frame { kind: self.kind, id: self.id, head, body: bytes }
    }
}

/// Takes one frame off the front of the buffer, or says how many bytes the buffer must hold for the
/// next one.
///
/// # Errors
/// [`FrameError`] as soon as the header is there; nothing is taken then.
pub fn take(buffer: &mut BytesMut, limits: FrameLimits) -> Result<Taken, FrameError> {
    let Some(header) = Header::read(buffer, limits)? else { return Ok(Taken::Needs(HEADER_BYTES)) };
    if buffer.len() < header.whole {
        return Ok(Taken::Needs(header.whole));
    }
    let bytes = buffer.split_to(header.whole).freeze();
    Ok(Taken::Frame(header.cut(bytes)))
}

/// A frame in bytes of its own, whose header was read before.
pub(crate) fn read(bytes: Bytes, limits: FrameLimits) -> Result<Frame, FrameError> {
    let header = Header::read(&bytes, limits)?.expect("its header was read before");
    debug_assert_eq!(bytes.len(), header.whole);
    Ok(header.cut(bytes))
}

/// What [`take`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken {
    /// A whole frame.
    Frame(Frame),
    /// The buffer must hold this many bytes before the next one is whole.
    Needs(usize),
}

/// Appends a frame's header and head, for a body that follows by itself (a vectored write).
///
/// # Panics
/// If the head or the body is longer than the wire can say; both are bounded long before.
pub fn put_head<T: bincode::Encode>(
    out: &mut Vec<u8>,
    kind: Kind,
    id: u64,
    head: &T,
    body_len: usize,
) {
    let start = put_header(out, kind, id, body_len);
    crate::codec::encode_into(head, out);
    let head_len = out.len() - start - HEADER_BYTES;
    let head_len = u16::try_from(head_len).expect("heads are bounded");
    out[start + 2..start + 4].copy_from_slice(&head_len.to_le_bytes());
}

/// Appends the header of a frame without a head; see [`put_head`].
///
/// # Panics
/// If the body is longer than the wire can say.
pub fn put_header(out: &mut Vec<u8>, kind: Kind, id: u64, body_len: usize) -> usize {
    let start = out.len();
    let body_len = u32::try_from(body_len).expect("bodies are bounded");
    out.extend_from_slice(&[kind as u8, 0, 0, 0]);
    out.extend_from_slice(&body_len.to_le_bytes());
    out.extend_from_slice(&id.to_le_bytes());
    start
}

/// Appends a whole frame.
pub fn put<T: bincode::Encode>(out: &mut Vec<u8>, kind: Kind, id: u64, head: &T, body: &[u8]) {
    put_head(out, kind, id, head, body.len());
    out.extend_from_slice(body);
}

/// Appends a whole frame without a head.
pub fn put_plain(out: &mut Vec<u8>, kind: Kind, id: u64, body: &[u8]) {
    put_header(out, kind, id, body.len());
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: FrameLimits = FrameLimits { body_bytes: 1024 };

    fn taken(bytes: &[u8]) -> Result<Taken, FrameError> {
        take(&mut BytesMut::from(bytes), LIMITS)
    }

    #[test]
    fn a_length_that_is_only_announced_reserves_nothing() {
        let mut bytes = Vec::new();
        put_header(&mut bytes, Kind::Submit, 1, 0);
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(
            taken(&bytes),
            Err(FrameError::BodyTooLong { len: u32::MAX as usize, max: 1024 })
        );
        bytes[2..4].copy_from_slice(&u16::MAX.to_le_bytes());
        assert_eq!(taken(&bytes), Err(FrameError::HeadTooLong { len: 65535, max: MAX_HEAD_BYTES }));
    }

    #[test]
    fn unknown_kinds_and_reserved_bits_are_refused() {
        let mut bytes = vec![0u8; HEADER_BYTES];
        assert_eq!(taken(&bytes), Err(FrameError::UnknownKind(0)));
        bytes[0] = Kind::Run as u8;
        bytes[1] = 1;
        assert_eq!(taken(&bytes), Err(FrameError::Reserved(1)));
    }

    #[test]
    fn every_kind_reads_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_byte(*kind as u8), Some(*kind));
        }
    }

    proptest! {
        #[test]
        fn frames_cut_anywhere_come_out_whole(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..8),
            cut in 1usize..64,
        ) {
            let mut wire = Vec::new();
            for (id, body) in bodies.iter().enumerate() {
                put(&mut wire, Kind::Submit, id as u64, &(id as u32), body);
            }
            let mut buffer = BytesMut::new();
            let mut seen = Vec::new();
            for piece in wire.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Taken::Frame(frame) = take(&mut buffer, LIMITS).unwrap() {
                    prop_assert_eq!(frame.id, seen.len() as u64);
                    prop_assert_eq!(
                        crate::codec::decode::<u32>("test", &frame.head).unwrap(),
                        seen.len() as u32
                    );
                    seen.push(frame.body.to_vec());
                }
            }
            prop_assert_eq!(seen, bodies);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Taken::Frame(_)) = take(&mut buffer, LIMITS) {}
        }
    }
}
