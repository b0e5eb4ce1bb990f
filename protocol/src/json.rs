//! JSON as the pool takes it: one grammar and one set of refusals, on every way in.
//!
//! A text is taken when it means the same to everyone who reads it: the grammar of RFC 8259 in
//! UTF-8, no key twice in an object, no number that a double cannot hold, and no more levels than
//! the caller allows. Half of a surrogate pair is taken, as `JSON.parse` takes it, since JavaScript
//! gives such strings back. A byte order mark before the text is passed over.
//!
//! It is written here because no crate does this. serde_json takes raw values without looking for
//! doubled keys, refuses half pairs wherever it does look, and calls itself once for each level;
//! this keeps a list of what is open instead, so a deep text costs no stack.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserializer;
use serde::de::{Error, Visitor};
use serde_json::value::RawValue;

/// Levels of arrays and objects in one value that a task hands on, such as an argument.
pub const MAX_DEPTH: usize = 1000;

/// Keys of one object that are compared one by one; more of them are hashed.
const FEW_KEYS: usize = 16;
/// Bytes of a path or a value in a message.
const SHOWN_BYTES: usize = 120;
/// Digits above which a number without an exponent may be too large for a double.
const MANY_DIGITS: usize = 300;

/// A text that is not taken, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unsound {
    /// Where in the value, such as `args[0].x`; empty where the whole is meant.
    pub path: String,
    /// Completes "field `…` " or "the task ".
    pub problem: String,
    /// It is no JSON at all, as opposed to JSON that the pool does not take.
    pub is_syntax: bool,
}

impl Unsound {
    fn syntax(problem: String) -> Self {
        Self {
            path: String::new(),
            problem: format!("is not valid JSON: {problem}"),
            is_syntax: true,
        }
    }

    /// The same fault in a value that is a part of another one.
    #[must_use]
    pub fn inside(self, outer: &str) -> Self {
        let path = match self.path.as_str() {
            "" => outer.to_owned(),
            inner if inner.starts_with('[') => format!("{outer}{inner}"),
            inner => format!("{outer}.{inner}"),
        };
        Self { path, ..self }
    }

    /// In an array: which of its items is meant, and what is wrong with that one.
    #[must_use]
    pub fn in_item(&self) -> Option<(usize, Self)> {
        let (number, rest) = self.path.strip_prefix('[')?.split_once(']')?;
        let path = rest.strip_prefix('.').unwrap_or(rest).to_owned();
        Some((number.parse().ok()?, Self { path, ..self.clone() }))
    }
}

/// A sound text, with the parts of its outermost array or object.
#[derive(Clone, Debug)]
pub struct Sound<'a> {
    /// The whole, without a byte order mark.
    pub value: Value<'a>,
    parts: Vec<Part<'a>>,
    /// How many parts there are; only so many are kept as the caller has asked for.
    pub count: usize,
}

/// A key, empty in an array, and its value.
pub type Part<'a> = (Cow<'a, str>, Value<'a>);

impl<'a> Sound<'a> {
    /// The fields, if it is an object.
    #[must_use]
    pub fn fields(self) -> Option<Vec<Part<'a>>> {
        self.value.0.starts_with('{').then_some(self.parts)
    }

    /// The items, if it is an array.
    #[must_use]
    pub fn items(self) -> Option<Vec<Value<'a>>> {
        self.value
            .0
            .starts_with('[')
            .then(|| self.parts.into_iter().map(|(_, value)| value).collect())
    }
}

/// Checks a text of at most so many levels.
///
/// # Errors
/// [`Unsound`]
pub fn read(text: &[u8], levels: usize) -> Result<Sound<'_>, Unsound> {
    read_some(text, levels, usize::MAX)
}

/// As [`read`], and keeps only the first parts of the outermost array or object.
///
/// # Errors
/// [`Unsound`]
pub fn read_some(text: &[u8], levels: usize, parts: usize) -> Result<Sound<'_>, Unsound> {
    let text = without_mark(text);
    let text = std::str::from_utf8(text).map_err(|error| {
        Unsound::syntax(format!("it is not UTF-8 at byte {}", error.valid_up_to() + 1))
    })?;
    let mut scanner = Scanner::new(text, levels, parts);
    scanner.run()?;
    Ok(Sound {
        value: Value(text.trim_matches(is_space)),
        parts: scanner.parts,
        count: scanner.count,
    })
}

