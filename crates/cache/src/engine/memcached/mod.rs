//! memcached by its meta protocol: the server itself gives out one lease for each expiry.
//!
//! A miss is claimed by vivifying the key (`N`), a stale item by the recache token (`R`), and a
//! lease that is given back marks the item stale (`md … I`) so that the next reader wins. What was
//! loaded is stored only over the CAS that came with the lease. A server that fails, hangs or
//! answers rubbish leaves the ring until it answers again, and the call goes on to the server that
//! owns the key without it.

mod fleet;
mod line;
mod probe;
pub(crate) mod protocol;
mod stats;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use throng_core::{Clock, EngineUrl, url::UrlError};
use throng_ring::{Placement, Ring, Server};

use self::{
    fleet::{Fleet, Route},
    protocol::{Flags, Reply},
};
pub use self::{
    probe::{Probe, ProbedKey, RingFit},
    stats::ServerStats,
};
use crate::{
    Error, Result,
    engine::{
        Claim, Engine, Item, Lease, Span, Values,
        key::{Keys, OddKeys},
    },
};

/// A fleet of memcached servers, version 1.6 or newer. Clones share its connections.
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

    /// `ms key …` with `extra` flags, under a life that a gutter server shortens.
    async fn store(&self, key: &str, item: &Item, span: Span, extra: &str) -> Result<Reply> {
        let limit = self.max_item_bytes;
        if item.bytes.len() > limit {
            let bytes = item.bytes.len();
            let reason = format!("it has {bytes} bytes, over the limit of {limit}");
            return Err(Error::value("store", key, reason));
        }
        let wire = self.keys.wire(key)?;
        let command = |route: Route| {
            // Of what is fresh, for the time in which it is stale tells readers that it is due.
            let fresh = if route.is_gutter { span.fresh.min(self.gutter) } else { span.fresh };
            let whole = fresh.saturating_add(span.stale);
            let mut command = BytesMut::with_capacity(wire.len() + item.bytes.len() + 64);
            // Zero seconds would mean for ever; what lives for no time ends at once.
            let ttl = if whole.is_zero() { "-1".to_owned() } else { ttl(whole).to_string() };
            let (len, flags) = (item.bytes.len(), item.flags);
            command.extend_from_slice(b"ms ");
            command.extend_from_slice(&wire);
            command.extend_from_slice(format!(" {len} T{ttl} F{flags}{extra}\r\n").as_bytes());
            command.extend_from_slice(&item.bytes);
            command.extend_from_slice(b"\r\n");
            command.freeze()
        };
        self.fleet.ask(&wire, true, command).await
    }

    /// A command that is one line.
    async fn tell(&self, key: &str, verb: &str, flags: &str, is_repeatable: bool) -> Result<Reply> {
        let wire = self.keys.wire(key)?;
        let command = |_| {
            let mut command = format!("{verb} ").into_bytes();
            command.extend_from_slice(&wire);
            command.extend_from_slice(format!(" {flags}\r\n").as_bytes());
            command.into()
        };
        self.fleet.ask(&wire, is_repeatable, command).await
    }
}

/// Leases on missing keys that Python's clients read: a key beside them, which `add` gives to one.
impl Memcached {
    async fn claim_aside(&self, key: &str, lease: Duration) -> Result<Claim> {
        let beside = Item { bytes: Bytes::from_static(b"1"), flags: 0 };
        let span = Span { fresh: lease, stale: Duration::ZERO };
        let Reply::Done(flags) = self.store(&side(key), &beside, span, " ME c").await? else {
            return Ok(Claim::Missing(None));
        };
        // Between the look and the lease another may have filled the key.
        match self.tell(key, "mg", "v f c", true).await? {
            Reply::Value(bytes, found) => {
                self.end_aside(key, Lease(flags.cas | ASIDE)).await?;
                Ok(Claim::Fresh(Item { bytes, flags: found.client_flags }))
            }
            _ => Ok(Claim::Missing(Some(Lease(flags.cas | ASIDE)))),
        }
    }

