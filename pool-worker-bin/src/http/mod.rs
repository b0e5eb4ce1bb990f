//! `http-request`: one exchange, its redirects followed by hand, every address judged before it is
//! dialled.
//!
//! Decides where a request may go and which reply is a result. Must not know the wire to the
//! supervisor; how long it takes is the watch's business, who abandons the exchange with the whole
//! process.

mod content;
mod exchange;
mod reply;
mod trust;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, SystemTime};

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, DATE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use pool_protocol::limits::MAX_ERROR_BYTES;
use pool_protocol::outcome::ErrorCode;
use pool_protocol::worker::HttpSetup;
use pool_worker_core::http::{
    BadRedirect, Denied, Rules, is_credential, literal_address, redirect_target, retry_after,
};
use serde::Serialize;
use url::Url;

pub(crate) use pool_worker_core::http::{BadRequest, Request};
pub(crate) use reply::Reply;

use exchange::{Answer, ExchangeError};
use reply::{Capped, Data, Headers, read_capped};
use trust::Trust;

/// The body of a reply that is not accepted, as the error shows it.
const ERROR_DATA_BYTES: u64 = 8 * 1024;
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Why there is no result.
#[derive(Debug, Serialize)]
pub(crate) struct HttpFailure {
    #[serde(skip)]
    pub(crate) code: ErrorCode,
    /// How long the server asks to be left alone.
    #[serde(skip)]
    pub(crate) retry_after: Duration,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Headers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
}

impl HttpFailure {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        crate::run::bound(&mut message, crate::run::MAX_MESSAGE_BYTES);
        Self { code, retry_after: Duration::ZERO, message, status: None, headers: None, data: None }
    }

    /// With what the server answered, as much of it as an error may hold.
    fn replied(self, status: StatusCode, headers: Headers, data: Option<Data>) -> Self {
        let mut failure =
            Self { status: Some(status.as_u16()), headers: Some(headers), data, ..self };
        let fits = |failure: &Self| {
            serde_json::to_vec(failure).is_ok_and(|json| json.len() <= MAX_ERROR_BYTES)
        };
        if !fits(&failure) {
            failure.data = None;
        }
        if !fits(&failure) {
            failure.headers = None;
        }
        failure
    }
}

impl From<BadRequest> for HttpFailure {
    fn from(bad: BadRequest) -> Self {
        let code = match bad {
            BadRequest::Invalid(_) => ErrorCode::InvalidTask,
            BadRequest::Denied(_) => ErrorCode::UrlDenied,
        };
        Self::new(code, bad.to_string())
    }
}

impl From<Denied> for HttpFailure {
    fn from(denied: Denied) -> Self {
        Self::new(ErrorCode::UrlDenied, denied.to_string())
    }
}

/// What requests are sent with. It keeps no connection: the next task's name may resolve to another
/// address.
#[derive(Debug)]
pub(crate) struct Client {
    rules: Rules,
    lookup: Lookup,
    trust: Trust,
    /// No body is read beyond this.
    result_bytes: u64,
}

/// How names become addresses: the system's resolver, or a test's.
type Lookup = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

fn system_lookup(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((name, port).to_socket_addrs()?.collect())
}

impl Client {
    /// A client that reaches what the settings open. Results are no longer than `result_bytes`.
    pub(crate) fn new(setup: &HttpSetup, result_bytes: u64) -> anyhow::Result<Self> {
        let trust = Trust::new(&setup.authorities)?;
        Ok(Self { rules: Rules::new(setup)?, lookup: system_lookup, trust, result_bytes })
    }

    /// Sends the request and follows where it leads.
    pub(crate) fn perform(&self, mut request: Request) -> Result<Reply, HttpFailure> {
        let mut followed = 0;
        loop {
            let answer = self.exchange(&request)?;
            let follow = request.max_redirects > 0;
            let target = if follow { redirection(&request, &answer)? } else { None };
            let Some(target) = target else {
                return self.judge(&request, answer);
            };
            if followed == request.max_redirects {
                let message = format!(
                    "too many redirects: {followed} were followed, the last to {}",
                    request.url
                );
                return Err(HttpFailure::new(ErrorCode::HttpError, message));
            }
            followed += 1;
            redirect(&mut request, answer.status, target);
        }
    }

