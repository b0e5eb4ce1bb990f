//! Mistakes on the command line: each is named, and nothing is tried.

use std::process::Command;

/// poolctl where no supervisor is: had it tried, it would exit with 125.
fn refused(args: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_poolctl"));
    command.env_clear().env("RUNTIME_DIRECTORY", folder.path()).args(args);
    let output = command.output().expect("poolctl");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?}");
    stderr
}

#[test]
fn a_mistake_is_named_and_exits_with_2() {
    let long = format!("/{}", "x".repeat(120));
    for (args, named) in [
        (&[][..], "Usage"),
        (&["walk"], "'walk'"),
        (&["run"], "Usage"),
        (&["run", "code"], "<SOURCE>"),
        (&["run", "code", "1", "2"], "'2'"),
        (&["run", "code", "1", "--timout", "3s"], "--timeout"),
        (&["run", "code", "1", "--timeout", "soon"], "not a time"),
        (&["run", "code", "1", "--priority", "11"], "0..=10"),
        (&["run", "code", "1", "--attempts", "0"], "1..=1000"),
        (&["run", "code", "1", "--project", "a b"], "not ' '"),
        (&["run", "code", "1", "--memory", "much"], "not a size"),
        (&["run", "code", "1", "--deadline", "tomorrow"], "RFC 3339"),
        (&["run", "code", "1", "--realm", "hot"], "fresh, warm, frozen"),
        (&["run", "code", "1", "--context", "/nowhere.json"], "the context in /nowhere.json"),
        (&["run", "http", "http://x/", "--header", "no colon"], "Name: value"),
        (&["run", "http", "http://x/", "--data", "@/nowhere"], "the data in /nowhere"),
        (&["run", "shell"], "<PROGRAM>"),
        (&["run", "shell", "--env", "A", "/bin/true"], "NAME=VALUE"),
        (&["submit", "--window", "0"], "1..=100000"),
        (&["submit", "a", "b"], "'b'"),
        (&["submit", "--attempts", "0"], "1..=1000"),
        (&["events", "--last", "0"], "1..=65536"),
        (&["events", "--last", "65537"], "1..=65536"),
        (
            &["events", "--last", "3", "--since", "3"],
            "'--last <N>' cannot be used with '--since <N>'",
        ),
        (&["task", "../x"], "not a task id"),
        (&["limit", "p", "many"], "'many'"),
        (&["--socket", &long, "status"], "choose a shorter folder"),
    ] {
        let said = refused(args);
        assert!(said.contains(named), "{args:?}: {named:?} is not in {said}");
    }
}

#[test]
fn a_context_that_is_no_object_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    for (text, problem) in [
        ("[1]", "must be a JSON object"),
        ("{\"a\":", "it ends at column 6"),
        ("\u{fffd}", "a value should be at column 1"),
    ] {
        let path = folder.path().join("context.json");
        std::fs::write(&path, text).expect("written");
        let said = refused(&["run", "code", "1", "--context", path.to_str().expect("text")]);
        assert!(said.contains("context.json: ") && said.contains(problem), "{text}: {said}");
    }
}

#[test]
fn the_default_socket_is_named_when_nobody_listens() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_poolctl"));
    let output = command
        .env_clear()
        .env("RUNTIME_DIRECTORY", folder.path())
        .arg("status")
        .output()
        .expect("poolctl");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains(folder.path().join("pool.sock").to_str().expect("text")), "{stderr}");
}
