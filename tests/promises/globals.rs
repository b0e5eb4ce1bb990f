//! What JavaScript finds on its global object is what `docs/javascript.md` says, in every realm.

use std::collections::BTreeSet;
use std::path::Path;

use pool_tests::tasks::{code, module, result, with};
use pool_tests::{Folder, Pool, Value, json};

const REALMS: [&str; 3] = ["fresh", "warm", "frozen"];
const NAMES: &str = "Object.getOwnPropertyNames(globalThis)";

/// The names in backquotes between two marks of the page.
fn names(part: &str) -> BTreeSet<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a repository")
        .join("docs/javascript.md");
    let page = std::fs::read_to_string(page).expect("it is part of the repository");
    let (_, rest) = page.split_once(&format!("<!-- {part}: begin -->")).expect("the part begins");
    let (table, _) = rest.split_once(&format!("<!-- {part}: end -->")).expect("the part ends");
    let cells = table.lines().filter_map(|line| line.split('|').nth(2));
    let names: Vec<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let set: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(set.len(), names.len(), "a name of the part {part:?} is there twice");
    set
}

fn found(names: &Value) -> BTreeSet<String> {
    let names = names.as_array().expect("a list");
    // Whether it is there depends on how the V8 archive was made, which the page says.
    names
        .iter()
        .filter_map(Value::as_str)
        .filter(|name| *name != "Temporal")
        .map(str::to_owned)
        .collect()
}

/// The global object's names in a realm, as code sees them.
fn globals(pool: &Pool, realm: &str) -> BTreeSet<String> {
    found(&result(pool.run(with(code(NAMES), json!({"realm": realm})))))
}

/// The page's names, with some that depend on the configuration.
fn expected(more: &[&str]) -> BTreeSet<String> {
    let mut names = names("present");
    names.extend(more.iter().map(|name| (*name).to_owned()));
    names
}

#[test]
fn the_page_lists_everything_that_is_there() {
    let pool = Pool::start(json!({}));
    for realm in REALMS {
        assert_eq!(globals(&pool, realm), expected(&["FinalizationRegistry"]), "{realm}");
    }
    let pool = Pool::start(json!({"js": {"allowWasm": true, "allowCodeGeneration": true}}));
    for realm in ["fresh", "warm"] {
        assert_eq!(
            globals(&pool, realm),
            expected(&["WebAssembly"]),
            "{realm} with WebAssembly allowed"
        );
    }
    assert_eq!(globals(&pool, "frozen"), expected(&[]), "frozen with WebAssembly allowed");
}

#[test]
fn what_the_page_calls_absent_is_absent() {
    let absent = names("absent");
    for name in [
        "URL",
        "TextEncoder",
        "crypto",
        "Buffer",
        "global",
        "fetch",
        "AbortController",
        "performance",
    ] {
        assert!(absent.contains(name), "the page does not say that {name} is absent");
    }
    // By name, which finds more than the global object's own properties.
    let tests: Vec<String> = absent
        .iter()
        .map(|name| format!("[\"{name}\", typeof {name}, \"{name}\" in globalThis]"))
        .collect();
    let list =
        format!("[{}].filter(([, type, there]) => type !== 'undefined' || there)", tests.join(","));
    let folder = Folder::new();
    folder.write(
        "all.mjs",
        format!(
            "export const there = () => {NAMES}; const it = () => process; \
        export {{ it as process }}; export default () => {list};"
        ),
    );
    for js in [json!({}), json!({"allowWasm": true, "allowCodeGeneration": true})] {
        let mut config = json!({"js": js});
        config["js"]["moduleRoots"] = json!([folder.path()]);
        let pool = Pool::start(config);
        for realm in REALMS {
            assert_eq!(
                result(pool.run(with(code(&list), json!({"realm": realm})))),
                json!([]),
                "{realm}"
            );
        }
        for realm in ["fresh", "warm"] {
            let mut names = globals(&pool, realm);
            assert!(!names.contains("process"), "{realm}");
            names.insert("process".to_owned());
            let asked = |more: Value| {
                result(pool.run(with(with(module("all.mjs"), json!({"realm": realm})), more)))
            };
            assert_eq!(asked(json!({})), json!([]), "a module in the realm {realm}");
            assert_eq!(found(&asked(json!({"method": "there"}))), names, "a module in {realm}");
            let process = asked(json!({"method": "process"}));
            assert_eq!(
                process,
                json!({"env": {"NODE_ENV": "production"}, "browser": true}),
                "{realm}"
            );
        }
    }
}

#[test]
fn console_has_the_methods_that_the_page_names() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a repository")
        .join("docs/javascript.md");
    let page = std::fs::read_to_string(page).expect("it is part of the repository");
    let sentence = page
        .split("`console` has ")
        .nth(1)
        .and_then(|rest| rest.split(".\n").next())
        .expect("the sentence");
    let named: BTreeSet<&str> = sentence.split('`').skip(1).step_by(2).collect();
    let pool = Pool::start(json!({}));
    for realm in REALMS {
        let methods = result(
            pool.run(with(code("Object.getOwnPropertyNames(console)"), json!({"realm": realm}))),
        );
        let methods: BTreeSet<&str> =
            methods.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        assert_eq!(methods, named, "{realm}");
    }
}
