//! The stored answers by address, in memory, bounded by bytes.

use std::{
    collections::{HashMap, VecDeque},
    hash::BuildHasher,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{entry::Entry, flight::Flight, key::Key};

/// What is known about one address.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Newest last.
    pub(super) variants: Vec<Arc<Entry>>,
    /// Parts of pages that are not there as a whole, newest last.
    pub(super) parts: Vec<Arc<Entry>>,
    pub(super) flights: Vec<Arc<Flight>>,
    /// Until when requests for it do not wait for each other, because its answers are not stored.
    pub(super) pass_until: Option<Duration>,
    /// The same for requests for a part.
    pub(super) part_until: Option<Duration>,
    /// Until when a stale answer is given without asking, because the origin has just failed. It
    /// stays set, in the past, until the origin answers well.
    pub(super) sick_until: Option<Duration>,
    /// How often it was answered from here.
    hits: u64,
    /// Whether it was used since the hand last came by.
    is_used: bool,
    /// Tells apart the places of a key that came, went and came again.
    place: u64,
}

/// Slots in shards, so that two requests seldom wait for the same lock.
#[derive(Debug)]
pub(super) struct Store {
    shards: Box<[Mutex<Shard>]>,
    hasher: foldhash::fast::RandomState,
    /// Bytes of all entries that are in a slot.
    pub(super) total: AtomicU64,
    max_bytes: u64,
    hand: AtomicUsize,
}

#[derive(Debug, Default)]
struct Shard {
    slots: HashMap<Key, Slot, foldhash::fast::RandomState>,
    /// Keys in the order in which the hand visits them; places that are no more are skipped.
    ring: VecDeque<(Key, u64)>,
    next_place: u64,
}

impl Store {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: foldhash::fast::RandomState::default(),
            total: AtomicU64::new(0),
            max_bytes,
            hand: AtomicUsize::new(0),
        }
    }

    /// Works on the slot of `key`, which is made for it and goes when it is empty afterwards.
    pub(super) fn with<T>(&self, key: &Key, work: impl FnOnce(&mut Slot) -> T) -> T {
        let mut shard = self.shard(key);
        let shard = &mut *shard;
        if !shard.slots.contains_key(key) {
            shard.next_place += 1;
            let place = shard.next_place;
            shard.slots.insert(key.clone(), Slot { place, ..Slot::default() });
            shard.ring.push_back((key.clone(), place));
            self.total.fetch_add(slot_bytes(key), Ordering::Relaxed);
        }
        let slot = shard.slots.get_mut(key).expect("it was put there if it was not");
        slot.is_used = true;
        let made = work(slot);
        if slot.is_empty() {
            shard.remove(key, &self.total);
        }
        made
    }

    /// Works on the slot of `key` if there is one.
    pub(super) fn with_existing<T>(
        &self,
        key: &Key,
        work: impl FnOnce(&mut Slot) -> T,
    ) -> Option<T> {
        let mut shard = self.shard(key);
        let slot = shard.slots.get_mut(key)?;
        let made = work(slot);
        if slot.is_empty() {
            shard.remove(key, &self.total);
        }
        Some(made)
    }

    /// Looks at the slot of the key with this text, if there is one, and notes that it was used where
    /// something was found.
    pub(super) fn glance<T>(&self, key: &str, look: impl FnOnce(&Slot) -> Option<T>) -> Option<T> {
        let hash = self.hasher.hash_one(key);
        let mut shard = lock(&self.shards[(hash >> 32) as usize % SHARDS]);
        let slot = shard.slots.get_mut(key)?;
        let found = look(slot)?;
        slot.hits += 1;
        slot.is_used = true;
        Some(found)
    }

    /// The addresses that were answered from here most often, most first.
    pub(super) fn top(&self, most: usize) -> Vec<(Key, u64)> {
        let mut top: Vec<(Key, u64)> = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            top.extend(
                shard
                    .slots
                    .iter()
                    .filter(|(_, slot)| slot.hits > 0)
                    .map(|(k, s)| (k.clone(), s.hits)),
            );
            top.sort_unstable_by(|one, other| {
                other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0))
            });
            top.truncate(most);
        }
        top
    }

    /// Removes answers that were not used for long until the bound holds again.
    pub(super) fn make_room(&self) {
        let mut idle_shards = 0;
        while self.total.load(Ordering::Relaxed) > self.max_bytes && idle_shards < 2 * SHARDS {
            let index = self.hand.fetch_add(1, Ordering::Relaxed) % SHARDS;
            match lock(&self.shards[index]).evict_one(&self.total) {
                true => idle_shards = 0,
                false => idle_shards += 1,
            }
        }
    }

    /// How many addresses are known.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).slots.len()).sum()
    }

    /// A number that nobody outside can foresee, another one for each answer.
    pub(super) fn luck(&self, key: &Key, stored_at: Duration) -> u64 {
        self.hasher.hash_one((key, stored_at)) >> 16
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        let hash = self.hasher.hash_one(key);
        lock(&self.shards[(hash >> 32) as usize % SHARDS])
    }
}

