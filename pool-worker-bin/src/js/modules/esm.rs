//! ES modules: the graph of imports, `import()`, `import.meta`, and CommonJS seen from an ES module.
//!
//! A graph is loaded whole before V8 links it. A CommonJS or JSON file in it becomes a synthetic module, whose exports
//! must be known at linking; so CommonJS runs while the graph is loaded, earlier than in Node, where a lexer guesses the
//! names instead.

use std::path::{Path, PathBuf};

use super::super::host::{Host, host, key, or_thrown, text};
use super::super::task::{FailureKind, JsFailure};
use super::resolve::How;
use super::{Modules, cjs, current, es_module, throw};

/// Names that a CommonJS module's exports are seen under at most.
const MAX_NAMES: u32 = 10_000;

/// For the failures of V8 that come without a reason.
const NO_ROOM: &str = "there is no room for the module";

/// Loads what the module imports, and links it all; `None`: it threw.
pub(super) fn link<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    modules: &Modules,
    file: &Path,
    module: v8::Local<'s, v8::Module>,
) -> Option<()> {
    let is_linked = module.get_status() != v8::ModuleStatus::Uninstantiated;
    if is_linked {
        return Some(());
    }
    let is_known = modules.es.borrow().contains_key(file);
    if !is_known {
        register(scope, modules, file, module);
    }
    let mut to_visit = vec![(file.to_owned(), module)];
    while let Some((referrer, module)) = to_visit.pop() {
        for import in imports(scope, host, modules, &referrer, module)? {
            let is_known = modules.es.borrow().contains_key(&import);
            if is_known {
                continue;
            }
            let imported = module_of(scope, host, modules, &import)?;
            if imported.is_source_text_module() {
                to_visit.push((import, imported));
            }
        }
    }
    module.instantiate_module(scope, find_import)?;
    Some(())
}

/// The module of a file, parsed or wrapped if it is not yet; `None`: it threw.
fn module_of<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    modules: &Modules,
    file: &Path,
) -> Option<v8::Local<'s, v8::Module>> {
    let known = modules.es.borrow().get(file).cloned();
    if let Some(module) = known {
        return Some(v8::Local::new(scope, module));
    }
    if let Some(module) = es_module(scope, host, modules, file)? {
        register(scope, modules, file, module);
        return Some(module);
    }
    let module = synthetic(scope, host, modules, file)?;
    register(scope, modules, file, module);
    Some(module)
}

fn register(scope: &mut v8::PinScope<'_, '_>, modules: &Modules, file: &Path, module: v8::Local<'_, v8::Module>) {
    let handle = v8::Global::new(scope, module);
    let hash = module.get_identity_hash().get();
    modules.files.borrow_mut().entry(hash).or_default().push((handle.clone(), file.to_owned()));
    modules.es.borrow_mut().insert(file.to_owned(), handle);
}

/// The files that a module's import statements name.
fn imports<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    modules: &Modules,
    referrer: &Path,
    module: v8::Local<'s, v8::Module>,
) -> Option<Vec<PathBuf>> {
    let requests = module.get_module_requests();
    let mut files = Vec::with_capacity(requests.length());
    for index in 0..requests.length() {
        let request = requests.get(scope, index)?;
        let request = v8::Local::<v8::ModuleRequest>::try_from(request).ok()?;
        let specifier = request.get_specifier().to_rust_string_lossy(scope);
        match host.roots.resolve(&specifier, referrer, How::Import) {
            Ok(file) => {
                modules.links.borrow_mut().insert((referrer.to_owned(), specifier), file.clone());
                files.push(file);
            }
            Err(failure) => return throw(scope, &failure),
        }
    }
    Some(files)
}

/// A module whose exports are those of a CommonJS or JSON file that has been loaded.
fn synthetic<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    modules: &Modules,
    file: &Path,
) -> Option<v8::Local<'s, v8::Module>> {
    let exports = cjs::require_file(scope, host, modules, file)?;
    let default = key(scope, "default");
    let mut names = vec![default];
    if let Ok(object) = v8::Local::<v8::Object>::try_from(exports) {
        let keys = object.get_own_property_names(
            scope,
            v8::GetPropertyNamesArgs { key_conversion: v8::KeyConversionMode::ConvertToString, ..Default::default() },
        )?;
        for index in 0..keys.length().min(MAX_NAMES) {
            let name = v8::Local::<v8::String>::try_from(keys.get_index(scope, index)?).ok()?;
            if !name.strict_equals(default.into()) {
                names.push(name);
            }
        }
    }
    let kept = names.iter().map(|name| v8::Global::new(scope, *name)).collect();
    modules.common_names.borrow_mut().insert(file.to_owned(), kept);
    let name = text(scope, &file.to_string_lossy());
    Some(v8::Module::create_synthetic_module(scope, name, &names, export_common))
}

/// Called by V8 when a synthetic module is evaluated: gives its names their values.
fn export_common<'s>(
    context: v8::Local<'s, v8::Context>,
    module: v8::Local<'s, v8::Module>,
) -> Option<v8::Local<'s, v8::Value>> {
    #[expect(unsafe_code, reason = "V8 calls with a context and without a scope")]
    // SAFETY: V8 calls this inside the scope that `evaluate` was called with.
    let storage = std::pin::pin!(unsafe { v8::CallbackScope::new(context) });
    let scope = &mut storage.init();
    or_thrown(scope, NO_ROOM, |scope| {
        let host = host(scope);
        let modules = current(&host)?;
        let file = file_of(scope, &modules, module)?;
        let exports = cjs::require_file(scope, &host, &modules, &file)?;
        let names = modules.common_names.borrow().get(&file).cloned()?;
        let (default, named) = names.split_first()?;
        let default = v8::Local::new(scope, default);
        module.set_synthetic_module_export(scope, default, exports)?;
        if let Ok(object) = v8::Local::<v8::Object>::try_from(exports) {
            for name in named {
                let name = v8::Local::new(scope, name);
                let value = object.get(scope, name.into())?;
                module.set_synthetic_module_export(scope, name, value)?;
            }
        }
        let resolver = v8::PromiseResolver::new(scope)?;
        let undefined = v8::undefined(scope);
        resolver.resolve(scope, undefined.into())?;
        Some(resolver.get_promise(scope).into())
    })
}