    async fn fill_aside(&self, key: &str, lease: Lease, item: Item, span: Span) -> Result<bool> {
        // `add` first: when the lease goes, whoever looks next must find the value. It is taken
        // back if the lease was void, which a deletion makes it.
        let Reply::Done(stored) = self.store(key, &item, span, " ME c").await? else {
            self.end_aside(key, lease).await?;
            return Ok(false);
        };
        if self.end_aside(key, lease).await? {
            return Ok(true);
        }
        self.tell(key, "md", &format!("C{}", stored.cas), true).await?;
        Ok(false)
    }

    /// Ends the lease; tells whether it still counted.
    async fn end_aside(&self, key: &str, lease: Lease) -> Result<bool> {
        let ended = self.tell(&side(key), "md", &format!("C{}", lease.0 & !ASIDE), true).await?;
        Ok(matches!(ended, Reply::Done(_)))
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
        match self.store(key, &item, span, "").await? {
            Reply::Done(_) => Ok(()),
            other => Err(unexpected("store", other)),
        }
    }

    async fn set_unless(
        &self,
        key: &str,
        item: Item,
        span: Span,
        beats: &(dyn for<'a> Fn(&'a Item) -> bool + Sync),
    ) -> Result<bool> {
        for _attempt in 0..MAX_ATTEMPTS {
            let extra = match self.tell(key, "mg", "v f c", true).await? {
                Reply::Missing => " ME".to_owned(),
                Reply::Value(bytes, flags) => {
                    let is_held = is_placeholder(&bytes, &flags);
                    let old = Item { bytes, flags: flags.client_flags };
                    if !is_held && beats(&old) {
                        return Ok(false);
                    }
                    format!(" C{}", flags.cas)
                }
                other => return Err(unexpected("read", other)),
            };
            match self.store(key, &item, span, &extra).await? {
                Reply::Done(_) => return Ok(true),
                // Somebody was quicker: what they stored may beat it.
                Reply::Exists | Reply::NotFound | Reply::NotStored => {}
                other => return Err(unexpected("store", other)),
            }
        }
        let reason = format!("{MAX_ATTEMPTS} others wrote it first");
        Err(Error::value("store", key, reason))
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        if self.values == Values::Python {
            self.tell(&side(key), "md", "", true).await?;
        }
        match self.tell(key, "md", "", true).await? {
            Reply::Done(_) => Ok(true),
            Reply::NotFound => Ok(false),
            other => Err(unexpected("delete", other)),
        }
    }

    async fn claim(&self, key: &str, stale: Duration, lease: Duration) -> Result<Claim> {
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
        if lease.0 & ASIDE != 0 {
            return self.fill_aside(key, lease, item, span).await;
        }
        match self.store(key, &item, span, &format!(" C{}", lease.0)).await? {
            Reply::Done(_) => Ok(true),
            Reply::Exists | Reply::NotFound | Reply::NotStored => Ok(false),
            other => Err(unexpected("store", other)),
        }
    }

    async fn release(&self, key: &str, lease: Lease) -> Result<()> {
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
        let bytes = Bytes::from(count.max(0).to_string());
        self.set(key, Item { bytes, flags: LONG_FLAG }, span).await
    }

    async fn add(&self, key: &str, by: i64) -> Result<Option<i64>> {
        let mode = if by < 0 { " MD" } else { "" };
        match self.tell(key, "ma", &format!("v D{}{mode}", by.unsigned_abs()), false).await? {
            Reply::NotFound => Ok(None),
            Reply::Value(bytes, _) => {
                let sum =
                    std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok());
                sum.map(Some).ok_or_else(|| Error::value("count", key, "its sum is over 2^63"))
            }
            Reply::Refused(_) => Err(Error::value("count", key, "it is not a counter")),
            other => Err(unexpected("count", other)),
        }
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

/// Whole seconds, rounded up; a moment when it would end beyond what memcached counts relatively.
fn ttl(life: Duration) -> u64 {
    let seconds = life.as_secs() + u64::from(life.subsec_nanos() > 0);
    if seconds <= MAX_RELATIVE_S {
        return seconds;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // memcached keeps times in 32 bits; what outlives 2106 may as well stay for ever.
    now.as_secs().checked_add(seconds).filter(|at| *at <= u64::from(u32::MAX)).unwrap_or(0)
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
const MAX_RELATIVE_S: u64 = 30 * 86_400;
const MAX_ATTEMPTS: u32 = 16;
/// Marks a lease that is a key beside the key. A CAS counts up from one and never gets there.
const ASIDE: u64 = 1 << 63;
