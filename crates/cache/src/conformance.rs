//! One suite for every engine: what an engine promises the cache, and what the cache on it promises.
//!
//! Run it on an engine of your own in a test. It panics at the first promise that does not hold.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use crate::{
    Cache, Config, Engine, Error, Life, Result, cache,
    engine::{Claim, Item, Lease, Span, Values},
};

/// Tries every promise on `engine`. Keys begin with `prefix`, which should be fresh.
///
/// `config` gives the clock, and `pass` lets that much time go by for the engine: by sleeping, or
/// by moving the clock by hand. Engines count whole seconds, so it is asked for seconds.
///
/// # Errors
/// Whatever the engine answers where it should have done as asked.
///
/// # Panics
/// When a promise does not hold; the message is the promise.
pub async fn exercise(
    engine: impl Engine,
    config: Config,
    prefix: &str,
    pass: impl AsyncFn(Duration),
) -> Result<()> {
    let engine: Arc<dyn Engine> = Arc::new(engine);
    let key = |name: &str| format!("{prefix}:{name}");
    bytes_come_back(&*engine, &key("bytes")).await?;
    items_end(&*engine, &key("ends"), &pass).await?;
    one_lease_for_a_missing_key(&*engine, &key("missing")).await?;
    one_lease_for_a_stale_key(&*engine, &key("stale"), &pass).await?;
    a_write_voids_the_lease(&*engine, &key("void")).await?;
    a_crashed_holder_is_replaced(&*engine, &key("crash"), &pass).await?;
    what_beats_stays(&*engine, &key("beats")).await?;
    counters_count_what_is_there(&*engine, &key("count")).await?;

    let process = || cache::new(config.clone(), Some(Arc::clone(&engine)));
    let (one, other) = (process(), process());
    processes_share_values(&one, &other, &key("shared")).await?;
    processes_share_one_load(&one, &other, &key("load"), &pass).await?;
    if engine.values() != Values::Sealed {
        return Ok(());
    }
    newer_versions_stay(&one, &other, &key("version")).await?;
    tags_expire_everywhere(&one, &other, &key("tag"), &pass).await
}

async fn bytes_come_back(engine: &dyn Engine, key: &str) -> Result<()> {
    assert_eq!(engine.get(&[key]).await?, [None], "nothing is under a fresh key");
    assert!(!engine.delete(key).await?, "deleting nothing tells so");
    for bytes in [Bytes::new(), Bytes::from_static(b"a\r\n\0\xff"), vec![7; 100_000].into()] {
        let item = Item { bytes, flags: 0x7468 };
        engine.set(key, item.clone(), MINUTE).await?;
        let other = format!("{key}:other");
        let got = engine.get(&[&other, key, key]).await?;
        assert_eq!(got, [None, Some(item.clone()), Some(item)], "what is set comes back, in order");
    }
    assert!(engine.delete(key).await?, "deleting something tells so");
    assert_eq!(engine.get(&[key]).await?, [None], "what is deleted is gone");
    Ok(())
}

async fn items_end(engine: &dyn Engine, key: &str, pass: &impl AsyncFn(Duration)) -> Result<()> {
    let (fresh, stale) = (Duration::from_secs(1), Duration::from_secs(1));
    engine.set(key, item("x"), Span { fresh, stale }).await?;
    assert!(engine.get(&[key]).await?[0].is_some());
    pass(Duration::from_secs(4)).await;
    assert_eq!(engine.get(&[key]).await?, [None], "an item ends with its span");
    Ok(())
}

async fn one_lease_for_a_missing_key(engine: &dyn Engine, key: &str) -> Result<()> {
    let lease = missing(engine, key).await?.expect("the first who asks for a missing key loads it");
    for _ in 0..5 {
        assert_eq!(missing(engine, key).await?, None, "one lease is given, and no other");
    }
    engine.release(key, lease).await?;
    let lease = missing(engine, key).await?.expect("a lease that was given back is given again");
    assert!(engine.fill(key, lease, item("loaded"), MINUTE).await?, "the holder of a lease fills");
    let read = engine.claim(key, Duration::ZERO, LEASE).await?;
    assert_eq!(read, Claim::Fresh(item("loaded")), "what was filled is there");
    assert!(!engine.fill(key, lease, item("again"), MINUTE).await?, "a lease fills once");
    Ok(())
}

