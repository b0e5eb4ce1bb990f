//! The three programs, their options, and the control socket.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use pool_tests::binaries::binaries;
use pool_tests::pool::{Ctl, supervisor_command};
use pool_tests::tasks::{code, result};
use pool_tests::{Client, Folder, Pool, Value, json, proc, until};

fn check_config(folder: &Folder, file: &Path) -> Ctl {
    supervisor_command(folder)
        .arg("--check-config")
        .arg("--config")
        .arg(file)
        .output()
        .expect("it starts")
        .into()
}

#[test]
fn a_reader_that_has_seen_enough_is_no_bug_of_the_program() {
    let folder = Folder::new();
    let bad = folder.write("bad.json", r#"{"pool":{"maxWorker":7}}"#);
    let gone = || std::io::pipe().expect("a pipe").1;
    let checked = supervisor_command(&folder)
        .arg("--check-config")
        .stdout(gone())
        .output()
        .expect("it starts");
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    assert_eq!(String::from_utf8_lossy(&checked.stderr), "");
    let mut refused = supervisor_command(&folder);
    let refused = refused
        .arg("--check-config")
        .arg("--config")
        .arg(bad)
        .stderr(gone())
        .output()
        .expect("it starts");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let version = Command::new(&binaries().worker)
        .arg("--version")
        .stdout(gone())
        .output()
        .expect("it starts");
    assert_eq!(version.status.code(), Some(1), "{version:?}");
    assert_eq!(String::from_utf8_lossy(&version.stderr), "");
}

#[test]
fn check_config_prints_the_effective_whole_and_starts_nothing() {
    let folder = Folder::new();
    let file = folder.write("c.json", r#"{"pool":{"maxWorkers":7},"limits":{"timeout":"30s"}}"#);
    let checked = check_config(&folder, &file);
    assert_eq!(checked.code, 0, "{checked:?}");
    let whole = checked.json();
    assert_eq!(whole["pool"]["maxWorkers"], 7);
    assert_eq!(whole["limits"]["timeout"], 30_000);
    assert_eq!(whole["pool"]["maxTasksPerWorker"], 100, "defaults are shown too");
    assert_eq!(whole["http"]["listen"], "127.0.0.1:45678");
    let again = folder.write("again.json", &checked.stdout);
    assert_eq!(
        check_config(&folder, &again).json(),
        whole,
        "what is printed is a configuration itself"
    );
}

#[test]
fn a_configuration_is_json_or_toml_by_its_extension() {
    let folder = Folder::new();
    let json = folder.write(
        "c.json",
        r#"{"pool":{"minWorkers":2,"maxWorkers":3},"projects":{"a.b":{"limit":5}}}"#,
    );
    let toml = folder
        .write("c.toml", "[pool]\nminWorkers = 2\nmaxWorkers = 3\n[projects.\"a.b\"]\nlimit = 5\n");
    let (json, toml) = (check_config(&folder, &json), check_config(&folder, &toml));
    assert_eq!((json.code, toml.code), (0, 0), "{json:?} {toml:?}");
    assert_eq!(json.json(), toml.json());
    let other = check_config(&folder, &folder.write("c.yaml", "pool: {}"));
    assert_ne!(other.code, 0);
    assert!(other.stderr.contains(".json or .toml"), "{other:?}");
}

#[test]
fn a_configuration_of_the_original_is_accepted_as_it_stands() {
    let folder = Folder::new();
    let text = r#"{"daemon":{"worker":{"minProcesses":1,"maxProcesses":4,"autoScale":true,"scaleUpThreshold":0.8,
        "scaleDownThreshold":0.2,"maxTasksPerWorker":100,"workerIdleTimeout":60000}}}"#;
    let whole = check_config(&folder, &folder.write("c.json", text)).json();
    assert_eq!(whole["pool"]["maxWorkers"], 4);
    assert_eq!(whole["pool"]["workerIdleTimeout"], 60_000);
    let same = r#"{"daemon":{"worker":{"minWorkers":1,"maxWorkers":4}}}"#;
    assert_eq!(
        check_config(&folder, &folder.write("same.json", same)).json()["pool"]["maxWorkers"],
        4
    );
}

#[test]
fn without_a_configuration_there_are_one_worker_to_as_many_as_cpus() {
    let folder = Folder::new();
    let checked: Ctl =
        supervisor_command(&folder).arg("--check-config").output().expect("it starts").into();
    let cpus = std::thread::available_parallelism().expect("Linux knows").get();
    assert_eq!(checked.json()["pool"]["minWorkers"], 1);
    assert_eq!(checked.json()["pool"]["maxWorkers"], cpus);
}

