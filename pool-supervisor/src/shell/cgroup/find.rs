//! Which control group is the supervisor's, and whether somebody gave it away.

use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::OWN;

/// `CGROUP2_SUPER_MAGIC` of <linux/magic.h>.
const CGROUP2: i64 = 0x6367_7270;

/// Whether it lies in a cgroup2 file system.
pub(super) fn is_group(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|about| about.f_type == CGROUP2)
}

/// The group that this process was started in, if that was delegated to it; else why not.
pub(super) fn delegated() -> Result<PathBuf, String> {
    let own = own()?;
    // An init system may have put the service itself into a group below the one that it delegated.
    let above = own.parent().filter(|_| own.file_name().is_some_and(|name| name == OWN));
    let candidates = [above, Some(own.as_path())];
    match candidates.into_iter().flatten().find(|path| is_delegated(path)) {
        Some(path) => Ok(path.to_owned()),
        None => Err(format!(
            "none was delegated to the supervisor: {} is not its own to write (systemd: \
             Delegate=yes; else cgroup.path)",
            own.display()
        )),
    }
}

/// As systemd marks it, or given to this user by an owner's change.
fn is_delegated(path: &Path) -> bool {
    let marked = |name: &CStr| {
        let mut value = [0; 8];
        rustix::fs::getxattr(path, name, &mut value[..])
            .is_ok_and(|len| value.get(..len) == Some(b"1"))
    };
    let user = rustix::process::geteuid().as_raw();
    let given = |name: &str| {
        fs::metadata(path.join(name)).is_ok_and(|about| user != 0 && about.uid() == user)
    };
    marked(c"user.delegate") || marked(c"trusted.delegate") || (given("") && given("cgroup.procs"))
}

/// The folder of the group that this process is in now, where control groups of version 2 are
/// mounted.
pub(crate) fn own() -> Result<PathBuf, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|e| format!("{path}: {e}"));
    own_group(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)
}

/// From `/proc/self/cgroup` and `/proc/self/mountinfo` to a folder.
fn own_group(cgroup: &str, mounts: &str) -> Result<PathBuf, String> {
    let group = cgroup
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .ok_or("the kernel has no control groups of version 2")?;
    let mut seen = false;
    for line in mounts.lines() {
        // ID PARENT DEVICE ROOT POINT OPTIONS... - TYPE SOURCE OPTIONS
        let Some((head, tail)) = line.split_once(" - ") else { continue };
        if tail.split(' ').next() != Some("cgroup2") {
            continue;
        }
        seen = true;
        let mut fields = head.split(' ').skip(3);
        let (Some(root), Some(point)) = (fields.next(), fields.next()) else { continue };
        if let Ok(below) = Path::new(group).strip_prefix(root) {
            return Ok(Path::new(&unescape(point)).join(below));
        }
    }
    Err(if seen {
        format!("the group {group} lies outside of what is mounted here")
    } else {
        "no cgroup2 file system is mounted".to_owned()
    })
}

/// Spaces and their like stand as three octal digits.
fn unescape(field: &str) -> String {
    ["\\040 ", "\\011\t", "\\012\n", "\\134\\"].iter().fold(field.to_owned(), |text, pair| {
        let (code, plain) = pair.split_at(4);
        text.replace(code, plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const UNIFIED: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const CONTAINER: &str = "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";

    #[test]
    fn the_own_group_is_found_below_the_mount_point() {
        let own = |cgroup: &str, mounts: &str| own_group(cgroup, mounts);
        assert_eq!(
            own("4:memory:/x\n0::/system.slice/pool.service\n", UNIFIED),
            Ok(PathBuf::from("/sys/fs/cgroup/system.slice/pool.service"))
        );
        assert_eq!(
            own("9:name=systemd:/\n0::/\n", HYBRID),
            Ok(PathBuf::from("/sys/fs/cgroup/unified/"))
        );
        assert_eq!(
            own("0::/docker/abc/pool\n", CONTAINER),
            Ok(PathBuf::from("/sys/fs/cgroup/pool"))
        );
        assert!(own("0::/docker/other\n", CONTAINER).unwrap_err().contains("outside"));
        assert!(own("4:memory:/x\n", HYBRID).unwrap_err().contains("version 2"));
        assert!(
            own("0::/x\n", "22 1 8:1 / / rw - ext4 /dev/vda rw\n").unwrap_err().contains("mounted")
        );
    }

    #[test]
    fn names_with_spaces_are_read() {
        let mounts = "30 23 0:26 / /a\\040b rw - cgroup2 cgroup2 rw\n";
        assert_eq!(own_group("0::/x", mounts), Ok(PathBuf::from("/a b/x")));
    }

    #[test]
    fn a_plain_folder_is_no_group_and_nobody_delegated_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(!is_group(folder.path()));
        assert!(!is_delegated(Path::new("/proc")));
    }
}
