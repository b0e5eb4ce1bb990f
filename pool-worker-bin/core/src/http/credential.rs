//! Which headers are left behind when a redirect leads to another origin: those that look like a
//! credential.
//!
//! Decides by parts of a header's name and by how its value begins. A list of whole names would
//! never be whole, since every service invents its own. A header that is dropped by mistake is a
//! request that the other server may refuse; one that is kept by mistake is a secret that it now
//! has.

use http::{HeaderName, HeaderValue};

/// Parts of names, in lower case.
const PARTS: [&str; 15] = [
    "access",
    "auth",
    "bearer",
    "cert",
    "cookie",
    "credential",
    "csrf",
    "jwt",
    "key",
    "pass",
    "secret",
    "session",
    "sign",
    "token",
    "xsrf",
];

/// First words of values, in lower case.
const SCHEMES: [&str; 8] =
    ["apikey", "aws4-hmac-sha256", "basic", "bearer", "digest", "hawk", "negotiate", "token"];

/// Whether the header may tell who asks.
#[must_use]
pub fn is_credential(name: &HeaderName, value: &HeaderValue) -> bool {
    let scheme = value.as_bytes().split(u8::is_ascii_whitespace).next().unwrap_or_default();
    // Names of headers are kept in lower case.
    PARTS.iter().any(|part| name.as_str().contains(part))
        || SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_look_like_a_credential_are_known_by_name_or_value() {
        for (name, value, expected) in [
            ("Authorization", "x", true),
            ("Proxy-Authorization", "x", true),
            ("Cookie", "a=b", true),
            ("X-API-Key", "x", true),
            ("api_key", "x", true),
            ("Ocp-Apim-Subscription-Key", "x", true),
            ("X-Vault-Token", "x", true),
            ("Private-Token", "x", true),
            ("X-Amz-Security-Token", "x", true),
            ("X-Client-Secret", "x", true),
            ("CF-Access-Client-Id", "x", true),
            ("X-Auth-User", "x", true),
            ("X-Hub-Signature-256", "x", true),
            ("X-Password", "x", true),
            ("X-Session", "x", true),
            ("X-Forwarded-For-Me", "Bearer abc", true),
            ("X-Custom", "basic dTpw", true),
            ("X-Custom", "Basics of it", false),
            ("Accept", "application/json", false),
            ("Accept-Language", "de", false),
            ("Content-Type", "text/plain", false),
            ("If-None-Match", "\"x\"", false),
            ("Range", "bytes=0-1", false),
            ("User-Agent", "x", false),
            ("X-Request-Id", "x", false),
        ] {
            let name: HeaderName = name.parse().unwrap();
            assert_eq!(
                is_credential(&name, &HeaderValue::from_static(value)),
                expected,
                "{name}: {value}"
            );
        }
    }
}
