//! The handle: opening, plain reads and writes, tags, counters.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;
#[cfg(not(test))]
use tokio::task::JoinSet;

// The model checker decides which task goes on.
#[cfg(test)]
use crate::model::JoinSet;
use crate::{
    Cacheable, Config, Engine, Error, Life, Result, Stats,
    core::Core,
    engine::Span,
    keep::Keep,
    value::{self, Value},
};

/// A cache. Clones share one.
#[derive(Clone)]
pub struct Cache {
    pub(crate) inner: Arc<Inner>,
    /// The namespaces that keys are in, the outermost first.
    pub(crate) names: Arc<[Arc<str>]>,
    /// What the request has read to which this handle belongs.
    pub(crate) keep: Option<Arc<Keep>>,
}

/// What the clones share: the cache itself and the loads that it has running, which end with it.
pub(crate) struct Inner {
    core: Arc<Core>,
    loads: Mutex<Loads>,
}

/// The loads that are under way.
struct Loads {
    tasks: JoinSet<()>,
    /// Each load holds a receiver of the wave in which it began, the last one here, until it ends.
    waves: Vec<Arc<watch::Sender<()>>>,
}

pub(crate) fn new(config: Config, far: Option<Arc<dyn Engine>>) -> Cache {
    let core = Arc::new(Core::new(config, far));
    if let Some(far) = &core.far {
        let heard = Arc::downgrade(&core);
        far.listen(Box::new(move |change| {
            if let Some(core) = heard.upgrade() {
                core.heard(change);
            }
        }));
    }
    let loads = Loads { tasks: JoinSet::default(), waves: vec![Arc::default()] };
    let inner = Arc::new(Inner { core, loads: Mutex::new(loads) });
    Cache { inner, names: Arc::default(), keep: None }
}

impl Cache {
    /// Opens the embedded engine: in this process, nothing to install.
    #[must_use]
    pub fn memory() -> Self {
        Config::default().memory()
    }

    /// Opens the engine that `url` names: `memory:?max_bytes=8388608`, or
    /// `memcached://a,b,c?ring=ketama-weighted`.
    ///
    /// # Errors
    /// [`Error::Url`] when the URL is wrong or names an engine that this build does not open.
    pub async fn open(url: &str) -> Result<Self> {
        Config::default().open(url).await
    }

    /// Uses an engine of your own; it must pass [`conformance::exercise`](crate::conformance).
    #[must_use]
    pub fn with_engine(engine: impl Engine) -> Self {
        Config::default().with_engine(engine)
    }

