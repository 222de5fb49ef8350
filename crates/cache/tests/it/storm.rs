//! Callers by chance, most of whom leave in the middle of what they ask for: nobody is given what is
//! another's, nobody waits for ever, and all is as before when they are gone.
//!
//! A value names its key. `THRONG_TEST_SEED` repeats what was drawn, as far as threads let it.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
    },
};

use throng_cache::{Error, Life};
use tokio::{task::JoinSet, time::timeout};

use super::{
    relay::{Chance, Relay},
    servers::Servers,
    stay::Stay,
    *,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_who_leave_the_memory_cache_leave_it_well() {
    let storm = Storm::new(vec![Config { grace_ms: 5, ..Config::default() }.memory()]);
    storm.blow(rounds()).await;
    storm.is_over().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_who_leave_five_memcacheds_leave_them_well() {
    let Some(servers) = Servers::start(5) else { return };
    let chance = chance();
    let relay = Relay::before(servers.addresses(), &chance).await;
    let hosts = relay.addresses.join(",");
    // While all is well, nobody may be told of an error.
    let calm = format!("memcached://{hosts}?ring=rendezvous&timeout=60s");
    let storm = Storm::new(vec![open(&calm, 0).await, open(&calm, 30).await]);
    storm.blow(rounds()).await;
    storm.is_over().await;
    for server in 0..5 {
        // The one that asks this is one of them.
        let open = figure(&servers.ask(server, "stats\r\n"), "STAT curr_connections ");
        assert!(open <= 2 + 1 + LISTENERS, "one connection for each process: {open}");
    }
    let rough =
        format!("memcached://{hosts}?ring=rendezvous&timeout=100ms&retry=20ms&prefix=rough");
    let storm = Storm::new(vec![open(&rough, 0).await, open(&rough, 30).await]);
    storm.blow_meanwhile(rounds(), &servers, &relay).await;
    storm.is_over().await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_who_leave_a_redis_leave_it_well() {
    let Some(server) = Servers::start_redis() else { return };
    let chance = chance();
    let relay = Relay::before(server.addresses(), &chance).await;
    let host = &relay.addresses[0];
    for tracking in ["false", "true"] {
        let calm = format!("redis://{host}/0?timeout=60s&tracking={tracking}&prefix={tracking}");
        let storm = Storm::new(vec![open(&calm, 0).await, open(&calm, 30).await]);
        storm.blow(rounds()).await;
        storm.is_over().await;
        drop(storm);
        let rough = format!("{calm}-rough&retry=20ms").replace("60s", "100ms");
        let storm = Storm::new(vec![open(&rough, 0).await, open(&rough, 30).await]);
        storm.blow_meanwhile(rounds(), &server, &relay).await;
        storm.is_over().await;
        drop(storm);
        let mut tries = 0;
        // The one that asks this is the last.
        while server.ask(0, "CLIENT LIST\r\n").matches(" laddr=").count() > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            tries += 1;
            assert!(tries < 2_000, "connections go with the cache");
        }
    }
}

/// Who is there, and what they know of each other.
#[derive(Clone)]
struct Storm {
    /// As many processes on one engine.
    caches: Arc<[Cache]>,
    chance: Chance,
    watched: Arc<Watched>,
}

#[derive(Default)]
struct Watched {
    /// Loads under way of each key that nobody writes, in all processes and in each.
    loading: [AtomicU32; KEYS],
    loading_here: [[AtomicU32; KEYS]; 2],
    /// How often each counter was counted for certain, and at most.
    counted: [AtomicI64; KEYS],
    tried: [AtomicI64; KEYS],
    /// Servers fail: then they may be told so.
    is_rough: AtomicBool,
}

impl Storm {
    fn new(caches: Vec<Cache>) -> Self {
        Self { caches: caches.into(), chance: chance(), watched: Arc::default() }
    }

    /// Lets callers come and go.
    async fn blow(&self, rounds: u32) {
        for key in 0..KEYS {
            self.may_fail(Some(self.caches[0].set_count(counter(key), 0, HOUR).await));
        }
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let storm = self.clone();
            callers.spawn(async move {
                let at = caller % storm.caches.len();
                // Of his own keys a caller knows what is there: what he wrote, or may have.
                let mut own: Vec<i64> = vec![0];
                for round in 0..rounds {
                    let asks = storm.once(at, (caller, round), &mut own);
                    let ended = timeout(LONG, asks).await;
                    ended.unwrap_or_else(|_| panic!("caller {caller} waits, round {round}"));
                }
            });
        }
        while let Some(ended) = callers.join_next().await {
            ended.unwrap();
        }
    }

    /// The same while servers stop for a moment and connections are cut amid replies.
    async fn blow_meanwhile(&self, rounds: u32, servers: &Servers, relay: &Relay) {
        self.watched.is_rough.store(true, Ordering::SeqCst);
        relay.is_cutting.store(true, Ordering::SeqCst);
        let mut blow = pin!(self.blow(rounds));
        let count = servers.addresses().len() as u64;
        loop {
            let pause = tokio::time::sleep(Duration::from_millis(100 + self.chance.below(200)));
            tokio::select! {
                () = &mut blow => break,
                () = pause => {}
            }
            let server = self.chance.below(count) as usize;
            servers.signal(server, "STOP");
            let pause = Duration::from_millis(20 + self.chance.below(200));
            let is_over = timeout(pause, &mut blow).await.is_ok();
            servers.signal(server, "CONT");
            if is_over {
                break;
            }
        }
        relay.is_cutting.store(false, Ordering::SeqCst);
        self.watched.is_rough.store(false, Ordering::SeqCst);
        // Until every server has been found to be back.
        for key in 0..10 * KEYS {
            for cache in &*self.caches {
                let mut tries = 0;
                while cache.set(format!("back:{key}"), &key, HOUR).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    tries += 1;
                    assert!(tries < 1_000, "the servers are back");
                }
            }
        }
    }

    /// One thing that a caller asks for, and does not wait for in two cases of three.
    async fn once(&self, at: usize, (caller, round): (usize, u32), own: &mut Vec<i64>) {
        let (cache, chance) = (&self.caches[at], &self.chance);
        let key = chance.below(KEYS as u64) as usize;
        let (shared, read_only) = (format!("k:{key}"), format!("r:{key}"));
        let stays = match chance.below(6) {
            0 => Stay::Polls(1),
            1 => Stay::Polls(2 + chance.below(3) as u32),
            2 | 3 => Stay::For(Duration::from_micros(chance.below(1_500))),
            _ => Stay::ToTheEnd,
        };
        let life = Life::of(Duration::from_millis(1 + chance.below(3_000)));
        match chance.below(16) {
            0 => self.told(&shared, stays.wait(cache.get::<String>(&shared)).await),
            1 => {
                let load = self.load(shared.clone(), None);
                self.told(&shared, some(stays.wait(cache.fetch(&shared, life, load)).await));
            }
            2 | 3 => {
                let load = self.load(read_only.clone(), Some((at, key)));
                let life = Life::of(Duration::from_millis(1_000));
                self.told(&read_only, some(stays.wait(cache.fetch(&read_only, life, load)).await));
            }
            4 => self.many("k", stays.wait(self.fetch_many(cache, "k", life)).await),
            5 => {
                let shop = cache.namespace("shop");
                self.many("n", stays.wait(self.fetch_many(&shop, "n", life)).await);
            }
            6 => {
                let keys: Vec<String> = (0..KEYS).map(|key| format!("k:{key}")).collect();
                self.many("k", stays.wait(cache.get_many(&keys)).await);
            }
            7 => {
                let (value, life) = (self.value(&shared), life.tag("event"));
                self.may_fail(stays.wait(cache.set(&shared, &value, life)).await);
            }
            8 => self.may_fail(stays.wait(cache.delete(&shared)).await),
            9 => {
                self.watched.tried[key].fetch_add(1, Ordering::SeqCst);
                match stays.wait(cache.add(counter(key), 1)).await {
                    Some(Ok(Some(_))) => {
                        self.watched.counted[key].fetch_add(1, Ordering::SeqCst);
                    }
                    Some(told) => self.may_fail(Some(told)),
                    None => {}
                }
            }
            10 => {
                let pushed = format!("p:{key}");
                let value = self.value(&pushed);
                self.may_fail(stays.wait(cache.push(&pushed, &value, life)).await);
            }
            11 => {
                let pushed = format!("p:{key}");
                self.told(&pushed, stays.wait(cache.latest::<String>(&pushed)).await);
            }
            12 if chance.one_in(4) => self.may_fail(stays.wait(cache.expire_tag("event")).await),
            13 if chance.one_in(4) => {
                self.may_fail(stays.wait(cache.expire_namespace("shop")).await);
            }
            14 => {
                let load = self.load(shared.clone(), None);
                let warmed = stays.wait(cache.warm(&shared, life, load)).await;
                self.told(&shared, some(warmed));
            }
            _ => self.own(cache, (caller, round), own, stays).await,
        }
    }

    /// Writes or reads what nobody else writes.
    async fn own(
        &self,
        cache: &Cache,
        (caller, round): (usize, u32),
        own: &mut Vec<i64>,
        stays: Stay,
    ) {
        let key = format!("own:{caller}");
        if self.chance.one_in(2) {
            let value = i64::from(round) + 1;
            match stays.wait(cache.set(&key, &value, HOUR)).await {
                Some(Ok(true)) => *own = vec![value],
                told => {
                    own.push(value);
                    self.may_fail(told);
                }
            }
        } else if let Some(read) = stays.wait(cache.get::<i64>(&key)).await {
            match read {
                Ok(Some(value)) => {
                    let may_be = own.contains(&value) || self.is_rough();
                    assert!(may_be, "`{key}` is {value} and was written as {own:?}");
                }
                // A server that is away may take it with it.
                Ok(None) => assert!(own[0] == 0 || self.is_rough(), "`{key}` was written: {own:?}"),
                told => self.may_fail(Some(told)),
            }
        }
    }

    /// Brings a value of the key, fails, or takes its time.
    fn load(
        &self,
        key: String,
        watched: Option<(usize, usize)>,
    ) -> impl FnOnce() -> LoadOf + Send + 'static {
        let storm = self.clone();
        move || {
            Box::pin(async move {
                let _under_way = watched.map(|place| UnderWay::new(&storm, place));
                match storm.chance.below(5) {
                    0 => return Err("by chance"),
                    1 => {}
                    2 => tokio::task::yield_now().await,
                    _ => {
                        let pause = Duration::from_micros(storm.chance.below(3_000));
                        tokio::time::sleep(pause).await;
                    }
                }
                Ok(storm.value(&key))
            })
        }
    }

    async fn fetch_many(
        &self,
        cache: &Cache,
        kind: &str,
        life: Life,
    ) -> Result<HashMap<String, String>, Error> {
        let storm = self.clone();
        let keys = (0..KEYS).filter(|_| self.chance.one_in(2)).map(|key| format!("{kind}:{key}"));
        let keys: Vec<String> = keys.collect();
        let load = move |missing: Vec<String>| {
            let storm = storm.clone();
            async move {
                tokio::task::yield_now().await;
                let named = missing.into_iter().map(|key| (key.clone(), storm.value(&key)));
                Ok::<_, Error>(named.collect::<HashMap<_, _>>())
            }
        };
        cache.fetch_many(keys, life, load).await
    }

    /// From one segment to several reads.
    fn value(&self, key: &str) -> String {
        let length = if self.chance.one_in(4) { self.chance.below(40_000) } else { 20 };
        format!("{key}={}", "x".repeat(length as usize))
    }

    fn told(&self, key: &str, told: Option<Result<Option<String>, Error>>) {
        match told {
            Some(Ok(Some(value))) => is_of(key, &value),
            told => self.may_fail(told),
        }
    }

    fn many(&self, kind: &str, told: Option<Result<HashMap<String, String>, Error>>) {
        if let Some(Ok(values)) = &told {
            for (key, value) in values {
                assert!(key.starts_with(kind), "{key}");
                is_of(key, value);
            }
        }
        self.may_fail(told);
    }

    /// What a loader said is no fault of the cache's; what an engine did is while all is well.
    fn may_fail<T: std::fmt::Debug>(&self, told: Option<Result<T, Error>>) {
        match told {
            Some(Err(Error::Load { .. })) | Some(Ok(_)) | None => {}
            Some(Err(error)) => {
                let is_gone = matches!(error, Error::Engine { .. } | Error::Timeout { .. });
                let may_be = self.is_rough() && is_gone;
                assert!(may_be, "{error}: {:?}", std::error::Error::source(&error));
            }
        }
    }

    fn is_rough(&self) -> bool {
        self.watched.is_rough.load(Ordering::SeqCst)
    }

    /// All have gone: what they had is given back, and who comes now is served at once.
    async fn is_over(&self) {
        for cache in &*self.caches {
            timeout(LONG, cache.settle()).await.expect("no load goes on for ever");
        }
        for key in 0..KEYS {
            for cache in &*self.caches {
                let count = timeout(LONG, cache.count(counter(key))).await.unwrap().unwrap();
                let counts = &self.watched;
                let (least, most) = (&counts.counted[key], &counts.tried[key]);
                let (least, most) = (least.load(Ordering::SeqCst), most.load(Ordering::SeqCst));
                // A server that was away may have lost it, or have it from before.
                let Some(count) = count else { continue };
                assert!(count <= most, "counter {key}: {count} of {most}");
                let is_lost = self.caches.len() > 1 && cache.engine() == "memcached";
                assert!(count >= least || is_lost, "counter {key}: {count} of {least}");
            }
            for kind in ["k", "r", "n", "p"] {
                for cache in &*self.caches {
                    let (key, life) = (format!("{kind}:{key}"), Life::of(HOUR));
                    let cache = if kind == "n" { cache.namespace("shop") } else { cache.clone() };
                    let fetched = async {
                        loop {
                            let (loads, storm) = (key.clone(), self.clone());
                            let load = move || async move { Ok::<_, Error>(storm.value(&loads)) };
                            match cache.fetch(&key, life.clone(), load).await {
                                Err(Error::Timeout { .. }) => {}
                                fetched => return fetched,
                            }
                        }
                    };
                    let fetched = timeout(SOON, fetched).await;
                    let fetched = fetched.unwrap_or_else(|_| panic!("`{key}` is waited for"));
                    is_of(&key, &fetched.unwrap());
                }
            }
        }
        for cache in &*self.caches {
            timeout(LONG, cache.settle()).await.expect("no load goes on for ever");
            assert_eq!(cache.stats().loading, 0, "nobody loads any more");
        }
    }
}

