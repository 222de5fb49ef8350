//! Transactions that ended otherwise than their caller thinks, and answers that nobody waited for.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::{FutureExt, StreamExt};
use sea_orm::{ConnectionTrait, DbErr, Statement, StreamTrait, TransactionError, TransactionTrait};
use sqlx::ConnectOptions;
use throng_db::{Config, Db, Kind, Tx, kind};

use crate::{
    postgres::{make_table, wait_until},
    servers::{self, mariadb::MariaDb, postgres::Postgres},
    sqlite::{self, count, endless, open_with},
    timeouts::LONG_IDLE,
};

async fn put(db: &impl ConnectionTrait, id: i64) -> Result<(), DbErr> {
    db.execute_unprepared(&format!("INSERT INTO r VALUES ({id}, 0)")).await.map(drop)
}

fn ask(db: &impl ConnectionTrait, sql: impl Into<String>) -> Statement {
    Statement::from_string(db.get_database_backend(), sql)
}

async fn number(db: &impl ConnectionTrait, sql: &str) -> i64 {
    let row = db.query_one_raw(ask(db, sql)).await.unwrap().unwrap();
    row.try_get_by_index(0).unwrap()
}

/// Tells whether the transaction was said to have committed.
fn told_of(tx: &Tx) -> Arc<AtomicBool> {
    let is_told = Arc::new(AtomicBool::new(false));
    let tells = is_told.clone();
    tx.after_commit(move || tells.store(true, Ordering::SeqCst));
    is_told
}

#[tokio::test]
async fn a_transaction_that_sqlite_has_ended_takes_nothing_more() {
    let (_folder, db) = sqlite::open().await;
    sqlite::insert(&db, 1).await.unwrap();
    // As a full disk does: the whole transaction is rolled back, not the statement alone.
    let ends = "INSERT OR ROLLBACK INTO t (id, n) VALUES (1, 3)";
    for is_stream in [false, true] {
        let tx = db.begin().await.unwrap();
        let is_told = told_of(&tx);
        sqlite::insert(&tx, 2).await.unwrap();
        if is_stream {
            let mut rows = tx.stream_raw(ask(&tx, ends)).await.unwrap();
            rows.next().await.unwrap().unwrap_err();
        } else {
            tx.execute_unprepared(ends).await.unwrap_err();
        }
        let refused = sqlite::insert(&tx, 4).await.unwrap_err();
        assert!(refused.to_string().contains("has rolled this transaction back"), "{refused}");
        tx.commit().await.unwrap_err();
        assert!(!is_told.load(Ordering::SeqCst));
        assert_eq!(count(&db.primary()).await, 1);
        let tx = db.begin().await.unwrap();
        tx.execute_unprepared(ends).await.unwrap_err();
        tx.rollback().await.unwrap();
    }
    let tx = db.begin().await.expect("the connection is as new");
    sqlite::insert(&tx, 5).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(count(&db).await, 2);
}

#[tokio::test]
async fn a_script_that_stops_halfway_leaves_no_transaction_open() {
    let (folder, db) = sqlite::open().await;
    for (round, script) in [
        "CREATE TABLE a (x int); BEGIN; INSERT INTO t (n) VALUES (0); SELEKT",
        "CREATE TABLE b (x int); BEGIN; INSERT INTO t (n) VALUES (0)",
    ]
    .into_iter()
    .enumerate()
    {
        let _ = db.execute_unprepared(script).await;
        sqlite::insert(&db, 1).await.unwrap();
        let _ = db.execute_raw(ask(&db, script.replace("TABLE ", "TABLE c"))).await;
        sqlite::insert(&db, 1).await.unwrap();
        let options = sqlx::sqlite::SqliteConnectOptions::new();
        let mut other =
            options.filename(folder.path().join("new/site.db")).connect().await.unwrap();
        let kept = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM t");
        let kept = kept.fetch_one(&mut other).await.unwrap();
        assert_eq!(kept, 2 * (round as i64 + 1), "what was acknowledged others see");
    }
}

