//! `GET /api/events`: the pool's events as server-sent events, from a number on.
//!
//! The format is the WHATWG's: `id:`, `event:`, `data:` and an empty line. A client that comes back
//! sends the last number it saw as `Last-Event-ID` and misses nothing that is still kept.
//!
//! The supervisor sends faster than most clients read, and the connection to it is everybody's: so
//! a stream holds a bounded number of events. When more come its call ends ([`super::link`]), and
//! once it has been read out the stream asks for what comes after the last event that it has passed
//! on.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use hyper::body::Frame as BodyFrame;
use pool_protocol::control::{ControlRequest, EventJson, EventsStart};
use pool_protocol::frame::{Frame, Kind};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::link::{Call, Link};
use super::reply::{Refusal, reply_body, typed};
use super::routes::Gateway;

/// Event streams at once; the supervisor allows one client 256 subscriptions, and each holds a
/// connection.
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
    let link = gateway.link.clone();
    let (mut call, mut start) = subscribe(link.clone(), since).await?;
    let mut opening = opening(&start);
    let mut seen = last_seen(since, &start);
    if start.lost > 0 && since != Some(0) {
        put_gap(&mut opening, seen, &no_longer_kept(start.lost));
    }
    if let Some(number) = since.filter(|number| *number > start.last) {
        // That number is of an earlier start of the supervisor: all that is kept is new to this
        // client.
        (call, start) = subscribe(link.clone(), Some(0)).await?;
        seen = last_seen(Some(0), &start);
        let error = format!(
            "the supervisor has started anew since event {number}; its numbers begin again"
        );
        put_gap(&mut opening, seen, &error);
    }
    let mut keepalive = interval_at(Instant::now() + gateway.keepalive, gateway.keepalive);
    keepalive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let state = Listening::To(call);
    let body =
        EventBody { link, state, seen, keepalive, opening: Some(opening.into()), _place: place };
    Ok(typed(StatusCode::OK, "text/event-stream", Body::new(body)))
}

async fn subscribe(link: Link, since: Option<u64>) -> Result<(Call, EventsStart), Refusal> {
    let mut call = link.subscribe(&ControlRequest::Events { since, follow: true }).await?;
    let start = reply_body(call.next().await?)?;
    Ok((call, serde_json::from_slice(&start).map_err(Refusal::misunderstood)?))
}

/// The number after which a subscription begins.
fn last_seen(since: Option<u64>, start: &EventsStart) -> u64 {
    since.map_or(start.last, |number| number.min(start.last)) + start.lost
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    number
        .map(Some)
        .ok_or_else(|| Refusal::bad_request("Last-Event-ID must be the number of an event"))
}

/// Comments, which clients skip: the first bytes, so that a client knows at once that it is
/// connected.
fn opening(start: &EventsStart) -> Vec<u8> {
    let lost = match start.lost {
        0 => String::new(),
        lost => format!(": {lost} events of those wanted are no longer kept\n"),
    };
    format!(": the newest event is {}\n{lost}\n", start.last).into()
}

type Asking = Pin<Box<dyn Future<Output = Result<(Call, EventsStart), Refusal>> + Send>>;

/// What a stream waits for.
enum Listening {
    /// Events.
    To(Call),
    /// The call that the next events come by.
    Again(Asking),
}

