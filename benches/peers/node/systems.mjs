// The peers: each opens a pool of two workers and gives back `run(kind, argument)` and `close()`. A `timeout` ends a task for real, as
// far as the library can.
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const WORKERS = 2;
const here = (name) => fileURLToPath(new URL(name, import.meta.url));

async function piscina({ recycle }) {
  const { Piscina } = await import('piscina');
  const options = { filename: here('work.mjs'), minThreads: WORKERS, maxThreads: WORKERS };
  const pool = new Piscina({ ...options, maxQueue: Infinity });
  if (recycle) throw new Error('piscina does not replace its workers after a number of tasks');
  return {
    run: (kind, argument, timeout) =>
      pool.run([kind, argument], timeout ? { signal: AbortSignal.timeout(timeout) } : undefined),
    close: () => pool.destroy(),
  };
}

async function tinypool({ recycle }) {
  const { Tinypool } = await import('tinypool');
  const pool = new Tinypool({
    filename: new URL('work.mjs', import.meta.url).href,
    runtime: 'child_process',
    minThreads: WORKERS,
    maxThreads: WORKERS,
    isolateWorkers: recycle === 1,
  });
  if (recycle > 1) throw new Error('tinypool replaces its workers after every task or never');
  return {
    run: (kind, argument, timeout) =>
      pool.run([kind, argument], timeout ? { signal: AbortSignal.timeout(timeout) } : undefined),
    close: () => pool.destroy(),
  };
}

const workerpool = (workerType) => async ({ recycle }) => {
  const library = (await import('workerpool')).default;
  if (recycle) throw new Error('workerpool does not replace its workers after a number of tasks');
  const options = { workerType, minWorkers: WORKERS, maxWorkers: WORKERS, workerTerminateTimeout: 1 };
  const pool = library.pool(here('workerpool-worker.mjs'), options);
  return {
    run: (kind, argument, timeout) => {
      const running = pool.exec(kind, [argument]);
      return timeout ? running.timeout(timeout) : running;
    },
    close: () => pool.terminate(true),
  };
};

// What one writes without a library: children with an IPC channel, one task at a time each. With `recycle` a child is used so often.
async function forked({ recycle }) {
  const READY = 0;
  const waiting = [];
  const idle = [];
  const children = new Set();
  let number = 0;
  const start = () => {
    const child = fork(here('fork-worker.mjs'), { serialization: 'json' });
    const seat = { child, left: recycle || Infinity, job: null };
    child.on('message', ([number, result]) => {
      if (number === READY) {
        idle.push(seat);
        next();
        return;
      }
      const job = seat.job;
      seat.job = null;
      clearTimeout(job.timer);
      seat.left -= 1;
      if (seat.left === 0) {
        children.delete(child);
        child.kill('SIGKILL');
        start();
      } else {
        idle.push(seat);
      }
      job.resolve(result);
      next();
    });
    children.add(child);
  };
  const next = () => {
    while (waiting.length && idle.length) {
      const seat = idle.pop();
      seat.job = waiting.shift();
      const { kind, argument, timeout, reject } = seat.job;
      if (timeout) {
        seat.job.timer = setTimeout(() => {
          children.delete(seat.child);
          seat.child.removeAllListeners('message');
          seat.child.kill('SIGKILL');
          start();
          reject(new Error('timeout'));
          next();
        }, timeout);
      }
      seat.child.send([(number += 1), kind, argument]);
    }
  };
  for (let i = 0; i < WORKERS; i += 1) start();
  return {
    run: (kind, argument, timeout) =>
      new Promise((resolve, reject) => {
        waiting.push({ kind, argument, timeout, resolve, reject });
        next();
      }),
    close: () => {
      for (const child of children) child.kill('SIGKILL');
    },
  };
}

// No processes: an isolate in this one, a context of its own for each task. The engine's price without a pool's.
async function isolatedVm({ recycle }) {
  const ivm = (await import('isolated-vm')).default;
  if (recycle) throw new Error('isolated-vm has no workers');
  const isolates = Array.from({ length: WORKERS }, () => new ivm.Isolate({ memoryLimit: 2048 }));
  let turn = 0;
  return {
    run: async (kind, argument, timeout) => {
      if (kind !== 'fresh') throw new Error('isolated-vm is measured with scripts in fresh contexts only');
      const isolate = isolates[(turn += 1) % WORKERS];
      const context = await isolate.createContext();
      try {
        return await context.eval(argument, { timeout, copy: true });
      } finally {
        context.release();
      }
    },
    close: () => isolates.forEach((isolate) => isolate.dispose()),
  };
}

export const systems = {
  piscina,
  tinypool,
  'workerpool-process': workerpool('process'),
  'workerpool-thread': workerpool('thread'),
  fork: forked,
  'isolated-vm': isolatedVm,
};
