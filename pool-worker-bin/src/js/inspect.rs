//! Values as text for people: what `console.log` and error messages show.
//!
//! Runs nothing of the user's: own data properties only, `[Getter]` for accessors, `[Proxy]` for
//! proxies. Bounded in depth, entries and bytes, because the value may be anything.

use std::fmt::Write as _;

use super::errors::{bounded, error_text, own_data, truncate};
use super::frozen;
use super::host::key;
use super::number;

const MAX_DEPTH: usize = 3;
const MAX_ENTRIES: u32 = 100;
const MAX_STRING_BYTES: usize = 10_000;
const MAX_TEXT_BYTES: usize = 64 * 1024;
const MAX_NAME_BYTES: usize = 128;

/// Entries that fit into one line of this many bytes are put there.
const LINE_BYTES: usize = 72;

/// The value as text of at most 64 KiB.
pub(super) fn inspect(scope: &mut v8::PinScope<'_, '_>, value: v8::Local<'_, v8::Value>) -> String {
    v8::scope!(let scope, scope);
    v8::tc_scope!(let scope, scope);
    let value = v8::Local::new(scope, value);
    let mut inspector = Inspector { room: MAX_TEXT_BYTES };
    let mut text = inspector.value(scope, value, &Vec::new());
    truncate(&mut text, MAX_TEXT_BYTES);
    text
}

struct Inspector {
    /// Bytes that may still be produced.
    room: usize,
}

impl Inspector {
    fn value<'s>(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        value: v8::Local<'s, v8::Value>,
        above: &[v8::Local<'s, v8::Object>],
    ) -> String {
        let text = if let Ok(string) = v8::Local::<v8::String>::try_from(value) {
            quote(&bounded(scope, string, MAX_STRING_BYTES))
        } else if let Ok(number) = v8::Local::<v8::Number>::try_from(value) {
            number_text(number.value())
        } else if let Ok(object) = v8::Local::<v8::Object>::try_from(value) {
            self.object(scope, object, above)
        } else {
            let suffix = if value.is_big_int() { "n" } else { "" };
            detail(scope, value) + suffix
        };
        self.room = self.room.saturating_sub(text.len());
        text
    }

    fn object<'s>(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        object: v8::Local<'s, v8::Object>,
        above: &[v8::Local<'s, v8::Object>],
    ) -> String {
        if object.is_proxy() {
            return "[Proxy]".to_owned();
        }
        if object.is_callable() {
            return function_text(scope, object);
        }
        if object.is_native_error() {
            return error_text(scope, object.into());
        }
        if let Ok(date) = v8::Local::<v8::Date>::try_from(object) {
            return match frozen::date_text(scope, date) {
                Some(text) => bounded(scope, text, MAX_STRING_BYTES),
                None => detail(scope, object.into()),
            };
        }
        if let Ok(pattern) = v8::Local::<v8::RegExp>::try_from(object) {
            let source = pattern.get_source(scope);
            return format!("/{}/", bounded(scope, source, MAX_STRING_BYTES));
        }
        if above.contains(&object) {
            return "[Circular]".to_owned();
        }
        let class = class_name(scope, object);
        if above.len() >= MAX_DEPTH || self.room == 0 {
            return format!("[{}]", class.unwrap_or_else(|| "Object".to_owned()));
        }
        let mut inside = above.to_vec();
        inside.push(object);
        self.container(scope, object, class, &inside)
    }

    fn container<'s>(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        object: v8::Local<'s, v8::Object>,
        class: Option<String>,
        inside: &[v8::Local<'s, v8::Object>],
    ) -> String {
        if let Ok(array) = v8::Local::<v8::Array>::try_from(object) {
            let entries = self.elements(scope, object, array.length(), inside);
            return bracket("", '[', ']', &entries);
        }
        if let Ok(view) = v8::Local::<v8::TypedArray>::try_from(object) {
            let length = u32::try_from(view.length()).unwrap_or(u32::MAX);
            let entries = self.elements(scope, object, length, inside);
            let name = class.unwrap_or_else(|| "TypedArray".to_owned());
            return bracket(&format!("{name}({length}) "), '[', ']', &entries);
        }
        if let Ok(buffer) = v8::Local::<v8::ArrayBuffer>::try_from(object) {
            return format!("ArrayBuffer {{ byteLength: {} }}", buffer.byte_length());
        }
        if let Ok(map) = v8::Local::<v8::Map>::try_from(object) {
            let flat = map.as_array(scope);
            let entries = self.pairs(scope, flat, inside);
            return bracket(&format!("Map({}) ", map.size()), '{', '}', &entries);
        }
        if let Ok(set) = v8::Local::<v8::Set>::try_from(object) {
            let flat = set.as_array(scope);
            let entries = self.elements(scope, flat.into(), flat.length(), inside);
            return bracket(&format!("Set({}) ", set.size()), '{', '}', &entries);
        }
        if let Ok(promise) = v8::Local::<v8::Promise>::try_from(object) {
            return self.promise(scope, promise, inside);
        }
        let entries = self.properties(scope, object, inside);
        let prefix = match class.as_deref() {
            Some("Object") => String::new(),
            Some(name) => format!("{name} "),
            None => "[Object: null prototype] ".to_owned(),
        };
        bracket(&prefix, '{', '}', &entries)
    }

    fn promise<'s>(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        promise: v8::Local<'s, v8::Promise>,
        inside: &[v8::Local<'s, v8::Object>],
    ) -> String {
        match promise.state() {
            v8::PromiseState::Pending => "Promise { <pending> }".to_owned(),
            state => {
                let result = promise.result(scope);
                let text = self.value(scope, result, inside);
                let how = if state == v8::PromiseState::Rejected { "<rejected> " } else { "" };
                format!("Promise {{ {how}{text} }}")
            }
        }
    }

