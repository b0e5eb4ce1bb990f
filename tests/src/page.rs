//! A page of the documentation, taken apart: headings, tables, blocks of code, links.
//!
//! Reads the little of Markdown that this project's pages use. It decides nothing about what a page
//! should say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The repository's folder.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the tests lie in the repository")
}

/// One Markdown file.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its path from the repository's folder.
    pub name: String,
    text: String,
}

/// A block between two lines of three backticks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// What stands behind the opening backticks; empty when nothing does.
    pub language: String,
    /// The lines between.
    pub text: String,
    /// The heading above it, without its `#`s.
    pub heading: String,
}

/// A table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// The heading above it, without its `#`s.
    pub heading: String,
    /// The cells of its first row.
    pub titles: Vec<String>,
    /// The cells of the other rows.
    pub rows: Vec<Vec<String>>,
}

enum Line<'a> {
    Fence(&'a str),
    Code(&'a str),
    Text(&'a str),
}

impl Page {
    /// Reads a page; the name is its path from the repository's folder.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn read(name: &str) -> Self {
        let text = std::fs::read_to_string(repository().join(name))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        Self { name: name.to_owned(), text }
    }

    /// Every page of the repository, without what was built or downloaded.
    ///
    /// # Panics
    /// When a folder cannot be read.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let (root, mut pages) = (repository(), Vec::new());
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("a folder of the repository").flatten() {
                let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
                let is_ours = !name.starts_with('.') && name != "target" && name != "node_modules";
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) && is_ours {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "md") {
                    let name =
                        path.strip_prefix(&root).expect("below the root").to_str().expect("UTF-8");
                    pages.push(Self::read(name));
                }
            }
        }
        pages
    }

    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let mut inside = false;
        self.text.lines().map(move |line| match line.strip_prefix("```") {
            Some(language) => {
                inside = !inside;
                Line::Fence(language.trim())
            }
            None if inside => Line::Code(line),
            None => Line::Text(line),
        })
    }

    /// Lines that are neither code nor of a table, with their numbers from 1.
    #[must_use]
    pub fn prose(&self) -> Vec<(usize, &str)> {
        let numbered = self.lines().enumerate().filter_map(|(at, line)| match line {
            Line::Text(text) if !text.starts_with('|') => Some((at + 1, text)),
            _ => None,
        });
        numbered.collect()
    }

    /// The blocks of code, in their order.
    #[must_use]
    pub fn blocks(&self) -> Vec<Block> {
        let (mut blocks, mut open, mut heading): (Vec<Block>, Option<Block>, String) =
            Default::default();
        for line in self.lines() {
            match (line, &mut open) {
                (Line::Fence(_), Some(_)) => blocks.extend(open.take()),
                (Line::Fence(language), None) => {
                    let block = Block {
                        language: language.into(),
                        text: String::new(),
                        heading: heading.clone(),
                    };
                    open = Some(block);
                }
                (Line::Code(line), Some(block)) => block.text.push_str(&format!("{line}\n")),
                (Line::Text(line), _) => heading = heading_of(line).map_or(heading, str::to_owned),
                (Line::Code(_), None) => unreachable!("code lies between fences"),
            }
        }
        blocks
    }

    /// The blocks of one language.
    #[must_use]
    pub fn blocks_of(&self, language: &str) -> Vec<Block> {
        self.blocks().into_iter().filter(|block| block.language == language).collect()
    }

    /// The tables, in their order.
    #[must_use]
    pub fn tables(&self) -> Vec<Table> {
        let (mut tables, mut heading, mut above): (Vec<Table>, String, Option<Vec<String>>) =
            Default::default();
        let mut inside = false;
        for line in self.lines() {
            let text = if let Line::Text(text) = line { text } else { "" };
            heading = heading_of(text).map_or(heading, str::to_owned);
            let Some(cells) = cells(text) else {
                (inside, above) = (false, None);
                continue;
            };
            if inside {
                tables.last_mut().expect("it is open").rows.push(cells);
            } else if above.is_some() && is_rule(text) {
                let titles = above.take().unwrap_or_default();
                tables.push(Table { heading: heading.clone(), titles, rows: Vec::new() });
                inside = true;
            } else {
                above = Some(cells);
            }
        }
        tables
    }

    /// The table under a heading, counted from 0.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn table(&self, heading: &str, number: usize) -> Table {
        let tables = self.tables().into_iter().filter(|table| table.heading == heading);
        tables
            .clone()
            .nth(number)
            .unwrap_or_else(|| panic!("{}: no table {number} under {heading:?}", self.name))
    }

    /// The headings, without their `#`s.
    #[must_use]
    pub fn headings(&self) -> Vec<String> {
        let texts = self
            .lines()
            .filter_map(|line| if let Line::Text(text) = line { heading_of(text) } else { None });
        texts.map(str::to_owned).collect()
    }

    /// What a link may name behind its `#`, as GitHub makes it from the headings.
    #[must_use]
    pub fn anchors(&self) -> Vec<String> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let anchor = |heading: &String| {
            let kept =
                heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            let slug: String =
                kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect();
            let times = seen.entry(slug.clone()).and_modify(|n| *n += 1).or_default();
            if *times == 0 { slug } else { format!("{slug}-{times}") }
        };
        self.headings().iter().map(anchor).collect()
    }

    /// The targets of all links and images outside of code.
    #[must_use]
    pub fn links(&self) -> Vec<String> {
        let mut links = Vec::new();
        for line in self.lines() {
            let Line::Text(text) = line else { continue };
            // Every second piece stands between backticks; a link's text may be one of them.
            let outside: String = text
                .split('`')
                .enumerate()
                .map(|(n, piece)| if n % 2 == 0 { piece } else { "code" })
                .collect();
            links.extend(targets(&outside, "](", ')'));
            links.extend(targets(&outside, "src=\"", '"'));
            links.extend(targets(&outside, "href=\"", '"'));
        }
        links
    }
}

impl Table {
    /// The first cell of each row, without its backticks.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.column(0)
    }

    /// One cell of each row, without the backticks around it.
    #[must_use]
    pub fn column(&self, number: usize) -> Vec<String> {
        self.rows.iter().map(|row| row[number].trim_matches('`').to_owned()).collect()
    }
}

fn targets<'a>(text: &'a str, before: &'a str, after: char) -> impl Iterator<Item = String> + 'a {
    text.split(before)
        .skip(1)
        .filter_map(move |rest| Some(rest.split_once(after)?.0.trim().to_owned()))
}

fn heading_of(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    (text.len() < line.len()).then(|| text.strip_prefix(' ')).flatten()
}

fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    // A bar that belongs to a cell is escaped.
    let cells = inner.replace("\\|", "\0");
    Some(cells.split('|').map(|cell| cell.trim().replace('\0', "\\|")).collect())
}

/// The line between a table's titles and its rows.
fn is_rule(line: &str) -> bool {
    line.starts_with('|')
        && line.contains("---")
        && line.chars().all(|c| matches!(c, '|' | '-' | ':' | ' '))
}
