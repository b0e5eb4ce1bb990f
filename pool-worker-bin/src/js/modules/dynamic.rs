//! `import()` and `import.meta`.
//!
//! `import()` gives its promise at once and does everything else in a later job: by then no module
//! is in the middle of its evaluation, and the code behind the call has run.

use std::path::{Path, PathBuf};

use super::super::host::{Host, host, key, or_thrown, text};
use super::super::task::{FailureKind, JsFailure};
use super::address::Address;
use super::esm::{self, ALONE};
use super::refusal::Refusal;
use super::{Modules, NO_ROOM, current, refuse, require_es, throw};

/// Called by V8 for `import()`.
pub(super) fn import_dynamically<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    _host_defined_options: v8::Local<'s, v8::Data>,
    resource_name: v8::Local<'s, v8::Value>,
    specifier: v8::Local<'s, v8::String>,
    attributes: v8::Local<'s, v8::FixedArray>,
) -> Option<v8::Local<'s, v8::Promise>> {
    or_thrown(scope, NO_ROOM, |scope| {
        let resolver = v8::PromiseResolver::new(scope)?;
        let mut data: Vec<v8::Local<v8::Value>> =
            vec![resolver.into(), resource_name, specifier.into()];
        for attribute in esm::texts(scope, attributes) {
            data.push(text(scope, &attribute).into());
        }
        let data = v8::Array::new_with_elements(scope, &data);
        let job = v8::Function::builder(run_import)
            .data(data.into())
            .constructor_behavior(v8::ConstructorBehavior::Throw)
            .build(scope)?;
        let context = scope.get_current_context();
        context.get_microtask_queue()?.enqueue_microtask(scope, job);
        Some(resolver.get_promise(scope))
    })
}

/// The job of an `import()`.
fn run_import<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    args: v8::FunctionCallbackArguments<'s>,
    _rv: v8::ReturnValue<'s, v8::Value>,
) {
    let Ok(data) = v8::Local::<v8::Array>::try_from(args.data()) else {
        return;
    };
    let Some(promise) = data.get_index(scope, 0).filter(|promise| promise.is_promise()) else {
        return;
    };
    #[expect(
        unsafe_code,
        reason = "V8 knows no resolvers among its values: one is the promise itself"
    )]
    // SAFETY: `import_dynamically` has put it there, nobody else has seen the list, and it is a
    // promise.
    let resolver = unsafe { v8::Local::<v8::PromiseResolver>::cast_unchecked(promise) };
    let mut texts = Vec::new();
    for index in 1..data.length() {
        texts.push(
            data.get_index(scope, index)
                .map(|it| it.to_rust_string_lossy(scope))
                .unwrap_or_default(),
        );
    }
    let [referrer, specifier, attributes @ ..] = texts.as_slice() else {
        return;
    };
    let host = host(scope);
    let Some(modules) = current(&host) else {
        return;
    };
    v8::tc_scope!(let scope, scope);
    let result = match import(scope, &host, &modules, referrer, specifier, attributes) {
        Some(namespace) => resolver.resolve(scope, namespace.into()),
        None => match scope.exception() {
            Some(reason) if !scope.has_terminated() => {
                scope.reset();
                resolver.reject(scope, reason)
            }
            _ => None,
        },
    };
    if result.is_none() {
        scope.rethrow();
    }
}

/// A promise of the module's namespace; `None`: it threw.
fn import<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    modules: &Modules,
    referrer: &str,
    specifier: &str,
    attributes: &[String],
) -> Option<v8::Local<'s, v8::Promise>> {
    let Some(referrer) = modules.file_named(referrer) else {
        let message = "import() is for modules: use an execute-module task";
        return throw(scope, &JsFailure::new(FailureKind::Exception, "TypeError", message));
    };
    let address = match address(host, &referrer, specifier, attributes) {
        Ok(address) => address,
        Err(refusal) => return refuse(scope, refusal),
    };
    let module = esm::module_at(scope, host, modules, &address, &referrer)?;
    esm::link(scope, host, modules, &address, module)?;
    if require_es::is_running(scope, modules, &address, module) {
        // Jobs run when no code does; should one ever not, this is better than the end of the
        // process.
        let message = format!("cannot import '{specifier}': it is being evaluated");
        return throw(scope, &JsFailure::new(FailureKind::Exception, "Error", message));
    }
    let done = esm::evaluate(scope, module)?;
    let namespace = module.get_module_namespace();
    let give_namespace = v8::Function::builder(give_data)
        .data(namespace)
        .constructor_behavior(v8::ConstructorBehavior::Throw)
        .build(scope)?;
    done.then(scope, give_namespace)
}

fn address(
    host: &Host,
    referrer: &Path,
    specifier: &str,
    attributes: &[String],
) -> Result<Address, Refusal> {
    let shape = esm::shape(attributes, ALONE).map_err(|refusal| refusal.asked_by(referrer))?;
    Ok(Address { place: host.roots.import(specifier, referrer)?, shape })
}

/// Gives what the function was made with.
fn give_data<'s>(
    _scope: &mut v8::PinScope<'s, '_>,
    args: v8::FunctionCallbackArguments<'s>,
    mut rv: v8::ReturnValue<'s, v8::Value>,
) {
    rv.set(args.data());
}

/// Called by V8 when a module first uses `import.meta`.
#[expect(unsafe_code, reason = "called by V8")]
pub(super) unsafe extern "C" fn describe_module(
    context: v8::Local<'_, v8::Context>,
    module: v8::Local<'_, v8::Module>,
    meta: v8::Local<'_, v8::Object>,
) {
    // SAFETY: V8 calls this inside the scope that the module runs in.
    let storage = std::pin::pin!(unsafe { v8::CallbackScope::new(context) });
    let scope = &mut storage.init();
    let host = host(scope);
    let Some(address) = current(&host).and_then(|modules| modules.es.address_of(scope, module))
    else {
        return;
    };
    let file = address.file();
    let path = file.to_string_lossy().into_owned();
    let folder = file.parent().map(Path::to_string_lossy).unwrap_or_default().into_owned();
    let file = text(scope, &path);
    // What fails here fails because the task is being terminated.
    let Some(resolve) = v8::Function::builder(resolve)
        .data(file.into())
        .constructor_behavior(v8::ConstructorBehavior::Throw)
        .build(scope)
    else {
        return;
    };
    resolve.set_name(key(scope, "resolve"));
    let (url, folder) = (text(scope, &address.place.url()), text(scope, &folder));
    let fields: [(&str, v8::Local<v8::Value>); 4] = [
        ("dirname", folder.into()),
        ("filename", file.into()),
        ("resolve", resolve.into()),
        ("url", url.into()),
    ];
    for (name, value) in fields {
        let name = key(scope, name);
        meta.create_data_property(scope, name.into(), value);
    }
}

/// `import.meta.resolve(specifier)`
fn resolve<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    args: v8::FunctionCallbackArguments<'s>,
    mut rv: v8::ReturnValue<'s, v8::Value>,
) {
    // May call the user's `toString`.
    let Some(specifier) = args.get(0).to_string(scope) else {
        return;
    };
    let specifier = specifier.to_rust_string_lossy(scope);
    let referrer = PathBuf::from(args.data().to_rust_string_lossy(scope));
    let host = host(scope);
    match host.roots.import_url(&specifier, &referrer) {
        Ok(url) => rv.set(text(scope, &url).into()),
        Err(refusal) => {
            let _thrown: Option<()> = refuse(scope, refusal);
        }
    }
}
