//! Which files the kernel executes when it starts the programs of the list: they themselves, the
//! interpreters that scripts name in their first line, and the loaders that ELF files name.
//!
//! Decides what is executable beneath Landlock. Reads the files' beginnings; what they do later is
//! not looked into: a program that starts others needs them on the list, or their folder among
//! `shell.readable`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pool_protocol::worker::ShellSetup;

use crate::executable::{Kind, SHELL};

/// An interpreter may be a script itself; the kernel follows as many.
const MAX_DEPTH: usize = 5;
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
    match Kind::at(path) {
        Kind::Elf { loader } => loader.into_iter().collect(),
        Kind::Script { interpreter, argument } => script(interpreter, &argument, search),
        Kind::Text => vec![PathBuf::from(SHELL)],
        Kind::Other | Kind::Unread => Vec::new(),
    }
}

/// Of `#!/usr/bin/env -S python3 -u` both `env` and `python3`.
fn script(interpreter: PathBuf, argument: &OsStr, search: &str) -> Vec<PathBuf> {
    let mut needs = vec![];
    if interpreter.file_name() == Some(OsStr::new("env")) {
        let words =
            argument.as_bytes().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let mut words = words.map(OsStr::from_bytes);
        let is_option =
            |word: &&OsStr| word.as_bytes().starts_with(b"-") || word.as_bytes().contains(&b'=');
        if let Some(name) = words.find(|word| !is_option(word)) {
            needs.extend(
                search
                    .split(':')
                    .map(|folder| Path::new(folder).join(name))
                    .find(|path| path.is_file()),
            );
        }
    }
    needs.push(interpreter);
    needs
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
        fs::write(&script, "echo no interpreter").unwrap();
        assert!(executables(&shell(&[&script], folder.path())).contains(Path::new(SHELL)));
    }

    #[test]
    fn what_is_no_program_needs_nothing_and_a_circle_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("odd");
        for text in [
            &b""[..],
            b"#!",
            b"#! \n",
            b"\x7fELF\x02",
            b"\x7fELF\x02\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            fs::write(&path, [text, &[0xff; 80][..]].concat()).unwrap();
            executables(&shell(&[&path], folder.path()));
        }
        fs::write(&path, format!("#!{}\n", path.display())).unwrap();
        assert_eq!(executables(&shell(&[&path], folder.path())).len(), 1);
    }
}
