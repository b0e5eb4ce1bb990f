// Freezes all that the frozen realm's tasks share. Runs once, before any task. Gives the function that does it, after which
// nothing more can be done to these objects, then the getters that stand in for frozen values, each followed by its value.
(() => {
  'use strict';
  const { defineProperty, getOwnPropertyDescriptor, getPrototypeOf, ownKeys } = Reflect;
  const { freeze, hasOwn } = Object;
  const descriptor = (object, key) => getOwnPropertyDescriptor(object, key) ?? {};

  // What no name leads to, only syntax and calls.
  const captured = {};
  Error.captureStackTrace(captured);
  Error.prepareStackTrace = (error, frames) => frames;
  const frames = new Error().stack;
  delete Error.prepareStackTrace;
  const TypedArray = getPrototypeOf(Uint8Array);
  const segments = new Intl.Segmenter().segment('a');
  const hidden = [
    globalThis, TypedArray,
    function* () {}, async function () {}, async function* () {}, [][Symbol.iterator](), new Map().entries(), new Set().entries(),
    ''[Symbol.iterator](), ''.matchAll(/x/g), [].values().map(x => x), Iterator.from({ next() {} }), segments, segments[Symbol.iterator](),
    Promise.resolve(), ...frames, frames,
  ].map(object => object === globalThis || object === TypedArray ? object : getPrototypeOf(object));
  for (const { get, set } of [descriptor(new Error(), 'stack'), descriptor(captured, 'stack'), descriptor((function () { return arguments; })(), 'callee')]) hidden.push(get, set);

  const seen = new Set();
  const reach = value => { if (Object(value) === value) seen.add(value); };
  hidden.forEach(reach);
  for (const object of seen) {
    reach(getPrototypeOf(object));
    for (const key of ownKeys(object)) {
      const { value, get, set } = descriptor(object, key);
      reach(value); reach(get); reach(set);
    }
  }

  // An assignment to `toString` and its like on a task's own object fails where a prototype's is frozen data. So each
  // of these becomes a getter for what it was, and a setter that makes the property on the object assigned to.
  const stands = [];
  const open = (holder, key) => {
    const { value, writable, enumerable, configurable } = descriptor(holder, key);
    if (!writable || !configurable) return;
    const name = String(key);
    const { get, set } = getOwnPropertyDescriptor({
      get [key]() { return value; },
      set [key](given) {
        if (this === holder || Object(this) !== this) throw new TypeError(`Cannot assign to read only property '${name}' of what all tasks share`);
        const made = hasOwn(this, key) ? { value: given } : { value: given, writable: true, enumerable: true, configurable: true };
        if (!defineProperty(this, key, made)) throw new TypeError(`Cannot add property ${name}, object is not extensible`);
      },
    }, key);
    defineProperty(holder, key, { get, set, enumerable, configurable });
    reach(get); reach(set);
    stands.push(get, value);
  };
  // Where V8 watches a property, changing it would cost the whole isolate, the other realms too, a fast path.
  const watched = new Set([Array, Promise, RegExp, TypedArray].map(constructor => constructor.prototype));
  const usual = ['constructor', 'toString', 'toLocaleString', 'valueOf', 'toJSON', 'name', 'message'];
  for (const object of [...seen]) {
    const { constructor } = object;
    if (typeof object === 'function' && object !== Function.prototype || typeof constructor !== 'function' || constructor.prototype !== object) continue;
    const all = object === Object.prototype || object === Error.prototype || Error.prototype.isPrototypeOf(object);
    const isWatched = watched.has(object) || getPrototypeOf(object) === TypedArray.prototype;
    for (const key of all ? ownKeys(object) : usual) {
      if (!(key === 'constructor' && isWatched) && !(key === 'valueOf' && object === String.prototype)) open(object, key);
    }
  }
  open(Function.prototype, 'bind');

  return [() => { for (const object of seen) freeze(object); }, ...stands];
})()
