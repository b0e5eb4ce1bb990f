//! An HTTP client that sends what it is told, one request a connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use crate::wait::DEADLINE;

/// Where the API is, and its key.
#[derive(Clone, Debug)]
pub struct Api {
    /// `127.0.0.1:PORT`
    pub address: String,
    /// What the key file holds.
    pub key: String,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status; 0 when the connection was closed without one.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body's text.
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

impl Api {
    /// A request with the key and the right host.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.with(
            method,
            path,
            &[("X-API-Key", &self.key)],
            body.map(ToString::to_string).as_deref(),
        )
    }

    /// A request with these headers besides `Host` (unless it is among them), `Connection` and the
    /// body's length.
    pub fn with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Answer {
        self.bytes(request(&self.address, method, path, headers, body).as_bytes())
    }

    /// Exactly these bytes.
    ///
    /// # Panics
    /// When nobody listens, or nothing is answered in time.
    pub fn bytes(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.address).expect("the API listens");
        stream.set_read_timeout(Some(2 * DEADLINE)).expect("a time over zero");
        // The server may answer and close before it has read all.
        let _ = stream.write_all(bytes);
        answer(stream)
    }

    /// Opens the stream of server-sent events; each call of the result waits for the next one.
    ///
    /// # Panics
    /// When the stream ends or stays silent too long.
    pub fn event_stream(
        &self,
        last_event_id: Option<&str>,
    ) -> impl FnMut() -> (String, Value) + use<> {
        let mut headers = vec![("X-API-Key", self.key.as_str()), ("Accept", "text/event-stream")];
        headers.extend(last_event_id.map(|id| ("Last-Event-ID", id)));
        let mut stream = TcpStream::connect(&self.address).expect("the API listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time over zero");
        stream
            .write_all(request(&self.address, "GET", "/api/events", &headers, None).as_bytes())
            .expect("it reads");
        let mut lines = BufReader::new(stream).lines();
        move || {
            let (mut id, mut data) = (String::new(), String::new());
            loop {
                // Chunk sizes stand between; they are no field of an event.
                let line = lines.next().expect("the stream goes on").expect("the stream goes on");
                if let Some(text) = line.strip_prefix("id:") {
                    text.trim().clone_into(&mut id);
                } else if let Some(text) = line.strip_prefix("data:") {
                    data.push_str(text.trim());
                } else if line.is_empty() && !data.is_empty() {
                    return (id, serde_json::from_str(&data).expect("an event is JSON"));
                }
            }
        }
    }
}

/// The same over a Unix socket.
///
/// # Panics
/// When nobody listens.
pub fn over_unix(socket: &Path, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut stream = UnixStream::connect(socket).expect("the API listens on its socket");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time over zero");
    let _ = stream.write_all(request("localhost", method, path, headers, None).as_bytes());
    answer(stream)
}

fn request(
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text.push_str(&format!("Host: {host}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        text.push_str(&format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    } else {
        text.push_str("\r\n");
    }
    text
}

fn answer(mut stream: impl Read) -> Answer {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(e) => panic!("no answer: {e}, after {:?}", String::from_utf8_lossy(&bytes)),
    }
    let text = String::from_utf8_lossy(&bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Answer { status: 0, headers: Vec::new(), text: text.into_owned() };
    };
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|l| l.split(' ').nth(1))
        .and_then(|s| s.parse().ok())
        .expect("a status line");
    let headers: Vec<(String, String)> = lines
        .filter_map(|l| l.split_once(':'))
        .map(|(n, v)| (n.trim().to_lowercase(), v.trim().to_owned()))
        .collect();
    let chunked = headers.iter().any(|(n, v)| n == "transfer-encoding" && v == "chunked");
    Answer { status, headers, text: if chunked { unchunked(body) } else { body.to_owned() } }
}

fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
        if size == 0 {
            break;
        }
        text.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    text
}
