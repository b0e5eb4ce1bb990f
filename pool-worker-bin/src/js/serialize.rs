//! A task's result as JSON text, in one pass over the value.
//!
//! Decides what is a JSON value: what `JSON.stringify` would silently lose (maps, sets, errors,
//! typed arrays, functions, symbols) is an error that names the path, unless a `toJSON` says
//! otherwise. `toJSON` counts where it is the object's own or of its class, as that of dates is;
//! one planted on `Object.prototype` or `Array.prototype` does not. Getters and proxies run, so
//! anything may throw, and the size and depth are capped.

use super::clone;
use super::errors::Trouble;
use super::escape::{write_latin1, write_utf16};
use super::host::{key, text};
use super::kinds;
use super::method::{is_any_planted, method};
use super::number;
use super::spot::{Key, Level, Spot, path};
use super::task::{FailureKind, JsFailure};
use super::watch::Watch;

/// Deepest nesting of a result; the walker recurses on the native stack.
const MAX_DEPTH: u32 = 1000;

/// The value as JSON text of at most `limit` bytes; `undefined` becomes `null`.
pub(super) fn serialize<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    value: v8::Local<'s, v8::Value>,
    limit: usize,
    watch: &Watch,
) -> Result<Vec<u8>, Trouble> {
    let to_json = key(scope, "toJSON");
    let is_polluted = is_any_planted(scope, to_json);
    let mut writer =
        Writer { out: Vec::with_capacity(64), limit, watch, nodes: 0, to_json, is_polluted };
    if value.is_undefined() {
        writer.out.extend_from_slice(b"null");
    } else {
        writer.value(scope, value, &Spot { key: Key::Root, inside: None })?;
    }
    Ok(writer.out)
}

struct Writer<'w> {
    out: Vec<u8>,
    limit: usize,
    watch: &'w Watch,
    nodes: u32,
    /// The property key, looked up once.
    to_json: v8::Local<'w, v8::String>,
    /// Whether somebody has put a `toJSON` where it would mean every object.
    is_polluted: bool,
}