    fn exchange(&self, request: &Request) -> Result<Answer, HttpFailure> {
        let addresses = self.addresses(&request.url)?;
        let tls = (request.url.scheme() == "https").then(|| self.trust.config());
        exchange::exchange(request, &addresses, tls).map_err(|error| match error {
            ExchangeError::Url(_) => HttpFailure::new(ErrorCode::InvalidTask, error.to_string()),
            ExchangeError::Failed(why) => no_reply(&request.url, &why),
        })
    }

    /// Where the URL leads: exactly the addresses that were judged.
    fn addresses(&self, url: &Url) -> Result<Vec<SocketAddr>, HttpFailure> {
        let (host, port) =
            (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
        let mut addresses = match literal_address(host) {
            Some(ip) => vec![SocketAddr::new(ip, port)],
            None => (self.lookup)(host, port).map_err(|error| no_reply(url, &error.to_string()))?,
        };
        self.rules.judge(host, &addresses)?;
        if addresses.is_empty() {
            return Err(no_reply(url, "the name has no address"));
        }
        addresses.truncate(MAX_ADDRESSES);
        Ok(addresses)
    }

    /// Reads the reply and decides whether it is the result.
    fn judge(&self, request: &Request, answer: Answer) -> Result<Reply, HttpFailure> {
        let Answer { status, headers, body } = answer;
        let shown = reply::headers(&headers);
        let read = |max| read_capped(content::decoded(&headers, body)?, max);
        if !request.accept.accepts(status.as_u16()) {
            let message = format!("the server answered {status}");
            // What was read before the connection broke is better than nothing.
            let data = read(ERROR_DATA_BYTES).ok().map(|read| match read {
                Capped::Whole(bytes) => reply::data(&headers, bytes, true),
                Capped::More(bytes) => reply::data(&headers, bytes, false),
            });
            let failure =
                HttpFailure::new(ErrorCode::HttpStatus, message).replied(status, shown, data);
            return Err(HttpFailure { retry_after: asked_for(&headers), ..failure });
        }
        let max = request.max_response_bytes.min(self.result_bytes);
        match read(max) {
            Ok(Capped::Whole(bytes)) => Ok(Reply {
                status: status.as_u16(),
                headers: shown,
                data: reply::data(&headers, bytes, true),
            }),
            Ok(Capped::More(_)) => {
                let limit = if max == request.max_response_bytes {
                    "maxResponseBytes"
                } else {
                    "limits.resultBytes"
                };
                let message =
                    format!("the reply is longer than {max} bytes once decompressed (`{limit}`)");
                Err(HttpFailure::new(ErrorCode::OutputLimit, message).replied(status, shown, None))
            }
            Err(error) => {
                let message = format!("the reply of {} broke off: {error}", request.url);
                Err(HttpFailure::new(ErrorCode::HttpError, message).replied(status, shown, None))
            }
        }
    }
}

/// How long the server asks to be left alone. Its own clock counts, where it tells the time.
#[expect(clippy::disallowed_methods, reason = "servers name times of day")]
fn asked_for(headers: &HeaderMap) -> Duration {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let now = text(DATE).and_then(|date| httpdate::parse_http_date(date).ok());
    let asked =
        text(RETRY_AFTER).and_then(|value| retry_after(value, now.unwrap_or_else(SystemTime::now)));
    asked.unwrap_or_default()
}

fn no_reply(url: &Url, why: &str) -> HttpFailure {
    HttpFailure::new(ErrorCode::HttpError, format!("no reply from {url}: {why}"))
}

/// Where a reply sends the request, if anywhere.
fn redirection(request: &Request, answer: &Answer) -> Result<Option<Url>, HttpFailure> {
    if !matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = answer.headers.get(LOCATION) else {
        return Ok(None);
    };
    match redirect_target(&request.url, location.as_bytes()) {
        Ok(target) => Ok(Some(target)),
        Err(BadRedirect::Denied(bad)) => Err(bad.into()),
        Err(no_url @ BadRedirect::NoUrl(_)) => {
            Err(HttpFailure::new(ErrorCode::HttpError, format!("{} {no_url}", request.url)))
        }
    }
}

/// Makes the request that the redirect asks for, as browsers do.
fn redirect(request: &mut Request, status: StatusCode, target: Url) {
    let becomes_get = match status {
        StatusCode::SEE_OTHER => request.method != Method::HEAD,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => request.method == Method::POST,
        _ => false,
    };
    if becomes_get {
        request.method = Method::GET;
        request.body = None;
        request.headers.retain(|(name, _)| *name != CONTENT_TYPE && *name != CONTENT_ENCODING);
    }
    if target.origin() != request.url.origin() {
        // What identifies the task to one server is not for another.
        request.headers.retain(|(name, value)| !is_credential(name, value));
    }
    request.url = target;
}

#[cfg(test)]
mod tests {
    use super::*;
    use pool_protocol::worker::PublicAddresses;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

