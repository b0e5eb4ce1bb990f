//! JavaScript results must be JSON values.

use pool_worker::js::FailureKind;

use crate::support::{Bench, assert_kind, on_large_stack};

#[test]
fn values_become_json_as_json_stringify_writes_them() {
    let mut bench = Bench::new();
    for (code, json) in [
        ("undefined", "null"),
        ("null", "null"),
        (
            "[true, false, -0, 1.5, 1e21, 1e-7, 123456789012]",
            "[true,false,0,1.5,1e+21,1e-7,123456789012]",
        ),
        ("[NaN, Infinity, -Infinity]", "[null,null,null]"),
        (
            "({a: undefined, b: [undefined], c: {}, '1': [], 'x y': ''})",
            r#"{"1":[],"b":[null],"c":{},"x y":""}"#,
        ),
        (r#"'"\\\n\u0000\u2028é😀'"#, "\"\\\"\\\\\\n\\u0000\u{2028}é😀\""),
        ("'\\ud800x'", "\"\\ud800x\""),
        ("({'\\udfff': 1})", "{\"\\udfff\":1}"),
        ("[, 1]", "[null,1]"),
        ("new (class Point { x = 1; #y = 2; get z() { return 3 } })", r#"{"x":1}"#),
        (
            "Object.create({inherited: 1}, {own: {value: 2, enumerable: true}, hidden: {value: \
             3}})",
            r#"{"own":2}"#,
        ),
        (
            "[new Number(1), new String('s'), new Boolean(false), new Boolean(true)]",
            r#"[1,"s",false,true]"#,
        ),
        ("({get a() { return {b: 1} }})", r#"{"a":{"b":1}}"#),
        ("({[Symbol('s')]: 1, a: 2})", r#"{"a":2}"#),
        ("({when: new Date(0)})", r#"{"when":"1970-01-01T00:00:00.000Z"}"#),
        (
            "[new Date(NaN), new (class Day extends Date {})(5)]",
            r#"[null,"1970-01-01T00:00:00.005Z"]"#,
        ),
        ("new (class Empty {})", "{}"),
        (
            "class Named {} Named.prototype[Symbol.toStringTag] = 'Named'; [new Named, Math, {}, \
             Object.create(null)]",
            "[{},{},{},{}]",
        ),
        ("(function () { return arguments })(1, 2)", r#"{"0":1,"1":2}"#),
        ("Object.assign(Object.create(null), {a: 1})", r#"{"a":1}"#),
        ("const shared = {a: 1}; [shared, shared]", r#"[{"a":1},{"a":1}]"#),
    ] {
        assert_eq!(bench.code(code).as_deref(), Ok(json), "{code}");
    }
}

#[test]
fn what_is_not_json_names_the_path() {
    let mut bench = Bench::new();
    for (code, path, what) in [
        ("({items: [1, 2, 3, {when: new Map()}]})", "result.items[3].when", "a Map"),
        ("new Map([[1, 2]])", "result", "a Map"),
        ("[new Set()]", "result[0]", "a Set"),
        ("new WeakMap()", "result", "a WeakMap"),
        ("[new WeakSet()]", "result[0]", "a WeakSet"),
        ("[new WeakRef({})]", "result[0]", "a WeakRef"),
        ("new FinalizationRegistry(() => {})", "result", "a FinalizationRegistry"),
        ("new Error('x')", "result", "an error (Error: x)"),
        ("[{reason: new TypeError('why')}]", "result[0].reason", "an error (TypeError: why)"),
        ("Object.assign(new RangeError('y'), {own: 1})", "result", "an error (RangeError: y)"),
        (
            "return await Promise.allSettled([1, Promise.reject(new Error('z'))])",
            "result[1].reason",
            "an error (Error: z)",
        ),
        ("/x/g", "result", "a regular expression"),
        ("[].values()", "result", "an Array Iterator"),
        ("'x'[Symbol.iterator]()", "result", "a String Iterator"),
        ("new Map().keys()", "result", "a Map Iterator"),
        ("[new Set().values()]", "result[0]", "a Set Iterator"),
        ("'x'.matchAll(/x/g)", "result", "a RegExp String Iterator"),
        ("[1].values().map(x => x)", "result", "an Iterator Helper"),
        ("(function* () { yield 1 })()", "result", "a generator"),
        ("(async function* () { yield 1 })()", "result", "a generator"),
        ("new Intl.NumberFormat()", "result", "an Intl.NumberFormat"),
        ("Object.assign(new Date(0), {toJSON: undefined})", "result", "a Date"),
        ("({a: new Uint8Array(1)})", "result.a", "typed array"),
        ("new DataView(new ArrayBuffer(1))", "result", "typed array"),
        ("({buffer: new ArrayBuffer(1)})", "result.buffer", "ArrayBuffer"),
        ("10n", "result", "BigInt"),
        ("[Object(10n)]", "result[0]", "BigInt"),
        ("({f() {}})", "result.f", "function"),
        ("class A {}; A", "result", "function"),
        ("Symbol('x')", "result", "symbol"),
        ("[Object(Symbol('x'))]", "result[0]", "symbol"),
        ("({'a b': {'1': Symbol()}})", "result[\"a b\"][\"1\"]", "symbol"),
        ("const a = {b: []}; a.b.push({c: a}); a", "result.b[0].c", "cycle"),
        ("const a = []; a[2] = a; a", "result[2]", "cycle"),
        ("[Promise.resolve(1)]", "result[0]", "promise"),
        ("new Proxy(() => 1, {})", "result", "function"),
    ] {
        let result = bench.code(code);
        let failure = assert_kind(&result, FailureKind::NotSerializable);
        assert_eq!(failure.path.as_deref(), Some(path), "{code}");
        assert!(failure.message.contains(what) && failure.message.starts_with(path), "{failure:?}");
    }
}

#[test]
fn to_json_decides_where_it_is_the_objects_or_its_class_own() {
    let mut bench = Bench::new();
    for (code, json) in [
        ("({a: {toJSON(key) { return 'json of ' + key }}})", r#"{"a":"json of a"}"#),
        ("[{toJSON(key) { return typeof key + key }}]", r#"["string0"]"#),
        ("Object.assign(new Date(0), {toJSON() { return 'own' }})", "\"own\""),
        ("Object.assign(new Date(0), {toISOString() { return 'own' }})", "\"own\""),
        (
            "Error.prototype.toJSON = function () { return this.message }; new TypeError('t')",
            "\"t\"",
        ),
        ("RegExp.prototype.toJSON = RegExp.prototype.toString; [/x/g]", "[\"/x/g\"]"),
        (
            "class Failed extends Error { toJSON() { return {failed: this.message} } }; new \
             Failed('f')",
            r#"{"failed":"f"}"#,
        ),
        ("Date.prototype.toJSON = function () { return this.getTime() }; new Date(5)", "5"),
        (
            "Date.prototype.toJSON = Date.prototype.toISOString; new Date(0)",
            "\"1970-01-01T00:00:00.000Z\"",
        ),
        ("class M extends Map { toJSON() { return [...this] } }; new M([[1, 2]])", "[[1,2]]"),
        ("Map.prototype.toJSON = function () { return this.size }; new Map([[1, 2]])", "1"),
        ("BigInt.prototype.toJSON = function () { return this.toString() }; [5n]", "[\"5\"]"),
        ("Object.assign(() => 1, {toJSON() { return 'f' }})", "\"f\""),
        ("Object.prototype.toJSON = () => 'planted'; [{a: 1}]", r#"[{"a":1}]"#),
        ("Array.prototype.toJSON = () => 'planted'; [{a: 1}]", r#"[{"a":1}]"#),
        ("({toJSON() { return undefined }})", "null"),
    ] {
        assert_eq!(bench.code(code).as_deref(), Ok(json), "{code}");
    }
    let result = bench.code("({a: {toJSON() { return new Map() }}})");
    assert_eq!(
        assert_kind(&result, FailureKind::NotSerializable).path.as_deref(),
        Some("result.a")
    );
}

#[test]
fn getters_proxies_and_to_json_may_throw() {
    let mut bench = Bench::new();
    for code in [
        "({get a() { throw new TypeError('mine') }})",
        "({toJSON() { throw new TypeError('mine') }})",
        "new Proxy({}, {ownKeys() { throw new TypeError('mine') }})",
        "new Proxy([], {get(t, k) { if (k === 'length') throw new TypeError('mine'); return t[k] \
         }})",
        "[Object.assign(new Number(1), {valueOf() { throw new TypeError('mine') }, toJSON: \
         undefined})]",
    ] {
        let result = bench.code(code);
        let failure = assert_kind(&result, FailureKind::Exception);
        assert_eq!(
            (failure.name.as_str(), failure.message.as_str()),
            ("TypeError", "mine"),
            "{code}"
        );
    }
}

#[test]
fn proxies_are_faithful() {
    let mut bench = Bench::new();
    for (code, json) in [
        ("new Proxy([1, 2], {})", "[1,2]"),
        (
            "new Proxy(new Proxy([1, 2], {}), {get: (t, k) => k === '0' ? 'zero' : t[k]})",
            "[\"zero\",2]",
        ),
        (
            "new Proxy({a: 1}, {get: (t, k) => k === 'toJSON' ? undefined : String(k)})",
            r#"{"a":"a"}"#,
        ),
    ] {
        assert_eq!(bench.code(code).as_deref(), Ok(json), "{code}");
    }
    let result = bench.code("const {proxy, revoke} = Proxy.revocable({}, {}); revoke(); proxy");
    assert_kind(&result, FailureKind::Exception);
}

#[test]
fn a_result_over_the_limit_is_an_output_limit() {
    let mut bench = Bench::with(|config| config.result_limit_bytes = 1000);
    assert_eq!(bench.code("'a'.repeat(998)").map(|json| json.len()), Ok(1000));
    for code in [
        "'a'.repeat(999)",
        "'a'.repeat(2 ** 29 - 24)",
        "({a: 'b'.repeat(500), c: '\\n'.repeat(300)})",
        "new Array(2 ** 32 - 1)",
        "Array.from({length: 400}, () => 10)",
        "new Proxy([], {get: (t, k) => k === 'length' ? 2 ** 53 : k === 'toJSON' ? undefined : 1})",
        "const o = {}; for (let i = 0; i < 200; i++) o['key' + i] = 1; o",
    ] {
        let result = bench.code(code);
        assert_kind(&result, FailureKind::OutputLimit);
    }
}

#[test]
fn nesting_is_capped_and_never_a_crash() {
    on_large_stack(|| {
        let mut bench = Bench::new();
        let result = bench.code("let a = 1; for (let i = 0; i < 1000; i++) a = [a]; a");
        assert_eq!(result.map(|json| json.len()), Ok(2001));
        for code in [
            "let a = 1; for (let i = 0; i < 1001; i++) a = [a]; a",
            "let a = 1; for (let i = 0; i < 1e6; i++) a = {a}; a",
        ] {
            let result = bench.code(code);
            let failure = assert_kind(&result, FailureKind::NotSerializable);
            assert!(
                failure.path.as_deref().is_some_and(|path| path.contains("[…]")),
                "{failure:?}"
            );
            assert!(
                failure.message.contains("1000 levels") && failure.message.len() < 500,
                "{failure:?}"
            );
        }
        // Its traps run on what stack is left, and may find none.
        let endless = "const deep = () => new Proxy({}, {ownKeys: () => ['a'], \
            getOwnPropertyDescriptor: () => ({value: 1, enumerable: true, configurable: true}), \
            get: (t, k) => k === 'a' ? deep() : undefined}); deep()";
        let failure = bench.code(endless).expect_err("it has no end");
        assert!(
            failure.name == "RangeError" || failure.kind == FailureKind::NotSerializable,
            "{failure:?}"
        );
    });
}

#[test]
fn a_callable_proxy_as_a_dates_to_json_is_called() {
    let result = Bench::new()
        .code("const d = new Date(0); d.toJSON = new Proxy(() => 1, {}); return [d, d.toJSON()]");
    assert_eq!(result.as_deref(), Ok("[1,1]"));
}
