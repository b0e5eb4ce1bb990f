//! ES modules: the graph of import statements, loaded whole before V8 links it.
//!
//! Nothing runs while a graph is loaded and linked; V8 evaluates it in the order of the language.

use std::collections::HashSet;
use std::path::Path;

use super::super::errors::{self, Trouble};
use super::super::host::{Host, host, or_thrown};
use super::super::task::{FailureKind, JsFailure};
use super::address::{Address, As};
use super::refusal::Refusal;
use super::{Modules, NO_ROOM, Parsed, cjs, current, parse, refuse, throw, wrap};

/// Names that one graph may ask CommonJS files for beyond what their texts show.
const MAX_ASKED_NAMES: usize = 1000;

/// Loads what the module imports, and links it all; `None`: it threw.
pub(super) fn link<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    modules: &Modules,
    address: &Address,
    module: v8::Local<'s, v8::Module>,
) -> Option<()> {
    if module.get_status() != v8::ModuleStatus::Uninstantiated {
        return Some(());
    }
    load(scope, host, modules, address, module)?;
    for _ in 0..MAX_ASKED_NAMES {
        let Err((failure, referrer)) = try_link(scope, module)? else {
            return Some(());
        };
        let referrer = referrer.and_then(|name| address_named(modules, &name, address));
        let is_offered =
            referrer.is_some_and(|referrer| wrap::offer(scope, modules, &referrer, &failure));
        if !is_offered {
            return throw(scope, &failure);
        }
    }
    throw(
        scope,
        &JsFailure::new(
            FailureKind::Syntax,
            "SyntaxError",
            "too many names are imported from CommonJS files",
        ),
    )
}

/// Of the modules that are being linked, the one whose script has the name.
fn address_named(modules: &Modules, name: &str, root: &Address) -> Option<Address> {
    let mut seen = HashSet::from([root.clone()]);
    let mut to_visit = vec![root.clone()];
    while let Some(address) = to_visit.pop() {
        if address.shape == As::Itself && address.place.name() == name {
            return Some(address);
        }
        for (_, target) in modules.es.links_of(&address) {
            if seen.insert(target.clone()) {
                to_visit.push(target);
            }
        }
    }
    None
}

type Unlinked = (JsFailure, Option<String>);

/// Has V8 link a graph. An error of the sources comes with the name of the script that it is in.
fn try_link<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    module: v8::Local<'s, v8::Module>,
) -> Option<Result<(), Unlinked>> {
    v8::tc_scope!(let scope, scope);
    if module.instantiate_module(scope, find_import) == Some(true) {
        return Some(Ok(()));
    }
    if let (Some(thrown), false) = (scope.exception(), scope.has_terminated()) {
        let message = scope.message();
        let failure = errors::describe_syntax(scope, thrown, message);
        if failure.name == "SyntaxError" {
            let script = message.and_then(|message| message.get_script_resource_name(scope));
            let script = script.map(|name| name.to_rust_string_lossy(scope));
            return Some(Err((failure, script)));
        }
    }
    scope.rethrow();
    None
}

/// Parses or wraps everything that the module needs; `None`: it threw.
fn load<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    modules: &Modules,
    address: &Address,
    module: v8::Local<'s, v8::Module>,
) -> Option<()> {
    let mut seen = HashSet::from([address.clone()]);
    let mut to_visit = vec![(address.clone(), module)];
    while let Some((referrer, module)) = to_visit.pop() {
        let is_new = module.is_source_text_module()
            && module.get_status() == v8::ModuleStatus::Uninstantiated;
        if !is_new {
            continue;
        }
        for import in imports(scope, host, modules, &referrer, module)? {
            if seen.insert(import.clone()) {
                let imported = module_at(scope, host, modules, &import, referrer.file())?;
                to_visit.push((import, imported));
            }
        }
    }
    Some(())
}

/// The module at an address, parsed or wrapped if it is not yet; `None`: it threw.
pub(super) fn module_at<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    modules: &Modules,
    address: &Address,
    referrer: &Path,
) -> Option<v8::Local<'s, v8::Module>> {
    if let Some(module) = modules.es.get(scope, address) {
        return Some(module);
    }
    let file = address.file();
    if address.shape == As::Json && !wrap::is_json(file) {
        let what = format!("cannot import {} as JSON: it is not a .json file", file.display());
        let refusal = Refusal::attributes("ERR_IMPORT_ATTRIBUTE_TYPE_INCOMPATIBLE", what);
        return refuse(scope, refusal.asked_by(referrer));
    }
    if !modules.common.knows(file) {
        match parse(scope, host, address, Some(referrer))? {
            Parsed::Es(module) => {
                modules.es.put(scope, address.clone(), module);
                return Some(module);
            }
            Parsed::Common(body) => modules.common.keep(scope, file, body),
            Parsed::Json(value) => cjs::keep_json(scope, modules, file, value)?,
        }
    }
    wrap::wrap(scope, host, modules, address)
}

