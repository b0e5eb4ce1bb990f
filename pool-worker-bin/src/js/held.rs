//! What a thrown error holds besides its name and message: `code`, `cause`, and `errors`.
//!
//! Decides how much of that is told: an error may hold itself, or a million others. Reads data
//! properties only, like `errors`, so no line of the task's code runs.

use super::errors::{self, bounded, data, own_data};
use super::host::key;
use super::task::{Held, HeldCode, HeldError};

/// Errors inside of one that was thrown, and how deep they lie at most.
const MAX_ERRORS: u32 = 16;
const MAX_DEPTH: u32 = 4;

const MAX_CODE_BYTES: usize = 256;
const MAX_MESSAGE_BYTES: usize = 2 * 1024;
const MAX_STACK_BYTES: usize = 4 * 1024;

/// Of the whole numbers that JavaScript counts exactly, the largest.
const MAX_EXACT: f64 = 9_007_199_254_740_991.0;

/// What the thrown value holds.
pub(super) fn held_by(scope: &mut v8::PinScope<'_, '_>, thrown: v8::Local<'_, v8::Value>) -> Held {
    let mut reader = Reader { room: MAX_ERRORS };
    reader.held_by(scope, thrown, 0)
}

struct Reader {
    /// Errors that may still be read.
    room: u32,
}

impl Reader {
    fn held_by(
        &mut self,
        scope: &mut v8::PinScope<'_, '_>,
        value: v8::Local<'_, v8::Value>,
        depth: u32,
    ) -> Held {
        v8::scope!(let scope, scope);
        let value = v8::Local::new(scope, value);
        let Ok(object) = v8::Local::<v8::Object>::try_from(value) else {
            return Held::default();
        };
        if value.is_proxy() {
            return Held::default();
        }
        let mut held = Held { code: code_of(scope, object), ..Held::default() };
        let name = key(scope, "cause");
        if let Some(cause) = own_data(scope, object, name.into())
            && !cause.is_undefined()
        {
            held.cause = self.error(scope, cause, depth).map(Box::new);
        }
        let name = key(scope, "errors");
        if let Some(errors) = own_data(scope, object, name.into())
            && let Ok(errors) = v8::Local::<v8::Array>::try_from(errors)
        {
            held.errors = self.errors(scope, errors, depth);
        }
        held
    }

    fn errors(
        &mut self,
        scope: &mut v8::PinScope<'_, '_>,
        list: v8::Local<'_, v8::Array>,
        depth: u32,
    ) -> Vec<HeldError> {
        let list = v8::Local::new(scope, list);
        let mut errors = Vec::new();
        for index in 0..list.length() {
            let name = key(scope, &index.to_string());
            let value = own_data(scope, list.into(), name.into())
                .unwrap_or_else(|| v8::undefined(scope).into());
            let Some(error) = self.error(scope, value, depth) else {
                let message = format!("… and {} more", list.length() - index);
                errors.push(HeldError { name: None, message, stack: None, held: Held::default() });
                break;
            };
            errors.push(error);
        }
        errors
    }

    /// Nothing where no more are told.
    fn error(
        &mut self,
        scope: &mut v8::PinScope<'_, '_>,
        value: v8::Local<'_, v8::Value>,
        depth: u32,
    ) -> Option<HeldError> {
        if depth >= MAX_DEPTH || self.room == 0 {
            return None;
        }
        self.room -= 1;
        let (name, mut message) = errors::name_and_message(scope, value);
        let is_error = value.is_native_error();
        let mut stack = is_error
            .then(|| errors::stack_of(scope, value, None, &errors::header(&name, &message)));
        errors::truncate(&mut message, MAX_MESSAGE_BYTES);
        if let Some(Some(stack)) = &mut stack {
            errors::truncate(stack, MAX_STACK_BYTES);
        }
        let held = self.held_by(scope, value, depth + 1);
        Some(HeldError { name: is_error.then_some(name), message, stack: stack.flatten(), held })
    }
}

fn code_of(
    scope: &mut v8::PinScope<'_, '_>,
    object: v8::Local<'_, v8::Object>,
) -> Option<HeldCode> {
    let object = v8::Local::new(scope, object);
    let code = data(scope, object, "code")?;
    if let Ok(text) = v8::Local::<v8::String>::try_from(code) {
        return Some(HeldCode::Text(bounded(scope, text, MAX_CODE_BYTES)));
    }
    let number = v8::Local::<v8::Number>::try_from(code).ok()?.value();
    #[expect(clippy::cast_possible_truncation, reason = "a whole number that is small enough")]
    let whole = number as i64;
    (number.fract() == 0.0 && number.abs() <= MAX_EXACT).then_some(HeldCode::Number(whole))
}
