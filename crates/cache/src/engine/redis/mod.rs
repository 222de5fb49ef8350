//! Redis: values as plain strings beside a key for each lease, changed together by scripts that the
//! server runs in one step.
//!
//! A lease on `key` is `key.lease`, which holds the token of whoever loads and ends by itself if
//! that one crashes. Writing or deleting the key deletes it, and with it the right to fill the key.
//! All scripts name two keys; Redis Cluster, which may have them on two servers, is not served.

mod address;
mod link;
mod packing;
mod tracking;

use std::{sync::Arc, time::Duration};

use ::redis::{Script, ScriptInvocation, Value};
use async_trait::async_trait;
use bytes::Bytes;
use throng_core::{Clock, EngineUrl};

use self::{
    address::client,
    link::{Call, Fault, Link, Place},
    packing::{pack, unpack},
    tracking::Tracking,
};
use crate::{
    Error, Result,
    engine::{Claim, Engine, Item, Lease, Listener, Span, Values, key::Keys},
    entry::millis,
    random,
};

/// A Redis server. Clones share its connection.
#[derive(Clone, Debug)]
pub struct Redis {
    link: Arc<Link>,
    scripts: Arc<Scripts>,
    keys: Keys,
    max_item_bytes: usize,
    values: Values,
    tracking: Option<Tracking>,
}

impl Redis {
    /// Opens `redis://user:password@host:6379/0`, or `rediss:` for TLS. The connection is made in
    /// the background, so that a server that is away does not keep a site from starting.
    ///
    /// Options: `timeout` (of an answer, 250ms), `retry` (of a server that is away, 2s),
    /// `max_item_bytes` (1048576), `values` (`sealed`, or `python` for what Django's Redis backends
    /// read and write), `prefix`, `version`, which makes keys Django's `prefix:version:key`, and for
    /// `rediss:` `ca`, a PEM file of who signs the server's certificate, rather than the system's.
    /// With `tracking=true` the server, version 6 or newer, tells of each key that anybody writes
    /// under that prefix and version, and this process forgets its copy at once.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub fn open(url: &EngineUrl, clock: &Clock) -> Result<Self> {
        let mut options = url.options();
        let timeout = options.take("timeout")?.unwrap_or(Duration::from_millis(250));
        let retry = options.take("retry")?.unwrap_or(Duration::from_secs(2));
        let max_item_bytes = options.take::<u32>("max_item_bytes")?.unwrap_or(1 << 20);
        let values: Option<String> = options.take("values")?;
        let prefix = options.take("prefix")?.unwrap_or_default();
        let version = options.take("version")?;
        let ca: Option<String> = options.take("ca")?;
        let is_tracking = options.take::<bool>("tracking")?.unwrap_or(false);
        options.finish()?;
        let values = match values.as_deref() {
            None | Some("sealed") => Values::Sealed,
            Some("python") => Values::Pickled,
            Some(_) => {
                return Err(url.fault("option `values`", "it is `sealed` or `python`").into());
            }
        };
        let keys = Keys { prefix, version, ..Keys::default() };
        let tracking = is_tracking.then(|| Tracking::new(&keys.named("")));
        let (client, name) = client(url, ca.as_deref(), is_tracking)?;
        let clock = clock.clone();
        let place = Place { client, name, timeout, retry, clock, tracking: tracking.clone() };
        Ok(Self {
            link: Arc::new(Link::new(place)),
            scripts: Arc::default(),
            keys,
            max_item_bytes: usize::try_from(max_item_bytes).unwrap_or(usize::MAX),
            values,
            tracking,
        })
    }

    /// Begins a call of `script` on `key` and its lease.
    fn on<'a>(&self, script: &'a Script, key: &str) -> ScriptInvocation<'a> {
        let key = self.keys.named(key).into_owned();
        let lease = format!("{key}.lease");
        let mut call = script.prepare_invoke();
        call.key(key).key(lease);
        call
    }

    async fn run<T: ::redis::FromRedisValue>(
        &self,
        doing: &'static str,
        call: &ScriptInvocation<'_>,
        is_repeatable: bool,
    ) -> Result<T> {
        self.link.ask(Call::Script(call), is_repeatable).await.map_err(|fault| failed(doing, fault))
    }

    async fn command<T: ::redis::FromRedisValue>(
        &self,
        doing: &'static str,
        command: &::redis::Cmd,
    ) -> Result<T> {
        self.link.ask(Call::Command(command), true).await.map_err(|fault| failed(doing, fault))
    }
}

#[async_trait]
impl Engine for Redis {
    fn name(&self) -> &'static str {
        NAME
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn values(&self) -> Values {
        self.values
    }

    fn listen(&self, listener: Listener) {
        if let Some(tracking) = &self.tracking {
            tracking.listen(listener);
        }
    }

