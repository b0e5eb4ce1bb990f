//! The startup snapshot: a context with its globals in place, as bytes that every worker maps.
//!
//! Decides whether given bytes may be handed to V8, which trusts a snapshot blindly and crashes on
//! a bad one: length, V8 version and a checksum must fit. A snapshot is not a security boundary:
//! whoever can write the file owns the worker.

use std::borrow::Cow;

use super::{context, platform};

/// Length of the trailer: checksum of everything before, then a magic word that changes when our
/// globals do.
const TRAILER_BYTES: usize = 16;

const MAGIC: &[u8; 8] = b"poolsnp2";

/// V8 reads its own header without looking at the length first.
const MIN_BLOB_BYTES: usize = 4096;

/// Why no snapshot was made.
#[derive(Debug, thiserror::Error)]
#[error("failed to make a startup snapshot: V8 gave no data; start without one")]
pub struct SnapshotError;

/// Makes the snapshot, in a process of its own: all isolates of a process share V8's read-only
/// objects, so none can come from another snapshot than the first did.
///
/// # Errors
///
/// When V8 cannot serialize the context.
pub fn create() -> Result<Vec<u8>, SnapshotError> {
    platform::initialize(1);
    let references = Cow::Owned(context::external_references());
    let mut isolate = v8::Isolate::snapshot_creator(Some(references), None);
    {
        v8::scope!(let scope, &mut isolate);
        let context = v8::Context::new(scope, v8::ContextOptions::default());
        let scope = &mut v8::ContextScope::new(scope, context);
        context::install_globals(scope, context);
        scope.set_default_context(context);
    }
    let blob = isolate.create_blob(v8::FunctionCodeHandling::Clear).ok_or(SnapshotError)?;
    let mut bytes = blob.to_vec();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
    bytes.extend_from_slice(MAGIC);
    Ok(bytes)
}

/// The data for V8, if the bytes are a snapshot of this very program and V8.
pub(super) fn accept(bytes: Cow<'static, [u8]>) -> Option<v8::StartupData> {
    let end = bytes.len().checked_sub(TRAILER_BYTES)?;
    let (blob, trailer) = bytes.split_at(end);
    let fits = blob.len() >= MIN_BLOB_BYTES
        && trailer[8..] == *MAGIC
        && trailer[..8] == checksum(blob).to_le_bytes();
    if !fits {
        return None;
    }
    // V8 knows its own length, so the trailer does not disturb it.
    let data = v8::StartupData::from(bytes);
    data.is_valid().then_some(data)
}

/// FNV-1a over words, because bytes would take a millisecond of each start.
fn checksum(bytes: &[u8]) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for word in bytes.chunks_exact(8) {
        let word = u64::from_le_bytes(word.try_into().expect("chunks of 8"));
        hash = (hash ^ word).wrapping_mul(0x0000_0100_0000_01B3);
        hash ^= hash >> 29;
    }
    hash
}
