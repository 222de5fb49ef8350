//! A back end: a server somewhere, or a service in this process.

mod attempt;
mod chunks;
mod connection;
mod counts;
mod freed;
mod head;
mod message;
mod pool;
mod service;
mod socket;
mod trust;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::{Request, Response, StatusCode, Uri};
use http_body::Body as HttpBody;
use throng_core::Clock;
use tokio::sync::watch;
use tower_service::Service;

pub use self::trust::Trust;
pub(crate) use self::{
    attempt::{Attempt, Limit, Settled},
    connection::{Incoming, Trouble, Upgraded, Wanted},
    freed::Freed,
    head::{Framing, Head, UNREAD, parse as parse_head},
    message::{Message, Sending},
};
use self::{connection::Connection, counts::Counts, pool::Pool, service::Local, trust::Secure};
use crate::{
    Body, Config, Error, ServerStatus,
    balance::Standing,
    body::{BoxError, Ending},
};

/// Where requests go. Several make a site that survives the loss of one.
#[derive(Debug)]
pub struct Upstream {
    name: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Http(Pool),
    Local(Local),
}

impl Upstream {
    /// A server that speaks HTTP/1.1, such as `http://127.0.0.1:8000`. Over TLS, `https://…`, it is
    /// believed as [`Trust::default`] says.
    pub fn http(url: &str) -> Result<Self, Error> {
        Self::trusted(url, &Trust::default())
    }

    /// The same, believed as `trust` says where its URL is `https://…`. It reads the disk.
    pub fn trusted(url: &str, trust: &Trust) -> Result<Self, Error> {
        let wrong = |reason| Error::Upstream { url: url.to_owned(), reason };
        let uri: Uri = url.parse().map_err(|_| wrong("it is no URL"))?;
        let (is_secure, port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => {
                return Err(wrong(
                    "only `http://host:port` and `https://host:port` can be reached",
                ));
            }
        };
        if !is_secure && *trust != Trust::default() {
            return Err(wrong("only `https://` has certificates to be believed by"));
        }
        let Some(authority) = uri.authority() else { return Err(wrong("it names no host")) };
        if authority.as_str().contains('@') || uri.path() != "/" || uri.query().is_some() {
            return Err(wrong("it may have a host and a port, nothing more"));
        }
        let secure = is_secure.then(|| Secure::new(authority.host(), trust)).transpose();
        let secure = secure.map_err(|reason| Error::Trust { url: url.to_owned(), reason })?;
        let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(port));
        Ok(Self { name: address.clone(), kind: Kind::Http(Pool::new(address, secure)) })
    }

    /// What the edge calls it: host and port, or the name of the service.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A service in this process, such as an axum router: no socket between.
    pub fn service<S, B>(name: impl Into<String>, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: HttpBody<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self { name: name.into(), kind: Kind::Local(Local::new(service)) }
    }
}

/// A back end at work.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: String,
    kind: Kind,
    pub(crate) standing: Standing,
    pub(crate) counts: Counts,
    /// Counts how often checks took it out, so that those who wait for a connection notice.
    went_down: watch::Sender<u64>,
    freed: Arc<Freed>,
    clock: Clock,
}

/// What a back end answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// As it comes over a connection.
    Wire(Incoming),
    Local(Response<Body>),
}

impl Answer {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Wire(incoming) => incoming.head().status,
            Self::Local(response) => response.status(),
        }
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        match self {
            Self::Wire(incoming) => incoming.into_response(),
            Self::Local(response) => response,
        }
    }
}

/// Why a back end gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    /// Whether nothing of the request has left, so that any request may be tried elsewhere.
    pub(crate) is_unsent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cause {
    #[error("cannot connect")]
    Connect,
    #[error("the connection broke before an answer came")]
    Broken,
    #[error("no answer came in time")]
    Late,
    #[error("its checks began to fail")]
    WentDown,
    #[error("the body of the request broke off")]
    Visitor,
    #[error("the body of the request is too long")]
    TooLong,
    #[error("the body of the request made no progress")]
    TooSlow,
}

impl Cause {
    /// Whether the visitor is at fault and not the server.
    pub(crate) fn is_visitors(self) -> bool {
        matches!(self, Self::Visitor | Self::TooLong | Self::TooSlow)
    }
}

impl Server {
    pub(crate) fn new(upstream: Upstream, freed: Arc<Freed>, clock: Clock) -> Arc<Self> {
        let Upstream { name, kind } = upstream;
        let went_down = watch::Sender::new(0);
        let standing = Standing::new(&name);
        let counts = Counts::default();
        Arc::new(Self { name, kind, standing, counts, went_down, freed, clock })
    }

    /// Takes one of the places at this server; the lease gives it back.
    pub(crate) fn lease(self: &Arc<Self>) -> Lease {
        self.standing.working_on.fetch_add(1, Ordering::Relaxed);
        Lease { server: Arc::clone(self) }
    }

    /// Sends `message` and waits for the head of the answer. A request that may be sent again gives
    /// up on a server whose checks begin to fail.
    pub(crate) async fn send(
        &self,
        message: &mut Message,
        lease: Lease,
        (config, now): (&Config, Duration),
    ) -> Result<Answer, Failure> {
        let limit = Limit::new(config, now);
        let Some(connection) = self.rested(message.may_repeat, now) else {
            return self.send_anew(message, (lease, limit), config).await;
        };
        let Some(sending) = message.sending() else {
            // A part of it is gone.
            self.counts.failed(Cause::Broken);
            return Err(Failure { cause: Cause::Broken, is_unsent: false });
        };
        let what = (sending, message.wanted());
        match Attempt::rested(connection, (lease, limit), what).finish().await {
            Settled::Anew(lease, sending) => {
                message.keep(sending);
                self.send_anew(message, (lease, limit), config).await
            }
            settled => message.settled(settled),
        }
    }

