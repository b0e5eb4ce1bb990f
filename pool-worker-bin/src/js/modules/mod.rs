//! Modules of a task: ES modules, CommonJS and JSON, from files below the configured roots.
//!
//! Owns what a context has loaded; a module is loaded once per context. `resolve` and `package` decide which file a name
//! means, `esm` and `cjs` run it. A module that cannot be loaded throws in JavaScript, where a package may catch it; the
//! error carries the kind of failure for the case that nobody does.

mod cjs;
mod esm;
mod package;
mod resolve;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::code::{compile_text, origin};
use super::context::RealmState;
use super::errors::{self, Trouble};
use super::host::{Host, host, key};
use super::settle;
use super::task::{FailureKind, JsFailure};
use resolve::Format;
pub(super) use resolve::ModuleRoots;

/// Exports of an object that error messages list.
const LISTED_EXPORTS: u32 = 20;

/// What one context has loaded.
#[derive(Default)]
pub(super) struct Modules {
    /// By a task's `modulePath`.
    ready: RefCell<HashMap<String, Ready>>,
    es: RefCell<HashMap<PathBuf, v8::Global<v8::Module>>>,
    /// The files of modules, by V8's identity hash, which several may share.
    files: RefCell<HashMap<i32, Vec<ModuleFile>>>,
    /// What the import statements of a file mean.
    links: RefCell<HashMap<(PathBuf, String), PathBuf>>,
    /// CommonJS `module` objects.
    common: RefCell<HashMap<PathBuf, v8::Global<v8::Object>>>,
    /// The names under which an ES module sees a CommonJS module's exports, `default` first.
    common_names: RefCell<HashMap<PathBuf, Vec<v8::Global<v8::String>>>>,
    failed: Cell<bool>,
}

/// A module and where it came from.
type ModuleFile = (v8::Global<v8::Module>, PathBuf);

impl Modules {
    /// Whether a task's module could not be loaded, so that parts of it may be left behind.
    pub(super) fn failed(&self) -> bool {
        self.failed.get()
    }

    /// Whether the file is one of the modules here, or about to be.
    fn is_loaded(&self, file: &Path) -> bool {
        self.es.borrow().contains_key(file) || self.common.borrow().contains_key(file)
    }
}

/// A module that a task can call into.
#[derive(Clone)]
struct Ready {
    kind: Format,
    exports: v8::Global<v8::Value>,
}

/// The exports of a task's module.
pub(super) struct Exports<'s> {
    kind: Format,
    value: v8::Local<'s, v8::Value>,
}

/// A file that has been read and parsed.
enum Parsed<'s> {
    Es(v8::Local<'s, v8::Module>),
    Common(v8::Local<'s, v8::Function>),
    Json(v8::Local<'s, v8::Value>),
}

/// Sets what V8 calls back for `import()` and `import.meta`.
pub(super) fn prepare_isolate(isolate: &mut v8::Isolate) {
    isolate.set_host_import_module_dynamically_callback(esm::import_dynamically);
    isolate.set_host_initialize_import_meta_object_callback(esm::describe_module);
    isolate.set_modify_code_generation_from_strings_callback(allow_global_idiom);
}

/// `Function('return this')()` is how packages written before `globalThis` look for the global object, lodash among
/// them. It generates nothing that could do harm, so modules may have it where code generation is off.
fn allow_global_idiom<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    source: v8::Local<'s, v8::Value>,
    _is_code_like: bool,
) -> v8::ModifyCodeGenerationFromStringsResult<'s> {
    let host = host(scope);
    if let Some(code) = host.evaluated.borrow_mut().take() {
        let modified_source = Some(v8::Local::new(scope, code));
        return v8::ModifyCodeGenerationFromStringsResult { codegen_allowed: true, modified_source };
    }
    // What V8 makes of that call.
    const IDIOM: &str = "(function anonymous(\n) {\nreturn this\n})";
    let is_idiom = v8::Local::<v8::String>::try_from(source)
        .is_ok_and(|text| text.length() == IDIOM.len() && text.to_rust_string_lossy(scope) == IDIOM);
    let codegen_allowed = host.allow_code_generation
        // `eval` of anything but a string generates nothing, and gives it back.
        || !source.is_string()
        || (is_idiom && is_called_by_module(scope));
    v8::ModifyCodeGenerationFromStringsResult { codegen_allowed, modified_source: None }
}

