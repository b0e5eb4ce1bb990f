//! Errors of JavaScript as bounded text, read without running a line of the user's code.
//!
//! A thrown value is hostile: it may be `null`, a proxy, an object whose `message` is a getter that
//! never returns, and `Error.prepareStackTrace` is the user's too. So names and messages are read
//! from data properties only, and the stack is put together from the frames that V8 captured, never
//! from the `stack` property.

use super::frozen;
use super::held;
use super::host::{key, text};
use super::inspect;
use super::task::{FailureKind, JsFailure};

/// Frames of a stack that are captured and shown.
pub(super) const MAX_FRAMES: i32 = 16;

const MAX_NAME_BYTES: usize = 256;
const MAX_MESSAGE_BYTES: usize = 8 * 1024;
const MAX_STACK_BYTES: usize = 16 * 1024;
const MAX_FRAME_NAME_BYTES: usize = 512;

const MAX_SHORT_BYTES: usize = 200;

/// What V8 says where code may not be made from strings. It has no way to say it otherwise.
const NO_CODE: &str = "Code generation from strings disallowed for this context";
const WHAT_ALLOWS_CODE: &str = "; the setting `js.allowCodeGeneration` allows it";

/// Longer strings are not looked into: flattening one could need hundreds of megabytes.
const MAX_READ_CHARS: usize = 1 << 20;

/// How far up the prototype chain an error's name is looked for.
const MAX_PROTOTYPES: usize = 16;

/// Why a step of a task has no value.
#[derive(Debug)]
pub(super) enum Trouble {
    /// V8 has an exception pending, or is being terminated; whoever holds the `TryCatch` knows
    /// more.
    Thrown,
    /// The task has failed in a way that is already described.
    Failed(Box<JsFailure>),
}

impl From<JsFailure> for Trouble {
    fn from(failure: JsFailure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

/// At most `max` bytes of the string.
pub(super) fn bounded(
    scope: &mut v8::PinScope<'_, '_>,
    string: v8::Local<'_, v8::String>,
    max: usize,
) -> String {
    let length = string.length();
    if length > MAX_READ_CHARS {
        return format!("(a string of {length} characters)");
    }
    let view = v8::ValueView::new(scope, string);
    let mut text = match view.data() {
        v8::ValueViewData::OneByte(bytes) => {
            bytes.iter().take(max + 1).map(|byte| char::from(*byte)).collect::<String>()
        }
        v8::ValueViewData::TwoByte(units) => {
            String::from_utf16_lossy(&units[..units.len().min(max + 1)])
        }
    };
    truncate(&mut text, max);
    text
}

/// Cuts at a character's border and leaves a mark.
pub(super) fn truncate(text: &mut String, max: usize) {
    if text.len() > max {
        let mut end = max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
}

/// An own data property, read without side effects; `None` for accessors and proxies too. An
/// accessor by which the frozen realm lets a property be overridden counts as data.
pub(super) fn own_data<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    object: v8::Local<'s, v8::Object>,
    name: v8::Local<'s, v8::Name>,
) -> Option<v8::Local<'s, v8::Value>> {
    if object.is_proxy() {
        return None;
    }
    let descriptor = object.get_own_property_descriptor(scope, name)?;
    let descriptor = v8::Local::<v8::Object>::try_from(descriptor).ok()?;
    let value = key(scope, "value");
    // Without this check an accessor's descriptor would be looked up on `Object.prototype`, which
    // is the user's.
    if descriptor.has_own_property(scope, value.into())? {
        return descriptor.get(scope, value.into());
    }
    let getter = key(scope, "get");
    let getter = descriptor.get(scope, getter.into())?;
    frozen::value_behind(scope, v8::Local::<v8::Function>::try_from(getter).ok()?)
}

/// A data property of the object or its prototypes.
pub(super) fn data<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    object: v8::Local<'s, v8::Object>,
    name: &str,
) -> Option<v8::Local<'s, v8::Value>> {
    let name = key(scope, name);
    let mut holder = object;
    for _ in 0..MAX_PROTOTYPES {
        if holder.is_proxy() {
            return None;
        }
        if let Some(value) = own_data(scope, holder, name.into()) {
            return Some(value);
        }
        holder = v8::Local::<v8::Object>::try_from(holder.get_prototype(scope)?).ok()?;
    }
    None
}

/// The same, if it is a string.
fn data_string<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    object: v8::Local<'s, v8::Object>,
    name: &str,
) -> Option<v8::Local<'s, v8::String>> {
    v8::Local::<v8::String>::try_from(data(scope, object, name)?).ok()
}

