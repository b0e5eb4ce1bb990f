//! `package.json`: the fields that say which file a package name means.
//!
//! Owns the order of keys, which decides between conditions, so objects are kept as lists.

use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Longest manifest that is read.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// How deep conditions may nest.
const MAX_NESTING: usize = 32;

/// A JSON value with the order of its keys.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
    /// `null`, which forbids a path.
    Null,
    /// Numbers and booleans, which mean nothing here.
    Other,
}

impl Json {
    fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(entries) => entries.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct JsonVisitor;
        impl<'de> Visitor<'de> for JsonVisitor {
            type Value = Json;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON value")
            }
            fn visit_str<E>(self, text: &str) -> Result<Json, E> {
                Ok(Json::Text(text.to_owned()))
            }
            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
                Ok(Json::Other)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
                Ok(Json::Other)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Json, E> {
                Ok(Json::Other)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
                Ok(Json::Other)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element()? {
                    values.push(value);
                }
                Ok(Json::List(values))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Json::Object(entries))
            }
        }
        deserializer.deserialize_any(JsonVisitor)
    }
}

/// A parsed manifest.
#[derive(Debug, Clone)]
pub(super) struct Manifest(Json);

/// What a package offers under a subpath.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A file inside the package, or for `imports` possibly another package's name.
    Path(String),
    /// Not offered.
    Absent,
}

impl Manifest {
    /// The manifest in a folder; a broken one counts as absent.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        let file = folder.join("package.json");
        let metadata = std::fs::metadata(&file).ok()?;
        if !metadata.is_file() || metadata.len() > MAX_MANIFEST_BYTES {
            return None;
        }
        Self::parse(&std::fs::read_to_string(file).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Self)
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.0.get("name")?.text()
    }

    /// `"module"` or `"commonjs"`.
    pub(super) fn kind(&self) -> Option<&str> {
        self.0.get("type")?.text()
    }

    /// The entry file of a package without `exports`. `module` is a bundlers' convention, taken where nothing else is said.
    pub(super) fn main(&self, is_import: bool) -> Option<&str> {
        let main = self.0.get("main").and_then(Json::text);
        let module = self.0.get("module").and_then(Json::text).filter(|_| is_import);
        main.or(module).filter(|file| !file.is_empty())
    }

    /// What `exports` says about `.` or `./sub/path`; `None` if there is no such field.
    pub(super) fn exports(&self, subpath: &str, is_import: bool) -> Option<Target> {
        let exports = match self.0.get("exports")? {
            Json::Null => return None,
            exports => exports,
        };
        let lists_paths =
            matches!(exports, Json::Object(entries) if entries.iter().any(|(key, _)| key.starts_with('.')));
        if lists_paths {
            return Some(find(exports, subpath, is_import));
        }
        // One target for the package's entry alone.
        let target = if subpath == "." { pick(exports, "", is_import) } else { None };
        Some(target.map_or(Target::Absent, Target::Path))
    }

    /// What `imports` says about `#name`.
    pub(super) fn imports(&self, name: &str, is_import: bool) -> Target {
        match self.0.get("imports") {
            Some(imports) => find(imports, name, is_import),
            None => Target::Absent,
        }
    }
}

/// Looks a key up in a list of paths: as it stands, then as the longest pattern with a `*` that fits.
fn find(paths: &Json, key: &str, is_import: bool) -> Target {
    let Json::Object(entries) = paths else {
        return Target::Absent;
    };
    if let Some(target) = paths.get(key).filter(|_| !key.contains('*')) {
        return pick(target, "", is_import).map_or(Target::Absent, Target::Path);
    }
    let best = entries
        .iter()
        .filter_map(|(pattern, target)| {
            let (head, tail) = pattern.split_once('*')?;
            let middle = key.strip_prefix(head)?.strip_suffix(tail)?;
            (!middle.is_empty()).then_some((head.len(), middle, target))
        })
        .max_by_key(|(head, ..)| *head);
    match best.and_then(|(_, middle, target)| pick(target, middle, is_import)) {
        Some(path) => Target::Path(path),
        None => Target::Absent,
    }
}

/// Follows conditions to a path. A file for Node is second choice: it is likely to want Node's own modules.
fn pick(target: &Json, middle: &str, is_import: bool) -> Option<String> {
    let wanted = if is_import { ["import", "module-sync"] } else { ["require", "module-sync"] };
    follow(target, middle, &[wanted[0], wanted[1], "default"], 0)
        .or_else(|| follow(target, middle, &[wanted[0], wanted[1], "node", "default"], 0))
}

fn follow(target: &Json, middle: &str, conditions: &[&str], depth: usize) -> Option<String> {
    if depth > MAX_NESTING {
        return None;
    }
    match target {
        Json::Text(path) => Some(path.replace('*', middle)),
        Json::Object(entries) => entries
            .iter()
            .filter(|(condition, _)| conditions.contains(&condition.as_str()))
            .find_map(|(_, target)| follow(target, middle, conditions, depth + 1)),
        Json::List(targets) => targets.iter().find_map(|target| follow(target, middle, conditions, depth + 1)),
        Json::Null | Json::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(text: &str) -> Manifest {
        Manifest::parse(text).expect("the test's JSON is right")
    }

    fn path(text: &str) -> Option<Target> {
        Some(Target::Path(text.to_owned()))
    }

    #[test]
    fn conditions_are_tried_in_the_order_they_stand_in() {
        let manifest = manifest(
            r#"{"exports": {".": {"types": "./t.d.ts", "require": "./r.cjs", "import": "./i.mjs", "default": "./d.js"}}}"#,
        );
        assert_eq!(manifest.exports(".", true), path("./i.mjs"));
        assert_eq!(manifest.exports(".", false), path("./r.cjs"));
        assert_eq!(manifest.exports("./other", true), Some(Target::Absent));
    }

    #[test]
    fn patterns_nest_and_null_forbids() {
        let manifest = manifest(
            r#"{"exports": {"./f/*.js": {"default": "./src/*.js"}, "./f/internal/*": null, "./*": "./lib/*"}}"#,
        );
        assert_eq!(manifest.exports("./f/a.js", true), path("./src/a.js"));
        assert_eq!(manifest.exports("./f/internal/x", true), Some(Target::Absent));
        assert_eq!(manifest.exports("./b", true), path("./lib/b"));
    }

    #[test]
    fn a_file_for_node_is_taken_only_where_there_is_no_other() {
        let both = manifest(r#"{"exports": {"node": "./node.js", "default": "./plain.js"}}"#);
        assert_eq!(both.exports(".", true), path("./plain.js"));
        let only = manifest(r#"{"exports": {"node": "./node.js", "browser": "./browser.js"}}"#);
        assert_eq!(only.exports(".", true), path("./node.js"));
    }

    #[test]
    fn main_comes_before_module_and_imports_name_internals() {
        let manifest = manifest(
            r##"{"main": "m.js", "module": "e.js", "imports": {"#x": {"node": "./n.js", "default": "./x.js"}}}"##,
        );
        assert_eq!(manifest.main(true), Some("m.js"));
        assert_eq!(manifest.imports("#x", true), Target::Path("./x.js".to_owned()));
        assert_eq!(manifest.imports("#y", true), Target::Absent);
        assert_eq!(manifest.exports(".", true), None);
    }
}
