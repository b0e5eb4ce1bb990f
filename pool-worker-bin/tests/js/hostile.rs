//! What the engine must survive.

use pool_worker::js::FailureKind;

use crate::support::{Bench, assert_kind, on_large_stack};

#[test]
fn deep_recursion_is_a_range_error() {
    on_large_stack(|| {
        let mut bench = Bench::new();
        for code in [
            "(function f() { f() })()",
            "const f = () => [1].map(f); f()",
            "let a = {}; for (let i = 0; i < 1e5; i++) a = {a}; JSON.stringify(a).length",
            "JSON.parse('['.repeat(1e6) + ']'.repeat(1e6)).length",
            "new RegExp('('.repeat(1e5) + ')'.repeat(1e5))",
            "let p = {}; for (let i = 0; i < 1e5; i++) p = new Proxy(p, {}); p.x",
            "let p = {}; for (let i = 0; i < 1e5; i++) p = new Proxy(p, {}); Object.keys(p)",
            "const o = {get a() { return this.a }}; o.a",
            "const o = {toString() { return `${this}` }}; `${o}`",
            "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; a.flat(Infinity).length",
            "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; String(a)",
            "const e = new Error(); let c = e; for (let i = 0; i < 1e5; i++) c = new Error('x', \
             {cause: c}); (function f() { f(c) })()",
            "class A { constructor() { new A() } } new A()",
        ] {
            // Where V8 needs no stack for it, it may also work.
            if let Err(failure) = bench.code(code) {
                assert_eq!(failure.kind, FailureKind::Exception, "{code}: {failure:?}");
                assert!(
                    matches!(failure.name.as_str(), "RangeError" | "SyntaxError"),
                    "{code}: {failure:?}"
                );
            }
        }
        let source = "[".repeat(200_000) + &"]".repeat(200_000);
        assert!(bench.code(&source).is_err());
        let result = bench.code(&format!("return await {}1", "- - ".repeat(100_000)));
        assert!(result.is_err());
        let args = format!("[{}]", "[".repeat(500_000) + &"]".repeat(500_000));
        let result = bench.function("x => 1", &args);
        assert!(
            result.is_ok() || result.is_err_and(|failure| failure.kind == FailureKind::InvalidTask)
        );
        let recursing_log = "(function f() { console.log({a: [1]}); f() })()";
        assert_eq!(
            assert_kind(&bench.code(recursing_log), FailureKind::Exception).name,
            "RangeError"
        );
        assert_eq!(bench.code("'alive'").as_deref(), Ok("\"alive\""));
    });
}