fn is_called_by_module(scope: &mut v8::PinScope<'_, '_>) -> bool {
    let host = host(scope);
    let script = v8::StackTrace::current_stack_trace(scope, 1)
        .and_then(|stack| stack.get_frame(scope, 0))
        .and_then(|frame| frame.get_script_name(scope));
    let (Some(script), Some(modules)) = (script, current(&host)) else {
        return false;
    };
    modules.is_loaded(Path::new(&script.to_rust_string_lossy(scope)))
}

/// Loads a task's module and all it imports, and waits until it has run.
pub(super) fn load<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    realm: &RealmState,
    path: &str,
) -> Result<Exports<'s>, Trouble> {
    let modules = &realm.modules;
    let ready = modules.ready.borrow().get(path).cloned();
    if let Some(ready) = ready {
        let value = v8::Local::new(scope, &ready.exports);
        return Ok(Exports { kind: ready.kind, value });
    }
    let loaded = load_file(scope, host, realm, path);
    match &loaded {
        Ok(exports) => {
            let ready = Ready { kind: exports.kind, exports: v8::Global::new(scope, exports.value) };
            modules.ready.borrow_mut().insert(path.to_owned(), ready);
        }
        Err(_) => modules.failed.set(true),
    }
    loaded
}

fn load_file<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    realm: &RealmState,
    path: &str,
) -> Result<Exports<'s>, Trouble> {
    let modules = &realm.modules;
    let file = host.roots.entry(path)?;
    let format = host.roots.format(&file)?;
    if let Some(module) = es_module(scope, host, modules, &file).ok_or(Trouble::Thrown)? {
        esm::link(scope, host, modules, &file, module).ok_or(Trouble::Thrown)?;
        let done = module.evaluate(scope).ok_or(Trouble::Thrown)?;
        let done = v8::Local::<v8::Promise>::try_from(done).expect("modules evaluate to a promise");
        settle::wait(scope, host, &realm.queue.borrow(), done)?;
        if done.state() == v8::PromiseState::Rejected {
            done.mark_as_handled();
            let reason = done.result(scope);
            let message = v8::Exception::create_message(scope, reason);
            return Err(errors::describe(scope, reason, Some(message)).into());
        }
        let namespace = module.get_module_namespace();
        return Ok(Exports { kind: Format::EsModule, value: v8::Local::new(scope, namespace) });
    }
    let value = cjs::require_file(scope, host, modules, &file).ok_or(Trouble::Thrown)?;
    let kind = if format == Format::Json { Format::Json } else { Format::CommonJs };
    Ok(Exports { kind, value })
}

/// The ES module in a file; `Some(None)`: the file holds something else, which has run now. `None`: it threw.
fn es_module<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    modules: &Modules,
    file: &Path,
) -> Option<Option<v8::Local<'s, v8::Module>>> {
    let known = modules.es.borrow().get(file).cloned();
    if let Some(module) = known {
        // A CommonJS file that has been imported is known by the module that wraps it.
        let module = v8::Local::new(scope, module);
        return Some(module.is_source_text_module().then_some(module));
    }
    let is_common = modules.common.borrow().contains_key(file);
    if is_common {
        return Some(None);
    }
    match parse(scope, host, file)? {
        Parsed::Es(module) => return Some(Some(module)),
        Parsed::Common(body) => {
            cjs::run(scope, modules, file, body)?;
        }
        Parsed::Json(value) => cjs::keep_json(scope, modules, file, value)?,
    }
    Some(None)
}

