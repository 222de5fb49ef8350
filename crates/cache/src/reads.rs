//! Which keys are read most, and how each kind of key fares: from a sample, in bounded memory.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quick_cache::DefaultHashBuilder;
use throng_core::Clock;

use crate::Cache;

/// A key that is read often.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HotKey {
    /// The key, cut to 250 bytes.
    pub key: String,
    /// About how often it was read of late: what was read a minute ago counts half.
    pub reads: u64,
}

/// How the keys that begin alike fare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PrefixStats {
    /// What their keys begin with: the text before the first `:` or `/`. Empty for all that came
    /// after the first 64 prefixes.
    pub prefix: String,
    /// Reads answered with a fresh value of this process, about.
    pub hits: u64,
    /// Reads answered at once with a stale value, about.
    pub stale: u64,
    /// Reads that found nothing in this process, about.
    pub misses: u64,
    /// Loaders that brought something.
    pub loads: u64,
    /// Loaders that failed, timed out or panicked.
    pub failures: u64,
    /// How long the former took together.
    pub load_time: Duration,
}

impl Cache {
    /// The keys that this process reads most, the hottest first, 100 of them at most.
    ///
    /// They come from a sample of about one read in 64, in bounded memory: a key that has a
    /// thousandth of all reads is surely among them, one that is read now and then may be.
    #[must_use]
    pub fn hot_keys(&self) -> Vec<HotKey> {
        self.core().reads.hot_keys()
    }

    /// How the keys of this process fare, by what they begin with, the most read first.
    #[must_use]
    pub fn prefixes(&self) -> Vec<PrefixStats> {
        self.core().reads.prefixes()
    }
}

/// What a read found.
#[derive(Clone, Copy)]
pub(crate) enum Found {
    Fresh,
    Stale,
    Nothing,
}

impl Found {
    pub(crate) const ALL: [Self; 3] = [Self::Fresh, Self::Stale, Self::Nothing];
}

/// The sample.
#[derive(Debug)]
pub(crate) struct Reads {
    clock: Clock,
    sample: Mutex<Sample>,
}

#[derive(Debug, Default)]
struct Sample {
    /// When there are too many, the half that was counted least goes, and a key that is new begins
    /// at the highest count that ever went. No count is too low, and none is too high by more.
    hot: HashMap<Box<str>, u64, DefaultHashBuilder>,
    gone: u64,
    halved_at_ms: i64,
    prefixes: HashMap<Box<str>, PrefixStats, DefaultHashBuilder>,
}

impl Reads {
    pub(crate) fn new(clock: Clock) -> Self {
        let halved_at_ms = clock.elapsed_coarse_ms();
        Self { clock, sample: Mutex::new(Sample { halved_at_ms, ..Sample::default() }) }
    }

    /// Takes in a read that stands for `weight` reads.
    pub(crate) fn take(&self, key: &str, found: Found, weight: u64, now_ms: i64) {
        let mut sample = self.sample();
        sample.halve(now_ms);
        sample.heat(cut(key), weight);
        let prefix = sample.prefix(key);
        let count = match found {
            Found::Fresh => &mut prefix.hits,
            Found::Stale => &mut prefix.stale,
            Found::Nothing => &mut prefix.misses,
        };
        *count += weight;
    }

    pub(crate) fn loaded(&self, key: &str, took: Duration) {
        let mut sample = self.sample();
        let prefix = sample.prefix(key);
        prefix.loads += 1;
        prefix.load_time += took;
    }

    pub(crate) fn failed(&self, key: &str) {
        self.sample().prefix(key).failures += 1;
    }

    fn hot_keys(&self) -> Vec<HotKey> {
        let now_ms = self.clock.elapsed_coarse_ms();
        let mut sample = self.sample();
        sample.halve(now_ms);
        let hot = sample.hot.iter();
        let mut hot: Vec<HotKey> =
            hot.map(|(key, reads)| HotKey { key: key.to_string(), reads: *reads }).collect();
        drop(sample);
        hot.sort_unstable_by(|a, b| b.reads.cmp(&a.reads).then_with(|| a.key.cmp(&b.key)));
        hot.truncate(MAX_TOLD);
        hot
    }

    fn prefixes(&self) -> Vec<PrefixStats> {
        let mut prefixes: Vec<PrefixStats> = self.sample().prefixes.values().cloned().collect();
        let reads = |stats: &PrefixStats| stats.hits + stats.stale + stats.misses;
        prefixes
            .sort_unstable_by(|a, b| reads(b).cmp(&reads(a)).then_with(|| a.prefix.cmp(&b.prefix)));
        prefixes
    }

    fn sample(&self) -> MutexGuard<'_, Sample> {
        self.sample.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sample {
    fn heat(&mut self, key: &str, weight: u64) {
        if let Some(count) = self.hot.get_mut(key) {
            *count += weight;
            return;
        }
        if self.hot.len() >= MAX_HOT {
            let mut counts: Vec<u64> = self.hot.values().copied().collect();
            let (_, middle, _) = counts.select_nth_unstable(MAX_HOT / 2);
            self.gone = self.gone.max(*middle);
            self.hot.retain(|_, count| *count > self.gone);
        }
        self.hot.insert(key.into(), self.gone + weight);
    }

    fn halve(&mut self, now_ms: i64) {
        let minutes = now_ms.saturating_sub(self.halved_at_ms) / MINUTE_MS;
        if minutes > 0 {
            self.halved_at_ms += minutes * MINUTE_MS;
            let halvings = u32::try_from(minutes).unwrap_or(u32::MAX);
            self.gone = self.gone.checked_shr(halvings).unwrap_or(0);
            self.hot.retain(|_, count| {
                *count = count.checked_shr(halvings).unwrap_or(0);
                *count > 0
            });
        }
    }

    fn prefix(&mut self, key: &str) -> &mut PrefixStats {
        let prefix = cut(key.split_once([':', '/']).map_or(key, |(prefix, _)| prefix));
        let is_known = self.prefixes.contains_key(prefix);
        let has_room = self.prefixes.len() < MAX_PREFIXES;
        let prefix = if is_known || has_room { prefix } else { "" };
        // One look-up more than needed for a prefix that is known, and no copy of it.
        if !is_known && !self.prefixes.contains_key(prefix) {
            let stats = PrefixStats { prefix: prefix.to_owned(), ..PrefixStats::default() };
            self.prefixes.insert(prefix.into(), stats);
        }
        self.prefixes.get_mut(prefix).expect("it was put there if it was not")
    }
}

/// At most so much of a key is remembered.
fn cut(key: &str) -> &str {
    let mut end = key.len().min(MAX_KEY_BYTES);
    while !key.is_char_boundary(end) {
        end -= 1;
    }
    &key[..end]
}

const MAX_HOT: usize = 2_000;
const MAX_TOLD: usize = 100;
const MAX_PREFIXES: usize = 64;
const MAX_KEY_BYTES: usize = 250;
const MINUTE_MS: i64 = 60_000;
