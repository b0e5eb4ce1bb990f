//! What an init system is told: ready, stopping, still alive.
//!
//! Without `NOTIFY_SOCKET` nothing is said and nothing fails.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use pool_core::time::Time;
use sd_notify::NotifyState;

pub(crate) struct Systemd {
    ready: bool,
    watchdog: Option<Duration>,
    next_ping: Option<Time>,
}

impl Systemd {
    pub(crate) fn new() -> Self {
        // Half the interval, as sd_watchdog_enabled(3) advises.
        let watchdog = sd_notify::watchdog_enabled().map(|d| d / 2);
        Self { ready: false, watchdog, next_ping: None }
    }

    /// The pool can run tasks. Only the first call says so.
    pub(crate) fn ready(&mut self) {
        if !self.ready {
            self.ready = true;
            say(&[NotifyState::Ready]);
        }
    }

    pub(crate) fn stopping(&self) {
        say(&[NotifyState::Stopping]);
    }

    /// When the next ping is due.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.watchdog.map(|_| self.next_ping.unwrap_or_default())
    }

    /// Pings when it is due: from the owner thread's own loop, so that a stuck loop is noticed.
    pub(crate) fn ping(&mut self, now: Time) {
        let Some(interval) = self.watchdog else { return };
        if self.next_ping.is_none_or(|due| due <= now) {
            say(&[NotifyState::Watchdog]);
            let us = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
            self.next_ping = Some(now.plus_us(us));
        }
    }
}

fn say(states: &[NotifyState<'_>]) {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else { return };
    let text: String = states.iter().map(|state| format!("{state}\n")).collect();
    if let Err(error) = send(&name, text.as_bytes()) {
        tracing::warn!("failed to notify the init system: {error}");
    }
}

/// Written here because sd-notify takes a name with `@` for a path. It is that of an abstract
/// socket, whose name has a zero in that place (sd_notify(3)).
fn send(name: &OsStr, text: &[u8]) -> io::Result<()> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text, &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_path_or_with_an_at_sign_that_of_an_abstract_socket() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let unique = format!("pool-test-{}", folder.path().display());
        let abstract_name = SocketAddr::from_abstract_name(&unique).expect("a name");
        let sockets = [
            (path.as_os_str().to_owned(), UnixDatagram::bind(&path).expect("free")),
            (format!("@{unique}").into(), UnixDatagram::bind_addr(&abstract_name).expect("free")),
        ];
        for (name, socket) in sockets {
            send(&name, b"READY=1\n").expect("somebody listens");
            let mut heard = [0; 64];
            let len = socket.recv(&mut heard).expect("a message");
            assert_eq!(&heard[..len], b"READY=1\n", "{name:?}");
        }
        assert!(send(OsStr::new("/no/such/socket"), b"READY=1\n").is_err());
    }
}
