//! Code of the frozen realm: strict, and made so that each task runs it anew.
//!
//! A script becomes the text of a direct `eval` in strict code, which is what the language has for
//! it: variables of its own, and a completion value. What has a top-level `return` or `await`
//! becomes a function that is called, and the source of a function one that gives a new function on
//! each call. Names of a task's context are the parameters of a function around.

use super::super::errors::Trouble;
use super::super::host::{host, text};
use super::super::task::{FailureKind, JsFailure};
use super::{
    Around, BodyChecker, Rejection, SCRIPT_NAME, as_expression, attempt, body_of,
    has_top_level_await, method_as_function, origin, source_text,
};

const DIRECTIVE: &str = "'use strict';";

/// No variable can have these names in strict code; the last ones can, but a script could not
/// either.
const RESERVED: &[&str] = &[
    "arguments",
    "await",
    "break",
    "case",
    "catch",
    "class",
    "const",
    "continue",
    "debugger",
    "default",
    "delete",
    "do",
    "else",
    "enum",
    "eval",
    "export",
    "extends",
    "false",
    "finally",
    "for",
    "function",
    "if",
    "implements",
    "import",
    "in",
    "instanceof",
    "interface",
    "let",
    "new",
    "null",
    "package",
    "private",
    "protected",
    "public",
    "return",
    "static",
    "super",
    "switch",
    "this",
    "throw",
    "true",
    "try",
    "typeof",
    "var",
    "void",
    "while",
    "with",
    "yield",
    "Infinity",
    "NaN",
    "undefined",
];

/// Code that has been understood. The functions here are strict and have no name, so that nothing
/// that runs in one can take hold of it.
pub(in super::super) enum Understood {
    /// For an evaluator. Whether it parses may not be known yet.
    Script(v8::Global<v8::String>),
    /// Its result is the task's.
    Body(v8::Global<v8::Function>),
    /// Gives a body, when called with the context's values.
    Maker(v8::Global<v8::Function>),
}

/// Whether a context may have this key.
pub(in super::super) fn is_variable(name: &str) -> bool {
    let is_letter = |char: char| char.is_alphabetic() || char == '_' || char == '$';
    name.starts_with(is_letter)
        && name.chars().all(|char| is_letter(char) || char.is_alphanumeric())
        && !RESERVED.contains(&name)
}

/// Finds out how the code is meant. `names`: the variables it is given, separated by commas.
pub(in super::super) fn understand(
    scope: &mut v8::PinScope<'_, '_>,
    checker: &mut Option<BodyChecker>,
    source: &str,
    names: &str,
) -> Result<Understood, Trouble> {
    v8::scope!(let scope, scope);
    let mentions_await = source.contains("await");
    if !mentions_await && !source.contains("return") {
        return script(scope, source);
    }
    if is_script(scope, source)? {
        let text = source_text(scope, source)?;
        if mentions_await
            && has_top_level_await(scope, text)
            && let Ok(body) = async_body(scope, checker, source, names)
        {
            return Ok(body);
        }
        return script(scope, source);
    }
    let mut rejections = Vec::new();
    if mentions_await {
        match async_body(scope, checker, source, names) {
            Ok(body) => return Ok(body),
            Err(rejection) => rejections.push(rejection),
        }
    }
    match plain_body(scope, source, names) {
        Ok(body) => return Ok(body),
        Err(rejection) => rejections.push(rejection),
    }
    // The parse that came further knows more.
    let mut best = parse_script(scope, source)
        .err()
        .unwrap_or(Rejection { trouble: Trouble::Thrown, offset: 0 });
    for rejection in rejections {
        if rejection.offset > best.offset {
            best = rejection;
        }
    }
    Err(best.trouble)
}

/// What is wrong with a script, if it does not parse.
pub(in super::super) fn check_script(
    scope: &mut v8::PinScope<'_, '_>,
    source: &str,
) -> Result<(), Trouble> {
    parse_script(scope, source).map_err(|rejection| rejection.trouble)
}

/// A function that evaluates the text which the engine holds ready, with these variables around it.
pub(in super::super) fn compile_evaluator(
    scope: &mut v8::PinScope<'_, '_>,
    names: &str,
) -> Result<v8::Global<v8::Function>, Trouble> {
    v8::scope!(let scope, scope);
    // What `eval` is given is replaced, so that the task sees no variable of ours that has its
    // source. Without a name of a file, no stack shows it. The project is in it, for V8 keeps what
    // `eval` compiles by the text and by the function it stands in.
    let mark = host(scope).project_number();
    let source = text(scope, &format!("{DIRECTIVE}({names}) => eval('')//{mark}"));
    let function = attempt(scope, 0, |scope| v8::Script::compile(scope, source, None)?.run(scope));
    function.ok().and_then(|function| keep(scope, function)).ok_or_else(|| {
        let message =
            format!("context has a key that cannot be the name of a variable, among {names}");
        JsFailure::new(FailureKind::InvalidTask, "TypeError", message).into()
    })
}

