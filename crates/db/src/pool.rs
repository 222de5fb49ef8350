//! A bounded, fair pool of raw connections: no ping on release, nothing half-done ever goes back.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm::{ConnAcquireErr, DbErr, ExecResult, QueryResult, Statement};
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    config::Config,
    engine::{Begin, Conn, Connector},
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
    lent: AtomicU32,
    acquire_timeout: Duration,
    statement_timeout: Option<Duration>,
    meters: Meters,
}

/// A connection on loan. Dropping it gives it back, tidied if need be.
pub(crate) struct Lease {
    /// Taken only by the drop.
    conn: Option<Conn>,
    pool: Arc<Pool>,
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
            meters: Meters::new(&name),
            name,
            connector,
            size,
            permits: Semaphore::new(size as usize),
            idle: Mutex::default(),
            is_closed: AtomicBool::new(false),
            lent: AtomicU32::new(0),
            acquire_timeout: Duration::from_millis(config.acquire_timeout_ms),
            statement_timeout: (config.statement_timeout_ms > 0)
                .then(|| Duration::from_millis(config.statement_timeout_ms)),
        })
    }

    /// Connections that are lent out now.
    pub(crate) fn lent(&self) -> u32 {
        self.lent.load(Ordering::Relaxed)
    }

    /// Lends a connection, opening one where none is idle. Cancel safe.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Result<Lease, DbErr> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed));
        }
        let permit = match self.permits.try_acquire() {
            Ok(permit) => permit,
            Err(_) => self.wait().await?,
        };
        permit.forget();
        // From here on the lease gives the permit back, also when opening fails or is cancelled.
        let mut lease = Lease { conn: self.pop(), pool: self.clone() };
        self.meters.in_use.set(f64::from(self.lent.fetch_add(1, Ordering::Relaxed) + 1));
        if lease.conn.is_none() {
            let opened = timeout(self.acquire_timeout, self.connector.connect()).await;
            let opened = opened
                .map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))?
                .map_err(error::conn)?;
            self.meters.opened.increment(1);
            lease.conn = Some(opened);
        }
        self.meters.statements.increment(1);
        Ok(lease)
    }

    /// Lends nothing any more, waits until everything has come back, and closes it.
    pub(crate) async fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        let all = timeout(self.acquire_timeout, self.permits.acquire_many(self.size)).await;
        if all.is_err() {
            tracing::warn!(
                "closing pool {} with {} connections still lent",
                self.name,
                self.lent()
            );
        }
        let idle = std::mem::take(&mut *self.idle());
        for conn in idle {
            conn.close().await;
        }
    }

    async fn wait(&self) -> Result<tokio::sync::SemaphorePermit<'_>, DbErr> {
        let start = Instant::now();
        let permit = timeout(self.acquire_timeout, self.permits.acquire()).await;
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

    fn pop(&self) -> Option<Conn> {
        self.idle().pop()
    }

    fn give_back(&self, conn: Option<Conn>) {
        match conn {
            Some(conn) if !conn.is_spent && !self.is_closed.load(Ordering::Relaxed) => {
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

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Conn>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<ExecResult, DbErr> {
        let limit = self.pool.statement_timeout;
        let conn = self.conn();
        conn.is_busy = true;
        let done = within(limit, conn.execute(statement)).await?;
        conn.is_busy = false;
        done
    }

    pub(crate) async fn execute_unprepared(&mut self, sql: &str) -> Result<ExecResult, DbErr> {
        let limit = self.pool.statement_timeout;
        let conn = self.conn();
        conn.is_busy = true;
        let done = within(limit, conn.execute_unprepared(sql)).await?;
        conn.is_busy = false;
        done
    }

    pub(crate) async fn fetch_one(
        &mut self,
        statement: Statement,
        reads_only: bool,
    ) -> Result<Option<QueryResult>, DbErr> {
        let limit = self.pool.statement_timeout;
        let conn = self.conn();
        conn.is_busy = true;
        let done = within(limit, conn.fetch_one(statement, reads_only)).await?;
        conn.is_busy = false;
        done
    }

    pub(crate) async fn fetch_all(
        &mut self,
        statement: Statement,
    ) -> Result<Vec<QueryResult>, DbErr> {
        let limit = self.pool.statement_timeout;
        let conn = self.conn();
        conn.is_busy = true;
        let done = within(limit, conn.fetch_all(statement)).await?;
        conn.is_busy = false;
        done
    }

    pub(crate) async fn begin(&mut self, mode: Begin) -> Result<(), DbErr> {
        let conn = self.conn();
        conn.is_busy = true;
        let done = conn.begin(mode).await;
        conn.is_busy = false;
        done
    }

    pub(crate) async fn commit(&mut self) -> Result<(), DbErr> {
        let limit = self.pool.statement_timeout;
        let conn = self.conn();
        conn.is_busy = true;
        let done = within(limit, conn.commit()).await?;
        conn.is_busy = false;
        done
    }

    pub(crate) async fn rollback(&mut self) -> Result<(), DbErr> {
        let limit = self.pool.statement_timeout;
        let conn = self.conn();
        conn.is_busy = true;
        let done = within(limit, conn.rollback()).await?;
        conn.is_busy = false;
        done
    }

    pub(crate) fn conn(&mut self) -> &mut Conn {
        self.conn.as_mut().expect("the connection is taken only by the drop")
    }

    pub(crate) fn conn_ref(&self) -> &Conn {
        self.conn.as_ref().expect("the connection is taken only by the drop")
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.conn.as_ref().is_some_and(|conn| conn.is_busy)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut conn) = self.conn.take() else {
            return self.pool.give_back(None);
        };
        if !conn.is_busy && conn.in_transaction && !conn.is_spent {
            conn.start_rollback();
        }
        if conn.is_spent || (!conn.is_busy && !conn.in_transaction) {
            return self.pool.give_back(Some(conn));
        }
        // Until it is tidy it must not be lent again, whatever happens to the task below.
        conn.is_spent = true;
        let mut lease = Self { conn: Some(conn), pool: self.pool.clone() };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return; // Nothing can be waited for here; closing the connection rolls back.
        };
        // `Pool::close` waits for this task through the lease's permit.
        runtime.spawn(async move {
            let conn = lease.conn();
            if let Ok(Ok(())) = timeout(TIDY_TIMEOUT, conn.tidy()).await {
                conn.is_spent = false;
            }
        });
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({}, {} of {} lent)", self.name, self.lent(), self.size)
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.pool.name)
    }
}

async fn within<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Result<T, DbErr> {
    let Some(limit) = limit else {
        return Ok(work.await);
    };
    timeout(limit, work).await.map_err(|_| {
        let reason = format!("the statement ran longer than {} ms", limit.as_millis());
        error::query(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, reason)))
    })
}

/// Longest time that tidying may take before the connection is thrown away instead.
const TIDY_TIMEOUT: Duration = Duration::from_secs(5);
