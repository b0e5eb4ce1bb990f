//! `instructions`: counts the instructions that a task costs, and fails when they have become more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use pool_bench::instructions::{Stored, per_task, toolchain};
use pool_bench::scenarios::Scenario;

/// Instructions per task of the core and the frames, beside the stored figures.
#[derive(Debug, Parser)]
#[command(name = "instructions", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Count every scenario and compare
    Check(Check),
    /// Do a scenario's work: what is counted
    Run {
        /// Which
        scenario: String,
        /// For how many tasks
        tasks: u64,
    },
}

#[derive(Debug, Args)]
struct Check {
    /// The file of stored figures
    #[arg(long, value_name = "PATH")]
    stored: PathBuf,
    /// Store what was counted
    #[arg(long)]
    store: bool,
}

fn main() -> ExitCode {
    let done = match Cli::parse().mode {
        Mode::Check(args) => check(&args),
        Mode::Run { scenario, tasks } => run(&scenario, tasks).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(scenario: &str, tasks: u64) -> anyhow::Result<()> {
    Scenario::find(scenario)
        .with_context(|| format!("failed to find the scenario {scenario:?}"))?
        .run(tasks);
    Ok(())
}

/// Whether nothing has become dearer.
fn check(args: &Check) -> anyhow::Result<bool> {
    let program = std::env::current_exe().context("failed to find this program's file")?;
    let toolchain = toolchain()?;
    if args.store {
        return store(&args.stored, &program, toolchain).map(|()| true);
    }
    let stored = Stored::read(&args.stored)?;
    if stored.toolchain != toolchain {
        println!(
            "The figures were stored under {:?}, and this is {toolchain:?}: {:.0} % more are let \
             pass.",
            stored.toolchain,
            stored.margin(&toolchain) * 100.0
        );
    }
    let mut passes = true;
    for scenario in Scenario::ALL {
        let counted = per_task(&program, scenario)?;
        let judgement = stored.judge(&toolchain, scenario.name, counted);
        passes &= judgement.passes();
        println!("{:>22}  {counted:>8.1} instructions a task  {judgement}", scenario.name);
    }
    Ok(passes)
}

fn store(path: &Path, program: &Path, toolchain: String) -> anyhow::Result<()> {
    let mut instructions_per_task = BTreeMap::new();
    for scenario in Scenario::ALL {
        let counted = per_task(program, scenario)?;
        println!("{:>22}  {counted:>8.1} instructions a task", scenario.name);
        instructions_per_task.insert(scenario.name.to_owned(), (counted * 10.0).round() / 10.0);
    }
    Stored { toolchain, instructions_per_task }.write(path)
}
