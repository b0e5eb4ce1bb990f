//! Logs to stderr: for a person, for journald, or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::{LogConfig, LogFormat};

/// Installs the logger. `RUST_LOG` goes before the configuration.
pub(crate) fn install(config: LogConfig) {
    let level = || EnvFilter::new(config.level.name());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| level());
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // journald adds its own time.
    let journald = std::env::var_os("JOURNAL_STREAM").is_some();
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let installed = match config.format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Auto if journald => builder.without_time().with_ansi(false).try_init(),
        LogFormat::Auto | LogFormat::Text => builder.with_ansi(colours).try_init(),
    };
    if let Err(error) = installed {
        eprintln!("failed to install the logger: {error}");
    }
}
