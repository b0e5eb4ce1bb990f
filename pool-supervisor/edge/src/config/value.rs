//! A configuration file as a tree, and typed reading from it.
//!
//! Both formats become the same tree, which keeps doubled names, so that each mistake can be told
//! with the key's whole path. Nothing here knows which settings exist; [`super::keys`] does.

use std::fmt;
use std::ops::RangeInclusive;

use pool_protocol::units::{parse_duration_ms, parse_size};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::keys;

/// What a file can hold. Numbers keep whether they were written as whole ones.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Value {
    Null,
    Flag(bool),
    Whole(i128),
    Real(f64),
    Text(String),
    List(Vec<Value>),
    Table(Vec<(String, Value)>),
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tree;
        impl<'de> Visitor<'de> for Tree {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a setting")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Flag(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(Value::Whole(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(Value::Whole(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(Value::Real(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Value, E> {
                Ok(Value::Text(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Value::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
                let mut table = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    table.push(entry);
                }
                Ok(Value::Table(table))
            }
        }
        deserializer.deserialize_any(Tree)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Flag(value) => write!(f, "{value}"),
            Self::Whole(value) => write!(f, "{value}"),
            Self::Real(value) => write!(f, "{value:?}"),
            Self::Text(text) if text.chars().count() > 60 => {
                write!(f, "{:?}…", text.chars().take(60).collect::<String>())
            }
            Self::Text(text) => write!(f, "{text:?}"),
            Self::List(_) => f.write_str("a list"),
            Self::Table(_) => f.write_str("a table"),
        }
    }
}

/// What is wrong with one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Problem {
    pub(super) key: String,
    /// Completes "`key` ".
    pub(super) problem: String,
}

impl Problem {
    pub(super) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into() }
    }
}

/// A table that is being read: each setting is taken out once, what is left over is not known.
#[derive(Debug)]
pub(super) struct Section {
    /// Its path with the user's own names.
    shown: String,
    /// Its path with `*` in their place.
    pattern: String,
    entries: Vec<(String, Value)>,
}

impl Section {
    /// The whole file.
    pub(super) fn top(value: Value) -> Result<Self, Problem> {
        match value {
            Value::Table(entries) => Self::new(String::new(), String::new(), entries),
            other => Err(Problem::new(
                "the file",
                format!("must hold one table of settings, not {other}"),
            )),
        }
    }

    fn new(shown: String, pattern: String, entries: Vec<(String, Value)>) -> Result<Self, Problem> {
        for (at, (name, _)) in entries.iter().enumerate() {
            if entries[..at].iter().any(|(earlier, _)| earlier == name) {
                return Err(Problem::new(keys::join(&shown, name), "is given twice"));
            }
        }
        Ok(Self { shown, pattern, entries })
    }

    /// Takes a setting out.
    pub(super) fn take(&mut self, name: &str) -> Option<Setting> {
        let at = self.entries.iter().position(|(n, _)| n == name)?;
        let (_, value) = self.entries.remove(at);
        Some(Setting { key: keys::join(&self.shown, name), value })
    }

    /// Takes a section out; an absent one is empty.
    pub(super) fn section(&mut self, name: &str) -> Result<Self, Problem> {
        let pattern = keys::join(&self.pattern, name);
        match self.take(name) {
            Some(setting) => setting.section(pattern),
            None => Ok(Self { shown: keys::join(&self.shown, name), pattern, entries: Vec::new() }),
        }
    }

    /// An error about the section itself.
    pub(super) fn problem(&self, problem: impl Into<String>) -> Problem {
        Problem::new(&self.shown, problem)
    }

    /// Takes all settings out, of a section whose names are the user's own.
    pub(super) fn all(self) -> impl Iterator<Item = (String, Setting)> {
        let Self { shown, entries, .. } = self;
        entries.into_iter().map(move |(name, value)| {
            let key = keys::join(&shown, &name);
            (name, Setting { key, value })
        })
    }

    /// Nothing may be left over.
    pub(super) fn finish(self) -> Result<(), Problem> {
        match self.entries.first() {
            None => Ok(()),
            Some((name, _)) => {
                let hint = keys::suggestion(&self.pattern, &self.shown, name);
                Err(Problem::new(keys::join(&self.shown, name), format!("is not known{hint}")))
            }
        }
    }
}

/// One setting with its path.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) key: String,
    value: Value,
}

impl Setting {
    /// An error about this setting.
    pub(super) fn problem(&self, problem: impl Into<String>) -> Problem {
        Problem::new(&self.key, problem)
    }

    fn must_be(&self, what: &str) -> Problem {
        self.problem(format!("must be {what}, not {}", self.value))
    }

    pub(super) fn section(self, pattern: String) -> Result<Section, Problem> {
        match self.value {
            Value::Table(entries) => Section::new(self.key, pattern, entries),
            other => {
                Err(Problem::new(self.key, format!("must be a table of settings, not {other}")))
            }
        }
    }

