// What of all that a task reaches without having made it can still be changed: by name, by prototype, by syntax, by call.
const paths = new Map();
const loose = [];
const visit = (value, path) => {
  const waiting = [[value, path]];
  while (waiting.length > 0) {
    const [object, at] = waiting.pop();
    if ((typeof object !== 'object' && typeof object !== 'function') || object === null || paths.has(object)) continue;
    paths.set(object, at);
    if (Object.isExtensible(object)) loose.push(at + ' is extensible');
    waiting.push([Object.getPrototypeOf(object), at + '.[[Prototype]]']);
    const all = Object.getOwnPropertyDescriptors(object);
    for (const key of Reflect.ownKeys(all)) {
      const property = all[key], name = at + '.' + String(key);
      if (property.configurable) loose.push(name + ' is configurable');
      if (property.writable) loose.push(name + ' is writable');
      waiting.push([property.value, name], [property.get, name + ' (get)'], [property.set, name + ' (set)']);
    }
  }
};
visit(globalThis, 'globalThis');
// What a task makes is its own; what that inherits, and the functions behind its properties, are not.
const made = {
  generator: function* () {}, generating: Object.getPrototypeOf((function* () {})()), asyncFunction: async () => {}, asyncGenerator: async function* () {}, asyncGenerating: Object.getPrototypeOf((async function* () {})()),
  arrayIterator: [].keys(), mapIterator: new Map().keys(), setIterator: new Set().values(), stringIterator: 'a'[Symbol.iterator](), matches: 'a'.matchAll(/a/g),
  typedIterator: new Uint8Array(1).values(), helper: [].values().filter(Boolean), flat: [].values().flatMap(x => [x]), wrapped: Iterator.from({ next: () => ({ done: true }) }), concatenated: Iterator.concat?.([1], [2]), zipped: Iterator.zip?.([[1], [2]]),
  segments: new Intl.Segmenter('en').segment('a b'), segment: new Intl.Segmenter('en').segment('a b').containing(0), segmentIterator: new Intl.Segmenter('en').segment('a b')[Symbol.iterator](),
  strictArguments: (function () { return arguments })(1), error: new Error('a'), typeError: (() => { try { null.a } catch (e) { return e } })(), overflow: (() => { try { (function f() { f() })() } catch (e) { return e } })(), aggregate: new AggregateError([1]), suppressed: new SuppressedError(1, 2),
  captured: (o => (Error.captureStackTrace(o), o))({}), bound: (() => 1).bind(), resolvers: Promise.withResolvers(), revocable: Proxy.revocable({}, {}), capability: (() => { let all; new Promise((...both) => { all = both }); return all })(),
  compare: new Intl.Collator().compare, format: new Intl.NumberFormat().format, dateFormat: new Intl.DateTimeFormat().format, locale: new Intl.Locale('en'), duration: new Intl.DurationFormat('en'),
  template: (site => site)`a`, raw: (site => site.raw)`a`, regexp: /a/d, match: /(?<n>a)/d.exec('a'), date: new Date(), now: globalThis.Temporal?.Now.instant(), buffer: new ArrayBuffer(1), shared: new SharedArrayBuffer(1), view: new DataView(new ArrayBuffer(1)),
  classConstructor: class { static #a = 1; static b = 2 }, disposable: new DisposableStack(), asyncDisposable: new AsyncDisposableStack(), weak: new WeakRef({}), clone: structuredClone(new Map([[1, new Error('a')]])), promise: import('x').catch(() => {}), rawJSON: JSON.rawJSON?.('1'), descriptor: Object.getOwnPropertyDescriptor(Math, 'E'), method: ({ m() {} }).m, getter: Object.getOwnPropertyDescriptor({ get g() { return 1 } }, 'g').get,
};
for (const [name, object] of Object.entries(made)) {
  if (object === undefined) continue;
  visit(Object.getPrototypeOf(object), name + '.[[Prototype]]');
  for (const key of Reflect.ownKeys(object)) {
    const { get, set } = Object.getOwnPropertyDescriptor(object, key);
    visit(get, name + '.' + String(key) + ' (get)');
    visit(set, name + '.' + String(key) + ' (set)');
  }
}
({ objects: paths.size, loose })
