//! The cache's metrics, each declared once, and the same numbers for whoever asks the cache itself.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use metrics::{Counter, Histogram, describe_counter, describe_histogram};

/// What a cache has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Reads answered with a fresh value of this process.
    pub hits: u64,
    /// Reads answered at once with a stale value.
    pub stale: u64,
    /// Reads that found nothing in this process.
    pub misses: u64,
    /// Loaders run.
    pub loads: u64,
    /// Loaders that failed, timed out or panicked.
    pub failures: u64,
    /// Values pushed out because there was no room.
    pub evictions: u64,
    /// Values in this process.
    pub entries: u64,
    /// What they take, as [`Config::max_bytes`](crate::Config::max_bytes) counts.
    pub bytes: u64,
}

pub(crate) struct Meters {
    pub(crate) hits: Meter,
    pub(crate) stale: Meter,
    pub(crate) misses: Meter,
    pub(crate) loads: Meter,
    pub(crate) failures: Meter,
    pub(crate) load_seconds: Histogram,
}

/// Counts for the recorder and for [`Stats`].
pub(crate) struct Meter {
    counter: Counter,
    count: AtomicU64,
    /// At which count the next sample is taken.
    sample_at: AtomicU64,
    sampled: AtomicU64,
}

impl Meters {
    pub(crate) fn new() -> Self {
        describe_counter!(HITS, "reads answered with a fresh value of this process");
        describe_counter!(STALE, "reads answered at once with a stale value");
        describe_counter!(MISSES, "reads that found nothing in this process");
        describe_counter!(LOADS, "loaders run");
        describe_counter!(FAILURES, "loaders that failed, timed out or panicked");
        describe_counter!(EJECTIONS, "times that a server of the engine failed and was left out");
        describe_histogram!(LOAD, "how long loaders took");
        Self {
            hits: Meter::new(metrics::counter!(HITS)),
            stale: Meter::new(metrics::counter!(STALE)),
            misses: Meter::new(metrics::counter!(MISSES)),
            loads: Meter::new(metrics::counter!(LOADS)),
            failures: Meter::new(metrics::counter!(FAILURES)),
            load_seconds: metrics::histogram!(LOAD),
        }
    }
}

impl Meter {
    fn new(counter: Counter) -> Self {
        let [count, sample_at, sampled] = [const { AtomicU64::new(0) }; 3];
        Self { counter, count, sample_at, sampled }
    }

    pub(crate) fn count(&self) {
        self.counter.increment(1);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts, and now and then says that this one is a sample, which stands for as many as it says.
    pub(crate) fn count_and_sample(&self) -> Option<u64> {
        self.counter.increment(1);
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        if before < self.sample_at.load(Ordering::Relaxed) {
            return None;
        }
        // At random distances, so that reads which come in turn are sampled in turn.
        let distance = 1 + RandomState::new().build_hasher().finish() % (2 * SAMPLE_EVERY - 1);
        self.sample_at.store(before + distance, Ordering::Relaxed);
        let last = self.sampled.swap(before + 1, Ordering::Relaxed);
        Some((before + 1).saturating_sub(last)).filter(|weight| *weight > 0)
    }

    pub(crate) fn read(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// About one read in so many is a sample.
const SAMPLE_EVERY: u64 = 64;
const HITS: &str = "throng_cache_hits_reads";
const STALE: &str = "throng_cache_stale_reads";
const MISSES: &str = "throng_cache_missed_reads";
const LOADS: &str = "throng_cache_started_loads";
const FAILURES: &str = "throng_cache_failed_loads";
pub(crate) const EJECTIONS: &str = "throng_cache_ejected_servers";
const LOAD: &str = "throng_cache_load_seconds";
