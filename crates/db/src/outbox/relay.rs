//! The relay: one process at a time reads what has committed, delivers it and deletes it.

use std::{
    cmp,
    collections::HashSet,
    fmt,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use sea_orm::{ConnectionTrait, DbErr, QueryResult};
use sea_query::{Cond, Expr, ExprTrait, Order, Query};
use throng_core::{Clock, Shutdown};

use super::{ENTRIES, Entry, RELAY, RELAYS};
use crate::{
    Db,
    error::{Error, Result},
};

/// Delivers the outbox of a database. Run one in each process that may deliver; a lease in the
/// database lets one of them work, and another takes over when it stops or dies.
pub struct Relay<D> {
    db: Db,
    deliver: D,
    holder: i64,
    poll: Duration,
    /// Until when this relay holds the lease, 0 for not at all.
    held_until_ms: i64,
}

/// An entry on its way out.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Its number; the same when it comes again, so receivers can tell.
    pub id: i64,
    /// The message.
    pub entry: Entry,
    /// When it was pushed, in milliseconds since 1970 UTC.
    pub created_at_ms: i64,
    /// How often delivery has failed before.
    pub failures: u32,
}

impl<D, F, E> Relay<D>
where
    D: FnMut(Delivery) -> F + Send,
    F: Future<Output = std::result::Result<(), E>> + Send,
    E: fmt::Display,
{
    /// A relay that calls `deliver` for each entry. An entry is done when it returns `Ok`; after an
    /// `Err` it comes again, later each time, and the entries of its key wait behind it.
    pub fn new(db: Db, deliver: D) -> Self {
        let holder = RandomState::new().hash_one(std::process::id()).cast_signed();
        Self { db: db.primary(), deliver, holder, poll: POLL, held_until_ms: 0 }
    }

    /// Looks for entries of other processes this often. Defaults to 500 ms.
    #[must_use]
    pub fn poll(mut self, interval: Duration) -> Self {
        self.poll = interval;
        self
    }

    /// Delivers until `shutdown` is requested, then finishes the entry at hand and gives the lease
    /// back. Errors of the database are logged and tried again.
    pub async fn run(mut self, shutdown: Shutdown) {
        let clock = self.clock().clone();
        while !shutdown.is_requested() {
            let pause = match self.deliver_batch(&shutdown).await {
                Ok(delivered) if delivered > 0 => continue,
                Ok(_) => self.poll,
                Err(error) => {
                    tracing::warn!(error = %source_of(&error), "{error}");
                    self.held_until_ms = 0;
                    AFTER_ERROR
                }
            };
            let cluster = self.db.cluster().clone();
            tokio::select! {
                () = shutdown.requested() => {}
                () = cluster.outbox.notified() => {}
                () = clock.sleep(pause) => {}
            }
        }
        self.release().await;
    }

    /// Delivers what is due now, until nothing is, and gives the lease back. Returns the number of
    /// entries delivered.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn drain(&mut self) -> Result<usize> {
        let (_trigger, shutdown) = Shutdown::pair();
        let mut total = 0;
        loop {
            match self.deliver_batch(&shutdown).await? {
                0 => break,
                delivered => total += delivered,
            }
        }
        self.release().await;
        Ok(total)
    }

    async fn deliver_batch(&mut self, shutdown: &Shutdown) -> Result<usize> {
        if !self.hold().await? {
            return Ok(0);
        }
        let failed = |source| Error::Query { doing: "read the outbox", source };
        let batch = self.read().await.map_err(failed)?;
        let mut delivered = Vec::with_capacity(batch.len());
        let mut blocked = HashSet::new();
        for delivery in batch {
            let key = (delivery.entry.kind.clone(), delivery.entry.key.clone());
            if shutdown.is_requested() || blocked.contains(&key) {
                continue;
            }
            // Somebody else may deliver once the lease is over, so it must not run out in here.
            if !self.hold().await? {
                break;
            }
            let (id, failures) = (delivery.id, delivery.failures);
            match (self.deliver)(delivery).await {
                Ok(()) => delivered.push(id),
                Err(error) => {
                    tracing::warn!(outbox.id = id, %error, "cannot deliver outbox entry {id}");
                    self.postpone(id, failures).await.map_err(failed)?;
                    blocked.insert(key);
                }
            }
        }
        self.delete(&delivered).await.map_err(failed)?;
        Ok(delivered.len())
    }

    /// The first due entries by number, without those behind an entry of their key that waits.
    async fn read(&self) -> std::result::Result<Vec<Delivery>, DbErr> {
        let now_ms = self.clock().now_ms();
        let older = |column: &'static str| Expr::col(("older", column));
        let this = |column: &'static str| Expr::col((ENTRIES, column));
        let waits_before = Query::select()
            .expr(Expr::val(1))
            .from_as(ENTRIES, "older")
            .and_where(older("kind").eq(this("kind")))
            .and_where(older("key").eq(this("key")))
            .and_where(older("id").lt(this("id")))
            .and_where(older("next_at_ms").gt(now_ms))
            .to_owned();
        let due = Query::select()
            .columns(["id", "kind", "key", "payload", "created_at_ms", "attempts"])
            .from(ENTRIES)
            .and_where(Expr::col("next_at_ms").lte(now_ms))
            .and_where(Expr::exists(waits_before).not())
            .order_by("id", Order::Asc)
            .limit(BATCH)
            .to_owned();
        self.db.query_all(&due).await?.iter().map(delivery).collect()
    }

    async fn postpone(&self, id: i64, failures: u32) -> std::result::Result<(), DbErr> {
        let doubled = BACKOFF_MS.saturating_mul(1 << cmp::min(failures, 16));
        let wait_ms = cmp::min(doubled, BACKOFF_MAX_MS);
        let update = Query::update()
            .table(ENTRIES)
            .value("attempts", failures.saturating_add(1).cast_signed())
            .value("next_at_ms", self.clock().now_ms() + wait_ms)
            .and_where(Expr::col("id").eq(id))
            .to_owned();
        self.db.execute(&update).await?;
        Ok(())
    }

    async fn delete(&self, ids: &[i64]) -> std::result::Result<(), DbErr> {
        if ids.is_empty() {
            return Ok(());
        }
        let delete = Query::delete()
            .from_table(ENTRIES)
            .and_where(Expr::col("id").is_in(ids.iter().copied()))
            .to_owned();
        self.db.execute(&delete).await?;
        Ok(())
    }

    /// Takes or renews the lease; false when another relay holds it.
    async fn hold(&mut self) -> Result<bool> {
        let now_ms = self.clock().now_ms();
        if self.held_until_ms - now_ms > LEASE_MS / 2 {
            return Ok(true);
        }
        let until_ms = now_ms + LEASE_MS;
        let is_free = Cond::any()
            .add(Expr::col("until_ms").lt(now_ms))
            .add(Expr::col("holder").eq(self.holder));
        let take = Query::update()
            .table(RELAYS)
            .value("holder", self.holder)
            .value("until_ms", until_ms)
            .and_where(Expr::col("name").eq(RELAY))
            .cond_where(is_free)
            .to_owned();
        let failed = |source| Error::Query { doing: "take the lease of the outbox", source };
        let taken = self.db.execute(&take).await.map_err(failed)?.rows_affected() > 0;
        self.held_until_ms = if taken { until_ms } else { 0 };
        Ok(taken)
    }

    async fn release(&mut self) {
        self.held_until_ms = 0;
        let release = Query::update()
            .table(RELAYS)
            .value("until_ms", 0_i64)
            .and_where(Expr::col("name").eq(RELAY))
            .and_where(Expr::col("holder").eq(self.holder))
            .to_owned();
        // Without it the next relay waits for the lease to run out, nothing worse.
        let _ = self.db.execute(&release).await;
    }

    fn clock(&self) -> &Clock {
        &self.db.cluster().clock
    }
}

impl<D> fmt::Debug for Relay<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relay({:?}, holder {})", self.db, self.holder)
    }
}

fn delivery(row: &QueryResult) -> std::result::Result<Delivery, DbErr> {
    let payload: String = row.try_get("", "payload")?;
    let payload = serde_json::from_str(&payload).map_err(|error| DbErr::Json(error.to_string()))?;
    let entry = Entry { kind: row.try_get("", "kind")?, key: row.try_get("", "key")?, payload };
    Ok(Delivery {
        id: row.try_get("", "id")?,
        entry,
        created_at_ms: row.try_get("", "created_at_ms")?,
        failures: row.try_get::<i32>("", "attempts")?.cast_unsigned(),
    })
}

fn source_of(error: &Error) -> String {
    std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()
}

const POLL: Duration = Duration::from_millis(500);
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// Entries read at once.
const BATCH: u64 = 200;
/// How long a dead relay's lease keeps the others waiting.
const LEASE_MS: i64 = 10_000;
/// Wait after the first failure; doubled after each further one.
const BACKOFF_MS: i64 = 200;
const BACKOFF_MAX_MS: i64 = 60_000;