/// A function that gives a new one of this source.
pub(in super::super) fn compile_function(
    scope: &mut v8::PinScope<'_, '_>,
    source: &str,
) -> Result<v8::Global<v8::Function>, Trouble> {
    v8::scope!(let scope, scope);
    let around = Around { directive: DIRECTIVE, head: "(function () { return ", tail: " })" };
    let source = source.trim().trim_end_matches(';');
    let script = match as_expression(scope, around, source) {
        Ok(script) => script,
        Err(rejection) => {
            match method_as_function(source).map(|source| as_expression(scope, around, &source)) {
                Some(Ok(script)) => script,
                _ => return Err(rejection.trouble),
            }
        }
    };
    script.run(scope).and_then(|function| keep(scope, function)).ok_or(Trouble::Thrown)
}

fn keep(
    scope: &v8::PinScope<'_, '_>,
    value: v8::Local<'_, v8::Value>,
) -> Option<v8::Global<v8::Function>> {
    let function = v8::Local::<v8::Function>::try_from(value).ok()?;
    Some(v8::Global::new(scope, function))
}

fn script(scope: &mut v8::PinScope<'_, '_>, source: &str) -> Result<Understood, Trouble> {
    // Code of an `eval` has no name of a file but this one.
    let text = source_text(scope, &format!("{source}\n//# sourceURL={SCRIPT_NAME}"))?;
    Ok(Understood::Script(v8::Global::new(scope, text)))
}

fn parse_script(scope: &mut v8::PinScope<'_, '_>, source: &str) -> Result<(), Rejection> {
    let origin = origin(scope, SCRIPT_NAME, 1, false);
    let text = strict_text(scope, source)?;
    attempt(scope, PREFIX, |scope| v8::Script::compile(scope, text, Some(&origin))).map(|_| ())
}

/// Whether the source parses as a script. Says nothing of what is wrong: that costs as much as the
/// parse.
fn is_script(scope: &mut v8::PinScope<'_, '_>, source: &str) -> Result<bool, Trouble> {
    let origin = origin(scope, SCRIPT_NAME, 1, false);
    let text = strict_text(scope, source).map_err(|rejection| rejection.trouble)?;
    v8::tc_scope!(let scope, scope);
    scope.set_capture_message(false);
    Ok(v8::Script::compile(scope, text, Some(&origin)).is_some())
}

/// Characters before the user's first in [`strict_text`].
const PREFIX: i32 = 14;

/// The source with the directive before it.
fn strict_text<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    source: &str,
) -> Result<v8::Local<'s, v8::String>, Rejection> {
    source_text(scope, &format!("{DIRECTIVE}\n{source}"))
        .map_err(|trouble| Rejection { trouble, offset: 0 })
}

fn async_body(
    scope: &mut v8::PinScope<'_, '_>,
    checker: &mut Option<BodyChecker>,
    source: &str,
    names: &str,
) -> Result<Understood, Rejection> {
    let body = wrapped(scope, "async function () {\n", source, names)?;
    if checker.is_none() {
        *checker = BodyChecker::new(scope);
    }
    let alone = format!("{DIRECTIVE}\n{source}");
    checker.as_ref().ok_or_else(out_of_luck)?.accepts(scope, &alone)?;
    Ok(body)
}

fn plain_body(
    scope: &mut v8::PinScope<'_, '_>,
    source: &str,
    names: &str,
) -> Result<Understood, Rejection> {
    let alone = strict_text(scope, source)?;
    let origin = origin(scope, SCRIPT_NAME, 1, false);
    let body = body_of(scope, alone, &origin, PREFIX)?;
    if names.is_empty() {
        return Ok(Understood::Body(v8::Global::new(scope, body)));
    }
    wrapped(scope, "function () {\n", source, names)
}

/// The source inside of a function, which is inside of another one if there are names. Whether it
/// stays inside is for the caller to prove.
fn wrapped(
    scope: &mut v8::PinScope<'_, '_>,
    head: &str,
    source: &str,
    names: &str,
) -> Result<Understood, Rejection> {
    // V8 compiles a function that stands in brackets at once, not first for its syntax alone.
    let (before, after) = if names.is_empty() {
        ("(".to_owned(), "\n})")
    } else {
        (format!("(function ({names}) {{ return ("), "\n}) })")
    };
    let head = format!("{DIRECTIVE}{before}{head}");
    let origin = origin(scope, SCRIPT_NAME, 1, false);
    let text = source_text(scope, &format!("{head}{source}{after}"))
        .map_err(|trouble| Rejection { trouble, offset: 0 })?;
    let prefix = i32::try_from(head.len()).unwrap_or(i32::MAX);
    let script = attempt(scope, prefix, |scope| v8::Script::compile(scope, text, Some(&origin)))?;
    let function =
        script.run(scope).and_then(|function| keep(scope, function)).ok_or_else(out_of_luck)?;
    Ok(if names.is_empty() { Understood::Body(function) } else { Understood::Maker(function) })
}

fn out_of_luck() -> Rejection {
    Rejection { trouble: Trouble::Thrown, offset: i32::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_variables_are_told_from_other_keys() {
        for name in ["a", "$", "_1", "été", "名", "of", "async"] {
            assert!(is_variable(name), "{name}");
        }
        for name in [
            "",
            "1",
            "a-b",
            "a b",
            "a.b",
            "a,b",
            "a=1",
            "a\n",
            "class",
            "eval",
            "undefined",
            "a)",
            "\\u0061",
        ] {
            assert!(!is_variable(name), "{name}");
        }
    }

    #[test]
    fn the_prefix_is_as_long_as_what_it_counts() {
        assert_eq!(PREFIX, i32::try_from(DIRECTIVE.len() + 1).expect("short"));
    }
}
