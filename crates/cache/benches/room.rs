//! How fast the cache is, beside quick_cache, moka, async-memcached, and pylibmc and Django by
//! THRONG_TEST_PYTHON: one JSON object a line, read by `cargo xtask bench cache`.
//!
//! The servers are five real "memcached" of the bench's own. CPU time is that of the whole process,
//! and of each case the best of several rounds counts, ours and the peer's in turn.

#[path = "../tests/it/servers.rs"]
#[expect(dead_code, reason = "the tests do more to their servers")]
mod servers;

use std::{
    hint::black_box,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use async_memcached::AsciiProtocol;
use serde_json::Value;
use throng_cache::{Cache, Config, Engine, Error, Life, engine::Memcached};
use throng_core::{Clock, EngineUrl};

use self::servers::Servers;

/// All cases, or those that are named: `cargo bench -p throng-cache -- hits`.
fn main() -> anyhow::Result<()> {
    let named: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_asked = |name: &str| named.is_empty() || named.iter().any(|named| named == name);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if is_asked("hits") {
        runtime.block_on(hits())?;
    }
    if is_asked("expiries") {
        runtime.block_on(across_expiries())?;
    }
    let Some(servers) = Servers::start(5) else { return Ok(()) };
    if is_asked("one") {
        runtime.block_on(one_key(&servers))?;
    }
    if is_asked("many") {
        runtime.block_on(many_keys(&servers))?;
    }
    Ok(())
}

/// A value of this process, of a thousand that are there, read by the same keys in the same order.
/// Its clone, and dropping that, costs two counts of references everywhere.
///
/// What is timed of ours is `fetch`, future and all: it looks at the clock, counts the read and is
/// asked for its type. The bare map is asked for what it has and knows no time.
async fn hits() -> anyhow::Result<()> {
    let keys: Vec<String> = (0..1_000).map(|number| format!("event/{number}")).collect();
    let page = Page("x".repeat(200).into());
    let ours = Cache::memory();
    let bare: quick_cache::sync::Cache<Arc<str>, Page> = quick_cache::sync::Cache::new(10_000);
    let moka = moka::future::Cache::builder().max_capacity(10_000).time_to_live(HOUR).build();
    for key in &keys {
        ours.set(key, &page, HOUR).await?;
        bare.insert(key.as_str().into(), page.clone());
        moka.insert(key.clone(), page.clone()).await;
    }
    let (mut of_ours, mut of_bare, mut of_moka) = (Vec::new(), Vec::new(), Vec::new());
    for _round in 0..ROUNDS {
        let begun = Instant::now();
        for key in keys.iter().cycle().take(HITS) {
            let load = std::future::pending::<Result<Page, Error>>;
            black_box(ours.fetch(key, HOUR, load).await?);
        }
        of_ours.push(each(begun.elapsed(), HITS));
        let begun = Instant::now();
        for key in keys.iter().cycle().take(HITS) {
            black_box(bare.get(key.as_str()));
        }
        of_bare.push(each(begun.elapsed(), HITS));
        let begun = Instant::now();
        for key in keys.iter().cycle().take(HITS) {
            black_box(moka.get(key.as_str()).await);
        }
        of_moka.push(each(begun.elapsed(), HITS));
    }
    let [ours, bare, moka] = [of_ours, of_bare, of_moka].map(|took| least(&took) * 1e3);
    case("hit in the process", "ns", ours, Some((bare, "quick_cache, bare")), "ratio <= 1.2");
    case("hit in the process", "ns", ours, Some((moka, "moka")), "");
    Ok(())
}

/// Reads of a hot key by 64 readers while it expires again and again, and loading takes 50 ms.
async fn across_expiries() -> anyhow::Result<()> {
    let cache = Config { early: 0.0, ..Config::default() }.memory();
    let ours = readers(move || {
        let cache = cache.clone();
        async move { cache.fetch("hot", Life::of(TTL).grace(HOUR), load).await.map(drop) }
    });
    let ours = ours.await?;
    let moka = moka::future::Cache::builder().time_to_live(TTL).build();
    let of_moka = readers(move || {
        let moka: moka::future::Cache<&str, Page> = moka.clone();
        async move {
            black_box(moka.try_get_with("hot", load()).await)
                .map(drop)
                .map_err(|error| (*error).clone())
        }
    });
    let moka = of_moka.await?;
    let claim = "p99 of a hot key across expiries, 50 ms loader";
    case(claim, "ms", ours, Some((moka, "moka get_with")), "ours <= 1");
    let django = python("expiry", "none")?.and_then(|took| took.as_f64());
    if let Some(django) = django {
        case(claim, "ms", ours, Some((django, "Django get_or_set")), "ours <= 1");
    }
    Ok(())
}

async fn load() -> Result<Page, Error> {
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(Page("x".repeat(200).into()))
}

/// The milliseconds that 99 of 100 reads take at most.
async fn readers<F>(read: impl Fn() -> F + Clone + Send + 'static) -> anyhow::Result<f64>
where
    F: Future<Output = Result<(), Error>> + Send,
{
    let mut tasks = tokio::task::JoinSet::new();
    let until = Instant::now() + Duration::from_secs(4);
    read().await?;
    for _ in 0..64 {
        let read = read.clone();
        tasks.spawn(async move {
            let mut took = Vec::new();
            let mut due = Instant::now();
            while due < until {
                tokio::time::sleep_until(due.into()).await;
                // Of readers that come when they come, each is late that comes while one waits.
                let begun = Instant::now();
                due = due.max(begun);
                read().await?;
                let ended = Instant::now();
                took.push(each(ended - begun, 1) / 1e3);
                due += EVERY;
                while due < ended {
                    took.push(each(ended - due, 1) / 1e3);
                    due += EVERY;
                }
            }
            Ok::<_, Error>(took)
        });
    }
    let mut took = Vec::new();
    for task in tasks.join_all().await {
        took.extend(task?);
    }
    took.sort_by(f64::total_cmp);
    Ok(took[took.len() * 99 / 100])
}

/// `get` of one key of 200 bytes from one server, nothing kept in the process. CPU is that of the
/// client's process. What the system takes for itself, a socket shows that sends the same command and
/// waits for the answer, and does nothing else.
async fn one_key(servers: &Servers) -> anyhow::Result<()> {
    let address = servers.addresses().swap_remove(0);
    let url = format!("memcached://{address}?timeout=5s&values=python");
    let cache = Config { near_ms: 0, ..Config::default() }.open(&url).await?;
    cache.set("bench:one", &"x".repeat(200), HOUR).await?;
    let mut other = async_memcached::Client::new(format!("tcp://{address}")).await?;
    let mut bare = Bare::to(&address)?;
    let mut took = [const { Vec::new() }; 5];
    let [alone, at_once, of_other, of_bare, of_python] = &mut took;
    for _round in 0..ROUNDS_OF_PYTHON {
        let begun = cpu();
        for _ in 0..GETS {
            black_box(cache.get::<String>("bench:one").await?);
        }
        alone.push(each(cpu() - begun, GETS));
        let begun = cpu();
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let cache = cache.clone();
            callers.spawn(async move {
                for _ in 0..GETS / 16 {
                    black_box(cache.get::<String>("bench:one").await?);
                }
                Ok::<_, Error>(())
            });
        }
        for caller in callers.join_all().await {
            caller?;
        }
        at_once.push(each(cpu() - begun, GETS / 16 * 64));
        let begun = cpu();
        for _ in 0..GETS {
            black_box(other.get("bench:one").await?);
        }
        of_other.push(each(cpu() - begun, GETS));
        let begun = cpu();
        for _ in 0..GETS {
            bare.ask(b"get bench:one\r\n")?;
            bare.wait()?;
        }
        of_bare.push(each(cpu() - begun, GETS));
        of_python.extend(python("one", &address)?.and_then(|took| took["cpu_us"].as_f64()));
    }
    let [alone, at_once, other, bare, pylibmc] = took.map(|took| least(&took));
    let one_by_one = "get from memcached, one by one, CPU";
    case(one_by_one, "us", alone, Some((other, "async-memcached")), "");
    case(one_by_one, "us", alone, Some((bare, "a socket alone")), "");
    if pylibmc.is_finite() {
        case(one_by_one, "us", alone, Some((pylibmc, "pylibmc")), "");
        let claim = "get from memcached, 64 callers, CPU";
        case(claim, "us", at_once, Some((pylibmc, "pylibmc")), "ratio <= 0.5");
    }
    Ok(())
}

/// 100 keys of 200 bytes from five servers in one call, by time and by the CPU of the client's
/// process, beside pylibmc and beside sockets that send the same questions to all five and wait.
async fn many_keys(servers: &Servers) -> anyhow::Result<()> {
    let url = servers.url("ring=ketama-weighted&timeout=5s&values=python");
    let engine = Memcached::open(&EngineUrl::parse(&url)?, &Clock::system())?;
    let cache = Config { near_ms: 0, ..Config::default() }.with_engine(engine.clone());
    let keys: Arc<[String]> = (0..100).map(|number| format!("bench:{number}")).collect();
    for key in keys.iter() {
        cache.set(key, &"x".repeat(200), HOUR).await?;
    }
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut bare = Vec::new();
    for address in servers.addresses() {
        let mut question = b"get".to_vec();
        for key in keys.iter() {
            if engine.owner(key)?.as_ref() == Some(&address) {
                question.extend([b" ", key.as_bytes()].concat());
            }
        }
        question.extend(b"\r\n");
        bare.push((Bare::to(&address)?, question));
    }
    let mut took = [const { Vec::new() }; 7];
    let [walls, cpus, at_once, bare_walls, bare_cpus, python_walls, python_cpus] = &mut took;
    for _round in 0..ROUNDS_OF_PYTHON {
        let (begun, begun_cpu) = (Instant::now(), cpu());
        for _ in 0..MANY_GETS {
            let found = engine.get(&names).await?;
            anyhow::ensure!(found.iter().all(Option::is_some), "a key is missing");
        }
        walls.push(each(begun.elapsed(), MANY_GETS));
        cpus.push(each(cpu() - begun_cpu, MANY_GETS));
        let begun_cpu = cpu();
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..CALLERS {
            let (engine, keys) = (engine.clone(), Arc::clone(&keys));
            callers.spawn(async move {
                let names: Vec<&str> = keys.iter().map(String::as_str).collect();
                for _ in 0..MANY_GETS / CALLERS {
                    let found = engine.get(&names).await?;
                    anyhow::ensure!(found.iter().all(Option::is_some), "a key is missing");
                }
                Ok::<_, anyhow::Error>(())
            });
        }
        for caller in callers.join_all().await {
            caller?;
        }
        at_once.push(each(cpu() - begun_cpu, MANY_GETS / CALLERS * CALLERS));
        let (begun, begun_cpu) = (Instant::now(), cpu());
        for _ in 0..MANY_GETS {
            for (socket, question) in &mut bare {
                socket.ask(question)?;
            }
            for (socket, _) in &mut bare {
                socket.wait()?;
            }
        }
        bare_walls.push(each(begun.elapsed(), MANY_GETS));
        bare_cpus.push(each(cpu() - begun_cpu, MANY_GETS));
        if let Some(python) = python("many", &servers.addresses().join(","))? {
            python_walls.extend(python["wall_us"].as_f64());
            python_cpus.extend(python["cpu_us"].as_f64());
        }
    }
    let [wall, cpu, at_once, bare_wall, bare_cpu, python_wall, python_cpu] =
        took.map(|took| least(&took));
    let claim = "multi-get of 100 over 5 servers";
    let claim_cpu = format!("{claim}, CPU");
    case(claim, "us", wall, Some((bare_wall, "sockets alone")), "");
    case(&claim_cpu, "us", cpu, Some((bare_cpu, "sockets alone")), "");
    if python_wall.is_finite() {
        case(claim, "us", wall, Some((python_wall, "pylibmc")), "ratio <= 0.4");
        case(&claim_cpu, "us", cpu, Some((python_cpu, "pylibmc")), "ratio <= 0.4");
        let claim = format!("{claim}, {CALLERS} callers at once, CPU");
        case(&claim, "us", at_once, Some((python_cpu, "pylibmc")), "ratio <= 0.4");
    }
    Ok(())
}

/// A blocking socket that reads until `END` and looks at nothing.
struct Bare {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Bare {
    fn to(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 1 << 16] })
    }

    fn ask(&mut self, question: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(question)?)
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        let mut len = 0;
        while !self.buffer[..len].ends_with(b"END\r\n") {
            len += self.stream.read(&mut self.buffer[len..])?;
        }
        Ok(())
    }
}