    /// Counts a request, and finds a connection for it that is at rest.
    pub(crate) fn rested(&self, may_repeat: bool, now: Duration) -> Option<Connection> {
        self.counts.asked();
        match &self.kind {
            Kind::Local(_) => None,
            Kind::Http(pool) => pool.take(now, may_repeat),
        }
    }

    /// As [`send`](Self::send), but not over a connection that was at rest. It counts as the same
    /// request.
    pub(crate) async fn send_anew(
        &self,
        message: &mut Message,
        (lease, limit): (Lease, Limit),
        config: &Config,
    ) -> Result<Answer, Failure> {
        let failed = |cause, is_unsent| {
            self.counts.failed(cause);
            Err(Failure { cause, is_unsent })
        };
        match &self.kind {
            Kind::Local(local) => {
                let Some(request) = message.request() else { return failed(Cause::Connect, false) };
                let left = limit.until.saturating_sub(self.clock.elapsed());
                match self.clock.timeout(left, local.call(request)).await {
                    None => failed(Cause::Late, false),
                    Some(Err(_)) => failed(Cause::Broken, false),
                    Some(Ok(answer)) => {
                        self.counts.answered(answer.status());
                        Ok(Answer::Local(answer.map(|body| body.with_ending(Box::new(lease)))))
                    }
                }
            }
            Kind::Http(pool) => match self.connect(pool, message.may_repeat, (limit, config)).await
            {
                Err(cause) => failed(cause, true),
                Ok(connection) => {
                    // A part of it may be gone.
                    let Some(sending) = message.sending() else {
                        return failed(Cause::Broken, false);
                    };
                    let what = (sending, message.wanted());
                    let attempt = Attempt::new(connection, (lease, limit), what);
                    message.settled(attempt.finish().await)
                }
            },
        }
    }

    async fn connect(
        &self,
        pool: &Pool,
        may_repeat: bool,
        (limit, config): (Limit, &Config),
    ) -> Result<Connection, Cause> {
        let mut down = self.went_down.subscribe();
        let left = limit.until.saturating_sub(self.clock.elapsed());
        let most = left.min(Duration::from_millis(config.connect_timeout_ms));
        let connected = tokio::select! {
            biased;
            connected = self.clock.timeout(most, pool.connect()) => connected,
            // The sender lives as long as `self`.
            Ok(()) = down.changed(), if may_repeat => return Err(Cause::WentDown),
        };
        connected.flatten().ok_or(Cause::Connect)
    }

    /// One active check: a connection, or the answer to a GET.
    pub(crate) async fn is_alive(&self, config: &Config) -> bool {
        let limit = Duration::from_millis(config.health.timeout_ms);
        match &self.kind {
            Kind::Local(_) => true,
            Kind::Http(pool) => {
                let check = pool.check(config.health.path.as_deref(), self.clock.elapsed());
                self.clock.timeout(limit, check).await.unwrap_or(false)
            }
        }
    }

    /// How it is doing, for people.
    pub(crate) fn status(&self, now: Duration) -> ServerStatus {
        ServerStatus {
            name: self.name.clone(),
            status: self.standing.status(now),
            working_on: self.standing.working_on.load(Ordering::Relaxed),
        }
    }

    /// Whether it is what `upstream` means: the same address, believed alike. Services are never the
    /// same.
    pub(crate) fn is_for(&self, upstream: &Upstream) -> bool {
        match (&self.kind, &upstream.kind) {
            (Kind::Http(own), Kind::Http(other)) => {
                self.name == upstream.name && own.trust() == other.trust()
            }
            _ => false,
        }
    }

    pub(crate) fn is_checked(&self) -> bool {
        matches!(self.kind, Kind::Http(_))
    }

    /// Notes the result of a check; returns whether it changed anything.
    pub(crate) fn checked(&self, config: &Config, is_passed: bool) -> bool {
        let now = self.clock.elapsed();
        let has_changed = self.standing.checked(&config.health, now, is_passed);
        self.counts.checked(is_passed, has_changed, now);
        if has_changed && !is_passed {
            self.went_down.send_modify(|times| *times += 1);
            self.rest();
        }
        has_changed
    }

    /// Closes what is at rest.
    pub(crate) fn rest(&self) {
        if let Kind::Http(pool) = &self.kind {
            pool.clear();
        }
    }
}

/// A place at a server, held until the answer has been passed on.
#[derive(Debug)]
pub(crate) struct Lease {
    server: Arc<Server>,
}

impl Lease {
    pub(crate) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// The connection is free for the next request.
    fn give_back(self, connection: Connection) {
        if let Kind::Http(pool) = &self.server.kind {
            // It is about seconds.
            let now_ms = self.server.clock.elapsed_coarse_ms();
            pool.put(connection, Duration::from_millis(now_ms.try_into().unwrap_or(0)));
        }
    }
}

impl Ending for Lease {
    fn ended(self: Box<Self>, _bytes: u64, _is_whole: bool) {}
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.server.standing.working_on.fetch_sub(1, Ordering::Relaxed);
        self.server.freed.tell();
    }
}