    /// The name of the engine: `memory`.
    #[must_use]
    pub fn engine(&self) -> &'static str {
        self.core().far.as_ref().map_or("memory", |far| far.name())
    }

    /// Whether other processes that open the same URL share the values.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.core().far.as_ref().is_some_and(|far| far.is_shared())
    }

    /// The value under `key` while it is fresh. Loads nothing; see [`fetch`](Self::fetch).
    ///
    /// # Errors
    /// [`Error::Value`] when it is not a `T`; [`Error::Engine`].
    pub async fn get<T: Cacheable>(&self, key: impl AsRef<str>) -> Result<Option<T>> {
        if let Some(value) = self.fresh(key.as_ref()) {
            return Ok(Some(value));
        }
        // Apart, so that what awaits a hit is not as large as what awaits an engine.
        Box::pin(self.get_slowly(key.as_ref())).await
    }

    async fn get_slowly<T: Cacheable>(&self, key: &str) -> Result<Option<T>> {
        let key = self.key(key).await;
        if let Some(value) = self.kept(&key) {
            return value::read_some(&key, &value);
        }
        let Some(value) = self.core().get::<T>(&key).await? else { return Ok(None) };
        self.keep_for_request(&key, &value);
        value::read_some(&key, &value)
    }

    /// Stores `value` for `life`, over whatever is there. A loader that is under way for the key
    /// comes too late: what it brings is not stored.
    ///
    /// With a [version](Life::version) the value yields to one that has a higher version. Tells
    /// whether the value was stored.
    ///
    /// # Errors
    /// [`Error::Value`] when the value cannot be written as JSON; [`Error::Engine`].
    pub async fn set<T: Cacheable>(
        &self,
        key: impl AsRef<str>,
        value: &T,
        life: impl Into<Life>,
    ) -> Result<bool> {
        let key = self.key(key.as_ref()).await;
        let stored = self.core().set(&key, value, &life.into()).await;
        match stored {
            Ok(true) if self.keep.is_some() => {
                self.keep_for_request(&key, &value::hold(value.clone()));
            }
            _ => self.unkeep(&key),
        }
        stored
    }

    /// Deletes; tells whether there was something. Where you know the new value, [`set`](Self::set)
    /// it instead, and nobody has to load it.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub async fn delete(&self, key: impl AsRef<str>) -> Result<bool> {
        let key = self.key(key.as_ref()).await;
        self.unkeep(&key);
        self.core().delete(&key).await
    }

    /// Expires every value that has `tag`, however many those are.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub async fn expire_tag(&self, tag: &str) -> Result<()> {
        self.unkeep_all();
        self.core().expire_tag(tag).await
    }

    /// Sets the counter under `key`. Counters do not go below zero.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub async fn set_count(&self, key: impl AsRef<str>, count: i64, ttl: Duration) -> Result<()> {
        let key = self.key(key.as_ref()).await;
        self.unkeep(&key);
        self.core().set_count(&key, count, ttl).await
    }

    /// Adds to the counter under `key` and tells the sum. `None`, and nothing is counted, when it
    /// is not there: then whoever knows the truth sets it with [`set_count`](Self::set_count).
    ///
    /// # Errors
    /// [`Error::Value`] when there is something else under the key; [`Error::Engine`].
    pub async fn add(&self, key: impl AsRef<str>, by: i64) -> Result<Option<i64>> {
        let key = self.key(key.as_ref()).await;
        self.unkeep(&key);
        self.core().add(&key, by).await
    }

    /// The counter under `key`.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub async fn count(&self, key: impl AsRef<str>) -> Result<Option<i64>> {
        self.core().count(&self.key(key.as_ref()).await).await
    }

    /// Forgets everything that this process holds. A shared engine keeps what it has.
    pub fn forget(&self) {
        self.unkeep_all();
        self.core().near.clear();
    }

    /// What the cache has done and holds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core().stats()
    }

    /// Waits for the loads that are under way. New ones may still begin. Cancel safe: who stops
    /// waiting stops no load.
    ///
    /// Call it when shutting down, so that what was loaded for others is not thrown away. Dropping
    /// the last clone stops the loads instead.
    pub async fn settle(&self) {
        let under_way = {
            let mut loads = self.loads();
            loads.waves.retain(|wave| wave.receiver_count() > 0);
            let under_way = loads.waves.clone();
            loads.waves.push(Arc::default());
            under_way
        };
        for wave in under_way {
            wave.closed().await;
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    /// Runs a load that belongs to the cache and not to the caller that asked first.
    pub(crate) fn spawn(&self, load: impl Future<Output = ()> + Send + 'static) {
        let mut loads = self.loads();
        while loads.tasks.try_join_next().is_some() {}
        let wave = loads.waves.last().map(|wave| wave.subscribe());
        loads.tasks.spawn(async move {
            let _until_it_ends = wave;
            load.await;
        });
    }

    fn loads(&self) -> std::sync::MutexGuard<'_, Loads> {
        self.inner.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("engine", &self.engine()).finish_non_exhaustive()
    }
}

