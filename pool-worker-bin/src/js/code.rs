//! From source text to something that can be run: scripts, function bodies, function expressions.
//!
//! Decides how a task's code is meant. Source is never pasted into other source unchecked: wherever
//! a wrapper is needed, a second parse proves that the text cannot close the wrapper and go on
//! outside of it.

mod kept;
pub(super) mod strict;

use super::errors::{self, Trouble};
use super::host::{host, key, text};
use super::task::{FailureKind, JsFailure};

/// Gives the two functions that are wanted, and empties the global object.
const TAKE_OUT: &str = "(() => {
    const taken = [(async () => {}).constructor, eval];
    const [global, { deleteProperty, ownKeys }] = [globalThis, Reflect];
    for (const name of ownKeys(global)) deleteProperty(global, name);
    return taken;
})()";

/// Name of the user's source in stacks.
pub(super) const SCRIPT_NAME: &str = "task.js";

/// Code that has been understood, ready to run.
pub(super) enum Compiled<'s> {
    /// Its completion value is the result.
    Script(v8::Local<'s, v8::Script>),
    /// The same, and its context must not be kept.
    Leaving(v8::Local<'s, v8::Script>),
    /// What it returns is the result.
    Body(v8::Local<'s, v8::Function>),
}

/// A parse that failed: what to tell the user, and how far it came.
struct Rejection {
    trouble: Trouble,
    offset: i32,
}

/// A context in which no code of a task ever runs, only the parser: it tells whether a text is the
/// body of an async function by itself. V8's `AsyncFunction` constructor makes that check, and
/// wants code generation allowed. It also tells which functions a script declares.
pub(super) struct BodyChecker {
    context: v8::Global<v8::Context>,
    constructor: v8::Global<v8::Function>,
    eval: v8::Global<v8::Function>,
}

impl BodyChecker {
    /// Makes the context; `None` only if V8 is out of memory or is being told to stop.
    pub(super) fn new(scope: &mut v8::PinScope<'_, '_>) -> Option<Self> {
        v8::scope!(let scope, scope);
        let context = v8::Context::new(scope, v8::ContextOptions::default());
        context.set_allow_generation_from_strings(true);
        let scope = &mut v8::ContextScope::new(scope, context);
        let source = text(scope, TAKE_OUT);
        let taken = v8::Script::compile(scope, source, None)?.run(scope)?;
        let taken = v8::Local::<v8::Array>::try_from(taken).ok()?;
        let constructor = v8::Local::<v8::Function>::try_from(taken.get_index(scope, 0)?).ok()?;
        let eval = v8::Local::<v8::Function>::try_from(taken.get_index(scope, 1)?).ok()?;
        Some(Self {
            context: v8::Global::new(scope, context),
            constructor: v8::Global::new(scope, constructor),
            eval: v8::Global::new(scope, eval),
        })
    }

    /// The functions that a script declares at its top, by their names; `None` if there is no
    /// telling. It is evaluated with a `throw` before all of it: the language has made its
    /// functions by then, and nothing else has happened.
    fn functions_of(&self, scope: &mut v8::PinScope<'_, '_>, source: &str) -> Option<Vec<String>> {
        v8::scope!(let scope, scope);
        let context = v8::Local::new(scope, &self.context);
        let scope = &mut v8::ContextScope::new(scope, context);
        v8::tc_scope!(let scope, scope);
        let mark = host(scope).project_number();
        let source = source_text(scope, &format!("throw 0;\n{source}\n//{mark}")).ok()?;
        let receiver = v8::undefined(scope).into();
        v8::Local::new(scope, &self.eval).call(scope, receiver, &[source.into()]);
        if scope.has_terminated() || !scope.exception()?.is_number() {
            return None;
        }
        scope.reset();
        let global = context.global(scope);
        let declared = global.get_own_property_names(scope, v8::GetPropertyNamesArgs::default())?;
        let mut names = Vec::new();
        for index in 0..declared.length() {
            let name = declared.get_index(scope, index)?;
            if global.get(scope, name)?.is_function() {
                names.push(name.to_rust_string_lossy(scope));
            }
            global.delete(scope, name)?;
        }
        // It would be assigned to, which makes no property.
        (!names.iter().any(|name| name == "__proto__")).then_some(names)
    }

    /// Whether `source` is a body. It has the project after it, in a comment: V8 keeps what it has
    /// compiled here by its text alone, and is not to be faster with what another project has had
    /// checked.
    fn accepts(&self, scope: &mut v8::PinScope<'_, '_>, source: &str) -> Result<(), Rejection> {
        v8::scope!(let scope, scope);
        let context = v8::Local::new(scope, &self.context);
        let scope = &mut v8::ContextScope::new(scope, context);
        v8::tc_scope!(let scope, scope);
        let constructor = v8::Local::new(scope, &self.constructor);
        let receiver = v8::undefined(scope).into();
        let mark = host(scope).project_number();
        let unread = |trouble| Rejection { trouble, offset: 0 };
        let source = source_text(scope, &format!("{source}\n//{mark}")).map_err(unread)?;
        if constructor.call(scope, receiver, &[source.into()]).is_some() {
            return Ok(());
        }
        if scope.has_terminated() {
            return Err(Rejection { trouble: Trouble::Thrown, offset: i32::MAX });
        }
        let thrown = scope.exception();
        let trouble = match thrown {
            // Its place is in V8's own wrapper and would only mislead.
            Some(thrown) => errors::describe_syntax(scope, thrown, None).into(),
            None => Trouble::Thrown,
        };
        Err(Rejection { trouble, offset: 0 })
    }
}

/// Compiles the code of a task. `keep_scope`: the context is kept, so that `const` at the top must
/// not stay behind.
pub(super) fn compile_code<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    checker: &mut Option<BodyChecker>,
    source: &str,
    keep_scope: bool,
) -> Result<Compiled<'s>, Trouble> {
    let text = source_text(scope, source)?;
    let mentions_await = source.contains("await");
    let first = match compile_script(scope, text, 0) {
        Ok(script) => {
            // `await (x)` also parses as the call of a function named await.
            if mentions_await
                && has_top_level_await(scope, text)
                && let Ok(body) = async_body(scope, checker, source)
            {
                return Ok(Compiled::Body(body));
            }
            return Ok(if keep_scope {
                kept::for_kept_context(scope, checker, source, script)
            } else {
                Compiled::Script(script)
            });
        }
        Err(rejection) => rejection,
    };
    let mut best = first;
    if mentions_await {
        match async_body(scope, checker, source) {
            Ok(body) => return Ok(Compiled::Body(body)),
            Err(rejection) if rejection.offset > best.offset => best = rejection,
            Err(_) => {}
        }
    }
    match compile_body(scope, text) {
        Ok(body) => Ok(Compiled::Body(body)),
        // The parse that came further knows more: a script with `return` fails at the `return`,
        // whatever else is wrong.
        Err(rejection) if rejection.offset > best.offset => Err(rejection.trouble),
        Err(_) => Err(best.trouble),
    }
}

