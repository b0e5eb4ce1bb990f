//! Every maximum of the wire and of the task's shape, with compile-time checks of how they relate.

/// Bytes of a frame's fixed header.
pub const HEADER_BYTES: usize = 16;
/// Bytes of a frame's head: bounded by its 16-bit length field.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Bytes of a body that any decoder may be told to accept. What is accepted in force is a setting
/// below this.
pub const MAX_BODY_BYTES: usize = 256 * 1024 * 1024;
/// Body bytes accepted by default: the default of `limits.bodyBytes` and `limits.resultBytes`.
pub const DEFAULT_BODY_BYTES: usize = 8 * 1024 * 1024;
/// What the supervisor and the worker may add to a result: error text and captured console lines.
pub const OUTCOME_OVERHEAD_BYTES: usize = 512 * 1024;

/// Characters of a project id.
pub const MAX_PROJECT_ID: usize = 128;
/// Bytes of an idempotency key.
pub const MAX_IDEMPOTENCY_KEY: usize = 256;
/// Bytes of a tag.
pub const MAX_TAG: usize = 1024;
/// The highest priority; 0 is the lowest.
pub const MAX_PRIORITY: u8 = 10;
/// The default of `timeout`: five minutes.
pub const DEFAULT_TIMEOUT_MS: u64 = 300_000;
/// The longest time that any field may name: 30 days.
pub const MAX_DURATION_MS: u64 = 30 * 24 * 3600 * 1000;
/// The default of `maxAttempts`.
pub const DEFAULT_MAX_ATTEMPTS: u16 = 3;
/// The most attempts a task may ask for.
pub const MAX_ATTEMPTS: u16 = 1000;
/// Events that the supervisor keeps for those who ask later.
pub const MAX_EVENTS: usize = 65_536;
/// Captured console output per task, then a mark that it was cut.
pub const MAX_LOG_BYTES: usize = 256 * 1024;
/// Error text in an outcome: the message and the stack together.
pub const MAX_ERROR_BYTES: usize = 64 * 1024;
/// Ids in one take-back or returned message; also the most tasks that one worker may hold.
pub const MAX_CREDIT: usize = 64;
/// The stages of a worker's start share this time; see `spawnTimeout`.
pub const DEFAULT_SPAWN_TIMEOUT_MS: u64 = 10_000;
/// Between asking an engine to stop a task and SIGKILL.
pub const CANCEL_GRACE_MS: u64 = 250;

const _: () = assert!(MAX_HEAD_BYTES <= u16::MAX as usize, "a head's length is 16 bits");
const _: () = assert!(MAX_BODY_BYTES <= u32::MAX as usize, "a body's length is 32 bits");
const _: () = assert!(DEFAULT_BODY_BYTES + OUTCOME_OVERHEAD_BYTES <= MAX_BODY_BYTES);
const _: () = assert!(MAX_LOG_BYTES + MAX_ERROR_BYTES <= OUTCOME_OVERHEAD_BYTES);
const _: () = assert!(
    MAX_PROJECT_ID + MAX_IDEMPOTENCY_KEY + MAX_TAG + 256 <= MAX_HEAD_BYTES,
    "the longest head fits"
);
const _: () = assert!(MAX_CREDIT * 9 + 16 <= MAX_HEAD_BYTES);
