//! `execute-code` in a context that is kept: what it runs is a script, as in a fresh one.

use pool_worker::js::{EngineConfig, FailureKind};

use crate::support::{Bench, assert_kind};

/// Scripts whose results and failures must be the same in a new context and in one that is kept.
const SCRIPTS: &[&str] = &[
    // Values.
    "one(); function one() { return 1 }",
    "const k = 1; one(); function one() { return k }",
    "const k = 1; function f() {} function g() {}",
    "let a = 5; a; function f() {} { function g() {} }",
    "const a = 1; if (a) { 'yes' } else { 'no' }",
    "const a = [1, 2]; for (const b of a) b",
    "const a = 1; a; var b = 2; class C {}",
    "'value'; let a",
    "const a = 1; { a; function f() {} }",
    "let a = 1; switch (a) { case 1: 'one'; function f() {} }",
    "class A { static b = 3 } A.b",
    // Hoisting.
    "var r = typeof globalThis.k; function k() {} r",
    "const c = 1; var r = typeof globalThis.k; function k() {} r",
    "const c = 1; var r = [typeof f, typeof globalThis.f, typeof v, 'v' in globalThis]; function \
     f() {} var v = 1; r",
    "let c = 1; var r = typeof g; { function g() {} } [r, typeof g, typeof globalThis.g]",
    "const c = 1; f = 2; var r = f; function f() {} [r, typeof f]",
    "const c = 1; async function f() {} function* g() {} async function* h() {} [f, g, h].map(x => \
     x === globalThis[x.name])",
    "const c = 1; function f(a) { return a } var f; typeof f",
    "const c = 1; function f() { return 1 } function f() { return 2 } f() + globalThis.f()",
    "const c = 1; var f = 3; function f() {} f",
    "const c = 1; try { early } catch (e) { e.name } let early = 1",
    "try { c = 2 } catch (e) { [e.name, c] } const c = 1",
    // Strictness.
    "'use strict'; function f() { return this } [f(), typeof globalThis.f]",
    "'use strict'; const c = 1; function f() { return this } [f(), typeof globalThis.f, c]",
    "// a comment\n'use strict';\nconst c = 1; (function () { return this === undefined })()",
    "/* a comment */ 'another directive'\n\"use strict\"\nlet c; (function () { return this === \
     undefined })()",
    "'use strict'\n+ 1; let c; (function () { return this === undefined })()",
    "('use strict'); let c; (function () { return this === undefined })()",
    "'use str\\\nict'; let c; (function () { return this === undefined })()",
    "const text = 'use strict'; (function () { return this === globalThis })()",
    "'use strict'; const c = 1; function f() {} function f() { return 2 } f()",
    "'use strict'; let c; { function inner() {} } [typeof inner, typeof globalThis.inner]",
    "// licence\n'use strict';\nundeclaredName = 1",
    "'use strict'; let c; undeclaredName = 1",
    "// licence\n'use strict';\nlet c; with ({}) {}",
    // `this`, and names that mean something to a wrapper.
    "this === globalThis",
    "const c = 1; this === globalThis",
    "let $globals = 1; function f() { return $globals } f()",
    "const c = 1; var v = 3; this.v",
    "const c = 1; function __proto__() {} typeof __proto__",
    "const c = 1; function undefined() {}",
    "#!/usr/bin/env node\nconst c = 4; c",
    "<!-- a comment\nconst c = 4\n--> another\nc // the last",
    "const c = 4; c /* the last */",
    "let { a, b: [c] } = { a: 1, b: [2] }; [a, c]",
    "label: { const c = 1; break label } 'after'",
];

#[test]
fn a_script_does_in_a_kept_context_what_it_does_in_a_new_one() {
    let mut kept = Bench::new();
    for script in SCRIPTS {
        let fresh = Bench::new().code(script);
        // A project for itself: others have left their globals.
        assert_eq!(kept.warm_code(script, script), fresh, "{script}");
        assert_eq!(
            kept.warm_code(script, "'it goes on'").as_deref(),
            Ok("\"it goes on\""),
            "after {script}"
        );
    }
}

#[test]
fn what_a_script_declares_with_let_const_or_class_ends_with_it() {
    let mut bench = Bench::new();
    for script in [
        "let a = 1; const b = 2; class C {} a + b",
        "'use strict'; let a = 1; const b = 2; class C {} a + b",
        "let a = 1; const b = 2; class C {} function f() { return a } f() + b",
        // Its function cannot stand in a block.
        "let a = 1; const b = 2; class C {} function f() {} var f; a + b",
    ] {
        for _ in 0..2 {
            assert_eq!(bench.warm_code("p", script).as_deref(), Ok("3"), "{script}");
            let left = bench.warm_code("p", "[typeof a, typeof b, typeof C]");
            assert_eq!(left.as_deref(), Ok(r#"["undefined","undefined","undefined"]"#), "{script}");
        }
    }
}

#[test]
fn variables_and_functions_are_the_next_scripts_too() {
    let mut bench = Bench::new();
    for script in [
        "var v = 1; function f() { return v }",
        "const c = 1; var v = c; function f() { return v }",
    ] {
        assert_eq!(bench.warm_code(script, script).as_deref(), Ok("null"));
        assert_eq!(bench.warm_code(script, "v = 7; f()").as_deref(), Ok("7"), "{script}");
        assert_eq!(
            bench.warm_code(script, "const c = 2; v = 8; f() + c").as_deref(),
            Ok("10"),
            "{script}"
        );
        assert_eq!(bench.function_of(script, "() => f()", "").as_deref(), Ok("8"), "{script}");
    }
}

#[test]
fn an_evaluated_script_does_in_a_kept_context_what_it_does_in_a_new_one() {
    let allowed = |config: &mut EngineConfig| config.allow_code_generation = true;
    let mut kept = Bench::with(allowed);
    for script in [
        "eval('var v = 1'); [v, globalThis.v, delete globalThis.v]",
        "const c = 1; eval('var v = c'); [v, globalThis.v, delete globalThis.v]",
        "'use strict'; const c = 1; eval('var v = c'); typeof v",
        "const c = 1; (0, eval)('let d = 2'); typeof d",
        "const c = 1; eval('function f() { return c }'); [f(), globalThis.f()]",
    ] {
        let fresh = Bench::with(allowed).code(script);
        for _ in 0..2 {
            assert_eq!(kept.warm_code(script, script), fresh, "{script}");
        }
    }
}

#[test]
fn an_undeclared_name_in_strict_code_stays_undeclared() {
    let mut bench = Bench::new();
    for script in
        ["// licence\n'use strict';\nleft = 1", "/**/ 'use strict'; const c = 1; left = c"]
    {
        let result = bench.warm_code("p", script);
        assert_eq!(assert_kind(&result, FailureKind::Exception).name, "ReferenceError", "{script}");
        assert_eq!(bench.warm_code("p", "typeof left").as_deref(), Ok("\"undefined\""), "{script}");
    }
}

#[test]
fn lines_in_stacks_are_right_in_a_kept_context() {
    let mut bench = Bench::new();
    for script in ["const c = 1;\nnull.x", "const c = 1; function f() {\nnull.x }\nf()"] {
        let fresh = Bench::new().code(script).expect_err("it throws").stack;
        assert_eq!(bench.warm_code("p", script).expect_err("it throws").stack, fresh, "{script}");
    }
}
