//! One connection of a visitor, from its first request to its last answer.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::ready,
    time::Duration,
};

use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use throng_core::{Clock, Shutdown};
use tokio::net::TcpStream;

use super::{
    Edge,
    answer::AskOverHttps,
    head,
    heard::Heard,
    pages,
    quick::{Quick, Shared, Turn},
    streams::{Run, Streams, Verdict},
    websocket,
};
use crate::{
    Body,
    limit::{Patient, Stream},
};

/// What is known of a connection.
#[derive(Debug)]
pub(super) struct Talk {
    edge: Edge,
    pub(super) visitor: IpAddr,
    pub(super) scheme: &'static str,
    pub(super) protocol: Protocol,
    /// Where HTTPS is spoken, when nothing else may be.
    https_port: Option<u16>,
    is_ending: AtomicBool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    /// What the other side of a connection without TLS begins to speak.
    pub(super) async fn of(stream: &TcpStream, clock: &Clock) -> io::Result<Self> {
        let mut start = [0; PREFACE.len()];
        loop {
            let count = stream.peek(&mut start).await?;
            if count == 0 || !PREFACE.starts_with(&start[..count]) {
                return Ok(Self::Http1);
            }
            if count == PREFACE.len() {
                return Ok(Self::Http2);
            }
            // Nobody sends half of four bytes, except to see what happens.
            clock.sleep(LOOK_AGAIN).await;
        }
    }
}

impl Talk {
    pub(super) fn new(edge: &Edge, peer: IpAddr, https_port: Option<u16>) -> Self {
        Self {
            edge: edge.clone(),
            visitor: peer,
            scheme: "http",
            protocol: Protocol::Http1,
            https_port,
            is_ending: AtomicBool::new(false),
        }
    }

    /// Talks until one side has enough, or `shutdown` and then what is under way is over.
    pub(super) async fn over(self, stream: impl Stream, shutdown: Shutdown) {
        let inner = &self.edge.inner;
        let timeout_ms = inner.config.body_timeout_ms;
        let stream = Patient::new(stream, &inner.clock, timeout_ms, &inner.tasks);
        let (edge, visitor) = (self.edge.clone(), self.visitor);
        let talked = match self.protocol {
            Protocol::Http1 => Arc::new(self).http1(stream, shutdown).await,
            Protocol::Http2 => Arc::new(self).http2(TokioIo::new(stream), shutdown).await,
        };
        // Broken connections are an everyday thing; hyper has answered what can be answered.
        if let Err(error) = talked {
            edge.count(&error);
            tracing::debug!("a connection of {visitor} broke: {error}");
        }
    }

