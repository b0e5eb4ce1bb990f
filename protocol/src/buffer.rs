//! What came from a stream and has not been taken apart yet.
//!
//! Small frames share a buffer. A large one gets a vector of its own, into which its owner reads
//! without a copy in between; so who keeps a large body keeps no other frame's bytes with it.

use bytes::{Bytes, BytesMut};

use crate::frame::{self, Frame, FrameError, FrameLimits, Taken};

/// From this many bytes on a frame has a vector of its own.
pub const LARGE_BYTES: usize = 64 * 1024;

/// What is read elsewhere after a large frame, and then copied: a header and a head. The next frame
/// may well be as large.
const HEAD_BYTES: usize = 4 * 1024;

/// Room that a header alone may ask for. It costs addresses; memory comes with the bytes that fill
/// it.
const EAGER_BYTES: usize = 2 * 1024 * 1024;

/// Room for more grows with what has arrived, by this factor.
const GROWTH: usize = 4;

/// The bytes of one stream, cut into frames.
#[derive(Default, Debug)]
pub struct FrameBuffer {
    small: BytesMut,
    large: Option<Large>,
    /// Whether the last frame was large.
    after_large: bool,
}

/// A large frame that is on its way, from its first byte.
#[derive(Debug)]
struct Large {
    bytes: Vec<u8>,
    whole: usize,
}

impl FrameBuffer {
    /// How much of a reader's own buffer is to be filled at most before the next
    /// [`FrameBuffer::push`].
    #[must_use]
    pub const fn piece(&self) -> usize {
        if self.after_large { HEAD_BYTES } else { usize::MAX }
    }

    /// Whether the rest of a large frame is to be read into a vector of its own: see
    /// [`FrameBuffer::room`].
    #[must_use]
    pub const fn awaits_large(&self) -> bool {
        self.large.is_some()
    }

    /// Takes in bytes that were read elsewhere.
    pub fn push(&mut self, bytes: &[u8]) {
        match &mut self.large {
            Some(large) => large.bytes.extend_from_slice(bytes),
            None => self.small.extend_from_slice(bytes),
        }
    }

