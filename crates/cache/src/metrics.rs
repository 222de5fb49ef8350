//! The cache's metrics, each declared once, and the same numbers for whoever asks the cache itself.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Histogram, describe_counter, describe_histogram};
use thread_local::ThreadLocal;

use crate::{random, reads::Found};

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
    /// Keys that are being loaded at this moment, or whose lease is waited for.
    pub loading: u64,
}

/// What is counted for the recorder and for [`Stats`].
pub(crate) struct Meters {
    hits: Counter,
    stale: Counter,
    misses: Counter,
    reads: ThreadLocal<Reads>,
    pub(crate) loads: Meter,
    pub(crate) failures: Meter,
    pub(crate) load_seconds: Histogram,
}

/// Counts what is rare.
pub(crate) struct Meter {
    counter: Counter,
    count: AtomicU64,
}

/// What one thread has read. No other thread counts here, so that counting is an addition, not a
/// conversation between cores.
#[derive(Default)]
struct Reads {
    fresh: Tally,
    stale: Tally,
    nothing: Tally,
}

#[derive(Default)]
struct Tally {
    count: AtomicU64,
    /// At which count the next sample is taken.
    sample_at: AtomicU64,
    sampled: AtomicU64,
    /// How many of them the recorder has been told.
    told: AtomicU64,
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
            hits: metrics::counter!(HITS),
            stale: metrics::counter!(STALE),
            misses: metrics::counter!(MISSES),
            reads: ThreadLocal::new(),
            loads: Meter::new(metrics::counter!(LOADS)),
            failures: Meter::new(metrics::counter!(FAILURES)),
            load_seconds: metrics::histogram!(LOAD),
        }
    }

    /// Counts a read; tells whether it is due to be a [`sample`](Self::sample).
    #[inline]
    pub(crate) fn count(&self, found: Found) -> bool {
        let tally = self.reads.get_or_default().tally(found);
        let count = tally.count.load(Ordering::Relaxed) + 1;
        tally.count.store(count, Ordering::Relaxed);
        count > tally.sample_at.load(Ordering::Relaxed)
    }

    /// Takes this thread's last read as a sample; tells for how many reads it stands. The recorder is
    /// told with the samples, and when [`reads`](Self::reads) is called.
    pub(crate) fn sample(&self, found: Found) -> u64 {
        let tally = self.reads.get_or_default().tally(found);
        tally.sample(tally.count.load(Ordering::Relaxed), self.counter(found))
    }

    /// How many reads found what: fresh values, stale ones, nothing.
    pub(crate) fn reads(&self) -> [u64; 3] {
        Found::ALL.map(|found| {
            let counter = self.counter(found);
            self.reads.iter().map(|reads| reads.tally(found).tell(counter)).sum()
        })
    }

    fn counter(&self, found: Found) -> &Counter {
        match found {
            Found::Fresh => &self.hits,
            Found::Stale => &self.stale,
            Found::Nothing => &self.misses,
        }
    }
}

impl Reads {
    #[inline]
    fn tally(&self, found: Found) -> &Tally {
        match found {
            Found::Fresh => &self.fresh,
            Found::Stale => &self.stale,
            Found::Nothing => &self.nothing,
        }
    }
}

impl Tally {
    fn sample(&self, count: u64, counter: &Counter) -> u64 {
        // At random distances, so that reads which come in turn are sampled in turn.
        let distance = random::number() % (2 * SAMPLE_EVERY - 1);
        self.sample_at.store(count + distance, Ordering::Relaxed);
        self.tell(counter);
        count - self.sampled.swap(count, Ordering::Relaxed)
    }

    /// Tells the recorder what it has not been told, and everybody how many there are.
    fn tell(&self, counter: &Counter) -> u64 {
        let count = self.count.load(Ordering::Relaxed);
        let told = self.told.fetch_max(count, Ordering::Relaxed);
        counter.increment(count.saturating_sub(told));
        count
    }
}

impl Meter {
    fn new(counter: Counter) -> Self {
        Self { counter, count: AtomicU64::new(0) }
    }

    pub(crate) fn count(&self) {
        self.counter.increment(1);
        self.count.fetch_add(1, Ordering::Relaxed);
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
