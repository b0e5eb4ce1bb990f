//! Whether anything that a task can reach comes from outside of its realm.
//!
//! Walks from some objects to everything they lead to, by V8's own knowledge of each object: where
//! it was created, what a proxy hides, what a collection holds. Nothing of the task's runs, but one
//! thing: a native function that the realm did not have before the task is called, to see what it
//! gives.

use std::collections::{HashMap, VecDeque};

use super::super::errors::own_data;
use super::super::host::key;

/// Objects that one walk looks at: far more than a realm has.
const MAX_OBJECTS: usize = 200_000;

/// Where no name of a global leads: what only syntax makes.
const HIDDEN_ROOTS: &str = "[
    function* () {}, async function () {}, async function* () {}, (function* () {})(), (async \
    function* () {})(),
    [][Symbol.iterator](), new Map().entries(), new Set().entries(), ''[Symbol.iterator](), \
    ''.matchAll(/x/g),
    [].values().map(x => x), Iterator.from({next() {}}), new Intl.Segmenter().segment('a'),
    new Intl.Segmenter().segment('a')[Symbol.iterator](), (() => { 'use strict'; return () => {} \
    })(),
    (function () { 'use strict'; return arguments })(), (function () { return arguments })(), \
    Promise.resolve(),
    (() => { Error.prepareStackTrace = (error, frames) => frames; const { stack } = new Error(); \
    return delete Error.prepareStackTrace && stack })(),
]";

/// Objects by V8's identity hash, which several may share.
#[derive(Default)]
pub(super) struct Known(HashMap<i32, Vec<v8::Global<v8::Object>>>);

impl Known {
    fn contains(&self, object: v8::Local<'_, v8::Object>) -> bool {
        let same_hash = self.0.get(&object.get_identity_hash().get());
        same_hash.is_some_and(|all| all.iter().any(|known| *known == object))
    }

    /// False if it was known.
    fn insert(
        &mut self,
        scope: &mut v8::PinScope<'_, '_>,
        object: v8::Local<'_, v8::Object>,
    ) -> bool {
        if self.contains(object) {
            return false;
        }
        let handle = v8::Global::new(scope, object);
        self.0.entry(object.get_identity_hash().get()).or_default().push(handle);
        true
    }
}

/// Everything that a realm has before a task: the current context's.
pub(super) fn everything(scope: &mut v8::PinScope<'_, '_>) -> Known {
    let source = v8::String::new(scope, HIDDEN_ROOTS).expect("short");
    let hidden = v8::Script::compile(scope, source, None).and_then(|script| script.run(scope));
    let global = scope.get_current_context().global(scope);
    let nothing = Known::default();
    let mut walk = Walk::new(&nothing);
    walk.reach(scope, "hidden", hidden.expect("this engine has all of these"));
    walk.reach(scope, "globalThis", global.into());
    walk.run(scope);
    assert!(walk.findings.is_empty(), "before any task: {:?}", walk.findings);
    walk.seen
}

/// What is reachable from the object, or from the current context's global object, and is from
/// outside.
pub(super) fn from_outside(
    scope: &mut v8::PinScope<'_, '_>,
    obtained: v8::Local<'_, v8::Object>,
    known: &Known,
    names: &'static [&'static str],
) -> Vec<String> {
    let global = scope.get_current_context().global(scope);
    let obtained = v8::Local::new(scope, obtained);
    let mut walk = Walk::new(known);
    walk.names = names;
    walk.probes = true;
    walk.reach(scope, "obtained", obtained.into());
    walk.reach(scope, "globalThis", global.into());
    walk.run(scope);
    walk.findings
}

struct Walk<'s, 'k> {
    known: &'k Known,
    seen: Known,
    queue: VecDeque<(v8::Local<'s, v8::Object>, String)>,
    findings: Vec<String>,
    /// Names of native functions that are no finding, although the realm did not have them.
    names: &'static [&'static str],
    probes: bool,
}

impl<'s, 'k> Walk<'s, 'k> {
    fn new(known: &'k Known) -> Self {
        Self {
            known,
            seen: Known::default(),
            queue: VecDeque::new(),
            findings: Vec::new(),
            names: &[],
            probes: false,
        }
    }

    fn reach(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        path: &str,
        value: v8::Local<'s, v8::Value>,
    ) {
        if let Ok(object) = v8::Local::<v8::Object>::try_from(value)
            && self.seen.insert(scope, object)
        {
            assert!(self.seen.0.len() < MAX_OBJECTS, "{path}");
            self.queue.push_back((object, path.to_owned()));
        }
    }

    fn run(&mut self, scope: &mut v8::PinScope<'s, '_>) {
        while let Some((object, path)) = self.queue.pop_front() {
            self.judge(scope, object, &path);
            self.open(scope, object, &path);
        }
    }

