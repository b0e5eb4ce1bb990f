//! `Math.random` of the frozen realm: bits from the system, of which no task can tell how many
//! another one took.
//!
//! V8's own generator belongs to its context: it would tell a task how often others have called it,
//! and which numbers they got.

use super::host::host;

/// Numbers fetched at a time.
const BATCH: usize = 512;

/// Numbers fetched and not yet given.
#[derive(Default)]
pub(super) struct Random {
    bytes: Vec<u8>,
}

impl Random {
    /// A number from 0 to below 1, in steps of 2⁻⁵³; `None` when the system gives none.
    fn next(&mut self) -> Option<f64> {
        const WORD: usize = size_of::<u64>();
        if self.bytes.is_empty() {
            self.bytes.resize(BATCH * WORD, 0);
            if !super::platform::entropy(&mut self.bytes) {
                self.bytes.clear();
                return None;
            }
        }
        let at = self.bytes.len() - WORD;
        let word = u64::from_le_bytes(self.bytes[at..].try_into().expect("a word's length"));
        self.bytes.truncate(at);
        #[expect(clippy::cast_precision_loss, reason = "53 bits are what a number holds")]
        let number = (word >> 11) as f64 / (1_u64 << 53) as f64;
        Some(number)
    }
}

/// `Math.random()`
pub(super) fn random<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    _args: v8::FunctionCallbackArguments<'s>,
    mut rv: v8::ReturnValue<'s, v8::Value>,
) {
    match host(scope).random.borrow_mut().next() {
        Some(number) => rv.set_double(number),
        None => super::host::throw_range_error(scope, "the system gives no random numbers"),
    }
}