/// What of ours stands around an expression.
#[derive(Clone, Copy)]
struct Around {
    directive: &'static str,
    head: &'static str,
    tail: &'static str,
}

const NOTHING_AROUND: Around = Around { directive: "", head: "", tail: "" };

/// Compiles the source of a function and evaluates it to the function.
pub(super) fn compile_function<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    source: &str,
) -> Result<v8::Local<'s, v8::Function>, Trouble> {
    let source = source.trim().trim_end_matches(';');
    let script = match as_expression(scope, NOTHING_AROUND, source) {
        Ok(script) => script,
        Err(rejection) => {
            // What `toString` of a method gives: `add(a, b) {…}`.
            let as_function = method_as_function(source);
            match as_function.map(|source| as_expression(scope, NOTHING_AROUND, &source)) {
                Some(Ok(script)) => script,
                _ => return Err(rejection.trouble),
            }
        }
    };
    let value = script.run(scope).ok_or(Trouble::Thrown)?;
    as_function(scope, value)
}

/// What a function's source evaluates to, if it is a function.
pub(super) fn as_function<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    value: v8::Local<'s, v8::Value>,
) -> Result<v8::Local<'s, v8::Function>, Trouble> {
    v8::Local::<v8::Function>::try_from(value).map_err(|_| {
        let what = value.type_of(scope).to_rust_string_lossy(scope);
        let message = format!(
            "fn must be the source of a function, but it evaluates to a value of type {what}"
        );
        JsFailure::new(FailureKind::InvalidTask, "TypeError", message).into()
    })
}

