//! The heads' encoding: bincode 2 with a size limit, in this module only.
//!
//! bincode is no longer maintained, so that nothing else may name it but the derives on the message
//! types.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};

use crate::limits::MAX_HEAD_BYTES;

const CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_HEAD_BYTES>> =
    bincode::config::standard().with_limit::<MAX_HEAD_BYTES>();

/// A head that does not decode, or does not fit.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeadError {
    /// The bytes are no value of the type.
    #[error("failed to decode the head of a {what}: {detail}")]
    Malformed {
        /// The message's name.
        what: &'static str,
        /// What the decoder said.
        detail: String,
    },
    /// Bytes are left over.
    #[error("failed to decode the head of a {what}: {extra} bytes too many")]
    Trailing {
        /// The message's name.
        what: &'static str,
        /// How many.
        extra: usize,
    },
}

/// Appends the encoded head.
///
/// # Panics
/// If the head is longer than [`MAX_HEAD_BYTES`]: its parts are validated to fit before.
pub fn encode_into<T: bincode::Encode>(head: &T, out: &mut Vec<u8>) {
    struct Append<'a>(&'a mut Vec<u8>);
    impl bincode::enc::write::Writer for Append<'_> {
        // Nearly all writes are of a byte or of a number: inlined, their lengths are known and
        // nothing is called.
        #[inline(always)]
        fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }
    }
    let before = out.len();
    bincode::encode_into_writer(head, Append(out), CONFIG).expect("writing to memory succeeds");
    assert!(out.len() - before <= MAX_HEAD_BYTES, "a head's parts are validated to fit");
}

/// Decodes a whole head; it may borrow from the bytes.
///
/// # Errors
/// [`HeadError`] when the bytes are malformed or too many.
pub fn decode<'a, T: bincode::BorrowDecode<'a, ()>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<T, HeadError> {
    match bincode::borrow_decode_from_slice(bytes, CONFIG) {
        Ok((head, used)) if used == bytes.len() => Ok(head),
        Ok((_, used)) => Err(HeadError::Trailing { what, extra: bytes.len() - used }),
        Err(error) => Err(HeadError::Malformed { what, detail: error.to_string() }),
    }
}
