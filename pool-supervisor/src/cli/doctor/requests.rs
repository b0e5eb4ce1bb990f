//! Requests to addresses that no task may reach.

use pool_protocol::lane::Lane;
use serde_json::json;

use super::super::error::CliError;
use super::Patient;
use super::row::{Finding, Row};
use super::tasks::Tasks;

/// Public by its prefix, and given to nobody: where this is dialled, there is no route.
const PUBLIC_URL: (&str, &str) = ("request a public address", "http://[2d00::1]:9/");
/// Nobody listens on these ports; that nobody does must not even be found out.
const URLS: [(&str, &str); 4] = [
    ("request the machine itself", "http://127.0.0.1:9/"),
    ("request the machine by another spelling", "http://0x7f000001:9/"),
    ("request the cloud's metadata", "http://169.254.169.254/latest/meta-data/"),
    ("request the metadata as IPv4 in IPv6", "http://[::ffff:169.254.169.254]/"),
];

pub(super) fn attack(
    tasks: &mut Tasks<'_>,
    patient: &Patient,
    rows: &mut Vec<Row>,
) -> Result<(), CliError> {
    let allow = patient.setting("/http/allow");
    let is_open = allow.as_array().is_some_and(|list| !list.is_empty());
    let denies_public = patient.setting("/http/public") == "deny";
    for (tried, url) in URLS.into_iter().chain(denies_public.then_some(PUBLIC_URL)) {
        let ended = tasks.run(
            json!({"type": "http-request", "url": url, "timeout": 5000, "acceptStatus": "any"}),
        )?;
        let found = match ended.code {
            Some("URL_DENIED") => (Finding::Bites, ended.words()),
            _ if is_open => {
                rows.push(Row::excused(
                    Lane::Io,
                    "addresses",
                    tried,
                    format!("http.allow has {allow}"),
                ));
                continue;
            }
            // It was dialled.
            None | Some("HTTP_ERROR" | "HTTP_STATUS" | "TIMEOUT") if ended.ran => {
                (Finding::Leaks, ended.words())
            }
            _ => (Finding::NotTried, ended.words()),
        };
        rows.push(Row::limit(Lane::Io, "addresses", tried, found));
    }
    Ok(())
}
