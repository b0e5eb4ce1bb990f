//! The one connection to the supervisor, shared by all HTTP requests.
//!
//! The API is a client of the control protocol like any other. One task, the pump, owns the
//! connection; each HTTP request holds a [`Call`], to which the pump hands the frames that carry
//! its number. The pump never waits for an HTTP client: one that does not take its frames loses its
//! call, so that the supervisor's outbox to us never fills.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use pool_protocol::control::{ControlRequest, HelloHead};
use pool_protocol::frame::{self, Frame, FrameError, FrameLimits, Kind, Taken};
use pool_protocol::id::TaskId;
use pool_protocol::limits::MAX_BODY_BYTES;
use pool_protocol::task::{OnDisconnect, Task};
use pool_protocol::version;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};

/// Orders that wait for the pump.
const ORDERS: usize = 64;
/// Bytes that wait for the supervisor, above which no more orders are taken.
const OUT_BYTES: usize = 1024 * 1024;
/// Frames that wait for a request: an answer, and what the supervisor says to a wait that is taken
/// back.
const FRAMES_OF_REQUEST: usize = 2;
/// Events that wait for a subscriber; with one more its call ends, and it asks again from where it
/// is.
const FRAMES_OF_SUBSCRIPTION: usize = 1024;
/// What an administrative request may take. The owner thread answers in microseconds; this is for a
/// stopped one.
pub(super) const REPLY_TIME: Duration = Duration::from_secs(10);
/// What one read may take in, so that a stream of events does not starve the orders.
const READ_BYTES: usize = 64 * 1024;

/// The connection broke.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("failed to talk to the supervisor: {0}")]
    Io(std::io::Error),
    #[error("failed to understand the supervisor: {0}")]
    Frame(FrameError),
    #[error(transparent)]
    Version(#[from] version::Mismatch),
    #[error("failed to talk to the supervisor: it sent a {0:?} frame instead of its welcome")]
    NoWelcome(Kind),
    #[error("failed to talk to the supervisor: it closed the connection")]
    Closed,
}

/// Why a request got no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoAnswer {
    /// The supervisor is stopping or gone, or cut this call.
    Gone,
    /// It took too long.
    Late,
}

/// A handle for HTTP requests.
#[derive(Clone, Debug)]
pub(super) struct Link {
    orders: mpsc::Sender<Order>,
    ended: mpsc::UnboundedSender<Ended>,
    next_id: Arc<AtomicU64>,
}

/// Frames to send, and who gets the answers.
#[derive(Debug)]
struct Order {
    calls: Vec<(u64, mpsc::Sender<Frame>)>,
    bytes: Bytes,
}

/// A call whose request is not wanted any more.
#[derive(Clone, Copy, Debug)]
struct Ended {
    id: u64,
    /// The supervisor is to be told.
    cancel: bool,
    /// Its answer is still listened to.
    listens: bool,
}

/// One request's answers. Dropped, it is forgotten; a subscription is ended.
#[derive(Debug)]
pub(super) struct Call {
    id: u64,
    /// Whether the supervisor must be told that nobody listens: not for tasks, which go on.
    cancel: bool,
    answers: mpsc::Receiver<Frame>,
    ended: mpsc::UnboundedSender<Ended>,
}

impl Call {
    /// The next answer.
    pub(super) async fn next(&mut self) -> Result<Frame, NoAnswer> {
        self.answers.recv().await.ok_or(NoAnswer::Gone)
    }

    /// The one answer to a request that has only one.
    pub(super) async fn only(&mut self) -> Result<Frame, NoAnswer> {
        let frame = self.next().await?;
        // What is answered needs no end.
        self.cancel = false;
        Ok(frame)
    }

    /// Takes a wait back. Its answer may be on the way already: so it gives the answer or the word
    /// that none comes, and whoever waited knows which of the two the supervisor takes for the
    /// truth.
    pub(super) async fn take_back(&mut self) -> Result<Frame, NoAnswer> {
        let _pump_is_gone = self.ended.send(Ended { id: self.id, cancel: true, listens: true });
        tokio::time::timeout(REPLY_TIME, self.only()).await.unwrap_or(Err(NoAnswer::Late))
    }

    /// As [`Self::next`], for bodies that are polled.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Frame>> {
        self.answers.poll_recv(cx)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Unbounded, but each call is told of twice at most, and calls are bounded by the
        // connections.
        let _ = self.ended.send(Ended { id: self.id, cancel: self.cancel, listens: false });
    }
}

impl Link {
    /// A handle, and the pump that must run.
    pub(super) fn new() -> (Self, Pump) {
        let (orders, orders_in) = mpsc::channel(ORDERS);
        let (ended, ended_in) = mpsc::unbounded_channel();
        let pump = Pump { orders: orders_in, ended: ended_in, state: PumpState::default() };
        (Self { orders, ended, next_id: Arc::new(AtomicU64::new(1)) }, pump)
    }

