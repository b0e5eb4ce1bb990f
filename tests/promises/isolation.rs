//! What confines workers, and how honestly that is told.

use std::path::{Path, PathBuf};

use pool_protocol::control::ControlRequest;
use pool_tests::tasks::{code, program, result};
use pool_tests::{Pool, Value, json, proc, skip, until, until_some};
use rustix::process::Signal;

const BAD_WORKER: &str = env!("CARGO_BIN_EXE_bad_worker");

fn names(list: &Value) -> Vec<String> {
    let rows = list.as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect()
}

#[test]
fn strict_refuses_to_start_when_a_promised_layer_is_missing_and_names_it() {
    let mut pool = Pool::launch(json!({"isolation": "strict", "workerPath": BAD_WORKER}), |_| {});
    assert_eq!(pool.wait().code(), Some(1), "{}", pool.log());
    let log = pool.log();
    for word in ["ERROR", "seccomp", "landlock", "isolation = \"standard\""] {
        assert!(log.contains(word), "{word}: {log}");
    }
}

#[test]
fn a_strict_pool_has_every_promised_layer_or_there_is_none() {
    let Some(pool) = Pool::strict(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}})) else {
        return;
    };
    let on = names(&pool.status()["isolation"]["lanes"]["js"]["on"]);
    for layer in [
        "seccomp",
        "landlock",
        "user-namespace",
        "pid-namespace",
        "network-namespace",
        "capabilities",
    ] {
        assert!(on.iter().any(|name| name == layer), "{layer}: {on:?}");
    }
    assert_eq!(result(pool.run(code("6*7"))), 42);
}

#[test]
fn standard_says_what_is_missing_once_in_the_log_in_the_status_and_in_each_receipt() {
    let pool =
        Pool::start(json!({"pool": {"minWorkers": 2, "maxWorkers": 2}, "cgroup": {"mode": "off"}}));
    pool.until_idle("js", 2);
    let status = pool.status();
    assert_eq!(status["isolation"]["level"], "standard");
    let missing = &status["isolation"]["lanes"]["js"]["missing"];
    assert_eq!(missing["cgroup"], "cgroup.mode is \"off\"");
    assert_eq!(
        pool.log().matches("workers lack layers of confinement").count(),
        1,
        "{}",
        pool.log()
    );
    let outcome = pool.run(code("1"));
    let lacking: Vec<String> = missing.as_object().expect("a table").keys().cloned().collect();
    let mut told = names(&outcome["receipt"]["missingLayers"]);
    told.sort();
    assert_eq!(told, lacking, "{outcome}");
    let text = pool.ctl(&["status"]).stdout;
    assert!(
        text.contains("isolation") && text.contains("cgroup (cgroup.mode is \"off\")"),
        "{text}"
    );
}

#[test]
fn off_is_said_in_the_log_and_claims_nothing() {
    let pool = Pool::start(json!({"isolation": "off", "pool": {"minWorkers": 1, "maxWorkers": 1}}));
    pool.until_idle("js", 1);
    assert!(pool.log().contains("isolation is \"off\""), "{}", pool.log());
    let status = pool.status();
    let on = names(&status["isolation"]["lanes"]["js"]["on"]);
    for layer in [
        "seccomp",
        "landlock",
        "capabilities",
        "user-namespace",
        "network-namespace",
        "cgroup-memory",
    ] {
        assert!(on.iter().all(|name| name != layer), "{layer}: {on:?}");
    }
}

#[test]
fn a_worker_that_lacks_a_promise_later_is_a_failed_start_and_the_pool_lives() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}, "isolation": "off"}));
    pool.until_idle("js", 1);
    // Now a worker that puts on nothing, under a level that promises much.
    pool.configure(json!({
        "pool": {"minWorkers": 1, "maxWorkers": 1},
        "isolation": "strict",
        "workerPath": BAD_WORKER,
    }));
    pool.ask(&ControlRequest::Reload);
    let dead = until_some("its replacement is refused", || {
        pool.dead_workers().into_iter().find(|row| row["verdict"]["cause"] == "spawn-failed")
    });
    let evidence = dead["verdict"]["evidence"].as_str().expect("evidence");
    assert!(evidence.contains("lacks promised layers") && evidence.contains("seccomp"), "{dead}");
    assert_eq!(
        result(pool.run(code("1"))),
        1,
        "the old worker goes on until there is a better one"
    );
}

#[test]
fn a_level_that_the_machine_cannot_keep_is_refused_at_a_reload() {
    let pool =
        Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}, "workerPath": BAD_WORKER}));
    pool.until_idle("js", 1);
    pool.configure(json!({
        "pool": {"minWorkers": 1, "maxWorkers": 1},
        "workerPath": BAD_WORKER,
        "isolation": "strict",
    }));
    let refused = pool.ctl(&["reload"]);
    assert!(refused.code != 0 && refused.stderr.contains("seccomp"), "{refused:?}");
    pool.configure(json!({
        "pool": {"minWorkers": 1, "maxWorkers": 1},
        "workerPath": BAD_WORKER,
        "cgroup": {"mode": "off"},
    }));
    let refused = pool.ctl(&["reload"]);
    assert!(refused.code != 0 && refused.stderr.contains("cgroup cannot change"), "{refused:?}");
}

#[test]
fn a_folder_that_is_no_control_group_is_refused_naming_the_key() {
    let folder = pool_tests::Folder::new();
    let mut pool = Pool::launch(json!({"cgroup": {"path": folder.path()}}), |_| {});
    assert_eq!(pool.wait().code(), Some(1));
    assert!(pool.log().contains("cgroup.path") && pool.log().contains("cgroup2"), "{}", pool.log());
}

