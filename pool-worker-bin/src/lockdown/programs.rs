//! Which files the kernel executes when it starts the programs of the list: they themselves, the interpreters that scripts name in
//! their first line, and the loaders that ELF files name.
//!
//! Decides what is executable beneath Landlock. Reads the files' beginnings; what they do later is not looked into: a program that
//! starts others needs them on the list, or their folder among `shell.readable`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use pool_protocol::worker::ShellSetup;

/// An interpreter may be a script itself; the kernel follows as many.
const MAX_DEPTH: usize = 5;
/// As much as the kernel reads of a script's first line.
const LINE_BYTES: usize = 256;
/// Where `env` looks when nothing is said.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// All of them, by their real paths where those are known.
pub(super) fn executables(shell: &ShellSetup) -> BTreeSet<PathBuf> {
    let search = shell.env.get("PATH").map_or(PATH, |path| path);
    let mut found = BTreeSet::new();
    for program in &shell.allow {
        add(PathBuf::from(&program.resolved), search, MAX_DEPTH, &mut found);
    }
    found
}

fn add(path: PathBuf, search: &str, depth: usize, found: &mut BTreeSet<PathBuf>) {
    if depth == 0 || found.contains(&path) {
        return;
    }
    let needs = needs(&path, search);
    found.insert(path);
    for path in needs {
        add(path, search, depth - 1, found);
    }
}

/// What else the kernel, or `env`, executes to start this file.
fn needs(path: &Path, search: &str) -> Vec<PathBuf> {
    let Ok(file) = File::open(path) else {
        return Vec::new();
    };
    let mut start = Vec::new();
    if (&file).take(LINE_BYTES as u64).read_to_end(&mut start).is_err() {
        return Vec::new();
    }
    match start.strip_prefix(b"#!") {
        Some(line) => script(line.split(|b| *b == b'\n').next().unwrap_or(line), search),
        None => loader(&file, &start).into_iter().collect(),
    }
}

/// Of `#!/usr/bin/env -S python3 -u` both `env` and `python3`.
fn script(line: &[u8], search: &str) -> Vec<PathBuf> {
    let mut words = line.split(|b| b.is_ascii_whitespace()).filter(|word| !word.is_empty()).map(OsStr::from_bytes);
    let Some(interpreter) = words.next().map(PathBuf::from) else {
        return Vec::new();
    };
    let mut needs = vec![];
    if interpreter.file_name() == Some(OsStr::new("env")) {
        let is_option = |word: &&OsStr| word.as_bytes().starts_with(b"-") || word.as_bytes().contains(&b'=');
        if let Some(name) = words.find(|word| !is_option(word)) {
            needs.extend(search.split(':').map(|folder| Path::new(folder).join(name)).find(|path| path.is_file()));
        }
    }
    needs.push(interpreter);
    needs
}

/// The loader that an ELF file names, of 64 bits and little-endian like every machine this is built for.
fn loader(file: &File, start: &[u8]) -> Option<PathBuf> {
    const INTERPRETER: u32 = 3;
    if !start.starts_with(b"\x7fELF\x02") {
        return None;
    }
    let (table, entry, count) = (number(start, 32, 8)?, number(start, 54, 2)?, number(start, 56, 2)?);
    for at in 0..count {
        let mut header = [0; 56];
        file.read_exact_at(&mut header, table.checked_add(at * entry)?).ok()?;
        if number(&header, 0, 4)? == u64::from(INTERPRETER) {
            let (place, len) = (number(&header, 8, 8)?, number(&header, 32, 8)?);
            let mut path = vec![0; usize::try_from(len).ok().filter(|len| *len <= libc::PATH_MAX as usize)?];
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
    use pool_protocol::worker::AllowedProgram;
    use std::fs;

    fn shell(programs: &[&Path], path: &Path) -> ShellSetup {
        let allow = programs.iter().map(|program| AllowedProgram {
            program: program.to_str().unwrap().into(),
            resolved: program.to_str().unwrap().into(),
            device: 0,
            inode: 0,
            args: None,
        });
        let env = [("PATH".to_owned(), path.to_str().unwrap().to_owned())].into();
        ShellSetup { allow: allow.collect(), env, ..ShellSetup::default() }
    }

    #[test]
    fn a_programs_loader_is_the_one_that_it_names() {
        let own = std::env::current_exe().unwrap();
        let found = executables(&shell(&[&own], Path::new("/")));
        let loaders: Vec<_> = found.iter().filter(|path| **path != own).collect();
        assert_eq!(loaders.len(), 1, "{found:?}");
        assert!(loaders[0].is_file(), "{loaders:?}");
    }

    #[test]
    fn a_script_needs_its_interpreter_and_what_env_finds() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        let helper = folder.path().join("helper");
        fs::write(&helper, "#! /no/such/thing -x\n").unwrap();
        fs::write(&script, "#!/usr/bin/env -S NAME=x helper -u\nmore").unwrap();
        let found = executables(&shell(&[&script], folder.path()));
        for path in [&script, &helper, Path::new("/usr/bin/env"), Path::new("/no/such/thing")] {
            assert!(found.contains(path), "{} is not in {found:?}", path.display());
        }
    }

    #[test]
    fn what_is_no_program_needs_nothing_and_a_circle_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("odd");
        for text in [&b""[..], b"#!", b"#! \n", b"\x7fELF\x02", b"\x7fELF\x02\xff\xff\xff\xff\xff\xff\xff\xff"] {
            fs::write(&path, [text, &[0xff; 80][..]].concat()).unwrap();
            executables(&shell(&[&path], folder.path()));
        }
        fs::write(&path, format!("#!{}\n", path.display())).unwrap();
        assert_eq!(executables(&shell(&[&path], folder.path())).len(), 1);
    }
}