impl Writer<'_> {
    fn value<'s>(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        value: v8::Local<'s, v8::Value>,
        spot: &Spot<'_>,
    ) -> Result<(), Trouble> {
        self.nodes = self.nodes.wrapping_add(1);
        if self.nodes.is_multiple_of(1024) && self.watch.stopped() {
            return Err(Trouble::Thrown);
        }
        if self.primitive(scope, value, spot)? {
            return self.check_size();
        }
        let object = v8::Local::<v8::Object>::try_from(value).expect("the rest are objects");
        if let Some(replaced) = self.to_json(scope, object, value, spot)? {
            if self.primitive(scope, replaced, spot)? {
                return self.check_size();
            }
            let object = v8::Local::<v8::Object>::try_from(replaced).expect("the rest are objects");
            return self.object(scope, object, spot);
        }
        self.object(scope, object, spot)
    }

    /// Writes anything but an object; false if it is one.
    #[inline]
    fn primitive<'s>(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        value: v8::Local<'s, v8::Value>,
        spot: &Spot<'_>,
    ) -> Result<bool, Trouble> {
        if let Ok(string) = v8::Local::<v8::String>::try_from(value) {
            self.string(scope, string)?;
        } else if let Ok(number) = v8::Local::<v8::Number>::try_from(value) {
            self.number(number.value());
        } else if value.is_null_or_undefined() {
            self.out.extend_from_slice(b"null");
        } else if value.is_true() {
            self.out.extend_from_slice(b"true");
        } else if value.is_false() {
            self.out.extend_from_slice(b"false");
        } else if value.is_symbol() {
            return Err(refuse(scope, "a symbol", spot));
        } else if value.is_big_int() {
            self.big_int(scope, value, spot)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// What the value's `toJSON` gives, if it has one that counts.
    fn to_json<'s>(
        &self,
        scope: &mut v8::PinScope<'s, '_>,
        object: v8::Local<'s, v8::Object>,
        receiver: v8::Local<'s, v8::Value>,
        spot: &Spot<'_>,
    ) -> Result<Option<v8::Local<'s, v8::Value>>, Trouble> {
        if !self.is_polluted {
            // By far the most objects have none, and need no further care.
            let found = object.get(scope, self.to_json.into()).ok_or(Trouble::Thrown)?;
            if !found.is_function() {
                return Ok(None);
            }
        }
        let Some(method) = method(scope, object, self.to_json)? else {
            return Ok(None);
        };
        let argument: v8::Local<v8::Value> = match spot.key {
            Key::Root => v8::String::empty(scope).into(),
            Key::Name(name) => v8::Local::new(scope, name),
            Key::Index(index) => text(scope, &index.to_string()).into(),
        };
        method.call(scope, receiver, &[argument]).map(Some).ok_or(Trouble::Thrown)
    }

    fn number(&mut self, value: f64) {
        if value.is_finite() {
            number::write(&mut self.out, value);
        } else {
            self.out.extend_from_slice(b"null");
        }
    }

    /// A BigInt is no JSON value, but its prototype may have been given a `toJSON`.
    fn big_int<'s>(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        value: v8::Local<'s, v8::Value>,
        spot: &Spot<'_>,
    ) -> Result<(), Trouble> {
        let object = value.to_object(scope).ok_or(Trouble::Thrown)?;
        match self.to_json(scope, object, value, spot)? {
            Some(replaced) if replaced.is_big_int() => Err(refuse(scope, "a BigInt", spot)),
            Some(replaced) => {
                if self.primitive(scope, replaced, spot)? {
                    return Ok(());
                }
                let object =
                    v8::Local::<v8::Object>::try_from(replaced).expect("the rest are objects");
                self.object(scope, object, spot)
            }
            None => Err(refuse(scope, "a BigInt", spot)),
        }
    }

    fn object<'s>(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        object: v8::Local<'s, v8::Object>,
        spot: &Spot<'_>,
    ) -> Result<(), Trouble> {
        if let Some(what) = kinds::not_json(scope, object) {
            return Err(refuse(scope, &what, spot));
        }
        if let Some(primitive) = unboxed(scope, object)? {
            self.primitive(scope, primitive, spot)?;
            return self.check_size();
        }
        let depth = spot.inside.map_or(0, |level| level.depth + 1);
        if depth >= MAX_DEPTH {
            return Err(refuse(scope, "nested more than 1000 levels deep", spot));
        }
        let mut above = spot.inside;
        while let Some(level) = above {
            if level.object == object {
                return Err(refuse(scope, "a cycle", spot));
            }
            above = level.spot.inside;
        }
        let level = Level { object, spot, depth };
        if let Ok(array) = v8::Local::<v8::Array>::try_from(object) {
            self.array(scope, &level, |_| Some(array.length()))
        } else if is_proxied_array(scope, object) {
            self.array(scope, &level, |scope| proxied_length(scope, object))
        } else {
            self.properties(scope, &level)
        }
    }

    fn array<'s>(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        level: &Level<'_>,
        length: impl FnOnce(&mut v8::PinScope<'s, '_>) -> Option<u32>,
    ) -> Result<(), Trouble> {
        let length = length(scope).ok_or(Trouble::Thrown)?;
        self.out.push(b'[');
        for index in 0..length {
            if index > 0 {
                self.out.push(b',');
            }
            v8::scope!(let scope, scope);
            let value = level.object.get_index(scope, index).ok_or(Trouble::Thrown)?;
            let spot = Spot { key: Key::Index(index), inside: Some(level) };
            self.value(scope, value, &spot)?;
        }
        self.out.push(b']');
        self.check_size()
    }

    fn properties(
        &mut self,
        scope: &mut v8::PinScope<'_, '_>,
        level: &Level<'_>,
    ) -> Result<(), Trouble> {
        let names = v8::GetPropertyNamesArgs {
            mode: v8::KeyCollectionMode::OwnOnly,
            property_filter: v8::PropertyFilter::ONLY_ENUMERABLE | v8::PropertyFilter::SKIP_SYMBOLS,
            index_filter: v8::IndexFilter::IncludeIndices,
            key_conversion: v8::KeyConversionMode::ConvertToString,
        };
        let names = level.object.get_own_property_names(scope, names).ok_or(Trouble::Thrown)?;
        if names.length() == 0
            && let Some(what) = kinds::kind_of_empty(scope, level.object)
        {
            return Err(refuse(scope, &what, level.spot));
        }
        self.out.push(b'{');
        let mut first = true;
        for index in 0..names.length() {
            v8::scope!(let scope, scope);
            let name = names.get_index(scope, index).ok_or(Trouble::Thrown)?;
            let value = level.object.get(scope, name).ok_or(Trouble::Thrown)?;
            if value.is_undefined() {
                continue;
            }
            if !first {
                self.out.push(b',');
            }
            first = false;
            let text =
                v8::Local::<v8::String>::try_from(name).expect("keys were asked for as strings");
            self.string(scope, text)?;
            self.out.push(b':');
            let spot = Spot { key: Key::Name(name), inside: Some(level) };
            self.value(scope, value, &spot)?;
        }
        self.out.push(b'}');
        self.check_size()
    }

    fn string<'s>(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        string: v8::Local<'s, v8::String>,
    ) -> Result<(), Trouble> {
        // Before looking inside: flattening a string that is too long anyway could exhaust the
        // heap.
        if string.length() > self.limit.saturating_sub(self.out.len()) {
            return Err(self.too_large());
        }
        self.out.push(b'"');
        let view = v8::ValueView::new(scope, string);
        match view.data() {
            v8::ValueViewData::OneByte(bytes) => write_latin1(&mut self.out, bytes),
            v8::ValueViewData::TwoByte(units) => write_utf16(&mut self.out, units),
        }
        self.out.push(b'"');
        Ok(())
    }

    fn check_size(&self) -> Result<(), Trouble> {
        if self.out.len() > self.limit { Err(self.too_large()) } else { Ok(()) }
    }

    fn too_large(&self) -> Trouble {
        let message = format!("the result is larger than the limit of {} bytes", self.limit);
        JsFailure::new(FailureKind::OutputLimit, "RangeError", message).into()
    }
}

