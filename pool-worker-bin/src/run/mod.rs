//! From descriptor 3 to the last task: handshake, preparation, one lane's loop.
//!
//! Decides the order of a worker's life. What a task is and does is the lanes' business.

mod end;
mod footprint;
mod io;
mod js;
mod js_error;
mod last_words;

pub(crate) use end::{MAX_MESSAGE_BYTES, bound};

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use pool_protocol::frame::{self, Frame, Kind};
use pool_protocol::lane::Lane;
use pool_protocol::limits::MAX_BODY_BYTES;
use pool_protocol::version::{self, Mismatch};
use pool_protocol::worker::{ReadyHead, Setup};
use rustix::net::sockopt::socket_domain;

use crate::link::{EndTask, Link, LinkError, Reader, Watch};
use crate::lockdown::{self, Confined};
use crate::probe;

/// Where the supervisor puts the socket.
const SOCKET_FD: i32 = 3;
/// The setup is text about as long as the configuration.
const SETUP_BYTES: usize = 1 << 20;

/// The socket to the supervisor, if descriptor 3 is one. To be called once.
pub(crate) fn socket() -> Option<OwnedFd> {
    #[expect(unsafe_code, reason = "a descriptor handed over by number")]
    // SAFETY: asking about a number that may be no descriptor is harmless.
    let is_open = unsafe { libc::fcntl(SOCKET_FD, libc::F_SETFD, libc::FD_CLOEXEC) } == 0;
    if !is_open {
        return None;
    }
    #[expect(unsafe_code, reason = "a descriptor handed over by number")]
    // SAFETY: it is open, and nothing else in this process owns it: this is the only place that
    // names it.
    let socket = unsafe { OwnedFd::from_raw_fd(SOCKET_FD) };
    if socket_domain(&socket).ok()? == rustix::net::AddressFamily::UNIX {
        Some(socket)
    } else {
        None
    }
}

/// Serves until the supervisor says that it is enough, or is gone.
pub(crate) fn serve(
    socket: OwnedFd,
    started: Instant,
    lane: Lane,
    parent: Option<u32>,
) -> anyhow::Result<()> {
    if !lockdown::at_birth(parent).context("failed to cut the ties to the parent process")? {
        return Ok(());
    }
    let mut reader = Reader::new(SETUP_BYTES);
    let hello = match reader.next(socket.as_fd()) {
        Ok(frame) => frame,
        Err(error) => return quiet_if_closed(LinkError::from(error)),
    };
    let setup = match read_setup(&hello, lane) {
        Ok(setup) => setup,
        Err(error) => {
            // The supervisor learns this side's version too, so that both can say which one is
            // newer.
            let mut bytes = Vec::new();
            frame::put_plain(&mut bytes, Kind::Ready, u64::from(version::CURRENT), &[]);
            let _ = rustix::net::send(&socket, &bytes, rustix::net::SendFlags::NOSIGNAL);
            return Err(error);
        }
    };
    reader.set_body_bytes(usize::try_from(setup.body_bytes)?.min(MAX_BODY_BYTES));
    let link = match Link::new(socket, reader) {
        Ok(link) => link,
        Err(error) => return quiet_if_closed(error),
    };
    let served = match lane {
        Lane::Js => js::serve(link, &setup, started)?,
        Lane::Io => io::serve(link, &setup, started)?,
    };
    served.or_else(quiet_if_closed)
}

/// A supervisor that went away is no failure of this process.
fn quiet_if_closed(error: LinkError) -> anyhow::Result<()> {
    if error.is_closed() { Ok(()) } else { Err(error.into()) }
}

fn read_setup(hello: &Frame, lane: Lane) -> anyhow::Result<Setup> {
    if hello.kind != Kind::Setup {
        bail!(
            "failed to agree with the supervisor: it began with a {:?} frame, not with a setup",
            hello.kind
        );
    }
    Mismatch::check("worker", "supervisor", hello.id)?;
    let setup: Setup = serde_json::from_slice(&hello.body).context("failed to read the setup")?;
    if setup.lane != lane {
        bail!(
            "failed to agree with the supervisor: started for lane {}, set up for {}",
            lane.name(),
            setup.lane.name()
        );
    }
    Ok(setup)
}

/// Gives up what the worker does not need, says that it is ready, and lets the watch begin; then
/// probes the confinement, where that is ordered, or serves. The lanes have opened everything by
/// now.
fn confine_and_serve<E: EndTask>(
    link: &Link,
    setup: &Setup,
    started: Instant,
    watch: Watch<E>,
    serve: impl FnOnce() -> Result<(), LinkError>,
) -> anyhow::Result<Result<(), LinkError>> {
    let mut probe = probe::ordered(setup)?;
    let confined = lockdown::before_threads(setup)?;
    if let Some(probe) = &mut probe {
        probe.before_the_filter()?;
    }
    let gate = watch.start().context("failed to start the watch")?;
    let confined = lockdown::before_tasks(setup, confined)?;
    if let Err(error) = ready(link, started, &confined) {
        return Ok(Err(error));
    }
    gate.open();
    match probe {
        Some(probe) => probe.run(link),
        None => Ok(serve()),
    }
}

/// Tells the supervisor that tasks may come.
fn ready(link: &Link, started: Instant, confined: &Confined) -> Result<(), LinkError> {
    let head = ReadyHead { start_us: micros(started.elapsed()), layers: confined.layers };
    let missing = serde_json::to_vec(&confined.missing).expect("a map of texts serialises");
    link.send(|out| frame::put(out, Kind::Ready, u64::from(version::CURRENT), &head, &missing))
}

/// Writes the engine's startup snapshot; the file appears whole or not at all.
pub(crate) fn make_snapshot(path: &Path) -> anyhow::Result<()> {
    let bytes = pool_worker::js::snapshot::create()?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path
        .file_name()
        .with_context(|| format!("failed to write {}: it names no file", path.display()))?;
    let temporary = folder.join(format!(".{}.{}", name.display(), std::process::id()));
    let written = fs::File::create_new(&temporary)
        .and_then(|mut file| file.write_all(&bytes))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(|| format!("failed to write {}", path.display()))
}

/// A duration as the wire counts it.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
