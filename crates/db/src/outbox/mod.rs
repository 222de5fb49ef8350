//! The outbox: messages that leave if, and only if, the transaction that wrote them commits.
//!
//! [`push_in`] writes a row beside the data; a [`Relay`] hands what has committed to whoever
//! delivers it, and deletes it then. Delivery is at least once: after a crash an entry can come
//! again, so receivers must be idempotent. The order respects cause: an entry that was pushed after
//! another had committed comes after it; entries of one key never overtake each other.

mod relay;

use sea_orm::{ConnectionTrait, DbErr};
use sea_query::{ColumnDef, Expr, ExprTrait, Index, Query, Table};
use serde_json::Value;

use crate::{Migration, Schema, Tx, cluster::Cluster};

pub use relay::{Delivery, Relay};

/// The outbox's tables.
pub const MIGRATIONS: &[Migration] =
    &[Migration::new("outbox_0001_entries", |schema: &mut Schema| {
        schema.table(
            Table::create()
                .table(ENTRIES)
                .col(ColumnDef::new("id").big_integer().not_null().primary_key().auto_increment())
                .col(ColumnDef::new("kind").string_len(190).not_null())
                .col(ColumnDef::new("key").string_len(190).not_null())
                .col(ColumnDef::new("payload").text().not_null())
                .col(ColumnDef::new("created_at_ms").big_integer().not_null())
                .col(ColumnDef::new("attempts").integer().not_null().default(0))
                .col(ColumnDef::new("next_at_ms").big_integer().not_null().default(0))
                .to_owned(),
        );
        let due =
            Index::create().name("throng_outbox_due").table(ENTRIES).col("next_at_ms").to_owned();
        schema.index(due);
        schema.table(
            Table::create()
                .table(RELAYS)
                .col(ColumnDef::new("name").string_len(190).not_null().primary_key())
                .col(ColumnDef::new("holder").big_integer().not_null())
                .col(ColumnDef::new("until_ms").big_integer().not_null())
                .to_owned(),
        );
        let lease = Query::insert()
            .into_table(RELAYS)
            .columns(["name", "holder", "until_ms"])
            .values_panic([RELAY.into(), 0_i64.into(), 0_i64.into()])
            .to_owned();
        schema.statement(&lease);
    })];

/// A message for the world outside the database.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What it is, for whoever delivers it: `bus`, `task`…
    pub kind: String,
    /// What it is about. Entries of one key keep their order even when delivery fails.
    pub key: String,
    /// The message.
    pub payload: Value,
}

/// Writes `entry` in the transaction. The relays of this process hear of it at the commit, those of
/// others within their polling interval.
///
/// # Errors
/// Those of the database.
pub async fn push_in(tx: &Tx, entry: Entry) -> Result<(), DbErr> {
    let cluster = tx.cluster().clone();
    insert(tx, &cluster, entry).await?;
    tx.after_commit(move || cluster.outbox.notify_one());
    Ok(())
}

/// Writes `entry` by itself, for what needs no data beside it.
///
/// # Errors
/// Those of the database.
pub async fn push(db: &crate::Db, entry: Entry) -> Result<(), DbErr> {
    insert(db, db.cluster(), entry).await?;
    db.cluster().outbox.notify_one();
    Ok(())
}

/// How many entries of a kind wait to be delivered.
///
/// # Errors
/// Those of the database.
pub async fn count(db: &crate::Db, kind: &str) -> Result<u64, DbErr> {
    let mut select = Query::select();
    select.expr(Expr::col("id").count()).from(ENTRIES).and_where(Expr::col("kind").eq(kind));
    let row = db.query_one(&select).await?;
    let count = row.map(|row| row.try_get_by_index::<i64>(0)).transpose()?;
    Ok(u64::try_from(count.unwrap_or(0)).unwrap_or(0))
}

async fn insert(db: &impl ConnectionTrait, cluster: &Cluster, entry: Entry) -> Result<(), DbErr> {
    let Entry { kind, key, payload } = entry;
    let now_ms = cluster.clock.now_ms();
    let insert = Query::insert()
        .into_table(ENTRIES)
        .columns(["kind", "key", "payload", "created_at_ms", "attempts", "next_at_ms"])
        .values_panic([
            kind.into(),
            key.into(),
            payload.to_string().into(),
            now_ms.into(),
            0_i32.into(),
            0_i64.into(),
        ])
        .to_owned();
    db.execute(&insert).await?;
    Ok(())
}

const ENTRIES: &str = "throng_outbox";
const RELAYS: &str = "throng_outbox_relay";
/// The one lease that there is; a partitioned outbox would have more.
const RELAY: &str = "outbox";