    pub(super) fn flag(&self) -> Result<bool, Problem> {
        match self.value {
            Value::Flag(value) => Ok(value),
            _ => Err(self.must_be("true or false")),
        }
    }

    pub(super) fn whole(&self, range: RangeInclusive<u64>) -> Result<u64, Problem> {
        let what =
            || self.must_be(&format!("a whole number from {} to {}", range.start(), range.end()));
        match self.value {
            Value::Whole(value) => {
                u64::try_from(value).ok().filter(|v| range.contains(v)).ok_or_else(what)
            }
            _ => Err(what()),
        }
    }

    /// As [`Self::whole`], for ranges that fit.
    pub(super) fn count(&self, range: RangeInclusive<u32>) -> Result<u32, Problem> {
        let value = self.whole(u64::from(*range.start())..=u64::from(*range.end()))?;
        Ok(u32::try_from(value).expect("the range is one of u32"))
    }

    pub(super) fn real(&self, range: RangeInclusive<f64>) -> Result<f64, Problem> {
        let value = match self.value {
            Value::Real(value) => value,
            Value::Whole(value) => value as f64,
            _ => return Err(self.must_be("a number")),
        };
        if range.contains(&value) {
            return Ok(value);
        }
        Err(self.must_be(&format!("a number from {} to {}", range.start(), range.end())))
    }

    /// Milliseconds, or a text with a unit.
    pub(super) fn duration_ms(&self, range: RangeInclusive<u64>) -> Result<u64, Problem> {
        let ms = match &self.value {
            Value::Whole(ms) => u64::try_from(*ms).ok(),
            Value::Text(text) => Some(
                parse_duration_ms(text).map_err(|e| self.problem(format!("is malformed: {e}")))?,
            ),
            _ => {
                return Err(self
                    .must_be("a time: milliseconds as a whole number, or a text such as \"30s\""));
            }
        };
        ms.filter(|ms| range.contains(ms)).ok_or_else(|| {
            self.must_be(&format!(
                "a time from {} to {}",
                show_ms(*range.start()),
                show_ms(*range.end())
            ))
        })
    }

    /// Bytes, or a text with a unit.
    pub(super) fn size(&self, range: RangeInclusive<u64>) -> Result<u64, Problem> {
        let bytes = match &self.value {
            Value::Whole(bytes) => u64::try_from(*bytes).ok(),
            Value::Text(text) => {
                Some(parse_size(text).map_err(|e| self.problem(format!("is malformed: {e}")))?)
            }
            _ => {
                return Err(
                    self.must_be("a size: bytes as a whole number, or a text such as \"64MiB\"")
                );
            }
        };
        bytes.filter(|bytes| range.contains(bytes)).ok_or_else(|| {
            self.must_be(&format!(
                "a size from {} to {}",
                show_bytes(*range.start()),
                show_bytes(*range.end())
            ))
        })
    }

    pub(super) fn text(&self, what: &str) -> Result<&str, Problem> {
        match &self.value {
            Value::Text(text) if text.contains('\0') => {
                Err(self.problem("must not contain a zero byte"))
            }
            Value::Text(text) => Ok(text),
            _ => Err(self.must_be(what)),
        }
    }

    /// One of a few words.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, Problem> {
        let found = match &self.value {
            Value::Text(text) => words.iter().find(|(word, _)| word == text),
            _ => None,
        };
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let names: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.must_be(&names.join(" or "))
        })
    }

    /// A list, or the one text that would be its only element.
    pub(super) fn one_or_list(self, what: &str) -> Result<Vec<Self>, Problem> {
        match self.value {
            Value::Text(_) => Ok(vec![self]),
            _ => self.list(what),
        }
    }

    pub(super) fn list(self, what: &str) -> Result<Vec<Self>, Problem> {
        match self.value {
            Value::List(items) => {
                let named = |(at, value)| Self { key: format!("{}[{at}]", self.key), value };
                Ok(items.into_iter().enumerate().map(named).collect())
            }
            _ => Err(self.must_be(what)),
        }
    }
}

/// In the largest unit that says it exactly.
fn show_ms(ms: u64) -> String {
    show(ms, &[(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")], "ms")
}

/// In the largest unit that says it exactly.
fn show_bytes(bytes: u64) -> String {
    show(bytes, &[(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")], "")
}

fn show(value: u64, units: &[(u64, &str)], base: &str) -> String {
    match units.iter().find(|(scale, _)| value != 0 && value.is_multiple_of(*scale)) {
        Some((scale, unit)) => format!("{}{unit}", value / scale),
        None if value == 0 => "0".to_owned(),
        None => format!("{value}{base}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_shown_in_the_largest_exact_unit() {
        assert_eq!(
            [show_ms(0), show_ms(50), show_ms(90_000), show_ms(3_600_000)],
            ["0", "50ms", "90s", "1h"]
        );
        assert_eq!(
            [show_bytes(1000), show_bytes(4 << 20), show_bytes(1 << 36)],
            ["1000", "4MiB", "64GiB"]
        );
    }
}
