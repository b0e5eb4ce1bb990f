//! A temporary folder with files that a test writes.

use std::path::{Path, PathBuf};

use crate::executable;

/// Removed when it is dropped.
#[derive(Debug)]
pub struct Folder(tempfile::TempDir);

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Folder {
    /// An empty one. Its path is short: sockets lie in it.
    #[must_use]
    pub fn new() -> Self {
        let made = tempfile::Builder::new().prefix("pool-").tempdir_in("/tmp");
        Self(made.expect("a folder in /tmp can be made"))
    }

    /// Where it is, without links in it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.0.path().canonicalize().expect("the folder exists")
    }

    /// A path inside.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file, and the folders that lead to it.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a folder"))
            .expect("folders can be made");
        std::fs::write(&path, text).expect("a file can be written");
        path
    }

    /// Writes a file that may be executed.
    pub fn write_program(&self, name: &str, text: &str) -> PathBuf {
        let path = self.join(name);
        executable::write(&path, text);
        path
    }

    /// Copies a file that may be executed.
    pub fn copy_program(&self, from: impl AsRef<Path>, name: &str) -> PathBuf {
        let path = self.join(name);
        executable::copy(from.as_ref(), &path);
        path
    }

    /// Its text as the text of a path.
    #[must_use]
    pub fn text(&self) -> String {
        self.path().to_str().expect("made of ASCII").to_owned()
    }
}
