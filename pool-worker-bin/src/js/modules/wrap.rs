//! CommonJS and JSON seen from an ES module: a module of V8's that takes its exports from the file.
//!
//! A CommonJS file runs when its turn in the graph comes, and not before. So the names of its
//! exports are found in its text, as in Node. Beyond Node, a name that an import asks for and that
//! the text does not show is looked for when the file has run.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;

use super::super::host::{Host, host, key, or_thrown};
use super::super::task::{FailureKind, JsFailure};
use super::address::{Address, As};
use super::cjs::{self, Asker};
use super::lexer::Lexer;
use super::resolve::Format;
use super::{Modules, NO_ROOM, current, throw};

/// Names that a file's exports are seen under at most.
const MAX_NAMES: usize = 10_000;

/// Files that are read for the names of one.
const MAX_FILES: usize = 1000;

/// The modules that stand for files of another kind, by V8's identity hash, which several may
/// share.
#[derive(Default)]
pub(super) struct Wraps(RefCell<HashMap<i32, SameHash>>);

type SameHash = Vec<(v8::Global<v8::Module>, Rc<Wrap>)>;

/// What a module of this kind has to set.
struct Wrap {
    address: Address,
    /// Besides `default`.
    names: Vec<String>,
    /// Those of the names that an import has asked for by itself.
    asked: HashSet<String>,
}

impl Wraps {
    fn get(
        &self,
        scope: &mut v8::PinScope<'_, '_>,
        module: v8::Local<'_, v8::Module>,
    ) -> Option<Rc<Wrap>> {
        let wraps = self.0.borrow();
        let same_hash = wraps.get(&module.get_identity_hash().get())?;
        let known = same_hash.iter().find(|(handle, _)| v8::Local::new(scope, handle) == module);
        known.map(|(_, wrap)| Rc::clone(wrap))
    }
}

/// A module for a file that is known to hold no ES module; `None`: it threw.
pub(super) fn wrap<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    modules: &Modules,
    address: &Address,
) -> Option<v8::Local<'s, v8::Module>> {
    let names = if address.shape == As::Json {
        Vec::new()
    } else if is_json(address.file()) {
        names_in_json(scope, host, modules, address.file())?
    } else {
        names_in_text(scope, host, address.file())?
    };
    Some(make(scope, modules, Wrap { address: address.clone(), names, asked: HashSet::new() }))
}

fn make<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    modules: &Modules,
    wrap: Wrap,
) -> v8::Local<'s, v8::Module> {
    let mut names = vec![key(scope, "default")];
    names.extend(wrap.names.iter().map(|name| key(scope, name)));
    let name = key(scope, &wrap.address.place.name());
    let module = v8::Module::create_synthetic_module(scope, name, &names, set_exports);
    let handle = v8::Global::new(scope, module);
    let hash = module.get_identity_hash().get();
    modules.es.put(scope, wrap.address.clone(), module);
    modules.wraps.0.borrow_mut().entry(hash).or_default().push((handle, Rc::new(wrap)));
    module
}

/// After linking has failed: if it did because a name of a CommonJS file is not in the file's text,
/// the file gets a module that has it too. Whether it was that.
pub(super) fn offer(
    scope: &mut v8::PinScope<'_, '_>,
    modules: &Modules,
    referrer: &Address,
    failure: &JsFailure,
) -> bool {
    let asked = modules.es.links_of(referrer).into_iter().find_map(|(specifier, target)| {
        // V8's own words.
        let head = format!("The requested module '{specifier}' does not provide an export named '");
        let (name, _place) = failure.message.strip_prefix(&head)?.rsplit_once('\'')?;
        Some((target, name.to_owned()))
    });
    let Some((target, name)) = asked else {
        return false;
    };
    let is_common = target.shape == As::Itself && !is_json(target.file());
    let Some(old) =
        modules.es.get(scope, &target).and_then(|module| modules.wraps.get(scope, module))
    else {
        return false;
    };
    if !is_common || old.names.contains(&name) || old.names.len() >= MAX_NAMES {
        return false;
    }
    let mut names = old.names.clone();
    names.push(name.clone());
    let mut asked = old.asked.clone();
    asked.insert(name);
    make(scope, modules, Wrap { address: target, names, asked });
    true
}

pub(super) fn is_json(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "json")
}

