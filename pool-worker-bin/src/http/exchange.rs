//! One request and its reply, over a connection of its own to an address that was judged.
//!
//! Knows HTTP, TLS and nothing of rules. Whoever calls it waits: the runtime beneath is the
//! caller's thread and ends with the reply.

use std::error::Error;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, HOST, RANGE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pool_worker_core::http::Request;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

/// Lines of a reply's head.
const MAX_HEADERS: usize = 256;
/// Who asks.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("process-pool/", env!("CARGO_PKG_VERSION")));

/// A request that has no reply.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    /// It cannot be written.
    #[error("field `url` is no URL for HTTP: {0}")]
    Url(String),
    /// It has not been sent, or not been answered.
    #[error("{0}")]
    Failed(String),
}

impl ExchangeError {
    fn failed(error: &(dyn Error + 'static)) -> Self {
        Self::Failed(whole(error))
    }
}

/// A reply whose body is still to be read.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

/// The body of a reply, as it comes.
#[derive(Debug)]
pub(super) struct Body {
    /// What the connection runs in.
    runtime: Runtime,
    incoming: Incoming,
    chunk: Bytes,
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.runtime.block_on(self.incoming.frame()) {
                None => return Ok(0),
                Some(Err(error)) => return Err(io::Error::other(whole(&error))),
                // Anything else are trailers, which nobody asked for.
                Some(Ok(frame)) => self.chunk = frame.into_data().unwrap_or_default(),
            }
        }
        let len = self.chunk.len().min(out.len());
        out[..len].copy_from_slice(&self.chunk.split_to(len));
        Ok(len)
    }
}

/// Sends the request to the first of the addresses that takes it. `tls`: what `https` wants.
pub(super) fn exchange(
    request: &Request,
    addresses: &[SocketAddr],
    tls: Option<Arc<ClientConfig>>,
) -> Result<Answer, ExchangeError> {
    let message = message(request)?;
    let runtime =
        Builder::new_current_thread().enable_io().build().map_err(|e| ExchangeError::failed(&e))?;
    let response = runtime.block_on(async {
        let stream = connect(addresses).await.map_err(|e| ExchangeError::failed(&e))?;
        let Some(config) = tls else { return talk(stream, message).await };
        let name = server_name(&request.url)?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        talk(stream.map_err(|e| untrusted(&e))?, message).await
    })?;
    let (head, incoming) = response.into_parts();
    let body = Body { runtime, incoming, chunk: Bytes::new() };
    Ok(Answer { status: head.status, headers: head.headers, body })
}

/// The request as it is written: what frames it and what nobody has set is added.
fn message(request: &Request) -> Result<http::Request<Full<Bytes>>, ExchangeError> {
    let url = &request.url;
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let bad = |e: &dyn Error| ExchangeError::Url(e.to_string());
    let mut message =
        http::Request::new(Full::new(Bytes::from(request.body.clone().unwrap_or_default())));
    *message.method_mut() = request.method.clone();
    *message.uri_mut() = target.parse().map_err(|e: http::uri::InvalidUri| bad(&e))?;
    let headers = message.headers_mut();
    let authority = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    };
    headers.insert(HOST, HeaderValue::try_from(authority).map_err(|e| bad(&e))?);
    headers.extend(request.headers.iter().cloned());
    // Part of a coded body cannot be decoded.
    let codings = if headers.contains_key(RANGE) { "identity" } else { super::content::OFFERED };
    for (name, value) in [
        (USER_AGENT, AGENT),
        (ACCEPT, HeaderValue::from_static("*/*")),
        (ACCEPT_ENCODING, HeaderValue::from_static(codings)),
    ] {
        headers.entry(name).or_insert(value);
    }
    // A body that has a length gets it from the client; an empty one is not said to be none.
    let is_empty = request.body.as_ref().is_none_or(Vec::is_empty);
    let means_content = matches!(request.method, Method::POST | Method::PUT | Method::PATCH);
    if is_empty && (means_content || request.body.is_some()) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    }
    Ok(message)
}

async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn server_name(url: &Url) -> Result<ServerName<'static>, ExchangeError> {
    match url.host() {
        Some(Host::Ipv4(ip)) => Ok(IpAddr::V4(ip).into()),
        Some(Host::Ipv6(ip)) => Ok(IpAddr::V6(ip).into()),
        Some(Host::Domain(name)) => {
            // The dot that ends a whole name is not part of it in a certificate.
            let name = name.strip_suffix('.').unwrap_or(name);
            ServerName::try_from(name.to_owned()).map_err(|e| ExchangeError::failed(&e))
        }
        None => Err(ExchangeError::Url("it has no host".to_owned())),
    }
}

async fn talk<S>(
    stream: S,
    message: http::Request<Full<Bytes>>,
) -> Result<Response<Incoming>, ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    let shaken = builder.max_headers(MAX_HEADERS).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|e| ExchangeError::failed(&e))?;
    // Its end shows itself in the reply, or in there being none.
    tokio::spawn(connection);
    sender.send_request(message).await.map_err(|e| ExchangeError::failed(&e))
}

/// What helps against the most frequent trouble with certificates.
fn untrusted(error: &io::Error) -> ExchangeError {
    let text = whole(error);
    let unknown = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .is_some_and(|inner| {
            matches!(
                inner,
                rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)
            )
        });
    if unknown {
        let advice =
            "no authority that this machine or `http.ca` trusts has signed its certificate";
        return ExchangeError::Failed(format!("{advice} ({text})"));
    }
    ExchangeError::Failed(text)
}

/// An error with its causes; some say nothing but that there is one.
fn whole(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
