//! The frozen realm: one context that the tasks of all projects share, in which none can leave
//! anything behind.
//!
//! Decides what makes it so. What a task does not make itself is frozen before the first one; what
//! has a state that cannot be frozen is taken away; code is compiled once, but run anew for each
//! task, in scopes of its own, so that no function object, no variable and no top level is met by
//! two tasks. A function that is kept is one of ours: strict and without a name, so that nothing
//! which runs inside of it can take hold of it.

use super::cache::SourceCache;
use super::code;
use super::code::strict::{self, Understood};
use super::context::{RealmState, define_function};
use super::errors::Trouble;
use super::host::{Host, key};
use super::perform::{Bench, call, context_object, invalid};
use super::random;
use super::task::Work;

const FREEZE: &str = include_str!("freeze.js");

/// What shows one task's doings to another and cannot be frozen: the last match.
const STATEFUL: &[(&str, &[&str])] = &[(
    "RegExp",
    &[
        "input",
        "$_",
        "lastMatch",
        "$&",
        "lastParen",
        "$+",
        "leftContext",
        "$`",
        "rightContext",
        "$'",
        "$1",
        "$2",
        "$3",
        "$4",
        "$5",
        "$6",
        "$7",
        "$8",
        "$9",
    ],
)];

/// Keys that a context may have: each becomes a parameter.
const MAX_NAMES: u32 = 1000;

/// Code that has been understood, by its project and source: time must not tell one project what
/// another one ran.
#[derive(Default)]
pub(super) struct KnownCode {
    code: SourceCache<Kept>,
    /// With names from a context: they stand before the source.
    code_with_names: SourceCache<Kept>,
    functions: SourceCache<v8::Global<v8::Function>>,
    /// By the names they take.
    evaluators: SourceCache<v8::Global<v8::Function>>,
}

/// What is kept of a task's code.
#[derive(Clone)]
enum Kept {
    /// Gives the completion value when it is called; `eval` in it means this text.
    Script(v8::Global<v8::Function>, v8::Global<v8::String>),
    /// Its result is the task's.
    Body(v8::Global<v8::Function>),
    /// Gives a body when it is called.
    Maker(v8::Global<v8::Function>),
}

/// Makes the current context the frozen one; `None` only if V8 is out of memory or is being told to
/// stop.
pub(super) fn freeze(
    scope: &mut v8::PinScope<'_, '_>,
    context: v8::Local<'_, v8::Context>,
) -> Option<()> {
    let global = context.global(scope);
    // INVARIANT: always off, because V8 then asks us, and `evaluated` is how code gets in.
    context.set_allow_generation_from_strings(false);
    // Its compilers answer in whichever task comes next.
    take_away(scope, global, "WebAssembly");
    for (holder, names) in STATEFUL {
        let holder = member(scope, global, holder)?;
        for name in *names {
            take_away(scope, holder, name);
        }
    }
    let math = member(scope, global, "Math")?;
    take_away(scope, math, "random");
    {
        use v8::MapFnTo as _;
        define_function(scope, math, "random", 0, random::random.map_fn_to());
    }
    let source = v8::String::new(scope, FREEZE)?;
    let plan = v8::Script::compile(scope, source, None)?.run(scope)?;
    let plan = v8::Local::<v8::Array>::try_from(plan).ok()?;
    let finish = v8::Local::<v8::Function>::try_from(plan.get_index(scope, 0)?).ok()?;
    let mark = mark_key(scope);
    for index in (1..plan.length()).step_by(2) {
        let getter = v8::Local::<v8::Object>::try_from(plan.get_index(scope, index)?).ok()?;
        let value = plan.get_index(scope, index + 1)?;
        getter.set_private(scope, mark, value)?;
    }
    // INVARIANT: last, since frozen objects take no marks either.
    let receiver = v8::undefined(scope).into();
    finish.call(scope, receiver, &[])?;
    Some(())
}

