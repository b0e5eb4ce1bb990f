//! Where in a result a value sits, for messages.
//!
//! Kept as a chain on the stack while the result is written, and made into text only when something
//! is wrong.

use super::errors;

/// Keys of a path that are shown; the middle of a longer one is left out.
const MAX_PATH_KEYS: usize = 40;

const MAX_KEY_BYTES: usize = 128;

/// Where a value sits: under a key inside an object.
pub(super) struct Spot<'a> {
    pub(super) key: Key<'a>,
    pub(super) inside: Option<&'a Level<'a>>,
}

/// One step of a path.
#[derive(Clone, Copy)]
pub(super) enum Key<'a> {
    Root,
    Name(v8::Local<'a, v8::Value>),
    Index(u32),
}

/// An object that is being written, and those around it.
pub(super) struct Level<'a> {
    pub(super) object: v8::Local<'a, v8::Object>,
    pub(super) spot: &'a Spot<'a>,
    pub(super) depth: u32,
}

/// `result.items[3].when`
pub(super) fn path(scope: &mut v8::PinScope<'_, '_>, spot: &Spot<'_>) -> String {
    use std::fmt::Write as _;
    let mut keys = Vec::new();
    let mut at = Some(spot);
    while let Some(spot) = at {
        keys.push(spot.key);
        at = spot.inside.map(|level| level.spot);
    }
    keys.reverse();
    let left_out = keys.len().saturating_sub(MAX_PATH_KEYS);
    let mut path = String::from("result");
    for (position, key) in keys.into_iter().enumerate() {
        if left_out > 0 && position == MAX_PATH_KEYS / 2 {
            path.push_str("[…]");
        }
        if left_out > 0 && (MAX_PATH_KEYS / 2..MAX_PATH_KEYS / 2 + left_out).contains(&position) {
            continue;
        }
        match key {
            Key::Root => {}
            Key::Index(index) => write!(path, "[{index}]").expect("a string takes any text"),
            Key::Name(name) => {
                let name = v8::Local::new(scope, name);
                let name = v8::Local::<v8::String>::try_from(name)
                    .map(|name| errors::bounded(scope, name, MAX_KEY_BYTES))
                    .unwrap_or_default();
                if is_identifier(&name) {
                    path.push('.');
                    path.push_str(&name);
                } else {
                    write!(path, "[{name:?}]").expect("a string takes any text");
                }
            }
        }
    }
    path
}

fn is_identifier(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|char| char.is_alphanumeric() || char == '_' || char == '$')
}
