//! When modules run: the order of the language, whatever kind each is, and `import()` in a later
//! job.

use pool_worker::js::{FailureKind, Realm};

use crate::project::Project;
use crate::support::assert_kind;

#[test]
fn import_runs_a_module_after_the_code_behind_the_call() {
    let mut project = Project::new(&[
        (
            "m.mjs",
            "globalThis.log = []; const p = import('./d.mjs'); log.push('behind'); export default \
             async () => { await p; return log }",
        ),
        (
            "m.cjs",
            "globalThis.log = []; const p = import('./d.mjs'); log.push('behind'); module.exports \
             = async () => { await p; return log }",
        ),
        (
            "call.mjs",
            "export default async () => { globalThis.log = []; const p = import('./d.mjs'); \
             log.push('behind'); await p; return log }",
        ),
        ("d.mjs", "log.push('imported');"),
        (
            "twice.mjs",
            "export default async () => { globalThis.log = []; const all = await \
             Promise.all([import('./d.mjs'), import('./d.mjs')]); return [log, all[0] === all[1]] \
             }",
        ),
    ]);
    for path in ["m.mjs", "m.cjs", "call.mjs"] {
        project.gives(path, None, "", r#"["behind","imported"]"#);
    }
    project.gives("twice.mjs", None, "", r#"[["imported"],true]"#);
}

#[test]
fn a_module_can_import_itself_and_its_importers_while_it_is_evaluated() {
    let mut project = Project::new(&[
        (
            "self.mjs",
            "export const me = import('./self.mjs'); export const one = 1; export default async () \
             => (await me).one",
        ),
        (
            "a.mjs",
            "import { later } from './b.mjs'; export const name = 'a'; export default async () => \
             (await later).name",
        ),
        ("b.mjs", "export const later = import('./a.mjs');"),
        (
            "deep.mjs",
            "import './x.mjs'; export const end = 'end'; export default async () => \
             globalThis.seen",
        ),
        ("x.mjs", "import './y.mjs';"),
        ("y.mjs", "import('./deep.mjs').then(m => { globalThis.seen = m.end });"),
        (
            "await.mjs",
            "await null; export const v = 'v'; const p = import('./await.mjs'); export default \
             async () => (await p).v",
        ),
        (
            "c.cjs",
            "exports.later = import('./c.cjs'); exports.run = async () => Object.keys(await \
             exports.later).sort()",
        ),
    ]);
    project.gives("self.mjs", None, "", "1");
    project.gives("a.mjs", None, "", "\"a\"");
    project.gives("deep.mjs", None, "", "\"end\"");
    project.gives("await.mjs", None, "", "\"v\"");
    project.gives("c.cjs", Some("run"), "", r#"["default","later","module.exports","run"]"#);
}

#[test]
fn a_module_that_waits_for_itself_never_settles() {
    let mut project = Project::new(&[
        ("self.mjs", "await import('./self.mjs'); export default () => 1;"),
        ("a.mjs", "import './b.mjs'; export default () => 1;"),
        ("b.mjs", "await import('./a.mjs');"),
    ]);
    for path in ["self.mjs", "a.mjs"] {
        assert_kind(&project.call(path, None, ""), FailureKind::PromiseNeverSettled);
    }
}

#[test]
fn common_js_runs_at_its_turn_among_es_modules() {
    let log = |name: &str| format!("(globalThis.log ??= []).push('{name}');");
    let mut project = Project::new(&[
        (
            "main.mjs",
            "import './a.mjs'; import './b.cjs'; import './c.mjs'; import './d.json'; import \
             './e.cjs'; export default () => log;",
        ),
        ("a.mjs", &format!("import './a1.cjs'; import './a2.mjs'; {}", log("a"))),
        ("a1.cjs", &log("a1")),
        ("a2.mjs", &log("a2")),
        ("b.cjs", &format!("require('./b1.cjs'); {}", log("b"))),
        ("b1.cjs", &log("b1")),
        ("c.mjs", &log("c")),
        ("d.json", "{}"),
        ("e.cjs", &log("e")),
        // A cycle of ES modules with a CommonJS file in the middle.
        (
            "ring.mjs",
            &format!(
                "import './ring1.mjs'; import './e.cjs'; {} export default () => log;",
                log("ring")
            ),
        ),
        ("ring1.mjs", &format!("import './ring.mjs'; {}", log("ring1"))),
        // A module that awaits does not hold up its neighbours.
        (
            "wait.mjs",
            "import './wait1.mjs'; import './e.cjs'; import './c.mjs'; export default () => log;",
        ),
        ("wait1.mjs", &format!("await null; {}", log("waited"))),
    ]);
    project.gives("main.mjs", None, "", r#"["a1","a2","a","b1","b","c","e"]"#);
    project.gives("ring.mjs", None, "", r#"["ring1","e","ring"]"#);
    project.gives("wait.mjs", None, "", r#"["e","c","waited"]"#);
}

#[test]
fn nothing_runs_of_a_graph_that_cannot_be_linked() {
    let mut project = Project::new(&[
        ("first.mjs", "globalThis.ran = true;"),
        ("first.cjs", "globalThis.ran = true;"),
        ("gone.mjs", "import './first.mjs'; import './first.cjs'; import './nowhere.mjs';"),
        (
            "export.mjs",
            "import './first.mjs'; import './first.cjs'; import { no } from './yes.mjs';",
        ),
        ("syntax.mjs", "import './first.mjs'; import './first.cjs'; import './broken.mjs';"),
        ("yes.mjs", "export const yes = 1;"),
        ("broken.mjs", "export const = 1;"),
        (
            "try.mjs",
            "export default async path => { try { await import(path) } catch (e) { return [e.name, \
             typeof ran] } }",
        ),
    ]);
    project.gives("try.mjs", None, "[\"./gone.mjs\"]", r#"["Error","undefined"]"#);
    project.gives("try.mjs", None, "[\"./export.mjs\"]", r#"["SyntaxError","undefined"]"#);
    project.gives("try.mjs", None, "[\"./syntax.mjs\"]", r#"["SyntaxError","undefined"]"#);
}

#[test]
fn what_could_not_be_loaded_can_be_imported_again_and_what_threw_throws_again() {
    let mut project = Project::new(&[
        (
            "main.mjs",
            "const get = p => import(p).then(m => m.value, e => e.code ?? e.message); export \
             default async p => [await get(p), await get(p)]",
        ),
        ("outer.mjs", "export { value } from './middle.mjs';"),
        ("middle.mjs", "export { value } from './late.mjs';"),
        ("throws.mjs", "globalThis.n = (globalThis.n ?? 0) + 1; throw new Error('try ' + n);"),
        ("throws.cjs", "globalThis.n = (globalThis.n ?? 0) + 1; throw new Error('try ' + n);"),
    ]);
    let missing = r#"["ERR_MODULE_NOT_FOUND","ERR_MODULE_NOT_FOUND"]"#;
    let result = project.call_in(Realm::Warm, "main.mjs", None, "[\"./outer.mjs\"]");
    assert_eq!(result.as_deref(), Ok(missing));
    crate::project::write(project.folder.path(), "late.mjs", "export const value = 'here';");
    let result = project.call_in(Realm::Warm, "main.mjs", None, "[\"./outer.mjs\"]");
    assert_eq!(result.as_deref(), Ok(r#"["here","here"]"#));
    project.gives("main.mjs", None, "[\"./throws.mjs\"]", r#"["try 1","try 1"]"#);
    project.gives("main.mjs", None, "[\"./throws.cjs\"]", r#"["try 1","try 1"]"#);
}

#[test]
fn an_import_that_a_task_does_not_wait_for_is_there_for_the_next() {
    let mut project = Project::new(&[
        (
            "main.mjs",
            "let part; import('./part.mjs').then(m => { part = m.name }); export default () => \
             part ?? null;",
        ),
        ("part.mjs", "export const name = 'part';"),
    ]);
    for _ in 0..2 {
        let result = project.call_in(Realm::Warm, "main.mjs", None, "");
        assert_eq!(result.as_deref(), Ok("\"part\""));
    }
}

#[test]
fn a_module_that_is_being_evaluated_cannot_be_required() {
    let catch = |path: &str| {
        format!(
            "try {{ require('{path}'); exports.code = 'none' }} catch (e) {{ exports.code = e.code \
             }}"
        )
    };
    let mut project = Project::new(&[
        ("a.mjs", "import { code } from './a.cjs'; export default () => code;"),
        ("a.cjs", &catch("./a.mjs")),
        ("b.mjs", "import { code } from './b.cjs'; export default () => code;"),
        ("b.cjs", &catch("./between.mjs")),
        ("between.mjs", "import './b.mjs';"),
        ("c.mjs", "import { code } from './c.cjs'; export default () => code;"),
        ("c.cjs", &catch("./back.mjs")),
        ("back.mjs", "import './c.cjs';"),
        (
            "d.mjs",
            "import { code } from './d.cjs'; import './beside.mjs'; export default () => code;",
        ),
        ("d.cjs", &catch("./beside.mjs")),
        ("beside.mjs", "export const x = 1;"),
        (
            "main.cjs",
            "const m = require('./asks.mjs'); module.exports = () => m.early; module.exports.x = \
             1;",
        ),
        ("asks.mjs", "import main from './main.cjs'; export const early = typeof main;"),
    ]);
    for path in ["a.mjs", "b.mjs", "c.mjs"] {
        project.gives(path, None, "", "\"ERR_REQUIRE_CYCLE_MODULE\"");
    }
    project.gives("d.mjs", None, "", "\"none\"");
    project.gives("main.cjs", None, "", "\"object\"");
}
