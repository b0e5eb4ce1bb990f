//! Programs for the real worker to start.

use std::fs;
use std::os::unix::fs::MetadataExt;

use pool_protocol::lane::Lane;
use pool_protocol::task::TaskKind;
use pool_protocol::worker::{AllowedProgram, Setup};
use serde_json::{Value, json};

use super::{Ended, Worker, setup, task};

pub fn allow(program: &str, args: Option<&str>) -> AllowedProgram {
    let resolved = fs::canonicalize(program).unwrap();
    let file = fs::metadata(&resolved).unwrap();
    AllowedProgram {
        program: program.into(),
        resolved: resolved.to_str().unwrap().into(),
        device: file.dev(),
        inode: file.ino(),
        args: args.map(Into::into),
    }
}

/// Some real programs; `sh` with any script, so that a test can do its worst.
pub fn shell_setup() -> Setup {
    let mut setup = setup(Lane::Io);
    setup.shell.allow = vec![
        allow("/usr/bin/wc", Some("-l|-c|[A-Za-z0-9._/][A-Za-z0-9._/-]*")),
        allow("/usr/bin/printf", Some("(?s).*")),
        allow("/usr/bin/env", None),
        allow("/usr/bin/cat", Some("[a-z./]*")),
        allow("/usr/bin/find", Some("[a-z/.]+|-name")),
        allow("/bin/sh", Some("(?s).*")),
    ];
    // The scripts start whatever a test needs.
    setup.isolation.readable = vec!["/usr".into(), "/bin".into()];
    setup.shell.env = [
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
    ]
    .into();
    setup.shell.task_env = vec!["NAME".into()];
    setup
}

pub fn run(worker: &mut Worker, data: &Value) -> Ended {
    worker.outcome(&task(1, TaskKind::Shell, "", &data.to_string()))
}

pub fn script(worker: &mut Worker, text: &str) -> Ended {
    run(worker, &json!({"program": "sh", "args": ["-c", text]}))
}

/// Whether a process with this number lives; a zombie does not.
pub fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}
