//! Programs and their arguments turned against the machine: rows 33 to 38 and 70 of what the pool
//! must survive.

use std::path::Path;

use pool_tests::pool::Pool;
use pool_tests::proc::Process;
use pool_tests::tasks::{error, program, result, with};
use pool_tests::{Folder, Value, json, proc, unharmed, until, until_some};

const FORK_BOMB: &str = env!("CARGO_BIN_EXE_fork_bomb");

fn pool_with(shell: Value) -> Pool {
    Pool::start(json!({"pool": {"minWorkers": 1, "maxWorkers": 3}, "shell": shell}))
}

/// A pool that may run these programs with any argument.
fn pool_for(programs: &[&str]) -> Pool {
    let allow: Vec<Value> =
        programs.iter().map(|p| json!({"program": p, "args": "(?s).*"})).collect();
    pool_with(json!({"allow": allow, "env": {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"}}))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("made of ASCII")
}

#[test]
fn hostile_33_arguments_are_literal() {
    let pool = pool_for(&["/usr/bin/printf"]);
    let odd = [
        ";",
        "; rm -rf x",
        "|",
        "$(id)",
        "$()",
        "`id`",
        "`",
        "a\nb",
        "\n",
        "*",
        "/*",
        "&& true",
        "> x",
        "",
        "ü",
        "~",
    ];
    let arguments: Vec<&str> = ["[%s]"].into_iter().chain(odd).collect();
    let expected: String = odd.iter().map(|a| format!("[{a}]")).collect();
    unharmed(&pool, || {
        assert_eq!(result(pool.run(program("/usr/bin/printf", &arguments)))["stdout"], expected);
        // The same within one string: only POSIX word rules apply to it, and no shell ever sees it.
        let command = "/usr/bin/printf '[%s]' ; | $(id) `id` \"a\nb\" * /* && > x $HOME ~";
        let outcome =
            pool.run(json!({"type": "shell-command", "command": command, "maxAttempts": 1}));
        assert_eq!(
            result(outcome)["stdout"],
            "[;][|][$(id)][`id`][a\nb][*][/*][&&][>][x][$HOME][~]"
        );
    });
}

#[test]
fn hostile_34_dangerous_arguments_of_an_allowed_program_are_refused_by_its_pattern() {
    let folder = Folder::new();
    // Stand-ins under the names of the programs: what matters is that they are not started.
    let tool = |name: &str| {
        folder.write_program(name, &format!("#!/bin/sh\necho \"$@\" >> {}/ran\n", folder.text()))
    };
    let (find, git, tar) = (tool("find"), tool("git"), tool("tar"));
    let pool = pool_with(json!({"allow": [
        {"program": find, "args": "[a-z./]+|-name|-type|[fd]|[a-z*.]+"},
        {"program": git, "args": "log|status|show|--oneline|[0-9a-f]{7,40}"},
        {"program": tar, "args": "-[ctzf]+|[a-z./]+"},
    ]}));
    unharmed(&pool, || {
        for (tool, arguments) in [
            (&find, &["/srv", "-exec", "id", "+"][..]),
            (&find, &["/srv", "-execdir", "id", "+"]),
            (&find, &["/srv", "-ok", "id", "+"]),
            (&find, &["/srv", "-delete"]),
            (&find, &["/srv", "-fprintf", "/etc/passwd", "x"]),
            (&find, &["/srv", "-name", "x\n-exec"]),
            (&git, &["-c", "core.pager=id", "log"]),
            (&git, &["-ccore.pager=id", "log"]),
            (&git, &["--exec-path=/tmp", "status"]),
            (&git, &["log", "--output=/etc/passwd"]),
            (&tar, &["-cf", "a", "--checkpoint=1"]),
            (&tar, &["-cf", "a", "--checkpoint-action=exec=id"]),
            (&tar, &["-cf", "a", "--to-command=id"]),
            (&tar, &["-If", "a"]),
        ] {
            let outcome = pool.run(program(text(tool), arguments));
            assert_eq!(error(&outcome), "COMMAND_DENIED", "{arguments:?}: {outcome}");
            let command = [&[text(tool)], arguments].concat().join(" ");
            let outcome =
                pool.run(json!({"type": "shell-command", "command": command, "maxAttempts": 1}));
            // A line break within an argument is one between words here, and still leaves a word
            // that is denied.
            assert_eq!(error(&outcome), "COMMAND_DENIED", "{command}: {outcome}");
        }
    });
    assert!(!folder.join("ran").exists(), "{:?}", std::fs::read_to_string(folder.join("ran")));
    for (tool, arguments) in [
        (&find, &["/srv", "-name", "*.rs", "-type", "f"][..]),
        (&git, &["log", "--oneline"]),
        (&tar, &["-tzf", "a.tar"]),
    ] {
        assert_eq!(
            result(pool.run(program(text(tool), arguments)))["exitCode"],
            0,
            "{arguments:?}"
        );
    }
    let ran = std::fs::read_to_string(folder.join("ran")).expect("these are allowed");
    assert_eq!(ran, "/srv -name *.rs -type f\nlog --oneline\n-tzf a.tar\n");
}

/// A shell whose child has left its session, ignores what it can, holds the pipe and has children
/// of its own: two shells and a `sleep`. The two shells name the folder on their command lines, and
/// the file `up` says that they are there.
fn stubborn_tree(folder: &Folder, then: &str) -> String {
    let deepest = format!("echo > {0}/up; sleep 100; : {0}", folder.text());
    format!("setsid sh -c 'trap \"\" TERM HUP; sh -c \"{deepest}\"; : {0}' & {then}", folder.text())
}

/// Waits until the task's tree of so many processes is up; nothing when the task ended before.
fn tree_of(pool: &Pool, task: &str, processes: usize) -> Option<Vec<Process>> {
    until_some("the tree is up, or the task has ended", || {
        let row = pool.task(task);
        if row["status"].is_string() {
            return Some(None);
        }
        let tree = proc::descendants(pool.pid_of(&row["workerId"])?);
        (tree.len() == processes).then_some(Some(tree))
    })
}

#[test]
fn hostile_35_a_setsid_child_that_ignores_sigterm_and_holds_the_pipe_dies_at_the_timeout() {
    let pool = pool_for(&["/bin/sh"]);
    let tried = [1_500, 6_000, 24_000].into_iter().any(|timeout_ms| {
        let folder = Folder::new();
        let script = stubborn_tree(&folder, "sleep 100; :");
        let task = with(program("/bin/sh", &["-c", &script]), json!({"timeout": timeout_ms}));
        unharmed(&pool, || {
            let mut client = pool.client();
            let request = client.submit(&task);
            let id = client.id(request);
            let tree = tree_of(&pool, &id, 5);
            let outcome = client.outcome(request);
            assert_eq!(outcome["status"], "timed-out", "{outcome}");
            ended_on_time(&outcome, f64::from(timeout_ms));
            // Where the machine took longer than that to start five processes, nothing was tried.
            let tree = tree.filter(|_| folder.join("up").exists())?;
            until("the whole tree is gone", || tree.iter().all(|process| !process.lives()));
            Some(())
        })
        .is_some()
    });
    assert!(tried, "five processes do not start within 24 s");
}

#[test]
fn hostile_35_a_setsid_child_that_holds_the_pipe_does_not_hold_up_the_end() {
    let pool = pool_for(&["/bin/sh"]);
    let folder = Folder::new();
    let script = stubborn_tree(
        &folder,
        &format!("until [ -e {}/up ]; do :; done; echo done", folder.text()),
    );
    let task = with(program("/bin/sh", &["-c", &script]), json!({"timeout": 30_000}));
    unharmed(&pool, || {
        let outcome = pool.run(task);
        assert_eq!(result(outcome.clone())["stdout"], "done\n");
        ended_on_time(&outcome, 20_000.0);
        until("the child is gone", || proc::naming(&folder.text()).is_empty());
    });
}

/// By the kernel's own word, asked from within: whoever has left is in a session of another number.
#[test]
fn hostile_35_a_program_runs_in_a_session_of_its_own() {
    let pool = pool_for(&["/bin/sh"]);
    let shown =
        result(pool.run(program("/bin/sh", &["-c", "echo $$; cut -d' ' -f6 /proc/$$/stat"])));
    let numbers: Vec<&str> = shown["stdout"].as_str().expect("text").lines().collect();
    assert_eq!(numbers.len(), 2, "{shown}");
    assert_eq!(numbers[0], numbers[1], "it leads its session");
}

/// The attempt took no longer than its timeout and what the ladder adds, on a machine that may be
/// very busy.
fn ended_on_time(outcome: &Value, timeout_ms: f64) {
    let run_ms = outcome["receipt"]["runMs"].as_f64().expect("a receipt");
    assert!(run_ms < timeout_ms + 5_000.0, "{outcome}");
}

/// All processes that run this program.
fn running(program: &Path) -> Vec<i32> {
    let same =
        |pid: &i32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program);
    proc::all().into_iter().filter(same).collect()
}

/// A copy of the bomb of this test's own, so that it can be told from others.
fn bomb(folder: &Folder) -> std::path::PathBuf {
    folder.copy_program(FORK_BOMB, "fork_bomb")
}

/// Each of its processes leaves the session, ignores SIGTERM, holds the pipes and forks on; so many
/// in all, for the machine's sake.
#[test]
fn hostile_35_a_fork_bomb_is_dead_on_time() {
    let folder = Folder::new();
    let bomb = bomb(&folder);
    let pool = pool_for(&[text(&bomb)]);
    unharmed(&pool, || {
        for _ in 0..2 {
            let outcome = pool.run(with(program(text(&bomb), &["1500"]), json!({"timeout": 700})));
            assert_eq!(outcome["status"], "timed-out", "{outcome}");
            ended_on_time(&outcome, 700.0);
            until("all of its processes are gone", || running(&bomb).is_empty());
        }
    });
}

/// The program itself ends at once, and leaves the rest behind.
#[test]
fn hostile_35_a_fork_bomb_whose_first_process_ends_is_dead_when_the_task_ends() {
    let folder = Folder::new();
    let bomb = bomb(&folder);
    let pool = pool_for(&[text(&bomb)]);
    unharmed(&pool, || {
        let outcome =
            pool.run(with(program(text(&bomb), &["1500", "leave"]), json!({"timeout": 30_000})));
        assert_eq!(result(outcome.clone())["exitCode"], 0);
        ended_on_time(&outcome, 20_000.0);
        until("all of its processes are gone", || running(&bomb).is_empty());
    });
}

#[test]
fn hostile_36_output_without_end_and_a_file_without_end_are_limited() {
    let folder = Folder::new();
    let pool = Pool::start(json!({
        "pool": {"minWorkers": 1, "maxWorkers": 3}, "limits": {"fileBytes": "16MiB"},
        "shell": {"allow": [
            {"program": "/usr/bin/head", "args": "(?s).*"},
            {"program": "/bin/dd", "args": "(?s).*"},
            {"program": "/usr/bin/truncate", "args": "(?s).*"},
            {"program": "/bin/sh", "args": "(?s).*"},
        ], "cwd": folder.text(), "env": {"PATH": "/usr/bin:/bin"}},
    }));
    let supervisor = || proc::status_kib(pool.pid(), "VmHWM").expect("it lives");
    let before = supervisor();
    unharmed(&pool, || {
        let much = pool.run(program("/usr/bin/head", &["-c", "100000000000", "/dev/zero"]));
        assert_eq!(error(&much), "OUTPUT_LIMIT", "{:.300}", much.to_string());
        let errors =
            pool.run(program("/bin/sh", &["-c", "exec head -c 100000000000 /dev/zero >&2"]));
        assert_eq!(error(&errors), "OUTPUT_LIMIT", "{:.300}", errors.to_string());
        let written =
            pool.run(program("/bin/dd", &["if=/dev/zero", "of=big", "bs=1M", "count=100000"]));
        assert_eq!(error(&written), "OUTPUT_LIMIT", "{written}");
        // One call that asks for all of it at once fails, or ends the program, as the system likes.
        let sparse = pool.run(program("/usr/bin/truncate", &["-s", "100G", "sparse"]));
        assert!(["OUTPUT_LIMIT", "COMMAND_FAILED"].contains(&error(&sparse)), "{sparse}");
    });
    for name in ["big", "sparse"] {
        let size = std::fs::metadata(folder.join(name)).map_or(0, |file| file.len());
        assert!(size <= 16 << 20, "{name}: {size} bytes");
    }
    let grown = supervisor() - before;
    assert!(grown < 64 * 1024, "100 GB of output, and the supervisor grew by {grown} KiB");
}

#[test]
fn hostile_37_variables_that_change_what_a_program_does_are_refused() {
    let folder = Folder::new();
    let tool =
        folder.write_program("tool", &format!("#!/bin/sh\necho ran >> {}/ran\n", folder.text()));
    let pool = pool_for(&[text(&tool)]);
    unharmed(&pool, || {
        for name in [
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "LD_AUDIT",
            "BASH_ENV",
            "ENV",
            "PATH",
            "IFS",
            "NODE_OPTIONS",
            "PYTHONPATH",
            "PYTHONSTARTUP",
            "PERL5OPT",
            "RUBYOPT",
            "GCONV_PATH",
            "GIT_SSH_COMMAND",
            "BASH_FUNC_echo%%",
        ] {
            refuses(&pool, text(&tool), name);
        }
    });
    assert!(!folder.join("ran").exists());
}

/// The variable is refused by its name.
fn refuses(pool: &Pool, tool: &str, name: &str) {
    let outcome = pool.run(with(program(tool, &[]), json!({"env": {name: "/tmp/x"}})));
    assert_eq!(outcome["status"], "failed", "{name}: {outcome}");
    assert!(["COMMAND_DENIED", "INVALID_TASK"].contains(&error(&outcome)), "{name}: {outcome}");
    assert!(
        outcome["error"]["message"].as_str().is_some_and(|m| m.contains(name)),
        "{name}: {outcome}"
    );
}

/// What undoes the patterns of arguments, and what every program looks at.
#[test]
fn hostile_70_a_task_sets_no_variable_that_is_not_listed_for_tasks_whatever_it_is_called() {
    let folder = Folder::new();
    let tool =
        folder.write_program("tool", &format!("#!/bin/sh\necho ran >> {}/ran\n", folder.text()));
    let pool = pool_for(&[text(&tool)]);
    unharmed(&pool, || {
        for name in [
            "MAKEFLAGS",
            "ZIPOPT",
            "UNZIP",
            "GZIP",
            "GREP_OPTIONS",
            "http_proxy",
            "HOME",
            "CURL_HOME",
            "OPENSSL_CONF",
            "GIT_CONFIG_COUNT",
            "GIT_CONFIG_KEY_0",
            "TZDIR",
            "TERMINFO",
            "ANYTHING",
        ] {
            refuses(&pool, text(&tool), name);
        }
    });
    assert!(!folder.join("ran").exists());
}

#[test]
fn hostile_70_listed_variables_are_added_to_those_of_the_configuration_and_replace_none_of_them() {
    let pool = pool_with(json!({
        "allow": [{"program": "/usr/bin/env"}],
        "env": {"LANG": "C.UTF-8", "APP_KEY": "of the configuration"},
        "taskEnv": ["TZ", "APP_*"],
    }));
    unharmed(&pool, || {
        let task =
            with(program("/usr/bin/env", &[]), json!({"env": {"TZ": "UTC", "APP_MODE": "test"}}));
        let shown = result(pool.run(task))["stdout"].clone();
        let mut lines: Vec<&str> = shown.as_str().expect("text").lines().collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            ["APP_KEY=of the configuration", "APP_MODE=test", "LANG=C.UTF-8", "TZ=UTC"]
        );
        for name in ["APP_KEY", "LANG", "TZDIR", "tz", "APP", "app_mode"] {
            refuses(&pool, "/usr/bin/env", name);
        }
    });
}

/// A program that says which one it is.
fn tool(folder: &Folder, name: &str, says: &str) -> std::path::PathBuf {
    folder.write_program(name, &format!("#!/bin/sh\necho {says}\n"))
}

/// Puts something else in a program's place, in one of several ways.
fn swap(way: &str, folder: &Folder, tool_path: &Path) {
    let other = tool(folder, "other", "second");
    match way {
        "link" => {
            std::fs::remove_file(tool_path).expect("ours");
            std::os::unix::fs::symlink(&other, tool_path).expect("a link");
        }
        "rename" => std::fs::rename(&other, tool_path).expect("ours"),
        "again" => {
            // A file system may give the next file the number that this one had.
            for _ in 0..50 {
                std::fs::remove_file(tool_path).expect("ours");
                tool(folder, "tool", "second");
            }
        }
        other => unreachable!("{other}"),
    }
}

#[test]
fn hostile_38_of_a_program_that_is_swapped_after_the_start_the_one_resolved_runs_or_none() {
    for way in ["link", "rename", "again"] {
        // Before the first worker for programs has started, and after it.
        for warm in [false, true] {
            let folder = Folder::new();
            let tool_path = tool(&folder, "tool", "first");
            let pool = pool_for(&[text(&tool_path)]);
            let run = || pool.run(program(text(&tool_path), &[]));
            if warm {
                assert_eq!(result(run())["stdout"], "first\n");
            }
            swap(way, &folder, &tool_path);
            unharmed(&pool, || {
                let outcome = run();
                let ran_first = outcome["result"]["stdout"] == "first\n";
                let denied = outcome["error"]["code"] == "COMMAND_DENIED";
                assert!(ran_first || denied, "{way}, warm {warm}: {outcome}");
            });
            pool.ask(&pool_protocol::control::ControlRequest::Reload);
            until("a reload resolves it anew", || run()["result"]["stdout"] == "second\n");
        }
    }
}
