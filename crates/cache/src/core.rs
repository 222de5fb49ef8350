//! What every part of a cache works on: the values in this process, the engine, and how to move
//! values between them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::Value as Json;
use tokio::sync::broadcast;

use crate::{
    Cacheable, Config, Engine, Error, Life, Result, Stats,
    change::{Change, MAX_WAITING},
    doubt::Doubts,
    engine::{Item, Span, Values},
    entry::{Entry, Tag, millis},
    life::Times,
    metrics::Meters,
    namespaces::Namespaces,
    python::{self, Decoded},
    random,
    reads::{Found, Reads},
    sealed::Sealed,
    store::Store,
    tags::Tags,
    value::{self, Value},
};

pub(crate) struct Core {
    pub(crate) near: Store<Value>,
    pub(crate) far: Option<Arc<dyn Engine>>,
    pub(crate) doubts: Doubts,
    pub(crate) tags: Tags,
    pub(crate) namespaces: Namespaces,
    pub(crate) reads: Reads,
    pub(crate) config: Config,
    pub(crate) meters: Meters,
    /// Tells this cache from the others on the same engine.
    pub(crate) id: u64,
    pub(crate) tell: broadcast::Sender<Change>,
}

/// A value read from the shared engine, as an entry of this process.
pub(crate) struct FarCopy {
    pub(crate) entry: Entry<Value>,
    /// Whether it is within its ttl; it may be in its grace.
    pub(crate) is_fresh: bool,
}

impl Core {
    pub(crate) fn new(config: Config, far: Option<Arc<dyn Engine>>) -> Self {
        let near = Store::new(config.max_bytes, config.clock.clone());
        let id = random::number();
        let (tell, _) = broadcast::channel(MAX_WAITING);
        Self {
            near,
            far,
            doubts: Doubts::default(),
            tags: Tags::default(),
            namespaces: Namespaces::default(),
            reads: Reads::new(config.clock.clone()),
            config,
            meters: Meters::new(),
            id,
            tell,
        }
    }

    #[inline]
    pub(crate) fn count_hit(&self, key: &str) {
        self.note(key, Found::Fresh);
    }

    pub(crate) fn count_stale(&self, key: &str) {
        self.note(key, Found::Stale);
    }

    pub(crate) fn count_miss(&self, key: &str) {
        self.note(key, Found::Nothing);
    }

    #[inline]
    fn note(&self, key: &str, found: Found) {
        if self.meters.count(found) {
            self.sample(key, found);
        }
    }

    #[cold]
    fn sample(&self, key: &str, found: Found) {
        let weight = self.meters.sample(found);
        self.reads.take(key, found, weight, self.near.now_ms());
    }

    pub(crate) fn entry(&self, value: Value, times: Times, bytes: usize) -> Entry<Value> {
        Entry::new(value, times, self.near.now_ms(), bytes as u64)
    }

    /// Shortens an entry's life in this process to what holds with a shared engine behind it.
    pub(crate) fn soften(&self, entry: &mut Entry<Value>) {
        let now_ms = self.near.now_ms();
        let near_ms = i64::try_from(self.config.near_ms).unwrap_or(i64::MAX);
        let soft_until_ms = now_ms.saturating_add(near_ms);
        if soft_until_ms < entry.fresh_until_ms {
            entry.fresh_until_ms = soft_until_ms;
            // A hot key is never waited for, and no reader is more than two such times behind.
            entry.stale_until_ms = soft_until_ms.saturating_add(near_ms).min(entry.stale_until_ms);
        }
        entry.early_from_ms = entry.fresh_until_ms;
    }

    /// The value as the engine stores it.
    pub(crate) fn seal(
        &self,
        value: &Value,
        json: Vec<u8>,
        times: Times,
        tags: &[Tag],
        version: Option<i64>,
        load_ms: u32,
    ) -> Item {
        let values = self.values();
        if values != Values::Sealed {
            return match (value.bytes(), serde_json::from_slice(&json)) {
                (None, Ok(json)) => python::from_json(json, values),
                (bytes, _) => python::from_bytes(bytes.unwrap_or(&json), values),
            };
        }
        let sealed = Sealed {
            fresh_until_ms: self.config.clock.now_ms().saturating_add(millis(times.ttl)),
            version,
            load_ms,
            tags: tags.iter().map(|tag| (tag.name.to_string(), tag.then)).collect(),
            json: Bytes::from(json),
        };
        Item { bytes: sealed.seal(), flags: SEALED_FLAGS }
    }

