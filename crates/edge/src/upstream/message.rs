//! A request for a back end: as it is written to a connection, or handed to a service.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, Method, Request, Uri, header};
use http_body::Body as HttpBody;
use tokio::io::AsyncWrite;

use super::{Answer, Cause, Failure, attempt::Settled, connection::Wanted, socket::Socket};
use crate::{Body, interim::Teller, limit::Cut};

/// A request for a back end. It can be sent until something of it has left that cannot be had again.
#[derive(Debug)]
pub(crate) struct Message {
    head: Head,
    method: Method,
    body: Option<Body>,
    /// Once it was to be written to a connection.
    sending: Option<Sending>,
    teller: Option<Teller>,
    /// Whether sending it twice does no harm, and it can be: it has no body.
    pub(crate) may_repeat: bool,
}

#[derive(Debug)]
enum Head {
    Parts {
        uri: Uri,
        headers: HeaderMap,
        extensions: Extensions,
    },
    /// As it goes over the wire; there is no body.
    Written(Bytes),
}

/// What is on its way over a connection.
#[derive(Debug)]
pub(crate) struct Sending {
    out: Bytes,
    sent: usize,
    /// As long as more of it may come. Most requests have none.
    body: Option<Box<Body>>,
    coding: Coding,
    /// Whether the body was asked for what can leave with the head.
    is_begun: bool,
    /// Whether what was in `out` before has left.
    is_beyond_head: bool,
    is_flushed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Nothing,
    /// So many bytes are still to come.
    Length(u64),
    Chunked,
}

/// Why a request does not get any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// The connection takes no more; an answer may be on it.
    ByServer,
    ByVisitor(Cause),
}

impl Message {
    pub(crate) fn new(
        method: Method,
        (uri, headers): (Uri, HeaderMap),
        body: Body,
        extensions: Extensions,
    ) -> Self {
        let is_idempotent =
            [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE]
                .contains(&method);
        let may_repeat = is_idempotent && body.is_end_stream();
        let teller = extensions.get().cloned();
        let head = Head::Parts { uri, headers, extensions };
        Self { head, method, body: Some(body), sending: None, teller, may_repeat }
    }

    /// A GET or HEAD without a body, with its head as it is to be written.
    pub(crate) fn written(method: Method, head: Bytes) -> Self {
        let head = Head::Written(head);
        Self { head, method, body: None, sending: None, teller: None, may_repeat: true }
    }

    /// Interim answers to it are told to `teller`.
    pub(crate) fn telling(self, teller: Teller) -> Self {
        Self { teller: Some(teller), ..self }
    }

    pub(super) fn wanted(&self) -> Wanted {
        let is_bare = self.method == Method::HEAD;
        Wanted { is_bare, may_repeat: self.may_repeat, teller: self.teller.clone(), interims: 0 }
    }

    pub(crate) fn is_read(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }

    /// For a connection, from its beginning; `None` when a part of it is gone.
    pub(super) fn sending(&mut self) -> Option<Sending> {
        if let Some(mut sending) = self.sending.take() {
            return sending.rewind().then_some(sending);
        }
        let (out, coding, body) = match &self.head {
            Head::Written(head) => (head.clone(), Coding::Nothing, None),
            Head::Parts { uri, headers, .. } => {
                let coding = coding(&self.method, self.body.as_ref()?);
                let head = write(&self.method, (uri, headers), coding);
                let body = self.body.take_if(|_| coding != Coding::Nothing).map(Box::new);
                (head.into(), coding, body)
            }
        };
        let is_begun = body.is_none();
        Some(Sending { body, coding, is_begun, ..Sending::written(out) })
    }

    /// Takes back what was not, or not all, sent.
    pub(super) fn keep(&mut self, sending: Sending) {
        self.sending = Some(sending);
    }

    /// The answer, or what went wrong and may be tried elsewhere.
    pub(super) fn settled(&mut self, settled: Settled) -> Result<Answer, Failure> {
        match settled {
            Settled::Answered(incoming) => Ok(Answer::Wire(incoming)),
            Settled::Failed(failure, sending) => {
                self.keep(sending);
                Err(failure)
            }
            Settled::Anew(_, sending) => {
                self.keep(sending);
                Err(Failure { cause: Cause::Broken, is_unsent: false })
            }
        }
    }

    /// For a service in this process; its body is there once. `None` for what was written for the
    /// wire.
    pub(super) fn request(&mut self) -> Option<Request<Body>> {
        let Head::Parts { uri, headers, extensions } = &self.head else { return None };
        let mut request = Request::new(self.body.take().unwrap_or_default());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.clone();
        *request.extensions_mut() = extensions.clone();
        Some(request)
    }
}

impl Sending {
    /// A request without a body.
    pub(crate) fn written(head: Bytes) -> Self {
        Self {
            out: head,
            sent: 0,
            body: None,
            coding: Coding::Nothing,
            is_begun: true,
            is_beyond_head: false,
            is_flushed: false,
        }
    }

