//! `execute-module`: ES modules, CommonJS, JSON and packages, inside the configured roots.

use pool_tests::tasks::{error, module, result, with};
use pool_tests::{Folder, Pool, Value, json, until};

struct Modules {
    folder: Folder,
    pool: Pool,
}

fn modules(files: &[(&str, &str)]) -> Modules {
    let folder = Folder::new();
    for (name, text) in files {
        folder.write(&format!("root/{name}"), text);
    }
    let root = folder.join("root");
    std::fs::create_dir_all(&root).expect("a folder");
    let pool = Pool::start(json!({"js": {"moduleRoots": [root]}}));
    Modules { folder, pool }
}

impl Modules {
    fn run(&self, name: &str, fields: Value) -> Value {
        let path = format!("{}/root/{name}", self.folder.text());
        self.pool.run(with(with(module(&path), json!({"maxAttempts": 1})), fields))
    }

    fn call(&self, name: &str, fields: Value) -> Value {
        result(self.run(name, fields))
    }
}

#[test]
fn a_module_gives_its_default_export_or_a_named_one() {
    let m = modules(&[(
        "stats.mjs",
        "export default (...n) => n.length; export function mean(n) { return n.reduce((a, b) => a \
         + b) / n.length }
         export const later = async x => { await null; return x }; export const constant = 7",
    )]);
    assert_eq!(m.call("stats.mjs", json!({"args": [1, 2]})), 2);
    assert_eq!(m.call("stats.mjs", json!({"method": "mean", "args": [[1, 2, 3]]})), 2);
    assert_eq!(m.call("stats.mjs", json!({"method": "later", "args": ["x"]})), "x");
    let missing = m.run("stats.mjs", json!({"method": "median"}));
    assert!(
        missing["error"]["message"].as_str().is_some_and(|t| t.contains("median")),
        "{missing}"
    );
}

#[test]
fn commonjs_gives_module_exports() {
    let m = modules(&[
        (
            "a.cjs",
            "const b = require('./lib/b'); module.exports = x => b.twice(x); module.exports.name2 \
             = () => __filename.split('/').pop()",
        ),
        (
            "lib/b.js",
            "exports.twice = x => 2 * x; exports.self = () => require('../a.cjs') !== undefined",
        ),
        ("plain.js", "module.exports = { hello() { return 'from js without import or export' } }"),
    ]);
    assert_eq!(m.call("a.cjs", json!({"args": [21]})), 42);
    assert_eq!(m.call("a.cjs", json!({"method": "name2"})), "a.cjs");
    assert_eq!(m.call("lib/b.js", json!({"method": "self"})), true);
    assert_eq!(m.call("plain.js", json!({"method": "hello"})), "from js without import or export");
}

