//! Each of `load`'s modes really measures: once each, with as little as it can, and nothing is said
//! about time.

use std::process::{Command, Stdio};

use serde_json::Value;

const WORKLOADS: [&str; 10] = [
    "warm",
    "fresh",
    "frozen",
    "code-warm",
    "frozen-new",
    "warm-new",
    "count",
    "echo",
    "burn",
    "shell",
];

/// The last line of what `load` prints, which must be an object.
fn load(words: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(words.split(' '))
        .arg("--json")
        .stdin(Stdio::null())
        .output()
        .expect("load can be started");
    let (printed, said) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "load {words}: {}\n{printed}{said}", output.status);
    let last = printed.lines().last().unwrap_or_default();
    serde_json::from_str(last)
        .unwrap_or_else(|error| panic!("load {words}: {error}: {printed}{said}"))
}

fn positive(figures: &Value, names: &[&str]) {
    for name in names {
        assert!(figures[name].as_f64().is_some_and(|figure| figure > 0.0), "{name} of {figures}");
    }
}

#[test]
fn every_workload_gives_its_right_results() {
    for workload in WORKLOADS {
        let printed = load(&format!(
            "tasks --workload {workload} --tasks 20 --window 4 --rounds 2 --workers 2"
        ));
        positive(&printed["median"], &["tasks", "rate", "seconds", "bytesPerSecond"]);
        positive(&printed["median"]["latencyUs"], &["p50", "p99", "max"]);
        assert_eq!(printed["rounds"].as_array().map(Vec::len), Some(2), "{printed}");
        assert_eq!(printed["what"]["workload"], workload);
    }
}

#[test]
fn tasks_go_over_many_connections_at_a_fixed_rate_and_to_workers_of_one_task() {
    let printed = load("tasks --tasks 50 --clients 40 --window 8 --rounds 1 --workers 1");
    assert_eq!((&printed["what"]["clients"], &printed["what"]["window"]), (&40.into(), &40.into()));
    let printed =
        load("tasks --tasks 50 --open 5000 --rounds 1 --workers 1 --recycle 10 --isolation off");
    assert_eq!((&printed["what"]["open"], &printed["what"]["recycle"]), (&5000.into(), &10.into()));
    let printed = load("tasks --tasks 5 --window 2 --rounds 1 --workers 1 --tenancy task");
    assert_eq!(printed["median"]["tasks"], 5);
}

#[test]
fn the_floor_carries_small_frames_and_large_ones() {
    for words in [
        "floor --tasks 200 --rounds 1",
        "floor --tasks 200 --rounds 1 --credit 3 --one-by-one",
        "floor --tasks 5 --rounds 1 --size 1048576",
    ] {
        let printed = load(words);
        positive(&printed["median"], &["tasks", "rate", "bytesPerSecond"]);
        positive(&printed["median"]["latencyUs"], &["p50"]);
    }
}

#[test]
fn starts_are_seen_of_workers_and_of_supervisors() {
    positive(&load("starts --rounds 2"), &["medianMs", "minMs", "maxMs"]);
    positive(
        &load("cold --rounds 2"),
        &["firstMs", "medianMs", "minMs", "maxMs", "welcomeMedianMs"],
    );
}

#[test]
fn a_queue_is_filled_and_drained() {
    let printed = load("queued --tasks 2000 --workers 1");
    positive(
        &printed,
        &["emptyRate", "fillRate", "fullRate", "fewDrainRate", "manyDrainRate", "drainRate"],
    );
}

#[test]
fn a_careless_client_is_measured_in_every_case() {
    let few = "careless --tasks 500 --limits 20 --lists 10 --subscriptions 300 --deaths 1 \
        --results 3 --workers 2";
    let printed = load(few);
    let costs = printed["costs"].as_array().expect("a list");
    assert_eq!(costs.len(), 6, "{printed}");
    for cost in costs {
        positive(cost, &["answers", "longestMs", "seconds", "peakMib"]);
    }
}

#[test]
fn an_idle_pool_has_its_workers_still() {
    let printed = load("idle --seconds 1 --workers 2");
    assert_eq!(printed["workersPercent"].as_array().map(Vec::len), Some(2), "{printed}");
}

#[test]
fn the_older_measurements_print_an_object_too() {
    positive(&load("submit --tasks 20 --rounds 1 --workers 1")["median"], &["rate"]);
    positive(
        &load("isolation --level standard --tasks 20 --rounds 1 --starts 1 --workers 1"),
        &["rateRatio"],
    );
}
