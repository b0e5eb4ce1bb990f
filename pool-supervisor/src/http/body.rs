//! Request bodies: bounded in size, in time and in number, and strict JSON.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::reply::Refusal;

/// Bytes of bodies that are held at once, whatever the number of connections; at least four of the largest fit.
const ALL_BODIES: usize = 64 * 1024 * 1024;
/// What one permit stands for.
const UNIT: usize = 1024;
/// Reserved before the first byte has come; the rest grows with what comes.
const FIRST_BYTES: usize = 64 * 1024;

/// The rules for bodies.
#[derive(Clone, Debug)]
pub(super) struct Bodies {
    largest: usize,
    time: Duration,
    room: Arc<Semaphore>,
}

/// A whole body, with its place among all bodies.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Bodies {
    pub(super) fn new(largest: usize, time: Duration) -> Self {
        let room = ALL_BODIES.max(largest.saturating_mul(4)) / UNIT;
        Self { largest, time, room: Arc::new(Semaphore::new(room)) }
    }

    /// For a request's body, and for a task's: the supervisor parts with a client that sends it a larger one.
    pub(super) fn check_size(&self, bytes: usize) -> Result<(), Refusal> {
        if bytes <= self.largest {
            return Ok(());
        }
        let error = format!("the body is over {} bytes (limits.bodyBytes)", self.largest);
        Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error))
    }

    /// Reads a request's body.
    pub(super) async fn read(&self, request: Request) -> Result<Whole, Refusal> {
        let announced = announced(&request)?;
        self.check_size(announced)?;
        let units = u32::try_from(announced / UNIT + 1).expect("bounded by the largest body");
        let waiting = timeout(self.time, Arc::clone(&self.room).acquire_many_owned(units)).await;
        let Ok(Ok(room)) = waiting else {
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many large requests at once; try again"));
        };
        match timeout(self.time, collect(request.into_body(), announced)).await {
            Ok(bytes) => Ok(Whole { bytes: bytes?, _room: room }),
            Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body took too long to come")),
        }
    }
}

/// hyper has checked that it is one number, and ends the body there.
fn announced(request: &Request) -> Result<usize, Refusal> {
    let Some(value) = request.headers().get(CONTENT_LENGTH) else { return Ok(0) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.ok_or_else(|| Refusal::bad_request("Content-Length is no number"))
}

async fn collect(mut body: Body, announced: usize) -> Result<Bytes, Refusal> {
    let mut bytes = BytesMut::with_capacity(announced.min(FIRST_BYTES));
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|e| Refusal::bad_request(format!("the body broke off: {e}")))?;
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// Checks that the body is one JSON value that means the same to everyone: UTF-8, no key given twice at any depth, every
/// number one that can be held, at most 127 levels.
///
/// Task parsing passes arguments and context on unread, so that it would not see any of this.
pub(super) fn check_json(body: &[u8]) -> Result<(), Refusal> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let checked = serde_path_to_error::deserialize::<_, Strict>(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        match error.inner().to_string() {
            problem if path == "." => problem,
            problem => format!("at {path}: {problem}"),
        }
    });
    checked
        .and_then(|_| reader.end().map_err(|e| e.to_string()))
        .map_err(|problem| Refusal::bad_request(format!("the body is no sound JSON: {problem}")))
}

/// Any JSON value; only looked at.
struct Strict;

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

/// A key, borrowed unless it is escaped. Asked for as a string directly, so that the path of an error can name it.
#[derive(PartialEq, Eq, Hash)]
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }
            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Strict)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Strict, E> {
        Ok(Strict)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Strict, E> {
        Ok(Strict)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Strict, E> {
        Ok(Strict)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Strict, E> {
        Ok(Strict)
    }
    fn visit_str<E>(self, _: &str) -> Result<Strict, E> {
        Ok(Strict)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
        while items.next_element::<Strict>()?.is_some() {}
        Ok(Strict)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Strict, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<Key<'de>>()? {
            if seen.contains(&key) {
                return Err(de::Error::custom(format_args!("the key {:?} is given twice", key.0)));
            }
            entries.next_value::<Strict>()?;
            seen.insert(key);
        }
        Ok(Strict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_that_could_be_read_in_two_ways_is_refused() {
        for sound in ["{}", " [1, 2.5, -3, null, true, \"\\u0041\"] ", r#"{"a":{"b":[{"c":1}]},"b":1}"#] {
            assert_eq!(check_json(sound.as_bytes()), Ok(()), "{sound}");
        }
        for (body, problem) in [
            (&b""[..], "EOF"),
            (b"{\"a\":1", "EOF"),
            (b"{} {}", "trailing characters"),
            (b"\xff", "expected value"),
            (b"\"\xff\"", "invalid unicode"),
            (br#"{"a":1,"a":2}"#, r#"the key "a" is given twice"#),
            (br#"{"a":1,"\u0061":2}"#, r#"the key "a" is given twice"#),
            (br#"[{"x":{"a":1,"a":2}}]"#, "at [0].x"),
            (b"[1e400]", "number out of range"),
            (b"[NaN]", "expected value"),
        ] {
            let refusal = check_json(body).expect_err("unsound");
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
            assert!(refusal.error.contains(problem), "{problem}: {}", refusal.error);
        }
    }

    #[test]
    fn json_100_000_deep_is_refused_without_taking_the_stack() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
            let refusal = check_json(deep.as_bytes()).expect_err("too deep");
            assert!(refusal.error.contains("recursion limit"), "{}", refusal.error);
        }
    }
}
