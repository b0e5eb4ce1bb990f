// What this process and all below it use, from the kernel's own books.
import { readFileSync, readdirSync } from 'node:fs';

const TICKS_A_SECOND = 100;

function* below(root) {
  const parents = new Map();
  const ticks = new Map();
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      // The name, which stands before, may hold blanks and parentheses.
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      parents.set(pid, fields[1]);
      ticks.set(pid, fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0));
    } catch {
      // It ended meanwhile, and is in its parent's books.
    }
  }
  const isBelow = (pid) => pid === root || (parents.has(pid) && isBelow(parents.get(pid)));
  for (const [pid, used] of ticks) if (isBelow(pid)) yield [pid, used];
}

// CPU seconds, those of children that have ended included.
export function cpuSeconds() {
  let ticks = 0;
  for (const [, used] of below(String(process.pid))) ticks += used;
  return ticks / TICKS_A_SECOND;
}

// Bytes of memory; pages that several share count in proportion.
export function proportionalBytes() {
  let kibibytes = 0;
  for (const [pid] of below(String(process.pid))) {
    try {
      kibibytes += Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))[1]);
    } catch {
      // It ended meanwhile.
    }
  }
  return kibibytes * 1024;
}
