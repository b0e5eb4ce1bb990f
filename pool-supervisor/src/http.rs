//! The HTTP API: a side room with one thread, which is a client of the supervisor like any other.
//!
//! Owns the listeners, the HTTP connections and one connection to the supervisor's owner thread,
//! over which all requests go. It must not touch the pool's state, and nothing that an HTTP client
//! does may hold up the owner thread: that one sees a single well-behaved client that always reads.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot, watch};

mod body;
mod events;
mod gate;
mod key;
mod link;
mod patient;
mod places;
mod reply;
mod routes;
mod serve;
mod tasks;

pub use key::{KeyError, load_or_make_key};
pub use routes::ROUTES;

use places::Places;
use serve::{Listener, Serving};

/// What requests in progress get when the room closes; their answers are made already, or never
/// come.
const GRACE: Duration = Duration::from_millis(500);
/// What the room gets to close.
const STOP_TIME: Duration = Duration::from_secs(2);

/// What the API is.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// The address, if it listens on one; port 0 takes any.
    pub listen: Option<SocketAddr>,
    /// The Unix socket, if it listens on one.
    pub unix_socket: Option<PathBuf>,
    /// What callers must send.
    pub key: String,
    /// The largest request body, in bytes.
    pub body_bytes: usize,
}

/// How long the API waits for what a client owes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// A request's header, from the connection's start or the last answer on; and silence after the
    /// last answer of a connection, until the client closes it.
    pub header: Duration,
    /// A request's body, all of it; and what a client sends after the last answer of its
    /// connection.
    pub body: Duration,
    /// Taking what is written to it.
    pub stalled_write: Duration,
    /// Not the client's: between two comments on an event stream that is quiet, so that a dead
    /// connection is noticed.
    pub keepalive: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let s = Duration::from_secs;
        Self { header: s(5), body: s(30), stalled_write: s(30), keepalive: s(15) }
    }
}

/// The room could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is taken or not ours.
    #[error(
        "failed to listen on {address} for the HTTP API: {reason}; name another with http.listen \
         or --http, or \"off\""
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        reason: io::Error,
    },
    /// The Unix socket cannot be made.
    #[error(
        "failed to listen on {path} for the HTTP API: {reason}; name another with http.socket, \
         or \"off\""
    )]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// Somebody listens on the Unix socket.
    #[error("failed to listen on {path} for the HTTP API: another program listens there")]
    SocketTaken {
        /// Its path.
        path: PathBuf,
    },
    /// What is there is no socket.
    #[error(
        "failed to listen on {path} for the HTTP API: there is a file that is no socket; move it \
         away"
    )]
    NoSocket {
        /// Its path.
        path: PathBuf,
    },
    /// The thread or what it needs.
    #[error("failed to start the HTTP API's thread: {reason}")]
    Start {
        /// Why.
        reason: io::Error,
    },
}

/// The open room. Dropped, it closes within a bounded time.
#[derive(Debug)]
pub struct HttpHandle {
    /// The address it listens on, with the real port.
    pub addr: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    /// Nothing is ever sent; it ends with the thread.
    ended: mpsc::Receiver<std::convert::Infallible>,
    thread: Option<JoinHandle<()>>,
    socket_file: Option<PathBuf>,
}

impl HttpHandle {
    /// Closes the room: what the supervisor has answered by now is passed on, everything else is
    /// told that it is over.
    pub fn stop(mut self) {
        self.close();
    }

    fn close(&mut self) {
        drop(self.stop.take());
        let Some(thread) = self.thread.take() else { return };
        if self.ended.recv_timeout(STOP_TIME) == Err(mpsc::RecvTimeoutError::Timeout) {
            // The process is about to end, and the thread with it.
            tracing::error!("the HTTP API did not close within {STOP_TIME:?}");
        } else if thread.join().is_err() {
            tracing::error!("the HTTP API's thread panicked");
        }
        if let Some(path) = self.socket_file.take() {
            let _gone_already = std::fs::remove_file(path);
        }
    }
}

impl Drop for HttpHandle {
    fn drop(&mut self) {
        self.close();
    }
}

/// Opens the room. `stream` is connected to the supervisor, which need not have read anything from
/// it yet.
///
/// # Errors
/// [`HttpError`]; nothing runs then, and no file is left.
pub fn start(options: HttpOptions, stream: UnixStream) -> Result<HttpHandle, HttpError> {
    start_with(options, Patience::default(), stream)
}

