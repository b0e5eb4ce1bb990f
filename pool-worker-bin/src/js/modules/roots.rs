//! The folders that modules may come from, and the files in them.
//!
//! Two checks on every path: as text, before the file system is asked, so that nothing can be
//! learnt about what lies outside; and after symbolic links are followed.

use std::path::{Component, Path, PathBuf};

use super::package::Manifest;
use super::refusal::Refusal;
use super::resolve::How;

/// Largest module file.
const MAX_FILE_BYTES: u64 = 32 << 20;

/// The folders by their real paths.
#[derive(Debug, Clone, Default)]
pub(super) struct Roots {
    folders: Vec<PathBuf>,
    /// Other paths of the folders, through symbolic links, and the folder that each leads to.
    links: Vec<(PathBuf, PathBuf)>,
}

impl Roots {
    /// Roots that do not exist yet are kept as they are written. `links`: what the configuration
    /// calls a root by, where that is not its real path.
    pub(super) fn new(roots: &[PathBuf], links: &[(PathBuf, PathBuf)]) -> Self {
        let mut known = Self { folders: Vec::new(), links: links.to_vec() };
        for root in roots {
            let real = root.canonicalize().unwrap_or_else(|_| root.clone());
            let written = without_dots(root);
            if written != real {
                known.links.push((written, real.clone()));
            }
            known.folders.push(real);
        }
        known
    }

    pub(super) fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    pub(super) fn hold(&self, path: &Path) -> bool {
        self.folders.iter().any(|root| path.starts_with(root))
    }

    /// Takes `.` and `..` out of a path as text, and refuses what is not inside a root then.
    pub(super) fn normal(&self, path: &Path, shown: &str) -> Result<PathBuf, Refusal> {
        let mut normal = without_dots(path);
        for (link, folder) in &self.links {
            if let Ok(rest) = normal.strip_prefix(link) {
                normal = folder.join(rest);
                break;
            }
        }
        if self.hold(&normal) { Ok(normal) } else { Err(Refusal::outside(shown)) }
    }

    /// The real path of a file; `None` if there is no file.
    pub(super) fn file(&self, path: &Path, shown: &str) -> Result<Option<PathBuf>, Refusal> {
        let Ok(real) = path.canonicalize() else {
            // In an empty root nothing exists outside, so that a link to there leads nowhere. It is
            // called by the same name everywhere.
            return if self.links_outside(path) { Err(Refusal::outside(shown)) } else { Ok(None) };
        };
        if !self.hold(&real) {
            return Err(Refusal::outside(shown));
        }
        // Paths become script names, which are text.
        Ok((real.is_file() && real.to_str().is_some()).then_some(real))
    }

    /// Whether the path is or passes a link that names something outside.
    fn links_outside(&self, path: &Path) -> bool {
        path.ancestors().take_while(|place| self.hold(place)).any(|place| {
            let target =
                place.read_link().ok().and_then(|target| Some(place.parent()?.join(target)));
            target.is_some_and(|target| !self.hold(&without_dots(&target)))
        })
    }

    /// A file by its whole name, or without its extension.
    fn with_extension(
        &self,
        path: &Path,
        how: How,
        shown: &str,
    ) -> Result<Option<PathBuf>, Refusal> {
        match self.file(path, shown)? {
            Some(file) => Ok(Some(file)),
            None => self.extended(path, how, shown),
        }
    }

    fn extended(&self, path: &Path, how: How, shown: &str) -> Result<Option<PathBuf>, Refusal> {
        let extensions = match how {
            // Node's order, and then the two that Node wants written out.
            How::Require => [".js", ".json", ".cjs", ".mjs"],
            How::Import => [".js", ".mjs", ".cjs", ".json"],
        };
        for extension in extensions {
            let mut name = path.as_os_str().to_owned();
            name.push(extension);
            if let Some(file) = self.file(Path::new(&name), shown)? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// A file, with or without its extension, or a folder's main file. `written`: the path as it
    /// was asked for; where that can mean nothing but a folder, a file of the same name is passed
    /// by.
    pub(super) fn file_or_folder(
        &self,
        path: &Path,
        written: &str,
        how: How,
        shown: &str,
    ) -> Result<Option<PathBuf>, Refusal> {
        if !names_folder(written)
            && let Some(file) = self.with_extension(path, how, shown)?
        {
            return Ok(Some(file));
        }
        self.folder(path, how, shown)
    }

    /// The main file of a folder.
    pub(super) fn folder(
        &self,
        path: &Path,
        how: How,
        shown: &str,
    ) -> Result<Option<PathBuf>, Refusal> {
        if !path.is_dir() {
            return Ok(None);
        }
        let manifest = Manifest::read(path);
        if let Some(main) = manifest.as_ref().and_then(|manifest| manifest.main(how == How::Import))
        {
            let main = self.normal(&path.join(main), shown)?;
            if let Some(file) = self.with_extension(&main, how, shown)? {
                return Ok(Some(file));
            }
            if let Some(file) = self.extended(&main.join("index"), how, shown)? {
                return Ok(Some(file));
            }
        }
        self.extended(&path.join("index"), how, shown)
    }

    /// Reads a file that is inside.
    pub(super) fn read(file: &Path, how: How) -> Result<String, Refusal> {
        let shown = file.display();
        let metadata =
            std::fs::metadata(file).map_err(|_| Refusal::missing(&shown.to_string(), how))?;
        if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
            return Err(Refusal::denied(format!(
                "cannot load {shown}: not a file, or larger than 32 MiB"
            )));
        }
        let bytes = std::fs::read(file)
            .map_err(|error| Refusal::denied(format!("cannot read {shown}: {error}")))?;
        let text = String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        Ok(text.strip_prefix('\u{FEFF}').map(str::to_owned).unwrap_or(text))
    }
}

/// Whether a specifier can mean nothing but a folder.
fn names_folder(specifier: &str) -> bool {
    matches!(specifier.rsplit('/').next(), Some("" | "." | ".."))
}

/// Takes `.` and `..` out of a path as text.
fn without_dots(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_like_a_folder_names_one() {
        for specifier in [".", "..", "./", "../", "./x/", "./x/.", "x/..", "/srv/"] {
            assert!(names_folder(specifier), "{specifier}");
        }
        for specifier in ["./x", "./.x", "..x", "./x/..y", "/srv/x.js"] {
            assert!(!names_folder(specifier), "{specifier}");
        }
    }

    #[test]
    fn a_root_has_the_path_that_it_is_called_by_too() {
        let base = tempfile::tempdir().expect("a temporary folder can be made");
        let base = base.path().canonicalize().expect("it is there");
        std::fs::create_dir_all(base.join("release-1")).expect("folders can be made");
        std::os::unix::fs::symlink("release-1", base.join("current")).expect("links can be made");
        let real = base.join("release-1/m.mjs");
        let written = Roots::new(&[base.join("current")], &[]);
        let told = Roots::new(
            &[base.join("release-1")],
            &[(base.join("current"), base.join("release-1"))],
        );
        for roots in [written, told] {
            for path in ["current/m.mjs", "release-1/m.mjs", "current/../current/x/../m.mjs"] {
                assert_eq!(roots.normal(&base.join(path), "x").ok(), Some(real.clone()), "{path}");
            }
            for path in ["m.mjs", "currently/m.mjs", "current/../m.mjs"] {
                assert!(roots.normal(&base.join(path), "x").is_err(), "{path}");
            }
        }
    }
}
