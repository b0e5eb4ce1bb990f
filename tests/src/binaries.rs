//! Where the programs under test are: the release build beside this test's own target folder.
//!
//! What is tested is what is shipped, and it must be the present source: a forgotten build would
//! test yesterday's pool.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The three programs.
#[derive(Debug)]
pub struct Binaries {
    /// `pool-supervisor`
    pub supervisor: PathBuf,
    /// `pool-worker`
    pub worker: PathBuf,
    /// `poolctl`
    pub poolctl: PathBuf,
}

/// Finds the programs, once.
///
/// # Panics
/// When one is missing or older than its source, saying how to build it.
pub fn binaries() -> &'static Binaries {
    static FOUND: OnceLock<Binaries> = OnceLock::new();
    FOUND.get_or_init(|| {
        let folder = release_folder();
        let program = |name: &str| {
            let path = folder.join(name);
            assert!(
                path.is_file(),
                "{} is not built; run scripts/build.sh (scripts/test.sh does it)",
                path.display()
            );
            if let Some(newer) = newer_source(&path) {
                panic!(
                    "{} is older than {newer}; run scripts/build.sh (scripts/test.sh does it)",
                    path.display()
                );
            }
            path
        };
        Binaries {
            supervisor: program("pool-supervisor"),
            worker: program("pool-worker"),
            poolctl: program("poolctl"),
        }
    })
}

fn release_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("POOL_BIN_DIR") {
        return PathBuf::from(folder);
    }
    // …/target/PROFILE/deps/contract-HASH
    let exe = std::env::current_exe().expect("a running program has a path");
    let target = exe.ancestors().nth(3).expect("a test lies three folders below the target folder");
    target.join("release")
}

/// A source file, of those that cargo wrote beside the program, that changed after the program was
/// linked.
fn newer_source(program: &Path) -> Option<String> {
    let modified = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
    let list = std::fs::read_to_string(program.with_extension("d")).ok()?;
    let built = modified(program)?;
    let sources = list
        .lines()
        .filter_map(|line| line.split_once(": "))
        .flat_map(|(_, files)| files.split(' '));
    sources
        .filter(|file| modified(Path::new(file)).is_some_and(|at| at > built))
        .map(str::to_owned)
        .next()
}
