//! Every engine passes the one suite.

#[cfg(feature = "redis")]
use throng_core::Clock;
use throng_queue::{conformance, engine::database::Database};

#[cfg(feature = "redis")]
use crate::site::START_MS;
use crate::site::Site;

#[tokio::test]
async fn the_database_engine_conforms() {
    let site = Site::new().await;
    let engine = Database::new(site.db.clone(), site.clock.clone());
    conformance::exercise(engine, &site.hand, || site.clock.now_ms()).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn the_redis_engine_conforms() {
    let Some(url) = crate::redis::url() else { return };
    let (clock, hand) = Clock::manual(START_MS);
    let engine = crate::redis::open(&url, &clock).await;
    conformance::exercise(engine, &hand, || clock.now_ms()).await;
}