/// A control group that is a pool's to use; removed with its children.
struct Tree(PathBuf);

impl Tree {
    /// Nothing where the machine has none to give, which is said.
    fn new(name: &str) -> Option<Self> {
        let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let Some(root) =
            roots.iter().find(|root| Path::new(root).join("cgroup.subtree_control").exists())
        else {
            skip::skipped(skip::CGROUP_V2, "none is mounted below /sys/fs/cgroup");
            return None;
        };
        let path = Path::new(root).join(format!("pool-{name}-{}", std::process::id()));
        match std::fs::create_dir(&path) {
            Ok(()) => Some(Self(path)),
            Err(error) => {
                skip::skipped(skip::CGROUP_V2, &format!("{}: {error}", path.display()));
                None
            }
        }
    }

    fn of(&self, pid: i32) -> String {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_owned()
    }

    fn groups(&self) -> Vec<String> {
        let entries =
            std::fs::read_dir(&self.0).expect("ours").flatten().filter(|e| e.path().is_dir());
        let mut names: Vec<String> =
            entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        until("the tree can be removed", || {
            self.groups().iter().all(|name| {
                let group = self.0.join(name);
                let _ = std::fs::write(group.join("cgroup.kill"), "1");
                std::fs::remove_dir(group).is_ok()
            }) && std::fs::remove_dir(&self.0).is_ok()
        });
    }
}

#[test]
fn each_worker_has_a_group_of_its_own_which_goes_with_it() {
    let Some(tree) = Tree::new("own") else { return };
    let pool = Pool::start(
        json!({"pool": {"minWorkers": 2, "maxWorkers": 2}, "cgroup": {"path": tree.0}}),
    );
    pool.until_idle("js", 2);
    assert_eq!(tree.groups(), ["supervisor", "w0.1", "w1.1"]);
    assert!(tree.of(pool.pid()).ends_with("/supervisor"));
    let worker = pool.pid_of(&json!("w0.1")).expect("it lives");
    assert!(tree.of(worker).ends_with("/w0.1"), "{}", tree.of(worker));
    let lane = &pool.status()["isolation"]["lanes"]["js"];
    assert!(names(&lane["on"]).contains(&"cgroup".to_owned()), "{lane}");
    assert!(lane["missing"]["cgroup-cpu"].is_string(), "{lane}");
    proc::kill(worker);
    until("its group goes and its successor's comes", || {
        tree.groups() == ["supervisor", "w0.2", "w1.1"]
    });
    drop(pool);
}

#[test]
fn the_groups_of_a_killed_supervisor_are_removed_by_the_next_one() {
    let Some(tree) = Tree::new("sweep") else { return };
    let config = json!({"pool": {"minWorkers": 1, "maxWorkers": 1}, "cgroup": {"path": tree.0}});
    let first = Pool::start(config.clone());
    first.until_idle("js", 1);
    let second = Pool::launch(config.clone(), |_| {});
    until("two do not share a tree", || second.log().contains("another supervisor uses it"));
    first.signal(Signal::KILL);
    drop(first);
    assert_eq!(tree.groups(), ["supervisor", "w0.1"], "nobody was there to remove it");
    let third = Pool::start(config);
    third.until_idle("js", 1);
    assert!(third.log().contains("removing the group"), "{}", third.log());
    assert_eq!(result(third.run(code("1"))), 1);
    drop(third);
}

#[test]
fn killing_a_worker_kills_what_it_has_started_even_in_sessions_of_their_own() {
    let Some(tree) = Tree::new("kill") else { return };
    let allow = json!([{"program": "/usr/bin/setsid", "args": ".*"}]);
    let pool = Pool::start(json!({
        "pool": {"minWorkers": 1, "maxWorkers": 2},
        "cgroup": {"path": tree.0},
        "isolation": "off",
        "shell": {"allow": allow},
    }));
    let _running = pool.submit(program("/usr/bin/setsid", &["--wait", "sleep", "1000"]));
    let io = pool.busy_worker("io");
    let group = tree.0.join(io["workerId"].as_str().expect("a name"));
    let members = || std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let pids: Vec<i32> = until_some("the program and its child are in the group", || {
        let pids: Vec<i32> = members().lines().filter_map(|line| line.parse().ok()).collect();
        (pids.len() >= 3).then_some(pids)
    });
    proc::kill(i32::try_from(io["pid"].as_i64().expect("a pid")).expect("a pid"));
    until("all are dead", || pids.iter().all(|pid| !proc::alive(*pid)));
    until("the group is removed", || !group.exists());
    drop(pool);
}

#[test]
fn required_groups_that_cannot_limit_are_refused_at_the_start() {
    let Some(tree) = Tree::new("required") else { return };
    let offered = std::fs::read_to_string(tree.0.join("cgroup.controllers")).unwrap_or_default();
    let config = json!({
        "cgroup": {"path": tree.0, "mode": "required"},
        "pool": {"minWorkers": 1, "maxWorkers": 1},
    });
    if offered.contains("memory") && offered.contains("pids") {
        let pool = Pool::start(config);
        pool.until_idle("js", 1);
        let max = std::fs::read_to_string(tree.0.join("w0.1/memory.max")).expect("a limit");
        assert!(max.trim().parse::<u64>().is_ok(), "{max}");
        drop(pool);
        return;
    }
    skip::partly_skipped(skip::CGROUP_V2_MEMORY, "the pool refused to start, as it should");
    let mut pool = Pool::launch(config, |_| {});
    assert_eq!(pool.wait().code(), Some(1));
    assert!(
        pool.log().contains("cgroup-memory") && pool.log().contains("no memory controller"),
        "{}",
        pool.log()
    );
    drop(pool);
}
