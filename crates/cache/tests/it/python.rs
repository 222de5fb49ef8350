//! Real pylibmc, pymemcache, python-memcached and Django on the same servers: they read what we
//! write and we read what they write, on every ring.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

use super::{servers::Servers, *};

const PER_CLIENT: usize = 6_250;

#[tokio::test(flavor = "multi_thread")]
async fn python_reads_what_we_write_and_we_read_what_python_writes() {
    let (Some(servers), Some(mut python)) = (Servers::start(5), Python::start()) else { return };
    let mut random = Random(0x7468_726f_6e67);
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
        let url = servers.url(&format!("{options}&values=python&timeout=5s"));
        let config = Config { near_ms: 0, ..Config::default() };
        let cache = config.open(&url).await.unwrap();
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
        assert_eq!(cache.get::<Vec<u8>>("blob").await.unwrap(), Some(vec![0, 255, 13, 10]));
        cache.set("blob", &vec![255_u8, 0], MINUTE).await.unwrap();
        assert_eq!(ask("get", json!(["blob"])), json!({"blob": {"bytes": "ff00"}}));
        let load = || async { Ok::<_, throng_cache::Error>("loaded".to_owned()) };
        cache.fetch(format!("{client}.fetched"), MINUTE, load).await.unwrap();
        let fetched = format!("{client}.fetched");
        assert_eq!(ask("get", json!([fetched])), json!({fetched: "loaded"}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn python_and_we_agree_on_every_key_before_during_and_after_a_servers_death() {
    let (Some(mut servers), Some(mut python)) = (Servers::start(5), Python::start()) else {
        return;
    };
    let url = servers.url("ring=ketama-weighted&values=python&timeout=5s&retry=100ms");
    let config = Config { near_ms: 0, ..Config::default() };
    let cache = config.open(&url).await.unwrap();
    let addresses = servers.addresses();
    let mut random = Random(7);
    for moment in ["before", "during", "after"] {
        match moment {
            "during" => servers.kill(3),
            "after" => {
                servers.start_again(3);
                // What Python finds on the server that is back, we must find too.
                let all = values(&mut random, "probe", 50);
                python.ask(&json!(["auto-eject", addresses, "set", all]));
                for key in all.keys() {
                    while cache.get::<Value>(key).await.unwrap().is_none() {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
            _ => {}
        }
        let ours = values(&mut random, &format!("{moment}.ours"), 300);
        for (key, value) in &ours {
            cache.set(key, value, MINUTE).await.unwrap();
        }
        let keys: Vec<&String> = ours.keys().collect();
        assert_eq!(
            python.ask(&json!(["auto-eject", addresses, "get", keys])),
            json!(ours),
            "{moment}"
        );
        let theirs: BTreeMap<String, Value> = (0..300)
            .map(|number| (format!("{moment}.theirs:{number}"), json!(number.to_string())))
            .collect();
        assert_eq!(python.ask(&json!(["auto-eject", addresses, "set", theirs])), json!(300));
        for (key, value) in &theirs {
            assert_eq!(
                cache.get::<Value>(key).await.unwrap().as_ref(),
                Some(value),
                "{moment} {key}"
            );
        }
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

/// Keys and values of every kind that JSON has.
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
        values.insert(format!("{prefix}:{number}:{:x}", random.next()), value);
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

struct Python {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Python {
    /// `None`, after saying so, where there is no Python with the clients; in CI that fails.
    fn start() -> Option<Self> {
        let Ok(python) = std::env::var("THRONG_TEST_PYTHON") else {
            assert!(std::env::var("CI").is_err(), "THRONG_TEST_PYTHON must be set in CI");
            println!("skip: THRONG_TEST_PYTHON is not set; it names a Python that has the clients");
            return None;
        };
        let mut process = Command::new(python)
            .args(["-c", include_str!("python.py")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("THRONG_TEST_PYTHON names a program");
        let commands = process.stdin.take().expect("its input is piped");
        let answers = BufReader::new(process.stdout.take().expect("its output is piped"));
        Some(Self { process, commands, answers })
    }

    fn ask(&mut self, command: &Value) -> Value {
        writeln!(self.commands, "{command}").expect("python listens");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("python answers");
        serde_json::from_str(&line).expect("python answers in JSON")
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
