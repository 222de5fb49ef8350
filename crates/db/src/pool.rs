//! A bounded, fair pool of raw connections: no ping on release, nothing half-done ever goes back.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm::{ConnAcquireErr, DbErr};
use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::timeout,
};

use crate::{
    config::Config,
    engine::{self, Conn, Connector},
    error,
    metrics::Meters,
};

/// Connections of one kind to one server. Waiters are served in the order in which they came.
pub(crate) struct Pool {
    name: String,
    connector: Connector,
    size: u32,
    permits: Semaphore,
    /// Last in, first out, so that a quiet pool leaves the surplus untouched.
    idle: Mutex<Vec<Conn>>,
    is_closed: AtomicBool,
    /// Whether the server is known to be gone. Everything that waits for it fails when it turns.
    is_gone: watch::Sender<bool>,
    lent: AtomicU32,
    waiting: AtomicU32,
    /// Leases so far.
    served: AtomicU64,
    /// The run of the server that is known. Connections to an earlier one are dead.
    run: AtomicU64,
    acquire_timeout: Duration,
    statement_timeout: Option<Duration>,
    meters: Meters,
}

impl Pool {
    pub(crate) fn new(
        name: impl Into<String>,
        connector: Connector,
        size: u32,
        config: &Config,
    ) -> Arc<Self> {
        let name = name.into();
        Arc::new(Self {
            meters: Meters::new(&name, size),
            name,
            connector,
            size,
            permits: Semaphore::new(size as usize),
            idle: Mutex::default(),
            is_closed: AtomicBool::new(false),
            is_gone: watch::Sender::new(false),
            lent: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            served: AtomicU64::new(0),
            run: AtomicU64::new(0),
            acquire_timeout: Duration::from_millis(config.acquire_timeout_ms),
            statement_timeout: (config.statement_timeout_ms > 0)
                .then(|| Duration::from_millis(config.statement_timeout_ms)),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Connections that can be lent out at once.
    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Connections that are lent out now.
    pub(crate) fn lent(&self) -> u32 {
        self.lent.load(Ordering::Relaxed)
    }

    /// Connections that are open and not lent out.
    pub(crate) fn spare(&self) -> u32 {
        u32::try_from(self.idle().len()).unwrap_or(u32::MAX)
    }

    /// Callers that wait for a connection now.
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Connections lent out so far.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Whether a pooler stands in front of the server, so that only a transaction holds one.
    pub(crate) fn is_pooled(&self) -> bool {
        self.connector.is_pooled()
    }

    /// What makes its connections.
    #[cfg(feature = "postgres")]
    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Whether the database is in this process, so that there is no server to lose.
    pub(crate) fn is_embedded(&self) -> bool {
        matches!(self.connector, Connector::Sqlite(_))
    }

    /// The run of the server that is known, 0 before it was seen.
    pub(crate) fn run(&self) -> u64 {
        self.run.load(Ordering::Acquire)
    }

    pub(crate) fn set_run(&self, run: u64) {
        self.run.store(run, Ordering::Release);
    }

    /// Waits for a place among those who have a connection. [`give_back`](Self::give_back) leaves it.
    pub(crate) async fn enter(&self) -> Result<(), DbErr> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed));
        }
        let permit = match self.permits.try_acquire() {
            Ok(permit) => permit,
            Err(_) => self.wait().await?,
        };
        permit.forget();
        self.meters.in_use.set(f64::from(self.lent.fetch_add(1, Ordering::Relaxed) + 1));
        Ok(())
    }

    /// Counts a connection that was lent out.
    pub(crate) fn has_served(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
        self.meters.served.increment(1);
    }

    pub(crate) async fn connect(&self) -> Result<Conn, DbErr> {
        let connect = self.connector.connect_to_known();
        let opened = timeout(self.acquire_timeout, self.guarded(connect)).await;
        let late = |_| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout);
        let opened = opened.map_err(late)?.map_err(error::conn)?;
        self.meters.opened.increment(1);
        Ok(opened)
    }

    /// Waits for a permit behind all who came earlier.
    async fn wait(&self) -> Result<SemaphorePermit<'_>, DbErr> {
        let start = Instant::now();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let mut gone = self.is_gone.subscribe();
        let permit = tokio::select! {
            biased;
            permit = timeout(self.acquire_timeout, self.permits.acquire()) => permit,
            _ = gone.wait_for(|is_gone| *is_gone) => return Err(Gone.into()),
        };
        self.meters.waited(start.elapsed());
        match permit {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)),
            Err(_) => {
                self.meters.timeouts.increment(1);
                Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))
            }
        }
    }

    pub(crate) fn take_idle(&self) -> Option<Conn> {
        loop {
            let conn = self.idle().pop()?;
            if self.run() == 0 || engine::is_same_run(conn.identity.run, self.run()) {
                return Some(conn);
            }
            self.meters.discarded.increment(1);
        }
    }

    pub(crate) fn give_back(&self, conn: Option<Conn>) {
        match conn {
            Some(mut conn) if !conn.is_spent && !self.is_closed.load(Ordering::Relaxed) => {
                conn.idle_since = Some(Instant::now());
                self.idle().push(conn);
            }
            Some(conn) => {
                self.meters.discarded.increment(1);
                drop(conn);
            }
            None => {}
        }
        self.meters.in_use.set(f64::from(self.lent.fetch_sub(1, Ordering::Relaxed) - 1));
        self.permits.add_permits(1);
    }

    /// Fails what waits for the server now, and what asks for it until [`Pool::revive`].
    pub(crate) fn give_up(&self) {
        self.is_gone.send_replace(true);
        self.renew();
    }

    /// Throws the idle connections away: something is wrong with what they keep.
    pub(crate) fn renew(&self) {
        let idle = std::mem::take(&mut *self.idle());
        self.meters.discarded.increment(idle.len() as u64);
    }

    /// The server answers again.
    pub(crate) fn revive(&self) {
        if *self.is_gone.borrow() {
            self.is_gone.send_replace(false);
        }
    }

    /// Runs a statement for at most the statement timeout. The outer error is a statement that was
    /// cut short, of which nobody knows whether it ended.
    pub(crate) async fn limited<T>(
        &self,
        work: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<Result<T, DbErr>, DbErr> {
        let work = self.guarded(async { Ok::<_, DbErr>(work.await) });
        let Some(limit) = self.statement_timeout else { return work.await };
        timeout(limit, work).await.unwrap_or_else(|_| {
            let reason = format!("the statement ran longer than {} ms", limit.as_millis());
            Err(error::query(error::late(reason)))
        })
    }

    /// Runs `work` until it ends or the server is known to be gone.
    pub(crate) async fn guarded<T, E: From<Gone>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        if self.is_embedded() {
            return work.await;
        }
        let mut gone = self.is_gone.subscribe();
        tokio::select! {
            biased;
            done = work => done,
            _ = gone.wait_for(|is_gone| *is_gone) => Err(Gone.into()),
        }
    }

    /// Lends nothing any more, waits until everything has come back, and closes it.
    pub(crate) async fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        let all = timeout(self.acquire_timeout, self.permits.acquire_many(self.size)).await;
        if all.is_err() {
            let (name, lent) = (&self.name, self.lent());
            tracing::warn!("closing pool {name} with {lent} connections still lent");
        }
        let idle = std::mem::take(&mut *self.idle());
        for conn in idle {
            conn.close().await;
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Conn>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({}, {} of {} lent)", self.name, self.lent(), self.size)
    }
}

/// Counts one who waits, until he has a connection or gives up.
struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The server was found to be gone while something waited for it.
pub(crate) struct Gone;

impl From<Gone> for sqlx::Error {
    fn from(_: Gone) -> Self {
        let reason = "the database server is gone";
        Self::Io(std::io::Error::new(std::io::ErrorKind::ConnectionAborted, reason))
    }
}

impl From<Gone> for DbErr {
    fn from(gone: Gone) -> Self {
        error::conn(gone.into())
    }
}
