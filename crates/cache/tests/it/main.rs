//! The cache through the public door: one load for each expiry, and what happens when loading fails.

mod fetch;
mod fleet;
mod keep;
mod left;
mod many;
mod memcached;
mod namespace;
mod old;
mod plain;
#[path = "../../../core/tests/it/python.rs"]
mod process;
mod python;
mod race;
mod reads;
#[cfg(feature = "redis")]
mod redis;
mod relay;
mod servers;
mod stay;
mod storm;
mod turns;
mod warm;

use std::time::Duration;

use throng_cache::{Cache, Config, Memory, conformance};
use throng_core::{Clock, Hand};

#[tokio::test]
async fn the_memory_engine_conforms() {
    let (clock, hand) = Clock::manual(START_MS);
    let engine = Memory::new(64 << 20, clock.clone());
    let config = Config { clock, ..Config::default() };
    let pass = async |time| hand.advance(time);
    conformance::exercise(engine, config, "t", pass).await.unwrap();
}

fn by_hand() -> (Cache, Hand) {
    configured(Config::default())
}

fn configured(config: Config) -> (Cache, Hand) {
    let (clock, hand) = Clock::manual(START_MS);
    (Config { clock, ..config }.memory(), hand)
}

const START_MS: i64 = 1_700_000_000_000;
const MINUTE: Duration = Duration::from_secs(60);
