// Installs widely used npm packages, makes one real call of each in a real pool, as an ES module
// and with `require`, and prints a table of what works and what is missing.
//
//   scripts/build.sh && node scripts/packages/try.mjs [--store | --check]
//
// --store: writes the table into docs/javascript.md. Node makes the same calls first: where Node's
// answer is not the expected one, the entry of `list.mjs` is wrong.
// --check: is a test. It installs the versions of the table in docs/javascript.md, and each row
// must come out as it stands there. scripts/test-packages.sh calls it.

import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';

import { packages } from './list.mjs';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const programs = join(process.env.CARGO_TARGET_DIR ?? join(repository, 'target'), 'release');
const page = join(repository, 'docs/javascript.md');
const [begin, end] = ['<!-- packages: begin -->\n', '<!-- packages: end -->\n'];

const dated = 'With what the registry had on ';
const head = '| package | version | `import` | `require` | what it lacks |\n|---|---|---|---|---|\n';

const checks = process.argv.includes('--check');
const today = new Date().toISOString().slice(0, 10);
const documented = checks ? readTable() : { date: today, rows: new Map() };

const strict = '`js.allowCodeGeneration`, which is off by default';

const scratch = mkdtempSync(join(tmpdir(), 'pool-packages-'));
try {
  install();
  const entries = packages.flatMap(write);
  const wrong = checks ? [] : await triedByNode(entries);
  const outcomes = await triedByPool(entries, {});
  // What wants code from strings is tried once more where that is allowed.
  const strings = entries.filter(entry => trouble(entry, outcomes.get(entry.path)) === strict);
  const allowed = await triedByPool(strings, { allowCodeGeneration: true });
  const rows = render(entries, outcomes, allowed);
  if (checks) {
    check(rows);
  } else {
    const table = `${dated}${today}:\n\n${head}${rows.map(row => row.line).join('')}`;
    process.stdout.write(table);
    if (wrong.length) throw new Error(`Node itself answers otherwise:\n${wrong.join('\n')}`);
    if (process.argv.includes('--store')) store(table);
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

function install() {
  writeFileSync(join(scratch, 'package.json'), '{"private": true}');
  mkdirSync(join(scratch, 'try'));
  const names = packages.map(([asked]) => {
    const row = documented.rows.get(nameOf(asked));
    return row ? `${nameOf(asked)}@${row.version}` : asked;
  });
  // What they depend on is as old as the table too.
  const before = `--before=${documented.date}T23:59:59Z`;
  const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--silent', before];
  execFileSync('npm', ['install', ...options, ...names], { cwd: scratch, stdio: 'inherit' });
}

// `typescript@5` is asked for, and called `typescript`.
function nameOf(asked) {
  return asked.replace(/(?<=.)@.*/, '');
}

// The two modules that make a package's call.
function write([asked, call, expected, from, plugins = []], number) {
  const name = nameOf(asked);
  from ??= name;
  const manifest = readFileSync(join(scratch, 'node_modules', name, 'package.json'));
  const { version } = JSON.parse(manifest);
  const body = `
const m = whole?.default ?? whole;
const n = new Proxy({}, {get: (_, key) => whole?.[key] ?? m[key]});
const run = async () => {
  try { return {value: await (${call}) ?? null} } catch (error) { return {thrown: String(error)} }
};
`;
  const es = plugins.map((plugin, i) => `import * as p${i} from '${plugin}';`).join('\n');
  const cjs = plugins.map((plugin, i) => `const p${i} = require('${plugin}');`).join('\n');
  const list = `const plugins = [${plugins.map((_, i) => `p${i}`)}];`;
  const texts = {
    mjs: `import * as whole from '${from}';\n${es}\n${list}${body}export default run;\n`,
    cjs: `const whole = require('${from}');\n${cjs}\n${list}${body}module.exports = run;\n`,
  };
  return Object.entries(texts).map(([kind, text]) => {
    const path = `try/${number}.${kind}`;
    writeFileSync(join(scratch, path), text);
    return { name, version, expected, kind, path };
  });
}

function plain(value) {
  return JSON.parse(JSON.stringify(value));
}

async function triedByNode(entries) {
  const wrong = [];
  const require = createRequire(join(scratch, 'package.json'));
  for (const { name, kind, path, expected } of entries) {
    const file = join(scratch, path);
    try {
      const run = kind === 'mjs' ? (await import(file)).default : require(file);
      const got = await run();
      if (isDeepStrictEqual(plain(got), { value: expected })) continue;
      wrong.push(`${name} (${kind}): ${JSON.stringify(got)}`);
    } catch (error) {
      // An older Node does not require ES modules.
      if (error.code !== 'ERR_REQUIRE_ESM') wrong.push(`${name} (${kind}): ${error}`);
    }
  }
  return wrong;
}

async function triedByPool(entries, js) {
  const config = { http: { listen: 'off' }, js: { moduleRoots: [scratch], ...js } };
  writeFileSync(join(scratch, 'pool.json'), JSON.stringify(config));
  const env = {
    PATH: process.env.PATH,
    POOL_SOCKET: join(scratch, 'pool.sock'),
    STATE_DIRECTORY: scratch,
    CACHE_DIRECTORY: scratch,
  };
  const log = [];
  const started = ['--config', join(scratch, 'pool.json')];
  const supervisor = spawn(join(programs, 'pool-supervisor'), started, { env });
  supervisor.stderr.on('data', text => log.push(text));
  const ended = new Promise(resolve => supervisor.on('exit', resolve));
  const poolctl = (args, input) => {
    const options = { env, input, maxBuffer: 1 << 28, stdio: ['pipe', 'pipe', 'ignore'] };
    try {
      return execFileSync(join(programs, 'poolctl'), args, options);
    } catch (error) {
      // Some tasks failed, which the outcomes tell.
      if (error.status === 1) return error.stdout;
      throw error;
    }
  };
  try {
    for (let tries = 0; ; tries++) {
      try { poolctl(['status']); break; } catch (error) {
        const problem = `the supervisor does not answer:\n${log.join('')}`;
        if (tries === 100) throw new Error(problem, { cause: error });
        await setTimeout(100);
      }
    }
    // A project each, so that none shares a context with another.
    const tasks = entries.map(({ path }, number) => JSON.stringify({
      type: 'execute-module',
      modulePath: path,
      projectId: `package-${number}`,
      tag: path,
      timeout: 60000,
      maxAttempts: 1,
    }));
    const lines = poolctl(['submit', '--window', '2'], tasks.join('\n')).toString().trim();
    const outcomes = lines.split('\n').map(line => JSON.parse(line));
    return new Map(outcomes.map(outcome => [outcome.tag, outcome]));
  } finally {
    supervisor.kill();
    await ended;
  }
}

function render(entries, outcomes, allowed) {
  const rows = [];
  for (let i = 0; i < entries.length; i += 2) {
    const [es, cjs] = [entries[i], entries[i + 1]].map(entry => {
      const first = trouble(entry, outcomes.get(entry.path));
      if (first !== strict) return first;
      const then = trouble(entry, allowed.get(entry.path));
      return then ? `${first}; with that, ${then}` : first;
    });
    const both = [es && `\`import\`: ${es}`, cjs && `\`require\`: ${cjs}`];
    const said = es === cjs ? es : both.filter(Boolean).join('; ');
    const { name, version } = entries[i];
    const works = [es, cjs].map(trouble => (trouble ? 'no' : 'yes')).join(' | ');
    rows.push({ name, line: `| \`${name}\` | ${version} | ${works} | ${said} |\n` });
  }
  return rows;
}

// Compares with the page, and counts.
function check(rows) {
  const found = new Map(rows.map(row => [row.name, row.line]));
  const wrong = [...new Set([...documented.rows.keys(), ...found.keys()])]
    .filter(name => found.get(name) !== documented.rows.get(name)?.line);
  for (const name of wrong) {
    const lines = [found.get(name), documented.rows.get(name)?.line];
    const [now, then] = lines.map(line => line ?? 'no row\n');
    process.stdout.write(`not ok  ${name}\n  found      ${now}  documented ${then}`);
  }
  process.stdout.write(`${found.size - wrong.length} passed, ${wrong.length} failed\n`);
  process.exitCode = wrong.length ? 1 : 0;
}

// The rows of the page by package, and their date.
function readTable() {
  const table = readFileSync(page, 'utf8').split(begin)[1].split(end)[0];
  const rows = table.split('\n').filter(line => line.startsWith('| `')).map(line => {
    const [, name, version] = line.match(/^\| `([^`]+)` \| (\S+) \|/);
    return [name, { version, line: `${line}\n` }];
  });
  return { date: table.slice(dated.length).slice(0, today.length), rows: new Map(rows) };
}

// What stopped a call, in a few words; empty when nothing did.
function trouble({ expected }, outcome) {
  if (outcome.status === 'succeeded') {
    const { value, thrown } = outcome.result;
    if (thrown === undefined) {
      return isDeepStrictEqual(value, plain(expected)) ? '' : `gives ${JSON.stringify(value)}`;
    }
    const lacks = lack(thrown);
    return lacks === strict ? strict : `loads, then lacks ${lacks}`;
  }
  return lack(outcome.error.message);
}

function lack(message) {
  const installed = join(scratch, 'node_modules') + '/';
  const text = message.split('\n')[0].replaceAll(installed, '').replaceAll(scratch + '/', '');
  const builtin = text.match(/cannot load '(?:node:)?([^']+)': modules of Node/);
  if (text.includes('Code generation from strings')) return strict;
  const global = text.match(/(?:^|: )([\w$]+) is not defined/);
  if (builtin) return `Node's \`${builtin[1]}\``;
  return global ? `\`${global[1]}\`` : text.replaceAll('|', '\\|');
}

function store(table) {
  const text = readFileSync(page, 'utf8');
  const [before, rest] = text.split(begin);
  const after = rest?.split(end)[1];
  if (after === undefined) throw new Error(`${page} has no place for the table`);
  writeFileSync(page, before + begin + table + end + after);
}