#[tokio::test]
async fn a_savepoint_that_is_over_touches_nothing_of_who_came_later() {
    let (_folder, db) = sqlite::open().await;
    let tx = db.begin().await.unwrap();
    let outer = tx.begin().await.unwrap();
    let inner = outer.begin().await.unwrap();
    // It would be undone with the savepoint, whatever came of the transaction.
    let refused = sqlite::insert(&tx, 0).await.unwrap_err();
    assert!(refused.to_string().contains("is open"), "{refused}");
    tx.begin().await.unwrap_err();
    assert_eq!(count(&tx).await, 0, "reads do no harm");
    outer.commit().await.unwrap();
    let refused = sqlite::insert(&inner, 1).await.unwrap_err();
    assert!(refused.to_string().contains("is over"), "{refused}");
    let later = tx.begin().await.unwrap();
    let last = later.begin().await.unwrap();
    sqlite::insert(&last, 2).await.unwrap();
    let is_told = told_of(&inner);
    drop(inner);
    last.commit().await.unwrap();
    later.commit().await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(count(&db).await, 1);
    assert!(!is_told.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_closure_that_was_too_slow_says_so_and_can_be_run_again() {
    let config = Config { statement_timeout_ms: 50, ..Config::default() };
    let (_folder, db) = open_with(config).await;
    let slow = endless(&db);
    let late = db.transaction_async(async |tx| {
        sqlite::insert(tx, 1).await?;
        let inner = tx.transaction_async(async |inner| inner.query_one_raw(slow).await);
        inner.await.map_err(|error| match error {
            TransactionError::Transaction(error) => error,
            TransactionError::Connection(error) => panic!("{error}"),
        })
    });
    let late = late.await.unwrap_err();
    let TransactionError::Transaction(late) = late else { panic!("{late}") };
    assert_eq!(kind(&late), Kind::Retry, "{late}");
    assert_eq!(count(&db.primary()).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_fails_fails_its_transaction_on_postgres() {
    let Some(cluster) = Postgres::start(0) else { return servers::skip("no PostgreSQL") };
    let db = Db::open(&cluster.url("?connections=1")).await.unwrap();
    make_table(&db).await;
    let fails = "SELECT 12 / (3 - n) FROM generate_series(1, 5) AS n";
    for rows_read in 0..4 {
        let tx = db.begin().await.unwrap();
        let is_told = told_of(&tx);
        put(&tx, 2).await.unwrap();
        let mut rows = tx.stream_raw(ask(&tx, fails)).await.unwrap();
        for _ in 0..rows_read {
            let _ = rows.next().await;
        }
        // The server has said so, whether anybody has read so far or not.
        drop(rows);
        let committed = tx.commit().await;
        if rows_read > 0 {
            let refused = committed.unwrap_err();
            assert!(refused.to_string().contains("rolled back"), "{refused}");
            assert!(!is_told.load(Ordering::SeqCst));
            assert_eq!(number(&db, "SELECT count(*) FROM r").await, 1, "{rows_read} rows read");
        } else {
            committed.expect("a stream that nobody reads is not sent");
            db.execute_unprepared("DELETE FROM r WHERE id = 2").await.unwrap();
        }
    }
    db.close().await;
}

/// Rows that are longer than what a driver reads at once, so that it is in the midst of one.
async fn check_streams(db: &Db) {
    make_table(db).await;
    let lines = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 12) \
                 SELECT n, repeat('x', 400000) AS x FROM c";
    for round in 0..40 {
        let tx = db.begin().await.unwrap();
        put(&tx, 100 + round).await.unwrap();
        // A text that is new is prepared first; of one that is known the rows come at once.
        let sql = format!("{lines} WHERE n > {}", if round % 2 == 0 { -round } else { 0 });
        let mut rows = tx.stream_raw(ask(&tx, sql)).await.unwrap();
        match round % 4 {
            0 | 1 => drop(rows.next().now_or_never()),
            read => {
                for _ in 1..read {
                    rows.next().await.unwrap().unwrap();
                }
            }
        }
        if round % 8 < 4 {
            drop(rows);
            assert_eq!(
                number(&tx, &format!("SELECT v + {round} FROM r WHERE id = 1")).await,
                round
            );
        } else {
            // Who waits for its end is not forgotten when it is dropped.
            let sql = format!("SELECT v + {round} FROM r WHERE id = 1");
            let (next, ()) = tokio::join!(number(&tx, &sql), async {
                tokio::task::yield_now().await;
                drop(rows);
            });
            assert_eq!(next, round);
        }
        put(&tx, 200 + round).await.unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(number(db, "SELECT count(*) FROM r").await, 81);
    let opened: u32 = db.status().servers.iter().map(|server| server.idle + server.in_use).sum();
    assert_eq!(opened, 1, "the connection was of use to the end");
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_goes_on_after_a_stream_that_was_dropped_amid_a_row_on_postgres() {
    let Some(cluster) = Postgres::start(0) else { return servers::skip("no PostgreSQL") };
    check_streams(&Db::open(&cluster.url("?connections=1")).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_goes_on_after_a_stream_that_was_dropped_amid_a_row_on_mariadb() {
    let Some(cluster) = MariaDb::start(0) else { return servers::skip("no MariaDB") };
    check_streams(&Db::open(&cluster.url("?connections=1")).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_whether_a_connection_lives_is_nobody_elses() {
    let Some(cluster) = MariaDb::start(0) else { return servers::skip("no MariaDB") };
    let db = Db::open(&cluster.url("?connections=1")).await.unwrap();
    make_table(&db).await;
    tokio::time::sleep(LONG_IDLE).await;
    // The first poll asks the connection whether it is there, and nobody waits for the answer.
    assert!(db.query_one_raw(ask(&db, "SELECT 1")).now_or_never().is_none());
    put(&db, 1).await.expect_err("there is a row with this number");
    for n in 2..20 {
        assert_eq!(number(&db, &format!("SELECT {n} + v FROM r WHERE id = 1")).await, n);
    }
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_a_deadlock_has_ended_takes_nothing_more_on_mariadb() {
    let Some(cluster) = MariaDb::start(0) else { return servers::skip("no MariaDB") };
    let db = Db::open(&cluster.url("")).await.unwrap();
    make_table(&db).await;
    put(&db, 2).await.unwrap();
    let touch = async |tx: &Tx, id: i64| {
        tx.execute_unprepared(&format!("UPDATE r SET v = v + 1 WHERE id = {id}")).await
    };
    let (one, other) = (db.begin().await.unwrap(), db.begin().await.unwrap());
    put(&one, 10).await.unwrap();
    put(&other, 20).await.unwrap();
    touch(&one, 1).await.unwrap();
    touch(&other, 2).await.unwrap();
    let (of_one, of_other) = tokio::join!(touch(&one, 2), async {
        wait_until("it waits for the lock", async || {
            let waits = "SELECT count(*) FROM information_schema.innodb_trx \
                         WHERE trx_state = 'LOCK WAIT'";
            cluster.sql(0, waits).trim() == "1"
        })
        .await;
        touch(&other, 1).await
    });
    let (victim, winner, error) = match (of_one, of_other) {
        (Err(error), Ok(_)) => (one, other, error),
        (Ok(_), Err(error)) => (other, one, error),
        both => panic!("{both:?}"),
    };
    assert_eq!(kind(&error), Kind::Retry, "{error}");
    let is_told = told_of(&victim);
    let refused = put(&victim, 30).await.unwrap_err();
    assert!(refused.to_string().contains("has rolled this transaction back"), "{refused}");
    victim.commit().await.unwrap_err();
    assert!(!is_told.load(Ordering::SeqCst));
    winner.commit().await.unwrap();
    assert_eq!(number(&db, "SELECT count(*) FROM r WHERE id >= 10").await, 1);
    assert_eq!(number(&db, "SELECT count(*) FROM r WHERE v = 1").await, 2);
    db.close().await;
}
