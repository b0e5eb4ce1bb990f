//! What a task may ask for that several parts of the pool have to understand in the same way.

/// When another attempt is made.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "std", derive(bincode::Encode, bincode::Decode))]
pub struct RetryPolicy {
    /// Before the second attempt, in milliseconds.
    pub initial_delay_ms: u32,
    /// Each delay is this many times the one before; at least 1.
    pub factor: f64,
    /// No delay is longer, in milliseconds.
    pub max_delay_ms: u32,
    /// Each delay is varied by up to this share of itself, either way; 0 to 1.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { initial_delay_ms: 1000, factor: 2.0, max_delay_ms: 300_000, jitter: 0.1 }
    }
}
