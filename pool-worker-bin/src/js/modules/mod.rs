//! Modules of a task: ES modules, CommonJS and JSON, from files below the configured roots.
//!
//! Owns what a context has loaded; a module is loaded once per context. `resolve`, `roots` and
//! `package` decide which file a name means, `esm`, `dynamic` and `cjs` run it, `wrap` and
//! `require_es` show each kind to the other. A module that cannot be loaded throws in JavaScript,
//! where a package may catch it; the error carries the kind of failure for the case that nobody
//! does.

mod address;
mod callee;
mod cjs;
mod dynamic;
mod esm;
mod lexer;
mod package;
mod refusal;
mod registry;
mod require_es;
mod resolve;
mod roots;
mod wrap;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::code::{compile_text, origin};
use super::context::RealmState;
use super::errors::{self, Trouble};
use super::host::{Host, host, key, text};
use super::settle;
use super::task::{FailureKind, JsFailure};
use address::Address;
pub(super) use callee::{Callee, pick};
use cjs::Asker;
pub(super) use lexer::Lexer;
use refusal::Refusal;
use resolve::Format;
pub(super) use resolve::ModuleRoots;

/// For the failures of V8 that come without a reason.
const NO_ROOM: &str = "there is no room for the module";

/// What one context has loaded.
#[derive(Default)]
pub(super) struct Modules {
    /// By a task's `modulePath`.
    ready: RefCell<HashMap<String, Ready>>,
    es: registry::Registry,
    common: cjs::Common,
    wraps: wrap::Wraps,
    failed: Cell<bool>,
    is_prepared: Cell<bool>,
}

impl Modules {
    /// Whether a task's module could not be loaded, so that parts of it may be left behind.
    pub(super) fn failed(&self) -> bool {
        self.failed.get()
    }

    /// The file of the module, loaded or about to be, whose script has the name.
    fn file_named(&self, script: &str) -> Option<PathBuf> {
        let common = || Some(PathBuf::from(script)).filter(|file| self.common.knows(file));
        self.es.file_named(script).or_else(common)
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
    isolate.set_host_import_module_dynamically_callback(dynamic::import_dynamically);
    isolate.set_host_initialize_import_meta_object_callback(dynamic::describe_module);
    isolate.set_modify_code_generation_from_strings_callback(allow_global_idiom);
}

/// `Function('return this')()` is how packages written before `globalThis` look for the global
/// object, lodash among them. It generates nothing that could do harm, so modules may have it where
/// code generation is off.
fn allow_global_idiom<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    source: v8::Local<'s, v8::Value>,
    _is_code_like: bool,
) -> v8::ModifyCodeGenerationFromStringsResult<'s> {
    let host = host(scope);
    if let Some(code) = host.evaluated.borrow_mut().take() {
        let modified_source = Some(v8::Local::new(scope, code));
        return v8::ModifyCodeGenerationFromStringsResult {
            codegen_allowed: true,
            modified_source,
        };
    }
    // What V8 makes of that call.
    const IDIOM: &str = "(function anonymous(\n) {\nreturn this\n})";
    let is_idiom = v8::Local::<v8::String>::try_from(source).is_ok_and(|text| {
        text.length() == IDIOM.len() && text.to_rust_string_lossy(scope) == IDIOM
    });
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
    modules.file_named(&script.to_rust_string_lossy(scope)).is_some()
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
    prepare(scope, host, modules).ok_or(Trouble::Thrown)?;
    let loaded = load_file(scope, host, realm, path);
    match &loaded {
        Ok(exports) => {
            let ready =
                Ready { kind: exports.kind, exports: v8::Global::new(scope, exports.value) };
            modules.ready.borrow_mut().insert(path.to_owned(), ready);
        }
        Err(_) => modules.failed.set(true),
    }
    loaded
}

/// Gives a context what packages expect that were written for bundlers: `process.env.NODE_ENV`.
fn prepare(scope: &mut v8::PinScope<'_, '_>, host: &Host, modules: &Modules) -> Option<()> {
    let Some(node_env) = host.node_env.as_deref().filter(|_| !modules.is_prepared.replace(true))
    else {
        return Some(());
    };
    let global = scope.get_current_context().global(scope);
    let name = key(scope, "process");
    if global.has_own_property(scope, name.into())? {
        return Some(());
    }
    let (process, env) = (v8::Object::new(scope), v8::Object::new(scope));
    let value = text(scope, node_env);
    // Bundlers set it too. Without it, packages take whatever is called `process` for Node.
    let is_browser = v8::Boolean::new(scope, true);
    let fields: [(_, &str, v8::Local<v8::Value>); 3] = [
        (env, "NODE_ENV", value.into()),
        (process, "env", env.into()),
        (process, "browser", is_browser.into()),
    ];
    for (holder, field, value) in fields {
        let field = key(scope, field);
        holder.create_data_property(scope, field.into(), value)?;
    }
    // A global object that the task has frozen goes without.
    global.define_own_property(
        scope,
        name.into(),
        process.into(),
        v8::PropertyAttribute::DONT_ENUM,
    )?;
    Some(())
}

