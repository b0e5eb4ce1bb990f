//! Standard output and standard error.
//!
//! Nothing here uses `println!`, which panics when the reader is gone (`poolctl events | head -1`).

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use super::error::CliError;

/// Writes bytes to standard output at once.
///
/// # Errors
/// [`CliError::Output`] when nobody reads it any more, or the disk is full.
pub(super) fn write(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(CliError::Output)
}

/// Writes bytes that tasks or clients have made to standard output, on a terminal without what
/// would control it.
///
/// # Errors
/// See [`write`].
pub(super) fn write_foreign(bytes: &[u8]) -> Result<(), CliError> {
    if !io::stdout().is_terminal() {
        return write(bytes);
    }
    write(shown_on(true, &String::from_utf8_lossy(bytes)).as_bytes())
}

/// A word of a task or a client for a table, which has colours of its own.
pub(super) fn foreign(text: &str) -> Cow<'_, str> {
    shown_on(io::stdout().is_terminal(), text)
}

/// Writes one line to standard output.
///
/// # Errors
/// See [`write`].
pub(super) fn line(text: &str) -> Result<(), CliError> {
    write(format!("{text}\n").as_bytes())
}

/// Says on standard error what went wrong, or what is worth knowing.
pub(super) fn complain(text: &str) {
    note(&format!("poolctl: {text}"));
}

/// Writes a line to standard error. With that closed there is nobody left to tell.
pub(super) fn note(text: &str) {
    let mut text = shown_on(io::stderr().is_terminal(), text).into_owned();
    text.push('\n');
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether standard output takes colours: a terminal, and `NO_COLOR` is unset or empty
/// (<https://no-color.org>).
pub(super) fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A task's own words as they may go to a terminal: the control characters that would move its
/// cursor, set its title or type for the user are escaped. JSON stays the JSON that it was.
fn shown_on(terminal: bool, text: &str) -> Cow<'_, str> {
    let unsafe_char = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !terminal || !text.contains(unsafe_char) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if unsafe_char(c) {
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_is_spared_control_characters() {
        assert_eq!(
            shown_on(true, "a\x1b[2Jb\r\n\tc\u{9b}\x7f"),
            "a\\u001b[2Jb\\u000d\n\tc\\u009b\\u007f"
        );
        assert_eq!(shown_on(false, "a\x1b[2Jb"), "a\x1b[2Jb");
    }
}