fn take_away(scope: &mut v8::PinScope<'_, '_>, holder: v8::Local<'_, v8::Object>, name: &str) {
    let name = key(scope, name);
    holder.delete(scope, name.into());
}

fn member<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    holder: v8::Local<'_, v8::Object>,
    name: &str,
) -> Option<v8::Local<'s, v8::Object>> {
    let name = key(scope, name);
    v8::Local::<v8::Object>::try_from(holder.get(scope, name.into())?).ok()
}

/// Under this private key a getter of ours has the value that it gives.
fn mark_key<'s>(scope: &v8::PinScope<'s, '_>) -> v8::Local<'s, v8::Private> {
    let name = key(scope, "pool.frozenValue");
    v8::Private::for_api(scope, Some(name))
}

/// What the getter gives, if it stands in for a frozen value.
pub(super) fn value_behind<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    getter: v8::Local<'s, v8::Function>,
) -> Option<v8::Local<'s, v8::Value>> {
    if getter.is_proxy() {
        return None;
    }
    let mark = mark_key(scope);
    getter.get_private(scope, mark).filter(|value| !value.is_undefined())
}

/// A date's text in this realm, where V8 cannot read the method for it without running a getter.
/// `None` elsewhere.
pub(super) fn date_text<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    date: v8::Local<'_, v8::Date>,
) -> Option<v8::Local<'s, v8::String>> {
    // One of our own, since the prototype of the task's may be anything.
    let date = v8::Date::new(scope, date.value_of())?;
    let prototype = v8::Local::<v8::Object>::try_from(date.get_prototype(scope)?).ok()?;
    let (name, get) = (key(scope, "toString"), key(scope, "get"));
    let descriptor = prototype.get_own_property_descriptor(scope, name.into())?;
    let descriptor = v8::Local::<v8::Object>::try_from(descriptor).ok()?;
    let getter = descriptor
        .has_own_property(scope, get.into())?
        .then(|| descriptor.get(scope, get.into()))??;
    let method = value_behind(scope, v8::Local::<v8::Function>::try_from(getter).ok()?)?;
    let method = v8::Local::<v8::Function>::try_from(method).ok()?;
    v8::Local::<v8::String>::try_from(method.call(scope, date.into(), &[])?).ok()
}

/// Runs the work up to its value, which may be a promise.
pub(super) fn run<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    bench: &mut Bench<'_>,
    realm: &RealmState,
    work: &Work<'_>,
) -> Result<v8::Local<'s, v8::Value>, Trouble> {
    match *work {
        Work::Code { source, context_json } => run_code(scope, bench, realm, source, context_json),
        Work::Function { source, args_json } => {
            let known = realm
                .known
                .borrow_mut()
                .functions
                .get(&bench.host.project.borrow(), source)
                .cloned();
            let maker = match known {
                Some(maker) => maker,
                None => {
                    let maker = strict::compile_function(scope, source)?;
                    realm.known.borrow_mut().functions.insert(
                        &bench.host.project.borrow(),
                        source,
                        maker.clone(),
                    );
                    maker
                }
            };
            let receiver = v8::undefined(scope).into();
            let function =
                v8::Local::new(scope, maker).call(scope, receiver, &[]).ok_or(Trouble::Thrown)?;
            let function = code::as_function(scope, function)?;
            call(scope, function, receiver, args_json)
        }
        Work::Module { .. } => Err(invalid(
            "realm must not be `frozen` for a module, which keeps what it holds; use `fresh` or \
             `warm`"
                .to_owned(),
        )),
    }
}

