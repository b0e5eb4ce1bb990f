//! A configuration file's bytes, its format, its tree; and the machine that defaults are measured
//! by.

use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::value::Value;
use super::{ConfigError, MAX_FILE_BYTES, MAX_WORKERS};

/// CPUs that this process may use.
pub(super) fn cpus() -> u32 {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cpus).unwrap_or(MAX_WORKERS).min(MAX_WORKERS)
}

/// Reads a file's text into its tree.
pub(super) fn tree(path: &Path, text: &str) -> Result<Value, ConfigError> {
    Format::of(path)?.parse(path, text)
}

/// Reads a file, if its name tells a format.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    Format::of(path)?;
    let failed = |reason| ConfigError::Read { path: path.to_owned(), reason };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    Ok(text)
}

#[derive(Clone, Copy)]
enum Format {
    Json,
    Toml,
}

impl Format {
    fn of(path: &Path) -> Result<Self, ConfigError> {
        match path.extension().and_then(|e| e.to_str()) {
            Some("json") => Ok(Self::Json),
            Some("toml") => Ok(Self::Toml),
            _ => Err(ConfigError::Extension { path: path.to_owned() }),
        }
    }

    fn parse(self, path: &Path, text: &str) -> Result<Value, ConfigError> {
        let syntax = |format, detail: String| ConfigError::Syntax {
            path: path.to_owned(),
            format,
            detail: detail.trim().into(),
        };
        match self {
            Self::Json => serde_json::from_str(text).map_err(|e| syntax("JSON", e.to_string())),
            Self::Toml => {
                let reader =
                    toml::Deserializer::parse(text).map_err(|e| syntax("TOML", e.to_string()))?;
                Value::deserialize(reader).map_err(|e| syntax("TOML", e.to_string()))
            }
        }
    }
}
