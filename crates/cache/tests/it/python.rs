//! Real pylibmc, pymemcache, python-memcached and Django on the same servers: they read what we
//! write and we read what they write, on every ring. Skips where THRONG_TEST_PYTHON is not set.

#![expect(clippy::unwrap_used, reason = "in tests a panic is the report")]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use throng_cache::engine::Memcached;
use throng_core::EngineUrl;

use super::{process::Python, servers::Servers, *};

const PER_CLIENT: usize = 6_250;

#[tokio::test(flavor = "multi_thread")]
async fn python_reads_what_we_write_and_we_read_what_python_writes() {
    let (Some(servers), Some(mut python)) = (Servers::start(5), start_python()) else { return };
    for (client, options) in [
        ("modula", "ring=modula"),
        ("ketama", "ring=ketama"),
        ("ketama-md5", "ring=ketama-md5"),
        ("ketama-weighted", "ring=ketama-weighted"),
        ("rendezvous", "ring=rendezvous"),
        ("crc", "ring=crc"),
        ("django-pylibmc", "ring=modula&version=1"),
        ("django-pymemcache", "ring=rendezvous&version=1"),
    ] {
        let url = servers.url(&format!("{options}&values=python&timeout=30s"));
        exchange(&mut python, client, &servers, &url).await;
    }
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn djangos_redis_backends_read_what_we_write_and_we_read_what_they_write() {
    let (Some(server), Some(mut python)) = (Servers::start_redis(), start_python()) else { return };
    let url = format!("redis://{}/0?values=python&version=1&timeout=30s", server.addresses()[0]);
    for backend in ["django-redis", "django-redis-package", "django-redis-package-zlib"] {
        exchange(&mut python, backend, &server, &url).await;
    }
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn what_django_writes_to_a_tracked_redis_is_seen_at_once() {
    let (Some(server), Some(mut python)) = (Servers::start_redis(), start_python()) else { return };
    let url = format!(
        "redis://{}/0?values=python&version=1&timeout=20s&tracking=true",
        server.addresses()[0]
    );
    // Copies that are an hour old would do.
    let cache = Config { near_ms: 3_600_000, ..Config::default() }.open(&url).await.unwrap();
    let fetch = async || {
        let load = || async { Ok::<_, throng_cache::Error>("ours".to_owned()) };
        cache.fetch("event:7", Duration::from_secs(3_600), load).await.unwrap()
    };
    assert_eq!(fetch().await, "ours");
    for backend in ["django-redis", "django-redis-package"] {
        let ask = json!([backend, server.addresses(), "set", { "event:7": backend }]);
        python.ask(&ask);
        while fetch().await != backend {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Random keys and values, written on each side and read on the other.
async fn exchange(python: &mut Python, client: &str, servers: &Servers, url: &str) {
    let mut random = Random(0x7468_726f_6e67);
    let config = Config { near_ms: 0, ..Config::default() };
    let cache = config.open(url).await.unwrap();
    let mut ask = |command: &str, argument: Value| {
        python.ask(&json!([client, servers.addresses(), command, argument]))
    };

    let theirs = values(&mut random, &format!("{client}.theirs"), PER_CLIENT);
    ask("set", json!(theirs));
    for (key, value) in &theirs {
        // pylibmc stores a bool as a number, which reads as either.
        let read = match value {
            Value::Bool(_) => cache.get::<bool>(key).await.unwrap().map(Value::Bool),
            _ => cache.get::<Value>(key).await.unwrap(),
        };
        assert_eq!(read.as_ref(), Some(value), "{client} wrote {key}");
    }

    let ours = values(&mut random, &format!("{client}.ours"), PER_CLIENT);
    for (key, value) in &ours {
        cache.set(key, value, MINUTE).await.unwrap();
    }
    let keys: Vec<&String> = ours.keys().collect();
    assert_eq!(ask("get", json!(keys)), json!(ours), "{client} reads what we wrote");

    // Bytes are bytes on both sides, and a fetched value is there for Python too.
    ask("set", json!({"blob": {"bytes": "00ff0d0a"}}));
    let read = cache.get::<Vec<u8>>("blob").await.unwrap();
    assert_eq!(read, Some(vec![0, 255, 13, 10]), "{client} wrote bytes");
    cache.set("blob", &vec![255_u8, 0], MINUTE).await.unwrap();
    let read = ask("get", json!(["blob"]));
    assert_eq!(read, json!({"blob": {"bytes": "ff00"}}), "{client} reads bytes");
    let load = || async { Ok::<_, throng_cache::Error>("loaded".to_owned()) };
    let fetched = format!("{client}.fetched");
    cache.fetch(&fetched, MINUTE, load).await.unwrap();
    assert_eq!(ask("get", json!([fetched])), json!({fetched: "loaded"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn python_and_we_agree_on_every_key_before_during_and_after_a_servers_death() {
    let (Some(mut servers), Some(mut python)) = (Servers::start(5), start_python()) else { return };
    let addresses = servers.addresses();
    for (fault, ring) in [
        ("KILL", "ketama-weighted"),
        ("STOP", "ketama-weighted"),
        ("KILL", "rendezvous"),
        ("STOP", "rendezvous"),
        ("KILL", "crc"),
        ("STOP", "crc"),
    ] {
        let url = servers.url(&format!("ring={ring}&values=python&timeout=3s&retry=100ms"));
        let config = Config { near_ms: 0, ..Config::default() };
        let cache = config.open(&url).await.unwrap();
        let mut ask = |command: &str, argument: Value| {
            python.ask(&json!([format!("ejecting {ring}"), addresses, command, argument]))
        };
        let mut random = Random(7);
        for moment in ["before", "during", "after"] {
            match (moment, fault) {
                ("during", "KILL") => servers.kill(3),
                ("during", _) => servers.signal(3, "STOP"),
                ("after", "KILL") => servers.start_again(3),
                ("after", _) => servers.signal(3, "CONT"),
                _ => {}
            }
            let name = format!("{ring}.{fault}.{moment}");
            if moment == "after" {
                ask("forget", json!(null));
                // What Python finds on the server that is back, we must find too.
                let all = values(&mut random, &format!("{name}.back"), 50);
                ask("set", json!(all));
                for key in all.keys() {
                    while cache.get::<Value>(key).await.unwrap().is_none() {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
            // Writes first: pylibmc tells a read that ran into a dead server from a miss only then.
            let theirs: BTreeMap<String, Value> = (0..300)
                .map(|number| (format!("{name}.theirs:{number}"), json!(number.to_string())))
                .collect();
            assert_eq!(ask("set", json!(theirs)), json!(300), "{name}");
            for (key, value) in &theirs {
                let read = cache.get::<Value>(key).await.unwrap();
                assert_eq!(read.as_ref(), Some(value), "{name} {key}");
            }
            let ours = values(&mut random, &format!("{name}.ours"), 300);
            for (key, value) in &ours {
                cache.set(key, value, MINUTE).await.unwrap();
            }
            let keys: Vec<&String> = ours.keys().collect();
            assert_eq!(ask("get", json!(keys)), json!(ours), "{name}");
        }
        ask("forget", json!(null));
    }
}

#[tokio::test]
async fn the_ring_of_each_real_client_is_found_out_from_its_keys() {
    let (Some(servers), Some(mut python)) = (Servers::start(5), start_python()) else { return };
    let fleet = EngineUrl::parse(&servers.url("timeout=20s")).unwrap();
    for (client, found) in [
        ("modula", "ring=modula&values=python"),
        ("ketama", "ring=ketama&values=python"),
        ("ketama-md5", "ring=ketama-md5&values=python"),
        ("ketama-weighted", "ring=ketama-weighted&values=python"),
        ("rendezvous", "ring=rendezvous&values=python"),
        ("crc", "ring=crc&values=python"),
        ("django-pylibmc", "ring=modula&version=1&values=python"),
        ("django-pymemcache", "ring=rendezvous&version=1&values=python"),
    ] {
        let keys: Vec<String> = (0..30).map(|number| format!("{client}:{number}")).collect();
        let values: BTreeMap<&String, u32> = keys.iter().map(|key| (key, 1)).collect();
        python.ask(&json!([client, servers.addresses(), "set", values]));
        let probe = Memcached::probe(&fleet, &keys, &Clock::system()).await.unwrap();
        assert_eq!(probe.found(), 30, "{client}");
        assert_eq!(probe.url.as_deref(), Some(&*servers.url(found)), "{client}: {probe:?}");
    }
}

#[tokio::test]
async fn versions_and_tags_have_no_place_in_values_for_python() {
    let Some(servers) = Servers::start(1) else { return };
    let cache = Cache::open(&servers.url("values=python")).await.unwrap();
    for life in [throng_cache::Life::of(MINUTE).version(1), throng_cache::Life::of(MINUTE).tag("t")]
    {
        let refused = cache.set("k", &1, life).await.unwrap_err().to_string();
        assert!(refused.contains("no place for versions and tags"), "{refused}");
    }
}

fn start_python() -> Option<Python> {
    Python::start(include_str!("python.py"))
}

/// Keys of every length and sign that memcached takes, and values of every kind that JSON has.
fn values(random: &mut Random, prefix: &str, count: usize) -> BTreeMap<String, Value> {
    let mut values = BTreeMap::new();
    for number in 0..count {
        let value = match random.below(8) {
            0 => json!("text é ☃ 𝄞".repeat(random.below(20) as usize)),
            1 => json!(random.next() as i64),
            2 => json!(random.below(1_000)),
            3 => json!(random.next() as f64 / 7.0),
            4 => json!(null),
            5 => json!(random.below(2) == 0),
            6 => json!([1, "two", [3.5, null], {"four": true}]),
            _ => {
                json!({"id": random.next() as i64, "name": "Zoë", "tags": ["a", "b"], "at": 1.7e9})
            }
        };
        // No client tells None from a miss when asked for many.
        let value = if value.is_null() { json!([null]) } else { value };
        let signs = 0..random.below(12) * random.below(12);
        let signs: String = signs.map(|_| char::from(b'!' + random.below(94) as u8)).collect();
        values.insert(format!("{prefix}:{number}:{signs}"), value);
    }
    values
}

/// SplitMix64: the same keys in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
