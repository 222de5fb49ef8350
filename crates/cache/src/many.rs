//! Many keys at once: one question to the engine, and one load for all that are missing.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use futures_util::future::join_all;

use crate::{
    Cache, Cacheable, Error, Life, Result,
    core::Core,
    engine::Engine,
    entry::{Entry, Tag},
    fetch::{Look, arrival},
    flight::{Flight, Loaded, POLL, Right, Turn},
    store::{Boarding, Outcome},
    value::{self, Value},
};

impl Cache {
    /// The values under `keys` that are fresh, by key. Loads nothing; see
    /// [`fetch_many`](Self::fetch_many). The engine is asked once, and each of its servers once.
    ///
    /// # Errors
    /// [`Error::Value`] when one is not a `T`; [`Error::Engine`].
    pub async fn get_many<T: Cacheable>(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<HashMap<String, T>> {
        let core = self.core();
        let mut found = HashMap::new();
        let mut far_keys: Vec<(String, String)> = Vec::new();
        for name in keys {
            let name = name.as_ref();
            let key = self.key(name).await;
            let seen = core.near.get(&key);
            let near = self.kept(&key).or_else(|| match core.look(seen.as_ref()) {
                Look::Fresh(entry) => {
                    core.count_hit(&key);
                    Some(Arc::clone(&entry.value))
                }
                _ => None,
            });
            if let Some(value) = near {
                let value = value::read_some(&key, &value)?;
                found.extend(value.map(|value| (name.to_owned(), value)));
            } else {
                core.count_miss(&key);
                far_keys.push((name.to_owned(), key.into_owned()));
            }
        }
        let Some(far) = core.far.as_ref().filter(|_| !far_keys.is_empty()) else {
            return Ok(found);
        };
        let asked: Vec<&str> = far_keys.iter().map(|(_, key)| key.as_str()).collect();
        let items = far.get(&asked).await?;
        for ((name, key), item) in far_keys.iter().zip(items) {
            let Some(item) = item else { continue };
            let copy = core.copy::<T>(key, item).await.filter(|copy| copy.is_fresh);
            if let Some(copy) = copy
                && let Some(value) = value::read_some(key, &copy.entry.value)?
            {
                self.keep_for_request(key, &copy.entry.value);
                found.insert(name.clone(), value);
            }
        }
        Ok(found)
    }

    /// The values under `keys`, by key; those that are not there are loaded together and stored for
    /// `life`. A key for which `load` brings nothing is not in what comes back; with
    /// [`Life::empty_ttl`] that there is nothing is stored too.
    ///
    /// Every key is as with [`fetch`](Self::fetch): it is loaded once in the whole fleet, however it
    /// is asked for, and served stale while it is loaded anew. `load` is given the keys that are
    /// this caller's to load. It is called again for keys that others had begun to load and gave up.
    ///
    /// ```
    /// # use std::{collections::HashMap, time::Duration};
    /// # use throng_cache::Cache;
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
    /// # let cache = Cache::memory();
    /// let load = |missing: Vec<String>| async move {
    ///     // One query for all of them, in earnest.
    ///     let lengths = missing.into_iter().map(|key| { let len = key.len(); (key, len) });
    ///     Ok::<HashMap<String, usize>, std::io::Error>(lengths.collect())
    /// };
    /// let found = cache.fetch_many(["a", "bcd"], Duration::from_secs(60), load).await?;
    /// assert_eq!(found["bcd"], 3);
    /// # Ok::<(), throng_cache::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch), when a key that has nothing older to serve cannot be loaded.
    pub async fn fetch_many<T, E, F, L>(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<str>>,
        life: impl Into<Life>,
        load: F,
    ) -> Result<HashMap<String, T>>
    where
        T: Cacheable,
        E: fmt::Display + Send + Sync + 'static,
        F: Fn(Vec<String>) -> L + Send + Sync + 'static,
        L: Future<Output = Result<HashMap<String, T>, E>> + Send + 'static,
    {
        let (core, life) = (self.core(), life.into());
        let mut values: HashMap<String, Value> = HashMap::new();
        let mut flights = Vec::new();
        let mut waiting: Vec<Waiting> = Vec::new();
        let mut named = Vec::new();
        for name in keys {
            let name = name.as_ref();
            named.push((name.to_owned(), self.key(name).await.into_owned()));
        }
        // From here on nothing is awaited until the cache has the flights: others wait for them, and
        // they would end with this caller.
        'keys: for (name, key) in named {
            if let Some(value) = self.kept(&key) {
                values.insert(name, value);
                continue;
            }
            let take_off = |id, tell| Flight {
                core: Arc::clone(core),
                key: Arc::from(&*key),
                id,
                tell,
                life: life.clone(),
            };
            let (kept, outcome) = loop {
                let seen = core.near.get(&key);
                let kept = match core.look(seen.as_ref()) {
                    Look::Fresh(entry) => {
                        core.count_hit(&key);
                        values.insert(name, Arc::clone(&entry.value));
                        continue 'keys;
                    }
                    Look::Due(entry) => {
                        core.count_stale(&key);
                        if core.may_retry(entry)
                            && let Boarding::Lead(id, tell, _) =
                                core.near.board(&key, seen.as_ref(), None)
                        {
                            flights.push((name.clone(), take_off(id, tell)));
                        }
                        values.insert(name, Arc::clone(&entry.value));
                        continue 'keys;
                    }
                    Look::Kept(entry) => Some(Arc::clone(entry)),
                    Look::Missing => None,
                };
                match core.near.board(&key, seen.as_ref(), None) {
                    Boarding::Changed => {}
                    Boarding::Join(outcome) => break (kept, outcome),
                    Boarding::Lead(id, tell, outcome) => {
                        flights.push((name.clone(), take_off(id, tell)));
                        break (kept, outcome);
                    }
                }
            };
            core.count_miss(&key);
            waiting.push(Waiting { name, key, outcome, kept });
        }
        if !flights.is_empty() {
            let group = Group { core: Arc::clone(core), life, load };
            self.spawn(async move { group.run::<T, E, L>(flights).await });
        }
        let started = core.config.clock.elapsed();
        for Waiting { name, key, outcome, kept } in waiting {
            let value = match kept {
                None => arrival(&key, outcome).await?,
                Some(kept) => {
                    let waited = core.config.clock.elapsed().saturating_sub(started);
                    core.arrival_or_kept(&key, outcome, &kept, waited).await?
                }
            };
            self.keep_for_request(&key, &value);
            values.insert(name, value);
        }
        let mut found = HashMap::with_capacity(values.len());
        for (name, value) in values {
            if let Some(value) = value::read_some(&name, &value)? {
                found.insert(name, value);
            }
        }
        Ok(found)
    }
}

