//! Rows one by one, over a connection that the stream holds until it ends.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_util::StreamExt;
use sea_orm::{DbErr, QueryResult, Statement};
use tokio::sync::{Notify, OwnedMutexGuard, mpsc};

use crate::{
    Db,
    engine::{Begin, Failure, Query, Raw, sqlite},
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
    pump: Option<Pump>,
    rows: mpsc::Receiver<Result<QueryResult, DbErr>>,
    /// Where the pump goes when the rest of the rows is not wanted, if there is such a place.
    left: Option<Arc<Left>>,
    has_begun: bool,
    /// A transaction lends itself to its streams.
    lent: PhantomData<&'a ()>,
}

type Pump = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A stream of a transaction that was dropped before its end. The driver of a server may be in the
/// midst of reading an answer, and would take the rest of it for the next one: so what is left is
/// read where it was, before the next statement, and thrown away.
#[derive(Default)]
pub(crate) struct Left {
    pump: Mutex<Option<Pump>>,
    more: Notify,
}

impl Left {
    /// Reads what is left. Who does not wait for the end leaves the connection marked as busy.
    pub(crate) async fn read(&self) {
        let left = self.take();
        if let Some(pump) = left {
            pump.await;
        }
    }

    /// Ends when something was left, perhaps a while ago.
    pub(crate) async fn more(&self) {
        self.more.notified().await;
    }

    /// Lets go of the connection, which stays marked as busy.
    pub(crate) fn discard(&self) {
        drop(self.take());
    }

    fn leave(&self, pump: Pump) {
        *self.pump.lock().unwrap_or_else(PoisonError::into_inner) = Some(pump);
        self.more.notify_one();
    }

    fn take(&self) -> Option<Pump> {
        self.pump.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        self.rows.close();
        if let (true, Some(left)) = (self.has_begun, &self.left)
            && let Some(pump) = self.pump.take()
        {
            left.leave(pump);
        }
    }
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
        Self::new(pump, rows, None)
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
        Self::new(pump, rows, None)
    }

    /// A transaction goes on after a stream that was dropped early.
    pub(crate) fn of_transaction(
        mut guard: OwnedMutexGuard<Option<Lease>>,
        statement: Statement,
        left: &Arc<Left>,
    ) -> Self {
        let (out, rows) = mpsc::channel(1);
        // SQLite's driver stops what nobody hears, and is ready for the next statement then.
        let is_embedded = guard.as_ref().is_some_and(|lease| lease.pool().is_embedded());
        let pump = async move {
            if let Some(lease) = guard.as_mut() {
                lease.conn().is_busy = !is_embedded;
                if let Ended::AtOnce(error) = pump(lease, statement, &out, !is_embedded).await {
                    let _ = out.send(Err(error)).await;
                }
            }
        };
        Self::new(pump, rows, (!is_embedded).then(|| left.clone()))
    }

    fn new(
        pump: impl Future<Output = ()> + Send + 'static,
        rows: mpsc::Receiver<Result<QueryResult, DbErr>>,
        left: Option<Arc<Left>>,
    ) -> Self {
        Self { pump: Some(Box::pin(pump)), rows, left, has_begun: false, lent: PhantomData }
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
        self.has_begun = true;
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
    let ended = pump(&mut lease, statement, out, false).await;
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
    reads_on: bool,
) -> Ended {
    let pool = Arc::clone(lease.pool());
    let conn = lease.conn();
    let query = Query::new(statement, conn.keeps_statements());
    let mut sender =
        Sender { pool: &pool, out, reads_on, has_sent: false, is_cut: false, failure: None };
    let ended = match &mut conn.raw {
        Raw::Sqlite(conn, _) => {
            let query = sqlite::bind(conn, query).await;
            let ended = sender.send_all(query.fetch(&mut *conn)).await;
            let is_empty = !sender.is_cut && !sender.has_sent && matches!(ended, Ended::Sent);
            match sqlite::seen_to_end(conn, Ok(()), |()| is_empty).await {
                Ok(()) => ended,
                Err(error) => {
                    sender.failure = Some(Failure::of(&error));
                    Ended::AtOnce(error::query(error))
                }
            }
        }
        #[cfg(feature = "postgres")]
        Raw::Postgres(conn) => sender.send_all(query.bind::<sqlx::Postgres>().fetch(conn)).await,
        #[cfg(feature = "mysql")]
        Raw::MySql(conn) => sender.send_all(query.bind::<sqlx::MySql>().fetch(conn)).await,
    };
    let (is_cut, failure) = (sender.is_cut, sender.failure);
    if let Some(failure) = failure {
        conn.is_busy = true;
        conn.failed(failure).await;
    }
    conn.is_busy = is_cut;
    ended
}

/// Moves rows from a connection into a channel.
struct Sender<'a> {
    pool: &'a Pool,
    out: &'a mpsc::Sender<Result<QueryResult, DbErr>>,
    /// Whether rows that nobody wants are read to their end.
    reads_on: bool,
    has_sent: bool,
    /// The end of the statement was not seen.
    is_cut: bool,
    /// What the statement's error says about the connection.
    failure: Option<Failure>,
}

impl Sender<'_> {
    async fn send_all<R: Into<QueryResult>>(
        &mut self,
        mut rows: impl Stream<Item = Result<R, sqlx::Error>> + Unpin,
    ) -> Ended {
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
            if let (Err(error), false) = (&row, self.is_cut) {
                self.failure = error::driver_error(error).map(Failure::of);
            }
            let is_cut = self.is_cut;
            match row {
                Err(error) if !self.has_sent => return Ended::AtOnce(error),
                row => {
                    let is_row = row.is_ok();
                    if self.out.send(row).await.is_err() {
                        match (self.reads_on, is_row) {
                            (true, true) => self.read_on(rows).await,
                            (true, false) => {}
                            (false, _) => self.is_cut = true,
                        }
                        return Ended::Sent;
                    }
                    self.has_sent = true;
                }
            }
            if is_cut {
                return Ended::Sent;
            }
        }
    }

    /// Reads the rows that nobody wants, all of them in the time of one statement.
    async fn read_on<R>(&mut self, mut rows: impl Stream<Item = Result<R, sqlx::Error>> + Unpin) {
        let rest = async {
            while let Some(row) = rows.next().await {
                if let Err(error) = row {
                    return Ok(Some(Failure::of(&error)));
                }
            }
            Ok(None)
        };
        match self.pool.limited(rest).await {
            Ok(Ok(failure)) => self.failure = failure,
            Ok(Err(_)) | Err(_) => self.is_cut = true,
        }
    }
}