    fn fetch(client: &Client, url: &str) -> Result<Reply, HttpFailure> {
        let data = format!(r#"{{"url":"{url}"}}"#);
        client.perform(Request::new(&serde_json::from_str(&data).unwrap()).unwrap())
    }

    fn addresses(texts: &[&str]) -> io::Result<Vec<SocketAddr>> {
        Ok(texts.iter().map(|t| t.parse().unwrap()).collect())
    }

    fn client(rules: Rules, lookup: Lookup) -> Client {
        Client { rules, lookup, trust: Trust::new("").unwrap(), result_bytes: 1000 }
    }

    fn listing(public: PublicAddresses, entry: &str) -> HttpSetup {
        HttpSetup { public, allow: vec![entry.to_owned()], ..HttpSetup::default() }
    }

    #[test]
    fn where_public_addresses_are_denied_none_is_dialled_by_address_or_by_name() {
        let rules = Rules::new(&listing(PublicAddresses::Deny, "listed.example")).unwrap();
        let client = client(rules, |name, _| match name {
            "listed.example" => addresses(&["127.0.0.1:1"]),
            _ => addresses(&["8.8.8.8:80"]),
        });
        for url in [
            "http://8.8.8.8/",
            "http://0x08080808/",
            "http://[2606:4700::1]/",
            "http://other.example/",
            "http://listed.example/",
        ] {
            let failure = fetch(&client, url).unwrap_err();
            assert_eq!(failure.code, ErrorCode::UrlDenied, "{url}: {failure:?}");
        }
    }

    #[test]
    fn a_name_with_one_inner_address_is_never_dialled() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        static PORT: AtomicU16 = AtomicU16::new(0);
        PORT.store(listener.local_addr().unwrap().port(), Ordering::SeqCst);
        let client = client(Rules::default(), |_, _| {
            let inner = format!("127.0.0.1:{}", PORT.load(Ordering::SeqCst));
            addresses(&["8.8.8.8:80", &inner])
        });
        let failure = fetch(&client, "http://mixed.example/").unwrap_err();
        assert_eq!(failure.code, ErrorCode::UrlDenied, "{failure:?}");
        assert!(listener.accept().is_err());
    }

    #[test]
    fn a_name_is_looked_up_once_and_the_judged_answer_is_dialled() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        static PORT: AtomicU16 = AtomicU16::new(0);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        PORT.store(port, Ordering::SeqCst);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            }
        });
        // Allowed on the first question, the metadata service's on every later one.
        let rules = Rules::new(&listing(PublicAddresses::Allow, "127.0.0.1")).unwrap();
        let client = client(rules, |_, _| match ASKED.fetch_add(1, Ordering::SeqCst) {
            0 => addresses(&[&format!("127.0.0.1:{}", PORT.load(Ordering::SeqCst))]),
            _ => addresses(&["169.254.169.254:80"]),
        });
        assert_eq!(fetch(&client, "http://rebind.example/").unwrap().status, 200);
        assert_eq!(ASKED.load(Ordering::SeqCst), 1);
        assert_eq!(
            fetch(&client, "http://rebind.example/").unwrap_err().code,
            ErrorCode::UrlDenied
        );
    }
}