/// An origin for the user's source. `wrapped_lines`: lines of ours before the user's first.
///
/// V8 keeps what it has compiled by text and origin, for all contexts. So the origin has the
/// project in it, as an option of the host's that nobody reads: how long a task takes must not tell
/// that another project ran the same text. V8 looks those options up one by one among entries of
/// one hash, so the project is in the hash too where a line of ours has a column to spare.
pub(super) fn origin<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    name: &str,
    wrapped_lines: i32,
    is_module: bool,
) -> v8::ScriptOrigin<'s> {
    let name = key(scope, name).into();
    let host = host(scope);
    let column = if wrapped_lines > 0 { host.project_number() } else { 0 };
    let project = text(scope, &host.project.borrow());
    let options = v8::PrimitiveArray::new(scope, 1);
    options.set(scope, 0, project.into());
    let options = Some(options.into());
    v8::ScriptOrigin::new(
        scope,
        name,
        -wrapped_lines,
        column,
        false,
        -1,
        None,
        false,
        false,
        is_module,
        options,
    )
}

/// The source as a string of V8's.
pub(super) fn source_text<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    source: &str,
) -> Result<v8::Local<'s, v8::String>, Trouble> {
    v8::String::new(scope, source).ok_or_else(|| {
        JsFailure::new(FailureKind::InvalidTask, "RangeError", "the source is too long").into()
    })
}

/// Compiles inside a `TryCatch` and says why it failed. `prefix`: characters of ours before the
/// user's first.
fn attempt<'s, 'i, T>(
    scope: &mut v8::PinScope<'s, 'i>,
    prefix: i32,
    compile: impl FnOnce(&mut v8::PinScope<'s, 'i>) -> Option<T>,
) -> Result<T, Rejection> {
    v8::tc_scope!(let scope, scope);
    if let Some(compiled) = compile(scope) {
        return Ok(compiled);
    }
    let (Some(thrown), false) = (scope.exception(), scope.has_terminated()) else {
        return Err(Rejection { trouble: Trouble::Thrown, offset: i32::MAX });
    };
    let message = scope.message();
    let offset = message.map_or(0, |message| message.get_start_position() - prefix);
    let mut failure = errors::describe_syntax(scope, thrown, message);
    if failure.name == "RangeError" {
        // Nested too deeply for the parser's stack.
        failure.kind = FailureKind::Exception;
    }
    Err(Rejection { trouble: failure.into(), offset })
}

/// Compiles with somebody else's wrapper and origin.
pub(super) fn compile_text<'s, 'i, T>(
    scope: &mut v8::PinScope<'s, 'i>,
    compile: impl FnOnce(&mut v8::PinScope<'s, 'i>) -> Option<T>,
) -> Result<T, Trouble> {
    attempt(scope, 0, compile).map_err(|rejection| rejection.trouble)
}

fn compile_script<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    text: v8::Local<'s, v8::String>,
    wrapped_lines: i32,
) -> Result<v8::Local<'s, v8::Script>, Rejection> {
    let origin = origin(scope, SCRIPT_NAME, wrapped_lines, false);
    // All wrappers of one line are two characters long.
    attempt(scope, 2 * wrapped_lines, |scope| v8::Script::compile(scope, text, Some(&origin)))
}

/// The code as the body of an ordinary function, for `return` at the top. V8 parses a body as such.
fn compile_body<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    text: v8::Local<'s, v8::String>,
) -> Result<v8::Local<'s, v8::Function>, Rejection> {
    let origin = origin(scope, SCRIPT_NAME, 0, false);
    body_of(scope, text, &origin, 0)
}

fn body_of<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    text: v8::Local<'s, v8::String>,
    origin: &v8::ScriptOrigin<'_>,
    prefix: i32,
) -> Result<v8::Local<'s, v8::Function>, Rejection> {
    let mut source = v8::script_compiler::Source::new(text, Some(origin));
    attempt(scope, prefix, |scope| {
        v8::script_compiler::compile_function(
            scope,
            &mut source,
            &[],
            &[],
            v8::script_compiler::CompileOptions::NoCompileOptions,
            v8::script_compiler::NoCacheReason::NoReason,
        )
    })
}

