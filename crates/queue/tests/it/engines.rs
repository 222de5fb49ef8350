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
    // On one node: two have no order between them, and neither has what went another way because a
    // busy machine confirmed it late.
    let url = crate::rabbitmq::first(&url, "max_priority=10&confirm=4s");
    let engine = crate::rabbitmq::open(&url, &site).await;
    conformance::exercise(engine, &site.hand, || site.clock.now_ms()).await;
}

/// Pauses a queue through one opening of the engine and looks through another.
async fn check_pause(url: &str, site: &Site) {
    let name = throng_queue::TaskId::random().to_string();
    let open = || throng_queue::Queue::open(url, site.db.clone(), site.clock.clone());
    let first = open().await.unwrap();
    first.pause(&name).await.unwrap();
    drop(first);
    let second = open().await.unwrap();
    assert!(second.paused().await.unwrap().contains(&name), "{url}");
    second.resume(&name).await.unwrap();
    assert!(!open().await.unwrap().paused().await.unwrap().contains(&name), "{url}");
}

#[tokio::test]
async fn a_queue_stays_paused_over_a_restart() {
    let site = Site::new().await;
    check_pause("database:", &site).await;
    #[cfg(feature = "redis")]
    if let Some(url) = crate::redis::url() {
        check_pause(&url, &site).await;
    }
    #[cfg(feature = "rabbitmq")]
    if let Some(url) = crate::rabbitmq::url() {
        check_pause(&url, &site).await;
    }
}
