//! What a request has read it reads again.

use throng_cache::Error;

use super::*;

#[tokio::test]
async fn a_request_reads_the_same_until_it_ends_and_its_own_writes_at_once() {
    let (cache, hand) = by_hand();
    let (request, next) = (cache.keep(), cache.keep());
    let load = |number: u32| move || async move { Ok::<_, Error>(number) };
    assert_eq!(request.fetch("k", MINUTE, load(1)).await.unwrap(), 1);
    next.set("k", &2_u32, MINUTE).await.unwrap();
    assert_eq!(request.get::<u32>("k").await.unwrap(), Some(1));
    let clone = request.clone();
    assert_eq!(clone.fetch("k", MINUTE, load(9)).await.unwrap(), 1, "its parts share it");
    assert_eq!(cache.get::<u32>("k").await.unwrap(), Some(2), "and nobody else");
    assert_eq!(request.unkept().get::<u32>("k").await.unwrap(), Some(2));
    request.set("k", &3_u32, MINUTE).await.unwrap();
    assert_eq!(clone.get::<u32>("k").await.unwrap(), Some(3), "what it writes it reads");
    request.delete("k").await.unwrap();
    assert_eq!(clone.get::<u32>("k").await.unwrap(), None);
    next.set("k", &4_u32, MINUTE).await.unwrap();
    assert_eq!(request.get::<u32>("k").await.unwrap(), Some(4), "what it deleted it asks for");
    next.set("k", &5_u32, MINUTE).await.unwrap();
    hand.advance(Duration::from_secs(5));
    assert_eq!(request.get::<u32>("k").await.unwrap(), Some(5), "for ever is not a request");
}

#[tokio::test]
async fn a_request_asks_the_engine_once_for_a_key() {
    let (clock, _hand) = Clock::manual(START_MS);
    let engine = Memory::new(1 << 20, clock.clone());
    let cache = Config { near_ms: 0, clock, ..Config::default() }.with_engine(engine);
    cache.set("k", &1_u32, MINUTE).await.unwrap();
    let request = cache.keep();
    let misses = |cache: &Cache| cache.stats().misses;
    let before = misses(&cache);
    for _ in 0..10 {
        assert_eq!(request.get::<u32>("k").await.unwrap(), Some(1));
        assert_eq!(request.get_many::<u32>(["k"]).await.unwrap()["k"], 1);
    }
    assert_eq!(misses(&cache) - before, 1);
}

#[tokio::test]
async fn a_request_keeps_a_thousand_values_at_most() {
    let (cache, _hand) = by_hand();
    let request = cache.keep();
    for number in 0..1_500 {
        request.set(format!("k{number}"), &1, MINUTE).await.unwrap();
    }
    for number in 0..1_500 {
        cache.set(format!("k{number}"), &2, MINUTE).await.unwrap();
    }
    let mut kept = 0;
    for number in 0..1_500 {
        kept += u32::from(request.get::<i32>(format!("k{number}")).await.unwrap() == Some(1));
    }
    assert_eq!(kept, 1_000);
}
