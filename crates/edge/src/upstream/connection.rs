//! One connection to a back end, driven by whoever waits for the answer: no task and no channel is
//! between.

use std::{
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Response, StatusCode};
use http_body::{Frame, SizeHint};
use httparse::Header;
use throng_core::Clock;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::{
    Cause, Lease,
    chunks::{Chunks, Piece},
    head::{Framing, Head, UNREAD, parse},
    message::{Sending, Stopped},
    socket::Socket,
};
use crate::{Body, body::BoxError, interim::Teller};

/// A connection between two exchanges, or in the middle of one.
pub(crate) struct Connection {
    socket: Socket,
    /// What has come and was not taken.
    input: BytesMut,
    /// Whether the last read filled all the room that there was.
    is_flowing: bool,
    /// Wakes whoever waits for an answer; from one exchange to the next it is left to run.
    tick: Option<Tick>,
}

type Tick = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(super) cause: Cause,
    /// The connection was closed before anything came: if it had been at rest, it was about to be.
    pub(super) is_untouched: bool,
}

/// What is to be known of a request while its answer is read.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Whether the answer has no body: it is to a HEAD.
    pub(super) is_bare: bool,
    /// Whether sending it twice does no harm.
    pub(super) may_repeat: bool,
    pub(super) teller: Option<Teller>,
    /// Interim answers that have come.
    pub(super) interims: u32,
}

impl Wanted {
    /// For a GET without a body; interim answers to it are told to `teller`.
    pub(crate) fn telling(teller: Teller) -> Self {
        Self { is_bare: false, may_repeat: true, teller: Some(teller), interims: 0 }
    }
}

impl Connection {
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket, input: BytesMut::new(), is_flowing: false, tick: None }
    }

    /// Whether nothing has come since the last answer, its end included.
    pub(super) fn is_at_rest(&mut self) -> bool {
        self.input.is_empty() && self.socket.is_quiet()
    }

    /// Sends, and reads the head of the answer, which is told to `read` and stays in the input. It may
    /// come before all is sent.
    pub(super) fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        (sending, wanted): (&mut Sending, &mut Wanted),
        read: impl FnOnce(Head, &[Header<'_>]),
    ) -> Poll<Result<Head, Trouble>> {
        let broken = |is_untouched| Trouble { cause: Cause::Broken, is_untouched };
        let mut is_stopped = false;
        match sending.poll(&mut self.socket, cx) {
            Poll::Ready(Err(Stopped::ByVisitor(cause))) => {
                return Poll::Ready(Err(Trouble { cause, is_untouched: false }));
            }
            // It may have answered before it stopped to listen.
            Poll::Ready(Err(Stopped::ByServer)) => is_stopped = true,
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        loop {
            if !self.input.is_empty() {
                let mut fields = UNREAD;
                match parse(&self.input, &mut fields, wanted.is_bare) {
                    Ok(Some((head, _))) if is_interim(head.status) => {
                        if let Some(teller) = &wanted.teller {
                            teller.tell(&self.input);
                        }
                        self.input.advance(head.length);
                        wanted.interims += 1;
                        if wanted.interims > MOST_INTERIMS {
                            return Poll::Ready(Err(broken(false)));
                        }
                        continue;
                    }
                    Ok(Some((head, fields))) => {
                        read(head, fields);
                        return Poll::Ready(Ok(head));
                    }
                    Ok(None) => {}
                    Err(malformed) => {
                        tracing::debug!("{malformed}");
                        return Poll::Ready(Err(broken(false)));
                    }
                }
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Pending if !is_stopped => return Poll::Pending,
                _ => {
                    let is_untouched = self.input.is_empty() && wanted.interims == 0;
                    return Poll::Ready(Err(broken(is_untouched)));
                }
            }
        }
    }

    /// Ready when it has waited for some of `time`, which may be a little longer ago: most answers
    /// come before, and cost no timer.
    pub(super) fn poll_tick(
        &mut self,
        cx: &mut Context<'_>,
        (clock, time): (&Clock, Duration),
    ) -> Poll<()> {
        let tick = self.tick.get_or_insert_with(|| {
            let clock = clock.clone();
            Box::pin(async move { clock.sleep(time).await })
        });
        ready!(tick.as_mut().poll(cx));
        self.tick = None;
        Poll::Ready(())
    }

    /// Reads more into the input; 0 is the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() - self.input.len() < LEAST_ROOM {
            self.input.reserve(if self.is_flowing { MUCH_ROOM } else { ROOM });
        }
        let room = self.input.capacity() - self.input.len();
        let read = ready!(pin!(self.socket.read_buf(&mut self.input)).poll(cx))?;
        self.is_flowing = read == room;
        Poll::Ready(Ok(read))
    }
}

/// An answer whose head has come.
#[derive(Debug)]
pub(crate) struct Incoming {
    head: Head,
    /// Until the body is over.
    connection: Option<Connection>,
    /// As long as the request is not all sent, which is rare.
    sending: Option<Box<Sending>>,
    body: Coming,
    /// Until the body is over, or the other protocol.
    lease: Option<Lease>,
}

/// How much of a body is still to come.
#[derive(Debug)]
enum Coming {
    Length(u64),
    Chunks(Chunks),
    Close,
}

/// The back end broke off, or wrote what is no body.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the answer of the back end broke off")]
struct BrokenOff;

