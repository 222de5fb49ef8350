//! Sends a request to a back end, and to another when that one fails.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::{Response, StatusCode};

use super::Edge;
use crate::{
    Body,
    balance::{Balance, Choice, Picked, Standing, consistent, pick, pick_only},
    cache::Key,
    upstream::{Answer, Cause, Failure, Lease, Message, Server},
};

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

impl Edge {
    /// Sends `message` until a server answers well, as often as it may be.
    pub(super) async fn send(
        &self,
        mut message: Message,
        key: &Key,
    ) -> Result<Response<Body>, Refusal> {
        let now = self.inner.clock.elapsed();
        let (server, answer) = self.forward(&mut message, key.as_str(), now).await?;
        let mut response = answer.into_response();
        response.extensions_mut().insert(ServedBy(server));
        Ok(response)
    }

    /// As [`send`](Self::send); `key` is the address by which servers may be chosen.
    pub(super) async fn forward(
        &self,
        message: &mut Message,
        key: &str,
        now: Duration,
    ) -> Result<(Arc<Server>, Answer), Refusal> {
        let inner = &self.inner;
        inner.budget.deposit();
        let address = match inner.config.balance {
            Balance::Consistent => consistent::hash(&[key]),
            _ => 0,
        };
        let (mut tried, mut now) = (Vec::new(), now);
        loop {
            let lease = match self.free(&tried, address, now) {
                Some(lease) => lease,
                None => {
                    let lease = self.lease(&tried, address).await?;
                    now = inner.clock.elapsed();
                    lease
                }
            };
            let server = Arc::clone(lease.server());
            let started = now;
            let result = server.send(message, lease, &inner.config).await;
            now = inner.clock.elapsed();
            let took = now.saturating_sub(started);
            match result {
                Ok(answer) => {
                    let is_bad = is_bad(answer.status());
                    self.note(&server, now, took, !is_bad);
                    if !is_bad || !message.is_read() {
                        return Ok((server, answer));
                    }
                    tried.push(Arc::clone(&server));
                    if !self.may_retry(&tried, now) {
                        return Ok((server, answer));
                    }
                }
                Err(Failure { cause, is_unsent }) => {
                    if !cause.is_visitors() {
                        self.note(&server, now, took, false);
                        tracing::debug!("back end {} failed: {cause}", server.name);
                    }
                    tried.push(server);
                    let may_repeat = message.may_repeat || is_unsent;
                    if !may_repeat || !self.may_retry(&tried, now) {
                        return Err(Refusal::Failed(cause));
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
            && self.pick(&self.inner.fleet.now(), tried, (0, now)) != Picked::None
            && self.inner.budget.withdraw(now);
        if may {
            self.inner.stats.retries.add(1);
        }
        may
    }

    fn pick(
        &self,
        servers: &[Arc<Server>],
        tried: &[Arc<Server>],
        (address, now): (u64, Duration),
    ) -> Picked {
        let inner = &self.inner;
        let max_requests = inner.config.max_requests_per_server;
        if let ([only], []) = (servers, tried) {
            return pick_only(&only.standing, (now, max_requests));
        }
        let standings: Vec<&Standing> = servers.iter().map(|server| &server.standing).collect();
        let place = |one: &Arc<Server>| servers.iter().position(|server| Arc::ptr_eq(server, one));
        let tried: Vec<usize> = tried.iter().filter_map(place).collect();
        let choice = Choice {
            balance: inner.config.balance,
            health: &inner.config.health,
            now,
            max_requests,
            tried: &tried,
            random: self.draw(),
            address,
        };
        pick(&standings, choice)
    }

    /// A place at a server that was not tried, if there is one right now.
    fn free(&self, tried: &[Arc<Server>], address: u64, now: Duration) -> Option<Lease> {
        let servers = self.inner.fleet.now();
        match self.pick(&servers, tried, (address, now)) {
            Picked::Server(index) => Some(servers[index].lease()),
            Picked::Busy | Picked::None => None,
        }
    }

    /// A place at a server that was not tried; waits for one while the queue is not full.
    async fn lease(&self, tried: &[Arc<Server>], address: u64) -> Result<Lease, Refusal> {
        let inner = &self.inner;
        let mut place = None;
        let limit = Duration::from_millis(inner.config.queue_timeout_ms);
        let since = inner.clock.elapsed();
        loop {
            // Listening begins before looking, so that no place is given back unheard.
            let mut freed = std::pin::pin!(inner.fleet.freed.notified());
            freed.as_mut().enable();
            let (servers, now) = (inner.fleet.now(), inner.clock.elapsed());
            match self.pick(&servers, tried, (address, now)) {
                Picked::Server(index) => return Ok(servers[index].lease()),
                Picked::None => return Err(Refusal::NoServer),
                Picked::Busy => {}
            }
            if place.is_none() {
                place = Some(Place::in_queue(self).ok_or(Refusal::Busy)?);
            }
            let left = limit.saturating_sub(now.saturating_sub(since));
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
