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
    log::ServedBy,
    upstream::{Answer, Cause, Failure, Lease, Limit, Message, Server},
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

/// What the servers have said, or why none is asked any more.
pub(super) type Forwarded = Result<(Arc<Server>, Answer), Refusal>;

/// How far the sending of a request has got.
#[derive(Debug)]
pub(super) struct Round {
    tried: Vec<Arc<Server>>,
    /// See [`Balance::Consistent`].
    address: u64,
    /// When the server that has it now was asked, or had answered.
    pub(super) now: Duration,
}

impl Edge {
    /// Sends `message` until a server answers well, as often as it may be.
    pub(super) async fn send(
        &self,
        mut message: Message,
        key: &Key,
    ) -> Result<Response<Body>, Refusal> {
        let now = self.inner.clock.elapsed();
        let round = self.round(key.as_str(), now);
        let (server, answer) = self.forward(&mut message, round, None).await?;
        let mut response = answer.into_response();
        response.extensions_mut().insert(ServedBy(server));
        Ok(response)
    }

    /// Begins to send a request; `key` is the address by which servers may be chosen.
    pub(super) fn round(&self, key: &str, now: Duration) -> Round {
        self.inner.budget.deposit();
        let address = match self.inner.config.balance {
            Balance::Consistent => consistent::hash(&[key]),
            _ => 0,
        };
        Round { tried: Vec::new(), address, now }
    }

    /// Sends `message` until a server answers well, as often as it may be. `begun` is a place at a
    /// server where it could not be sent over a connection that was at rest.
    pub(super) async fn forward(
        &self,
        message: &mut Message,
        mut round: Round,
        mut begun: Option<(Lease, Limit)>,
    ) -> Forwarded {
        let config = &self.inner.config;
        loop {
            let (server, result) = match begun.take() {
                Some((lease, limit)) => {
                    let server = Arc::clone(lease.server());
                    let result = server.send_anew(message, (lease, limit), config).await;
                    (server, result)
                }
                None => {
                    let lease = match self.free(&round) {
                        Some(lease) => lease,
                        None => {
                            let lease = self.lease(&round).await?;
                            round.now = self.inner.clock.elapsed();
                            lease
                        }
                    };
                    let server = Arc::clone(lease.server());
                    let result = server.send(message, lease, (config, round.now)).await;
                    (server, result)
                }
            };
            let may = (message.is_read(), message.may_repeat);
            if let Some(forwarded) = self.judge(&mut round, may, (server, result)) {
                return forwarded;
            }
        }
    }

    /// What follows from what a server has said to a request that `is_read` and `may_repeat`, or not;
    /// `None` when another server is to be tried.
    pub(super) fn judge(
        &self,
        round: &mut Round,
        (is_read, may_repeat): (bool, bool),
        (server, result): (Arc<Server>, Result<Answer, Failure>),
    ) -> Option<Forwarded> {
        let now = self.inner.clock.elapsed();
        let took = now.saturating_sub(round.now);
        round.now = now;
        match result {
            Ok(answer) => {
                let is_bad = is_bad(answer.status());
                self.note(&server, now, took, !is_bad);
                if !is_bad || !is_read {
                    return Some(Ok((server, answer)));
                }
                round.tried.push(Arc::clone(&server));
                (!self.may_retry(round)).then_some(Ok((server, answer)))
            }
            Err(Failure { cause, is_unsent }) => {
                if !cause.is_visitors() {
                    self.note(&server, now, took, false);
                    tracing::debug!("back end {} failed: {cause}", server.name);
                }
                round.tried.push(server);
                let may_repeat = may_repeat || is_unsent;
                (!(may_repeat && self.may_retry(round))).then_some(Err(Refusal::Failed(cause)))
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

    /// Whether another server may be tried after those that were.
    fn may_retry(&self, round: &Round) -> bool {
        let may = round.tried.len() <= self.inner.config.retries
            && self.pick(&self.inner.fleet.now(), round, round.now) != Picked::None
            && self.inner.budget.withdraw(round.now);
        if may {
            self.inner.stats.retries.add(1);
        }
        may
    }

    fn pick(&self, servers: &[Arc<Server>], round: &Round, now: Duration) -> Picked {
        let (inner, tried) = (&self.inner, &round.tried[..]);
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
            address: round.address,
        };
        pick(&standings, choice)
    }

    /// A place at a server that was not tried, if there is one right now.
    pub(super) fn free(&self, round: &Round) -> Option<Lease> {
        let servers = self.inner.fleet.now();
        match self.pick(&servers, round, round.now) {
            Picked::Server(index) => Some(servers[index].lease()),
            Picked::Busy | Picked::None => None,
        }
    }

    /// A place at a server that was not tried; waits for one while the queue is not full.
    async fn lease(&self, round: &Round) -> Result<Lease, Refusal> {
        let inner = &self.inner;
        let mut place = None;
        let limit = Duration::from_millis(inner.config.queue_timeout_ms);
        let since = inner.clock.elapsed();
        loop {
            // Listening begins before looking, so that no place is given back unheard.
            let mut freed = std::pin::pin!(inner.fleet.freed.told(!round.tried.is_empty()));
            freed.as_mut().enable();
            let (servers, now) = (inner.fleet.now(), inner.clock.elapsed());
            match self.pick(&servers, round, now) {
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
pub(super) fn is_bad(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}
