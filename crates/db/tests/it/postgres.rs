//! The PostgreSQL engine on real primaries with replicas.

use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, DbErr, Statement};
use throng_db::{Db, Kind, Token, conformance, is_read_only, kind};
use tokio::task::JoinHandle;

use crate::servers::{self, postgres::Postgres};

pub(crate) async fn read(db: &impl ConnectionTrait) -> Result<i64, DbErr> {
    let select = Statement::from_string(db.get_database_backend(), "SELECT v FROM r WHERE id = 1");
    db.query_one_raw(select).await?.unwrap().try_get("", "v")
}

pub(crate) async fn write(db: &impl ConnectionTrait, v: i64) -> Result<(), DbErr> {
    let update = format!("UPDATE r SET v = {v} WHERE id = 1");
    db.execute_raw(Statement::from_string(db.get_database_backend(), update)).await.map(drop)
}

pub(crate) async fn make_table(db: &Db) {
    let backend = db.get_database_backend();
    let create = "CREATE TABLE r (id int PRIMARY KEY, v bigint NOT NULL)";
    db.execute_raw(Statement::from_string(backend, create)).await.unwrap();
    let insert = "INSERT INTO r VALUES (1, 0)";
    db.execute_raw(Statement::from_string(backend, insert)).await.unwrap();
}

