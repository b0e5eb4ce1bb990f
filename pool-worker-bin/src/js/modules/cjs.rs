//! CommonJS: `require`, `module`, `exports`, `__filename`, `__dirname`.
//!
//! A module's object is registered before its body runs, so that a cycle sees the exports as far as
//! they are. The register is `require.cache`, which belongs to the tasks: what they take out of it
//! is loaded again, and what they put into it is what `require` gives.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::super::code::{compile_text, origin};
use super::super::errors::Trouble;
use super::super::host::{Host, host, key, text};
use super::address::Address;
use super::refusal::Refusal;
use super::{Modules, Parsed, current, parse, refuse, require_es};

const PARAMETERS: [&str; 5] = ["exports", "require", "module", "__filename", "__dirname"];

/// The files of a context that hold no ES module.
#[derive(Default)]
pub(super) struct Common {
    /// `require.cache`: `module` objects by file.
    cache: RefCell<Option<v8::Global<v8::Object>>>,
    known: RefCell<HashSet<PathBuf>>,
    /// Compiled and not run yet.
    bodies: RefCell<HashMap<PathBuf, v8::Global<v8::Function>>>,
    /// Those that run because an ES module imports them.
    running: RefCell<HashSet<PathBuf>>,
    /// `require.main`
    main: RefCell<Option<v8::Global<v8::Object>>>,
}

impl Common {
    pub(super) fn knows(&self, file: &Path) -> bool {
        self.known.borrow().contains(file)
    }

    /// Keeps what was compiled until the file's turn comes.
    pub(super) fn keep(
        &self,
        scope: &mut v8::PinScope<'_, '_>,
        file: &Path,
        body: v8::Local<'_, v8::Function>,
    ) {
        self.known.borrow_mut().insert(file.to_owned());
        self.bodies.borrow_mut().insert(file.to_owned(), v8::Global::new(scope, body));
    }

    /// The file's turn in a graph of ES modules. False: it is in the middle of it.
    pub(super) fn start(&self, file: &Path) -> bool {
        self.running.borrow_mut().insert(file.to_owned())
    }

    pub(super) fn finish(&self, file: &Path) {
        self.running.borrow_mut().remove(file);
    }

    pub(super) fn is_running(&self, file: &Path) -> bool {
        self.running.borrow().contains(file)
    }

    fn cache<'s>(&self, scope: &mut v8::PinScope<'s, '_>) -> v8::Local<'s, v8::Object> {
        let made = self.cache.borrow().as_ref().map(|cache| v8::Local::new(scope, cache));
        made.unwrap_or_else(|| {
            let nothing = v8::null(scope).into();
            let cache = v8::Object::with_prototype_and_properties(scope, nothing, &[], &[]);
            *self.cache.borrow_mut() = Some(v8::Global::new(scope, cache));
            cache
        })
    }

    /// The `module` of a file, if it is loaded or being loaded. `None`: it threw.
    fn module<'s>(
        &self,
        scope: &mut v8::PinScope<'s, '_>,
        file: &str,
    ) -> Option<Option<v8::Local<'s, v8::Object>>> {
        let name = text(scope, file);
        let module = self.cache(scope).get(scope, name.into())?;
        Some(v8::Local::<v8::Object>::try_from(module).ok())
    }

    fn put(
        &self,
        scope: &mut v8::PinScope<'_, '_>,
        file: &str,
        module: v8::Local<'_, v8::Object>,
    ) -> Option<()> {
        self.known.borrow_mut().insert(PathBuf::from(file));
        let name = text(scope, file);
        self.cache(scope).create_data_property(scope, name.into(), module.into())?;
        Some(())
    }
}

/// Who asks for a file.
#[derive(Clone, Copy)]
pub(super) enum Asker<'a> {
    /// A task, by its `modulePath`.
    Task,
    /// An ES module.
    Import,
    /// The CommonJS module of this name.
    Require(&'a str),
}

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

/// The exports of a file, loaded if it is not yet; `None`: it threw.
pub(super) fn require_file<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    modules: &Modules,
    file: &Path,
    asker: Asker<'_>,
) -> Option<v8::Local<'s, v8::Value>> {
    if let Some(module) = modules.common.module(scope, name_of(file))? {
        return exports_of(scope, module);
    }
    let address = Address::of(file);
    if let Some(module) = modules.es.source(scope, &address) {
        return require_es::require(scope, host, modules, &address, module);
    }
    let body = modules.common.bodies.borrow_mut().remove(file);
    if let Some(body) = body {
        let body = v8::Local::new(scope, body);
        return run(scope, modules, file, body, asker);
    }
    let asked_by = match asker {
        Asker::Require(referrer) => Some(Path::new(referrer)),
        Asker::Task | Asker::Import => None,
    };
    match parse(scope, host, &address, asked_by)? {
        Parsed::Es(module) => {
            modules.es.put(scope, address.clone(), module);
            require_es::require(scope, host, modules, &address, module)
        }
        Parsed::Common(body) => run(scope, modules, file, body, asker),
        Parsed::Json(value) => {
            keep_json(scope, modules, file, value)?;
            Some(value)
        }
    }
}

