//! `load`: measures a pool of its own, or a running one.

mod args;
mod modes;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pool_bench::relay;

use args::{Cli, Mode};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let measured = may_open_many_files().and_then(|()| match &cli.mode {
        Mode::Tasks(args) => modes::tasks(args).map(|()| true),
        Mode::Floor(args) => modes::floor(args).map(|()| true),
        Mode::FloorRelay(args) => relay::relay(args.manner()).map(|()| true),
        Mode::FloorEcho(args) => relay::echo(args.manner().answers).map(|()| true),
        Mode::Submit(args) => modes::submitted(args).map(|()| true),
        Mode::Spinners(args) => modes::spinners(args),
        Mode::Isolation(args) => modes::isolation(args).map(|()| true),
        Mode::Starts(args) => modes::starts(args).map(|()| true),
        Mode::Cold(args) => modes::cold(args).map(|()| true),
        Mode::Queued(args) => modes::queued(args).map(|()| true),
        Mode::Careless(args) => modes::careless(args).map(|()| true),
        Mode::Idle(args) => modes::idle(args).map(|()| true),
    });
    match measured {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A thousand connections and hundreds of workers, here and in a supervisor that is started, which
/// inherits it.
fn may_open_many_files() -> anyhow::Result<()> {
    let (_, most) =
        getrlimit(Resource::RLIMIT_NOFILE).context("failed to ask how many files may be open")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)
        .context("failed to allow as many open files as may be")
}
