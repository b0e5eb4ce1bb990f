//! HTTP tasks: what they may say, and where they may go.

mod address;
mod credential;
mod patience;
mod request;
mod rules;

use std::borrow::Cow;
use std::net::IpAddr;

use percent_encoding::{AsciiSet, percent_encode};
use url::Url;

pub use credential::is_credential;
pub use patience::retry_after;
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
    let target = from.join(&text_of(location)).map_err(|e| BadRedirect::NoUrl(e.to_string()))?;
    Ok(request::check_url(target)?)
}

/// Servers send what should be escaped as it is, most often in UTF-8. Of other bytes nobody knows
/// which characters they are, so each is escaped by itself.
fn text_of(location: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(location) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => percent_encode(location, ESCAPED).into(),
    }
}

/// Of what is ASCII nothing: escapes stay what they are.
const ESCAPED: &AsciiSet = &AsciiSet::EMPTY;

#[cfg(test)]
mod tests {
    use super::*;

    fn target(location: &[u8]) -> Result<String, BadRedirect> {
        let from = Url::parse("http://a.example/b/c?d#e").unwrap();
        redirect_target(&from, location).map(|url| url.to_string())
    }

    #[test]
    fn a_location_may_hold_what_should_have_been_escaped() {
        for (location, expected) in [
            ("e?f#g".as_bytes(), "http://a.example/b/e?f"),
            ("/grüß dich?ä=ö".as_bytes(), "http://a.example/gr%C3%BC%C3%9F%20dich?%C3%A4=%C3%B6"),
            ("/%C3%BC%20".as_bytes(), "http://a.example/%C3%BC%20"),
            ("//bücher.example/".as_bytes(), "http://xn--bcher-kva.example/"),
            (b"/caf\xe9?\xff", "http://a.example/caf%E9?%FF"),
            (b"", "http://a.example/b/c?d"),
        ] {
            assert_eq!(target(location).as_deref(), Ok(expected), "{location:?}");
        }
        assert!(matches!(target(b"http://\xff/"), Err(BadRedirect::NoUrl(_))));
        assert!(matches!(target("file:///ü".as_bytes()), Err(BadRedirect::Denied(_))));
    }
}
