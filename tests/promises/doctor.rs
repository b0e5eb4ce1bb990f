//! `poolctl doctor`: it says what bites on this machine, and fails when a promise is not kept.

use pool_tests::pool::Ctl;
use pool_tests::{Folder, Pool, Value, json};

const BAD_WORKER: &str = env!("CARGO_BIN_EXE_bad_worker");

fn doctor(pool: &Pool) -> (Ctl, Value) {
    let answer = pool.ctl(&["doctor", "--json"]);
    let shown = answer.json();
    (answer, shown)
}

fn rows(shown: &Value) -> &Vec<Value> {
    shown["rows"].as_array().expect("rows")
}

/// Everything that the workers claim bites, and nothing but layers is missing.
fn all_that_is_claimed_bites(answer: &Ctl, shown: &Value) {
    assert_eq!(answer.code, 0, "{:#}", shown["summary"]);
    assert_eq!(shown["summary"]["passed"], true);
    assert_eq!(shown["summary"]["leaks"], 0);
    for row in rows(shown) {
        let verdict = row["verdict"].as_str().expect("a verdict");
        assert!(row["promised"] == false || verdict == "bites", "{row}");
    }
    for limit in [
        "deadline",
        "recovery",
        "heap",
        "array-buffers",
        "cpu-time",
        "promises",
        "result",
        "log",
        "addresses",
    ] {
        let of_limit: Vec<&Value> =
            rows(shown).iter().filter(|row| row["layer"] == limit).collect();
        assert!(!of_limit.is_empty(), "nothing tries {limit}");
        assert!(of_limit.iter().all(|row| row["verdict"] == "bites"), "{of_limit:?}");
    }
}

#[test]
fn the_doctor_finds_that_all_that_standard_promises_bites() {
    let (answer, shown) = doctor(&Pool::start(json!({"isolation": "standard"})));
    all_that_is_claimed_bites(&answer, &shown);
    assert_eq!(shown["summary"]["level"], "standard");
}

#[test]
fn the_doctor_calls_missing_what_off_leaves_out() {
    let (answer, shown) = doctor(&Pool::start(json!({"isolation": "off"})));
    all_that_is_claimed_bites(&answer, &shown);
    for layer in ["seccomp", "landlock", "capabilities"] {
        let of_layer: Vec<&Value> =
            rows(&shown).iter().filter(|row| row["layer"] == layer).collect();
        assert!(
            !of_layer.is_empty() && of_layer.iter().all(|row| row["verdict"] == "missing"),
            "{of_layer:?}"
        );
    }
}

/// A worker that claims every layer and has none.
#[test]
fn the_doctor_fails_on_a_layer_that_is_claimed_and_not_there() {
    let folder = Folder::new();
    let boaster = folder.copy_program(BAD_WORKER, "claims-layers");
    let pool = Pool::start(json!({"workerPath": boaster}));
    let answer = pool.ctl(&["doctor", "--json"]);
    let shown = answer.json();
    assert_eq!((answer.code, &shown["summary"]["passed"]), (1, &json!(false)), "{shown}");
    for layer in ["seccomp", "landlock", "descriptors"] {
        let of_layer: Vec<&Value> =
            rows(&shown).iter().filter(|row| row["layer"] == layer).collect();
        assert!(
            !of_layer.is_empty() && of_layer.iter().all(|row| row["verdict"] == "leaks"),
            "{of_layer:?}"
        );
    }
    let broken = shown["summary"]["broken"].as_array().expect("a list");
    assert!(
        broken
            .iter()
            .any(|line| line.as_str().is_some_and(|line| line.starts_with("js seccomp (leaks)"))),
        "{broken:?}"
    );
    // The table says the same.
    let table = pool.ctl(&["doctor"]);
    assert_eq!(table.code, 1);
    assert!(table.stdout.starts_with("LANE"), "{}", table.stdout);
    assert!(table.stdout.contains("BROKEN PROMISE: js seccomp (leaks)"), "{}", table.stdout);
}

#[test]
fn the_doctor_finds_that_all_that_strict_promises_bites() {
    // A program may start only what is on the list itself.
    let allow = json!([
        {"program": "/bin/sh", "args": "(?s).*"},
        {"program": "/bin/true"},
        {"program": "/usr/bin/yes"},
        {"program": "/usr/bin/setsid"}, {"program": "/bin/sleep"},
    ]);
    let Some(pool) = Pool::strict(json!({"shell": {"allow": allow}})) else { return };
    let (answer, shown) = doctor(&pool);
    all_that_is_claimed_bites(&answer, &shown);
    let both = [
        "descriptors",
        "resource-limits",
        "no-new-privs",
        "not-dumpable",
        "capabilities",
        "landlock",
        "seccomp",
    ];
    let own = [
        "user-namespace",
        "pid-namespace",
        "mount-namespace",
        "network-namespace",
        "ipc-namespace",
    ];
    for (lane, layers) in [("js", &[&both[..], &own].concat()), ("io", &both.to_vec())] {
        for layer in layers {
            let bites = |row: &&Value| {
                row["lane"] == lane && row["layer"] == *layer && row["verdict"] == "bites"
            };
            assert!(rows(&shown).iter().any(|row| bites(&row)), "{lane} {layer}");
        }
    }
    for limit in ["allow-list", "arguments", "environment", "output", "process-tree", "file-size"] {
        let of_limit = rows(&shown)
            .iter()
            .find(|row| row["layer"] == limit && row["lane"] == "io")
            .expect("it is tried");
        assert_eq!(of_limit["verdict"], "bites", "{of_limit}");
    }
}
