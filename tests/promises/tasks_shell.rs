//! `shell-command`: programs of the allow-list, without a shell.

use std::path::Path;

use pool_tests::tasks::{error, program, result, with};
use pool_tests::{Folder, Pool, Value, json};

/// A pool that may run these programs with any argument.
fn pool_for(programs: &[&str]) -> Pool {
    let allow: Vec<Value> =
        programs.iter().map(|p| json!({"program": p, "args": "(?s).*"})).collect();
    let env = json!({"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"});
    Pool::start(json!({"shell": {"allow": allow, "env": env, "taskEnv": ["MINE"]}}))
}

#[test]
fn a_program_gives_exit_code_stdout_and_stderr() {
    let pool = pool_for(&["/bin/sh", "/usr/bin/wc"]);
    let folder = Folder::new();
    let file = folder.write("f", "one\ntwo\nthree\n");
    let counted = result(pool.run(program("/usr/bin/wc", &["-l", file.to_str().expect("ASCII")])));
    assert_eq!(counted["exitCode"], 0);
    assert!(counted["stdout"].as_str().is_some_and(|s| s.starts_with("3 ")), "{counted}");
    assert_eq!((&counted["stderr"], &counted["truncated"]), (&json!(""), &json!(false)));
    let both = result(pool.run(program("/bin/sh", &["-c", "echo out; echo err >&2"])));
    assert_eq!((&both["stdout"], &both["stderr"]), (&json!("out\n"), &json!("err\n")));
}

#[test]
fn a_command_is_split_by_posix_word_rules_and_never_given_to_a_shell() {
    let pool = pool_for(&["/usr/bin/printf"]);
    let run = |command: &str| {
        result(pool.run(json!({"type": "shell-command", "command": command})))["stdout"].clone()
    };
    assert_eq!(
        run(r#"/usr/bin/printf '[%s]' one "two three" four\ five"#),
        "[one][two three][four five]"
    );
    assert_eq!(
        run("/usr/bin/printf '[%s]' '$HOME' '*' ; '|' '`id`' '$(id)'"),
        "[$HOME][*][;][|][`id`][$(id)]"
    );
    let open = pool.run(
        json!({"type": "shell-command", "command": "/usr/bin/printf 'open", "maxAttempts": 1}),
    );
    assert_ne!(open["status"], "succeeded", "{open}");
}

#[test]
fn folder_environment_and_standard_input_are_the_tasks() {
    let pool = pool_for(&["/bin/pwd", "/usr/bin/env", "/bin/cat"]);
    let folder = Folder::new();
    assert_eq!(
        result(pool.run(with(program("/bin/pwd", &[]), json!({"cwd": folder.text()}))))["stdout"],
        format!("{}\n", folder.text())
    );
    let shown = result(
        pool.run(with(program("/usr/bin/env", &[]), json!({"env": {"MINE": "a b"}}))),
    )["stdout"]
        .clone();
    let mut lines: Vec<&str> = shown.as_str().expect("text").lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["LANG=C.UTF-8", "MINE=a b", "PATH=/usr/bin:/bin"],
        "nothing but what the configuration and the task list"
    );
    assert_eq!(
        result(pool.run(with(program("/bin/cat", &[]), json!({"stdin": "given\n"}))))["stdout"],
        "given\n"
    );
    assert_eq!(
        result(pool.run(program("/bin/cat", &[])))["stdout"],
        "",
        "without stdin it is empty"
    );
}

#[test]
fn a_non_zero_exit_is_a_failure_unless_it_is_accepted() {
    let pool = pool_for(&["/bin/sh"]);
    let three = program("/bin/sh", &["-c", "echo said; echo why >&2; exit 3"]);
    let outcome = pool.run(three.clone());
    assert_eq!(error(&outcome), "COMMAND_FAILED");
    let text = outcome["error"].to_string();
    assert!(text.contains('3') && text.contains("why"), "{text}");
    let accepted = result(pool.run(with(three, json!({"acceptExit": [3, 4]}))));
    assert_eq!((&accepted["exitCode"], &accepted["stdout"]), (&json!(3), &json!("said\n")));
    let killed = pool.run(program("/bin/sh", &["-c", "kill -9 $$"]));
    assert_eq!(error(&killed), "COMMAND_FAILED", "{killed}");
}

#[test]
fn output_is_capped_per_stream() {
    let pool = pool_for(&["/usr/bin/head", "/usr/bin/yes"]);
    let exact = with(
        program("/usr/bin/head", &["-c", "1000", "/dev/zero"]),
        json!({"maxOutputBytes": 1000}),
    );
    let whole = result(pool.run(exact));
    assert_eq!(
        (whole["stdout"].as_str().map(str::len), &whole["truncated"]),
        (Some(1000), &json!(false))
    );
    let over = pool.run(with(
        program("/usr/bin/head", &["-c", "1001", "/dev/zero"]),
        json!({"maxOutputBytes": 1000}),
    ));
    let truncated = over["result"]["truncated"] == true
        && over["result"]["stdout"].as_str().map(str::len) == Some(1000);
    assert!(truncated || error(&over) == "OUTPUT_LIMIT", "{over}");
    let endless = pool.run(with(program("/usr/bin/yes", &[]), json!({"timeout": 30_000})));
    assert_eq!(error(&endless), "OUTPUT_LIMIT", "an endless output is ended: {endless}");
}

