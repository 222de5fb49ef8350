//! memcached by its meta protocol: the server itself gives out one lease for each expiry.
//!
//! A miss is claimed by vivifying the key (`N`), a stale item by the recache token (`R`), and a
//! lease that is given back marks the item stale (`md … I`) so that the next reader wins. What was
//! loaded is stored only over the CAS that came with the lease. Servers before 1.6.10, which do not
//! know all that, get a key beside each key instead ([`classic`]). A server that fails, hangs or
//! answers rubbish leaves the ring until it answers again, and the call goes on to the server that
//! owns the key without it.

mod aside;
mod ask;
mod classic;
mod commands;
mod fleet;
pub(crate) mod hits;
mod line;
mod patience;
mod probe;
pub(crate) mod protocol;
mod socket;
mod stats;
mod turn;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use throng_core::{Clock, EngineUrl, url::UrlError};
use throng_ring::{Placement, Ring, Server};

use self::{
    commands::{How, ttl},
    fleet::Fleet,
    protocol::{Flags, Reply},
};
pub use self::{
    probe::{Probe, ProbedKey, RingFit},
    socket::Ejected,
    stats::ServerStats,
};
use crate::{
    Error, Result,
    engine::{
        Claim, Engine, Item, Lease, Span, Values,
        key::{Keys, OddKeys},
    },
};

/// A fleet of memcached servers. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Memcached {
    fleet: Arc<Fleet>,
    keys: Keys,
    max_item_bytes: usize,
    gutter: Duration,
    values: Values,
}

impl Memcached {
    /// Opens `memcached://a,b:11212?ring=ketama-weighted`. Connections are made when first used, so
    /// that a server that is down does not keep a site from starting.
    ///
    /// Options: `ring` (needed with more than one server), `weights` (`1,2,…`), `timeout` (of a
    /// reply, 250ms), `retry` (of a dead server, 2s), `gutter` (the longest ttl of what lands on
    /// another server meanwhile, 60s), `max_item_bytes` (1048576), `keys` (`hash` or `refuse`),
    /// `values` (`sealed`, or `python` for what Python's clients read and write), `prefix`, and
    /// `version`, which makes keys Django's `prefix:version:key`.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub fn open(url: &EngineUrl, clock: &Clock) -> Result<Self> {
        let mut options = url.options();
        let ring: Option<String> = options.take("ring")?;
        let weights: Option<String> = options.take("weights")?;
        let timeout = options.take("timeout")?.unwrap_or(Duration::from_millis(250));
        let retry = options.take("retry")?.unwrap_or(Duration::from_secs(2));
        let gutter = options.take("gutter")?.unwrap_or(Duration::from_secs(60));
        let max_item_bytes = options.take::<u32>("max_item_bytes")?.unwrap_or(1 << 20);
        let odd: Option<String> = options.take("keys")?;
        let values: Option<String> = options.take("values")?;
        let prefix = options.take("prefix")?.unwrap_or_default();
        let version = options.take("version")?;
        options.finish()?;
        let odd = match odd.as_deref() {
            None | Some("hash") => OddKeys::Hash,
            Some("refuse") => OddKeys::Refuse,
            Some(_) => return Err(url.fault("option `keys`", "it is `hash` or `refuse`").into()),
        };
        let values = match values.as_deref() {
            None | Some("sealed") => Values::Sealed,
            Some("python") => Values::Python,
            Some(_) => {
                return Err(url.fault("option `values`", "it is `sealed` or `python`").into());
            }
        };
        if url.user().is_some() || url.password().is_some() {
            return Err(url.fault("user", "memcached is asked without user and password").into());
        }
        for (option, time) in [("option `timeout`", timeout), ("option `retry`", retry)] {
            if time.is_zero() {
                return Err(url.fault(option, "it takes a time above zero").into());
            }
        }
        if !matches!(url.path(), "" | "/") {
            return Err(url.fault("path", "memcached has none").into());
        }
        let ring = read_ring(url, ring.as_deref(), weights.as_deref())?;
        let fleet = Fleet::new(ring, timeout, retry, clock);
        let max_item_bytes = usize::try_from(max_item_bytes).unwrap_or(usize::MAX);
        Ok(Self { fleet, keys: Keys { odd, prefix, version }, max_item_bytes, gutter, values })
    }

    /// The server that owns `key` at this moment, as `host:port`; `None` when none does.
    ///
    /// # Errors
    /// [`Error::Value`] when memcached does not take the key and `keys=refuse`.
    pub fn owner(&self, key: &str) -> Result<Option<String>> {
        let route = self.fleet.route(&self.keys.wire(key)?);
        Ok(route.map(|route| self.fleet.name(route.server)))
    }

    /// The servers that are off the ring at this moment. Whether one answers is known when it was
    /// first asked for something.
    #[must_use]
    pub fn ejected(&self) -> Vec<Ejected> {
        self.fleet.ejected()
    }
}