    /// Reads what the engine gave. `None` when it is not a `T` of ours or a tag has expired it: then
    /// it is as good as missing.
    pub(crate) async fn copy<T: Cacheable>(&self, key: &str, item: Item) -> Option<FarCopy> {
        if self.writes_python() {
            return self.copy_python::<T>(key, &item);
        }
        let sealed = Sealed::open(item.bytes)?;
        let value = match value::decode::<T>(key, &sealed.json) {
            Ok(value) => value::hold(value),
            Err(_) if value::is_empty(&sealed.json) => value::absent(),
            Err(error) => {
                tracing::warn!(key, %error, "the shared value of `{key}` is of another shape");
                return None;
            }
        };
        let tags = self.tags(sealed.tags.iter().map(|(name, _)| name.as_str())).await.ok()?;
        if sealed.tags.iter().zip(&tags).any(|((_, then), tag)| *then != tag.then) {
            return None;
        }
        let now_ms = self.config.clock.now_ms();
        let left_ms = sealed.fresh_until_ms.saturating_sub(now_ms);
        let ttl = Duration::from_millis(u64::try_from(left_ms).unwrap_or(0));
        let grace = Duration::from_millis(self.config.near_ms);
        let times = Times { ttl, grace, fail_safe: Duration::ZERO };
        let mut entry = self.entry(value, times, sealed.json.len());
        entry.version = sealed.version;
        entry.load_ms = i64::from(sealed.load_ms);
        entry.tags = tags;
        self.soften(&mut entry);
        Some(FarCopy { entry, is_fresh: left_ms > 0 })
    }

    /// Reads what a Python client, or this cache for one, wrote.
    fn copy_python<T: Cacheable>(&self, key: &str, item: &Item) -> Option<FarCopy> {
        let held = match python::read(item, self.values()) {
            Ok(Decoded::Bytes(bytes)) => {
                let text = String::from_utf8(bytes.clone()).ok();
                let held = value::hold(bytes);
                let as_bytes = value::read::<T>(key, &held);
                // Bytes that nobody says are text may be asked for as text.
                as_bytes.or_else(|error| {
                    let text = text.ok_or(error)?;
                    value::read::<T>(key, &value::hold(text))
                })
            }
            Ok(Decoded::Json(Json::Null)) if serde_json::from_value::<T>(Json::Null).is_err() => {
                return Some(self.copied(value::absent(), item));
            }
            Ok(Decoded::Json(json)) => {
                // pylibmc writes True as the number 1, and reads it back so too.
                let bit = json.as_u64().filter(|number| *number <= 1);
                let read = serde_json::from_value(json).or_else(|error| match bit {
                    Some(bit) => serde_json::from_value((bit == 1).into()),
                    None => Err(error),
                });
                read.map_err(|error| Error::value("read", key, error))
            }
            Err(reason) => Err(Error::value("read", key, reason)),
        };
        let value = match held {
            Ok(value) => value,
            Err(error) => {
                tracing::warn!(key, %error, "the shared value of `{key}` is of another shape");
                return None;
            }
        };
        Some(self.copied(value::hold(value), item))
    }

    fn copied(&self, value: Value, item: &Item) -> FarCopy {
        let near = Duration::from_millis(self.config.near_ms);
        let times = Times { ttl: near, grace: near, fail_safe: Duration::ZERO };
        FarCopy { entry: self.entry(value, times, item.bytes.len()), is_fresh: true }
    }

    fn values(&self) -> Values {
        self.far.as_ref().map_or(Values::Sealed, |far| far.values())
    }

    /// Whether values are written for Python's clients.
    pub(crate) fn writes_python(&self) -> bool {
        self.values() != Values::Sealed
    }

    /// Refuses what values for Python's clients have no place for.
    pub(crate) fn check_life(&self, key: &str, life: &Life) -> Result<()> {
        if self.writes_python() && (life.version.is_some() || !life.tags.is_empty()) {
            let reason = "values for Python's clients have no place for versions and tags";
            return Err(Error::value("store", key, reason));
        }
        Ok(())
    }

