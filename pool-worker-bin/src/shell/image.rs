//! What a new process becomes: which file, under which name, with which words.
//!
//! A program is executed by the descriptor that the worker holds, so it is the file that was looked
//! at, whatever its name leads to by now. A script cannot be: its interpreter opens it again, and
//! what it opens is what the script takes for its own path (`$0`, `__file__`). So a script is
//! executed by its name, after a look that the name still leads to the file that is on the list.
//! Between the look and the interpreter's own opening whoever may write the script's folder can
//! replace it.

use std::ffi::{CString, c_char};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::ptr;

use pool_protocol::worker::AllowedProgram;
use pool_worker_core::shell::{Command, Program, Refusal, open_listed};
use rustix::fs::{Access, access};

use super::child::StartError;
use crate::executable::{Kind, SHELL};

/// What the kernel is given.
pub(super) struct Image {
    form: Form,
    file: File,
    words: Words,
    variables: Words,
}

/// What the file is.
#[derive(Clone, Debug)]
pub(super) struct Form {
    kind: Kind,
}

enum File {
    /// This descriptor's.
    Held(RawFd),
    /// The one of this name.
    Named(CString),
}

/// A list of strings as the kernel takes it.
struct Words {
    /// Ends with a null pointer.
    pointers: Vec<*const c_char>,
    #[expect(dead_code, reason = "what the pointers lead to")]
    texts: Vec<CString>,
}

#[expect(
    unsafe_code,
    reason = "pointers are not sent between threads unless somebody says that they may be"
)]
// SAFETY: the pointers lead to the strings beside them, which nobody changes and which stay where
// they are when the list is moved.
unsafe impl Send for Words {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: as above; nothing is changed through a shared list.
unsafe impl Sync for Words {}

impl Words {
    fn new(texts: impl Iterator<Item = String>) -> io::Result<Self> {
        let texts = texts.map(CString::new).collect::<Result<Vec<_>, _>>()?;
        let pointers = texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect();
        Ok(Self { pointers, texts })
    }
}

impl Image {
    /// Of a command whose program is still in its place.
    pub(super) fn of(command: &Command<'_>) -> Result<Self, StartError> {
        let held = listed_file(command.program)?;
        let listed = &command.program.listed;
        let kind = Kind::at(&PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd())));
        let name = name_of(listed);
        let (file, first) = match &kind {
            Kind::Elf { .. } | Kind::Unread => (None, vec![listed.program.as_str()]),
            // What is none of these may be for an interpreter that the administrator has named to
            // the kernel (`binfmt_misc`), which opens it again too.
            Kind::Script { .. } | Kind::Other => (Some(name), vec![name]),
            Kind::Text => (Some(SHELL), vec![SHELL, name]),
        };
        let first = first.into_iter().map(str::to_owned);
        let build = || -> io::Result<Self> {
            Ok(Self {
                form: Form { kind: kind.clone() },
                file: match file {
                    Some(name) => File::Named(CString::new(name)?),
                    None => File::Held(held.as_raw_fd()),
                },
                words: Words::new(first.chain(command.args.iter().cloned()))?,
                variables: Words::new(
                    command.env.iter().map(|(name, value)| format!("{name}={value}")),
                )?,
            })
        };
        build().map_err(|error| StartError::Failed {
            program: listed.program.clone(),
            reason: error.to_string(),
        })
    }

    pub(super) fn form(&self) -> &Form {
        &self.form
    }

    /// In the new process: comes back only with why not. Makes one system call and nothing else.
    pub(super) fn become_it(&self) -> io::Error {
        let (words, variables) = (self.words.pointers.as_ptr(), self.variables.pointers.as_ptr());
        #[expect(
            unsafe_code,
            reason = "no library executes a file by its descriptor without allocating"
        )]
        // SAFETY: the name is a C string, and both lists are of C strings and end with a null
        // pointer.
        unsafe {
            match &self.file {
                File::Held(fd) => {
                    libc::syscall(
                        libc::SYS_execveat,
                        *fd,
                        c"".as_ptr(),
                        words,
                        variables,
                        libc::AT_EMPTY_PATH,
                    );
                }
                File::Named(name) => {
                    libc::execve(name.as_ptr(), words, variables);
                }
            }
        }
        io::Error::last_os_error()
    }
}

