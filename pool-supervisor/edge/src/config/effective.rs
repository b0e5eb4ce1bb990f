//! How settings are written back: as the file names them, `auto` and `off` included.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use pool_protocol::worker::AllowedProgram;
use serde::{Serialize, Serializer};

use super::{ApiSocket, NamedFolder};

/// Nothing is `auto`.
pub(super) fn auto_path<S: Serializer>(
    path: &Option<PathBuf>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    path.as_deref().unwrap_or(Path::new("auto")).serialize(serializer)
}

/// Nothing is `off`.
pub(super) fn off_address<S: Serializer>(
    address: &Option<SocketAddr>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => address.serialize(serializer),
        None => serializer.serialize_str("off"),
    }
}

/// As `umask` and `chmod` take it.
pub(super) fn octal<S: Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mode:03o}"))
}

impl Serialize for ApiSocket {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Off => serializer.serialize_str("off"),
            Self::At(path) => path.serialize(serializer),
        }
    }
}

/// Folders as the file names them, without what they were resolved to.
pub(super) fn folders_as_written<S: Serializer>(
    folders: &[NamedFolder],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(folders.iter().map(|folder| &folder.written))
}

/// Nothing is `none`.
pub(super) fn or_none<S: Serializer>(
    text: &Option<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    text.as_deref().unwrap_or("none").serialize(serializer)
}

/// Programs as the file names them, without what they were resolved to.
pub(super) fn as_written<S: Serializer>(
    programs: &[AllowedProgram],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Entry<'a> {
        program: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        args: Option<&'a str>,
    }
    serializer.collect_seq(
        programs.iter().map(|p| Entry { program: &p.program, args: p.args.as_deref() }),
    )
}
