//! Attacks on what this engine adds to the language: console, timers, cloning, modules, and how it
//! reads results, arguments and errors.

use super::Attack;
use super::Place::{Any, CommonJs, EsModule};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        source: "console's functions called with foreign receivers, as constructors, as callbacks \
            of everything",
        place: Any,
        code:
            "for (const f of Object.getOwnPropertyNames(console).map(name => console[name])) for \
            (const self of [undefined, null, globalThis, f, Promise, Symbol()]) { try { \
            got(f.call(self, self), f.bind(self)(), Reflect.apply(f, self, [])) } catch (e) { \
            got(e) } }
            got([1].map(console.log), [3, 1, 2].sort(console.log), 'x'.replace(/x/, console.log), \
            JSON.parse('[1]', console.log), Array.from([1], console.log), await \
            Promise.resolve(1).then(console.log), Reflect.apply(console.log, console, new \
            Proxy([], {})))",
    },
    Attack {
        source: "console shows hostile objects: getters, proxies, tags, constructors, cycles",
        place: Any,
        code: "const bad = {get then() { got(this, new Error().stack) }}; const date = new \
            Date(0); Object.defineProperty(date, 'toString', {get() { got(this, new \
            Error().stack); return () => 'x' }}); Object.defineProperty(date, 'constructor', \
            {get() { got(this); return 1 }});
            class Odd { get [Symbol.toStringTag]() { got(this); return 'X' } static get name() { \
            got(this); return 'Y' } x = 1 } Object.defineProperty(Odd.prototype, 'constructor', \
            {get() { got(this); return Odd }});
            const map = new Map([[bad, date]]); map.entries = map[Symbol.iterator] = got; const \
            error = new Error('x'); Object.defineProperty(error, 'stack', {get() { got(this); \
            return bad }}); Object.defineProperty(error, 'message', {get() { got(this); return bad \
            }});
            console.log(bad, date, new Odd(), map, error, Object.create(error), \
            Object.create(date), new (class extends Date { get toString() { got(this) } })(0), \
            Object(Symbol('x')), Object(1n), [bad, , bad], new Set([map]), Promise.resolve(bad), \
            Promise.reject(bad).catch(got), globalThis)",
    },
    Attack {
        source: "the frames of a stack seen from a callback of each host function",
        place: Any,
        code: "Error.prepareStackTrace = (e, frames) => { got(e, ...frames.map(f => f.getThis()), \
            ...frames.map(f => f.getFunction())); return frames }; Error.stackTraceLimit = 100;
            const see = () => { got(new Error().stack); return 1 }; setTimeout(see, {valueOf: \
            see}); setInterval(see, 1); queueMicrotask(see); structuredClone({get a() { return \
            see() }}); console.log({get a() { return see() }}); await import({toString() { see(); \
            return 'x' }}).catch(got);
            await new Promise(done => setTimeout(done, 5)); const o = {}; \
            Error.captureStackTrace(o); got(o.stack)",
    },
    Attack {
        source: "timers: this, arguments, ids as objects, callbacks that are host functions, \
            clearing from inside",
        place: Any,
        code:
            "setTimeout(function () { got(this, arguments, arguments.length) }, 1, got, console, \
            globalThis); setTimeout(console.log, 1, setTimeout); setTimeout(setTimeout, 1, \
            setTimeout, 1, structuredClone, 1); setTimeout(structuredClone, 1, 1);
            setInterval(function f() { got(this); clearInterval(1); clearTimeout(2); for (let i = \
            0; i < 20; i++) clearInterval(i) }, 1); const id = setTimeout(got, 1); got(id, typeof \
            id, Object(id).constructor); for (const it of [{}, -1, 1.5, 2 ** 32, '1', [1], 1n, \
            Symbol()]) { try { got(clearTimeout(it)) } catch (e) { got(e) } }
            queueMicrotask(function () { got(this, arguments) }); setTimeout(queueMicrotask, 1, \
            got); setTimeout(new Proxy(function () { got(this) }, {apply(t, self, all) { got(self, \
            all); return 1 }}), 1); await new Promise(done => setTimeout(done, 6))",
    },
    Attack {
        source: "timers after the task's promise is settled",
        place: Any,
        code: "setTimeout(() => { setTimeout(() => got(globalThis), 0); got(1) }, 1); \
            queueMicrotask(() => queueMicrotask(() => got(2))); Promise.resolve().then(() => \
            setInterval(got, 1)); return {toJSON() { setTimeout(got, 0, 3); queueMicrotask(() => \
            got(4)); return 1 }}",
    },
    Attack {
        source: "structuredClone: transfers, hostile getters, errors with causes, holes, buffers \
            shared and resizable",
        place: Any,
        code:
            "const b = new ArrayBuffer(8, {maxByteLength: 16}); const e = new Error('x', {cause: \
            {got: 1}}); e.name = 'TypeError'; Object.defineProperty(e, 'stack', {get() { \
            got(this); return got }});
            for (const it of [e, Object.assign(new Error('y', {cause: e}), {name: got}), b, new \
            Uint8Array(b), new DataView(b), new SharedArrayBuffer(8), new Map([[e, e]]), new \
            Set([[]]), [, 1], Object('x'), Object(1n), /x/g, new Date(NaN), arguments_(), \
            Object.create({a: 1}), new (class A { x = 1 })(), globalThis.WebAssembly && new \
            WebAssembly.Module(new Uint8Array([0,97,115,109,1,0,0,0])), new WeakMap(), Symbol(), \
            got, new Proxy([], {})])
                { try { const copy = structuredClone(it, {transfer: [b], get x() { got(this) }}); \
                got(copy, copy.constructor, copy.cause, copy.stack) } catch (again) { got(again, \
                again.constructor, again.code) } }
            function arguments_() { return arguments } try { structuredClone({get a() { \
            structuredClone({get b() { got(this); throw got }}) }}) } catch (again) { got(again) } \
            for (const C of [Map, Set, Date, RegExp, Error, ArrayBuffer]) globalThis[C.name] = \
            got; got(structuredClone([new Uint8Array(1), /x/]))",
    },
    Attack {
        source: "every global is overwritten while the engine goes on to use its own",
        place: Any,
        code: "const keep = ['obtained', 'globalThis', 'undefined', 'NaN', 'Infinity', 'Object', \
            'Reflect', 'Proxy'];
            for (const name of Object.getOwnPropertyNames(globalThis)) if (!keep.includes(name)) { \
            const old = globalThis[name]; try { globalThis[name] = new Proxy(function () {}, {get: \
            (t, k) => k === 'prototype' ? t[k] : old?.[k], apply(t, self, all) { got(self, all) }, \
            construct(t, all) { got(all); return {} }}) } catch (e) { got(e) } }
            got(await (async () => 1)(), [...'ab'], /x/.exec('x'), {...[1]}); \
            import('x').catch(got); null.x",
    },
    Attack {
        source: "a result whose getters, proxies and toJSON see what the serializer hands them",
        place: Any,
        code: "const see = function (...all) { got(this, ...all, new Error().stack); return 1 }; \
            for (const P of [Object, Array, Number, String, Boolean, BigInt, Symbol, Function, \
            Date, Map]) Object.defineProperty(P.prototype, 'toJSON', {value: see, configurable: \
            true});
            globalThis.result = {get a() { return see.call(this) }, b: new Proxy({c: 1}, \
            {get(...all) { got(...all); return Reflect.get(...all) }, ownKeys(...all) { \
            got(...all); return Reflect.ownKeys(...all) }, getOwnPropertyDescriptor(...all) { \
            got(...all); return Reflect.getOwnPropertyDescriptor(...all) }}), d: {toJSON: see}, e: \
            new Proxy([1], {get(...all) { got(...all); return Reflect.get(...all) }}), f: new \
            Proxy(function () {}, {get(...all) { got(...all) }})};
            got(JSON.stringify(result)); console.log(result); return result",
    },
    Attack {
        source: "a thrown value whose parts see who reads the error",
        place: Any,
        code: "const see = function (...all) { got(this, ...all); return 'x' }; const e = new \
            Error('x'); for (const k of ['name', 'message', 'stack', 'cause', 'code', 'toString', \
            'constructor', Symbol.toPrimitive, Symbol.toStringTag]) Object.defineProperty(e, k, \
            {get: see});
            Error.prepareStackTrace = see; queueMicrotask(() => got(Promise.reject(e))); await \
            null; await Promise.reject(Object.setPrototypeOf(e, new Proxy({}, {get: see, \
            getPrototypeOf: see, getOwnPropertyDescriptor: see})))",
    },
    Attack {
        source: "the private mark of an error cannot be read, copied or made",
        place: Any,
        code: "const e = await import('./nothing.js').catch(e => e); got(e, Reflect.ownKeys(e), \
            structuredClone(e), Object.assign(new Error(), e)); const p = new Proxy(e, {get(t, k) \
            { got(k); return t[k] }, getOwnPropertyDescriptor(t, k) { got(k); return \
            Reflect.getOwnPropertyDescriptor(t, k) }, has(t, k) { got(k); return true }}); \
            console.log(p); throw p",
    },
    Attack {
        source: "code that is compiled where it is allowed keeps to its realm",
        place: Any,
        code: "for (const source of ['return this', 'return globalThis', 'return \
            import(\"./inner.mjs\")', 'return import(\"/etc/passwd\")', 'return typeof require + \
            typeof process', '//# sourceURL=/inner.cjs\\nreturn import(\"./inner.mjs\")', 'return \
            arguments.callee', 'return new.target'])
            for (const F of [Function, (async () => {}).constructor, (function* () \
            {}).constructor]) { try { const f = F(source); got(f, await f(), f.constructor) } \
            catch (e) { got(e, e.constructor) } } try { got((0, eval)('this'), eval('this'), (0, \
            eval)('var planted = 1; globalThis')) } catch (e) { got(e) }",
    },
    Attack {
        source: "import() with hijacked promises",
        place: EsModule,
        code: "const made = []; Object.defineProperty(Promise.prototype, 'constructor', \
            {configurable: true, get() { got(this); return {get [Symbol.species]() { return \
            function (run) { run((...all) => got(all), (...all) => got(all)); const it = {made: \
            1}; made.push(it); got(it); return it } }} }});
            Promise.prototype.then = function (...all) { got(this, ...all) }; const p = \
            import('./inner.mjs'); got(p, typeof p, made); for (const f of made) got(f); delete \
            Promise.prototype.constructor; if (!(p instanceof Promise)) throw new Error('not a \
            promise'); got(import('./inner.cjs'), import('./nothing.mjs'), \
            import('../../../etc/passwd'))",
    },
    Attack {
        source: "namespaces, import.meta and what import() says of modules that are not there",
        place: EsModule,
        code: "got(own, Object.getPrototypeOf(own), own.url, own.constructor, \
            Object.getOwnPropertyDescriptors(own)); for (const name of ['x', './inner.mjs', \
            '/etc/passwd', 'node:fs', Symbol(), {toString() { got(this); return './inner.mjs' }}]) \
            { try { got(own.resolve, own.resolve(name), own.resolve.call(null, name)) } catch (e) \
            { got(e, e.constructor.constructor) } } const space = await import('./inner.mjs'); \
            got(space, space.constructor, Object.getOwnPropertyDescriptors(space), \
            Object.getPrototypeOf(space), space[Symbol.toStringTag]);
            const common = await import('./inner.cjs'); got(common, common.default, \
            common.default.constructor); try { space.inner = 2 } catch (e) { got(e) } for (const \
            name of ['fs', 'node:fs', 'child_process', 'process', 'https://x/', \
            'data:text/javascript,1', 'file:///etc/passwd', '/etc/passwd', '../x', '#x', '']) \
            got(await import(name).catch(e => e)); got(await import('./inner.mjs', {with: {type: \
            'json'}}).catch(e => e))",
    },
    Attack {
        source: "require, module and their properties",
        place: CommonJs,
        code: "got(require, require.resolve, require.main, require.cache, require.extensions, \
            require.constructor, Object.getOwnPropertyDescriptors(require), module, module.parent, \
            module.children, module.constructor, module.constructor._load, module.require, \
            module.exports, this, exports);
            for (const name of ['fs', 'node:fs', 'child_process', 'module', 'vm', 'process', \
            '/etc/passwd', '../../etc/passwd', './inner.cjs', './inner.mjs', '', '.', './']) for \
            (const f of [require, require.resolve, module.require]) { try { got(f(name)) } catch \
            (e) { got(e, e.constructor.constructor, e.code, e.cause) } }
            for (const it of [null, {}, [], Symbol(), {toString() { got(this, new Error().stack); \
            return './inner.cjs' }}, new Proxy({}, {get: (t, k) => { got(k); return () => \
            './inner.cjs' }})]) { try { got(require(it)) } catch (e) { got(e) } } try { got(new \
            require('./inner.cjs')) } catch (e) { got(e) } got(require.call(console, \
            './inner.cjs'), Reflect.apply(require, null, ['./inner.cjs']))",
    },
    Attack {
        source: "require with its module object and prototypes under the attacker's control",
        place: CommonJs,
        code: "for (const k of ['exports', 'default', 'then', 'url', 'loaded', 'id', 'filename', \
            'require']) Object.defineProperty(Object.prototype, k, {__proto__: null, configurable: \
            true, get() { got(this) }, set(v) { got(this, v); Reflect.defineProperty(this, k, \
            {__proto__: null, value: v, writable: true, configurable: true, enumerable: true}) }});
            try { got(require('./inner.cjs')) } catch (e) { got(e) } got(await \
            import('./inner.cjs').catch(e => e)); for (const k of ['exports', 'default', 'then', \
            'url', 'loaded', 'id', 'filename', 'require']) delete Object.prototype[k];
            Object.defineProperty(module, 'exports', {get() { got(this, new Error().stack); return \
            1 }}); Error.prepareStackTrace = (e, f) => f.map(f => [f.getThis(), f.getFunction()]); \
            got(new Error().stack, arguments_())
            function arguments_() { try { return arguments.callee.caller?.arguments } catch (e) { \
            return e } }",
    },
    Attack {
        source: "a stack overflow inside of require and import()",
        place: CommonJs,
        code: "for (const f of [() => require('./inner.cjs'), () => require('./nothing.cjs'), () \
            => require('./inner.mjs'), () => require.resolve('./inner.cjs'), () => \
            import('./inner.mjs')]) { let last; const sink = () => { try { sink() } catch (e) { \
            try { const it = f(); it?.catch?.(got); last ??= it } catch (again) { last = again } \
            last ??= e } }; sink(); got(last, last?.constructor) }",
    },
    Attack {
        source: "the global object itself: its prototype, its accessors, detached receivers",
        place: Any,
        code: "got(Object.getOwnPropertyDescriptors(globalThis), globalThis.__proto__, (function \
            () { return this })(), (() => this)()); for (const name of \
            Reflect.ownKeys(globalThis)) { const d = Object.getOwnPropertyDescriptor(globalThis, \
            name); if (d.get) { for (const self of [undefined, {}, console]) { try { \
            got(d.get.call(self)) } catch (e) { got(e) } } } }
            try { Object.setPrototypeOf(globalThis, new Proxy({}, {get(...all) { got(...all) }, \
            has(...all) { got(...all); return true }})); got(globalThis.anything, \
            globalThis.process) } catch (e) { got(e) }",
    },
];