    /// Writes as much as can be written. Ready when all of it is.
    pub(super) fn poll(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Stopped>> {
        loop {
            if !self.is_begun {
                self.is_begun = true;
                self.gather(cx)?;
            }
            while self.sent < self.out.len() {
                let left = &self.out[self.sent..];
                match ready!(Pin::new(&mut *socket).poll_write(cx, left)) {
                    Ok(written @ 1..) => self.sent += written,
                    Ok(0) | Err(_) => return Poll::Ready(Err(Stopped::ByServer)),
                }
            }
            let next = match self.body.is_some() {
                true => self.poll_next(cx),
                false => Poll::Pending,
            };
            let Poll::Ready(next) = next else {
                let flushed = ready!(Pin::new(&mut *socket).poll_flush(cx));
                self.is_flushed = self.body.is_none();
                return match (flushed, self.is_flushed) {
                    (Err(_), _) => Poll::Ready(Err(Stopped::ByServer)),
                    (Ok(()), true) => Poll::Ready(Ok(())),
                    (Ok(()), false) => Poll::Pending,
                };
            };
            (self.out, self.sent, self.is_beyond_head) = (next?, 0, true);
        }
    }

    /// Whether something has left.
    pub(super) fn has_begun(&self) -> bool {
        self.sent > 0 || self.is_beyond_head
    }

    /// Whether all has left.
    pub(super) fn is_over(&self) -> bool {
        self.is_flushed
    }

    /// Begins anew; false when a part of it is gone.
    pub(super) fn rewind(&mut self) -> bool {
        let can = !self.has_begun() || self.coding == Coding::Nothing;
        (self.sent, self.is_flushed) = (0, false);
        can
    }

    /// What there is of a body leaves with the head.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), Stopped> {
        while self.body.is_some() && self.out.len() < MUCH {
            let Poll::Ready(next) = self.poll_next(cx) else { break };
            self.out = [&self.out[..], &next?].concat().into();
        }
        Ok(())
    }

    /// The next of the body, as it is written; nothing at its end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Stopped>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(Bytes::new())) };
        let broken = Err(Stopped::ByVisitor(Cause::Visitor));
        loop {
            let frame = match ready!(Pin::new(&mut **body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    let cause = match error.downcast_ref::<Cut>() {
                        Some(Cut::TooLong) => Cause::TooLong,
                        Some(Cut::TooSlow) => Cause::TooSlow,
                        None => Cause::Visitor,
                    };
                    return Poll::Ready(Err(Stopped::ByVisitor(cause)));
                }
                None => {
                    self.body = None;
                    return Poll::Ready(match self.coding {
                        Coding::Nothing | Coding::Length(0) => Ok(Bytes::new()),
                        Coding::Length(_) => broken,
                        Coding::Chunked => Ok(Bytes::from_static(b"0\r\n\r\n")),
                    });
                }
            };
            // Trailers are for nobody behind.
            let Ok(data) = frame.into_data() else { continue };
            if data.is_empty() {
                continue;
            }
            let more = data.len() as u64;
            match &mut self.coding {
                Coding::Nothing => {}
                Coding::Length(left) => {
                    let Some(after) = left.checked_sub(more) else { return Poll::Ready(broken) };
                    *left = after;
                    if after == 0 {
                        self.body = None;
                    }
                    return Poll::Ready(Ok(data));
                }
                Coding::Chunked => {
                    let size = format!("{more:x}\r\n");
                    let chunk = [size.as_bytes(), &data, b"\r\n"].concat();
                    return Poll::Ready(Ok(chunk.into()));
                }
            }
        }
    }
}

/// Chunks for a body of unknown length. One of a GET means nothing to anybody.
fn coding(method: &Method, body: &Body) -> Coding {
    match body.size_hint().exact() {
        _ if body.is_end_stream() => Coding::Nothing,
        Some(length) => Coding::Length(length),
        None if matches!(*method, Method::GET | Method::HEAD) => Coding::Nothing,
        None => Coding::Chunked,
    }
}

fn write(method: &Method, (uri, headers): (&Uri, &HeaderMap), coding: Coding) -> Vec<u8> {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let mut head = Vec::with_capacity(target.len() + fields.sum::<usize>() + 64);
    for part in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    let mut add = |name: &HeaderName, value: &[u8]| {
        for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
            head.extend_from_slice(part);
        }
    };
    for (name, value) in headers {
        if *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING {
            add(name, value.as_bytes());
        }
    }
    match coding {
        Coding::Length(length) => add(&header::CONTENT_LENGTH, length.to_string().as_bytes()),
        Coding::Chunked => add(&header::TRANSFER_ENCODING, b"chunked"),
        Coding::Nothing if headers.contains_key(header::CONTENT_LENGTH) => {
            add(&header::CONTENT_LENGTH, b"0");
        }
        Coding::Nothing => {}
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// What is worth one write.
const MUCH: usize = 16 << 10;
