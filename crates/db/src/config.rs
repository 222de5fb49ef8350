//! Options of a database, as typed fields and as options of its URL.

use throng_core::{Clock, url::Options};

use crate::error::Result;

/// How a database is opened. Every field is also an option of the URL, named as shown.
#[derive(Clone, Debug)]
pub struct Config {
    /// Connections for reading (`readers`). Defaults to twice the processors, 4 to 16.
    pub readers: u32,
    /// Longest wait for a connection, in milliseconds (`acquire_timeout=10s`). Defaults to 10,000.
    pub acquire_timeout_ms: u64,
    /// Longest wait for another process's lock, in milliseconds (`busy_timeout=10s`). Defaults to
    /// 10,000.
    pub busy_timeout_ms: u64,
    /// Longest run of one statement, in milliseconds; 0 is no limit (`statement_timeout=30s`).
    /// Streams are not limited. Defaults to 30,000.
    pub statement_timeout_ms: u64,
    /// Prepared statements kept for each connection (`statement_cache`). Defaults to 100.
    pub statement_cache: usize,
    /// Whether a commit is on disk when it returns (`durable`). With `false` a power cut, not a
    /// crash of the program, can lose the last commits. Defaults to true.
    pub durable: bool,
    /// Where time comes from. Not an option of the URL. Defaults to the system's clock.
    pub clock: Clock,
}

impl Default for Config {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, |n| n.get() as u32);
        Self {
            readers: (processors * 2).clamp(4, 16),
            acquire_timeout_ms: 10_000,
            busy_timeout_ms: 10_000,
            statement_timeout_ms: 30_000,
            statement_cache: 100,
            durable: true,
            clock: Clock::system(),
        }
    }
}

impl Config {
    /// Takes what the URL gives; the rest keeps its value.
    pub(crate) fn take(&mut self, options: &mut Options<'_>) -> Result<()> {
        if let Some(readers) = options.take::<u32>("readers")? {
            self.readers = readers.max(1);
        }
        take_ms(options, "acquire_timeout", &mut self.acquire_timeout_ms)?;
        take_ms(options, "busy_timeout", &mut self.busy_timeout_ms)?;
        take_ms(options, "statement_timeout", &mut self.statement_timeout_ms)?;
        if let Some(count) = options.take::<u32>("statement_cache")? {
            self.statement_cache = count.max(1) as usize;
        }
        if let Some(durable) = options.take::<bool>("durable")? {
            self.durable = durable;
        }
        Ok(())
    }
}

fn take_ms(options: &mut Options<'_>, name: &str, field: &mut u64) -> Result<()> {
    if let Some(limit) = options.take::<std::time::Duration>(name)? {
        *field = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    }
    Ok(())
}
