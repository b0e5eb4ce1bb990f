//! What tasks may reach: folders of modules, programs, addresses. Each is resolved once, here, when
//! the file is read.
//!
//! A name that points elsewhere later changes nothing: programs carry the device and inode of the
//! file that was meant, which is held open; folders their canonical path.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pool_protocol::worker::AllowedProgram;
use rustix::fs::{Mode, OFlags, open};

use super::NamedFolder;
use super::value::{Problem, Setting};

/// An absolute path to an existing folder, made canonical.
pub(super) fn folder(setting: &Setting) -> Result<PathBuf, Problem> {
    let resolved = existing(setting)?;
    if !resolved.is_dir() {
        return Err(setting.problem(format!("must be a folder; {} is none", resolved.display())));
    }
    Ok(resolved)
}

/// An absolute path to an existing folder: as it is written, and made canonical.
pub(super) fn named_folder(setting: &Setting) -> Result<NamedFolder, Problem> {
    Ok(NamedFolder { written: absolute(setting, "an absolute path")?, real: folder(setting)? })
}

/// The name of a condition in package manifests.
pub(super) fn condition(setting: &Setting) -> Result<String, Problem> {
    let name = setting.text("the name of a condition, such as \"browser\"")?;
    let is_name = !name.is_empty() && !name.starts_with('.') && !name.contains(char::is_whitespace);
    if !is_name {
        return Err(setting.problem(format!(
            "must be the name of a condition, such as \"browser\", not {name:?}"
        )));
    }
    if ["import", "require"].contains(&name) {
        return Err(setting
            .problem(format!("must not be \"{name}\", which holds by the statement that asks")));
    }
    Ok(name.to_owned())
}

/// An absolute path to whatever exists there, made canonical.
pub(super) fn existing(setting: &Setting) -> Result<PathBuf, Problem> {
    let path = absolute(setting, "an absolute path")?;
    let resolved = path
        .canonicalize()
        .map_err(|e| setting.problem(format!("names {}: {e}", path.display())))?;
    if resolved.to_str().is_none() {
        return Err(setting.problem(format!("leads to {}, which is not UTF-8", resolved.display())));
    }
    Ok(resolved)
}

/// An absolute path; what is there is not looked at.
pub(super) fn absolute(setting: &Setting, what: &str) -> Result<PathBuf, Problem> {
    let text = setting.text(what)?;
    if !text.starts_with('/') {
        return Err(setting.problem(format!("must be an absolute path, not {text:?}")));
    }
    Ok(PathBuf::from(text))
}

/// An absolute path to a regular file that somebody may execute.
pub(super) fn executable(setting: &Setting) -> Result<(PathBuf, Metadata), Problem> {
    let path = absolute(setting, "the absolute path of a program")?;
    let trouble = |e: std::io::Error| setting.problem(format!("names {}: {e}", path.display()));
    let resolved = path.canonicalize().map_err(trouble)?;
    let metadata = resolved.metadata().map_err(trouble)?;
    if !metadata.is_file() || metadata.mode() & 0o111 == 0 {
        return Err(
            setting.problem(format!("must be an executable file; {} is none", path.display()))
        );
    }
    Ok((resolved, metadata))
}

/// The files of the allow-list, open for as long as the configuration is in force: the workers know
/// a file by its inode, and the number of one that nobody holds may be given to the next file.
#[derive(Clone, Debug, Default)]
pub struct HeldFiles(Vec<Arc<File>>);

impl HeldFiles {
    pub(super) fn add(&mut self, file: File) {
        self.0.push(Arc::new(file));
    }
}