impl Core {
    async fn get<T: Cacheable>(&self, key: &str) -> Result<Option<Value>> {
        let now_ms = self.near.now_ms();
        let near = self.near.get(key).filter(|entry| !entry.is_expired_by_tag());
        if let Some(entry) = near.filter(|entry| now_ms < entry.fresh_until_ms) {
            self.count_hit(key);
            return Ok(Some(Arc::clone(&entry.value)));
        }
        self.count_miss(key);
        let Some(far) = &self.far else {
            return Ok(None);
        };
        let found = far.get(&[key]).await?.pop().flatten();
        let Some(item) = found else {
            return Ok(None);
        };
        let copy = self.copy::<T>(key, item).await.filter(|copy| copy.is_fresh);
        Ok(copy.map(|copy| copy.entry.value))
    }

    async fn set<T: Cacheable>(&self, key: &str, value: &T, life: &Life) -> Result<bool> {
        self.check_life(key, life)?;
        let json = value::encode(key, value)?;
        let tags = self.tags(life.tags()?).await?;
        let times = life.times(&self.config, value::is_empty(&json));
        let mut entry = self.entry(value::hold(value.clone()), times, json.len());
        entry.version = life.version;
        let doubts = self.doubts.of(key);
        if let Some(far) = &self.far {
            let item = self.seal(&entry.value, json, times, &tags, life.version, 0);
            let span = Span { fresh: times.ttl, stale: times.grace };
            let stored = match life.version {
                None => far.set(key, item, span).await.map(|()| true),
                Some(new) => {
                    let beats = |old: &_| self.version(old).is_some_and(|old| old > new);
                    far.set_unless(key, item, span, &beats).await
                }
            };
            if !matches!(stored, Ok(true)) {
                // Newer or unknown: either way, what this process holds is not to be trusted.
                self.near.remove(key);
                return stored;
            }
            self.soften(&mut entry);
            self.tell_key(key);
        }
        entry.tags = tags;
        let stored = self.near.put_unless(key, entry, |old| match (old.version, life.version) {
            (Some(old), Some(new)) => old > new,
            _ => false,
        });
        // Told meanwhile that another has written, who may have been later: the engine knows.
        if self.doubts.of(key) != doubts {
            self.near.remove(key);
        }
        Ok(stored)
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        let near = self.near.remove(key);
        match &self.far {
            None => Ok(near),
            Some(far) => {
                let deleted = far.delete(key).await;
                // Once more: a reader may have copied the value between the two.
                self.near.remove(key);
                self.tell_key(key);
                deleted
            }
        }
    }

    async fn set_count(&self, key: &str, count: i64, ttl: Duration) -> Result<()> {
        let span = Span { fresh: ttl, stale: Duration::ZERO };
        match &self.far {
            Some(far) => far.set_count(key, count, span).await,
            None => {
                let times = Life::of(ttl).grace(Duration::ZERO).times(&self.config, false);
                self.near.put(key, self.entry(value::hold(count.max(0)), times, 8));
                Ok(())
            }
        }
    }

    async fn add(&self, key: &str, by: i64) -> Result<Option<i64>> {
        if let Some(far) = &self.far {
            return far.add(key, by).await;
        }
        let sum = self.near.change(key, |held: &Value| match value::read::<i64>(key, held) {
            Ok(count) => {
                let sum = count.saturating_add(by).max(0);
                (value::hold(sum), Ok(sum))
            }
            Err(error) => (Arc::clone(held), Err(error)),
        });
        sum.transpose()
    }

    async fn count(&self, key: &str) -> Result<Option<i64>> {
        let Some(far) = &self.far else {
            let count = self.get::<i64>(key).await?;
            return count.map(|count| value::read(key, &count)).transpose();
        };
        let Some(item) = far.get(&[key]).await?.pop().flatten() else {
            return Ok(None);
        };
        let count = std::str::from_utf8(&item.bytes).ok().and_then(|text| text.trim().parse().ok());
        count.map(Some).ok_or_else(|| Error::value("count", key, "it is not a counter"))
    }
}