/// Describes a thrown value, or a promise's reason.
pub(super) fn describe(
    scope: &mut v8::PinScope<'_, '_>,
    thrown: v8::Local<'_, v8::Value>,
    message: Option<v8::Local<'_, v8::Message>>,
) -> JsFailure {
    v8::scope!(let scope, scope);
    // What is read here may still throw, when the stack is all used up for instance.
    v8::tc_scope!(let scope, scope);
    let thrown = v8::Local::new(scope, thrown);
    let (name, text) = name_and_message(scope, thrown);
    let kind = marked_kind(scope, thrown).unwrap_or(FailureKind::Exception);
    let mut failure = JsFailure::new(kind, &name, text);
    failure.stack = stack_of(scope, thrown, message, &header(&failure.name, &failure.message));
    failure.held = Box::new(held::held_by(scope, thrown));
    failure
}

/// Describes a `SyntaxError` that compiling gave; the place in the source belongs to it.
pub(super) fn describe_syntax(
    scope: &mut v8::PinScope<'_, '_>,
    thrown: v8::Local<'_, v8::Value>,
    message: Option<v8::Local<'_, v8::Message>>,
) -> JsFailure {
    v8::scope!(let scope, scope);
    let thrown = v8::Local::new(scope, thrown);
    let (name, text) = name_and_message(scope, thrown);
    let mut failure = JsFailure::new(FailureKind::Syntax, &name, text);
    if let Some(message) = message {
        add_location(scope, &mut failure, message);
    }
    failure
}

fn add_location(
    scope: &mut v8::PinScope<'_, '_>,
    failure: &mut JsFailure,
    message: v8::Local<'_, v8::Message>,
) {
    if let Some(place) = location(scope, message) {
        failure.stack =
            Some(format!("{}\n    at {place}", header(&failure.name, &failure.message)));
        if !failure.message.ends_with(')') || !failure.message.contains(&place) {
            failure.message = format!("{} ({place})", failure.message);
        }
    }
}

/// `task.js:1:7`
fn location(
    scope: &mut v8::PinScope<'_, '_>,
    message: v8::Local<'_, v8::Message>,
) -> Option<String> {
    let name = message.get_script_resource_name(scope)?;
    let name = v8::Local::<v8::String>::try_from(name).ok()?;
    let name = bounded(scope, name, MAX_FRAME_NAME_BYTES);
    let line = message.get_line_number(scope)?;
    Some(format!("{name}:{line}:{}", message.get_start_column() + 1))
}

pub(super) fn name_and_message(
    scope: &mut v8::PinScope<'_, '_>,
    thrown: v8::Local<'_, v8::Value>,
) -> (String, String) {
    let thrown = v8::Local::new(scope, thrown);
    if let Ok(object) = v8::Local::<v8::Object>::try_from(thrown)
        && !thrown.is_proxy()
    {
        let message = data_string(scope, object, "message");
        if thrown.is_native_error() || message.is_some() {
            let name = data_string(scope, object, "name")
                .map(|name| bounded(scope, name, MAX_NAME_BYTES))
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| "Error".to_owned());
            let mut message =
                message.map(|text| bounded(scope, text, MAX_MESSAGE_BYTES)).unwrap_or_default();
            if message == NO_CODE && thrown.is_native_error() {
                message.push_str(WHAT_ALLOWS_CODE);
            }
            return (name, message);
        }
    }
    let mut text = if let Ok(string) = v8::Local::<v8::String>::try_from(thrown) {
        bounded(scope, string, MAX_MESSAGE_BYTES)
    } else {
        inspect::inspect(scope, thrown)
    };
    truncate(&mut text, MAX_MESSAGE_BYTES);
    ("Error".to_owned(), text)
}

pub(super) fn header(name: &str, message: &str) -> String {
    if message.is_empty() { name.to_owned() } else { format!("{name}: {message}") }
}

/// An error's name and message in one short line.
pub(super) fn short_text(
    scope: &mut v8::PinScope<'_, '_>,
    error: v8::Local<'_, v8::Value>,
) -> String {
    let (name, message) = name_and_message(scope, error);
    let mut text = header(&name, &message);
    truncate(&mut text, MAX_SHORT_BYTES);
    text
}