#[async_trait]
impl Engine for Memcached {
    fn name(&self) -> &'static str {
        "memcached"
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn values(&self) -> Values {
        self.values
    }

    async fn get(&self, keys: &[&str]) -> Result<Vec<Option<Item>>> {
        let wire = keys.iter().map(|key| self.keys.wire(key)).collect::<Result<Vec<_>>>()?;
        let found = self.fleet.get(&wire).await?;
        let item = |(flags, bytes): (u32, Bytes)| {
            // A key that somebody is loading holds an empty item without flags; for Python's
            // clients there are none, and such an item is a value of no bytes.
            let is_held = flags == 0 && bytes.is_empty() && self.values == Values::Sealed;
            (!is_held).then_some(Item { bytes, flags })
        };
        Ok(found.into_iter().map(|found| found.and_then(item)).collect())
    }

    async fn set(&self, key: &str, item: Item, span: Span) -> Result<()> {
        if self.is_classic(key).await? {
            self.mark_fresh(key, span).await?;
        }
        self.put(key, &item, span, How::Set).await.map(drop)
    }

    async fn set_unless(
        &self,
        key: &str,
        item: Item,
        span: Span,
        beats: &(dyn for<'a> Fn(&'a Item) -> bool + Sync),
    ) -> Result<bool> {
        let is_classic = self.is_classic(key).await?;
        for _attempt in 0..MAX_ATTEMPTS {
            let how = match self.read(key).await? {
                None => How::Add,
                Some((old, flags)) => {
                    if !is_placeholder(&old.bytes, &flags) && beats(&old) {
                        return Ok(false);
                    }
                    How::Over(flags.cas)
                }
            };
            if is_classic {
                self.mark_fresh(key, span).await?;
            }
            if self.put(key, &item, span, how).await?.is_some() {
                return Ok(true);
            }
            // Somebody was quicker: what they stored may beat it.
        }
        let reason = format!("{MAX_ATTEMPTS} others wrote it first");
        Err(Error::value("store", key, reason))
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        if self.values == Values::Python || self.is_classic(key).await? {
            self.remove(&side(key)).await?;
        }
        self.remove(key).await
    }

    async fn claim(&self, key: &str, stale: Duration, lease: Duration) -> Result<Claim> {
        if self.is_classic(key).await? {
            return self.claim_classic(key, stale, lease).await;
        }
        let (stale_s, lease_s) = (ttl(stale), ttl(lease));
        let mut flags = "v f t c".to_owned();
        if stale_s > 0 {
            flags.push_str(&format!(" R{stale_s}"));
        }
        // A Python client would take the placeholder for a value.
        if self.values == Values::Sealed {
            flags.push_str(&format!(" N{lease_s}"));
        }
        let (bytes, flags) = match self.tell(key, "mg", &flags, false).await? {
            Reply::Value(bytes, flags) => (bytes, flags),
            Reply::Missing => return self.claim_aside(key, lease).await,
            other => return Err(unexpected("read", other)),
        };
        let won = flags.won.then_some(Lease(flags.cas));
        if self.values == Values::Sealed && is_placeholder(&bytes, &flags) {
            return Ok(Claim::Missing(won));
        }
        let is_due = flags.ttl_s.is_some_and(|left_s| left_s < stale_s);
        let item = Item { bytes, flags: flags.client_flags };
        if flags.is_stale || is_due || flags.won {
            Ok(Claim::Stale(item, won))
        } else {
            Ok(Claim::Fresh(item))
        }
    }

    async fn fill(&self, key: &str, lease: Lease, item: Item, span: Span) -> Result<bool> {
        if lease.0 & CLASSIC != 0 {
            return self.fill_classic(key, lease, item, span).await;
        }
        if lease.0 & ASIDE != 0 {
            return self.fill_aside(key, lease, item, span).await;
        }
        Ok(self.put(key, &item, span, How::Over(lease.0)).await?.is_some())
    }

    async fn release(&self, key: &str, lease: Lease) -> Result<()> {
        if lease.0 & CLASSIC != 0 {
            return self.release_classic(key, lease).await;
        }
        if lease.0 & ASIDE != 0 {
            return self.end_aside(key, lease).await.map(drop);
        }
        let Reply::Value(bytes, flags) = self.tell(key, "mg", "v f c", true).await? else {
            return Ok(());
        };
        // A placeholder goes; a stale value stays, marked so that the next reader wins. The CAS
        // keeps hands off what somebody else has stored meanwhile.
        let mark = if is_placeholder(&bytes, &flags) { "" } else { " I" };
        self.tell(key, "md", &format!("C{}{mark}", lease.0), true).await.map(drop)
    }

    async fn set_count(&self, key: &str, count: i64, span: Span) -> Result<()> {
        let item = Item { bytes: Bytes::from(count.max(0).to_string()), flags: LONG_FLAG };
        self.put(key, &item, span, How::Set).await.map(drop)
    }

    async fn add(&self, key: &str, by: i64) -> Result<Option<i64>> {
        self.count(key, by).await
    }
}

