//! Every engine passes the one suite.

#[cfg(any(feature = "redis", feature = "rabbitmq", feature = "postgres", feature = "mysql"))]
use throng_core::Clock;
#[cfg(any(feature = "postgres", feature = "mysql"))]
use throng_queue::MIGRATIONS;
use throng_queue::{conformance, engine::database::Database};

#[cfg(any(feature = "redis", feature = "rabbitmq", feature = "postgres", feature = "mysql"))]
use crate::site::START_MS;
use crate::site::Site;

#[tokio::test]
async fn the_database_engine_conforms() {
    let site = Site::new().await;
    let engine = Database::new(site.db.clone(), site.clock.clone());
    conformance::exercise(engine, &site.hand, || site.clock.now_ms()).await;
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn check(url: String) {
    let db = throng_db::Db::open(&url).await.unwrap();
    let _ = db.migrate(&[MIGRATIONS]).await.unwrap();
    let (clock, hand) = Clock::manual(START_MS);
    let engine = Database::new(db.clone(), clock.clone());
    conformance::exercise(engine, &hand, || clock.now_ms()).await;
    db.close().await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn the_database_engine_conforms_on_postgres() {
    let Ok(url) = std::env::var("THRONG_TEST_POSTGRES_URL") else {
        println!("skip: THRONG_TEST_POSTGRES_URL is not set");
        return;
    };
    check(url).await;
}

#[cfg(feature = "mysql")]
#[tokio::test]
async fn the_database_engine_conforms_on_mariadb() {
    let Ok(url) = std::env::var("THRONG_TEST_MARIADB_URL") else {
        println!("skip: THRONG_TEST_MARIADB_URL is not set");
        return;
    };
    check(url).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn the_redis_engine_conforms() {
    let Some(url) = crate::redis::url() else { return };
    let (clock, hand) = Clock::manual(START_MS);
    let engine = crate::redis::open(&url, &clock).await;
    conformance::exercise(engine, &hand, || clock.now_ms()).await;
}

#[cfg(feature = "rabbitmq")]
#[tokio::test]
async fn the_rabbitmq_engine_conforms() {
    let Some(url) = crate::rabbitmq::url() else { return };
    let site = Site::new().await;
    // On one node: two have no order between them.
    let url = crate::rabbitmq::first(&url, "max_priority=10");
    let engine = crate::rabbitmq::open(&url, &site).await;
    conformance::exercise(engine, &site.hand, || site.clock.now_ms()).await;
}
