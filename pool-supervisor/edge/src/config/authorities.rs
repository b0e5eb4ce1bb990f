//! `http.ca`: certificates of authorities, read when the configuration is, so that a file that
//! changes later changes nothing until a reload.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::value::{Problem, Setting};

/// Of all files together: a worker is told at its start what is in them.
const MAX_BYTES: usize = 512 * 1024;

/// Adds what is in the file.
pub(super) fn add(setting: &Setting, path: &Path, to: &mut String) -> Result<(), Problem> {
    let trouble = |e: io::Error| setting.problem(format!("names {}: {e}", path.display()));
    let mut text = String::new();
    let left = MAX_BYTES.saturating_sub(to.len());
    File::open(path)
        .and_then(|file| file.take(left as u64 + 1).read_to_string(&mut text))
        .map_err(trouble)?;
    if text.len() > left {
        return Err(setting
            .problem(format!("is too much: all files together may hold {} KiB", MAX_BYTES >> 10)));
    }
    let certificates =
        CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    let count = certificates
        .map_err(|e| setting.problem(format!("holds a damaged certificate: {e}")))?
        .len();
    if count == 0 {
        return Err(setting.problem(format!(
            "must be a file of certificates in PEM; {} holds none",
            path.display()
        )));
    }
    to.push_str(&text);
    to.push('\n');
    Ok(())
}
