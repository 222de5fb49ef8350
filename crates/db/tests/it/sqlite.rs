//! The SQLite engine.

use sea_orm::{ConnectionTrait, Statement, StreamTrait, TransactionSession, TransactionTrait};
use throng_db::Db;

async fn open() -> (tempfile::TempDir, Db) {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::sqlite(folder.path().join("new/site.db")).await.unwrap();
    db.execute_unprepared("CREATE TABLE t (id integer PRIMARY KEY, n int)").await.unwrap();
    (folder, db)
}

async fn insert(db: &impl ConnectionTrait, n: i64) {
    let backend = db.get_database_backend();
    let insert = "INSERT INTO t (n) VALUES (?)";
    let statement = Statement::from_sql_and_values(backend, insert, [n.into()]);
    db.execute_raw(statement).await.unwrap();
}

async fn count(db: &impl ConnectionTrait) -> i64 {
    let count = Statement::from_string(db.get_database_backend(), "SELECT count(*) AS n FROM t");
    db.query_one_raw(count).await.unwrap().unwrap().try_get("", "n").unwrap()
}

#[tokio::test]
async fn a_write_is_seen_by_the_next_read() {
    let (_folder, db) = open().await;
    for n in 1..100 {
        insert(&db, n).await;
        assert_eq!(count(&db).await, n);
        assert_eq!(count(&db.read()).await, n);
    }
}

#[tokio::test]
async fn what_is_dropped_is_rolled_back_and_what_is_nested_is_a_savepoint() {
    let (_folder, db) = open().await;
    let tx = db.begin().await.unwrap();
    insert(&tx, 1).await;
    let nested = tx.begin().await.unwrap();
    insert(&nested, 2).await;
    drop(nested);
    assert_eq!(count(&tx).await, 1, "the nested insert is gone");
    let nested = tx.begin().await.unwrap();
    insert(&nested, 3).await;
    nested.commit().await.unwrap();
    assert_eq!(count(&db).await, 0, "nothing is seen outside before the commit");
    tx.commit().await.unwrap();
    assert_eq!(count(&db).await, 2);

    let tx = db.begin().await.unwrap();
    insert(&tx, 4).await;
    drop(tx);
    assert_eq!(count(&db.primary()).await, 2);
}

#[tokio::test]
async fn streams_hand_out_every_row_and_may_be_dropped_early() {
    use futures_util::TryStreamExt;

    let (_folder, db) = open().await;
    let tx = db.begin().await.unwrap();
    for n in 0..1000 {
        insert(&tx, n).await;
    }
    let all = || Statement::from_string(db.get_database_backend(), "SELECT n FROM t ORDER BY n");
    for _ in 0..10 {
        let mut rows = tx.stream_raw(all()).await.unwrap();
        rows.try_next().await.unwrap().unwrap();
    }
    tx.commit().await.unwrap();
    let rows: Vec<_> = db.stream_raw(all()).await.unwrap().try_collect().await.unwrap();
    assert_eq!(rows.len(), 1000);
    for _ in 0..100 {
        let mut rows = db.stream_raw(all()).await.unwrap();
        rows.try_next().await.unwrap().unwrap();
    }
    assert_eq!(count(&db).await, 1000);
}
