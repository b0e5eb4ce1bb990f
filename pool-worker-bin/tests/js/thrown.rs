//! What an outcome tells of an error besides its name and message.

use pool_worker::js::{FailureKind, Held, HeldCode, HeldError, JsFailure, Realm, Work};

use crate::support::{Bench, text};

fn thrown(code: &str) -> JsFailure {
    let [fresh, warm, frozen] = [Realm::Fresh, Realm::Warm, Realm::Frozen].map(|realm| {
        let result =
            text(Bench::new().run("p", realm, Work::Code { source: code, context_json: b"" }));
        let failure = result.expect_err("it throws");
        assert_eq!(failure.kind, FailureKind::Exception, "{realm:?}: {code}");
        failure
    });
    assert_eq!(fresh, warm, "{code}");
    assert_eq!(fresh.held, frozen.held, "{code}");
    fresh
}

fn held(code: &str) -> Held {
    *thrown(code).held
}

fn messages(errors: &[HeldError]) -> Vec<&str> {
    errors.iter().map(|error| &*error.message).collect()
}

#[test]
fn a_cause_is_told_with_its_own() {
    let held =
        held("throw new Error('outer', {cause: new TypeError('middle', {cause: 'the root'})})");
    let middle = held.cause.expect("it has one");
    assert_eq!((middle.name.as_deref(), &*middle.message), (Some("TypeError"), "middle"));
    assert!(
        middle.stack.is_some_and(|stack| stack.starts_with("TypeError: middle\n    at task.js:1:"))
    );
    let root = middle.held.cause.expect("it has one");
    assert_eq!(
        *root,
        HeldError { name: None, message: "the root".into(), stack: None, held: Held::default() }
    );
}

#[test]
fn a_cause_may_be_anything() {
    for (cause, message) in [
        ("{status: 404, url: '/x'}", "{ status: 404, url: '/x' }"),
        ("null", "null"),
        ("5", "5"),
        ("{message: 'no class'}", "no class"),
        ("new Proxy({}, {get() { throw 1 }})", "[Proxy]"),
        ("{get message() { for (;;); }}", "{ message: [Getter] }"),
    ] {
        let held = held(&format!("throw new Error('e', {{cause: {cause}}})"));
        let told = held.cause.expect("it has one");
        assert_eq!((told.name, &*told.message), (None, message), "{cause}");
    }
    assert_eq!(held("throw new Error('e', {cause: undefined})"), Held::default());
    assert_eq!(held("throw 'text'"), Held::default());
}

#[test]
fn every_one_of_several_errors_is_told() {
    for code in [
        "throw new AggregateError([new Error('a'), 'b', new RangeError('c')], 'all')",
        "return await Promise.any([new Error('a'), 'b', new RangeError('c')].map(e => \
         Promise.reject(e)))",
        "throw Object.assign(new Error('e'), {errors: [new Error('a'), 'b', new RangeError('c')]})",
    ] {
        let errors = held(code).errors;
        assert_eq!(messages(&errors), ["a", "b", "c"], "{code}");
        let names: Vec<_> = errors.iter().map(|error| error.name.as_deref()).collect();
        assert_eq!(names, [Some("Error"), None, Some("RangeError")], "{code}");
    }
}

#[test]
fn a_code_is_told_where_it_is_text_or_a_whole_number() {
    let code =
        |code: &str| held(&format!("throw Object.assign(new Error('e'), {{code: {code}}})")).code;
    assert_eq!(code("'E_FULL'"), Some(HeldCode::Text("E_FULL".into())));
    assert_eq!(code("404"), Some(HeldCode::Number(404)));
    assert_eq!(code("-1"), Some(HeldCode::Number(-1)));
    for other in ["1.5", "NaN", "Infinity", "{}", "null", "Symbol()", "10n"] {
        assert_eq!(code(other), None, "{other}");
    }
    let of_class =
        held("class Full extends Error {} Full.prototype.code = 'E_FULL'; throw new Full('e')")
            .code;
    assert_eq!(of_class, Some(HeldCode::Text("E_FULL".into())));
    let inner =
        held("throw new Error('e', {cause: Object.assign(new Error('i'), {code: 'E_IN'})})").cause;
    assert_eq!(inner.expect("it has one").held.code, Some(HeldCode::Text("E_IN".into())));
}

#[test]
fn what_an_error_holds_is_bounded() {
    let round = held("const e = new Error('round'); e.cause = e; throw e");
    let mut depth = 0;
    let mut at = round.cause.as_deref();
    while let Some(error) = at {
        depth += 1;
        at = error.held.cause.as_deref();
    }
    assert_eq!(depth, 4);
    let errors =
        held("throw new AggregateError(Array.from({length: 1e5}, (_, n) => new Error(n)))").errors;
    assert_eq!(errors.len(), 17);
    assert_eq!(errors[16].message, "… and 99984 more");
    let wide =
        "const e = new AggregateError([]); e.errors = Array(100).fill(e); e.cause = e; throw e";
    assert!(held(wide).errors.len() <= 17);
    let long = held("throw new Error('e', {cause: new Error('x'.repeat(1e5))})")
        .cause
        .expect("it has one");
    assert!(long.message.len() <= 2052 && long.stack.is_some_and(|stack| stack.len() <= 4100));
}

#[test]
fn reading_an_error_runs_none_of_the_tasks_code() {
    let code = "const e = new Error('e'); for (const name of ['cause', 'errors', 'code']) \
        Object.defineProperty(e, name, {get() { for (;;); }}); throw e";
    assert_eq!(held(code), Held::default());
    let errors = "const list = []; Object.defineProperty(list, 0, {get() { for (;;); }}); throw \
        Object.assign(new Error('e'), {errors: list})";
    assert_eq!(messages(&held(errors).errors), ["undefined"]);
    let proxy =
        "throw Object.assign(new Error('e'), {errors: new Proxy([], {get() { for (;;); }})})";
    assert_eq!(held(proxy), Held::default());
}

#[test]
fn a_refusal_to_make_code_from_strings_names_the_setting() {
    for code in ["eval('1')", "new Function('1')", "return await (async () => {}).constructor('1')"]
    {
        let failure = thrown(code);
        assert_eq!(failure.name, "EvalError", "{code}");
        assert!(failure.message.contains("js.allowCodeGeneration"), "{failure:?}");
    }
    assert_eq!(thrown("throw new EvalError('mine')").message, "mine");
}
