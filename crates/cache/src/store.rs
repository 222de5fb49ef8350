//! Values in this process, and who is loading what: the memory that every cache has.
//!
//! Reading a fresh value takes no lock of ours. Whatever changes a key takes the one on its
//! flights, so that "nobody wrote in the meantime" can be said with certainty.

#[cfg(not(test))]
use std::sync::{Mutex, MutexGuard};
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

// The model checker decides who gets the lock.
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter, sync};
#[cfg(test)]
use shuttle::sync::{Mutex, MutexGuard};
use throng_core::Clock;
use tokio::sync::watch;

use crate::{
    Error,
    entry::{Entry, Tag, millis},
    slot::{Name, Reading, Slot},
};

/// Entries bounded by bytes, and the flights that are loading some.
pub(crate) struct Store<V> {
    entries: sync::Cache<Slot<V>, (), ByBytes, DefaultHashBuilder, Evictions>,
    flights: Mutex<HashMap<Arc<str>, Flight<V>>>,
    clock: Clock,
    next_flight: AtomicU64,
    pub(crate) evicted: Arc<AtomicU64>,
}

/// One loading of one key. Whoever asks meanwhile waits for its outcome.
struct Flight<V> {
    id: u64,
    /// After this it counts as crashed and another may take off. `None` trusts its [`Ticket`].
    until_ms: Option<i64>,
    outcome: Outcome<V>,
}

/// Tells what became of a flight: nothing yet, or its result.
pub(crate) type Outcome<V> = watch::Receiver<Option<Result<V, Error>>>;

/// What a reader who would load is told.
pub(crate) enum Boarding<V> {
    /// You load. Land it with the id.
    Lead(u64, watch::Sender<Option<Result<V, Error>>>, Outcome<V>),
    /// Another is loading; this is its outcome.
    Join(Outcome<V>),
    /// What is there is not what the caller saw: somebody landed or wrote. Look again.
    Changed,
}

impl<V: Clone> Store<V> {
    pub(crate) fn new(max_bytes: u64, clock: Clock) -> Self {
        // A value larger than its shard's part could not be held, so small caches have few shards.
        let shards = usize::try_from(max_bytes / SHARD_BYTES).unwrap_or(usize::MAX).clamp(1, 64);
        let items = usize::try_from(max_bytes / 4_096).unwrap_or(usize::MAX).max(64);
        let options = OptionsBuilder::new()
            .shards(shards)
            .estimated_items_capacity(items)
            .weight_capacity(max_bytes)
            .build()
            .expect("both capacities are given");
        let evicted = Arc::<AtomicU64>::default();
        let evictions = Evictions(Arc::clone(&evicted));
        let hasher = DefaultHashBuilder::default();
        let entries = sync::Cache::with_options(options, ByBytes, hasher, evictions);
        Self { entries, flights: Mutex::default(), clock, next_flight: AtomicU64::new(1), evicted }
    }