/// A key that the caller waits for.
struct Waiting {
    name: String,
    key: String,
    outcome: Outcome<Value>,
    kept: Option<Arc<Entry<Value>>>,
}

/// Flights that one loader serves, each with the name by which the caller knows its key.
struct Group<F> {
    core: Arc<Core>,
    life: Life,
    load: F,
}

type Named = (String, Flight);

impl<F> Group<F> {
    async fn run<T, E, L>(self, flights: Vec<Named>)
    where
        T: Cacheable,
        E: fmt::Display + Send + Sync + 'static,
        F: Fn(Vec<String>) -> L + Send + Sync,
        L: Future<Output = Result<HashMap<String, T>, E>> + Send,
    {
        let Some(far) = self.core.far.clone() else {
            for (flight, loaded) in self.bring(flights).await {
                flight.end(loaded.map(Loaded::into_entry));
            }
            return;
        };
        let mut left = self.land_fresh::<T>(&*far, flights).await;
        let limit = self.core.load_limit();
        let mut patience = limit;
        loop {
            let turns = left.iter().map(|(_, flight)| flight.turn::<T>(&*far, true));
            let turns = join_all(turns).await;
            let (mut waiting, mut rights, mut mine) = (Vec::new(), HashMap::new(), Vec::new());
            for ((name, flight), turn) in left.into_iter().zip(turns) {
                match turn {
                    Turn::Landed(entry) => flight.end(Ok(entry)),
                    Turn::Wait => waiting.push((name, flight)),
                    Turn::Load(right) => {
                        rights.insert(flight.id, right);
                        mine.push((name, flight));
                    }
                }
            }
            if !mine.is_empty() {
                let brought = self.bring(mine).await;
                let store = async |(flight, loaded): (Flight, Result<Loaded>)| {
                    let right = rights.get(&flight.id).copied().unwrap_or(Right::Alone);
                    let stored = flight.store(&*far, right, loaded).await;
                    flight.end(stored);
                };
                join_all(brought.into_iter().map(store)).await;
            }
            left = waiting;
            if left.is_empty() {
                return;
            }
            if patience.is_zero() {
                for (_, flight) in left {
                    flight.end(Err(Error::Timeout { key: flight.key.to_string(), limit }));
                }
                return;
            }
            self.core.config.clock.sleep(POLL).await;
            patience = patience.saturating_sub(POLL);
        }
    }

