//! What a program's file is, by its beginning, and what the kernel executes besides in order to
//! start it.
//!
//! Reads as the kernel does and decides nothing: who may start what is for others.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// As much as the kernel reads of a script's first line.
const LINE_BYTES: usize = 256;
/// What runs a script that names no interpreter, as in a shell and in `execvp`.
pub(crate) const SHELL: &str = "/bin/sh";

/// A file that may be a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A program for this or for another machine.
    Elf {
        /// The dynamic loader that it names.
        loader: Option<PathBuf>,
    },
    /// A text whose first line names an interpreter.
    Script {
        /// As it is written.
        interpreter: PathBuf,
        /// What follows on the line: one argument for the interpreter, or none.
        argument: OsString,
    },
    /// A text whose first line does not: [`SHELL`] runs it.
    Text,
    /// Anything else.
    Other,
    /// Nobody knows: it may not be read.
    Unread,
}

impl Kind {
    /// Of the file at this path.
    pub(crate) fn at(path: &Path) -> Self {
        File::open(path).map_or(Self::Unread, |file| Self::of(&file))
    }

    /// Of a file that is open for reading.
    pub(crate) fn of(file: &File) -> Self {
        let Ok(start) = beginning(file) else { return Self::Unread };
        if start.starts_with(b"\x7fELF") {
            return Self::Elf { loader: loader(file, &start) };
        }
        let line = start.split(|b| *b == b'\n').next().unwrap_or_default();
        if let Some((interpreter, argument)) = line.strip_prefix(b"#!").and_then(interpreter) {
            return Self::Script { interpreter, argument };
        }
        if start.contains(&0) { Self::Other } else { Self::Text }
    }
}

fn beginning(file: &File) -> io::Result<Vec<u8>> {
    let mut start = vec![0; LINE_BYTES];
    let mut len = 0;
    while len < start.len() {
        match file.read_at(&mut start[len..], len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    start.truncate(len);
    Ok(start)
}

/// Of a first line after `#!`. Spaces and tabs separate, and nothing else: a carriage return is
/// part of the name.
fn interpreter(line: &[u8]) -> Option<(PathBuf, OsString)> {
    let is_blank = |b: &u8| matches!(b, b' ' | b'\t');
    let from = line.iter().position(|b| !is_blank(b))?;
    let line = &line[from..];
    let to = line.iter().position(is_blank).unwrap_or(line.len());
    let (name, rest) = line.split_at(to);
    let argument = OsStr::from_bytes(rest.trim_ascii()).to_owned();
    Some((PathBuf::from(OsStr::from_bytes(name)), argument))
}

/// The loader that an ELF file names, of 64 bits and little-endian like every machine this is built
/// for.
fn loader(file: &File, start: &[u8]) -> Option<PathBuf> {
    const INTERPRETER: u32 = 3;
    if !start.starts_with(b"\x7fELF\x02") {
        return None;
    }
    let (table, entry, count) =
        (number(start, 32, 8)?, number(start, 54, 2)?, number(start, 56, 2)?);
    for at in 0..count {
        let mut header = [0; 56];
        file.read_exact_at(&mut header, table.checked_add(at * entry)?).ok()?;
        if number(&header, 0, 4)? == u64::from(INTERPRETER) {
            let (place, len) = (number(&header, 8, 8)?, number(&header, 32, 8)?);
            let len = usize::try_from(len).ok().filter(|len| *len <= libc::PATH_MAX as usize)?;
            let mut path = vec![0; len];
            file.read_exact_at(&mut path, place).ok()?;
            let path = path.strip_suffix(b"\0").unwrap_or(&path);
            return Some(PathBuf::from(OsStr::from_bytes(path)));
        }
    }
    None
}

fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let mut wide = [0; 8];
    wide[..len].copy_from_slice(bytes.get(at..at + len)?);
    Some(u64::from_le_bytes(wide))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn kind(text: &[u8]) -> Kind {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        Kind::of(&file)
    }

    fn script(interpreter: &str, argument: &str) -> Kind {
        Kind::Script { interpreter: interpreter.into(), argument: argument.into() }
    }

    #[test]
    fn a_first_line_is_read_as_the_kernel_reads_it() {
        assert_eq!(kind(b"#!/bin/sh\nexit"), script("/bin/sh", ""));
        assert_eq!(kind(b"#! \t/bin/sh -e -u \t\n"), script("/bin/sh", "-e -u"));
        assert_eq!(kind(b"#!/usr/bin/env -S python3 -u"), script("/usr/bin/env", "-S python3 -u"));
        assert_eq!(kind(b"#!/bin/sh\r\nexit\r\n"), script("/bin/sh\r", ""));
        assert_eq!(kind(b"#!sh"), script("sh", ""));
    }

    #[test]
    fn what_has_no_such_line_is_a_text_a_program_or_something_else() {
        for text in [&b""[..], b"echo hello\n", b"\n#!/bin/sh\n", b"#!\necho", b"#! \t\necho"] {
            assert_eq!(kind(text), Kind::Text, "{text:?}");
        }
        for bytes in [&b"\0asm"[..], b"MZ\x90\0", b"PK\x03\x04\0"] {
            assert_eq!(kind(bytes), Kind::Other, "{bytes:?}");
        }
        for bytes in
            [&b"\x7fELF\x02"[..], b"\x7fELF\x01\x01", &[b"\x7fELF\x02", &[0xff; 80][..]].concat()]
        {
            assert_eq!(kind(bytes), Kind::Elf { loader: None }, "{bytes:?}");
        }
        assert_eq!(Kind::at(Path::new("/no/such/file")), Kind::Unread);
    }

    #[test]
    fn a_program_names_its_loader() {
        let Kind::Elf { loader: Some(loader) } = Kind::at(&std::env::current_exe().unwrap()) else {
            panic!("this test is a program with a loader")
        };
        assert!(loader.is_file(), "{}", loader.display());
    }
}
