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
/// Readers that are served while a load goes on, before it may end.
const SERVED: u32 = 30;

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
    let (loads, reads) = <(Arc<AtomicU32>, Arc<AtomicU32>)>::default();
    let watched: Arc<[Watched]> = keys.iter().map(|_| Watched::default()).collect();
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..READERS {
        let (cache, stop, keys) = (cache.clone(), Arc::clone(&stop), Arc::clone(&keys));
        let (loads, reads, watched) =
            (Arc::clone(&loads), Arc::clone(&reads), Arc::clone(&watched));
        readers.spawn(async move {
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let at = (reader + round) % keys.len();
                let begun = watched[at].loads.load(Ordering::SeqCst);
                let load = {
                    let (loads, stop) = (Arc::clone(&loads), Arc::clone(&stop));
                    let watched = Arc::clone(&watched);
                    move || async move {
                        let number = loads.fetch_add(1, Ordering::SeqCst);
                        watched[at].load(&stop).await;
                        Ok::<_, Error>(format!("{}.{number}", std::process::id()))
                    }
                };
                cache.fetch(&keys[at], Duration::from_secs(600), load).await.unwrap();
                watched[at].has_read(begun);
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
    writeln!(out, "\nfleet: {} {}", count(&loads), count(&reads)).unwrap();
}

/// What a process sees of a key.
#[derive(Default)]
struct Watched {
    has_value: AtomicBool,
    /// Loads that have begun.
    loads: AtomicU32,
    /// Reads that began after the last of them did, and have ended.
    served: AtomicU32,
}

impl Watched {
    /// A load that ends only when many who came after it began were served without it: if readers
    /// waited for a refresh, it would never end. There is nothing to serve before the first value.
    async fn load(&self, stop: &AtomicBool) {
        let has_value = self.has_value.load(Ordering::SeqCst);
        self.served.store(0, Ordering::SeqCst);
        self.loads.fetch_add(1, Ordering::SeqCst);
        let is_done =
            || self.served.load(Ordering::SeqCst) >= SERVED || stop.load(Ordering::Relaxed);
        while has_value && !is_done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Notes a read that began when so many loads had.
    fn has_read(&self, begun: u32) {
        self.has_value.store(true, Ordering::SeqCst);
        if begun == self.loads.load(Ordering::SeqCst) {
            self.served.fetch_add(1, Ordering::SeqCst);
        }
    }
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
