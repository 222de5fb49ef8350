//! One load under way: asking the shared engine, loading with its lease, and storing what came.

use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::sync::watch;

use crate::{
    Cacheable, Error, Life, Result,
    core::{Core, FarCopy},
    engine::{Claim, Engine, Item, Lease, Span},
    entry::{Entry, Tag, millis},
    error::Failure,
    value::{self, Value},
};

/// One load under way. However it ends, dropping it lets the next one begin.
pub(crate) struct Flight {
    pub(crate) core: Arc<Core>,
    pub(crate) key: Arc<str>,
    pub(crate) id: u64,
    pub(crate) tell: watch::Sender<Option<Result<Value>>>,
    pub(crate) life: Life,
}

/// What the shared engine says to one who would load.
pub(crate) enum Turn {
    /// Nothing is to be done: this is the value.
    Landed(Entry<Value>),
    /// Load, and store it so.
    Load(Right),
    /// Another process is loading: ask again soon.
    Wait,
}

/// By what right a value is stored.
#[derive(Clone, Copy)]
pub(crate) enum Right {
    /// With the engine's lease.
    Lease(Lease),
    /// Over what is there, which is of another shape or expired by a tag.
    Over,
    /// In this process alone: the engine is down.
    Alone,
}

/// What a load brought: for this process, and for the shared engine.
pub(crate) struct Loaded {
    entry: Entry<Value>,
    /// Missing where the engine could not say how old the value's tags are.
    item: Option<Item>,
    span: Span,
}

