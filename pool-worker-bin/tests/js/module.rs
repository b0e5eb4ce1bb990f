//! `execute-module`

use pool_worker::js::{FailureKind, Realm, Work};

use crate::project::{Project, write};
use crate::support::{Bench, assert_kind, text};

#[test]
fn es_modules_are_called_by_default_export_and_by_name() {
    let mut project = Project::new(&[
        (
            "lib/stats.mjs",
            "import { sum } from './sum.js';\nexport const mean = (xs) => sum(xs) / \
             xs.length;\nexport default async (xs) => sum(xs);",
        ),
        ("lib/sum.js", "export function sum(xs) { return xs.reduce((a, b) => a + b, 0) }"),
        (
            "service.mjs",
            "class Service { base = 40; add(n) { return this.base + n } }\nexport default new \
             Service();",
        ),
    ]);
    project.gives("lib/stats.mjs", None, "[[1, 2, 3]]", "6");
    project.gives("lib/stats.mjs", Some("mean"), "[[1, 2, 3]]", "2");
    project.gives("./lib/stats.mjs", Some("mean"), "[[4]]", "4");
    let absolute = project.folder.path().join("lib/stats.mjs");
    project.gives(absolute.to_str().expect("the path is text"), None, "[[5]]", "5");
    project.gives("service.mjs", Some("add"), "[2]", "42");
    project.gives("lib/stats", Some("mean"), "[[1]]", "1");
}

#[test]
fn common_js_is_called_by_module_exports_and_by_name() {
    let mut project = Project::new(&[
        ("main.cjs", "module.exports = (a) => a * 2; module.exports.triple = (a) => a * 3;"),
        (
            "named.js",
            "const { base } = require('./base'); exports.add = (a) => a + base; exports.here = () \
             => [__filename, __dirname].map(p => p.split('/').pop());",
        ),
        ("base/index.js", "exports.base = require('../data.json').base;"),
        ("data.json", "{\"base\": 40, \"list\": [1, 2]}"),
        ("shebang.js", "#!/usr/bin/env node\nmodule.exports = () => 'ran';"),
    ]);
    project.gives("main.cjs", None, "[21]", "42");
    project.gives("main.cjs", Some("triple"), "[2]", "6");
    project.gives("named.js", Some("add"), "[2]", "42");
    let result = project.call("named.js", Some("here"), "");
    assert!(result.as_deref().is_ok_and(|json| json.starts_with("[\"named.js\",")), "{result:?}");
    project.gives("shebang.js", None, "", "\"ran\"");
    project.gives("data.json", None, "", "{\"base\":40,\"list\":[1,2]}");
    project.gives("data.json", Some("list"), "", "[1,2]");
}

#[test]
fn a_js_file_is_what_its_package_says_or_else_what_its_syntax_is() {
    let mut project = Project::new(&[
        ("esm/package.json", "{\"type\": \"module\"}"),
        ("esm/a.js", "export default () => typeof require;"),
        ("cjs/package.json", "{\"type\": \"commonjs\"}"),
        ("cjs/a.js", "module.exports = () => typeof require;"),
        (
            "open/esm.js",
            "import './other.js'; export default () => import.meta.filename.split('/').pop();",
        ),
        ("open/other.js", "export {};"),
        ("open/cjs.js", "with ({ a: 1 }) { module.exports = () => 'sloppy' }"),
        ("open/await.js", "const x = await Promise.resolve(3); export default () => x;"),
    ]);
    project.gives("esm/a.js", None, "", "\"undefined\"");
    project.gives("cjs/a.js", None, "", "\"function\"");
    project.gives("open/esm.js", None, "", "\"esm.js\"");
    project.gives("open/cjs.js", None, "", "\"sloppy\"");
    project.gives("open/await.js", None, "", "3");
}

