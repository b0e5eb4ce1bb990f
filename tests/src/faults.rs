//! Faults of the machine on demand: a library that is loaded into a supervisor before its own and
//! lies to it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::folder::Folder;
use crate::skip;

/// The faults of one supervisor.
#[derive(Debug)]
pub struct Faults {
    folder: Folder,
    library: PathBuf,
}

impl Faults {
    /// None so far; nothing where there is no C compiler, which is said.
    ///
    /// # Panics
    /// When the compiler does not take our file.
    #[must_use]
    pub fn new() -> Option<Self> {
        match library() {
            Ok(library) => Some(Self { folder: Folder::new(), library: library.clone() }),
            Err(error) => {
                skip::skipped(skip::CC, error);
                None
            }
        }
    }

    /// Has the supervisor that the command starts believe in them.
    pub fn load_into(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("POOL_TEST_FAULTS", self.folder.path());
    }

    /// How many seconds the wall clock is off from now on.
    pub fn shift_clock(&self, seconds: i64) {
        self.set("clock", seconds);
    }

    /// What starting a process fails with from now on; 0 is that it works.
    pub fn fail_spawn(&self, error: i32) {
        self.set("spawn", i64::from(error));
    }

    fn set(&self, name: &str, value: i64) {
        // In one step: the supervisor must not read half a number.
        let new = self.folder.write("new", value.to_string());
        std::fs::rename(new, self.folder.join(name)).expect("our own folder");
    }
}

/// The library, built once for all tests; or why there is no compiler.
fn library() -> Result<&'static PathBuf, &'static str> {
    static BUILT: OnceLock<Result<(Folder, PathBuf), String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let folder = Folder::new();
        let (source, library) =
            (folder.write("faults.c", include_str!("faults.c")), folder.join("faults.so"));
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
        match compile.output() {
            Ok(output) => {
                assert!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
                Ok((folder, library))
            }
            Err(error) => Err(error.to_string()),
        }
    });
    built.as_ref().map(|(_, library)| library).map_err(String::as_str)
}