    fn elements<'s>(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        object: v8::Local<'s, v8::Object>,
        length: u32,
        inside: &[v8::Local<'s, v8::Object>],
    ) -> Vec<String> {
        let mut entries = Vec::new();
        for index in 0..length.min(MAX_ENTRIES) {
            if self.room == 0 {
                break;
            }
            let name = key(scope, &index.to_string());
            entries.push(match own_data(scope, object, name.into()) {
                Some(value) => self.value(scope, value, inside),
                None if object.has_own_property(scope, name.into()) == Some(true) => {
                    "[Getter]".to_owned()
                }
                None => "<empty>".to_owned(),
            });
        }
        mark_rest(&mut entries, length);
        entries
    }

    fn pairs<'s>(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        flat: v8::Local<'s, v8::Array>,
        inside: &[v8::Local<'s, v8::Object>],
    ) -> Vec<String> {
        let count = flat.length() / 2;
        let mut entries = Vec::new();
        for pair in 0..count.min(MAX_ENTRIES) {
            let (Some(name), Some(value)) =
                (flat.get_index(scope, 2 * pair), flat.get_index(scope, 2 * pair + 1))
            else {
                break;
            };
            let name = self.value(scope, name, inside);
            let value = self.value(scope, value, inside);
            entries.push(format!("{name} => {value}"));
        }
        mark_rest(&mut entries, count);
        entries
    }

    fn properties<'s>(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        object: v8::Local<'s, v8::Object>,
        inside: &[v8::Local<'s, v8::Object>],
    ) -> Vec<String> {
        let names = v8::GetPropertyNamesArgs {
            mode: v8::KeyCollectionMode::OwnOnly,
            property_filter: v8::PropertyFilter::ONLY_ENUMERABLE | v8::PropertyFilter::SKIP_SYMBOLS,
            index_filter: v8::IndexFilter::IncludeIndices,
            key_conversion: v8::KeyConversionMode::ConvertToString,
        };
        let Some(names) = object.get_own_property_names(scope, names) else {
            return Vec::new();
        };
        let mut entries = Vec::new();
        for index in 0..names.length().min(MAX_ENTRIES) {
            let name = names
                .get_index(scope, index)
                .and_then(|name| v8::Local::<v8::String>::try_from(name).ok());
            let Some(name) = name.filter(|_| self.room > 0) else {
                break;
            };
            let value = match own_data(scope, object, name.into()) {
                Some(value) => self.value(scope, value, inside),
                None => "[Getter]".to_owned(),
            };
            let name = bounded(scope, name, MAX_NAME_BYTES);
            let plain = !name.is_empty()
                && name.chars().all(|char| char.is_alphanumeric() || char == '_' || char == '$');
            let name = if plain { name } else { quote(&name) };
            entries.push(format!("{name}: {value}"));
        }
        mark_rest(&mut entries, names.length());
        entries
    }
}

fn mark_rest(entries: &mut Vec<String>, total: u32) {
    let shown = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    if shown < total {
        entries.push(format!("... {} more", total - shown));
    }
}

/// One line if it fits, else a line per entry.
fn bracket(prefix: &str, open: char, close: char, entries: &[String]) -> String {
    if entries.is_empty() {
        return format!("{prefix}{open}{close}");
    }
    let bytes: usize = entries.iter().map(|entry| entry.len() + 2).sum();
    if bytes <= LINE_BYTES && !entries.iter().any(|entry| entry.contains('\n')) {
        return format!("{prefix}{open} {} {close}", entries.join(", "));
    }
    let mut text = format!("{prefix}{open}\n");
    for (index, entry) in entries.iter().enumerate() {
        let comma = if index + 1 < entries.len() { "," } else { "" };
        let indented = entry.replace('\n', "\n  ");
        writeln!(text, "  {indented}{comma}").expect("a string takes any text");
    }
    text.push(close);
    text
}

fn function_text(scope: &mut v8::PinScope<'_, '_>, object: v8::Local<'_, v8::Object>) -> String {
    let object = v8::Local::new(scope, object);
    let name = key(scope, "name");
    let name = own_data(scope, object, name.into())
        .and_then(|name| v8::Local::<v8::String>::try_from(name).ok())
        .map(|name| bounded(scope, name, MAX_NAME_BYTES))
        .filter(|name| !name.is_empty());
    match name {
        Some(name) => format!("[Function: {name}]"),
        None => "[Function (anonymous)]".to_owned(),
    }
}

/// Name of the object's class; `None` for an object without prototype.
fn class_name(
    scope: &mut v8::PinScope<'_, '_>,
    object: v8::Local<'_, v8::Object>,
) -> Option<String> {
    if object.get_prototype(scope)?.is_null() {
        return None;
    }
    let name = object.get_constructor_name();
    let name = v8::Local::new(scope, name);
    Some(bounded(scope, name, MAX_NAME_BYTES))
}

fn detail(scope: &mut v8::PinScope<'_, '_>, value: v8::Local<'_, v8::Value>) -> String {
    match value.to_detail_string(scope) {
        Some(text) => bounded(scope, text, MAX_STRING_BYTES),
        None => value.type_repr().to_owned(),
    }
}

fn number_text(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else if value == 0.0 && value.is_sign_negative() {
        "-0".to_owned()
    } else {
        let mut out = Vec::new();
        number::write(&mut out, value);
        String::from_utf8(out).expect("digits are ASCII")
    }
}

fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for char in text.chars() {
        match char {
            '\'' => quoted.push_str("\\'"),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            _ => quoted.push(char),
        }
    }
    quoted.push('\'');
    quoted
}