#[test]
fn a_program_that_runs_out_of_time_ends_by_itself_and_what_it_printed_is_told() {
    let allow = json!([{"program": "/bin/sh", "args": "(?s).*"}]);
    let env = json!({"PATH": "/usr/bin:/bin"});
    let pool = Pool::start(json!({
        "shell": {"allow": allow, "env": env, "readable": ["/usr/bin"], "killAfter": "30s"},
    }));
    // Its end takes longer than a worker without programs would be given.
    let text =
        "trap 'sleep 1; echo tidied up; exit 0' TERM; echo step 1; while :; do sleep 0.01; done";
    let outcome = pool.run(with(program("/bin/sh", &["-c", text]), json!({"timeout": 3_000})));
    assert_eq!(
        (&outcome["status"], error(&outcome)),
        (&json!("timed-out"), "TIMEOUT"),
        "{outcome}"
    );
    let error = &outcome["error"];
    assert_eq!(
        (&error["stdout"], &error["exitCode"]),
        (&json!("step 1\ntidied up\n"), &json!(0)),
        "{outcome}"
    );
    assert_eq!(error["verdict"], Value::Null, "its worker was not killed: {outcome}");
}

#[test]
fn only_programs_of_the_allow_list_run() {
    let pool = pool_for(&["/bin/echo"]);
    for path in ["/bin/cat", "cat", "./echo", "/bin/../bin/cat", "/no/such/program", "/bin/echo2"] {
        let outcome = pool.run(program(path, &[]));
        assert_eq!(error(&outcome), "COMMAND_DENIED", "{path}: {outcome}");
        assert!(
            outcome["error"]["message"].as_str().is_some_and(|m| m.contains(path)),
            "{outcome}"
        );
    }
}

#[test]
fn an_empty_allow_list_denies_all() {
    assert_eq!(error(&Pool::start(json!({})).run(program("/bin/true", &[]))), "COMMAND_DENIED");
}

#[test]
fn each_argument_must_match_the_pattern_whole_and_without_one_none_is_allowed() {
    let pool = Pool::start(json!({"shell": {"allow": [
        {"program": "/bin/echo", "args": "-n|[a-z]+"}, {"program": "/bin/true"},
        {"program": "/usr/bin/find", "args": "(?:/tmp|-name|[a-z]+)"},
    ]}}));
    assert_eq!(result(pool.run(program("/bin/echo", &["-n", "abc"])))["stdout"], "abc");
    for arguments in [&["abc", "ABC"][..], &["-nx"], &["xabcX"], &["abc\n"], &[""], &["-e"]] {
        assert_eq!(
            error(&pool.run(program("/bin/echo", arguments))),
            "COMMAND_DENIED",
            "{arguments:?}"
        );
    }
    assert_eq!(result(pool.run(program("/bin/true", &[])))["exitCode"], 0);
    assert_eq!(error(&pool.run(program("/bin/true", &["x"]))), "COMMAND_DENIED");
    assert_eq!(
        error(&pool.run(program("/usr/bin/find", &["/tmp", "-exec", "id"]))),
        "COMMAND_DENIED"
    );
}

/// The patterns that a file gives `/usr/bin/wc`, in JSON or TOML.
fn patterns_of_wc(text: &str) -> Vec<String> {
    let entries = text.split("\"/usr/bin/wc\"").skip(1);
    let value = |entry: &str| {
        let entry = entry.split_once('}').expect("an entry ends").0;
        let (_, value) =
            entry.split_once("args").expect("a pattern").1.split_once([':', '=']).expect("a value");
        let (_, value) = value.split_once('"').expect("a string");
        value.split_once('"').expect("the string ends").0.to_owned()
    };
    entries.map(value).collect()
}

#[test]
fn the_patterns_that_users_copy_let_no_other_option_through() {
    let repository =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository");
    let readme = repository.join("README.md");
    for file in ["README.md", "scripts/demo.sh", "deploy/config.example.toml"] {
        let text =
            std::fs::read_to_string(repository.join(file)).expect("it is part of the repository");
        let patterns = patterns_of_wc(&text);
        assert!(!patterns.is_empty(), "{file} gives wc no pattern");
        for pattern in patterns {
            let pool = Pool::start(json!({"shell": {
                "allow": [{"program": "/usr/bin/wc", "args": pattern}],
                "readable": [repository],
                "cwd": repository,
            }}));
            for name in ["README.md", readme.to_str().expect("UTF-8")] {
                let counted = result(pool.run(program("/usr/bin/wc", &["-l", name])));
                assert_eq!(counted["exitCode"], 0, "{file}: {pattern}: {counted}");
            }
            for option in
                ["--version", "-L", "--files0-from=/etc/shadow", "--", "-", "-lL", "-l --version"]
            {
                let outcome = pool.run(program("/usr/bin/wc", &[option]));
                assert_eq!(
                    error(&outcome),
                    "COMMAND_DENIED",
                    "{file}: {pattern} lets {option} through"
                );
            }
        }
    }
}

#[test]
fn network_and_programs_never_share_a_process_with_javascript() {
    let pool = pool_for(&["/bin/true"]);
    let js = pool.run(pool_tests::tasks::code("1"));
    let io = pool.run(program("/bin/true", &[]));
    assert_ne!(js["workerId"], io["workerId"]);
    let lanes: Vec<Value> = pool.workers().iter().map(|w| w["lane"].clone()).collect();
    assert!(lanes.contains(&json!("js")) && lanes.contains(&json!("io")), "{lanes:?}");
}

#[test]
fn memory_and_cpu_time_of_the_program_are_in_the_receipt() {
    let pool = pool_for(&["/bin/sh"]);
    let outcome =
        pool.run(program("/bin/sh", &["-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"]));
    assert!(outcome["receipt"]["cpuMs"].as_f64() > Some(1.0), "{outcome}");
    assert!(outcome["receipt"]["memoryBytes"].as_u64() > Some(100_000), "{outcome}");
}
