//! Who may ask: the `Host` that names us, and the key.
//!
//! The key keeps other users and programs out. The `Host` keeps web pages out: one whose own name
//! was made to resolve to us (DNS rebinding) still sends its own name. No web page reaches the Unix
//! socket, so there any name will do.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::body::{Frame as BodyFrame, SizeHint};

use super::key::same_key;
use super::places::Occupancy;
use super::reply::{Refusal, holding};

/// Where a connection came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// The connection's own address on our side: the bound one, also when that was "any".
    Tcp(SocketAddr),
    /// The Unix socket.
    Unix,
}

/// Routes that a supervisor's supervisor asks, which has no key.
const WITHOUT_KEY: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Lets a request pass, or answers it. The connection of a request that came with the key is busy
/// until its answer is written; any other may be closed when its place is wanted.
pub(super) async fn guard(
    State(key): State<Arc<str>>,
    mut request: Request,
    next: Next,
) -> Response {
    let occupied = request.extensions_mut().remove::<Arc<Occupancy>>();
    let ended = Arc::new(AtomicBool::new(request.body().is_end_stream()));
    let (mut response, busy) = match judge(&key, &request) {
        Err(refusal) => (refusal.into_response(), None),
        Ok(()) => {
            let busy = occupied.filter(|_| !is_open(&request)).map(Occupancy::busy);
            let request =
                request.map(|body| Body::new(Watched { body, ended: Arc::clone(&ended) }));
            (next.run(request).await, busy)
        }
    };
    if !ended.load(Ordering::Relaxed) {
        // The client may still be sending. What comes is not looked at, so no other request can
        // follow it.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    holding(response, busy)
}

/// A request's body that tells whether it was read to its end.
struct Watched {
    body: Body,
    ended: Arc<AtomicBool>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.ended.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn is_open(request: &Request) -> bool {
    WITHOUT_KEY.contains(&request.uri().path())
}

fn judge(key: &str, request: &Request) -> Result<(), Refusal> {
    let place = request.extensions().get::<Place>().expect("every connection names its place");
    check_host(*place, request)?;
    if !is_open(request) {
        check_key(key, request.headers())?;
    }
    check_framing(request.headers())
}

/// hyper has checked that the last coding is `chunked`, and cuts the body at the last chunk,
/// whatever length is named besides. Other codings are not undone.
fn check_framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let chunked =
        |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if codings.next().is_none_or(chunked) && codings.next().is_none() {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::NOT_IMPLEMENTED,
        "Transfer-Encoding may be chunked and nothing else",
    ))
}

fn check_host(place: Place, request: &Request) -> Result<(), Refusal> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Refusal::bad_request("send exactly one Host header"));
    };
    let named = host.to_str().is_ok_and(|host| is_ours(place, host));
    // `GET http://name/ HTTP/1.1` names a host too, and that one goes before the header.
    let target =
        request.uri().authority().is_none_or(|authority| is_ours(place, authority.as_str()));
    if named && target {
        return Ok(());
    }
    let ours = match place {
        Place::Tcp(address) => format!("; it is {address}"),
        Place::Unix => String::new(),
    };
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        format!("the Host header does not name this API{ours}"),
    ))
}

fn is_ours(place: Place, host: &str) -> bool {
    let Place::Tcp(address) = place else { return true };
    let (ip, port) = (address.ip().to_canonical(), address.port());
    if let Ok(named) = host.parse::<SocketAddr>() {
        return named.ip().to_canonical() == ip && named.port() == port;
    }
    // The port may be left out where it is the scheme's own.
    let (name, named_port) = match host.rsplit_once(':') {
        Some((name, digits)) if !digits.ends_with(']') => (name, digits.parse().ok()),
        _ => (host, Some(80)),
    };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let is_name = name.eq_ignore_ascii_case("localhost") && ip.is_loopback();
    let is_address = name.parse::<IpAddr>().is_ok_and(|named| named.to_canonical() == ip);
    named_port == Some(port) && (is_name || is_address)
}

