//! Connections, each with limits on header, response and time.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

use super::gate::Place as At;
use super::patient::Patient;
use super::places::{Place, Places};
use super::{HttpError, Patience, bind_unix};
use crate::peer;

/// A request line with its headers.
const HEADER_BYTES: usize = 16 * 1024;
/// Headers of one request.
const HEADERS: usize = 64;
/// What hyper reads ahead.
const BUFFER_BYTES: usize = 64 * 1024;
/// After a failed accept (no descriptors left): soon enough to be useful, seldom enough not to
/// spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a socket's file is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// One bound address.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

enum Stream {
    Tcp(TcpStream, At),
    Unix(UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are small and written whole; waiting for more only delays them.
                stream.set_nodelay(true)?;
                let at = At::Tcp(stream.local_addr()?);
                Ok(Stream::Tcp(stream, at))
            }
            Self::Unix(listener, _) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }

    /// Until the socket's file is gone, which somebody has removed.
    async fn removed(&self) {
        let Self::Unix(_, path) = self else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            if std::fs::symlink_metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
                return;
            }
        }
    }

    fn is_gone(&self) -> bool {
        matches!(self, Self::Unix(_, path) if !path.exists())
    }

    /// Makes the socket's file again.
    fn renew(&mut self) -> Result<(), HttpError> {
        if let Self::Unix(_, path) = self {
            *self = bind_unix(path)?;
        }
        Ok(())
    }
}

/// What every connection of a listener shares.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    pub(super) router: Router,
    pub(super) patience: Patience,
    pub(super) closing: watch::Receiver<bool>,
}

/// Accepts until `closing`.
pub(super) async fn accept_all(mut listener: Listener, mut places: Places, serving: Serving) {
    let mut closing = serving.closing.clone();
    let mut complained = false;
    let accepting = async {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = listener.removed() => {
                    match listener.renew() {
                        Ok(()) => tracing::warn!("the HTTP API's socket was removed, and is made \
                            again"),
                        Err(error) if !complained => tracing::warn!("the HTTP API's socket was \
                            removed: {error}"),
                        Err(_) => {}
                    }
                    complained = listener.is_gone();
                    continue;
                }
            };
            let stream = match accepted {
                Ok(Stream::Unix(stream)) if let Some(who) = peer::program(&stream) => {
                    tracing::warn!("refused a connection to the HTTP API's socket {who}");
                    continue;
                }
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!("failed to accept an HTTP connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let place = places.take().await;
            let serving = serving.clone();
            match stream {
                Stream::Tcp(stream, at) => {
                    drop(tokio::spawn(serving.connection(stream, at, place)))
                }
                Stream::Unix(stream) => {
                    drop(tokio::spawn(serving.connection(stream, At::Unix, place)))
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = closed(&mut closing) => {}
    }
}

/// Until the room closes.
pub(super) async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error is a sender that has gone, which is the end as well.
    let _closed = closing.wait_for(|closing| *closing).await;
}

impl Serving {
    async fn connection<S: AsyncRead + AsyncWrite + Unpin>(
        mut self,
        stream: S,
        at: At,
        place: Place,
    ) {
        let router = TowerToHyperService::new(self.router);
        let occupancy = Arc::clone(&place.occupancy);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(at);
            request.extensions_mut().insert(Arc::clone(&occupancy));
            router.call(request)
        });
        let io = TokioIo::new(Patient::new(stream, self.patience, self.closing.clone()));
        let mut connection = std::pin::pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(self.patience.header)
                .max_header_size(HEADER_BYTES)
                .max_headers(HEADERS)
                .max_buf_size(BUFFER_BYTES)
                .serve_connection(io, service)
        );
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = place.occupancy.given_away() => {
                tracing::debug!("an HTTP connection that was not answering a request gave way to \
                    another");
                return;
            }
            () = closed(&mut self.closing) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            // A client's mistake or absence, and hyper has answered what can be answered.
            tracing::debug!("an HTTP connection ended early: {error}");
        }
    }
}
