//! The API's key: a file that only its owner can read, made at first start.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;

/// Random bytes in a key that is made here; twice as many hexadecimal digits.
const KEY_BYTES: usize = 32;
/// Characters of a key that somebody chose.
const SHORTEST: usize = 16;
const LONGEST: usize = 512;

/// A key file that cannot be used; completes "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("failed to read the API key {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// It cannot be made.
    #[error(
        "failed to make the API key {path}: {reason}; make the folder, or name another file with \
         http.keyFile"
    )]
    Make {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// It is a folder, a pipe or a device.
    #[error(
        "failed to use the API key {path}: it is not a plain file; name another with http.keyFile"
    )]
    NoFile {
        /// What is there.
        path: PathBuf,
    },
    /// Others could have read it.
    #[error(
        "failed to trust the API key {path}: its mode is {mode:03o}, so that others can read it; \
         chmod 600 it"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("failed to trust the API key {path}: it belongs to user {owner}, not to us or root")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// What it holds is no key.
    #[error(
        "failed to use the API key {path}: it must hold {SHORTEST} to {LONGEST} printable \
         characters without spaces; \
         delete it and a new one is made"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the key, or makes one when there is no file.
///
/// # Errors
/// [`KeyError`] when the file cannot be read or made, when others can read it, or when it holds no
/// key.
pub fn load_or_make_key(path: &Path) -> Result<String, KeyError> {
    match make(path) {
        Ok(key) => Ok(key),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => load(path),
        Err(reason) => Err(KeyError::Make { path: path.to_owned(), reason }),
    }
}

fn make(path: &Path) -> Result<String, std::io::Error> {
    // `create_new` does not follow a link that somebody has put there.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut random = [0u8; KEY_BYTES];
    let filled = getrandom::fill(&mut random).map_err(|e| std::io::Error::other(e.to_string()));
    let key: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let written = filled
        .and_then(|()| file.write_all(format!("{key}\n").as_bytes()))
        .and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half a key must not be what the next start finds.
        let _ = std::fs::remove_file(path);
        return Err(error);
    }
    Ok(key)
}

fn load(path: &Path) -> Result<String, KeyError> {
    let failed = |reason| KeyError::Read { path: path.to_owned(), reason };
    // A pipe that nobody writes to would hold up the start for ever.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(KeyError::NoFile { path: path.to_owned() });
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    let owner = metadata.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(KeyError::Foreign { path: path.to_owned(), owner });
    }
    let mut text = String::new();
    file.take(LONGEST as u64 + 2).read_to_string(&mut text).map_err(failed)?;
    let key = text.trim();
    let sound =
        (SHORTEST..=LONGEST).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
    if !sound {
        return Err(KeyError::Malformed { path: path.to_owned() });
    }
    Ok(key.to_owned())
}

/// Compares without telling by the time it takes how far two keys agree.
pub(super) fn same_key(ours: &str, theirs: &[u8]) -> bool {
    ours.as_bytes().ct_eq(theirs).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("api.key");
        let key = load_or_make_key(&path).expect("made");
        assert_eq!(key.len(), 64);
        assert_eq!(path.metadata().expect("there").mode() & 0o777, 0o600);
        assert_eq!(load_or_make_key(&path).expect("read"), key);
        let other = load_or_make_key(&folder.path().join("other.key")).expect("made");
        assert_ne!(other, key);
    }

    #[test]
    fn a_key_that_others_could_read_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("api.key");
        load_or_make_key(&path).expect("made");
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
                .expect("changed");
            let error = load_or_make_key(&path).expect_err("exposed");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_file_that_holds_no_key_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("api.key");
        for text in ["", "short", "with a space in it and long", &"x".repeat(600)] {
            let _ = std::fs::remove_file(&path);
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .expect("made");
            file.write_all(text.as_bytes()).expect("written");
            assert!(matches!(load_or_make_key(&path), Err(KeyError::Malformed { .. })), "{text:?}");
            assert_eq!(std::fs::read_to_string(&path).expect("still there"), text);
        }
        assert!(matches!(
            load_or_make_key(&folder.path().join("no/such.key")),
            Err(KeyError::Make { .. })
        ));
    }

    #[test]
    fn what_is_no_plain_file_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("made");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).expect("made");
        for path in [pipe, link, folder.path().to_owned()] {
            assert!(matches!(load_or_make_key(&path), Err(KeyError::NoFile { .. })), "{path:?}");
        }
    }

    #[test]
    fn keys_are_the_same_only_when_whole() {
        assert!(same_key("abcdef", b"abcdef"));
        for theirs in [&b""[..], b"abcde", b"abcdefg", b"abcdeg", b"ABCDEF"] {
            assert!(!same_key("abcdef", theirs));
        }
    }
}
