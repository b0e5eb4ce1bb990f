//! What uses the language against the engine: recursion, prototypes, results and errors that are
//! not what they seem, and what is switched off.

use pool_tests::tasks::{code, error, function, result, with};
use pool_tests::{Arena, Pool, json};

use super::{limited, threw, timed_out};

#[test]
fn hostile_10_deep_recursion_and_nesting_are_range_errors_and_cost_no_worker() {
    let mut arena = Arena::new(json!({"js": {"allowCodeGeneration": true}}));
    let always = [
        "(function f() { f() })()",
        "const f = () => [1].map(f); f()",
        "const f = () => { try { f() } finally { f() } }; let n = 0; const g = () => { n++; g() }; \
         g()",
        "new Proxy({}, {get: (t, k, self) => self[k]}).x",
        "let p = {}; for (let i = 0; i < 1e5; i++) p = new Proxy(p, {}); Object.keys(p)",
        "const o = {get a() { return this.a }}; o.a",
        "const o = {toString() { return `${this}` }}; `${o}`",
        "const o = {toJSON() { return JSON.stringify(o) }}; JSON.stringify(o)",
        "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; a.flat(Infinity).length",
        "class A { constructor() { new A() } } new A()",
        "const f = (s, ...v) => f`${v}`; f``",
        "'x'.replace(/x/, function f() { return 'x'.replace(/x/, f) })",
        "function f(...a) { return f.apply(null, a) } f()",
        "Function.prototype.call.call(function f() { f.call() })",
        "[1, 2].sort(function f() { return [1, 2].sort(f) })",
        "(function f() { structuredClone({get a() { return f() }}) })()",
        "(function f() { console.log({a: [1]}); f() })()",
        "(function f() { eval('f()') })()",
        "(function* f() { yield* f() })().next()",
    ];
    for source in always {
        let outcome = arena.costs_nothing(code(source));
        assert_eq!(outcome["error"]["name"], "RangeError", "{source}: {outcome}");
    }
    // The engine may also manage these; or refuse to parse them.
    for source in [
        "new RegExp('('.repeat(1e5) + ')'.repeat(1e5)).test('')",
        "new RegExp('(?:'.repeat(3e5) + ')'.repeat(3e5) + '*').test('')",
        "/(?:a(?:b(?:c)*)*)*$/.test('abc'.repeat(1e6))",
        "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; JSON.stringify(a).length",
        "JSON.parse('['.repeat(1e6) + ']'.repeat(1e6)).length",
        "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; String(a).length",
        "let e = new Error(); for (let i = 0; i < 1e5; i++) e = new Error('x', {cause: e}); \
         structuredClone(e).message",
        "let o = {}; for (let i = 0; i < 1e5; i++) o = Object.create(o); o.x",
        "eval('['.repeat(2e5) + ']'.repeat(2e5)).length",
        "eval('- - '.repeat(1e5) + '1')",
        "eval('1' + '+1'.repeat(1e6))",
        "Function('a'.repeat(1), 'return ' + '(a,'.repeat(5e4) + '1' + ')'.repeat(5e4))(1)",
        "let p = () => 1; for (let i = 0; i < 1e5; i++) p = new Proxy(p, {}); p()",
        "let f = () => 1; for (let i = 0; i < 1e5; i++) f = f.bind(null); f()",
        "let s = 'x'; for (let i = 0; i < 1e5; i++) s = 'a' + s + 'b'; s.length",
        "let p = Promise.resolve(); for (let i = 0; i < 1e5; i++) { const q = p; p = new Promise(r \
         => r(q)) } await p; return 1",
    ] {
        let outcome = arena.costs_nothing(with(code(source), json!({"timeout": 60_000})));
        if outcome["status"] != "succeeded" {
            let name = threw(source, &outcome).0;
            assert!(
                ["RangeError", "SyntaxError", "InternalError"].contains(&name),
                "{source}: {outcome}"
            );
        }
    }
    let outcome = arena.costs_nothing(code("let a = []; for (let i = 0; i < 1e5; i++) a = [a]; a"));
    assert_eq!(error(&outcome), "RESULT_NOT_SERIALIZABLE", "{outcome}");
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    assert_eq!(result(arena.costs_nothing(function("x => x", json!([deep.clone()])))), deep);
    arena.finish();
}