async fn one_lease_for_a_stale_key(
    engine: &dyn Engine,
    key: &str,
    pass: &impl AsyncFn(Duration),
) -> Result<()> {
    let span = Span { fresh: Duration::from_secs(1), stale: Duration::from_secs(60) };
    engine.set(key, item("old"), span).await?;
    pass(Duration::from_secs(3)).await;
    let lease = stale(engine, key, "old").await?.expect("the first who reads a stale key loads it");
    for _ in 0..5 {
        let other = stale(engine, key, "old").await?;
        assert_eq!(other, None, "one lease is given for an expiry, and the stale value to all");
    }
    engine.release(key, lease).await?;
    let lease =
        stale(engine, key, "old").await?.expect("a lease that was given back is given again");
    assert!(engine.fill(key, lease, item("new"), MINUTE).await?);
    let read = engine.claim(key, Duration::ZERO, LEASE).await?;
    assert_eq!(read, Claim::Fresh(item("new")), "the newer value takes the stale one's place");
    Ok(())
}

async fn a_write_voids_the_lease(engine: &dyn Engine, key: &str) -> Result<()> {
    let lease = missing(engine, key).await?.expect("a lease on a missing key");
    engine.set(key, item("written"), MINUTE).await?;
    assert!(!engine.fill(key, lease, item("slow"), MINUTE).await?, "a slow loader is too late");
    assert_eq!(engine.get(&[key]).await?, [Some(item("written"))], "and overwrites nothing");
    engine.delete(key).await?;
    let lease = missing(engine, key).await?.expect("a lease on a deleted key");
    engine.delete(key).await?;
    let late = engine.fill(key, lease, item("slow"), MINUTE).await?;
    assert!(!late, "what was loaded before a deletion is not stored after it");
    engine.delete(key).await?;
    Ok(())
}

async fn a_crashed_holder_is_replaced(
    engine: &dyn Engine,
    key: &str,
    pass: &impl AsyncFn(Duration),
) -> Result<()> {
    let short = Duration::from_secs(1);
    let Claim::Missing(Some(crashed)) = engine.claim(key, Duration::ZERO, short).await? else {
        panic!("a lease on a missing key");
    };
    pass(Duration::from_secs(3)).await;
    let lease = missing(engine, key).await?.expect("a holder that crashed is replaced");
    let late = engine.fill(key, crashed, item("late"), MINUTE).await?;
    assert!(!late, "one that was taken for crashed stores nothing");
    assert!(engine.fill(key, lease, item("x"), MINUTE).await?);
    Ok(())
}

async fn what_beats_stays(engine: &dyn Engine, key: &str) -> Result<()> {
    let longer = |len: usize| move |old: &Item| old.bytes.len() > len;
    assert!(
        engine.set_unless(key, item("xxx"), MINUTE, &longer(3)).await?,
        "nothing beats nothing"
    );
    assert!(!engine.set_unless(key, item("x"), MINUTE, &longer(1)).await?, "what beats it stays");
    assert!(engine.set_unless(key, item("xxxx"), MINUTE, &longer(4)).await?);
    assert_eq!(engine.get(&[key]).await?, [Some(item("xxxx"))]);
    Ok(())
}

async fn counters_count_what_is_there(engine: &dyn Engine, key: &str) -> Result<()> {
    assert_eq!(engine.add(key, 1).await?, None, "a counter that is not there is not made up");
    assert_eq!(engine.get(&[key]).await?, [None]);
    engine.set_count(key, 40, MINUTE).await?;
    assert_eq!(engine.add(key, 2).await?, Some(42));
    assert_eq!(engine.add(key, -50).await?, Some(0), "a counter stops at zero");
    assert_eq!(engine.add(key, 1 << 40).await?, Some(1 << 40));
    Ok(())
}