#[test]
fn options_go_before_the_configuration() {
    let pool = Pool::start_with(json!({"http": {"listen": "127.0.0.1:0"}}), |c| {
        c.args(["--http", "off"]);
    });
    assert_eq!(pool.status()["http"], Value::Null, "--http off");
    let pool = Pool::start_with(json!({"http": {"listen": "off"}}), |c| {
        c.args(["--http", "127.0.0.1:0"]);
    });
    assert_eq!(pool.api().with("GET", "/healthz", &[], None).status, 200);
}

#[test]
fn the_supervisor_logs_to_stderr_and_stays_in_the_foreground() {
    let pool = Pool::start(json!({}));
    assert!(
        proc::stat(pool.pid())
            .is_some_and(|s| s.parent == i32::try_from(std::process::id()).expect("an id"))
    );
    until("something is logged", || !pool.log().trim().is_empty());
}

#[test]
fn a_worker_started_by_hand_says_what_it_is_in_one_line_and_exits_2() {
    for arguments in [&[][..], &["--lane", "js"], &["--help"]] {
        let output = Command::new(&binaries().worker).args(arguments).output().expect("it starts");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{arguments:?}: {said}");
        assert!(said.contains("pool-worker") && said.contains("pool-supervisor"), "{said}");
    }
}

#[test]
fn the_worker_is_found_beside_the_supervisor_else_by_the_configuration() {
    let folder = Folder::new();
    let alone = folder.copy_program(&binaries().supervisor, "pool-supervisor");
    let worker = binaries().worker.to_str().expect("UTF-8").to_owned();
    let elsewhere = Pool::start_with(json!({"workerPath": worker}), |c| {
        let arguments: Vec<_> = c.get_args().map(ToOwned::to_owned).collect();
        let environment: Vec<_> =
            c.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect();
        *c = Command::new(&alone);
        c.args(arguments).env_clear().envs(environment);
    });
    assert_eq!(result(elsewhere.run(code("6 * 7"))), 42);
    let beside = Pool::start(json!({}));
    assert_eq!(result(beside.run(code("6 * 7"))), 42);
}

#[test]
fn every_command_that_prints_a_table_prints_json_when_asked() {
    let pool = Pool::start(json!({"projects": {"p": {"limit": 3}}}));
    assert_eq!(result(pool.run(json!({"type": "execute-code", "code": "1", "projectId": "p"}))), 1);
    for command in ["status", "workers", "projects"] {
        let (plain, asked) = (pool.ctl(&[command]), pool.ctl(&[command, "--json"]));
        assert_eq!((plain.code, asked.code), (0, 0), "{plain:?} {asked:?}");
        assert!(serde_json::from_str::<Value>(&plain.stdout).is_err(), "{command}: {plain:?}");
        assert!(!asked.json().is_null(), "{command}");
    }
    let events = pool.ctl(&["events", "--json"]);
    assert!(events.json_lines().iter().any(|e| e["event"] == "task-complete"), "{events:?}");
    assert_eq!(pool.ctl(&["projects", "--json"]).json()["p"]["limit"], 3);
}

#[test]
fn the_socket_is_the_options_else_pool_socket_else_in_the_runtime_folder() {
    let folder = Folder::new();
    let places: [(&[(&str, &str)], &str); 3] = [
        (&[("POOL_SOCKET", "a/x.sock"), ("RUNTIME_DIRECTORY", "b")], "a/x.sock"),
        (&[("RUNTIME_DIRECTORY", "b"), ("XDG_RUNTIME_DIR", "c")], "b/pool.sock"),
        (&[("XDG_RUNTIME_DIR", "c")], "c/process-pool/pool.sock"),
    ];
    for (variables, expected) in places {
        let variables: Vec<_> = variables.iter().map(|(n, v)| (*n, folder.join(v))).collect();
        std::fs::create_dir_all(folder.join("b")).expect("a folder");
        std::fs::create_dir_all(folder.join("c")).expect("a folder");
        let mut child = supervisor_command(&folder)
            .args(["--http", "off"])
            .envs(variables.clone())
            .spawn()
            .expect("it starts");
        until("the socket is there", || Client::open(&folder.join(expected)).is_ok());
        let mut poolctl = Command::new(&binaries().poolctl);
        let found = poolctl.arg("status").env_clear().envs(variables).status().expect("it starts");
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        assert!(found.success(), "poolctl looks in the same place: {expected}");
    }
}

#[test]
fn the_sockets_folder_is_0700_and_the_socket_0600() {
    let pool = Pool::start(json!({}));
    let mode = |path: &Path| path.metadata().expect("it exists").permissions().mode() & 0o7777;
    assert_eq!(mode(pool.socket()), 0o600);
    assert_eq!(mode(pool.socket().parent().expect("a folder")), 0o700);
}
