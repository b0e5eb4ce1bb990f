//! The sandbox takes nothing from the language that it does not mean to.
//!
//! `walk.js` walks every intrinsic and calls what it finds, some 20,000 times, with arguments from
//! a seeded generator. It runs in each realm of ours and in the bare engine: V8 as it comes, in a
//! process of its own, without this crate's settings, snapshot or contexts. The findings must be
//! the same but for what [`differences`] lists, with a reason each; and what is listed must differ.

mod differences;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use pool_worker::js::{EngineConfig, Realm, Work, snapshot};

use crate::support::{Bench, text};
use differences::DIFFERENCES;

const WALK: &str = include_str!("walk.js");

/// What freezes the frozen realm: there, the bare engine is frozen by it as well. That all is
/// frozen is another test's matter.
const FREEZE: &str = include_str!("../../../src/js/freeze.js");

/// Calls per function.
const ROUNDS: u32 = 28;

/// The part, the seed and the files of a child.
const PART: &str = "POOL_JS_TEST_PART";
const SEED: &str = "POOL_JS_TEST_SEED";
const FOLDER: &str = "POOL_JS_TEST_FOLDER";

/// One of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    name: &'static str,
    realm: Realm,
    form: Form,
    from_snapshot: bool,
    /// Whether code generation and WebAssembly are allowed.
    permissive: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Code,
    Function,
    Module,
}

const fn row(
    name: &'static str,
    realm: Realm,
    form: Form,
    from_snapshot: bool,
    permissive: bool,
) -> Row {
    Row { name, realm, form, from_snapshot, permissive }
}

/// Every realm there is, by each type of task, with and without the settings that matter.
const ROWS: &[Row] = &[
    row("fresh code", Realm::Fresh, Form::Code, true, false),
    row("warm code", Realm::Warm, Form::Code, true, false),
    row("fresh function, no snapshot", Realm::Fresh, Form::Function, false, false),
    row("warm function", Realm::Warm, Form::Function, true, false),
    row("warm module", Realm::Warm, Form::Module, true, false),
    row("fresh code, all allowed", Realm::Fresh, Form::Code, true, true),
    row("warm function, all allowed, no snapshot", Realm::Warm, Form::Function, false, true),
    row("frozen code", Realm::Frozen, Form::Code, true, false),
    row("frozen function, all allowed, no snapshot", Realm::Frozen, Form::Function, false, true),
];

impl Row {
    /// What this realm gives.
    fn findings(self, seed: u32, folder: &Path) -> String {
        let mut bench = Bench::with(|config: &mut EngineConfig| {
            config.result_limit_bytes = 256 << 20;
            config.heap_limit_bytes = 512 << 20;
            config.allow_code_generation = self.permissive;
            config.allow_wasm = self.permissive;
            config.module_roots = vec![folder.to_owned()];
            if self.from_snapshot {
                config.snapshot = Some(Cow::Owned(
                    std::fs::read(folder.join("snapshot")).expect("it was made before"),
                ));
            }
        });
        assert_eq!(bench.engine.uses_snapshot(), self.from_snapshot);
        let args = format!("[{seed}, {ROUNDS}]");
        let code = format!("({WALK})({seed}, {ROUNDS})");
        let work = match self.form {
            Form::Code => Work::Code { source: &code, context_json: b"" },
            Form::Function => Work::Function { source: WALK, args_json: args.as_bytes() },
            Form::Module => {
                std::fs::write(folder.join("walk.mjs"), format!("export default {WALK}"))
                    .expect("it can be written");
                Work::Module { path: "walk.mjs", method: None, args_json: args.as_bytes() }
            }
        };
        let json = text(bench.run("default", self.realm, work))
            .unwrap_or_else(|failure| panic!("{failure:?}"));
        serde_json::from_str(&json).expect("the result is a string")
    }
}

/// What V8 gives as it comes, frozen or not.
fn bare(seed: u32, frozen: bool) -> String {
    v8::icu::set_common_data_78(deno_core_icudata::ICU_DATA).expect("the data belongs to this V8");
    v8::V8::initialize_platform(v8::new_default_platform(0, false).make_shared());
    v8::V8::initialize();
    let isolate = &mut v8::Isolate::new(v8::CreateParams::default());
    v8::scope!(let scope, isolate);
    let context = v8::Context::new(scope, v8::ContextOptions::default());
    let scope = &mut v8::ContextScope::new(scope, context);
    if frozen {
        let code = v8::String::new(scope, FREEZE).expect("it is short");
        let plan = v8::Script::compile(scope, code, None)
            .and_then(|script| script.run(scope))
            .expect("it is sound");
        let plan = v8::Local::<v8::Array>::try_from(plan).expect("it gives a list");
        let finish = plan.get_index(scope, 0).expect("the first is a function");
        let finish = v8::Local::<v8::Function>::try_from(finish).expect("the first is a function");
        finish.call(scope, code.into(), &[]).expect("all can be frozen");
    }
    let code = v8::String::new(scope, &format!("({WALK})({seed}, {ROUNDS})")).expect("it is short");
    let result = v8::Script::compile(scope, code, None)
        .and_then(|script| script.run(scope))
        .expect("it is sound");
    let promise = v8::Local::<v8::Promise>::try_from(result).expect("an async function gives one");
    scope.perform_microtask_checkpoint();
    assert_eq!(
        promise.state(),
        v8::PromiseState::Fulfilled,
        "{}",
        promise.result(scope).to_rust_string_lossy(scope)
    );
    promise.result(scope).to_rust_string_lossy(scope)
}

