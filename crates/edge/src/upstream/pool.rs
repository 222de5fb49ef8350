//! Connections to one server, kept for the next request.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::Method;
use throng_core::Clock;
use tokio::net::TcpStream;

use super::{
    Cause, Failure, Lease,
    connection::{Connection, Incoming, Trouble, Wanted},
    head::Head,
    message::{Message, Sending},
    socket::Socket,
    trust::{Secure, Trust},
};
use crate::interim::Teller;

#[derive(Debug)]
pub(super) struct Pool {
    address: String,
    /// How it is spoken to over TLS, where it is.
    secure: Option<Secure>,
    /// What was wrong with the last handshake.
    wrong: Mutex<Option<String>>,
    /// Those that have rested longest come first.
    idle: Mutex<VecDeque<(Connection, Duration)>>,
}

impl Pool {
    pub(super) fn new(address: String, secure: Option<Secure>) -> Self {
        Self { address, secure, wrong: Mutex::default(), idle: Mutex::default() }
    }

    /// How it is believed over TLS, where it is spoken.
    pub(super) fn trust(&self) -> Option<&Trust> {
        self.secure.as_ref().map(|secure| &secure.trust)
    }

    /// Sends over a connection that is at rest, or over a new one. The server may have closed the
    /// former just now, which is nobody's failure: then a new one is tried once.
    pub(super) async fn send(
        &self,
        message: &mut Message,
        lease: Lease,
        (clock, connect): (&Clock, Duration),
    ) -> Result<Incoming, Failure> {
        let teller = message.teller();
        let wanted = (message.is_bare(), teller.as_ref());
        let Some(mut sending) = message.sending() else {
            return Err(Failure { cause: Cause::Broken, is_unsent: false });
        };
        // A server that closes a connection while a request is on its way leaves open whether it
        // has worked on it. One that cannot be repeated goes where that cannot be.
        let longest = if message.may_repeat { LONGEST_REST } else { SAFE_REST };
        if let Some(mut connection) = self.take(clock.elapsed(), longest) {
            match exchange(&mut connection, &mut sending, wanted).await {
                Ok(head) => return Ok(Incoming::new(connection, head, (sending, lease))),
                Err(trouble) => {
                    let may_go_on = message.may_repeat || !sending.has_begun();
                    if !(trouble.is_untouched && may_go_on && sending.rewind()) {
                        return Err(failed(message, sending, trouble.cause));
                    }
                }
            }
        }
        let connected = clock.timeout(connect, self.connect()).await;
        let Some(Some(mut connection)) = connected else {
            message.keep(sending);
            return Err(Failure { cause: Cause::Connect, is_unsent: true });
        };
        match exchange(&mut connection, &mut sending, wanted).await {
            Ok(head) => Ok(Incoming::new(connection, head, (sending, lease))),
            Err(trouble) => Err(failed(message, sending, trouble.cause)),
        }
    }

    /// Whether the server accepts a connection, or answers a GET for `path` with less than 500.
    pub(super) async fn check(&self, path: Option<&str>, now: Duration) -> bool {
        self.sweep(now);
        let Some(mut connection) = self.connect().await else { return false };
        let Some(path) = path else { return true };
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\nuser-agent: throng-check\r\n\r\n",
            self.address
        );
        let mut message = Message::written(Method::GET, Bytes::from(head));
        let Some(mut sending) = message.sending() else { return false };
        let answer = exchange(&mut connection, &mut sending, (false, None)).await;
        answer.is_ok_and(|head| head.status.as_u16() < 500)
    }

    pub(super) fn put(&self, connection: Connection, now: Duration) {
        let mut idle = self.lock();
        if idle.len() < MOST_IDLE {
            idle.push_back((connection, now));
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
        loop {
            let (_, since) = idle.back()?;
            if now.saturating_sub(*since) > longest {
                return None;
            }
            let (mut connection, _) = idle.pop_back()?;
            if connection.is_at_rest() {
                return Some(connection);
            }
        }
    }

    /// Closes what has rested for too long.
    fn sweep(&self, now: Duration) {
        let mut idle = self.lock();
        let is_old = |since: &Duration| now.saturating_sub(*since) > LONGEST_REST;
        let old = idle.partition_point(|(_, since)| is_old(since));
        let closed: Vec<_> = idle.drain(..old).collect();
        drop(idle);
        drop(closed);
    }

    async fn connect(&self) -> Option<Connection> {
        let stream = TcpStream::connect(&self.address).await.ok()?;
        let _ = stream.set_nodelay(true); // only slower without it
        let Some(secure) = &self.secure else {
            return Some(Connection::new(Socket::Plain(stream)));
        };
        let agreed = secure.agree(stream).await;
        let error = agreed.as_ref().err().map(ToString::to_string);
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if *wrong != error {
            // Told once, not with each attempt.
            if let Some(error) = &error {
                let name = &self.address;
                tracing::warn!(server.name = %name, "cannot agree on TLS with back end {name}: {error}");
            }
            *wrong = error;
        }
        drop(wrong);
        Some(Connection::new(Socket::Tls(Box::new(agreed.ok()?))))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Connection, Duration)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn exchange(
    connection: &mut Connection,
    sending: &mut Sending,
    (is_bare, teller): (bool, Option<&Teller>),
) -> Result<Head, Trouble> {
    let mut wanted = Wanted { is_bare, teller, interims: 0 };
    poll_fn(|cx| connection.poll_exchange(cx, sending, &mut wanted)).await
}

/// What was not sent can be tried elsewhere.
fn failed(message: &mut Message, sending: Sending, cause: Cause) -> Failure {
    let is_unsent = !sending.has_begun() && !cause.is_visitors();
    message.keep(sending);
    Failure { cause, is_unsent }
}

/// Shorter than what most servers wait for the next request: five seconds and more.
const LONGEST_REST: Duration = Duration::from_secs(4);
/// Shorter than what any server in use waits (gunicorn: two seconds).
const SAFE_REST: Duration = Duration::from_millis(500);
const MOST_IDLE: usize = 256;
