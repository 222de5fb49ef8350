//! Plain reads and writes, versions, tags, counters, bounds.

use serde::{Deserialize, Serialize};
use throng_cache::{Error, Kind, Life};

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Event {
    id: i64,
    name: String,
}

#[tokio::test]
async fn urls_open_what_this_build_has_and_say_so_otherwise() {
    let cache = Cache::open("memory:?max_bytes=1048576").await.unwrap();
    assert_eq!((cache.engine(), cache.is_shared()), ("memory", false));
    let refusal = |url| async move { Cache::open(url).await.unwrap_err() };
    let unknown = refusal("gopher://hole").await;
    assert_eq!(unknown.kind(), Kind::Bug);
    assert!(
        unknown
            .to_string()
            .contains("cache cannot open `gopher:`; this build opens `memory:`, `memcached:`")
    );
    assert!(refusal("memory:?size=1").await.to_string().contains("unknown option `size`"));
}

#[tokio::test]
async fn a_value_is_there_until_its_ttl_and_not_after() {
    let (cache, hand) = by_hand();
    let event = Event { id: 7, name: "Tonight".to_owned() };
    assert!(cache.set("e", &event, MINUTE).await.unwrap());
    hand.advance(MINUTE - Duration::from_millis(1));
    assert_eq!(cache.get::<Event>("e").await.unwrap(), Some(event));
    hand.advance(Duration::from_millis(1));
    assert_eq!(cache.get::<Event>("e").await.unwrap(), None);
    assert_eq!(cache.get::<Event>("other").await.unwrap(), None);
}

#[tokio::test]
async fn a_value_reads_as_every_type_that_fits_it() {
    let (cache, _hand) = by_hand();
    cache.set("e", &Event { id: 7, name: "x".to_owned() }, MINUTE).await.unwrap();
    let json: Option<serde_json::Value> = cache.get("e").await.unwrap();
    assert_eq!(json.unwrap()["id"], 7);
    let wrong = cache.get::<Vec<u8>>("e").await.unwrap_err();
    assert!(matches!(wrong, Error::Value { doing: "read", .. }), "{wrong}");
}

#[tokio::test]
async fn what_is_deleted_is_gone_and_deleting_nothing_tells_so() {
    let (cache, _hand) = by_hand();
    cache.set("k", &1, MINUTE).await.unwrap();
    assert!(cache.delete("k").await.unwrap());
    assert!(!cache.delete("k").await.unwrap());
    assert_eq!(cache.get::<i32>("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_lower_version_never_takes_the_place_of_a_higher() {
    let (cache, hand) = by_hand();
    let life = |version| Life::of(MINUTE).version(version);
    assert!(cache.set("k", &"second".to_owned(), life(2)).await.unwrap());
    assert!(!cache.set("k", &"first".to_owned(), life(1)).await.unwrap());
    assert_eq!(cache.get::<String>("k").await.unwrap().as_deref(), Some("second"));
    assert!(cache.set("k", &"second again".to_owned(), life(2)).await.unwrap());
    assert!(
        cache.set("k", &"whoever sets without a version knows".to_owned(), MINUTE).await.unwrap()
    );
    hand.advance(3 * MINUTE);
    assert!(cache.set("k", &"first".to_owned(), life(1)).await.unwrap());
}

#[tokio::test]
async fn a_tag_expires_all_that_have_it_and_nothing_else() {
    let (cache, _hand) = by_hand();
    for event in 0..10 {
        let life = Life::of(MINUTE).tag(format!("event:{}", event % 2)).tag("events");
        cache.set(format!("e{event}"), &event, life).await.unwrap();
    }
    let left = async || {
        let mut left = Vec::new();
        for event in 0..10 {
            left.extend(cache.get::<i32>(format!("e{event}")).await.unwrap());
        }
        left
    };
    cache.expire_tag("event:1").await.unwrap();
    assert_eq!(left().await, [0, 2, 4, 6, 8]);
    cache.set("e1", &1, Life::of(MINUTE).tag("event:1")).await.unwrap();
    cache.expire_tag("events").await.unwrap();
    assert_eq!(left().await, [1]);
}

#[tokio::test]
async fn counters_count_what_is_there_and_nothing_else() {
    let (cache, hand) = by_hand();
    assert_eq!(cache.add("views", 1).await.unwrap(), None);
    cache.set_count("views", 40, MINUTE).await.unwrap();
    assert_eq!(cache.add("views", 2).await.unwrap(), Some(42));
    assert_eq!(cache.add("views", -50).await.unwrap(), Some(0));
    assert_eq!(cache.count("views").await.unwrap(), Some(0));
    hand.advance(MINUTE);
    assert_eq!(cache.add("views", 1).await.unwrap(), None);
    cache.set("text", &"x".to_owned(), MINUTE).await.unwrap();
    assert!(cache.add("text", 1).await.is_err());
}

#[tokio::test]
async fn the_byte_bound_holds_and_what_is_used_stays() {
    let max_bytes = 1 << 20;
    let (cache, _hand) = configured(Config { max_bytes, ..Config::default() });
    for number in 0..5_000 {
        cache.set(format!("k{number}"), &"x".repeat(1_000), MINUTE).await.unwrap();
        cache.get::<String>("k0").await.unwrap();
        assert!(cache.stats().bytes <= max_bytes);
    }
    let stats = cache.stats();
    assert!(stats.evictions > 3_000 && stats.entries > 500, "{stats:?}");
    assert!(cache.get::<String>("k0").await.unwrap().is_some());
    cache.set("huge", &"x".repeat(2 << 20), MINUTE).await.unwrap();
    assert!(cache.stats().bytes <= max_bytes);
}

#[tokio::test]
async fn a_process_that_hears_of_a_change_serves_no_older_copy() {
    let (clock, _hand) = Clock::manual(START_MS);
    let engine = Memory::new(1 << 20, clock.clone());
    let cache = |engine| Config { clock: clock.clone(), ..Config::default() }.with_engine(engine);
    let (one, other) = (cache(engine.clone()), cache(engine));
    let mut changes = one.changes();
    let life = || Life::of(MINUTE).tag("event:7");
    let fetch = async |cache: &Cache, value: u32| {
        let load = move || async move { Ok::<_, Error>(value) };
        cache.fetch("k", life(), load).await.unwrap()
    };
    assert_eq!(fetch(&one, 1).await, 1);
    assert_eq!(fetch(&other, 2).await, 1);

    one.set("k", &3_u32, life()).await.unwrap();
    assert_eq!(fetch(&other, 4).await, 1, "a copy serves until it runs out or a change is heard");
    let change = changes.next().await.unwrap();
    let sent = serde_json::to_string(&change).unwrap();
    one.hear(&change);
    other.hear(&serde_json::from_str(&sent).unwrap());
    assert_eq!(fetch(&other, 4).await, 3);
    assert_eq!(one.stats().misses, 1, "a cache ignores its own changes");

    one.expire_tag("event:7").await.unwrap();
    other.hear(&changes.next().await.unwrap());
    assert_eq!(fetch(&other, 5).await, 5);
    drop((one, other));
    assert_eq!(changes.next().await, None);
}
