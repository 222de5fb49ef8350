//! What wrong configuration and wrong tokens get: a clear error or the primary, never a stale read.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use throng_db::{Db, Kind, Token};

use crate::{
    postgres::{make_table, read, settle, wait_until, write},
    servers::{self, free_port, mariadb::MariaDb, postgres::Postgres},
};

/// Opening `url` fails soon, with words about the cause and without the password.
async fn check_refusal(url: &str, words: &str) {
    let start = Instant::now();
    let error = Db::open(url).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(30), "{url} was waited for too long");
    let mut all = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        all = format!("{all}: {cause}");
        next = cause.source();
    }
    assert!(all.contains(words), "{url}: {all}");
    assert!(!all.contains("sesame"), "{all}");
}

#[tokio::test]
async fn servers_that_cannot_be_had_are_named_at_once() {
    let port = free_port();
    let nobody = format!("postgres://site:sesame@127.0.0.1:{port}/site");
    check_refusal(&nobody, &format!("127.0.0.1:{port}")).await;
    check_refusal("postgres://site:sesame@nowhere.invalid/site", "nowhere.invalid").await;
    check_refusal("postgres://site:sesame@db1/site?tls=maybe", "`disable`, `prefer`").await;
    check_refusal("mariadb://site:sesame@db1/", "it must name a database").await;
    let error = Db::open(&nobody).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Retry, "it may come");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_and_a_replica_that_takes_writes_are_no_way_in() {
    let Some(cluster) = MariaDb::start(1) else { return servers::skip("no MariaDB") };
    let url = cluster.url("");
    check_refusal(&url.replace(":secret@", ":sesame@"), "Access denied").await;

    // A replica that somebody made writable: the URL's first is the primary, the other serves none.
    cluster.sql(1, "SET GLOBAL read_only = 0");
    for _ in 0..5 {
        let db = Db::open(&url).await.unwrap();
        let status = db.status();
        let roles: Vec<_> = status.servers.iter().map(|server| server.role).collect();
        assert_eq!(roles, ["primary", "rival"]);
        assert!(!status.servers[1].serves_reads);
        db.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_of_another_cluster_serves_nobody() {
    let Some(ours) = Postgres::start(1) else { return servers::skip("no PostgreSQL") };
    let Some(theirs) = Postgres::start(0) else { return servers::skip("no PostgreSQL") };
    let stranger = format!(",127.0.0.1:{}/site", theirs.servers[0].port);
    let db = Db::open(&ours.url("").replace("/site", &stranger)).await.unwrap();
    make_table(&db).await;
    wait_until("the replica serves", async || db.status().servers[1].serves_reads).await;
    for v in 0..50 {
        let visitor = db.visitor(None);
        write(&visitor, v).await.unwrap();
        assert_eq!(read(&db.visitor(visitor.token().await)).await.unwrap(), v);
    }
    let status = db.status();
    assert_eq!((status.servers[2].role, status.servers[2].reads), ("gone", 0), "{status:?}");
    assert!(!db.is_read_only());
    db.close().await;
}

/// MariaDB's servers have no number of their cluster, so their positions must tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_mariadb_server_of_another_cluster_serves_nobody() {
    let Some(ours) = MariaDb::start(0) else { return servers::skip("no MariaDB") };
    let Some(theirs) = MariaDb::start(1) else { return servers::skip("no MariaDB") };
    let other = Db::open(&theirs.url("")).await.unwrap();
    make_table(&other).await;
    for _ in 0..40 {
        write(&other, 1_000).await.unwrap();
    }
    settle(&other).await;
    theirs.sql(0, "SET GLOBAL read_only = 1");
    // A replica that has more transactions than our primary, and a server that never was a replica.
    let strangers = theirs.servers.iter().map(|server| format!(",127.0.0.1:{}", server.port));
    let strangers: String = strangers.collect();
    let url = ours.url("?max_lag=500ms").replace("/site?", &format!("{strangers}/site?"));
    let db = Db::open(&url).await.unwrap();
    make_table(&db).await;
    // Far enough for our primary to pass them.
    for v in 0..100 {
        let visitor = db.visitor(None);
        write(&visitor, v).await.unwrap();
        assert_eq!(read(&db.visitor(visitor.token().await)).await.unwrap(), v);
        assert_eq!(read(&db.visitor(None)).await.unwrap(), v, "{:?}", db.status());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let status = db.status();
    for server in &status.servers[1..] {
        assert_eq!((server.serves_reads, server.reads), (false, 0), "{status:?}");
    }
    db.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn wrong_tokens_send_reads_to_the_primary_and_several_are_all_kept() {
    let Some(cluster) = Postgres::start(1) else { return servers::skip("no PostgreSQL") };
    let db = Db::open(&cluster.url("?max_lag=5m")).await.unwrap();
    make_table(&db).await;
    settle(&db).await;
    let early = db.visitor(None);
    write(&early, 1).await.unwrap();
    let early = early.token().await.unwrap();
    wait_until("the replica has it", async || read(&db.visitor(None)).await.unwrap() == 1).await;
    cluster.pause_replay(1);
    let late = db.visitor(None);
    write(&late, 2).await.unwrap();
    let late = late.token().await.unwrap();

    let cluster_and_timeline = late.to_string();
    let mut parts: Vec<&str> = cluster_and_timeline.split('.').collect();
    let foreign: Token = "p.1f.1.3000060".parse().unwrap();
    parts[3] = "7fffffffffffffff";
    let future: Token = parts.join(".").parse().unwrap();
    // From a machine whose clock is years ahead.
    let skewed: Token = "c.7fffffffffff".parse().unwrap();
    let of = |tokens: Vec<Token>| (db.visitor(tokens.clone()), tokens);
    for (visitor, tokens) in [
        of(vec![foreign]),
        of(vec![future]),
        of(vec![skewed]),
        of(vec![late]),
        of(vec![early, late]),
        of(vec![late, early]),
        of(vec![early, foreign]),
        of(vec![skewed, early]),
    ] {
        assert_eq!(read(&visitor).await.unwrap(), 2, "{tokens:?}: {}", visitor.routes());
    }
    assert_eq!(read(&db.visitor([early])).await.unwrap(), 1, "the replica may still serve him");
    cluster.resume_replay(1);
    db.close().await;
}
