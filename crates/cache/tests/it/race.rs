//! The race of the talks: 64 processes meet one expiry. By the recipe of Mint cache (a stale value
//! is written back by whoever sees it first, in two steps) several load; by the cache's leases one.

#![expect(clippy::unwrap_used, reason = "in a test's process a panic is the report")]

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use throng_cache::Error;

use super::{servers::Servers, *};

const PROCESSES: usize = 64;
const EXPIRIES: usize = 20;

#[test]
fn sixty_four_processes_at_one_expiry_load_several_times_by_mints_recipe_and_once_by_ours() {
    let Some(servers) = Servers::start(1) else { return };
    let url = servers.url("timeout=20s");
    let mut processes: Vec<Racer> =
        (0..PROCESSES).map(|_| Racer::start(&url, &servers.addresses()[0])).collect();
    processes.iter_mut().for_each(|racer| assert_eq!(racer.hear(), "ready"));
    let mut race = |recipe: &str| -> usize {
        // All set off at the same moment, when all know of it.
        let at_ms = now_ms() + 60;
        processes.iter_mut().for_each(|racer| racer.tell(&format!("{recipe} {at_ms}")));
        processes.iter_mut().map(Racer::hear).filter(|word| word == "loaded").count()
    };
    let mut ours = Vec::new();
    let mut mints = Vec::new();
    for expiry in 0..EXPIRIES {
        servers.ask(0, "set mint 0 0 7\r\n0 stale\r\n");
        mints.push(race("mint"));
        if expiry == 0 {
            // Nothing is there: the first load, for which the others wait.
            assert_eq!(race("ours"), 1, "the first load");
        }
        servers.expire(0, "ours");
        ours.push(race("ours"));
    }
    println!("loads at an expiry among {PROCESSES} processes: mint {mints:?}, ours {ours:?}");
    assert_eq!(ours, [1; EXPIRIES], "one load for each expiry");
    assert!(mints.iter().any(|loads| *loads > 1), "Mint's recipe has a race: {mints:?}");
}

/// One of the processes, when the test above starts it; nothing otherwise.
#[tokio::test]
async fn one_process_of_the_race() {
    let (Ok(url), Ok(address)) = (std::env::var(RACE_URL), std::env::var(RACE_ADDRESS)) else {
        return;
    };
    // A copy in the process would keep it out of the race.
    let config = Config { near_ms: 0, early: 0.0, ..Config::default() };
    let cache = config.open(&url).await.unwrap();
    let _: Option<u32> = cache.get("nothing").await.unwrap();
    let mut server = BufReader::new(TcpStream::connect(address).unwrap());
    let mut out = std::io::stdout();
    writeln!(out, "\nrace: ready").unwrap();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (recipe, at_ms) = line.split_once(' ').unwrap();
        let at_ms: u64 = at_ms.parse().unwrap();
        tokio::time::sleep(Duration::from_millis(at_ms.saturating_sub(now_ms()))).await;
        let has_loaded = match recipe {
            "mint" => mint(&mut server),
            _ => ours(&cache).await,
        };
        writeln!(out, "\nrace: {}", if has_loaded { "loaded" } else { "served" }).unwrap();
    }
}

/// `get` by the recipe: a value past its time is written back as refreshed, and whoever did that
/// is told that it is missing, so that it loads.
fn mint(server: &mut BufReader<TcpStream>) -> bool {
    server.get_mut().write_all(b"get mint\r\n").unwrap();
    let mut line = String::new();
    let mut value = String::new();
    server.read_line(&mut line).unwrap();
    if line.starts_with("VALUE") {
        server.read_line(&mut value).unwrap();
        server.read_line(&mut line).unwrap();
    }
    let is_refreshed = value.starts_with('1');
    if !is_refreshed {
        server.get_mut().write_all(b"set mint 0 60 7\r\n1 stale\r\n").unwrap();
        line.clear();
        server.read_line(&mut line).unwrap();
        assert_eq!(line, "STORED\r\n");
    }
    !is_refreshed
}

async fn ours(cache: &Cache) -> bool {
    static HAS_LOADED: AtomicBool = AtomicBool::new(false);
    HAS_LOADED.store(false, Ordering::SeqCst);
    let load = async || {
        HAS_LOADED.store(true, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok::<_, Error>(std::process::id())
    };
    cache.fetch("ours", Duration::from_secs(600), load).await.unwrap();
    cache.settle().await;
    HAS_LOADED.load(Ordering::SeqCst)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

struct Racer {
    process: Child,
    orders: ChildStdin,
    words: BufReader<ChildStdout>,
}

impl Racer {
    fn start(url: &str, address: &str) -> Self {
        let program = std::env::current_exe().expect("a test knows its program");
        let mut process = Command::new(program)
            .args(["--exact", "race::one_process_of_the_race", "--nocapture"])
            .envs([(RACE_URL, url), (RACE_ADDRESS, address)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a test can run itself");
        let orders = process.stdin.take().expect("it is piped");
        let words = BufReader::new(process.stdout.take().expect("it is piped"));
        Self { process, orders, words }
    }

    fn tell(&mut self, order: &str) {
        writeln!(self.orders, "{order}").expect("a racer listens");
    }

    fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            let len = self.words.read_line(&mut line).expect("a racer writes text");
            assert!(len > 0, "a racer ended before its time");
            if let Some(word) = line.trim_end().strip_prefix("race: ") {
                return word.to_owned();
            }
        }
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const RACE_URL: &str = "THRONG_CACHE_TEST_RACE_URL";
const RACE_ADDRESS: &str = "THRONG_CACHE_TEST_RACE_ADDRESS";
