//! `fetch`: one load for each expiry, whoever asks and however many.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    Cache, Cacheable, Error, Life, Result,
    cache::is_empty,
    core::Core,
    engine::{Claim, Engine, Item, Lease, Span},
    error::Failure,
    store::{Boarding, Entry, Outcome, Tag, millis},
    value::{self, Value},
};

impl Cache {
    /// The value under `key`; when it is not there, what `load` returns, stored for `life`.
    ///
    /// - Of all who ask at once, one loads; the others wait for it and share what comes, a failure
    ///   too. A failure is not stored.
    /// - Past its ttl a value is served at once while one load brings a newer one. Nobody waits.
    /// - The load belongs to the cache: it goes on when the caller is dropped, it is stopped after
    ///   [`Config::load_timeout_ms`](crate::Config::load_timeout_ms), and its panic is an error.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use throng_cache::Cache;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
    /// # let cache = Cache::memory();
    /// async fn count_seats(event: i64) -> Result<u32, std::io::Error> {
    ///     Ok(40) // a query, in earnest
    /// }
    ///
    /// let event = 7;
    /// let key = format!("seats/{event}");
    /// let load = move || count_seats(event);
    /// let left: u32 = cache.fetch(key, Duration::from_secs(5), load).await?;
    /// assert_eq!(left, 40);
    /// # Ok::<(), throng_cache::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Load`] with what the loader returned (see [`Error::loader_error`]),
    /// [`Error::Timeout`], [`Error::Abandoned`] and [`Error::Value`]. An engine that is down is no
    /// error: the value is loaded.
    pub async fn fetch<T, E, F, L>(
        &self,
        key: impl AsRef<str>,
        life: impl Into<Life>,
        load: F,
    ) -> Result<T>
    where
        T: Cacheable,
        E: fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> L + Send + 'static,
        L: Future<Output = Result<T, E>> + Send + 'static,
    {
        let key = key.as_ref();
        let core = self.core();
        let kept = match core.look(key) {
            Look::Fresh(entry) => {
                core.meters.hits.count();
                return value::read(key, &entry.value);
            }
            Look::Due(entry) => {
                core.meters.stale.count();
                if core.may_retry(&entry)
                    && let Boarding::Lead(id, tell, _) = core.near.board(key, None)
                {
                    self.take_off(key, id, tell, life.into(), load);
                }
                return value::read(key, &entry.value);
            }
            Look::Kept(entry) => Some(entry),
            Look::Missing => None,
        };
        core.meters.misses.count();
        let outcome = match core.near.board(key, None) {
            Boarding::Join(outcome) => outcome,
            Boarding::Lead(id, tell, outcome) => {
                self.take_off(key, id, tell, life.into(), load);
                outcome
            }
        };
        let loaded = match &kept {
            None => arrival(key, outcome).await,
            Some(kept) => {
                // Nobody waits for a loader that has just failed, nor long for a slow one.
                let soft_ms = if core.may_retry(kept) { core.config.soft_timeout_ms } else { 0 };
                let limit = Duration::from_millis(soft_ms);
                match core.config.clock.timeout(limit, arrival(key, outcome)).await {
                    Some(Ok(value)) => Ok(value),
                    Some(Err(_)) | None => {
                        core.meters.stale.count();
                        Ok(Arc::clone(&kept.value))
                    }
                }
            }
        };
        value::read(key, &loaded?)
    }

    fn take_off<T, E, F, L>(
        &self,
        key: &str,
        id: u64,
        tell: watch::Sender<Option<Result<Value>>>,
        life: Life,
        load: F,
    ) where
        T: Cacheable,
        E: fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> L + Send + 'static,
        L: Future<Output = Result<T, E>> + Send + 'static,
    {
        let flight = Flight { core: Arc::clone(self.core()), key: Arc::from(key), id, tell, life };
        self.spawn(flight.run(load));
    }
}

/// What this process has under a key.
enum Look {
    Fresh(Arc<Entry<Value>>),
    /// To be served and loaded anew.
    Due(Arc<Entry<Value>>),
    /// To be served only if loading fails.
    Kept(Arc<Entry<Value>>),
    Missing,
}

impl Core {
    fn look(&self, key: &str) -> Look {
        let Some(entry) = self.near.get(key).filter(|entry| !entry.is_expired_by_tag()) else {
            return Look::Missing;
        };
        let now_ms = self.near.now_ms();
        if now_ms < entry.early_from_ms {
            Look::Fresh(entry)
        } else if now_ms < entry.fresh_until_ms {
            if self.is_early(&entry, now_ms) { Look::Due(entry) } else { Look::Fresh(entry) }
        } else if now_ms < entry.stale_until_ms {
            Look::Due(entry)
        } else if now_ms < entry.kept_until_ms {
            Look::Kept(entry)
        } else {
            Look::Missing
        }
    }