/// What is held follows from what is allowed.
impl PartialEq for HeldFiles {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for HeldFiles {}

/// One entry of `shell.allow`, and its file.
pub(super) fn program(entry: Setting) -> Result<(AllowedProgram, File), Problem> {
    let mut section = entry.section("shell.allow.*".to_owned())?;
    let Some(program) = section.take("program") else {
        // Leftover keys first: `programm` is the likelier mistake than no key at all.
        let missing = section.problem("has no `program`: the absolute path of what may run");
        section.finish()?;
        return Err(missing);
    };
    let args = section.take("args").map(|args| pattern(&args)).transpose()?;
    section.finish()?;
    let (resolved, metadata) = executable(&program)?;
    let file = hold(&resolved, &metadata)
        .map_err(|e| program.problem(format!("names {}: {e}", resolved.display())))?;
    let resolved =
        resolved.to_str().ok_or_else(|| program.problem("leads to a path that is not UTF-8"))?;
    let allowed = AllowedProgram {
        program: program.text("a program")?.to_owned(),
        resolved: resolved.to_owned(),
        device: metadata.dev(),
        inode: metadata.ino(),
        args,
    };
    Ok((allowed, file))
}

/// Opens the very file that was looked at, not for reading: it may be one that only may be
/// executed.
fn hold(path: &Path, looked_at: &Metadata) -> std::io::Result<File> {
    let file = open(path, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
        .map(File::from)?;
    let held = file.metadata()?;
    if (held.dev(), held.ino()) != (looked_at.dev(), looked_at.ino()) {
        return Err(std::io::Error::other("it was replaced just now; try again"));
    }
    Ok(file)
}

/// A pattern that the workers will compile as `^(?:…)$`; compiled here to tell of mistakes now.
fn pattern(setting: &Setting) -> Result<String, Problem> {
    let text = setting.text("a pattern for each argument")?;
    check_pattern(text)
        .map_err(|e| setting.problem(format!("is no pattern: {}", last_line(&e.to_string()))))?;
    Ok(text.to_owned())
}

fn check_pattern(text: &str) -> Result<(), regex::Error> {
    // The pattern by itself first: `a)(b` would pass inside the parentheses.
    for whole in [text.to_owned(), format!("^(?:{text})$")] {
        regex::Regex::new(&whole)?;
    }
    Ok(())
}

/// Whether `shell.allow` takes this as the pattern of a program's arguments.
#[must_use]
pub fn is_argument_pattern(text: &str) -> bool {
    check_pattern(text).is_ok()
}

/// The parser draws the pattern with a caret under it; its last line says what is wrong.
fn last_line(message: &str) -> &str {
    message.trim_end().rsplit('\n').next().unwrap_or(message)
}

/// One entry of `http.allow`, as it stands.
pub(super) fn destination(setting: &Setting) -> Result<String, Problem> {
    let text = setting.text("an address, a network or a name")?;
    check_destination(text).map_err(|problem| setting.problem(problem))?;
    Ok(text.to_owned())
}

fn check_destination(text: &str) -> Result<(), String> {
    if text.contains('/') {
        return check_network(text);
    }
    if text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 { Err(format!("has port 0: {text:?}")) } else { Ok(()) };
    }
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let port_is_sound =
        port.is_none_or(|p| p.bytes().all(|b| b.is_ascii_digit()) && p.parse() != Ok(0u16));
    if !is_host_name(name) || !port_is_sound || port.is_some_and(|p| p.parse::<u16>().is_err()) {
        return Err(format!(
            "must be ADDRESS, ADDRESS:PORT, NETWORK/BITS, NAME or NAME:PORT, not {text:?}"
        ));
    }
    Ok(())
}

fn check_network(text: &str) -> Result<(), String> {
    let network: ipnet::IpNet = text
        .parse()
        .map_err(|_| format!("must be a network such as 10.1.0.0/16 or fd00::/8, not {text:?}"))?;
    // Most likely another network was meant than the one that the bits give.
    if network.addr() != network.network() {
        return Err(format!(
            "has bits set beyond the prefix: {text:?}; the network is {}",
            network.trunc()
        ));
    }
    Ok(())
}

/// Letters, digits, hyphens and dots as in DNS. A last label of digits alone would be an address in
/// one of its odd forms.
fn is_host_name(name: &str) -> bool {
    let sound = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    name.len() <= 253 && name.split('.').all(sound) && !numeric
}

/// A name that `execve` can take and a value without the byte that ends it.
pub(super) fn variable(name: &str, setting: &Setting) -> Result<String, Problem> {
    if !is_variable(name) {
        return Err(
            setting.problem("is no name of a variable: letters, digits and _, no digit first")
        );
    }
    setting.text("a text").map(str::to_owned)
}

fn is_variable(name: &str) -> bool {
    let sound = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !name.is_empty() && name.bytes().all(sound) && !name.as_bytes()[0].is_ascii_digit()
}

/// One entry of `shell.taskEnv`: a name, or the beginning of names and a `*`. What the
/// configuration sets is not for tasks.
pub(super) fn task_variable(
    setting: &Setting,
    env: &BTreeMap<String, String>,
) -> Result<String, Problem> {
    let text = setting.text("the name of a variable, or its beginning and *")?;
    if !is_variable(text.strip_suffix('*').unwrap_or(text)) {
        let problem =
            format!("must be the name of a variable, or its beginning and *, not {text:?}");
        return Err(setting.problem(problem));
    }
    if env.contains_key(text) {
        return Err(
            setting.problem(format!("names {text}, which shell.env sets; give it in one of them"))
        );
    }
    Ok(text.to_owned())
}

/// Three octal digits as a text: of a number nobody would know whether it was meant to be octal.
pub(super) fn umask(setting: &Setting) -> Result<u32, Problem> {
    let what = "three octal digits such as \"022\"";
    let text = setting.text(what)?;
    let digits = text.strip_prefix('0').filter(|rest| rest.len() == 3).unwrap_or(text);
    let is_octal = digits.len() == 3 && digits.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let mode = u32::from_str_radix(digits, 8).ok().filter(|_| is_octal);
    mode.ok_or_else(|| setting.problem(format!("must be {what}, not {text:?}")))
}

/// One entry of `shell.sockets`. Whoever serves it may come and go.
pub(super) fn listed_socket(setting: &Setting) -> Result<PathBuf, Problem> {
    let path = absolute(setting, "the absolute path of a socket")?;
    super::paths::check_socket_path(&path)
        .map_err(|e| setting.problem(format!("is too long: {e}")))?;
    Ok(path)
}

/// The API's address, or nothing for `off`.
///
/// # Errors
/// A sentence's end that says what is understood.
pub fn parse_listen(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        format!("must be \"off\" or ADDRESS:PORT such as 127.0.0.1:45678, not {text:?}")
    })
}

