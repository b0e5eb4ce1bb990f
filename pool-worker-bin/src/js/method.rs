//! Methods that a value may bring along: `toJSON`, `then`.
//!
//! Decides which count. One that sits on `Object.prototype` or `Array.prototype` was planted there and means every object
//! of the realm, so it is passed over; JavaScript itself would call it.

use super::errors::Trouble;

/// How far up the prototype chain is looked.
const MAX_PROTOTYPES: usize = 1000;

/// The method of that name which is the object's own or its class's.
pub(super) fn method<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    object: v8::Local<'s, v8::Object>,
    name: v8::Local<'_, v8::String>,
) -> Result<Option<v8::Local<'s, v8::Function>>, Trouble> {
    v8::tc_scope!(let scope, scope);
    match object.get(scope, name.into()) {
        Some(value) if value.is_undefined() => Ok(None),
        Some(value) => match v8::Local::<v8::Function>::try_from(value) {
            Ok(method) if !is_planted(scope, object, name) => Ok(Some(method)),
            _ => Ok(None),
        },
        None if scope.has_terminated() || !is_planted(scope, object, name) => {
            scope.rethrow();
            Err(Trouble::Thrown)
        }
        // A planted getter that throws is passed over as well.
        None => Ok(None),
    }
}

fn is_planted<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    object: v8::Local<'s, v8::Object>,
    name: v8::Local<'_, v8::String>,
) -> bool {
    let plain: v8::Local<v8::Object> = v8::Object::new(scope);
    let array: v8::Local<v8::Object> = v8::Array::new(scope, 0).into();
    let (Some(of_plain), Some(of_array)) = (plain.get_prototype(scope), array.get_prototype(scope)) else {
        return false;
    };
    let name = v8::Local::new(scope, name);
    let mut holder = object;
    for _ in 0..MAX_PROTOTYPES {
        if holder.is_proxy() {
            return false;
        }
        if holder.strict_equals(of_plain) || holder.strict_equals(of_array) {
            return true;
        }
        if holder.has_own_property(scope, name.into()) != Some(false) {
            return false;
        }
        let above = holder.get_prototype(scope).and_then(|above| v8::Local::<v8::Object>::try_from(above).ok());
        match above {
            Some(above) => holder = above,
            None => return false,
        }
    }
    false
}