    /// XFetch: the chance to refresh early grows towards the end of the ttl, sooner for what takes
    /// longer to load, so that a busy key is fresh again before it is ever stale.
    fn is_early(&self, entry: &Entry<Value>, now_ms: i64) -> bool {
        let left_ms = (entry.fresh_until_ms - now_ms) as f64;
        let ahead_ms = entry.load_ms as f64 * self.config.early * -random_unit().ln();
        ahead_ms >= left_ms
    }

    fn may_retry(&self, entry: &Entry<Value>) -> bool {
        self.near.now_ms() >= entry.retry_at_ms.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// One load under way. However it ends, dropping it lets the next one begin.
struct Flight {
    core: Arc<Core>,
    key: Arc<str>,
    id: u64,
    tell: watch::Sender<Option<Result<Value>>>,
    life: Life,
}

impl Flight {
    async fn run<T, E, F, L>(self, load: F)
    where
        T: Cacheable,
        E: fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> L + Send,
        L: Future<Output = Result<T, E>> + Send,
    {
        let brought = match self.core.far.clone() {
            None => self.load(load).await.map(|loaded| loaded.entry),
            Some(far) => self.through(&*far, load).await,
        };
        match brought {
            Ok(entry) => {
                let value = Arc::clone(&entry.value);
                self.core.near.land(&self.key, self.id, entry);
                self.tell.send_replace(Some(Ok(value)));
            }
            Err(error) => {
                self.delay_retry();
                self.core.near.cancel(&self.key, self.id);
                self.tell.send_replace(Some(Err(error)));
            }
        }
    }

    /// Asks the shared engine, and loads only with its lease or when it cannot answer.
    async fn through<T, E, F, L>(&self, far: &dyn Engine, load: F) -> Result<Entry<Value>>
    where
        T: Cacheable,
        E: fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> L + Send,
        L: Future<Output = Result<T, E>> + Send,
    {
        let times = self.life.times(&self.core.config, false);
        let limit = Duration::from_millis(self.core.config.load_timeout_ms);
        let mut left = limit;
        loop {
            let claim = match far.claim(&self.key, times.grace, limit + LEASE_SLACK).await {
                Ok(claim) => claim,
                Err(error) => return self.load_alone(error, load).await,
            };
            let copy = |item: Item| self.core.copy::<T>(&self.key, item);
            let lease = match claim {
                Claim::Fresh(item) => match copy(item).await {
                    Some(copy) => return Ok(copy.entry),
                    // Of another shape or expired by a tag: to be replaced, and nobody has a lease.
                    None => return self.replace(far, load).await,
                },
                Claim::Stale(item, lease) => match (copy(item).await, lease) {
                    (Some(copy), None) => return Ok(copy.entry),
                    (Some(copy), Some(lease)) => {
                        let value = Arc::clone(&copy.entry.value);
                        self.core.near.show(&self.key, self.id, copy.entry);
                        self.tell.send_replace(Some(Ok(value)));
                        Some(lease)
                    }
                    (None, lease) => lease,
                },
                Claim::Missing(lease) => lease,
            };
            if let Some(lease) = lease {
                return self.fill(far, lease, load).await;
            }
            if left.is_zero() {
                return Err(Error::Timeout { key: self.key.to_string(), limit });
            }
            self.core.config.clock.sleep(POLL).await;
            left = left.saturating_sub(POLL);
        }
    }

    async fn fill<T, E, F, L>(
        &self,
        far: &dyn Engine,
        lease: Lease,
        load: F,
    ) -> Result<Entry<Value>>
    where
        T: Cacheable,
        E: fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> L + Send,
        L: Future<Output = Result<T, E>> + Send,
    {
        let loaded = match self.load(load).await {
            Ok(loaded) => loaded,
            Err(error) => {
                if let Err(error) = far.release(&self.key, lease).await {
                    tracing::warn!(key = &*self.key, %error, "cannot give back the lease on `{}`", self.key);
                }
                return Err(error);
            }
        };
        let mut entry = loaded.entry;
        let filled = match loaded.item {
            Some(item) => far.fill(&self.key, lease, item, loaded.span).await,
            None => far.release(&self.key, lease).await.map(|()| false),
        };
        match filled {
            Ok(true) => self.core.soften(&mut entry),
            // Somebody wrote meanwhile, so this value may be the older one. It answers those who
            // waited for it, and nobody else.
            Ok(false) => entry.end(),
            Err(error) => {
                tracing::warn!(key = &*self.key, %error, "cannot share the value of `{}`", self.key);
                self.core.soften(&mut entry);
            }
        }
        Ok(entry)
    }

    /// Loads and writes over what is there.
    async fn replace<T, E, F, L>(&self, far: &dyn Engine, load: F) -> Result<Entry<Value>>
    where
        T: Cacheable,
        E: fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> L + Send,
        L: Future<Output = Result<T, E>> + Send,
    {
        let loaded = self.load(load).await?;
        let mut entry = loaded.entry;
        let stored = match loaded.item {
            Some(item) => far.set(&self.key, item, loaded.span).await.is_ok(),
            None => false,
        };
        if stored {
            self.core.soften(&mut entry);
        } else {
            entry.end();
        }
        Ok(entry)
    }

    /// Loads while the engine is down. The value lives in this process for as long as a copy does.
    async fn load_alone<T, E, F, L>(&self, error: Error, load: F) -> Result<Entry<Value>>
    where
        T: Cacheable,
        E: fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> L + Send,
        L: Future<Output = Result<T, E>> + Send,
    {
        tracing::warn!(key = &*self.key, %error, "loading `{}` without the shared cache", self.key);
        let mut entry = self.load(load).await?.entry;
        self.core.soften(&mut entry);
        Ok(entry)
    }

    async fn load<T, E, F, L>(&self, load: F) -> Result<Loaded>
    where
        T: Cacheable,
        E: fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> L + Send,
        L: Future<Output = Result<T, E>> + Send,
    {
        let core = &self.core;
        core.check_life(&self.key, &self.life)?;
        // As of before the load: a tag that is expired meanwhile expires what is being loaded.
        let tags = core.tags(self.life.tags()?).await;
        let limit = Duration::from_millis(core.config.load_timeout_ms);
        let started = core.config.clock.elapsed();
        core.meters.loads.count();
        let failed = Failed { core, armed: true };
        let Some(loaded) = core.config.clock.timeout(limit, load()).await else {
            return Err(Error::Timeout { key: self.key.to_string(), limit });
        };
        let value = loaded.map_err(|error| Error::Load {
            key: self.key.to_string(),
            failure: Failure::new(error),
        })?;
        let json = value::encode(&self.key, &value)?;
        failed.disarm();
        let took = core.config.clock.elapsed().saturating_sub(started);
        core.meters.load_seconds.record(took.as_secs_f64());
        Ok(self.loaded(value::hold(value), json, tags, took))
    }

    fn loaded(
        &self,
        value: Value,
        json: Vec<u8>,
        tags: Result<Box<[Tag]>>,
        took: Duration,
    ) -> Loaded {
        let core = &self.core;
        let times = self.life.times(&core.config, is_empty(&json));
        let mut entry = core.entry(value, times, json.len());
        entry.version = self.life.version;
        entry.load_ms = millis(took);
        let ahead_ms = (entry.load_ms as f64 * core.config.early * EARLIEST) as i64;
        entry.early_from_ms = entry.fresh_until_ms.saturating_sub(ahead_ms);
        let load_ms = u32::try_from(entry.load_ms).unwrap_or(u32::MAX);
        let (held, version) = (&entry.value, self.life.version);
        let seal = |tags: &_| core.seal(held, json, times, tags, version, load_ms);
        let item = tags.as_ref().ok().map(|tags| seal(tags));
        entry.tags = tags.unwrap_or_default();
        Loaded { entry, item, span: Span { fresh: times.ttl, stale: times.grace } }
    }

    fn delay_retry(&self) {
        if let Some(entry) = self.core.near.get(&self.key) {
            let retry_ms = i64::try_from(self.core.config.retry_ms).unwrap_or(i64::MAX);
            let at_ms = self.core.near.now_ms().saturating_add(retry_ms);
            entry.retry_at_ms.store(at_ms, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // Does nothing after a landing; after a panic it lets the next one try.
        self.core.near.cancel(&self.key, self.id);
    }
}

/// What a load brought: for this process, and for the shared engine.
struct Loaded {
    entry: Entry<Value>,
    /// Missing where the engine could not say how old the value's tags are.
    item: Option<Item>,
    span: Span,
}

/// Counts a failure unless disarmed: a loader may panic or be stopped.
struct Failed<'a> {
    core: &'a Core,
    armed: bool,
}

impl Failed<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Failed<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.core.meters.failures.count();
        }
    }
}

async fn arrival(key: &str, mut outcome: Outcome<Value>) -> Result<Value> {
    let abandoned = || Error::Abandoned { key: key.to_owned() };
    let told = outcome.wait_for(Option::is_some).await.map_err(|_| abandoned())?;
    told.clone().unwrap_or_else(|| Err(abandoned()))
}

/// A number above 0 and at most 1. `RandomState` is seeded by the system and steps with each use.
fn random_unit() -> f64 {
    use std::hash::{BuildHasher, Hasher, RandomState};

    let bits = RandomState::new().build_hasher().finish() >> 11;
    (bits + 1) as f64 / (1_u64 << 53) as f64
}

/// How many loading times before its end a value may be refreshed at the earliest: one reader in
/// 22,026 draws that.
const EARLIEST: f64 = 10.0;
/// How long to wait before asking again for what another process is loading.
const POLL: Duration = Duration::from_millis(20);
/// How much longer than a load its lease lasts, for the way to the engine and back.
const LEASE_SLACK: Duration = Duration::from_secs(2);
