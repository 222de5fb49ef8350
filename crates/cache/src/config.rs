//! How much the cache holds and how it treats what is old.

use throng_core::Clock;

use crate::{Cache, Engine, Result, cache, engine};

/// How a cache behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many bytes the values in this process may take, counted as JSON with 128 bytes a value
    /// on top. What is used least goes first. Defaults to 67,108,864, which is 64 MiB.
    pub max_bytes: u64,
    /// How many milliseconds a value is served past its ttl while one caller loads it anew.
    /// Defaults to 60,000.
    pub grace_ms: u64,
    /// How many milliseconds a value is kept past its grace, to be served if loading fails or is
    /// slow. Defaults to 0, which is off: a loader that says "not found" has failed too.
    pub fail_safe_ms: u64,
    /// With something kept by `fail_safe_ms`, how many milliseconds a caller waits for the loader
    /// before it is served. Defaults to 500.
    pub soft_timeout_ms: u64,
    /// After how many milliseconds a loader is stopped. Defaults to 30,000.
    pub load_timeout_ms: u64,
    /// How many milliseconds pass before a stale value whose loading failed is loaded again.
    /// Defaults to 1,000.
    pub retry_ms: u64,
    /// How eagerly a value is loaded anew shortly before its ttl: 1 begins about one loading time
    /// ahead, 0 never. Defaults to 1.
    pub early: f64,
    /// With a shared engine, how many milliseconds a value is served from this process before the
    /// engine is asked again. Defaults to 1,000.
    pub near_ms: u64,
    /// How many milliseconds a request's handle ([`Cache::keep`]) goes by what it has read.
    /// Defaults to 5,000.
    pub keep_ms: u64,
    /// What tells the time. Defaults to the system's clock.
    pub clock: Clock,
}

impl Config {
    /// Opens the embedded engine with this configuration; see [`Cache::memory`].
    #[must_use]
    pub fn memory(self) -> Cache {
        cache::new(self, None)
    }

    /// Opens the engine that `url` names with this configuration; see [`Cache::open`].
    ///
    /// # Errors
    /// As [`Cache::open`].
    pub async fn open(self, url: &str) -> Result<Cache> {
        engine::open(url, self).await
    }

    /// Uses an engine of your own with this configuration; see [`Cache::with_engine`].
    #[must_use]
    pub fn with_engine(self, engine: impl Engine) -> Cache {
        cache::new(self, Some(std::sync::Arc::new(engine)))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 20,
            grace_ms: 60_000,
            fail_safe_ms: 0,
            soft_timeout_ms: 500,
            load_timeout_ms: 30_000,
            retry_ms: 1_000,
            early: 1.0,
            near_ms: 1_000,
            keep_ms: 5_000,
            clock: Clock::system(),
        }
    }
}
