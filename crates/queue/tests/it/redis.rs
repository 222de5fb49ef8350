//! A Redis server for tests, in which each test has keys of its own.

use throng_core::{Clock, EngineUrl};
use throng_queue::{TaskId, engine::redis::Redis};

/// The server that the test runner started; without one the test says that it is skipped.
pub(crate) fn url() -> Option<String> {
    let url = std::env::var("THRONG_TEST_REDIS_URL").ok();
    if url.is_none() {
        println!("skip: THRONG_TEST_REDIS_URL is not set");
    }
    url
}

/// The engine under a prefix that no other test has.
pub(crate) async fn open(url: &str, clock: &Clock) -> Redis {
    let prefix = TaskId::random();
    let url = EngineUrl::parse(&format!("{url}?prefix={prefix}.")).unwrap();
    Redis::open(&url, clock.clone()).await.unwrap()
}