fn run_code<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    bench: &mut Bench<'_>,
    realm: &RealmState,
    source: &str,
    context_json: &[u8],
) -> Result<v8::Local<'s, v8::Value>, Trouble> {
    let (names, values) =
        if context_json.is_empty() { Default::default() } else { variables(scope, context_json)? };
    let project = bench.host.project.borrow();
    let with_names = (!names.is_empty()).then(|| format!("{names}\n{source}"));
    let known = {
        let mut known = realm.known.borrow_mut();
        match &with_names {
            None => known.code.get(&project, source).cloned(),
            Some(text) => known.code_with_names.get(&project, text).cloned(),
        }
    };
    let is_new = known.is_none();
    let kept = match known {
        Some(kept) => kept,
        None => understand(scope, bench, realm, source, &names)?,
    };
    let started = start(scope, bench.host, &kept, &values);
    if is_new {
        if started.is_err() && matches!(kept, Kept::Script(..)) {
            // Then it may be that nothing of it has run.
            strict::check_script(scope, source)?;
        }
        let mut known = realm.known.borrow_mut();
        match &with_names {
            None => known.code.insert(&project, source, kept.clone()),
            Some(text) => known.code_with_names.insert(&project, text, kept.clone()),
        }
    }
    started
}

fn understand(
    scope: &mut v8::PinScope<'_, '_>,
    bench: &mut Bench<'_>,
    realm: &RealmState,
    source: &str,
    names: &str,
) -> Result<Kept, Trouble> {
    match strict::understand(scope, bench.checker, source, names)? {
        Understood::Body(body) => Ok(Kept::Body(body)),
        Understood::Maker(maker) => Ok(Kept::Maker(maker)),
        Understood::Script(text) => {
            let mut known = realm.known.borrow_mut();
            let project = bench.host.project.borrow();
            let evaluator = match known.evaluators.get(&project, names) {
                Some(evaluator) => evaluator.clone(),
                None => {
                    let evaluator = strict::compile_evaluator(scope, names)?;
                    known.evaluators.insert(&project, names, evaluator.clone());
                    evaluator
                }
            };
            Ok(Kept::Script(evaluator, text))
        }
    }
}

/// Runs what is kept.
fn start<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    host: &Host,
    kept: &Kept,
    values: &[v8::Local<'s, v8::Value>],
) -> Result<v8::Local<'s, v8::Value>, Trouble> {
    let receiver = v8::undefined(scope).into();
    let value = match kept {
        Kept::Script(evaluator, text) => {
            *host.evaluated.borrow_mut() = Some(text.clone());
            let value = v8::Local::new(scope, evaluator).call(scope, receiver, values);
            // INVARIANT: it is there no longer when a task could call `eval`; V8 may have had no
            // stack left to come to ours.
            host.evaluated.borrow_mut().take();
            value
        }
        Kept::Body(body) => v8::Local::new(scope, body).call(scope, receiver, &[]),
        Kept::Maker(maker) => {
            let body = v8::Local::new(scope, maker)
                .call(scope, receiver, values)
                .ok_or(Trouble::Thrown)?;
            code::as_function(scope, body)?.call(scope, receiver, &[])
        }
    };
    value.ok_or(Trouble::Thrown)
}

type Variables<'s> = (String, Vec<v8::Local<'s, v8::Value>>);

/// The keys of a JSON object as a list of parameters, and their values.
fn variables<'s>(scope: &mut v8::PinScope<'s, '_>, json: &[u8]) -> Result<Variables<'s>, Trouble> {
    let (object, keys) = context_object(scope, json)?;
    if keys.length() > MAX_NAMES {
        return Err(invalid(format!(
            "context has {} keys; in the realm `frozen` it may have {MAX_NAMES} at most",
            keys.length()
        )));
    }
    let mut names = String::new();
    let mut values = Vec::with_capacity(keys.length() as usize);
    for index in 0..keys.length() {
        let key = keys.get_index(scope, index).ok_or(Trouble::Thrown)?;
        let name = key.to_rust_string_lossy(scope);
        if !strict::is_variable(&name) {
            return Err(invalid(format!(
                "context has the key {name:?}, which cannot be the name of a variable; in the \
                 realm `frozen` each must"
            )));
        }
        if index > 0 {
            names.push(',');
        }
        names.push_str(&name);
        values.push(object.get(scope, key).ok_or(Trouble::Thrown)?);
    }
    Ok((names, values))
}
