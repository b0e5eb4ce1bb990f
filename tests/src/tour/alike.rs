//! What may differ between two runs of the tour: times, ids, process ids, and figures that are
//! measured.
//!
//! Both texts get the same names for these, and are then compared letter by letter. An id gets the
//! number of its first appearance, so that two ids that changed places are a difference.

use std::collections::BTreeMap;

use regex::{Captures, Regex};

/// What is measured or counted by the machine, and what stands for it.
const FIGURES: &[(&str, &str)] = &[
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "TIME"),
    (r"\bpid=\d+", "pid=PID"),
    // In a table of workers: the process id, and how long it lived.
    (r"\b(w\d+\.\d+ +)\d+( +(?:js|io) )", "${1}PID$2"),
    (r" +\d+\.\ds ( *[a-z])", " SECONDS $1"),
    (r#""(queuedMs|runMs|cpuMs|memoryBytes|avgTime|uptime)":\d+(\.\d+)?"#, r#""$1":FIGURE"#),
    (r"with \d+\.\d MiB in use", "with FIGURE MiB in use"),
    // How long it takes until a worker is used up and replaced, and so which one serves a task, is
    // the machine's affair.
    (r#""workerId":"w\d+\.\d+""#, r#""workerId":"WORKER""#),
    // A table's columns are as wide as what stands in them.
    (" {2,}", "  "),
];

/// A task's id has eleven digits of Crockford's base 32, the first of them below ten until the year
/// 2041.
const TASK: &str = r"\b\d[0-9a-hjkmnp-tv-z]{10}\b";
const WORKER: &str = r"\bw\d+\.\d+\b";

/// Numbers for the ids that one run showed, in the order of their appearance.
#[derive(Clone, Default, Debug)]
pub struct Ids(BTreeMap<String, String>);

impl Ids {
    /// The text with everything replaced that may differ.
    #[must_use]
    pub fn plain(&mut self, text: &str) -> String {
        let mut plain = text.to_owned();
        for (pattern, name) in FIGURES {
            plain = regex(pattern).replace_all(&plain, *name).into_owned();
        }
        for (pattern, kind) in [(TASK, "task"), (WORKER, "worker")] {
            plain = regex(pattern)
                .replace_all(&plain, |found: &Captures<'_>| self.name(kind, &found[0]))
                .into_owned();
        }
        plain
    }

    fn name(&mut self, kind: &str, id: &str) -> String {
        let number = self.0.values().filter(|name| name.starts_with(kind)).count() + 1;
        self.0.entry(id.to_owned()).or_insert_with(|| format!("{kind}-{number}")).clone()
    }
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("written here")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alike(one: &str, other: &str) -> bool {
        Ids::default().plain(one) == Ids::default().plain(other)
    }

    #[test]
    fn what_is_measured_may_differ() {
        for (one, other) in [
            (
                "2026-11-24T18:59:12.955856Z  INFO up pid=28280",
                "2027-01-01T00:00:00.000001Z  INFO up pid=1",
            ),
            (r#"{"taskId":"1k119764zm7","runMs":0.252}"#, r#"{"taskId":"1k1h3gskbe1","runMs":12}"#),
            (r#"w0.1 {"workerId":"w0.1"}"#, r#"w0.1 {"workerId":"w1.2"}"#),
            (
                "w0.1    9910  js    2026-11-24T18:51:47.924Z      2   0.3s  deadline  task \
                 1k118sxeyxy ran",
                "w3.2  109910  js    2026-11-24T18:51:47.924Z      2  12.0s  deadline  task \
                 1k118sxeyya ran",
            ),
            ("of 128 MiB with 115.7 MiB in use", "of 128 MiB with 99.0 MiB in use"),
        ] {
            assert!(alike(one, other), "{one}\n{other}");
        }
    }

    #[test]
    fn words_and_what_is_promised_may_not() {
        for (one, other) in [
            ("timeout of 300 ms", "timeout of 301 ms"),
            ("TIMEOUT: the task ran longer", "TIMEOUT: the task ran too long"),
            ("within 250 ms of being asked", "within 251 ms of being asked"),
            (r#""status":"succeeded""#, r#""status":"failed""#),
            (r#""attempts":1"#, r#""attempts":2"#),
            (r#""runMs":1.5,"cpuMs":1"#, r#""cpuMs":1"#),
            (r#""result":42"#, r#""result":43"#),
            ("its limit of 128 MiB with 115.7 MiB", "its limit of 64 MiB with 115.7 MiB"),
            (
                "w0.1  9  js  2026-11-24T18:51:47.924Z  2  0.3s  deadline",
                "w0.1  9  js  2026-11-24T18:51:47.924Z  3  0.3s  deadline",
            ),
            (
                "w0.1  9  js  2026-11-24T18:51:47.924Z  2  0.3s  deadline",
                "w0.1  9  io  2026-11-24T18:51:47.924Z  2  0.3s  deadline",
            ),
            ("2026-11-24T18:51:47.924Z  INFO up", "2026-11-24T18:51:47.924Z  WARN up"),
            ("124\n", "1\n"),
        ] {
            assert!(!alike(one, other), "{one}\n{other}");
        }
    }

    #[test]
    fn ids_that_change_places_are_a_difference() {
        let mut before = Ids::default();
        let mut after = before.clone();
        let rows = ["task 1k118sxeyxy on w0.1", "task 1k118sxeyxz on w0.2"];
        let one: Vec<String> =
            [rows[0], rows[1], rows[0]].iter().map(|row| before.plain(row)).collect();
        let other: Vec<String> =
            [rows[0], rows[1], rows[1]].iter().map(|row| after.plain(row)).collect();
        assert_eq!(one[..2], other[..2]);
        assert_ne!(one[2], other[2]);
    }
}