/// The program's file, still in its place.
fn listed_file(program: &Program) -> Result<&OwnedFd, Refusal> {
    let now = open_listed(&program.listed)?;
    drop(now);
    // INVARIANT: what is looked into and executed by its descriptor is the file held open; the look
    // at its place notices that it was replaced.
    program.file.as_ref().ok_or_else(|| {
        let path = &program.listed.resolved;
        Refusal::Denied(format!(
            "program {path} is not allowed: it was another file when this worker started"
        ))
    })
}

/// The name on the list, unless that is a link which leads elsewhere by now: then the path that it
/// was resolved to.
fn name_of(listed: &AllowedProgram) -> &str {
    let leads_there =
        |file: fs::Metadata| (file.dev(), file.ino()) == (listed.device, listed.inode);
    let still = fs::metadata(&listed.program).is_ok_and(leads_there);
    if still { &listed.program } else { &listed.resolved }
}

impl Form {
    /// What the system's error is about, in words for whoever has written the configuration.
    pub(super) fn explain(&self, error: &io::Error, cwd: &Path) -> String {
        if let Err(error) = access(cwd, Access::EXEC_OK) {
            let error = io::Error::from(error);
            return format!("the folder {} cannot be entered: {error}", cwd.display());
        }
        match (&self.kind, error.raw_os_error()) {
            (Kind::Script { interpreter, .. }, Some(code)) => {
                of_interpreter(interpreter, code, error)
            }
            (Kind::Elf { loader: Some(loader) }, Some(libc::ENOENT)) => {
                format!("it needs the dynamic loader {}, which is not there", loader.display())
            }
            (Kind::Elf { .. }, Some(libc::ENOEXEC)) => {
                "it is a program for another kind of machine".to_owned()
            }
            (Kind::Text, _) => {
                format!(
                    "its first line names no interpreter, as `#!{SHELL}` does, and {SHELL} cannot \
                     run it: {error}"
                )
            }
            (Kind::Other, Some(libc::ENOEXEC)) => {
                format!(
                    "it is neither a program for this machine nor a script that begins with a line \
                     such as `#!{SHELL}`"
                )
            }
            _ => error.to_string(),
        }
    }
}

fn of_interpreter(interpreter: &Path, code: i32, error: &io::Error) -> String {
    let name = interpreter.to_string_lossy();
    let shown = name.escape_debug();
    match code {
        libc::ENOENT if name.ends_with('\r') => format!(
            "its first line names the interpreter {shown}, which is not there: its lines end with \
             a carriage return \
             and a line feed, where a line feed belongs"
        ),
        libc::ENOENT => format!("its first line names the interpreter {shown}, which is not there"),
        libc::EACCES => format!(
            "it, or the interpreter {shown} of its first line, may not be executed: {error}"
        ),
        libc::ENOEXEC => {
            format!("its first line names the interpreter {shown}, which is no program: {error}")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(kind: Kind, code: i32) -> String {
        Form { kind }.explain(&io::Error::from_raw_os_error(code), Path::new("/"))
    }

    fn script(interpreter: &str) -> Kind {
        Kind::Script { interpreter: interpreter.into(), argument: "".into() }
    }

    #[test]
    fn what_is_missing_is_named() {
        let text = explained(script("/opt/python9"), libc::ENOENT);
        assert!(text.contains("/opt/python9"), "{text}");
        let text = explained(script("/bin/sh\r"), libc::ENOENT);
        assert!(text.contains(r"/bin/sh\r") && text.contains("carriage return"), "{text}");
        let text = explained(Kind::Elf { loader: Some("/lib/ld-other.so".into()) }, libc::ENOENT);
        assert!(text.contains("/lib/ld-other.so"), "{text}");
        let text = explained(Kind::Elf { loader: None }, libc::ENOEXEC);
        assert!(text.contains("another kind of machine"), "{text}");
        let text = Form { kind: Kind::Text }
            .explain(&io::Error::from_raw_os_error(2), Path::new("/no/such"));
        assert!(text.contains("/no/such"), "{text}");
    }
}
