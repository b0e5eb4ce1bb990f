//! A server's reply as a task's result.

use std::collections::BTreeMap;
use std::io::Read;

use encoding_rs::{Encoding, UTF_8};
use http::HeaderMap;
use http::header::{CONTENT_TYPE, SET_COOKIE};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::shown::Shown;

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
    /// It is something else.
    Other(Shown),
}

/// The headers of a reply.
pub(super) fn headers(map: &HeaderMap) -> Headers {
    let mut headers = Headers::new();
    for name in map.keys() {
        let values = map.get_all(name).iter().map(|v| header_text(v.as_bytes()));
        let text = if name == SET_COOKIE {
            HeaderText::Cookies(values.collect())
        } else {
            HeaderText::Joined(values.collect::<Vec<_>>().join(", "))
        };
        headers.insert(name.as_str().to_owned(), text);
    }
    headers
}

/// What is no UTF-8 is Latin-1, which has a character for every byte.
fn header_text(value: &[u8]) -> String {
    std::str::from_utf8(value)
        .map_or_else(|_| value.iter().copied().map(char::from).collect(), str::to_owned)
}

/// The body of a reply. `is_whole`: whether none of it was cut off.
pub(super) fn data(map: &HeaderMap, body: Vec<u8>, is_whole: bool) -> Data {
    let kind = Kind::of(map);
    let text = match kind.text(body, is_whole) {
        Shown::Text(text) => text,
        bytes @ Shown::Bytes { .. } => return Data::Other(bytes),
    };
    if !kind.is_json() {
        return Data::Other(Shown::Text(text));
    }
    // Some servers begin with a byte order mark.
    let json = text.trim_start_matches('\u{feff}');
    let json = if json.trim().is_empty() { "null" } else { json };
    let checked =
        serde_json::from_str::<&RawValue>(json).ok().and_then(|json| one_line(json.get()));
    match checked.map(RawValue::from_string) {
        Some(Ok(value)) => Data::Json(value),
        _ => Data::Other(Shown::Text(text)),
    }
}

/// What a reply says that its body is.
struct Kind {
    /// In lower case; empty when it says nothing.
    essence: String,
    /// `charset`, when it is one that the web has.
    encoding: Option<&'static Encoding>,
}

impl Kind {
    fn of(map: &HeaderMap) -> Self {
        let value = map
            .get(CONTENT_TYPE)
            .map(|v| String::from_utf8_lossy(v.as_bytes()))
            .unwrap_or_default();
        let mut parts = value.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
        let mut parameters = parts.filter_map(|part| part.split_once('='));
        let charset = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
        let label = charset.map(|(_, label)| label.trim().trim_matches(['"', '\'']));
        Self { essence, encoding: label.and_then(|label| Encoding::for_label(label.as_bytes())) }
    }

    fn is_json(&self) -> bool {
        self.essence == "application/json"
            || self.essence == "text/json"
            || self.essence.ends_with("+json")
    }

    fn is_text(&self) -> bool {
        self.essence.starts_with("text/") || self.is_json() || self.essence.ends_with("xml")
    }

    /// A text in the encoding that the body begins with, else in the one that the reply names, else
    /// in UTF-8. Bytes that are none in it stay bytes.
    fn text(&self, body: Vec<u8>, is_whole: bool) -> Shown {
        let marked =
            Encoding::for_bom(&body).map(|(encoding, _)| encoding).filter(|_| self.is_text());
        match marked.or(self.encoding) {
            Some(encoding) if encoding != UTF_8 => match encoding.decode_with_bom_removal(&body) {
                (text, false) => Shown::Text(text.into_owned()),
                (_, true) => Shown::of(body),
            },
            _ if is_whole => Shown::of(body),
            _ => Shown::of_cut(body),
        }
    }
}

