//! Rows one by one, over a connection that the stream holds until it ends.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_util::StreamExt;
use sea_orm::{DbErr, QueryResult, Statement};
use tokio::sync::{MutexGuard, mpsc};

use crate::{
    engine::{Begin, Conn, Query, Raw},
    error,
    pool::Lease,
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
    pub(crate) fn of_pool(
        mut lease: Lease,
        statement: Statement,
        writing: Option<Writing>,
    ) -> Self {
        let (out, rows) = mpsc::channel(1);
        let pump = async move {
            let _writing = writing;
            if lease.is_pooled()
                && let Err(error) = lease.begin(Begin::default()).await
            {
                // A reader that has gone away needs no error.
                let _ = out.send(Err(error)).await;
                return;
            }
            let conn = lease.conn();
            conn.is_busy = true;
            let is_whole = pump(conn, statement, &out).await;
            conn.is_busy = !is_whole;
            if is_whole
                && lease.is_pooled()
                && let Err(error) = lease.commit().await
            {
                let _ = out.send(Err(error)).await;
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
            if let Some(lease) = guard.as_mut() {
                pump(lease.conn(), statement, &out).await;
            }
        };
        Self { pump: Some(Box::pin(pump)), rows }
    }
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

/// Sends all rows; false when the reader went away first.
async fn pump(
    conn: &mut Conn,
    statement: Statement,
    out: &mpsc::Sender<Result<QueryResult, DbErr>>,
) -> bool {
    let query = Query::new(statement, conn.keeps_statements());
    match &mut conn.raw {
        Raw::Sqlite(conn, _) => send_all(query.bind::<sqlx::Sqlite>().fetch(conn), out).await,
        #[cfg(feature = "postgres")]
        Raw::Postgres(conn) => send_all(query.bind::<sqlx::Postgres>().fetch(conn), out).await,
        #[cfg(feature = "mysql")]
        Raw::MySql(conn) => send_all(query.bind::<sqlx::MySql>().fetch(conn), out).await,
    }
}

async fn send_all<R: Into<QueryResult>>(
    mut rows: impl Stream<Item = Result<R, sqlx::Error>> + Unpin,
    out: &mpsc::Sender<Result<QueryResult, DbErr>>,
) -> bool {
    while let Some(row) = rows.next().await {
        if out.send(row.map(Into::into).map_err(error::query)).await.is_err() {
            return false;
        }
    }
    true
}
