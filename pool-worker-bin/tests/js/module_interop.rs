//! CommonJS and ES modules seen from each other, and what `require` and `module` have.

use pool_worker::js::{FailureKind, Realm};

use crate::project::Project;
use crate::support::{assert_kind, on_large_stack};

#[test]
fn required_es_modules_are_marked_for_babel_and_typescript() {
    let mut project = Project::new(&[
        (
            "main.cjs",
            "const wrap = e => e && e.__esModule ? e : { default: e };
            module.exports = () => [wrap(require('./d.mjs')).default, require('./d.mjs').x, \
            require('./d.mjs') === require('./d.mjs'), Object.keys(require('./d.mjs')), \
            require('./d.mjs')[Symbol.toStringTag]];",
        ),
        ("d.mjs", "export default 'd'; export let x = 1; export const up = () => { x++ };"),
        (
            "names.cjs",
            "module.exports = () => ['__esModule' in require('./n.mjs'), \
            require('./own.mjs').__esModule];",
        ),
        ("n.mjs", "export const n = 1;"),
        ("own.mjs", "export default 1; export const __esModule = 'own';"),
        (
            "live.cjs",
            "const m = require('./d.mjs'); module.exports = () => { m.up(); return m.x \
            };",
        ),
        ("whole.cjs", "module.exports = () => [require('./whole.mjs'), require('./whole.mjs')()];"),
        (
            "whole.mjs",
            "const f = () => 'called'; f.toJSON = () => 'function'; export { f as \
            'module.exports' }; export default 'not this';",
        ),
    ]);
    project.gives(
        "main.cjs",
        None,
        "",
        r#"["d",1,true,["__esModule","default","up","x"],"Module"]"#,
    );
    project.gives("names.cjs", None, "", r#"[false,"own"]"#);
    project.gives("live.cjs", None, "", "2");
    project.gives("whole.cjs", None, "", r#"["function","called"]"#);
}

#[test]
fn the_default_of_a_common_js_module_is_its_exports() {
    let mut project = Project::new(&[
        ("f.cjs", "module.exports = () => 4;"),
        ("own.cjs", "exports.default = () => 'own'; exports.x = 1;"),
        ("data.cjs", "module.exports = 5;"),
        (
            "m.mjs",
            "import f, { 'module.exports' as g } from './f.cjs'; import own, { 'module.exports' as \
             all } from './own.cjs'; export default () => [f === g, own === all, own.default(), \
             Object.keys(own)]",
        ),
    ]);
    project.gives("f.cjs", Some("default"), "", "4");
    project.gives("own.cjs", Some("default"), "", "\"own\"");
    project.gives("m.mjs", None, "", r#"[true,true,"own",["default","x"]]"#);
    assert_kind(&project.call("data.cjs", Some("default"), ""), FailureKind::InvalidTask);
}

#[test]
fn names_of_common_js_are_found_as_in_node_and_where_an_import_asks_for_them() {
    let mut project = Project::new(&[
        ("ns.mjs", "import * as ns from './all.cjs'; export default () => Object.keys(ns).sort()"),
        (
            "all.cjs",
            "exports.a = 1; module.exports.b = 2; Object.defineProperty(exports, 'c', { \
             enumerable: true, value: 3 }); __exportStar(require('./more.cjs'), exports); function \
             __exportStar(m, e) { Object.assign(e, m) }",
        ),
        ("more.cjs", "exports.d = 4; exports.default = 5;"),
        (
            "hidden.cjs",
            "const names = ['x', 'y']; for (const name of names) exports[name] = () => name;",
        ),
        (
            "asks.mjs",
            "import { x, y as z } from './hidden.cjs'; export { x as again } from './hidden.cjs'; \
             export default () => [x(), z()]",
        ),
        (
            "later.mjs",
            "import first from './hidden.cjs'; export default async () => [first.x(), await (await \
             import('./asks.mjs')).default()]",
        ),
        (
            "umd.cjs",
            "(function (root, factory) { module.exports = factory() })(this, () => ({ chunk: () => \
             'chunk' }));",
        ),
        ("umd.mjs", "import { chunk } from './umd.cjs'; export default chunk"),
        ("no.mjs", "import { nope } from './hidden.cjs'; export default () => 1"),
        ("inherited.mjs", "import { toString } from './hidden.cjs'; export default () => 1"),
    ]);
    project.gives("ns.mjs", None, "", r#"["a","b","c","d","default","module.exports"]"#);
    project.gives("asks.mjs", None, "", r#"["x","y"]"#);
    project.gives("asks.mjs", Some("again"), "", "\"x\"");
    project.gives("later.mjs", None, "", r#"["x",["x","y"]]"#);
    project.gives("umd.mjs", None, "", "\"chunk\"");
    for path in ["no.mjs", "inherited.mjs"] {
        let result = project.call(path, None, "");
        let failure = assert_kind(&result, FailureKind::Syntax);
        assert!(failure.message.contains("does not provide an export named"), "{failure:?}");
    }
}

#[test]
fn getters_of_common_js_exports_run_when_somebody_asks() {
    let mut project = Project::new(&[
        (
            "m.mjs",
            "import lazy from './lazy.cjs'; import * as ns from './lazy.cjs'; export default () => \
             { const before = globalThis.log ?? []; lazy.heavy; return [before, log, \
             Object.keys(ns)] }",
        ),
        (
            "lazy.cjs",
            "const put = name => { (globalThis.log ??= []).push(name); return name }; for (const \
             name of ['heavy', 'gone']) Object.defineProperty(exports, name, { enumerable: true, \
             get: () => put(name) });",
        ),
        // What compilers write for a re-export is read, and may throw.
        ("ts.mjs", "import { one, two } from './ts.cjs'; export default () => [one, two ?? null]"),
        (
            "ts.cjs",
            "Object.defineProperty(exports, 'one', { enumerable: true, get: function () { return \
             m.one; } }); Object.defineProperty(exports, 'two', { enumerable: true, get: function \
             () { return n.two; } }); const m = { one: 1 }; let n;",
        ),
    ]);
    project.gives("m.mjs", None, "", r#"[[],["heavy"],["default","module.exports"]]"#);
    project.gives("ts.mjs", None, "", "[1,null]");
}

#[test]
fn import_attributes_must_fit_the_module() {
    let mut project = Project::new(&[
        (
            "get.mjs",
            "export default async (path, type) => { try { const m = await import(path, { with: { \
             type } }); return Object.keys(m) } catch (e) { return [e.name, e.code, typeof ran] } \
             }",
        ),
        (
            "other.mjs",
            "export default async () => { try { await import('./evil.js', { with: { lang: 'x' } }) \
             } catch (e) { return [e.name, e.code, typeof ran] } }",
        ),
        (
            "plain.mjs",
            "import { x } from './d.json'; import d from './d.json' with { type: 'json' }; import \
             all from './d.json'; export default () => [x, d.x, d === all]",
        ),
        ("evil.js", "globalThis.ran = true; export default 1;"),
        ("evil.json", "globalThis.ran = true"),
        ("c.cjs", "globalThis.ran = true"),
        ("d.json", "{\"x\": 1}"),
        ("static.mjs", "import x from './evil.js' with { type: 'json' }; export default () => x"),
        ("css.mjs", "import x from './d.json' with { type: 'css' }; export default () => x"),
        ("key.mjs", "import x from './d.json' with { lang: 'json' }; export default () => x"),
        ("named.mjs", "import { x } from './d.json' with { type: 'json' }; export default () => x"),
    ]);
    let refused = |code: &str| format!(r#"["TypeError","{code}","undefined"]"#);
    project.gives("get.mjs", None, r#"["./d.json", "json"]"#, r#"["default"]"#);
    for path in ["./evil.js", "./c.cjs", "./get.mjs"] {
        let args = format!(r#"["{path}", "json"]"#);
        project.gives("get.mjs", None, &args, &refused("ERR_IMPORT_ATTRIBUTE_TYPE_INCOMPATIBLE"));
    }
    for kind in ["css", "javascript", "JSON", ""] {
        let args = format!(r#"["./d.json", "{kind}"]"#);
        project.gives("get.mjs", None, &args, &refused("ERR_IMPORT_ATTRIBUTE_UNSUPPORTED"));
    }
    project.gives("other.mjs", None, "", &refused("ERR_IMPORT_ATTRIBUTE_UNSUPPORTED"));
    project.gives("plain.mjs", None, "", "[1,1,true]");
    for (path, name) in [
        ("static.mjs", "TypeError"),
        ("css.mjs", "TypeError"),
        ("key.mjs", "SyntaxError"),
        ("named.mjs", "SyntaxError"),
    ] {
        assert_eq!(
            assert_kind(&project.call(path, None, ""), FailureKind::Syntax).name,
            name,
            "{path}"
        );
    }
}

#[test]
fn a_missing_or_ambiguous_export_is_an_error_of_the_source() {
    let mut project = Project::new(&[
        ("gone.mjs", "import { nope } from './yes.mjs';\nexport default () => nope;"),
        ("default.mjs", "\nimport nope from './yes.mjs'; export default () => nope;"),
        ("again.mjs", "export { nope } from './yes.mjs';"),
        ("both.mjs", "import { yes } from './stars.mjs'; export default () => yes;"),
        ("stars.mjs", "export * from './yes.mjs'; export * from './yes2.mjs';"),
        ("yes.mjs", "export const yes = 1;"),
        ("yes2.mjs", "export const yes = 2;"),
        ("deep.mjs", "import './gone.mjs'; export default () => 1"),
        (
            "caught.mjs",
            "export default () => import('./gone.mjs').catch(e => [e instanceof SyntaxError, \
             e.message.includes('nope')])",
        ),
        ("thrown.mjs", "throw new SyntaxError('of the task')"),
    ]);
    for (path, place) in [
        ("gone.mjs", "gone.mjs:1:10"),
        ("default.mjs", "default.mjs:2:8"),
        ("again.mjs", "again.mjs:1:10"),
        ("both.mjs", "both.mjs:1:10"),
        ("deep.mjs", "gone.mjs:1:10"),
    ] {
        let result = project.call(path, None, "");
        let failure = assert_kind(&result, FailureKind::Syntax);
        assert!(
            failure.name == "SyntaxError" && failure.message.contains(place),
            "{path}: {failure:?}"
        );
    }
    project.gives("caught.mjs", None, "", "[true,true]");
    assert_kind(&project.call("thrown.mjs", None, ""), FailureKind::Exception);
}

#[test]
fn require_has_a_cache_and_a_main_module() {
    let mut project = Project::new(&[
        ("count.cjs", "globalThis.n = (globalThis.n ?? 0) + 1; module.exports = n;"),
        (
            "cache.cjs",
            "const id = require.resolve('./count.cjs'); module.exports = () => { const seen = \
             [require('./count.cjs'), require('./count.cjs'), id in require.cache, \
             require.cache[id].exports]; delete require.cache[id]; \
             seen.push(require('./count.cjs')); require.cache[id].exports = 'mock'; \
             seen.push(require('./count.cjs')); return seen };",
        ),
        (
            "shared.cjs",
            "module.exports = () => [require.cache === require('./part.cjs').cache, \
             Object.keys(require.cache).map(f => f.split('/').pop())];",
        ),
        (
            "part.cjs",
            "exports.cache = require.cache; exports.main = require.main; exports.module = module;",
        ),
        (
            "main.cjs",
            "const part = require('./part.cjs'); module.exports = () => [require.main === module, \
             part.main === module, part.module.parent === module, module.parent, module.id, \
             part.module.id === part.module.filename, part.module.loaded, part.module.path === \
             __dirname, this === module.exports];",
        ),
        (
            "main.mjs",
            "import { main, module as part } from './part.cjs'; export default () => [main ?? \
             null, part.parent ?? null, part.loaded];",
        ),
        ("cjs.cjs", "module.exports = () => [Object.keys(module), typeof module.require];"),
        ("json.cjs", "require('./d.json').x = 2; module.exports = () => require('./d.json').x;"),
        ("d.json", "{\"x\": 1}"),
        (
            "args.cjs",
            "module.exports = () => [5, undefined, '', {}].map(a => { try { require(a) } catch (e) \
             { return e.code } });",
        ),
    ]);
    project.gives("cache.cjs", None, "", r#"[1,1,true,1,2,"mock"]"#);
    project.gives("shared.cjs", None, "", r#"[true,["shared.cjs","part.cjs"]]"#);
    project.gives("main.cjs", None, "", "[true,true,true,null,\".\",true,true,true,false]");
    project.gives("main.mjs", None, "", "[null,null,true]");
    project.gives(
        "cjs.cjs",
        None,
        "",
        r#"[["id","path","exports","filename","loaded"],"function"]"#,
    );
    project.gives("json.cjs", None, "", "2");
    project.gives(
        "args.cjs",
        None,
        "",
        r#"["ERR_INVALID_ARG_TYPE","ERR_INVALID_ARG_TYPE","ERR_INVALID_ARG_VALUE","ERR_INVALID_ARG_TYPE"]"#,
    );
}

#[test]
fn too_deep_a_chain_says_that_the_stack_is_used_up() {
    on_large_stack(|| {
        let mut project =
            Project::new(&[("main.cjs", "module.exports = () => require('./0.js');")]);
        for (kind, text) in [
            ("js", "module.exports = require('./NEXT.js') + 1;"),
            ("mjs", "export default 1; import './NEXT.mjs';"),
        ] {
            for index in 0..1200 {
                let name = format!("{index}.{kind}");
                crate::project::write(
                    project.folder.path(),
                    &name,
                    &text.replace("NEXT", &(index + 1).to_string()),
                );
            }
        }
        crate::project::write(project.folder.path(), "1200.js", "module.exports = 0;");
        crate::project::write(project.folder.path(), "1200.mjs", "");
        let result = project.call("main.cjs", None, "");
        let failure = assert_kind(&result, FailureKind::Exception);
        assert!(failure.message.starts_with("Maximum call stack size exceeded"), "{failure:?}");
        // The engine goes on, and a chain of imports may be this long.
        crate::project::write(
            project.folder.path(),
            "ok.mjs",
            "import './0.mjs'; export default () => 'ok'",
        );
        let result = project.call("ok.mjs", None, "");
        assert!(
            result.as_deref() == Ok("\"ok\"")
                || result.as_ref().is_err_and(|f| f.name == "RangeError"),
            "{result:?}"
        );
    });
}

#[test]
fn a_module_that_failed_once_is_read_again_by_whoever_asks_again() {
    let mut project = Project::new(&[
        (
            "main.cjs",
            "const again = () => { try { return require('./flaky.cjs') } catch (e) { return \
             e.message } }; module.exports = () => [again(), again(), again()];",
        ),
        (
            "flaky.cjs",
            "globalThis.n = (globalThis.n ?? 0) + 1; if (n < 3) throw new Error('try ' + n); \
             module.exports = 'done';",
        ),
    ]);
    let result = project.call_in(Realm::Warm, "main.cjs", None, "");
    assert_eq!(result.as_deref(), Ok(r#"["try 1","try 2","done"]"#));
}
