//! From the name of a module to a file, as Node does it, but only below the configured roots.
//!
//! Decides which file a name means. Knows nothing of V8. What an `import` names is a URL, what
//! `require` names is a path. Beyond Node, `import` finds files without their extension, and
//! folders.

use std::path::{Path, PathBuf};

use url::Url;

use super::address::{Place, path_of};
use super::package::{Conditions, Manifest, Target};
use super::refusal::Refusal;
use super::roots::Roots;

/// Names that mean a part of Node itself, when no package of that name is installed.
const BUILTINS: [&str; 41] = [
    "assert",
    "async_hooks",
    "buffer",
    "child_process",
    "cluster",
    "console",
    "constants",
    "crypto",
    "dgram",
    "diagnostics_channel",
    "dns",
    "domain",
    "events",
    "fs",
    "http",
    "http2",
    "https",
    "inspector",
    "module",
    "net",
    "os",
    "path",
    "perf_hooks",
    "process",
    "punycode",
    "querystring",
    "readline",
    "repl",
    "stream",
    "string_decoder",
    "sys",
    "timers",
    "tls",
    "trace_events",
    "tty",
    "url",
    "util",
    "v8",
    "vm",
    "worker_threads",
    "zlib",
];

/// By which statement a module is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Import,
    Require,
}

/// What a file's name and its package say about its language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    EsModule,
    CommonJs,
    Json,
    /// The syntax decides.
    Unknown,
}

/// Which modules there are.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct ModuleRoots {
    roots: Roots,
    conditions: Vec<String>,
}

impl ModuleRoots {
    /// `links`: other paths by which roots are called. `conditions`: of package manifests, besides
    /// those that Node knows.
    pub(in super::super) fn new(
        roots: &[PathBuf],
        links: &[(PathBuf, PathBuf)],
        conditions: &[String],
    ) -> Self {
        Self { roots: Roots::new(roots, links), conditions: conditions.to_vec() }
    }

    /// The file of a task's `modulePath`: inside a root, or a package installed in one.
    pub(super) fn entry(&self, path: &str) -> Result<PathBuf, Refusal> {
        if self.roots.folders().is_empty() {
            return Err(Refusal::denied(format!(
                "cannot load {path}: no moduleRoots are configured"
            )));
        }
        if path.starts_with("file:")
            && let Ok(url) = Url::parse(path)
        {
            return self
                .at_url(&url, How::Import, path)?
                .map(|place| place.file)
                .ok_or_else(|| Refusal::no_entry(path));
        }
        if Path::new(path).is_absolute() {
            let absolute = self.roots.normal(Path::new(path), path)?;
            return self
                .roots
                .file_or_folder(&absolute, path, How::Import, path)?
                .ok_or_else(|| Refusal::no_entry(path));
        }
        for root in self.roots.folders() {
            let candidate = self.roots.normal(&root.join(path), path)?;
            if let Some(file) = self.roots.file_or_folder(&candidate, path, How::Import, path)? {
                return Ok(file);
            }
        }
        if is_bare(path) {
            for root in self.roots.folders() {
                if let Some(place) = self.package(path, root, How::Import)? {
                    return Ok(place.file);
                }
            }
            refuse_builtin(path)?;
        }
        Err(Refusal::no_entry(path))
    }

    /// What an import statement or `import()` means in the module at `referrer`.
    pub(super) fn import(&self, specifier: &str, referrer: &Path) -> Result<Place, Refusal> {
        let found = match absolute(specifier, referrer) {
            Some(url) => self.at_url(&url, How::Import, specifier),
            None => self.named(specifier, referrer, How::Import),
        };
        found
            .and_then(|place| place.ok_or_else(|| Refusal::missing(specifier, How::Import)))
            .map_err(by(referrer))
    }

    /// As `import`, but as a URL; of a file that is not there too, as in Node.
    pub(super) fn import_url(&self, specifier: &str, referrer: &Path) -> Result<String, Refusal> {
        match self.import(specifier, referrer) {
            Ok(place) => Ok(place.url()),
            Err(refusal) => match absolute(specifier, referrer) {
                Some(url) if refusal.code == "ERR_MODULE_NOT_FOUND" => Ok(url.into()),
                _ => Err(refusal),
            },
        }
    }

    /// The file that `require` means in the module at `referrer`.
    pub(super) fn require(&self, specifier: &str, referrer: &Path) -> Result<PathBuf, Refusal> {
        let found = if is_bare(specifier) {
            self.named(specifier, referrer, How::Require).map(|place| place.map(|place| place.file))
        } else {
            let folder = referrer.parent().unwrap_or(referrer);
            self.roots.normal(&folder.join(specifier), specifier).and_then(|path| {
                self.roots.file_or_folder(&path, specifier, How::Require, specifier)
            })
        };
        found
            .and_then(|file| file.ok_or_else(|| Refusal::missing(specifier, How::Require)))
            .map_err(by(referrer))
    }