async fn processes_share_values(one: &Cache, other: &Cache, key: &str) -> Result<()> {
    let minute = Duration::from_secs(60);
    one.set(key, &vec!["a".to_owned(), "é".to_owned()], minute).await?;
    let read: Option<Vec<String>> = other.get(key).await?;
    assert_eq!(read, Some(vec!["a".to_owned(), "é".to_owned()]), "a value is there for all");
    other.delete(key).await?;
    assert_eq!(other.get::<Vec<String>>(key).await?, None, "what is deleted is gone");
    one.forget();
    assert_eq!(one.get::<Vec<String>>(key).await?, None, "what is deleted is gone for all");
    Ok(())
}

async fn processes_share_one_load(
    one: &Cache,
    other: &Cache,
    key: &str,
    pass: &impl AsyncFn(Duration),
) -> Result<()> {
    let loads = Arc::new(AtomicU32::new(0));
    let mut readers = Vec::new();
    for number in 0..40 {
        let cache = if number % 2 == 0 { one.clone() } else { other.clone() };
        let (key, loads) = (key.to_owned(), Arc::clone(&loads));
        readers.push(tokio::spawn(async move {
            let load = move || async move {
                loads.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok::<_, Error>("loaded".to_owned())
            };
            cache.fetch(key, Duration::from_secs(60), load).await
        }));
    }
    while readers.iter().any(|reader| !reader.is_finished()) {
        pass(Duration::from_millis(20)).await;
        tokio::task::yield_now().await;
    }
    for reader in readers {
        let read = reader.await.expect("a reader does not panic")?;
        assert_eq!(read, "loaded");
    }
    assert_eq!(loads.load(Ordering::Relaxed), 1, "an expiry costs one load in all processes");
    Ok(())
}

async fn newer_versions_stay(one: &Cache, other: &Cache, key: &str) -> Result<()> {
    let life = |version| Life::of(Duration::from_secs(60)).version(version);
    assert!(one.set(key, &"second".to_owned(), life(2)).await?);
    assert!(
        !other.set(key, &"first".to_owned(), life(1)).await?,
        "a value with a lower version is refused"
    );
    other.forget();
    assert_eq!(other.get(key).await?, Some("second".to_owned()));
    assert!(other.set(key, &"third".to_owned(), life(3)).await?);
    one.forget();
    assert_eq!(one.get(key).await?, Some("third".to_owned()));
    Ok(())
}

async fn tags_expire_everywhere(
    one: &Cache,
    other: &Cache,
    key: &str,
    pass: &impl AsyncFn(Duration),
) -> Result<()> {
    let life = || Life::of(Duration::from_secs(60)).tag(format!("{key}:event")).tag("all");
    let fetch = async |cache: &Cache, value: u32| {
        let load = move || async move { Ok::<_, Error>(value) };
        cache.fetch(format!("{key}:value"), life(), load).await
    };
    assert_eq!(fetch(one, 1).await?, 1);
    assert_eq!(fetch(other, 2).await?, 1);
    one.expire_tag(&format!("{key}:event")).await?;
    assert_eq!(fetch(one, 3).await?, 3, "an expired tag expires what has it");
    // The other process may serve its copy for as long as it keeps one.
    pass(Duration::from_secs(3)).await;
    assert_eq!(fetch(other, 4).await?, 3, "an expired tag expires it for all");
    assert_eq!(other.get(format!("{key}:value")).await?, Some(3));
    Ok(())
}

async fn missing(engine: &dyn Engine, key: &str) -> Result<Option<Lease>> {
    match engine.claim(key, Duration::ZERO, LEASE).await? {
        Claim::Missing(lease) => Ok(lease),
        found => panic!("`{key}` should be missing, not {found:?}"),
    }
}

async fn stale(engine: &dyn Engine, key: &str, value: &'static str) -> Result<Option<Lease>> {
    match engine.claim(key, Duration::from_secs(60), LEASE).await? {
        Claim::Stale(found, lease) if found == item(value) => Ok(lease),
        found => panic!("`{key}` should be stale, not {found:?}"),
    }
}

fn item(text: &'static str) -> Item {
    Item { bytes: Bytes::from_static(text.as_bytes()), flags: 0 }
}

const MINUTE: Span = Span { fresh: Duration::from_secs(60), stale: Duration::ZERO };
const LEASE: Duration = Duration::from_secs(30);