/// The primitive in `new Number(1)` and its like.
fn unboxed<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    object: v8::Local<'s, v8::Object>,
) -> Result<Option<v8::Local<'s, v8::Value>>, Trouble> {
    if object.is_number_object() {
        let number = object.to_number(scope).ok_or(Trouble::Thrown)?;
        Ok(Some(number.into()))
    } else if object.is_string_object() {
        let string = object.to_string(scope).ok_or(Trouble::Thrown)?;
        Ok(Some(string.into()))
    } else if object.is_boolean_object() {
        let value = clone::boolean_in(scope, object);
        Ok(Some(v8::Boolean::new(scope, value).into()))
    } else {
        Ok(None)
    }
}

/// Whether a proxy stands for an array, through any number of proxies.
fn is_proxied_array(scope: &mut v8::PinScope<'_, '_>, object: v8::Local<'_, v8::Object>) -> bool {
    let mut target: v8::Local<v8::Value> = v8::Local::new(scope, object).into();
    for _ in 0..MAX_DEPTH {
        let Ok(proxy) = v8::Local::<v8::Proxy>::try_from(target) else {
            return target.is_array() && object.is_proxy();
        };
        target = proxy.get_target(scope);
    }
    false
}

fn proxied_length(
    scope: &mut v8::PinScope<'_, '_>,
    object: v8::Local<'_, v8::Object>,
) -> Option<u32> {
    let name = key(scope, "length");
    let length = object.get(scope, name.into())?.number_value(scope)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, and NaN becomes 0"
    )]
    Some(length as u32)
}

fn refuse(scope: &mut v8::PinScope<'_, '_>, what: &str, spot: &Spot<'_>) -> Trouble {
    let path = path(scope, spot);
    let message = if what.starts_with("nested") {
        format!("{path} is {what}")
    } else {
        format!("{path} is {what}, which is not a JSON value")
    };
    let mut failure = JsFailure::new(FailureKind::NotSerializable, "TypeError", message);
    failure.path = Some(path);
    failure.into()
}
