//! The ES modules that a context knows: by address, by name, and by V8's own object.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;

use super::address::{Address, As};

/// A specifier as a module's source has it, and the shape that is asked for.
type Request = (String, As);

/// Modules of one identity hash.
type SameHash = Vec<(v8::Global<v8::Module>, Address)>;

#[derive(Default)]
pub(super) struct Registry {
    modules: RefCell<HashMap<Address, v8::Global<v8::Module>>>,
    /// By V8's identity hash, which several may share.
    addresses: RefCell<HashMap<i32, SameHash>>,
    /// What the import statements of a module mean.
    links: RefCell<HashMap<Address, HashMap<Request, Address>>>,
    /// By the name that V8 has for their scripts.
    names: RefCell<HashMap<String, PathBuf>>,
}

impl Registry {
    pub(super) fn get<'s>(
        &self,
        scope: &mut v8::PinScope<'s, '_>,
        address: &Address,
    ) -> Option<v8::Local<'s, v8::Module>> {
        self.modules.borrow().get(address).map(|module| v8::Local::new(scope, module))
    }

    /// As `get`, unless the module stands for a file of another kind.
    pub(super) fn source<'s>(
        &self,
        scope: &mut v8::PinScope<'s, '_>,
        address: &Address,
    ) -> Option<v8::Local<'s, v8::Module>> {
        self.get(scope, address).filter(|module| module.is_source_text_module())
    }

    /// From here on the address means this module. One that had it before keeps its address.
    pub(super) fn put(
        &self,
        scope: &mut v8::PinScope<'_, '_>,
        address: Address,
        module: v8::Local<'_, v8::Module>,
    ) {
        let handle = v8::Global::new(scope, module);
        let hash = module.get_identity_hash().get();
        self.addresses
            .borrow_mut()
            .entry(hash)
            .or_default()
            .push((handle.clone(), address.clone()));
        if module.is_source_text_module() && address.shape == As::Itself {
            self.names.borrow_mut().insert(address.place.name(), address.place.file.clone());
        }
        self.modules.borrow_mut().insert(address, handle);
    }

    pub(super) fn address_of(
        &self,
        scope: &mut v8::PinScope<'_, '_>,
        module: v8::Local<'_, v8::Module>,
    ) -> Option<Address> {
        let addresses = self.addresses.borrow();
        let same_hash = addresses.get(&module.get_identity_hash().get())?;
        let known = same_hash.iter().find(|(handle, _)| v8::Local::new(scope, handle) == module);
        known.map(|(_, address)| address.clone())
    }

    /// The file of the ES module whose script has the name.
    pub(super) fn file_named(&self, name: &str) -> Option<PathBuf> {
        self.names.borrow().get(name).cloned()
    }

    pub(super) fn link(&self, referrer: &Address, request: Request, target: Address) {
        self.links.borrow_mut().entry(referrer.clone()).or_default().insert(request, target);
    }

    pub(super) fn linked(&self, referrer: &Address, request: &Request) -> Option<Address> {
        self.links.borrow().get(referrer)?.get(request).cloned()
    }

    /// Every specifier of a module, with what it means.
    pub(super) fn links_of(&self, referrer: &Address) -> Vec<(String, Address)> {
        let links = self.links.borrow();
        let links = links.get(referrer).into_iter().flatten();
        links.map(|((specifier, _), target)| (specifier.clone(), target.clone())).collect()
    }
}
