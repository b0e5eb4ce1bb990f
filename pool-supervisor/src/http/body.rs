//! Request bodies: bounded in size, in time and in number.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};
use pool_protocol::outcome::ErrorCode;
use pool_protocol::task::Task;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::reply::Refusal;
use crate::client::TooLong;

/// Bytes of bodies that are held at once, whatever the number of connections; at least four of the
/// largest fit.
const ALL_BODIES: usize = 64 * 1024 * 1024;
/// What one permit stands for.
const UNIT: usize = 1024;
/// Reserved before the first byte has come; the rest grows with what comes. A body whose length is
/// not announced takes room for so much at first.
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

    /// The supervisor parts with a client that sends it a task with a larger body.
    pub(super) fn check_task(&self, task: &Task) -> Result<(), Refusal> {
        let (len, max) = (task.body.len(), self.largest);
        if len <= max {
            return Ok(());
        }
        let error = format!("the task {}", TooLong { len, max });
        let refusal = Refusal::of_task(ErrorCode::InvalidTask, error).with_tag(task.tag.clone());
        Err(Refusal { status: StatusCode::PAYLOAD_TOO_LARGE, ..refusal })
    }

    /// Reads a request's body.
    pub(super) async fn read(&self, request: Request) -> Result<Whole, Refusal> {
        check_coding(request.headers())?;
        let announced = announced(request.headers())?;
        if announced.is_some_and(|bytes| bytes > self.largest) {
            return Err(self.too_large());
        }
        let first = announced.unwrap_or(FIRST_BYTES.min(self.largest));
        let mut room = self.room_for(first).await?;
        let mut bytes = BytesMut::with_capacity(first.min(FIRST_BYTES));
        let mut body = request.into_body();
        let mut has_ended = self.collect(&mut body, &mut bytes, first).await?;
        if !has_ended {
            // INVARIANT: whoever waits here holds little, and all of those together leave room for
            // the largest body. So they do not wait for each other.
            room.merge(self.room_for(self.largest - first).await?);
            has_ended = self.collect(&mut body, &mut bytes, self.largest).await?;
        }
        if !has_ended {
            return Err(self.too_large());
        }
        Ok(Whole { bytes: bytes.freeze(), _room: room })
    }

    fn too_large(&self) -> Refusal {
        let error = format!("the body is over {} bytes (limits.bodyBytes)", self.largest);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error)
    }

    async fn room_for(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let units = u32::try_from(bytes / UNIT + 1).expect("bounded by the largest body");
        match timeout(self.time, Arc::clone(&self.room).acquire_many_owned(units)).await {
            Ok(Ok(room)) => Ok(room),
            _ => Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many large requests at once; try again",
            )),
        }
    }

    /// Reads on to the body's end, or until there are more than so many bytes. Whether it was the
    /// end.
    async fn collect(
        &self,
        body: &mut Body,
        bytes: &mut BytesMut,
        most: usize,
    ) -> Result<bool, Refusal> {
        let collecting = async {
            while bytes.len() <= most {
                let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await else {
                    return Ok(true);
                };
                let frame =
                    frame.map_err(|e| Refusal::bad_request(format!("the body broke off: {e}")))?;
                if let Ok(data) = frame.into_data() {
                    bytes.extend_from_slice(&data);
                }
            }
            Ok(false)
        };
        let late =
            |_| Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body took too long to come"));
        timeout(self.time, collecting).await.unwrap_or_else(late)
    }
}

/// How long the body is, unless it comes in chunks. hyper has checked that a length is one number,
/// and ends the body there.
fn announced(headers: &HeaderMap) -> Result<Option<usize>, Refusal> {
    if headers.contains_key(TRANSFER_ENCODING) {
        return Ok(None);
    }
    let Some(value) = headers.get(CONTENT_LENGTH) else { return Ok(Some(0)) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| Refusal::bad_request("Content-Length is no number"))
}

/// RFC 9110, section 15.5.16: a body in a coding that is not undone here is not looked at.
fn check_coding(headers: &HeaderMap) -> Result<(), Refusal> {
    let values = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .map(|value| value.to_str().unwrap_or("an unknown one"));
    let mut codings = values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|coding| !coding.is_empty());
    match codings.find(|coding| !coding.eq_ignore_ascii_case("identity")) {
        None => Ok(()),
        Some(coding) => Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!(
                "send the body as it is: the coding {coding:?} of Content-Encoding is not undone \
                 here"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_body_as_it_is_is_taken() {
        let judged = |values: &[&'static str]| {
            let headers =
                values.iter().map(|value| (CONTENT_ENCODING, value.parse().expect("a value")));
            check_coding(&headers.collect()).map_err(|refusal| refusal.status.as_u16())
        };
        for taken in [&[][..], &[""], &["identity"], &["Identity, identity"]] {
            assert_eq!(judged(taken), Ok(()), "{taken:?}");
        }
        for coded in
            [&["gzip"][..], &["x-gzip"], &["identity, br"], &["identity", "zstd"], &["GZIP"]]
        {
            assert_eq!(judged(coded), Err(415), "{coded:?}");
        }
    }
}
