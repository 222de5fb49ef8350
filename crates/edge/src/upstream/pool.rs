//! Connections to one server, kept for the next request.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{HeaderValue, Request, Response, Uri, header};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use throng_core::Clock;
use tokio::net::TcpStream;

use super::{Cause, Failure};
use crate::{Body, limit::Cut, tasks::Tasks};

pub(super) type Connection = SendRequest<Body>;

#[derive(Debug)]
pub(super) struct Pool {
    address: String,
    idle: Mutex<Vec<(Connection, Duration)>>,
}

impl Pool {
    pub(super) fn new(address: String) -> Self {
        Self { address, idle: Mutex::default() }
    }

    /// Sends over a connection that is at rest, or over a new one. The server may have closed the
    /// former just now, which is nobody's failure: then a new one is tried once.
    pub(super) async fn send(
        &self,
        mut request: Request<Body>,
        clock: &Clock,
        (connect, may_repeat): (Duration, bool),
        tasks: &Tasks,
    ) -> Result<(Response<Incoming>, Connection), Failure> {
        // A server that closes a connection while a request is on its way leaves open whether it
        // has worked on it. One that cannot be repeated goes where that cannot be.
        let longest = if may_repeat { LONGEST_REST } else { SAFE_REST };
        while let Some(mut connection) = self.take(clock.elapsed(), longest) {
            if !connection.is_ready() {
                let ready = clock.timeout(SETTLE, connection.ready()).await;
                if !matches!(ready, Some(Ok(()))) {
                    continue;
                }
            }
            match connection.try_send_request(request).await {
                Ok(answer) => return Ok((answer, connection)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Failure { cause: cause(error.error()), unsent: None }),
                },
            }
        }
        let connected = clock.timeout(connect, self.connect(tasks)).await;
        let Some(Some(mut connection)) = connected else {
            return Err(Failure { cause: Cause::Connect, unsent: Some(Box::new(request)) });
        };
        match connection.try_send_request(request).await {
            Ok(answer) => Ok((answer, connection)),
            Err(mut error) => {
                let unsent = error.take_message().map(Box::new);
                Err(Failure { cause: cause(error.error()), unsent })
            }
        }
    }

    /// Whether the server accepts a connection, or answers a GET for `path` with less than 500.
    pub(super) async fn check(&self, path: Option<&str>, tasks: &Tasks) -> bool {
        let Some(path) = path else { return TcpStream::connect(&self.address).await.is_ok() };
        let Some(mut connection) = self.connect(tasks).await else { return false };
        let mut request = Request::new(Body::empty());
        let Ok(uri) = path.parse::<Uri>() else { return false };
        *request.uri_mut() = uri;
        if let Ok(host) = HeaderValue::from_str(&self.address) {
            request.headers_mut().insert(header::HOST, host);
        }
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static("throng-check"));
        match connection.send_request(request).await {
            Ok(answer) => answer.status().as_u16() < 500,
            Err(_) => false,
        }
    }

    pub(super) fn put(&self, connection: Connection, now: Duration) {
        let mut idle = self.lock();
        if !connection.is_closed() && idle.len() < MOST_IDLE {
            idle.push((connection, now));
        }
    }

    /// Closes what is at rest.
    pub(super) fn clear(&self) {
        let closed = std::mem::take(&mut *self.lock());
        drop(closed);
    }

    /// The one that was used last; those that rested for long may be closed by now.
    fn take(&self, now: Duration, longest: Duration) -> Option<Connection> {
        let mut idle = self.lock();
        while let Some((connection, since)) = idle.pop() {
            let rested = now.saturating_sub(since);
            if rested > LONGEST_REST {
                // Those below rest for longer still.
                idle.clear();
                return None;
            }
            if rested > longest {
                idle.push((connection, since));
                return None;
            }
            if !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    async fn connect(&self, tasks: &Tasks) -> Option<Connection> {
        let stream = TcpStream::connect(&self.address).await.ok()?;
        let _ = stream.set_nodelay(true); // only slower without it
        // A hundred fields at most, as other proxies take: hyper has room for those without asking
        // for memory.
        let builder = http1::Builder::new();
        let (connection, driver) = builder.handshake(TokioIo::new(stream)).await.ok()?;
        tasks.spawn(async move {
            // Whoever waits for an answer on it hears of the error.
            let _ = driver.with_upgrades().await;
        });
        Some(connection)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Connection, Duration)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it was the server, or what the visitor sent.
fn cause(error: &hyper::Error) -> Cause {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        match inner.downcast_ref::<Cut>() {
            Some(Cut::TooLong) => return Cause::TooLong,
            Some(Cut::TooSlow) => return Cause::TooSlow,
            None => source = inner.source(),
        }
    }
    if error.is_user() { Cause::Visitor } else { Cause::Broken }
}

/// How long a connection whose answer is over may take to be ready for the next request.
const SETTLE: Duration = Duration::from_millis(5);
/// Shorter than what most servers wait for the next request: five seconds and more.
const LONGEST_REST: Duration = Duration::from_secs(4);
/// Shorter than what any server in use waits (gunicorn: two seconds).
const SAFE_REST: Duration = Duration::from_millis(500);
const MOST_IDLE: usize = 256;