/// Everything that a task's result, its promise or its error might meet. `MORE` is what the
/// language itself asks of a value that is awaited: there a task only harms itself.
const POLLUTION: &str = "
    const boom = () => { throw new Error('polluted') };
    for (const P of [Object, Array, Function, Promise, Map, Set, String, Number, RegExp, Date, \
    Error])
        for (const name of ['toJSON', 'valueOf', 'toString', 'get', 'set', 'value', 'length', \
        'join', 'push', MORE])
            try { Object.defineProperty(P.prototype, name, {__proto__: null, value: boom, \
            configurable: true, writable: true}) } catch {}
    for (const P of [Array, String, Map, Set]) Object.defineProperty(P.prototype, Symbol.iterator, \
    {__proto__: null, value: boom, configurable: true});
    Promise.resolve = Promise.reject = Promise.all = boom; JSON.stringify = JSON.parse = boom; \
    Error.prepareStackTrace = boom;
    Object.keys = Object.entries = Object.defineProperty = Object.getPrototypeOf = boom; \
    Reflect.ownKeys = Reflect.get = boom;
    globalThis.Array = globalThis.Promise = globalThis.JSON = globalThis.Symbol = boom; \
    globalThis.left = 1;";

#[test]
fn hostile_11_polluted_prototypes_change_neither_the_result_nor_the_next_task() {
    let mut arena = Arena::new(json!({}));
    let value = json!({"a": [1, "x", null, {"b": true}], "c": {}});
    for ending in [
        "return RESULT",
        "return await (async () => (RESULT))()",
        "await null; return RESULT",
        "return (x => x)(RESULT)",
    ] {
        for realm in ["fresh", "warm"] {
            let more = if ending.contains("await") { "" } else { "'then', 'constructor'" };
            let pollution = POLLUTION.replace("MORE", more);
            let source = format!(
                "{pollution} {}",
                ending.replace("RESULT", "{a: [1, 'x', null, {b: true}], c: {}}")
            );
            let task = with(
                code(&source),
                json!({"realm": realm, "projectId": format!("{realm}{}", ending.len())}),
            );
            assert_eq!(result(arena.costs_nothing(task)), value, "{ending} in {realm}");
        }
        let look = "const a = []; a.push(1); return [typeof left, [...'ab'].join(), \
            JSON.stringify({a}), `${{}}`, (await Promise.all([1]))[0], Object.keys({a}).length]";
        let clean = json!(["undefined", "a,b", "{\"a\":[1]}", "[object Object]", 1, 1]);
        assert_eq!(result(arena.costs_nothing(code(look))), clean, "the next task's realm");
        let other = with(code(look), json!({"realm": "warm", "projectId": "innocent"}));
        assert_eq!(result(arena.costs_nothing(other)), clean, "another project's realm");
    }
    arena.finish();
}