impl Flight {
    pub(crate) async fn run<T, E, F, L>(self, load: F)
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
        self.end(brought);
    }

    /// Stores what came in this process and tells whoever waits.
    pub(crate) fn end(&self, brought: Result<Entry<Value>>) {
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
        let limit = self.core.load_limit();
        let mut left = limit;
        loop {
            match self.turn::<T>(far, false).await {
                Turn::Landed(entry) => return Ok(entry),
                Turn::Load(right) => return self.store(far, right, self.load(load).await).await,
                Turn::Wait if left.is_zero() => {
                    return Err(Error::Timeout { key: self.key.to_string(), limit });
                }
                Turn::Wait => self.core.config.clock.sleep(POLL).await,
            }
            left = left.saturating_sub(POLL);
        }
    }

    /// Asks the shared engine whose turn it is to load. `may_be_absent` takes a value that says that
    /// there is none.
    pub(crate) async fn turn<T: Cacheable>(&self, far: &dyn Engine, may_be_absent: bool) -> Turn {
        let times = self.life.times(&self.core.config, false);
        let lease = self.core.load_limit() + LEASE_SLACK;
        let claim = match far.claim(&self.key, times.grace, lease).await {
            Ok(claim) => claim,
            Err(error) => {
                let key = &*self.key;
                tracing::warn!(key, %error, "loading `{key}` without the shared cache");
                return Turn::Load(Right::Alone);
            }
        };
        let copy = async |item: Item| -> Option<FarCopy> {
            let copy = self.core.copy::<T>(&self.key, item).await?;
            Some(copy).filter(|copy| may_be_absent || !value::is_absent(&copy.entry.value))
        };
        match claim {
            Claim::Fresh(item) => match copy(item).await {
                Some(copy) => Turn::Landed(copy.entry),
                // Of another shape or expired by a tag: to be replaced, and nobody has a lease.
                None => Turn::Load(Right::Over),
            },
            Claim::Stale(item, lease) => match (copy(item).await, lease) {
                (Some(copy), None) => Turn::Landed(copy.entry),
                (Some(copy), Some(lease)) => {
                    let value = Arc::clone(&copy.entry.value);
                    self.core.near.show(&self.key, self.id, copy.entry);
                    self.tell.send_replace(Some(Ok(value)));
                    Turn::Load(Right::Lease(lease))
                }
                (None, Some(lease)) => Turn::Load(Right::Lease(lease)),
                (None, None) => Turn::Wait,
            },
            Claim::Missing(Some(lease)) => Turn::Load(Right::Lease(lease)),
            Claim::Missing(None) => Turn::Wait,
        }
    }

    /// Stores on the shared engine what was loaded, or gives the right back.
    pub(crate) async fn store(
        &self,
        far: &dyn Engine,
        right: Right,
        loaded: Result<Loaded>,
    ) -> Result<Entry<Value>> {
        let key = &*self.key;
        let loaded = match (loaded, right) {
            (Ok(loaded), _) => loaded,
            (Err(error), Right::Lease(lease)) => {
                self.give_back(far, lease).await;
                return Err(error);
            }
            (Err(error), _) => return Err(error),
        };
        let Loaded { mut entry, item, span } = loaded;
        let stored = match (right, item) {
            // The value lives in this process for as long as a copy does.
            (Right::Alone, _) => Ok(true),
            (Right::Over, Some(item)) => Ok(far.set(key, item, span).await.is_ok()),
            (Right::Over, None) => Ok(false),
            (Right::Lease(lease), Some(item)) => far.fill(key, lease, item, span).await,
            (Right::Lease(lease), None) => far.release(key, lease).await.map(|()| false),
        };
        match stored {
            Ok(true) => self.core.soften(&mut entry),
            // Somebody wrote meanwhile, so this value may be the older one. It answers those who
            // waited for it, and nobody else.
            Ok(false) => entry.end(),
            Err(error) => {
                tracing::warn!(key, %error, "cannot share the value of `{key}`");
                self.core.soften(&mut entry);
            }
        }
        Ok(entry)
    }

    pub(crate) async fn give_back(&self, far: &dyn Engine, lease: Lease) {
        if let Err(error) = far.release(&self.key, lease).await {
            let key = &*self.key;
            tracing::warn!(key, %error, "cannot give back the lease on `{key}`");
        }
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
        let (value, took) = core.load(&self.key, async { load().await }).await?;
        let json = value::encode(&self.key, &value)?;
        Ok(self.loaded(value::hold(value), json, tags, took))
    }

    pub(crate) fn loaded(
        &self,
        value: Value,
        json: Vec<u8>,
        tags: Result<Box<[Tag]>>,
        took: Duration,
    ) -> Loaded {
        let core = &self.core;
        let times = self.life.times(&core.config, value::is_empty(&json));
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

impl Loaded {
    /// The entry, where no engine shares it.
    pub(crate) fn into_entry(self) -> Entry<Value> {
        self.entry
    }

    /// The same for those who wait, and for nobody after them.
    pub(crate) fn unshared(mut self) -> Self {
        self.entry.end();
        Self { item: None, ..self }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // Does nothing after a landing; after a panic it lets the next one try.
        self.core.near.cancel(&self.key, self.id);
    }
}

impl Core {
    /// Runs a loader under the limit, and counts it.
    pub(crate) async fn load<R, E>(
        &self,
        key: &str,
        loader: impl Future<Output = Result<R, E>> + Send,
    ) -> Result<(R, Duration)>
    where
        E: fmt::Display + Send + Sync + 'static,
    {
        let limit = self.load_limit();
        let started = self.config.clock.elapsed();
        self.meters.loads.count();
        let failed = Failed { core: self, key, armed: true };
        // What a panic leaves behind goes with the loader. Whoever loads has a lease to give back.
        let loader = AssertUnwindSafe(loader).catch_unwind();
        let Some(loaded) = self.config.clock.timeout(limit, loader).await else {
            return Err(Error::Timeout { key: key.to_owned(), limit });
        };
        let value = loaded
            .map_err(|_panic| Error::Abandoned { key: key.to_owned() })?
            .map_err(|error| Error::Load { key: key.to_owned(), failure: Failure::new(error) })?;
        failed.disarm();
        let took = self.config.clock.elapsed().saturating_sub(started);
        self.meters.load_seconds.record(took.as_secs_f64());
        self.reads.loaded(key, took);
        Ok((value, took))
    }

    pub(crate) fn load_limit(&self) -> Duration {
        Duration::from_millis(self.config.load_timeout_ms)
    }
}

/// Counts a failure unless disarmed: a loader may panic or be stopped.
struct Failed<'a> {
    core: &'a Core,
    key: &'a str,
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
            self.core.reads.failed(self.key);
        }
    }
}

/// How many loading times before its end a value may be refreshed at the earliest: one reader in
/// 22,026 draws that.
const EARLIEST: f64 = 10.0;
/// How long to wait before asking again for what another process is loading.
pub(crate) const POLL: Duration = Duration::from_millis(20);
/// How much longer than a load its lease lasts, for the way to the engine and back.
const LEASE_SLACK: Duration = Duration::from_secs(2);