type LoadOf = std::pin::Pin<Box<dyn Future<Output = Result<String, &'static str>> + Send>>;

/// Counts loads under way, dropped ones too.
struct UnderWay {
    storm: Storm,
    place: (usize, usize),
}

impl UnderWay {
    fn new(storm: &Storm, (process, key): (usize, usize)) -> Self {
        let watched = &storm.watched;
        let here = watched.loading_here[process][key].fetch_add(1, Ordering::SeqCst);
        // Who hears of changes believes nothing that began before the connection was lost.
        let may_doubt = storm.is_rough() && storm.caches[process].engine() == "redis";
        assert!(here == 0 || may_doubt, "one load at a time in a process");
        let all = watched.loading[key].fetch_add(1, Ordering::SeqCst);
        // Who does not reach the server loads for himself.
        assert!(all == 0 || storm.is_rough(), "one load at a time in the fleet");
        Self { storm: storm.clone(), place: (process, key) }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let (process, key) = self.place;
        let watched = &self.storm.watched;
        watched.loading_here[process][key].fetch_sub(1, Ordering::SeqCst);
        watched.loading[key].fetch_sub(1, Ordering::SeqCst);
    }
}

/// What is always there, as what may be missing.
fn some(told: Option<Result<String, Error>>) -> Option<Result<Option<String>, Error>> {
    told.map(|told| told.map(Some))
}

