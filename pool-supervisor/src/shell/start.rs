//! From the command line to a running pool, and back to an exit code.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use pool_core::Core;
use pool_core::seeds::Seeds;
use pool_protocol::id::TaskId;
use pool_protocol::lane::Lane;

use super::cgroup::Groups;
use super::clients::Caller;
use super::clock::Clock;
use super::listener::Control;
use super::logging;
use super::oom::OomWatch;
use super::orphans::Orphans;
use super::reactor::{Parts, Pool};
use super::signals::Signals;
use super::snapshot::Snapshot;
use crate::config::paths::Surroundings;
use crate::config::{Config, parse_listen};
use crate::http::{self, HttpOptions};

/// Free memory at the heap's end that is kept: bodies of many clients.
const KEPT_BYTES: i32 = 32 << 20;

/// Runs tasks in a pool of worker processes.
///
/// Runs in the foreground and logs to stderr; an init system starts it. SIGTERM drains and exits, a
/// second one exits at once, SIGHUP reads the configuration again.
#[derive(Parser, Debug)]
#[command(name = "pool-supervisor", version)]
struct Arguments {
    /// Configuration, JSON or TOML by its extension; all defaults without.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The control socket's path.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The HTTP API's address, or `off`; goes before the configuration's.
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Check the configuration, print the effective one, and exit.
    ///
    /// What `trust` implies is written to standard error.
    #[arg(long)]
    check_config: bool,
}

/// The daemon's whole life.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("pool-supervisor: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes a text and a line's end to standard output. A reader that has seen enough (`| head`) is
/// no failure; `println!` would panic.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes a line to standard error. With that closed there is nobody left to tell.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = effective_config(arguments)?;
    if arguments.check_config {
        print(&config.effective_json()).context("failed to print the configuration")?;
        // Not to standard output: what stands there is a file that can be used again.
        for line in config.trust_report() {
            say(&line);
        }
        return Ok(());
    }
    logging::install(config.log);
    for notice in config.notices() {
        tracing::warn!("{notice}");
    }
    pool_os::heap::keep_pages(KEPT_BYTES);
    let surroundings = Surroundings::of_this_process();
    let socket = surroundings.control_socket(arguments.socket.as_deref())?;
    let worker_path = worker_path(&config)?;
    let control = Control::open(&socket)?;
    // Before the supervisor goes into a group of its own.
    let oom = OomWatch::here();
    let groups = open_groups(&config)?;
    let signals = Signals::install().context("failed to install the signal handlers")?;
    Orphans::adopt_all().context("failed to become the parent of orphans")?;
    let clock = Clock::start();
    let seeds = seeds()?;
    let core = Core::new(clock.now(), config.core_settings(), TaskId(Clock::wall_us()), seeds);
    let snapshot = Snapshot::prepare(&worker_path, &surroundings.cache_folder());
    let mut pool = Pool::new(Parts {
        core,
        clock,
        config,
        config_path: arguments.config.clone(),
        listen_argument: arguments.http.clone(),
        worker_path,
        snapshot,
        control,
        signals,
        groups,
        oom,
    })
    .context("failed to make the event loop")?;
    pool.start_http(&socket)?;
    tracing::info!(socket = %socket.display(), pid = std::process::id(), "supervisor started");
    let ended = pool.run().context("failed to wait for events");
    if let Some(reason) = pool.fatal() {
        tracing::error!("{reason}");
        anyhow::bail!("{reason}");
    }
    tracing::info!("supervisor ended");
    ended
}

fn effective_config(arguments: &Arguments) -> anyhow::Result<Config> {
    let mut config = Config::load(arguments.config.as_deref())?;
    if let Some(text) = &arguments.http {
        config.http.listen = parse_listen(text)
            .map_err(|problem| anyhow::anyhow!("failed to read --http: {problem}"))?;
    }
    Ok(config)
}

/// The control groups. Whoever has not asked for them by name is told what did.
fn open_groups(config: &Config) -> anyhow::Result<Result<Groups, String>> {
    let opened = Groups::open(&config.cgroup, config.limits.cpus.is_some());
    let implied = config
        .implied()
        .into_iter()
        .find(|setting| setting.key == "cgroup.mode" && !setting.is_overridden());
    match implied {
        Some(setting) => opened.with_context(|| {
            format!(
                "trust = {:?} implies {} = {:?}",
                config.trust.name(),
                setting.key,
                setting.implied
            )
        }),
        None => Ok(opened?),
    }
}

