//! `http-request`: one exchange, its redirects followed by hand, every address judged before it is dialled.
//!
//! Owns the HTTP client. Decides where a request may go and which reply is a result. Must not know the wire to the
//! supervisor; how long it takes is the watch's business, who abandons the exchange with the whole process.

mod reply;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use pool_protocol::limits::MAX_ERROR_BYTES;
use pool_protocol::outcome::ErrorCode;
use pool_protocol::task::AcceptStatus;
use pool_protocol::worker::HttpSetup;
use pool_worker_core::http::{BadRedirect, Denied, Rules, is_credential, literal_address, redirect_target};
use serde::Serialize;
use ureq::http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use ureq::http::{Method, Response, StatusCode, Uri};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body};
use url::Url;

pub(crate) use pool_worker_core::http::{BadRequest, BadRule, Request};
pub(crate) use reply::Reply;

use reply::{Capped, Data, Headers, read_capped};

/// The body of a reply that is not accepted, as the error shows it.
const ERROR_DATA_BYTES: u64 = 8 * 1024;
/// Addresses of one name that are tried: as many as the client's list holds.
const MAX_ADDRESSES: usize = 16;

/// Why there is no result.
#[derive(Debug, Serialize)]
pub(crate) struct HttpFailure {
    #[serde(skip)]
    pub(crate) code: ErrorCode,
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
        Self { code, message, status: None, headers: None, data: None }
    }

    /// With what the server answered, as much of it as an error may hold.
    fn replied(self, status: StatusCode, headers: Headers, data: Option<Data>) -> Self {
        let mut failure = Self { status: Some(status.as_u16()), headers: Some(headers), data, ..self };
        let fits = |failure: &Self| serde_json::to_vec(failure).is_ok_and(|json| json.len() <= MAX_ERROR_BYTES);
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

/// The process's HTTP client. It keeps no connection: the next task's name may resolve to another address.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    /// No body is read beyond this.
    result_bytes: u64,
}

/// How names become addresses: the system's resolver, or a test's.
type Lookup = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

fn system_lookup(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((name, port).to_socket_addrs()?.collect())
}

/// Resolves, judges, and gives the client exactly the addresses that were judged.
#[derive(Debug)]
struct JudgingResolver {
    rules: Rules,
    lookup: Lookup,
}

impl Resolver for JudgingResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &ureq::config::Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let addresses = match literal_address(host) {
            Some(ip) => vec![SocketAddr::new(ip, port)],
            None => (self.lookup)(host, port)?,
        };
        self.rules.judge(host, &addresses).map_err(|denied| ureq::Error::Other(Box::new(denied)))?;
        if addresses.is_empty() {
            return Err(ureq::Error::HostNotFound);
        }
        let mut resolved = self.empty();
        for address in addresses.into_iter().take(MAX_ADDRESSES) {
            resolved.push(address);
        }
        Ok(resolved)
    }
}

impl Client {
    /// A client that reaches what the settings open. Results are no longer than `result_bytes`.
    pub(crate) fn new(setup: &HttpSetup, result_bytes: u64) -> Result<Self, BadRule> {
        Ok(Self::with_lookup(Rules::new(setup)?, result_bytes, system_lookup))
    }

    fn with_lookup(rules: Rules, result_bytes: u64, lookup: Lookup) -> Self {
        let config = Agent::config_builder()
            // Whoever sets the environment must not decide where requests go.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_idle_connections(0)
            .max_idle_connections_per_host(0)
            .user_agent(concat!("process-pool/", env!("CARGO_PKG_VERSION")))
            .build();
        let resolver = JudgingResolver { rules, lookup };
        Self { agent: Agent::with_parts(config, DefaultConnector::default(), resolver), result_bytes }
    }

    /// Sends the request and follows where it leads.
    pub(crate) fn perform(&self, mut request: Request) -> Result<Reply, HttpFailure> {
        let mut followed = 0;
        loop {
            let response = self.exchange(&request)?;
            let follow = request.max_redirects > 0;
            let target = if follow { redirection(&request, &response)? } else { None };
            let Some(target) = target else {
                return self.judge(&request, response);
            };
            if followed == request.max_redirects {
                let message = format!("too many redirects: {followed} were followed, the last to {}", request.url);
                return Err(HttpFailure::new(ErrorCode::HttpError, message));
            }
            followed += 1;
            redirect(&mut request, response.status(), target);
        }
    }

