//! A new configuration in a running pool.

use pool_protocol::control::ControlRequest;
use pool_tests::tasks::{code, hold, program, result};
use pool_tests::{Pool, json, until};
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
fn a_bad_configuration_is_refused_naming_the_key_and_the_old_one_stays() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 2}}));
    for (bad, named) in [
        (json!({"pool": {"maxWorkers": 0}}), "pool.maxWorkers"),
        (json!({"pool": {"maxWorkers": 1_000_000_000}}), "pool.maxWorkers"),
        (json!({"pool": {"minWorkers": 5, "maxWorkers": 2}}), "pool.minWorkers"),
        (json!({"pool": {"maxWorkerz": 2}}), "pool.maxWorkers"),
        (json!({"shell": {"allow": [{"program": "relative"}]}}), "shell.allow"),
    ] {
        pool.configure(bad.clone());
        let refused = pool.ctl(&["reload"]);
        assert_ne!(refused.code, 0, "{bad}");
        assert!(refused.stderr.contains(named), "{bad}: {refused:?}");
        assert_eq!(pool.status()["maxWorkers"], 2, "{bad}");
    }
    pool.signal(Signal::HUP);
    until("the refusal is logged", || pool.log().contains("shell.allow"));
    assert_eq!(result(pool.run(code("1"))), 1);
    assert!(pool.events_named("config-reloaded").is_empty());
}

#[test]
fn a_smaller_pool_lets_busy_workers_finish() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 3, "maxWorkers": 3}}));
    pool.until_idle("js", 3);
    let held: Vec<String> = (0..3).map(|_| pool.submit(hold())).collect();
    until("all run", || pool.status()["tasks"]["running"] == 3);
    pool.configure(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    pool.ask(&ControlRequest::Reload);
    assert_eq!(pool.status()["tasks"]["running"], 3, "nothing that runs is ended");
    for id in held {
        pool.cancel(&id);
    }
    until("one is left", || pool.status()["workers"]["total"] == 1);
    assert_eq!(result(pool.run(code("1"))), 1);
}

#[test]
fn settings_of_the_worker_reach_the_next_tasks() {
    let pool = Pool::start(json!({}));
    assert_ne!(pool.run(program("/bin/true", &[]))["status"], "succeeded");
    pool.configure(json!({"shell": {"allow": [{"program": "/bin/true"}]}, "js": {"allowCodeGeneration": true}}));
    pool.ask(&ControlRequest::Reload);
    until("programs may run", || pool.run(program("/bin/true", &[]))["status"] == "succeeded");
    until("eval works", || pool.run(code("try { eval('1') } catch { 0 }"))["result"] == 1);
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
