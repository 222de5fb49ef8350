//! One suite that every engine passes unchanged.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use futures_util::TryStreamExt;
use sea_orm::{ConnectionTrait, DbErr, StreamTrait, TransactionTrait};
use sea_query::{ColumnDef, Expr, ExprTrait, Order, Query, SelectStatement, Table};

use crate::{
    Db, Kind, Migration, Schema, kind,
    outbox::{self, Entry, Relay},
};

/// Uses a database in every way that the room promises, in tables of its own.
///
/// # Panics
/// When a promise is broken; the message says which.
pub async fn exercise(db: &Db) {
    migrates(db).await;
    reads_its_writes(db).await;
    transactions_are_atomic(db).await;
    savepoints_nest(db).await;
    hooks_run_after_the_commit(db).await;
    streams_end_or_are_dropped(db).await;
    counts_every_increment(db).await;
    says_what_went_wrong(db).await;
    readers_only_read(db).await;
    the_outbox_delivers_what_committed(db).await;
}

/// The suite's own tables; pass them, and the outbox's, to [`Db::migrate`] when a database is used
/// for the suite and for something else.
pub const MIGRATIONS: &[Migration] =
    &[Migration::new("conformance_0001_rows", |schema: &mut Schema| {
        let id =
            ColumnDef::new("id").big_integer().not_null().primary_key().auto_increment().take();
        let name = ColumnDef::new("name").string_len(100).not_null().unique_key().take();
        let count = ColumnDef::new("n").big_integer().not_null().default(0).take();
        schema.table(Table::create().table(ROWS).col(id).col(name).col(count).take());
    })];

async fn migrates(db: &Db) {
    let sets: &[&[Migration]] = &[outbox::MIGRATIONS, MIGRATIONS];
    let (one, two) = tokio::join!(db.migrate(sets), db.migrate(sets));
    let applied = one.expect("migrating works").names.len() + two.expect("also twice").names.len();
    assert!([0, 2].contains(&applied), "racing migrations apply each one once, not {applied}");
    assert!(db.pending(sets).await.expect("pending works").is_empty(), "nothing is left to do");
    let newer = db.pending(&[outbox::MIGRATIONS]).await.expect_err("an unknown migration is newer");
    assert!(newer.to_string().contains("conformance_0001_rows"), "it is named in {newer}");
    let missing = db.pending_room(outbox::MIGRATIONS).await.expect("other rooms are their own");
    assert!(missing.is_empty(), "nothing of the room is left to do");
    assert!(db.migrate_room(outbox::MIGRATIONS).await.expect("also to do").names.is_empty());
    let older = &[Migration::new("conformance_0000_none", |_| {})];
    let newer = db.pending_room(older).await.expect_err("an unknown one of the room is newer");
    assert!(newer.to_string().contains("conformance_0001_rows"), "it is named in {newer}");
}

async fn reads_its_writes(db: &Db) {
    clear(db).await;
    for at in 0..20 {
        insert(db, &format!("write {at}")).await.expect("inserting works");
        assert_eq!(names(db).await.len(), at + 1, "a read after a write sees it");
    }
    let primary = names(&db.primary()).await;
    assert_eq!(primary.len(), 20, "the primary has it too");
}

async fn transactions_are_atomic(db: &Db) {
    clear(db).await;
    let tx = db.begin().await.expect("BEGIN works");
    insert(&tx, "kept").await.expect("inserting works");
    assert_eq!(names(&tx).await, ["kept"], "a transaction sees its own writes");
    assert!(names(db).await.is_empty(), "nobody else sees them before the commit");
    tx.commit().await.expect("COMMIT works");
    assert_eq!(names(db).await, ["kept"], "everybody sees them after it");

    let tx = db.begin().await.expect("BEGIN works");
    insert(&tx, "rolled back").await.expect("inserting works");
    tx.rollback().await.expect("ROLLBACK works");
    let tx = db.begin().await.expect("BEGIN works");
    insert(&tx, "dropped").await.expect("inserting works");
    drop(tx);
    assert_eq!(names(&db.primary()).await, ["kept"], "rolled back and dropped work is gone");

    let failed: Result<(), _> = db
        .transaction_async(async |tx| {
            insert(tx, "failed").await?;
            Err(DbErr::Custom("on purpose".to_owned()))
        })
        .await;
    assert!(failed.is_err(), "the error of the closure comes out");
    assert_eq!(names(&db.primary()).await, ["kept"], "the failed closure left nothing");
}