    fn call(&self, frames: usize, cancel: bool) -> (Call, mpsc::Sender<Frame>) {
        let (sender, answers) = mpsc::channel(frames);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        (Call { id, cancel, answers, ended: self.ended.clone() }, sender)
    }

    async fn send(&self, order: Order) -> Result<(), NoAnswer> {
        self.orders.send(order).await.map_err(|_| NoAnswer::Gone)
    }

    /// One administrative request and its one answer.
    pub(super) async fn ask(&self, request: &ControlRequest<'_>) -> Result<Frame, NoAnswer> {
        let asking = async {
            let mut call = self.control(request, FRAMES_OF_REQUEST, false).await?;
            call.next().await
        };
        tokio::time::timeout(REPLY_TIME, asking).await.unwrap_or(Err(NoAnswer::Late))
    }

    /// A request that is answered until the call is dropped.
    pub(super) async fn subscribe(&self, request: &ControlRequest<'_>) -> Result<Call, NoAnswer> {
        self.control(request, FRAMES_OF_SUBSCRIPTION, true).await
    }

    async fn control(
        &self,
        request: &ControlRequest<'_>,
        frames: usize,
        cancel: bool,
    ) -> Result<Call, NoAnswer> {
        let (call, sender) = self.call(frames, cancel);
        let mut bytes = Vec::new();
        frame::put(&mut bytes, Kind::Control, call.id, request, b"");
        self.send(Order { calls: vec![(call.id, sender)], bytes: bytes.into() }).await?;
        Ok(call)
    }

    /// The outcome of a task. Dropped before it has come, the call counts as having received
    /// nothing.
    pub(super) async fn wait(&self, task: TaskId) -> Result<Call, NoAnswer> {
        self.control(&ControlRequest::Wait { task: task.0 }, FRAMES_OF_REQUEST, true).await
    }

    /// Tasks in one piece; each call gets `Accepted` or the refusal.
    ///
    /// Outcomes are asked for afterwards: a wait can be taken back, a submission that wants its
    /// outcome cannot.
    pub(super) async fn submit(&self, tasks: &[Task]) -> Result<Vec<Call>, NoAnswer> {
        let now_ms = crate::client::now_ms();
        let mut calls = Vec::with_capacity(tasks.len());
        let mut senders = Vec::with_capacity(tasks.len());
        let mut bytes = Vec::new();
        for task in tasks {
            let (call, sender) = self.call(FRAMES_OF_REQUEST, false);
            let head = task.head(now_ms, OnDisconnect::Keep, true, false);
            frame::put(&mut bytes, Kind::Submit, call.id, &head, &task.body);
            senders.push((call.id, sender));
            calls.push(call);
        }
        self.send(Order { calls: senders, bytes: bytes.into() }).await?;
        Ok(calls)
    }
}

/// The owner of the connection.
#[derive(Debug)]
pub(super) struct Pump {
    orders: mpsc::Receiver<Order>,
    ended: mpsc::UnboundedReceiver<Ended>,
    state: PumpState,
}

#[derive(Debug, Default)]
struct PumpState {
    welcomed: bool,
    calls: HashMap<u64, mpsc::Sender<Frame>>,
    out: VecDeque<Bytes>,
    out_bytes: usize,
    input: BytesMut,
}

impl Pump {
    /// Runs until the connection breaks or `closing` says so. What has arrived by then is handed
    /// out; whoever still waits after that is told that nothing comes.
    pub(super) async fn run(
        mut self,
        mut stream: UnixStream,
        mut closing: watch::Receiver<bool>,
    ) -> Result<(), LinkError> {
        let (mut read, mut write) = stream.split();
        self.state.hello();
        loop {
            let state = &mut self.state;
            tokio::select! {
                order = self.orders.recv(), if state.out_bytes < OUT_BYTES => match order {
                    Some(order) => state.take_order(order),
                    None => return Ok(()),
                },
                Some(ended) = self.ended.recv() => {
                    // INVARIANT: a call's order is sent before the call can end, but it may lie in
                    // the other channel still. Unheard of, the call could not be taken back.
                    while let Ok(order) = self.orders.try_recv() {
                        state.take_order(order);
                    }
                    state.end(ended);
                }
                len = read_more(&mut read, &mut state.input) => {
                    if len.map_err(LinkError::Io)? == 0 {
                        return Err(LinkError::Closed);
                    }
                    state.hand_out()?;
                }
                written = write_front(&mut write, state.out.front()), if !state.out.is_empty() => {
                    state.written(written.map_err(LinkError::Io)?);
                }
                () = super::serve::closed(&mut closing) => break,
            }
        }
        self.state.read_rest(&mut read)
    }
}

/// Cancel safe, as a single write is.
async fn write_front(write: &mut WriteHalf<'_>, front: Option<&Bytes>) -> std::io::Result<usize> {
    write.write(front.map_or(&[], |bytes| bytes)).await
}

/// Cancel safe, as a single read is.
async fn read_more(read: &mut ReadHalf<'_>, input: &mut BytesMut) -> std::io::Result<usize> {
    input.reserve(READ_BYTES);
    read.read_buf(input).await
}