    /// The vector whose spare room the next bytes are to be read into, while a large frame is on
    /// its way.
    pub fn room(&mut self) -> Option<&mut Vec<u8>> {
        let Large { bytes, whole } = self.large.as_mut()?;
        if bytes.len() == bytes.capacity() {
            let most = (*whole).min(EAGER_BYTES.max(GROWTH * bytes.len()));
            bytes.reserve_exact(most.saturating_sub(bytes.len()).max(1));
        }
        Some(bytes)
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// [`FrameError`]: see [`frame::take`].
    pub fn next(&mut self, limits: FrameLimits) -> Result<Option<Frame>, FrameError> {
        if self.large.as_ref().is_some_and(|large| large.bytes.len() < large.whole) {
            return Ok(None);
        }
        if let Some(Large { mut bytes, whole }) = self.large.take() {
            self.small.extend_from_slice(&bytes[whole..]);
            bytes.truncate(whole);
            self.after_large = true;
            return frame::read(Bytes::from(bytes), limits).map(Some);
        }
        match frame::take(&mut self.small, limits)? {
            Taken::Frame(frame) => {
                self.after_large = frame.whole() >= LARGE_BYTES;
                Ok(Some(if self.after_large { frame.alone() } else { frame }))
            }
            Taken::Needs(whole) if whole < LARGE_BYTES => {
                // Room grows with what has arrived, not with what is announced.
                let missing = whole - self.small.len();
                self.small.reserve(missing.min(self.small.len().max(HEAD_BYTES)));
                Ok(None)
            }
            Taken::Needs(whole) => {
                let mut bytes =
                    Vec::with_capacity(whole.min(EAGER_BYTES.max(GROWTH * self.small.len())));
                bytes.extend_from_slice(&self.small);
                self.small.clear();
                self.large = Some(Large { bytes, whole });
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FrameError, Kind};
    use proptest::prelude::*;

    const LIMITS: FrameLimits = FrameLimits { body_bytes: 64 << 20 };

    fn frame_of(id: u64, len: usize) -> Vec<u8> {
        let mut wire = Vec::new();
        frame::put(&mut wire, Kind::Submit, id, &7u32, &vec![id as u8; len]);
        wire
    }

    /// Gives the bytes to the buffer as a reader would, so many at a time, and takes every frame.
    fn cut(wire: &[u8], piece: usize) -> Vec<(u64, usize)> {
        let mut buffer = FrameBuffer::default();
        let mut seen = Vec::new();
        let mut rest = wire;
        while !rest.is_empty() {
            let n = match buffer.room() {
                Some(room) => {
                    let n = piece.min(room.capacity() - room.len()).min(rest.len());
                    room.extend_from_slice(&rest[..n]);
                    n
                }
                None => {
                    let n = piece.min(rest.len()).min(buffer.piece());
                    buffer.push(&rest[..n]);
                    n
                }
            };
            assert!(n > 0, "there is always room for more");
            rest = &rest[n..];
            while let Some(frame) = buffer.next(LIMITS).expect("well formed") {
                assert!(frame.body.iter().all(|byte| *byte == frame.id as u8));
                assert_eq!(crate::codec::decode::<u32>("test", &frame.head), Ok(7));
                assert_eq!(frame.body.len() + 17 >= LARGE_BYTES, buffer.after_large);
                seen.push((frame.id, frame.body.len()));
            }
        }
        assert!(buffer.small.is_empty() && buffer.large.is_none());
        seen
    }

    #[test]
    fn what_is_only_announced_gets_no_more_than_the_eager_room() {
        let mut buffer = FrameBuffer::default();
        buffer.push(&frame_of(1, 32 << 20)[..100]);
        assert_eq!(buffer.next(LIMITS), Ok(None));
        let room = buffer.room().expect("a large frame is on its way");
        assert!(room.capacity() <= EAGER_BYTES, "{}", room.capacity());
        room.resize(room.capacity(), 0);
        let room = buffer.room().expect("it is not whole yet");
        assert!(room.capacity() <= GROWTH * EAGER_BYTES, "{}", room.capacity());
    }

    #[test]
    fn a_large_body_keeps_no_other_frames_bytes() {
        let mut buffer = FrameBuffer::default();
        let wire = [frame_of(1, LARGE_BYTES), frame_of(2, 10), frame_of(3, LARGE_BYTES)].concat();
        buffer.push(&wire);
        let bodies: Vec<Bytes> = std::iter::from_fn(|| buffer.next(LIMITS).expect("well formed"))
            .map(|frame| frame.body)
            .collect();
        assert_eq!(bodies.len(), 3);
        assert!(bodies[0].is_unique() && bodies[2].is_unique());
    }

    #[test]
    fn a_large_frame_too_long_is_refused_by_its_header() {
        let mut buffer = FrameBuffer::default();
        buffer.push(&frame_of(1, LARGE_BYTES)[..16]);
        let refused = buffer.next(FrameLimits { body_bytes: 1024 });
        assert_eq!(refused, Err(FrameError::BodyTooLong { len: LARGE_BYTES, max: 1024 }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn frames_large_and_small_come_out_whole_and_in_order(
            lens in prop::collection::vec(
                prop_oneof![0usize..200, LARGE_BYTES - 40..LARGE_BYTES + 40, 0usize..3_000_000],
                1..6,
            ),
            piece in prop_oneof![1000usize..300_000, Just(4 << 20)],
        ) {
            let numbered = || lens.iter().copied().zip(0..);
            let wire: Vec<u8> = numbered().flat_map(|(len, id)| frame_of(id, len)).collect();
            let wanted: Vec<(u64, usize)> = numbered().map(|(len, id)| (id, len)).collect();
            prop_assert_eq!(cut(&wire, piece), wanted);
        }
    }
}
