//! HTTP tasks: what they may say, and where they may go.

mod address;
mod credential;
mod request;
mod rules;

use std::net::IpAddr;

use url::Url;

pub use credential::is_credential;
pub use request::{BadRequest, Request};
pub use rules::{BadRule, Denied, Rules};

/// The address that a URL's host is, when it is one and no name.
#[must_use]
pub fn literal_address(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// Why a redirect is not followed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadRedirect {
    /// It leads to no URL.
    #[error("redirects to what is no URL: {0}")]
    NoUrl(String),
    /// It leads where no task may go.
    #[error(transparent)]
    Denied(#[from] BadRequest),
}

/// Where a reply's `location` leads from `from`.
///
/// # Errors
/// [`BadRedirect`] for what is no URL, or none that is ever fetched.
pub fn redirect_target(from: &Url, location: &[u8]) -> Result<Url, BadRedirect> {
    let bad = |why: &str| BadRedirect::NoUrl(why.to_owned());
    let text = std::str::from_utf8(location).ok().filter(|t| t.is_ascii()).ok_or_else(|| bad("it is no ASCII"))?;
    let target = from.join(text).map_err(|e| bad(&e.to_string()))?;
    Ok(request::check_url(target)?)
}
