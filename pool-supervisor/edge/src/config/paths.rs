//! Where the pool's files are: the control socket, what lies beside it, and the folders for state
//! and caches.
//!
//! Shared by the daemon and the command line, which must come to the same answer. It only computes
//! names: it makes no folder and opens no file.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Bytes of a Unix socket's path: `sun_path` holds 108 with the closing zero.
const MAX_SOCKET_PATH: usize = 107;
/// The name of our folder below a shared one.
const FOLDER: &str = "process-pool";

/// A path that no socket can have; completes "failed to use …".
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "failed to use the socket path {path}: it is {len} bytes long and the system allows \
     {MAX_SOCKET_PATH}; choose a \
     shorter folder"
)]
pub struct PathTooLong {
    /// The path.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len: usize,
}

/// What of the process's surroundings decides where files are. A value, so that tests can make one
/// up.
#[derive(Clone, Debug)]
pub struct Surroundings {
    uid: u32,
    variables: Vec<(&'static str, OsString)>,
}

/// Every variable that is asked for.
const VARIABLES: &[&str] = &[
    "POOL_SOCKET",
    "RUNTIME_DIRECTORY",
    "STATE_DIRECTORY",
    "CACHE_DIRECTORY",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
    "HOME",
];

impl Surroundings {
    /// Those of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        let variables =
            VARIABLES.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))).collect();
        Self { uid: rustix::process::geteuid().as_raw(), variables }
    }

    /// An empty variable counts as none, as everywhere else in Unix.
    fn variable(&self, name: &str) -> Option<&OsString> {
        self.variables
            .iter()
            .find(|(n, value)| *n == name && !value.is_empty())
            .map(|(_, value)| value)
    }

    /// systemd gives several folders separated by colons when a unit names several; ours is the
    /// first.
    fn service_folder(&self, name: &str) -> Option<PathBuf> {
        let value = self.variable(name)?;
        let first =
            value.as_bytes().split(|b| *b == b':').next().filter(|first| !first.is_empty())?;
        Some(PathBuf::from(std::ffi::OsStr::from_bytes(first)))
    }

    /// The XDG rules say that a relative path is to be ignored.
    fn absolute(&self, name: &str) -> Option<PathBuf> {
        self.variable(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// `--socket`, else `POOL_SOCKET`, else `$RUNTIME_DIRECTORY/pool.sock`, else
    /// `$XDG_RUNTIME_DIR/process-pool/pool.sock`, else `/run/process-pool/pool.sock` for root and
    /// `/tmp/process-pool-$UID/pool.sock` for others.
    ///
    /// # Errors
    /// [`PathTooLong`] when no socket can have that path.
    pub fn control_socket(&self, given: Option<&Path>) -> Result<PathBuf, PathTooLong> {
        let path = match given {
            Some(path) => path.to_owned(),
            None => self.default_socket(),
        };
        check_socket_path(&path)?;
        Ok(path)
    }

    fn default_socket(&self) -> PathBuf {
        if let Some(path) = self.variable("POOL_SOCKET") {
            return PathBuf::from(path);
        }
        let folder = self
            .service_folder("RUNTIME_DIRECTORY")
            .or_else(|| self.absolute("XDG_RUNTIME_DIR").map(|dir| dir.join(FOLDER)))
            .unwrap_or_else(|| match self.uid {
                0 => Path::new("/run").join(FOLDER),
                uid => PathBuf::from(format!("/tmp/{FOLDER}-{uid}")),
            });
        folder.join("pool.sock")
    }

    /// What must outlive a restart: `$STATE_DIRECTORY`, else `/var/lib/process-pool` for root, else
    /// `$XDG_STATE_HOME/process-pool`, which is `~/.local/state/process-pool` unless set.
    #[must_use]
    pub fn state_folder(&self) -> PathBuf {
        self.lasting_folder("STATE_DIRECTORY", "/var/lib", "XDG_STATE_HOME", ".local/state")
    }

    /// What can be made again: `$CACHE_DIRECTORY`, else `/var/cache/process-pool` for root, else
    /// `$XDG_CACHE_HOME/process-pool`, which is `~/.cache/process-pool` unless set.
    #[must_use]
    pub fn cache_folder(&self) -> PathBuf {
        self.lasting_folder("CACHE_DIRECTORY", "/var/cache", "XDG_CACHE_HOME", ".cache")
    }

    fn lasting_folder(&self, service: &str, of_root: &str, xdg: &str, in_home: &str) -> PathBuf {
        if let Some(folder) = self.service_folder(service) {
            return folder;
        }
        if self.uid == 0 {
            return Path::new(of_root).join(FOLDER);
        }
        let base =
            self.absolute(xdg).or_else(|| self.absolute("HOME").map(|home| home.join(in_home)));
        // Without a home (a bare container user) a folder of our own in /tmp is still better than
        // none.
        base.map_or_else(
            || PathBuf::from(format!("/tmp/{FOLDER}-{}", self.uid)),
            |base| base.join(FOLDER),
        )
    }
}

/// Checks that a socket can be bound to the path.
///
/// # Errors
/// [`PathTooLong`] when it is over 107 bytes.
pub fn check_socket_path(path: &Path) -> Result<(), PathTooLong> {
    let len = path.as_os_str().len();
    if len > MAX_SOCKET_PATH {
        return Err(PathTooLong { path: path.to_owned(), len });
    }
    Ok(())
}

/// A file in the control socket's folder.
#[must_use]
pub fn beside(control_socket: &Path, name: &str) -> PathBuf {
    control_socket.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(uid: u32, variables: &[(&'static str, &str)]) -> Surroundings {
        Surroundings {
            uid,
            variables: variables.iter().map(|(n, v)| (*n, OsString::from(v))).collect(),
        }
    }

    #[test]
    fn the_control_socket_is_the_first_of_the_places_that_applies() {
        let all = [
            ("POOL_SOCKET", "/p"),
            ("RUNTIME_DIRECTORY", "/run/a:/run/b"),
            ("XDG_RUNTIME_DIR", "/run/user/7"),
        ];
        let socket = |uid, variables: &[(&'static str, &str)], given: Option<&str>| {
            with(uid, variables).control_socket(given.map(Path::new)).expect("short")
        };
        assert_eq!(socket(7, &all, Some("/given")), Path::new("/given"));
        assert_eq!(socket(7, &all, None), Path::new("/p"));
        assert_eq!(socket(7, &all[1..], None), Path::new("/run/a/pool.sock"));
        assert_eq!(socket(7, &all[2..], None), Path::new("/run/user/7/process-pool/pool.sock"));
        assert_eq!(socket(0, &[], None), Path::new("/run/process-pool/pool.sock"));
        assert_eq!(socket(7, &[], None), Path::new("/tmp/process-pool-7/pool.sock"));
        let empty =
            [("POOL_SOCKET", ""), ("RUNTIME_DIRECTORY", ""), ("XDG_RUNTIME_DIR", "relative")];
        assert_eq!(socket(7, &empty, None), Path::new("/tmp/process-pool-7/pool.sock"));
    }

    #[test]
    fn a_socket_path_over_107_bytes_is_refused_with_its_length() {
        let long = format!("/{}", "x".repeat(107));
        let error = with(0, &[]).control_socket(Some(Path::new(&long))).expect_err("108 bytes");
        assert_eq!(error.len, 108);
        assert!(error.to_string().contains("choose a shorter folder"), "{error}");
        assert!(check_socket_path(Path::new(&long[..107])).is_ok());
    }

    #[test]
    fn state_and_caches_go_where_the_init_system_or_the_desktop_says() {
        let user = [("XDG_STATE_HOME", "/s"), ("XDG_CACHE_HOME", "/c"), ("HOME", "/home/u")];
        assert_eq!(with(7, &user).state_folder(), Path::new("/s/process-pool"));
        assert_eq!(with(7, &user).cache_folder(), Path::new("/c/process-pool"));
        assert_eq!(
            with(7, &user[2..]).state_folder(),
            Path::new("/home/u/.local/state/process-pool")
        );
        assert_eq!(with(7, &user[2..]).cache_folder(), Path::new("/home/u/.cache/process-pool"));
        assert_eq!(with(0, &user).state_folder(), Path::new("/var/lib/process-pool"));
        assert_eq!(
            with(0, &[("CACHE_DIRECTORY", "/var/cache/x")]).cache_folder(),
            Path::new("/var/cache/x")
        );
        assert_eq!(with(7, &[]).state_folder(), Path::new("/tmp/process-pool-7"));
    }

    #[test]
    fn the_key_file_lies_beside_the_socket() {
        assert_eq!(beside(Path::new("/run/p/pool.sock"), "api.key"), Path::new("/run/p/api.key"));
        assert_eq!(beside(Path::new("pool.sock"), "api.key"), Path::new("api.key"));
    }
}