impl Shard {
    /// Takes out the first slot that was not used since the last visit; false when there is none.
    fn evict_one(&mut self, total: &AtomicU64) -> bool {
        for _ in 0..2 * self.ring.len() {
            let Some((key, place)) = self.ring.pop_front() else { return false };
            let Some(slot) = self.slots.get_mut(&key).filter(|slot| slot.place == place) else {
                continue;
            };
            // A slot that somebody waits in is in use.
            if std::mem::take(&mut slot.is_used) || !slot.flights.is_empty() {
                self.ring.push_back((key, place));
                continue;
            }
            slot.clear(total);
            self.remove(&key, total);
            return true;
        }
        false
    }

    fn remove(&mut self, key: &Key, total: &AtomicU64) {
        if self.slots.remove(key).is_some() {
            total.fetch_sub(slot_bytes(key), Ordering::Relaxed);
        }
        if self.ring.len() > 2 * self.slots.len() + 64 {
            let slots = &self.slots;
            self.ring
                .retain(|(key, place)| slots.get(key).is_some_and(|slot| slot.place == *place));
        }
    }
}

impl Slot {
    /// Puts a page in, in the place of one that answers the same requests, and of parts of it.
    pub(super) fn put(&mut self, entry: Arc<Entry>, max_variants: usize, total: &AtomicU64) {
        entry.content.charge(entry.head_bytes(), total);
        self.take_out(total, |other| {
            other.is_same_variant(&entry) && !Arc::ptr_eq(&other.content, &entry.content)
        });
        self.variants.retain(|other| !Arc::ptr_eq(&other.content, &entry.content));
        self.variants.push(entry);
        if self.variants.len() > max_variants.max(1) {
            self.variants.remove(0).content.discharge(total);
        }
    }

    /// Puts a part in. What of the others has no use any more is known when it is whole.
    pub(super) fn put_part(&mut self, part: Arc<Entry>, total: &AtomicU64) {
        part.content.charge(part.head_bytes(), total);
        self.parts.push(part);
        if self.parts.len() > MAX_PARTS {
            self.parts.remove(0).content.discharge(total);
        }
    }

    /// Pages and parts.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.variants.iter().chain(&self.parts)
    }

    /// Removes the pages and parts that `is_out` picks.
    pub(super) fn take_out(&mut self, total: &AtomicU64, is_out: impl Fn(&Arc<Entry>) -> bool) {
        take_out(&mut self.variants, total, &is_out);
        take_out(&mut self.parts, total, is_out);
    }

    /// Removes the parts that `is_out` picks.
    pub(super) fn take_out_parts(
        &mut self,
        total: &AtomicU64,
        is_out: impl Fn(&Arc<Entry>) -> bool,
    ) {
        take_out(&mut self.parts, total, is_out);
    }

    /// Counts an answer from here, which keeps it from the hand for one more round.
    pub(super) fn touch(&mut self) {
        self.hits += 1;
        self.is_used = true;
    }

    /// Forgets every answer, also those on their way.
    pub(super) fn clear(&mut self, total: &AtomicU64) {
        self.take_out(total, |_| true);
        self.flights.drain(..).for_each(|flight| flight.revoke());
        (self.pass_until, self.part_until, self.sick_until) = (None, None, None);
    }

    fn is_empty(&self) -> bool {
        self.variants.is_empty()
            && self.parts.is_empty()
            && self.flights.is_empty()
            && self.pass_until.is_none()
            && self.part_until.is_none()
            && self.sick_until.is_none()
    }
}

fn take_out(
    entries: &mut Vec<Arc<Entry>>,
    total: &AtomicU64,
    is_out: impl Fn(&Arc<Entry>) -> bool,
) {
    entries.retain(|entry| {
        let is_out = is_out(entry);
        if is_out {
            entry.content.discharge(total);
        }
        !is_out
    });
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn slot_bytes(key: &Key) -> u64 {
    (SLOT_BYTES + 2 * key.as_str().len()) as u64
}

const SHARDS: usize = 64;
const SLOT_BYTES: usize = 256;

/// When an address has more parts than this, the oldest leaves.
const MAX_PARTS: usize = 32;
