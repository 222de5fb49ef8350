//! A connection whose simple requests are answered before hyper has seen them.
//!
//! Stands between the socket and hyper. Between two requests it looks at what comes: the head of a
//! GET whose answer is in memory, fresh and whole, is answered here with one write; a GET that is not
//! for the cache is passed on to a back end, and its answer back, from here. Any other head is handed
//! on as it came, and what follows it waits until hyper has sent its answer; a request with a
//! body, an upgrade or HTTP/2 makes the rest of the connection hyper's. Heads are read by the parser
//! that hyper uses, so that both agree on where one ends.

mod answer;
mod asked;
mod errand;
mod onward;
mod shared;
mod turn;

use std::{
    io::{self, IoSlice},
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use throng_core::Clock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::{
    answer::{Head, Memory},
    errand::Errand,
};
pub(super) use self::{shared::Shared, turn::Turn};
use super::Edge;

/// A connection that answers what it can.
pub(super) struct Quick<S> {
    stream: S,
    memory: Memory,
    turn: Turn,
    phase: Phase,
    errand: Option<Box<Errand>>,
    /// What has come and was not handed on.
    input: Input,
    output: Output,
    watch: Watch,
    /// The visitor was told that no answer follows.
    is_last: bool,
    /// What hyper is to hear when it reads next: that nothing comes any more, or why not.
    end: Option<io::Result<()>>,
    /// hyper ends the connection.
    is_closing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Between two requests.
    Looking,
    /// A request is on its way to a back end, or its answer back.
    Passing,
    /// This much of a head is still to be handed on.
    Handing(usize),
    /// hyper works on a request that has come whole; this many answers had ended before.
    Waiting(u64),
    /// Everything is handed on, from here to the end.
    Through,
}

/// Bytes that have come: those from `from` to `to`.
#[derive(Debug, Default)]
struct Input {
    space: Vec<u8>,
    from: usize,
    to: usize,
}

/// An answer on its way out.
#[derive(Debug, Default)]
struct Output {
    head: Vec<u8>,
    sent: usize,
    body: Bytes,
}

/// Ends a connection on which no request comes for too long.
struct Watch {
    clock: Clock,
    limit: Duration,
    since: Duration,
    timer: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Quick<S> {
    /// Stands before `stream`, whose `client` the socket names. Without `is_quick` it answers nothing,
    /// and only ends a connection on which nothing comes.
    pub(super) fn new(
        stream: S,
        edge: &Edge,
        (client, scheme, is_quick): (IpAddr, &'static str, bool),
        turn: &Turn,
    ) -> Self {
        let clock = edge.inner.clock.clone();
        let limit = Duration::from_millis(edge.inner.config.head_timeout_ms);
        Self {
            stream,
            memory: Memory::new(edge, client, scheme),
            errand: None,
            turn: turn.clone(),
            phase: if is_quick { Phase::Looking } else { Phase::Through },
            input: Input::default(),
            output: Output::default(),
            watch: Watch { since: clock.elapsed(), clock, limit, timer: None },
            is_last: false,
            end: None,
            is_closing: false,
        }
    }

    /// Does all that hyper is not needed for. Ready when there is something for hyper to do.
    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.end.is_none() && !self.is_closing {
            let goes_on = match self.phase {
                Phase::Looking => ready!(self.poll_look(cx)),
                Phase::Passing => {
                    let passed = ready!(self.poll_pass(cx));
                    self.phase = Phase::Looking;
                    passed
                }
                Phase::Handing(_) | Phase::Waiting(_) | Phase::Through => break,
            };
            if !matches!(goes_on, Ok(true)) {
                self.end = Some(goes_on.map(|_| ()));
            }
        }
        Poll::Ready(())
    }

    /// Answers what can be answered, until there is something to hand on or more has to come. Ready
    /// with false at the end of what the visitor sends.
    fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        for _ in 0..MOST_AT_ONCE {
            ready!(self.output.poll(&mut self.stream, cx))?;
            if self.turn.is_stopped() {
                self.phase = Phase::Through;
                return Poll::Ready(Ok(true));
            }
            if self.input.is_empty() && ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(false));
            }
            while self.output.body.is_empty() && !self.input.is_empty() {
                match self.memory.read(self.input.bytes(), &mut self.output, &self.turn) {
                    Head::Answered(length) => {
                        self.input.advance(length);
                        self.watch.since = self.memory.now;
                    }
                    Head::Passed(length, errand) => {
                        self.input.advance(length);
                        (self.phase, self.errand) = (Phase::Passing, Some(errand));
                        return Poll::Ready(Ok(true));
                    }
                    Head::Partial if self.input.bytes().len() < MOST_HEAD => {
                        ready!(self.output.poll(&mut self.stream, cx))?;
                        if ready!(self.poll_fill(cx))? == 0 {
                            return Poll::Ready(Ok(false));
                        }
                    }
                    Head::Whole(length) => {
                        self.phase = Phase::Handing(length);
                        ready!(self.output.poll(&mut self.stream, cx))?;
                        return Poll::Ready(Ok(true));
                    }
                    Head::Partial | Head::Other => {
                        self.phase = Phase::Through;
                        ready!(self.output.poll(&mut self.stream, cx))?;
                        return Poll::Ready(Ok(true));
                    }
                }
                if self.output.head.len() > MOST_OUT {
                    break;
                }
            }
        }
        // Others want their turn; this goes on right after them.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Brings the answer of a back end to its visitor. Ready with false when nothing can follow it.
    fn poll_pass(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while let Some(errand) = &mut self.errand {
            ready!(self.output.poll(&mut self.stream, cx))?;
            // Asked before the head of the answer is written, which says so.
            self.is_last |= self.turn.is_stopped() && !errand.is_answered();
            match errand.poll(&mut self.output, self.is_last, cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => self.errand = None,
                Poll::Ready(Err(error)) => {
                    tracing::debug!("the body of an answer broke off: {error}");
                    self.errand = None;
                    return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                }
                Poll::Pending => {
                    // What comes meanwhile is for later, except that the visitor leaves.
                    if self.input.is_empty() && ready!(self.poll_more(cx))? == 0 {
                        self.errand = None;
                        return Poll::Ready(Ok(false));
                    }
                    return Poll::Pending;
                }
            }
        }
        ready!(self.output.poll(&mut self.stream, cx))?;
        Poll::Ready(Ok(!self.is_last))
    }

    /// Writes what a back end says before the answer that hyper waits for.
    fn poll_interims(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.turn.interims().take_all(&mut self.output.head, cx.waker());
        self.output.poll(&mut self.stream, cx)
    }

    /// Reads more into the input; 0 is the end, or that nothing came for too long.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(read) = self.poll_more(cx) {
            return Poll::Ready(read);
        }
        ready!(self.watch.poll_lost(cx, &self.turn));
        // Whoever has begun a head and does not end it is told apart from one who rests.
        match self.input.is_empty() {
            true => Poll::Ready(Ok(0)),
            false => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Reads more into the input, however long that takes; 0 is the end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(self.input.room());
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        let read = buffer.filled().len();
        self.input.to += read;
        Poll::Ready(Ok(read))
    }

    /// Gives what has come to hyper, at most `most` bytes of it; returns how many.
    fn give(&mut self, buffer: &mut ReadBuf<'_>, most: usize) -> usize {
        let come = self.input.bytes();
        let length = most.min(buffer.remaining()).min(come.len());
        buffer.put_slice(&come[..length]);
        self.input.advance(length);
        length
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Quick<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match this.phase {
                // What comes now is for nobody.
                Phase::Looking | Phase::Passing if this.is_closing => return Poll::Ready(Ok(())),
                Phase::Looking | Phase::Passing => {
                    ready!(this.poll_own(cx));
                    if let Some(end) = this.end.take() {
                        return Poll::Ready(end);
                    }
                }
                Phase::Handing(left) => {
                    // What was answered before goes out before hyper answers.
                    ready!(this.output.poll(&mut this.stream, cx))?;
                    let left = left - this.give(buffer, left);
                    this.phase = match left {
                        0 => Phase::Waiting(this.turn.ended()),
                        _ => Phase::Handing(left),
                    };
                    return Poll::Ready(Ok(()));
                }
                // What has come already is looked at when the answer is out, which wakes this task.
                Phase::Waiting(_) if !this.input.is_empty() => return Poll::Pending,
                Phase::Waiting(_) => {
                    if ready!(this.poll_fill(cx))? == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Phase::Through if !this.input.is_empty() => {
                    ready!(this.output.poll(&mut this.stream, cx))?;
                    this.give(buffer, usize::MAX);
                    return Poll::Ready(Ok(()));
                }
                Phase::Through => {
                    ready!(this.output.poll(&mut this.stream, cx))?;
                    return match Pin::new(&mut this.stream).poll_read(cx, buffer) {
                        Poll::Pending => {
                            ready!(this.watch.poll_lost(cx, &this.turn));
                            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                        }
                        read => read,
                    };
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Quick<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interims(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interims(cx))?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.errand.is_none() {
            ready!(this.poll_interims(cx))?;
        }
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        // hyper asks for this when it has written all that it had. Once the answer's body has ended,
        // that was the answer, and what comes next is the head of another request.
        if let Phase::Waiting(before) = this.phase
            && this.turn.ended() != before
        {
            this.phase = Phase::Looking;
            if !this.input.is_empty() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.is_closing = true;
        // hyper, which ends the connection, knows nothing of an answer that does not come from it.
        ready!(this.poll_pass(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

impl Input {
    fn bytes(&self) -> &[u8] {
        &self.space[self.from..self.to]
    }

    fn is_empty(&self) -> bool {
        self.from == self.to
    }

    fn advance(&mut self, length: usize) {
        self.from += length;
        if self.is_empty() {
            (self.from, self.to) = (0, 0);
        }
    }

    /// Where more can be put.
    fn room(&mut self) -> &mut [u8] {
        if self.to + LEAST_ROOM > self.space.len() {
            self.space.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
            if self.to + LEAST_ROOM > self.space.len() {
                self.space.resize((2 * self.space.len()).max(READ_BYTES), 0);
            }
        }
        &mut self.space[self.to..]
    }
}

impl Output {
    fn poll<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.sent < self.head.len() || !self.body.is_empty() {
            let head = &self.head[self.sent..];
            let stream = Pin::new(&mut *stream);
            let written = match self.body.is_empty() {
                true => ready!(stream.poll_write(cx, head))?,
                false => {
                    let both = [IoSlice::new(head), IoSlice::new(&self.body)];
                    ready!(stream.poll_write_vectored(cx, &both))?
                }
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_head = written.min(head.len());
            self.sent += of_head;
            self.body.advance(written - of_head);
        }
        self.head.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl Watch {
    /// Ready once no request was under way, and none came, for the limit. The timer is set anew only
    /// when it has run out: most of the time, something has come meanwhile.
    fn poll_lost(&mut self, cx: &mut Context<'_>, turn: &Turn) -> Poll<()> {
        loop {
            if self.timer.is_none() {
                let Some(rests_since) = turn.rests_since() else { return Poll::Pending };
                let rested = self.clock.elapsed().saturating_sub(rests_since.max(self.since));
                let left = self.limit.saturating_sub(rested);
                if left.is_zero() {
                    return Poll::Ready(());
                }
                let clock = self.clock.clone();
                self.timer = Some(Box::pin(async move { clock.sleep(left).await }));
            }
            let Some(timer) = &mut self.timer else { return Poll::Pending };
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
        }
    }
}

/// Up to here, copying a body is cheaper than a write of two pieces.
const SMALL: usize = 4 << 10;
/// Answers before others get their turn.
const MOST_AT_ONCE: usize = 32;
/// A longer head is for hyper to refuse.
const MOST_HEAD: usize = 16 << 10;
/// Answers of a pipeline that go out in one write.
const MOST_OUT: usize = 32 << 10;
const READ_BYTES: usize = 4 << 10;
const LEAST_ROOM: usize = 1 << 10;
