//! `fetch`: how often it loads, who waits, and what failures leave behind.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use throng_cache::{Error, Life};
use tokio::sync::{Notify, Semaphore};

use super::*;

/// A loader whose every step the test decides.
#[derive(Clone, Default)]
struct Source {
    loads: Arc<AtomicU32>,
    began: Arc<Notify>,
    gate: Option<Arc<Semaphore>>,
    is_down: Arc<std::sync::atomic::AtomicBool>,
}

#[derive(Debug, PartialEq)]
struct Down(u16);

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the source is down")
    }
}

impl Source {
    /// One whose loads wait until they are let through.
    fn gated() -> Self {
        Self { gate: Some(Arc::new(Semaphore::new(0))), ..Self::default() }
    }

    fn let_through(&self) {
        self.gate.as_ref().expect("the source is gated").add_permits(1);
    }

    fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::SeqCst);
    }

    fn loads(&self) -> u32 {
        self.loads.load(Ordering::SeqCst)
    }

    /// Loads the number of this load.
    async fn load(self) -> Result<u32, Down> {
        let number = self.loads.fetch_add(1, Ordering::SeqCst) + 1;
        self.began.notify_one();
        if let Some(gate) = &self.gate {
            gate.acquire().await.expect("the gate is never closed").forget();
        }
        if self.is_down.load(Ordering::SeqCst) { Err(Down(503)) } else { Ok(number) }
    }

    async fn fetch(&self, cache: &Cache, life: impl Into<Life>) -> Result<u32, Error> {
        let source = self.clone();
        cache.fetch("k", life, move || source.load()).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_thousand_readers_one_loads_and_all_have_the_value() {
    let (cache, source) = (Cache::memory(), Source::gated());
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let (cache, source) = (cache.clone(), source.clone());
        readers.spawn(async move { source.fetch(&cache, MINUTE).await.unwrap() });
    }
    source.began.notified().await;
    source.let_through();
    assert!(readers.join_all().await.into_iter().all(|value| value == 1));
    assert_eq!(source.loads(), 1);
}

#[tokio::test]
async fn a_stale_value_is_served_at_once_while_one_load_brings_a_newer() {
    let (cache, hand) = by_hand();
    let source = Source::gated();
    source.let_through();
    assert_eq!(source.fetch(&cache, MINUTE).await.unwrap(), 1);
    hand.advance(MINUTE);
    for _ in 0..1_000 {
        assert_eq!(source.fetch(&cache, MINUTE).await.unwrap(), 1);
    }
    source.let_through();
    cache.settle().await;
    assert_eq!(source.fetch(&cache, MINUTE).await.unwrap(), 2);
    assert_eq!((source.loads(), cache.stats().stale), (2, 1_000));
}

#[tokio::test]
async fn two_hundred_expiries_cost_two_hundred_loads() {
    let (cache, hand) = by_hand();
    let source = Source::default();
    for expiry in 1..=200 {
        for _ in 0..20 {
            source.fetch(&cache, MINUTE).await.unwrap();
        }
        cache.settle().await;
        assert_eq!(source.loads(), expiry);
        hand.advance(MINUTE);
    }
}

#[tokio::test]
async fn past_its_grace_a_value_is_waited_for() {
    let (cache, hand) = by_hand();
    let source = Source::default();
    let life = || Life::of(MINUTE).grace(Duration::from_secs(5));
    assert_eq!(source.fetch(&cache, life()).await.unwrap(), 1);
    hand.advance(MINUTE + Duration::from_secs(5));
    assert_eq!(source.fetch(&cache, life()).await.unwrap(), 2);
}

