//! The kinds of object that JSON has no form for, by the names that messages give them.
//!
//! Decides what is refused although `JSON.stringify` would write something: it makes `{}` of all
//! of these and loses what they hold. Runs no code of the task's.

use std::borrow::Cow;

use super::errors;

/// How far up the prototype chain a kind is looked for.
const MAX_PROTOTYPES: usize = 16;

const MAX_TAG_BYTES: usize = 64;

/// Names that the language gives to kinds which V8 has no question for. Others have a common part.
const TAGS: &[&str] = &[
    "AsyncDisposableStack",
    "DisposableStack",
    "FinalizationRegistry",
    "Iterator Helper",
    "WeakRef",
];

/// What the object is, if JSON has no form for it whatever properties it has.
pub(super) fn not_json(
    scope: &mut v8::PinScope<'_, '_>,
    object: v8::Local<'_, v8::Object>,
) -> Option<Cow<'static, str>> {
    if object.is_array() {
        return None;
    }
    if object.is_native_error() {
        let object = v8::Local::new(scope, object);
        return Some(format!("an error ({})", errors::short_text(scope, object.into())).into());
    }
    let name = if object.is_callable() {
        "a function"
    } else if object.is_date() {
        "a Date"
    } else if object.is_reg_exp() {
        "a regular expression"
    } else if object.is_map() {
        "a Map"
    } else if object.is_set() {
        "a Set"
    } else if object.is_weak_map() {
        "a WeakMap"
    } else if object.is_weak_set() {
        "a WeakSet"
    } else if object.is_map_iterator() {
        "a Map Iterator"
    } else if object.is_set_iterator() {
        "a Set Iterator"
    } else if object.is_generator_object() {
        "a generator"
    } else if object.is_array_buffer_view() {
        "a typed array"
    } else if object.is_array_buffer() || object.is_shared_array_buffer() {
        "an ArrayBuffer"
    } else if object.is_promise() {
        "a promise inside the result; await it first"
    } else if object.is_big_int_object() {
        "a BigInt"
    } else if object.is_symbol_object() {
        "a symbol"
    } else {
        return None;
    };
    Some(name.into())
}

/// What an object without properties is, if it holds something that JSON has no form for: an
/// iterator of the language, an object of `Intl`, a weak reference.
pub(super) fn kind_of_empty(
    scope: &mut v8::PinScope<'_, '_>,
    object: v8::Local<'_, v8::Object>,
) -> Option<Cow<'static, str>> {
    v8::scope!(let scope, scope);
    let tag = v8::Symbol::get_to_string_tag(scope);
    let mut holder = above(scope, object)?;
    for _ in 0..MAX_PROTOTYPES {
        // The last prototype is that of all objects, and most have no other.
        let next = above(scope, holder)?;
        if let Some(value) = errors::own_data(scope, holder, tag.into()) {
            let tag = v8::Local::<v8::String>::try_from(value).ok()?;
            let tag = errors::bounded(scope, tag, MAX_TAG_BYTES);
            return is_kind(&tag).then(|| with_article(&tag).into());
        }
        holder = next;
    }
    None
}

fn above<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    object: v8::Local<'_, v8::Object>,
) -> Option<v8::Local<'s, v8::Object>> {
    if object.is_proxy() {
        return None;
    }
    v8::Local::<v8::Object>::try_from(object.get_prototype(scope)?).ok()
}

fn is_kind(tag: &str) -> bool {
    tag.starts_with("Intl.")
        || tag.starts_with("WebAssembly.")
        || tag.ends_with(" Iterator")
        || TAGS.contains(&tag)
}

fn with_article(name: &str) -> String {
    let article = if name.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
    format!("{article} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_languages_kinds_are_told_from_a_tasks_own() {
        for tag in [
            "Array Iterator",
            "RegExp String Iterator",
            "Intl.Collator",
            "WebAssembly.Memory",
            "WeakRef",
        ] {
            assert!(is_kind(tag), "{tag}");
        }
        for tag in ["Point", "Iterator", "Math", "JSON", "Module"] {
            assert!(!is_kind(tag), "{tag}");
        }
        assert_eq!(with_article("Intl.Locale"), "an Intl.Locale");
        assert_eq!(with_article("WeakRef"), "a WeakRef");
    }
}
