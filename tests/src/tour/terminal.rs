//! A shell in which commands are typed one after the other, as a reader of the tour does it.
//!
//! Owns the shell and everything started in it: it is a process group of its own, which ends with
//! this value.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::wait::until_some;

/// Ends a command on the way in, and its output on the way out: no command of the tour has it.
const END: char = '\u{1}';

/// Reads commands up to the mark, runs each in this very shell, so that `export` lasts, and marks
/// the end of its output.
const LOOP: &str =
    r#"while IFS= read -r -d $'\1' command; do eval "$command" </dev/null; printf '\1'; done"#;

/// Both outputs of its commands end up on one screen, in the order in which they are written.
#[derive(Debug)]
pub struct Terminal {
    shell: Child,
    keys: ChildStdin,
    screen: PathBuf,
    /// Where the output of the last command begins.
    began: usize,
}

impl Terminal {
    /// Opens one in a folder, with nothing but these variables.
    ///
    /// # Panics
    /// When there is no `bash`.
    #[must_use]
    pub fn open(screen: PathBuf, folder: &Path, variables: &[(&str, String)]) -> Self {
        let output = File::create(&screen).expect("a file can be made");
        let mut shell = Command::new("bash")
            .args(["--noprofile", "--norc", "-c", LOOP])
            .env_clear()
            .envs(variables.iter().map(|(name, value)| (*name, value.as_str())))
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("a descriptor can be copied"))
            .stderr(output)
            .process_group(0)
            .spawn()
            .expect("bash is there");
        let keys = shell.stdin.take().expect("piped");
        Self { shell, keys, screen, began: 0 }
    }

    /// Types a command and waits until it has ended; gives what it printed.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn run(&mut self, command: &str) -> String {
        self.start(command);
        until_some(command, || self.shown().strip_suffix(END).map(str::to_owned))
    }

    /// Types a command and does not wait.
    ///
    /// # Panics
    /// When the shell is gone.
    pub fn start(&mut self, command: &str) {
        self.began = self.all().len();
        write!(self.keys, "{command}{END}").expect("the shell reads");
    }

    /// What the last command has printed so far; ends with the mark when it has ended.
    #[must_use]
    pub fn shown(&self) -> String {
        self.all().split_off(self.began)
    }

    /// Waits until the last command has ended; gives all that it printed.
    ///
    /// # Panics
    /// When it does not end in time.
    #[must_use]
    pub fn wait(&self) -> String {
        until_some("the command ends", || self.shown().strip_suffix(END).map(str::to_owned))
    }

    fn all(&self) -> String {
        let bytes = std::fs::read(&self.screen).expect("our own file");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let group = i32::try_from(self.shell.id()).ok().and_then(Pid::from_raw);
        // It may have ended already, with everything in it.
        let _ended = group.map(|group| kill_process_group(group, Signal::KILL));
        let _reaped = self.shell.wait();
    }
}