#[test]
fn packages_come_from_a_node_modules_folder_inside_a_root() {
    let mut project = Project::new(&[
        (
            "task.mjs",
            "import plain from 'plain'; import { cond } from '@scope/cond'; import sub from \
             '@scope/cond/sub/deep'; import self from './nested/inner.mjs';\nexport default () => \
             [plain(), cond, sub, self];",
        ),
        (
            "task.cjs",
            "module.exports = () => [require('plain')(), require('@scope/cond').cond, \
             require('noindex/lib/x')];",
        ),
        ("nested/inner.mjs", "import plain from 'plain'; export default plain();"),
        ("nested/node_modules/plain/index.js", "module.exports = () => 'inner';"),
        ("node_modules/plain/package.json", "{\"main\": \"./lib\"}"),
        ("node_modules/plain/lib/index.js", "module.exports = () => 'outer';"),
        (
            "node_modules/@scope/cond/package.json",
            r##"{"name": "@scope/cond", "exports": {".": {"import": "./i.mjs", "require": "./r.cjs"}, "./sub/*": "./lib/*.mjs", "./package.json": null}, "imports": {"#inner": "./inner.mjs"}}"##,
        ),
        ("node_modules/@scope/cond/i.mjs", "export { default as cond } from '#inner';"),
        ("node_modules/@scope/cond/inner.mjs", "export default 'import';"),
        ("node_modules/@scope/cond/r.cjs", "exports.cond = 'require';"),
        ("node_modules/@scope/cond/lib/deep.mjs", "export default 'deep';"),
        ("node_modules/noindex/lib/x.js", "module.exports = 'x';"),
        ("hidden.mjs", "import '@scope/cond/inner.mjs'; export default () => 1;"),
    ]);
    project.gives("task.mjs", None, "", r#"["outer","import","deep","inner"]"#);
    project.gives("task.cjs", None, "", r#"["outer","require","x"]"#);
    project.gives("plain", None, "", "\"outer\"");
    let result = project.call("hidden.mjs", None, "");
    assert_kind(&result, FailureKind::ModuleNotFound);
}

#[test]
fn a_common_js_module_has_default_and_named_exports_for_an_es_module() {
    let mut project = Project::new(&[
        (
            "a.mjs",
            "import whole, { one, two } from './b.cjs'; import data, { x } from './c.json'; import \
             { default as fn } from './f.cjs'; export default () => [whole.one, one, two(), \
             data.x, x, fn()];",
        ),
        ("b.cjs", "exports.one = 1; exports.two = () => 2;"),
        ("c.json", "{\"x\": 3}"),
        ("f.cjs", "module.exports = () => 4;"),
    ]);
    project.gives("a.mjs", None, "", "[1,1,2,3,3,4]");
}

#[test]
fn cycles_work_as_in_node() {
    let mut project = Project::new(&[
        (
            "a.mjs",
            "import { b } from './b.mjs'; export const a = () => 'a' + b(); export default () => \
             a();",
        ),
        ("b.mjs", "import { a } from './a.mjs'; export const b = () => typeof a;"),
        (
            "x.cjs",
            "exports.early = 1; const y = require('./y.cjs'); exports.late = 2; module.exports.run \
             = () => [y.seen, y.now()];",
        ),
        (
            "y.cjs",
            "const x = require('./x.cjs'); exports.seen = Object.keys(x); exports.now = () => \
             x.late;",
        ),
    ]);
    project.gives("a.mjs", None, "", "\"afunction\"");
    project.gives("x.cjs", Some("run"), "", r#"[["early"],2]"#);
}

#[test]
fn top_level_await_and_dynamic_import_work_in_modules() {
    let mut project = Project::new(&[
        (
            "a.mjs",
            "import { slow } from './slow.mjs'; const lazy = await import('./lazy.cjs'); export \
             default async () => [slow, lazy.name, (await import('./slow.mjs')).slow, (await \
             import('./data.json')).default];",
        ),
        ("slow.mjs", "await new Promise(done => setTimeout(done, 5)); export const slow = 'slow';"),
        ("lazy.cjs", "exports.name = 'lazy';"),
        ("data.json", "[1]"),
        ("from.cjs", "module.exports = async () => (await import('./slow.mjs')).slow;"),
        (
            "bad.mjs",
            "export default async () => { try { await import('/etc/hostname') } catch (e) { return \
             e.code } };",
        ),
        ("never.mjs", "await new Promise(() => {}); export default () => 1;"),
        ("throws.mjs", "await null; throw new TypeError('at load'); "),
    ]);
    project.gives("a.mjs", None, "", r#"["slow","lazy","slow",[1]]"#);
    project.gives("from.cjs", None, "", "\"slow\"");
    project.gives("bad.mjs", None, "", "\"MODULE_DENIED\"");
    assert_kind(&project.call("never.mjs", None, ""), FailureKind::PromiseNeverSettled);
    let result = project.call("throws.mjs", None, "");
    assert_eq!(assert_kind(&result, FailureKind::Exception).message, "at load");
}

#[test]
fn an_es_module_can_be_required_unless_it_awaits() {
    let mut project = Project::new(&[
        ("a.cjs", "const { x } = require('./x.mjs'); module.exports = () => x;"),
        ("b.cjs", "module.exports = () => require('./slow.mjs');"),
        ("x.mjs", "export const x = 'required';"),
        ("slow.mjs", "await null; export const y = 1;"),
    ]);
    project.gives("a.cjs", None, "", "\"required\"");
    let result = project.call("b.cjs", None, "");
    assert!(assert_kind(&result, FailureKind::Exception).message.contains("awaits"), "{result:?}");
}

#[test]
fn what_does_not_exist_is_module_not_found() {
    let mut project = Project::new(&[
        ("a.mjs", "import './gone.mjs'; export default () => 1;"),
        ("b.cjs", "module.exports = () => require('nowhere');"),
        (
            "c.cjs",
            "let found = true; try { require('optional') } catch (e) { found = e.code } \
             module.exports = () => found;",
        ),
        ("empty/readme.txt", ""),
    ]);
    for path in ["gone.mjs", "a.mjs", "b.cjs", "empty", "nowhere", "", "."] {
        assert_kind(&project.call(path, None, ""), FailureKind::ModuleNotFound);
    }
    project.gives("c.cjs", None, "", "\"MODULE_NOT_FOUND\"");
}

#[test]
fn nothing_outside_of_the_roots_can_be_loaded() {
    let outside = tempfile::tempdir().expect("a temporary folder can be made");
    write(outside.path(), "secret.mjs", "export default () => 'secret';");
    let secret = outside.path().join("secret.mjs");
    let mut project = Project::new(&[
        ("rel.mjs", "import '../../../../../etc/passwd'; export default () => 1;"),
        ("abs.cjs", "module.exports = () => require('/etc/passwd');"),
        (
            "node_modules/evil/package.json",
            r#"{"main": "../../../../../../etc/passwd", "name": "evil"}"#,
        ),
        ("node_modules/evil2/package.json", r#"{"exports": "./../../../../etc/passwd"}"#),
        ("evil.cjs", "module.exports = () => require('evil');"),
        ("evil2.cjs", "module.exports = () => require('evil2');"),
        ("http.mjs", "import 'http://example.org/x.js'; export default () => 1;"),
        ("data.mjs", "import 'data:text/javascript,1'; export default () => 1;"),
        ("native.cjs", "module.exports = () => require('./addon.node');"),
        ("addon.node", ""),
    ]);
    std::os::unix::fs::symlink(&secret, project.folder.path().join("link.mjs"))
        .expect("links can be made");
    std::os::unix::fs::symlink(outside.path(), project.folder.path().join("dir"))
        .expect("links can be made");
    let secret = secret.to_str().expect("the path is text").to_owned();
    for path in [
        "../secret.mjs",
        "/etc/passwd",
        &secret,
        "link.mjs",
        "dir/secret.mjs",
        "rel.mjs",
        "abs.cjs",
        "evil.cjs",
        "evil2.cjs",
        "http.mjs",
        "data.mjs",
        "native.cjs",
        "lib/../../x.mjs",
    ] {
        let result = project.call(path, None, "");
        assert_kind(&result, FailureKind::ModuleDenied);
    }
    let mut rootless = Bench::new();
    let work = Work::Module { path: "a.mjs", method: None, args_json: b"" };
    let result = text(rootless.run("default", Realm::Warm, work));
    assert!(assert_kind(&result, FailureKind::ModuleDenied).message.contains("moduleRoots"));
}

#[test]
fn modules_of_node_itself_are_denied_by_name_unless_a_package_replaces_them() {
    let mut project = Project::new(&[
        ("fs.cjs", "module.exports = () => require('fs');"),
        ("prefixed.mjs", "import 'node:child_process'; export default () => 1;"),
        ("subpath.mjs", "import 'fs/promises'; export default () => 1;"),
        ("events.cjs", "module.exports = () => require('events');"),
        ("node_modules/events/index.js", "module.exports = 'a package';"),
    ]);
    for (path, name) in [
        ("fs.cjs", "'fs'"),
        ("prefixed.mjs", "'node:child_process'"),
        ("subpath.mjs", "'fs/promises'"),
        ("fs", "'fs'"),
    ] {
        let result = project.call(path, None, "");
        let failure = assert_kind(&result, FailureKind::ModuleDenied);
        assert!(failure.message.contains(name), "{failure:?}");
    }
    project.gives("events.cjs", None, "", "\"a package\"");
}

#[test]
fn a_method_that_is_not_there_is_refused_and_the_message_lists_what_is() {
    let mut project = Project::new(&[
        ("a.mjs", "export const one = 1; export const two = () => 2;"),
        ("b.cjs", "exports.three = () => 3;"),
    ]);
    for (path, method) in [
        ("a.mjs", None),
        ("a.mjs", Some("gone")),
        ("a.mjs", Some("one")),
        ("b.cjs", None),
        ("b.cjs", Some("toString")),
        ("b.cjs", Some("constructor")),
    ] {
        let result = project.call(path, method, "");
        let failure = assert_kind(&result, FailureKind::InvalidTask);
        let listed = if path == "a.mjs" { "one, two" } else { "three" };
        assert!(failure.message.ends_with(listed), "{failure:?}");
    }
}

#[test]
fn a_module_that_does_not_parse_names_the_place() {
    let mut project = Project::new(&[
        ("bad.mjs", "export const a = 1;\nexport const b = ;"),
        ("deep.mjs", "import './bad.mjs'; export default () => 1;"),
        ("bad.cjs", "const a = ;"),
        ("bad.json", "{"),
        ("mixed.js", "import x from './bad.mjs';\nexport default 1 +* 2;"),
    ]);
    for (path, place) in [
        ("bad.mjs", "bad.mjs:2:18)"),
        ("deep.mjs", "bad.mjs:2:18)"),
        ("bad.cjs", "bad.cjs:1:11)"),
        ("bad.json", "is not valid JSON"),
        ("mixed.js", "mixed.js:2:19)"),
    ] {
        let result = project.call(path, None, "");
        let failure = assert_kind(&result, FailureKind::Syntax);
        assert!(failure.message.ends_with(place), "{path}: {failure:?}");
    }
}

#[test]
fn a_warm_module_is_loaded_once_and_a_fresh_one_each_time() {
    let mut project =
        Project::new(&[("count.mjs", "let count = 0; export default () => ++count;")]);
    for expected in ["1", "2", "3"] {
        let result = project.call_in(Realm::Warm, "count.mjs", None, "");
        assert_eq!(result.as_deref(), Ok(expected));
    }
    project.gives("count.mjs", None, "", "1");
    project.gives("count.mjs", None, "", "1");
}

#[test]
fn a_warm_module_that_failed_to_load_is_tried_again() {
    let mut project =
        Project::new(&[("a.mjs", "import { b } from './b.mjs'; export default () => b;")]);
    assert_kind(&project.call_in(Realm::Warm, "a.mjs", None, ""), FailureKind::ModuleNotFound);
    write(project.folder.path(), "b.mjs", "export const b = 0; throw new Error('not yet');");
    assert_kind(&project.call_in(Realm::Warm, "a.mjs", None, ""), FailureKind::Exception);
    write(project.folder.path(), "b.mjs", "export const b = 'now';");
    let result = project.call_in(Realm::Warm, "a.mjs", None, "");
    assert_eq!(result.as_deref(), Ok("\"now\""));
}

#[test]
fn module_code_has_the_same_rules_as_other_code() {
    let mut project = Project::new(&[
        ("eval.cjs", "module.exports = () => eval('1');"),
        (
            "globals.mjs",
            "export default () => [typeof process, typeof require, typeof WebAssembly, typeof \
             global];",
        ),
    ]);
    let result = project.call("eval.cjs", None, "");
    assert_eq!(assert_kind(&result, FailureKind::Exception).name, "EvalError");
    project.gives("globals.mjs", None, "", r#"["undefined","undefined","undefined","undefined"]"#);
}

#[test]
fn a_stack_shows_the_modules_file() {
    let mut project = Project::new(&[
        ("a.mjs", "import { fail } from './b.cjs';\nexport default () => fail();"),
        ("b.cjs", "exports.fail = function fail() {\n  throw new Error('deep');\n};"),
    ]);
    let result = project.call("a.mjs", None, "");
    let stack =
        assert_kind(&result, FailureKind::Exception).stack.clone().expect("errors have a stack");
    assert!(stack.contains("b.cjs:2:9)") && stack.contains("a.mjs:2:"), "{stack}");
}

#[test]
fn packages_that_look_for_the_global_object_in_the_old_way_load() {
    let find = "var root = typeof global == 'object' && global || typeof self == 'object' && self \
        || Function('return this')();";
    let mut project = Project::new(&[
        ("old.cjs", &format!("{find} module.exports = () => root === globalThis;")),
        ("old.mjs", &format!("{find} export default () => root === globalThis;")),
        ("other.cjs", "module.exports = () => Function('return this;')();"),
    ]);
    project.gives("old.cjs", None, "", "true");
    project.gives("old.mjs", None, "", "true");
    assert_eq!(
        assert_kind(&project.call("other.cjs", None, ""), FailureKind::Exception).name,
        "EvalError"
    );
    let result = project.bench.code("Function('return this')()");
    assert_eq!(assert_kind(&result, FailureKind::Exception).name, "EvalError");
}

#[test]
fn a_module_that_others_have_loaded_before_can_be_called_itself() {
    let mut project = Project::new(&[
        (
            "main.mjs",
            "import './part.mjs'; import './part.cjs'; import './data.json'; export default () => \
             1;",
        ),
        ("part.mjs", "globalThis.times = (globalThis.times ?? 0) + 1; export default () => times;"),
        (
            "part.cjs",
            "globalThis.common = (globalThis.common ?? 0) + 1; module.exports = () => common;",
        ),
        ("data.json", "[1]"),
    ]);
    for (path, json) in [
        ("main.mjs", "1"),
        ("part.mjs", "1"),
        ("part.cjs", "1"),
        ("data.json", "[1]"),
        ("main.mjs", "1"),
    ] {
        let result = project.call_in(Realm::Warm, path, None, "");
        assert_eq!(result.as_deref(), Ok(json), "{path}");
    }
}

#[test]
fn what_looks_like_a_package_but_is_a_way_out_is_not_found() {
    let mut project = Project::new(&[("x.cjs", "module.exports = n => require(n);")]);
    for name in ["@../x", "a/../../x", "%2e%2e/x", "a\\\\..\\\\b", "@/x", "a\\u0000b"] {
        let result = project.call("x.cjs", None, &format!("[\"{name}\"]"));
        let failure = result.expect_err("there is no such package");
        assert!(
            matches!(failure.kind, FailureKind::ModuleNotFound | FailureKind::ModuleDenied),
            "{name}: {failure:?}"
        );
    }
}
