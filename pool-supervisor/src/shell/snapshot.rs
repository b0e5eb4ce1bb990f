//! The engine's startup snapshot: made once per worker binary by a short-lived process, then mapped
//! by every worker.
//!
//! It lies in the cache folder under a name that holds the binary's identity, so that a new binary
//! gets a new one. Without it workers start more slowly and run the same.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Snapshots of older binaries that are left in the cache.
const KEEP: usize = 4;
/// For making one, which takes a fraction of a second: a program that is no worker must not keep
/// the side room for ever.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Where the snapshot is, or will be.
pub(crate) struct Snapshot {
    path: Option<PathBuf>,
    making: Option<Making>,
}

/// The side room that makes one: its answer comes through the channel, and a byte on the socket
/// says so.
struct Making {
    answer: Receiver<Result<PathBuf, String>>,
    wake: UnixStream,
}

impl Snapshot {
    /// Finds it in the cache, or has it made beside: workers that are started meanwhile go without.
    pub(crate) fn prepare(worker: &Path, cache: &Path) -> Self {
        match Self::find_or_have_made(worker, cache) {
            Ok(snapshot) => snapshot,
            Err(reason) => {
                complain(&reason);
                Self { path: None, making: None }
            }
        }
    }

    fn find_or_have_made(worker: &Path, cache: &Path) -> Result<Self, String> {
        let path = place(worker, cache)?;
        if path.exists() {
            return Ok(Self { path: Some(path), making: None });
        }
        let side_room = |e: std::io::Error| format!("the thread that makes it: {e}");
        let (wake, mut done) = UnixStream::pair().map_err(side_room)?;
        let (say, answer) = bounded(1);
        let worker = worker.to_owned();
        thread::Builder::new()
            .name("snapshot".into())
            .spawn(move || {
                // Nobody listens any more when the supervisor ends before.
                let _ = say.send(make(&worker, &path).map(|()| path));
                let _ = done.write_all(&[1]);
            })
            .map_err(side_room)?;
        Ok(Self { path: None, making: Some(Making { answer, wake }) })
    }

    /// What to watch while it is being made: readable once there is an answer.
    pub(crate) fn watched(&self) -> Option<&UnixStream> {
        self.making.as_ref().map(|m| &m.wake)
    }

    /// Takes the answer.
    pub(crate) fn settle(&mut self) {
        let Some(making) = self.making.take() else { return };
        match making.answer.recv() {
            Ok(Ok(path)) => self.path = Some(path),
            Ok(Err(reason)) => complain(&reason),
            Err(_) => complain("the thread that makes it has ended"),
        }
    }

    /// For a worker that is started now.
    pub(crate) fn path(&self) -> Option<String> {
        self.path.as_ref().map(|p| p.to_string_lossy().into_owned())
    }
}

fn complain(reason: &str) {
    tracing::warn!("failed to make the startup snapshot: {reason}; workers start without it");
}

/// The name holds what tells one binary from another.
fn place(worker: &Path, cache: &Path) -> Result<PathBuf, String> {
    let about = fs::metadata(worker).map_err(|e| format!("{}: {e}", worker.display()))?;
    let name = format!(
        "snapshot-{:x}-{:x}-{:x}-{:x}.{:x}.bin",
        about.dev(),
        about.ino(),
        about.size(),
        about.mtime(),
        about.mtime_nsec()
    );
    Ok(cache.join(name))
}

fn make(worker: &Path, path: &Path) -> Result<(), String> {
    let cache = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(cache).map_err(|e| format!("{}: {e}", cache.display()))?;
    remove_old(cache);
    let mut child = Command::new(worker)
        .arg("--make-snapshot")
        .arg(path)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{}: {e}", worker.display()))?;
    let in_time = ends_in_time(&child).map_err(|e| format!("{}: {e}", worker.display()))?;
    if !in_time {
        // It may have ended just now, which is as good.
        let _gone_already = child.kill();
    }
    let output = child.wait_with_output().map_err(|e| format!("{}: {e}", worker.display()))?;
    if output.status.success() && path.exists() {
        return Ok(());
    }
    if !in_time {
        return Err(format!(
            "{} --make-snapshot did not end within {} s",
            worker.display(),
            PATIENCE.tv_sec
        ));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let why = match said.trim() {
        "" => output.status.to_string(),
        said => format!("{}: {said}", output.status),
    };
    Err(format!("{} --make-snapshot: {why}", worker.display()))
}

/// Nothing is read from it meanwhile: what it says fits into the pipe, or it is no worker of ours.
fn ends_in_time(child: &Child) -> std::io::Result<bool> {
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let mut ended = [PollFd::new(&pidfd, PollFlags::IN)];
    Ok(rustix::event::poll(&mut ended, Some(&PATIENCE))? > 0)
}

fn remove_old(cache: &Path) {
    let Ok(entries) = fs::read_dir(cache) else { return };
    let mut old: Vec<_> = entries
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("snapshot-"))
        .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
        .collect();
    old.sort();
    let surplus = old.len().saturating_sub(KEEP);
    for (_, path) in old.into_iter().take(surplus) {
        let _another_may_have_been_faster = fs::remove_file(path);
    }
}
