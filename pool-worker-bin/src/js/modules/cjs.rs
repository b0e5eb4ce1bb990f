//! CommonJS: `require`, `module`, `exports`, `__filename`, `__dirname`.
//!
//! A module's object is registered before its body runs, so that a cycle sees the exports as far as they are.

use std::path::Path;

use super::super::code::{compile_text, origin};
use super::super::errors::Trouble;
use super::super::host::{Host, host, key, text, throw_type_error};
use super::super::task::{FailureKind, JsFailure};
use super::resolve::How;
use super::{Modules, current, es_module, esm, throw};

const PARAMETERS: [&str; 5] = ["exports", "require", "module", "__filename", "__dirname"];

/// Compiles a file as the body of a function with CommonJS's parameters.
pub(super) fn compile<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    name: &str,
    source: &str,
) -> Result<v8::Local<'s, v8::Function>, Trouble> {
    // A function's body has no `#!` line; as a comment it keeps the lines where they are.
    let commented = source.strip_prefix("#!").map(|rest| format!("//{rest}"));
    let source = text(scope, commented.as_deref().unwrap_or(source));
    let origin = origin(scope, name, 0, false);
    let mut source = v8::script_compiler::Source::new(source, Some(&origin));
    let parameters = PARAMETERS.map(|name| key(scope, name));
    compile_text(scope, |scope| {
        v8::script_compiler::compile_function(
            scope,
            &mut source,
            &parameters,
            &[],
            v8::script_compiler::CompileOptions::NoCompileOptions,
            v8::script_compiler::NoCacheReason::NoReason,
        )
    })
}

/// Runs a compiled file; `None`: it threw.
pub(super) fn run<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    modules: &Modules,
    file: &Path,
    body: v8::Local<'s, v8::Function>,
) -> Option<()> {
    let name = file.to_str().expect("resolving gives text");
    let folder = file.parent().and_then(Path::to_str).unwrap_or("/");
    let module = v8::Object::new(scope);
    let exports: v8::Local<v8::Value> = v8::Object::new(scope).into();
    let name = text(scope, name);
    let folder = text(scope, folder);
    let require = require_function(scope, name)?;
    let loaded = v8::Boolean::new(scope, false);
    for (field, value) in [
        ("exports", exports),
        ("id", name.into()),
        ("filename", name.into()),
        ("loaded", loaded.into()),
        ("require", require.into()),
    ] {
        let field = key(scope, field);
        module.create_data_property(scope, field.into(), value)?;
    }
    modules.common.borrow_mut().insert(file.to_owned(), v8::Global::new(scope, module));
    let args = [exports, require.into(), module.into(), name.into(), folder.into()];
    if body.call(scope, exports, &args).is_none() {
        // Whoever asks again gets another try, as in Node.
        modules.common.borrow_mut().remove(file);
        return None;
    }
    let loaded = key(scope, "loaded");
    let yes = v8::Boolean::new(scope, true);
    module.create_data_property(scope, loaded.into(), yes.into())?;
    Some(())
}

/// The exports of a file, loaded if it is not yet; `None`: it threw.
pub(super) fn require_file<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    modules: &Modules,
    file: &Path,
) -> Option<v8::Local<'s, v8::Value>> {
    let module = modules.common.borrow().get(file).cloned();
    if let Some(module) = module {
        let module = v8::Local::new(scope, module);
        return exports_of(scope, module);
    }
    if let Some(module) = es_module(scope, host, modules, file)? {
        return require_es(scope, host, modules, file, module);
    }
    // It has run by now, and its `module` is known.
    let module = modules.common.borrow().get(file).cloned()?;
    let module = v8::Local::new(scope, module);
    exports_of(scope, module)
}

/// Registers what a JSON file holds as a module's exports.
pub(super) fn keep_json<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    modules: &Modules,
    file: &Path,
    value: v8::Local<'s, v8::Value>,
) -> Option<()> {
    let module = v8::Object::new(scope);
    let name = key(scope, "exports");
    module.create_data_property(scope, name.into(), value)?;
    modules.common.borrow_mut().insert(file.to_owned(), v8::Global::new(scope, module));
    Some(())
}

fn exports_of<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    module: v8::Local<'s, v8::Object>,
) -> Option<v8::Local<'s, v8::Value>> {
    let name = key(scope, "exports");
    module.get(scope, name.into())
}

/// `require` of an ES module, which works where nothing in it awaits at the top.
fn require_es<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    modules: &Modules,
    file: &Path,
    module: v8::Local<'s, v8::Module>,
) -> Option<v8::Local<'s, v8::Value>> {
    let refuse = |why: &str| {
        let message = format!("cannot require the ES module {}: {why}", file.display());
        JsFailure::new(FailureKind::Exception, "Error", message)
    };
    if matches!(module.get_status(), v8::ModuleStatus::Instantiating | v8::ModuleStatus::Evaluating) {
        return throw(scope, &refuse("it is being loaded, and needs this module for it"));
    }
    esm::link(scope, host, modules, file, module)?;
    if module.is_graph_async() {
        return throw(scope, &refuse("it awaits at its top level; use import()"));
    }
    let done = v8::Local::<v8::Promise>::try_from(module.evaluate(scope)?).ok()?;
    match done.state() {
        v8::PromiseState::Fulfilled => Some(module.get_module_namespace()),
        v8::PromiseState::Rejected => {
            done.mark_as_handled();
            let reason = done.result(scope);
            scope.throw_exception(reason);
            None
        }
        v8::PromiseState::Pending => throw(scope, &refuse("it has not finished loading")),
    }
}

/// A `require` for one module, with `require.resolve`.
fn require_function<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    referrer: v8::Local<'s, v8::String>,
) -> Option<v8::Local<'s, v8::Function>> {
    let require = v8::Function::builder(require)
        .data(referrer.into())
        .constructor_behavior(v8::ConstructorBehavior::Throw)
        .build(scope)?;
    require.set_name(key(scope, "require"));
    let resolve = v8::Function::builder(require_resolve)
        .data(referrer.into())
        .constructor_behavior(v8::ConstructorBehavior::Throw)
        .build(scope)?;
    let name = key(scope, "resolve");
    require.create_data_property(scope, name.into(), resolve.into())?;
    Some(require)
}

fn require<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    args: v8::FunctionCallbackArguments<'s>,
    mut rv: v8::ReturnValue<'s, v8::Value>,
) {
    let host = host(scope);
    let Some(file) = resolve(scope, &host, &args) else {
        return;
    };
    let Some(modules) = current(&host) else {
        return;
    };
    if let Some(exports) = require_file(scope, &host, &modules, &file) {
        rv.set(exports);
    }
}

fn require_resolve<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    args: v8::FunctionCallbackArguments<'s>,
    mut rv: v8::ReturnValue<'s, v8::Value>,
) {
    let host = host(scope);
    if let Some(file) = resolve(scope, &host, &args) {
        rv.set(text(scope, &file.to_string_lossy()).into());
    }
}

/// The file that the first argument names, seen from the module that `require` belongs to; `None`: it threw.
fn resolve<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    args: &v8::FunctionCallbackArguments<'s>,
) -> Option<std::path::PathBuf> {
    let Ok(specifier) = v8::Local::<v8::String>::try_from(args.get(0)) else {
        throw_type_error(scope, "the argument of require must be a string");
        return None;
    };
    let specifier = specifier.to_rust_string_lossy(scope);
    let referrer = args.data().to_rust_string_lossy(scope);
    match host.roots.resolve(&specifier, Path::new(&referrer), How::Require) {
        Ok(file) => Some(file),
        Err(failure) => throw(scope, &failure),
    }
}
