//! A server's reply as a task's result.

use std::collections::BTreeMap;
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use ureq::http::HeaderMap;
use ureq::http::header::{CONTENT_TYPE, SET_COOKIE};

/// JSON nested deeper stays text: what reads the result must not overflow its stack.
const MAX_DEPTH: usize = 128;

/// Status, headers and body as users see them.
#[derive(Debug, Serialize)]
pub(crate) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Headers,
    pub(super) data: Data,
}

/// Names in lower case.
pub(super) type Headers = BTreeMap<String, HeaderText>;

/// The value of one header.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum HeaderText {
    /// Repeated headers are one list.
    Joined(String),
    /// Cookies are no list: their values hold commas.
    Cookies(Vec<String>),
}

/// The body.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Data {
    /// The reply says JSON, and it is.
    Json(Box<RawValue>),
    /// It is UTF-8.
    Text(String),
    /// It is something else.
    Bytes { base64: String },
}

/// The headers of a reply.
pub(super) fn headers(map: &HeaderMap) -> Headers {
    let mut headers = Headers::new();
    for name in map.keys() {
        let values = map.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
        let text = if name == SET_COOKIE {
            HeaderText::Cookies(values.collect())
        } else {
            HeaderText::Joined(values.collect::<Vec<_>>().join(", "))
        };
        headers.insert(name.as_str().to_owned(), text);
    }
    headers
}

/// The body of a reply.
pub(super) fn data(map: &HeaderMap, body: Vec<u8>) -> Data {
    let text = match String::from_utf8(body) {
        Ok(text) => text,
        Err(error) => return Data::Bytes { base64: STANDARD.encode(error.as_bytes()) },
    };
    if !says_json(map) {
        return Data::Text(text);
    }
    // Some servers begin with a byte order mark.
    let json = text.trim_start_matches('\u{feff}');
    let json = if json.trim().is_empty() { "null" } else { json };
    let checked = serde_json::from_str::<&RawValue>(json).ok().and_then(|json| one_line(json.get()));
    match checked.map(RawValue::from_string) {
        Some(Ok(value)) => Data::Json(value),
        _ => Data::Text(text),
    }
}

fn says_json(map: &HeaderMap) -> bool {
    let kind = map.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind == "text/json" || kind.ends_with("+json")
}

/// Takes the white space out between the tokens of what is JSON: a result is one line. Nothing when it is nested too deeply. Numbers
/// keep their digits, which reading them into a double would cost.
fn one_line(json: &str) -> Option<String> {
    let (mut out, mut depth, mut in_string, mut escaped) = (String::with_capacity(json.len()), 0usize, false, false);
    for c in json.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else {
            match c {
                ' ' | '\n' | '\r' | '\t' => continue,
                '"' => in_string = true,
                '[' | '{' => depth += 1,
                ']' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > MAX_DEPTH {
                return None;
            }
        }
        out.push(c);
    }
    Some(out)
}

/// What reading a body up to a limit gave.
pub(super) enum Capped {
    /// All of it.
    Whole(Vec<u8>),
    /// There is more.
    More(Vec<u8>),
}

/// Reads up to `max` bytes.
pub(super) fn read_capped(body: impl Read, max: u64) -> std::io::Result<Capped> {
    let mut bytes = Vec::new();
    body.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        bytes.truncate(usize::try_from(max).unwrap_or(usize::MAX));
        return Ok(Capped::More(bytes));
    }
    Ok(Capped::Whole(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kind: &str, body: &[u8]) -> String {
        let mut map = HeaderMap::new();
        map.insert(CONTENT_TYPE, kind.parse().unwrap());
        serde_json::to_string(&data(&map, body.to_vec())).unwrap()
    }

    #[test]
    fn json_is_parsed_text_is_text_and_the_rest_is_base64() {
        let json = "{ \"a\" :\n [1, 2.50, 123456789012345678901234567890],\r\n\"b c\\\"\\\\\": \" x \" }";
        let line = r#"{"a":[1,2.50,123456789012345678901234567890],"b c\"\\":" x "}"#;
        assert_eq!(shown("application/json; charset=utf-8", json.as_bytes()), line);
        assert_eq!(shown("application/problem+json", b"[ ]"), "[]");
        assert_eq!(shown("application/json", "\u{feff} 1 ".as_bytes()), "1");
        assert_eq!(shown("application/json", b""), "null");
        assert_eq!(shown("application/json", b"{no"), r#""{no""#);
        assert_eq!(shown("application/json", b"1 2"), r#""1 2""#);
        assert_eq!(shown("text/html", b"[1]"), r#""[1]""#);
        assert_eq!(shown("text/html", &[0xFF, 0]), r#"{"base64":"/wA="}"#);
        assert!(shown("application/json", "[".repeat(100_000).as_bytes()).starts_with('"'));
    }

    #[test]
    fn repeated_headers_are_joined_and_cookies_are_listed() {
        let mut map = HeaderMap::new();
        for (name, value) in [("X-A", "1"), ("x-a", "2"), ("Set-Cookie", "a=1, 2"), ("set-cookie", "b=3")] {
            map.append(ureq::http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let text = serde_json::to_string(&headers(&map)).unwrap();
        assert_eq!(text, r#"{"set-cookie":["a=1, 2","b=3"],"x-a":"1, 2"}"#);
    }

    #[test]
    fn a_body_is_read_no_further_than_its_cap() {
        assert!(matches!(read_capped(&b"12345"[..], 5), Ok(Capped::Whole(bytes)) if bytes == b"12345"));
        assert!(matches!(read_capped(&b"123456"[..], 5), Ok(Capped::More(bytes)) if bytes == b"12345"));
        assert!(matches!(read_capped(std::io::repeat(0), 5), Ok(Capped::More(_))));
    }
}
