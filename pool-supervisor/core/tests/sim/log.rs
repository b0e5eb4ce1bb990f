//! What a failing seed did last, in a file.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use crate::check::glance;

/// Lines that are kept.
const LINES: usize = 10_000;
/// Bytes of a line, or a few more.
const WIDTH: usize = 300;

/// The last lines of one run. Dropped in a panic, they are written to a file.
pub(crate) struct Log {
    seed: u64,
    lines: VecDeque<String>,
}

impl Log {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, lines: VecDeque::new() }
    }

    /// The core is told something.
    pub(crate) fn input(&mut self, now_us: u64, what: &impl Debug) {
        self.push(format!("{now_us} {}", glance(what, WIDTH)));
    }

    /// The core says something.
    pub(crate) fn output(&mut self, what: &impl Debug) {
        self.push(format!("    {}", glance(what, WIDTH)));
    }

    fn push(&mut self, line: String) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    fn path(&self) -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sim-{}.log", self.seed))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
            match std::fs::write(self.path(), lines.join("\n") + "\n") {
                Ok(()) => eprintln!("what it did last is in {}", self.path().display()),
                Err(error) => eprintln!("failed to write {}: {error}", self.path().display()),
            }
        }
    }
}

#[test]
fn a_run_that_panics_leaves_its_log_and_one_that_does_not_leaves_none() {
    let run = |seed: u64, panics: bool| {
        let path = Log::new(seed).path();
        let _there_may_be_one = std::fs::remove_file(&path);
        let run = std::panic::catch_unwind(|| {
            let mut log = Log::new(seed);
            log.input(7, &"told");
            log.output(&"said");
            assert!(!panics, "as it is meant to");
        });
        assert_eq!(run.is_err(), panics);
        std::fs::read_to_string(path).ok()
    };
    assert_eq!(run(u64::MAX, false), None);
    assert_eq!(run(u64::MAX, true).as_deref(), Some("7 \"told\"\n    \"said\"\n"));
}
