//! Attempts to get out of a realm, in tables, and the proof that none obtains anything from
//! outside.
//!
//! Each attack runs in every realm, as every type of task, with code generation off and on. It
//! hands over what it obtained by `got(…)`, by returning it or by throwing it; [`check`] then looks
//! at all that this leads to, and at all that the global object leads to afterwards. An object from
//! another realm, or a native function that the realm did not have, is an escape. What runs here
//! needs the engine's contexts, which nobody outside of it may have: so these tests are no
//! integration tests.

mod check;
mod ours;
mod vm2;

use std::borrow::Cow;
use std::rc::Rc;

use super::context::RealmState;
use super::host::key;
use super::task::{FailureKind, JsOutcome, JsTask, Realm, Work};
use super::{Engine, EngineConfig};

/// One attempt.
struct Attack {
    /// The advisory or the idea behind it.
    source: &'static str,
    /// Which tasks it is for.
    place: Place,
    /// Body of an async function. `got(…)` hands over; so do `return` and `throw`.
    code: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Every type of task.
    Any,
    /// All but ES modules, which are strict.
    Sloppy,
    EsModule,
    CommonJs,
}

/// How a task is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Code,
    Function,
    EsModule,
    CommonJs,
}

const FORMS: [Form; 4] = [Form::Code, Form::Function, Form::EsModule, Form::CommonJs];

/// Every realm that there is.
const REALMS: [Realm; 3] = [Realm::Fresh, Realm::Warm, Realm::Frozen];

/// Native functions that modules have besides the global ones.
const MODULE_NATIVES: &[&str] = &["require", "resolve"];

impl Form {
    /// Whether the attack can be made in this form there.
    fn suits(self, place: Place, realm: Realm) -> bool {
        // The frozen realm has no modules, and is strict.
        if realm == Realm::Frozen
            && (place == Place::Sloppy || matches!(self, Self::EsModule | Self::CommonJs))
        {
            return false;
        }
        match place {
            Place::Any => true,
            Place::Sloppy => self != Self::EsModule,
            Place::EsModule => self == Self::EsModule,
            Place::CommonJs => self == Self::CommonJs,
        }
    }

    fn source(self, code: &str) -> String {
        let hand_over = "let taken = 0; const got = (...all) => { for (let i = 0; i < all.length; \
            i++) obtained['k' + taken++] = all[i] };";
        let body = format!(
            "{hand_over} try {{ got(await (async () => {{ {code} }})()) }} catch (e) {{ got(e) }} \
             return 1"
        );
        match self {
            Self::Code => body,
            Self::Function => format!("async () => {{ {body} }}"),
            Self::EsModule => {
                format!("export const own = import.meta; export default async () => {{ {body} }}")
            }
            Self::CommonJs => format!("module.exports = async () => {{ {body} }}"),
        }
    }
}

struct Range {
    engine: Engine,
    root: tempfile::TempDir,
    ticket: u64,
}

impl Range {
    fn new(permissive: bool) -> Self {
        let root = tempfile::tempdir().expect("a temporary folder can be made");
        std::fs::write(root.path().join("inner.cjs"), "exports.inner = 1")
            .expect("it can be written to");
        std::fs::write(root.path().join("inner.mjs"), "export const inner = 1")
            .expect("it can be written to");
        let config = EngineConfig {
            allow_code_generation: permissive,
            allow_wasm: permissive,
            module_roots: vec![root.path().to_owned()],
            ..EngineConfig::default()
        };
        Self { engine: Engine::new(config, Box::new(|_, _, _| {})), root, ticket: 0 }
    }

    /// Runs the attack in a realm that nothing has run in; what it has obtained from outside.
    fn attack(&mut self, attack: &Attack, realm: Realm, form: Form) -> Vec<String> {
        self.attack_with(attack, realm, form, |_, _| {})
    }

