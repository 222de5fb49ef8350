//! How fast the queue is, beside Celery on Redis and RabbitMQ, and beside apalis on SQLite, PostgreSQL,
//! Redis and RabbitMQ: one JSON object a line, read by `cargo xtask bench queue`.
//!
//! The cases of a server need its feature and THRONG_TEST_POSTGRES_URL, THRONG_TEST_REDIS_URL or
//! THRONG_TEST_RABBITMQ_URL; the peers THRONG_TEST_PYTHON with Celery in it, and THRONG_BENCH_APALIS,
//! the program in `xtask/peers/apalis`. With the name of an engine as the argument, only that one is
//! measured.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm::ConnectionTrait as _;
use throng_core::{Clock, Shutdown};
use throng_db::Db;
use throng_queue::{
    Delivery, MIGRATIONS, Message, Outcome, Policy, Queue, TaskId, Worker, WorkerConfig,
};

#[cfg(feature = "rabbitmq")]
#[path = "room/bare.rs"]
mod bare;
#[path = "room/calls.rs"]
mod calls;
#[path = "room/meter.rs"]
mod meter;
#[path = "room/peers.rs"]
mod peers;
#[cfg(feature = "rabbitmq")]
#[path = "room/rabbitmq.rs"]
mod rabbitmq;
#[cfg(feature = "rabbitmq")]
#[path = "room/socket.rs"]
mod socket;

use meter::Meter;
use peers::{Apalis, Celery};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if calls::play().await? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bench.db");
    let db = Db::sqlite(&file).await?;
    let _ = db.migrate(&[MIGRATIONS]).await?;
    let only = std::env::args().nth(1).filter(|only| !only.starts_with('-'));
    let is_wanted = |engine: &str| only.as_deref().is_none_or(|only| only == engine);
    if is_wanted("sqlite") {
        let theirs = format!("sqlite:{}", folder.path().join("apalis.db").display());
        let sqlite = Bench::on_database("sqlite", &db, Apalis::at(theirs));
        sqlite.push_one_by_one(1000).await?;
        sqlite.push_in_batches(TASKS).await?;
        sqlite.push(TASKS, "").await?;
        sqlite.run("ours >= 2000", 10_000).await?;
        sqlite.latency().await?;
    }
    if cfg!(feature = "postgres")
        && is_wanted("postgres")
        && let Ok(server) = std::env::var("THRONG_TEST_POSTGRES_URL")
    {
        on_postgres(&server).await?;
    }
    let python = std::env::var("THRONG_TEST_PYTHON").ok();
    if cfg!(feature = "redis")
        && is_wanted("redis")
        && let Ok(url) = std::env::var("THRONG_TEST_REDIS_URL")
    {
        let redis = Bench::on_broker("redis", &url, &db, python.clone(), Apalis::at(url.clone()));
        let redis = redis.await?;
        redis.push_one_by_one(TASKS).await?;
        redis.push_in_batches(TASKS * 5).await?;
        redis.push(TASKS * 5, "ours >= 60000").await?;
        // More at once are more than the script of apalis 1.0 takes.
        redis.run("ratio >= 20", 6_000).await?;
        redis.latency().await?;
        redis.wait_at_once().await?;
        redis.call_at_once(&url).await?;
    }
    #[cfg(feature = "rabbitmq")]
    if is_wanted("rabbitmq")
        && let Ok(url) = std::env::var("THRONG_TEST_RABBITMQ_URL")
    {
        // One of the two nodes: Celery uses the second only when the first is away.
        let url = format!("{}/", url.split(',').next().unwrap_or_default());
        let apalis = Apalis::at(url.clone());
        let rabbitmq = Bench::on_broker("rabbitmq", &url, &db, python, apalis).await?;
        rabbitmq.push_in_turn(&url, TASKS * 2).await?;
        rabbitmq.run("ratio >= 20", 10_000).await?;
        rabbitmq.take_alone(&url, TASKS * 3).await?;
        rabbitmq.latency().await?;
        rabbitmq.latency_alone(&url).await?;
    }
    Ok(())
}