    /// Where the object is from.
    fn judge(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        object: v8::Local<'s, v8::Object>,
        path: &str,
    ) {
        let home = scope.get_current_context();
        match object.get_creation_context(scope) {
            Some(context) if context == home => {}
            Some(_) => return self.findings.push(format!("{path} is from another realm")),
            None => return self.findings.push(format!("{path} is from no realm")),
        }
        if object.is_proxy() {
            // Its target is looked at instead; V8 has no name for a proxy and would give something
            // that is no string.
            return;
        }
        let Ok(function) = v8::Local::<v8::Function>::try_from(object) else {
            return;
        };
        // A function of V8's or the host's belongs to no script.
        if !self.probes
            || function.get_script_line_number().is_some()
            || self.known.contains(object)
        {
            return;
        }
        let name = function.get_name(scope).to_rust_string_lossy(scope);
        // V8 makes nameless ones all the time, such as a promise's resolve, and a module's exports
        // are numbered in WebAssembly.
        let is_usual = name.is_empty()
            || name.starts_with("bound ")
            || name.bytes().all(|byte| byte.is_ascii_digit());
        if !is_usual && !self.names.contains(&&*name) {
            self.findings
                .push(format!("{path} is a native function '{name}' that the realm did not have"));
        }
        self.probe(scope, function, path);
    }

    /// What the function gives or throws when it is called.
    fn probe(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        function: v8::Local<'s, v8::Function>,
        path: &str,
    ) {
        v8::tc_scope!(let scope, scope);
        let receiver = v8::undefined(scope).into();
        let given = function.call(scope, receiver, &[]);
        let thrown = scope.exception();
        scope.reset();
        for (what, value) in [("()", given), (" throws", thrown)] {
            if let Some(value) = value {
                self.reach(scope, &format!("{path}{what}"), value);
            }
        }
    }

    /// What the object leads to.
    fn open(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        object: v8::Local<'s, v8::Object>,
        path: &str,
    ) {
        if let Ok(proxy) = v8::Local::<v8::Proxy>::try_from(object) {
            let (target, handler) = (proxy.get_target(scope), proxy.get_handler(scope));
            self.reach(scope, &format!("{path}.[[target]]"), target);
            self.reach(scope, &format!("{path}.[[handler]]"), handler);
            return;
        }
        if let Some(prototype) = object.get_prototype(scope) {
            self.reach(scope, &format!("{path}.__proto__"), prototype);
        }
        if let (Some(entries), _) = object.preview_entries(scope) {
            for index in 0..entries.length() {
                if let Some(entry) = entries.get_index(scope, index) {
                    self.reach(scope, &format!("{path}.[[entry]]"), entry);
                }
            }
        }
        if let Ok(promise) = v8::Local::<v8::Promise>::try_from(object)
            && promise.state() != v8::PromiseState::Pending
        {
            let result = promise.result(scope);
            self.reach(scope, &format!("{path}.[[result]]"), result);
        }
        self.properties(scope, object, path);
    }

    fn properties(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        object: v8::Local<'s, v8::Object>,
        path: &str,
    ) {
        v8::tc_scope!(let scope, scope);
        let index_filter = if object.is_array_buffer_view() {
            v8::IndexFilter::SkipIndices
        } else {
            v8::IndexFilter::IncludeIndices
        };
        let names = v8::GetPropertyNamesArgs {
            mode: v8::KeyCollectionMode::OwnOnly,
            property_filter: v8::PropertyFilter::ALL_PROPERTIES,
            index_filter,
            key_conversion: v8::KeyConversionMode::ConvertToString,
        };
        let Some(names) = object.get_own_property_names(scope, names) else {
            return;
        };
        for index in 0..names.length() {
            let name = names
                .get_index(scope, index)
                .and_then(|name| v8::Local::<v8::Name>::try_from(name).ok());
            let Some(name) = name else {
                continue;
            };
            let descriptor = object.get_own_property_descriptor(scope, name);
            let Some(descriptor) =
                descriptor.and_then(|found| v8::Local::<v8::Object>::try_from(found).ok())
            else {
                continue;
            };
            // The first is also what a getter of the frozen realm stands in for.
            let mut parts = vec![own_data(scope, object, name)];
            for part in ["get", "set"] {
                let part = key(scope, part);
                parts.push(own_data(scope, descriptor, part.into()));
            }
            for value in parts.into_iter().flatten().filter(|value| value.is_object()) {
                let name =
                    name.to_detail_string(scope).map(|name| name.to_rust_string_lossy(scope));
                self.reach(scope, &format!("{path}.{}", name.unwrap_or_default()), value);
            }
        }
    }
}
