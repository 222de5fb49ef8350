//! `fetch`: one load for each expiry, whoever asks and however many.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    Cache, Cacheable, Error, Life, Result,
    core::Core,
    entry::Entry,
    flight::Flight,
    random,
    store::{Boarding, Outcome},
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
        if let Some(value) = self.fresh(key.as_ref()) {
            return Ok(value);
        }
        // Apart, so that what awaits a hit is not as large as what awaits a load.
        Box::pin(self.fetch_slowly(key.as_ref(), life.into(), load)).await
    }

    async fn fetch_slowly<T, E, F, L>(&self, key: &str, life: Life, load: F) -> Result<T>
    where
        T: Cacheable,
        E: fmt::Display + Send + Sync + 'static,
        F: FnOnce() -> L + Send + 'static,
        L: Future<Output = Result<T, E>> + Send + 'static,
    {
        let key = self.key(key).await;
        let key = &*key;
        if let Some(value) = self.kept(key) {
            return value::read(key, &value);
        }
        let (core, mut load) = (self.core(), Some(load));
        loop {
            let seen = core.near.get(key);
            let kept = match core.look(seen.as_ref()) {
                Look::Fresh(entry) if value::suits::<T>(&entry.value) => {
                    core.count_hit(key);
                    return self.hand_out(key, &entry.value);
                }
                Look::Due(entry) if value::suits::<T>(&entry.value) => {
                    core.count_stale(key);
                    if core.may_retry(entry)
                        && let Some(load) = load.take()
                        && let Boarding::Lead(id, tell, _) =
                            core.near.board(key, seen.as_ref(), None)
                    {
                        self.take_off(key, id, tell, life, load);
                    }
                    return self.hand_out(key, &entry.value);
                }
                Look::Kept(entry) if value::suits::<T>(&entry.value) => Some(entry),
                _ => None,
            };
            let outcome = match core.near.board(key, seen.as_ref(), None) {
                Boarding::Changed => continue,
                Boarding::Join(outcome) => outcome,
                Boarding::Lead(id, tell, outcome) => {
                    let Some(load) = load.take() else {
                        return Err(Error::Abandoned { key: key.to_owned() });
                    };
                    self.take_off(key, id, tell, life.clone(), load);
                    outcome
                }
            };
            core.count_miss(key);
            let loaded = match &kept {
                None => arrival(key, outcome).await,
                Some(kept) => core.arrival_or_kept(key, outcome, kept, Duration::ZERO).await,
            };
            match loaded? {
                // Who loaded many found nothing under this key. Ask for it alone.
                value if !value::suits::<T>(&value) && load.is_some() => {}
                value => return self.hand_out(key, &value),
            }
        }
    }

    /// What is read most, at once: a fresh value of the type that is asked for, by a handle without
    /// namespaces, or what the handle's request has read already.
    #[inline(always)]
    pub(crate) fn fresh<T: Cacheable>(&self, key: &str) -> Option<T> {
        if !self.names.is_empty() {
            return None;
        }
        if self.keep.is_some() {
            return value::held::<T>(&self.kept(key)?).cloned();
        }
        let core = self.core();
        let now_ms = core.near.now_ms();
        let value = core.near.read(key, |slot| {
            let is_fresh = now_ms < slot.quick_until_ms;
            is_fresh.then(|| value::held::<T>(&slot.value)).flatten().cloned()
        })?;
        core.count_hit(key);
        Some(value)
    }

    /// Reads a value for the caller, and keeps it for the caller's request.
    fn hand_out<T: Cacheable>(&self, key: &str, value: &Value) -> Result<T> {
        let read = value::read(key, value)?;
        self.keep_for_request(key, value);
        Ok(read)
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
pub(crate) enum Look<'a> {
    Fresh(&'a Arc<Entry<Value>>),
    /// To be served and loaded anew.
    Due(&'a Arc<Entry<Value>>),
    /// To be served only if loading fails.
    Kept(&'a Arc<Entry<Value>>),
    Missing,
}

impl Core {
    pub(crate) fn look<'a>(&self, seen: Option<&'a Arc<Entry<Value>>>) -> Look<'a> {
        let Some(entry) = seen.filter(|entry| !entry.is_expired_by_tag()) else {
            return Look::Missing;
        };
        let now_ms = self.near.now_ms();
        if now_ms < entry.early_from_ms {
            Look::Fresh(entry)
        } else if now_ms < entry.fresh_until_ms {
            if self.is_early(entry, now_ms) { Look::Due(entry) } else { Look::Fresh(entry) }
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
        let ahead_ms = entry.load_ms as f64 * self.config.early * -random::unit().ln();
        ahead_ms >= left_ms
    }

    pub(crate) fn may_retry(&self, entry: &Entry<Value>) -> bool {
        self.near.now_ms() >= entry.retry_at_ms.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// What is being loaded, or what was kept for the case that loading fails or is slow: nobody
    /// waits for a loader that has just failed, nor long for a slow one.
    pub(crate) async fn arrival_or_kept(
        &self,
        key: &str,
        outcome: Outcome<Value>,
        kept: &Entry<Value>,
        waited: Duration,
    ) -> Result<Value> {
        let soft_ms = if self.may_retry(kept) { self.config.soft_timeout_ms } else { 0 };
        let limit = Duration::from_millis(soft_ms).saturating_sub(waited);
        match self.config.clock.timeout(limit, arrival(key, outcome)).await {
            Some(Ok(value)) => Ok(value),
            Some(Err(_)) | None => {
                self.count_stale(key);
                Ok(Arc::clone(&kept.value))
            }
        }
    }
}

pub(crate) async fn arrival(key: &str, mut outcome: Outcome<Value>) -> Result<Value> {
    let abandoned = || Error::Abandoned { key: key.to_owned() };
    let told = outcome.wait_for(Option::is_some).await.map_err(|_| abandoned())?;
    told.clone().unwrap_or_else(|| Err(abandoned()))
}
