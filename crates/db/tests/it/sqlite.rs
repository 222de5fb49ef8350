//! The SQLite engine.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use sea_orm::{ConnectionTrait, DbErr, Statement, StreamTrait};
use throng_db::{Config, Db, Error, Kind, conformance, kind};

pub(crate) async fn open() -> (tempfile::TempDir, Db) {
    open_with(Config::default()).await
}

pub(crate) async fn open_with(config: Config) -> (tempfile::TempDir, Db) {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::sqlite_with(folder.path().join("new/site.db"), config).await.unwrap();
    db.execute_unprepared("CREATE TABLE t (id integer PRIMARY KEY, n int)").await.unwrap();
    (folder, db)
}

pub(crate) async fn insert(db: &impl ConnectionTrait, n: i64) -> Result<(), DbErr> {
    let backend = db.get_database_backend();
    let insert = "INSERT INTO t (n) VALUES (?)";
    let statement = Statement::from_sql_and_values(backend, insert, [n.into()]);
    db.execute_raw(statement).await.map(drop)
}

pub(crate) async fn count(db: &impl ConnectionTrait) -> i64 {
    let count = Statement::from_string(db.get_database_backend(), "SELECT count(*) AS n FROM t");
    db.query_one_raw(count).await.unwrap().unwrap().try_get("", "n").unwrap()
}

