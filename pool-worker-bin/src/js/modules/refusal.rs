//! Why a module is not loaded: one kind per rule, with the code that Node gives for it.
//!
//! Packages look at the code to see whether an optional dependency is missing, so the code says by
//! which statement the module was asked for, as in Node.

use std::path::{Path, PathBuf};

use super::super::task::{FailureKind, JsFailure};
use super::resolve::How;

/// A module that is not loaded, before it becomes an exception or a task's failure.
#[derive(Debug)]
pub(super) struct Refusal {
    kind: FailureKind,
    name: &'static str,
    /// The exception's `code`.
    pub(super) code: &'static str,
    what: String,
    asked_by: Option<PathBuf>,
}

impl Refusal {
    fn new(kind: FailureKind, name: &'static str, code: &'static str, what: String) -> Self {
        Self { kind, name, code, what, asked_by: None }
    }

    /// There may be such a module, but not for tasks.
    pub(super) fn denied(what: String) -> Self {
        Self::new(FailureKind::ModuleDenied, "Error", "MODULE_DENIED", what)
    }

    pub(super) fn outside(shown: &str) -> Self {
        Self::denied(format!("cannot load '{shown}': it is outside of the moduleRoots"))
    }

    /// A module of a task's own fields.
    pub(super) fn no_entry(shown: &str) -> Self {
        let what = format!("cannot find module '{shown}' in the moduleRoots");
        Self::new(FailureKind::ModuleNotFound, "Error", "MODULE_NOT_FOUND", what)
    }

    pub(super) fn missing(shown: &str, how: How) -> Self {
        Self::new(
            FailureKind::ModuleNotFound,
            "Error",
            missing_code(how),
            format!("cannot find module '{shown}'"),
        )
    }

    /// The package's manifest offers the file, which is not there.
    pub(super) fn gone(shown: &str, file: &Path, how: How) -> Self {
        let what = format!(
            "cannot find module '{shown}': its package.json names {}, which is not there",
            file.display()
        );
        Self::new(FailureKind::ModuleNotFound, "Error", missing_code(how), what)
    }

    pub(super) fn not_exported(shown: &str, manifest: &Path) -> Self {
        let what = format!(
            "cannot find module '{shown}': the `exports` of {} do not list it",
            manifest.display()
        );
        Self::new(FailureKind::ModuleNotFound, "Error", "ERR_PACKAGE_PATH_NOT_EXPORTED", what)
    }

    pub(super) fn not_internal(shown: &str, manifest: Option<&Path>) -> Self {
        let what = match manifest {
            Some(file) => format!(
                "cannot find module '{shown}': the `imports` of {} do not list it",
                file.display()
            ),
            None => {
                format!("cannot find module '{shown}': there is no package.json with `imports`")
            }
        };
        Self::new(FailureKind::ModuleNotFound, "TypeError", "ERR_PACKAGE_IMPORT_NOT_DEFINED", what)
    }

    pub(super) fn malformed(shown: &str, why: &str) -> Self {
        let what = format!("cannot find module '{shown}': {why}");
        Self::new(FailureKind::ModuleNotFound, "TypeError", "ERR_INVALID_MODULE_SPECIFIER", what)
    }

    /// The attributes of an import, and what it names, do not fit together: the source is wrong.
    pub(super) fn attributes(code: &'static str, what: String) -> Self {
        Self::new(FailureKind::Syntax, "TypeError", code, what)
    }

    /// An attribute that no loader knows: of a statement, the language has that as an error of the
    /// grammar.
    pub(super) fn unknown_attribute(is_statement: bool, what: String) -> Self {
        let name = if is_statement { "SyntaxError" } else { "TypeError" };
        Self::new(FailureKind::Syntax, name, "ERR_IMPORT_ATTRIBUTE_UNSUPPORTED", what)
    }

    /// `require` of an ES module that cannot be had at once.
    pub(super) fn not_required(code: &'static str, file: &Path, why: &str) -> Self {
        let what = format!("cannot require the ES module {}: {why}", file.display());
        Self::new(FailureKind::Exception, "Error", code, what)
    }

    /// A loader's function was called with something that it does not take.
    pub(super) fn argument(code: &'static str, what: &str) -> Self {
        Self::new(FailureKind::Exception, "TypeError", code, what.to_owned())
    }

    /// Names the module that asked, unless it is named already.
    pub(super) fn asked_by(mut self, referrer: &Path) -> Self {
        self.asked_by.get_or_insert_with(|| referrer.to_owned());
        self
    }
}

fn missing_code(how: How) -> &'static str {
    match how {
        How::Import => "ERR_MODULE_NOT_FOUND",
        How::Require => "MODULE_NOT_FOUND",
    }
}

impl From<Refusal> for JsFailure {
    fn from(refusal: Refusal) -> Self {
        let message = match &refusal.asked_by {
            Some(referrer) => format!("{}, asked for by {}", refusal.what, referrer.display()),
            None => refusal.what,
        };
        Self::new(refusal.kind, refusal.name, message)
    }
}