    fn exchange(&self, request: &Request) -> Result<Response<Body>, HttpFailure> {
        let mut builder = ureq::http::Request::builder().method(&request.method).uri(request.url.as_str());
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let message = builder
            .body(())
            .map_err(|e| HttpFailure::new(ErrorCode::InvalidTask, format!("field `url` is no URL for HTTP: {e}")))?;
        let result = match &request.body {
            Some(bytes) => self.agent.run(message.map(|()| bytes.as_slice())),
            None => self.agent.run(message),
        };
        result.map_err(|error| failed_exchange(&request.url, error))
    }

    /// Reads the reply and decides whether it is the result.
    fn judge(&self, request: &Request, response: Response<Body>) -> Result<Reply, HttpFailure> {
        let (parts, body) = response.into_parts();
        let headers = reply::headers(&parts.headers);
        let accepted = match request.accept {
            AcceptStatus::Success => parts.status.is_success(),
            AcceptStatus::Any => true,
        };
        if !accepted {
            let message = format!("the server answered {}", parts.status);
            // What was read before the connection broke is better than nothing.
            let data = read_capped(body.into_reader(), ERROR_DATA_BYTES).ok().map(|read| match read {
                Capped::Whole(bytes) | Capped::More(bytes) => reply::data(&parts.headers, bytes),
            });
            return Err(HttpFailure::new(ErrorCode::HttpStatus, message).replied(parts.status, headers, data));
        }
        let max = request.max_response_bytes.min(self.result_bytes);
        match read_capped(body.into_reader(), max) {
            Ok(Capped::Whole(bytes)) => {
                Ok(Reply { status: parts.status.as_u16(), headers, data: reply::data(&parts.headers, bytes) })
            }
            Ok(Capped::More(_)) => {
                let limit = if max == request.max_response_bytes { "maxResponseBytes" } else { "limits.resultBytes" };
                let message = format!("the reply is longer than {max} bytes once decompressed (`{limit}`)");
                Err(HttpFailure::new(ErrorCode::OutputLimit, message).replied(parts.status, headers, None))
            }
            Err(error) => {
                let message = format!("the reply of {} broke off: {error}", request.url);
                Err(HttpFailure::new(ErrorCode::HttpError, message).replied(parts.status, headers, None))
            }
        }
    }
}

fn failed_exchange(url: &Url, error: ureq::Error) -> HttpFailure {
    match error {
        ureq::Error::Other(inner) if inner.is::<Denied>() => HttpFailure::new(ErrorCode::UrlDenied, inner.to_string()),
        other => HttpFailure::new(ErrorCode::HttpError, format!("no reply from {url}: {other}")),
    }
}

/// Where a reply sends the request, if anywhere.
fn redirection(request: &Request, response: &Response<Body>) -> Result<Option<Url>, HttpFailure> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = response.headers().get(LOCATION) else {
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

    fn listing(public: PublicAddresses, entry: &str) -> HttpSetup {
        HttpSetup { public, allow: vec![entry.to_owned()] }
    }

    #[test]
    fn where_public_addresses_are_denied_none_is_dialled_by_address_or_by_name() {
        let rules = Rules::new(&listing(PublicAddresses::Deny, "listed.example")).unwrap();
        let client = Client::with_lookup(rules, 1000, |name, _| match name {
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
        let client = Client::with_lookup(Rules::default(), 1000, |_, _| {
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
        let client = Client::with_lookup(rules, 1000, |_, _| match ASKED.fetch_add(1, Ordering::SeqCst) {
            0 => addresses(&[&format!("127.0.0.1:{}", PORT.load(Ordering::SeqCst))]),
            _ => addresses(&["169.254.169.254:80"]),
        });
        assert_eq!(fetch(&client, "http://rebind.example/").unwrap().status, 200);
        assert_eq!(ASKED.load(Ordering::SeqCst), 1);
        assert_eq!(fetch(&client, "http://rebind.example/").unwrap_err().code, ErrorCode::UrlDenied);
    }

    #[test]
    fn a_proxy_in_the_environment_is_not_asked() {
        let client = Client::with_lookup(Rules::default(), 1000, |_, _| addresses(&[]));
        assert!(client.agent.config().proxy().is_none());
        assert_eq!(fetch(&client, "http://nowhere.example/").unwrap_err().code, ErrorCode::HttpError);
    }
}
