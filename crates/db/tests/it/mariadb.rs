//! The MariaDB engine on a real primary with a replica.

use std::{error::Error, time::Duration};

use sea_orm::{ActiveModelTrait, ConnectionTrait, EntityTrait, Set};
use throng_core::{Clock, EngineUrl};
use throng_db::{Config, Db, Migration, Schema, conformance};

use crate::{
    postgres::{make_table, read, settle, wait_until, write},
    servers::{self, mariadb::MariaDb},
};

async fn open(cluster: &MariaDb, options: &str) -> Db {
    let db = Db::open(&cluster.url(options)).await.unwrap();
    make_table(&db).await;
    settle(&db).await;
    db
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_conforms_on_a_primary_with_a_replica() {
    let Some(cluster) = MariaDb::start(1) else { return servers::skip("no MariaDB") };
    let db = Db::open(&cluster.url("")).await.unwrap();
    conformance::exercise(&db).await;
    conformance::exercise(&db.visitor(None)).await;
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_visitor_never_misses_what_he_has_written() {
    let Some(cluster) = MariaDb::start(1) else { return servers::skip("no MariaDB") };
    let db = open(&cluster, "?max_lag=5m").await;
    cluster.pause_replay(1);
    let writes = db.visitor(None);
    write(&writes, 7).await.unwrap();
    let token = writes.token().await;
    let next = db.visitor(token);
    assert_eq!(read(&next).await.unwrap(), 7, "in his next request");
    assert!(next.routes().contains("behind 1"), "{}", next.routes());
    assert_eq!(read(&db.visitor(None)).await.unwrap(), 0, "a stranger reads from the replica");
    cluster.resume_replay(1);
    wait_until("the replica serves him again", async || {
        let later = db.visitor(token);
        assert_eq!(read(&later).await.unwrap(), 7);
        later.routes().contains("fresh")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_that_lags_serves_nobody_until_it_has_caught_up() {
    let Some(cluster) = MariaDb::start(1) else { return servers::skip("no MariaDB") };
    let db = open(&cluster, "?max_lag=1s").await;
    cluster.pause_replay(1);
    let mut v = 10;
    let away = wait_until("it is sent away", async || {
        v += 1;
        write(&db.primary(), v).await.unwrap();
        !db.status().servers[1].serves_reads
    })
    .await;
    assert!(away < Duration::from_millis(1_800), "1 s of lag and 0.5 s to notice: {away:?}");
    assert_eq!(read(&db.visitor(None)).await.unwrap(), v, "the primary serves everybody");
    cluster.resume_replay(1);
    wait_until("it has caught up", async || db.status().servers[1].behind == 0).await;
    let back = wait_until("it is back", async || db.status().servers[1].serves_reads).await;
    assert!(back < Duration::from_secs(1), "{back:?}");
}

/// Two replication domains have no common order, so there are no positions: the clock must do.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_positions_who_writes_stays_on_the_primary_for_twice_the_lag() {
    let Some(cluster) = MariaDb::start(1) else { return servers::skip("no MariaDB") };
    let url = EngineUrl::parse(&cluster.url("?max_lag=5m")).unwrap();
    let (clock, hand) = Clock::manual(1_800_000_000_000);
    let db = Db::open_with(&url, Config { clock, ..Config::default() }).await.unwrap();
    make_table(&db).await;
    cluster.sql(0, "SET gtid_domain_id = 7; CREATE TABLE site.of_another_domain (id int)");
    wait_until("nobody has a position", async || {
        db.status().servers.iter().all(|server| server.position.is_none())
    })
    .await;
    let on_replica = async || {
        let stranger = db.visitor(None);
        read(&stranger).await.is_ok() && stranger.routes().contains("fresh")
    };
    wait_until("the replica serves", on_replica).await;
    cluster.pause_replay(1);

    let writes = db.visitor(None);
    write(&writes, 7).await.unwrap();
    let token = writes.token().await.unwrap();
    assert!(token.to_string().starts_with("c."), "{token}");
    hand.advance(Duration::from_secs(10 * 60 - 1));
    let next = db.visitor([token]);
    assert_eq!(read(&next).await.unwrap(), 7);
    assert!(next.routes().ends_with(" pinned 1"), "{}", next.routes());
    assert_eq!(read(&db.visitor(None)).await.unwrap(), 0, "a stranger reads from the replica");
    cluster.resume_replay(1);
    hand.advance(Duration::from_secs(2));
    wait_until("the replica serves him again", async || {
        let later = db.visitor([token]);
        read(&later).await.unwrap() == 7 && later.routes().contains("fresh")
    })
    .await;
    db.close().await;
}

#[expect(unused_qualifications, unreachable_pub, reason = "SeaORM's macro wants them")]
mod seat {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "seat")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub name: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_entity_that_is_inserted_comes_back_with_its_id() {
    let Some(cluster) = MariaDb::start(0) else { return servers::skip("no MariaDB") };
    let db = Db::open(&cluster.url("")).await.unwrap();
    let create = "CREATE TABLE seat (id bigint PRIMARY KEY AUTO_INCREMENT, name text NOT NULL)";
    db.execute_unprepared(create).await.unwrap();
    let new = seat::ActiveModel { name: Set("F7".to_owned()), ..Default::default() };
    let seat = new.insert(&db).await.unwrap();
    assert_eq!(seat::Entity::find_by_id(seat.id).one(&db).await.unwrap(), Some(seat));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_replica_that_has_the_most_is_promoted_and_the_other_follows_it() {
    let Some(mut cluster) = MariaDb::start(2) else { return servers::skip("no MariaDB") };
    let db = open(&cluster, "").await;
    let url = EngineUrl::parse(&cluster.url("")).unwrap();
    let refused = throng_db::promote(&url).await.unwrap_err();
    let reason = refused.source().unwrap().to_string();
    assert!(reason.contains("is the primary and answers"), "{reason}");

    // One does not even receive the last write, the other has received it and not applied it.
    cluster.sql(1, "STOP SLAVE");
    cluster.pause_replay(2);
    write(&db, 7).await.unwrap();
    wait_until("the last write has been received", async || {
        let position = cluster.sql(0, "SELECT @@gtid_binlog_pos").trim().to_owned();
        cluster.sql(2, "SHOW SLAVE STATUS\\G").contains(&position)
    })
    .await;
    cluster.kill(0);
    let promoted = throng_db::promote(&url).await.unwrap();
    let name = |at: usize| format!("127.0.0.1:{}", cluster.servers[at].port);
    assert_eq!(promoted.name, name(2), "{promoted:?}");
    assert_eq!(promoted.followers, [name(1)], "{promoted:?}");
    wait_until("the site has found it", async || write(&db, 8).await.is_ok()).await;
    assert_eq!(read(&db.primary()).await.unwrap(), 8);
    wait_until("the other has what was acknowledged before and after", async || {
        cluster.sql(1, "SELECT v FROM site.r WHERE id = 1").trim() == "8"
    })
    .await;
    db.close().await;
}

/// The table that each of many migrates to, over a pool that has one connection.
const ONE: Migration = Migration::new("m_0001_one", |schema: &mut Schema| {
    schema.sql(schema.backend(), "CREATE TABLE one (a int)");
});

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_who_migrate_at_once_do_with_one_connection() {
    let Some(cluster) = MariaDb::start(0) else { return servers::skip("no MariaDB") };
    let db = Db::open(&cluster.url("?connections=1")).await.unwrap();
    let all = (0..6).map(|_| db.migrate(&[&[ONE]]));
    let applied = futures_util::future::try_join_all(all).await.unwrap();
    assert_eq!(applied.iter().map(|applied| applied.names.len()).sum::<usize>(), 1);
}