fn read_ring(url: &EngineUrl, ring: Option<&str>, weights: Option<&str>) -> Result<Ring, UrlError> {
    let hosts = url.hosts();
    let placement = match ring {
        Some(name) => {
            name.parse::<Placement>().map_err(|e| url.fault("option `ring`", e.to_string()))?
        }
        None if hosts.len() <= 1 => Placement::Modula,
        None => {
            let reason = "with several servers it must be named, as the fleet's other clients \
                          place keys: modula, ketama, ketama-md5, ketama-weighted, rendezvous, crc";
            return Err(url.fault("option `ring`", reason));
        }
    };
    let weights = read_weights(url, weights)?;
    Ring::new(placement, servers(url, &weights))
        .map_err(|error| url.fault("host list", error.to_string()))
}

fn read_weights(url: &EngineUrl, weights: Option<&str>) -> Result<Vec<u32>, UrlError> {
    let hosts = url.hosts().len();
    let Some(text) = weights else { return Ok(vec![1; hosts]) };
    let read: Option<Vec<u32>> = text.split(',').map(|weight| weight.parse().ok()).collect();
    let fits = read.filter(|weights| weights.len() == hosts);
    fits.ok_or_else(|| url.fault("option `weights`", "it takes one number for each server"))
}

fn servers(url: &EngineUrl, weights: &[u32]) -> Vec<Server> {
    let server = |(host, weight): (&throng_core::url::Host, &u32)| {
        Server::new(host.name.clone(), host.port.unwrap_or(DEFAULT_PORT)).weight(*weight)
    };
    url.hosts().iter().zip(weights).map(server).collect()
}

/// The key beside a key, which is on the same server or not, as the ring has it.
fn side(key: &str) -> String {
    format!("{key}.lease")
}

/// A key that is being loaded and has no value yet: empty, without flags, and taken or just won.
fn is_placeholder(bytes: &Bytes, flags: &Flags) -> bool {
    bytes.is_empty() && flags.client_flags == 0 && (flags.won || flags.is_taken)
}

fn unexpected(doing: &'static str, reply: Reply) -> Error {
    let said = match reply {
        Reply::Refused(text) => text,
        other => format!("{other:?}"),
    };
    Error::Engine { engine: "memcached", doing, source: Arc::new(Unexpected(said)) }
}

#[derive(Debug, thiserror::Error)]
#[error("it answered `{0}`")]
struct Unexpected(String);

/// pylibmc's and pymemcache's flag for a whole number.
const LONG_FLAG: u32 = 4;
const DEFAULT_PORT: u16 = 11_211;
const MAX_ATTEMPTS: u32 = 16;
/// Marks a lease that is a key beside the key. A CAS counts up from one and never gets there.
const ASIDE: u64 = 1 << 63;
/// Marks a lease on a server that has no leases of its own.
const CLASSIC: u64 = 1 << 62;
