//! Names of things: tasks, workers, clients, projects.
//!
//! Ids of workers and clients carry a generation: a slot is used again, an id never. A late message
//! of a dead worker names an old generation and is recognised by that alone.

use core::fmt;
use core::str::FromStr;

use crate::limits::MAX_PROJECT_ID;

/// Digits of a task id as people see it: Crockford's base 32 in lower case, without i, l, o, u.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 64 bits in steps of five.
const MAX_DIGITS: usize = 13;

/// One task, unique over the life of an installation.
///
/// The supervisor counts up from the microseconds since 1970 at its start: at fewer than a million
/// tasks a second the count never overtakes the clock, so that a later start begins above every id
/// given before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TaskId(pub u64);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; MAX_DIGITS];
        let mut at = MAX_DIGITS;
        let mut rest = self.0;
        loop {
            at -= 1;
            text[at] = DIGITS[(rest & 31) as usize];
            rest >>= 5;
            if rest == 0 {
                break;
            }
        }
        f.pad(core::str::from_utf8(&text[at..]).expect("the digits are ASCII"))
    }
}

/// The text is not a task id: 1 to 13 digits of Crockford's base 32, at most 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadTaskId;

impl fmt::Display for BadTaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a task id (1 to 13 digits of 0-9 a-z without i, l, o, u)")
    }
}

impl core::error::Error for BadTaskId {}

impl FromStr for TaskId {
    type Err = BadTaskId;

    fn from_str(text: &str) -> Result<Self, BadTaskId> {
        if text.is_empty() || text.len() > MAX_DIGITS {
            return Err(BadTaskId);
        }
        let mut value: u64 = 0;
        for byte in text.bytes() {
            let digit = DIGITS.iter().position(|d| *d == byte).ok_or(BadTaskId)?;
            if value >> 59 != 0 {
                return Err(BadTaskId);
            }
            value = value << 5 | digit as u64;
        }
        Ok(Self(value))
    }
}

/// One worker process: its place in the pool and how many processes held that place before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "std", derive(bincode::Encode, bincode::Decode))]
pub struct WorkerId {
    /// The place, from 0.
    pub slot: u32,
    /// The process in that place, from 1.
    pub generation: u32,
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}.{}", self.slot, self.generation)
    }
}

/// One connection of a client, in the supervisor's own numbering.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId {
    /// The place in the supervisor's table.
    pub slot: u32,
    /// The connection in that place, from 1.
    pub generation: u32,
}

/// Why a text is not a project id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadProjectId {
    /// Empty, or longer than [`MAX_PROJECT_ID`] bytes: holds the length.
    Length(usize),
    /// A character outside `[A-Za-z0-9._:/-]`.
    Character(char),
}

impl fmt::Display for BadProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(n) => write!(f, "must be 1 to {MAX_PROJECT_ID} characters long, not {n}"),
            Self::Character(c) => {
                write!(f, "may hold only A-Z a-z 0-9 . _ : / - and not {c:?}")
            }
        }
    }
}

impl core::error::Error for BadProjectId {}

/// Checks a project id: 1 to 128 characters of `[A-Za-z0-9._:/-]`.
///
/// # Errors
/// [`BadProjectId`] with what is wrong.
pub fn check_project_id(text: &str) -> Result<(), BadProjectId> {
    if text.is_empty() || text.len() > MAX_PROJECT_ID {
        return Err(BadProjectId::Length(text.chars().count()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._:/-".contains(c);
    match text.chars().find(|c| !allowed(*c)) {
        Some(c) => Err(BadProjectId::Character(c)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn task_ids_read_back_what_they_print() {
        for value in [0, 1, 31, 32, 1_795_540_000_000_000, u64::MAX] {
            let text = TaskId(value).to_string();
            assert_eq!(text.parse(), Ok(TaskId(value)), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_task_id_is_refused() {
        for text in ["", "i", "../x", "ZZ", "zzzzzzzzzzzzzz", "zzzzzzzzzzzzz"] {
            assert_eq!(text.parse::<TaskId>(), Err(BadTaskId), "{text}");
        }
    }

    #[test]
    fn project_ids_are_1_to_128_characters_of_a_small_alphabet() {
        assert_eq!(check_project_id("Team-1/a.b_c:d"), Ok(()));
        assert_eq!(check_project_id(""), Err(BadProjectId::Length(0)));
        assert_eq!(check_project_id(&"x".repeat(128)), Ok(()));
        assert_eq!(check_project_id(&"x".repeat(129)), Err(BadProjectId::Length(129)));
        assert_eq!(check_project_id("a b"), Err(BadProjectId::Character(' ')));
    }
}
