//! Links between the pages of the documentation.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use pool_tests::page::{Page, repository};

/// Takes `.` and `..` out of a path.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
        plain
    })
}

/// What is wrong with a link of a page, if anything.
fn broken(page: &Page, link: &str, anchors: &BTreeMap<String, Vec<String>>) -> Option<String> {
    let is_elsewhere =
        ["http://", "https://", "mailto:"].iter().any(|scheme| link.starts_with(scheme));
    if is_elsewhere {
        return None;
    }
    let (file, anchor) =
        link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let folder = Path::new(&page.name).parent().expect("a file has a folder");
    let target =
        if file.is_empty() { PathBuf::from(&page.name) } else { plain(&folder.join(file)) };
    if !repository().join(&target).exists() {
        return Some(format!("{}: {link}: there is no {}", page.name, target.display()));
    }
    let known = anchors.get(target.to_str()?)?;
    let anchor = anchor?;
    let is_there = known.iter().any(|name| name == anchor);
    (!is_there)
        .then(|| format!("{}: {link}: no such heading; there are {}", page.name, known.join(", ")))
}

#[test]
fn every_relative_link_points_to_something_that_exists() {
    let pages = Page::all();
    assert!(
        pages.iter().any(|page| page.name == "README.md") && pages.len() > 10,
        "the pages were not found"
    );
    let anchors = pages.iter().map(|page| (page.name.clone(), page.anchors())).collect();
    let links =
        pages.iter().flat_map(|page| page.links().into_iter().map(move |link| (page, link)));
    let links: Vec<_> = links.collect();
    assert!(links.len() > 30, "the links were not found: {links:?}");
    let broken: Vec<String> =
        links.iter().filter_map(|(page, link)| broken(page, link, &anchors)).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_broken_link_is_seen() {
    let page = Page::read("docs/tasks.md");
    let anchors = BTreeMap::from([(page.name.clone(), page.anchors())]);
    let is_broken = |link: &str| broken(&page, link, &anchors).is_some();
    for link in ["no-such.md", "../no-such/", "#no-such-heading", "tasks.md#no-such-heading"] {
        assert!(is_broken(link), "{link}");
    }
    for link in [
        "",
        "http-api.md",
        "../README.md",
        "#error-codes",
        "tasks.md#execute-code",
        "https://example.org/x",
    ] {
        assert!(!is_broken(link), "{link}");
    }
}
