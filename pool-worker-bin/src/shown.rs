//! Bytes as users see them in JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

/// A text where the bytes are UTF-8, else the bytes themselves: never another text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Shown {
    /// They are UTF-8.
    Text(String),
    /// They are not.
    Bytes {
        /// All of them.
        base64: String,
    },
}

impl Shown {
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Bytes { base64: STANDARD.encode(error.as_bytes()) },
        }
    }

    /// Of bytes that were cut anywhere: a character that has lost its end is no reason to show a
    /// text as bytes, and is left out.
    pub(crate) fn of_cut(mut bytes: Vec<u8>) -> Self {
        if let Err(error) = std::str::from_utf8(&bytes)
            && error.error_len().is_none()
        {
            bytes.truncate(error.valid_up_to());
        }
        Self::of(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_utf8_is_a_text() {
        assert_eq!(Shown::of("grüß\0".into()), Shown::Text("grüß\0".into()));
        for bytes in [&b"\xffA"[..], "ü".as_bytes().split_at(1).0, b"a\xed\xa0\x80"] {
            let shown = Shown::of(bytes.to_vec());
            assert_eq!(shown, Shown::Bytes { base64: STANDARD.encode(bytes) });
        }
    }

    #[test]
    fn a_cut_loses_the_character_that_it_goes_through() {
        let text = "aü😀";
        for len in 0..=text.len() {
            let whole = text.floor_char_boundary(len);
            assert_eq!(
                Shown::of_cut(text.as_bytes()[..len].to_vec()),
                Shown::Text(text[..whole].into())
            );
        }
        assert_eq!(Shown::of_cut(b"\xffA".to_vec()), Shown::Bytes { base64: "/0E=".into() });
    }
}