/// In a child: does its part and writes the file named after it.
fn be_a_part(part: &str) {
    let folder = std::env::var_os(FOLDER).expect("the parent says");
    let folder = Path::new(&folder);
    let seed =
        std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).expect("the parent says");
    let bytes = match part {
        "snapshot" => snapshot::create().expect("V8 makes a snapshot"),
        "bare" => bare(seed, false).into_bytes(),
        "frozen" => bare(seed, true).into_bytes(),
        name => {
            let row = ROWS.iter().find(|row| row.name == name).expect("the parent knows the rows");
            row.findings(seed, folder).into_bytes()
        }
    };
    std::fs::write(folder.join(part), bytes).expect("the folder can be written to");
}

/// Runs a part in a process of its own: V8's settings, and whether it has a snapshot, are the
/// process's.
fn part(name: &str, seed: u32, folder: &Path) -> String {
    let output = Command::new(std::env::current_exe().expect("a test knows its own file"))
        .args([
            "differential::each_realm_has_what_the_bare_engine_has_but_for_what_is_listed",
            "--exact",
            "--nocapture",
        ])
        .envs([(PART, name), (SEED, &seed.to_string())])
        .env(FOLDER, folder)
        .output()
        .expect("the test's own program can be started");
    assert!(
        output.status.success(),
        "{name}, seed {seed}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&std::fs::read(folder.join(name)).expect("it was written")).into_owned()
}

type Findings<'t> = BTreeMap<&'t str, &'t str>;

fn findings(text: &str) -> Findings<'_> {
    text.lines().map(|line| line.split_once('\t').expect("a finding has a name")).collect()
}

/// The path in a finding's name: `call Atomics.wait #3`, `property Object`, `later call eval #1`.
fn path_of(finding: &str) -> &str {
    let mut path = finding;
    for kind in ["later ", "call ", "new ", "object ", "property "] {
        path = path.strip_prefix(kind).unwrap_or(path);
    }
    path.split_once(" #").map_or(path, |(path, _)| path)
}

#[test]
fn each_realm_has_what_the_bare_engine_has_but_for_what_is_listed() {
    if let Ok(part) = std::env::var(PART) {
        return be_a_part(&part);
    }
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_124);
    println!("seed {seed}; {SEED}=n tries another");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    part("snapshot", seed, folder.path());
    let bare = part("bare", seed, folder.path());
    let bare = findings(&bare);
    let frozen = part("frozen", seed, folder.path());
    let frozen = findings(&frozen);
    let calls: u32 = bare["calls"].parse().expect("a number");
    println!("{} findings, {calls} calls in the bare engine", bare.len());
    assert!(calls >= 15_000, "{calls}");
    let mut trouble = Vec::new();
    for row in ROWS {
        let ours = part(row.name, seed, folder.path());
        let ours = findings(&ours);
        println!("{}: {} findings, {} calls", row.name, ours.len(), ours["calls"]);
        let theirs = if row.realm == Realm::Frozen { &frozen } else { &bare };
        compare(*row, theirs, &ours, &mut trouble);
    }
    let shown = trouble.iter().take(60).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(
        trouble.is_empty(),
        "seed {seed}: {} differences that the list does not explain:\n{shown}",
        trouble.len()
    );
}

fn compare(row: Row, bare: &Findings<'_>, ours: &Findings<'_>, trouble: &mut Vec<String>) {
    let mut seen = vec![false; DIFFERENCES.len()];
    let names = bare.keys().chain(ours.keys().filter(|name| !bare.contains_key(*name)));
    for name in names.filter(|name| **name != "calls") {
        let (without, with) = (bare.get(name), ours.get(name));
        if without == with {
            continue;
        }
        let mut is_listed = false;
        for (listed, seen) in DIFFERENCES.iter().zip(&mut seen) {
            let explains = listed.explains(row, path_of(name), without.copied(), with.copied());
            *seen |= explains;
            is_listed |= explains;
        }
        if !is_listed {
            trouble.push(format!(
                "{}: {name}: {without:?} in the bare engine, {with:?} here",
                row.name
            ));
        }
    }
    for (listed, seen) in DIFFERENCES.iter().zip(seen) {
        if listed.is_for(row) && !seen {
            trouble.push(format!("{}: {} is listed, but does not differ", row.name, listed.path));
        }
    }
}

#[test]
fn what_differs_is_in_the_documentation() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/javascript.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    for listed in DIFFERENCES {
        let row = format!("| `{}` | {} |", listed.path, listed.reason);
        assert!(page.contains(&row), "docs/javascript.md lacks this row:\n{row}");
    }
}
