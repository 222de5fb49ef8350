//! What a cache can stand on: the trait that every engine implements, and the schemes that open one.

mod key;
mod memcached;
mod memory;
#[cfg(feature = "redis")]
mod redis;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use throng_core::EngineUrl;

use crate::{Cache, Config, Error, Result};

pub use memcached::{Ejected, Memcached, Probe, ProbedKey, RingFit, ServerStats};
pub use memory::Memory;
#[cfg(feature = "redis")]
pub use redis::Redis;

#[cfg(test)]
pub(crate) use memcached::{hits, protocol};

/// An engine: bytes under keys, for a while, and one lease for each expiry.
///
/// The cache keeps typed values in its own process in front of the engine, so that an engine is
/// asked about once a second for a hot key, and loads while an engine is down.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// The engine's name, as in its URL.
    fn name(&self) -> &'static str;

    /// Whether other processes can be on it.
    fn is_shared(&self) -> bool;

    /// How values are written. Defaults to [`Values::Sealed`].
    fn values(&self) -> Values {
        Values::Sealed
    }

    /// Has `listener` told what others change, where the engine hears of that by itself. What is not
    /// told, or is lost, is seen when the copies of the process have run out.
    fn listen(&self, listener: Listener) {
        drop(listener);
    }

    /// What is under each key, fresh or stale, in the order of the keys.
    async fn get(&self, keys: &[&str]) -> Result<Vec<Option<Item>>>;

    /// Stores, whatever is there. Leases on the key are void.
    async fn set(&self, key: &str, item: Item, span: Span) -> Result<()>;

    /// Stores unless what is there `beats` it, in one step; tells whether it stored. Leases on the
    /// key are void when it did.
    async fn set_unless(
        &self,
        key: &str,
        item: Item,
        span: Span,
        beats: &(dyn for<'a> Fn(&'a Item) -> bool + Sync),
    ) -> Result<bool>;

    /// Deletes; tells whether there was something. Leases on the key are void.
    async fn delete(&self, key: &str) -> Result<bool>;

    /// Reads for one who would load. Of all callers, in all processes, exactly one is given the
    /// lease for each expiry; it loads and then calls [`fill`](Self::fill) or
    /// [`release`](Self::release).
    ///
    /// What has at most `stale` left of its time on the engine is due. A holder that does neither
    /// within `lease` counts as crashed, and another caller is given a lease: for a missing key at
    /// once, for a stale one at the latest when it ends.
    async fn claim(&self, key: &str, stale: Duration, lease: Duration) -> Result<Claim>;

    /// Stores what the holder of a lease loaded; `false`, and stores nothing, when the lease is
    /// void because someone wrote, deleted or took over.
    async fn fill(&self, key: &str, lease: Lease, item: Item, span: Span) -> Result<bool>;

    /// Gives a lease back without a value, so that the next caller is given one.
    async fn release(&self, key: &str, lease: Lease) -> Result<()>;

    /// Writes a counter as plain decimal digits, which every client can count with.
    async fn set_count(&self, key: &str, count: i64, span: Span) -> Result<()>;

    /// Adds to a counter that is there, and tells the sum; `None` when it is not there. Below zero
    /// a counter stays at zero.
    async fn add(&self, key: &str, by: i64) -> Result<Option<i64>>;
}

/// Is told what others have changed on an engine. It must return at once.
pub type Listener = Box<dyn Fn(Heard<'_>) + Send + Sync>;

/// What others have changed on an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// What is under a key.
    Key(&'a str),
    /// Perhaps everything: what was changed is not known.
    Everything,
}

/// How the cache writes values to an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Values {
    /// As JSON behind a header that holds version, tags and the end of the ttl.
    #[default]
    Sealed,
    /// As pylibmc, pymemcache, python-memcached and Django's backends read and write them. There is
    /// no place for versions and tags, and a value in its grace looks like a fresh one.
    Python,
    /// As Django's Redis backends read and write them: whole numbers as digits, everything else as a
    /// pickle. What [`Python`](Self::Python) lacks, this lacks too.
    Pickled,
}

/// What an engine stores: bytes, and the client flags that say what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The bytes.
    pub bytes: Bytes,
    /// What they are, in the manner of memcached's client flags. Engines that have no place for
    /// flags tell them by the first bytes.
    pub flags: u32,
}

impl Item {
    /// Refuses an item that is larger than what the engine is configured to take.
    pub(crate) fn check_size(&self, key: &str, limit: usize) -> Result<()> {
        let bytes = self.bytes.len();
        if bytes <= limit {
            return Ok(());
        }
        let reason = format!("it has {bytes} bytes, over the limit of {limit}");
        Err(Error::value("store", key, reason))
    }
}

/// How long an engine keeps an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// For so long it is not due.
    pub fresh: Duration,
    /// And for so long it is kept after that.
    pub stale: Duration,
}

/// The right, and the duty, to load a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease(pub u64);

/// What a reader who would load is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Use it.
    Fresh(Item),
    /// Use it; with a lease, load a newer one too.
    Stale(Item, Option<Lease>),
    /// There is nothing. With a lease, load; without, someone else is loading: ask again soon.
    Missing(Option<Lease>),
}

pub(crate) async fn open(url: &str, config: Config) -> Result<Cache> {
    let url = EngineUrl::parse(url)?;
    match url.scheme() {
        "memory" => {
            let mut config = config;
            let mut options = url.options();
            config.max_bytes = options.take("max_bytes")?.unwrap_or(config.max_bytes);
            options.finish()?;
            Ok(config.memory())
        }
        "memcached" => {
            let engine = Memcached::open(&url, &config.clock)?;
            Ok(config.with_engine(engine))
        }
        #[cfg(feature = "redis")]
        "redis" | "rediss" => {
            let engine = Redis::open(&url, &config.clock)?;
            Ok(config.with_engine(engine))
        }
        _ => Err(url.unknown_scheme("cache", OPENS).into()),
    }
}

const OPENS: &[&str] = &[
    "memory",
    "memcached",
    #[cfg(feature = "redis")]
    "redis",
    #[cfg(feature = "redis")]
    "rediss",
];