/// The fields of an object that can be read, whether or not the text is sound: those before the
/// place where it goes wrong.
#[must_use]
pub fn readable_fields(text: &[u8]) -> Vec<Part<'_>> {
    let text = without_mark(text);
    let text = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&text[..error.valid_up_to()]).unwrap_or_default(),
    };
    let mut scanner = Scanner::new(text, MAX_DEPTH, usize::MAX);
    let _where_it_goes_wrong = scanner.run();
    if text.trim_start_matches(is_space).starts_with('{') { scanner.parts } else { Vec::new() }
}

/// Whether the text is an array, if it is sound.
#[must_use]
pub fn looks_like_array(text: &[u8]) -> bool {
    without_mark(text).trim_ascii_start().starts_with(b"[")
}

/// RFC 8259, section 8.1: readers may pass over a byte order mark.
fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// A value of a text that has been checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Value<'a>(&'a str);

impl<'a> Value<'a> {
    /// As it was written.
    #[must_use]
    pub const fn as_written(self) -> &'a str {
        self.0
    }

    /// As it was written, for writing it again.
    #[must_use]
    pub fn raw(self) -> &'a RawValue {
        serde_json::from_str(self.0).expect("what was checked is JSON")
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// Whether it is an array.
    #[must_use]
    pub fn is_array(self) -> bool {
        self.0.starts_with('[')
    }

    /// Whether it is an object.
    #[must_use]
    pub fn is_object(self) -> bool {
        self.0.starts_with('{')
    }

    /// Whether it is a text.
    #[must_use]
    pub fn is_text(self) -> bool {
        self.0.starts_with('"')
    }

    /// "must be WHAT, not …"
    #[must_use]
    pub fn not_a(self, what: &str) -> String {
        let shown = match self.0.as_bytes().first() {
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            Some(b'"') if self.0.len() > SHOWN_BYTES / 2 => "a long string",
            _ if self.0.len() > SHOWN_BYTES / 2 => "a number of that length",
            _ => self.0,
        };
        format!("must be {what}, not {shown}")
    }

    /// Its characters.
    ///
    /// # Errors
    /// What is wrong, completing "field `…` ".
    pub fn text(self) -> Result<Cow<'a, str>, String> {
        if !self.is_text() {
            return Err(self.not_a("a string"));
        }
        match unescaped(self.0) {
            Cow::Borrowed(bytes) => Ok(String::from_utf8_lossy(bytes)),
            Cow::Owned(bytes) => String::from_utf8(bytes)
                .map(Cow::Owned)
                .map_err(|_| "holds half of a surrogate pair, which no text can hold".to_owned()),
        }
    }

    /// A whole number, however it is written: `1000.0` and `1e3` are 1000.
    ///
    /// # Errors
    /// What is wrong, completing "field `…` ".
    pub fn whole<T: TryFrom<i128>>(self) -> Result<T, String> {
        let number = self.0.parse().ok().or_else(|| whole_double(self.0));
        let Some(number) = number else { return Err(self.not_a("a whole number")) };
        let too_large = || {
            if number < 0 {
                "must not be negative, but is"
            } else {
                "must be a smaller number than"
            }
        };
        T::try_from(number).map_err(|_| format!("{} {}", too_large(), self.0))
    }

    /// Any number.
    ///
    /// # Errors
    /// What is wrong, completing "field `…` ".
    pub fn number(self) -> Result<f64, String> {
        match self.0.as_bytes().first() {
            Some(b'-' | b'0'..=b'9') => Ok(self.0.parse().expect("what was checked is a number")),
            _ => Err(self.not_a("a number")),
        }
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// What is wrong, completing "field `…` ".
    pub fn boolean(self) -> Result<bool, String> {
        self.0.parse().map_err(|_| self.not_a("true or false"))
    }

    /// Its fields, in the order in which they were written.
    ///
    /// # Errors
    /// What is wrong, completing "field `…` ".
    pub fn fields(self) -> Result<Vec<Part<'a>>, String> {
        self.parts().fields().ok_or_else(|| self.not_a("an object"))
    }

    /// Its items.
    ///
    /// # Errors
    /// What is wrong, completing "field `…` ".
    pub fn items(self) -> Result<Vec<Value<'a>>, String> {
        self.parts().items().ok_or_else(|| self.not_a("an array"))
    }

    fn parts(self) -> Sound<'a> {
        read(self.0.as_bytes(), usize::MAX).expect("it was checked as a part of the whole")
    }
}

