//! The frame decoder: any bytes, cut anywhere.
//!
//! The decoder that takes bytes as they come is compared with one that is written here, reads the
//! whole at once and knows no buffer. What it returned, encoded again, is what came in. It holds no
//! more memory than has arrived; and a head that decodes survives being encoded and decoded again.

use bytes::BytesMut;
use pool_protocol::codec;
use pool_protocol::control::{
    AcceptedHead, ControlRequest, HelloHead, OutcomeHead, RefusedHead, WelcomeHead,
};
use pool_protocol::frame::{self, Frame, FrameError, FrameLimits, Kind, Taken};
use pool_protocol::limits::{HEADER_BYTES, MAX_HEAD_BYTES};
use pool_protocol::task::TaskHead;
use pool_protocol::worker::{
    CancelHead, DoneHead, HeartbeatHead, LastWordsHead, LogHead, ReadyHead, RunHead, TaskList,
};

use crate::allocation::peak_during;

/// A buffer grows by doubling, and keeps what it had while it moves: four times, and a first block.
const GROWTH: usize = 4;
const FIRST_BLOCK: usize = 8 * 1024;
/// Decoding a head may make a list of what it holds, and an error's text. A list may announce more
/// than comes, up to the bound of all heads: the codec's limit, not the peer's number, decides what
/// is reserved.
const HEAD_GROWTH: usize = 64;

/// The first two bytes are the size of the pieces and the limit of bodies; the rest is what a peer
/// sends.
pub fn run(input: &[u8]) {
    let [piece, limit, wire @ ..] = input else { return };
    let piece = usize::from(*piece).max(1);
    let limits = FrameLimits { body_bytes: [0, 16, 300, 1 << 20][usize::from(*limit) % 4] };
    let ((frames, error), peak) = peak_during(|| in_pieces(wire, piece, limits));
    assert!(
        peak <= GROWTH * wire.len() + FIRST_BLOCK,
        "{peak} bytes are held for {} that came",
        wire.len()
    );
    let expected = as_written(wire, limits);
    assert!(
        (&frames, &error) == (&expected.0, &expected.1),
        "two decoders agree: {frames:?} {error:?}, {expected:?}"
    );
    let mut again = Vec::new();
    for frame in &frames {
        let start = frame::put_header(&mut again, frame.kind, frame.id, frame.body.len());
        let head_len = u16::try_from(frame.head.len()).expect("heads are bounded");
        again[start + 2..start + 4].copy_from_slice(&head_len.to_le_bytes());
        again.extend_from_slice(&frame.head);
        again.extend_from_slice(&frame.body);
        let ((), peak) = peak_during(|| try_head(frame.kind, &frame.head));
        assert!(
            peak <= HEAD_GROWTH * frame.head.len() + MAX_HEAD_BYTES + FIRST_BLOCK,
            "{peak} bytes for a head of {}",
            frame.head.len()
        );
    }
    assert!(wire.starts_with(&again), "what was read is what was written");
}

/// As a socket's reader does it.
fn in_pieces(wire: &[u8], piece: usize, limits: FrameLimits) -> (Vec<Frame>, Option<FrameError>) {
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for bytes in wire.chunks(piece) {
        buffer.extend_from_slice(bytes);
        loop {
            let before = buffer.len();
            match frame::take(&mut buffer, limits) {
                Ok(Taken::Frame(frame)) => frames.push(frame),
                Ok(Taken::Needs(whole)) => {
                    assert!(whole > before, "what is there is not asked for again");
                    assert!(
                        whole <= HEADER_BYTES + MAX_HEAD_BYTES + limits.body_bytes,
                        "no more is asked for than allowed"
                    );
                    break;
                }
                Err(error) => {
                    assert_eq!(buffer.len(), before, "nothing is taken from what breaks the rules");
                    return (frames, Some(error));
                }
            }
        }
    }
    (frames, None)
}

/// As the protocol's page says it.
fn as_written(wire: &[u8], limits: FrameLimits) -> (Vec<Frame>, Option<FrameError>) {
    let number = |at: usize, len: usize| {
        wire[at..at + len].iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte))
    };
    let mut frames = Vec::new();
    let mut at = 0;
    while at + 16 <= wire.len() {
        let Some(kind) = Kind::ALL.iter().copied().find(|kind| *kind as u8 == wire[at]) else {
            return (frames, Some(FrameError::UnknownKind(wire[at])));
        };
        if wire[at + 1] != 0 {
            return (frames, Some(FrameError::Reserved(wire[at + 1])));
        }
        let (head, body) = (number(at + 2, 2) as usize, number(at + 4, 4) as usize);
        if head > MAX_HEAD_BYTES {
            return (frames, Some(FrameError::HeadTooLong { len: head, max: MAX_HEAD_BYTES }));
        }
        if body > limits.body_bytes {
            return (frames, Some(FrameError::BodyTooLong { len: body, max: limits.body_bytes }));
        }
        let (from, middle, end) = (at + 16, at + 16 + head, at + 16 + head + body);
        if end > wire.len() {
            break;
        }
        let copy = |bytes: &[u8]| bytes::Bytes::copy_from_slice(bytes);
        frames.push(Frame {
            kind,
            id: number(at + 8, 8),
            head: copy(&wire[from..middle]),
            body: copy(&wire[middle..end]),
        });
        at = end;
    }
    (frames, None)
}

/// A head that decodes survives being encoded and decoded again.
macro_rules! survives {
    ($head:expr, $type:ty) => {
        if let Ok(value) = codec::decode::<$type>("head", $head) {
            let (mut once, mut twice) = (Vec::new(), Vec::new());
            codec::encode_into(&value, &mut once);
            // A number may come in a longer form than it is written in.
            assert!(once.len() <= $head.len(), "encoding is the shortest form");
            match codec::decode::<$type>("head", &once) {
                Ok(again) => codec::encode_into(&again, &mut twice),
                Err(error) => panic!("a head that was encoded decodes: {error}"),
            }
            // Compared as bytes: a number that is none is not equal to itself.
            assert_eq!(once, twice, "a head survives being encoded and decoded");
        }
    };
}

/// Decodes a head as its kind's.
fn try_head(kind: Kind, head: &[u8]) {
    match kind {
        Kind::Hello => survives!(head, HelloHead<'_>),
        Kind::Submit => survives!(head, TaskHead<'_>),
        Kind::Control => survives!(head, ControlRequest<'_>),
        Kind::Welcome => survives!(head, WelcomeHead<'_>),
        Kind::Accepted => survives!(head, AcceptedHead),
        Kind::Outcome => survives!(head, OutcomeHead<'_>),
        Kind::Refused => survives!(head, RefusedHead),
        Kind::Run => survives!(head, RunHead<'_>),
        Kind::TakeBack | Kind::Returned => survives!(head, TaskList),
        Kind::Cancel => survives!(head, CancelHead),
        Kind::Ready => survives!(head, ReadyHead),
        Kind::Done => survives!(head, DoneHead),
        Kind::Heartbeat => survives!(head, HeartbeatHead),
        Kind::Log => survives!(head, LogHead),
        Kind::LastWords => survives!(head, LastWordsHead<'_>),
        Kind::CancelSubmitted
        | Kind::Reply
        | Kind::Event
        | Kind::Setup
        | Kind::Retire
        | Kind::Probed => {}
    }
}