async fn savepoints_nest(db: &Db) {
    clear(db).await;
    let tx = db.begin().await.expect("BEGIN works");
    insert(&tx, "1 outer").await.expect("inserting works");
    let inner = tx.begin().await.expect("SAVEPOINT works");
    insert(&inner, "2 inner").await.expect("inserting works");
    let innermost = inner.begin().await.expect("a savepoint in a savepoint works");
    insert(&innermost, "3 innermost").await.expect("inserting works");
    drop(innermost);
    assert_eq!(names(&tx).await, ["1 outer", "2 inner"], "a dropped savepoint is undone");
    inner.commit().await.expect("RELEASE works");
    let undone = tx.begin().await.expect("SAVEPOINT works");
    insert(&undone, "4 undone").await.expect("inserting works");
    undone.rollback().await.expect("ROLLBACK TO works");
    let forgotten = tx.begin().await.expect("SAVEPOINT works");
    insert(&forgotten, "5 forgotten").await.expect("inserting works");
    tx.commit().await.expect("COMMIT works");
    forgotten.commit().await.expect_err("a savepoint cannot outlive its transaction");
    assert_eq!(names(db).await, ["1 outer", "2 inner"], "only what was committed is there");
}

async fn hooks_run_after_the_commit(db: &Db) {
    clear(db).await;
    let runs = Arc::new(AtomicU32::new(0));
    let hook = |amount| {
        let runs = runs.clone();
        move || {
            runs.fetch_add(amount, Ordering::Relaxed);
        }
    };
    let tx = db.begin().await.expect("BEGIN works");
    tx.after_commit(hook(1));
    let inner = tx.begin().await.expect("SAVEPOINT works");
    inner.after_commit(hook(10));
    inner.commit().await.expect("RELEASE works");
    let inner = tx.begin().await.expect("SAVEPOINT works");
    inner.after_commit(hook(100));
    inner.rollback().await.expect("ROLLBACK TO works");
    assert_eq!(runs.load(Ordering::Relaxed), 0, "no hook runs before the commit");
    tx.commit().await.expect("COMMIT works");
    assert_eq!(runs.load(Ordering::Relaxed), 11, "those of what was committed run, once");
    let tx = db.begin().await.expect("BEGIN works");
    tx.after_commit(hook(1000));
    tx.rollback().await.expect("ROLLBACK works");
    assert_eq!(runs.load(Ordering::Relaxed), 11, "a rollback runs none");
}

async fn streams_end_or_are_dropped(db: &Db) {
    clear(db).await;
    let tx = db.begin().await.expect("BEGIN works");
    for at in 0..200 {
        insert(&tx, &format!("{at:03}")).await.expect("inserting works");
    }
    let mut rows =
        StreamTrait::stream(&tx, &all()).await.expect("streaming in a transaction works");
    rows.try_next().await.expect("it has rows").expect("at least one");
    drop(rows);
    assert_eq!(names(&tx).await.len(), 200, "the transaction goes on after a dropped stream");
    tx.commit().await.expect("COMMIT works");
    for _ in 0..50 {
        let mut rows = db.stream(&all()).await.expect("streaming works");
        rows.try_next().await.expect("it has rows").expect("at least one");
    }
    let rows: Vec<_> = db.stream(&all()).await.expect("works").try_collect().await.expect("works");
    assert_eq!(rows.len(), 200, "a stream has every row");
}

