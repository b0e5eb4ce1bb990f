//! `structuredClone(value)`, by V8's own serializer.

use v8::{ValueDeserializerHelper as _, ValueSerializerHelper as _};

use super::host::{key, text, throw_range_error, throw_type_error};

/// The name and code that browsers give to this error. Theirs is a `DOMException`, which a task
/// has not; code looks at the name.
const NAME: &str = "DataCloneError";
const CODE: i32 = 25;

struct Delegate;

impl v8::ValueSerializerImpl for Delegate {
    fn throw_data_clone_error<'s>(
        &self,
        scope: &mut v8::PinScope<'s, '_>,
        message: v8::Local<'s, v8::String>,
    ) {
        let error = v8::Exception::error(scope, message);
        if let Ok(object) = v8::Local::<v8::Object>::try_from(error) {
            let (name, value) = (key(scope, "name"), text(scope, NAME));
            object.define_own_property(
                scope,
                name.into(),
                value.into(),
                v8::PropertyAttribute::DONT_ENUM,
            );
            let (name, value) = (key(scope, "code"), v8::Integer::new(scope, CODE));
            object.define_own_property(
                scope,
                name.into(),
                value.into(),
                v8::PropertyAttribute::DONT_ENUM,
            );
        }
        scope.throw_exception(error);
    }
}

impl v8::ValueDeserializerImpl for Delegate {}

/// `structuredClone(value)`; there is nothing to transfer to, so its options are ignored.
pub(super) fn structured_clone<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    args: v8::FunctionCallbackArguments<'s>,
    mut rv: v8::ReturnValue<'s, v8::Value>,
) {
    if args.length() == 0 {
        return throw_type_error(scope, "structuredClone needs a value");
    }
    let context = scope.get_current_context();
    let serializer = v8::ValueSerializer::new(scope, Box::new(Delegate));
    serializer.write_header();
    if serializer.write_value(context, args.get(0)) != Some(true) {
        // The serializer has thrown.
        return;
    }
    let bytes = serializer.release();
    let deserializer = v8::ValueDeserializer::new(scope, Box::new(Delegate), &bytes);
    let read = {
        v8::tc_scope!(let scope, scope);
        let copy = deserializer.read_header(context).and_then(|_| deserializer.read_value(context));
        if copy.is_none() && scope.has_terminated() {
            scope.rethrow();
            return;
        }
        copy
    };
    match read {
        Some(copy) => rv.set(copy),
        // What was just serialized can be read back, unless there is no room for it, which V8 says
        // in vague words.
        None => throw_range_error(scope, "there is no room for the clone"),
    }
}

/// What a Boolean object holds. The crate cannot ask it, and its `valueOf` is the user's; the
/// serializer's tag tells.
pub(super) fn boolean_in(
    scope: &mut v8::PinScope<'_, '_>,
    object: v8::Local<'_, v8::Object>,
) -> bool {
    const TRUE_OBJECT: u8 = b'y';
    let context = scope.get_current_context();
    let serializer = v8::ValueSerializer::new(scope, Box::new(Delegate));
    let object = v8::Local::new(scope, object);
    serializer.write_value(context, object.into()) == Some(true)
        && serializer.release().last() == Some(&TRUE_OBJECT)
}
