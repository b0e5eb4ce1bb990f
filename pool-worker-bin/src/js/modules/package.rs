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
            Json::Object(entries) => {
                entries.iter().find(|(key, _)| key == name).map(|(_, value)| value)
            }
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

/// Which conditions of a manifest hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conditions<'c> {
    pub(super) is_import: bool,
    /// Those of the configuration.
    pub(super) configured: &'c [String],
}

impl Conditions<'_> {
    fn hold(&self, name: &str, with_node: bool) -> bool {
        match name {
            "default" | "module-sync" => true,
            "import" => self.is_import,
            "require" => !self.is_import,
            "node" if with_node => true,
            other => self.configured.iter().any(|condition| condition == other),
        }
    }
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
        serde_json::from_str(text.strip_prefix('\u{FEFF}').unwrap_or(text)).ok().map(Self)
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.0.get("name")?.text()
    }

    /// `"module"` or `"commonjs"`.
    pub(super) fn kind(&self) -> Option<&str> {
        self.0.get("type")?.text()
    }

    /// The entry file of a package without `exports`. `module` is a bundlers' convention, taken
    /// where nothing else is said.
    pub(super) fn main(&self, is_import: bool) -> Option<&str> {
        let main = self.0.get("main").and_then(Json::text);
        let module = self.0.get("module").and_then(Json::text).filter(|_| is_import);
        main.or(module).filter(|file| !file.is_empty())
    }

    /// What `exports` says about `.` or `./sub/path`; `None` if there is no such field.
    pub(super) fn exports(&self, subpath: &str, conditions: Conditions<'_>) -> Option<Target> {
        let exports = match self.0.get("exports")? {
            Json::Null => return None,
            exports => exports,
        };
        let lists_paths = match exports {
            Json::Object(entries) => entries.iter().any(|(key, _)| key.starts_with('.')),
            _ => false,
        };
        if lists_paths {
            return Some(find(exports, subpath, conditions));
        }
        // One target for the package's entry alone.
        Some(if subpath == "." { pick(exports, "", conditions) } else { Target::Absent })
    }

    /// What `imports` says about `#name`.
    pub(super) fn imports(&self, name: &str, conditions: Conditions<'_>) -> Target {
        match self.0.get("imports") {
            Some(imports) => find(imports, name, conditions),
            None => Target::Absent,
        }
    }
}

/// Looks a key up in a list of paths: as it stands, then as the longest pattern with a `*` that
/// fits.
fn find(paths: &Json, key: &str, conditions: Conditions<'_>) -> Target {
    let Json::Object(entries) = paths else {
        return Target::Absent;
    };
    if let Some(target) = paths.get(key).filter(|_| !key.contains('*')) {
        return pick(target, "", conditions);
    }
    let best = entries
        .iter()
        .filter_map(|(pattern, target)| {
            let (head, tail) = pattern.split_once('*')?;
            let middle = key.strip_prefix(head)?.strip_suffix(tail)?;
            (!middle.is_empty()).then_some((head.len(), pattern.len(), middle, target))
        })
        .max_by_key(|(head, length, ..)| (*head, *length));
    best.map_or(Target::Absent, |(.., middle, target)| pick(target, middle, conditions))
}

/// Follows conditions to a path. A file for Node is second choice: it is likely to want Node's own
/// modules.
fn pick(target: &Json, middle: &str, conditions: Conditions<'_>) -> Target {
    let followed = [false, true].into_iter().find_map(|with_node| {
        match follow(target, middle, conditions, with_node, 0) {
            Followed::Path(path) => Some(path),
            Followed::Nothing | Followed::Forbidden => None,
        }
    });
    followed.map_or(Target::Absent, Target::Path)
}

/// Where a target leads.
enum Followed {
    Path(String),
    /// No condition of it holds; the next one of what stands around it may.
    Nothing,
    /// `null`, which ends the search.
    Forbidden,
}

