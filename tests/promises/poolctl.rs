//! The command line against a real pool; every detail of its grammar is tested with the program
//! itself.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use pool_tests::binaries::binaries;
use pool_tests::pool::Ctl;
use pool_tests::server::{Reply, Server};
use pool_tests::tasks::{code, hold, sleep, with};
use pool_tests::{Folder, Pool, Value, json, proc, until};
use rustix::process::Signal;

#[test]
fn run_prints_a_string_plainly_and_anything_else_as_json() {
    let pool = Pool::start(json!({}));
    for (source, printed) in [
        ("return 40+2", "42\n"),
        ("'plain text'", "plain text\n"),
        ("({a: [1]})", "{\"a\":[1]}\n"),
        ("undefined", "null\n"),
    ] {
        let ctl = pool.ctl(&["run", "code", source]);
        assert_eq!((ctl.code, ctl.stdout.replace(": ", ":").as_str()), (0, printed), "{ctl:?}");
    }
}

#[test]
fn run_runs_all_five_types() {
    let folder = Folder::new();
    folder.write("lib/stats.mjs", "export const mean = n => n.reduce((a, b) => a + b) / n.length");
    folder.write("context.json", r#"{"who": "me"}"#);
    let readme = folder.write("README.md", "a\nb\n");
    let server =
        Server::start(|r| Reply::json(&json!({"method": r.method, "accept": r.header("accept")})));
    let pool = Pool::start(json!({
        "js": {"moduleRoots": [folder.path()]}, "http": {"allow": [server.address()]},
        "shell": {
            "allow": [{"program": "/usr/bin/wc", "args": "-l|-c|[A-Za-z0-9._/][A-Za-z0-9._/-]*"}],
        },
    }));
    let context = folder.join("context.json");
    let run = |arguments: &[&str]| {
        let all: Vec<&str> = ["run"].iter().chain(arguments).copied().collect();
        let ctl = pool.ctl(&all);
        assert_eq!(ctl.code, 0, "{ctl:?}");
        ctl.stdout
    };
    assert_eq!(run(&["code", "return who", "--context", context.to_str().expect("ASCII")]), "me\n");
    assert_eq!(run(&["function", "(a,b)=>a+b", "40", "2"]), "42\n");
    assert_eq!(run(&["module", "lib/stats.mjs", "--method", "mean", "[1,2,3]"]), "2\n");
    assert!(run(&["http", &server.url("/"), "-H", "Accept: text/x"]).contains("text/x"));
    assert!(
        run(&["shell", "--", "/usr/bin/wc", "-l", readme.to_str().expect("ASCII")]).contains('2')
    );
}

#[test]
fn run_exits_0_1_124_125_130() {
    let pool = Pool::start(json!({"projects": {"full": {"limit": 0, "maxQueued": 0}}}));
    assert_eq!(pool.ctl(&["run", "code", "1"]).code, 0);
    let failed = pool.ctl(&["run", "code", "throw new TypeError('bad')"]);
    assert_eq!((failed.code, failed.stdout.as_str()), (1, ""), "{failed:?}");
    assert!(failed.stderr.contains("TypeError") && failed.stderr.contains("bad"), "{failed:?}");
    assert_eq!(pool.ctl(&["run", "code", "for(;;);", "--timeout", "100ms"]).code, 124);
    let refused = pool.ctl(&["run", "code", "1", "--project", "full"]);
    assert_eq!(refused.code, 125, "{refused:?}");
    assert!(
        refused.stderr.contains("PROJECT_QUOTA") || refused.stderr.contains("full"),
        "{refused:?}"
    );
    let child = pool
        .ctl_command(&["run", "code", "await new Promise(r => setTimeout(r, 1e6))"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let id = pool.busy_worker("js")["taskId"].as_str().expect("it runs").to_owned();
    pool.cancel(&id);
    assert_eq!(Ctl::from(child.wait_with_output().expect("our own child")).code, 130);
}

#[test]
fn run_without_a_daemon_exits_125_and_says_how_to_start_one() {
    let folder = Folder::new();
    let ctl: Ctl = Command::new(&binaries().poolctl)
        .args(["run", "code", "1", "--socket"])
        .arg(folder.join("none.sock"))
        .output()
        .expect("it starts")
        .into();
    assert_eq!(ctl.code, 125);
    assert!(ctl.stderr.contains("pool-supervisor"), "{ctl:?}");
}

#[test]
fn run_tries_once_unless_told_otherwise() {
    let pool = Pool::start(json!({}));
    let attempts = |more: &[&str]| {
        let all: Vec<&str> =
            ["run", "code", "throw 1", "--json"].iter().chain(more).copied().collect();
        pool.ctl(&all).json()["attempts"].clone()
    };
    assert_eq!(attempts(&[]), 1);
    assert_eq!(attempts(&["--attempts", "2"]), 2);
}

#[test]
fn run_passes_its_options_to_the_task() {
    let pool = Pool::start(json!({}));
    let outcome = pool.ctl(&[
        "run",
        "code",
        "console.log('seen'); 1",
        "--project",
        "my-project",
        "--priority",
        "5",
        "--tag",
        "t",
        "--logs",
        "--json",
    ]);
    assert_eq!(
        (&outcome.json()["tag"], &outcome.json()["result"]),
        (&json!("t"), &json!(1)),
        "{outcome:?}"
    );
    assert!(pool.events_named("task-queued").iter().any(|e| e["projectId"] == "my-project"));
}

#[test]
fn ctrl_c_cancels_the_task_for_real() {
    let pool = Pool::start(json!({}));
    let child = pool
        .ctl_command(&["run", "code", "for(;;);"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let worker = pool.busy_worker("js");
    proc::signal(i32::try_from(child.id()).expect("a pid"), Signal::INT);
    assert_eq!(child.wait_with_output().expect("our own child").status.code(), Some(130));
    assert_eq!(pool.outcome(worker["taskId"].as_str().expect("it ran"))["status"], "cancelled");
}

#[test]
fn submit_reads_tasks_line_by_line_and_writes_outcomes_as_they_finish() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 2, "maxWorkers": 2}}));
    pool.until_idle("js", 2);
    let slow = with(sleep(3000), json!({"tag": "slow"}));
    let quick = with(code("1"), json!({"tag": "quick"}));
    let ctl = pool.ctl_with_input(&["submit"], &format!("{slow}\n\n{quick}\n"));
    assert_eq!(ctl.code, 0, "{ctl:?}");
    let tags: Vec<Value> = ctl.json_lines().iter().map(|o| o["tag"].clone()).collect();
    assert_eq!(tags, ["quick", "slow"], "as they finish");
}