impl Incoming {
    pub(super) fn new(
        connection: Connection,
        head: Head,
        (sending, lease): (Sending, Lease),
    ) -> Self {
        let body = match head.framing {
            Framing::Nothing => Coming::Length(0),
            Framing::Length(length) => Coming::Length(length),
            Framing::Chunked => Coming::Chunks(Chunks::default()),
            Framing::Close => Coming::Close,
        };
        let sending = (!sending.is_over()).then(|| Box::new(sending));
        Self { head, connection: Some(connection), sending, body, lease: Some(lease) }
    }

    pub(crate) fn head(&self) -> Head {
        self.head
    }

    /// The head as it came. Ask before [`begin`](Self::begin).
    pub(crate) fn bytes(&self) -> &[u8] {
        self.connection.as_ref().map_or(&[], |connection| &connection.input[..self.head.length])
    }

    /// Leaves the head behind.
    pub(crate) fn begin(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.input.advance(self.head.length);
        }
        if matches!(self.body, Coming::Length(0)) {
            self.finish();
        }
    }

    pub(crate) fn into_response(mut self) -> Response<Body> {
        let headers = match &self.connection {
            Some(connection) => self.head.fields(&connection.input),
            None => HeaderMap::new(),
        };
        let status = self.head.status;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        match status {
            StatusCode::SWITCHING_PROTOCOLS => {
                response.extensions_mut().insert(Upgraded::new(self));
            }
            _ => {
                self.begin();
                *response.body_mut() = Body::answer(Box::new(self));
            }
        }
        response
    }

    /// Whether the body is over.
    pub(crate) fn is_over(&self) -> bool {
        self.connection.is_none()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.body {
            Coming::Length(length) => SizeHint::with_exact(length),
            _ if self.is_over() => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
        if let Some(sending) = &mut self.sending
            && let Poll::Ready(Ok(())) = sending.poll(&mut connection.socket, cx)
        {
            self.sending = None;
        }
        loop {
            let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
            let input = &mut connection.input;
            match &mut self.body {
                Coming::Length(left) if !input.is_empty() => {
                    let come = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    let data = input.split_to(come).freeze();
                    *left -= come as u64;
                    if *left == 0 {
                        self.finish();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Coming::Chunks(chunks) => match chunks.next(input) {
                    Ok(Some(Piece::Data(data))) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Ok(Some(Piece::Trailers(trailers))) => {
                        self.finish();
                        return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                    }
                    Ok(Some(Piece::Over)) => {
                        self.finish();
                        return Poll::Ready(None);
                    }
                    Ok(None) => {}
                    Err(malformed) => {
                        self.connection = None;
                        return Poll::Ready(Some(Err(malformed.into())));
                    }
                },
                Coming::Close if !input.is_empty() => {
                    return Poll::Ready(Some(Ok(Frame::data(input.split().freeze()))));
                }
                Coming::Length(_) | Coming::Close => {}
            }
            match ready!(connection.poll_fill(cx)) {
                Ok(1..) => {}
                Ok(0) if matches!(self.body, Coming::Close) => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Ok(_) => {
                    self.connection = None;
                    return Poll::Ready(Some(Err(BrokenOff.into())));
                }
                Err(error) => {
                    self.connection = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
    }

    /// Puts the whole body at the end of `out`, where it has come already and is no longer than
    /// `most`; tells how long it is.
    pub(crate) fn take_whole(&mut self, most: usize, out: &mut Vec<u8>) -> Option<usize> {
        let Coming::Length(left) = &mut self.body else { return None };
        let length = usize::try_from(*left).ok().filter(|length| *length <= most)?;
        if length > 0 {
            let input = &mut self.connection.as_mut()?.input;
            out.extend_from_slice(input.get(..length)?);
            input.advance(length);
            *left = 0;
            self.finish();
        }
        Some(length)
    }

    /// The body is over; the connection is for the next, if nothing speaks against it.
    fn finish(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let is_clean = self.sending.is_none() && connection.input.is_empty();
        if let Some(lease) = self.lease.take()
            && self.head.is_persistent
            && is_clean
        {
            lease.give_back(connection);
        }
    }
}

/// A connection that speaks another protocol from now on: an extension of the answer that says so.
#[derive(Clone, Debug)]
pub(crate) struct Upgraded(Arc<Mutex<Option<Held>>>);

/// A connection, and the place at its server.
type Held = (Connection, Option<Lease>);

impl Upgraded {
    fn new(incoming: Incoming) -> Self {
        let Incoming { connection, head, lease, .. } = incoming;
        let connection = connection.map(|mut connection| {
            connection.input.advance(head.length);
            (connection, lease)
        });
        Self(Arc::new(Mutex::new(connection)))
    }

    /// The connection and the place at its server, once.
    pub(crate) fn take(&self) -> Option<Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.input.is_empty() {
            return Pin::new(&mut this.socket).poll_read(cx, buffer);
        }
        let length = this.input.len().min(buffer.remaining());
        buffer.put_slice(&this.input[..length]);
        this.input.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Heads before the answer; one that changes the protocol is the answer.
fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

const LEAST_ROOM: usize = 1 << 10;
const ROOM: usize = 8 << 10;
/// For a body that fills whatever there is.
const MUCH_ROOM: usize = 64 << 10;
/// Before one answer.
const MOST_INTERIMS: u32 = 100;