#[test]
fn hostile_12_odd_results_are_faithful_or_a_typed_error() {
    let mut arena = Arena::new(json!({}));
    for (source, value) in [
        (
            "({get a() { return 1 }, b: new Proxy([1, {c: 2}], {})})",
            json!({"a": 1, "b": [1, {"c": 2}]}),
        ),
        ("new Proxy({a: 1}, {})", json!({"a": 1})),
        ("({toJSON: () => ({x: 1})})", json!({"x": 1})),
        (
            "[NaN, Infinity, -0, 1e308, undefined, , null]",
            json!([null, null, 0, 1e308, null, null, null]),
        ),
        ("'\\u0000\\u2028\\u2029\\u007f\\\\\"😀'", json!("\u{0}\u{2028}\u{2029}\u{7f}\\\"😀")),
        ("Object.create({inherited: 1}, {own: {value: 1, enumerable: true}})", json!({"own": 1})),
        ("JSON.parse('{\"__proto__\": {\"a\": 1}}')", json!({"__proto__": {"a": 1}})),
        ("'x'.repeat(1e6).length", json!(1_000_000)),
    ] {
        let outcome = arena.costs_nothing(code(source));
        assert_eq!(result(outcome), value, "{source}");
    }
    for (source, wanted) in [
        ("({get a() { throw new TypeError('no') }})", "JS_EXCEPTION"),
        ("new Proxy({}, {ownKeys() { throw 1 }})", "JS_EXCEPTION"),
        ("const {proxy, revoke} = Proxy.revocable({}, {}); revoke(); proxy", "JS_EXCEPTION"),
        ("({toJSON() { throw null }})", "JS_EXCEPTION"),
        ("const a = {}; a.a = a; a", "RESULT_NOT_SERIALIZABLE"),
        ("const a = []; a.push([[a]]); a", "RESULT_NOT_SERIALIZABLE"),
        ("({toJSON() { return () => 1 }})", "RESULT_NOT_SERIALIZABLE"),
        ("({get a() { return this }})", "RESULT_NOT_SERIALIZABLE"),
        (
            "new Proxy({}, {ownKeys: () => ['a'], getOwnPropertyDescriptor: () => ({value: 1, \
             enumerable: true, configurable: true}), get: (t, k, self) => k === 'toJSON' ? \
             undefined : self})",
            "RESULT_NOT_SERIALIZABLE",
        ),
        ("[1n, Symbol(), new Map()]", "RESULT_NOT_SERIALIZABLE"),
        ("const d = new Date(); d.toJSON = new Proxy(() => d, {}); d", "RESULT_NOT_SERIALIZABLE"),
        ("'x'.repeat(2 ** 29 - 24)", "OUTPUT_LIMIT"),
        ("let s = 'x'.repeat(2 ** 28); ['a' + s, s + 'b', s, s]", "OUTPUT_LIMIT"),
        ("const s = 'x'.repeat(1e6); Array(1000).fill(s)", "OUTPUT_LIMIT"),
        ("new Array(2 ** 32 - 1)", "OUTPUT_LIMIT"),
        ("new Proxy([], {get: (t, k) => k === 'length' ? 2 ** 32 : t[k]})", "OUTPUT_LIMIT"),
        ("({toJSON: () => 'x'.repeat(1e8)})", "OUTPUT_LIMIT"),
    ] {
        let outcome = arena.costs_nothing(with(code(source), json!({"timeout": 60_000})));
        assert_eq!(error(&outcome), wanted, "{source}: {outcome}");
        assert!(outcome.to_string().len() < 100_000, "{source}: the error is capped");
    }
    // A lone surrogate is escaped in the JSON text, which not every reader takes: so the text is
    // looked at itself.
    let shown =
        arena.pool().ctl(&["run", "code", "['\\ud800', 'a\\udfffb'].map(s => s.isWellFormed())"]);
    assert_eq!(shown.stdout.trim(), "[false,false]", "{shown:?}");
    let shown = arena.pool().ctl(&["run", "code", "--json", "['\\ud800', 'a\\udfffb']"]);
    assert!(
        shown.stdout.contains(r#"["\ud800","a\udfffb"]"#) || shown.stdout.contains('\u{fffd}'),
        "{shown:?}"
    );
    arena.finish();
}

#[test]
fn hostile_13_whatever_is_thrown_is_a_bounded_error_and_no_hang() {
    let mut arena = Arena::new(json!({}));
    let loops = "for(;;);";
    for source in [
        "throw null".to_owned(),
        "throw undefined".to_owned(),
        "throw Symbol('s')".to_owned(),
        "throw 10n ** 100000n".to_owned(),
        "throw 'x'.repeat(2 ** 28)".to_owned(),
        "throw new Error('x'.repeat(2 ** 28))".to_owned(),
        "const e = new Error('x'); e.name = 'y'.repeat(2 ** 28); throw e".to_owned(),
        "throw [[[[[[1]]]]]]".to_owned(),
        "throw () => 1".to_owned(),
        "await Promise.reject(null)".to_owned(),
        "throw Object.create(null)".to_owned(),
        format!(
            "throw new Proxy({{}}, {{get() {{ {loops} }}, has() {{ {loops} }}, ownKeys() {{ \
            {loops} }}, getPrototypeOf() {{ {loops} }}}})"
        ),
        format!(
            "throw new Proxy(new Error('x'), {{get() {{ {loops} }}, getOwnPropertyDescriptor() \
            {{ {loops} }}}})"
        ),
        format!(
            "throw {{get message() {{ {loops} }}, get stack() {{ {loops} }}, get name() {{ \
            {loops} }}, toString() {{ {loops} }}}}"
        ),
        format!(
            "const e = new Error('x'); Object.defineProperty(e, 'stack', {{get() {{ {loops} \
            }}}}); throw e"
        ),
        format!(
            "const e = new Error('x'); Object.defineProperty(e, 'message', {{get() {{ {loops} \
            }}}}); e.name = {{toString() {{ {loops} }}}}; throw e"
        ),
        format!("Error.prepareStackTrace = () => {{ {loops} }}; throw new Error('x')"),
        format!("Error.prepareStackTrace = () => {{ {loops} }}; null.x"),
        format!(
            "Object.defineProperty(Error, 'prepareStackTrace', {{get() {{ {loops} }}}}); await \
            Promise.reject(new Error('x'))"
        ),
        format!(
            "Object.defineProperty(Error.prototype, 'name', {{get() {{ {loops} }}}}); \
            Error.prototype.toString = () => {{ {loops} }}; throw new TypeError('x')"
        ),
        format!(
            "throw Object.setPrototypeOf(new Error('x'), new Proxy({{}}, {{get() {{ {loops} \
            }}, getOwnPropertyDescriptor() {{ {loops} }}, getPrototypeOf() {{ {loops} }}}}))"
        ),
        format!(
            "class E extends Error {{ get [Symbol.toStringTag]() {{ {loops} }} get \
            constructor() {{ {loops} }} }} throw new E('x')"
        )
        .replace("get constructor()", "get other()"),
        "let e = new Error('deep'); for (let i = 0; i < 1e5; i++) e = new Error('x', {cause: e}); \
         throw e"
            .to_owned(),
        "throw new AggregateError(Array(1e5).fill(new Error('x')), 'many')".to_owned(),
        "let o = {}; o.o = o; throw o".to_owned(),
        "let p = new Error('x'); for (let i = 0; i < 1e5; i++) p = Object.create(p); throw \
         p"
        .to_owned(),
    ] {
        let outcome = arena.costs_nothing(with(code(&source), json!({"timeout": 60_000})));
        assert_eq!(error(&outcome), "JS_EXCEPTION", "{source}: {outcome}");
        let text = outcome["error"].to_string();
        assert!(text.len() <= 64 * 1024, "{source}: {} bytes of error", text.len());
        assert!(outcome["error"]["message"].is_string(), "{source}: {outcome}");
    }
    // What the task itself reads may well loop; then it runs out of time.
    let source = "const e = new Error('x'); Object.defineProperty(e, 'stack', {get() { for(;;); \
        }}); e.stack";
    let outcome = arena.costs_its_worker(limited(source, 150));
    timed_out(source, &outcome);
    arena.finish();
}

#[test]
fn hostile_15_what_is_switched_off_says_so() {
    let mut arena = Arena::new(json!({}));
    let wasm = "new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])";
    for (source, name, message) in [
        ("eval('1')".to_owned(), "EvalError", "Code generation from strings"),
        ("(0, eval)('1')".to_owned(), "EvalError", "Code generation from strings"),
        ("new Function('return 1')".to_owned(), "EvalError", "Code generation from strings"),
        ("Function('return this')()".to_owned(), "EvalError", "Code generation from strings"),
        ("(() => {}).constructor('1')".to_owned(), "EvalError", "Code generation from strings"),
        (
            "(async () => {}).constructor('1')".to_owned(),
            "EvalError",
            "Code generation from strings",
        ),
        (
            "(function* () {}).constructor('1')".to_owned(),
            "EvalError",
            "Code generation from strings",
        ),
        (
            "(async function* () {}).constructor('1')".to_owned(),
            "EvalError",
            "Code generation from strings",
        ),
        (
            "Reflect.construct(Function, ['1'])".to_owned(),
            "EvalError",
            "Code generation from strings",
        ),
        ("setTimeout('1', 1)".to_owned(), "TypeError", "must be a function"),
        ("setInterval('1', 1)".to_owned(), "TypeError", "must be a function"),
        ("await import('fs')".to_owned(), "TypeError", "execute-module"),
        ("await import('/etc/passwd')".to_owned(), "TypeError", "execute-module"),
        ("await import('data:text/javascript,1')".to_owned(), "TypeError", "execute-module"),
        (format!("new WebAssembly.Module({wasm})"), "ReferenceError", "WebAssembly"),
        (format!("await WebAssembly.compile({wasm})"), "ReferenceError", "WebAssembly"),
        ("require('fs')".to_owned(), "ReferenceError", "require"),
    ] {
        let outcome = arena.costs_nothing(code(&source));
        let (threw_name, threw_message) = threw(&source, &outcome);
        assert_eq!(threw_name, name, "{source}: {outcome}");
        assert!(threw_message.contains(message), "{source}: {outcome}");
    }
    arena.finish();
    let open = Pool::start(json!({"js": {"allowCodeGeneration": true, "allowWasm": true}}));
    for source in [
        "eval('1')".to_owned(),
        "Function('return 1')()".to_owned(),
        format!("new WebAssembly.Module({wasm}) && 1"),
    ] {
        assert_eq!(
            result(open.run(code(&source))),
            1,
            "allowed where the configuration says so: {source}"
        );
    }
}

#[test]
fn hostile_16_waiting_in_atomics_is_a_type_error() {
    let mut arena = Arena::new(json!({}));
    for source in [
        "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)",
        "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1e9)",
        "Atomics.wait(new BigInt64Array(new SharedArrayBuffer(8)), 0, 0n)",
    ] {
        let outcome = arena.costs_nothing(code(source));
        let (name, message) = threw(source, &outcome);
        assert_eq!(name, "TypeError", "{source}: {outcome}");
        assert!(message.contains("Atomics.wait"), "{source}: {outcome}");
    }
    arena.finish();
}