#[tokio::test]
async fn a_failure_reaches_all_who_waited_and_is_not_stored() {
    let (cache, _hand) = by_hand();
    let source = Source::gated();
    source.set_down(true);
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (cache, source) = (cache.clone(), source.clone());
            tokio::spawn(async move { source.fetch(&cache, MINUTE).await })
        })
        .collect();
    source.began.notified().await;
    tokio::task::yield_now().await;
    source.let_through();
    for reader in readers {
        let error = reader.await.unwrap().unwrap_err();
        assert_eq!(error.loader_error::<Down>(), Some(&Down(503)));
        assert_eq!(error.to_string(), "cannot load `k` into the cache: the source is down");
    }
    assert_eq!((source.loads(), cache.stats().failures), (1, 1));
    source.set_down(false);
    source.let_through();
    assert_eq!(source.fetch(&cache, MINUTE).await.unwrap(), 2);
}

#[tokio::test]
async fn a_stale_value_outlives_failures_and_is_retried_at_a_measured_pace() {
    let (cache, hand) = by_hand();
    let source = Source::default();
    source.fetch(&cache, MINUTE).await.unwrap();
    source.set_down(true);
    hand.advance(MINUTE);
    for second in 1..=5 {
        for _ in 0..10 {
            assert_eq!(source.fetch(&cache, MINUTE).await.unwrap(), 1);
            cache.settle().await;
        }
        assert_eq!(source.loads(), 1 + second, "one attempt a second");
        hand.advance(Duration::from_secs(1));
    }
    hand.advance(MINUTE);
    assert!(
        source.fetch(&cache, MINUTE).await.is_err(),
        "past its grace there is nothing to serve"
    );
}

#[tokio::test]
async fn with_fail_safe_an_old_value_is_served_when_loading_fails_or_is_slow() {
    let (cache, hand) = by_hand();
    let source = Source::default();
    let life = || Life::of(MINUTE).grace(MINUTE).fail_safe(60 * MINUTE);
    source.fetch(&cache, life()).await.unwrap();
    hand.advance(10 * MINUTE);
    source.set_down(true);
    assert_eq!(source.fetch(&cache, life()).await.unwrap(), 1);
    hand.advance(MINUTE);
    source.set_down(false);
    let slow = Source { gate: Some(Arc::new(Semaphore::new(0))), ..source.clone() };
    let reader = tokio::spawn({
        let cache = cache.clone();
        async move { slow.fetch(&cache, life()).await.unwrap() }
    });
    source.began.notified().await;
    while !reader.is_finished() {
        hand.advance(Duration::from_millis(100));
        tokio::task::yield_now().await;
    }
    assert_eq!(reader.await.unwrap(), 1, "half a second is the most that anyone waits");
}

#[tokio::test]
async fn a_loader_that_hangs_is_stopped_and_the_next_one_may_try() {
    let (cache, hand) = by_hand();
    let source = Source::gated();
    let reader = tokio::spawn({
        let (cache, source) = (cache.clone(), source.clone());
        async move { source.fetch(&cache, MINUTE).await }
    });
    source.began.notified().await;
    hand.advance(Duration::from_secs(30));
    let error = reader.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    source.let_through();
    assert_eq!(source.fetch(&cache, MINUTE).await.unwrap(), 2);
}

