//! Files and standard input that an argument names.

use std::io::Read;
use std::path::Path;

use super::error::CliError;

/// Reads a file whole, or standard input for `-`. `what` completes "failed to read … PATH".
///
/// # Errors
/// [`CliError::File`] naming it.
pub(super) fn bytes(what: &'static str, path: &Path) -> Result<Vec<u8>, CliError> {
    let failed = |reason| CliError::File { what, path: path.to_owned(), reason };
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map_err(failed)?;
        return Ok(bytes);
    }
    std::fs::read(path).map_err(failed)
}

/// Reads text; see [`bytes`].
///
/// # Errors
/// [`CliError::File`], or [`CliError::Content`] when it is not UTF-8.
pub(super) fn text(what: &'static str, path: &Path) -> Result<String, CliError> {
    String::from_utf8(bytes(what, path)?).map_err(|error| CliError::Content {
        what,
        name: name(path),
        problem: format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to()),
    })
}

/// The file as a message names it.
pub(super) fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}