impl PumpState {
    fn hello(&mut self) {
        let mut bytes = Vec::new();
        frame::put(
            &mut bytes,
            Kind::Hello,
            u64::from(version::CURRENT),
            &HelloHead { program: "http" },
            b"",
        );
        self.push(bytes.into());
    }

    fn push(&mut self, bytes: Bytes) {
        self.out_bytes += bytes.len();
        self.out.push_back(bytes);
    }

    fn take_order(&mut self, order: Order) {
        self.calls.extend(order.calls);
        self.push(order.bytes);
    }

    fn end(&mut self, ended: Ended) {
        // Absent when the pump itself has ended it.
        let known = if ended.listens {
            self.calls.contains_key(&ended.id)
        } else {
            self.calls.remove(&ended.id).is_some()
        };
        if known && ended.cancel {
            self.cancel(ended.id);
        }
    }

    fn cancel(&mut self, id: u64) {
        let mut bytes = Vec::new();
        frame::put_plain(&mut bytes, Kind::CancelSubmitted, id, b"");
        self.push(bytes.into());
    }

    fn written(&mut self, len: usize) {
        self.out_bytes -= len;
        if let Some(front) = self.out.front_mut() {
            front.advance(len);
            if front.is_empty() {
                self.out.pop_front();
            }
        }
    }

    fn read_rest(&mut self, read: &mut ReadHalf<'_>) -> Result<(), LinkError> {
        loop {
            self.input.reserve(READ_BYTES);
            match read.try_read_buf(&mut self.input) {
                Ok(0) => return Ok(()),
                Ok(_) => self.hand_out()?,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(LinkError::Io(e)),
            }
        }
    }

    fn hand_out(&mut self) -> Result<(), LinkError> {
        // The peer is our own process: only the wire's own bound applies.
        let limits = FrameLimits { body_bytes: MAX_BODY_BYTES };
        while let Taken::Frame(frame) =
            frame::take(&mut self.input, limits).map_err(LinkError::Frame)?
        {
            if self.welcomed {
                self.hand(frame);
            } else if frame.kind == Kind::Welcome {
                version::Mismatch::check("http", "supervisor", frame.id)?;
                self.welcomed = true;
            } else {
                return Err(LinkError::NoWelcome(frame.kind));
            }
        }
        Ok(())
    }

    fn hand(&mut self, frame: Frame) {
        let id = frame.id;
        // Unknown: the request has been given up, or its client waited long enough.
        let Some(call) = self.calls.get(&id) else { return };
        // A frame is a piece of the receive buffer; kept, it would keep all of it.
        let frame =
            Frame { head: Bytes::copy_from_slice(&frame.head), body: owned(frame.body), ..frame };
        if let Err(mpsc::error::TrySendError::Full(frame)) = call.try_send(frame) {
            self.calls.remove(&id);
            if frame.kind == Kind::Event {
                self.cancel(id);
            }
        }
    }
}

/// Small bodies are copied off the receive buffer, large ones are most of it anyway.
fn owned(body: Bytes) -> Bytes {
    if body.len() < READ_BYTES { Bytes::copy_from_slice(&body) } else { body }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wait that is taken back at once: the pump finds the order and the word of its end, each in
    /// a channel of its own, and takes up whichever it likes first.
    async fn takes_back_before_the_pump_runs() {
        let (link, pump) = Link::new();
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        let (_open, closing) = watch::channel(false);
        let mut call = link.wait(TaskId(7)).await.expect("there is room for an order");
        let answered = async {
            let mut inbox = BytesMut::new();
            let mut kinds = Vec::new();
            while kinds.last() != Some(&Kind::CancelSubmitted) {
                assert_ne!(theirs.read_buf(&mut inbox).await.expect("it writes"), 0);
                let limits = FrameLimits { body_bytes: 0 };
                while let Taken::Frame(frame) = frame::take(&mut inbox, limits).expect("frames") {
                    kinds.push(frame.kind);
                }
            }
            kinds
        };
        let taken_back = call.take_back();
        let first = async {
            // Polled first: it says that the wait has ended, and waits for the answer.
            tokio::select! {
                biased;
                _no_answer = taken_back => unreachable!("nobody answers"),
                () = std::future::ready(()) => {}
            }
        };
        first.await;
        let kinds = tokio::select! {
            kinds = answered => kinds,
            _ended = pump.run(ours, closing) => unreachable!("the connection is open"),
        };
        assert_eq!(kinds, [Kind::Hello, Kind::Control, Kind::CancelSubmitted]);
    }

    #[test]
    fn a_wait_that_is_taken_back_at_once_is_taken_back_after_it_was_asked_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        for _ in 0..64 {
            let test = async {
                let told = takes_back_before_the_pump_runs();
                tokio::time::timeout(Duration::from_secs(20), told).await
            };
            runtime.block_on(test).expect("the supervisor is told");
        }
    }
}
