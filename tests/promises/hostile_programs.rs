//! Programs of the list that turn against the pool that runs them, as root and as an ordinary user:
//! rows 69, 71 and 73 of what the pool must survive.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use pool_tests::apart::{hide_processes, with_own_mounts};
use pool_tests::tasks::{code, error, hold, program, result, with};
use pool_tests::{Folder, Pool, Value, json, proc, skip, unharmed, until, until_some};
use rustix::process::Signal;

const INTRUDER: &str = env!("CARGO_BIN_EXE_intruder");

const EPERM: &str = "1";
const ESRCH: &str = "3";
const EACCES: &str = "13";
const ECONNREFUSED: &str = "111";
/// What keeps a program from another process: the filter, or that the number means nobody where it
/// is.
const OUT_OF_REACH: [&str; 2] = [EPERM, ESRCH];

/// Tools that everybody may run, in a folder that everybody may enter.
struct Tools(Folder);

impl Tools {
    fn new() -> Self {
        let folder = Folder::new();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))
            .expect("ours");
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
    json!({
        "pool": {"minWorkers": 1, "maxWorkers": 4},
        "http": {"listen": "127.0.0.1:0"},
        "shell": shell,
    })
}

/// The same promise of a pool of root, where the test is, and of an ordinary user.
fn as_everybody(test: impl Fn(Pool, &Tools, bool), more: &Value) {
    let tools = Tools::new();
    test(Pool::start(config(&tools, more.clone())), &tools, rustix::process::geteuid().is_root());
    match Pool::start_as_ordinary_user(config(&tools, more.clone())) {
        Some(pool) => test(pool, &tools, false),
        None => {
            skip::partly_skipped(skip::ROOT, "this user's pool is the only one that can be started")
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("made of ASCII")
}

/// A socket of the machine that everybody may connect to, and its path.
fn neighbour(folder: &Folder, name: &str) -> (UnixListener, String) {
    let path = folder.join(name);
    let listener = UnixListener::bind(&path).expect("a new name");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("ours");
    (listener, text(&path).to_owned())
}

#[test]
fn hostile_69_a_program_reaches_neither_socket_of_the_pool_nor_others_of_the_machine() {
    let test = |pool: Pool, tools: &Tools, _is_root| {
        let (_listener, other) =
            neighbour(&tools.0, if proc_is_root(&pool) { "a.sock" } else { "b.sock" });
        let (control, http) = (pool.socket(), pool.socket().with_file_name("api.sock"));
        unharmed(&pool, || {
            for words in [
                ["control", text(control)],
                ["control-by-an-orphan", text(control)],
                ["http", text(&http)],
                ["socket", &other],
                ["datagram", text(control)],
            ] {
                assert_eq!(tools.tries(&pool, &words), EPERM, "{words:?}");
            }
            assert_eq!(
                tools.tries(&pool, &["pair"]),
                "done",
                "what two processes of one program talk through"
            );
        });
    };
    as_everybody(test, &json!({}));
}

/// What is left of the HTTP API is the network, which programs have, and the key, which they have
/// not.
#[test]
fn hostile_69_over_the_network_a_program_is_nobody_without_the_key_which_it_cannot_read() {
    let test = |pool: Pool, tools: &Tools, is_root| {
        let address = pool.api().address;
        let key = pool.socket().with_file_name("api.key");
        assert!(key.exists());
        unharmed(&pool, || {
            assert_eq!(tools.tries(&pool, &["tcp", &address]), "401");
            // Where it is covered, by what holds nothing.
            let nothing = if is_root { "empty" } else { EACCES };
            assert_eq!(tools.tries(&pool, &["read", text(&key)]), nothing);
        });
    };
    as_everybody(test, &json!({}));
}

/// Where the configuration lets programs make Unix sockets, the pool's own look at who is there. A
/// second name of the socket is one that nothing covers.
#[test]
fn hostile_69_where_sockets_are_listed_those_of_the_pool_still_refuse_programs() {
    let shared = Folder::new();
    std::fs::set_permissions(shared.path(), std::fs::Permissions::from_mode(0o755)).expect("ours");
    let (_listener, listed) = neighbour(&shared, "listed.sock");
    let test = |pool: Pool, tools: &Tools, is_root| {
        let (control, http) = (pool.socket(), pool.socket().with_file_name("api.sock"));
        let (again, http_again) =
            (pool.socket().with_file_name("2.sock"), pool.socket().with_file_name("3.sock"));
        std::fs::hard_link(control, &again)
            .and_then(|()| std::fs::hard_link(&http, &http_again))
            .expect("same folder");
        unharmed(&pool, || {
            assert_eq!(tools.tries(&pool, &["socket", &listed]), "done");
            let covered = if is_root { ECONNREFUSED } else { "closed" };
            assert_eq!(tools.tries(&pool, &["control", text(control)]), covered);
            assert_eq!(tools.tries(&pool, &["http", text(&http)]), covered);
            for words in [
                ["control", text(&again)],
                ["control-by-an-orphan", text(&again)],
                ["http", text(&http_again)],
            ] {
                assert_eq!(tools.tries(&pool, &words), "closed", "{words:?}");
            }
        });
        until("the refusal is logged", || pool.log().contains("of a program of this pool"));
    };
    as_everybody(test, &json!({"sockets": [listed]}));
}

/// As under the unit for systemd: the supervisor does not see its own workers in `/proc`.
#[test]
fn hostile_69_the_socket_refuses_programs_also_where_proc_hides_the_workers_they_descend_from() {
    with_own_mounts(|| {
        hide_processes();
        let tools = Tools::new();
        let sockets = json!({"sockets": ["/nonexistent.sock"]});
        let Some(pool) = Pool::start_as_ordinary_user(config(&tools, sockets)) else {
            return skip::skipped(skip::ROOT, "another user cannot be played");
        };
        unharmed(&pool, || {
            for words in
                [["control", text(pool.socket())], ["control-by-an-orphan", text(pool.socket())]]
            {
                assert_eq!(tools.tries(&pool, &words), "closed", "{words:?}");
            }
        });
    });
}

fn proc_is_root(pool: &Pool) -> bool {
    proc::status_field(pool.pid(), "Uid").is_some_and(|ids| ids.starts_with("0\t"))
}

/// How the kernel schedules a process: its nice value and policy, and its processors.
fn scheduling(pid: i32) -> (String, Option<String>) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let fields: Vec<&str> =
        stat.rsplit_once(')').expect("a name").1.split_ascii_whitespace().collect();
    // The 19th and the 41st of all.
    (format!("nice {}, policy {}", fields[16], fields[38]), proc::status_field(pid, "Cpus_allowed"))
}

#[test]
fn hostile_71_a_program_neither_renices_pins_nor_signals_the_supervisor_and_other_workers() {
    let test = |pool: Pool, tools: &Tools, _is_root| {
        // An idle one may be replaced while this lasts.
        let held = pool.submit(hold());
        let other = pool
            .pid_of(&pool.busy_worker("js")["workerId"])
            .expect("it runs a task that does not end");
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
        pool.cancel(&held);
    };
    as_everybody(test, &json!({}));
}

#[test]
fn hostile_73_a_program_cannot_kill_its_own_worker() {
    let test = |pool: Pool, tools: &Tools, _is_root| {
        unharmed(&pool, || {
            let first = pool.run(program(&tools.intruder(), &["kill-worker"]));
            assert_eq!(result(first.clone())["stdout"], "1\n", "{first}");
            let is_killed = |row: &Value| row["verdict"]["cause"] == "killed-from-outside";
            assert!(!pool.dead_workers().iter().any(is_killed), "{:?}", pool.dead_workers());
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
    let task = with(
        program("/bin/sleep", &["100"]),
        json!({"maxAttempts": 40, "retry": {"initialDelay": 1}}),
    );
    let mut client = pool.client();
    let request = client.submit(&task);
    let id = client.id(request);
    for attempt in 1..=2 {
        let running = until_some("the attempt runs", || {
            Some(pool.task(&id))
                .filter(|row| row["attempts"] == attempt && row["state"] == "running")
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
