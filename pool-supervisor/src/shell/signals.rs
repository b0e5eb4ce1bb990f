//! Signals as bytes on sockets that epoll watches.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// One socket per meaning: the byte that arrives does not say which signal it was.
pub(crate) struct Signals {
    /// SIGTERM and SIGINT.
    pub(crate) stop: UnixStream,
    /// SIGHUP.
    pub(crate) reload: UnixStream,
}

impl Signals {
    pub(crate) fn install() -> io::Result<Self> {
        let (stop, stop_in) = UnixStream::pair()?;
        let (reload, reload_in) = UnixStream::pair()?;
        stop.set_nonblocking(true)?;
        reload.set_nonblocking(true)?;
        pipe::register(SIGTERM, stop_in.try_clone()?)?;
        pipe::register(SIGINT, stop_in)?;
        pipe::register(SIGHUP, reload_in)?;
        Ok(Self { stop, reload })
    }

    /// How many arrived since the last time.
    pub(crate) fn count(mut from: &UnixStream) -> usize {
        let mut bytes = [0; 64];
        let mut all = 0;
        while let Ok(n) = from.read(&mut bytes) {
            if n == 0 {
                break;
            }
            all += n;
        }
        all
    }
}
