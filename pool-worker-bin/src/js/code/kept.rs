//! Code of a warm realm: a script like any other, but for what its top level may not leave.
//!
//! `let`, `const` and classes at the top of a script stay for as long as its context does, and a
//! second script that declares the same name is an error. So a script that may have any runs as a
//! block, in which they are its own. Two things would differ in a block: functions would be no
//! globals, and in sloppy code V8 would take a declaration for the script's value. So the block
//! first makes its functions global, and stands in another one that declares their names; inside of
//! that a function is nothing but the block's own. What cannot stand in a block runs as it is, and
//! takes its context along.

use super::{BodyChecker, Compiled, compile_script, source_text};

/// Words without which a script has nothing to leave.
const DECLARING: &[&str] = &["let", "const", "class", "using"];

/// The script for a context that is kept. `script`: the source, compiled as it is.
pub(super) fn for_kept_context<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    checker: &mut Option<BodyChecker>,
    source: &str,
    script: v8::Local<'s, v8::Script>,
) -> Compiled<'s> {
    if !DECLARING.iter().any(|word| source.contains(word)) {
        return Compiled::Script(script);
    }
    match as_block(scope, checker, source) {
        Some(block) => Compiled::Script(block),
        None => Compiled::Leaving(script),
    }
}

fn as_block<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    checker: &mut Option<BodyChecker>,
    source: &str,
) -> Option<v8::Local<'s, v8::Script>> {
    let functions = if source.contains("function") {
        functions_of(scope, checker, source)?
    } else {
        Vec::new()
    };
    let is_strict = source.contains("use strict") && is_strict(scope, source);
    let directive = if is_strict { "'use strict';" } else { "" };
    let (head, tail) = if functions.is_empty() {
        ("{".to_owned(), "}")
    } else {
        (head_for(source, &functions), "}}")
    };
    let text = source_text(scope, &format!("{directive}{head}\n{source}\n{tail}")).ok()?;
    compile_script(scope, text, 1).ok()
}

/// Two blocks, with what makes the functions global in the inner one. A declaration gives a script
/// no value, so it is in one; its name is one that the source does not have.
fn head_for(source: &str, functions: &[String]) -> String {
    let mut hidden = "$globals".to_owned();
    while source.contains(&hidden) {
        hidden.push('$');
    }
    let names = functions.join(",");
    let made: Vec<_> = functions.iter().map(|name| format!("this.{name}={name}")).collect();
    format!("{{let {names};{{let {hidden}=[{}];", made.join(","))
}

fn functions_of(
    scope: &mut v8::PinScope<'_, '_>,
    checker: &mut Option<BodyChecker>,
    source: &str,
) -> Option<Vec<String>> {
    if checker.is_none() {
        *checker = BodyChecker::new(scope);
    }
    checker.as_ref()?.functions_of(scope, source)
}

/// Whether a script begins with the directive, whatever stands before it: strict code knows no
/// `with`.
fn is_strict(scope: &mut v8::PinScope<'_, '_>, source: &str) -> bool {
    v8::scope!(let scope, scope);
    v8::tc_scope!(let scope, scope);
    scope.set_capture_message(false);
    v8::String::new(scope, &format!("{source}\n;with(0);"))
        .is_some_and(|text| v8::Script::compile(scope, text, None).is_none())
}