/// The addresses that a module's import statements name.
fn imports<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    modules: &Modules,
    referrer: &Address,
    module: v8::Local<'s, v8::Module>,
) -> Option<Vec<Address>> {
    let requests = module.get_module_requests();
    let mut addresses = Vec::with_capacity(requests.length());
    for index in 0..requests.length() {
        let request = requests.get(scope, index)?;
        let request = v8::Local::<v8::ModuleRequest>::try_from(request).ok()?;
        let specifier = request.get_specifier().to_rust_string_lossy(scope);
        let shape = match shape(&texts(scope, request.get_import_attributes()), WITH_PLACES) {
            Ok(shape) => shape,
            Err(refusal) => return refuse(scope, refusal.asked_by(referrer.file())),
        };
        let request = (specifier, shape);
        // What a specifier means in a module never changes.
        let address = match modules.es.linked(referrer, &request) {
            Some(address) => address,
            None => match host.roots.import(&request.0, referrer.file()) {
                Ok(place) => Address { place, shape },
                Err(refusal) => return refuse(scope, refusal),
            },
        };
        modules.es.link(referrer, request, address.clone());
        addresses.push(address);
    }
    Some(addresses)
}

/// Called by V8 while linking: which module an import statement means.
fn find_import<'s>(
    context: v8::Local<'s, v8::Context>,
    specifier: v8::Local<'s, v8::String>,
    attributes: v8::Local<'s, v8::FixedArray>,
    referrer: v8::Local<'s, v8::Module>,
) -> Option<v8::Local<'s, v8::Module>> {
    #[expect(unsafe_code, reason = "V8 calls with a context and without a scope")]
    // SAFETY: V8 calls this inside the scope that `instantiate_module` was called with.
    let storage = std::pin::pin!(unsafe { v8::CallbackScope::new(context) });
    let scope = &mut storage.init();
    or_thrown(scope, NO_ROOM, |scope| {
        let host = host(scope);
        let modules = current(&host)?;
        let referrer = modules.es.address_of(scope, referrer)?;
        let shape = shape(&texts(scope, attributes), WITH_PLACES).ok()?;
        let target =
            modules.es.linked(&referrer, &(specifier.to_rust_string_lossy(scope), shape))?;
        modules.es.get(scope, &target)
    })
}

/// V8 gives the attributes of a statement in threes, with their place in the source.
const WITH_PLACES: usize = 3;

/// V8 gives the attributes of `import()` in twos.
pub(super) const ALONE: usize = 2;

/// The texts in V8's list of attributes; what is no text is empty.
pub(super) fn texts(
    scope: &mut v8::PinScope<'_, '_>,
    attributes: v8::Local<'_, v8::FixedArray>,
) -> Vec<String> {
    let mut texts = Vec::with_capacity(attributes.length());
    for index in 0..attributes.length() {
        let text = attributes
            .get(scope, index)
            .and_then(|data| v8::Local::<v8::Value>::try_from(data).ok());
        let text = text.filter(|value| value.is_string());
        texts.push(text.map(|text| text.to_rust_string_lossy(scope)).unwrap_or_default());
    }
    texts
}

/// As what an import asks for its module. `stride`: how many entries belong to one attribute.
pub(super) fn shape(attributes: &[String], stride: usize) -> Result<As, Refusal> {
    let mut shape = As::Itself;
    for attribute in attributes.chunks(stride) {
        match attribute {
            [name, value, ..] if name == "type" && value == "json" => shape = As::Json,
            [name, value, ..] => {
                let what = format!(
                    "the import attribute {name}: {value:?} is not supported; \"type\" may \
                     be \"json\""
                );
                return Err(if name == "type" {
                    Refusal::attributes("ERR_IMPORT_ATTRIBUTE_UNSUPPORTED", what)
                } else {
                    Refusal::unknown_attribute(stride == WITH_PLACES, what)
                });
            }
            _ => {}
        }
    }
    Ok(shape)
}

/// Evaluates a linked module; `None`: it threw.
pub(super) fn evaluate<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    module: v8::Local<'s, v8::Module>,
) -> Option<v8::Local<'s, v8::Promise>> {
    let done = module.evaluate(scope)?;
    Some(v8::Local::<v8::Promise>::try_from(done).expect("modules evaluate to a promise"))
}

/// Whether a failure to compile is one of the source's grammar, and not of the engine's room.
pub(super) fn is_grammar(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Failed(failure) if failure.kind == FailureKind::Syntax)
}
