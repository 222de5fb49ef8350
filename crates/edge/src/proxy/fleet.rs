//! The back ends of an edge, which may be others from one moment to the next.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};

use throng_core::Clock;
use tokio::sync::watch;

use super::{Edge, ServerStatus};
use crate::{
    Error, Result, Upstream,
    upstream::{Freed, Server},
};

/// The back ends as they are now.
#[derive(Debug)]
pub(super) struct Fleet {
    servers: RwLock<Arc<[Arc<Server>]>>,
    /// Whether all of them are somewhere else, and none in this process.
    is_remote: AtomicBool,
    /// Told when a server has a place again, or there are other servers.
    pub(super) freed: Arc<Freed>,
    /// Counts how often the servers changed.
    changes: watch::Sender<u64>,
}

impl Fleet {
    pub(super) fn new(upstreams: Vec<Upstream>, clock: &Clock) -> Result<Self> {
        let freed = Arc::<Freed>::default();
        let servers = arrange(upstreams, &[], &freed, clock)?;
        let is_remote = AtomicBool::new(all_remote(&servers));
        let (servers, changes) = (RwLock::new(servers), watch::Sender::new(0));
        Ok(Self { servers, is_remote, freed, changes })
    }

    pub(super) fn now(&self) -> Arc<[Arc<Server>]> {
        Arc::clone(&self.servers.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether all of them are somewhere else, and none in this process.
    pub(super) fn is_remote(&self) -> bool {
        self.is_remote.load(Ordering::Relaxed)
    }

    /// Hears of every change from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Closes the connections to back ends that are at rest.
    pub(super) fn rest(&self) {
        self.now().iter().for_each(|server| server.rest());
    }

    fn named(&self, name: &str) -> Option<Arc<Server>> {
        self.now().iter().find(|server| server.name == name).map(Arc::clone)
    }

    fn replace(&self, upstreams: Vec<Upstream>, clock: &Clock) -> Result<()> {
        let mut servers = self.servers.write().unwrap_or_else(PoisonError::into_inner);
        *servers = arrange(upstreams, &servers, &self.freed, clock)?;
        self.is_remote.store(all_remote(&servers), Ordering::Relaxed);
        drop(servers);
        self.changes.send_modify(|times| *times += 1);
        self.freed.tell_all();
        Ok(())
    }
}

impl Edge {
    /// Stands before `upstreams` from now on. One that was there before keeps what is known of its
    /// health, its weight and its connections; what one that left works on is finished.
    ///
    /// # Errors
    /// [`Error::NoUpstream`] when there are none, [`Error::SameUpstream`] when two have one name;
    /// the old ones stay.
    pub fn set_upstreams(&self, upstreams: Vec<Upstream>) -> Result<()> {
        self.inner.fleet.replace(upstreams, &self.inner.clock)
    }

    /// How each back end is doing.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerStatus> {
        let now = self.inner.clock.elapsed();
        self.inner.fleet.now().iter().map(|server| server.status(now)).collect()
    }

    /// Takes a back end out of service, or puts it back; what it works on is finished. False when
    /// there is none of this name.
    pub fn drain(&self, name: &str, is_draining: bool) -> bool {
        let found = self.inner.fleet.named(name);
        found.inspect(|server| server.standing.drain(is_draining)).is_some()
    }

    /// Gives a back end this many percent of its usual share of requests. False when there is none
    /// of this name.
    pub fn set_weight(&self, name: &str, percent: u32) -> bool {
        let found = self.inner.fleet.named(name);
        found.inspect(|server| server.standing.set_weight(percent)).is_some()
    }
}

fn all_remote(servers: &[Arc<Server>]) -> bool {
    servers.iter().all(|server| server.is_checked())
}

/// The servers for `upstreams`: those of `old` where they are meant, new ones else.
fn arrange(
    upstreams: Vec<Upstream>,
    old: &[Arc<Server>],
    freed: &Arc<Freed>,
    clock: &Clock,
) -> Result<Arc<[Arc<Server>]>> {
    if upstreams.is_empty() {
        return Err(Error::NoUpstream);
    }
    let mut servers: Vec<Arc<Server>> = Vec::with_capacity(upstreams.len());
    for upstream in upstreams {
        if servers.iter().any(|server| server.name == upstream.name()) {
            return Err(Error::SameUpstream { name: upstream.name().to_owned() });
        }
        let kept = old.iter().find(|server| server.is_for(&upstream)).map(Arc::clone);
        let new = || Server::new(upstream, Arc::clone(freed), clock.clone());
        servers.push(kept.unwrap_or_else(new));
    }
    Ok(servers.into())
}