    pub(crate) fn version(&self, item: &Item) -> Option<i64> {
        Sealed::open(item.bytes.clone())?.version
    }

    /// The tags as of now. On a shared engine their generations are counters there.
    pub(crate) async fn tags(&self, names: impl Iterator<Item = &str>) -> Result<Box<[Tag]>> {
        let names: Vec<&str> = names.collect();
        if let Some(far) = self.far.as_ref().filter(|_| !names.is_empty()) {
            let keys: Vec<String> = names.iter().copied().map(tag_key).collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            for _attempt in 0..MAX_ATTEMPTS {
                let before: Vec<Tag> = names.iter().map(|name| self.tags.tag(name)).collect();
                let found = far.get(&keys).await?;
                let mut is_sure = true;
                for ((tag, key), item) in before.iter().zip(&keys).zip(found) {
                    let generation = match item.as_ref().and_then(generation) {
                        Some(generation) => generation,
                        None => self.begin_generation(&**far, key).await?,
                    };
                    is_sure &= self.tags.answered(tag, generation);
                }
                // Something was told meanwhile: the answer may be of before that.
                if is_sure {
                    break;
                }
            }
        }
        Ok(names.into_iter().map(|name| self.tags.tag(name)).collect())
    }

    pub(crate) async fn expire_tag(&self, name: &str) -> Result<()> {
        let Some(far) = &self.far else {
            self.tags.expire(name);
            return Ok(());
        };
        let generation = self.next_generation(&**far, &tag_key(name)).await?;
        self.tags.hear(name, generation);
        self.tell_tag(name, generation);
        Ok(())
    }

    /// The generation that the engine has under `key`.
    pub(crate) async fn ask_generation(&self, far: &dyn Engine, key: &str) -> Result<u64> {
        let found = far.get(&[key]).await?.pop().flatten();
        match found.as_ref().and_then(generation) {
            Some(generation) => Ok(generation),
            None => self.begin_generation(far, key).await,
        }
    }

    /// Moves on to a generation that nothing has.
    pub(crate) async fn next_generation(&self, far: &dyn Engine, key: &str) -> Result<u64> {
        match far.add(key, 1).await? {
            Some(generation) => Ok(u64::try_from(generation).unwrap_or(0)),
            None => self.begin_generation(far, key).await,
        }
    }

    /// Starts at a number that it cannot have been at before the engine forgot it: the time.
    async fn begin_generation(&self, far: &dyn Engine, key: &str) -> Result<u64> {
        let start = self.config.clock.now_ms().max(0);
        let item = Item { bytes: Bytes::from(start.to_string()), flags: 0 };
        let span = Span { fresh: TAG_TTL, stale: Duration::ZERO };
        if far.set_unless(key, item, span, &|_| true).await? {
            return Ok(u64::try_from(start).unwrap_or(0));
        }
        let found = far.get(&[key]).await?.pop().flatten();
        Ok(found.as_ref().and_then(generation).unwrap_or(0))
    }

    pub(crate) fn stats(&self) -> Stats {
        let [hits, stale, misses] = self.meters.reads();
        Stats {
            hits,
            stale,
            misses,
            loads: self.meters.loads.read(),
            failures: self.meters.failures.read(),
            evictions: self.near.evicted.load(std::sync::atomic::Ordering::Relaxed),
            entries: self.near.len() as u64,
            bytes: self.near.bytes(),
            loading: self.near.flying() as u64,
        }
    }
}

fn tag_key(name: &str) -> String {
    format!("{TAG}{name}")
}

fn generation(item: &Item) -> Option<u64> {
    std::str::from_utf8(&item.bytes).ok()?.trim().parse().ok()
}

/// `th` in ASCII: not a flag of any Python client, which therefore refuses the value aloud.
pub(crate) const SEALED_FLAGS: u32 = 0x7468;
/// What the key of a tag's generation begins with.
pub(crate) const TAG: &str = "throng.tag.";
/// As long as memcached keeps anything.
const TAG_TTL: Duration = Duration::from_secs(30 * 86_400);
/// How often the engine is asked for generations that move on meanwhile.
const MAX_ATTEMPTS: u32 = 4;
