//! Five processes with two hundred readers each, over two hundred expiries: one load for each.

use std::{
    io::{Read, Write},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use throng_cache::{Error, engine::Memcached};
use throng_core::EngineUrl;

use super::{servers::Servers, *};

const PROCESSES: usize = 5;
const READERS: usize = 200;
const EXPIRIES: usize = 200;

#[test]
fn an_expiry_costs_one_load_among_a_thousand_readers_in_five_processes() {
    let Some(servers) = Servers::start(5) else { return };
    let url = servers.url("ring=ketama-weighted&timeout=20s");
    check(&servers, &url, &one_for_each(&servers, &url));
}

#[cfg(feature = "redis")]
#[test]
fn an_expiry_on_redis_costs_one_load_among_a_thousand_readers_in_five_processes() {
    let Some(server) = Servers::start_redis() else { return };
    let url = format!("redis://{}?timeout=20s", server.addresses()[0]);
    check(&server, &url, &["hot:0".to_owned()]);
}

/// One key for each server is read by all, and expires again and again.
fn check(servers: &Servers, url: &str, keys: &[String]) {
    let mut processes: Vec<Child> = (0..PROCESSES).map(|_| launch(url, keys)).collect();
    let first = |server: usize| servers.wait_for_other(server, &keys[server], "");
    let mut values: Vec<String> = (0..keys.len()).map(first).collect();
    for expiry in 0..EXPIRIES {
        let server = expiry % keys.len();
        servers.expire(server, &keys[server]);
        values[server] = servers.wait_for_other(server, &keys[server], &values[server]);
    }
    let mut loads = 0;
    for process in &mut processes {
        drop(process.stdin.take());
        let mut told = String::new();
        process.stdout.take().expect("it is piped").read_to_string(&mut told).expect("it is text");
        assert!(process.wait().expect("it is ours").success(), "{told}");
        let told = told.lines().find_map(|line| line.strip_prefix("fleet: "));
        let told: Vec<u32> = told.expect("each process tells").split(' ').map(number).collect();
        assert!(told[1] > 0, "every process read");
        assert_eq!(told[2], 0, "no reader waited for a refresh");
        loads += told[0];
    }
    let first = keys.len();
    assert_eq!(loads as usize, first + EXPIRIES, "the first loads, and one for each expiry");
}

/// A key that each server owns.
fn one_for_each(servers: &Servers, url: &str) -> Vec<String> {
    let url = EngineUrl::parse(url).expect("the test's URL is one");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime starts").block_on(async {
        let engine = Memcached::open(&url, &Clock::system()).expect("the test's URL opens");
        let owned = |address: &String| {
            let mut names = (0..).map(|number| format!("hot:{number}"));
            let owner = |key: &str| engine.owner(key).expect("it is a key");
            names.find(|key| owner(key).as_ref() == Some(address)).expect("each has some")
        };
        servers.addresses().iter().map(owned).collect()
    })
}

/// One of the processes, when the test above starts it; nothing otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_of_the_fleet() {
    let Ok(url) = std::env::var(FLEET_URL) else { return };
    let config = Config { near_ms: 5, early: 0.0, ..Config::default() };
    let cache = config.open(&url).await.unwrap();
    let keys: Arc<[String]> =
        std::env::var(FLEET_KEYS).unwrap().split(' ').map(str::to_owned).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let (loads, reads, waits) = <(Arc<AtomicU32>, Arc<AtomicU32>, Arc<AtomicU32>)>::default();
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..READERS {
        let (cache, stop, keys) = (cache.clone(), Arc::clone(&stop), Arc::clone(&keys));
        let (loads, reads, waits) = (Arc::clone(&loads), Arc::clone(&reads), Arc::clone(&waits));
        readers.spawn(async move {
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let begun = loads.load(Ordering::SeqCst);
                let load = {
                    let loads = Arc::clone(&loads);
                    move || async move {
                        let number = loads.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        Ok::<_, Error>(format!("{}.{number}", std::process::id()))
                    }
                };
                let key = &keys[(reader + round) % keys.len()];
                let read = cache.fetch(key, Duration::from_secs(600), load).await.unwrap();
                // What a load brought that began after the read did, the read has waited for.
                let ours = format!("{}.", std::process::id());
                let load_of_ours = read.strip_prefix(&ours).map(number);
                let is_first = round < keys.len();
                let has_waited = !is_first && load_of_ours.is_some_and(|load| load >= begun);
                waits.fetch_add(u32::from(has_waited), Ordering::Relaxed);
                reads.fetch_add(1, Ordering::Relaxed);
                let pause = Duration::from_millis(40 + reader as u64 % 20);
                // Five keys in turn, each as often as a key alone would be.
                tokio::time::sleep(pause / u32::try_from(keys.len()).unwrap()).await;
            }
        });
    }
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0; 1]));
    ended.await.unwrap().unwrap();
    stop.store(true, Ordering::Relaxed);
    readers.join_all().await;
    cache.settle().await;
    let count = |count: &AtomicU32| count.load(Ordering::SeqCst);
    let mut out = std::io::stdout();
    writeln!(out, "\nfleet: {} {} {}", count(&loads), count(&reads), count(&waits)).unwrap();
}

fn launch(url: &str, keys: &[String]) -> Child {
    let program = std::env::current_exe().expect("a test knows its program");
    Command::new(program)
        .args(["--exact", "fleet::one_process_of_the_fleet", "--nocapture"])
        .envs([(FLEET_URL, url), (FLEET_KEYS, &keys.join(" "))])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a test can run itself")
}

fn number(text: &str) -> u32 {
    text.parse().expect("it is a number")
}

const FLEET_URL: &str = "THRONG_CACHE_TEST_FLEET_URL";
const FLEET_KEYS: &str = "THRONG_CACHE_TEST_FLEET_KEYS";
