//! An HTTP task's fields, checked and made into a request.
//!
//! Decides what a task may say. What frames the message (`Host`, `Content-Length`, …) is not for
//! tasks to set, and no text reaches the wire that could end a line.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, Method, header};
use pool_protocol::task::{AcceptStatus, HttpData, InvalidTask};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

/// The default of `maxResponseBytes`.
const DEFAULT_RESPONSE_BYTES: u64 = 10 * 1024 * 1024;
/// The default of `maxRedirects`.
const DEFAULT_REDIRECTS: u32 = 5;
/// The most redirects a task may ask for.
const MAX_REDIRECTS: u32 = 50;
/// Headers a task may set.
const MAX_HEADERS: usize = 256;
/// A URL is no longer.
const MAX_URL_BYTES: usize = 16 * 1024;

/// Headers that say where a message goes and where it ends.
const FRAMING: [&str; 11] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "http2-settings",
    "via",
];

/// A request that may be sent, if its address is allowed.
#[derive(Debug)]
pub struct Request {
    /// Whole, without a fragment.
    pub url: Url,
    /// Not `CONNECT`, not `TRACE`.
    pub method: Method,
    /// None that frames the message.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The bytes that are sent.
    pub body: Option<Vec<u8>>,
    /// Nothing is followed when 0: then a redirect is a reply like any other.
    pub max_redirects: u32,
    /// Of the reply's body, once decompressed.
    pub max_response_bytes: u64,
    /// Which replies are results.
    pub accept: AcceptStatus,
}

/// Why there is no request.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadRequest {
    /// A field is wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidTask),
    /// A URL that is never fetched, whatever it resolves to.
    #[error("{0}")]
    Denied(String),
}

impl Request {
    /// Checks the fields.
    ///
    /// # Errors
    /// [`BadRequest`], naming the field.
    pub fn new(data: &HttpData<'_>) -> Result<Self, BadRequest> {
        let mut url = read_url("url", &data.url)?;
        if let Some(query) = data.query.as_ref().filter(|query| !query.is_empty()) {
            let mut pairs = url.query_pairs_mut();
            for (name, value) in query {
                for text in query_values(name, value)? {
                    pairs.append_pair(name, &text);
                }
            }
        }
        let mut headers = read_headers(data)?;
        let body = match data.body {
            Some(raw) => Some(read_body(raw.get(), &mut headers)?),
            None => None,
        };
        let max_redirects = data.max_redirects.unwrap_or(DEFAULT_REDIRECTS);
        if max_redirects > MAX_REDIRECTS {
            let problem = format!("must be at most {MAX_REDIRECTS}, not {max_redirects}");
            return Err(InvalidTask::new("maxRedirects", problem).into());
        }
        Ok(Self {
            url,
            method: read_method(data.method.as_deref().unwrap_or("GET"))?,
            headers,
            body,
            max_redirects,
            max_response_bytes: data.max_response_bytes.unwrap_or(DEFAULT_RESPONSE_BYTES),
            accept: data.accept_status.clone().unwrap_or_default(),
        })
    }
}

/// Reads a URL as the web does, so that every way to write an address is one.
pub(super) fn read_url(field: &str, text: &str) -> Result<Url, BadRequest> {
    if text.len() > MAX_URL_BYTES {
        return Err(
            InvalidTask::new(field, format!("must be at most {MAX_URL_BYTES} bytes long")).into()
        );
    }
    // The URL standard strips these, which would hide them.
    if text.chars().any(|c| c.is_control() || c == ' ') {
        return Err(
            InvalidTask::new(field, "must not hold spaces or control characters".into()).into()
        );
    }
    let url = Url::parse(text).map_err(|e| InvalidTask::new(field, format!("is no URL: {e}")))?;
    check_url(url)
}

/// Scheme, host and user of a URL that is to be fetched.
pub(super) fn check_url(mut url: Url) -> Result<Url, BadRequest> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(BadRequest::Denied(format!(
            "scheme {} is not allowed: only http and https are",
            url.scheme()
        )));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let problem = "a user in the URL is not allowed: set the header `authorization` instead";
        return Err(BadRequest::Denied(problem.into()));
    }
    url.set_fragment(None);
    Ok(url)
}