/// An error's stack as text, for the console.
pub(super) fn error_text(
    scope: &mut v8::PinScope<'_, '_>,
    error: v8::Local<'_, v8::Value>,
) -> String {
    let (name, message) = name_and_message(scope, error);
    let header = header(&name, &message);
    stack_of(scope, error, None, &header).unwrap_or(header)
}

pub(super) fn stack_of(
    scope: &mut v8::PinScope<'_, '_>,
    thrown: v8::Local<'_, v8::Value>,
    message: Option<v8::Local<'_, v8::Message>>,
    header: &str,
) -> Option<String> {
    let trace = v8::Exception::get_stack_trace(scope, thrown)
        .or_else(|| message.and_then(|message| message.get_stack_trace(scope)));
    let mut stack = header.to_owned();
    let frames = trace.map_or(0, |trace| write_frames(scope, trace, &mut stack));
    if frames == 0 {
        let place = location(scope, message?)?;
        stack.push_str("\n    at ");
        stack.push_str(&place);
    }
    truncate(&mut stack, MAX_STACK_BYTES);
    Some(stack)
}

/// Appends one line per frame that belongs to the user's code; gives their number.
pub(super) fn write_frames(
    scope: &mut v8::PinScope<'_, '_>,
    trace: v8::Local<'_, v8::StackTrace>,
    out: &mut String,
) -> usize {
    use std::fmt::Write as _;
    let mut written = 0;
    for index in 0..trace.get_frame_count() {
        let Some(frame) = trace.get_frame(scope, index) else {
            continue;
        };
        let Some(script) = frame.get_script_name_or_source_url(scope) else {
            continue;
        };
        let script = bounded(scope, script, MAX_FRAME_NAME_BYTES);
        let place = format!("{script}:{}:{}", frame.get_line_number(), frame.get_column());
        let function = frame
            .get_function_name(scope)
            .map(|name| bounded(scope, name, MAX_FRAME_NAME_BYTES))
            // Of a script that was evaluated this is V8's name, not the user's.
            .filter(|name| !(name.is_empty() || frame.is_eval() && name == "eval"));
        let new = if frame.is_constructor() { "new " } else { "" };
        let line = match function {
            Some(function) => write!(out, "\n    at {new}{function} ({place})"),
            None => write!(out, "\n    at {place}"),
        };
        line.expect("a string takes any text");
        written += 1;
    }
    written
}

/// Under this private key an error carries the kind of failure it stands for, where that is not an
/// exception.
fn mark_key<'s>(scope: &v8::PinScope<'s, '_>) -> v8::Local<'s, v8::Private> {
    let name = key(scope, "pool.failureKind");
    v8::Private::for_api(scope, Some(name))
}

/// The failure as an exception for JavaScript. Should the task let it through, it becomes the same
/// failure again.
pub(super) fn to_exception<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    failure: &JsFailure,
) -> v8::Local<'s, v8::Value> {
    let message = text(scope, &failure.message);
    let error = match failure.name.as_str() {
        "SyntaxError" => v8::Exception::syntax_error(scope, message),
        "TypeError" => v8::Exception::type_error(scope, message),
        "RangeError" => v8::Exception::range_error(scope, message),
        _ => v8::Exception::error(scope, message),
    };
    // Packages look at this to see whether an optional dependency is missing.
    let (mark, code) = match failure.kind {
        FailureKind::Syntax => (1, None),
        FailureKind::ModuleNotFound => (2, Some("MODULE_NOT_FOUND")),
        FailureKind::ModuleDenied => (3, Some("MODULE_DENIED")),
        _ => return error,
    };
    if let Ok(object) = v8::Local::<v8::Object>::try_from(error) {
        let private = mark_key(scope);
        let mark = v8::Integer::new(scope, mark);
        object.set_private(scope, private, mark.into());
        if let Some(code) = code {
            let name = key(scope, "code");
            let code = text(scope, code);
            object.create_data_property(scope, name.into(), code.into());
        }
    }
    error
}

fn marked_kind(
    scope: &mut v8::PinScope<'_, '_>,
    thrown: v8::Local<'_, v8::Value>,
) -> Option<FailureKind> {
    if !thrown.is_native_error() {
        return None;
    }
    let object = v8::Local::<v8::Object>::try_from(thrown).ok()?;
    let key = mark_key(scope);
    let code = object.get_private(scope, key)?;
    match v8::Local::<v8::Int32>::try_from(code).ok()?.value() {
        1 => Some(FailureKind::Syntax),
        2 => Some(FailureKind::ModuleNotFound),
        3 => Some(FailureKind::ModuleDenied),
        _ => None,
    }
}