#[test]
fn pollution_of_prototypes_changes_neither_the_result_nor_the_next_task() {
    let pollution = "
        const boom = () => { throw new Error('polluted') };
        for (const proto of [Object.prototype, Array.prototype]) {
            for (const name of ['toJSON', 'then', 'get', 'set', 'value', 'message', 'name', \
            'stack', 'enumerable'])
                Object.defineProperty(proto, name, {__proto__: null, get: () => boom, set() {}, \
                configurable: true});
        }
        for (const name of ['then', 'catch', 'finally', 'constructor'])
            Object.defineProperty(Promise.prototype, name, {__proto__: null, value: boom, \
            configurable: true});
        Array.prototype[Symbol.iterator] = String.prototype[Symbol.iterator] = boom;
        Array.prototype.push = Array.prototype.map = Array.prototype.join = boom;
        JSON.stringify = JSON.parse = boom; Object.keys = Reflect.ownKeys = boom;
        Function.prototype.call = Function.prototype.apply = boom;
        globalThis.Promise = globalThis.Array = globalThis.Object = globalThis.Error = \
        globalThis.JSON = boom;
        Symbol.prototype[Symbol.toPrimitive] = boom;
        console.log = boom; globalThis.setTimeout = boom;
    ";
    let mut bench = Bench::new();
    for realm_is_warm in [false, true] {
        let code = format!("{pollution} ({{a: [1, 'x', {{b: null}}]}})");
        let result = if realm_is_warm { bench.warm_code("p", &code) } else { bench.code(&code) };
        assert_eq!(result.as_deref(), Ok(r#"{"a":[1,"x",{"b":null}]}"#));
    }
    let result = bench.code(&format!("{pollution} throw new RangeError('mine')"));
    assert_eq!(assert_kind(&result, FailureKind::Exception).message, "mine");
    let clean = "return [typeof [].toJSON, typeof ({}).then, JSON.stringify([...'ab']), await \
        Promise.resolve(1)]";
    assert_eq!(bench.code(clean).as_deref(), Ok(r#"["undefined","undefined","[\"a\",\"b\"]",1]"#));
    let result = bench.function_of("p", "x => ({x})", "[[1, 2]]");
    assert_eq!(
        result.as_deref(),
        Ok(r#"{"x":[1,2]}"#),
        "a polluted warm context still runs functions"
    );
}

#[test]
fn whatever_is_thrown_becomes_bounded_text() {
    let mut bench = Bench::new();
    for (code, name, message) in [
        ("throw null", "Error", "null"),
        ("throw undefined", "Error", "undefined"),
        ("throw 'text'", "Error", "text"),
        ("throw 42", "Error", "42"),
        ("throw Symbol('s')", "Error", "Symbol(s)"),
        ("throw {a: 1}", "Error", "{ a: 1 }"),
        ("throw {name: 'Custom', message: 'like an error'}", "Custom", "like an error"),
        (
            "throw new Proxy(new Error('x'), {get() { for(;;); }, getPrototypeOf() { for(;;); }})",
            "Error",
            "[Proxy]",
        ),
        ("throw {get message() { for(;;); }}", "Error", "{ message: [Getter] }"),
        (
            "class MyError extends Error { name = 'MyError' }; throw new MyError('m')",
            "MyError",
            "m",
        ),
        (
            "const e = new Error('m'); Object.setPrototypeOf(e, new Proxy({}, {get() { for(;;); \
             }})); throw e",
            "Error",
            "m",
        ),
        (
            "const e = new Error('m'); Object.defineProperty(e, 'message', {get() { for(;;); }}); \
             throw e",
            "Error",
            "",
        ),
        (
            "const e = new Error('m'); Object.defineProperty(e, 'stack', {get() { for(;;); }}); \
             throw e",
            "Error",
            "m",
        ),
        (
            "Error.prepareStackTrace = () => { for(;;); }; throw new TypeError('hooked')",
            "TypeError",
            "hooked",
        ),
        (
            "Error.prepareStackTrace = () => { for(;;); }; await Promise.reject(new \
             TypeError('hooked'))",
            "TypeError",
            "hooked",
        ),
        (
            "Error.stackTraceLimit = Infinity; (function f(n) { if (n) f(n - 1); else throw new \
             Error('deep') })(500)",
            "Error",
            "deep",
        ),
        ("throw (() => 1)", "Error", "[Function (anonymous)]"),
    ] {
        let result = bench.code(code);
        let failure = assert_kind(&result, FailureKind::Exception);
        assert_eq!((failure.name.as_str(), failure.message.as_str()), (name, message), "{code}");
    }
    for code in [
        "throw new Error('x'.repeat(1e6))",
        "throw new Error('x'.repeat(2 ** 29 - 24))",
        "throw 'x'.repeat(2 ** 29 - 24)",
        "const e = new Error('x'); e.name = 'N'.repeat(1e6); throw e",
        "const f = {['n'.repeat(1e5)]() { throw new Error('x') }}; Object.values(f)[0]()",
        "throw Array.from({length: 1e5}, (_, i) => ({i}))",
    ] {
        let result = bench.code(code);
        let failure = assert_kind(&result, FailureKind::Exception);
        assert!(failure.name.len() < 300 && failure.message.len() < 9000, "{code}");
        assert!(failure.stack.as_ref().is_none_or(|stack| stack.len() < 17_000), "{code}");
    }
}

#[test]
fn array_buffer_bombs_are_range_errors_and_their_memory_comes_back() {
    let mut bench = Bench::with(|config| config.array_buffer_limit_bytes = 16 << 20);
    for code in [
        "new ArrayBuffer(2 ** 30)",
        "new Uint8Array(17 << 20)",
        "const kept = []; for (;;) kept.push(new Uint8Array(1 << 20))",
        "new SharedArrayBuffer(2 ** 30)",
        "const kept = []; for (;;) kept.push(structuredClone(new ArrayBuffer(1 << 20)))",
    ] {
        let result = bench.code(code);
        assert_eq!(assert_kind(&result, FailureKind::Exception).name, "RangeError", "{code}");
    }
    let result = bench.code("for (let i = 0; i < 100; i++) new Uint8Array(8 << 20); 'collected'");
    assert_eq!(result.as_deref(), Ok("\"collected\""));
}

#[test]
fn atomics_wait_is_a_type_error() {
    let result =
        Bench::new().code("Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000)");
    assert_eq!(assert_kind(&result, FailureKind::Exception).name, "TypeError");
}

#[test]
fn web_assembly_exists_only_where_allowed() {
    // An empty module, and one whose memory grows by a page on each call.
    let compile = "WebAssembly.compile(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])).then(m => m \
        instanceof WebAssembly.Module)";
    assert_eq!(
        assert_kind(&Bench::new().code(compile), FailureKind::Exception).name,
        "ReferenceError"
    );
    let mut allowed = Bench::with(|config| config.allow_wasm = true);
    assert_eq!(allowed.code(compile).as_deref(), Ok("true"));
    assert_eq!(allowed.code("typeof FinalizationRegistry").as_deref(), Ok("\"undefined\""));
    let result = allowed.code("new WebAssembly.Memory({initial: 65536})");
    assert!(result.is_err(), "{result:?}");
}

#[test]
fn contexts_are_collected() {
    let mut bench = Bench::new();
    let mut largest = 0;
    for round in 0..2000 {
        bench.engine.prepare_spare();
        let outcome = bench.run(
            "default",
            pool_worker::js::Realm::Fresh,
            pool_worker::js::Work::Code {
                source: "globalThis.x = new Array(1000).fill(1); 1",
                context_json: b"",
            },
        );
        assert!(outcome.result.is_ok(), "round {round}: {:?}", outcome.result);
        largest = largest.max(outcome.memory_bytes);
    }
    println!("largest heap: {} KiB", largest >> 10);
    assert!(largest < 64 << 20, "{largest} bytes");
}

#[test]
fn locale_data_is_there() {
    let code = "return [new Intl.NumberFormat('de-DE').format(1234.5), \
        'é'.normalize('NFD').length, /\\p{Lu}/u.test('Ä'), new Date(0).toLocaleDateString('en-GB', \
        {timeZone: 'Asia/Tokyo', month: 'long'})]";
    assert_eq!(Bench::new().code(code).as_deref(), Ok(r#"["1.234,5",2,true,"January"]"#));
}