/// In a database of the server that goes when the bench ends.
async fn on_postgres(server: &str) -> anyhow::Result<()> {
    let name = format!("bench_{}", &TaskId::random().as_str()[..8]);
    let url = format!("{}/{name}", server.rsplit_once('/').unwrap_or_default().0);
    let above = Db::open(server).await?;
    above.execute_unprepared(&format!("CREATE DATABASE {name}")).await?;
    let db = Db::open(&url).await?;
    let _ = db.migrate(&[MIGRATIONS]).await?;
    let postgres = Bench::on_database("postgres", &db, Apalis::at(url));
    postgres.push_one_by_one(1000).await?;
    postgres.push_in_batches(TASKS).await?;
    postgres.push(TASKS, "").await?;
    postgres.run("", 10_000).await?;
    postgres.latency().await?;
    drop(postgres);
    db.close().await;
    above.execute_unprepared(&format!("DROP DATABASE {name} WITH (FORCE)")).await?;
    above.close().await;
    Ok(())
}

struct Bench {
    queue: Queue,
    engine: &'static str,
    name: String,
    celery: Option<Celery>,
    apalis: Option<Apalis>,
}

impl Bench {
    fn on_database(engine: &'static str, db: &Db, apalis: Option<Apalis>) -> Self {
        let queue = Queue::database(db.clone(), Clock::system());
        Self { queue, engine, name: "default".into(), celery: None, apalis }
    }

