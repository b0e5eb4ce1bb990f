//! A connection whose peer must take what it is sent within a time, and is not cut off while it
//! sends.
//!
//! hyper bounds how long a request's header may take; nothing bounds how long a client may leave a
//! response unread, and with it one of the few places for connections.
//!
//! A client that is answered before it has sent everything (401, 413) is still writing. Were the
//! socket closed then, the system would answer what comes with a reset, and the client would never
//! see the answer. So our half is closed first, and what comes is thrown away until the client
//! closes its own (RFC 9112, section 9.6), for a bounded time.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};

use super::Patience;

/// Thrown away at once.
const DROPPED_BYTES: usize = 16 * 1024;

/// Wraps a stream.
#[derive(Debug)]
pub(super) struct Patient<S> {
    stream: S,
    patience: Patience,
    /// Runs while a write is held up.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Since our half was closed.
    parting: Option<Parting>,
    /// Whether the room closes, and nobody is waited for any more.
    closing: watch::Receiver<bool>,
}

/// The time that a client has to close its half.
#[derive(Debug)]
struct Parting {
    /// While it sends nothing.
    silent: Pin<Box<Sleep>>,
    /// In all.
    whole: Pin<Box<Sleep>>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, patience: Patience, closing: watch::Receiver<bool>) -> Self {
        Self { stream, patience, stalled: None, parting: None, closing }
    }

    fn judge<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stalled = None;
            return poll;
        }
        let patience = self.patience.stalled_write;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        match stalled.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                stalled.as_mut().reset(Instant::now() + patience);
                Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the client does not read its response",
                )))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.judge(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.parting.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            let Patience { header, body, .. } = self.patience;
            self.parting =
                Some(Parting { silent: Box::pin(sleep(header)), whole: Box::pin(sleep(body)) });
        }
        let Self { stream, parting: Some(parting), patience, closing, .. } = &mut *self else {
            unreachable!("just set")
        };
        // INVARIANT: looked at before anything is read: with enough to read the timers would not
        // get their turn.
        if parting.whole.as_mut().poll(cx).is_ready() || *closing.borrow() {
            return Poll::Ready(Ok(()));
        }
        loop {
            let mut bytes = [0; DROPPED_BYTES];
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    parting.silent.as_mut().reset(Instant::now() + patience.header);
                }
                // Its end, or a connection that is gone.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
            }
        }
        parting.silent.as_mut().poll(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    const SHORT: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_secs(3600);

    fn pair(patience: Patience) -> (Patient<DuplexStream>, DuplexStream, watch::Sender<bool>) {
        let (ours, theirs) = duplex(16);
        let (close, closing) = watch::channel(false);
        (Patient::new(ours, patience, closing), theirs, close)
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(test);
    }

    #[test]
    fn a_peer_that_does_not_read_ends_the_connection_and_one_that_reads_does_not() {
        run(async {
            let (mut ours, mut theirs, _close) =
                pair(Patience { stalled_write: SHORT, ..Patience::default() });
            ours.write_all(&[0; 16]).await.expect("fits");
            let error = ours.write_all(&[0; 1]).await.expect_err("nobody reads");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            let reading = async {
                let mut buffer = [0; 64];
                theirs.read(&mut buffer).await
            };
            let (written, read) = tokio::join!(ours.write_all(&[0; 16]), reading);
            assert_eq!((written.expect("taken"), read.expect("read")), ((), 16));
        });
    }

    #[test]
    fn a_peer_that_still_sends_gets_the_answer_before_the_connection_ends() {
        run(async {
            let (mut ours, mut theirs, _close) =
                pair(Patience { header: LONG, body: LONG, ..Patience::default() });
            ours.write_all(b"no").await.expect("fits");
            let sending = async {
                theirs.write_all(&[0; 1000]).await.expect("it is taken");
                let mut answer = Vec::new();
                theirs.read_to_end(&mut answer).await.expect("an answer");
                drop(theirs);
                answer
            };
            let (parted, answer) = tokio::join!(ours.shutdown(), sending);
            parted.expect("the peer has closed");
            assert_eq!(answer, b"no");
        });
    }

    #[test]
    fn nobody_is_waited_for_longer_than_patience_or_when_the_room_closes() {
        run(async {
            let (mut silent, _theirs, _close) =
                pair(Patience { header: SHORT, body: LONG, ..Patience::default() });
            silent.shutdown().await.expect("silent for too long");
            let (mut endless, mut theirs, _close) =
                pair(Patience { header: LONG, body: SHORT, ..Patience::default() });
            let sending = async { while theirs.write_all(&[0; 16]).await.is_ok() {} };
            tokio::select! {
                parted = endless.shutdown() => parted.expect("it has sent for too long"),
                () = sending => panic!("the end is ours"),
            }
            let (mut ours, _theirs, close) =
                pair(Patience { header: LONG, body: LONG, ..Patience::default() });
            close.send_replace(true);
            ours.shutdown().await.expect("the room closes");
        });
    }
}