fn follow(
    target: &Json,
    middle: &str,
    conditions: Conditions<'_>,
    with_node: bool,
    depth: usize,
) -> Followed {
    if depth > MAX_NESTING {
        return Followed::Nothing;
    }
    let next = |target| follow(target, middle, conditions, with_node, depth + 1);
    match target {
        Json::Text(path) => Followed::Path(path.replace('*', middle)),
        Json::Object(entries) => entries
            .iter()
            .filter(|(condition, _)| conditions.hold(condition, with_node))
            .map(|(_, target)| next(target))
            .find(|followed| !matches!(followed, Followed::Nothing))
            .unwrap_or(Followed::Nothing),
        Json::List(targets) => targets
            .iter()
            .map(next)
            .find(|followed| matches!(followed, Followed::Path(_)))
            .unwrap_or(Followed::Nothing),
        Json::Null => Followed::Forbidden,
        Json::Other => Followed::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMPORT: Conditions<'_> = Conditions { is_import: true, configured: &[] };
    const REQUIRE: Conditions<'_> = Conditions { is_import: false, configured: &[] };

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
        assert_eq!(manifest.exports(".", IMPORT), path("./i.mjs"));
        assert_eq!(manifest.exports(".", REQUIRE), path("./r.cjs"));
        assert_eq!(manifest.exports("./other", IMPORT), Some(Target::Absent));
    }

    #[test]
    fn patterns_nest_and_null_forbids() {
        let manifest = manifest(
            r#"{"exports": {"./f/*.js": {"default": "./src/*.js"}, "./f/internal/*": null, "./*": "./lib/*"}}"#,
        );
        assert_eq!(manifest.exports("./f/a.js", IMPORT), path("./src/a.js"));
        assert_eq!(manifest.exports("./f/internal/x", IMPORT), Some(Target::Absent));
        assert_eq!(manifest.exports("./b", IMPORT), path("./lib/b"));
    }

    #[test]
    fn a_file_for_node_is_taken_only_where_there_is_no_other() {
        let both = manifest(r#"{"exports": {"node": "./node.js", "default": "./plain.js"}}"#);
        assert_eq!(both.exports(".", IMPORT), path("./plain.js"));
        let only = manifest(r#"{"exports": {"node": "./node.js", "browser": "./browser.js"}}"#);
        assert_eq!(only.exports(".", IMPORT), path("./node.js"));
    }

    #[test]
    fn main_comes_before_module_and_imports_name_internals() {
        let manifest = manifest(
            r##"{"main": "m.js", "module": "e.js", "imports": {"#x": {"node": "./n.js", "default": "./x.js"}}}"##,
        );
        assert_eq!(manifest.main(true), Some("m.js"));
        assert_eq!(manifest.imports("#x", IMPORT), Target::Path("./x.js".to_owned()));
        assert_eq!(manifest.imports("#y", IMPORT), Target::Absent);
        assert_eq!(manifest.exports(".", IMPORT), None);
    }

    #[test]
    fn a_condition_that_forbids_ends_the_search() {
        let manifest = manifest(
            r#"{"exports": {".": [{"import": null, "default": "./d.js"}, "./other.js"], "./a": {"import": null, "default": "./a.js"}}}"#,
        );
        assert_eq!(manifest.exports("./a", IMPORT), Some(Target::Absent));
        assert_eq!(manifest.exports("./a", REQUIRE), path("./a.js"));
        assert_eq!(manifest.exports(".", IMPORT), path("./other.js"));
    }

    #[test]
    fn configured_conditions_hold_in_the_manifests_order() {
        let manifest = manifest(
            r#"{"exports": {"edge": "./edge.js", "browser": {"production": "./p.js", "default": "./b.js"}, "default": "./d.js"}}"#,
        );
        let with = |configured: &[&str]| {
            let configured: Vec<_> = configured.iter().map(|name| (*name).to_owned()).collect();
            manifest.exports(".", Conditions { is_import: true, configured: &configured })
        };
        assert_eq!(with(&[]), path("./d.js"));
        assert_eq!(with(&["browser"]), path("./b.js"));
        assert_eq!(with(&["production", "browser"]), path("./p.js"));
        assert_eq!(with(&["browser", "edge"]), path("./edge.js"));
    }

    #[test]
    fn of_two_patterns_the_longer_one_counts_and_a_byte_order_mark_does_not() {
        let manifest =
            manifest("\u{FEFF}{\"exports\": {\"./f/*\": \"./a/*\", \"./f/*.js\": \"./b/*.js\"}}");
        assert_eq!(manifest.exports("./f/x.js", IMPORT), path("./b/x.js"));
        assert_eq!(manifest.exports("./f/x.css", IMPORT), path("./a/x.css"));
    }
}
