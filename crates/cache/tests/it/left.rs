//! What callers leave behind who go away halfway, and what is told late: nobody else is served worse.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use throng_cache::{
    Engine, Error, Life, Result,
    engine::{Claim, Heard, Item, Lease, Listener, Span},
};
use tokio::{sync::Semaphore, time::timeout};

use super::{servers::Servers, *};

const HOUR: Duration = Duration::from_secs(3_600);
/// Nobody waits for so long unless it is for ever.
const LONG: Duration = Duration::from_secs(20);

/// The memory engine, with answers that come late and writers who come in between.
#[derive(Clone)]
struct Late {
    inner: Memory,
    /// Reads of keys that begin so are answered when the gate lets them, with what there was before.
    held: &'static str,
    gate: Arc<Semaphore>,
    /// Reads that have come to the gate.
    reads: Arc<AtomicU32>,
    /// The read at the gate that is never answered.
    stuck: Arc<AtomicU32>,
    /// What another writes over the next write, and is told of, before that one is answered.
    other: Arc<Mutex<Option<Item>>>,
    listener: Arc<Mutex<Option<Listener>>>,
}

impl Late {
    fn new(held: &'static str) -> (Self, Config, Hand) {
        let (clock, hand) = Clock::manual(START_MS);
        let late = Self {
            inner: Memory::new(1 << 20, clock.clone()),
            held,
            gate: Arc::new(Semaphore::new(0)),
            reads: Arc::default(),
            stuck: Arc::default(),
            other: Arc::default(),
            listener: Arc::default(),
        };
        (late, Config { clock, near_ms: 3_600_000, ..Config::default() }, hand)
    }

