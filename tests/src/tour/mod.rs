//! The tour of `README.md`: its commands and what it says that they print.
//!
//! Owns where the tour stands in the page, how its blocks are read, and how new output is written
//! back. It runs nothing: [`terminal`] does. [`alike`] decides what may differ from one run to the
//! next, [`machine`] what may differ from one machine to the next, and [`svg`] draws the recording.

pub mod alike;
pub mod machine;
pub mod svg;
pub mod terminal;

use std::ops::Range;

/// The heading of the section.
const HEADING: &str = "## A tour";
const FENCE: &str = "```console";

/// A command as a reader types it, and what the page says it prints.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// One or more lines, without the prompt.
    pub command: String,
    /// Lines, each with its line break.
    pub output: String,
    /// Where the output stands in the page, in lines from 0.
    pub lines: Range<usize>,
}

/// The page, and the tour in it.
#[derive(Debug)]
pub struct Tour {
    /// Up to the supervisor, which stays in the foreground.
    pub first: Vec<Step>,
    /// What is typed into the second terminal.
    pub second: Vec<Step>,
    /// The last lines of the first terminal, once the supervisor has ended.
    pub end: Step,
    /// Steps outside of the tour: each is one of the tour's, shown earlier.
    pub shown_before: Vec<Step>,
    page: Vec<String>,
}

impl Tour {
    /// Reads the page.
    ///
    /// # Panics When the page has no tour of this form: a block for the first terminal, blocks for
    /// the second, and a block without a command for what the first one prints last.
    #[must_use]
    pub fn read(page: &str) -> Self {
        let page: Vec<String> = page.lines().map(str::to_owned).collect();
        let starts = page
            .iter()
            .position(|line| line == HEADING)
            .expect("README.md has the heading of the tour");
        let ends = page[starts + 1..]
            .iter()
            .position(|line| line.starts_with("## "))
            .map(|at| starts + 1 + at);
        let section = starts..ends.unwrap_or(page.len());
        let (mut tour, mut shown_before) = (Vec::new(), Vec::new());
        for block in blocks(&page) {
            if section.contains(&block.start) {
                tour.push(block);
            } else {
                shown_before.extend(steps(&page, block));
            }
        }
        let last = tour.pop().expect("the tour has blocks");
        let end = Step { command: String::new(), output: text(&page[last.clone()]), lines: last };
        assert!(
            !end.output.starts_with("$ "),
            "the tour's last block is the supervisor's last lines"
        );
        let mut tour = tour.into_iter().map(|block| steps(&page, block));
        let first = tour.next().expect("the tour begins with a block for the first terminal");
        let second = tour.flatten().collect();
        Self { first, second, end, shown_before, page }
    }

    /// The page with other outputs, one for each place.
    #[must_use]
    pub fn page_with(&self, mut outputs: Vec<(Range<usize>, String)>) -> String {
        let mut page = self.page.clone();
        // From the end on: the places above stay where they are.
        outputs.sort_by_key(|(lines, _)| std::cmp::Reverse(lines.start));
        for (lines, output) in outputs {
            page.splice(lines, output.lines().map(str::to_owned));
        }
        text(&page)
    }
}

fn text(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The lines between the fences of each block of commands.
fn blocks(page: &[String]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut open = None;
    for (at, line) in page.iter().enumerate() {
        match open {
            None if line == FENCE => open = Some(at + 1),
            Some(start) if line == "```" => {
                found.push(start..at);
                open = None;
            }
            _ => {}
        }
    }
    found
}

fn steps(page: &[String], block: Range<usize>) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at = block.start;
    while at < block.end {
        let start = page[at].strip_prefix("$ ").expect("a block begins with a command");
        let mut command = start.to_owned();
        at += 1;
        let more = |command: &str| {
            command.ends_with('\\') || heredoc(command).is_some_and(|end| !command.ends_with(&end))
        };
        while more(&command) {
            command.push('\n');
            command.push_str(&page[at]);
            at += 1;
        }
        let output = at;
        while at < block.end && !page[at].starts_with("$ ") {
            at += 1;
        }
        steps.push(Step { command, output: text(&page[output..at]), lines: output..at });
    }
    steps
}

/// What ends the text that the command brings along: `<<'WORD'`.
fn heredoc(command: &str) -> Option<String> {
    let (_, rest) = command.split_once("<<'")?;
    let (word, _) = rest.split_once('\'')?;
    Some(format!("\n{word}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# It\n```console\n$ b\n2\n```\n## A tour\n```console\n$ cat \
        <<'END'\nx\nEND\n$ run\n```\nThen:\n\
        ```console\n$ a \\\n  b\n1\n$ b\n2\n```\n```console\nbye\n```\n## More\n";

    #[test]
    fn a_page_is_read_into_commands_and_outputs() {
        let tour = Tour::read(PAGE);
        let commands = |steps: &[Step]| {
            steps.iter().map(|s| (s.command.clone(), s.output.clone())).collect::<Vec<_>>()
        };
        let pair = |command: &str, output: &str| (command.to_owned(), output.to_owned());
        assert_eq!(commands(&tour.first), [pair("cat <<'END'\nx\nEND", ""), pair("run", "")]);
        assert_eq!(commands(&tour.second), [pair("a \\\n  b", "1\n"), pair("b", "2\n")]);
        assert_eq!(commands(&tour.shown_before), [pair("b", "2\n")]);
        assert_eq!(tour.end.output, "bye\n");
    }

    #[test]
    fn new_outputs_go_where_the_old_ones_stood() {
        let tour = Tour::read(PAGE);
        let lines = |step: &Step| step.lines.clone();
        let outputs = vec![
            (lines(&tour.second[0]), "one\nmore\n".to_owned()),
            (lines(&tour.first[1]), "up\n".to_owned()),
        ];
        let expected = PAGE.replace("\n1\n", "\none\nmore\n").replace("$ run\n", "$ run\nup\n");
        assert_eq!(tour.page_with(outputs), expected);
    }
}