/// `auto` and `off` as words, anything else an absolute path that a socket can have.
pub(super) fn socket_path(setting: &Setting) -> Result<super::ApiSocket, Problem> {
    match setting.text("\"auto\", \"off\" or an absolute path")? {
        "auto" => Ok(super::ApiSocket::Auto),
        "off" => Ok(super::ApiSocket::Off),
        _ => {
            let path = absolute(setting, "a path")?;
            super::paths::check_socket_path(&path)
                .map_err(|e| setting.problem(format!("is too long: {e}")))?;
            Ok(super::ApiSocket::At(path))
        }
    }
}

/// `auto` is nothing.
pub(super) fn auto_or_path(setting: &Setting) -> Result<Option<PathBuf>, Problem> {
    match setting.text("\"auto\" or an absolute path")? {
        "auto" => Ok(None),
        _ => absolute(setting, "a path").map(Some),
    }
}

/// Whether two settings name the same file.
pub(super) fn same_program(one: &AllowedProgram, other: &AllowedProgram) -> bool {
    Path::new(&one.program) == Path::new(&other.program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_addresses_networks_and_names() {
        for text in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "::1",
            "[::1]:80",
            "10.1.0.0/16",
            "fd00::/8",
            "example.org",
            "db_1.local:5432",
            "localhost",
        ] {
            assert_eq!(check_destination(text), Ok(()), "{text}");
        }
        for text in [
            "",
            "127.1",
            "0x7f000001",
            "a.0x7f",
            "http://x",
            "10.1.2.3/16",
            "10.0.0.0/33",
            "a b",
            "-a.b",
            "a..b",
            "x:0",
            "x:+1",
            "x:65536",
            "x:",
            "1.2.3.4:0",
            "[::1]",
            "*.example.org",
        ] {
            assert!(check_destination(text).is_err(), "{text}");
        }
        assert!(check_destination("10.1.2.3/16").unwrap_err().contains("10.1.0.0/16"));
    }

    #[test]
    fn the_api_listens_on_an_address_with_a_port_or_not_at_all() {
        assert_eq!(parse_listen("off"), Ok(None));
        assert_eq!(parse_listen("[::1]:0"), Ok(Some("[::1]:0".parse().unwrap())));
        for text in ["", "127.0.0.1", "45678", "localhost:1", "OFF"] {
            assert!(parse_listen(text).unwrap_err().contains("127.0.0.1:45678"), "{text}");
        }
    }
}
