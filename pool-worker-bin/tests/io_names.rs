//! Programs are what the list names: their own names, scripts beside their files, and why one does
//! not start.

mod io_support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use io_support::programs::{allow, run, shell_setup};
use io_support::{Worker, executable};
use pool_protocol::outcome::ErrorCode;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A worker that may start these files of a folder and read what lies there.
fn worker_for(folder: &TempDir, names: &[&str]) -> Worker {
    let mut setup = shell_setup();
    setup.isolation.readable.push(folder.path().to_str().unwrap().to_owned());
    setup.shell.allow.extend(names.iter().map(|name| {
        let path = folder.path().join(name);
        allow(path.to_str().unwrap(), Some("(?s).*"))
    }));
    Worker::start(&setup)
}

fn stdout(worker: &mut Worker, program: &Path, args: &[&str]) -> String {
    let result = run(worker, &json!({"program": program, "args": args})).result();
    result["stdout"].as_str().expect("text").to_owned()
}

fn failure(worker: &mut Worker, program: &Path) -> String {
    let (code, message) = run(worker, &json!({"program": program})).failure();
    assert_eq!(code, ErrorCode::CommandFailed, "{message}");
    assert!(!message.contains("/proc/self/fd"), "{message}");
    message
}

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    executable::write(&path, text);
    path
}

#[test]
fn hostile_72_a_program_gets_the_name_that_the_list_gives_it() {
    let folder = tempfile::tempdir().unwrap();
    for (name, target) in [("list", "/bin/cat"), ("rbash", "/bin/bash")] {
        symlink(target, folder.path().join(name)).unwrap();
    }
    let mut worker = worker_for(&folder, &["list", "rbash"]);
    let list = folder.path().join("list");
    let own = stdout(&mut worker, &list, &["/proc/self/cmdline"]);
    assert_eq!(own.split('\0').next(), list.to_str());
    // However the task calls it.
    let own =
        run(&mut worker, &json!({"program": "list", "args": ["/proc/self/cmdline"]})).result();
    assert_eq!(own["stdout"].as_str().unwrap().split('\0').next(), list.to_str());
    // A shell of this name lets nobody leave its folder.
    let rbash = folder.path().join("rbash");
    let ended = run(&mut worker, &json!({"program": rbash, "args": ["-c", "cd /tmp && pwd"]}));
    assert_eq!(ended.failure().0, ErrorCode::CommandFailed);
    let said = ended.json()["stderr"].as_str().unwrap().to_owned();
    assert!(said.contains("restricted"), "{said}");
}

#[test]
fn a_script_finds_what_lies_beside_it_under_its_own_name() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("library.sh"), "hello() { echo hello from \"$0\"; }\n").unwrap();
    let tool = write(&folder, "tool", "#!/bin/sh\n. \"$(dirname \"$0\")/library.sh\"\nhello\n");
    let plain = write(&folder, "plain", "echo \"$0\" \"$@\"\n");
    let called = write(&folder, "called", "#!/bin/sh -e\nbasename \"$0\"\n");
    for name in ["first", "second"] {
        symlink(&called, folder.path().join(name)).unwrap();
    }
    let mut worker = worker_for(&folder, &["tool", "plain", "first", "second"]);
    assert_eq!(stdout(&mut worker, &tool, &[]), format!("hello from {}\n", tool.display()));
    for name in ["first", "second"] {
        assert_eq!(stdout(&mut worker, &folder.path().join(name), &[]), format!("{name}\n"));
    }
    // Without a first line that names one, its interpreter is the shell.
    assert_eq!(stdout(&mut worker, &plain, &["a b"]), format!("{} a b\n", plain.display()));
}

#[test]
fn hostile_72_a_link_that_leads_elsewhere_by_now_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (honest, evil) = (
        write(&folder, "honest", "#!/bin/sh\necho honest\n"),
        write(&folder, "evil", "#!/bin/sh\necho evil\n"),
    );
    let (script, program) = (folder.path().join("script"), folder.path().join("program"));
    symlink(&honest, &script).unwrap();
    symlink("/bin/echo", &program).unwrap();
    let mut worker = worker_for(&folder, &["script", "program"]);
    for (link, target) in [(&script, &*evil), (&program, Path::new("/bin/false"))] {
        fs::remove_file(link).unwrap();
        symlink(target, link).unwrap();
    }
    assert_eq!(stdout(&mut worker, &script, &[]), "honest\n");
    assert_eq!(stdout(&mut worker, &program, &["honest"]), "honest\n");
}

#[test]
fn what_keeps_a_program_from_starting_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let lost = write(&folder, "lost", "#!/no/such/python9 -u\n");
    let windows = write(&folder, "windows", "#!/bin/sh\r\nexit 0\r\n");
    let foreign = folder.path().join("foreign");
    let mut bytes = fs::read("/bin/true").unwrap();
    // The machine that it is for: none.
    bytes[18] = 0;
    fs::write(folder.path().join("source"), &bytes).unwrap();
    executable::copy(&folder.path().join("source"), &foreign);
    let odd = write(&folder, "odd", "\0\0\0\0");
    let mut worker = worker_for(&folder, &["lost", "windows", "foreign", "odd"]);
    for (program, words) in [
        (&lost, &["interpreter /no/such/python9,"][..]),
        (&windows, &[r"/bin/sh\r", "carriage return"]),
        (&foreign, &["another kind of machine"]),
        (&odd, &["neither a program for this machine nor a script"]),
    ] {
        let message = failure(&mut worker, program);
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        assert!(message.contains(program.to_str().unwrap()), "{message}");
    }
}

#[test]
fn a_folder_that_has_gone_is_not_taken_for_the_program() {
    let work = tempfile::tempdir().unwrap();
    let mut setup = shell_setup();
    let path = work.path().to_str().unwrap().to_owned();
    setup.shell.cwd = Some(path.clone());
    let mut worker = Worker::start(&setup);
    work.close().unwrap();
    let (code, message) =
        run(&mut worker, &json!({"program": "printf", "args": Value::Array(vec![])})).failure();
    assert_eq!(code, ErrorCode::CommandFailed);
    assert!(message.contains(&format!("the folder {path} cannot be entered")), "{message}");
}
