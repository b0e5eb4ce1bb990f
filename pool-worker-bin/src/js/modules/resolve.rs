//! From the name of a module to a file, as Node does it, but only below the configured roots.
//!
//! Decides what may be loaded. Two checks on every path: as text, before the file system is asked, so that nothing can
//! be learnt about what lies outside; and after symbolic links are followed. Knows nothing of V8.

use std::path::{Component, Path, PathBuf};

use super::super::task::{FailureKind, JsFailure};
use super::package::{Manifest, Target};

/// Largest module file.
const MAX_FILE_BYTES: u64 = 32 << 20;

const EXTENSIONS: [&str; 4] = [".js", ".cjs", ".mjs", ".json"];

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
    /// Nothing is said: the syntax decides.
    Unknown,
}

/// The folders that modules may come from.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct ModuleRoots {
    roots: Vec<PathBuf>,
}

impl ModuleRoots {
    /// Roots that do not exist yet are kept as they are written.
    pub(in super::super) fn new(roots: &[PathBuf]) -> Self {
        Self { roots: roots.iter().map(|root| root.canonicalize().unwrap_or_else(|_| root.clone())).collect() }
    }

    /// The file of a task's `modulePath`: inside a root, or a package installed in one.
    pub(super) fn entry(&self, path: &str) -> Result<PathBuf, JsFailure> {
        if self.roots.is_empty() {
            return Err(denied(format!("cannot load {path}: no moduleRoots are configured")));
        }
        if Path::new(path).is_absolute() {
            let absolute = self.normal(Path::new(path), path)?;
            return self.file_or_folder(&absolute, How::Import, path)?.ok_or_else(|| missing(path, None));
        }
        for root in &self.roots {
            let candidate = self.normal(&root.join(path), path)?;
            if let Some(file) = self.file_or_folder(&candidate, How::Import, path)? {
                return Ok(file);
            }
        }
        if is_bare(path) {
            for root in &self.roots {
                if let Some(file) = self.package(path, root, How::Import)? {
                    return Ok(file);
                }
            }
            refuse_builtin(path)?;
        }
        Err(missing(path, None))
    }

    /// The file that `specifier` means in the module at `referrer`.
    pub(super) fn resolve(&self, specifier: &str, referrer: &Path, how: How) -> Result<PathBuf, JsFailure> {
        let folder = referrer.parent().unwrap_or(referrer);
        if specifier.starts_with("node:") {
            refuse_builtin(specifier)?;
        }
        if specifier.starts_with('#') {
            return self.internal(specifier, folder, how, referrer);
        }
        if is_bare(specifier) {
            if specifier.contains(':') {
                return Err(denied(format!(
                    "cannot load '{specifier}': only files and packages below the moduleRoots"
                )));
            }
            if let Some(file) = self.package(specifier, folder, how)? {
                return Ok(file);
            }
            refuse_builtin(specifier)?;
            return Err(missing(specifier, Some(referrer)));
        }
        let path = self.normal(&folder.join(specifier), specifier)?;
        self.file_or_folder(&path, how, specifier)?.ok_or_else(|| missing(specifier, Some(referrer)))
    }

