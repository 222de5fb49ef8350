//! Rows one by one, over a connection that the stream holds until it ends.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_util::StreamExt;
use sea_orm::{DbErr, QueryResult, Statement};
use tokio::sync::{MutexGuard, mpsc};

use crate::{
    Db,
    engine::{Begin, Query, Raw, is_broken},
    error,
    fleet::Tried,
    lease::Lease,
    pool::Pool,
    session::Writing,
};

/// A stream of rows. Dropping it early is fine: its connection is tidied, not reused as it is.
///
/// Only one row is ahead of the reader, so a slow reader keeps no rows in memory.
#[must_use = "a stream does nothing until it is polled"]
pub struct Rows<'a> {
    /// Moves rows from the connection that it owns into the channel; runs inside `poll_next`.
    pump: Option<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>,
    rows: mpsc::Receiver<Result<QueryResult, DbErr>>,
}

impl<'a> Rows<'a> {
    pub(crate) fn of_pool(lease: Lease, statement: Statement, writing: Option<Writing>) -> Self {
        let (out, rows) = mpsc::channel(1);
        let pump = async move {
            let _writing = writing;
            if let Ended::AtOnce(error) = pump_lease(lease, statement, &out).await {
                // A reader that has gone away needs no error.
                let _ = out.send(Err(error)).await;
            }
        };
        Self { pump: Some(Box::pin(pump)), rows }
    }

    /// Reads that were sent to a server of the fleet: sent again elsewhere when it fails before the
    /// first row. Later, nobody could tell which rows the reader has had.
    pub(crate) fn of_fleet(db: Db, mut leased: Leased, statement: Statement) -> Self {
        let (out, rows) = mpsc::channel(1);
        let pump = async move {
            loop {
                let Leased { lease, at, tried, tries, writing } = leased;
                let error = match pump_lease(lease, statement.clone(), &out).await {
                    Ended::AtOnce(error) => error,
                    Ended::Sent => return,
                };
                drop(writing);
                leased = match db.lease_after(&error, at, tried, tries).await {
                    Some(Ok(leased)) => leased,
                    Some(Err(error)) => {
                        let _ = out.send(Err(error)).await;
                        return;
                    }
                    None => {
                        let _ = out.send(Err(error)).await;
                        return;
                    }
                };
            }
        };
        Self { pump: Some(Box::pin(pump)), rows }
    }

    pub(crate) fn of_transaction(
        mut guard: MutexGuard<'a, Option<Lease>>,
        statement: Statement,
    ) -> Self {
        let (out, rows) = mpsc::channel(1);
        let pump = async move {
            // A transaction goes on after a stream that was dropped early; the driver skips what
            // is left of it before the next statement.
            if let Some(lease) = guard.as_mut()
                && let Ended::AtOnce(error) = pump(lease, statement, &out).await
            {
                let _ = out.send(Err(error)).await;
            }
        };
        Self { pump: Some(Box::pin(pump)), rows }
    }
}

/// A connection for a stream of reads, and what the next one must know.
pub(crate) struct Leased {
    pub(crate) lease: Lease,
    /// The server that it leads to.
    pub(crate) at: usize,
    pub(crate) tried: Tried,
    /// How often the stream has failed.
    pub(crate) tries: u32,
    /// There when the statement turned out to write.
    pub(crate) writing: Option<Writing>,
}

/// How a stream ended.
enum Ended {
    /// All rows, or some and an error, were sent, or nobody wants them any more.
    Sent,
    /// It failed before the first row; the error was not sent.
    AtOnce(DbErr),
}

impl Stream for Rows<'_> {
    type Item = Result<QueryResult, DbErr>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(pump) = &mut self.pump
            && pump.as_mut().poll(cx).is_ready()
        {
            // Gives the connection back before the last row is handed out.
            self.pump = None;
        }
        self.rows.poll_recv(cx)
    }
}

impl fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rows")
    }
}

async fn pump_lease(
    mut lease: Lease,
    statement: Statement,
    out: &mpsc::Sender<Result<QueryResult, DbErr>>,
) -> Ended {
    if lease.is_pooled()
        && let Err(error) = lease.begin(Begin::default()).await
    {
        return Ended::AtOnce(error);
    }
    // Unless it is seen to end, what is left of it must not meet the next statement.
    lease.conn().is_busy = true;
    let ended = pump(&mut lease, statement, out).await;
    if matches!(ended, Ended::Sent)
        && lease.is_pooled()
        && !lease.is_busy()
        && let Err(error) = lease.commit().await
    {
        let _ = out.send(Err(error)).await;
    }
    ended
}

/// Sends all rows. Marks the connection as busy exactly if the end of the statement was not seen.
async fn pump(
    lease: &mut Lease,
    statement: Statement,
    out: &mpsc::Sender<Result<QueryResult, DbErr>>,
) -> Ended {
    let pool = Arc::clone(lease.pool());
    let conn = lease.conn();
    let query = Query::new(statement, conn.keeps_statements());
    let mut sender = Sender { pool: &pool, out, is_cut: false, is_broken: false };
    let ended = match &mut conn.raw {
        Raw::Sqlite(conn, _) => sender.send_all(query.bind::<sqlx::Sqlite>().fetch(conn)).await,
        #[cfg(feature = "postgres")]
        Raw::Postgres(conn) => sender.send_all(query.bind::<sqlx::Postgres>().fetch(conn)).await,
        #[cfg(feature = "mysql")]
        Raw::MySql(conn) => sender.send_all(query.bind::<sqlx::MySql>().fetch(conn)).await,
    };
    conn.is_busy = sender.is_cut;
    conn.is_spent |= sender.is_broken;
    ended
}

/// Moves rows from a connection into a channel.
struct Sender<'a> {
    pool: &'a Pool,
    out: &'a mpsc::Sender<Result<QueryResult, DbErr>>,
    /// The end of the statement was not seen.
    is_cut: bool,
    /// The connection is of no more use.
    is_broken: bool,
}

impl Sender<'_> {
    async fn send_all<R: Into<QueryResult>>(
        &mut self,
        mut rows: impl Stream<Item = Result<R, sqlx::Error>> + Unpin,
    ) -> Ended {
        let mut is_first = true;
        loop {
            // The time of one row: how long the reader takes over the rows is his affair.
            let row = match self.pool.limited(async { Ok(rows.next().await) }).await {
                Ok(Ok(None)) => return Ended::Sent,
                Ok(Ok(Some(row))) => row.map(Into::into).map_err(error::query),
                Ok(Err(error)) | Err(error) => {
                    self.is_cut = true;
                    Err(error)
                }
            };
            self.is_broken |= match &row {
                Err(error) if !self.is_cut => error::driver_error(error).is_some_and(is_broken),
                _ => false,
            };
            let is_cut = self.is_cut;
            match row {
                Err(error) if is_first => return Ended::AtOnce(error),
                row => {
                    if self.out.send(row).await.is_err() {
                        self.is_cut = true;
                        return Ended::Sent;
                    }
                    is_first = false;
                }
            }
            if is_cut {
                return Ended::Sent;
            }
        }
    }
}
