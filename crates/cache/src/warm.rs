//! Values that are pushed: whoever knows them writes, on a schedule or on a change, and readers never
//! load.

use std::{fmt, time::Duration};

use crate::{
    Cache, Cacheable, Life, Result,
    core::Core,
    fetch::{Look, arrival},
    flight::Flight,
    store::Boarding,
    value,
};

impl Cache {
    /// Pushes a value for readers who never load: [`set`](Self::set), with a grace of a day unless
    /// `life` has one, so that readers have the last value when the next one is late. They read it
    /// with [`latest`](Self::latest).
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub async fn push<T: Cacheable>(
        &self,
        key: impl AsRef<str>,
        value: &T,
        life: impl Into<Life>,
    ) -> Result<bool> {
        let mut life = life.into();
        life.grace.get_or_insert(A_DAY);
        self.set(key, value, life).await
    }

    /// The value under `key`, fresh or in its grace. Loads nothing. With a shared engine, this
    /// process keeps a copy of it for [`Config::near_ms`](crate::Config::near_ms).
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) when it is not a `T`;
    /// [`Error::Engine`](crate::Error::Engine).
    pub async fn latest<T: Cacheable>(&self, key: impl AsRef<str>) -> Result<Option<T>> {
        let key = self.key(key.as_ref()).await;
        if let Some(value) = self.kept(&key) {
            return value::read_some(&key, &value);
        }
        let core = self.core();
        let outcome = loop {
            let seen = core.near.get(&key);
            match core.look(seen.as_ref()) {
                Look::Fresh(entry) => {
                    core.count_hit(&key);
                    self.keep_for_request(&key, &entry.value);
                    return value::read_some(&key, &entry.value);
                }
                Look::Due(entry) if core.far.is_none() => {
                    core.count_stale(&key);
                    return value::read_some(&key, &entry.value);
                }
                _ if core.far.is_none() => {
                    core.count_miss(&key);
                    return Ok(None);
                }
                _ => {}
            }
            match core.near.board(&key, seen.as_ref(), None) {
                Boarding::Changed => {}
                Boarding::Join(outcome) => break outcome,
                Boarding::Lead(id, tell, outcome) => {
                    let (core, life) = (core.clone(), Life::of(Duration::ZERO));
                    let flight = Flight { core, key: (*key).into(), id, tell, life };
                    self.spawn(async move { flight.copy_latest::<T>().await });
                    break outcome;
                }
            }
        };
        core.count_miss(&key);
        let value = arrival(&key, outcome).await?;
        self.keep_for_request(&key, &value);
        value::read_some(&key, &value)
    }

    /// Loads now, whatever is there, and stores what came: for a schedule that keeps a value warm.
    /// A failure leaves the old value as it is.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch) and [`set`](Self::set).
    pub async fn warm<T, E, L>(
        &self,
        key: impl AsRef<str>,
        life: impl Into<Life>,
        load: impl FnOnce() -> L + Send,
    ) -> Result<T>
    where
        T: Cacheable,
        E: fmt::Display + Send + Sync + 'static,
        L: Future<Output = Result<T, E>> + Send,
    {
        let key = key.as_ref();
        let (value, _) = self.core().load(key, async { load().await }).await?;
        self.set(key, &value, life).await?;
        Ok(value)
    }
}

impl Flight {
    /// Copies what the engine has, or that it has nothing, for whoever waits.
    async fn copy_latest<T: Cacheable>(self) {
        let copied = self.core.far_latest::<T>(&self.key).await;
        self.end(copied);
    }
}

impl Core {
    async fn far_latest<T: Cacheable>(
        &self,
        key: &str,
    ) -> Result<crate::entry::Entry<value::Value>> {
        let found = match &self.far {
            Some(far) => far.get(&[key]).await?.pop().flatten(),
            None => None,
        };
        let copy = match found {
            Some(item) => self.copy::<T>(key, item).await,
            None => None,
        };
        let near = Duration::from_millis(self.config.near_ms);
        let times = |fresh| crate::life::Times {
            ttl: fresh,
            grace: Duration::ZERO,
            fail_safe: Duration::ZERO,
        };
        Ok(match copy {
            Some(copy) if copy.is_fresh => copy.entry,
            // In its grace: as good as fresh to who does not load, and looked at again soon.
            Some(copy) => {
                let mut entry = self.entry(copy.entry.value, times(near), 0);
                (entry.weight, entry.tags) = (copy.entry.weight, copy.entry.tags);
                entry
            }
            None => {
                let mut entry = self.entry(value::absent(), times(Duration::ZERO), 0);
                entry.end();
                entry
            }
        })
    }
}

const A_DAY: Duration = Duration::from_secs(86_400);