    async fn on_broker(
        engine: &'static str,
        url: &str,
        db: &Db,
        python: Option<String>,
        apalis: Option<Apalis>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            queue: Queue::open(url, db.clone(), Clock::system()).await?,
            engine,
            name: format!("bench-{}", TaskId::random()),
            celery: python.map(|python| Celery { python, broker: url.to_owned() }),
            apalis,
        })
    }

    /// Ten thousand tasks that wait a second for something, all in one worker: how long until the
    /// last is recorded as done, and what this process weighs at most.
    async fn wait_at_once(&self) -> anyhow::Result<()> {
        let messages = (0..WAITING).map(|_| Ok(Message::new("wait", ())?.queue(&self.name)));
        let messages = messages.collect::<throng_queue::Result<Vec<_>>>()?;
        let last = self.queue.push_all(messages).await?;
        let config = WorkerConfig {
            queues: vec![self.name.clone()],
            concurrency: WAITING,
            ..WorkerConfig::default()
        };
        let done = Arc::new(AtomicUsize::new(0));
        let counter = done.clone();
        let worker = Worker::new(self.queue.clone()).config(config).on(
            "wait",
            Policy::default(),
            move |_: Delivery| {
                let counter = counter.clone();
                async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            },
        );
        let (stop, shutdown) = Shutdown::pair();
        let begun = Instant::now();
        let running = tokio::spawn(worker.run(shutdown));
        let mut most_mb = 0.0_f64;
        while done.load(Ordering::Relaxed) < last.len() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            most_mb = most_mb.max(meter::resident_mb());
        }
        let took = begun.elapsed().as_secs_f64();
        stop.request();
        running.await??;
        self.case("10,000 tasks that wait 1 s, at once", "s", took, None, "ours <= 2.5");
        self.case("memory while they wait", "MB", most_mb, None, "ours <= 200");
        Ok(())
    }

    /// As many HTTP calls of a second each, in a worker's process of its own.
    async fn call_at_once(&self, url: &str) -> anyhow::Result<()> {
        let ours = calls::measure(&self.queue, url, &format!("{}-calls", self.name)).await?;
        let bare = calls::bare()?;
        let (server, address) = calls::serve()?;
        let peer =
            self.celery(&["calls", &calls::CALLS.to_string(), &format!("http://{address}/")]);
        calls::stop(server)?;
        let peer = peer?;
        let at = |place: usize| peer.get(place).copied();
        self.case("10,000 HTTP calls of 1 s, at once", "s", ours.took_s, at(0), "ours <= 2.5");
        self.case("memory of these calls", "MB", ours.peak_mb, at(1), "ours <= 200");
        self.case("processor for each of them", "us", ours.cpu_us, at(2), "");
        self.case("memory of the same calls without a queue", "MB", bare.peak_mb, None, "");
        self.case("processor for each without a queue", "us", bare.cpu_us, None, "");
        Ok(())
    }

    fn noop(&self) -> throng_queue::Result<Message> {
        Ok(Message::new("noop", ())?.queue(&self.name).ignore_result())
    }

    async fn push_one_by_one(&self, tasks: usize) -> anyhow::Result<()> {
        let meter = Meter::start();
        for _ in 0..tasks {
            self.queue.push(self.noop()?).await?;
        }
        let ours = meter.stop(tasks);
        let theirs = self.apalis("one", tasks)?;
        self.rates("push, one after another", ours, &[], &theirs, "");
        Ok(())
    }

    /// Acknowledged pushes by one caller, a hundred in a call.
    async fn push_in_batches(&self, tasks: usize) -> anyhow::Result<()> {
        let message = self.noop()?;
        let meter = Meter::start();
        for _ in 0..tasks / 100 {
            let batch = (0..100).map(|_| message.clone().with_id(TaskId::random())).collect();
            self.queue.push_all(batch).await?;
        }
        let ours = meter.stop(tasks / 100 * 100);
        let theirs = self.apalis("batch", tasks / 100 * 100)?;
        self.rates("push, 100 in a call", ours, &[], &theirs, "");
        Ok(())
    }

    /// Acknowledged pushes by 256 callers of one process at once.
    async fn push(&self, tasks: usize, target: &str) -> anyhow::Result<()> {
        let celery = self.celery(&["push"])?;
        let theirs = self.apalis("many", tasks / CALLERS * CALLERS)?;
        let ours = self.push_at_once(tasks).await?;
        self.rates("push, 256 callers at once", ours, &celery, &theirs, target);
        Ok(())
    }

    async fn push_at_once(&self, tasks: usize) -> anyhow::Result<[f64; 2]> {
        let mut callers: Vec<tokio::task::JoinHandle<throng_queue::Result<()>>> = Vec::new();
        let meter = Meter::start();
        for _ in 0..CALLERS {
            let (queue, message) = (self.queue.clone(), self.noop()?);
            let each = tasks / CALLERS;
            callers.push(tokio::spawn(async move {
                for _ in 0..each {
                    queue.push(message.clone().with_id(TaskId::random())).await?;
                }
                Ok(())
            }));
        }
        for caller in callers {
            caller.await??;
        }
        Ok(meter.stop(tasks / CALLERS * CALLERS))
    }

    /// No-op tasks through one worker, leases and acknowledgements included: all that were pushed
    /// here, and `theirs` by apalis.
    async fn run(&self, target: &str, theirs: usize) -> anyhow::Result<()> {
        let ran = Arc::new(AtomicUsize::new(0));
        let counter = ran.clone();
        let worker = self.worker(WorkerConfig::default(), move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let (stop, shutdown) = Shutdown::pair();
        let counts = self.queue.counts().await?;
        let of_ours = counts.iter().filter(|count| count.queue == self.name);
        let total = usize::try_from(of_ours.map(|count| count.tasks).sum::<u64>())?;
        let meter = Meter::start();
        let running = tokio::spawn(worker.run(shutdown));
        while ran.load(Ordering::Relaxed) < total {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let ours = meter.stop(total);
        stop.request();
        running.await??;
        let celery = self.celery(&["run"])?;
        let theirs = self.apalis("run", theirs)?;
        self.rates("run no-op tasks", ours, &celery, &theirs, target);
        Ok(())
    }

    /// From the push to the handler, in an idle worker of the same process.
    async fn latency(&self) -> anyhow::Result<()> {
        let started = Arc::new(Mutex::new(None));
        let cell = started.clone();
        let config = WorkerConfig { concurrency: 1, ..WorkerConfig::default() };
        let worker = self.worker(config, move || {
            *cell.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        });
        let (stop, shutdown) = Shutdown::pair();
        let running = tokio::spawn(worker.run(shutdown));
        let mut took = Vec::new();
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(30)).await;
            let begun = Instant::now();
            self.queue.push(self.noop()?).await?;
            let at = loop {
                let at = started.lock().unwrap_or_else(PoisonError::into_inner).take();
                match at {
                    Some(at) => break at,
                    None => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            };
            took.push(at.duration_since(begun).as_secs_f64() * 1000.0);
        }
        stop.request();
        running.await??;
        took.sort_by(f64::total_cmp);
        let celery = self.celery(&["latency"])?;
        let theirs = self.apalis("latency", took.len())?;
        let target = if celery.is_empty() { "" } else { "ratio <= 0.2" };
        let ours = [took[took.len() / 2], took[took.len() * 99 / 100]];
        for (at, part) in ["p50", "p99"].into_iter().enumerate() {
            let case = format!("idle push to start, {part}");
            let theirs = [celery.get(at).copied(), theirs.get(at).copied()];
            self.beside(&case, "ms", ours[at], theirs, target);
        }
        Ok(())
    }

    fn worker(&self, config: WorkerConfig, note: impl Fn() + Send + Sync + 'static) -> Worker {
        let config = WorkerConfig { queues: vec![self.name.clone()], ..config };
        Worker::new(self.queue.clone()).config(config).on(
            "noop",
            Policy::default(),
            move |_: Delivery| {
                note();
                async { Outcome::done() }
            },
        )
    }

    /// What Celery says of this case on this broker.
    fn celery(&self, case: &[&str]) -> anyhow::Result<Vec<f64>> {
        self.celery.as_ref().map_or(Ok(Vec::new()), |celery| celery.says(case, &self.name))
    }

    /// What apalis says of this case on this engine.
    fn apalis(&self, case: &str, tasks: usize) -> anyhow::Result<Vec<f64>> {
        self.apalis.as_ref().map_or(Ok(Vec::new()), |apalis| apalis.says(case, &self.name, tasks))
    }

    /// A rate and what each task cost the process that pushed or ran it, beside those of the peers.
    fn rates(&self, case: &str, ours: [f64; 2], celery: &[f64], apalis: &[f64], target: &str) {
        for (at, unit) in ["tasks/s", "us of the processor"].into_iter().enumerate() {
            let theirs = [celery.get(at).copied(), apalis.get(at).copied()];
            self.beside(case, unit, ours[at], theirs, if at == 0 { target } else { "" });
        }
    }

    /// A line for each peer that has a figure, Celery first. Ratios are promised to it alone.
    fn beside(&self, case: &str, unit: &str, ours: f64, theirs: [Option<f64>; 2], target: &str) {
        let [celery, apalis] = theirs;
        if celery.is_some() || apalis.is_none() {
            self.case(case, unit, ours, celery, target);
        }
        if let Some(figure) = apalis {
            let is_ours = celery.is_none() && target.starts_with("ours");
            let target = if is_ours { target } else { "" };
            self.tell(case, unit, ours, Some((figure, "apalis 1.0")), target);
        }
    }

    fn case(&self, case: &str, unit: &str, ours: f64, celery: Option<f64>, target: &str) {
        self.tell(case, unit, ours, celery.map(|figure| (figure, "Celery 5.7")), target);
    }

    fn tell(&self, case: &str, unit: &str, ours: f64, peer: Option<(f64, &str)>, target: &str) {
        let line = serde_json::json!({
            "case": format!("{}: {case}", self.engine),
            "unit": unit,
            "ours": ours,
            "peer": peer.map(|(figure, _)| figure),
            "peer_name": peer.map_or("", |(_, name)| name),
            "target": target,
        });
        println!("{line}");
    }
}

const TASKS: usize = 10_240;
const WAITING: usize = 10_000;
const CALLERS: usize = 256;
