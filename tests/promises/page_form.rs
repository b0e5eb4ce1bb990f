//! What every page keeps to, so that it reads well wherever it is shown.

use pool_tests::page::Page;

/// Prose of these pages wraps here; tables, code and lines with links may be longer.
const COLUMNS: usize = 100;
const WRAPPED: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "docs/decisions.md",
    "docs/isolation.md",
    "docs/protocol.md",
    "docs/traps.md",
    "deploy/README.md",
];

#[test]
fn every_column_of_every_table_has_a_title() {
    let (mut bare, mut count) = (Vec::new(), 0);
    for page in Page::all() {
        for table in page.tables() {
            count += 1;
            if table.titles.iter().any(String::is_empty) {
                bare.push(format!("{}, {}: {:?}", page.name, table.heading, table.titles));
            }
        }
    }
    assert!(count > 40, "the tables were not found: {count}");
    assert!(bare.is_empty(), "{}", bare.join("\n"));
}

#[test]
fn prose_wraps_at_100_columns() {
    for name in WRAPPED {
        let page = Page::read(name);
        let is_long = |line: &str| line.chars().count() > COLUMNS && !line.contains("](");
        let long: Vec<usize> =
            page.prose().into_iter().filter(|(_, line)| is_long(line)).map(|(at, _)| at).collect();
        assert!(page.prose().len() > 20, "the lines of {name} were not found");
        assert!(long.is_empty(), "{name}, lines {long:?}");
    }
}