/// A double that is a whole number and small enough to be exactly that.
fn whole_double(text: &str) -> Option<i128> {
    if !text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    (number.fract() == 0.0 && number.abs() < 1e30).then_some(number as i128)
}

/// The characters of a text in quotes. Half of a surrogate pair becomes the bytes that UTF-8 would
/// have for it, and has not.
fn unescaped(quoted: &str) -> Cow<'_, [u8]> {
    struct Bytes;
    impl<'de> Visitor<'de> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }
        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }
    let inside = &quoted.as_bytes()[1..quoted.len() - 1];
    if !inside.contains(&b'\\') {
        return Cow::Borrowed(inside);
    }
    let read = serde_json::Deserializer::from_str(quoted).deserialize_bytes(Bytes);
    Cow::Owned(read.expect("what was checked is a text"))
}

/// An array or object that has not ended.
struct Open<'a> {
    is_object: bool,
    /// Where its keys begin among those of all that are open.
    first_key: usize,
    /// Its keys, once they are many.
    many: Option<HashSet<Cow<'a, [u8]>>>,
    /// The item that is being read, counted from 0.
    item: usize,
    /// The key that is being read, in its quotes.
    key: &'a str,
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Value,
    FirstItem,
    Key,
    FirstKey,
    More,
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    levels: usize,
    open: Vec<Open<'a>>,
    /// The keys of all objects that are open.
    keys: Vec<Cow<'a, [u8]>>,
    parts: Vec<Part<'a>>,
    most_parts: usize,
    count: usize,
    /// Where the value of the part that is being read begins.
    part_at: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str, levels: usize, most_parts: usize) -> Self {
        Self {
            text,
            at: 0,
            levels,
            open: Vec::new(),
            keys: Vec::new(),
            parts: Vec::new(),
            most_parts,
            count: 0,
            part_at: 0,
        }
    }

    fn run(&mut self) -> Result<(), Unsound> {
        let mut due = Due::Value;
        loop {
            self.skip_space();
            due = match due {
                Due::FirstItem if self.peek() == Some(b']') => self.close(),
                Due::FirstKey if self.peek() == Some(b'}') => self.close(),
                Due::Value | Due::FirstItem => self.value()?,
                Due::Key | Due::FirstKey => self.key()?,
                Due::More => match self.open.last_mut() {
                    None if self.at == self.text.len() => return Ok(()),
                    None => return Err(self.unexpected("nothing more")),
                    Some(open) => {
                        let is_object = open.is_object;
                        match self.text.as_bytes().get(self.at) {
                            Some(b',') => {
                                open.item += 1;
                                self.at += 1;
                                if is_object { Due::Key } else { Due::Value }
                            }
                            Some(b'}') if is_object => self.close(),
                            Some(b']') if !is_object => self.close(),
                            _ => {
                                return Err(self.unexpected(if is_object {
                                    "`,` or `}`"
                                } else {
                                    "`,` or `]`"
                                }));
                            }
                        }
                    }
                },
            };
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Result<Due, Unsound> {
        if self.open.len() == 1 {
            self.part_at = self.at;
        }
        match self.peek() {
            Some(b'{') => return self.open(true),
            Some(b'[') => return self.open(false),
            Some(b'"') => self.string()?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.word()?,
        }
        self.end_value();
        Ok(Due::More)
    }

    fn open(&mut self, is_object: bool) -> Result<Due, Unsound> {
        if self.open.len() >= self.levels {
            // What is meant is the value that is handed on, not the place where it is too deep.
            let path = path_of(&self.open[..self.levels.saturating_sub(MAX_DEPTH)]);
            let problem = format!("is nested in more than {MAX_DEPTH} levels");
            return Err(Unsound { path, problem, is_syntax: false });
        }
        self.at += 1;
        self.open.push(Open {
            is_object,
            first_key: self.keys.len(),
            many: None,
            item: 0,
            key: "",
        });
        Ok(if is_object { Due::FirstKey } else { Due::FirstItem })
    }

    fn close(&mut self) -> Due {
        let closed = self.open.pop().expect("only what is open is closed");
        self.keys.truncate(closed.first_key);
        self.at += 1;
        self.end_value();
        Due::More
    }

    /// A value has ended; if it is a part of the outermost one, it is kept.
    fn end_value(&mut self) {
        if let [outermost] = &self.open[..] {
            self.count += 1;
            if self.parts.len() < self.most_parts {
                let key = match outermost.is_object {
                    true => match unescaped(outermost.key) {
                        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
                        Cow::Owned(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
                    },
                    false => Cow::Borrowed(""),
                };
                self.parts.push((key, Value(&self.text[self.part_at..self.at])));
            }
        }
    }

    fn key(&mut self) -> Result<Due, Unsound> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a key in quotes"));
        }
        let from = self.at;
        self.string()?;
        let key = &self.text[from..self.at];
        let open = self.open.last_mut().expect("a key is in an object");
        open.key = key;
        if !is_new(open, &mut self.keys, unescaped(key)) {
            return Err(Unsound {
                path: self.path(),
                problem: "is given twice".to_owned(),
                is_syntax: false,
            });
        }
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.unexpected("`:`"));
        }
        self.at += 1;
        Ok(Due::Value)
    }

    fn string(&mut self) -> Result<(), Unsound> {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(0..=0x1f) => return Err(self.unexpected("an escape such as \\n")),
                Some(_) => self.at += 1,
                None => return Err(self.unexpected("the quote that ends a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Unsound> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|digit| digit.is_ascii_hexdigit()) {
                        return Err(self.unexpected("one of four hexadecimal digits"));
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.unexpected("one of \"\\/bfnrtu after a backslash")),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Unsound> {
        let from = self.at;
        self.skip_one(b"-");
        if !self.skip_one(b"0") {
            self.digits()?;
        }
        if self.skip_one(b".") {
            self.digits()?;
        }
        let has_exponent = self.skip_one(b"eE");
        if has_exponent {
            self.skip_one(b"+-");
            self.digits()?;
        }
        let number = &self.text[from..self.at];
        let may_be_too_large = has_exponent || number.len() > MANY_DIGITS;
        if may_be_too_large && number.parse().is_ok_and(f64::is_infinite) {
            let problem = Value(number).not_a("a number that a double can hold");
            return Err(Unsound { path: self.path(), problem, is_syntax: false });
        }
        Ok(())
    }

    fn skip_one(&mut self, of: &[u8]) -> bool {
        let is_there = self.peek().is_some_and(|byte| of.contains(&byte));
        self.at += usize::from(is_there);
        is_there
    }

    fn digits(&mut self) -> Result<(), Unsound> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.unexpected("a digit"));
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn word(&mut self) -> Result<(), Unsound> {
        let rest = &self.text[self.at..];
        let word = ["null", "true", "false"].into_iter().find(|word| rest.starts_with(word));
        match word {
            Some(word) => self.at += word.len(),
            None => return Err(self.unexpected("a value")),
        }
        Ok(())
    }

    /// Where the scanner is.
    fn path(&self) -> String {
        path_of(&self.open)
    }

    fn unexpected(&self, due: &str) -> Unsound {
        let before = &self.text[..self.at];
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let place = match before.matches('\n').count() {
            // Most tasks are one line, and the line's number in a file is said by whoever reads it.
            0 => format!("column {column}"),
            lines => format!("line {} column {column}", lines + 1),
        };
        Unsound::syntax(match self.text[self.at..].chars().next() {
            None => format!("it ends at {place}, where {due} should follow"),
            Some(c) => format!("{due} should be at {place}, not {c:?}"),
        })
    }
}