/// As configured, else beside the supervisor's own binary.
fn worker_path(config: &Config) -> anyhow::Result<PathBuf> {
    let path = match &config.worker_path {
        Some(path) => path.clone(),
        None => {
            let own = std::env::current_exe().context("failed to find this program's own file")?;
            own.parent().unwrap_or(Path::new("/")).join("pool-worker")
        }
    };
    Ok(path)
}

fn seeds() -> anyhow::Result<Seeds> {
    let number =
        || getrandom::u64().map_err(|e| anyhow::anyhow!("failed to get a random seed: {e}"));
    Ok(Seeds { jitter: number()?, hashes: [number()?, number()?] })
}

/// Which workers a reload replaces.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Replace {
    /// Those that were told something else at their start.
    AsNeeded,
    /// All, for what they have loaded.
    Always,
}

impl Pool {
    /// The HTTP room: a client like any other, over a socket pair.
    fn start_http(&mut self, socket: &Path) -> anyhow::Result<()> {
        let listen = self.config.http.listen;
        let unix_socket = self.config.http.socket_beside(socket);
        if listen.is_none() && unix_socket.is_none() {
            return Ok(());
        }
        let key_file = self.config.http.key_file_beside(socket);
        let key = http::load_or_make_key(&key_file)?;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()
            .context("failed to make the HTTP room's sockets")?;
        self.adopt(ours, Caller::Own).context("failed to take the HTTP room's socket")?;
        let body_bytes = usize::try_from(self.config.limits.body_bytes).unwrap_or(usize::MAX);
        let handle = http::start(HttpOptions { listen, unix_socket, key, body_bytes }, theirs)?;
        if let Some(addr) = handle.addr {
            tracing::info!(%addr, key_file = %key_file.display(), "HTTP API listens");
        }
        self.http = Some(handle);
        Ok(())
    }

    /// Reads the configuration again. A bad one is refused and the old one stays; the reason is
    /// logged and given back.
    pub(super) fn reload(&mut self, workers: Replace) -> Result<(), String> {
        let result = self.try_reload(workers);
        if let Err(reason) = &result {
            tracing::warn!("{reason}; the old configuration stays");
        }
        result
    }

    /// What to set when a change of the trust has changed the control groups' mode.
    fn cgroup_hint(&self, new: &Config) -> String {
        let (old_mode, new_mode) = (self.config.cgroup.mode, new.cgroup.mode);
        if self.config.trust == new.trust || old_mode == new_mode {
            return String::new();
        }
        format!(
            " (trust = {:?} makes cgroup.mode {:?}), or keep the present mode with cgroup.mode = \
             {:?}",
            new.trust.name(),
            new_mode.name(),
            old_mode.name()
        )
    }

    fn try_reload(&mut self, workers: Replace) -> Result<(), String> {
        let arguments = Arguments {
            config: self.config_path.clone(),
            socket: None,
            http: self.listen_argument.clone(),
            check_config: false,
        };
        let new = effective_config(&arguments).map_err(|e| format!("{e:#}"))?;
        let fixed: [(&str, bool); 6] = [
            ("cgroup", new.cgroup != self.config.cgroup),
            ("http.listen", new.http.listen != self.config.http.listen),
            ("http.socket", new.http.socket != self.config.http.socket),
            ("http.keyFile", new.http.key_file != self.config.http.key_file),
            ("log", new.log != self.config.log),
            (
                "limits.bodyBytes",
                new.limits.body_bytes != self.config.limits.body_bytes && self.http.is_some(),
            ),
        ];
        if let Some((key, _)) = fixed.iter().find(|(_, changed)| *changed) {
            let hint = if *key == "cgroup" { self.cgroup_hint(&new) } else { String::new() };
            return Err(format!(
                "failed to reload: {key} cannot change while the supervisor runs; restart it{hint}"
            ));
        }
        self.check_promise(&new)?;
        let setup = |config: &Config| config.worker_setup(Lane::Js, String::new(), None);
        let group = |config: &Config| (config.limits.processes, config.limits.cpus);
        let replace = workers == Replace::Always
            || setup(&new) != setup(&self.config)
            || group(&new) != group(&self.config)
            || new.worker_path != self.config.worker_path;
        self.worker_path = worker_path(&new).map_err(|e| format!("{e:#}"))?;
        let settings = new.core_settings();
        for notice in new.notices() {
            tracing::warn!("{notice}");
        }
        self.config = new;
        self.body_limit.configure(self.config.limits.body_bytes, self.workers.told_body_bytes());
        self.feed_reload(settings, replace);
        tracing::info!(replace_workers = replace, "configuration reloaded");
        Ok(())
    }
}