fn names_in_json(
    scope: &mut v8::PinScope<'_, '_>,
    host: &Host,
    modules: &Modules,
    file: &Path,
) -> Option<Vec<String>> {
    let value = cjs::require_file(scope, host, modules, file, Asker::Import)?;
    let Ok(object) = v8::Local::<v8::Object>::try_from(value) else {
        return Some(Vec::new());
    };
    let keys = object.get_own_property_names(
        scope,
        v8::GetPropertyNamesArgs {
            key_conversion: v8::KeyConversionMode::ConvertToString,
            ..Default::default()
        },
    )?;
    let mut names = Vec::new();
    for index in 0..keys.length().min(MAX_NAMES as u32) {
        let name = keys.get_index(scope, index)?.to_rust_string_lossy(scope);
        if name != "default" {
            names.push(name);
        }
    }
    Some(names)
}

/// The names that the text of a file shows, and those of the files whose exports it gives as its
/// own.
fn names_in_text(
    scope: &mut v8::PinScope<'_, '_>,
    host: &Host,
    file: &Path,
) -> Option<Vec<String>> {
    let lexer = lexer(scope, host)?;
    // Beside `default`, as in Node.
    let mut names = vec!["module.exports".to_owned()];
    let mut known: HashSet<String> = ["default", "module.exports"].map(str::to_owned).into();
    let mut seen = HashSet::new();
    let mut to_read = vec![file.to_owned()];
    while let Some(file) = to_read.pop() {
        let is_text = matches!(host.roots.format(&file), Ok(Format::CommonJs | Format::Unknown));
        if !is_text || seen.len() >= MAX_FILES || !seen.insert(file.clone()) {
            continue;
        }
        // What cannot be read says so when it is loaded.
        let Ok(source) = host.roots.read(&file) else {
            continue;
        };
        let lexed = lexer.lex(scope, &source)?;
        for name in lexed.exports {
            if names.len() < MAX_NAMES && known.insert(name.clone()) {
                names.push(name);
            }
        }
        to_read
            .extend(lexed.reexports.iter().filter_map(|name| host.roots.require(name, &file).ok()));
    }
    Some(names)
}

fn lexer(scope: &mut v8::PinScope<'_, '_>, host: &Host) -> Option<Rc<Lexer>> {
    let made = host.lexer.borrow().clone();
    if made.is_some() {
        return made;
    }
    let made = Rc::new(Lexer::new(scope)?);
    *host.lexer.borrow_mut() = Some(Rc::clone(&made));
    Some(made)
}

/// Called by V8 when it is the file's turn: runs it, and gives the names their values.
fn set_exports<'s>(
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
        let wrap = modules.wraps.get(scope, module)?;
        let file = wrap.address.file();
        let is_outermost = modules.common.start(file);
        let exports = cjs::require_file(scope, &host, &modules, file, Asker::Import);
        if is_outermost {
            modules.common.finish(file);
        }
        let exports = exports?;
        let default = key(scope, "default");
        module.set_synthetic_module_export(scope, default, exports)?;
        for name in &wrap.names {
            let value = if name == "module.exports" && !is_json(file) {
                exports
            } else {
                match export(scope, exports, name)? {
                    Some(value) => value,
                    None if wrap.asked.contains(name) => {
                        return throw(scope, &not_exported(file, name));
                    }
                    None => continue,
                }
            };
            let name = key(scope, name);
            module.set_synthetic_module_export(scope, name, value)?;
        }
        let resolver = v8::PromiseResolver::new(scope)?;
        let undefined = v8::undefined(scope);
        resolver.resolve(scope, undefined.into())?;
        Some(resolver.get_promise(scope).into())
    })
}

/// An own property of the exports, `Some(None)` if it is not there or cannot be had; `None`: the
/// task is being told to stop.
fn export<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    exports: v8::Local<'s, v8::Value>,
    name: &str,
) -> Option<Option<v8::Local<'s, v8::Value>>> {
    let Ok(object) = v8::Local::<v8::Object>::try_from(exports) else {
        return Some(None);
    };
    v8::tc_scope!(let scope, scope);
    let name = key(scope, name);
    let value = match object.has_own_property(scope, name.into()) {
        Some(true) => object.get(scope, name.into()),
        _ => None,
    };
    if scope.has_terminated() {
        scope.rethrow();
        return None;
    }
    scope.reset();
    Some(value)
}

fn not_exported(file: &Path, name: &str) -> JsFailure {
    let message =
        format!("The module '{}' does not provide an export named '{name}'", file.display());
    JsFailure::new(FailureKind::Syntax, "SyntaxError", message)
}