#[test]
fn submit_takes_thousands_with_a_window() {
    let pool = Pool::start(json!({}));
    let lines: String = (0..3000)
        .map(|n| {
            format!(
                "{}\n",
                json!({
                    "type": "execute-function",
                    "fn": "n => n + 1",
                    "args": [n],
                    "tag": n.to_string(),
                })
            )
        })
        .collect();
    let file = pool.folder().write("tasks.ndjson", lines);
    let ctl = pool.ctl(&["submit", file.to_str().expect("ASCII"), "--window", "64"]);
    assert_eq!(ctl.code, 0, "{}", ctl.stderr);
    let mut outcomes = ctl.json_lines();
    assert_eq!(outcomes.len(), 3000);
    outcomes.sort_by_key(|o| o["result"].as_u64());
    for (n, outcome) in outcomes.iter().enumerate() {
        assert_eq!(
            (outcome["result"].as_u64(), outcome["tag"].as_str()),
            (Some(n as u64 + 1), Some(&*n.to_string()))
        );
    }
}

#[test]
fn submit_reports_bad_lines_with_their_number_and_goes_on() {
    let pool = Pool::start(json!({}));
    let input = format!(
        "{}\nnot json\n{}\n{}\n",
        code("1"),
        json!({"type": "execute-code", "code": "1", "priorty": 3}),
        code("2")
    );
    let ctl = pool.ctl_with_input(&["submit"], &input);
    assert_eq!(ctl.code, 1, "{ctl:?}");
    let statuses: Vec<Value> = ctl.json_lines().iter().map(|o| o["status"].clone()).collect();
    assert_eq!(statuses.iter().filter(|s| **s == "succeeded").count(), 2, "{ctl:?}");
    assert_eq!(statuses.iter().filter(|s| **s == "rejected").count(), 2, "{ctl:?}");
    let said = format!("{}{}", ctl.stderr, ctl.stdout);
    assert!(said.contains('2') && said.contains("priorty") && said.contains("priority"), "{ctl:?}");
}

#[test]
fn submit_no_wait_prints_ids_and_the_tasks_go_on() {
    let pool = Pool::start(json!({}));
    let ctl = pool
        .ctl_with_input(&["submit", "--no-wait", "-"], &format!("{}\n{}\n", sleep(200), code("7")));
    assert_eq!(ctl.code, 0, "{ctl:?}");
    let ids: Vec<String> =
        ctl.stdout.lines().map(|l| l.trim().trim_matches('"').to_owned()).collect();
    assert_eq!(ids.len(), 2, "{ctl:?}");
    assert_eq!(pool.outcome(&ids[0])["result"], "slept");
    let shown = pool.ctl(&["task", &ids[1], "--json", "--wait"]);
    assert_eq!((shown.code, &shown.json()["result"]), (0, &json!(7)), "{shown:?}");
}