/// Runs a case of the peer; `None`, after saying so, where there is no Python.
fn python(name: &str, servers: &str) -> anyhow::Result<Option<Value>> {
    let Ok(python) = std::env::var("THRONG_TEST_PYTHON") else {
        eprintln!("THRONG_TEST_PYTHON is not set: no pylibmc and no Django");
        return Ok(None);
    };
    let mut peer = Command::new(python);
    let output = peer.args(["-c", include_str!("python_peer.py"), servers, name]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "the Python peer failed: {said}");
    Ok(Some(serde_json::from_slice(&output.stdout)?))
}

/// The CPU time that all threads of this process have had.
fn cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanos = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// Microseconds.
fn each(took: Duration, count: usize) -> f64 {
    took.as_secs_f64() * 1e6 / count as f64
}

fn least(took: &[f64]) -> f64 {
    took.iter().copied().fold(f64::INFINITY, f64::min)
}

fn case(case: &str, unit: &str, ours: f64, peer: Option<(f64, &str)>, target: &str) {
    let (peer, peer_name) = peer.map_or((None, ""), |(peer, name)| (Some(peer), name));
    let line = serde_json::json!({
        "case": case, "unit": unit, "ours": ours, "peer": peer, "peer_name": peer_name,
        "target": target,
    });
    println!("{line}");
}

/// What is cached: a clone of it costs a count.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
#[serde(from = "String", into = "String")]
struct Page(Arc<str>);

impl From<String> for Page {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Page> for String {
    fn from(page: Page) -> Self {
        page.0.as_ref().into()
    }
}

const ROUNDS: usize = 15;
const HITS: usize = 200_000;
const GETS: usize = 8_000;
const CALLERS: usize = 10;
const MANY_GETS: usize = 500;
/// Python takes a second to start.
const ROUNDS_OF_PYTHON: usize = 4;
const HOUR: Duration = Duration::from_secs(3_600);
/// How often a reader comes.
const EVERY: Duration = Duration::from_millis(5);
const TTL: Duration = Duration::from_millis(500);