    /// Reads a file that was found here.
    pub(super) fn read(&self, file: &Path) -> Result<String, Refusal> {
        Roots::read(file, How::Import)
    }

    /// What is known about a file's language without looking inside. Beyond Node, a manifest that
    /// says `commonjs` does not hold against a file that only the module grammar accepts: packages
    /// have such files for bundlers.
    pub(super) fn format(&self, file: &Path) -> Result<Format, Refusal> {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("mjs") => Ok(Format::EsModule),
            Some("cjs") => Ok(Format::CommonJs),
            Some("json") => Ok(Format::Json),
            Some(extension @ ("node" | "wasm" | "so")) => Err(Refusal::denied(format!(
                "cannot load {}: .{extension} files are not JavaScript",
                file.display()
            ))),
            _ => {
                let manifest =
                    self.nearest(file.parent().unwrap_or(file)).map(|(_, manifest)| manifest);
                let is_module = manifest.as_ref().and_then(Manifest::kind) == Some("module");
                Ok(if is_module { Format::EsModule } else { Format::Unknown })
            }
        }
    }

    /// The file that a URL names.
    fn at_url(&self, url: &Url, how: How, shown: &str) -> Result<Option<Place>, Refusal> {
        if url.scheme() == "node" {
            refuse_builtin(shown)?;
        }
        if url.scheme() != "file" {
            return Err(only_files(shown));
        }
        let Place { file, suffix } = path_of(url, shown)?;
        let file = self.roots.normal(&file, shown)?;
        let found = self.roots.file_or_folder(&file, url.path(), how, shown)?;
        Ok(found.map(|file| Place { file, suffix }))
    }

    /// What a specifier means that is neither a path nor a URL: a package, or `#internal`.
    fn named(&self, specifier: &str, referrer: &Path, how: How) -> Result<Option<Place>, Refusal> {
        let folder = referrer.parent().unwrap_or(referrer);
        if specifier.starts_with("node:") {
            refuse_builtin(specifier)?;
        }
        if specifier.starts_with('#') {
            return self.internal(specifier, folder, how).map(Some);
        }
        if specifier.contains(':') {
            return Err(only_files(specifier));
        }
        if let Some(place) = self.package(specifier, folder, how)? {
            return Ok(Some(place));
        }
        refuse_builtin(specifier)?;
        Ok(None)
    }

    /// A package by name, from the `node_modules` folders at and above `folder`.
    fn package(&self, specifier: &str, folder: &Path, how: How) -> Result<Option<Place>, Refusal> {
        let Some((name, subpath)) = split(specifier) else {
            return Ok(None);
        };
        if let Some((home, manifest)) = self.nearest(folder)
            && manifest.name() == Some(name)
            && let Some(target) = manifest.exports(&subpath, self.conditions(how))
        {
            return self.offered(&home, target, specifier, how).map(Some);
        }
        for above in folder.ancestors().take_while(|above| self.roots.hold(above)) {
            let packages = above.join("node_modules");
            if above.ends_with("node_modules") || !packages.is_dir() {
                continue;
            }
            let home = packages.join(name);
            let exports =
                Manifest::read(&home).and_then(|it| it.exports(&subpath, self.conditions(how)));
            if let Some(target) = exports {
                return self.offered(&home, target, specifier, how).map(Some);
            }
            if let Some(place) = self.in_package(&home, &subpath, specifier, how)? {
                return Ok(Some(place));
            }
            // `require` goes on looking above, `import` takes the first package of the name.
            if how == How::Import && home.is_dir() {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// A file of a package that does not say what it offers.
    fn in_package(
        &self,
        home: &Path,
        subpath: &str,
        shown: &str,
        how: How,
    ) -> Result<Option<Place>, Refusal> {
        if how == How::Require {
            let path = self.roots.normal(&home.join(subpath), shown)?;
            return Ok(self.roots.file_or_folder(&path, shown, how, shown)?.map(Place::of));
        }
        if !home.is_dir() {
            return Ok(None);
        }
        if subpath == "." {
            return Ok(self.roots.folder(home, how, shown)?.map(Place::of));
        }
        match below(home, subpath) {
            Some(url) => self.at_url(&url, how, shown),
            None => Ok(None),
        }
    }

    /// The file that a package's manifest offers.
    fn offered(
        &self,
        home: &Path,
        target: Target,
        shown: &str,
        how: How,
    ) -> Result<Place, Refusal> {
        let Target::Path(target) = target else {
            return Err(Refusal::not_exported(shown, &home.join("package.json")));
        };
        self.target(home, &target, shown, how)
    }

    fn target(&self, home: &Path, target: &str, shown: &str, how: How) -> Result<Place, Refusal> {
        let Some(url) = below(home, target).filter(|url| url.scheme() == "file") else {
            return Err(Refusal::malformed(shown, &format!("its package.json names '{target}'")));
        };
        let Place { file, suffix } = path_of(&url, shown)?;
        let path = self.roots.normal(&file, shown)?;
        if !path.starts_with(home) {
            return Err(Refusal::outside(shown));
        }
        let found = self.roots.file(&path, shown)?;
        found.map(|file| Place { file, suffix }).ok_or_else(|| Refusal::gone(shown, &path, how))
    }

    /// `#name`: an internal name of the package that the folder belongs to.
    fn internal(&self, name: &str, folder: &Path, how: How) -> Result<Place, Refusal> {
        let Some((home, manifest)) = self.nearest(folder) else {
            return Err(Refusal::not_internal(name, None));
        };
        let file = home.join("package.json");
        match manifest.imports(name, self.conditions(how)) {
            Target::Path(target) if is_bare(&target) && !target.starts_with('#') => self
                .named(&target, &file, how)?
                .ok_or_else(|| Refusal::missing(&target, how).asked_by(&file)),
            Target::Path(target) => self.target(&home, &target, name, how),
            Target::Absent => Err(Refusal::not_internal(name, Some(&file))),
        }
    }

    /// The manifest that governs a folder.
    fn nearest(&self, folder: &Path) -> Option<(PathBuf, Manifest)> {
        folder
            .ancestors()
            .take_while(|above| self.roots.hold(above) && !above.ends_with("node_modules"))
            .find_map(|above| Manifest::read(above).map(|manifest| (above.to_owned(), manifest)))
    }

    fn conditions(&self, how: How) -> Conditions<'_> {
        Conditions { is_import: how == How::Import, configured: &self.conditions }
    }
}

fn by(referrer: &Path) -> impl FnOnce(Refusal) -> Refusal {
    move |refusal| refusal.asked_by(referrer)
}

/// The URL that an import's specifier is, seen from the module at `referrer`; `None` for the name
/// of a package.
fn absolute(specifier: &str, referrer: &Path) -> Option<Url> {
    if is_bare(specifier) {
        return Url::parse(specifier).ok();
    }
    Url::from_file_path(referrer).ok()?.join(specifier).ok()
}

/// The URL of a path that is written inside a folder.
fn below(folder: &Path, path: &str) -> Option<Url> {
    Url::from_directory_path(folder).ok()?.join(path).ok()
}

fn is_bare(specifier: &str) -> bool {
    !(specifier.starts_with('/')
        || specifier == "."
        || specifier == ".."
        || specifier.starts_with("./")
        || specifier.starts_with("../"))
}

/// `@scope/name/sub/path` into `@scope/name` and `./sub/path`.
fn split(specifier: &str) -> Option<(&str, String)> {
    let slashes = if specifier.starts_with('@') { 2 } else { 1 };
    let end =
        specifier.match_indices('/').nth(slashes - 1).map_or(specifier.len(), |(index, _)| index);
    let (name, rest) = specifier.split_at(end);
    let is_name = !name.is_empty()
        && !name.starts_with('.')
        && !name.contains(['\\', '%', '\0'])
        && (slashes == 1 || name.contains('/'))
        && !name
            .split('/')
            .any(|part| part.is_empty() || part.trim_start_matches('@').starts_with('.'));
    is_name.then(|| (name, format!(".{rest}")))
}

fn only_files(specifier: &str) -> Refusal {
    Refusal::denied(format!(
        "cannot load '{specifier}': only files and packages below the moduleRoots"
    ))
}

fn refuse_builtin(specifier: &str) -> Result<(), Refusal> {
    let name = specifier.strip_prefix("node:").unwrap_or(specifier);
    let first = name.split('/').next().unwrap_or(name);
    if specifier.starts_with("node:") || BUILTINS.contains(&first) {
        let what =
            format!("cannot load '{specifier}': modules of Node itself are not available to tasks");
        return Err(Refusal::denied(what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn specifiers_are_split_into_package_and_subpath() {
        assert_eq!(split("ms"), Some(("ms", ".".to_owned())));
        assert_eq!(split("lodash/fp/add.js"), Some(("lodash", "./fp/add.js".to_owned())));
        assert_eq!(split("@a/b"), Some(("@a/b", ".".to_owned())));
        assert_eq!(split("@a/b/c"), Some(("@a/b", "./c".to_owned())));
        assert_eq!(split("@a"), None);
        assert_eq!(split("@../b"), None);
        assert_eq!(split(""), None);
    }
}
