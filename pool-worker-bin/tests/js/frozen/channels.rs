//! Ways by which a task might leave something for another one.

/// One way. Each part is code; `sends` tells which of the two it is, `secret` is what to send.
pub(super) struct Channel {
    pub(super) name: &'static str,
    /// Stands before both, in the same code.
    pub(super) common: &'static str,
    pub(super) send: &'static str,
    /// Gives the same before and after, if nothing has come through; so does the console.
    pub(super) receive: &'static str,
    /// Whether it leads from one task to the next in the warm realm: then it is a real one.
    pub(super) is_open_when_warm: bool,
}

const fn open(name: &'static str, send: &'static str, receive: &'static str) -> Channel {
    Channel { name, common: "", send, receive, is_open_when_warm: true }
}

const fn shut(
    name: &'static str,
    common: &'static str,
    send: &'static str,
    receive: &'static str,
) -> Channel {
    Channel { name, common, send, receive, is_open_when_warm: false }
}

/// Gives the callbacks of others some time.
const WAIT: &str = "new Promise(done => setTimeout(done, 5, 'nothing'))";

pub(super) const CHANNELS: &[Channel] = &[
    // Globals
    open(
        "a property of the global object",
        "globalThis.left = secret",
        "globalThis.left ?? 'nothing'",
    ),
    open(
        "a variable that is not declared",
        "undeclared = secret",
        "globalThis.undeclared ?? 'nothing'",
    ),
    open("a variable at the top", "var atTop = secret", "typeof atTop"),
    open("a global that is replaced", "parseInt = () => secret", "String(parseInt('1'))"),
    open("a global that is deleted", "delete globalThis.escape", "typeof escape"),
    open(
        "a getter on the global object",
        "Object.defineProperty(globalThis, 'got', { get: () => secret, configurable: true })",
        "globalThis.got ?? 'nothing'",
    ),
    open(
        "the global object's prototype",
        "Object.setPrototypeOf(globalThis, { above: secret })",
        "globalThis.above ?? 'nothing'",
    ),
    open(
        "a variable of an indirect eval",
        "(0, eval)('var evaluated = ' + JSON.stringify(secret))",
        "typeof evaluated",
    ),
    open(
        "a variable of a made function",
        "Function('x', 'inFunction = x')(secret)",
        "typeof inFunction",
    ),
    // Prototypes
    open(
        "a property of Object.prototype",
        "Object.prototype.left = secret",
        "({}).left ?? 'nothing'",
    ),
    open(
        "a method that is replaced",
        "Array.prototype.map = () => secret",
        "String([1].map(x => x))",
    ),
    open("a method that is deleted", "delete Array.prototype.at", "typeof [].at"),
    open(
        "a prototype's prototype",
        "Object.setPrototypeOf(Array.prototype, { left: secret })",
        "[].left ?? 'nothing'",
    ),
    open(
        "a proxy as a prototype's prototype",
        "Object.setPrototypeOf(Map.prototype, new Proxy({}, { get: () => secret }))",
        "new Map().nowhere ?? 'nothing'",
    ),
    open(
        "whether a namespace is extensible",
        "Object.preventExtensions(Intl)",
        "String(Object.isExtensible(Intl))",
    ),
    open(
        "a symbol as key",
        "Object[Symbol.for('left')] = secret",
        "Object[Symbol.for('left')] ?? 'nothing'",
    ),
    open("an index of a prototype", "Array.prototype[3] = secret", "[][3] ?? 'nothing'"),
    open(
        "the length of Array.prototype",
        "Array.prototype.length = 7",
        "String(Array.prototype.length)",
    ),
    open(
        "the names that `with` leaves out",
        "Array.prototype[Symbol.unscopables].left = secret",
        "Array.prototype[Symbol.unscopables].left ?? 'nothing'",
    ),
    // Functions
    open("a property of a function", "Array.from.left = secret", "Array.from.left ?? 'nothing'"),
    open(
        "the name of a function",
        "Object.defineProperty(Array.of, 'name', { value: secret })",
        "Array.of.name",
    ),
    open("a property of eval", "eval.left = secret", "eval.left ?? 'nothing'"),
    open(
        "a getter's own property",
        "Object.getOwnPropertyDescriptor(Map.prototype, 'size').get.left = secret",
        "Object.getOwnPropertyDescriptor(Map.prototype, 'size').get.left ?? 'nothing'",
    ),
    open(
        "the function behind `arguments.callee`",
        "Object.getOwnPropertyDescriptor((function () { 'use strict'; return arguments })(), \
         'callee').get.__proto__.left = secret",
        "Object.getOwnPropertyDescriptor((function () { 'use strict'; return arguments })(), \
         'callee').get.left ?? 'nothing'",
    ),
    shut(
        "what stands in for a frozen property",
        "",
        "Object.getOwnPropertyDescriptor(Object.prototype, 'toString').set.left = secret",
        "Object.getOwnPropertyDescriptor(Object.prototype, 'toString').set?.left ?? 'nothing'",
    ),
    shut(
        "a function's own name",
        "const f = function own() { return own };",
        "f().left = secret",
        "f().left ?? 'nothing'",
    ),
    shut("the function that is running", "", "arguments.callee.left = secret", "typeof arguments"),
    shut(
        "the function that called",
        "const caller = () => { try { return caller.caller } catch {} };",
        "caller().left = secret",
        "caller()?.left ?? 'nothing'",
    ),
    // What only syntax leads to
    open(
        "the prototype of generators",
        "Object.getPrototypeOf(function* () {}).prototype.next = () => secret",
        "JSON.stringify((function* () {})().next())",
    ),
    open(
        "the prototype of async functions",
        "Object.getPrototypeOf(async () => {}).left = secret",
        "(async () => {}).left ?? 'nothing'",
    ),
    open(
        "the prototype of async generators",
        "Object.getPrototypeOf(async function* () {}).prototype.left = secret",
        "(async function* () {})().left ?? 'nothing'",
    ),
    open(
        "the prototype of array iterators",
        "Object.getPrototypeOf([].keys()).next = () => ({ done: true, left: secret })",
        "[].keys().next().left ?? 'nothing'",
    ),
    open(
        "the prototype of match iterators",
        "Object.getPrototypeOf(''.matchAll(/a/g)).left = secret",
        "''.matchAll(/a/g).left ?? 'nothing'",
    ),
    open(
        "the prototype of iterator helpers",
        "Object.getPrototypeOf([].values().map(x => x)).left = secret",
        "[].values().map(x => x).left ?? 'nothing'",
    ),
    open(
        "the prototype of wrapped iterators",
        "Object.getPrototypeOf(Iterator.from({ next() {} })).left = secret",
        "Iterator.from({ next() {} }).left ?? 'nothing'",
    ),
    open(
        "the prototype of a text's segments",
        "Object.getPrototypeOf(new Intl.Segmenter().segment('a')).left = secret",
        "new Intl.Segmenter().segment('a').left ?? 'nothing'",
    ),
    shut(
        "a template object",
        "const site = (all => all)`a`;",
        "site.left = secret",
        "site.left ?? 'nothing'",
    ),
    shut(
        "a private name on a template object",
        "const site = (all => all)`a`; class Given { constructor(it) { return it } } class Stamp \
         extends Given { #left; static put(it, value) { new Stamp(it).#left = value } static \
         get(it) { return #left in it ? it.#left : 'nothing' } }",
        "Stamp.put(site, secret)",
        "Stamp.get(site)",
    ),
    shut(
        "a private name on an intrinsic",
        "class Given { constructor(it) { return it } } class Stamp extends Given { #left; static \
         put(it, value) { new Stamp(it).#left = value } static get(it) { return #left in it ? \
         it.#left : 'nothing' } }",
        "Stamp.put(Math, secret)",
        "Stamp.get(Math)",
    ),
    shut(
        "a regular expression's place",
        "const r = () => /a/g;",
        "r().lastIndex = 7",
        "String(r().lastIndex)",
    ),
    shut(
        "the parts of a literal",
        "const o = () => ({ list: [1] });",
        "o().list.push(secret)",
        "o().list[1] ?? 'nothing'",
    ),
    // State that is not a property
    open(
        "the last match",
        "/(.*)/.exec(secret)",
        "[RegExp.$1, RegExp.input, RegExp.$_, RegExp.lastMatch, RegExp.lastParen, RegExp['$&'], \
         RegExp['$+']].find(x => x === 's3cret') ?? 'nothing'",
    ),
    open(
        "the compiled form of a shared expression",
        "RegExp.prototype.compile?.left ?? (RegExp.prototype.compile.left = secret)",
        "RegExp.prototype.compile.left ?? 'nothing'",
    ),
    open(
        "a class's species",
        "Object.defineProperty(Array, Symbol.species, { value: function () { return { left: secret \
         } } })",
        "[1].map(x => x).left ?? 'nothing'",
    ),
    open(
        "what `instanceof` asks",
        "Object.defineProperty(Map, Symbol.hasInstance, { value: () => true })",
        "String(1 instanceof Map)",
    ),
    shut(
        "the ids of timers",
        "",
        "for (let i = 0; i < 9; i++) setTimeout(() => {}, 1e6)",
        "String(setTimeout(() => {}, 1))",
    ),
    shut(
        "the counters of the console",
        "",
        "console.count('n'); console.group('g'); console.time('t')",
        "console.count('n')",
    ),
    // Hooks
    open(
        "how a stack is made",
        "Error.prepareStackTrace = () => secret",
        "String(new Error('x').stack)",
    ),
    open("how long a stack is", "Error.stackTraceLimit = 1", "String(Error.stackTraceLimit)"),
    open(
        "the accessor of a stack",
        "Object.getOwnPropertyDescriptor(Error, 'captureStackTrace').value.left = secret",
        "Error.captureStackTrace.left ?? 'nothing'",
    ),
    open(
        "a stack on an intrinsic",
        "Error.captureStackTrace(Math)",
        "String(Object.hasOwn(Math, 'stack'))",
    ),
    open("the name of all errors", "Error.prototype.name = secret", "new Error('x').name"),
    open(
        "how values become JSON",
        "Array.prototype.toJSON = () => secret",
        "JSON.stringify(['x'])",
    ),
    open(
        "how dates become JSON",
        "Date.prototype.toJSON = () => secret",
        "JSON.stringify(new Date(0))",
    ),
    open("how numbers become text", "Number.prototype.toString = () => secret", "(7).toString()"),
    open(
        "a `then` of all objects",
        "Object.prototype.then = function (done) { delete Object.prototype.then; \
         this.constructor.left = 1; done(1) }",
        "(async () => ({}))().then(value => typeof value)",
    ),
    open(
        "the `then` of promises",
        "Promise.prototype.then = () => secret",
        "String(Promise.resolve().then(() => {}))",
    ),
    open(
        "how strings are taken apart",
        "String.prototype[Symbol.iterator] = function* () { yield secret }",
        "[...'x'].join()",
    ),
    open("how expressions match", "RegExp.prototype.exec = () => null", "String(/a/.test('a'))"),
    open("the random numbers", "Math.random = () => secret", "typeof Math.random()"),
    open("the time", "Date.now = () => secret", "typeof Date.now()"),
    open(
        "the comparison of texts",
        "Intl.Collator.prototype.left = secret",
        "new Intl.Collator().left ?? 'nothing'",
    ),
    open(
        "a weak map's method",
        "WeakMap.prototype.get = () => secret",
        "new WeakMap().get({}) ?? 'nothing'",
    ),
    open("a weak reference", "WeakRef.left = new WeakRef(WeakRef)", "typeof WeakRef.left?.deref()"),
    // The host's functions
    open(
        "the console's functions",
        "console.log = () => 1; console.left = secret",
        "console.left ?? 'nothing'",
    ),
    open("a timer function", "setTimeout.left = secret", "setTimeout.left ?? 'nothing'"),
    open("the cloning function", "structuredClone = () => secret", "String(structuredClone(1))"),
    // Time after the end
    shut(
        "a promise that is left",
        "",
        "Promise.resolve().then(() => {}).then(() => console.log(secret)); throw 0",
        WAIT,
    ),
    shut(
        "a microtask that is left",
        "",
        "queueMicrotask(() => console.log(secret)); throw 0",
        WAIT,
    ),
    shut(
        "a dynamic import that is left",
        "",
        "import('x').catch(() => console.log(secret)); throw 0",
        WAIT,
    ),
    shut(
        "an async function that waits",
        "",
        "(async () => { for (let i = 0; i < 3; i++) await null; console.log(secret) })(); throw 0",
        WAIT,
    ),
    shut("a timer that is left", "", "setTimeout(() => console.log(secret), 1)", WAIT),
    shut(
        "an interval that is left",
        "",
        "setInterval(() => console.log(secret), 1); throw 0",
        WAIT,
    ),
    shut(
        "a promise that never settles",
        "",
        "new Promise(done => { globalThis.done = done })",
        WAIT,
    ),
    shut(
        "a getter of the result",
        "",
        "({ get a() { setTimeout(() => console.log('late'), 1); queueMicrotask(() => {}); return 1 \
         } })",
        WAIT,
    ),
    shut(
        "a `toJSON` of the result that throws",
        "",
        "({ toJSON() { Promise.resolve().then(() => console.log(secret)); throw 0 } })",
        WAIT,
    ),
    shut(
        "a clean-up callback",
        "",
        "const all = new FinalizationRegistry(value => console.log(value)); for (let i = 0; i < \
         100; i++) all.register({}, secret)",
        "for (let i = 0; i < 100; i++) new Array(100000).fill(i); new Promise(done => \
         setTimeout(done, 5, 'nothing'))",
    ),
    shut(
        "a wait for shared memory",
        "",
        "Atomics.waitAsync(new Int32Array(new SharedArrayBuffer(8)), 0, 0, 1).value.then(() => \
         console.log(secret))",
        WAIT,
    ),
    shut(
        "a compilation that is left",
        "",
        "WebAssembly.compile(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])).then(() => \
         console.log(secret)); throw 0",
        WAIT,
    ),
];
