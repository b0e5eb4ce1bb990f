//! One task inside a realm: compile, call, wait, serialize.

use super::code::{self, BodyChecker, Compiled};
use super::context::RealmState;
use super::errors::Trouble;
use super::escape::is_all_plain;
use super::frozen;
use super::host::Host;
use super::modules::{self, Callee};
use super::serialize::serialize;
use super::settle::{run_microtasks, settle};
use super::task::{FailureKind, JsFailure, Realm, Work};

/// What a task needs besides its realm.
pub(super) struct Bench<'e> {
    pub(super) host: &'e Host,
    pub(super) checker: &'e mut Option<BodyChecker>,
    pub(super) result_limit: usize,
}

/// Runs the work and gives its result as JSON.
pub(super) fn perform<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    mut bench: Bench<'_>,
    realm: &RealmState,
    kind: Realm,
    work: &Work<'_>,
) -> Result<Vec<u8>, Trouble> {
    let value = match *work {
        _ if kind == Realm::Frozen => frozen::run(scope, &mut bench, realm, work)?,
        Work::Code { source, context_json } => {
            set_globals(scope, context_json)?;
            run_code(scope, bench.checker, realm, source, kind == Realm::Warm)?
        }
        Work::Function { source, args_json } => {
            let function = function(scope, realm, kind, source)?;
            let receiver = v8::undefined(scope).into();
            call(scope, function, receiver, args_json)?
        }
        Work::Module { path, method, args_json } => {
            let exports = modules::load(scope, bench.host, realm, path)?;
            match modules::pick(scope, exports, path, method)? {
                Callee::Function(function, receiver) => call(scope, function, receiver, args_json)?,
                Callee::Data(value) => value,
            }
        }
    };
    let queue = realm.queue.borrow();
    let value = settle(scope, bench.host, &queue, value)?;
    let json = serialize(scope, value, bench.result_limit, &bench.host.watch)?;
    if value.is_object() {
        // Getters and `toJSON` may have queued something: it is this task's, not the next one's.
        run_microtasks(scope, bench.host, &queue)?;
    }
    Ok(json)
}

fn run_code<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    checker: &mut Option<BodyChecker>,
    realm: &RealmState,
    source: &str,
    keep_scope: bool,
) -> Result<v8::Local<'s, v8::Value>, Trouble> {
    match code::compile_code(scope, checker, source, keep_scope)? {
        Compiled::Script(script) => script.run(scope),
        Compiled::Leaving(script) => {
            realm.is_spoiled.set(true);
            script.run(scope)
        }
        Compiled::Body(body) => {
            let receiver = v8::undefined(scope).into();
            body.call(scope, receiver, &[])
        }
    }
    .ok_or(Trouble::Thrown)
}

fn function<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    realm: &RealmState,
    kind: Realm,
    source: &str,
) -> Result<v8::Local<'s, v8::Function>, Trouble> {
    if kind == Realm::Fresh {
        return code::compile_function(scope, source);
    }
    if let Some(function) = realm.functions.borrow_mut().get("", source) {
        return Ok(v8::Local::new(scope, function));
    }
    let function = code::compile_function(scope, source)?;
    realm.functions.borrow_mut().insert("", source, v8::Global::new(scope, function));
    Ok(function)
}

/// Calls with the elements of a JSON array as arguments.
pub(super) fn call<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    function: v8::Local<'s, v8::Function>,
    receiver: v8::Local<'s, v8::Value>,
    args_json: &[u8],
) -> Result<v8::Local<'s, v8::Value>, Trouble> {
    if args_json.is_empty() {
        return function.call(scope, receiver, &[]).ok_or(Trouble::Thrown);
    }
    if let Some(text) = lone_text(args_json) {
        let text = v8::String::new_from_one_byte(scope, text, v8::NewStringType::Normal)
            .ok_or_else(|| invalid("args is too large".to_owned()))?;
        return function.call(scope, receiver, &[text.into()]).ok_or(Trouble::Thrown);
    }
    let args = parse_json(scope, args_json, "args")?;
    let args = v8::Local::<v8::Array>::try_from(args)
        .map_err(|_| invalid("args must be a JSON array".to_owned()))?;
    // V8 passes arguments on its stack; an array that is too long for it would crash the engine.
    const MAX_ARGS: u32 = 1000;
    if args.length() > MAX_ARGS {
        return Err(invalid(format!(
            "args has {} elements; a function takes {MAX_ARGS} at most, so pass a long list as one \
             argument",
            args.length()
        )));
    }
    let mut values = Vec::with_capacity(args.length() as usize);
    for index in 0..args.length() {
        values.push(args.get_index(scope, index).ok_or(Trouble::Thrown)?);
    }
    function.call(scope, receiver, &values).ok_or(Trouble::Thrown)
}

/// The text of a JSON array that holds one string and nothing to unescape: what a large argument
/// mostly is. V8's parser would copy it once more and look at each character by itself.
fn lone_text(args_json: &[u8]) -> Option<&[u8]> {
    let text = args_json.strip_prefix(b"[\"")?.strip_suffix(b"\"]")?;
    is_all_plain(text).then_some(text)
}

/// Makes the keys of a JSON object globals.
fn set_globals(scope: &mut v8::PinScope<'_, '_>, context_json: &[u8]) -> Result<(), Trouble> {
    if context_json.is_empty() {
        return Ok(());
    }
    let (object, names) = context_object(scope, context_json)?;
    let global = scope.get_current_context().global(scope);
    for index in 0..names.length() {
        let name = names.get_index(scope, index).ok_or(Trouble::Thrown)?;
        let value = object.get(scope, name).ok_or(Trouble::Thrown)?;
        let name = v8::Local::<v8::Name>::try_from(name).expect("keys are names");
        if global.create_data_property(scope, name, value) != Some(true) {
            let name = name.to_rust_string_lossy(scope);
            return Err(invalid(format!("context cannot replace the global {name}")));
        }
    }
    Ok(())
}

/// A task's context, and the names in it.
pub(super) fn context_object<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    json: &[u8],
) -> Result<(v8::Local<'s, v8::Object>, v8::Local<'s, v8::Array>), Trouble> {
    let object = parse_json(scope, json, "context")?;
    if object.is_array() || !object.is_object() {
        return Err(invalid("context must be a JSON object".to_owned()));
    }
    let object = v8::Local::<v8::Object>::try_from(object).expect("checked above");
    let names = v8::GetPropertyNamesArgs {
        mode: v8::KeyCollectionMode::OwnOnly,
        property_filter: v8::PropertyFilter::ALL_PROPERTIES,
        index_filter: v8::IndexFilter::IncludeIndices,
        key_conversion: v8::KeyConversionMode::ConvertToString,
    };
    let names = object.get_own_property_names(scope, names).ok_or(Trouble::Thrown)?;
    Ok((object, names))
}

fn parse_json<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    json: &[u8],
    field: &str,
) -> Result<v8::Local<'s, v8::Value>, Trouble> {
    let text = v8::String::new_from_utf8(scope, json, v8::NewStringType::Normal)
        .ok_or_else(|| invalid(format!("{field} is too large")))?;
    v8::tc_scope!(let scope, scope);
    match v8::json::parse(scope, text) {
        Some(value) => Ok(value),
        None if scope.has_terminated() => Err(Trouble::Thrown),
        None => Err(invalid(format!("{field} is not valid JSON, or is nested too deeply"))),
    }
}

pub(super) fn invalid(message: String) -> Trouble {
    JsFailure::new(FailureKind::InvalidTask, "TypeError", message).into()
}
