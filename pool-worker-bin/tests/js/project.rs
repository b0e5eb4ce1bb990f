//! A folder of modules, and an engine that may load them.

use std::path::Path;

use pool_worker::js::{EngineConfig, JsFailure, Realm, Work};
use tempfile::TempDir;

use crate::support::{Bench, text};

/// A folder of files, and an engine that has it as its only root.
pub(crate) struct Project {
    pub(crate) folder: TempDir,
    pub(crate) bench: Bench,
}

impl Project {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        Self::with(files, |_| {})
    }

    pub(crate) fn with(files: &[(&str, &str)], change: impl FnOnce(&mut EngineConfig)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        for (path, content) in files {
            write(folder.path(), path, content);
        }
        let root = folder.path().to_owned();
        let bench = Bench::with(|config| {
            config.module_roots = vec![root];
            change(config);
        });
        Self { folder, bench }
    }

    pub(crate) fn call(
        &mut self,
        path: &str,
        method: Option<&str>,
        args: &str,
    ) -> Result<String, JsFailure> {
        self.call_in(Realm::Fresh, path, method, args)
    }

    pub(crate) fn call_in(
        &mut self,
        realm: Realm,
        path: &str,
        method: Option<&str>,
        args: &str,
    ) -> Result<String, JsFailure> {
        let work = Work::Module { path, method, args_json: args.as_bytes() };
        text(self.bench.run("default", realm, work))
    }

    pub(crate) fn gives(&mut self, path: &str, method: Option<&str>, args: &str, json: &str) {
        let result = self.call(path, method, args);
        assert_eq!(result.as_deref(), Ok(json), "{path} {method:?}");
    }
}

pub(crate) fn write(folder: &Path, path: &str, content: &str) {
    let file = folder.join(path);
    std::fs::create_dir_all(file.parent().expect("files have a folder"))
        .expect("folders can be made");
    std::fs::write(file, content).expect("files can be written");
}