/// Takes the white space out between the tokens of what is JSON: a result is one line. Nothing when
/// it is nested too deeply. Numbers keep their digits, which reading them into a double would cost.
fn one_line(json: &str) -> Option<String> {
    let (mut out, mut depth, mut in_string, mut escaped) =
        (String::with_capacity(json.len()), 0usize, false, false);
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
        serde_json::to_string(&data(&map, body.to_vec(), true)).unwrap()
    }

    #[test]
    fn json_is_parsed_text_is_text_and_the_rest_is_base64() {
        let json =
            "{ \"a\" :\n [1, 2.50, 123456789012345678901234567890],\r\n\"b c\\\"\\\\\": \" x \" }";
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
    fn a_text_is_read_in_the_encoding_that_it_is_written_in() {
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        let marked = |text: &str| [&[0xff, 0xfe], &utf16(text)[..]].concat();
        for (kind, body, expected) in [
            ("text/html; charset=iso-8859-1", b"gr\xfc\xdf \x80".to_vec(), "\"grüß €\""),
            ("TEXT/HTML;Charset=\"Latin1\"", b"\xfc".to_vec(), "\"ü\""),
            (
                "text/plain; format=flowed; charset=Shift_JIS",
                b"\x83e\x83X\x83g".to_vec(),
                "\"テスト\"",
            ),
            (
                "application/json; charset=windows-1252",
                b"{\"a\": \"\xfc\"}".to_vec(),
                "{\"a\":\"ü\"}",
            ),
            ("text/plain; charset=utf-16le", utf16("ü"), "\"ü\""),
            ("text/plain", marked("ü"), "\"ü\""),
            ("application/xml", marked("<a/>"), "\"<a/>\""),
            ("application/json", marked("[1]"), "[1]"),
            // The mark knows better.
            ("text/plain; charset=iso-8859-1", "\u{feff}ü".into(), "\"\u{feff}ü\""),
        ] {
            assert_eq!(shown(kind, &body), expected, "{kind}");
        }
        for (kind, body) in [
            // No text in it, no such encoding, no text at all.
            ("text/plain; charset=shift_jis", &[0x83][..]),
            ("text/plain; charset=utf-8", &[0xfc]),
            ("text/plain; charset=klingon", &[0xfc]),
            ("audio/mpeg", &[0xff, 0xfe, 0, 1]),
        ] {
            assert!(shown(kind, body).starts_with(r#"{"base64":"#), "{kind}");
        }
    }

    #[test]
    fn a_text_that_was_cut_within_a_character_is_a_text() {
        let mut map = HeaderMap::new();
        map.insert(CONTENT_TYPE, "text/plain".parse().unwrap());
        let cut = data(&map, "aü".as_bytes()[..2].to_vec(), false);
        assert_eq!(serde_json::to_string(&cut).unwrap(), "\"a\"");
    }

    #[test]
    fn repeated_headers_are_joined_and_cookies_are_listed() {
        let mut map = HeaderMap::new();
        for (name, value) in
            [("X-A", "1"), ("x-a", "2"), ("Set-Cookie", "a=1, 2"), ("set-cookie", "b=3")]
        {
            map.append(
                http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        let text = serde_json::to_string(&headers(&map)).unwrap();
        assert_eq!(text, r#"{"set-cookie":["a=1, 2","b=3"],"x-a":"1, 2"}"#);
        for (value, shown) in
            [(&b"gr\xfc\xdf"[..], r#"{"x":"grüß"}"#), ("grüß".as_bytes(), r#"{"x":"grüß"}"#)]
        {
            let map = HeaderMap::from_iter([(
                http::HeaderName::from_static("x"),
                value.try_into().unwrap(),
            )]);
            assert_eq!(serde_json::to_string(&headers(&map)).unwrap(), shown);
        }
    }

    #[test]
    fn a_body_is_read_no_further_than_its_cap() {
        assert!(
            matches!(read_capped(&b"12345"[..], 5), Ok(Capped::Whole(bytes)) if bytes == b"12345")
        );
        assert!(
            matches!(read_capped(&b"123456"[..], 5), Ok(Capped::More(bytes)) if bytes == b"12345")
        );
        assert!(matches!(read_capped(std::io::repeat(0), 5), Ok(Capped::More(_))));
    }
}