fn is_of(key: &str, value: &str) {
    let named = value.split('=').next().unwrap_or_default();
    assert_eq!(named, key, "a value is that of its key");
}

fn counter(key: usize) -> String {
    format!("c:{key}")
}

async fn open(url: &str, near_ms: u64) -> Cache {
    // A lease whose reply was lost is nobody's until it ends: two seconds after the longest load.
    let load_timeout_ms = if url.contains("rough") { 1_000 } else { 30_000 };
    let retry_ms = 1;
    let config =
        Config { near_ms, retry_ms, load_timeout_ms, grace_ms: 2_000, ..Config::default() };
    config.open(url).await.unwrap()
}

fn figure(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|figure| figure.trim().parse().ok()).expect("the server tells it")
}

fn chance() -> Chance {
    let drawn = || u64::from(std::process::id()) << 20 | u64::from(std::process::id());
    let told = std::env::var("THRONG_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = told.unwrap_or_else(drawn);
    println!("THRONG_TEST_SEED={seed}");
    Chance::from(seed)
}

fn rounds() -> u32 {
    if std::env::var_os("THRONG_TEST_LONG").is_some() { 10_000 } else { 300 }
}

const CALLERS: usize = 24;
const KEYS: usize = 6;
const HOUR: Duration = Duration::from_secs(3_600);
/// Nobody waits for so long unless it is for ever.
const LONG: Duration = Duration::from_secs(60);
/// Longer than any lease and load here, and shorter than a lease by default.
const SOON: Duration = Duration::from_secs(20);
/// How many of its own a memcached counts among its connections.
const LISTENERS: u64 = 2;
