//! Values that are pushed and kept warm: readers never load.

use throng_cache::{Error, Life};

use super::*;

#[tokio::test]
async fn readers_have_the_last_value_that_was_pushed() {
    let (clock, hand) = Clock::manual(START_MS);
    let engine = Memory::new(1 << 20, clock.clone());
    let config = Config { clock, ..Config::default() };
    let alone = config.clone().memory();
    let [one, other] = [config.clone().with_engine(engine.clone()), config.with_engine(engine)];
    for (writer, reader) in [(&alone, &alone), (&one, &other)] {
        assert_eq!(reader.latest::<u32>("k").await.unwrap(), None);
        writer.push("k", &1_u32, MINUTE).await.unwrap();
        assert_eq!(reader.latest::<u32>("k").await.unwrap(), Some(1));
        hand.advance(60 * MINUTE);
        assert_eq!(reader.get::<u32>("k").await.unwrap(), None, "it is an hour late");
        assert_eq!(reader.latest::<u32>("k").await.unwrap(), Some(1), "and better than nothing");
        writer.push("k", &2_u32, MINUTE).await.unwrap();
        hand.advance(Duration::from_secs(2));
        assert_eq!(reader.latest::<u32>("k").await.unwrap(), Some(2));
        hand.advance(24 * 60 * MINUTE + MINUTE);
        assert_eq!(reader.latest::<u32>("k").await.unwrap(), None);
        assert_eq!(reader.stats().loads, 0);
    }
}

#[tokio::test]
async fn a_reader_who_asks_the_engine_keeps_a_copy_for_a_second() {
    let (clock, hand) = Clock::manual(START_MS);
    let engine = Memory::new(1 << 20, clock.clone());
    let config = Config { clock, ..Config::default() };
    let [one, other] = [config.clone().with_engine(engine.clone()), config.with_engine(engine)];
    one.push("k", &1_u32, MINUTE).await.unwrap();
    hand.advance(2 * MINUTE);
    for _ in 0..100 {
        assert_eq!(other.latest::<u32>("k").await.unwrap(), Some(1));
    }
    assert_eq!(other.stats().misses, 1);
}

#[tokio::test]
async fn warming_loads_what_is_there_too_and_its_failure_changes_nothing() {
    let (cache, _hand) = by_hand();
    let load = |number: u32| move || async move { Ok::<_, Error>(number) };
    assert_eq!(cache.warm("k", MINUTE, load(1)).await.unwrap(), 1);
    assert_eq!(cache.warm("k", MINUTE, load(2)).await.unwrap(), 2);
    assert_eq!(cache.get::<u32>("k").await.unwrap(), Some(2));
    let fails = || async { Err::<u32, _>("down") };
    assert!(matches!(cache.warm("k", MINUTE, fails).await, Err(Error::Load { .. })));
    assert_eq!(cache.get::<u32>("k").await.unwrap(), Some(2));
    let older = Life::of(MINUTE).version(1);
    cache.set("k", &3_u32, Life::of(MINUTE).version(2)).await.unwrap();
    assert_eq!(cache.warm("k", older, load(1)).await.unwrap(), 1);
    assert_eq!(cache.get::<u32>("k").await.unwrap(), Some(3), "an older value is not stored");
}
