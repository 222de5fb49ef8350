//! Which keys are hot, and how each kind fares.

use throng_cache::Error;

use super::*;

#[tokio::test]
async fn the_hottest_keys_are_named_first_in_bounded_memory() {
    let (cache, hand) = by_hand();
    for key in ["front", "event:1", "event:2"] {
        cache.set(key, &1, 60 * MINUTE).await.unwrap();
    }
    // Reads that come in turn, so that a sample at equal distances would see one of them only.
    for round in 0..16_384_u32 {
        for _ in 0..2 {
            cache.get::<i32>("front").await.unwrap();
        }
        cache.get::<i32>("event:1").await.unwrap();
        cache.get::<i32>(format!("event:{round}.once")).await.unwrap();
    }
    let hot = cache.hot_keys();
    assert!(hot.len() <= 100);
    assert_eq!((&*hot[0].key, &*hot[1].key), ("front", "event:1"), "{:?}", &hot[..3]);
    let is_about = |reads: u64, truth: u64| reads.abs_diff(truth) < truth / 2;
    assert!(is_about(hot[0].reads, 32_768) && is_about(hot[1].reads, 16_384), "{:?}", &hot[..2]);
    let before = hot[0].reads;
    hand.advance(MINUTE);
    assert_eq!(cache.hot_keys()[0].reads, before / 2, "a minute ago counts half");
    hand.advance(60 * MINUTE);
    assert!(cache.hot_keys().is_empty());
}

#[tokio::test]
async fn keys_that_begin_alike_are_counted_together() {
    let (cache, _hand) = by_hand();
    for number in 0..5_000 {
        let load = || async { Ok::<_, Error>(1) };
        cache.fetch(format!("event:{number}"), MINUTE, load).await.unwrap();
        cache.get::<i32>("event:0").await.unwrap();
    }
    let fails = || async { Err::<i32, _>("down") };
    cache.fetch("page/front", MINUTE, fails).await.unwrap_err();
    for number in 0..200 {
        cache.get::<i32>(format!("kind{number}:x")).await.unwrap();
        let load = || async { Ok::<_, Error>(1) };
        cache.fetch(format!("kind{number}:x"), MINUTE, load).await.unwrap();
    }
    let prefixes = cache.prefixes();
    assert!(prefixes.len() <= 65, "{}", prefixes.len());
    let event = &prefixes[0];
    assert_eq!((&*event.prefix, event.loads, event.failures), ("event", 5_000, 0));
    assert!(
        event.hits.abs_diff(5_000) < 2_500 && event.misses.abs_diff(5_000) < 2_500,
        "{event:?}"
    );
    let page = prefixes.iter().find(|stats| stats.prefix == "page").unwrap();
    assert_eq!((page.loads, page.failures), (0, 1));
    let rest = prefixes.iter().find(|stats| stats.prefix.is_empty()).unwrap();
    assert!(rest.loads > 100, "what has no place of its own is counted together: {rest:?}");
}
