//! `require` of an ES module: at once, or not at all.

use std::collections::HashSet;

use super::super::host::{Host, key, text};
use super::address::{Address, As};
use super::refusal::Refusal;
use super::{Modules, compile_es, esm, refuse, throw_trouble};

/// Gives an ES module's exports the mark by which code from Babel and TypeScript looks for the
/// default.
const MARKED: &str =
    "export * from 'original'; export { default } from 'original'; export const __esModule = true;";

/// The name of the module that `MARKED` means.
const ORIGINAL: &str = "original";

/// What `require` gives for the module, which works where nothing in it awaits at the top; `None`:
/// it threw.
pub(super) fn require<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    modules: &Modules,
    address: &Address,
    module: v8::Local<'s, v8::Module>,
) -> Option<v8::Local<'s, v8::Value>> {
    let file = address.file();
    esm::link(scope, host, modules, address, module)?;
    if is_running(scope, modules, address, module) {
        let why =
            "it is being loaded, or needs a module that is, and that module waits for this require";
        return refuse(scope, Refusal::not_required("ERR_REQUIRE_CYCLE_MODULE", file, why));
    }
    if module.is_graph_async() {
        let why = "it awaits at its top level; use import()";
        return refuse(scope, Refusal::not_required("ERR_REQUIRE_ASYNC_MODULE", file, why));
    }
    let done = esm::evaluate(scope, module)?;
    match done.state() {
        v8::PromiseState::Fulfilled => exports(scope, host, modules, address, module),
        v8::PromiseState::Rejected => {
            done.mark_as_handled();
            let reason = done.result(scope);
            scope.throw_exception(reason);
            None
        }
        v8::PromiseState::Pending => {
            let why = "it has not finished loading";
            refuse(scope, Refusal::not_required("ERR_REQUIRE_ASYNC_MODULE", file, why))
        }
    }
}

/// Whether the module, or one that must be evaluated before it, is in the middle of its evaluation.
/// V8 must not be asked to evaluate such a graph: it ends the process.
pub(super) fn is_running(
    scope: &mut v8::PinScope<'_, '_>,
    modules: &Modules,
    address: &Address,
    module: v8::Local<'_, v8::Module>,
) -> bool {
    let module = v8::Local::new(scope, module);
    let mut seen = HashSet::from([address.clone()]);
    let mut to_visit = vec![(address.clone(), module)];
    while let Some((address, module)) = to_visit.pop() {
        if modules.common.is_running(address.file()) {
            return true;
        }
        match module.get_status() {
            v8::ModuleStatus::Evaluating | v8::ModuleStatus::Instantiating => return true,
            v8::ModuleStatus::Instantiated => {}
            v8::ModuleStatus::Uninstantiated
            | v8::ModuleStatus::Evaluated
            | v8::ModuleStatus::Errored => continue,
        }
        for (_, target) in modules.es.links_of(&address) {
            if seen.insert(target.clone())
                && let Some(module) = modules.es.get(scope, &target)
            {
                to_visit.push((target, module));
            }
        }
    }
    false
}

/// The module has been evaluated.
fn exports<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    modules: &Modules,
    address: &Address,
    module: v8::Local<'s, v8::Module>,
) -> Option<v8::Local<'s, v8::Value>> {
    let namespace = module.get_module_namespace();
    let object = v8::Local::<v8::Object>::try_from(namespace).ok()?;
    let own = key(scope, "module.exports");
    if object.has_own_property(scope, own.into())? {
        return object.get(scope, own.into());
    }
    let (default, mark) = (key(scope, "default"), key(scope, "__esModule"));
    let has_default = object.has_own_property(scope, default.into())?;
    if !has_default || object.has_own_property(scope, mark.into())? {
        return Some(v8::Local::new(scope, namespace));
    }
    let marked = Address { shape: As::Required, ..address.clone() };
    let module = match modules.es.get(scope, &marked) {
        Some(module) => module,
        None => mark_exports(scope, host, modules, address, marked)?,
    };
    let namespace = module.get_module_namespace();
    Some(v8::Local::new(scope, namespace))
}

fn mark_exports<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    modules: &Modules,
    original: &Address,
    marked: Address,
) -> Option<v8::Local<'s, v8::Module>> {
    let source = text(scope, MARKED);
    let module = match compile_es(scope, &original.place.name(), source) {
        Ok(module) => module,
        Err(trouble) => return throw_trouble(scope, trouble),
    };
    modules.es.link(&marked, (ORIGINAL.to_owned(), As::Itself), original.clone());
    modules.es.put(scope, marked.clone(), module);
    esm::link(scope, host, modules, &marked, module)?;
    module.evaluate(scope)?;
    Some(module)
}