#[tokio::test]
async fn a_loader_that_panics_poisons_nothing() {
    let (cache, _hand) = by_hand();
    let load = || async { if true { panic!("in the loader") } else { Ok::<u32, Down>(0) } };
    let error = cache.fetch("k", MINUTE, load).await.unwrap_err();
    assert!(matches!(error, Error::Abandoned { .. }), "{error}");
    assert_eq!(cache.stats().failures, 1);
    assert_eq!(Source::default().fetch(&cache, MINUTE).await.unwrap(), 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_breaks_off_nobody_elses_load() {
    let (cache, _hand) = by_hand();
    let source = Source::gated();
    let gone = tokio::spawn({
        let (cache, source) = (cache.clone(), source.clone());
        async move { source.fetch(&cache, MINUTE).await }
    });
    source.began.notified().await;
    let waiting = tokio::spawn({
        let (cache, source) = (cache.clone(), source.clone());
        async move { source.fetch(&cache, MINUTE).await }
    });
    tokio::task::yield_now().await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    source.let_through();
    assert_eq!(waiting.await.unwrap().unwrap(), 1);
    assert_eq!(source.loads(), 1);
}

#[tokio::test]
async fn a_load_that_was_overtaken_by_a_write_is_not_stored() {
    for deletes in [false, true] {
        let (cache, _hand) = by_hand();
        let source = Source::gated();
        let reader = tokio::spawn({
            let (cache, source) = (cache.clone(), source.clone());
            async move { source.fetch(&cache, MINUTE).await }
        });
        source.began.notified().await;
        if deletes {
            cache.delete("k").await.unwrap();
        } else {
            cache.set("k", &100_u32, MINUTE).await.unwrap();
        }
        source.let_through();
        assert_eq!(
            reader.await.unwrap().unwrap(),
            1,
            "who asked before the write has the old value"
        );
        let stored: Option<u32> = cache.get("k").await.unwrap();
        assert_eq!(stored, if deletes { None } else { Some(100) });
    }
}

#[tokio::test]
async fn a_load_that_began_before_its_tag_was_expired_is_expired() {
    let (cache, _hand) = by_hand();
    let source = Source::gated();
    let reader = tokio::spawn({
        let (cache, source) = (cache.clone(), source.clone());
        async move { source.fetch(&cache, Life::of(MINUTE).tag("event:7")).await }
    });
    source.began.notified().await;
    cache.expire_tag("event:7").await.unwrap();
    source.let_through();
    reader.await.unwrap().unwrap();
    assert_eq!(cache.get::<u32>("k").await.unwrap(), None);
}

#[tokio::test]
async fn an_empty_value_can_live_shorter() {
    let (cache, hand) = by_hand();
    let loads = Arc::new(AtomicU32::new(0));
    let fetch = async || {
        let loads = Arc::clone(&loads);
        let load = move || async move {
            loads.fetch_add(1, Ordering::SeqCst);
            Ok::<Option<u32>, Down>(None)
        };
        let life = Life::of(MINUTE).empty_ttl(Duration::from_secs(2));
        cache.fetch("nobody", life, load).await.unwrap()
    };
    assert_eq!((fetch().await, fetch().await), (None, None));
    assert_eq!(loads.load(Ordering::SeqCst), 1, "nothing is worth caching too");
    hand.advance(Duration::from_secs(2));
    fetch().await;
    assert_eq!(loads.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_busy_key_is_refreshed_before_it_is_stale() {
    let (cache, hand) = by_hand();
    let slow = {
        let hand = hand.clone();
        move |source: Source| {
            let hand = hand.clone();
            move || async move {
                hand.advance(Duration::from_secs(1));
                source.load().await
            }
        }
    };
    let source = Source::default();
    let life = Duration::from_secs(600);
    cache.fetch("k", life, slow(source.clone())).await.unwrap();
    let (mut now_ms, mut loaded_at_ms) = (0, vec![0, 0]);
    for _ in 0..30_000 {
        hand.advance(Duration::from_millis(50));
        now_ms += 50;
        let value = cache.fetch("k", life, slow(source.clone())).await.unwrap();
        let age_ms = now_ms - loaded_at_ms[value as usize];
        assert!(age_ms < 600_000, "a value of {age_ms} ms was served");
        cache.settle().await;
        if source.loads() as usize == loaded_at_ms.len() {
            now_ms += 1_000;
            loaded_at_ms.push(now_ms);
        }
    }
    // 30,000 reads take 1,500 s and the loads a second each: two or three lives of 600 s.
    assert!((3..=5).contains(&source.loads()), "{}", source.loads());
}

#[tokio::test]
async fn dropping_the_last_clone_stops_the_loads() {
    let (cache, _hand) = by_hand();
    let source = Source::gated();
    let reader = tokio::spawn({
        let (cache, source) = (cache.clone(), source.clone());
        async move { source.fetch(&cache, MINUTE).await }
    });
    source.began.notified().await;
    let held = Arc::clone(&source.loads);
    let holders = Arc::strong_count(&held);
    reader.abort();
    let _ = reader.await;
    drop((cache, source));
    while Arc::strong_count(&held) > 1 {
        tokio::task::yield_now().await;
    }
    assert!(holders > 2);
}