    /// Asks for all in one go, and ends the flights to what is fresh. The others are claimed one by
    /// one. Values for Python do not say how fresh they are, so that all of those are claimed.
    async fn land_fresh<T: Cacheable>(&self, far: &dyn Engine, flights: Vec<Named>) -> Vec<Named> {
        if self.core.writes_python() {
            return flights;
        }
        let keys: Vec<&str> = flights.iter().map(|(_, flight)| &*flight.key).collect();
        // An engine that is down says so to the claims, too.
        let Ok(items) = far.get(&keys).await else { return flights };
        let mut left = Vec::new();
        for ((name, flight), item) in flights.into_iter().zip(items) {
            let copy = match item {
                Some(item) => self.core.copy::<T>(&flight.key, item).await,
                None => None,
            };
            match copy.filter(|copy| copy.is_fresh) {
                Some(copy) => flight.end(Ok(copy.entry)),
                None => left.push((name, flight)),
            }
        }
        left
    }

    /// Loads for all flights at once.
    async fn bring<T, E, L>(&self, flights: Vec<Named>) -> Vec<(Flight, Result<Loaded>)>
    where
        T: Cacheable,
        E: fmt::Display + Send + Sync + 'static,
        F: Fn(Vec<String>) -> L + Send + Sync,
        L: Future<Output = Result<HashMap<String, T>, E>> + Send,
    {
        let names = flights.iter().map(|(name, _)| name.clone()).collect();
        let loaded = self.load_all(names, &flights).await;
        let (mut found, tags, took) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                return flights
                    .into_iter()
                    .map(|(_, flight)| (flight, Err(error.clone())))
                    .collect();
            }
        };
        let each = |(name, flight): Named| {
            let tags = match &tags {
                Ok(tags) => Ok(tags.iter().map(Tag::again).collect()),
                Err(error) => Err(error.clone()),
            };
            let loaded = match found.remove(&name) {
                Some(value) => value::encode(&name, &value)
                    .map(|json| flight.loaded(value::hold(value), json, tags, took)),
                None => {
                    let absent = flight.loaded(value::absent(), b"null".to_vec(), tags, took);
                    // What is not to be remembered lives for no time, and is not shared.
                    let is_kept = self.life.empty_ttl.is_some();
                    Ok(if is_kept { absent } else { absent.unshared() })
                }
            };
            (flight, loaded)
        };
        flights.into_iter().map(each).collect()
    }

    async fn load_all<T, E, L>(
        &self,
        names: Vec<String>,
        flights: &[Named],
    ) -> Result<(HashMap<String, T>, Result<Box<[Tag]>>, Duration)>
    where
        E: fmt::Display + Send + Sync + 'static,
        F: Fn(Vec<String>) -> L + Send + Sync,
        L: Future<Output = Result<HashMap<String, T>, E>> + Send,
    {
        let key = flights.first().map_or("", |(_, flight)| &*flight.key);
        self.core.check_life(key, &self.life)?;
        // As of before the load: a tag that is expired meanwhile expires what is being loaded.
        let tags = self.core.tags(self.life.tags()?).await;
        let (found, took) = self.core.load(key, async { (self.load)(names).await }).await?;
        Ok((found, tags, took))
    }
}
