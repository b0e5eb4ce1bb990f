//! `pool-worker`: the child process that runs tasks. Arguments → run → exit code.

mod clock;
mod executable;
mod http;
mod link;
mod lockdown;
mod probe;
mod run;
mod shell;
mod shown;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::abort;

use pool_protocol::lane::Lane;

/// Free memory at the heap's end that is kept: bodies of one task.
const KEPT_BYTES: i32 = 8 << 20;

/// What the command line asks for.
#[derive(PartialEq, Eq, Debug)]
enum Order {
    /// Serve the supervisor on descriptor 3.
    Serve { lane: Lane, parent: Option<u32> },
    /// Write the engine's startup snapshot.
    MakeSnapshot(PathBuf),
    /// Print the version.
    Version,
    /// Somebody started it by hand.
    Explain,
}

fn main() {
    let started = std::time::Instant::now();
    pool_os::heap::keep_pages(KEPT_BYTES);
    // A bug must not leave a worker that answers its heartbeats and runs no tasks.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        abort();
    }));
    let code = match read_arguments(std::env::args_os().skip(1)) {
        Order::Serve { lane, parent } => serve(started, lane, parent),
        Order::MakeSnapshot(path) => finish(run::make_snapshot(&path)),
        Order::Version => {
            let (own, engine) = (env!("CARGO_PKG_VERSION"), pool_worker::js::v8_version());
            i32::from(writeln!(std::io::stdout(), "pool-worker {own} (V8 {engine})").is_err())
        }
        Order::Explain => explain(),
    };
    exit(code)
}

fn serve(started: std::time::Instant, lane: Lane, parent: Option<u32>) -> i32 {
    let Some(socket) = run::socket() else {
        return explain();
    };
    finish(run::serve(socket, started, lane, parent))
}

/// Writes a line to standard error. Not `eprintln!`, which panics where nobody reads: that would
/// abort.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn finish(result: anyhow::Result<()>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(error) => {
            say(&format!("pool-worker: {error:#}"));
            1
        }
    }
}

fn explain() -> i32 {
    say("pool-worker is started by pool-supervisor, which hands it its work; there is nothing to \
         start by hand");
    2
}

/// Ends the process without tearing the engine down: other threads still run, and the kernel frees
/// everything at once.
fn exit(code: i32) -> ! {
    #[expect(unsafe_code, reason = "leaving without destructors")]
    // SAFETY: takes nothing and does not return.
    unsafe {
        libc::_exit(code)
    }
}

fn read_arguments(args: impl Iterator<Item = OsString>) -> Order {
    let args: Vec<OsString> = args.collect();
    let text: Vec<&str> = args.iter().map(|a| a.to_str().unwrap_or_default()).collect();
    match text[..] {
        ["--version" | "-V"] => Order::Version,
        ["--make-snapshot", _] => Order::MakeSnapshot(PathBuf::from(&args[1])),
        ["--lane", lane, ref rest @ ..] => {
            let lane = match lane {
                "js" => Lane::Js,
                "io" => Lane::Io,
                _ => return Order::Explain,
            };
            let parent = match rest {
                [] => None,
                ["--parent", pid] => match pid.parse() {
                    Ok(pid) => Some(pid),
                    Err(_) => return Order::Explain,
                },
                _ => return Order::Explain,
            };
            Order::Serve { lane, parent }
        }
        _ => Order::Explain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Order {
        read_arguments(args.iter().map(OsString::from))
    }

    #[test]
    fn only_what_the_supervisor_says_starts_a_worker() {
        assert_eq!(read(&["--lane", "js"]), Order::Serve { lane: Lane::Js, parent: None });
        assert_eq!(
            read(&["--lane", "io", "--parent", "17"]),
            Order::Serve { lane: Lane::Io, parent: Some(17) }
        );
        for wrong in [
            &[][..],
            &["--help"],
            &["--lane"],
            &["--lane", "gpu"],
            &["--lane", "js", "--parent"],
            &["--lane", "js", "--parent", "x"],
            &["--lane", "js", "--more"],
            &["--make-snapshot"],
        ] {
            assert_eq!(read(wrong), Order::Explain, "{wrong:?}");
        }
    }
}
