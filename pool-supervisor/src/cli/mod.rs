//! poolctl: what a person types, and what they read.
//!
//! Owns the arguments, the rendering and the exit codes. It must not know how the supervisor works:
//! everything goes through [`crate::client`]. Standard output carries results and nothing else, so
//! that it can be piped; notes, console lines of tasks, errors and the progress bar go to standard
//! error.

use std::ffi::OsString;

use clap::Parser;

use crate::client::Connection;
use crate::config::paths::Surroundings;

mod admin;
mod args;
mod doctor;
mod error;
mod events;
mod exit;
mod input;
mod interrupt;
mod output;
mod run;
mod spec;
mod submit;
mod table;

pub use error::CliError;
pub use exit::Exit;

use args::{Args, Command};

/// Runs one command line and says what the process should exit with.
pub fn main(arguments: impl Iterator<Item = OsString>) -> Exit {
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => {
            // Help and the version come here too; only mistakes are an exit code. A closed pipe is
            // nobody's mistake.
            let _ = error.print();
            return if error.use_stderr() { Exit::BadArguments } else { Exit::Ok };
        }
    };
    match run(&args) {
        Ok(exit) => exit,
        Err(error) => {
            if !error.is_broken_pipe() {
                output::complain(&error.to_string());
            }
            error.exit()
        }
    }
}

fn run(args: &Args) -> Result<Exit, CliError> {
    match &args.command {
        Command::Run(what) => run::run(what, || connect(args)),
        Command::Submit(what) => submit::submit(what, || connect(args)),
        Command::Events(what) => events::events(what, &mut connect(args)?),
        Command::Status(what) => admin::status(&mut connect(args)?, what.json),
        Command::Workers(what) => admin::workers(&mut connect(args)?, what.dead, what.form.json),
        Command::Projects(what) => admin::projects(&mut connect(args)?, what.json),
        Command::Task(what) => admin::task(&mut connect(args)?, what),
        Command::Cancel { id, form } => admin::cancel(&mut connect(args)?, *id, form.json),
        Command::Limit { project, limit, form } => {
            admin::limit(&mut connect(args)?, project, limit.0, form.json)
        }
        Command::Drain(form) => admin::drain(&mut connect(args)?, form.json),
        Command::Reload { modules, form } => {
            admin::reload(&mut connect(args)?, *modules, form.json)
        }
        Command::Doctor(what) => doctor::doctor(&mut connect(args)?, what.json),
        Command::Shutdown { now, form } => admin::shutdown(&mut connect(args)?, *now, form.json),
    }
}

fn connect(args: &Args) -> Result<Connection, CliError> {
    let path = Surroundings::of_this_process().control_socket(args.socket.as_deref())?;
    Ok(Connection::open(&path, "poolctl")?)
}