#[test]
fn js_with_import_or_export_is_an_es_module() {
    let m = modules(&[
        (
            "m.js",
            "import { one } from './one.js'; import data from './data.json' with { type: 'json' }; \
             export default () => one + data.n",
        ),
        ("one.js", "export const one = 1"),
        ("data.json", r#"{"n": 41}"#),
    ]);
    assert_eq!(m.call("m.js", json!({})), 42);
}

#[test]
fn json_is_a_module_too() {
    let m = modules(&[
        ("data.json", r#"{"list": [1, 2, 3]}"#),
        ("r.cjs", "module.exports = () => require('./data.json').list.length"),
    ]);
    assert_eq!(m.call("r.cjs", json!({})), 3);
    assert_eq!(m.call("data.json", json!({})), json!({"list": [1, 2, 3]}));
}

#[test]
fn es_modules_import_commonjs_and_each_other_in_cycles() {
    let m = modules(&[
        (
            "main.mjs",
            "import c from './c.cjs'; import { odd } from './odd.mjs'; export default n => c.name \
             + odd(n)",
        ),
        ("c.cjs", "exports.name = 'c:'"),
        (
            "odd.mjs",
            "import { even } from './even.mjs'; export const odd = n => n === 0 ? false : even(n - \
             1)",
        ),
        (
            "even.mjs",
            "import { odd } from './odd.mjs'; export const even = n => n === 0 ? true : odd(n - 1)",
        ),
        ("dynamic.mjs", "export default async () => (await import('./odd.mjs')).odd(3)"),
        (
            "meta.mjs",
            "const top = await Promise.resolve(9); export default () => [top, \
             import.meta.url.startsWith('file:///')]",
        ),
    ]);
    assert_eq!(m.call("main.mjs", json!({"args": [7]})), "c:true");
    assert_eq!(m.call("dynamic.mjs", json!({})), true);
    assert_eq!(m.call("meta.mjs", json!({})), json!([9, true]));
}

#[test]
fn packages_are_found_in_a_node_modules_folder_inside_a_root() {
    let m = modules(&[
        ("node_modules/old/package.json", r#"{"name": "old", "main": "lib/index"}"#),
        ("node_modules/old/lib/index.js", "module.exports = { kind: 'main', dep: require('dep') }"),
        ("node_modules/old/node_modules/dep/index.js", "module.exports = 'nested'"),
        ("node_modules/dep/index.js", "module.exports = 'outer'"),
        (
            "node_modules/@scope/new/package.json",
            r#"{"name": "@scope/new", "type": "module", "exports": {".": {"import": "./esm.js", "require": "./cjs.cjs"}, "./sub": "./sub.js"}}"#,
        ),
        ("node_modules/@scope/new/esm.js", "export const kind = 'esm'; export default 'default'"),
        ("node_modules/@scope/new/cjs.cjs", "exports.kind = 'cjs'"),
        ("node_modules/@scope/new/sub.js", "export default 'sub'"),
        ("node_modules/@scope/new/hidden.js", "export default 'hidden'"),
        (
            "app/use.mjs",
            "import { kind } from '@scope/new'; import sub from '@scope/new/sub'; import old from \
          'old'; import dep from 'dep';
          export default () => [kind, sub, old.kind, old.dep, dep]",
        ),
        ("app/use.cjs", "module.exports = () => [require('@scope/new').kind, require('old').dep]"),
        ("app/hidden.mjs", "import x from '@scope/new/hidden.js'; export default () => x"),
    ]);
    assert_eq!(m.call("app/use.mjs", json!({})), json!(["esm", "sub", "main", "nested", "outer"]));
    assert_eq!(m.call("app/use.cjs", json!({})), json!(["cjs", "nested"]));
    assert_ne!(
        m.run("app/hidden.mjs", json!({}))["status"],
        "succeeded",
        "what `exports` does not name stays inside"
    );
}

#[test]
fn a_module_outside_the_roots_is_denied() {
    let m = modules(&[
        ("up.mjs", "import x from '../secret.mjs'; export default () => x"),
        ("up.cjs", "module.exports = () => require('../secret.cjs')"),
        ("dyn.mjs", "export default async p => (await import(p)).default"),
    ]);
    m.folder.write("secret.mjs", "export default 'secret'");
    m.folder.write("secret.cjs", "module.exports = 'secret'");
    std::os::unix::fs::symlink(m.folder.join("secret.mjs"), m.folder.join("root/link.mjs"))
        .expect("a link");
    let outside = format!("{}/secret.mjs", m.folder.text());
    let denied = |outcome: Value| assert_eq!(error(&outcome), "MODULE_DENIED", "{outcome}");
    denied(m.pool.run(module(&outside)));
    denied(m.run("../secret.mjs", json!({})));
    denied(m.run("link.mjs", json!({})));
    denied(m.run("up.mjs", json!({})));
    let dynamic = m.run("dyn.mjs", json!({"args": [outside]}));
    assert_ne!(dynamic["status"], "succeeded", "{dynamic}");
    assert_ne!(m.run("up.cjs", json!({}))["status"], "succeeded");
}

#[test]
fn a_module_that_is_not_there_is_not_found() {
    let m = modules(&[
        ("lost.mjs", "import './nowhere.mjs'; export default 1"),
        ("pkg.mjs", "import 'no-such-package'; export default 1"),
    ]);
    for name in ["none.mjs", "lost.mjs", "pkg.mjs"] {
        let outcome = m.run(name, json!({}));
        assert_eq!(error(&outcome), "MODULE_NOT_FOUND", "{name}: {outcome}");
    }
    let message = m.run("lost.mjs", json!({}))["error"]["message"].to_string();
    assert!(message.contains("nowhere.mjs"), "{message}");
}

#[test]
fn built_ins_of_other_runtimes_are_denied() {
    let m = modules(&[
        ("fs.mjs", "import fs from 'fs'; export default () => fs.readFileSync('/etc/passwd')"),
        ("node.mjs", "import 'node:child_process'; export default () => 1"),
    ]);
    for name in ["fs.mjs", "node.mjs"] {
        let outcome = m.run(name, json!({}));
        assert_eq!(error(&outcome), "MODULE_DENIED", "{name}: {outcome}");
    }
}

#[test]
fn without_roots_every_module_is_denied() {
    let folder = Folder::new();
    folder.write("a.mjs", "export default () => 1");
    let pool = Pool::start(json!({}));
    assert_eq!(error(&pool.run(module(&format!("{}/a.mjs", folder.text())))), "MODULE_DENIED");
}

#[test]
fn a_relative_path_is_looked_for_in_the_roots() {
    let m = modules(&[("lib/stats.mjs", "export default () => 'found'")]);
    assert_eq!(result(m.pool.run(module("lib/stats.mjs"))), "found");
}

#[test]
fn a_module_is_loaded_once_per_warm_realm() {
    let m = modules(&[(
        "count.mjs",
        "globalThis.loads = (globalThis.loads ?? 0) + 1; let n = 0; export default () => [++n, \
         loads]",
    )]);
    assert_eq!(m.call("count.mjs", json!({})), json!([1, 1]));
    assert_eq!(m.call("count.mjs", json!({})), json!([2, 1]));
    assert_eq!(m.call("count.mjs", json!({"realm": "fresh"})), json!([1, 1]));
    assert_eq!(m.call("count.mjs", json!({"projectId": "other"})), json!([1, 1]));
}

#[test]
fn a_module_with_a_syntax_error_says_where() {
    let m = modules(&[("bad.mjs", "export default () => {\n  let = ;\n}")]);
    let outcome = m.run("bad.mjs", json!({}));
    assert_eq!(error(&outcome), "JS_SYNTAX", "{outcome}");
    assert!(outcome["error"].to_string().contains("bad.mjs"), "{outcome}");
}

#[test]
fn a_root_that_is_a_link_is_called_by_either_path_and_a_reload_follows_the_link() {
    let folder = Folder::new();
    for release in ["1", "2"] {
        let source = format!("import {{ n }} from './n.mjs'; export default () => [n, {release}]");
        folder.write(&format!("release-{release}/m.mjs"), source);
        folder.write(
            &format!("release-{release}/n.mjs"),
            "export const n = import.meta.url.split('/').at(-2)",
        );
    }
    let current = folder.join("current");
    std::os::unix::fs::symlink("release-1", &current).expect("a link");
    let pool = Pool::start(json!({"js": {"moduleRoots": [current]}}));
    let by = |path: String| result(pool.run(module(&path)));
    for path in ["current", "release-1"] {
        assert_eq!(
            by(format!("{}/{path}/m.mjs", folder.text())),
            json!(["release-1", 1]),
            "{path}"
        );
    }
    assert_eq!(by("m.mjs".to_owned()), json!(["release-1", 1]));
    std::os::unix::fs::symlink("release-2", folder.join("next")).expect("a link");
    std::fs::rename(folder.join("next"), &current).expect("the link is replaced");
    assert_eq!(pool.ctl(&["reload", "--modules"]).code, 0);
    let path = format!("{}/current/m.mjs", folder.text());
    until("the new release runs", || by(path.clone()) == json!(["release-2", 2]));
}

#[test]
fn what_an_import_cannot_have_is_the_tasks_own_fault() {
    let m = modules(&[
        ("gone.mjs", "import { nope } from './yes.mjs'; export default () => nope"),
        ("kind.mjs", "import x from './yes.mjs' with { type: 'json' }; export default () => x"),
        ("yes.mjs", "export const yes = 1"),
    ]);
    for name in ["gone.mjs", "kind.mjs"] {
        let outcome = m.run(name, json!({"maxAttempts": 3}));
        assert_eq!(
            (error(&outcome), &outcome["attempts"]),
            ("JS_SYNTAX", &json!(1)),
            "{name}: {outcome}"
        );
    }
}

#[test]
fn a_module_that_imports_itself_or_its_importer_ends_no_worker() {
    let m = modules(&[
        ("self.mjs", "import('./self.mjs'); export default () => 'self'"),
        ("a.mjs", "import './b.mjs'; export default () => 'a'"),
        ("b.mjs", "export const later = import('./a.mjs')"),
        ("c.mjs", "import { code } from './c.cjs'; export default () => code"),
        ("c.cjs", "try { require('./d.mjs') } catch (e) { exports.code = e.code }"),
        ("d.mjs", "import './c.mjs'"),
    ]);
    let workers = [("self.mjs", "self"), ("a.mjs", "a"), ("c.mjs", "ERR_REQUIRE_CYCLE_MODULE")]
        .map(|(name, value)| {
            let outcome = m.run(name, json!({}));
            assert_eq!(outcome["result"], value, "{name}: {outcome}");
            outcome["workerId"].clone()
        });
    assert!(workers.iter().all(|worker| *worker == workers[0]), "{workers:?}");
}