/// The stream. Dropped with its connection, it ends the subscription.
struct EventBody {
    link: Link,
    state: Listening,
    /// The number of the last event that was passed on.
    seen: u64,
    keepalive: Interval,
    opening: Option<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl EventBody {
    /// Events that are here. Nothing at the end of the call.
    fn gather(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        let Listening::To(call) = &mut self.state else { return Poll::Pending };
        let mut piece = Vec::new();
        for _ in 0..AT_ONCE {
            match call.poll_next(cx) {
                Poll::Ready(Some(frame)) if frame.kind == Kind::Event => {
                    self.seen = put_event(&mut piece, &frame).unwrap_or(self.seen);
                }
                Poll::Ready(_) if piece.is_empty() => return Poll::Ready(None),
                Poll::Ready(_) | Poll::Pending => break,
            }
        }
        if piece.is_empty() { Poll::Pending } else { Poll::Ready(Some(piece)) }
    }

    /// The next piece; nothing when the supervisor is gone.
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        loop {
            match &mut self.state {
                Listening::To(_) => match self.gather(cx) {
                    Poll::Ready(None) => {
                        self.state = Listening::Again(Box::pin(subscribe(
                            self.link.clone(),
                            Some(self.seen),
                        )));
                    }
                    piece => return piece,
                },
                Listening::Again(asking) => match asking.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(_)) => return Poll::Ready(None),
                    Poll::Ready(Ok((call, start))) => {
                        self.state = Listening::To(call);
                        self.seen += start.lost;
                        if start.lost > 0 {
                            let mut piece = Vec::new();
                            put_gap(&mut piece, self.seen, &no_longer_kept(start.lost));
                            return Poll::Ready(Some(piece));
                        }
                    }
                },
            }
        }
    }
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
        match self.next(cx) {
            Poll::Ready(Some(piece)) => {
                self.keepalive.reset();
                Poll::Ready(Some(Ok(BodyFrame::data(piece.into()))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match self.keepalive.poll_tick(cx) {
                Poll::Ready(_) => {
                    Poll::Ready(Some(Ok(BodyFrame::data(Bytes::from_static(b":\n\n")))))
                }
                Poll::Pending => Poll::Pending,
            },
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

/// The event's number, if it was one.
fn put_event(out: &mut Vec<u8>, frame: &Frame) -> Option<u64> {
    let Ok(Numbered { seq, event }) = serde_json::from_slice(&frame.body) else {
        tracing::error!("an event without number or name was not passed on");
        return None;
    };
    put(out, seq, &event, &frame.body);
    Some(seq)
}

/// Stands for events that this client does not get; `seq` is the number of the last of them.
fn put_gap(out: &mut Vec<u8>, seq: u64, error: &str) {
    let time = jiff::Timestamp::from_millisecond(crate::client::now_ms()).unwrap_or_default();
    let time = format!("{time:.3}");
    let event = "events-lost";
    let gap = EventJson {
        seq,
        time: &time,
        event,
        error: Some(error.to_owned()),
        ..EventJson::default()
    };
    put(out, seq, event, &serde_json::to_vec(&gap).expect("strings and numbers serialise"));
}

fn no_longer_kept(lost: u64) -> String {
    format!("{lost} events were no longer kept when it was their turn")
}

fn put(out: &mut Vec<u8>, seq: u64, event: &str, json: &[u8]) {
    out.extend_from_slice(format!("id: {seq}\nevent: {event}\n").as_bytes());
    for line in json.split(|byte| *byte == b'\n') {
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
        assert_eq!(
            text,
            "id: 7\nevent: task-queued\ndata: \
             {\"seq\":7,\"time\":\"t\",\"event\":\"task-queued\"}\n\n"
        );
        let mut out = Vec::new();
        put_event(
            &mut out,
            &Frame {
                kind: Kind::Event,
                id: 1,
                head: Bytes::new(),
                body: Bytes::from_static(b"{}"),
            },
        );
        assert!(out.is_empty());
    }

    #[test]
    fn a_subscription_begins_after_what_was_asked_for_and_after_what_is_lost() {
        let start = EventsStart { last: 9, lost: 0 };
        assert_eq!(
            [None, Some(0), Some(4), Some(40)].map(|since| last_seen(since, &start)),
            [9, 0, 4, 9]
        );
        assert_eq!(last_seen(Some(4), &EventsStart { last: 9, lost: 2 }), 6);
    }

    #[test]
    fn a_gap_is_an_event_of_its_own() {
        let mut out = Vec::new();
        put_gap(&mut out, 12, "3 events were no longer kept");
        let text = String::from_utf8(out).expect("text");
        let json = text.strip_prefix("id: 12\nevent: events-lost\ndata: ").expect(&text).trim_end();
        let event: EventJson<'_> = serde_json::from_str(json).expect("an event");
        assert_eq!((event.seq, event.error.as_deref()), (12, Some("3 events were no longer kept")));
    }

    #[test]
    fn the_last_event_id_is_a_number() {
        let header = |value: &'static str| {
            let headers = HeaderMap::from_iter([(
                "last-event-id".parse().expect("a name"),
                value.parse().unwrap(),
            )]);
            last_event_id(&headers)
        };
        assert_eq!(header("41"), Ok(Some(41)));
        assert!(header("x").is_err() && header("").is_err() && header("-1").is_err());
        assert_eq!(last_event_id(&HeaderMap::new()), Ok(None));
    }
}
