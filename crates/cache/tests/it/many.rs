//! Many keys at once: one load for all that are missing, and every key as if fetched alone.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use throng_cache::{Engine as _, Error, Life, engine::Claim};

use super::*;

/// Remembers which keys it was asked to load.
#[derive(Clone, Default)]
struct Source {
    asked: Arc<Mutex<Vec<Vec<String>>>>,
    is_down: Arc<AtomicBool>,
}

impl Source {
    async fn fetch<const N: usize>(
        &self,
        cache: &Cache,
        keys: [&str; N],
        life: impl Into<Life>,
    ) -> Result<Vec<Option<String>>, Error> {
        let source = self.clone();
        let load = move |missing: Vec<String>| {
            let source = source.clone();
            async move {
                source.asked.lock().expect("no test panics holding it").push(missing.clone());
                // Whoever waits may read what there is meanwhile.
                tokio::task::yield_now().await;
                if source.is_down.load(Ordering::SeqCst) {
                    return Err("the source is down");
                }
                // There is nothing under keys that begin with `no`.
                let some = missing.into_iter().filter(|key| !key.starts_with("no"));
                Ok(some.map(|key| (key.clone(), format!("<{key}>"))).collect::<HashMap<_, _>>())
            }
        };
        let mut found = cache.fetch_many(keys, life, load).await?;
        Ok(keys.map(|key| found.remove(key)).into())
    }

    fn asked(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut self.asked.lock().expect("no test panics holding it"))
    }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Two processes on one engine, and the engine.
fn two_processes() -> (Cache, Cache, Memory, Hand) {
    let (clock, hand) = Clock::manual(START_MS);
    let engine = Memory::new(64 << 20, clock.clone());
    // The hand may be far ahead of threads that a busy machine does not run.
    let config = Config { clock, load_timeout_ms: 3_600_000, ..Config::default() };
    let cache = config.clone().with_engine(engine.clone());
    (cache, config.with_engine(engine.clone()), engine, hand)
}

#[tokio::test]
async fn what_is_missing_is_loaded_at_once_and_only_that() {
    let (one, _other, _engine, _hand) = two_processes();
    for cache in [Cache::memory(), one] {
        let source = Source::default();
        cache.set("b", &"set".to_owned(), MINUTE).await.unwrap();
        let found = source.fetch(&cache, ["a", "b", "c", "a"], MINUTE).await.unwrap();
        assert_eq!(found[..3], [some("<a>"), some("set"), some("<c>")]);
        assert_eq!(source.asked(), [["a", "c"]]);
        assert_eq!(source.fetch(&cache, ["c", "b", "a"], MINUTE).await.unwrap()[0], some("<c>"));
        assert!(source.asked().is_empty());
        assert_eq!(cache.get::<String>("a").await.unwrap(), some("<a>"));
        let many: HashMap<String, String> = cache.get_many(["a", "x", "b"]).await.unwrap();
        assert_eq!((many.len(), &*many["a"], &*many["b"]), (2, "<a>", "set"));
    }
}

#[tokio::test]
async fn another_process_finds_what_one_has_loaded() {
    let (one, other, _engine, _hand) = two_processes();
    let source = Source::default();
    source.fetch(&one, ["a", "b"], MINUTE).await.unwrap();
    let found = source.fetch(&other, ["a", "b", "c"], MINUTE).await.unwrap();
    assert_eq!(found, [some("<a>"), some("<b>"), some("<c>")]);
    assert_eq!(source.asked(), [vec!["a", "b"], vec!["c"]]);
}

#[tokio::test]
async fn stale_values_are_served_while_one_load_brings_newer_ones() {
    let (one, other, _engine, hand) = two_processes();
    for cache in [&one, &other] {
        let source = Source::default();
        for key in ["a", "b"] {
            cache.set(key, &"old".to_owned(), MINUTE).await.unwrap();
        }
        hand.advance(MINUTE + Duration::from_secs(1));
        cache.forget();
        let found = source.fetch(cache, ["a", "b"], MINUTE).await.unwrap();
        assert_eq!(found, [some("old"), some("old")]);
        cache.settle().await;
        assert_eq!(source.asked(), [["a", "b"]]);
        assert_eq!(source.fetch(cache, ["a"], MINUTE).await.unwrap(), [some("<a>")]);
    }
}

#[tokio::test]
async fn what_is_not_there_is_remembered_only_if_it_may_be() {
    let (one, _other, engine, _hand) = two_processes();
    for cache in [Cache::memory(), one] {
        let source = Source::default();
        for _ in 0..2 {
            let found = source.fetch(&cache, ["no1", "a"], MINUTE).await.unwrap();
            assert_eq!(found, [None, some("<a>")]);
        }
        assert_eq!(source.asked(), [vec!["no1", "a"], vec!["no1"]]);
        let life = || Life::of(MINUTE).empty_ttl(Duration::from_secs(5));
        for _ in 0..2 {
            assert_eq!(source.fetch(&cache, ["no2"], life()).await.unwrap(), [None]);
        }
        assert_eq!(source.asked(), [["no2"]]);
        assert_eq!(cache.get::<String>("no2").await.unwrap(), None);
        assert_eq!(cache.get::<Option<String>>("no2").await.unwrap(), Some(None));
        // Whoever asks for it alone loads it.
        let load = || async { Ok::<_, Error>("there".to_owned()) };
        assert_eq!(cache.fetch("no2", life(), load).await.unwrap(), "there");
        assert_eq!(source.fetch(&cache, ["no2"], life()).await.unwrap(), [some("there")]);
    }
    assert!(engine.get(&["no1"]).await.unwrap()[0].is_none());
}