    /// As `attack`, with something planted among the realm's globals.
    fn attack_with(
        &mut self,
        attack: &Attack,
        realm: Realm,
        form: Form,
        plant: impl for<'s> FnOnce(&mut v8::PinScope<'s, '_>, v8::Local<'s, v8::Object>),
    ) -> Vec<String> {
        self.ticket += 1;
        let project = format!("p{}", self.ticket);
        let (state, obtained) = self.realm(realm, &project);
        let known = self.inside(&state, |scope| {
            let known = check::everything(scope);
            let global = scope.get_current_context().global(scope);
            plant(scope, global);
            known
        });
        let outcome = self.run(&form.source(attack.code), realm, form, &project);
        let failure = outcome.result.as_ref().err().map(|failure| failure.kind);
        assert!(
            matches!(
                failure,
                None | Some(FailureKind::PromiseNeverSettled | FailureKind::Exception)
            ),
            "{} as {form:?}: {outcome:?}",
            attack.source
        );
        let names =
            if matches!(form, Form::EsModule | Form::CommonJs) { MODULE_NATIVES } else { &[] };
        self.inside(&state, |scope| {
            let obtained = v8::Local::new(scope, &obtained);
            let first = key(scope, "k0");
            let is_silent = obtained.has_own_property(scope, first.into()) != Some(true);
            assert!(
                !is_silent || failure.is_some(),
                "{} as {form:?} did not run to its end",
                attack.source
            );
            check::from_outside(scope, obtained, &known, names)
        })
    }

    /// The realm that the next task of the kind will get, and the object that it may hand over to.
    fn realm(&mut self, realm: Realm, project: &str) -> (Rc<RealmState>, v8::Global<v8::Object>) {
        let state = match realm {
            Realm::Fresh => self.engine.next_fresh(),
            Realm::Warm => self.engine.realms.warm(&mut self.engine.isolate, project),
            Realm::Frozen => {
                self.engine.realms.discard_frozen();
                let mut obtained = None;
                let state =
                    self.engine.realms.frozen_with(&mut self.engine.isolate, |scope, global| {
                        obtained = Some(hand_out(scope, global));
                    });
                return (state.expect("there is room"), obtained.expect("it was just made"));
            }
        };
        let obtained = self.inside(&state, |scope| {
            let global = scope.get_current_context().global(scope);
            hand_out(scope, global)
        });
        (state, obtained)
    }

    fn inside<T>(
        &mut self,
        state: &RealmState,
        look: impl FnOnce(&mut v8::PinScope<'_, '_>) -> T,
    ) -> T {
        v8::scope!(let scope, &mut self.engine.isolate);
        let context = v8::Local::new(scope, &state.context);
        look(&mut v8::ContextScope::new(scope, context))
    }

    fn run(&mut self, source: &str, realm: Realm, form: Form, project: &str) -> JsOutcome {
        let file = |name: String| -> Cow<'static, str> {
            std::fs::write(self.root.path().join(&name), source)
                .expect("the folder can be written to");
            name.into()
        };
        let path = match form {
            Form::Code | Form::Function => Cow::Borrowed(""),
            Form::EsModule => file(format!("attack{}.mjs", self.ticket)),
            Form::CommonJs => file(format!("attack{}.cjs", self.ticket)),
        };
        let work = match form {
            Form::Code => Work::Code { source, context_json: b"" },
            Form::Function => Work::Function { source, args_json: b"" },
            Form::EsModule | Form::CommonJs => {
                Work::Module { path: &path, method: None, args_json: b"" }
            }
        };
        let ticket = self.ticket;
        self.engine.run(&JsTask {
            ticket,
            project,
            realm,
            work,
            memory_limit_bytes: None,
            capture_logs: true,
        })
    }
}

/// Gives the realm an object to write to. It is a getter's result, which freezing the realm does
/// not reach.
fn hand_out<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    global: v8::Local<'s, v8::Object>,
) -> v8::Global<v8::Object> {
    let null = v8::null(scope).into();
    let obtained = v8::Object::with_prototype_and_properties(scope, null, &[], &[]);
    let getter =
        v8::Function::builder(give_data).data(obtained.into()).build(scope).expect("there is room");
    let undefined = v8::undefined(scope).into();
    let name = key(scope, "obtained");
    let property = v8::PropertyDescriptor::new_from_get_set(getter.into(), undefined);
    global.define_property(scope, name.into(), &property);
    v8::Global::new(scope, obtained)
}

