// What the peers' workers run: the same work as the pool's tasks, in each library's own form.
import vm from 'node:vm';

export function noop({ a, b }) {
  return a + b;
}

export function echo(text) {
  return text;
}

// A new context, and a script in it: what a library without one must do to keep tasks apart.
export function fresh(source) {
  return new vm.Script(source).runInContext(vm.createContext(Object.create(null)));
}

export function burn(ms) {
  const until = performance.now() + ms;
  while (performance.now() < until);
  return ms;
}

export function spin() {
  for (;;);
}

export const kinds = { noop, echo, fresh, burn, spin };

// piscina and tinypool call a module's default export with one value.
export default ([kind, argument]) => kinds[kind](argument);