#[test]
fn the_administrative_commands_do_what_they_say() {
    let pool = Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 1}}));
    assert_eq!(pool.ctl(&["limit", "p", "2"]).code, 0);
    assert_eq!(pool.projects()["p"]["limit"], 2);
    let id = pool.submit(hold());
    until("it runs", || pool.task(&id)["state"] == "running");
    assert!(pool.ctl(&["task", &id]).stdout.contains("running"));
    assert!(pool.ctl(&["workers"]).stdout.contains("busy"));
    assert!(pool.ctl(&["status"]).stdout.contains("running"));
    assert_eq!(pool.ctl(&["cancel", &id]).code, 0);
    assert_eq!(pool.outcome(&id)["status"], "cancelled");
    until("its worker is among the dead", || {
        pool.ctl(&["workers", "--dead"]).stdout.contains("cancelled")
    });
    let unknown = pool.ctl(&["task", "zzz"]);
    assert_ne!(unknown.code, 0);
    assert!(!unknown.stderr.is_empty());
}

#[test]
fn events_last_prints_the_newest_and_goes_on_with_follow() {
    let pool = Pool::start(json!({}));
    assert!(pool.run_all(&vec![code("1"); 5]).iter().all(|o| o["status"] == "succeeded"));
    let shown = |last: &str| pool.ctl(&["events", "--last", last, "--json"]);
    // Workers come and go by themselves: compared is what was there before and after.
    until("the newest three are printed", || {
        let (before, printed, after) = (pool.events(), shown("3"), pool.events());
        assert_eq!((printed.code, printed.stderr.as_str()), (0, ""), "{printed:?}");
        before == after && printed.json_lines() == before[before.len() - 3..]
    });
    assert_eq!(shown("65536").json_lines()[0]["seq"], 1, "fewer are kept than asked for");
    let mut child = pool
        .ctl_command(&["events", "--last", "1", "--follow", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = || -> Value {
        serde_json::from_str(&lines.next().expect("it goes on").expect("text")).expect("JSON")
    };
    let first = next();
    assert!(first["seq"].as_u64() > Some(1), "{first}");
    let id = pool.submit(code("1"));
    let mut seq = first["seq"].as_u64().expect("a number");
    loop {
        let event = next();
        seq += 1;
        assert_eq!(event["seq"], seq, "none is left out");
        if event["event"] == "task-complete" && event["taskId"] == *id {
            break;
        }
    }
    child.kill().expect("our own child");
    child.wait().expect("our own child");
}

#[test]
fn submit_tries_as_often_as_its_arguments_say_where_a_task_does_not() {
    let pool = Pool::start(json!({}));
    let quick = json!({"initialDelay": 1, "maxDelay": 1});
    let failing = with(code("throw 1"), json!({"retry": quick}));
    let lines = format!("{failing}\n{}\n", with(failing.clone(), json!({"maxAttempts": 2})));
    let attempts = |arguments: &[&str]| {
        let mut seen: Vec<_> = pool
            .ctl_with_input(arguments, &lines)
            .json_lines()
            .iter()
            .map(|o| o["attempts"].as_u64())
            .collect();
        seen.sort_unstable();
        seen
    };
    assert_eq!(attempts(&["submit"]), [Some(2), Some(3)]);
    assert_eq!(attempts(&["submit", "--attempts", "1"]), [Some(1), Some(2)]);
}

#[test]
fn events_follow_prints_what_comes() {
    let pool = Pool::start(json!({}));
    let mut child = pool
        .ctl_command(&["events", "--follow", "--since", "0", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let id = pool.submit(code("1"));
    let done = loop {
        let line = lines.next().expect("it goes on").expect("text");
        let event: Value = serde_json::from_str(&line).expect("JSON");
        if event["event"] == "task-complete" && event["taskId"] == *id {
            break true;
        }
    };
    child.kill().expect("our own child");
    child.wait().expect("our own child");
    assert!(done);
}

#[test]
fn submit_ends_with_its_input_even_if_that_comes_slowly() {
    let pool = Pool::start(json!({}));
    let mut child = pool
        .ctl_command(&["submit"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("piped");
    let mut output = BufReader::new(child.stdout.take().expect("piped")).lines();
    for n in 0..3 {
        writeln!(input, "{}", code(&n.to_string())).expect("it reads");
        let line = output.next().expect("an outcome before the next task").expect("text");
        assert_eq!(serde_json::from_str::<Value>(&line).expect("JSON")["result"], n);
    }
    drop(input);
    assert_eq!(child.wait().expect("our own child").code(), Some(0));
}
