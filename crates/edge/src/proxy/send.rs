//! Sends a request to a back end, and to another when that one fails.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::{Extensions, HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body::Body as HttpBody;

use super::Edge;
use crate::{
    Body,
    balance::{Balance, Choice, Picked, Standing, consistent, pick},
    cache::{Key, Question},
    upstream::{Cause, Lease, Server},
};

/// A request for a back end.
pub(super) struct Outgoing {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
    extensions: Extensions,
    key: Key,
    /// Whether sending it twice does no harm, and it can be: it has no body.
    may_repeat: bool,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Every server works on as much as it may, and enough wait already.
    Busy,
    /// No server is in service.
    NoServer,
    /// The last one that was tried failed.
    Failed(Cause),
    /// Whoever asked for the same found out that no server answers.
    Collapsed,
    /// The client wants a stored answer only.
    OnlyIfCached,
    /// The edge is being stopped.
    Stopping,
}

/// Which server answered; an extension of the response, for the log.
#[derive(Clone, Debug)]
pub(crate) struct ServedBy(pub(crate) Arc<Server>);

impl Outgoing {
    pub(super) fn new(
        question: &Question,
        headers: HeaderMap,
        body: Body,
        extensions: Extensions,
    ) -> Self {
        let method = question.method().clone();
        let is_idempotent =
            [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE]
                .contains(&method);
        let may_repeat = is_idempotent && body.is_end_stream();
        let (uri, key) = (question.uri().clone(), question.key().clone());
        Self { method, uri, headers, body, extensions, key, may_repeat }
    }

    fn request(&mut self) -> Request<Body> {
        let mut request = Request::new(std::mem::take(&mut self.body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        *request.extensions_mut() = self.extensions.clone();
        request
    }
}

impl Edge {
    /// Sends `outgoing` until a server answers well, as often as it may be.
    pub(super) async fn send(&self, mut outgoing: Outgoing) -> Result<Response<Body>, Refusal> {
        let inner = &self.inner;
        inner.budget.deposit();
        let address = match inner.config.balance {
            Balance::Consistent => consistent::hash(&[outgoing.key.as_str()]),
            _ => 0,
        };
        let is_read = matches!(outgoing.method, Method::GET | Method::HEAD);
        let mut tried = Vec::new();
        let mut request = Some(outgoing.request());
        loop {
            let (server, lease) = self.lease(&tried, address).await?;
            tried.push(Arc::clone(&server));
            let sent = request.take().unwrap_or_else(|| outgoing.request());
            let started = inner.clock.elapsed();
            let with = (&inner.config, &inner.tasks, outgoing.may_repeat);
            let result = server.send(sent, lease, with).await;
            let now = inner.clock.elapsed();
            let took = now.saturating_sub(started);
            match result {
                Ok(mut response) => {
                    let is_bad = is_bad(response.status());
                    self.note(&server, now, took, !is_bad);
                    if is_bad && is_read && self.may_retry(&tried, now) {
                        continue;
                    }
                    response.extensions_mut().insert(ServedBy(server));
                    return Ok(response);
                }
                Err(failure) => {
                    if !failure.cause.is_visitors() {
                        self.note(&server, now, took, false);
                        tracing::debug!("back end {} failed: {}", server.name, failure.cause);
                    }
                    let may_repeat = outgoing.may_repeat || failure.unsent.is_some();
                    request = failure.unsent.map(|unsent| *unsent);
                    if !may_repeat || !self.may_retry(&tried, now) {
                        return Err(Refusal::Failed(failure.cause));
                    }
                }
            }
        }
    }

    fn note(&self, server: &Server, now: Duration, took: Duration, is_good: bool) {
        let is_ejected = server.standing.answered(&self.inner.config.health, now, took, is_good);
        if is_ejected {
            self.inner.stats.ejections.add(1);
            tracing::warn!(server.name = %server.name, "back end {} failed too often and rests", server.name);
        }
    }

    /// Whether another server may be tried after those in `tried`.
    fn may_retry(&self, tried: &[Arc<Server>], now: Duration) -> bool {
        let may = tried.len() <= self.inner.config.retries
            && self.pick(&self.inner.fleet.now(), tried, 0) != Picked::None
            && self.inner.budget.withdraw(now);
        if may {
            self.inner.stats.retries.add(1);
        }
        may
    }

    fn pick(&self, servers: &[Arc<Server>], tried: &[Arc<Server>], address: u64) -> Picked {
        let inner = &self.inner;
        let standings: Vec<&Standing> = servers.iter().map(|server| &server.standing).collect();
        let place = |one: &Arc<Server>| servers.iter().position(|server| Arc::ptr_eq(server, one));
        let tried: Vec<usize> = tried.iter().filter_map(place).collect();
        let choice = Choice {
            balance: inner.config.balance,
            health: &inner.config.health,
            now: inner.clock.elapsed(),
            max_requests: inner.config.max_requests_per_server,
            tried: &tried,
            random: self.draw(),
            address,
        };
        pick(&standings, choice)
    }

    /// A place at a server that was not tried; waits for one while the queue is not full.
    async fn lease(
        &self,
        tried: &[Arc<Server>],
        address: u64,
    ) -> Result<(Arc<Server>, Lease), Refusal> {
        let inner = &self.inner;
        let mut place = None;
        let limit = Duration::from_millis(inner.config.queue_timeout_ms);
        let since = inner.clock.elapsed();
        loop {
            // Listening begins before looking, so that no place is given back unheard.
            let mut freed = std::pin::pin!(inner.fleet.freed.notified());
            freed.as_mut().enable();
            let servers = inner.fleet.now();
            match self.pick(&servers, tried, address) {
                Picked::Server(index) => {
                    let server = Arc::clone(&servers[index]);
                    let lease = server.lease();
                    return Ok((server, lease));
                }
                Picked::None => return Err(Refusal::NoServer),
                Picked::Busy => {}
            }
            if place.is_none() {
                place = Some(Place::in_queue(self).ok_or(Refusal::Busy)?);
            }
            let left = limit.saturating_sub(inner.clock.elapsed().saturating_sub(since));
            inner.clock.timeout(left, freed).await.ok_or(Refusal::Busy)?;
        }
    }
}

/// One of those who wait for a server to be free.
struct Place<'a>(&'a Edge);

impl<'a> Place<'a> {
    fn in_queue(edge: &'a Edge) -> Option<Self> {
        let before = edge.inner.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Self(edge);
        (before < edge.inner.config.max_queue).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.inner.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Statuses that say that the server, not the request, is at fault.
fn is_bad(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}