fn check_key(key: &str, headers: &HeaderMap) -> Result<(), Refusal> {
    let bearer = |value: &[u8]| match value.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => same_key(key, token),
        _ => false,
    };
    let by_header = headers.get("x-api-key").map(|value| same_key(key, value.as_bytes()));
    let by_bearer = headers.get(AUTHORIZATION).map(|value| bearer(value.as_bytes()));
    match (by_header, by_bearer) {
        (Some(true), None | Some(true)) | (None, Some(true)) => Ok(()),
        (None, None) => Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "send the key from the key file as X-API-Key, or as Authorization: Bearer",
        )),
        _ => Err(Refusal::new(StatusCode::UNAUTHORIZED, "the key is wrong; it is in the key file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str) -> Place {
        Place::Tcp(address.parse().expect("an address"))
    }

    #[test]
    fn only_the_bound_address_is_our_host() {
        let ours = [
            (tcp("127.0.0.1:45678"), "127.0.0.1:45678"),
            (tcp("127.0.0.1:45678"), "localhost:45678"),
            (tcp("127.0.0.1:45678"), "LOCALHOST:45678"),
            (tcp("[::ffff:127.0.0.1]:45678"), "127.0.0.1:45678"),
            (tcp("[::1]:45678"), "[::1]:45678"),
            (tcp("127.0.0.1:80"), "localhost"),
            (tcp("[::1]:80"), "[::1]"),
            (tcp("10.0.0.1:80"), "10.0.0.1"),
            (Place::Unix, "localhost"),
            (Place::Unix, "localhost:80"),
            (Place::Unix, "pool.example"),
            (Place::Unix, ""),
        ];
        for (place, host) in ours {
            assert!(is_ours(place, host), "{place:?} {host}");
        }
        let foreign = [
            (tcp("127.0.0.1:45678"), ""),
            (tcp("127.0.0.1:45678"), "localhost"),
            (tcp("127.0.0.1:45678"), "127.0.0.1"),
            (tcp("127.0.0.1:45678"), "127.0.0.1:80"),
            (tcp("127.0.0.1:45678"), "127.0.0.2:45678"),
            (tcp("127.0.0.1:45678"), "evil.example:45678"),
            (tcp("127.0.0.1:45678"), "localhost.evil.example:45678"),
            (tcp("127.0.0.1:45678"), "user@localhost:45678"),
            (tcp("127.0.0.1:45678"), "localhost:45678:45678"),
            (tcp("10.0.0.1:45678"), "localhost:45678"),
            (tcp("127.0.0.1:80"), "localhost:"),
        ];
        for (place, host) in foreign {
            assert!(!is_ours(place, host), "{place:?} {host}");
        }
    }

    #[test]
    fn a_body_may_come_in_chunks_and_in_no_other_coding() {
        let judged = |values: &[&'static str]| {
            let headers =
                values.iter().map(|value| (TRANSFER_ENCODING, value.parse().expect("a value")));
            check_framing(&headers.collect()).map_err(|refusal| refusal.status.as_u16())
        };
        for taken in [&[][..], &["chunked"], &["Chunked "]] {
            assert_eq!(judged(taken), Ok(()), "{taken:?}");
        }
        for coded in [&["gzip, chunked"][..], &["gzip", "chunked"], &["chunked", "chunked"]] {
            assert_eq!(judged(coded), Err(501), "{coded:?}");
        }
    }

    #[test]
    fn the_key_comes_in_either_header_and_must_be_right_in_both() {
        let judged = |headers: &[(&'static str, &'static str)]| {
            let headers: HeaderMap = headers
                .iter()
                .map(|(name, value)| {
                    (name.parse().expect("a name"), value.parse().expect("a value"))
                })
                .collect::<HeaderMap>();
            check_key("the-right-key", &headers).map_err(|refusal| refusal.status.as_u16())
        };
        assert_eq!(judged(&[("x-api-key", "the-right-key")]), Ok(()));
        assert_eq!(judged(&[("authorization", "Bearer the-right-key")]), Ok(()));
        assert_eq!(judged(&[("authorization", "bearer the-right-key")]), Ok(()));
        for wrong in [
            &[][..],
            &[("x-api-key", "the-wrong-key")],
            &[("x-api-key", "")],
            &[("authorization", "the-right-key")],
            &[("authorization", "Basic the-right-key")],
            &[("authorization", "Bearer ")],
            &[("x-api-key", "the-right-key"), ("authorization", "Bearer wrong")],
        ] {
            assert_eq!(judged(wrong), Err(401), "{wrong:?}");
        }
    }
}
