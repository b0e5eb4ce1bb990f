//! The control socket: its place on disk (folder, lock, stale files), and who calls.
//!
//! Its file can be removed by anybody who may write to its folder; cleaners of `/tmp` do so. The
//! supervisor would then run on and nobody could reach it, so the file is made again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use interprocess::local_socket::prelude::*;
use interprocess::local_socket::{GenericFilePath, ListenerNonblockingMode, ListenerOptions};
use interprocess::os::unix::local_socket::ListenerOptionsExt;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::clients::Caller;
use super::lock;

/// `sun_path` less its final zero.
const MAX_PATH_BYTES: usize = 107;

/// The socket and what keeps others from it.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) listener: UnixListener,
    pub(super) path: PathBuf,
    /// The socket's file.
    file: FileId,
    /// Held while this supervisor lives; the kernel lets go of it with the process.
    lock: File,
    /// The file is not ours and cannot be, which was said.
    in_trouble: bool,
}

/// A file, whatever its name: device and number.
type FileId = (u64, u64);

/// What has become of the socket's file.
#[derive(Debug)]
pub(crate) enum Renewed {
    /// It is there, or what is wrong was said before.
    Nothing,
    /// It was gone and is there again, with a new listener.
    Again,
    /// It cannot be made again.
    Trouble(ListenError),
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error(
        "failed to use the socket path {path}: it is {len} bytes long and the system allows \
         {MAX_PATH_BYTES}; name a shorter one with --socket"
    )]
    TooLong { path: PathBuf, len: usize },
    #[error("failed to make the folder {path}: {reason}")]
    Folder { path: PathBuf, reason: io::Error },
    #[error("failed to use the folder {path}: {problem}; name another with --socket")]
    UnsafeFolder { path: PathBuf, problem: String },
    #[error(
        "failed to use {path}: there is something that is not a socket; remove it, or name another \
         path with --socket"
    )]
    NotASocket { path: PathBuf },
    #[error(
        "failed to listen on {path}: another supervisor serves it; stop that one (`poolctl \
         shutdown`), or name another path with --socket"
    )]
    Occupied { path: PathBuf },
    #[error("failed to listen on {path}: {reason}")]
    Bind { path: PathBuf, reason: io::Error },
    #[error(
        "failed to listen on {path} any longer: somebody has put another file there; remove that"
    )]
    Replaced { path: PathBuf },
}

impl Control {
    /// Takes the path: makes its folder, proves that no other supervisor lives there, removes what
    /// a dead one left.
    pub(crate) fn open(path: &Path) -> Result<Self, ListenError> {
        let len = path.as_os_str().len();
        if len > MAX_PATH_BYTES {
            return Err(ListenError::TooLong { path: path.to_owned(), len });
        }
        let bind = |reason| ListenError::Bind { path: path.to_owned(), reason };
        prepare_folder(folder_of(path))?;
        let lock = take_lock(path, lock::take)?;
        remove_stale(path)?;
        let listener = listen(path)?;
        let file = file_id(&fs::symlink_metadata(path).map_err(bind)?);
        Ok(Self { listener, path: path.to_owned(), file, lock, in_trouble: false })
    }

    /// Makes the socket's file again if it is gone. To be called now and then: it costs a look.
    pub(crate) fn renew(&mut self) -> Renewed {
        let renewed = self.try_renew();
        let is_news = !self.in_trouble;
        self.in_trouble = renewed.is_err();
        match renewed {
            Ok(false) => Renewed::Nothing,
            Ok(true) => Renewed::Again,
            Err(error) if is_news => Renewed::Trouble(error),
            Err(_) => Renewed::Nothing,
        }
    }

