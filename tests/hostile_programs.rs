//! Programs of the list that turn against the pool that runs them, as root and as an ordinary user:
//! rows 71 and 73 of what the pool must survive.

use std::os::unix::fs::PermissionsExt;

use pool_tests::tasks::{code, error, program, result, with};
use pool_tests::{Folder, Pool, Value, json, proc, skip, unharmed, until, until_some};
use rustix::process::Signal;

const INTRUDER: &str = env!("CARGO_BIN_EXE_intruder");

const EPERM: &str = "1";
const ESRCH: &str = "3";
/// What keeps a program from another process: the filter, or that the number means nobody where it is.
const OUT_OF_REACH: [&str; 2] = [EPERM, ESRCH];

/// Tools that everybody may run, in a folder that everybody may enter.
struct Tools(Folder);

impl Tools {
    fn new() -> Self {
        let folder = Folder::new();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("ours");
        folder.copy_program(INTRUDER, "intruder");
        Self(folder)
    }

    fn intruder(&self) -> String {
        self.0.join("intruder").to_str().expect("made of ASCII").to_owned()
    }

    /// What came of it.
    fn tries(&self, pool: &Pool, words: &[&str]) -> String {
        let outcome = pool.run(program(&self.intruder(), words));
        let ended = result(outcome);
        ended["stdout"].as_str().expect("text").trim().to_owned()
    }
}

/// A pool that may run the intruder, with the HTTP API on both of its sockets.
fn config(tools: &Tools, more: Value) -> Value {
    let allow = json!([{"program": tools.intruder(), "args": "(?s).*"}]);
    let shell = with(json!({"allow": allow, "readable": [], "writable": []}), more);
    json!({"pool": {"minWorkers": 1, "maxWorkers": 3}, "http": {"listen": "127.0.0.1:0"}, "shell": shell})
}

/// The same promise of a pool of root, where the test is, and of an ordinary user.
fn as_everybody(test: impl Fn(Pool, &Tools, bool), more: &Value) {
    let tools = Tools::new();
    test(Pool::start(config(&tools, more.clone())), &tools, rustix::process::geteuid().is_root());
    match Pool::start_as_ordinary_user(config(&tools, more.clone())) {
        Some(pool) => test(pool, &tools, false),
        None => skip::partly_skipped(skip::ROOT, "this user's pool is the only one that can be started"),
    }
}

/// How the kernel schedules a process: its nice value and policy, and its processors.
fn scheduling(pid: i32) -> (String, Option<String>) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_ascii_whitespace().collect();
    // The 19th and the 41st of all.
    (format!("nice {}, policy {}", fields[16], fields[38]), proc::status_field(pid, "Cpus_allowed"))
}

#[test]
fn hostile_71_a_program_neither_renices_pins_nor_signals_the_supervisor_and_other_workers() {
    let test = |pool: Pool, tools: &Tools, _is_root| {
        pool.until_idle("js", 1);
        let other = pool.workers_that_are("js", "idle").remove(0);
        let other = pool.pid_of(&other["workerId"]).expect("it is idle");
        let before = [pool.pid(), other].map(scheduling);
        unharmed(&pool, || {
            for pid in [pool.pid(), other].map(|pid| pid.to_string()) {
                for words in [
                    &["renice", &pid][..],
                    &["idle", &pid],
                    &["pin", &pid],
                    &["io-class", &pid],
                    &["signal", &pid, "0"],
                    &["signal", &pid, "15"],
                    &["signal", &pid, "19"],
                    &["queue-signal", &pid],
                ] {
                    let said = tools.tries(&pool, words);
                    assert!(OUT_OF_REACH.contains(&said.as_str()), "{words:?}: {said}");
                }
            }
            assert_eq!(tools.tries(&pool, &["renice-all"]), EPERM);
            for own in [&["renice", "0"][..], &["idle", "0"], &["pin", "0"], &["io-class", "0"]] {
                assert_eq!(tools.tries(&pool, own), "done", "of itself: {own:?}");
            }
        });
        assert_eq!([pool.pid(), other].map(scheduling), before);
    };
    as_everybody(test, &json!({}));
}

#[test]
fn hostile_73_a_program_cannot_kill_its_own_worker() {
    let test = |pool: Pool, tools: &Tools, _is_root| {
        unharmed(&pool, || {
            let first = pool.run(program(&tools.intruder(), &["kill-worker"]));
            assert_eq!(result(first.clone())["stdout"], "1\n", "{first}");
            let second = pool.run(program(&tools.intruder(), &["pair"]));
            assert_eq!(first["workerId"], second["workerId"], "it serves on");
        });
    };
    as_everybody(test, &json!({}));
}

/// Whoever sent the signal: nobody can tell a program's from somebody else's.
#[test]
fn hostile_73_a_task_under_whose_program_workers_are_killed_is_tried_once_more_and_set_aside() {
    let pool = Pool::start(json!({
        "pool": {"minWorkers": 1, "maxWorkers": 3},
        "shell": {"allow": [{"program": "/bin/sleep", "args": "[0-9]+"}]},
    }));
    let task = with(program("/bin/sleep", &["100"]), json!({"maxAttempts": 40, "retry": {"initialDelay": 1}}));
    let mut client = pool.client();
    let request = client.submit(&task);
    let id = client.id(request);
    for attempt in 1..=2 {
        let running = until_some("the attempt runs", || {
            Some(pool.task(&id)).filter(|row| row["attempts"] == attempt && row["state"] == "running")
        });
        let pid = pool.pid_of(&running["workerId"]).expect("it runs a task that does not end");
        assert!(proc::signal(pid, Signal::KILL));
        until("it is gone", || !proc::alive(pid));
    }
    let outcome = client.outcome(request);
    assert_eq!((error(&outcome), &outcome["attempts"]), ("WORKER_CRASHED", &json!(2)), "{outcome}");
    assert_eq!(outcome["error"]["verdict"]["cause"], "killed-from-outside", "{outcome}");
    assert_eq!(pool.status()["setAside"], 1);
    let again = pool.run(task);
    assert_eq!((error(&again), &again["attempts"]), ("WORKER_CRASHED", &json!(0)), "{again}");
    assert_eq!(result(pool.run(code("1"))), 1);
}