/// Runs a compiled file and gives its exports; `None`: it threw.
fn run<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    modules: &Modules,
    file: &Path,
    body: v8::Local<'s, v8::Function>,
    asker: Asker<'_>,
) -> Option<v8::Local<'s, v8::Value>> {
    let path = name_of(file);
    let folder = file.parent().and_then(Path::to_str).unwrap_or("/");
    let (name, folder) = (text(scope, path), text(scope, folder));
    let module = v8::Object::new(scope);
    if matches!(asker, Asker::Task) {
        *modules.common.main.borrow_mut() = Some(v8::Global::new(scope, module));
    }
    let exports: v8::Local<v8::Value> = v8::Object::new(scope).into();
    let require = require_function(scope, modules, name)?;
    let parent = parent(scope, modules, asker)?;
    let id = if matches!(asker, Asker::Task) { text(scope, ".") } else { name };
    let loaded = v8::Boolean::new(scope, false);
    let fields: [(&str, v8::Local<v8::Value>); 5] = [
        ("id", id.into()),
        ("path", folder.into()),
        ("exports", exports),
        ("filename", name.into()),
        ("loaded", loaded.into()),
    ];
    for (field, value) in fields {
        let field = key(scope, field);
        module.create_data_property(scope, field.into(), value)?;
    }
    for (field, value) in [("parent", parent), ("require", require.into())] {
        let field = key(scope, field);
        module.define_own_property(scope, field.into(), value, v8::PropertyAttribute::DONT_ENUM)?;
    }
    modules.common.put(scope, path, module)?;
    let args = [exports, require.into(), module.into(), name.into(), folder.into()];
    call_or_forget(scope, modules, path, body, &args)?;
    let loaded = key(scope, "loaded");
    let yes = v8::Boolean::new(scope, true);
    module.create_data_property(scope, loaded.into(), yes.into())?;
    exports_of(scope, module)
}

/// Calls a module's body with its `exports` as `this`. When it throws, whoever asks again gets
/// another try, as in Node.
fn call_or_forget<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    modules: &Modules,
    path: &str,
    body: v8::Local<'s, v8::Function>,
    args: &[v8::Local<'s, v8::Value>; 5],
) -> Option<()> {
    v8::tc_scope!(let scope, scope);
    if body.call(scope, args[0], args).is_some() {
        return Some(());
    }
    let name = text(scope, path);
    modules.common.cache(scope).delete(scope, name.into());
    scope.rethrow();
    None
}

/// `module.parent`: `null` for the module that the task names, as for a program's main file.
fn parent<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    modules: &Modules,
    asker: Asker<'_>,
) -> Option<v8::Local<'s, v8::Value>> {
    Some(match asker {
        Asker::Task => v8::null(scope).into(),
        Asker::Import => v8::undefined(scope).into(),
        Asker::Require(name) => match modules.common.module(scope, name)? {
            Some(parent) => parent.into(),
            None => v8::undefined(scope).into(),
        },
    })
}

/// Registers what a JSON file holds as a module's exports.
pub(super) fn keep_json<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    modules: &Modules,
    file: &Path,
    value: v8::Local<'s, v8::Value>,
) -> Option<()> {
    let path = name_of(file);
    let module = v8::Object::new(scope);
    let name: v8::Local<v8::Value> = text(scope, path).into();
    let loaded = v8::Boolean::new(scope, true);
    for (field, value) in
        [("id", name), ("exports", value), ("filename", name), ("loaded", loaded.into())]
    {
        let field = key(scope, field);
        module.create_data_property(scope, field.into(), value)?;
    }
    modules.common.put(scope, path, module)
}

fn exports_of<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    module: v8::Local<'s, v8::Object>,
) -> Option<v8::Local<'s, v8::Value>> {
    let name = key(scope, "exports");
    module.get(scope, name.into())
}

/// A `require` for one module, with what hangs on it.
fn require_function<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    modules: &Modules,
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
    resolve.set_name(key(scope, "resolve"));
    let main: v8::Local<v8::Value> = match modules.common.main.borrow().as_ref() {
        Some(main) => v8::Local::new(scope, main).into(),
        None => v8::undefined(scope).into(),
    };
    let cache = modules.common.cache(scope);
    for (field, value) in [("resolve", resolve.into()), ("main", main), ("cache", cache.into())] {
        let field = key(scope, field);
        require.create_data_property(scope, field.into(), value)?;
    }
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
    let referrer = args.data().to_rust_string_lossy(scope);
    if let Some(exports) = require_file(scope, &host, &modules, &file, Asker::Require(&referrer)) {
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

/// The file that the first argument names, seen from the module that `require` belongs to; `None`:
/// it threw.
fn resolve<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    args: &v8::FunctionCallbackArguments<'s>,
) -> Option<PathBuf> {
    let Ok(specifier) = v8::Local::<v8::String>::try_from(args.get(0)) else {
        let what = "the argument of require must be a string";
        return refuse(scope, Refusal::argument("ERR_INVALID_ARG_TYPE", what));
    };
    let specifier = specifier.to_rust_string_lossy(scope);
    if specifier.is_empty() {
        let what = "the argument of require must not be empty";
        return refuse(scope, Refusal::argument("ERR_INVALID_ARG_VALUE", what));
    }
    let referrer = args.data().to_rust_string_lossy(scope);
    match host.roots.require(&specifier, Path::new(&referrer)) {
        Ok(file) => Some(file),
        Err(refusal) => refuse(scope, refusal),
    }
}

fn name_of(file: &Path) -> &str {
    file.to_str().expect("resolving gives text")
}
