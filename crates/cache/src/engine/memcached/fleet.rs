//! The servers of one URL: which one owns a key now, what it speaks, and who is off the ring.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use throng_core::Clock;
use throng_ring::{Ring, Server};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    line::{Line, Request},
    socket::{Ejected, Expects, Fault},
    turn::Seat,
};
use crate::{Error, Result, metrics::EJECTIONS};

/// The servers that own keys.
#[derive(Debug)]
pub(super) struct Fleet {
    /// The ring with every server on it.
    home: Ring,
    /// The ring as it is. Replaced as a whole, so that routing holds the lock for a clone only.
    now: Mutex<Arc<Ring>>,
    pub(super) lines: Vec<Way>,
    /// Why each server is off the ring, of those that are.
    faults: Mutex<Vec<Option<String>>>,
    /// Keys whose lease a server may have given to somebody who did not hear of it.
    lost: Mutex<Vec<(usize, Bytes)>>,
    timeout: Duration,
    clock: Clock,
    /// What each server speaks, once it has been asked.
    dialects: Vec<AtomicU8>,
    /// The lines' tasks, which end with the fleet.
    _tasks: JoinSet<()>,
}

/// The way to a server: its connection, and the line for when that is in use.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) seat: Arc<Seat>,
    pub(super) requests: mpsc::Sender<Request>,
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

impl Fleet {
    pub(super) fn new(ring: Ring, timeout: Duration, retry: Duration, clock: &Clock) -> Arc<Self> {
        Arc::new_cyclic(|fleet: &Weak<Self>| {
            let mut tasks = JoinSet::new();
            let mut lines = Vec::new();
            for (server, named) in ring.servers().iter().enumerate() {
                let (send, requests) = mpsc::channel(MAX_WAITING);
                let address = address(named);
                let (clock, fleet, seat) = (clock.clone(), fleet.clone(), Arc::<Seat>::default());
                lines.push(Way { seat: Arc::clone(&seat), requests: send });
                let line = Line { server, address, timeout, retry, clock, fleet, seat };
                tasks.spawn(line.run(requests));
            }
            let dialects = ring.servers().iter().map(|_| AtomicU8::new(UNKNOWN)).collect();
            let faults = Mutex::new(vec![None; ring.servers().len()]);
            let (home, now) = (ring.clone(), Mutex::new(Arc::new(ring)));
            let clock = clock.clone();
            let lost = Mutex::default();
            Self { home, now, lines, faults, lost, timeout, clock, dialects, _tasks: tasks }
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
        Err(self.nobody(last))
    }

    /// The route with what the server speaks, which its line finds out when it connects.
    pub(super) async fn learn_dialect(&self, mut route: Route) -> Result<Route, Fault> {
        if route.dialect == Dialect::Unknown {
            let commands = Bytes::from_static(b"version\r\n");
            self.send(route.server, commands, Expects::Reply, true).await?;
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

    /// Takes a server off the ring. Its line puts it back.
    pub(super) fn eject(&self, server: usize, fault: &Fault) {
        let name = self.name(server);
        tracing::warn!(server = %name, %fault, "memcached {name} is off the ring: {fault}");
        metrics::counter!(EJECTIONS).increment(1);
        self.faults()[server] = Some(fault.to_string());
        self.change(|ring| ring.eject(server));
    }

    pub(super) fn restore(&self, server: usize) {
        let name = self.name(server);
        tracing::info!(server = %name, "memcached {name} is back on the ring");
        self.faults()[server] = None;
        self.change(|ring| ring.restore(server));
    }

    /// Notes that a lease was asked for and no answer came. Those beyond the bound end by themselves.
    pub(super) fn lose(&self, server: usize, key: &[u8]) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.len() < MAX_LOST {
            lost.push((server, Bytes::copy_from_slice(key)));
        }
    }

    /// The keys whose leases a server has to be told to take back.
    pub(super) fn take_lost(&self, server: usize) -> Vec<Bytes> {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let (own, others) = lost.drain(..).partition(|(of, _)| *of == server);
        *lost = others;
        let own: Vec<(usize, Bytes)> = own;
        own.into_iter().map(|(_, key)| key).collect()
    }

    /// The servers that are off the ring, and why.
    pub(super) fn ejected(&self) -> Vec<Ejected> {
        let faults = self.faults();
        let ejected = faults.iter().enumerate().filter_map(|(server, fault)| {
            Some(Ejected { server: self.name(server), reason: fault.clone()? })
        });
        ejected.collect()
    }

    /// What a caller is told for whom nobody owns the key: which servers are off the ring, and why.
    pub(super) fn nobody(&self, last: Option<Fault>) -> Error {
        let ejected = self.ejected();
        let fault = match last {
            fault if ejected.is_empty() => fault.unwrap_or(Fault::Ejected),
            _ => Fault::Nobody(ejected),
        };
        let doing = "reach the owner of a key";
        Error::Engine { engine: "memcached", doing, source: Arc::new(fault) }
    }

    fn faults(&self) -> MutexGuard<'_, Vec<Option<String>>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Ring)) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut now));
    }

    pub(super) fn is_all_ejected(&self) -> bool {
        let ring = self.ring();
        !(0..self.lines.len()).any(|server| ring.is_live(server))
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub(super) fn address(server: &Server) -> String {
    if server.name.contains(':') {
        return format!("[{}]:{}", server.name, server.port);
    }
    format!("{}:{}", server.name, server.port)
}

const UNKNOWN: u8 = 0;
const META: u8 = 1;
const CLASSIC: u8 = 2;
/// How many requests wait for a line before whoever sends more waits too.
const MAX_WAITING: usize = 1_024;
/// How many leases are given back to servers that did not say whether they gave them.
const MAX_LOST: usize = 1_024;