fn read_method(text: &str) -> Result<Method, BadRequest> {
    let bad = |problem: &str| {
        BadRequest::from(InvalidTask::new("method", format!("{problem}, not {text:?}")))
    };
    let method = Method::from_bytes(text.to_ascii_uppercase().as_bytes())
        .map_err(|_| bad("must be an HTTP method"))?;
    if method == Method::CONNECT || method == Method::TRACE {
        return Err(bad("must be a method for resources"));
    }
    Ok(method)
}

/// An array stands for one pair for each of its values.
fn query_values(name: &str, value: &Value) -> Result<Vec<String>, BadRequest> {
    let values = match value {
        Value::Array(values) => values.as_slice(),
        single => std::slice::from_ref(single),
    };
    let texts = values.iter().map(|value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            let problem = "must be a string, a number or a boolean, or an array of these";
            Err(InvalidTask::new(&format!("query.{name}"), problem.into()).into())
        }
    });
    texts.collect()
}

fn read_headers(data: &HttpData<'_>) -> Result<Vec<(HeaderName, HeaderValue)>, BadRequest> {
    let Some(given) = &data.headers else {
        return Ok(Vec::new());
    };
    if given.len() > MAX_HEADERS {
        return Err(InvalidTask::new(
            "headers",
            format!("must be at most {MAX_HEADERS}, not {}", given.len()),
        )
        .into());
    }
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::with_capacity(given.len());
    for (name, value) in given {
        let field = format!("headers.{}", name.escape_default());
        let bad = |problem: &str| BadRequest::from(InvalidTask::new(&field, problem.into()));
        let known =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("is no name of a header"))?;
        if FRAMING.contains(&known.as_str()) || known.as_str().starts_with("proxy-") {
            return Err(bad("is not for tasks to set"));
        }
        if headers.iter().any(|(other, _)| *other == known) {
            return Err(bad("is given twice, in upper and lower case"));
        }
        let value = HeaderValue::from_str(value)
            .map_err(|_| bad("must not hold line breaks or other control characters"))?;
        headers.push((known, value));
    }
    Ok(headers)
}

