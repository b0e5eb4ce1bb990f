//! `GET /api/events`: the pool's events as server-sent events, from a number on.
//!
//! The format is the WHATWG's: `id:`, `event:`, `data:` and an empty line. A client that comes back sends the last number it
//! saw as `Last-Event-ID` and misses nothing that is still kept.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use hyper::body::Frame as BodyFrame;
use pool_protocol::control::{ControlRequest, EventsStart};
use pool_protocol::frame::{Frame, Kind};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::link::Call;
use super::reply::{Refusal, reply_body, typed};
use super::routes::Gateway;

/// Event streams at once; the supervisor allows one client 256 subscriptions, and each holds a connection.
pub(super) const STREAMS: usize = 64;
/// Events put into one piece of the body.
const AT_ONCE: usize = 64;

type Answer = Result<Response, Refusal>;

/// Answers with a body that does not end.
pub(super) async fn stream(State(gateway): State<Gateway>, headers: HeaderMap) -> Answer {
    let since = last_event_id(&headers)?;
    let Ok(place) = Arc::clone(&gateway.streams).try_acquire_owned() else {
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("there are {STREAMS} event streams already"),
        ));
    };
    let mut call = gateway.link.subscribe(&ControlRequest::Events { since, follow: true }).await?;
    let start = reply_body(call.next().await?)?;
    let start: EventsStart = serde_json::from_slice(&start).map_err(Refusal::misunderstood)?;
    let mut keepalive = interval_at(Instant::now() + gateway.keepalive, gateway.keepalive);
    keepalive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let body = EventBody { call, keepalive, opening: Some(opening(&start)), _place: place };
    Ok(typed(StatusCode::OK, "text/event-stream", Body::new(body)))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    number.map(Some).ok_or_else(|| Refusal::bad_request("Last-Event-ID must be the number of an event"))
}

/// Comments, which clients skip: the first bytes, so that a client knows at once that it is connected.
fn opening(start: &EventsStart) -> Bytes {
    let lost = match start.lost {
        0 => String::new(),
        lost => format!(": {lost} events of those wanted are no longer kept\n"),
    };
    format!(": the newest event is {}\n{lost}\n", start.last).into()
}

/// The stream. Dropped with its connection, it ends the subscription.
struct EventBody {
    call: Call,
    keepalive: Interval,
    opening: Option<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl HttpBody for EventBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Self::Error>>> {
        if let Some(opening) = self.opening.take() {
            return Poll::Ready(Some(Ok(BodyFrame::data(opening))));
        }
        let mut piece = Vec::new();
        for _ in 0..AT_ONCE {
            match self.call.poll_next(cx) {
                Poll::Ready(Some(frame)) if frame.kind == Kind::Event => put_event(&mut piece, &frame),
                // The supervisor's end, or ours: too slow.
                Poll::Ready(_) if piece.is_empty() => return Poll::Ready(None),
                Poll::Ready(_) | Poll::Pending => break,
            }
        }
        if !piece.is_empty() {
            self.keepalive.reset();
            return Poll::Ready(Some(Ok(BodyFrame::data(piece.into()))));
        }
        match self.keepalive.poll_tick(cx) {
            Poll::Ready(_) => Poll::Ready(Some(Ok(BodyFrame::data(Bytes::from_static(b":\n\n"))))),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// What of an event the stream's own lines need.
#[derive(Deserialize)]
struct Numbered<'a> {
    seq: u64,
    #[serde(borrow)]
    event: Cow<'a, str>,
}

fn put_event(out: &mut Vec<u8>, frame: &Frame) {
    let Ok(Numbered { seq, event }) = serde_json::from_slice(&frame.body) else {
        tracing::error!("an event without number or name was not passed on");
        return;
    };
    out.extend_from_slice(format!("id: {seq}\nevent: {event}\n").as_bytes());
    for line in frame.body.split(|byte| *byte == b'\n') {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_its_number_its_name_and_its_json() {
        let mut out = Vec::new();
        let body = Bytes::from_static(br#"{"seq":7,"time":"t","event":"task-queued"}"#);
        put_event(&mut out, &Frame { kind: Kind::Event, id: 1, head: Bytes::new(), body });
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text, "id: 7\nevent: task-queued\ndata: {\"seq\":7,\"time\":\"t\",\"event\":\"task-queued\"}\n\n");
        let mut out = Vec::new();
        put_event(&mut out, &Frame { kind: Kind::Event, id: 1, head: Bytes::new(), body: Bytes::from_static(b"{}") });
        assert!(out.is_empty());
    }

    #[test]
    fn the_last_event_id_is_a_number() {
        let header = |value: &'static str| {
            let headers = HeaderMap::from_iter([("last-event-id".parse().expect("a name"), value.parse().unwrap())]);
            last_event_id(&headers)
        };
        assert_eq!(header("41"), Ok(Some(41)));
        assert!(header("x").is_err() && header("").is_err() && header("-1").is_err());
        assert_eq!(last_event_id(&HeaderMap::new()), Ok(None));
    }
}
