//! Instructions per task, counted by callgrind and compared with stored figures.
//!
//! A count is the same on a busy machine as on an idle one, which seconds are not. What it depends
//! on is the toolchain: the compiler, and the C library whose allocator and copies are counted too.
//! So both are stored beside the figures. Copies come in variants for different processors; the C
//! library is told to use the plainest one, so that the figures hold on any machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::scenarios::Scenario;

/// By how much a figure may differ from the stored one.
const MARGIN: f64 = 0.05;
/// The same under another toolchain than the stored figures': enough for what a compiler changes,
/// too little for a mistake in an algorithm.
const FOREIGN_MARGIN: f64 = 0.25;
/// One variant of the C library's copies for all processors, and one bound for those that go past
/// the caches.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-ERMS,-FSRM,-RTM,\
    -AVX_Fast_Unaligned_Load:\
    glibc.cpu.x86_non_temporal_threshold=0xc0000";

/// Figures as they are stored.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stored {
    /// What they were counted with.
    pub toolchain: String,
    /// Instructions per task by scenario.
    pub instructions_per_task: BTreeMap<String, f64>,
}

impl Stored {
    /// Reads the file.
    ///
    /// # Errors
    /// When it is not there or not in this shape.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("failed to read the figures in {}", path.display()))
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
    }

    /// How much figures counted with this toolchain may differ from the stored ones, as a fraction.
    #[must_use]
    pub fn margin(&self, toolchain: &str) -> f64 {
        if self.toolchain == toolchain { MARGIN } else { FOREIGN_MARGIN }
    }

    /// What a figure counted with this toolchain means.
    #[must_use]
    pub fn judge(&self, toolchain: &str, scenario: &str, counted: f64) -> Judgement {
        let Some(stored) = self.instructions_per_task.get(scenario) else {
            return Judgement::Unknown;
        };
        let change = counted / stored - 1.0;
        let margin = self.margin(toolchain);
        if change > margin {
            Judgement::Dearer(change)
        } else if change < -margin {
            Judgement::Cheaper(change)
        } else {
            Judgement::Same(change)
        }
    }
}

/// A figure beside the stored one; changes are fractions of that.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Judgement {
    /// Within the margin.
    Same(f64),
    /// Better by more than the margin: what was gained is worth storing, or else the next change
    /// may lose it unseen.
    Cheaper(f64),
    /// Worse by more than the margin.
    Dearer(f64),
    /// No figure is stored.
    Unknown,
}

impl Judgement {
    /// Whether the guard lets it pass.
    #[must_use]
    pub const fn passes(self) -> bool {
        match self {
            Self::Same(_) | Self::Cheaper(_) => true,
            Self::Dearer(_) | Self::Unknown => false,
        }
    }
}

impl std::fmt::Display for Judgement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Same(change) => write!(f, "{:+.1} %", change * 100.0),
            Self::Cheaper(change) => {
                write!(f, "{:+.1} %: better, store it with --store", change * 100.0)
            }
            Self::Dearer(change) => write!(f, "{:+.1} %: WORSE", change * 100.0),
            Self::Unknown => f.write_str("no figure is stored; store one with --store"),
        }
    }
}

/// The compiler, the machine it compiles for, and the C library.
///
/// # Errors
/// When one of them does not say its version.
pub fn toolchain() -> anyhow::Result<String> {
    let compiler = output(Command::new("rustc").arg("-vV"))?;
    let field = |name: &str| {
        let line = compiler.lines().find_map(|line| line.strip_prefix(name));
        line.with_context(|| format!("failed to find {name:?} in what rustc says of itself"))
    };
    let library = output(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
    Ok(format!("rustc {} {}, {}", field("release: ")?, field("host: ")?, library.trim()))
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("failed to run {command:?}"))?;
    ensure!(output.status.success(), "failed to run {command:?}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Instructions that one more task of the scenario takes. `program` does the work when it is told
/// `run NAME TASKS`.
///
/// # Errors
/// When valgrind is not there, or the work fails under it.
pub fn per_task(program: &Path, scenario: &Scenario) -> anyhow::Result<f64> {
    let run = |tasks| instructions(program, scenario.name, tasks);
    let (shorter, longer) = std::thread::scope(|scope| {
        let shorter = scope.spawn(|| run(scenario.tasks));
        let longer = run(scenario.tasks * 2);
        (shorter.join().expect("counting does not panic"), longer)
    });
    Ok((longer? - shorter?) as f64 / scenario.tasks as f64)
}

fn instructions(program: &Path, name: &str, tasks: u64) -> anyhow::Result<i64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["run", name, &tasks.to_string()])
        .env("GLIBC_TUNABLES", TUNABLES)
        .stdin(Stdio::null())
        .output()
        .context("failed to start valgrind; it is the Debian package of that name")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "failed to run {name} under callgrind: {}\n{said}",
        output.status
    );
    collected(&said)
}

/// The total in callgrind's last words: `==7== Collected : 123`.
fn collected(said: &str) -> anyhow::Result<i64> {
    let Some(total) = said.lines().find_map(|line| line.split_once("Collected : ")) else {
        bail!("failed to find callgrind's total in what it said:\n{said}");
    };
    total
        .1
        .trim()
        .parse()
        .with_context(|| format!("failed to read callgrind's total {:?}", total.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Stored {
        Stored {
            toolchain: "this one".into(),
            instructions_per_task: BTreeMap::from([("core".into(), 1000.0)]),
        }
    }

    #[test]
    fn a_figure_over_the_margin_does_not_pass_and_one_below_it_is_worth_storing() {
        let judge = |counted| stored().judge("this one", "core", counted);
        assert!(matches!(judge(1049.0), Judgement::Same(_)));
        assert!(matches!(judge(951.0), Judgement::Same(_)));
        assert!(matches!(judge(1051.0), Judgement::Dearer(_)) && !judge(1051.0).passes());
        assert!(matches!(judge(949.0), Judgement::Cheaper(_)) && judge(949.0).passes());
        assert!(judge(949.0).to_string().contains("--store"));
    }

    #[test]
    fn a_scenario_without_a_figure_does_not_pass() {
        assert_eq!(stored().judge("this one", "new", 1.0), Judgement::Unknown);
        assert!(!Judgement::Unknown.passes());
    }

    #[test]
    fn another_toolchain_widens_the_margin_and_does_not_lift_it() {
        assert!(stored().judge("another", "core", 1200.0).passes());
        assert!(!stored().judge("another", "core", 1300.0).passes());
    }

    #[test]
    fn callgrinds_total_is_found_among_its_words() {
        let said = "==7== Events    : Ir\n==7== Collected : 123456789\n==7== \n==7== I   \
            refs:      123,456,789\n";
        assert_eq!(collected(said).ok(), Some(123_456_789));
        assert!(collected("valgrind: no such program").is_err());
    }

    #[test]
    fn stored_figures_read_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("figures.json");
        stored().write(&path).expect("written");
        assert_eq!(Stored::read(&path).expect("read"), stored());
    }
}
