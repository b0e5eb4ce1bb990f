//! The engine's startup snapshot: made once per worker binary by a short-lived process, then mapped by every worker.
//!
//! It lies in the cache folder under a name that holds the binary's identity, so that a new binary gets a new one. Without it
//! workers start more slowly and run the same.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Snapshots of older binaries that are left in the cache.
const KEEP: usize = 4;
/// For making one, which takes a fraction of a second: the pool's start waits for it, and must not wait for ever on a program
/// that is no worker.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// The snapshot's path, made now if it is not there. `None` when it cannot be made; the reason is logged.
pub(crate) fn prepare(worker: &Path, cache: &Path) -> Option<PathBuf> {
    match find_or_make(worker, cache) {
        Ok(path) => Some(path),
        Err(reason) => {
            tracing::warn!("failed to make the startup snapshot: {reason}; workers start without it");
            None
        }
    }
}

fn find_or_make(worker: &Path, cache: &Path) -> Result<PathBuf, String> {
    let about = fs::metadata(worker).map_err(|e| format!("{}: {e}", worker.display()))?;
    let name = format!(
        "snapshot-{:x}-{:x}-{:x}-{:x}.{:x}.bin",
        about.dev(),
        about.ino(),
        about.size(),
        about.mtime(),
        about.mtime_nsec()
    );
    let path = cache.join(name);
    if path.exists() {
        return Ok(path);
    }
    fs::create_dir_all(cache).map_err(|e| format!("{}: {e}", cache.display()))?;
    remove_old(cache);
    let mut child = Command::new(worker)
        .arg("--make-snapshot")
        .arg(&path)
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
        return Ok(path);
    }
    if !in_time {
        return Err(format!("{} --make-snapshot did not end within {} s", worker.display(), PATIENCE.tv_sec));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{} --make-snapshot: {}: {}", worker.display(), output.status, said.trim()))
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
