//! What broke the npm package `vm2`, written anew from what its advisories, issues and its own
//! catalogue of attacks say.
//!
//! `vm2` runs untrusted code in a context of the isolate that its host's JavaScript runs in; each
//! of these made the host hand over one of its objects. Here no JavaScript of a host exists. What
//! remains to be shown is that the engine's own parts, in Rust and in V8, hand over nothing either.
//! Where no number of an advisory is known for sure, the source says "idea".

use super::Attack;
use super::Place::{Any, Sloppy};

/// Where the attack needs an exception that V8's own code makes while it formats a stack.
macro_rules! with_engine_error {
    ($code:literal) => {
        concat!(
            "const engineError = () => { const e = new Error('x'); e.name = Symbol(); return e.stack };
            const look = e => { got(e, e?.constructor, e?.constructor?.constructor);
                try { got(e.constructor.constructor('return process')()) } catch (again) { got(again) } };",
            $code
        )
    };
}

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        source: "idea: the constructor's constructor of everything at hand compiles code outside",
        place: Any,
        code: "for (const it of [globalThis, {}, got, console, console.log, setTimeout, structuredClone, Promise]) {
            got(it, it.constructor, it.constructor.constructor);
            try { got(it.constructor.constructor('return process')()) } catch (e) { got(e, e.constructor.constructor) }
            try { got(it.constructor.constructor('return this')()) } catch (e) { got(e) }
        }",
    },
    Attack {
        source: "idea: the constructors of async functions and generators compile code outside",
        place: Any,
        code: "for (const f of [async () => {}, function* () {}, async function* () {}]) {
            try { got(await f.constructor('return this')()) } catch (e) { got(e) }
            try { const made = f.constructor('yield this'); got(made(), made().next()) } catch (e) { got(e) }
        }",
    },
    Attack {
        source: "idea: the chain of prototypes above the global object",
        place: Any,
        code: "for (let it = globalThis; it; it = Object.getPrototypeOf(it)) got(it, it.constructor, Reflect.ownKeys(it).map(k => Object.getOwnPropertyDescriptor(it, k)))",
    },
    Attack {
        source: "CVE-2019-10761: a stack overflow inside of a host function throws the host's RangeError",
        place: Any,
        code: "const fs = [() => console.log({a: [1]}), () => setTimeout(() => {}, 1), () => structuredClone({a: [[1]]}), () => queueMicrotask(() => {}), () => clearTimeout({}), () => console.assert(false, 1), () => console.trace(1)];
            for (const f of fs) {
                const dive = depth => { try { dive(depth + 1) } catch (e) { got(e.constructor, e); try { f() } catch (again) { got(again, again.constructor.constructor) } } };
                let deep = 0; const sink = () => { deep++; try { sink() } catch (e) { try { f() } catch (again) { last = again } if (!last) last = e } }; var last; sink(); got(last, last.constructor);
            }",
    },
    Attack {
        source: "CVE-2021-23449: what import() gives is the host's",
        place: Any,
        code: "const p = import('./foo.js'); got(p, p.constructor, p.toString, p.toString.constructor);
            try { got(await p) } catch (e) { got(e, e.constructor.constructor); try { got(e.constructor.constructor('return this')().process) } catch (again) { got(again) } }
            try { got(await import({toString() { throw got }})) } catch (e) { got(e) }",
    },
    Attack {
        source: "CVE-2021-23555: the host's errors while a stack trace is made",
        place: Any,
        code: "Error.prepareStackTrace = (e, frames) => { got(e, frames, frames.constructor); e.name = Symbol(); throw e };
            try { got(new Error('x').stack) } catch (e) { got(e, e.constructor) }
            try { null.x } catch (e) { try { got(e.stack) } catch (again) { got(again) } }
            try { Reflect.construct(Error, [Symbol()]) } catch (e) { try { got(e.stack) } catch (again) { got(again) } }",
    },
    Attack {
        source: "CVE-2022-25893: the host looks up set on the WeakMap.prototype",
        place: Any,
        code: "const old = WeakMap.prototype.set;
            for (const C of [WeakMap, WeakSet, Map, Set]) for (const name of ['set', 'get', 'add', 'has', 'delete']) if (C.prototype[name]) C.prototype[name] = function (...all) { got(this, ...all) };
            console.log({a: 1}, new Map([[1, 2]])); structuredClone(new Map([[{}, {}]])); setTimeout(() => {}, 1); got(old)",
    },
    Attack {
        source: "CVE-2022-36067 (GHSA-mrgp-mrhc-5jrq): an Error of one's own with prepareStackTrace gets frames of the host",
        place: Any,
        code: "const collect = (e, frames) => { for (const f of frames) for (const name of Object.getOwnPropertyNames(Object.getPrototypeOf(f))) { try { got(f[name](), f) } catch (again) { got(again) } } return 1 };
            globalThis.Error = {prepareStackTrace: collect}; try { null.x } catch (e) { got(e.stack) }
            globalThis.Error = new Proxy(TypeError, {get: (t, k) => k === 'prepareStackTrace' ? collect : t[k]}); try { undefined.x } catch (e) { got(e.stack) }",
    },
    Attack {
        source: "CVE-2022-36067, the same through getThis and getFunction of frames of every native call",
        place: Any,
        code: "Error.prepareStackTrace = (e, frames) => { for (const f of frames) got(f.getThis(), f.getFunction(), f.getEvalOrigin(), f.getTypeName(), f.getPromiseIndex?.()); return frames };
            const trap = {get() { got(new Error().stack) }, toString() { got(new Error().stack); return 'x' }, toJSON() { got(new Error().stack); return 1 }};
            [1].map(() => got(new Error().stack)); JSON.stringify(trap); `${trap}`; Reflect.construct(class { constructor() { got(new Error().stack) } }, []);
            structuredClone({get a() { got(new Error().stack); return 1 }}); setTimeout({}.x ?? (() => got(new Error().stack)), {valueOf() { got(new Error().stack); return 1 }});
            await new Promise(done => setTimeout(done, 2)); await null; got(new Error().stack); await Promise.all([Promise.resolve().then(() => got(new Error().stack))])",
    },
    Attack {
        source: "idea: a global toString or toString of frames shows sloppy callers' this",
        place: Sloppy,
        code: "Error.prepareStackTrace = (_, frames) => frames.map(f => [f.getThis(), f.getFunction(), f.toString()]);
            function sloppy() { return new Error().stack } got(sloppy(), sloppy.call(1), [0].map(sloppy), new sloppy())",
    },
    Attack {
        source: "CVE-2023-29017 (GHSA-7jxr-cg7f-gpgv): prepareStackTrace of an error that nobody handles",
        place: Any,
        code: "Error.prepareStackTrace = (e, frames) => { got(e, frames, frames.constructor.constructor, ...frames.map(f => f.getThis())); return '' };
            (async () => { throw new Error('unhandled') })(); Promise.reject(new TypeError('x')); (async () => { null.x })();
            setTimeout(async () => { (() => { throw new RangeError() })() }, 1); await new Promise(done => setTimeout(done, 3)); return new Error().stack",
    },
    Attack {
        source: "CVE-2023-29199 (GHSA-xj72-wvfv-8985): a catch clause that a source transformer does not see",
        place: Any,
        code: with_engine_error!(
            "const aVM2_INTERNAL_TMPNAME = {}; got(aVM2_INTERNAL_TMPNAME.constructor.constructor);
            try { engineError() } catch ($tmpname) { look($tmpname) } try { engineError() } catch ({constructor: {constructor}}) { got(constructor) }
            try { throw Object.assign(() => {}, {get constructor() { return engineError() }}) } catch (e) { try { look(e) } catch (again) { look(again) } }
            label: try { engineError(); break label } catch (e) { look(e) } finally { got(1) }"
        ),
    },
    Attack {
        source: "CVE-2023-30547 (GHSA-ch3r-j5x3-6q2m): getPrototypeOf of a thrown proxy throws into the sanitizer",
        place: Any,
        code: "const handler = {getPrototypeOf() { (function stack() { new Error().stack; stack() })() }};
            try { throw new Proxy({}, handler) } catch (e) { got(e); try { e instanceof Error } catch (again) { got(again, again.constructor.constructor) } }
            console.log(new Proxy({}, handler)); try { structuredClone(new Proxy({}, handler)) } catch (e) { got(e) }
            throw new Proxy({}, {getPrototypeOf: () => { throw x => x.constructor.constructor('return process')() }})",
    },
    Attack {
        source: "CVE-2023-32313 (GHSA-p5gc-c584-jj6v): the console's inspect can be read and overwritten",
        place: Any,
        code: "got(console.inspect, console.log.inspect, Object.getOwnPropertyDescriptors(console), Object.getPrototypeOf(console));
            console.inspect = Object.prototype.inspect = got; console.log = (...all) => got(this, ...all); console.info({inspect: got}); console.dir({a: {inspect(...all) { got(...all) }}}, {customInspect: true})",
    },
    Attack {
        source: "CVE-2023-32314 (GHSA-whpj-8f3w-67p5): an error's name is a proxy whose get is apply of a function",
        place: Any,
        code: "const e = new Error(); e.name = new Proxy(() => {}, {get: (f, k, self) => new Proxy(Object, {apply: (t, me, all) => { got(t, me, ...all); return me }, get: (t, k) => { got(t[k]); return t[k] }})});
            try { got(e.stack) } catch (again) { got(again, again.constructor.constructor) } try { got(`${e}`) } catch (again) { got(again) } console.log(e); try { structuredClone(e) } catch (again) { got(again) }",
    },
    Attack {
        source: "CVE-2023-37466 (GHSA-cchq-frgv-rjh5): the species of a promise gets the host's rejection",
        place: Any,
        code: with_engine_error!(
            "const p = (async () => engineError())();
            p.constructor = {[Symbol.species]: class { constructor(run) { run(x => look(x), e => look(e)); got(run) } }};
            got(p.then()); got(await new Promise(done => setTimeout(done, 1)))"
        ),
    },
    Attack {
        source: "GHSA-qvjj-29qf-hp7p: promise species through a getter that answers differently the second time",
        place: Any,
        code: with_engine_error!(
            "let first = true; const p = (async () => engineError())();
            Object.defineProperty(p, 'constructor', {get() { got(this); if (first) { first = false; return Promise } return {get [Symbol.species]() { return function (run) { run(look, look) } }} }});
            p.then(look, look); p.finally(look); Object.defineProperty(Promise.prototype, 'constructor', {get() { return {[Symbol.species]: function (run) { got(run); run(look, look) }} }});
            const q = (async () => engineError())(); got(q.then(look, look)); got(import('./inner.mjs'), structuredClone({a: 1}))"
        ),
    },
    Attack {
        source: "CVE-2023-37903 (GHSA-g644-9gfx-q4q4): a custom inspect function is called with the host's inspect",
        place: Any,
        code: "const custom = Symbol.for('nodejs.util.inspect.custom');
            const it = {[custom]: (depth, options, inspect) => { got(depth, options, inspect); inspect.constructor('return process')() }, valueOf: undefined, constructor: undefined};
            console.log(it, [it], new Map([[it, it]])); console.dir(it); console.error('%o %O %j %s', it, it, it, it); Object.prototype[custom] = it[custom]; console.log({}, new Error()); try { globalThis.WebAssembly?.compileStreaming?.(it).catch(got) } catch (e) { got(e) } throw it",
    },
    Attack {
        source: "GHSA-v37h-5mfm-c47c: inspect with showProxy and stylize shows the handlers of the host's proxies",
        place: Any,
        code: "const options = {showHidden: true, showProxy: true, depth: 10, colors: true, get stylize() { got(this); return function (a) { got(this, this?.seen, ...arguments); return a } }};
            for (const show of Object.values(console)) { try { got(show.call({}, new Proxy({}, {get: got}), options)); got(show(new Proxy(() => {}, {}), options)) } catch (e) { got(e) } }",
    },
    Attack {
        source: "CVE-2026-22709 (GHSA-99p7-6v5w-7xg8): an async function's promise is not the one whose callbacks are sanitized",
        place: Any,
        code: with_engine_error!(
            "const f = async () => engineError(); const P = f().constructor; got(P, Object.getPrototypeOf(P), Object.getPrototypeOf(P.prototype));
            f().catch(look); f().then(null, look); f().finally(got).catch(look); Function.prototype.call = function (...all) { got(this, ...all) }; f().catch(look);
            await new Promise(done => setTimeout(done, 1))"
        ),
    },
    Attack {
        source: "GHSA-grj5-jjm8-h35p: __lookupGetter__ and apply climb the prototypes",
        place: Any,
        code: "const lookup = ({}).__lookupGetter__, proto = lookup.call(Object.prototype, '__proto__'), set = ({}).__lookupSetter__('__proto__');
            for (let it of [console, setTimeout, globalThis, got, new Uint8Array(1), import('x').catch(() => {})]) for (let i = 0; i < 5 && it; i++) { got(it, it.constructor); it = proto.call(it) }
            got(proto, set, proto.constructor, Reflect.apply(proto, console.log, []), console.log.apply, lookup.apply(console, ['log']))",
    },
    Attack {
        source: "GHSA-55hx-c926-fr95: a DisposableStack wraps the host's error in a SuppressedError",
        place: Any,
        code: with_engine_error!(
            "if (typeof DisposableStack === 'undefined') return got(0);
            const stack = new DisposableStack(); stack.defer(() => { throw null }); stack.defer(engineError); stack.defer(() => { (function f() { f() })() });
            try { stack.dispose() } catch (e) { for (let it = e; it; it = it.suppressed) { look(it); look(it.error); look(it.suppressed) } }"
        ),
    },
    Attack {
        source: "GHSA-55hx-c926-fr95, through AsyncDisposableStack and a rejection",
        place: Any,
        code: with_engine_error!(
            "if (typeof AsyncDisposableStack === 'undefined') return got(0);
            const stack = new AsyncDisposableStack(); stack.defer(async () => { throw null }); stack.defer(async () => engineError());
            await stack.disposeAsync().catch(e => { look(e); look(e?.suppressed); look(e?.error) }); got(stack, new SuppressedError(got, got))"
        ),
    },
    Attack {
        source: "GHSA-55hx-c926-fr95, through a using declaration in eval, which no transformer sees",
        place: Any,
        code: with_engine_error!(
            "globalThis.resource = {[Symbol.dispose]: engineError};
            for (const source of ['{ using a = resource; throw null }', '(async () => { await using a = resource; throw null })()']) { try { await (0, eval)(source) } catch (e) { look(e); look(e?.error); look(e?.suppressed) } }"
        ),
    },
    Attack {
        source: "GHSA-v27g-jcqj-v8rw: without prepareStackTrace the host's own formats the stack, in Array.fromAsync's promise",
        place: Any,
        code: with_engine_error!(
            "for (const none of [undefined, null, 0, {}]) { Error.prepareStackTrace = none; try { got(engineError()) } catch (e) { look(e) }
            await Array.fromAsync([0], engineError).catch(look) } delete Error.prepareStackTrace; await Array.fromAsync({length: 1, get 0() { return engineError() }}).catch(look)"
        ),
    },
    Attack {
        source: "CVE-2026-45411 (GHSA-248r-7h7q-cr24): return of an async generator awaits a thenable whose exception is the host's",
        place: Any,
        code: with_engine_error!(
            "async function* outer() { try { yield* inner() } catch (e) { look(e); yield e } } async function* inner() { yield 1 }
            for (const bad of [{get then() { return engineError() }}, {then() { engineError() }}, {then(a, b) { got(a, b); b(engineError()) }}]) {
                const it = outer(); await it.next(); try { got(await it.return(bad)) } catch (e) { look(e) } try { got(await outer().return(bad)) } catch (e) { look(e) } try { got(await outer().throw(bad)) } catch (e) { look(e) }
            }"
        ),
    },
    Attack {
        source: "GHSA-ffh4-j6h5-pg66: WebAssembly functions and errors are the host's",
        place: Any,
        code: "const W = globalThis.WebAssembly; if (!W) return got(0);
            got(W, Object.getOwnPropertyDescriptors(W)); try { new W.Module(new Uint8Array(3)) } catch (e) { got(e, e.constructor.constructor) }
            // Imports f, exports it again as g, and a function h that calls it.
            const bytes = [0,97,115,109,1,0,0,0,1,4,1,96,0,0,2,7,1,1,109,1,102,0,0,3,2,1,0,7,9,2,1,103,0,0,1,104,0,1,10,6,1,4,0,16,0,11];
            const made = new W.Instance(new W.Module(new Uint8Array(bytes)), {m: {f() { got(this, new.target, Error().stack); (function s() { s() })() }}});
            got(made, made.exports, made.exports.g, made.exports.h.constructor); try { made.exports.h() } catch (e) { got(e) } try { made.exports.g.call(globalThis) } catch (e) { got(e) }
            await W.instantiate(new Uint8Array(bytes), {m: {get f() { throw got }}}).catch(got); got(await W.compile(new Uint8Array(bytes)), W.compileStreaming?.call, W.Function)",
    },
    Attack {
        source: "idea: WebAssembly.JSTag catches an exception of the host's where no catch clause stands",
        place: Any,
        code: with_engine_error!(
            "const W = globalThis.WebAssembly; if (!W?.JSTag) return got(W);
            const bytes = [0,97,115,109,1,0,0,0,1,12,3,96,0,0,96,0,1,111,96,1,111,0,2,14,2,1,109,1,102,0,0,1,109,1,116,4,0,2,3,2,1,1,7,5,1,1,99,0,1,10,18,1,16,0,2,111,31,64,1,0,0,0,16,0,0,11,0,11,11];
            for (const f of [engineError, () => { (function s() { s() })() }, () => structuredClone(got), () => console.log.call(), () => setTimeout(1)]) {
                const made = new W.Instance(new W.Module(new Uint8Array(bytes)), {m: {f, t: W.JSTag}}); try { look(made.exports.c()) } catch (e) { look(e) } }"
        ),
    },
    Attack {
        source: "idea: WebAssembly's promise integration gives promises of another prototype",
        place: Any,
        code: "const W = globalThis.WebAssembly; if (!W?.promising) return got(W);
            const bytes = [0,97,115,109,1,0,0,0,1,4,1,96,0,0,2,7,1,1,109,1,102,0,0,3,2,1,0,7,5,1,1,104,0,1,10,6,1,4,0,16,0,11];
            const made = new W.Instance(new W.Module(new Uint8Array(bytes)), {m: {f: new W.Suspending(async () => { got(Error().stack); throw new Error('x') })}});
            const p = W.promising(made.exports.h)(); got(p, p.constructor, Object.getPrototypeOf(p)); await p.catch(e => got(e, e.constructor.constructor))",
    },
    Attack {
        source: "GHSA-m5q2-4fm3-vfqp: Symbol.for gives symbols that the host looks for",
        place: Any,
        code: "for (const name of ['nodejs.util.promisify.custom', 'nodejs.rejection', 'nodejs.util.inspect.custom', 'nodejs.dispose', 'Deno.customInspect', 'Deno.privateCustomInspect', 'pool.failureKind', 'toJSON']) {
            const s = Symbol.for(name); for (const it of [setTimeout, console, console.log, Promise.prototype, Object.prototype, Error.prototype]) { try { got(it[s]); it[s] = function (...all) { got(this, ...all) } } catch (e) { got(e) } } }
            console.log({}, new Error('x')); console.dir([]); setTimeout(() => {}, 1); structuredClone({}); await new Promise(done => setTimeout(done, 2)); throw Object.assign(new Error('x'), {code: 'x'})",
    },
    Attack {
        source: "GHSA-47x8-96vw-5wg6: the host's symbols are keys of its objects",
        place: Any,
        code: "for (const it of [console, console.log, setTimeout, structuredClone, globalThis, Error, new Error(), import('x').catch(() => {})]) {
            got(Object.getOwnPropertySymbols(it).map(s => it[s]), Reflect.ownKeys(it).map(k => it[k]), Object.getOwnPropertyDescriptors(it), Object.assign({}, it), {...it});
            Object.assign(new Proxy({}, {set(t, k, v) { got(v); return true }, defineProperty(t, k, d) { got(d); return true }}), it) }",
    },
    Attack {
        source: "GHSA-m283-3h24-438v: the cause of an error is the host's",
        place: Any,
        code: "for (const f of [() => structuredClone(() => {}), () => new RegExp('('), () => (0, eval)('('), () => JSON.parse('{'), () => setTimeout('x'), () => new Intl.Locale('!'), () => queueMicrotask()]) {
            try { f() } catch (e) { got(e, e.cause, e.errors, Object.getOwnPropertyDescriptors(e)); for (let c = e; c; c = c.cause) got(c.constructor) } }
            await import('nothing').catch(e => got(e, e.cause, Object.getOwnPropertyDescriptors(e))); await Promise.any([]).catch(e => got(e, e.errors, e.cause))",
    },
    Attack {
        source: "GHSA-wp5r-2gw5-m7q7: with reads the transformer's own names from the scope",
        place: Sloppy,
        code: "const names = ['VM2_INTERNAL_STATE_DO_NOT_USE_OR_PROGRAM_WILL_FAIL', 'process', 'require', 'module', 'exports', 'global', 'Buffer', 'Deno', 'arguments', '__bootstrap'];
            for (const name of names) { let v; with (new Proxy({}, {has: (t, k) => { got(k); return false }})) { try { v = typeof globalThis[name] } catch (e) { got(e) } } got(globalThis[name], v) }
            with (console) got(log, this); with (globalThis) got(globalThis, self = 1)",
    },
    Attack {
        source: "idea: the proxies' traps get host objects as arguments when the host reads a value",
        place: Any,
        code: "const traps = {}; for (const name of Object.getOwnPropertyNames(Reflect)) traps[name] = (...all) => { got(...all); return Reflect[name](...all) };
            const make = () => new Proxy(function () {}, traps); console.log(make(), [make()], {a: make()}); console.table(make()); try { structuredClone(make()) } catch (e) { got(e) } try { structuredClone({a: make()}) } catch (e) { got(e) }
            setTimeout(make(), make()); setTimeout(make(), 1, make()); clearTimeout(make()); queueMicrotask(make()); console.time(make()); console.count(make()); console.assert(make(), make());
            import(make()).catch(got); await new Promise(done => setTimeout(done, 3)); return make()",
    },
    Attack {
        source: "idea: a proxy's getOwnPropertyDescriptor throws a function that is called with the host's object",
        place: Any,
        code: "const thrown = f => { got(f); return f.constructor('return process')() };
            const p = new Proxy({}, {getOwnPropertyDescriptor() { throw thrown }, ownKeys() { throw thrown }, get() { throw thrown }, has() { throw thrown }, getPrototypeOf() { throw thrown }});
            for (const f of [console.log, console.dir, structuredClone, setTimeout, queueMicrotask, clearTimeout, console.count]) { try { f(p); f({p}); f(p, p) } catch (e) { got(e) } } throw p",
    },
    Attack {
        source: "idea: getters on Object.prototype are read while the host copies a property's descriptor",
        place: Any,
        code: "for (const name of ['get', 'set', 'value', 'writable', 'enumerable', 'configurable', 'then', 'toJSON', 'constructor', 'message', 'stack', 'cause', 'name', 'url', 'exports'])
                Object.defineProperty(Object.prototype, name, {__proto__: null, configurable: true, get() { got(this); return undefined }, set(v) { got(this, v); Reflect.defineProperty(this, name, {__proto__: null, value: v, writable: true, configurable: true, enumerable: true}) }});
            console.log({a: 1, get b() { return 1 }}, new Error('x')); try { structuredClone({a: 1}) } catch (e) { got(e) } await import('x').catch(got); setTimeout(() => {}, 1); throw {}",
    },
    Attack {
        source: "idea: setters of indices on Array.prototype catch what the host puts into its own arrays",
        place: Any,
        code: "for (const i of [0, 1, 2, 3]) Object.defineProperty(Array.prototype, i, {configurable: true, get() { got(this); return undefined }, set(v) { got(this, v) }});
            const iterate = Array.prototype[Symbol.iterator]; Array.prototype[Symbol.iterator] = function () { got(this); return iterate.call(this) };
            for (const name of ['push', 'concat', 'slice', 'map', 'join']) Array.prototype[name] = function (...all) { got(this, ...all); return this };
            console.log([1, 2], new Map([[1, 2]]), new Set([1])); setTimeout(() => {}, 1, 2, 3); structuredClone([1, [2]]); console.log('%s %d', 'a', 1); Error.prepareStackTrace = (e, f) => got(e, f); got(new Error().stack)",
    },
    Attack {
        source: "idea: the species of an array returns a host array itself",
        place: Any,
        code: "const a = [1, 2, 3]; a.constructor = {[Symbol.species]: function (...all) { got(this, ...all); return a }}; got(a.concat([console]), a.map(x => [x]), a.splice(0, 1), a.filter(Boolean));
            Object.defineProperty(Array, Symbol.species, {get() { got(this); return function () { return console } }}); got([1].map(x => x), [[1]].flat()); console.log(a); structuredClone(a);
            const bytes = new Uint8Array(4); bytes.constructor = {[Symbol.species]: function (n) { got(n); return new Uint8Array(9) }}; got(bytes.subarray(1), bytes.slice(1), bytes.buffer.slice(1)); console.log(bytes)",
    },
    Attack {
        source: "idea: arguments.callee.caller and caller reach the functions of the host above the task",
        place: Sloppy,
        code: "function up() { const seen = []; try { for (let f = arguments.callee; f && seen.length < 9; f = f.caller) { got(f, f.constructor); if (seen.includes(f)) break; seen.push(f); got(f.arguments) } } catch (e) { got(e) } return 1 }
            try { up() } catch (e) { got(e) } [1].map(up); JSON.stringify({toJSON: up}); setTimeout(up, 1); queueMicrotask(up); Promise.resolve().then(up); try { structuredClone({get a() { return up() }}) } catch (e) { got(e) } await new Promise(done => setTimeout(done, 3)); got(up.caller, up.arguments)",
    },
    Attack {
        source: "idea: Reflect.construct with a foreign newTarget, on everything native",
        place: Any,
        code: "const news = [console.log, setTimeout, structuredClone, function () {}, Promise, Error, new Proxy(function () {}, {get: (t, k) => k === 'prototype' ? null : t[k]})];
            for (const f of news) for (const n of news) { try { const made = Reflect.construct(f, [() => {}], n); got(made, Object.getPrototypeOf(made)) } catch (e) { got(e) } }
            got(Reflect.construct(Object, [], news[6]), Reflect.construct(Array, [], news[6]))",
    },
    Attack {
        source: "idea: Object.assign and Object.entries read getters of the host with a receiver of the attacker's",
        place: Any,
        code: "const all = [console, setTimeout, globalThis]; for (const it of all) for (const [k, d] of Object.entries(Object.getOwnPropertyDescriptors(it))) for (const self of [undefined, {}, got, Function.prototype]) {
            if (['got', 'obtained'].includes(k)) continue; try { got(d.get?.call(self), d.set?.call(self, 1)); if (it === console) got(d.value.call(self, self)); } catch (e) { got(e) } }
            got(Object.assign({}, console), Object.entries(globalThis), Object.fromEntries(Object.entries(console)))",
    },
    Attack {
        source: "idea: static methods of Promise stolen by a false constructor get the host's rejection",
        place: Any,
        code: with_engine_error!(
            "function False(run) { got(run); run(look, look) } False.resolve = look; for (const name of ['all', 'race', 'any', 'allSettled', 'resolve', 'reject', 'try', 'withResolvers']) if (Promise[name]) {
            False[name] = Promise[name]; try { got(False[name]({[Symbol.iterator]: engineError})); got(False[name](engineError)) } catch (e) { look(e) } }"
        ),
    },
    Attack {
        source: "idea: thenables are called by the host's own promise",
        place: Any,
        code: "Promise.prototype.then = function (...all) { got(this, ...all) }; got(import('x')); const p = (async () => ({then(a, b) { got(this, a, b); a({then: (c, d) => { got(c, d); c(1) }}) }}))(); got(await p);
            Object.prototype.then = function (a) { got(this, a); delete Object.prototype.then; a(1) }; got(await {}); return {then(a, b) { got(a, b, a.constructor.constructor); b(got) }}",
    },
    Attack {
        source: "idea: Symbol.hasInstance and toStringTag mislead the host's checks of what it is given",
        place: Any,
        code: "for (const C of [Object, Function, Promise, Error, Array, Map, RegExp, Date]) { Object.defineProperty(C, Symbol.hasInstance, {value: it => { got(it); return true }}); Object.defineProperty(C.prototype, Symbol.toStringTag, {get() { got(this); return 'Proxy' }, configurable: true}) }
            console.log({}, [], new Map(), new Date(0), /x/, new Error('x'), () => 1); structuredClone([new Map(), new Date(0), /x/, new Error('x')]); setTimeout(() => {}, 1); throw Object.create(Error.prototype)",
    },
    Attack {
        source: "idea: toString, valueOf, toPrimitive of an argument are called by the host with its own this",
        place: Any,
        code: "const it = {toString() { got(this, new Error().stack); throw got }, valueOf() { got(this); return {} }, get [Symbol.toPrimitive]() { got(this); return function (hint) { got(this, hint); return 1 } }};
            for (const f of [...Object.values(console), console.log, setTimeout, setInterval, clearTimeout, clearInterval, structuredClone, queueMicrotask]) for (const all of [[it], [it, it], [() => {}, it], ['%s%d%i%f%j%o%O%c', it, it, it, it, it, it, it, it]]) { try { const id = f(...all); got(id); clearInterval(id) } catch (e) { got(e) } }
            await import(it).catch(got)",
    },
    Attack {
        source: "idea: functions of the host compare unequal, have a prototype, or can be given one",
        place: Any,
        code: "for (const f of [...Object.getOwnPropertyNames(console).map(n => console[n]), setTimeout, structuredClone]) { got(f.prototype); try { got(f.caller, f.arguments) } catch (e) { got(e) } try { f.prototype = {}; got(new f()) } catch (e) { got(e) } try { class A extends f {} got(new A()) } catch (e) { got(e) }
            try { Object.setPrototypeOf(f, null); f(); got(Function.prototype.toString.call(f), f) } catch (e) { got(e) } }",
    },
    Attack {
        source: "idea: ShadowRealm, Worker and friends make another realm",
        place: Any,
        code: "for (const name of ['ShadowRealm', 'Realm', 'Compartment', 'Worker', 'SharedWorker', 'd8', 'Atomics', 'gc', 'performance', 'navigator', 'self', 'window', 'frames', 'parent', 'top', 'Deno', 'Bun', 'process', 'require']) {
            const it = globalThis[name]; if (!it) { got(it); continue } got(it); try { const made = new it(); got(made, made.evaluate?.('globalThis')) } catch (e) { got(e) } }",
    },
    Attack {
        source: "idea: the realm's own escape hatches: document.all, $262, %natives and html comments",
        place: Any,
        code: "for (const source of ['%DebugPrint(1)', '%GetOptimizationStatus(got)', '$262.createRealm()', 'd8.test', 'this', '(function () { return this })()', 'import.meta', 'new.target', 'super.x', '<!-- x'] ) { try { got((0, eval)(source)) } catch (e) { got(e) } try { got(Function(source), new Function('return ' + source)()) } catch (e) { got(e) } }",
    },
    Attack {
        source: "idea: a FinalizationRegistry or WeakRef is called back by the host",
        place: Any,
        code: "if (typeof FinalizationRegistry !== 'undefined') { const r = new FinalizationRegistry(function (...all) { got(this, ...all) }); for (let i = 0; i < 1e4; i++) r.register({}, i); got(r.cleanupSome?.(got)) }
            const w = new WeakRef(console); got(w, w.deref()); await new Promise(done => setTimeout(done, 2)); got(w.deref())",
    },
    Attack {
        source: "idea: shared memory and Atomics.waitAsync are settled by the host",
        place: Any,
        code: "const a = new Int32Array(new SharedArrayBuffer(8)); const w = Atomics.waitAsync(a, 0, 0, 1); got(w, w.value, w.value?.constructor); got(Atomics.notify(a, 0)); try { got(Atomics.wait(a, 0, 0, 1)) } catch (e) { got(e, e.constructor) }
            for (const it of [a, a.buffer]) { try { got(structuredClone(it)) } catch (e) { got(e) } } got(await Promise.race([w.value, new Promise(done => setTimeout(done, 3))]))",
    },
    Attack {
        source: "idea: generators and iterators of the host are resumed in the wrong realm",
        place: Any,
        code: "const G = Object.getPrototypeOf(function* () {}).prototype, A = Object.getPrototypeOf(async function* () {}).prototype; got(G, A, G.constructor, Object.getPrototypeOf(A));
            for (const it of [[].values(), new Map().keys(), ''.matchAll(/x/g), Iterator.from({next: () => ({done: true})}), [1].values().map(x => x)]) { const P = Object.getPrototypeOf(it); got(P, Object.getPrototypeOf(P)); for (const f of [P.next, P.return].filter(Boolean)) { try { got(f.call(console), f.call(it)) } catch (e) { got(e) } } }
            for (const n of ['next', 'return', 'throw']) { try { got(G[n].call({})) } catch (e) { got(e) } got(await A[n].call({}).catch(e => e)) }",
    },
];
