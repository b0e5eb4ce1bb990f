//! The rules for programs: how a command is cut into words, and which words may be arguments.
//!
//! The words are compared with those of a splitter written here from POSIX 2.2. What is allowed
//! runs a listed program whose every argument matches the program's pattern as a whole, as
//! hand-written predicates and a second way of anchoring say; nothing else is denied. Allowed
//! words, quoted and joined, are the same command again.
//!
//! An input is a pattern, a line end, and a command. The pattern may be the number of one that has
//! a predicate here.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use pool_protocol::task::ShellData;
use pool_protocol::worker::{AllowedProgram, ShellSetup};
use pool_worker_core::shell::{Refusal, Rules};
use regex::Regex;

/// Patterns that are understood here without a regex engine.
type Known = (&'static str, fn(&str) -> bool);
const KNOWN: &[Known] = &[
    ("[a-z0-9]+", |arg| {
        !arg.is_empty() && arg.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    }),
    ("-l|-c|--max=[0-9]+", |arg| {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        arg == "-l" || arg == "-c" || arg.strip_prefix("--max=").is_some_and(digits)
    }),
    ("", str::is_empty),
    (".*", |arg| !arg.contains('\n')),
    ("(?s).*", |_| true),
    ("a|ab", |arg| arg == "a" || arg == "ab"),
    ("(?m)^a$", |arg| arg == "a"),
    ("(?i)x+?", |arg| !arg.is_empty() && arg.chars().all(|c| c == 'x' || c == 'X')),
];

/// Compiled once: compiling is what takes time.
static KNOWN_RULES: LazyLock<Vec<Rules>> = LazyLock::new(|| {
    KNOWN.iter().map(|(pattern, _)| Rules::new(&setup(pattern)).expect("written above")).collect()
});

fn setup(pattern: &str) -> ShellSetup {
    let listed = |program: &str, args: Option<&str>| AllowedProgram {
        program: program.into(),
        resolved: format!("/real{program}"),
        device: 0,
        inode: 0,
        args: args.map(Into::into),
    };
    let allow = vec![
        listed("/bin/tool", Some(pattern)),
        listed("/bin/plain", None),
        listed("/opt/plain", None),
    ];
    let (env, task_env) = (BTreeMap::new(), vec!["APP_*".to_owned()]);
    ShellSetup { allow, env, task_env, cwd: Some("/".into()), ..ShellSetup::default() }
}

/// See the module's documentation.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some((pattern, command)) = text.split_once('\n') else { return };
    match pattern.parse::<usize>().ok().filter(|number| *number < KNOWN_RULES.len()) {
        Some(number) => judge(&KNOWN_RULES[number], command, &KNOWN[number].1),
        None => {
            let Some(whole) = anchored(pattern) else { return };
            let rules = Rules::new(&setup(pattern))
                .expect("a pattern that the configuration accepts compiles");
            judge(&rules, command, &|arg| whole.is_match(arg));
        }
    }
}

/// A pattern as the configuration accepts it, anchored by its syntax tree: no text in it can reach
/// the anchors.
fn anchored(pattern: &str) -> Option<Regex> {
    use regex_syntax::hir::{Hir, Look};
    if pattern.len() > 200 || !pool_edge::config::is_argument_pattern(pattern) {
        return None;
    }
    let tree = regex_syntax::parse(pattern).expect("it compiles");
    let whole = Hir::concat(vec![Hir::look(Look::Start), tree, Hir::look(Look::End)]);
    Some(Regex::new(&whole.to_string()).expect("a tree that is written out compiles"))
}

fn judge(rules: &Rules, command: &str, fits: &dyn Fn(&str) -> bool) {
    let asked = |command: &str| {
        rules.command(ShellData { command: Some(command.to_owned()), ..ShellData::default() })
    };
    let words = posix_words(command);
    match (asked(command), words) {
        (Err(Refusal::Invalid(_)), None) => {}
        (Err(Refusal::Invalid(problem)), Some(words)) => {
            let unusable = words.is_empty() || words.iter().any(|word| word.contains('\0'));
            assert!(unusable, "{command:?} is {words:?}, and was refused: {problem}");
        }
        (Err(Refusal::Denied(why)), words) => {
            let words =
                words.unwrap_or_else(|| panic!("{command:?} is no words, and was denied: {why}"));
            assert!(!may_run(&words, fits), "{command:?} is {words:?}, and was denied: {why}");
        }
        (Ok(allowed), words) => {
            let words = words.unwrap_or_else(|| panic!("{command:?} is no words, and was allowed"));
            assert!(may_run(&words, fits), "{words:?} was allowed");
            assert_eq!(allowed.args, words[1..], "{command:?}");
            assert!(words.iter().all(|word| !word.contains('\0')));
            let again = shell_words::join(&words);
            let again = asked(&again).expect("the same words, quoted, are the same command");
            assert_eq!(
                (again.args, &again.program.listed),
                (allowed.args, &allowed.program.listed)
            );
        }
    }
}

/// Whether the words are a listed program with arguments that fit.
fn may_run(words: &[String], fits: &dyn Fn(&str) -> bool) -> bool {
    let Some((program, args)) = words.split_first() else { return false };
    match &**program {
        "tool" | "/bin/tool" | "/real/bin/tool" => args.iter().all(|arg| fits(arg)),
        // Two programs have the name `plain`, and no pattern.
        "/bin/plain" | "/opt/plain" | "/real/bin/plain" | "/real/opt/plain" => args.is_empty(),
        _ => false,
    }
}

/// Quote removal and field splitting as POSIX 2.2 and 2.3 have them, without expansions and
/// operators. Nothing when a quote is open at the end.
fn posix_words(text: &str) -> Option<Vec<String>> {
    // Outside single quotes a backslash before a line end is removed before anything else is looked
    // at.
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '#' if word.is_none() => {
                if !rest.by_ref().any(|c| c == '\n') {
                    break;
                }
            }
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => double_quoted(&mut rest, word.get_or_insert_default())?,
            '\\' => match rest.next() {
                Some('\n') => {}
                Some(c) => word.get_or_insert_default().push(c),
                None => word.get_or_insert_default().push('\\'),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

fn double_quoted(rest: &mut std::str::Chars<'_>, word: &mut String) -> Option<()> {
    loop {
        match rest.next()? {
            '"' => return Some(()),
            '\\' => match rest.next()? {
                '\n' => {}
                c @ ('$' | '`' | '"' | '\\') => word.push(c),
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::posix_words;

    #[test]
    fn words_are_cut_as_the_standard_says() {
        for (text, words) in [
            ("a 'b c' \"d\\\"\" e\\ f ''", Some(&["a", "b c", "d\"", "e f", ""][..])),
            ("a\\\nb # gone\nc", Some(&["ab", "c"])),
            ("\"\\a\\$\"x#y", Some(&["\\a$x#y"])),
            ("a\\", Some(&["a\\"])),
            (" \t\n", Some(&[])),
            ("'a", None),
            ("\"a\\", None),
        ] {
            assert_eq!(
                posix_words(text),
                words.map(|words| words.iter().map(|w| (*w).to_owned()).collect()),
                "{text:?}"
            );
        }
    }
}