/// The keys and numbers that lead somewhere.
fn path_of(open: &[Open<'_>]) -> String {
    let mut path = String::new();
    for open in open {
        if path.len() > SHOWN_BYTES {
            path.push('…');
            break;
        }
        if !open.is_object {
            path.push_str(&format!("[{}]", open.item));
            continue;
        }
        if !path.is_empty() {
            path.push('.');
        }
        let key = unescaped(open.key);
        path.extend(String::from_utf8_lossy(&key).chars().take(SHOWN_BYTES / 2));
    }
    path
}

/// Notes a key of an object, unless the object has it already.
fn is_new<'a>(open: &mut Open<'a>, keys: &mut Vec<Cow<'a, [u8]>>, key: Cow<'a, [u8]>) -> bool {
    if let Some(many) = &mut open.many {
        return many.insert(key);
    }
    if keys[open.first_key..].contains(&key) {
        return false;
    }
    keys.push(key);
    if keys.len() - open.first_key > FEW_KEYS {
        open.many = Some(keys.drain(open.first_key..).collect());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &[u8]) -> Unsound {
        let refused = read(text, MAX_DEPTH).map(|sound| sound.value.as_written().to_owned());
        refused.expect_err(&String::from_utf8_lossy(text))
    }

    #[test]
    fn the_grammar_is_that_of_the_rfc() {
        for text in [
            "0",
            "-0",
            "-0.0e-1",
            "1E+2",
            "10.01",
            "\"\"",
            "\" \\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"",
            "null",
            "true",
            "false",
            "[]",
            "{}",
            " [ 1 , [ ] , { } ] ",
            "{\"\":{\"\":0}}",
            "\t\r\n1\n",
            "\"\u{7f}\u{2028}\"",
        ] {
            assert_eq!(
                read(text.as_bytes(), 9).map(|sound| sound.value.0.to_owned()),
                Ok(text.trim().to_owned())
            );
        }
        for text in [
            "",
            " ",
            "nul",
            "tru",
            "True",
            "nulls",
            "01",
            "-",
            "+1",
            ".1",
            "1.",
            "1.e1",
            "1e",
            "1e+",
            "0x1",
            "NaN",
            "Infinity",
            "-Infinity",
            "'a'",
            "\"",
            "\"a",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "\"\0\"",
            "[",
            "]",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1}",
            "{",
            "}",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{a:1}",
            "{1:1}",
            "{\"a\":1 \"b\":2}",
            "1 2",
            "{} x",
            "[]]",
            "/**/1",
            "\u{a0}1",
            "\u{c}1",
            "1\u{feff}",
        ] {
            assert!(refused(text.as_bytes()).is_syntax, "{text:?}");
        }
        assert!(refused(b"\"\xff\"").problem.contains("not UTF-8 at byte 2"));
        assert!(refused(b"\"\xed\xa0\x80\"").is_syntax, "a surrogate half as bytes is not UTF-8");
    }

    #[test]
    fn a_place_is_said_as_people_count() {
        for (text, problem) in [
            ("", "is not valid JSON: it ends at column 1, where a value should follow"),
            ("nope", "is not valid JSON: a value should be at column 1, not 'n'"),
            ("{\"é\": x}", "is not valid JSON: a value should be at column 7, not 'x'"),
            ("{\n\"a\": x}", "is not valid JSON: a value should be at line 2 column 6, not 'x'"),
            ("[1", "is not valid JSON: it ends at column 3, where `,` or `]` should follow"),
        ] {
            assert_eq!(refused(text.as_bytes()).problem, problem);
        }
    }

    #[test]
    fn no_object_has_a_key_twice_however_it_is_written_and_wherever_it_is() {
        for (text, path) in [
            (r#"{"a":1,"a":2}"#, "a"),
            (r#"{"a":1,"\u0061":2}"#, "a"),
            (r#"[0,{"x":{"a":1,"a":2}}]"#, "[1].x.a"),
            (r#"{"\ud800":1,"\ud800":2}"#, "\u{fffd}\u{fffd}\u{fffd}"),
        ] {
            let unsound = refused(text.as_bytes());
            assert_eq!(
                (&*unsound.path, &*unsound.problem, unsound.is_syntax),
                (path, "is given twice", false)
            );
        }
        for text in
            [r#"{"a":{"a":1},"b":{"a":2}}"#, r#"[{"a":1},{"a":1}]"#, r#"{"\ud800":1,"\udc00":2}"#]
        {
            assert!(read(text.as_bytes(), 9).is_ok(), "{text}");
        }
        for count in [FEW_KEYS - 1, FEW_KEYS, FEW_KEYS + 1, 1000] {
            let keys: Vec<String> =
                (0..count).map(|n| format!("\"k{n}\":{{\"k{n}\":1}}")).collect();
            assert!(read(format!("{{{}}}", keys.join(",")).as_bytes(), 9).is_ok(), "{count}");
            let again = format!("{{{},\"k0\":1}}", keys.join(","));
            assert_eq!(refused(again.as_bytes()).path, "k0", "{count}");
        }
    }

    #[test]
    fn levels_are_counted_and_cost_no_stack() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = |levels| format!("{}1{}", open.repeat(levels), close.repeat(levels));
            assert!(read(deep(MAX_DEPTH).as_bytes(), MAX_DEPTH).is_ok());
            assert!(refused(deep(MAX_DEPTH + 1).as_bytes()).problem.contains("1000 levels"));
            assert_eq!(refused(open.repeat(1_000_000).as_bytes()).path, "");
            let within = format!("{{\"args\":[0,{}", open.repeat(1_000_000));
            assert_eq!(
                read(within.as_bytes(), MAX_DEPTH + 2).expect_err("too deep").path,
                "args[1]"
            );
        }
    }

    #[test]
    fn a_number_that_no_double_holds_is_refused_and_a_small_one_is_zero() {
        for text in ["[1e400]", "[-1e400]", &format!("[1{}]", "0".repeat(400))] {
            let unsound = refused(text.as_bytes());
            assert!(
                unsound.problem.contains("that a double can hold") && !unsound.is_syntax,
                "{unsound:?}"
            );
        }
        for text in ["1e308", "1e-400", &format!("0.{}1", "0".repeat(400))] {
            assert!(read(text.as_bytes(), 1).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_passed_over_and_is_no_value() {
        assert_eq!(read(b"\xef\xbb\xbf {}", 1).map(|sound| sound.value.0), Ok("{}"));
        assert!(
            refused(b"\xef\xbb\xbf").is_syntax && refused(b"\xef\xbb\xbf\xef\xbb\xbf1").is_syntax
        );
    }

    #[test]
    fn values_are_read_as_what_they_are() {
        let value = |text| read(str::as_bytes(text), 9).expect(text).value;
        for (text, number) in
            [("1000", 1000), ("1000.0", 1000), ("1e3", 1000), ("-0", 0), ("-0.0", 0), ("12e-0", 12)]
        {
            assert_eq!(value(text).whole::<i64>(), Ok(number), "{text}");
        }
        for (text, problem) in [
            ("1.5", "must be a whole number, not 1.5"),
            ("\"30s\"", "must be a whole number, not \"30s\""),
            ("{\"a\":1}", "must be a whole number, not an object"),
            ("-1", "must not be negative, but is -1"),
            ("256", "must be a smaller number than 256"),
        ] {
            assert_eq!(value(text).whole::<u8>(), Err(problem.to_owned()), "{text}");
        }
        assert_eq!(value(r#""a\u00e9\ud83d\ude00""#).text().as_deref(), Ok("aé😀"));
        assert!(value(r#""\ud83d""#).text().is_err_and(|problem| problem.contains("surrogate")));
        assert_eq!(value("true").boolean(), Ok(true));
        assert!(value("\"true\"").boolean().is_err() && value("null").number().is_err());
        let fields = value(r#"{"a": [1, 2] ,"b":{}}"#).fields().expect("an object");
        assert_eq!(
            fields.iter().map(|(key, value)| (&**key, value.0)).collect::<Vec<_>>(),
            [("a", "[1, 2]"), ("b", "{}")]
        );
        let items = value("[ 1, [2] ]").items().expect("an array");
        assert_eq!(items.iter().map(|item| item.0).collect::<Vec<_>>(), ["1", "[2]"]);
    }

    #[test]
    fn what_can_be_read_of_an_unsound_object_is_what_stands_before_the_fault() {
        let names = |text: &[u8]| {
            readable_fields(text).into_iter().map(|(key, _)| key.into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(br#"{"a":1,"b":[2],}"#), ["a", "b"]);
        assert_eq!(names(br#"{"a":1,"a":2}"#), ["a"]);
        assert_eq!(names(b"{\"a\":1,\"b\":\"\xff\"}"), ["a"]);
        assert!(names(b"[1]").is_empty() && names(b"x").is_empty());
    }

    #[test]
    fn an_array_tells_which_item_is_unsound_and_keeps_no_more_than_was_asked_for() {
        let unsound = refused(br#"[{}, {"a":1,"a":2}]"#);
        let (item, within) = unsound.in_item().expect("an item is meant");
        assert_eq!((item, &*within.path), (1, "a"));
        assert!(refused(b"[1,").in_item().is_none());
        let sound = read_some(b"[1,2,3,4]", 1, 2).expect("sound");
        assert_eq!((sound.count, sound.items().expect("an array").len()), (4, 2));
    }
}
