//! The servers of one URL: which one owns a key now, and who is off the ring.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use throng_core::Clock;
use throng_ring::{Ring, Server};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{
    line::{Expects, Fault, Line, Request},
    protocol::Reply,
};
use crate::{Error, Result, metrics::EJECTIONS};

/// Sends requests to the servers that own their keys.
#[derive(Debug)]
pub(super) struct Fleet {
    /// The ring with every server on it.
    home: Ring,
    /// The ring as it is. Replaced as a whole, so that routing holds the lock for a clone only.
    now: Mutex<Arc<Ring>>,
    lines: Vec<mpsc::Sender<Request>>,
    timeout: Duration,
    clock: Clock,
    /// What each server speaks, once it has been asked.
    dialects: Vec<AtomicU8>,
    /// The lines' tasks, which end with the fleet.
    _tasks: JoinSet<()>,
}

/// Where a key goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) server: usize,
    /// It owns the key only while another server is off the ring.
    pub(super) is_gutter: bool,
    /// What it speaks.
    pub(super) dialect: Dialect,
}

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Nobody has asked it yet.
    Unknown,
    /// The meta protocol.
    Meta,
    /// The classic text protocol: it is memcached before 1.6.10.
    Classic,
}

/// A command for the server of a route.
pub(super) struct Command {
    pub(super) bytes: Bytes,
    pub(super) expects: Expects,
}

impl Fleet {
    pub(super) fn new(ring: Ring, timeout: Duration, retry: Duration, clock: &Clock) -> Arc<Self> {
        Arc::new_cyclic(|fleet: &Weak<Self>| {
            let mut tasks = JoinSet::new();
            let mut lines = Vec::new();
            for (server, named) in ring.servers().iter().enumerate() {
                let (send, requests) = mpsc::channel(MAX_WAITING);
                let address = address(named);
                let (clock, fleet) = (clock.clone(), fleet.clone());
                let line = Line { server, address, timeout, retry, clock, fleet };
                tasks.spawn(line.run(requests));
                lines.push(send);
            }
            let dialects = ring.servers().iter().map(|_| AtomicU8::new(UNKNOWN)).collect();
            let (home, now) = (ring.clone(), Mutex::new(Arc::new(ring)));
            let clock = clock.clone();
            Self { home, now, lines, timeout, clock, dialects, _tasks: tasks }
        })
    }

    /// Where `key` goes now; `None` when nobody owns it.
    pub(super) fn route(&self, key: &[u8]) -> Option<Route> {
        let server = self.ring().owner(key)?;
        let is_gutter = self.home.owner(key) != Some(server);
        Some(Route { server, is_gutter, dialect: self.dialect(server) })
    }

    /// Whether every server is known to speak the meta protocol.
    pub(super) fn is_all_meta(&self) -> bool {
        self.dialects.iter().all(|dialect| dialect.load(Ordering::Acquire) == META)
    }

    /// What the owner of `key` speaks. A server that nobody has asked yet is asked.
    pub(super) async fn dialect_for(&self, key: &[u8]) -> Result<Dialect> {
        let mut last = None;
        for _attempt in 0..=self.lines.len() {
            let Some(route) = self.route(key) else { break };
            match self.learn_dialect(route).await {
                Ok(route) => return Ok(route.dialect),
                Err(fault) => last = Some(fault),
            }
        }
        Err(nobody(last))
    }

    /// The route with what the server speaks, which its line finds out when it connects.
    async fn learn_dialect(&self, mut route: Route) -> Result<Route, Fault> {
        if route.dialect == Dialect::Unknown {
            let commands = Bytes::from_static(b"version\r\n");
            self.send(route.server, commands, Expects::Replies(1), true).await?;
            route.dialect = self.dialect(route.server);
        }
        Ok(route)
    }

    fn dialect(&self, server: usize) -> Dialect {
        match self.dialects[server].load(Ordering::Acquire) {
            META => Dialect::Meta,
            CLASSIC => Dialect::Classic,
            _ => Dialect::Unknown,
        }
    }

    /// Notes what a server speaks. It may be another than it was before.
    pub(super) fn learn(&self, server: usize, dialect: Dialect) {
        let number = if dialect == Dialect::Classic { CLASSIC } else { META };
        let before = self.dialects[server].swap(number, Ordering::AcqRel);
        if number == CLASSIC && before != CLASSIC {
            let name = self.name(server);
            tracing::info!(server = %name, "memcached {name} is older than 1.6.10: leases are keys beside the keys");
        }
    }

    /// The server that owns `key` now, as `host:port`.
    pub(super) fn name(&self, server: usize) -> String {
        address(&self.home.servers()[server])
    }

    /// The servers, in the order of the URL.
    pub(super) fn servers(&self) -> &[Server] {
        self.home.servers()
    }