/// What a task calls in a module.
pub(super) enum Callee<'s> {
    /// A function and its `this`.
    Function(v8::Local<'s, v8::Function>, v8::Local<'s, v8::Value>),
    /// A part of a JSON file: the result itself.
    Data(v8::Local<'s, v8::Value>),
}

/// Picks the function that the task names, or the module's own.
pub(super) fn pick<'s>(
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
        (_, Some(name)) => (export(scope, exports.value, name)?, exports.value),
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
        && v8::Local::<v8::Function>::try_from(value).is_ok_and(|function| function.get_script_line_number().is_none());
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
    let Some(names) = object.get_own_property_names(scope, v8::GetPropertyNamesArgs::default()) else {
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

/// Reads and parses a file; `None`: it threw.
fn parse<'s>(scope: &mut v8::PinScope<'s, '_>, host: &Host, file: &Path) -> Option<Parsed<'s>> {
    let read = host.roots.format(file).and_then(|format| Ok((format, host.roots.read(file)?)));
    let (format, source) = match read {
        Ok(read) => read,
        Err(failure) => return throw(scope, &failure),
    };
    let name = file.to_str().expect("resolving gives text");
    let Some(text) = v8::String::new(scope, &source) else {
        return throw(scope, &JsFailure::new(FailureKind::ModuleDenied, "RangeError", format!("{name} is too long")));
    };
    let parsed = match format {
        Format::Json => parse_json(scope, name, text),
        Format::EsModule => compile_es(scope, name, text).map(Parsed::Es),
        Format::CommonJs => cjs::compile(scope, name, &source).map(Parsed::Common),
        Format::Unknown => compile_either(scope, name, &source, text),
    };
    match parsed {
        Ok(parsed) => Some(parsed),
        Err(Trouble::Thrown) => None,
        Err(Trouble::Failed(failure)) => throw(scope, &failure),
    }
}

/// CommonJS unless only the module grammar accepts the file, as Node does it.
fn compile_either<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    name: &str,
    source: &str,
    text: v8::Local<'s, v8::String>,
) -> Result<Parsed<'s>, Trouble> {
    let as_common = match cjs::compile(scope, name, source) {
        Ok(body) => return Ok(Parsed::Common(body)),
        Err(trouble) => trouble,
    };
    match compile_es(scope, name, text) {
        Ok(module) => Ok(Parsed::Es(module)),
        Err(as_module) => {
            let is_module = ["import ", "import{", "export "].iter().any(|word| source.contains(word));
            Err(if is_module { as_module } else { as_common })
        }
    }
}

fn compile_es<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    name: &str,
    text: v8::Local<'s, v8::String>,
) -> Result<v8::Local<'s, v8::Module>, Trouble> {
    let origin = origin(scope, name, 0, true);
    let mut source = v8::script_compiler::Source::new(text, Some(&origin));
    compile_text(scope, |scope| v8::script_compiler::compile_module(scope, &mut source))
}

fn parse_json<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    name: &str,
    text: v8::Local<'s, v8::String>,
) -> Result<Parsed<'s>, Trouble> {
    v8::tc_scope!(let scope, scope);
    match v8::json::parse(scope, text) {
        Some(value) => Ok(Parsed::Json(value)),
        None if scope.has_terminated() => Err(Trouble::Thrown),
        None => Err(JsFailure::new(FailureKind::Syntax, "SyntaxError", format!("{name} is not valid JSON")).into()),
    }
}

/// Throws a failure to load, in JavaScript.
fn throw<T>(scope: &mut v8::PinScope<'_, '_>, failure: &JsFailure) -> Option<T> {
    let error = errors::to_exception(scope, failure);
    scope.throw_exception(error);
    None
}

/// The modules of the running task's context.
fn current(host: &Host) -> Option<Rc<Modules>> {
    host.modules.borrow().clone()
}
