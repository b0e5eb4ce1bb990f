//! The daemon: arguments → run → exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    pool_supervisor::shell::main()
}
