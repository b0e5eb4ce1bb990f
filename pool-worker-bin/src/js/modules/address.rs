//! What identifies a module in a context, and how it is written as a URL.

use std::path::{Path, PathBuf};

use url::{Position, Url};

use super::refusal::Refusal;

/// A file that a specifier means, and what the specifier has behind the path.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Place {
    pub(super) file: PathBuf,
    /// `?query#fragment` as a URL has it, or nothing. Another one is another ES module.
    pub(super) suffix: String,
}

/// As what a module is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum As {
    /// What its file holds.
    Itself,
    /// JSON, by an import attribute: a module with a default export alone.
    Json,
    /// What `require` gives for an ES module: its exports and the mark `__esModule`.
    Required,
}

/// By this a context knows an ES module.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Address {
    pub(super) place: Place,
    pub(super) shape: As,
}

impl Place {
    pub(super) fn of(file: PathBuf) -> Self {
        Self { file, suffix: String::new() }
    }

    /// The module's name in stacks.
    pub(super) fn name(&self) -> String {
        format!("{}{}", self.file.display(), self.suffix)
    }

    /// The module's `import.meta.url`.
    pub(super) fn url(&self) -> String {
        file_url(&self.file) + &self.suffix
    }
}

impl Address {
    pub(super) fn of(file: &Path) -> Self {
        Self { place: Place::of(file.to_owned()), shape: As::Itself }
    }

    pub(super) fn file(&self) -> &Path {
        &self.place.file
    }
}

/// The path as a `file:` URL; what may not stand in one is escaped.
pub(super) fn file_url(path: &Path) -> String {
    Url::from_file_path(path).map(String::from).unwrap_or_default()
}

/// The path that a URL names, decoded, and what stands behind it. `shown`: the specifier.
pub(super) fn path_of(url: &Url, shown: &str) -> Result<Place, Refusal> {
    let path = url.path().to_ascii_lowercase();
    if path.contains("%2f") || path.contains("%5c") {
        return Err(Refusal::malformed(shown, "its path must not have an encoded \"/\" or \"\\\""));
    }
    let file = url.to_file_path().map_err(|()| Refusal::outside(shown))?;
    if file.to_str().is_none() {
        return Err(Refusal::malformed(shown, "its path is not UTF-8"));
    }
    Ok(Place { file, suffix: url[Position::AfterPath..].to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_stand_in_a_url_is_escaped() {
        assert_eq!(file_url(Path::new("/a b/c#d%.mjs")), "file:///a%20b/c%23d%25.mjs");
    }

    #[test]
    fn a_url_gives_its_path_decoded_and_the_rest_as_it_stands() {
        let place = |url: &str| path_of(&Url::parse(url).expect("a URL"), url);
        let Place { file, suffix } = place("file:///a%20b/c.mjs?v=%31#x").expect("a path");
        assert_eq!((file.to_str(), suffix.as_str()), (Some("/a b/c.mjs"), "?v=%31#x"));
        assert_eq!(
            place("file:///a%2Fb").expect_err("refused").code,
            "ERR_INVALID_MODULE_SPECIFIER"
        );
        assert_eq!(place("file://host/a").expect_err("refused").code, "MODULE_DENIED");
    }
}