fn load_file<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    realm: &RealmState,
    path: &str,
) -> Result<Exports<'s>, Trouble> {
    let modules = &realm.modules;
    let file = host.roots.entry(path).map_err(JsFailure::from)?;
    let address = Address::of(&file);
    let Some(module) = entry(scope, host, modules, &address).ok_or(Trouble::Thrown)? else {
        let value =
            cjs::require_file(scope, host, modules, &file, Asker::Task).ok_or(Trouble::Thrown)?;
        let kind = if wrap::is_json(&file) { Format::Json } else { Format::CommonJs };
        return Ok(Exports { kind, value });
    };
    esm::link(scope, host, modules, &address, module).ok_or(Trouble::Thrown)?;
    let done = esm::evaluate(scope, module).ok_or(Trouble::Thrown)?;
    settle::wait(scope, host, &realm.queue.borrow(), done)?;
    if done.state() == v8::PromiseState::Rejected {
        done.mark_as_handled();
        let reason = done.result(scope);
        let message = v8::Exception::create_message(scope, reason);
        return Err(errors::describe(scope, reason, Some(message)).into());
    }
    let namespace = module.get_module_namespace();
    Ok(Exports { kind: Format::EsModule, value: v8::Local::new(scope, namespace) })
}

/// The ES module of a task's file; `Some(None)`: the file holds something else. `None`: it threw.
fn entry<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    modules: &Modules,
    address: &Address,
) -> Option<Option<v8::Local<'s, v8::Module>>> {
    if let Some(module) = modules.es.source(scope, address) {
        return Some(Some(module));
    }
    let file = address.file();
    if modules.common.knows(file) {
        return Some(None);
    }
    match parse(scope, host, address, None)? {
        Parsed::Es(module) => {
            modules.es.put(scope, address.clone(), module);
            return Some(Some(module));
        }
        Parsed::Common(body) => modules.common.keep(scope, file, body),
        Parsed::Json(value) => cjs::keep_json(scope, modules, file, value)?,
    }
    Some(None)
}

/// Reads and parses a file; `None`: it threw.
fn parse<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    address: &Address,
    asked_by: Option<&Path>,
) -> Option<Parsed<'s>> {
    let file = address.file();
    let read = host.roots.format(file).and_then(|format| Ok((format, host.roots.read(file)?)));
    let (format, source) = match read {
        Ok(read) => read,
        Err(refusal) => {
            let refusal = match asked_by {
                Some(referrer) => refusal.asked_by(referrer),
                None => refusal,
            };
            return refuse(scope, refusal);
        }
    };
    let name = address.place.name();
    let Some(text) = v8::String::new(scope, &source) else {
        return throw(
            scope,
            &JsFailure::new(FailureKind::ModuleDenied, "RangeError", format!("{name} is too long")),
        );
    };
    let parsed = match format {
        Format::Json => parse_json(scope, &name, text),
        Format::EsModule => compile_es(scope, &name, text).map(Parsed::Es),
        // It is one however it is asked for, so its name has no query.
        Format::CommonJs => {
            cjs::compile(scope, &file.to_string_lossy(), &source).map(Parsed::Common)
        }
        Format::Unknown => compile_either(scope, address, &source, text),
    };
    match parsed {
        Ok(parsed) => Some(parsed),
        Err(trouble) => throw_trouble(scope, trouble),
    }
}

/// CommonJS unless only the module grammar accepts the file, as Node does it.
fn compile_either<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    address: &Address,
    source: &str,
    text: v8::Local<'s, v8::String>,
) -> Result<Parsed<'s>, Trouble> {
    let as_common = match cjs::compile(scope, &address.file().to_string_lossy(), source) {
        Ok(body) => return Ok(Parsed::Common(body)),
        // Where the engine has no room, the grammar says nothing.
        Err(trouble) if !esm::is_grammar(&trouble) => return Err(trouble),
        Err(trouble) => trouble,
    };
    match compile_es(scope, &address.place.name(), text) {
        Ok(module) => Ok(Parsed::Es(module)),
        Err(as_module) => {
            let is_module =
                ["import ", "import{", "export "].iter().any(|word| source.contains(word));
            Err(if is_module || !esm::is_grammar(&as_module) { as_module } else { as_common })
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
        None => Err(JsFailure::new(
            FailureKind::Syntax,
            "SyntaxError",
            format!("{name} is not valid JSON"),
        )
        .into()),
    }
}

/// Throws a failure to load, in JavaScript.
fn throw<T>(scope: &mut v8::PinScope<'_, '_>, failure: &JsFailure) -> Option<T> {
    let error = errors::to_exception(scope, failure);
    scope.throw_exception(error);
    None
}

/// Throws why a module is not loaded, with the code that packages look at.
fn refuse<T>(scope: &mut v8::PinScope<'_, '_>, refusal: Refusal) -> Option<T> {
    let code = refusal.code;
    let error = errors::to_exception(scope, &refusal.into());
    if let Ok(object) = v8::Local::<v8::Object>::try_from(error) {
        let (name, code) = (key(scope, "code"), text(scope, code));
        object.create_data_property(scope, name.into(), code.into());
    }
    scope.throw_exception(error);
    None
}

fn throw_trouble<T>(scope: &mut v8::PinScope<'_, '_>, trouble: Trouble) -> Option<T> {
    match trouble {
        Trouble::Thrown => None,
        Trouble::Failed(failure) => throw(scope, &failure),
    }
}

/// The modules of the running task's context.
fn current(host: &Host) -> Option<Rc<Modules>> {
    host.modules.borrow().clone()
}
