//! Bounds for bytes that come from outside: how many, and how long they may fail to come.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use throng_core::Clock;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::{
    body::{Body, BoxError},
    tasks::Tasks,
};

/// A body that ends with an error when it is too long or rests for too long.
pub(crate) struct Limited {
    body: Body,
    left: u64,
    patience: Patience,
}

/// Why a body was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cut {
    #[error("the body is longer than it may be")]
    TooLong,
    #[error("the body made no progress for too long")]
    TooSlow,
}

impl Limited {
    pub(crate) fn new(body: Body, most: u64, clock: &Clock, timeout_ms: u64) -> Self {
        Self { body, left: most, patience: Patience::new(clock, timeout_ms) }
    }
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Poll::Ready(next) = Pin::new(&mut this.body).poll_frame(cx) else {
            ready!(this.patience.poll_lost(cx));
            return Poll::Ready(Some(Err(Cut::TooSlow.into())));
        };
        this.patience.renew();
        if let Some(Ok(frame)) = &next
            && let Some(data) = frame.data_ref()
        {
            match this.left.checked_sub(data.len() as u64) {
                Some(left) => this.left = left,
                None => return Poll::Ready(Some(Err(Cut::TooLong.into()))),
            }
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection whose other side must take what is written in time.
///
/// When it is closed while the other side still sends, the kernel would throw away the answer that
/// is on its way; so what comes is read for a moment longer.
pub(crate) struct Patient<S: Stream> {
    stream: Option<S>,
    patience: Patience,
    has_ended: bool,
    tasks: Tasks,
}

/// A connection, with or without TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

impl<S: Stream> Patient<S> {
    pub(crate) fn new(stream: S, clock: &Clock, timeout_ms: u64, tasks: &Tasks) -> Self {
        let patience = Patience::new(clock, timeout_ms);
        Self { stream: Some(stream), patience, has_ended: false, tasks: tasks.clone() }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut S>> {
        // It is there until the drop.
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(written) = &written {
            self.patience.renew();
            self.has_ended |= written.is_err();
        }
        if written.is_ready() {
            return written;
        }
        ready!(self.patience.poll_lost(cx));
        self.has_ended = true;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: Stream> Drop for Patient<S> {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take().filter(|_| !self.has_ended) else { return };
        if tokio::runtime::Handle::try_current().is_ok() {
            let clock = self.patience.clock.clone();
            self.tasks.spawn(async move {
                let _ = clock.timeout(LINGER, linger(stream)).await;
            });
        }
    }
}

async fn linger(mut stream: impl Stream) {
    let mut scrap = [0; 4096];
    if stream.shutdown().await.is_err() {
        return;
    }
    for _ in 0..LINGER_READS {
        if !matches!(stream.read(&mut scrap).await, Ok(1..)) {
            return;
        }
    }
}

impl<S: Stream> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.stream()?.poll_read(cx, buffer);
        if let Poll::Ready(read) = &read {
            self.has_ended |= read.is_err() || buffer.filled().len() == before;
        }
        read
    }
}

impl<S: Stream> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream()?.poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream()?.poll_write_vectored(cx, bytes);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // With TLS this is where bytes wait.
        let flushed = self.stream()?.poll_flush(cx);
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}

/// A timer that runs only while somebody waits.
struct Patience {
    clock: Clock,
    limit: Duration,
    timer: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Patience {
    fn new(clock: &Clock, timeout_ms: u64) -> Self {
        Self { clock: clock.clone(), limit: Duration::from_millis(timeout_ms), timer: None }
    }

    fn renew(&mut self) {
        self.timer = None;
    }

    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (clock, limit) = (&self.clock, self.limit);
        let timer = self.timer.get_or_insert_with(|| {
            let clock = clock.clone();
            Box::pin(async move { clock.sleep(limit).await })
        });
        timer.as_mut().poll(cx)
    }
}

const LINGER: Duration = Duration::from_secs(1);
/// A megabyte at most.
const LINGER_READS: usize = 256;