/// As [`start`], with other times.
///
/// # Errors
/// As [`start`].
pub fn start_with(
    options: HttpOptions,
    patience: Patience,
    stream: UnixStream,
) -> Result<HttpHandle, HttpError> {
    let failed = |reason| HttpError::Start { reason };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(failed)?;
    let in_runtime = runtime.enter();
    stream.set_nonblocking(true).map_err(failed)?;
    let stream = tokio::net::UnixStream::from_std(stream).map_err(failed)?;
    let mut listeners = Vec::new();
    let mut addr = None;
    if let Some(address) = options.listen {
        let (listener, bound) =
            bind_tcp(address).map_err(|reason| HttpError::Listen { address, reason })?;
        addr = Some(bound);
        listeners.push(listener);
    }
    if let Some(path) = &options.unix_socket {
        listeners.push(bind_unix(path)?);
    }
    drop(in_runtime);
    let (stop, stopped) = oneshot::channel();
    let (ending, ended) = mpsc::channel();
    // Made before the thread: were it not to start, dropping this removes the socket's file.
    let mut handle = HttpHandle {
        addr,
        stop: Some(stop),
        ended,
        thread: None,
        socket_file: options.unix_socket.clone(),
    };
    let room = Room {
        listeners,
        stream,
        key: options.key.into(),
        body_bytes: options.body_bytes,
        patience,
    };
    let run = move || {
        room.run(runtime, stopped);
        drop(ending);
    };
    let thread = std::thread::Builder::new().name("http".to_owned()).spawn(run).map_err(failed)?;
    handle.thread = Some(thread);
    Ok(handle)
}

fn bind_tcp(address: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    Ok((Listener::Tcp(tokio::net::TcpListener::from_std(listener)?), bound))
}

/// A socket that nobody listens on is what a killed supervisor left; anything else is not ours to
/// remove.
fn bind_unix(path: &Path) -> Result<Listener, HttpError> {
    let failed = |reason| HttpError::Socket { path: path.to_owned(), reason };
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(HttpError::NoSocket { path: path.to_owned() });
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(failed)?
            }
            Ok(_) => return Err(HttpError::SocketTaken { path: path.to_owned() }),
            Err(e) => return Err(failed(e)),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e)),
    }
    let listener = std::os::unix::net::UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(Listener::Unix(
        tokio::net::UnixListener::from_std(listener).map_err(failed)?,
        path.to_owned(),
    ))
}

/// What the thread owns.
struct Room {
    listeners: Vec<Listener>,
    stream: tokio::net::UnixStream,
    key: Arc<str>,
    body_bytes: usize,
    patience: Patience,
}

impl Room {
    fn run(self, runtime: Runtime, stopped: oneshot::Receiver<()>) {
        runtime.block_on(self.serve(stopped));
        // Whatever still runs is not worth waiting for: all of it is asynchronous and ends where it
        // waits.
        runtime.shutdown_background();
    }

    async fn serve(self, stopped: oneshot::Receiver<()>) {
        let (close, closing) = watch::channel(false);
        let (link, pump) = link::Link::new();
        let gateway = routes::Gateway {
            link,
            bodies: body::Bodies::new(self.body_bytes, self.patience.body),
            streams: Arc::new(Semaphore::new(events::STREAMS)),
            gathered: Arc::new(Semaphore::new(tasks::ALL_REPLIES_KIB)),
            keepalive: self.patience.keepalive,
        };
        let serving = Serving {
            router: routes::router(gateway, self.key),
            patience: self.patience,
            closing: closing.clone(),
        };
        let mut free = Vec::new();
        for listener in self.listeners {
            let places = Places::new();
            free.push(places.free());
            tokio::spawn(serve::accept_all(listener, places, serving.clone()));
        }
        drop(serving);
        let mut pump = tokio::spawn(pump.run(self.stream, closing));
        // A dropped sender is the same wish.
        let ended = tokio::select! {
            _ = stopped => {
                close.send_replace(true);
                pump.await
            }
            ended = &mut pump => ended,
        };
        close.send_replace(true);
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("the HTTP API ends: {error}"),
            Err(error) => tracing::error!("the HTTP API ends: {error}"),
        }
        let _over = tokio::time::timeout(GRACE, all_free(&free)).await;
    }
}

/// Until every connection has given its place back.
async fn all_free(listeners: &[Arc<Semaphore>]) {
    for free in listeners {
        Places::all_free(free).await;
    }
}
