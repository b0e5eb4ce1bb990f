//! What a test says that cannot be run on this machine.
//!
//! A test that looks at nothing must not pass in silence. So a test that lacks something says a
//! line which `cargo test` does not capture, and fails instead where the need is demanded:
//!
//! - `POOL_TESTS_REQUIRE=all` demands everything; `POOL_TESTS_REQUIRE=root,cc` demands these needs.
//! - `skipped: TEST: needs WHAT (HOW TO GET IT)` is a test of which nothing was tried.
//! - `skipped in TEST: …` is a test of which the rest was tried.
//!
//! Depends on the standard library only: the packages below `pool-tests` include this file.

use std::io::Write;

/// Something that not every machine has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Need {
    /// Its name in `POOL_TESTS_REQUIRE`.
    pub name: &'static str,
    /// What is lacking.
    pub what: &'static str,
    /// How to get it.
    pub remedy: &'static str,
}

/// Every need that a test may have.
pub const NEEDS: &[Need] = &[
    ROOT,
    ADMIN,
    CC,
    USER_NAMESPACES,
    SECCOMP,
    LANDLOCK,
    STRICT,
    CGROUP_V2,
    CGROUP_V2_MEMORY,
    CGROUP_V1_MEMORY,
];

/// The needs of scripts: `tests/skip.bash`.
const OF_SCRIPTS: &[&str] = &["jq", "perl", "systemd"];

/// Another user can be played, and other users' processes looked into.
pub const ROOT: Need = Need { name: "root", what: "to be root", remedy: "run the tests as root" };
/// Namespaces of mounts and networks.
pub const ADMIN: Need = Need {
    name: "admin",
    what: "the capability CAP_SYS_ADMIN",
    remedy: "run the tests as root of the machine or in a privileged container",
};
/// Faults of the machine are a small library in C.
pub const CC: Need =
    Need { name: "cc", what: "a C compiler named cc", remedy: "apt-get install gcc libc6-dev" };
/// Namespaces that an ordinary user may make.
pub const USER_NAMESPACES: Need = Need {
    name: "user-namespaces",
    what: "user and process namespaces",
    remedy: "run the tests where `unshare --user --map-root-user --pid --fork true` works",
};
/// Filters of system calls.
pub const SECCOMP: Need = Need {
    name: "seccomp",
    what: "filters of system calls",
    remedy: "run the tests on a kernel with CONFIG_SECCOMP_FILTER",
};
/// File rules that a process gives itself.
pub const LANDLOCK: Need = Need {
    name: "landlock",
    what: "Landlock",
    remedy: "run the tests on Linux 6.2 or later with Landlock enabled",
};
/// Every layer that `isolation = "strict"` promises.
pub const STRICT: Need = Need {
    name: "strict",
    what: "every layer that isolation \"strict\" promises",
    remedy: "run the tests where `poolctl doctor` says that no promised layer is missing",
};
/// A control group of version 2 to make others in.
pub const CGROUP_V2: Need = Need {
    name: "cgroup-v2",
    what: "control groups of version 2 that can be written",
    remedy: "run the tests as root of the machine or with a delegated group",
};
/// The same with limits for memory.
pub const CGROUP_V2_MEMORY: Need = Need {
    name: "cgroup-v2-memory",
    what: "the controllers memory and pids in control groups of version 2",
    remedy: "boot the kernel without the old hierarchy: systemd.unified_cgroup_hierarchy=1",
};
/// A memory limit around a whole supervisor.
pub const CGROUP_V1_MEMORY: Need = Need {
    name: "cgroup-v1-memory",
    what: "a control group of version 1 for memory that can be written",
    remedy: "run the tests as root of a machine with the old hierarchy",
};

/// The running test cannot be run at all; the caller returns. `why` is what the system said, or
/// empty.
///
/// # Panics
/// Where `POOL_TESTS_REQUIRE` demands the need.
pub fn skipped(need: Need, why: &str) {
    say("skipped: ", need, why);
}

/// A part of the running test cannot be run; the caller goes on with the rest.
///
/// # Panics
/// See [`skipped`].
pub fn partly_skipped(need: Need, why: &str) {
    say("skipped in ", need, why);
}

fn say(verb: &str, need: Need, why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let Need { name, what, remedy } = need;
    let said = if why.is_empty() { String::new() } else { format!(": {why}") };
    let line = format!("{verb}{test}: needs {what}{said} ({remedy})");
    assert!(!is_demanded(name), "POOL_TESTS_REQUIRE demands {name}, so this is a failure: {line}");
    // Not `eprintln!`, whose words are thrown away when the test passes. In one piece, and on a
    // line of its own: with `--quiet` dots stand before it.
    let _ = std::io::stderr().write_all(format!("\n{line}\n").as_bytes());
}

/// Whether the environment demands it.
///
/// # Panics
/// When the environment names a need that is none: a misspelt demand would demand nothing.
fn is_demanded(name: &str) -> bool {
    let Ok(list) = std::env::var("POOL_TESTS_REQUIRE") else { return false };
    let mut demanded = false;
    for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let names = || NEEDS.iter().map(|need| need.name).chain(OF_SCRIPTS.iter().copied());
        let known = word == "all" || names().any(|name| name == word);
        let list = || names().collect::<Vec<_>>().join(", ");
        assert!(known, "POOL_TESTS_REQUIRE names {word:?}; it may name all, or some of {}", list());
        demanded |= word == "all" || word == name;
    }
    demanded
}