    /// Milliseconds on the clock that never steps back.
    #[inline]
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.elapsed_coarse_ms()
    }

    /// The entry, fresh or not. It may be past everything: ask it.
    pub(crate) fn get(&self, key: &str) -> Option<Arc<Entry<V>>> {
        self.read(key, |slot| Some(Arc::clone(&slot.entry)))
    }

    /// Reads what is under the key, fresh or not, without taking it out. `read` must be quick, for
    /// whoever writes to the same part of the store waits for it.
    #[inline]
    pub(crate) fn read<R>(&self, key: &str, read: impl Fn(&Slot<V>) -> Option<R>) -> Option<R> {
        let reading = Reading::new(key, read);
        self.entries.get(&reading);
        reading.found()
    }

    /// The entry, without counting that it was used.
    fn peek(&self, key: &str) -> Option<Arc<Entry<V>>> {
        let reading = Reading::new(key, |slot: &Slot<V>| Some(Arc::clone(&slot.entry)));
        self.entries.peek(&reading);
        reading.found()
    }

    fn insert(&self, key: &str, entry: Entry<V>) {
        let slot = Slot::new(key, entry);
        let mut written = Some(slot.name.clone());
        self.entries.insert_with_lifecycle(slot, (), &mut written);
    }

    /// Takes off to load `key`, under which the caller has `seen` an entry that is due or none, or
    /// joins who is loading it.
    pub(crate) fn board(
        &self,
        key: &str,
        seen: Option<&Arc<Entry<V>>>,
        crashed_after: Option<Duration>,
    ) -> Boarding<V> {
        let now_ms = self.now_ms();
        let mut flights = self.flights();
        if let Some(flight) = flights.get(key)
            && flight.until_ms.is_none_or(|until_ms| now_ms < until_ms)
        {
            return Boarding::Join(flight.outcome.clone());
        }
        // Between look and lock another may have landed; one load more would be one too many.
        let there = self.peek(key);
        if there.as_ref().map(Arc::as_ptr) != seen.map(Arc::as_ptr) {
            return Boarding::Changed;
        }
        let id = self.next_flight.fetch_add(1, Ordering::Relaxed);
        let (tell, outcome) = watch::channel(None);
        let until_ms = crashed_after.map(|after| now_ms.saturating_add(millis(after)));
        let flight = Flight { id, until_ms, outcome: outcome.clone() };
        flights.insert(Arc::from(key), flight);
        Boarding::Lead(id, tell, outcome)
    }

    /// Stores what flight `id` brought, unless the key was written or deleted meanwhile.
    pub(crate) fn land(&self, key: &str, id: u64, entry: Entry<V>) -> bool {
        let mut flights = self.flights();
        let is_current = flights.get(key).is_some_and(|flight| flight.id == id);
        if is_current {
            flights.remove(key);
            self.insert(key, entry);
        }
        is_current
    }

    /// Shows a value while flight `id` is still on its way to a newer one.
    pub(crate) fn show(&self, key: &str, id: u64, entry: Entry<V>) {
        let flights = self.flights();
        if flights.get(key).is_some_and(|flight| flight.id == id) {
            self.insert(key, entry);
        }
    }

    /// Ends flight `id` without a value.
    pub(crate) fn cancel(&self, key: &str, id: u64) {
        let mut flights = self.flights();
        if flights.get(key).is_some_and(|flight| flight.id == id) {
            flights.remove(key);
        }
    }

    /// Writes. Flights on their way are too late.
    pub(crate) fn put(&self, key: &str, entry: Entry<V>) {
        self.put_unless(key, entry, |_| false);
    }

    /// Writes unless what is there, and is not past everything, `beats` it.
    pub(crate) fn put_unless(
        &self,
        key: &str,
        entry: Entry<V>,
        beats: impl FnOnce(&Entry<V>) -> bool,
    ) -> bool {
        let mut flights = self.flights();
        let now_ms = self.now_ms();
        let old = self.peek(key).filter(|old| now_ms < old.kept_until_ms);
        if old.is_some_and(|old| beats(&old)) {
            return false;
        }
        flights.remove(key);
        self.insert(key, entry);
        true
    }

    /// Deletes. Flights on their way are too late.
    pub(crate) fn remove(&self, key: &str) -> bool {
        let mut flights = self.flights();
        flights.remove(key);
        let removed = self.entries.remove(key.as_bytes());
        removed.is_some_and(|(slot, ())| self.now_ms() < slot.entry.stale_until_ms)
    }

    /// Changes the value of an entry in one step, keeping its life. `None` when there is none.
    pub(crate) fn change<R>(&self, key: &str, by: impl FnOnce(&V) -> (V, R)) -> Option<R> {
        let mut flights = self.flights();
        let entry = self.peek(key).filter(|entry| self.now_ms() < entry.fresh_until_ms)?;
        let (value, told) = by(&entry.value);
        flights.remove(key);
        let changed = Entry {
            value,
            version: entry.version,
            tags: entry.tags.iter().map(Tag::again).collect(),
            retry_at_ms: AtomicI64::new(0),
            ..*entry
        };
        self.insert(key, changed);
        Some(told)
    }

    pub(crate) fn clear(&self) {
        let mut flights = self.flights();
        flights.clear();
        self.entries.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.entries.weight()
    }

    /// How many keys have a flight on its way.
    pub(crate) fn flying(&self) -> usize {
        self.flights().len()
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Arc<str>, Flight<V>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> fmt::Debug for Store<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct ByBytes;

impl<V> Weighter<Slot<V>, ()> for ByBytes {
    fn weight(&self, slot: &Slot<V>, (): &()) -> u64 {
        slot.entry.weight + slot.name.bytes().len() as u64 + ENTRY_BYTES
    }
}

/// Counts what is pushed out.
#[derive(Clone)]
struct Evictions(Arc<AtomicU64>);

impl<V> Lifecycle<Slot<V>, ()> for Evictions {
    /// The key that is being written, whose former entry goes for another reason.
    type RequestState = Option<Name>;

    fn on_evict(&self, written: &mut Option<Name>, slot: Slot<V>, (): ()) {
        if written.as_ref().map(Name::bytes) != Some(slot.name.bytes()) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What an entry takes beside its key and value, about.
const ENTRY_BYTES: u64 = 128;
const SHARD_BYTES: u64 = 4 << 20;
