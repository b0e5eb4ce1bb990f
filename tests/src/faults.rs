//! Faults of the machine on demand: a library that is loaded into a supervisor before its own and lies to it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::folder::Folder;

/// The faults of one supervisor.
#[derive(Debug)]
pub struct Faults {
    folder: Folder,
    library: PathBuf,
}

impl Faults {
    /// None so far; nothing, and a line on standard error, where there is no C compiler.
    ///
    /// # Panics
    /// When the compiler does not take our file.
    #[must_use]
    pub fn new() -> Option<Self> {
        let library = library()?;
        Some(Self { folder: Folder::new(), library })
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

fn library() -> Option<PathBuf> {
    static BUILT: OnceLock<Option<(Folder, PathBuf)>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let folder = Folder::new();
        let (source, library) = (folder.write("faults.c", include_str!("faults.c")), folder.join("faults.so"));
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
        match compile.output() {
            Ok(output) => {
                assert!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
                Some((folder, library))
            }
            Err(error) => {
                eprintln!("skipped: a C compiler: {error}; install one (Debian's package gcc) and run the test again");
                None
            }
        }
    });
    built.as_ref().map(|(_, library)| library.clone())
}