/// A statement that runs until it is interrupted.
pub(crate) fn endless(db: &Db) -> Statement {
    let sql =
        "WITH RECURSIVE c(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c";
    Statement::from_string(db.get_database_backend(), sql)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/site.db?readers=3&busy_timeout=5s", folder.path().display());
    let db = Db::open(&url).await.unwrap();
    conformance::exercise(&db).await;
    conformance::exercise(&db).await;
    db.close().await;
    insert(&db, 1).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_several_handles_never_see_a_lock() {
    let (folder, db) = open().await;
    let path = folder.path().join("new/site.db");
    let mut tasks = tokio::task::JoinSet::new();
    for handle in 0..4 {
        // A handle of its own stands for a process of its own: other connections, other pool.
        let other = Db::sqlite(&path).await.unwrap();
        tasks.spawn(async move {
            for n in 0..100 {
                if n % 3 == 0 {
                    let tx = other.begin().await.unwrap();
                    let seen = count(&tx).await;
                    insert(&tx, handle).await.unwrap();
                    assert_eq!(count(&tx).await, seen + 1, "nobody writes in between");
                    tx.commit().await.unwrap();
                } else {
                    insert(&other, handle).await.unwrap();
                    assert!(count(&other).await > 0);
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(count(&db).await, 400);
}

#[tokio::test]
async fn readers_do_not_wait_for_a_writer() {
    let (_folder, db) = open().await;
    let tx = db.begin().await.unwrap();
    insert(&tx, 1).await.unwrap();
    assert_eq!(count(&db).await, 0);
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_dropped_future_leaves_no_transaction_and_no_statement_behind() {
    let (_folder, db) = open_with(Config { readers: 1, ..Config::default() }).await;
    for _ in 0..20 {
        let tx = db.begin().await.unwrap();
        insert(&tx, 1).await.unwrap();
        // The first poll sends the statement, and nobody waits for its end.
        assert!(tx.query_one_raw(endless(&db)).now_or_never().is_none());
        let refused = insert(&tx, 2).await.unwrap_err();
        assert!(refused.to_string().contains("cancelled halfway"), "{refused}");
        drop(tx);
        assert!(db.query_one_raw(endless(&db)).now_or_never().is_none());
        assert_eq!(count(&db.primary()).await, 0);
        assert_eq!(count(&db).await, 0, "the only reader was freed");
    }
    for _ in 0..200 {
        let _ = async {
            let tx = db.begin().await?;
            insert(&tx, 1).await?;
            std::future::pending::<()>().await;
            tx.commit().await
        }
        .now_or_never();
    }
    insert(&db, 7).await.unwrap();
    assert_eq!(count(&db).await, 1);
}

#[tokio::test]
async fn what_is_dropped_after_an_end_that_nobody_waited_for_is_rolled_back_too() {
    let (_folder, db) = open().await;
    for round in 1..=20 {
        let tx = db.begin().await.unwrap();
        insert(&tx, round).await.unwrap();
        // The first poll sends the commit; it is done, and nobody hears of it.
        let _ = tx.commit().now_or_never();
        let tx = db.begin().await.unwrap();
        let _ = tx.rollback().now_or_never();
        let tx = db.begin().await.unwrap();
        insert(&tx, 0).await.unwrap();
        drop(tx);
        assert_eq!(count(&db.primary()).await, round);
    }
    insert(&db, 21).await.unwrap();
    assert_eq!(count(&db).await, 21);
}

#[tokio::test]
async fn a_statement_that_runs_too_long_is_interrupted() {
    let (_folder, db) =
        open_with(Config { statement_timeout_ms: 50, readers: 1, ..Config::default() }).await;
    let late = db.query_one_raw(endless(&db)).await.unwrap_err();
    assert_eq!(kind(&late), Kind::Retry, "{late}");
    assert_eq!(count(&db).await, 0);
}

#[tokio::test]
async fn a_pool_serves_waiters_in_order_and_gives_up_in_time() {
    let (_folder, db) = open_with(Config { acquire_timeout_ms: 100, ..Config::default() }).await;
    let tx = db.begin().await.unwrap();
    let late = db.begin().await.unwrap_err();
    assert_eq!(kind(&late), Kind::Retry, "{late}");
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut waiters = tokio::task::JoinSet::new();
    for at in 0..10 {
        let (db, order) = (db.clone(), order.clone());
        waiters.spawn(async move {
            let tx = db.begin().await.unwrap();
            order.lock().unwrap().push(at);
            tx.rollback().await.unwrap();
        });
        tokio::task::yield_now().await;
    }
    drop(tx);
    while let Some(done) = waiters.join_next().await {
        done.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stream_holds_its_snapshot_while_others_write() {
    let (_folder, db) = open().await;
    for n in 0..300 {
        insert(&db, n).await.unwrap();
    }
    let all = Statement::from_string(db.get_database_backend(), "SELECT n FROM t");
    let mut rows = db.stream_raw(all).await.unwrap();
    rows.next().await.unwrap().unwrap();
    insert(&db, 300).await.unwrap();
    assert_eq!(rows.count().await, 299);
}

#[tokio::test]
async fn raw_connections_are_tidied_when_they_come_back() {
    let (_folder, db) = open().await;
    let mut conn = db.raw::<sqlx::Sqlite>().await.unwrap();
    sqlx::raw_sql("BEGIN; INSERT INTO t (n) VALUES (1)").execute(&mut *conn).await.unwrap();
    drop(conn);
    insert(&db, 2).await.unwrap();
    assert_eq!(count(&db).await, 1, "what was left open is rolled back");
    let mut conn = db.read().raw::<sqlx::Sqlite>().await.unwrap();
    sqlx::query("DELETE FROM t").execute(&mut *conn).await.unwrap_err();
}

#[tokio::test]
async fn foreign_keys_hold_and_commits_are_synced() {
    let (_folder, db) = open().await;
    let tell = async |name: &str| {
        let pragma = Statement::from_string(db.get_database_backend(), format!("PRAGMA {name}"));
        let row = db.primary().query_one_raw(pragma).await.unwrap().unwrap();
        row.try_get_by_index::<i32>(0).unwrap()
    };
    assert_eq!(tell("foreign_keys").await, 1);
    assert_eq!(tell("synchronous").await, 2, "2 is FULL");
}

#[tokio::test]
async fn what_stands_in_the_way_of_opening_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("words.txt");
    std::fs::write(&file, "these are words and no database at all ".repeat(100)).unwrap();
    let check = async |url: String, wanted: &str, wanted_kind: Kind| {
        let error = Db::open(&url).await.unwrap_err();
        assert!(error.to_string().contains(wanted), "{url}: {error}");
        assert_eq!(error.kind(), wanted_kind, "{url}: {error}");
    };
    let shown = file.display();
    check(format!("sqlite:{shown}"), "is not a SQLite database", Kind::Refuse).await;
    check(format!("sqlite:{shown}/site.db"), "cannot write the folder", Kind::Refuse).await;
    check("sqlite:/proc/nowhere/site.db".into(), "cannot write the folder", Kind::Refuse).await;
    check(format!("sqlite:{}", folder.path().display()), "cannot open", Kind::Refuse).await;
    check("sqlite:".into(), "must name a file", Kind::Refuse).await;
    check("sqlite://host/site.db".into(), "has no host", Kind::Refuse).await;
    check("sqlite:a.db?reader=2".into(), "unknown option `reader`", Kind::Refuse).await;
    check("oracle://h/x".into(), "this build opens", Kind::Refuse).await;
}

#[tokio::test]
async fn a_database_that_another_process_keeps_locked_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.db");
    let db = Db::sqlite(&path).await.unwrap();
    db.execute_unprepared("CREATE TABLE t (id integer PRIMARY KEY, n int)").await.unwrap();
    let config = Config { busy_timeout_ms: 50, ..Config::default() };
    let other = Db::sqlite_with(&path, config).await.unwrap();
    let tx = db.begin().await.unwrap();
    insert(&tx, 1).await.unwrap();
    let busy = insert(&other, 2).await.unwrap_err();
    assert_eq!(kind(&busy), Kind::Retry, "{busy}");
    tx.commit().await.unwrap();
    insert(&other, 2).await.unwrap();
    // A file outside of write-ahead mode that somebody holds cannot be opened at all.
    let path = folder.path().join("held.db");
    let mut held = throng_hold(&path).await;
    let config = Config { busy_timeout_ms: 50, ..Config::default() };
    let error = Db::sqlite_with(&path, config).await.unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error:?}");
    sqlx::raw_sql("ROLLBACK").execute(&mut held).await.unwrap();
    Db::sqlite(&path).await.unwrap();
}

async fn throng_hold(path: &std::path::Path) -> sqlx::SqliteConnection {
    use sqlx::ConnectOptions;

    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut conn = options.connect().await.unwrap();
    let hold = "CREATE TABLE x (a int); BEGIN EXCLUSIVE; INSERT INTO x VALUES (1)";
    sqlx::raw_sql(hold).execute(&mut conn).await.unwrap();
    conn
}

#[tokio::test]
async fn waiting_for_a_connection_is_safe_to_cancel() {
    let (_folder, db) = open_with(Config { readers: 1, ..Config::default() }).await;
    for _ in 0..50 {
        let tx = db.begin().await.unwrap();
        let waiting = tokio::time::timeout(Duration::from_millis(1), db.begin()).await;
        waiting.expect_err("the writer is taken");
        tx.rollback().await.unwrap();
    }
    insert(&db, 1).await.unwrap();
}