/// Waits for something that the servers do in their own time.
pub(crate) async fn wait_until(what: &str, mut is_so: impl AsyncFnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < Duration::from_secs(20), "waiting until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

/// Waits until every replica serves a visitor who has just written.
pub(crate) async fn settle(db: &Db) {
    let writes = db.visitor(None);
    write(&writes, 0).await.unwrap();
    let token = writes.token().await;
    let replicas = db.status().servers.len() - 1;
    wait_until("every replica serves", async || {
        let mut routes = std::collections::HashSet::new();
        for _ in 0..replicas * 8 {
            let visitor = db.visitor(token);
            read(&visitor).await.unwrap();
            routes.insert(visitor.routes());
        }
        routes.len() == replicas && routes.iter().all(|route| route.contains("fresh"))
    })
    .await;
}

async fn open(cluster: &Postgres, options: &str) -> Db {
    let db = Db::open(&cluster.url(options)).await.unwrap();
    make_table(&db).await;
    settle(&db).await;
    db
}

fn serves(db: &Db, at: usize) -> bool {
    db.status().servers[at].serves_reads
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_conforms_on_a_primary_with_replicas() {
    let Some(cluster) = Postgres::start(2) else { return servers::skip("no PostgreSQL") };
    let db = Db::open(&cluster.url("")).await.unwrap();
    conformance::exercise(&db).await;
    conformance::exercise(&db.visitor(None)).await;
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_visitor_never_misses_what_he_has_written() {
    let Some(cluster) = Postgres::start(2) else { return servers::skip("no PostgreSQL") };
    // The replicas stay paused for as long as this takes.
    let db = open(&cluster, "?max_lag=5m").await;
    let visitor = db.visitor(None);
    assert_eq!(read(&visitor).await.unwrap(), 0);
    assert!(visitor.routes().contains("fresh 1"), "{}", visitor.routes());

    cluster.pause_replay(1);
    cluster.pause_replay(2);
    let writes = db.visitor(None);
    write(&writes, 7).await.unwrap();
    assert_eq!(read(&writes).await.unwrap(), 7, "within the request that wrote");
    let token = writes.token().await.unwrap();
    let next = db.visitor(Some(token));
    assert_eq!(read(&next).await.unwrap(), 7, "in his next request");
    assert!(next.routes().contains("behind 1"), "{}", next.routes());
    let stranger = db.visitor(None);
    assert_eq!(read(&stranger).await.unwrap(), 0, "a stranger reads from a paused replica");
    let again = db.visitor(next.token().await);
    assert_eq!(read(&again).await.unwrap(), 7);

    cluster.resume_replay(1);
    cluster.resume_replay(2);
    wait_until("a replica serves him again", async || {
        let later = db.visitor(Some(token));
        assert_eq!(read(&later).await.unwrap(), 7);
        later.routes().contains("fresh")
    })
    .await;

    let tx = db.visitor(None);
    let open_tx = tx.begin().await.unwrap();
    write(&open_tx, 8).await.unwrap();
    open_tx.commit().await.unwrap();
    let after = db.visitor(tx.token().await);
    assert_eq!(read(&after).await.unwrap(), 8, "what a transaction wrote counts as well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_that_starts_again_with_less_takes_nobody_back_in_time() {
    let Some(cluster) = Postgres::start(1) else { return servers::skip("no PostgreSQL") };
    let db = open(&cluster, "?max_lag=5m").await;
    cluster.keep_copy(1);
    let writes = db.visitor(None);
    write(&writes, 7).await.unwrap();
    let token = writes.token().await;
    let open_request = async || {
        let visitor = db.visitor(token);
        (read(&visitor).await.unwrap() == 7 && visitor.routes().contains("fresh"))
            .then_some(visitor)
    };
    wait_until("the replica shows it", async || open_request().await.is_some()).await;
    let stranger = db.visitor(None);
    wait_until("a stranger reads from it", async || {
        read(&stranger).await.unwrap() == 7 && stranger.routes().contains("fresh")
    })
    .await;
    let other = db.visitor(None);
    assert_eq!(read(&other).await.unwrap(), 7);

    cluster.go_back(1);
    wait_until("the replica shows others the past", async || {
        read(&db.visitor(None)).await.unwrap() == 0
    })
    .await;
    assert_eq!(read(&stranger).await.unwrap(), 7, "within the request: {}", stranger.routes());
    assert!(stranger.routes().contains("behind 1"), "{}", stranger.routes());
    let next = db.visitor(other.token().await);
    assert_eq!(read(&next).await.unwrap(), 7, "in the next request: {}", next.routes());
}

/// A commit that waits for its standby: with it the value that the primary still shows, and the
/// one committed. The server makes commits wait some time after it has read the setting.
async fn commit_that_waits(cluster: &Postgres, db: &Db) -> (JoinHandle<()>, i64, i64) {
    let asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let mut shown = 0;
    for value in 9.. {
        let db = db.clone();
        let commit = tokio::spawn(async move { write(&db, value).await.unwrap() });
        wait_until("the commit waits or is through", async || {
            commit.is_finished() || cluster.sql(0, asked).trim() == "1"
        })
        .await;
        if !commit.is_finished() {
            return (commit, shown, value);
        }
        commit.await.unwrap();
        shown = value;
    }
    unreachable!("one of the commits waits")
}

/// While a commit waits for a synchronous standby, replicas show it and the primary does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_has_seen_a_commit_on_a_replica_does_not_miss_it_on_the_primary() {
    let Some(cluster) = Postgres::start(1) else { return servers::skip("no PostgreSQL") };
    let db = open(&cluster, "?max_lag=5m&replica_wait=10s").await;
    cluster.set(0, "synchronous_standby_names", "nobody");
    let (waiting, shown, seen) = commit_that_waits(&cluster, &db).await;
    wait_until("the replica shows it", async || read(&db.visitor(None)).await.unwrap() == seen)
        .await;
    assert_eq!(read(&db.primary()).await.unwrap(), shown, "the primary does not");
    let write_another = async |db: &Db, id: u32| {
        let tx = db.begin().await.unwrap();
        tx.execute_unprepared("SET LOCAL synchronous_commit = local").await.unwrap();
        tx.execute_unprepared(&format!("INSERT INTO r VALUES ({id}, 0)")).await.unwrap();
        tx.commit().await.unwrap();
    };
    let visitor = db.visitor(None);
    assert_eq!(read(&visitor).await.unwrap(), seen);
    let token = visitor.token().await;
    write_another(&visitor, 2).await;
    assert_eq!(read(&visitor).await.unwrap(), seen, "within the request: {}", visitor.routes());
    let next = db.visitor(token);
    write_another(&next, 3).await;
    assert_eq!(read(&next).await.unwrap(), seen, "in the next request: {}", next.routes());
    cluster.set(0, "synchronous_standby_names", "");
    waiting.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_token_that_is_not_ours_leads_to_the_primary() {
    let Some(cluster) = Postgres::start(1) else { return servers::skip("no PostgreSQL") };
    let db = open(&cluster, "").await;
    let ours = db.visitor(None);
    write(&ours, 1).await.unwrap();
    let ours = ours.token().await.unwrap().to_string();
    let parts: Vec<&str> = ours.split('.').collect();
    let [_, id, timeline, at] = parts[..] else { panic!("{ours}") };
    for token in [
        format!("p.{id}.{timeline}.ffffffffffffff"), // from the future
        format!("p.{id}.9.{at}"),                    // of a timeline that nobody knows
        format!("p.77.{timeline}.{at}"),             // of another cluster
    ] {
        cluster.pause_replay(1);
        write(&db.primary(), 2).await.unwrap();
        let visitor = db.visitor(Some(token.parse::<Token>().unwrap()));
        assert_eq!(read(&visitor).await.unwrap(), 2, "{token}");
        let next = db.visitor(visitor.token().await);
        assert_eq!(read(&next).await.unwrap(), 2, "{token} is replaced by one of ours");
        cluster.resume_replay(1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_that_lags_or_is_cut_off_serves_nobody_until_it_has_caught_up() {
    let Some(cluster) = Postgres::start(1) else { return servers::skip("no PostgreSQL") };
    let db = open(&cluster, "?max_lag=1s").await;
    for cut_off in [false, true] {
        if cut_off {
            cluster.connect_replica(1, false)
        } else {
            cluster.pause_replay(1)
        }
        let mut v = 10;
        let away = wait_until("it is sent away", async || {
            v += 1;
            write(&db.primary(), v).await.unwrap();
            !serves(&db, 1)
        })
        .await;
        assert!(away < Duration::from_millis(1_800), "1 s of lag and 0.5 s to notice: {away:?}");
        let visitor = db.visitor(None);
        assert_eq!(read(&visitor).await.unwrap(), v, "the primary serves everybody");
        assert!(visitor.routes().contains("no-replica"), "{}", visitor.routes());
        if cut_off {
            cluster.connect_replica(1, true)
        } else {
            cluster.resume_replay(1)
        }
        wait_until("it has caught up", async || db.status().servers[1].behind == 0).await;
        let back = wait_until("it is back", async || serves(&db, 1)).await;
        assert!(back < Duration::from_secs(1), "{back:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_that_dies_or_hangs_costs_no_request() {
    let Some(cluster) = Postgres::start(2) else { return servers::skip("no PostgreSQL") };
    let db = open(&cluster, "").await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (db, stop) = (db.clone(), stop.clone());
        readers.spawn(async move {
            let mut done = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                read(&db.visitor(None)).await.unwrap();
                done += 1;
            }
            done
        });
    }
    let pause = async |ms| tokio::time::sleep(Duration::from_millis(ms)).await;
    pause(300).await;
    cluster.kill(1);
    pause(300).await;
    cluster.restart(1);
    wait_until("the killed one is back", async || serves(&db, 1)).await;
    cluster.freeze(2);
    wait_until("the hanging one is noticed", async || !serves(&db, 2)).await;
    pause(200).await;
    cluster.thaw(2);
    wait_until("the hanging one is back", async || serves(&db, 2)).await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut done = 0;
    while let Some(count) = readers.join_next().await {
        done += count.unwrap();
    }
    assert!(done > 100, "{done} reads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_a_primary_the_site_reads_and_a_promoted_one_is_found() {
    let Some(cluster) = Postgres::start(2) else { return servers::skip("no PostgreSQL") };
    let db = open(&cluster, "").await;
    write(&db, 1).await.unwrap();
    let token = db.visitor(None);
    write(&token, 2).await.unwrap();
    let token = token.token().await;
    wait_until("both replicas have it", async || {
        let mut by = std::collections::HashSet::new();
        for _ in 0..20 {
            let visitor = db.visitor(token);
            assert_eq!(read(&visitor).await.unwrap(), 2);
            by.insert(visitor.routes());
        }
        by.len() == 2 && by.iter().all(|routes| routes.contains("fresh"))
    })
    .await;
    cluster.kill(0);
    let noticed = wait_until("it is noticed", async || db.is_read_only()).await;
    assert!(noticed < Duration::from_secs(1), "{noticed:?}");
    for _ in 0..50 {
        assert_eq!(read(&db.visitor(token)).await.unwrap(), 2, "replicas that have seen it serve");
    }
    let refused = write(&db.visitor(None), 3).await.unwrap_err();
    assert!(is_read_only(&refused), "{refused}");
    assert_eq!(kind(&refused), Kind::Retry);
    assert!(is_read_only(&db.begin().await.unwrap_err()));

    cluster.promote(1);
    let found = wait_until("the new primary is found", async || !db.is_read_only()).await;
    assert!(found < Duration::from_secs(2), "{found:?}");
    write(&db, 3).await.unwrap();
    let visitor = db.visitor(token);
    assert_eq!(
        read(&visitor).await.unwrap(),
        3,
        "a token of the old timeline leads to the primary"
    );

    cluster.restart(0); // The old primary comes back and knows nothing of all this.
    wait_until("it is seen", async || db.status().servers[0].role == "rival").await;
    write(&db, 4).await.unwrap();
    assert_eq!(read(&db.primary()).await.unwrap(), 4);
    assert_eq!(db.status().servers[1].role, "primary");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reports_and_visitors_never_meet() {
    let Some(cluster) = Postgres::start(2) else { return servers::skip("no PostgreSQL") };
    let reporting = format!("?reporting=127.0.0.1:{}", cluster.servers[2].port);
    let db = Db::open(&cluster.url_of(&[0, 1], &reporting)).await.unwrap();
    make_table(&db).await;
    wait_until("the report has the table", async || read(&db.reporting()).await.is_ok()).await;
    let before = db.status().servers[2].reads;
    for _ in 0..20 {
        read(&db.visitor(None)).await.unwrap();
        read(&db.reporting()).await.unwrap();
    }
    let status = db.status();
    assert_eq!(status.servers[2].role, "reporting");
    assert_eq!(status.servers[2].reads, before + 20);
    write(&db.reporting(), 1).await.unwrap_err();
    cluster.kill(2);
    wait_until("it is gone", async || db.status().servers[2].role == "gone").await;
    read(&db.reporting()).await.expect_err("a report does not go to the visitors' servers");
    read(&db.visitor(None)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_stands_in_the_way_of_connecting_is_named() {
    let Some(cluster) = Postgres::start(0) else { return servers::skip("no PostgreSQL") };
    let check = async |url: String, wanted: &str| {
        let error = Db::open(&url).await.unwrap_err();
        let text = format!("{error}: {:?}", std::error::Error::source(&error));
        assert!(text.contains(wanted), "{url}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
    };
    let port = cluster.servers[0].port;
    check("postgres://u:hunter2@127.0.0.1:1/site".into(), "refused").await;
    check(format!("postgres://nobody:hunter2@127.0.0.1:{port}/site"), "does not exist").await;
    check(format!("postgres://postgres@127.0.0.1:{port}/nothing"), "does not exist").await;
    check(format!("postgres://postgres@127.0.0.1:{port}"), "must name a database").await;
    check(format!("postgres://postgres@127.0.0.1:{port}/site?tls=maybe"), "`disable`").await;
    check("postgres:///site".into(), "needs a host").await;

    // A server of another cluster, which is a primary too, is left alone.
    let other = Postgres::start(0).unwrap();
    let url =
        format!("postgres://postgres@127.0.0.1:{port},127.0.0.1:{}/site", other.servers[0].port);
    let db = Db::open(&url).await.unwrap();
    make_table(&db).await;
    for v in 0..20 {
        write(&db, v).await.unwrap();
        assert_eq!(read(&db).await.unwrap(), v);
    }
    let roles: Vec<_> = db.status().servers.iter().map(|server| server.role).collect();
    assert_eq!(roles.iter().filter(|role| **role == "primary").count(), 1);
    assert_eq!(roles.iter().filter(|role| **role == "gone").count(), 1);
}