/// A string is sent as it is, `{base64}` as the bytes it stands for, anything else as JSON.
fn read_body(
    raw: &str,
    headers: &mut Vec<(HeaderName, HeaderValue)>,
) -> Result<Vec<u8>, BadRequest> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Bytes {
        base64: String,
    }
    if raw.starts_with('"') {
        let text: String = serde_json::from_str(raw)
            .map_err(|e| InvalidTask::new("body", format!("is no string: {e}")))?;
        return Ok(text.into_bytes());
    }
    if let Ok(Bytes { base64 }) = serde_json::from_str(raw) {
        return STANDARD
            .decode(base64)
            .map_err(|e| InvalidTask::new("body.base64", format!("is no base64: {e}")).into());
    }
    if !headers.iter().any(|(name, _)| *name == header::CONTENT_TYPE) {
        headers.push((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
    }
    Ok(raw.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Request, BadRequest> {
        Request::new(&serde_json::from_str(json).unwrap())
    }

    fn problem(json: &str) -> String {
        read(json).unwrap_err().to_string()
    }

    #[test]
    fn a_url_alone_is_a_get_request_with_the_defaults() {
        let request = read(r#"{"url":"http://example.org/a?b#c"}"#).unwrap();
        assert_eq!(request.url.as_str(), "http://example.org/a?b");
        assert_eq!((request.method, request.body), (Method::GET, None));
        assert_eq!((request.max_redirects, request.max_response_bytes), (5, 10 << 20));
    }

    #[test]
    fn every_way_to_write_an_address_is_that_address() {
        for (text, host) in [
            ("http://127.1/", "127.0.0.1"),
            ("http://0x7f000001/", "127.0.0.1"),
            ("http://2130706433/", "127.0.0.1"),
            ("http://0177.0.0.1/", "127.0.0.1"),
            ("http://[::ffff:169.254.169.254]/", "[::ffff:a9fe:a9fe]"),
            ("http://[::]/", "[::]"),
            ("http://EXAMPLE.org/", "example.org"),
        ] {
            assert_eq!(read_url("url", text).unwrap().host_str(), Some(host), "{text}");
        }
    }

    #[test]
    fn schemes_users_and_line_breaks_in_urls_are_refused() {
        for text in [
            "file:///etc/passwd",
            "unix:/run/x",
            "ftp://a/",
            "gopher://a/",
            "data:,x",
            "javascript:1",
        ] {
            assert!(matches!(read_url("url", text), Err(BadRequest::Denied(_))), "{text}");
        }
        for text in ["http://user@a/", "http://:secret@a/"] {
            assert!(matches!(read_url("url", text), Err(BadRequest::Denied(_))), "{text}");
        }
        for text in [
            "",
            "a",
            "http://",
            "http://a/\r\nX: y",
            "http://a\n/",
            "http://a/\t",
            " http://a/",
            "http://a:99999/",
        ] {
            assert!(matches!(read_url("url", text), Err(BadRequest::Invalid(_))), "{text:?}");
        }
    }

    #[test]
    fn queries_are_appended_and_escaped() {
        let request =
            read(r#"{"url":"http://a/?x=1","query":{"q":"a b&c=d\r\n","n":1.5,"t":true}}"#)
                .unwrap();
        assert_eq!(request.url.query(), Some("x=1&n=1.5&q=a+b%26c%3Dd%0D%0A&t=true"));
        let request = read(r#"{"url":"http://a/","query":{"q":["a b",1,false],"z":[]}}"#).unwrap();
        assert_eq!(request.url.query(), Some("q=a+b&q=1&q=false"));
        for value in ["null", "{}", "[[1]]", "[null]"] {
            let json = format!(r#"{{"url":"http://a/","query":{{"q":{value}}}}}"#);
            assert!(problem(&json).contains("query.q"), "{value}");
        }
    }

    #[test]
    fn headers_that_frame_the_message_or_break_it_are_refused_by_name() {
        for name in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "CONNECTION",
            "Upgrade",
            "Proxy-Authorization",
            "TE",
            "Trailer",
            "Expect",
        ] {
            let json = format!(r#"{{"url":"http://a/","headers":{{"{name}":"x"}}}}"#);
            let text = problem(&json);
            assert!(
                text.contains(&format!("headers.{name}")) && text.contains("not for tasks"),
                "{text}"
            );
        }
        for json in [
            r#"{"url":"http://a/","headers":{"x":"a\r\nHost: b"}}"#,
            r#"{"url":"http://a/","headers":{"x\r\nHost":"b"}}"#,
            r#"{"url":"http://a/","headers":{"x y":"b"}}"#,
            r#"{"url":"http://a/","headers":{"":"b"}}"#,
            r#"{"url":"http://a/","headers":{"x":"a\u0000"}}"#,
            r#"{"url":"http://a/","headers":{"x":"1","X":"2"}}"#,
        ] {
            assert!(problem(json).contains("headers."), "{json}");
        }
    }

    #[test]
    fn bodies_are_text_bytes_or_json() {
        let body = |body: &str| {
            read(&format!(r#"{{"url":"http://a/","method":"post","body":{body}}}"#)).unwrap()
        };
        let text = body(r#""a\n\u00e4""#);
        assert_eq!((text.body.as_deref(), text.headers.len()), (Some("a\nä".as_bytes()), 0));
        assert_eq!(text.method, Method::POST);
        assert_eq!(body(r#"{"base64":"AAH/"}"#).body.unwrap(), [0, 1, 255]);
        let json = body(r#"{"base64":"AAH/","more":1}"#);
        assert_eq!(json.body.unwrap(), br#"{"base64":"AAH/","more":1}"#);
        assert_eq!(json.headers[0].1, "application/json");
        assert!(problem(r#"{"url":"http://a/","body":{"base64":"%"}}"#).contains("body.base64"));
    }

    #[test]
    fn methods_and_redirects_have_bounds() {
        for method in ["CONNECT", "trace", "A B", ""] {
            let text = problem(&format!(r#"{{"url":"http://a/","method":"{method}"}}"#));
            assert!(text.contains("`method`"), "{text}");
        }
        assert!(problem(r#"{"url":"http://a/","maxRedirects":51}"#).contains("maxRedirects"));
    }
}
