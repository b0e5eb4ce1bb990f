//! Which file a module's name means: URLs, paths, packages, and what says that there is none.

use std::os::unix::fs::symlink;

use pool_worker::js::{FailureKind, Work};

use crate::project::Project;
use crate::support::{Bench, assert_kind, text};

#[test]
fn what_an_import_names_is_a_url() {
    let mut project = Project::new(&[
        (
            "x.mjs",
            "globalThis.runs = (globalThis.runs ?? 0) + 1; export default { url: \
             import.meta.url.split('/').pop(), file: import.meta.filename.split('/').pop() };",
        ),
        ("a b%.mjs", "export default 'blank';"),
        ("q?.mjs", "export default 'mark';"),
        ("é.mjs", "export default 'letter';"),
        (
            "query.mjs",
            "import a from './x.mjs?v=1'; import b from './x.mjs?v=2#f'; import c from './x.mjs'; \
             import d from './x.mjs?v=1'; export default () => [a, b, c, a === d, runs]",
        ),
        (
            "escaped.mjs",
            "import a from './a%20b%25.mjs'; import b from './q%3F.mjs'; import c from \
             './%C3%A9.mjs'; import d from './é.mjs'; import e from './%78.mjs'; export default () \
             => [a, b, c, d, e.file]",
        ),
        (
            "file.mjs",
            "export default async () => { const all = [import(import.meta.url.replace('file.mjs', \
             'x.mjs') + '?1'), import(import.meta.dirname + '/x.mjs'), import('./sub/../x.mjs'), \
             import('./x.mjs  ')]; return (await Promise.all(all)).map(m => m.default.url) }",
        ),
        (
            "deep/from.mjs",
            "import x from '../x.mjs?from'; export default () => import('../x.mjs?' + \
             x.url).then(m => m.default.url)",
        ),
        (
            "bad.mjs",
            "const get = p => import(p).catch(e => e.code); export default async () => [await \
             get('./a%2Fb.mjs'), await get('./a%5cb.mjs'), await get('http://a/b'), await \
             get('data:text/javascript,1'), await get('file://host/x.mjs'), await \
             get('file:///etc/passwd')]",
        ),
    ]);
    project.gives(
        "query.mjs",
        None,
        "",
        r#"[{"url":"x.mjs?v=1","file":"x.mjs"},{"url":"x.mjs?v=2#f","file":"x.mjs"},{"url":"x.mjs","file":"x.mjs"},true,3]"#,
    );
    project.gives("escaped.mjs", None, "", r#"["blank","mark","letter","letter","x.mjs"]"#);
    project.gives("deep/from.mjs", None, "", "\"x.mjs?x.mjs?from\"");
    project.gives("file.mjs", None, "", r#"["x.mjs?1","x.mjs","x.mjs","x.mjs"]"#);
    project.gives(
        "bad.mjs",
        None,
        "",
        r#"["ERR_INVALID_MODULE_SPECIFIER","ERR_INVALID_MODULE_SPECIFIER","MODULE_DENIED","MODULE_DENIED","MODULE_DENIED","MODULE_DENIED"]"#,
    );
}

#[test]
fn a_file_url_of_a_root_can_be_imported_and_called() {
    let mut project = Project::new(&[
        (
            "main.mjs",
            "export default async name => (await import(import.meta.url.replace('main.mjs', \
             name))).default",
        ),
        ("x.mjs", "export default 'by URL'; export const self = () => import.meta.url;"),
        ("plain.cjs", "module.exports = 'plain';"),
    ]);
    project.gives("main.mjs", None, "[\"x.mjs\"]", "\"by URL\"");
    project.gives("main.mjs", None, "[\"plain.cjs?x\"]", "\"plain\"");
    let url = project.call("x.mjs", Some("self"), "").expect("it succeeds");
    project.gives(url.trim_matches('"'), Some("self"), "", &url);
}

#[test]
fn what_require_names_is_a_path() {
    let mut project = Project::new(&[
        ("a%20b.cjs", "module.exports = 'as written';"),
        ("x.cjs?v=1", "module.exports = 'no query';"),
        ("main.cjs", "module.exports = () => [require('./a%20b.cjs'), require('./x.cjs?v=1')];"),
        ("file.cjs", "module.exports = () => require('file://' + __filename);"),
    ]);
    project.gives("main.cjs", None, "", r#"["as written","no query"]"#);
    assert_kind(&project.call("file.cjs", None, ""), FailureKind::ModuleDenied);
}

#[test]
fn what_ends_like_a_folder_is_one() {
    let mut project = Project::new(&[
        ("x.js", "module.exports = 'file';"),
        ("x/index.js", "module.exports = 'folder';"),
        ("only.js", "module.exports = 'file';"),
        ("lib.js", "module.exports = 'lib.js';"),
        ("lib/index.js", "module.exports = 'lib/index';"),
        ("lib/dot.js", "module.exports = [require('.'), require('./'), require('./.')];"),
        (
            "lib/sub/up.js",
            "module.exports = [require('..'), require('../'), require('../.'), require('./..')];",
        ),
        ("lib/sub.js", "module.exports = 'lib/sub.js';"),
        ("index", "module.exports = 'no extension';"),
        (
            "main.cjs",
            "module.exports = () => [require('./x'), require('./x/'), require('./x/.'), \
             require('./lib/sub/..')];",
        ),
        (
            "gone.cjs",
            "module.exports = p => { try { return require(p) } catch (e) { return e.code } };",
        ),
        (
            "main.mjs",
            "import a from './x'; import b from './x/'; import c from './lib/sub/..'; export \
             default () => [a, b, c]",
        ),
        ("node_modules/both.js", "module.exports = 'both.js';"),
        ("node_modules/both/index.js", "module.exports = 'both/index';"),
        ("pack.cjs", "module.exports = () => [require('both'), require('both/')];"),
    ]);
    project.gives("main.cjs", None, "", r#"["file","folder","folder","lib/index"]"#);
    project.gives("main.mjs", None, "", r#"["file","folder","lib/index"]"#);
    project.gives("gone.cjs", None, "[\"./only.js/\"]", "\"MODULE_NOT_FOUND\"");
    project.gives("gone.cjs", None, "[\"./only/\"]", "\"MODULE_NOT_FOUND\"");
    project.gives("gone.cjs", None, "[\".\"]", "\"MODULE_NOT_FOUND\"");
    project.gives("gone.cjs", None, "[\"./lib/dot\"]", r#"["lib/index","lib/index","lib/index"]"#);
    project.gives(
        "gone.cjs",
        None,
        "[\"./lib/sub/up\"]",
        r#"["lib/index","lib/index","lib/index","lib/index"]"#,
    );
    project.gives("pack.cjs", None, "", r#"["both.js","both/index"]"#);
}

#[test]
fn the_code_says_by_which_statement_a_module_is_missing() {
    let mut project = Project::new(&[
        (
            "i.mjs",
            "export default async p => { try { await import(p); return 'there' } catch (e) { \
             return e.code } }",
        ),
        (
            "r.cjs",
            "module.exports = p => { try { require(p); return 'there' } catch (e) { return e.code \
             } };",
        ),
        (
            "optional.mjs",
            "let driver = 'none'; try { driver = await import('driver') } catch (e) { if (e.code \
             !== 'ERR_MODULE_NOT_FOUND') throw e } export default () => driver;",
        ),
        (
            "node_modules/closed/package.json",
            r#"{"exports": {".": "./i.js", "./gone": "./gone.js"}}"#,
        ),
        ("node_modules/closed/i.js", ""),
        ("package.json", r##"{"imports": {"#known": "./i.mjs"}}"##),
    ]);
    for (specifier, import, require) in [
        ("./gone.js", "ERR_MODULE_NOT_FOUND", "MODULE_NOT_FOUND"),
        ("gone", "ERR_MODULE_NOT_FOUND", "MODULE_NOT_FOUND"),
        ("closed/gone", "ERR_MODULE_NOT_FOUND", "MODULE_NOT_FOUND"),
        ("closed/x", "ERR_PACKAGE_PATH_NOT_EXPORTED", "ERR_PACKAGE_PATH_NOT_EXPORTED"),
        ("#x", "ERR_PACKAGE_IMPORT_NOT_DEFINED", "ERR_PACKAGE_IMPORT_NOT_DEFINED"),
        ("fs", "MODULE_DENIED", "MODULE_DENIED"),
        ("../../../../etc/passwd", "MODULE_DENIED", "MODULE_DENIED"),
        ("closed", "there", "there"),
    ] {
        let args = format!("[{specifier:?}]");
        project.gives("i.mjs", None, &args, &format!("{import:?}"));
        project.gives("r.cjs", None, &args, &format!("{require:?}"));
    }
    project.gives("optional.mjs", None, "", "\"none\"");
}

#[test]
fn a_refusal_names_the_module_that_asked() {
    let mut project = Project::new(&[
        ("main.mjs", "import './lib/asks.mjs';"),
        ("lib/asks.mjs", "import 'fs';"),
        ("main.cjs", "require('./lib/out.cjs')"),
        ("lib/out.cjs", "require('../../../../../etc/passwd')"),
        ("addon.cjs", "require('./lib/native.cjs')"),
        ("lib/native.cjs", "require('./x.node')"),
        ("lib/x.node", ""),
        ("gone.mjs", "import './lib/gone.mjs'"),
        ("lib/gone.mjs", "import './nowhere.mjs'"),
    ]);
    for (path, kind, asked_by) in [
        ("main.mjs", FailureKind::ModuleDenied, "lib/asks.mjs"),
        ("main.cjs", FailureKind::ModuleDenied, "lib/out.cjs"),
        ("addon.cjs", FailureKind::ModuleDenied, "lib/native.cjs"),
        ("gone.mjs", FailureKind::ModuleNotFound, "lib/gone.mjs"),
    ] {
        let result = project.call(path, None, "");
        let message = &assert_kind(&result, kind).message;
        let file = project.folder.path().join(asked_by);
        assert!(message.ends_with(&format!(", asked for by {}", file.display())), "{message}");
        assert_eq!(message.matches("asked for by").count(), 1, "{message}");
    }
}

#[test]
fn require_looks_for_a_package_in_every_folder_above() {
    let mut project = Project::new(&[
        ("node_modules/p/only-above.js", "module.exports = 'above';"),
        ("in/node_modules/p/package.json", "{}"),
        ("in/main.cjs", "module.exports = () => require('p/only-above');"),
        ("in/main.mjs", "export default () => import('p/only-above').catch(e => e.code);"),
    ]);
    project.gives("in/main.cjs", None, "", "\"above\"");
    project.gives("in/main.mjs", None, "", "\"ERR_MODULE_NOT_FOUND\"");
}

#[test]
fn import_meta_resolve_gives_urls() {
    let mut project = Project::new(&[
        (
            "m.mjs",
            "const at = s => { try { return \
             import.meta.resolve(s).replace(import.meta.resolve('.'), '') } catch (e) { return \
             e.code } }; export default () => ['./m.mjs', './m.mjs?a#b', './gone x.mjs', 'p', \
             'p/x', 'gone', 'fs', '/etc/passwd'].map(at)",
        ),
        ("index.js", ""),
        ("node_modules/p/package.json", r#"{"exports": "./i.js"}"#),
        ("node_modules/p/i.js", ""),
    ]);
    let result = project.call("m.mjs", None, "").expect("it succeeds");
    let urls = result.replace(&format!("file://{}/", project.folder.path().display()), "");
    assert_eq!(
        urls,
        r#"["m.mjs","m.mjs?a#b","gone%20x.mjs","node_modules/p/i.js","ERR_PACKAGE_PATH_NOT_EXPORTED","ERR_MODULE_NOT_FOUND","MODULE_DENIED","MODULE_DENIED"]"#
    );
}

#[test]
fn byte_order_marks_are_no_part_of_a_file() {
    let mut project = Project::new(&[
        (
            "m.mjs",
            "\u{FEFF}import data from './d.json'; import c from './c.cjs'; import p from 'p'; \
             export default () => [data.x, c, p]",
        ),
        ("d.json", "\u{FEFF}{\"x\": 1}"),
        ("c.cjs", "\u{FEFF}#!/usr/bin/env node\nmodule.exports = require('./d.json').x + 1;"),
        ("node_modules/p/package.json", "\u{FEFF}{\"type\": \"module\", \"exports\": \"./e.js\"}"),
        ("node_modules/p/e.js", "\u{FEFF}#!/usr/bin/env node\nexport default typeof require;"),
    ]);
    project.gives("m.mjs", None, "", r#"[1,2,"undefined"]"#);
}

#[test]
fn a_root_that_is_a_link_has_both_paths() {
    let base = tempfile::tempdir().expect("a temporary folder can be made");
    let base = base.path().canonicalize().expect("it is there");
    std::fs::create_dir_all(base.join("release-1")).expect("folders can be made");
    let source = "import { n } from './n.mjs'; export default async p => [n, (await import(p)).n, \
        import.meta.url.split('/').at(-2)]";
    crate::project::write(&base, "release-1/m.mjs", source);
    crate::project::write(&base, "release-1/n.mjs", "export const n = {};");
    symlink("release-1", base.join("current")).expect("links can be made");
    let current = base.join("current");
    let mut bench = Bench::with(|config| config.module_roots = vec![current.clone()]);
    for path in [current.join("m.mjs"), base.join("release-1/m.mjs"), "m.mjs".into()] {
        let path = path.to_str().expect("the path is text");
        let args = format!("[\"{}/n.mjs\"]", current.display());
        let work = Work::Module { path, method: None, args_json: args.as_bytes() };
        let result = text(bench.run("default", pool_worker::js::Realm::Fresh, work));
        assert_eq!(result.as_deref(), Ok(r#"[{},{},"release-1"]"#), "{path}");
    }
}

#[test]
fn conditions_and_the_node_env_come_from_the_configuration() {
    let files = [
        (
            "m.mjs",
            "import p from 'p'; export default () => [p, globalThis.process?.env.NODE_ENV ?? null, \
             typeof process, globalThis.process?.browser ?? null]",
        ),
        (
            "m.cjs",
            "module.exports = () => [require('p'), globalThis.process?.env.NODE_ENV ?? null, \
             typeof process, globalThis.process?.browser ?? null]",
        ),
        (
            "node_modules/p/package.json",
            r#"{"exports": {"node": "./node.js", "browser": "./browser.js", "default": "./default.js"}}"#,
        ),
        ("node_modules/p/node.js", "module.exports = 'node';"),
        ("node_modules/p/browser.js", "module.exports = 'browser';"),
        ("node_modules/p/default.js", "module.exports = 'default';"),
    ];
    for path in ["m.mjs", "m.cjs"] {
        Project::new(&files).gives(path, None, "", r#"["default",null,"undefined",null]"#);
    }
    let mut project = Project::with(&files, |config| {
        config.conditions = vec!["browser".to_owned()];
        config.node_env = Some("staging".to_owned());
    });
    for path in ["m.mjs", "m.cjs"] {
        project.gives(path, None, "", r#"["browser","staging","object",true]"#);
    }
    // Code and functions have no use for it.
    assert_eq!(project.bench.code("typeof process").as_deref(), Ok("\"undefined\""));
}

#[test]
fn a_file_for_bundlers_is_read_as_what_its_syntax_is() {
    let mut project = Project::new(&[
        ("m.mjs", "import { one } from 'p'; export default () => one"),
        (
            "node_modules/p/package.json",
            r#"{"type": "commonjs", "exports": {"import": "./esm.js", "require": "./cjs.js"}}"#,
        ),
        ("node_modules/p/esm.js", "export const one = 1;"),
        ("node_modules/p/cjs.js", "exports.one = 2;"),
        ("m.cjs", "module.exports = () => require('p').one;"),
    ]);
    project.gives("m.mjs", None, "", "1");
    project.gives("m.cjs", None, "", "2");
}
