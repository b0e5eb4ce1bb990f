//! poolctl against a supervisor that does what each test says.

#![expect(clippy::disallowed_methods, reason = "real processes and sockets take real time")]

use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

mod admin;
mod arguments;
mod fake;
mod run;
mod submit;
mod terminal;

/// A poolctl at work.
struct Ctl {
    child: Child,
}

/// poolctl with these arguments on this socket, its three streams in our hands.
fn start(socket: &Path, args: &[&str]) -> Ctl {
    let mut command = Command::new(env!("CARGO_BIN_EXE_poolctl"));
    command.env_clear().arg("--socket").arg(socket).args(args);
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("poolctl");
    Ctl { child }
}

/// Runs poolctl to its end, with nothing on its standard input.
fn poolctl(socket: &Path, args: &[&str]) -> Ended {
    start(socket, args).end()
}

impl Ctl {
    fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("taken once")
    }

    /// Gives it its whole standard input.
    fn feed(mut self, input: &str) -> Self {
        // It may end before it has read everything.
        let _ = self.stdin().write_all(input.as_bytes());
        self
    }

    fn interrupt(&self) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), Signal::SIGINT).expect("it runs");
    }

    /// Waits for the end, but not for ever.
    fn end(mut self) -> Ended {
        drop(self.child.stdin.take());
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        let started = Instant::now();
        let (finish, finished) = std::sync::mpsc::channel::<()>();
        let guard = std::thread::spawn(move || {
            if finished
                .recv_timeout(fake::PATIENCE)
                .is_err_and(|e| e == std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                let _ = kill(pid, Signal::SIGKILL);
            }
        });
        let output = self.child.wait_with_output().expect("its own child");
        drop(finish);
        guard.join().expect("the guard only waits");
        Ended::new(&output, started.elapsed())
    }
}

/// What came of it.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    took: Duration,
}

impl Ended {
    fn new(output: &Output, took: Duration) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        Self {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            took,
        }
    }

    #[track_caller]
    fn expect(&self, code: i32, stdout: &str) -> &Self {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), stdout), "{self:?}");
        self
    }

    #[track_caller]
    fn says(&self, words: &str) -> &Self {
        assert!(self.stderr.contains(words), "{words:?} is not in {:?}", self.stderr);
        self
    }
}