/// The code as the body of an async function. V8 cannot parse that as such, so it is wrapped, and
/// checked.
fn async_body<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    checker: &mut Option<BodyChecker>,
    source: &str,
) -> Result<v8::Local<'s, v8::Function>, Rejection> {
    const HEAD: &str = "(async function () {\n";
    let out_of_luck = || Rejection { trouble: Trouble::Thrown, offset: i32::MAX };
    let origin = origin(scope, SCRIPT_NAME, 1, false);
    let wrapped =
        v8::String::new(scope, &format!("{HEAD}{source}\n}})")).ok_or_else(out_of_luck)?;
    let prefix = i32::try_from(HEAD.len()).expect("the head is short");
    let script =
        attempt(scope, prefix, |scope| v8::Script::compile(scope, wrapped, Some(&origin)))?;
    if checker.is_none() {
        *checker = BodyChecker::new(scope);
    }
    checker.as_ref().ok_or_else(out_of_luck)?.accepts(scope, source)?;
    script
        .run(scope)
        .and_then(|function| v8::Local::<v8::Function>::try_from(function).ok())
        .ok_or_else(out_of_luck)
}

/// Whether the text, read as a module, awaits at its top.
fn has_top_level_await(scope: &mut v8::PinScope<'_, '_>, text: v8::Local<'_, v8::String>) -> bool {
    v8::scope!(let scope, scope);
    let origin = origin(scope, SCRIPT_NAME, 0, true);
    let text = v8::Local::new(scope, text);
    let mut source = v8::script_compiler::Source::new(text, Some(&origin));
    attempt(scope, 0, |scope| v8::script_compiler::compile_module(scope, &mut source))
        .is_ok_and(|module| module.has_top_level_await())
}

/// The text as one expression with something of ours around it. Were it to close the bracket it
/// stands in, it would have to match two kinds of bracket.
fn as_expression<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    Around { directive, head, tail }: Around,
    source: &str,
) -> Result<v8::Local<'s, v8::Script>, Rejection> {
    let unread = |trouble| Rejection { trouble, offset: 0 };
    let round =
        source_text(scope, &format!("{directive}{head}(\n{source}\n){tail}")).map_err(unread)?;
    let square = source_text(scope, &format!("{directive}[\n{source}\n]")).map_err(unread)?;
    let script = compile_script(scope, round, 1)?;
    compile_script(scope, square, 1)?;
    Ok(script)
}

/// `add(a, b) {…}` and `async *all() {…}` with the word `function` put in; `None` for anything
/// else.
fn method_as_function(source: &str) -> Option<String> {
    let (is_async, rest) = match source.strip_prefix("async") {
        Some(rest) if rest.starts_with(|char: char| char.is_whitespace() || char == '*') => {
            ("async ", rest.trim_start())
        }
        _ => ("", source),
    };
    let (star, rest) = rest.strip_prefix('*').map_or(("", rest), |rest| ("*", rest.trim_start()));
    let name_end =
        rest.find(|char: char| !(char.is_alphanumeric() || char == '_' || char == '$'))?;
    let is_call_like = name_end > 0 && rest[name_end..].trim_start().starts_with('(');
    (is_call_like && &rest[..name_end] != "function")
        .then(|| format!("{is_async}function{star} {rest}"))
}

#[cfg(test)]
mod tests {
    use super::method_as_function;

    #[test]
    fn methods_are_recognised_by_their_head() {
        let method = |source| method_as_function(source);
        assert_eq!(method("add(a) {}").as_deref(), Some("function add(a) {}"));
        assert_eq!(method("async add (a) {}").as_deref(), Some("async function add (a) {}"));
        assert_eq!(method("async *all() {}").as_deref(), Some("async function* all() {}"));
        assert_eq!(method("async (a) => a"), None);
        assert_eq!(method("function (a) {}"), None);
        assert_eq!(method("a => a"), None);
    }
}
