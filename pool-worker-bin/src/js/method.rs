//! Methods that a value may bring along: `toJSON`, `then`.
//!
//! Decides which count. One that sits on `Object.prototype` or `Array.prototype` was planted there
//! and means every object of the realm, so it is passed over; JavaScript itself would call it.

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

/// Whether the name stands on `Object.prototype` or `Array.prototype`, where nothing of that name
/// belongs.
pub(super) fn is_any_planted(
    scope: &mut v8::PinScope<'_, '_>,
    name: v8::Local<'_, v8::String>,
) -> bool {
    v8::scope!(let scope, scope);
    shared_prototypes(scope).is_none_or(|prototypes| {
        prototypes
            .iter()
            .any(|prototype| prototype.has_own_property(scope, name.into()) != Some(false))
    })
}

/// The realm's own `Object.prototype` and `Array.prototype`, whatever the globals of these names
/// are by now.
fn shared_prototypes<'s>(
    scope: &mut v8::PinScope<'s, '_>,
) -> Option<[v8::Local<'s, v8::Object>; 2]> {
    let plain = v8::Object::new(scope).get_prototype(scope)?;
    let array = v8::Array::new(scope, 0).get_prototype(scope)?;
    Some([
        v8::Local::<v8::Object>::try_from(plain).ok()?,
        v8::Local::<v8::Object>::try_from(array).ok()?,
    ])
}

fn is_planted<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    object: v8::Local<'s, v8::Object>,
    name: v8::Local<'_, v8::String>,
) -> bool {
    let Some(shared) = shared_prototypes(scope) else {
        return false;
    };
    let name = v8::Local::new(scope, name);
    let mut holder = object;
    for _ in 0..MAX_PROTOTYPES {
        if holder.is_proxy() {
            return false;
        }
        if shared.contains(&holder) {
            return true;
        }
        if holder.has_own_property(scope, name.into()) != Some(false) {
            return false;
        }
        let above = holder
            .get_prototype(scope)
            .and_then(|above| v8::Local::<v8::Object>::try_from(above).ok());
        match above {
            Some(above) => holder = above,
            None => return false,
        }
    }
    false
}
