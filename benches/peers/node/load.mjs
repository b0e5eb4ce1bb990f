// One measurement: `node load.mjs SYSTEM KIND TASKS WINDOW [--size N] [--recycle N] [--spin-every N --timeout MS]`.
// Prints one JSON line: {tasks, seconds, p50, p99, failed, lost, cpuSeconds, pss}; times in seconds and microseconds, memory in bytes.
// `failed` counts endless tasks that were ended, `lost` others that were ended with them; `cpuSeconds` and `pss` are of all processes.
// `cold` is timed from SPAWNED_NS, nanoseconds since 1970.
import { parseArgs } from 'node:util';
import { systems } from './systems.mjs';
import { cpuSeconds, proportionalBytes } from './usage.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    size: { type: 'string', default: '1024' },
    recycle: { type: 'string', default: '0' },
    'spin-every': { type: 'string', default: '0' },
    timeout: { type: 'string', default: '0' },
  },
});
const [system, kind, tasks, window] = [positionals[0], positionals[1], Number(positionals[2]), Number(positionals[3])];
const spinEvery = Number(values['spin-every']);
const timeout = Number(values.timeout);
const text = 'x'.repeat(Number(values.size));
const argumentsOf = { noop: { a: 40, b: 2 }, echo: text, fresh: '1+1', burn: 5 };
const expected = { noop: 42, echo: text, fresh: 2, burn: 5 };

const pool = await systems[system]({ recycle: Number(values.recycle) });

async function round(count, timed) {
  const latencies = timed ? new Float64Array(count) : null;
  let next = 0;
  let failed = 0;
  let lost = 0;
  const lane = async () => {
    while (next < count) {
      const at = next;
      next += 1;
      const spins = spinEvery > 0 && at % spinEvery === spinEvery - 1;
      const began = performance.now();
      try {
        const result = await pool.run(spins ? 'spin' : kind, argumentsOf[kind], timeout || undefined);
        if (result !== expected[kind]) throw new Error(`${kind} gave ${result}`);
      } catch (error) {
        if (spins) failed += 1;
        else if (spinEvery > 0) lost += 1;
        else throw error;
      }
      if (latencies) latencies[at] = (performance.now() - began) * 1000;
    }
  };
  const cpu = cpuSeconds();
  const began = performance.now();
  await Promise.all(Array.from({ length: Math.min(window, count) }, lane));
  const seconds = (performance.now() - began) / 1000;
  if (!latencies) return null;
  const used = { cpuSeconds: cpuSeconds() - cpu, pss: proportionalBytes() };
  latencies.sort();
  const at = (q) => latencies[Math.min(count - 1, Math.floor(count * q))];
  return { tasks: count, seconds, p50: at(0.5), p99: at(0.99), failed, lost, ...used };
}

if (kind === 'cold') {
  await pool.run('noop', argumentsOf.noop);
  const spawned = Number(BigInt(process.env.SPAWNED_NS) / 1000n) / 1000;
  console.log(JSON.stringify({ tasks: 1, seconds: (performance.timeOrigin + performance.now() - spawned) / 1000 }));
} else {
  if (!spinEvery && !Number(values.recycle)) await round(Math.ceil(tasks / 10), false);
  console.log(JSON.stringify(await round(tasks, true)));
}
await pool.close();
process.exit(0);
