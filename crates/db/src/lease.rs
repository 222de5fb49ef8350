//! A connection on loan: runs statements within their time, and goes back only when it is as new.

use std::{fmt, sync::Arc, time::Duration};

use sea_orm::{DbErr, ExecResult, QueryResult, Statement};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use crate::{
    engine::{Begin, Conn, Identity, Raw},
    error,
    pool::Pool,
    sight::Sight,
};

/// A connection on loan. Dropping it gives it back, tidied if need be.
pub(crate) struct Lease {
    /// None only while it is being opened, and for the drop.
    conn: Option<Conn>,
    pool: Arc<Pool>,
    /// A slot of the fleet that is taken while this is lent.
    slot: Option<OwnedSemaphorePermit>,
}

impl Lease {
    /// Lends a connection of the pool, opening one where none is idle. Cancel safe.
    pub(crate) async fn of(pool: &Arc<Pool>) -> Result<Self, DbErr> {
        pool.enter().await?;
        // From here on the lease gives the place back, also when opening fails or is cancelled.
        let mut lease = Self { conn: pool.take_idle(), pool: pool.clone(), slot: None };
        if lease.is_stale() && !lease.is_alive().await {
            lease.conn = None;
        }
        if lease.conn.is_none() {
            lease.conn = Some(pool.connect().await?);
        }
        pool.has_served();
        Ok(lease)
    }

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

    pub(crate) async fn begin(&mut self, mode: Begin) -> Result<(), DbErr> {
        let (pool, conn) = self.start();
        let done = if pool.is_embedded() {
            // It waits for the write lock, for as long as the engine was told to.
            Ok(conn.begin(mode).await)
        } else {
            pool.limited(conn.begin(mode)).await
        };
        self.ended(done)
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

    /// Lets the server refuse writes from now on, as far as nobody says otherwise on the connection.
    #[cfg_attr(
        not(any(feature = "postgres", feature = "mysql")),
        expect(unreachable_code, unused_variables, reason = "SQLite has nothing to be told")
    )]
    pub(crate) async fn refuse_writes(&mut self) -> Result<(), DbErr> {
        let sql = match &self.conn_ref().raw {
            // Its readers cannot write anyway.
            Raw::Sqlite(..) => return Ok(()),
            // Others would get the setting.
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            _ if self.is_pooled() => return Ok(()),
            #[cfg(feature = "postgres")]
            Raw::Postgres(_) => "SET default_transaction_read_only = on",
            #[cfg(feature = "mysql")]
            Raw::MySql(_) => "SET SESSION TRANSACTION READ ONLY",
        };
        self.will_change()?;
        self.execute_unprepared(sql).await.map(drop)
    }

    /// Keeps a slot until this is given back.
    pub(crate) fn hold(&mut self, slot: Option<OwnedSemaphorePermit>) {
        self.slot = slot;
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    pub(crate) fn is_pooled(&self) -> bool {
        self.pool.is_pooled()
    }

    /// Who is at the other end.
    pub(crate) fn identity(&self) -> Identity {
        self.conn_ref().identity
    }

    /// Whether the connection was idle for so long that it may have been dropped on the way.
    fn is_stale(&self) -> bool {
        self.conn.as_ref().is_some_and(|conn| {
            !matches!(conn.raw, Raw::Sqlite(..))
                && conn.idle_since.is_some_and(|since| since.elapsed() > STALE)
        })
    }

    /// Whether a connection that was idle for long still answers. A firewall that has forgotten it
    /// does not even say so. An answer that nobody waited for must not meet the next statement.
    async fn is_alive(&mut self) -> bool {
        let (pool, conn) = self.start();
        let answer = timeout(PING_TIMEOUT, pool.guarded(conn.ping())).await;
        conn.is_busy = !matches!(answer, Ok(Ok(())));
        !conn.is_busy
    }

    /// A future that is dropped from here on leaves the connection marked as busy.
    pub(crate) fn start(&mut self) -> (Arc<Pool>, &mut Conn) {
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
                if done.as_ref().err().is_some_and(error::is_of_changed_table) {
                    self.pool.renew();
                }
                done
            }
            Err(cut_short) => Err(cut_short),
        }
    }

    pub(crate) fn conn(&mut self) -> &mut Conn {
        self.conn.as_mut().expect("it is filled before it is lent, and taken by the drop")
    }

    pub(crate) fn conn_ref(&self) -> &Conn {
        self.conn.as_ref().expect("it is filled before it is lent, and taken by the drop")
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

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.pool.name())
    }
}

/// A connection that was idle for longer is asked for an answer before it is lent: the server or a
/// firewall may have dropped it.
const STALE: Duration = Duration::from_secs(5);
/// Longest wait for a connection that was idle to say that it is still there.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest time that tidying may take before the connection is thrown away instead.
const TIDY_TIMEOUT: Duration = Duration::from_secs(5);
