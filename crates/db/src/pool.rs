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

use sea_orm::{ConnAcquireErr, DbErr, ExecResult, QueryResult, Statement};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};

use crate::{
    config::Config,
    engine::{self, Begin, Conn, Connector, Identity, Raw},
    error,
    fleet::Sight,
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
    /// The run of the server that is known. Connections to an earlier one are dead.
    run: AtomicU64,
    acquire_timeout: Duration,
    statement_timeout: Option<Duration>,
    meters: Meters,
}

/// A connection on loan. Dropping it gives it back, tidied if need be.
pub(crate) struct Lease {
    /// Taken only by the drop.
    conn: Option<Conn>,
    pool: Arc<Pool>,
    /// A slot of the fleet that is taken while this is lent.
    slot: Option<OwnedSemaphorePermit>,
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
            is_gone: watch::Sender::new(false),
            lent: AtomicU32::new(0),
            run: AtomicU64::new(0),
            acquire_timeout: Duration::from_millis(config.acquire_timeout_ms),
            statement_timeout: (config.statement_timeout_ms > 0)
                .then(|| Duration::from_millis(config.statement_timeout_ms)),
        })
    }

    /// Connections that are lent out now.
    pub(crate) fn lent(&self) -> u32 {
        self.lent.load(Ordering::Relaxed)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Connections that can be lent out at once.
    pub(crate) fn size(&self) -> u32 {
        self.size
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
        let mut lease = Lease { conn: self.take_idle(), pool: self.clone(), slot: None };
        self.meters.in_use.set(f64::from(self.lent.fetch_add(1, Ordering::Relaxed) + 1));
        if lease.is_stale() && self.guarded(lease.conn().ping()).await.is_err() {
            lease.conn = None;
        }
        if lease.conn.is_none() {
            let connect = self.connector.connect_to_known();
            let opened = timeout(self.acquire_timeout, self.guarded(connect));
            let opened = opened
                .await
                .map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))?
                .map_err(error::conn)?;
            self.meters.opened.increment(1);
            lease.conn = Some(opened);
        }
        self.meters.statements.increment(1);
        Ok(lease)
    }

    /// The run of the server that is known, 0 before it was seen.
    pub(crate) fn run(&self) -> u64 {
        self.run.load(Ordering::Acquire)
    }

    pub(crate) fn set_run(&self, run: u64) {
        self.run.store(run, Ordering::Release);
    }

    fn take_idle(&self) -> Option<Conn> {
        loop {
            let conn = self.idle().pop()?;
            if self.run() == 0 || engine::is_same_run(conn.identity.run, self.run()) {
                return Some(conn);
            }
            self.meters.discarded.increment(1);
        }
    }

    /// Fails what waits for the server now, and what asks for it until [`Pool::revive`].
    pub(crate) fn give_up(&self) {
        self.is_gone.send_replace(true);
        drop(std::mem::take(&mut *self.idle()));
    }

    /// The server answers again.
    pub(crate) fn revive(&self) {
        if *self.is_gone.borrow() {
            self.is_gone.send_replace(false);
        }
    }

    /// Whether a pooler stands in front of the server, so that only a transaction holds one.
    pub(crate) fn is_pooled(&self) -> bool {
        self.connector.is_pooled()
    }

    /// Runs a statement for at most the statement timeout. The outer error is a statement that was
    /// cut short, of which nobody knows whether it ended.
    async fn limited<T>(
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
    async fn guarded<T, E: From<Gone>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        if matches!(self.connector, Connector::Sqlite(_)) {
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

    fn give_back(&self, conn: Option<Conn>) {
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

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Conn>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<ExecResult, DbErr> {
        let (pool, conn) = self.start();
        let done = pool.limited(conn.execute(statement)).await;
        self.ended(done)
    }

    pub(crate) async fn execute_unprepared(&mut self, sql: &str) -> Result<ExecResult, DbErr> {
        let (pool, conn) = self.start();
        let done = pool.limited(conn.execute_unprepared(sql)).await;
        self.ended(done)
    }

    pub(crate) async fn fetch_one(
        &mut self,
        statement: Statement,
        reads_only: bool,
    ) -> Result<Option<QueryResult>, DbErr> {
        let (pool, conn) = self.start();
        let done = pool.limited(conn.fetch_one(statement, reads_only)).await;
        self.ended(done)
    }

    pub(crate) async fn fetch_all(
        &mut self,
        statement: Statement,
    ) -> Result<Vec<QueryResult>, DbErr> {
        let (pool, conn) = self.start();
        let done = pool.limited(conn.fetch_all(statement)).await;
        self.ended(done)
    }

    /// Waits for locks as long as the engine does; the statement timeout does not count here.
    pub(crate) async fn begin(&mut self, mode: Begin) -> Result<(), DbErr> {
        let (pool, conn) = self.start();
        let done = pool.guarded(conn.begin(mode)).await;
        self.ended(Ok(done))
    }

    pub(crate) async fn commit(&mut self) -> Result<(), DbErr> {
        let (pool, conn) = self.start();
        let done = pool.limited(conn.commit()).await;
        self.ended(done)
    }

    pub(crate) async fn rollback(&mut self) -> Result<(), DbErr> {
        let (pool, conn) = self.start();
        let done = pool.limited(conn.rollback()).await;
        self.ended(done)
    }

    /// Where the server stands.
    pub(crate) async fn look(&mut self) -> Result<Sight, DbErr> {
        let (pool, conn) = self.start();
        let look = async { conn.look().await.map_err(error::query) };
        let done = pool.limited(look).await;
        self.ended(done)?.ok_or_else(|| error::refused("the engine has no positions"))
    }

    /// Makes sure that nobody else gets the connection with the settings that a statement leaves on
    /// it. A pooler hands the server's connection to others no matter what we do, so there it is an
    /// error.
    pub(crate) fn will_change(&mut self) -> Result<(), DbErr> {
        if self.is_pooled() {
            return Err(error::refused(
                "behind a pooler no setting stays with its connection; use SET LOCAL in a transaction",
            ));
        }
        self.conn().is_spent = true;
        Ok(())
    }

    /// Keeps a slot until this is given back.
    pub(crate) fn hold(&mut self, slot: Option<OwnedSemaphorePermit>) {
        self.slot = slot;
    }

    pub(crate) fn is_pooled(&self) -> bool {
        self.pool.is_pooled()
    }

    /// Who is at the other end.
    pub(crate) fn identity(&self) -> Identity {
        self.conn_ref().identity
    }

    fn is_stale(&self) -> bool {
        self.conn.as_ref().is_some_and(|conn| {
            !matches!(conn.raw, Raw::Sqlite(..))
                && conn.idle_since.is_some_and(|since| since.elapsed() > STALE)
        })
    }

    /// A future that is dropped from here on leaves the connection marked as busy.
    fn start(&mut self) -> (Arc<Pool>, &mut Conn) {
        let pool = self.pool.clone();
        let conn = self.conn();
        conn.is_busy = true;
        (pool, conn)
    }

    /// Unless the end of the statement was not seen, the connection is free again.
    fn ended<T>(&mut self, done: Result<Result<T, DbErr>, DbErr>) -> Result<T, DbErr> {
        match done {
            Ok(done) => {
                self.conn().is_busy = false;
                done
            }
            Err(cut_short) => Err(cut_short),
        }
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
        let mut lease = Self { conn: Some(conn), pool: self.pool.clone(), slot: self.slot.take() };
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

/// The server was found to be gone while something waited for it.
struct Gone;

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

/// A connection that was idle for longer is asked for an answer before it is lent: the server or a
/// firewall may have dropped it.
const STALE: Duration = Duration::from_secs(5);
/// Longest time that tidying may take before the connection is thrown away instead.
const TIDY_TIMEOUT: Duration = Duration::from_secs(5);
