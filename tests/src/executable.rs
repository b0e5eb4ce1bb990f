//! Files that may be executed at once.
//!
//! The kernel refuses to execute a file that anybody has open for writing ("Text file busy"). A
//! test program has many threads: while one of them writes a program, another may fork, and its
//! child holds the descriptor until its own exec. So another process writes the file, and only that
//! has it open.
//!
//! Depends on the standard library only: the packages below `pool-tests` include this file.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Makes a program of this text, such as a script.
///
/// # Panics
/// When the file cannot be written.
pub fn write(path: &Path, text: &str) {
    let mut writing = writer(path, Stdio::piped()).spawn().expect("a shell");
    writing.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    let status = writing.wait().expect("our own child");
    assert!(status.success(), "{}: {status}", path.display());
}

/// Makes a copy of a program.
///
/// # Panics
/// When the one cannot be read or the other cannot be written.
pub fn copy(from: &Path, to: &Path) {
    let source = File::open(from).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    let status = writer(to, source.into()).status().expect("a shell");
    assert!(status.success(), "{}: {status}", to.display());
}

fn writer(path: &Path, from: Stdio) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", r#"cat >"$0" && chmod 755 "$0""#]).arg(path).stdin(from);
    command
}
