//! A new configuration in a running pool.

use pool_protocol::control::ControlRequest;
use pool_tests::tasks::{code, module, program, result};
use pool_tests::{Folder, Pool, json, until};
use rustix::process::Signal;

#[test]
fn sighup_and_poolctl_reload_apply_a_new_configuration() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    pool.configure(json!({"pool": {"minWorkers": 2, "maxWorkers": 3}}));
    pool.signal(Signal::HUP);
    until("it is in force", || pool.status()["maxWorkers"] == 3);
    pool.until_idle("js", 2);
    assert_eq!(pool.events_named("config-reloaded").len(), 1);
    pool.configure(json!({"pool": {"minWorkers": 1, "maxWorkers": 5}}));
    assert_eq!(pool.ctl(&["reload"]).code, 0);
    assert_eq!(pool.status()["maxWorkers"], 5);
}

#[test]
fn settings_of_the_worker_reach_the_next_tasks() {
    let pool = Pool::start(json!({}));
    assert_ne!(pool.run(program("/bin/true", &[]))["status"], "succeeded");
    pool.configure(json!({
        "shell": {"allow": [{"program": "/bin/true"}]},
        "js": {"allowCodeGeneration": true},
    }));
    pool.ask(&ControlRequest::Reload);
    until("programs may run", || pool.run(program("/bin/true", &[]))["status"] == "succeeded");
    until("eval works", || pool.run(code("try { eval('1') } catch { 0 }"))["result"] == 1);
}

#[test]
fn changed_modules_are_loaded_by_new_workers() {
    let folder = Folder::new();
    folder.write("m.mjs", "export default () => 'old'");
    let pool = Pool::start(
        json!({"js": {"moduleRoots": [folder.path()]}, "pool": {"minWorkers": 1, "maxWorkers": 1}}),
    );
    let call = || result(pool.run(module("m.mjs")));
    assert_eq!(call(), "old");
    folder.write("m.mjs", "export default () => 'new'");
    assert_eq!(pool.ctl(&["reload"]).code, 0);
    assert_eq!(call(), "old", "a reload that changes nothing leaves the workers as they are");
    let reloaded = pool.ctl(&["reload", "--modules"]);
    assert!(reloaded.code == 0 && reloaded.stdout.contains("new workers"), "{reloaded:?}");
    until("the new code runs", || call() == "new");
}

#[test]
fn a_storm_of_reloads_is_survived() {
    let pool = Pool::start(json!({}));
    for _ in 0..50 {
        pool.signal(Signal::HUP);
    }
    assert_eq!(result(pool.run(code("1"))), 1);
    until("at least one was applied", || !pool.events_named("config-reloaded").is_empty());
}