async fn counts_every_increment(db: &Db) {
    clear(db).await;
    insert(db, "counter").await.expect("inserting works");
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let db = db.clone();
            tokio::spawn(async move {
                for _ in 0..25 {
                    if task % 2 == 0 {
                        increment(&db).await.expect("an update by itself works");
                    } else {
                        let tx = db.begin().await.expect("BEGIN works");
                        increment(&tx).await.expect("an update in a transaction works");
                        tx.commit().await.expect("COMMIT works");
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no task panics");
    }
    let row = db.primary().query_one(&all()).await.expect("works").expect("the counter is there");
    assert_eq!(row.try_get::<i64>("", "n"), Ok(200), "no increment is lost");
}

async fn says_what_went_wrong(db: &Db) {
    clear(db).await;
    insert(db, "one").await.expect("inserting works");
    let twice = insert(db, "one").await.expect_err("the name is unique");
    assert_eq!(kind(&twice), Kind::Refuse, "a broken rule of the data is refused: {twice}");
    let wrong = db.execute_unprepared("SELEKT 1").await.expect_err("that is no SQL");
    assert_eq!(kind(&wrong), Kind::Bug, "a wrong statement is a bug: {wrong}");
    let begin = db.execute_unprepared("BEGIN").await;
    begin.expect_err("a transaction cannot be opened by a statement");
    assert_eq!(names(db).await, ["one"], "the connections are fine after errors");
}

async fn readers_only_read(db: &Db) {
    let reader = db.read();
    insert(&reader, "never").await.expect_err("a reader refuses to insert");
    assert!(!names(&db.primary()).await.contains(&"never".to_owned()), "nothing was written");
}

async fn the_outbox_delivers_what_committed(db: &Db) {
    let entry = |key: &str, at: i32| Entry {
        kind: "conformance".to_owned(),
        key: key.to_owned(),
        payload: at.into(),
    };
    let tx = db.begin().await.expect("BEGIN works");
    outbox::push_in(&tx, entry("lost", 0)).await.expect("pushing works");
    tx.rollback().await.expect("ROLLBACK works");
    let tx = db.begin().await.expect("BEGIN works");
    for at in 1..=5 {
        outbox::push_in(&tx, entry("kept", at)).await.expect("pushing works");
    }
    tx.commit().await.expect("COMMIT works");
    let mut delivered = Vec::new();
    let mut relay = Relay::new(db.clone(), |delivery: outbox::Delivery| {
        delivered.push(delivery.entry.payload);
        async { Ok::<(), DbErr>(()) }
    });
    assert_eq!(relay.drain().await.expect("draining works"), 5, "what committed is delivered");
    assert_eq!(relay.drain().await.expect("draining works"), 0, "and only once");
    drop(relay);
    assert_eq!(delivered, [1, 2, 3, 4, 5], "in its order");
}

async fn clear(db: &Db) {
    let delete = Query::delete().from_table(ROWS).take();
    db.execute(&delete).await.expect("deleting works");
}

async fn insert(db: &impl ConnectionTrait, name: &str) -> Result<(), DbErr> {
    let insert = Query::insert()
        .into_table(ROWS)
        .columns(["name", "n"])
        .values_panic([name.into(), 0_i64.into()])
        .take();
    db.execute(&insert).await.map(drop)
}

async fn increment(db: &impl ConnectionTrait) -> Result<(), DbErr> {
    let update = Query::update().table(ROWS).value("n", Expr::col("n").add(1)).take();
    db.execute(&update).await.map(drop)
}

async fn names(db: &impl ConnectionTrait) -> Vec<String> {
    let rows = db.query_all(&all()).await.expect("reading works");
    rows.iter().map(|row| row.try_get("", "name").expect("a row has a name")).collect()
}

fn all() -> SelectStatement {
    Query::select().columns(["name", "n"]).from(ROWS).order_by("name", Order::Asc).take()
}

const ROWS: &str = "throng_conformance";
