//! Connections to one server, kept for the next request.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::net::TcpStream;

use super::{
    connection::{Connection, Wanted},
    message::Sending,
    socket::Socket,
    trust::{Secure, Trust},
};

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

    /// Whether the server accepts a connection, or answers a GET for `path` with less than 500.
    pub(super) async fn check(&self, path: Option<&str>, now: Duration) -> bool {
        self.sweep(now);
        let Some(mut connection) = self.connect().await else { return false };
        let Some(path) = path else { return true };
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\nuser-agent: throng-check\r\n\r\n",
            self.address
        );
        let mut sending = Sending::written(head.into());
        let mut wanted = Wanted::default();
        let answer =
            poll_fn(|cx| connection.poll_exchange(cx, (&mut sending, &mut wanted), |_, _| {}));
        answer.await.is_ok_and(|head| head.status.as_u16() < 500)
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

    /// The one that was used last; those that rested for long may be closed by now. A server that
    /// closes a connection while a request is on its way leaves open whether it has worked on it, so
    /// what cannot be repeated goes where that cannot be.
    pub(super) fn take(&self, now: Duration, may_repeat: bool) -> Option<Connection> {
        let longest = if may_repeat { LONGEST_REST } else { SAFE_REST };
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

    pub(super) async fn connect(&self) -> Option<Connection> {
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

/// Shorter than what most servers wait for the next request: five seconds and more.
const LONGEST_REST: Duration = Duration::from_secs(4);
/// Shorter than what any server in use waits (gunicorn: two seconds).
const SAFE_REST: Duration = Duration::from_millis(500);
const MOST_IDLE: usize = 256;
