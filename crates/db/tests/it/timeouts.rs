//! No wait without an end: for a statement, a row, a connection, and for peers that have gone silent.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use sea_orm::{ConnAcquireErr, ConnectionTrait, DbErr, Statement, StreamTrait};
use throng_db::{Db, Kind, is_read_only, kind};

use crate::{
    postgres::{make_table, read, settle, wait_until, write},
    servers::{self, link::Link, mariadb::MariaDb, postgres::Postgres},
};

/// Statements, streams, transactions and callers of a pool wait for as long as they were told to;
/// `sleep` would take minutes.
async fn check_limits(url: &str, sleep: &str) {
    let start = Instant::now();
    let options = "?connections=1&acquire_timeout=2s&statement_timeout=1s";
    let db = Db::open(&format!("{url}{options}")).await.unwrap();
    let sleep = Statement::from_string(db.get_database_backend(), sleep);
    let check = |late: DbErr| assert_eq!(kind(&late), Kind::Retry, "{late}");
    check(db.query_one_raw(sleep.clone()).await.unwrap_err());
    let mut rows = db.stream_raw(sleep.clone()).await.unwrap();
    check(rows.next().await.unwrap().unwrap_err());
    drop(rows);
    let tx = db.begin().await.unwrap();
    check(tx.query_one_raw(sleep).await.unwrap_err());
    let refused = tx.commit().await.unwrap_err();
    assert!(refused.to_string().contains("rolled back"), "{refused}");

    let tx = db.begin().await.unwrap();
    let late = db.begin().await.unwrap_err();
    assert!(matches!(late, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)), "{late}");
    check(late);
    tx.rollback().await.unwrap();
    db.ping().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(90), "{:?}", start.elapsed());
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_rows_and_connections_are_waited_for_as_long_as_told_on_postgres() {
    let Some(cluster) = Postgres::start(0) else { return servers::skip("no PostgreSQL") };
    check_limits(&cluster.url(""), "SELECT pg_sleep(300)").await;
    wait_until("the server has given up too", async || {
        let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        cluster.sql(0, sleeping).trim() == "0"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_rows_and_connections_are_waited_for_as_long_as_told_on_mariadb() {
    let Some(cluster) = MariaDb::start(0) else { return servers::skip("no MariaDB") };
    check_limits(&cluster.url(""), "SELECT sleep(300)").await;
    wait_until("the server has given up too", async || {
        let sleeping =
            "SELECT count(*) FROM information_schema.processlist WHERE state = 'User sleep'";
        cluster.sql(0, sleeping).trim() == "0"
    })
    .await;
}

#[tokio::test]
async fn who_takes_a_connection_and_never_answers_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    for scheme in ["postgres", "mariadb"] {
        let url = format!("{scheme}://site:secret@127.0.0.1:{port}/site");
        let error = in_time("opening", Db::open(&url)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Retry, "{error}");
    }
}

/// A primary and a replica behind links that go dead. Nothing is limited by options, so whatever
/// ends a wait here is the room's own doing. `url` makes one of two ports and options.
async fn check_dead_links(primary: u16, replica: u16, url: impl Fn(u16, u16, &str) -> String) {
    let (primary, replica) = (Link::to(primary).await, Link::to(replica).await);
    let options = "?acquire_timeout=1h&statement_timeout=0ms";
    let db = Db::open(&url(primary.port, replica.port, options)).await.unwrap();
    make_table(&db).await;
    settle(&db).await;

    // A firewall forgets idle connections and says nothing; new ones are let through.
    primary.cut_open();
    replica.cut_open();
    tokio::time::sleep(LONG_IDLE).await;
    for v in 1..=3 {
        in_time("a write", write(&db.visitor(None), v)).await.unwrap();
        in_time("a read", read(&db.visitor(None))).await.unwrap();
    }
    assert!(primary.opened() < 30, "it connects again, and not all the time");

    // The replica's machine is gone: who reads is served by the primary.
    replica.cut();
    for _ in 0..4 {
        assert_eq!(in_time("a read", read(&db.visitor(None))).await.unwrap(), 3);
    }
    let all = Statement::from_string(db.get_database_backend(), "SELECT v FROM r");
    let visitor = db.visitor(None);
    let rows = in_time("a stream", visitor.stream_raw(all)).await.unwrap();
    assert_eq!(in_time("its rows", rows.count()).await, 1);
    replica.mend();
    settle(&db).await;
    write(&db, 3).await.unwrap();

    // The primary's machine is gone: no writes, also for those who have begun, and pages come.
    let tx = db.begin().await.unwrap();
    primary.cut();
    in_time("a transaction", write(&tx, 4)).await.unwrap_err();
    drop(tx);
    let refused = in_time("a write", write(&db.visitor(None), 4)).await.unwrap_err();
    assert_eq!(kind(&refused), Kind::Retry, "{refused}");
    wait_until("the site is read-only", async || db.is_read_only()).await;
    let refused = in_time("a write", write(&db.visitor(None), 4)).await.unwrap_err();
    assert!(is_read_only(&refused), "{refused}");
    in_time("a read", read(&db.visitor(None))).await.unwrap();
    primary.mend();
    wait_until("writes are taken again", async || write(&db, 5).await.is_ok()).await;
    assert_eq!(read(&db).await.unwrap(), 5);
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_link_makes_nobody_wait_for_ever_on_postgres() {
    let Some(cluster) = Postgres::start(1) else { return servers::skip("no PostgreSQL") };
    check_dead_links(
        cluster.servers[0].port,
        cluster.servers[1].port,
        |primary, replica, options| {
            format!("postgres://postgres@127.0.0.1:{primary},127.0.0.1:{replica}/site{options}")
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_link_makes_nobody_wait_for_ever_on_mariadb() {
    let Some(cluster) = MariaDb::start(1) else { return servers::skip("no MariaDB") };
    check_dead_links(
        cluster.servers[0].port,
        cluster.servers[1].port,
        |primary, replica, options| {
            format!("mariadb://site:secret@127.0.0.1:{primary},127.0.0.1:{replica}/site{options}")
        },
    )
    .await;
}

/// Waits as long as a loaded machine may need, which is far from for ever.
async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.unwrap_or_else(|_| panic!("{what} has no end"))
}

const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than a connection may be idle and be lent without being asked.
pub(crate) const LONG_IDLE: Duration = Duration::from_millis(5_500);