    fn try_renew(&mut self) -> Result<bool, ListenError> {
        let failed = |reason| ListenError::Bind { path: self.path.clone(), reason };
        match fs::symlink_metadata(&self.path) {
            Ok(about) if file_id(&about) == self.file => return Ok(false),
            Ok(_) => return Err(ListenError::Replaced { path: self.path.clone() }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(reason) => return Err(failed(reason)),
        }
        prepare_folder(folder_of(&self.path))?;
        // The lock's file may be gone too, and another supervisor may hold one of the same name.
        let held = file_id(&self.lock.metadata().map_err(failed)?);
        if fs::symlink_metadata(lock_path(&self.path)).map_or(true, |about| file_id(&about) != held)
        {
            // Nobody waits here: there is another look soon.
            self.lock = take_lock(&self.path, lock::take_now)?;
        }
        let listener = listen(&self.path)?;
        self.file = file_id(&fs::symlink_metadata(&self.path).map_err(failed)?);
        self.listener = listener;
        Ok(true)
    }

    /// One connection of somebody who may connect. `None` when there is none now.
    pub(crate) fn accept(&self) -> io::Result<Option<UnixStream>> {
        match self.listener.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted
                ) =>
            {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The lock file stays: removing it would let two supervisors hold two files of the same
        // name.
        if fs::symlink_metadata(&self.path).is_ok_and(|about| file_id(&about) == self.file) {
            let _gone_already = fs::remove_file(&self.path);
        }
    }
}

fn file_id(about: &fs::Metadata) -> FileId {
    (about.dev(), about.ino())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn listen(path: &Path) -> Result<UnixListener, ListenError> {
    let bind = |reason| ListenError::Bind { path: path.to_owned(), reason };
    let name = path.to_fs_name::<GenericFilePath>().map_err(bind)?;
    let listener = ListenerOptions::new()
        .name(name)
        .mode(0o600)
        .nonblocking(ListenerNonblockingMode::Both)
        .reclaim_name(false)
        .create_sync()
        .map_err(bind)?;
    let LocalSocketListener::UdSocket(listener) = listener;
    let listener = UnixListener::from(OwnedFd::from(listener));
    listener.set_nonblocking(true).map_err(bind)?;
    Ok(listener)
}

/// The process behind a connection.
pub(crate) fn caller(stream: &UnixStream) -> Caller {
    match getsockopt(stream, PeerCredentials) {
        Ok(peer) => Caller::Process { pid: peer.pid(), uid: peer.uid() },
        Err(_) => Caller::Process { pid: 0, uid: u32::MAX },
    }
}

fn prepare_folder(folder: &Path) -> Result<(), ListenError> {
    let unsafe_folder =
        |problem: String| ListenError::UnsafeFolder { path: folder.to_owned(), problem };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|reason| ListenError::Folder { path: folder.to_owned(), reason })?;
    let about = fs::metadata(folder)
        .map_err(|reason| ListenError::Folder { path: folder.to_owned(), reason })?;
    let own = nix::unistd::geteuid().as_raw();
    if about.uid() != own && about.uid() != 0 {
        return Err(unsafe_folder(format!(
            "it belongs to user {}, not to this one ({own})",
            about.uid()
        )));
    }
    let sticky = about.mode() & 0o1000 != 0;
    if about.mode() & 0o022 != 0 && !sticky {
        return Err(unsafe_folder(format!(
            "others may write to it (mode {:04o})",
            about.mode() & 0o7777
        )));
    }
    Ok(())
}

fn take_lock(path: &Path, take: fn(&File) -> io::Result<bool>) -> Result<File, ListenError> {
    let bind = |reason| ListenError::Bind { path: path.to_owned(), reason };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(lock_path(path))
        .map_err(bind)?;
    match take(&file) {
        Ok(true) => Ok(file),
        Ok(false) => Err(ListenError::Occupied { path: path.to_owned() }),
        Err(reason) => Err(bind(reason)),
    }
}

/// Removes a socket that nobody serves. A symbolic link or any other file is left alone.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let Ok(about) = fs::symlink_metadata(path) else { return Ok(()) };
    if !about.file_type().is_socket() {
        return Err(ListenError::NotASocket { path: path.to_owned() });
    }
    if !lock::becomes_true(|| UnixStream::connect(path).is_err()) {
        return Err(ListenError::Occupied { path: path.to_owned() });
    }
    fs::remove_file(path).map_err(|reason| ListenError::Bind { path: path.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn refusal(path: &Path) -> String {
        Control::open(path).expect_err("must be refused").to_string()
    }

    #[test]
    fn a_second_supervisor_is_refused_and_the_first_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pool.sock");
        let first = Control::open(&path).expect("free");
        assert!(refusal(&path).contains("another supervisor"));
        UnixStream::connect(&path).expect("the first still listens");
        drop(first);
        assert!(!path.exists());
        Control::open(&path).expect("free again");
    }

    #[test]
    fn the_socket_is_0600_in_a_folder_0700() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/pool.sock");
        let _control = Control::open(&path).expect("free");
        let mode = |p: &Path| fs::metadata(p).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().expect("it has one"))), (0o600, 0o700));
    }

    #[test]
    fn a_stale_socket_is_replaced_and_anything_else_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pool.sock");
        drop(UnixListener::bind(&path).expect("free"));
        drop(Control::open(&path).expect("nobody serves it"));
        fs::write(&path, "precious").expect("writable");
        assert!(refusal(&path).contains("not a socket"));
        fs::remove_file(&path).expect("there");
        std::os::unix::fs::symlink("/etc/passwd", &path).expect("writable");
        assert!(refusal(&path).contains("not a socket"));
    }

    #[test]
    fn a_socket_whose_file_was_removed_is_made_again_and_anothers_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run/pool.sock");
        let mut control = Control::open(&path).expect("free");
        assert!(matches!(control.renew(), Renewed::Nothing));
        for remove in
            [|path: &Path| fs::remove_file(path), |path: &Path| fs::remove_dir_all(folder_of(path))]
        {
            remove(&path).expect("ours");
            assert!(matches!(control.renew(), Renewed::Again));
            UnixStream::connect(&path).expect("it is there again");
            assert!(control.accept().expect("it listens").is_some());
            assert!(refusal(&path).contains("another supervisor"), "it is locked too");
            assert!(matches!(control.renew(), Renewed::Nothing));
        }
        fs::remove_file(&path).expect("ours");
        fs::write(&path, "precious").expect("our folder");
        assert!(matches!(control.renew(), Renewed::Trouble(ListenError::Replaced { .. })));
        assert!(matches!(control.renew(), Renewed::Nothing), "it was said");
        drop(control);
        assert_eq!(fs::read_to_string(&path).expect("left alone"), "precious");
    }

    #[test]
    fn a_path_that_is_too_long_and_a_folder_that_others_write_to_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(
            refusal(&folder.path().join("x".repeat(108))).contains("108")
                || refusal(&folder.path().join("x".repeat(108))).contains("bytes long")
        );
        let open = folder.path().join("open");
        fs::create_dir(&open).expect("writable");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("ours");
        assert!(refusal(&open.join("pool.sock")).contains("others may write"));
    }
}
