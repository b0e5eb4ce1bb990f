//! `acceptStatus`: which replies to a request are results.

use std::fmt;

use serde::de::{Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::json::Value;

/// What the field may be, in words.
const FORMS: &str =
    "\"any\", a status such as 404, a class such as \"4xx\", or an array of 1 to 64 of these";
/// The longest array.
const MOST: usize = 64;

/// Statuses and classes of them, at least one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AcceptStatus(Vec<Accepted>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Accepted {
    /// All of them.
    Any,
    /// The hundreds: 1 to 5.
    Class(u16),
    /// 100 to 599.
    Code(u16),
}

impl Default for AcceptStatus {
    /// 200 to 299.
    fn default() -> Self {
        Self(vec![Accepted::Class(2)])
    }
}

impl AcceptStatus {
    /// As the user wrote it.
    pub(super) fn read(value: Value<'_>) -> Result<Self, String> {
        serde_json::from_str(value.as_written()).map_err(|_| value.not_a(FORMS))
    }

    /// Whether a reply with this status is a result.
    #[must_use]
    pub fn accepts(&self, status: u16) -> bool {
        self.0.iter().any(|accepted| match accepted {
            Accepted::Any => true,
            Accepted::Class(hundreds) => status / 100 == *hundreds,
            Accepted::Code(code) => status == *code,
        })
    }
}

impl Accepted {
    fn named(text: &str) -> Option<Self> {
        match (text, text.strip_suffix("xx").map(str::as_bytes)) {
            ("any", _) => Some(Self::Any),
            (_, Some([digit @ b'1'..=b'5'])) => Some(Self::Class(u16::from(digit - b'0'))),
            _ => None,
        }
    }

    fn numbered(code: u64) -> Option<Self> {
        u16::try_from(code).ok().filter(|code| (100..600).contains(code)).map(Self::Code)
    }
}

impl Serialize for AcceptStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl Serialize for Accepted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("any"),
            Self::Class(hundreds) => serializer.collect_str(&format_args!("{hundreds}xx")),
            Self::Code(code) => serializer.serialize_u16(*code),
        }
    }
}

impl<'de> Deserialize<'de> for AcceptStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = AcceptStatus;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(FORMS)
            }
            fn visit_u64<E: Error>(self, code: u64) -> Result<AcceptStatus, E> {
                One.visit_u64(code).map(|one| AcceptStatus(vec![one]))
            }
            fn visit_f64<E: Error>(self, code: f64) -> Result<AcceptStatus, E> {
                One.visit_f64(code).map(|one| AcceptStatus(vec![one]))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<AcceptStatus, E> {
                One.visit_str(text).map(|one| AcceptStatus(vec![one]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<AcceptStatus, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = items.next_element()? {
                    if all.len() == MOST {
                        return Err(A::Error::invalid_length(all.len() + 1, &"at most 64"));
                    }
                    all.push(one);
                }
                if all.is_empty() {
                    return Err(A::Error::invalid_length(0, &"at least one"));
                }
                Ok(AcceptStatus(all))
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

/// One that is no array.
struct One;

impl Visitor<'_> for One {
    type Value = Accepted;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FORMS)
    }
    fn visit_u64<E: Error>(self, code: u64) -> Result<Accepted, E> {
        Accepted::numbered(code).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(code), &self))
    }
    /// A whole number may be written as `404.0`.
    fn visit_f64<E: Error>(self, code: f64) -> Result<Accepted, E> {
        let whole = Some(code).filter(|code| code.fract() == 0.0 && (100.0..600.0).contains(code));
        let accepted = whole.and_then(|code| Accepted::numbered(code as u64));
        accepted.ok_or_else(|| E::invalid_value(Unexpected::Float(code), &self))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Accepted, E> {
        Accepted::named(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

impl<'de> Deserialize<'de> for Accepted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(One)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<AcceptStatus, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn words_numbers_and_arrays_of_them_are_taken() {
        for (json, accepted, refused) in [
            (r#""2xx""#, &[200, 204, 299][..], &[199, 300, 404][..]),
            (r#""4xx""#, &[400, 499], &[200, 500]),
            (r#""any""#, &[100, 200, 404, 599], &[]),
            ("404", &[404], &[200, 403]),
            ("404.0", &[404], &[200, 403]),
            (r#"[200, 404, "5xx"]"#, &[200, 404, 500, 599], &[201, 400]),
        ] {
            let status = read(json).unwrap();
            assert!(accepted.iter().all(|code| status.accepts(*code)), "{json}");
            assert!(!refused.iter().any(|code| status.accepts(*code)), "{json}");
            // As it goes to the worker.
            assert_eq!(read(&serde_json::to_string(&status).unwrap()), Ok(status), "{json}");
        }
        assert_eq!(read(r#""2xx""#), Ok(AcceptStatus::default()));
    }

    #[test]
    fn anything_else_is_refused_and_the_forms_are_named() {
        for json in [
            r#""200""#,
            "404.5",
            r#""6xx""#,
            r#""2XX""#,
            "99",
            "600",
            "-1",
            "true",
            "{}",
            r#"[["2xx"]]"#,
            "[null]",
        ] {
            let problem = read(json).unwrap_err();
            assert!(problem.contains("a status such as 404"), "{json}: {problem}");
        }
        assert!(read("[]").unwrap_err().contains("at least one"));
        let long = format!("[{}]", vec!["200"; 65].join(","));
        assert!(read(&long).unwrap_err().contains("at most 64"));
    }
}