fn file_of(scope: &mut v8::PinScope<'_, '_>, modules: &Modules, module: v8::Local<'_, v8::Module>) -> Option<PathBuf> {
    let files = modules.files.borrow();
    let same_hash = files.get(&module.get_identity_hash().get())?;
    same_hash.iter().find(|(handle, _)| v8::Local::new(scope, handle) == module).map(|(_, file)| file.clone())
}

/// Called by V8 while linking: which module an import statement means.
fn find_import<'s>(
    context: v8::Local<'s, v8::Context>,
    specifier: v8::Local<'s, v8::String>,
    _attributes: v8::Local<'s, v8::FixedArray>,
    referrer: v8::Local<'s, v8::Module>,
) -> Option<v8::Local<'s, v8::Module>> {
    #[expect(unsafe_code, reason = "V8 calls with a context and without a scope")]
    // SAFETY: V8 calls this inside the scope that `instantiate_module` was called with.
    let storage = std::pin::pin!(unsafe { v8::CallbackScope::new(context) });
    let scope = &mut storage.init();
    or_thrown(scope, NO_ROOM, |scope| {
        let host = host(scope);
        let modules = current(&host)?;
        let file = file_of(scope, &modules, referrer)?;
        let link = (file, specifier.to_rust_string_lossy(scope));
        let target = modules.links.borrow().get(&link).cloned();
        let module = target.and_then(|target| modules.es.borrow().get(&target).cloned());
        if let Some(module) = module {
            return Some(v8::Local::new(scope, module));
        }
        let message = format!("cannot link '{}': it is part of a cycle with a CommonJS module", link.1);
        throw(scope, &JsFailure::new(FailureKind::Exception, "Error", message))
    })
}

/// Called by V8 for `import()`.
pub(super) fn import_dynamically<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    _host_defined_options: v8::Local<'s, v8::Data>,
    resource_name: v8::Local<'s, v8::Value>,
    specifier: v8::Local<'s, v8::String>,
    _attributes: v8::Local<'s, v8::FixedArray>,
) -> Option<v8::Local<'s, v8::Promise>> {
    or_thrown(scope, NO_ROOM, |scope| {
        let host = host(scope);
        let modules = current(&host)?;
        v8::tc_scope!(let scope, scope);
        let referrer = resource_name.to_rust_string_lossy(scope);
        let specifier = specifier.to_rust_string_lossy(scope);
        if let Some(promise) = import(scope, &host, &modules, Path::new(&referrer), &specifier) {
            return Some(promise);
        }
        if scope.has_terminated() {
            scope.rethrow();
            return None;
        }
        let reason = scope.exception()?;
        scope.reset();
        let resolver = v8::PromiseResolver::new(scope)?;
        resolver.reject(scope, reason)?;
        Some(resolver.get_promise(scope))
    })
}

fn import<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    modules: &Modules,
    referrer: &Path,
    specifier: &str,
) -> Option<v8::Local<'s, v8::Promise>> {
    if !modules.is_loaded(referrer) {
        let message = "import() is for modules: use an execute-module task";
        return throw(scope, &JsFailure::new(FailureKind::Exception, "TypeError", message));
    }
    let file = match host.roots.resolve(specifier, referrer, How::Import) {
        Ok(file) => file,
        Err(failure) => return throw(scope, &failure),
    };
    let module = module_of(scope, host, modules, &file)?;
    link(scope, host, modules, &file, module)?;
    let done = v8::Local::<v8::Promise>::try_from(module.evaluate(scope)?).ok()?;
    let namespace = module.get_module_namespace();
    let give_namespace = v8::Function::builder(give_data)
        .data(namespace)
        .constructor_behavior(v8::ConstructorBehavior::Throw)
        .build(scope)?;
    done.then(scope, give_namespace)
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
    let Some(file) = current(&host).and_then(|modules| file_of(scope, &modules, module)) else {
        return;
    };
    let path = file.to_string_lossy();
    let folder = file.parent().map(Path::to_string_lossy).unwrap_or_default();
    for (name, value) in [("url", file_url(&path)), ("filename", path.to_string()), ("dirname", folder.to_string())] {
        let name = key(scope, name);
        let value = text(scope, &value);
        // Fails only when the task is being terminated.
        meta.create_data_property(scope, name.into(), value.into());
    }
}

/// The path as a `file:` URL; what may not stand in one is escaped.
fn file_url(path: &str) -> String {
    use std::fmt::Write as _;
    let mut url = String::from("file://");
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~@+!$&'()*,;=:".contains(&byte) {
            url.push(char::from(byte));
        } else {
            write!(url, "%{byte:02X}").expect("a string takes any text");
        }
    }
    url
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_may_not_stand_in_a_url_is_escaped() {
        assert_eq!(super::file_url("/a b/c#d.mjs"), "file:///a%20b/c%23d.mjs");
    }
}