    /// How long a server may take to answer.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Asks the owner of `key`; when it fails, the server that owns the key after that, and so on.
    pub(super) async fn ask(
        &self,
        key: &[u8],
        is_repeatable: bool,
        command: impl Fn(Route) -> Command,
    ) -> Result<Reply> {
        let mut last = None;
        for _attempt in 0..=self.lines.len() {
            let Some(route) = self.route(key) else { break };
            let asked = match self.learn_dialect(route).await {
                Ok(route) => {
                    let Command { bytes, expects } = command(route);
                    self.send(route.server, bytes, expects, is_repeatable).await
                }
                Err(fault) => Err(fault),
            };
            match asked {
                // Of a classic `gets` the first is what counts: a value, or the end.
                Ok(replies) => return replies.into_iter().next().ok_or_else(|| nobody(None)),
                Err(fault) => last = Some(fault),
            }
        }
        Err(nobody(last))
    }

    /// Asks for many keys, one write to each server, and again for those whose server failed.
    pub(super) async fn get(&self, keys: &[Bytes]) -> Result<Vec<Option<(u32, Bytes)>>> {
        let mut found = vec![None; keys.len()];
        let mut left: Vec<usize> = (0..keys.len()).collect();
        let mut last = None;
        for _attempt in 0..=self.lines.len() {
            let mut by_server: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            let ring = self.ring();
            for at in std::mem::take(&mut left) {
                match ring.owner(&keys[at]) {
                    Some(server) => by_server.entry(server).or_default().push(at),
                    // With a ring that moves nothing, a dead server's keys are missing.
                    None if !self.is_all_ejected() => {}
                    None => return Err(nobody(last)),
                }
            }
            if by_server.is_empty() {
                return Ok(found);
            }
            // All are written before any is waited for.
            let mut waiting = Vec::new();
            for (server, asked) in by_server {
                let mut commands = b"get".to_vec();
                for at in &asked {
                    commands.push(b' ');
                    commands.extend_from_slice(&keys[*at]);
                }
                commands.extend_from_slice(b"\r\n");
                let sent = self.begin(server, commands.into(), Expects::UntilEnd, true).await;
                waiting.push((sent, asked));
            }
            for (sent, asked) in waiting {
                match finish(sent).await {
                    Ok(replies) => {
                        // They come in the order of the question, without those that are missing.
                        let mut asked = asked.into_iter();
                        for reply in replies {
                            let Reply::Got(key, flags, bytes) = reply else { continue };
                            if let Some(at) = asked.find(|at| keys[*at] == key) {
                                found[at] = Some((flags.client_flags, bytes));
                            }
                        }
                    }
                    Err(fault) => {
                        last = Some(fault);
                        left.extend(asked);
                    }
                }
            }
        }
        Err(nobody(last))
    }

    async fn send(
        &self,
        server: usize,
        commands: Bytes,
        expects: Expects,
        is_repeatable: bool,
    ) -> Result<Vec<Reply>, Fault> {
        finish(self.begin(server, commands, expects, is_repeatable).await).await
    }

    async fn begin(
        &self,
        server: usize,
        commands: Bytes,
        expects: Expects,
        is_repeatable: bool,
    ) -> Option<oneshot::Receiver<Result<Vec<Reply>, Fault>>> {
        let (answer, answered) = oneshot::channel();
        let request = Request { commands, expects, is_repeatable, answer };
        // Waits where the line has as much as it can hold: the line itself is under a timeout.
        self.lines[server].send(request).await.ok().map(|()| answered)
    }

    /// Takes a server off the ring. Its line puts it back.
    pub(super) fn eject(&self, server: usize, fault: &Fault) {
        let name = self.name(server);
        tracing::warn!(server = %name, %fault, "memcached {name} is off the ring: {fault}");
        metrics::counter!(EJECTIONS).increment(1);
        self.change(|ring| ring.eject(server));
    }

    pub(super) fn restore(&self, server: usize) {
        let name = self.name(server);
        tracing::info!(server = %name, "memcached {name} is back on the ring");
        self.change(|ring| ring.restore(server));
    }

    fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Ring)) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut now));
    }

    fn is_all_ejected(&self) -> bool {
        let ring = self.ring();
        !(0..self.lines.len()).any(|server| ring.is_live(server))
    }
}

async fn finish(
    sent: Option<oneshot::Receiver<Result<Vec<Reply>, Fault>>>,
) -> Result<Vec<Reply>, Fault> {
    match sent {
        Some(answered) => answered.await.unwrap_or(Err(Fault::Ejected)),
        None => Err(Fault::Ejected),
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub(super) fn address(server: &Server) -> String {
    if server.name.contains(':') {
        return format!("[{}]:{}", server.name, server.port);
    }
    format!("{}:{}", server.name, server.port)
}

fn nobody(last: Option<Fault>) -> Error {
    let fault = last.unwrap_or(Fault::Ejected);
    Error::Engine {
        engine: "memcached",
        doing: "reach the owner of a key",
        source: Arc::new(fault),
    }
}

const UNKNOWN: u8 = 0;
const META: u8 = 1;
const CLASSIC: u8 = 2;
/// How many requests wait for a line before whoever sends more waits too.
const MAX_WAITING: usize = 1_024;
