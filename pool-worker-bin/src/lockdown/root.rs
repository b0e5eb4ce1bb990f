//! What a worker finds in its file system: for JavaScript an empty root with the module folders,
//! read-only; for programs a `/proc` of their own processes.
//!
//! All of it happens in a mount namespace that this process has for itself.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

/// Where the new root is put together. It is there on every Linux, and nobody needs what it hides
/// from here on.
const SITE: &str = "/proc";

const NOTHING: Option<&str> = None;

/// Replaces the root by one in which nothing is but the module folders, at their own places.
pub(super) fn replace(module_roots: &[String]) -> Result<(), String> {
    let folders = folders(module_roots)?;
    let said = |what: &'static str| move |e: nix::Error| format!("{what}: {}", super::errno(e));
    keep_to_ourselves()?;
    let levels: usize = folders.iter().map(|f| f.components().count()).sum();
    let options = format!("size=4k,nr_inodes={},mode=755", levels + 2);
    let locked = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), SITE, Some("tmpfs"), locked, Some(&*options))
        .map_err(said("mount(tmpfs)"))?;
    for folder in &folders {
        let place =
            Path::new(SITE).join(folder.strip_prefix("/").expect("real paths are absolute"));
        fs::create_dir_all(&place).map_err(|e| format!("mkdir({}): {e}", place.display()))?;
        mount(Some(&**folder), &*place, NOTHING, MsFlags::MS_BIND | MsFlags::MS_REC, NOTHING)
            .map_err(|e| format!("bind mount of {}: {}", folder.display(), super::errno(e)))?;
        read_only(&place)
            .map_err(|e| format!("mount_setattr({}, read-only): {e}", folder.display()))?;
    }
    // The new root over the old one, and the old one away: no folder is needed to put it into.
    chdir(SITE).map_err(said("chdir to the new root"))?;
    pivot_root(".", ".").map_err(said("pivot_root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(said("umount2 of the old root"))?;
    chdir("/").map_err(said("chdir(/)"))?;
    let flags = locked | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(NOTHING, "/", NOTHING, flags, NOTHING).map_err(said("remount of the new root, read-only"))
}

/// The module folders by their real paths, without those that lie in another. One that does not
/// exist is left out: a worker that starts later finds it.
fn folders(module_roots: &[String]) -> Result<Vec<PathBuf>, String> {
    let mut folders: Vec<PathBuf> =
        module_roots.iter().filter_map(|root| fs::canonicalize(root).ok()).collect();
    folders.sort();
    folders.dedup_by(|later, earlier| later.starts_with(&*earlier));
    match folders.iter().find(|f| f.components().all(|c| c == Component::RootDir)) {
        Some(_) => Err("js.moduleRoots names /, so that nothing can be hidden".to_owned()),
        None => Ok(folders),
    }
}

/// For programs in a process namespace of their own: a `/proc` that shows it. Nothing to do where
/// the supervisor has mounted one.
pub(super) fn own_proc() -> Result<(), String> {
    if proc_is_own()? {
        return Ok(());
    }
    super::namespaces::own_files()?;
    keep_to_ourselves()?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, NOTHING)
        .map_err(|e| format!("mount of a fresh /proc: {}", super::errno(e)))?;
    if proc_is_own()? {
        Ok(())
    } else {
        Err("a fresh /proc does not show this process as number 1".to_owned())
    }
}

/// Puts nothing in the place of each of these files. The mount namespace is this process's own.
pub(super) fn cover(files: &[String]) -> Result<(), String> {
    // What listens there had better not be told by what is found: a socket that is not there is one
    // that nobody serves.
    for file in files.iter().filter(|file| Path::new(file).exists()) {
        mount(Some("/dev/null"), file.as_str(), NOTHING, MsFlags::MS_BIND, NOTHING)
            .map_err(|e| format!("mount over {file}: {}", super::errno(e)))?;
    }
    Ok(())
}

fn proc_is_own() -> Result<bool, String> {
    let own = fs::read_link("/proc/self").map_err(|e| format!("readlink(/proc/self): {e}"))?;
    Ok(own == Path::new("1"))
}

/// No mount of this process reaches another namespace, nor the other way round.
fn keep_to_ourselves() -> Result<(), String> {
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)
        .map_err(|e| format!("mount(/, private): {}", super::errno(e)))
}

/// A mount and all below it. A remount would change one, and would have to repeat the flags that a
/// user namespace may not clear.
fn read_only(place: &Path) -> io::Result<()> {
    let path = CString::new(place.as_os_str().as_bytes())?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY
            | libc::MOUNT_ATTR_NOSUID
            | libc::MOUNT_ATTR_NODEV
            | libc::MOUNT_ATTR_NOEXEC,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    #[expect(unsafe_code, reason = "neither nix nor rustix wraps mount_setattr")]
    // SAFETY: the path and the attributes live through the call, and the size is theirs.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_inside_others_and_missing_ones_are_left_out() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        for name in ["a/b", "ab"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        let text = |name: &str| base.join(name).to_str().unwrap().to_owned();
        let seen = folders(&[text("ab"), text("a/b"), text("a"), text("none"), text("a")]).unwrap();
        assert_eq!(seen, [base.join("a"), base.join("ab")]);
        assert!(folders(&["/usr".into(), "/".into()]).is_err());
    }
}