    async fn http1(
        self: Arc<Self>,
        stream: Patient<impl Stream>,
        shutdown: Shutdown,
    ) -> hyper::Result<()> {
        let config = &self.edge.inner.config;
        let turn = Turn::new(&self.edge.inner.clock);
        // Where all is to be asked over HTTPS, nothing is answered from memory either.
        let who = (self.visitor, self.scheme, self.https_port.is_none());
        let own = Shared::new(Quick::new(stream, &self.edge, who, &turn));
        let io = TokioIo::new(own.clone());
        let mut builder = http1::Builder::new();
        // Heads that do not come are watched for below hyper, which sees only some of them.
        builder.max_buf_size(config.max_head_bytes).max_header_size(config.max_head_bytes);
        // Its own limit is in place already, and costs less.
        if config.max_fields != HYPERS_MOST_FIELDS {
            builder.max_headers(config.max_fields);
        }
        let (talk, own_turn) = (Arc::clone(&self), turn.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            let (talk, turn) = (Arc::clone(&talk), own_turn.clone());
            async move {
                let under_way = turn.begin();
                // HTTP/1.0 knows nothing before the answer.
                if request.version() == Version::HTTP_11 {
                    request.extensions_mut().insert(turn.interims().open());
                }
                let mut response = talk.answer(request).await;
                turn.interims().close();
                let is_upgrade = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                if is_upgrade {
                    turn.set_free();
                } else if talk.is_ending.load(Ordering::Relaxed) {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<_, Infallible>(response.map(|body| body.with_ending(Box::new(under_way))))
            }
        });
        let mut connection = std::pin::pin!(builder.serve_connection(io, service).with_upgrades());
        // hyper has nothing to do while the edge answers by itself.
        let mut answered = std::pin::pin!(poll_fn(|cx| {
            ready!(own.poll_own(cx));
            connection.as_mut().poll(cx)
        }));
        let requested = std::pin::pin!(shutdown.requested());
        tokio::select! {
            biased;
            over = answered.as_mut() => return over,
            () = Heard::new(requested) => {}
        }
        // A request may be on its way on a connection that is at rest. It gets its answer, and is
        // told that it is the last.
        self.is_ending.store(true, Ordering::Relaxed);
        turn.stop();
        tokio::select! {
            over = answered.as_mut() => return over,
            () = self.edge.inner.clock.sleep(LAST_REST) => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    }

    async fn http2(
        self: Arc<Self>,
        io: TokioIo<Patient<impl Stream>>,
        shutdown: Shutdown,
    ) -> hyper::Result<()> {
        let inner = Arc::clone(&self.edge.inner);
        let config = &inner.config;
        let streams = Arc::new(Streams::new(&inner.clock));
        let mut builder = http2::Builder::new(Run(Arc::clone(&streams)));
        builder
            .enable_connect_protocol()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MOST_STREAMS)
            .max_header_list_size(u32::try_from(config.max_head_bytes).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_pending_accept_reset_streams(MOST_RESETS)
            .keep_alive_interval(Duration::from_millis(config.head_timeout_ms))
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        let opened = Arc::clone(&streams);
        let service = service_fn(move |request: Request<Incoming>| {
            let (talk, mut open) = (Arc::clone(&self), opened.open());
            async move {
                let (mut response, is_tunnel) = talk.answer_stream(request).await;
                response.headers_mut().remove(header::CONNECTION);
                if is_tunnel {
                    // It is counted as what hyper runs for it, and has no body.
                    open.is_taken();
                }
                Ok::<_, Infallible>(response.map(|body| open.carry(body)))
            }
        });
        let mut connection = std::pin::pin!(builder.serve_connection(io, service));
        let rest = Duration::from_millis(config.head_timeout_ms);
        let patience = Duration::from_millis(config.body_timeout_ms);
        let pause = (rest.min(patience) / 4).max(Duration::from_millis(1));
        let mut is_ending = false;
        loop {
            tokio::select! {
                over = connection.as_mut() => return over,
                () = shutdown.requested(), if !is_ending => {
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = streams.too_many_given_up() => {
                    inner.stats.floods.add(1);
                    return Ok(());
                }
                () = inner.clock.sleep(pause) => match streams.verdict(rest, patience) {
                    Verdict::Busy => {}
                    Verdict::Stuck => {
                        inner.stats.slow.add(1);
                        return Ok(());
                    }
                    Verdict::Resting if !is_ending => {
                        is_ending = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    Verdict::Resting => {}
                },
            }
        }
    }

    /// Answers one stream of HTTP/2, and says whether it is a tunnel from then on.
    async fn answer_stream(&self, mut request: Request<Incoming>) -> (Response<Body>, bool) {
        let edge = &self.edge;
        let nonce = || (u128::from(edge.draw()) << 64 | u128::from(edge.draw())).to_be_bytes();
        let (failed, id) = match websocket::begin(&mut request, nonce) {
            Ok(None) => return (self.answer(request).await, false),
            Ok(Some(asked)) => {
                let response = self.answer(request).await;
                let id = response.headers().get(head::X_REQUEST_ID).cloned();
                match asked.end(response) {
                    Ok(response) => {
                        let is_tunnel = response.status() == StatusCode::OK;
                        return (response, is_tunnel);
                    }
                    Err(status) => (status, id),
                }
            }
            Err(status) => (status, None),
        };
        let id = id.and_then(|id| Some(id.to_str().ok()?.to_owned()));
        (pages::no_tunnel(failed, &id.unwrap_or_else(|| edge.draw_id())), false)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let mut request = request.map(Body::incoming);
        if let Some(port) = self.https_port {
            request.extensions_mut().insert(AskOverHttps(port));
        }
        self.edge.handle(request, self.visitor, self.scheme).await
    }
}

impl Edge {
    /// Counts a connection that ended badly by its visitor's doing.
    fn count(&self, error: &hyper::Error) {
        let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref());
        let is_late = |cause: &io::Error| cause.kind() == io::ErrorKind::TimedOut;
        if error.is_timeout() || cause.is_some_and(is_late) {
            self.inner.stats.slow.add(1);
        } else if error.is_parse() {
            self.inner.stats.malformed.add(1);
        }
    }
}

/// How HTTP/2 begins; a method of HTTP/1.1 it is not.
const PREFACE: &[u8; 4] = b"PRI ";
const HYPERS_MOST_FIELDS: usize = 100;
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long a connection at rest is listened to when the edge is being stopped.
const LAST_REST: Duration = Duration::from_secs(1);
const MOST_STREAMS: u32 = 128;
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Requests that are taken back before anybody has looked at them.
const MOST_RESETS: usize = 20;
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