    async fn until_read(&self, times: u32) {
        while self.reads.load(Ordering::SeqCst) < times {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Engine for Late {
    fn name(&self) -> &'static str {
        "late"
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn listen(&self, listener: Listener) {
        *self.listener.lock().unwrap() = Some(listener);
    }

    async fn get(&self, keys: &[&str]) -> Result<Vec<Option<Item>>> {
        let found = self.inner.get(keys).await;
        if keys.iter().any(|key| key.starts_with(self.held)) {
            let number = self.reads.fetch_add(1, Ordering::SeqCst) + 1;
            if number == self.stuck.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            self.gate.acquire().await.expect("the gate is never closed").forget();
        }
        found
    }

    async fn set(&self, key: &str, item: Item, span: Span) -> Result<()> {
        self.inner.set(key, item, span).await?;
        let other = self.other.lock().unwrap().take();
        if let Some(other) = other {
            self.inner.set(key, other, span).await?;
            let listener = self.listener.lock().unwrap();
            listener.as_ref().expect("the cache listens")(Heard::Key(key));
        }
        Ok(())
    }

    async fn set_unless(
        &self,
        key: &str,
        item: Item,
        span: Span,
        beats: &(dyn for<'a> Fn(&'a Item) -> bool + Sync),
    ) -> Result<bool> {
        self.inner.set_unless(key, item, span, beats).await
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        self.inner.delete(key).await
    }

    async fn claim(&self, key: &str, stale: Duration, lease: Duration) -> Result<Claim> {
        self.inner.claim(key, stale, lease).await
    }

    async fn fill(&self, key: &str, lease: Lease, item: Item, span: Span) -> Result<bool> {
        self.inner.fill(key, lease, item, span).await
    }

    async fn release(&self, key: &str, lease: Lease) -> Result<()> {
        self.inner.release(key, lease).await
    }

    async fn set_count(&self, key: &str, count: i64, span: Span) -> Result<()> {
        self.inner.set_count(key, count, span).await
    }

    async fn add(&self, key: &str, by: i64) -> Result<Option<i64>> {
        self.inner.add(key, by).await
    }
}

#[tokio::test]
async fn who_leaves_while_he_asks_for_many_breaks_off_nobody_elses_load() {
    let (late, config, _hand) = Late::new("throng.namespace.");
    let config = Config { near_ms: 0, ..config };
    let shop = config.with_engine(late.clone()).namespace("shop");
    // He is told how the engine calls the first key, and not how it calls the second.
    late.stuck.store(2, Ordering::SeqCst);
    late.gate.add_permits(10);
    let gone = tokio::spawn({
        let shop = shop.clone();
        async move {
            let load = |keys: Vec<String>| async move {
                Ok::<_, Error>(keys.into_iter().map(|key| (key, 1)).collect::<HashMap<_, i32>>())
            };
            shop.fetch_many(["a", "b"], MINUTE, load).await
        }
    });
    late.until_read(2).await;
    let waits = tokio::spawn({
        let shop = shop.clone();
        async move { shop.fetch("a", MINUTE, || async { Ok::<_, Error>(2) }).await }
    });
    while !waits.is_finished() && shop.stats().misses < 2 {
        tokio::task::yield_now().await;
    }
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    assert_eq!(waits.await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn a_loader_that_panics_gives_its_lease_back() {
    let (late, config, _hand) = Late::new("nothing");
    let [one, other] = [config.clone().with_engine(late.clone()), config.with_engine(late)];
    let panics = || async { if true { panic!("in the loader") } else { Ok::<i32, Error>(0) } };
    let error = one.fetch("k", MINUTE, panics).await.unwrap_err();
    assert!(matches!(error, Error::Abandoned { .. }), "{error}");
    let loads = || async { Ok::<_, Error>(1) };
    let loaded = timeout(LONG, other.fetch("k", MINUTE, loads)).await;
    assert_eq!(loaded.expect("nobody waits for who has crashed").unwrap(), 1);

    let panics = |_: Vec<String>| async {
        if true {
            panic!("in the loader")
        } else {
            Ok::<HashMap<String, i32>, Error>(HashMap::new())
        }
    };
    let error = one.fetch_many(["a", "b"], MINUTE, panics).await.unwrap_err();
    assert!(matches!(error, Error::Abandoned { .. }), "{error}");
    for key in ["a", "b"] {
        let loaded = timeout(LONG, other.fetch(key, MINUTE, loads)).await;
        assert_eq!(loaded.expect("nobody waits for who has crashed").unwrap(), 1);
    }
}

#[tokio::test]
async fn who_stops_waiting_for_loads_stops_none_and_the_next_waits_for_them_too() {
    let cache = Cache::memory();
    let gate = Arc::new(Semaphore::new(0));
    let reader = tokio::spawn({
        let (cache, gate) = (cache.clone(), Arc::clone(&gate));
        async move {
            let load = || async move {
                gate.acquire().await.expect("the gate is never closed").forget();
                Ok::<_, Error>(7)
            };
            cache.fetch("k", MINUTE, load).await
        }
    });
    while cache.stats().loads == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..2 {
        let settled = timeout(Duration::from_millis(1), cache.settle()).await;
        assert!(settled.is_err(), "a load is under way");
    }
    gate.add_permits(1);
    cache.settle().await;
    assert_eq!(reader.await.unwrap().unwrap(), 7);
}

#[tokio::test]
async fn what_was_told_while_a_write_was_under_way_is_believed_and_not_the_copy_of_the_write() {
    let (late, config, _hand) = Late::new("nothing");
    let other = config.clone().with_engine(late.inner.clone());
    other.set("k", &2, HOUR).await.unwrap();
    let theirs = late.inner.get(&["k"]).await.unwrap().remove(0);
    let cache = config.with_engine(late.clone());
    *late.other.lock().unwrap() = theirs;
    cache.set("k", &1, HOUR).await.unwrap();
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(2));
}

#[tokio::test]
async fn a_late_answer_about_a_tag_does_not_bring_back_what_was_expired_meanwhile() {
    let (late, config, _hand) = Late::new("throng.tag.");
    let cache = config.with_engine(late.clone());
    let life = || Life::of(HOUR).tag("event:7");
    late.gate.add_permits(2);
    cache.set("k", &1, life()).await.unwrap();
    assert_eq!(cache.get::<i32>("k").await.unwrap(), Some(1));
    late.gate.forget_permits(9);
    let before = late.reads.load(Ordering::SeqCst);
    let asks = tokio::spawn({
        let cache = cache.clone();
        async move { cache.set("another", &1, life()).await }
    });
    late.until_read(before + 1).await;
    cache.expire_tag("event:7").await.unwrap();
    late.gate.add_permits(9);
    asks.await.unwrap().unwrap();
    assert_eq!(cache.get::<i32>("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_late_answer_about_a_namespace_does_not_bring_back_what_was_expired_meanwhile() {
    let (late, config, hand) = Late::new("throng.namespace.");
    let cache = config.with_engine(late.clone());
    let shop = cache.namespace("shop");
    late.gate.add_permits(9);
    shop.set("k", &1, 24 * HOUR).await.unwrap();
    hand.advance(2 * HOUR);
    late.gate.forget_permits(9);
    let before = late.reads.load(Ordering::SeqCst);
    let asks = tokio::spawn({
        let shop = shop.clone();
        async move { shop.get::<i32>("k").await }
    });
    late.until_read(before + 1).await;
    cache.expire_namespace("shop").await.unwrap();
    late.gate.add_permits(1);
    asks.await.unwrap().unwrap();
    late.gate.add_permits(9);
    assert_eq!(shop.get::<i32>("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_lease_whose_grant_nobody_heard_of_is_taken_back_when_memcached_goes_on() {
    let Some(servers) = Servers::start(1) else { return };
    let url = |options: &str| servers.url(options);
    unheard(&servers, [url("timeout=200ms&retry=50ms"), url("timeout=60s")]).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_lease_whose_grant_nobody_heard_of_is_taken_back_when_redis_goes_on() {
    let Some(server) = Servers::start_redis() else { return };
    let url = |options: &str| format!("redis://{}/0?{options}", server.addresses()[0]);
    unheard(&server, [url("timeout=200ms&retry=50ms"), url("timeout=60s")]).await;
}

/// The first process asks a server that hangs for a lease, and gives up; the second waits for nobody.
async fn unheard(servers: &Servers, [first, second]: [String; 2]) {
    let config = Config { near_ms: 0, ..Config::default() };
    let first = config.clone().open(&first).await.unwrap();
    let second = config.open(&second).await.unwrap();
    for cache in [&first, &second] {
        while cache.get::<i32>("nothing").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    // A Redis is told of the scripts by the first who needs them.
    let known = first.fetch("another", MINUTE, || async { Ok::<_, Error>(0) }).await;
    assert_eq!(known.unwrap(), 0);
    servers.signal(0, "STOP");
    let loaded = first.fetch("k", MINUTE, || async { Ok::<_, Error>(1) }).await;
    assert_eq!(loaded.unwrap(), 1, "the server is no one's error");
    servers.signal(0, "CONT");
    let loaded = timeout(LONG, second.fetch("k", MINUTE, || async { Ok::<_, Error>(2) })).await;
    assert_eq!(loaded.expect("nobody waits for a lease that nobody has").unwrap(), 2);
}
