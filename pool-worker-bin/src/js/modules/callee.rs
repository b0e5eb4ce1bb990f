//! What a task calls in a module: one of its exports.

use super::super::errors::{self, Trouble};
use super::super::host::key;
use super::super::task::{FailureKind, JsFailure};
use super::Exports;
use super::resolve::Format;

/// Exports of an object that error messages list.
const LISTED_EXPORTS: u32 = 20;

/// What a task calls in a module.
pub(in super::super) enum Callee<'s> {
    /// A function and its `this`.
    Function(v8::Local<'s, v8::Function>, v8::Local<'s, v8::Value>),
    /// A part of a JSON file: the result itself.
    Data(v8::Local<'s, v8::Value>),
}

/// Picks the function that the task names, or the module's own.
pub(in super::super) fn pick<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    exports: Exports<'s>,
    path: &str,
    method: Option<&str>,
) -> Result<Callee<'s>, Trouble> {
    let undefined: v8::Local<v8::Value> = v8::undefined(scope).into();
    let (found, receiver) = match (exports.kind, method) {
        (Format::EsModule, None) => (export(scope, exports.value, "default")?, undefined),
        (Format::EsModule, Some(name)) => match export(scope, exports.value, name)? {
            Some(found) => (Some(found), undefined),
            None => match export(scope, exports.value, "default")? {
                Some(default) => (export(scope, default, name)?, default),
                None => (None, undefined),
            },
        },
        (_, None) => (Some(exports.value), undefined),
        (kind, Some(name)) => match export(scope, exports.value, name)? {
            // What an ES module would see as the default of a CommonJS module.
            None if kind == Format::CommonJs && name == "default" => {
                (Some(exports.value), undefined)
            }
            found => (found, exports.value),
        },
    };
    if let Some(found) = found {
        if let Ok(function) = v8::Local::<v8::Function>::try_from(found) {
            return Ok(Callee::Function(function, receiver));
        }
        if exports.kind == Format::Json {
            return Ok(Callee::Data(found));
        }
    }
    let what = match (method, found) {
        (Some(name), Some(_)) => format!("{name} in {path} is not a function"),
        (Some(name), None) => format!("{path} has no export named {name}"),
        (None, Some(_)) => format!("what {path} exports is not a function; name one with method"),
        (None, None) => format!("{path} has no default export; name one with method"),
    };
    let names = export_names(scope, exports.value);
    let message = if names.is_empty() { what } else { format!("{what}; it exports {names}") };
    Err(JsFailure::new(FailureKind::InvalidTask, "TypeError", message).into())
}

/// An export, or a property of an exported object; not what every object inherits.
fn export<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    exports: v8::Local<'s, v8::Value>,
    name: &str,
) -> Result<Option<v8::Local<'s, v8::Value>>, Trouble> {
    let Ok(object) = v8::Local::<v8::Object>::try_from(exports) else {
        return Ok(None);
    };
    let name = key(scope, name);
    let is_own = object.has_own_property(scope, name.into()).ok_or(Trouble::Thrown)?;
    let value = object.get(scope, name.into()).ok_or(Trouble::Thrown)?;
    if value.is_undefined() {
        return Ok(None);
    }
    let is_inherited_builtin = !is_own
        && v8::Local::<v8::Function>::try_from(value)
            .is_ok_and(|function| function.get_script_line_number().is_none());
    Ok((!is_inherited_builtin).then_some(value))
}

fn export_names(scope: &mut v8::PinScope<'_, '_>, exports: v8::Local<'_, v8::Value>) -> String {
    v8::tc_scope!(let scope, scope);
    let exports = v8::Local::new(scope, exports);
    let Ok(object) = v8::Local::<v8::Object>::try_from(exports) else {
        return String::new();
    };
    if object.is_proxy() {
        return String::new();
    }
    let Some(names) = object.get_own_property_names(scope, v8::GetPropertyNamesArgs::default())
    else {
        return String::new();
    };
    let mut shown = Vec::new();
    for index in 0..names.length().min(LISTED_EXPORTS) {
        if let Some(name) = names.get_index(scope, index)
            && let Ok(name) = v8::Local::<v8::String>::try_from(name)
        {
            shown.push(errors::bounded(scope, name, 64));
        }
    }
    if names.length() > LISTED_EXPORTS {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}
