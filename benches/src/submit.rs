//! `poolctl submit` from end to end: a file of tasks in, a file of outcomes out.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use serde::Deserialize;

use crate::echo;
use crate::figures::Round;
use crate::pool::program;
use crate::usage::CpuSeconds;

/// What answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answerer {
    /// A pool: each result is the sum that was asked for.
    Pool,
    /// [`echo`]: each result is the same.
    Echo,
}

/// Writes a file of small function tasks, whose results are `line number + 1`.
///
/// # Errors
/// When the file cannot be written.
pub fn write_tasks(path: &Path, tasks: u64) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        for number in 1..=tasks {
            writeln!(
                out,
                r#"{{"type":"execute-function","fn":"(a,b)=>a+b","args":[{number},1]}}"#
            )?;
        }
        out.flush()
    };
    write().with_context(|| format!("failed to write the tasks to {}", path.display()))
}

/// Runs poolctl over the file and checks what it printed. CPU time of the pool is the caller's to
/// add.
///
/// # Errors
/// When poolctl does not succeed, or one outcome is missing, doubled or wrong.
pub fn run(
    socket: &Path,
    file: &Path,
    tasks: u64,
    window: u32,
    answerer: Answerer,
) -> anyhow::Result<Round> {
    let outcomes = file.with_extension("outcomes");
    let out = File::create(&outcomes)
        .with_context(|| format!("failed to make {}", outcomes.display()))?;
    let before = children_seconds()?;
    let start = Instant::now();
    let status = Command::new(program("poolctl")?)
        .arg("--socket")
        .arg(socket)
        .arg("submit")
        .arg(file)
        .args(["--window", &window.to_string()])
        .stdin(Stdio::null())
        .stdout(out)
        .status()
        .context("failed to start poolctl")?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(status.success(), "failed to submit the tasks: poolctl ended with {status}");
    check(&outcomes, tasks, answerer)?;
    let cpu = CpuSeconds { client: children_seconds()? - before, ..CpuSeconds::default() };
    Ok(Round::new(tasks, seconds, None, cpu))
}

/// CPU seconds of the children that have ended: poolctl, as the supervisor has not.
fn children_seconds() -> anyhow::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("failed to ask for CPU times")?;
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

#[derive(Deserialize)]
struct Line<'a> {
    status: &'a str,
    result: Option<u64>,
}

/// Every task once, and each with its own result.
fn check(path: &Path, tasks: u64, answerer: Answerer) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
    let mut seen = vec![false; usize::try_from(tasks)?];
    let mut count = 0;
    for line in BufReader::new(file).lines() {
        let text = line.with_context(|| format!("failed to read {}", path.display()))?;
        let line: Line<'_> =
            serde_json::from_str(&text).with_context(|| format!("failed to read {text}"))?;
        count += 1;
        let right = match (answerer, line.result) {
            (Answerer::Echo, result) => {
                result.map(|n| n.to_string()).as_deref() == Some(echo::RESULT)
            }
            (Answerer::Pool, Some(sum @ 2..)) if sum <= tasks + 1 => {
                !std::mem::replace(&mut seen[sum as usize - 2], true)
            }
            (Answerer::Pool, _) => false,
        };
        if line.status != "succeeded" || !right {
            bail!("failed to get the right outcomes: one is {text}");
        }
    }
    ensure!(count == tasks, "failed to get the outcomes: {count} came for {tasks} tasks");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(lines: &str, answerer: Answerer) -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("outcomes");
        std::fs::write(&path, lines)?;
        check(&path, 2, answerer)
    }

    #[test]
    fn missing_doubled_wrong_and_failed_outcomes_are_noticed() {
        let good = |sum: u64| format!("{{\"status\":\"succeeded\",\"result\":{sum}}}\n");
        assert!(checked(&(good(3) + &good(2)), Answerer::Pool).is_ok());
        assert!(checked(&(good(42) + &good(42)), Answerer::Echo).is_ok());
        for lines in [
            good(2),
            good(2) + &good(2),
            good(2) + &good(4),
            good(2) + "{\"status\":\"failed\",\"error\":{}}\n",
        ] {
            assert!(checked(&lines, Answerer::Pool).is_err(), "{lines}");
        }
        assert!(checked(&(good(42) + &good(2)), Answerer::Echo).is_err());
    }

    #[test]
    fn every_line_of_the_file_is_a_task() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tasks");
        write_tasks(&path, 3).expect("written");
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(
            text.lines().filter(|line| pool_protocol::task::parse(line.as_bytes()).is_ok()).count(),
            3,
            "{text}"
        );
    }
}