#[tokio::test]
async fn a_failure_is_everybodys_and_what_is_kept_is_served() {
    let (cache, hand) = by_hand();
    let source = Source::default();
    let life = || Life::of(MINUTE).grace(Duration::ZERO).fail_safe(60 * MINUTE);
    source.fetch(&cache, ["a"], life()).await.unwrap();
    hand.advance(2 * MINUTE);
    source.is_down.store(true, Ordering::SeqCst);
    assert_eq!(source.fetch(&cache, ["a"], life()).await.unwrap(), [some("<a>")]);
    let failed = source.fetch(&cache, ["a", "b"], life()).await.unwrap_err();
    assert!(failed.to_string().contains("the source is down"), "{failed}");
    source.is_down.store(false, Ordering::SeqCst);
    assert_eq!(source.fetch(&cache, ["b"], life()).await.unwrap(), [some("<b>")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_key_is_loaded_once_however_it_is_asked_for() {
    let (one, other, _engine, hand) = two_processes();
    let loads: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..60_usize {
        let cache = if reader % 2 == 0 { one.clone() } else { other.clone() };
        let loads = Arc::clone(&loads);
        let keys: Vec<String> = (0..8).map(|at| format!("k{}", (reader + at) % 20)).collect();
        readers.spawn(async move {
            if reader % 3 == 0 {
                let key = keys[0].clone();
                let load = {
                    let key = key.clone();
                    move || async move {
                        *loads.lock().unwrap().entry(key.clone()).or_default() += 1;
                        tokio::task::yield_now().await;
                        Ok::<_, Error>(key)
                    }
                };
                assert_eq!(cache.fetch(&key, 1_000 * MINUTE, load).await.unwrap(), key);
                return;
            }
            let load = move |missing: Vec<String>| {
                let loads = Arc::clone(&loads);
                async move {
                    for key in &missing {
                        *loads.lock().unwrap().entry(key.clone()).or_default() += 1;
                    }
                    tokio::task::yield_now().await;
                    Ok::<_, Error>(missing.into_iter().map(|key| (key.clone(), key)).collect())
                }
            };
            let found = cache.fetch_many(&keys, 1_000 * MINUTE, load).await.unwrap();
            assert!(keys.iter().all(|key| found[key] == *key));
        });
    }
    while !readers.is_empty() {
        hand.advance(Duration::from_millis(20));
        // Real time, so that real threads get on.
        tokio::time::sleep(Duration::from_millis(1)).await;
        while let Some(read) = readers.try_join_next() {
            read.expect("a reader does not panic");
        }
    }
    let loads = loads.lock().unwrap();
    assert!(loads.len() == 20 && loads.values().all(|count| *count == 1), "{loads:?}");
}

#[tokio::test]
async fn keys_that_another_process_gives_up_are_loaded_after_all() {
    let (one, _other, engine, hand) = two_processes();
    let lease = Duration::from_secs(30);
    let claim = engine.claim("b", Duration::ZERO, lease).await.unwrap();
    let Claim::Missing(Some(lease)) = claim else { panic!("{claim:?}") };
    let source = Source::default();
    let reader = tokio::spawn({
        let (cache, source) = (one.clone(), source.clone());
        async move { source.fetch(&cache, ["a", "b"], MINUTE).await.unwrap() }
    });
    while one.get::<String>("a").await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(source.asked(), [["a"]], "what is free is loaded without waiting for the rest");
    engine.release("b", lease).await.unwrap();
    while !reader.is_finished() {
        hand.advance(Duration::from_millis(20));
        tokio::task::yield_now().await;
    }
    assert_eq!(reader.await.unwrap(), [some("<a>"), some("<b>")]);
    assert_eq!(source.asked(), [["b"]]);
}

#[tokio::test]
async fn versions_and_tags_hold_for_many() {
    let (one, other, _engine, _hand) = two_processes();
    let source = Source::default();
    source.fetch(&one, ["a", "b"], Life::of(MINUTE).tag("t").version(5)).await.unwrap();
    assert!(!other.set("a", &"older".to_owned(), Life::of(MINUTE).version(4)).await.unwrap());
    one.expire_tag("t").await.unwrap();
    source.asked();
    source.fetch(&one, ["a", "b"], Life::of(MINUTE)).await.unwrap();
    assert_eq!(source.asked(), [["a", "b"]]);
}
