//! Options of a database, as typed fields and as options of its URL.

use throng_core::{
    Clock,
    url::{FromOption, Options},
};

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
    /// Longest run of one statement, in milliseconds; 0 is no limit (`statement_timeout=30s`). Of a
    /// stream, the longest wait for its next row; a server, where it stops statements itself, stops
    /// a whole stream a second after as long. Defaults to 30,000.
    pub statement_timeout_ms: u64,
    /// Prepared statements kept for each connection (`statement_cache`). Defaults to 100.
    pub statement_cache: usize,
    /// Whether a commit is on disk when it returns (`durable`). With `false` a power cut, not a
    /// crash of the program, can lose the last commits. Defaults to true.
    pub durable: bool,
    /// Connections to each server of PostgreSQL or MariaDB (`connections`). Defaults to 10.
    pub connections: u32,
    /// How connections to a server are encrypted (`tls`). Defaults to [`Tls::Prefer`].
    pub tls: Tls,
    /// An external pooler in transaction mode, such as PgBouncer, stands in front of each server
    /// (`pooler`): nothing is kept on connections between transactions. Defaults to false.
    pub pooler: bool,
    /// A replica that lags more serves no reads, in milliseconds (`max_lag=2s`). It returns when it
    /// lags half as much. Defaults to 2,000.
    pub max_lag_ms: u64,
    /// Longest wait for a replica to catch up with a visitor before the primary serves him, in
    /// milliseconds (`replica_wait=20ms`). Defaults to 0: the primary serves at once.
    pub replica_wait_ms: u64,
    /// Time between two looks at each server, in milliseconds (`poll=10ms`). Defaults to 10.
    pub poll_ms: u64,
    /// Refuse writes by hand (`read_only`). Defaults to false.
    pub read_only: bool,
    /// Where time comes from. Not an option of the URL. Defaults to the system's clock.
    pub clock: Clock,
}

/// How connections to a server of PostgreSQL or MariaDB are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tls {
    /// Not at all (`disable`).
    Disable,
    /// If the server can (`prefer`). Whoever is in between can talk both out of it.
    #[default]
    Prefer,
    /// Always, without asking who the server is (`require`).
    Require,
    /// Always, and the server's certificate must be good for its name (`verify`).
    Verify,
}

impl FromOption for Tls {
    const WANTS: &'static str = "`disable`, `prefer`, `require` or `verify`";

    fn from_option(text: &str) -> Option<Self> {
        Some(match text {
            "disable" => Self::Disable,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify" => Self::Verify,
            _ => return None,
        })
    }
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
            connections: 10,
            tls: Tls::default(),
            pooler: false,
            max_lag_ms: 2_000,
            replica_wait_ms: 0,
            poll_ms: 10,
            read_only: false,
            clock: Clock::system(),
        }
    }
}

impl Config {
    /// Takes what a server's URL gives; the rest keeps its value.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(crate) fn take_server(&mut self, options: &mut Options<'_>) -> Result<()> {
        if let Some(connections) = options.take::<u32>("connections")? {
            self.connections = connections.max(1);
        }
        if let Some(tls) = options.take::<Tls>("tls")? {
            self.tls = tls;
        }
        if let Some(pooler) = options.take::<bool>("pooler")? {
            self.pooler = pooler;
        }
        take_ms(options, "max_lag", &mut self.max_lag_ms)?;
        take_ms(options, "replica_wait", &mut self.replica_wait_ms)?;
        take_ms(options, "poll", &mut self.poll_ms)?;
        if let Some(read_only) = options.take::<bool>("read_only")? {
            self.read_only = read_only;
        }
        take_ms(options, "acquire_timeout", &mut self.acquire_timeout_ms)?;
        take_ms(options, "statement_timeout", &mut self.statement_timeout_ms)?;
        if let Some(count) = options.take::<u32>("statement_cache")? {
            self.statement_cache = count.max(1) as usize;
        }
        Ok(())
    }

    /// Takes what an embedded database's URL gives; the rest keeps its value.
    pub(crate) fn take_embedded(&mut self, options: &mut Options<'_>) -> Result<()> {
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
