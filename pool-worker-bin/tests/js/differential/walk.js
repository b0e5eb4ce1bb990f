// Walks every intrinsic of its realm and calls what it finds; gives one line per finding: "kind path<TAB>what came of it".
// Runs in a realm of ours and in the bare engine. It uses only what it has taken hold of before the first call, and makes
// each argument anew, so that what calls do to the realm stays the same on both sides.
async (seed, calls) => {
  'use strict';
  const { apply, construct, ownKeys, getOwnPropertyDescriptor, getPrototypeOf, isExtensible } = Reflect;
  const quote = JSON.stringify, isArray = Array.isArray, text = String, is = Object.is, create = Object.create;
  const mapGet = Map.prototype.get, mapSet = Map.prototype.set, mapHas = Map.prototype.has, sort = Array.prototype.sort;
  const mapEach = Map.prototype.forEach, setEach = Set.prototype.forEach, time = Date.prototype.getTime;
  const pattern = RegExp.prototype.toString, tag = Object.prototype.toString, slice = String.prototype.slice;
  const then = Promise.prototype.then, codeAt = String.prototype.charCodeAt, description = getOwnPropertyDescriptor(Symbol.prototype, 'description').get;
  const sizeOf = getOwnPropertyDescriptor(ArrayBuffer.prototype, 'byteLength').get, number = Number.prototype.toString, wellFormed = String.prototype.toWellFormed;
  const lines = [];
  const put = (key, value) => { lines[lines.length] = key + '\t' + value; };

  // --- finding everything
  const paths = new Map(), found = [];
  const keyText = key => typeof key === 'symbol' ? '@@' + apply(description, key, []) : key;
  const reach = (path, value) => {
    if ((typeof value !== 'object' && typeof value !== 'function') || value === null || apply(mapHas, paths, [value])) return;
    apply(mapSet, paths, [value, path]);
    found[found.length] = [path, value];
  };
  const byText = (a, b) => { const x = keyText(a), y = keyText(b); return x < y ? -1 : x > y ? 1 : 0; };
  const sortedKeys = object => apply(sort, ownKeys(object), [byText]);
  const own = [];
  let visited = 0;
  // First by properties alone, so that each gets the name it is known by; then what only a prototype leads to.
  const follow = () => {
    for (; visited < found.length; visited++) {
      const path = found[visited][0], object = found[visited][1], keys = sortedKeys(object);
      for (let j = 0; j < keys.length; j++) {
        const name = path === 'globalThis' ? keyText(keys[j]) : path + '.' + keyText(keys[j]);
        const descriptor = getOwnPropertyDescriptor(object, keys[j]);
        own[own.length] = [name, descriptor];
        reach(name, descriptor.value); reach(name + ' (get)', descriptor.get); reach(name + ' (set)', descriptor.set);
      }
    }
  };
  reach('globalThis', globalThis);
  follow();
  reach('%TypedArray%', getPrototypeOf(Uint8Array));
  reach('%ThrowTypeError%', getOwnPropertyDescriptor((function () { return arguments; })(), 'callee').get);
  const hidden = [
    ['%GeneratorFunction.prototype%', function* () {}], ['%AsyncFunction.prototype%', async function () {}], ['%AsyncGeneratorFunction.prototype%', async function* () {}],
    ['%ArrayIteratorPrototype%', [][Symbol.iterator]()], ['%MapIteratorPrototype%', new Map().entries()], ['%SetIteratorPrototype%', new Set().entries()],
    ['%StringIteratorPrototype%', ''[Symbol.iterator]()], ['%RegExpStringIteratorPrototype%', ''.matchAll(/x/g)], ['%IteratorHelperPrototype%', [].values().map(x => x)],
    ['%WrapForValidIteratorPrototype%', Iterator.from({ next() {} })],
    ['%SegmentsPrototype%', new Intl.Segmenter().segment('a')], ['%SegmentIteratorPrototype%', new Intl.Segmenter().segment('a')[Symbol.iterator]()],
  ];
  for (let i = 0; i < hidden.length; i++) reach(hidden[i][0], getPrototypeOf(hidden[i][1]));
  follow();
  for (let i = 0; i < found.length; i++) { reach(found[i][0] + '.[[Prototype]]', getPrototypeOf(found[i][1])); follow(); }

  // --- values as text
  const short = value => { const s = value; return quote(s.length > 120 ? apply(slice, s, [0, 120]) + '…' + s.length : s); };
  const show = (value, depth) => {
    switch (typeof value) {
      case 'undefined': return 'undefined';
      case 'boolean': return value ? 'true' : 'false';
      case 'number': return is(value, -0) ? '-0' : apply(number, value, []);
      case 'bigint': return short(text(value)) + 'n';
      case 'string': return short(value);
      case 'symbol': return 'Symbol(' + apply(description, value, []) + ')';
    }
    if (value === null) return 'null';
    const path = apply(mapGet, paths, [value]);
    if (path !== undefined) return '«' + path + '»';
    try { return showObject(value, depth); } catch (e) { return '(cannot be shown)'; }
  };
  const showObject = (value, depth) => {
    const proto = getPrototypeOf(value), of = proto === null ? 'null' : apply(mapGet, paths, [proto]) ?? '?';
    let out = typeof value === 'function' ? 'function ' : '';
    out += of;
    const inner = (read, ...all) => { try { out += ' ' + apply(read, value, all); } catch {} };
    inner(time); inner(pattern); inner(sizeOf);
    if (depth > 2) return out + ' {…}';
    inner(mapEach, (v, k) => { out += ' ' + show(k, depth + 1) + '=>' + show(v, depth + 1); });
    inner(setEach, v => { out += ' ' + show(v, depth + 1); });
    if (apply(slice, of, [0, 8]) === 'Temporal' && proto.toString !== Object.prototype.toString) inner(proto.toString);
    const keys = sortedKeys(value);
    out += ' {';
    for (let i = 0; i < keys.length && i < 16; i++) {
      const key = keys[i];
      // The engine's own text for people, with places in the source.
      if (key === 'stack') continue;
      const d = getOwnPropertyDescriptor(value, key);
      if (d === undefined) continue;
      out += ' ' + keyText(key) + flags(d) + ':' + ('value' in d ? show(d.value, depth + 1) : 'accessor');
    }
    return out + (keys.length > 16 ? ' …' + keys.length : '') + ' }' + (isExtensible(value) ? '' : ' fixed');
  };
  const flags = d => (d.writable === false ? '-w' : '') + (d.enumerable ? '' : '-e') + (d.configurable ? '' : '-c');

  // --- what is there
  for (let i = 0; i < found.length; i++) {
    const [path, object] = [found[i][0], found[i][1]], proto = getPrototypeOf(object);
    put('object ' + path, typeof object + ' ' + apply(tag, object, []) + ' of ' + (proto === null ? 'null' : apply(mapGet, paths, [proto])) + (isExtensible(object) ? '' : ' fixed'));
  }
  for (let i = 0; i < own.length; i++) {
    const d = own[i][1];
    put('property ' + own[i][0], flags(d) + ' ' + ('value' in d ? show(d.value, 0) : (d.get ? 'get' : '') + ' ' + (d.set ? 'set' : '')));
  }

  // --- what to call with: each made anew for each call
  const thrower = () => { throw new RangeError('thrown by an argument'); };
  const makers = [
    () => undefined, () => null, () => true, () => false, () => 0, () => -0, () => 1, () => -1, () => 2, () => 3, () => 7.5, () => 100, () => 65536,
    () => NaN, () => Infinity, () => -Infinity, () => 2 ** 53 - 1, () => 1e21, () => 5e-324, () => '', () => 'a', () => 'abc', () => '12', () => ' 1e3 ', () => 'length',
    () => 'é😀', () => '\ud800', () => 'NFC', () => 'en', () => 'de-DE', () => 'UTC', () => 'Europe/Berlin', () => 'iso8601', () => 'day', () => 'EUR',
    () => '2020-02-29', () => '2020-02-29T12:30:01.5', () => '2020-02-29T12:30:01+01:00[Europe/Berlin]', () => 'P1Y2M3DT4H5M6S', () => '12:30', () => '%41%zz',
    () => 0n, () => 1n, () => -5n, () => 2n ** 64n, () => Symbol('s'), () => Symbol.iterator, () => Symbol.for('registered'),
    () => [], () => [3, 1, 2], () => [, 'x', undefined], () => [[1, 'a'], [2, 'b']], () => ['en', 'de'], () => Object.freeze([1, 2]), () => ({}), () => ({ a: 1, b: { c: 2 } }),
    () => ({ length: 2, 0: 'x', 1: 'y' }), () => ({ valueOf() { return 7; } }), () => ({ toString() { return 'b'; } }), () => ({ [Symbol.toPrimitive]: thrower }), () => ({ get a() { return 1; }, set a(v) {} }),
    () => ({ get length() { return thrower(); } }), () => ({ [Symbol.iterator]: function* () { yield 1; yield [2, 3]; } }), () => ({ next() { return { done: true, value: 1 }; } }), () => ({ then(f) { f('thenable'); } }),
    () => ({ value: 1, writable: true }), () => ({ get: () => 1, configurable: true }), () => ({ style: 'currency', currency: 'EUR' }), () => ({ dateStyle: 'short', timeZone: 'UTC' }), () => ({ year: 2020, month: 2, day: 3 }),
    () => ({ hours: 1, minutes: 90 }), () => ({ smallestUnit: 'hour', roundingMode: 'ceil' }), () => ({ maxByteLength: 16 }), () => ({ numeric: true, type: 'ordinal' }), () => ({ size: 1, has: x => x === 1, keys: () => [1].values() }),
    () => () => 1, () => x => x, () => (a, b) => a < b ? -1 : 1, () => function () { return this; }, () => class A { x = 1; static y = 2; }, () => thrower, () => async () => 1, () => function* () { yield 1; }, () => Boolean, () => Array,
    () => Object.create(null), () => Object.create({ inherited: 1 }), () => new Proxy({}, {}), () => new Proxy([1, 2], {}), () => new Proxy(() => 1, {}), () => new Error('e'), () => new AggregateError([1], 'e'),
    () => new Date(0), () => new Date(NaN), () => /b/g, () => /(?<name>a)|b/dy, () => new Map([[1, 'a'], ['k', {}]]), () => new Set([1, 'a']), () => new WeakMap(), () => new WeakSet(), () => new WeakRef({}),
    () => new Uint8Array([1, 2, 3]), () => new Int32Array(new SharedArrayBuffer(8)), () => new BigInt64Array(2), () => new Float32Array([1.5, NaN, -0]), () => new Uint8ClampedArray(3), () => new Float16Array([1, 2]), () => new ArrayBuffer(8), () => new ArrayBuffer(4, { maxByteLength: 8 }), () => new SharedArrayBuffer(8), () => new DataView(new ArrayBuffer(16)),
    () => Promise.resolve('p'), () => Promise.reject(new TypeError('rejected')), () => new Promise(() => {}), () => Object(1), () => Object('str'), () => Object(1n), () => Object(Symbol('boxed')), () => Object(true),
    () => [1, 2, 3].values(), () => new Map([[1, 2]]).entries(), () => new Set([1]).values(), () => 'ab'[Symbol.iterator](), () => 'aXbX'.matchAll(/X/g), () => [1, 2].values().map(x => x * 2), () => Iterator.from({ next: () => ({ done: true }) }),
    () => (function* () { const got = yield 1; yield got; })(), () => (async function* () { yield 1; })(), () => (function () { return arguments; })(1, 2), () => new DisposableStack(), () => new AsyncDisposableStack(),
    () => new Intl.NumberFormat('en'), () => new Intl.DateTimeFormat('en', { timeZone: 'UTC' }), () => new Intl.Collator('de'), () => new Intl.PluralRules('en'), () => new Intl.ListFormat('en'), () => new Intl.RelativeTimeFormat('en'), () => new Intl.Segmenter('en'), () => new Intl.Segmenter('en').segment('ab'), () => new Intl.Segmenter('en').segment('ab')[Symbol.iterator](), () => new Intl.Locale('de-AT'), () => new Intl.DisplayNames('en', { type: 'region' }), () => new Intl.DurationFormat('en'),
    () => new Temporal.PlainDate(2020, 2, 29), () => new Temporal.PlainDateTime(2020, 2, 29, 1), () => new Temporal.PlainTime(12, 30), () => new Temporal.PlainYearMonth(2020, 2), () => new Temporal.PlainMonthDay(2, 29), () => new Temporal.Duration(0, 0, 0, 1, 2), () => Temporal.Instant.fromEpochMilliseconds(1e12), () => new Temporal.ZonedDateTime(10n ** 18n, 'Europe/Berlin'),
    () => new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]),
  ];
  // As arguments only these: the others are not on both sides, and serve their own methods.
  const arguable = makers.length;
  makers.push(
    () => new FinalizationRegistry(() => {}),
    () => new WebAssembly.Module(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])), () => new WebAssembly.Memory({ initial: 1, maximum: 2 }), () => new WebAssembly.Table({ initial: 2, element: 'anyfunc' }), () => new WebAssembly.Global({ value: 'i32', mutable: true }, 42),
  );
  const make = index => { try { return makers[index](); } catch { return undefined; } };
  // For each prototype, the makers of objects that have it: what its methods are meant for.
  const natural = new Map();
  for (let i = 0; i < makers.length; i++) {
    let at = make(i);
    if (at === undefined || at === null) continue;
    for (at = getPrototypeOf(Object(at)); at !== null; at = getPrototypeOf(at)) {
      const path = apply(mapGet, paths, [at]);
      if (path === undefined || path === 'Object.prototype') continue;
      const list = apply(mapGet, natural, [path]) ?? [];
      list[list.length] = i;
      apply(mapSet, natural, [path, list]);
    }
  }

  // --- calling
  const never = {
    __proto__: null,
    'Math.random': 'a random number', 'Date.now': 'the time', 'Temporal.Now.instant': 'the time', 'Temporal.Now.plainDateISO': 'the time', 'Temporal.Now.plainDateTimeISO': 'the time',
    'Temporal.Now.plainTimeISO': 'the time', 'Temporal.Now.zonedDateTimeISO': 'the time', 'Intl.DateTimeFormat.prototype.formatToParts': 'without an argument, the time',
  };
  const fixed = {
    __proto__: null,
    // Called otherwise, it may wait for ever.
    'Atomics.wait': () => [undefined, new Int32Array(new SharedArrayBuffer(8)), 0, 0, 0],
  };
  const Math_imul = Math.imul;
  const hash = string => { let h = seed | 0; for (let i = 0; i < string.length; i++) h = Math_imul(h ^ apply(codeAt, string, [i]), 0x9E3779B1); return h; };
  const PromisePrototype = Promise.prototype;
  const settle = (key, promise) => {
    try {
      const d = getOwnPropertyDescriptor(promise, 'constructor');
      if (d === undefined && getPrototypeOf(promise) === PromisePrototype) apply(then, promise, [v => put('later ' + key, show(v, 0)), e => put('later ' + key, 'rejects ' + shown(e))]);
    } catch {}
  };
  const shown = e => { try { return typeof e === 'object' && e !== null && typeof e.message === 'string' ? show(getPrototypeOf(e), 0) + ' ' + short(e.message) : show(e, 0); } catch { return '(cannot be shown)'; } };
  const holderOf = path => { let p = path; if (apply(slice, p, [-6]) === ' (get)' || apply(slice, p, [-6]) === ' (set)') p = apply(slice, p, [0, -6]); for (let i = p.length - 1; i > 0; i--) if (p[i] === '.') return apply(slice, p, [0, i]); return 'globalThis'; };
  const byPath = new Map();
  for (let i = 0; i < found.length; i++) apply(mapSet, byPath, [found[i][0], found[i][1]]);
  let made = 0;
  const one = (path, f, round) => {
    let state = hash(path + '#' + round);
    const random = below => { state = Math_imul(state ^ (state >>> 15), 0x2C1B3C6D) + 0x6D2B79F5 | 0; return ((state ^ (state >>> 13)) >>> 0) % below; };
    const holder = holderOf(path), list = apply(mapGet, natural, [holder]);
    const constructs = random(4) === 0;
    const which = random(4);
    let receiver, self;
    if (fixed[path]) { const all = fixed[path](); return attempt(path, f, round, 'fixed', false, all[0], [all[1], all[2], all[3], all[4]]); }
    if (list !== undefined && which > 0) { self = list[random(list.length)]; receiver = make(self); }
    else if (list === undefined && which > 1) { self = 'holder'; receiver = holder === 'globalThis' ? undefined : create(apply(mapGet, byPath, [holder]) ?? null); if (which === 3 && list === undefined && typeof apply(mapGet, byPath, [holder]) === 'function') receiver = apply(mapGet, byPath, [holder]); }
    else { self = random(arguable); receiver = make(self); }
    const count = random(5), args = [];
    let label = text(self);
    for (let i = 0; i < count; i++) { const index = random(arguable); label += ',' + index; args[i] = make(index); }
    if (path === 'Date' && (!constructs || count === 0)) return;
    if (path === 'Intl.DateTimeFormat.prototype.formatRange' || never[path]) return;
    attempt(path, f, round, label, constructs, receiver, args);
  };
  const attempt = (path, f, round, label, constructs, receiver, args) => {
    const key = (constructs ? 'new ' : 'call ') + path + ' #' + round;
    let outcome, value;
    try { value = constructs ? construct(f, args) : apply(f, receiver, args); outcome = show(value, 0); } catch (e) { outcome = 'throws ' + shown(e); }
    made++;
    put(key, label + ' → ' + outcome);
    settle(key, value);
  };
  for (let i = 0; i < found.length; i++) {
    if (typeof found[i][1] !== 'function') continue;
    for (let round = 0; round < calls; round++) one(found[i][0], found[i][1], round);
  }
  for (let i = 0; i < 200; i++) await null;
  put('calls', made);
  let all = '';
  for (let i = 0; i < lines.length; i++) all += lines[i] + '\n';
  return apply(wellFormed, all, []);
}