impl Engine {
    /// The context of the next fresh task.
    fn next_fresh(&mut self) -> Rc<RealmState> {
        self.prepare_spare();
        self.realms.spare().expect("just made")
    }
}

/// Runs on a stack as large as a process's main thread has.
fn on_large_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new()
        .stack_size(8 << 20)
        .spawn(test)
        .expect("a thread can be started");
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn all_fail(attacks: &'static [Attack]) {
    on_large_stack(move || {
        let (mut runs, mut escapes) = (0, Vec::new());
        for permissive in [false, true] {
            let mut range = Range::new(permissive);
            for attack in attacks {
                for realm in REALMS {
                    for form in FORMS.into_iter().filter(|form| form.suits(attack.place, realm)) {
                        let found = range.attack(attack, realm, form);
                        escapes.extend(found.iter().map(|what| {
                            format!(
                                "{} ({realm:?}, {form:?}, code generation {permissive}): {what}",
                                attack.source
                            )
                        }));
                        runs += 1;
                    }
                }
            }
        }
        println!("{} attacks, {runs} runs", attacks.len());
        assert!(escapes.is_empty(), "{} escapes:\n{}", escapes.len(), escapes.join("\n"));
    });
}

#[test]
fn no_published_attack_on_vm2_reaches_anything_from_outside_its_realm() {
    assert!(vm2::ATTACKS.len() >= 30, "{}", vm2::ATTACKS.len());
    all_fail(vm2::ATTACKS);
}

#[test]
fn no_attack_on_what_this_engine_adds_reaches_anything_from_outside_its_realm() {
    all_fail(ours::ATTACKS);
}

#[test]
fn what_is_from_outside_is_found_however_it_is_hidden() {
    let hiding_places = [
        "return outside",
        "return [[{a: {get b() { return outside }}}], outside.constructor]",
        "got(new Map([[{}, outside]]))",
        "got(new WeakMap([[{}, outside]]))",
        "got(new Set([outside]).values())",
        "got(new Proxy({}, {outside}))",
        "got(new Proxy(outside, {}))",
        "got(Promise.resolve([outside]))",
        "throw outside",
        "got(Object.create({}, {[Symbol('hidden')]: {get: outside.constructor}}))",
        "globalThis.left = outside",
        "Array.prototype.left = outside",
        "got(outside.constructor.bind(null))",
        "got(native)",
        "got(nameless)",
        "got({a: nameless.bind()})",
    ];
    let mut range = Range::new(false);
    for code in hiding_places {
        let other = range.engine.realms.warm(&mut range.engine.isolate, "another");
        let outside = range.inside(&other, |scope| {
            let object = v8::Object::new(scope);
            v8::Global::new(scope, object)
        });
        let names = "{outside, native, nameless}";
        let code = format!("const {names} = planted; delete globalThis.planted; {code}");
        let code: &'static str = Box::leak(code.into_boxed_str());
        let attack = Attack { source: "control", place: Place::Any, code };
        let found = range.attack_with(&attack, Realm::Fresh, Form::Code, |scope, global| {
            let outside = v8::Local::new(scope, &outside);
            let native = v8::Function::new(scope, do_nothing).expect("there is room");
            native.set_name(key(scope, "open"));
            let nameless = v8::Function::builder(give_data).data(outside.into());
            let nameless = nameless.build(scope).expect("there is room");
            let planted = v8::Object::new(scope);
            for (name, value) in
                [("outside", outside), ("native", native.into()), ("nameless", nameless.into())]
            {
                let name = key(scope, name);
                planted.set(scope, name.into(), value.into());
            }
            let name = key(scope, "planted");
            global.set(scope, name.into(), planted.into());
        });
        assert!(!found.is_empty(), "not found: {code}");
    }
}

fn do_nothing<'s>(
    _scope: &mut v8::PinScope<'s, '_>,
    _args: v8::FunctionCallbackArguments<'s>,
    _rv: v8::ReturnValue<'s, v8::Value>,
) {
}

fn give_data<'s>(
    _scope: &mut v8::PinScope<'s, '_>,
    args: v8::FunctionCallbackArguments<'s>,
    mut rv: v8::ReturnValue<'s, v8::Value>,
) {
    rv.set(args.data());
}