    /// Reads a file that `entry` or `resolve` gave.
    pub(super) fn read(&self, file: &Path) -> Result<String, JsFailure> {
        let shown = file.display();
        let metadata = std::fs::metadata(file).map_err(|_| missing(&shown.to_string(), None))?;
        if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
            return Err(denied(format!("cannot load {shown}: not a file, or larger than 32 MiB")));
        }
        let bytes = std::fs::read(file).map_err(|error| denied(format!("cannot read {shown}: {error}")))?;
        let text =
            String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        Ok(text.strip_prefix('\u{FEFF}').map(str::to_owned).unwrap_or(text))
    }

    /// What is known about a file's language without looking inside.
    pub(super) fn format(&self, file: &Path) -> Result<Format, JsFailure> {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("mjs") => Ok(Format::EsModule),
            Some("cjs") => Ok(Format::CommonJs),
            Some("json") => Ok(Format::Json),
            Some(extension @ ("node" | "wasm" | "so")) => {
                Err(denied(format!("cannot load {}: .{extension} files are not JavaScript", file.display())))
            }
            _ => {
                let manifest = self.nearest(file.parent().unwrap_or(file)).map(|(_, manifest)| manifest);
                Ok(match manifest.as_ref().and_then(Manifest::kind) {
                    Some("module") => Format::EsModule,
                    Some("commonjs") => Format::CommonJs,
                    _ => Format::Unknown,
                })
            }
        }
    }

    fn is_inside(&self, path: &Path) -> bool {
        self.roots.iter().any(|root| path.starts_with(root))
    }

    /// Takes `.` and `..` out of a path as text, and refuses what is not inside a root then.
    fn normal(&self, path: &Path, shown: &str) -> Result<PathBuf, JsFailure> {
        let normal = without_dots(path);
        if self.is_inside(&normal) { Ok(normal) } else { Err(outside(shown)) }
    }

    /// The real path of a file; `None` if there is no file.
    fn file(&self, path: &Path, shown: &str) -> Result<Option<PathBuf>, JsFailure> {
        let Ok(real) = path.canonicalize() else {
            // In an empty root nothing exists outside, so that a link to there leads nowhere. It is called by the same name everywhere.
            return if self.links_outside(path) { Err(outside(shown)) } else { Ok(None) };
        };
        if !self.is_inside(&real) {
            return Err(outside(shown));
        }
        // Paths become script names, which are text.
        Ok((real.is_file() && real.to_str().is_some()).then_some(real))
    }

    /// Whether the path is or passes a link that names something outside.
    fn links_outside(&self, path: &Path) -> bool {
        path.ancestors().take_while(|place| self.is_inside(place)).any(|place| {
            let target = place.read_link().ok().and_then(|target| Some(place.parent()?.join(target)));
            target.is_some_and(|target| !self.is_inside(&without_dots(&target)))
        })
    }

    fn with_extension(&self, path: &Path, shown: &str) -> Result<Option<PathBuf>, JsFailure> {
        if let Some(file) = self.file(path, shown)? {
            return Ok(Some(file));
        }
        for extension in EXTENSIONS {
            let mut name = path.as_os_str().to_owned();
            name.push(extension);
            if let Some(file) = self.file(Path::new(&name), shown)? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// A file, with or without its extension, or a folder's main file.
    fn file_or_folder(&self, path: &Path, how: How, shown: &str) -> Result<Option<PathBuf>, JsFailure> {
        if let Some(file) = self.with_extension(path, shown)? {
            return Ok(Some(file));
        }
        if !path.is_dir() {
            return Ok(None);
        }
        let manifest = Manifest::read(path);
        if let Some(main) = manifest.as_ref().and_then(|manifest| manifest.main(how == How::Import)) {
            let main = self.normal(&path.join(main), shown)?;
            if let Some(file) = self.with_extension(&main, shown)? {
                return Ok(Some(file));
            }
            if let Some(file) = self.with_extension(&main.join("index"), shown)? {
                return Ok(Some(file));
            }
        }
        self.with_extension(&path.join("index"), shown)
    }

    /// A package by name, from the `node_modules` folders at and above `folder`.
    fn package(&self, specifier: &str, folder: &Path, how: How) -> Result<Option<PathBuf>, JsFailure> {
        let Some((name, subpath)) = split(specifier) else {
            return Ok(None);
        };
        if let Some((home, manifest)) = self.nearest(folder)
            && manifest.name() == Some(name)
            && let Some(target) = manifest.exports(&subpath, how == How::Import)
        {
            return self.offered(&home, target, specifier).map(Some);
        }
        for above in folder.ancestors().take_while(|above| self.is_inside(above)) {
            if above.ends_with("node_modules") {
                continue;
            }
            let home = above.join("node_modules").join(name);
            if !home.is_dir() {
                continue;
            }
            let target = Manifest::read(&home).and_then(|manifest| manifest.exports(&subpath, how == How::Import));
            return match target {
                Some(target) => self.offered(&home, target, specifier).map(Some),
                None => {
                    let path = self.normal(&home.join(&subpath), specifier)?;
                    self.file_or_folder(&path, how, specifier)
                }
            };
        }
        Ok(None)
    }

    /// The file that a package's manifest offers.
    fn offered(&self, home: &Path, target: Target, specifier: &str) -> Result<PathBuf, JsFailure> {
        let Target::Path(target) = target else {
            return Err(missing(specifier, Some(&home.join("package.json"))));
        };
        let path = self.normal(&home.join(&target), specifier)?;
        if !path.starts_with(home) {
            return Err(outside(specifier));
        }
        self.file(&path, specifier)?.ok_or_else(|| missing(specifier, Some(&home.join("package.json"))))
    }

    /// `#name`: an internal name of the package that the folder belongs to.
    fn internal(&self, name: &str, folder: &Path, how: How, referrer: &Path) -> Result<PathBuf, JsFailure> {
        let Some((home, manifest)) = self.nearest(folder) else {
            return Err(missing(name, Some(referrer)));
        };
        match manifest.imports(name, how == How::Import) {
            Target::Path(target) if is_bare(&target) && !target.starts_with('#') => {
                self.resolve(&target, &home.join("package.json"), how)
            }
            target => self.offered(&home, target, name),
        }
    }

    /// The manifest that governs a folder.
    fn nearest(&self, folder: &Path) -> Option<(PathBuf, Manifest)> {
        folder
            .ancestors()
            .take_while(|above| self.is_inside(above) && !above.ends_with("node_modules"))
            .find_map(|above| Manifest::read(above).map(|manifest| (above.to_owned(), manifest)))
    }
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
    let end = specifier.match_indices('/').nth(slashes - 1).map_or(specifier.len(), |(index, _)| index);
    let (name, rest) = specifier.split_at(end);
    let is_name = !name.is_empty()
        && !name.starts_with('.')
        && !name.contains(['\\', '%', '\0'])
        && (slashes == 1 || name.contains('/'))
        && !name.split('/').any(|part| part.is_empty() || part.trim_start_matches('@').starts_with('.'));
    is_name.then(|| (name, format!(".{rest}")))
}

fn refuse_builtin(specifier: &str) -> Result<(), JsFailure> {
    let name = specifier.strip_prefix("node:").unwrap_or(specifier);
    let first = name.split('/').next().unwrap_or(name);
    if specifier.starts_with("node:") || BUILTINS.contains(&first) {
        return Err(denied(format!("cannot load '{specifier}': modules of Node itself are not available to tasks")));
    }
    Ok(())
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

fn denied(message: String) -> JsFailure {
    JsFailure::new(FailureKind::ModuleDenied, "Error", message)
}

fn outside(shown: &str) -> JsFailure {
    denied(format!("cannot load '{shown}': it is outside of the moduleRoots"))
}

fn missing(specifier: &str, referrer: Option<&Path>) -> JsFailure {
    let message = match referrer {
        Some(referrer) => format!("cannot find module '{specifier}', asked for by {}", referrer.display()),
        None => format!("cannot find module '{specifier}' in the moduleRoots"),
    };
    JsFailure::new(FailureKind::ModuleNotFound, "Error", message)
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