    async fn get(&self, keys: &[&str]) -> Result<Vec<Option<Item>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = ::redis::cmd("MGET");
        for key in keys {
            command.arg(&*self.keys.named(key));
        }
        let found: Vec<Option<Vec<u8>>> = self.command("read", &command).await?;
        Ok(found.into_iter().map(|found| found.map(unpack)).collect())
    }

    async fn set(&self, key: &str, item: Item, span: Span) -> Result<()> {
        item.check_size(key, self.max_item_bytes)?;
        let mut call = self.on(&self.scripts.set, key);
        call.arg(&pack(item)[..]).arg(ms(span));
        self.run("store", &call, true).await
    }

    async fn set_unless(
        &self,
        key: &str,
        item: Item,
        span: Span,
        beats: &(dyn for<'a> Fn(&'a Item) -> bool + Sync),
    ) -> Result<bool> {
        item.check_size(key, self.max_item_bytes)?;
        let packed = pack(item);
        for _attempt in 0..MAX_ATTEMPTS {
            let mut read = ::redis::cmd("GET");
            read.arg(&*self.keys.named(key));
            let old: Option<Vec<u8>> = self.command("read", &read).await?;
            if old.clone().is_some_and(|old| beats(&unpack(old))) {
                return Ok(false);
            }
            let mut call = self.on(&self.scripts.swap, key);
            call.arg(&packed[..]).arg(ms(span));
            if let Some(old) = old {
                call.arg(old);
            }
            // Repeated, it would find its own value and tell that somebody else was quicker, which
            // then beats or does not: the same question again.
            if self.run("store", &call, true).await? {
                return Ok(true);
            }
        }
        let reason = format!("{MAX_ATTEMPTS} others wrote it first");
        Err(Error::value("store", key, reason))
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        self.run("delete", &self.on(&self.scripts.delete, key), true).await
    }

    async fn claim(&self, key: &str, stale: Duration, lease: Duration) -> Result<Claim> {
        let token = random::number();
        let mut call = self.on(&self.scripts.claim, key);
        call.arg(millis(stale)).arg(millis(lease).max(1)).arg(token);
        let claimed: Result<(u8, Option<Vec<u8>>)> = self.run("read", &call, true).await;
        let (state, value) = claimed.inspect_err(|_| {
            self.link.lose((self.keys.named(key).into_owned(), token));
        })?;
        let lease = (state == WON).then_some(Lease(token));
        Ok(match value.map(unpack) {
            Some(item) if state == FRESH => Claim::Fresh(item),
            Some(item) => Claim::Stale(item, lease),
            None => Claim::Missing(lease),
        })
    }

    async fn fill(&self, key: &str, lease: Lease, item: Item, span: Span) -> Result<bool> {
        item.check_size(key, self.max_item_bytes)?;
        let mut call = self.on(&self.scripts.fill, key);
        call.arg(lease.0).arg(&pack(item)[..]).arg(ms(span));
        self.run("store", &call, false).await
    }

    async fn release(&self, key: &str, lease: Lease) -> Result<()> {
        let mut call = self.on(&self.scripts.release, key);
        call.arg(lease.0);
        self.run("give back a lease", &call, true).await
    }

    async fn set_count(&self, key: &str, count: i64, span: Span) -> Result<()> {
        let bytes = Bytes::from(count.max(0).to_string());
        self.set(key, Item { bytes, flags: 0 }, span).await
    }

    async fn add(&self, key: &str, by: i64) -> Result<Option<i64>> {
        let mut call = self.on(&self.scripts.add, key);
        call.arg(by);
        let sum: Value = self.run("count", &call, false).await?;
        match sum {
            Value::Nil => Ok(None),
            Value::Int(_) => Err(Error::value("count", key, "it is not a counter")),
            sum => {
                let sum = ::redis::from_redis_value(sum);
                let answer = |error: ::redis::ParsingError| Fault::Answer(Arc::new(error.into()));
                sum.map(Some).map_err(|error| failed("count", answer(error)))
            }
        }
    }
}

/// The scripts, each of which the server runs in one step.
#[derive(Debug)]
struct Scripts {
    claim: Script,
    fill: Script,
    set: Script,
    swap: Script,
    delete: Script,
    release: Script,
    add: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        let storing =
            |text: &str| Script::new(&format!("{}{text}", include_str!("scripts/store.lua")));
        Self {
            claim: Script::new(include_str!("scripts/claim.lua")),
            fill: storing(include_str!("scripts/fill.lua")),
            set: storing(include_str!("scripts/set.lua")),
            swap: storing(include_str!("scripts/swap.lua")),
            delete: Script::new(include_str!("scripts/delete.lua")),
            release: Script::new(include_str!("scripts/release.lua")),
            add: Script::new(include_str!("scripts/add.lua")),
        }
    }
}

/// How long the server keeps an item: 0 is not at all, -1 for ever.
fn ms(span: Span) -> i64 {
    let ms = millis(span.fresh.saturating_add(span.stale));
    if ms > LONGEST_MS { -1 } else { ms }
}

fn failed(doing: &'static str, fault: Fault) -> Error {
    Error::Engine { engine: NAME, doing, source: Arc::new(fault) }
}

const NAME: &str = "redis";
const FRESH: u8 = 0;
const WON: u8 = 2;
const MAX_ATTEMPTS: u32 = 16;
/// A hundred years: the server keeps what lives longer without counting.
const LONGEST_MS: i64 = 100 * 365 * 86_400_000;
