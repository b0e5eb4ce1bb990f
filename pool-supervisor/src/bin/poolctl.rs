//! The command line of the pool: arguments in, an exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    pool_supervisor::cli::main(std::env::args_os()).into()
}
