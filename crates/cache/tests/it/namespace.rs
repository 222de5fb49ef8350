//! Namespaces: forgotten together, whatever is in them.

use throng_cache::Error;

use super::*;

/// The memory cache alone, and two processes on one engine.
fn caches() -> Vec<(Cache, Cache)> {
    let (clock, _) = Clock::manual(START_MS);
    let config = Config { near_ms: 0, clock: clock.clone(), ..Config::default() };
    let alone = config.clone().memory();
    let engine = Memory::new(1 << 20, clock);
    let [one, other] = [config.clone().with_engine(engine.clone()), config.with_engine(engine)];
    vec![(alone.clone(), alone), (one, other)]
}

#[tokio::test]
async fn a_namespace_is_forgotten_as_a_whole_by_all() {
    for (one, other) in caches() {
        let (ours, theirs) = (one.namespace("org:7"), other.namespace("org:7"));
        ours.set("a", &1, MINUTE).await.unwrap();
        ours.set_count("sold", 40, MINUTE).await.unwrap();
        one.namespace("org:8").set("a", &8, MINUTE).await.unwrap();
        one.set("a", &0, MINUTE).await.unwrap();
        assert_eq!(theirs.get::<i32>("a").await.unwrap(), Some(1));
        assert_eq!(theirs.add("sold", 2).await.unwrap(), Some(42));
        other.expire_namespace("org:7").await.unwrap();
        for cache in [&ours, &theirs] {
            assert_eq!(cache.get::<i32>("a").await.unwrap(), None);
            assert_eq!(cache.count("sold").await.unwrap(), None);
        }
        assert_eq!(one.namespace("org:8").get::<i32>("a").await.unwrap(), Some(8));
        assert_eq!(one.get::<i32>("a").await.unwrap(), Some(0));
        let load = || async { Ok::<_, Error>(2) };
        assert_eq!(ours.fetch("a", MINUTE, load).await.unwrap(), 2);
        assert_eq!(theirs.get::<i32>("a").await.unwrap(), Some(2));
    }
}

#[tokio::test]
async fn an_inner_namespace_goes_with_the_outer_one_and_by_itself() {
    for (cache, _) in caches() {
        let (outer, inner) = (cache.namespace("site"), cache.namespace("site").namespace("org"));
        for handle in [&outer, &inner] {
            handle.set("k", &1, MINUTE).await.unwrap();
        }
        outer.expire_namespace("org").await.unwrap();
        assert_eq!(inner.get::<i32>("k").await.unwrap(), None);
        assert_eq!(outer.get::<i32>("k").await.unwrap(), Some(1));
        inner.set("k", &2, MINUTE).await.unwrap();
        cache.expire_namespace("site").await.unwrap();
        assert_eq!(inner.get::<i32>("k").await.unwrap(), None);
        assert_eq!(outer.get::<i32>("k").await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_process_that_hears_of_it_forgets_at_once() {
    let (clock, _hand) = Clock::manual(START_MS);
    let engine = Memory::new(1 << 20, clock.clone());
    let config = Config { clock, ..Config::default() };
    let [one, other] = [config.clone().with_engine(engine.clone()), config.with_engine(engine)];
    let mut changes = one.changes();
    other.namespace("n").set("k", &1, MINUTE).await.unwrap();
    one.expire_namespace("n").await.unwrap();
    assert_eq!(other.namespace("n").get::<i32>("k").await.unwrap(), Some(1), "for a second");
    other.hear(&changes.next().await.unwrap());
    assert_eq!(other.namespace("n").get::<i32>("k").await.unwrap(), None);
}

#[tokio::test]
async fn no_number_of_namespaces_brings_back_what_was_forgotten() {
    let (cache, _hand) = by_hand();
    cache.namespace("n").set("k", &1, MINUTE).await.unwrap();
    cache.expire_namespace("n").await.unwrap();
    for number in 0..25_000 {
        let other = cache.namespace(format!("other{number}"));
        assert_eq!(other.get::<i32>("k").await.unwrap(), None);
    }
    assert_eq!(cache.namespace("n").get::<i32>("k").await.unwrap(), None);
}
