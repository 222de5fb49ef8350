//! The edge itself: takes requests, asks the cache, asks the back ends.

mod answer;
#[cfg(feature = "acme")]
mod challenge;
mod csv;
mod fetch;
mod figures;
mod fleet;
mod head;
mod heard;
mod listen;
mod pages;
mod purge;
mod quick;
mod send;
mod streams;
mod talk;
mod tunnel;
mod websocket;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use http::{Request, Response};
use throng_core::Clock;
use tokio::sync::Semaphore;

use fleet::Fleet;
pub use listen::Listener;

use crate::{
    AccessLog, Body, Cache, Client, Config, Error, Result, Upstream,
    balance::{Budget, Status},
    client::Clients,
    disk::{Disk, DiskStatus},
    log::Visit,
    stats::Stats,
    tasks::Tasks,
};

/// A load balancer with a page cache. Clones are the same edge.
#[derive(Clone, Debug)]
pub struct Edge {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    cache: Cache,
    fleet: Fleet,
    clients: Clients,
    clock: Clock,
    tasks: Tasks,
    budget: Budget,
    waiting: AtomicUsize,
    refreshes: Arc<Semaphore>,
    is_read_only: AtomicBool,
    /// Makes request ids and draws servers.
    random: foldhash::quality::RandomState,
    drawn: AtomicU64,
    stats: Stats,
    log: Option<AccessLog>,
    disk: Option<Disk>,
    #[cfg(feature = "acme")]
    challenges: challenge::Challenges,
}

/// How one back end is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStatus {
    /// Its address, or the name that it was given.
    pub name: String,
    /// Whether it gets requests, and why not.
    pub status: Status,
    /// Requests that it works on.
    pub working_on: usize,
}

impl Edge {
    /// An edge before `upstreams`, with what [`Config::check`] finds no fault with. It checks them once
    /// [`serve`](Self::serve) or [`check`](Self::check) runs.
    pub fn new(config: Config, upstreams: Vec<Upstream>, clock: &Clock) -> Result<Self> {
        config.check()?;
        let cache = Cache::new(config.policy.clone(), clock.clone(), config.cache_bytes);
        let open = |folder: &PathBuf| {
            let disk = Disk::open(folder, config.disk_bytes, (&cache, clock));
            disk.map_err(|source| Error::Disk { folder: folder.clone(), source })
        };
        let max_refreshes = config.max_refreshes.min(Semaphore::MAX_PERMITS);
        let inner = Inner {
            disk: config.disk_folder.as_ref().map(open).transpose()?,
            cache,
            fleet: Fleet::new(upstreams, clock)?,
            clients: Clients::new(config.client),
            config,
            clock: clock.clone(),
            tasks: Tasks::default(),
            budget: Budget::new(clock.elapsed()),
            waiting: AtomicUsize::new(0),
            refreshes: Arc::new(Semaphore::new(max_refreshes)),
            is_read_only: AtomicBool::new(false),
            random: foldhash::quality::RandomState::default(),
            drawn: AtomicU64::new(0),
            stats: Stats::new(),
            log: None,
            #[cfg(feature = "acme")]
            challenges: challenge::Challenges::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Writes a line for each request to `log`. Call it before the edge is cloned.
    #[must_use]
    pub fn with_access_log(mut self, log: AccessLog) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.log = Some(log);
        }
        self
    }

    /// Answers one request of `peer`, which came over a connection that spoke `scheme`.
    pub async fn handle(
        &self,
        mut request: Request<Body>,
        peer: IpAddr,
        scheme: &'static str,
    ) -> Response<Body> {
        let inner = &self.inner;
        let is_trusted = inner.config.trusted_peers.iter().any(|network| network.contains(peer));
        let id = head::request_id(&request, is_trusted).unwrap_or_else(|| self.draw_id());
        let visitor = crate::peer::visitor(request.headers(), peer, &inner.config.trusted_peers);
        request.extensions_mut().insert(Client(visitor));
        let mut visit = Visit::begin(&request, (visitor, &id), self);
        let came = answer::Came { peer, is_trusted, scheme, id: &id };
        let admitted = inner.clients.enter(visitor, inner.clock.elapsed());
        let mut response = match &admitted {
            Ok(_) => self.answer(request, came).await,
            Err(too_much) => {
                inner.stats.limited.add(1);
                pages::too_much(*too_much, &id)
            }
        };
        if let Ok(id) = http::HeaderValue::from_str(&id) {
            response.headers_mut().entry(head::X_REQUEST_ID).or_insert(id);
        }
        visit.answered(&response);
        let ending = visit.ending(self.clone());
        let response = response.map(|body| body.with_ending(Box::new(ending)));
        match admitted {
            Ok(pass) if pass.is_held() => response.map(|body| body.with_ending(Box::new(pass))),
            _ => response,
        }
    }

    /// How its store on disk is doing, where it has one.
    #[must_use]
    pub fn disk(&self) -> Option<DiskStatus> {
        self.inner.disk.as_ref().map(Disk::status)
    }

    /// Its page cache, for purges from within the program.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.inner.cache
    }

    /// Whether unsafe requests are answered with a friendly 503, and stale pages live longer.
    pub fn set_read_only(&self, is_read_only: bool) {
        self.inner.is_read_only.store(is_read_only, Ordering::Relaxed);
        self.inner.cache.set_read_only(is_read_only);
    }

    /// Its figures in the text format of Prometheus.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let mut text = self.inner.stats.prometheus(&self.inner.cache, &self.servers());
        if let Some(disk) = self.disk() {
            disk.prometheus(&mut text);
        }
        text
    }

    #[cfg(feature = "acme")]
    pub(crate) fn challenges(&self) -> &challenge::Challenges {
        &self.inner.challenges
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.inner.stats
    }

    pub(crate) fn log(&self) -> Option<&AccessLog> {
        self.inner.log.as_ref()
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    fn draw(&self) -> u64 {
        use std::hash::BuildHasher;
        self.inner.random.hash_one(self.inner.drawn.fetch_add(1, Ordering::Relaxed))
    }

    fn draw_id(&self) -> String {
        self.write_id(&mut [0; 16]).to_owned()
    }

    /// Draws a request id into `hex`.
    fn write_id<'h>(&self, hex: &'h mut [u8; 16]) -> &'h str {
        let mut number = self.draw();
        for digit in hex.iter_mut().rev() {
            *digit = b"0123456789abcdef"[(number & 15) as usize];
            number >>= 4;
        }
        std::str::from_utf8(hex).expect("hex digits are ASCII")
    }
}
