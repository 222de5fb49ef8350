//! How fast the queue is, on SQLite and beside Celery on Redis and RabbitMQ: one JSON object a line,
//! read by `cargo xtask bench queue`.
//!
//! The cases of a broker need its feature, THRONG_TEST_REDIS_URL or THRONG_TEST_RABBITMQ_URL, and for
//! the peer THRONG_TEST_PYTHON with Celery in it. With the name of an engine as the argument, only
//! that one is measured.

use std::{
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

#[cfg(feature = "rabbitmq")]
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
#[cfg(feature = "rabbitmq")]
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use throng_core::{Clock, Shutdown};
use throng_db::Db;
use throng_queue::{
    Delivery, MIGRATIONS, Message, Outcome, Policy, Queue, TaskId, Worker, WorkerConfig,
};

#[path = "room/calls.rs"]
mod calls;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if calls::play().await? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let db = Db::sqlite(folder.path().join("bench.db")).await?;
    let _ = db.migrate(&[MIGRATIONS]).await?;
    let sqlite = Bench {
        queue: Queue::database(db.clone(), Clock::system()),
        engine: "sqlite",
        name: "default".into(),
        peer: None,
    };
    let only = std::env::args().nth(1).filter(|only| !only.starts_with('-'));
    let is_wanted = |engine: &str| only.as_deref().is_none_or(|only| only == engine);
    if is_wanted("sqlite") {
        sqlite.push_one_by_one().await?;
        sqlite.push(TASKS, "").await?;
        sqlite.run("ours >= 2000").await?;
        sqlite.latency().await?;
    }
    let python = std::env::var("THRONG_TEST_PYTHON").ok();
    if cfg!(feature = "redis")
        && is_wanted("redis")
        && let Ok(url) = std::env::var("THRONG_TEST_REDIS_URL")
    {
        let redis = Bench::on("redis", &url, &db, python.clone()).await?;
        redis.push_in_batches(TASKS * 5).await?;
        redis.push(TASKS * 5, "ours >= 60000").await?;
        redis.run("ratio >= 20").await?;
        redis.latency().await?;
        redis.wait_at_once().await?;
        redis.call_at_once(&url).await?;
    }
    if cfg!(feature = "rabbitmq")
        && is_wanted("rabbitmq")
        && let Ok(url) = std::env::var("THRONG_TEST_RABBITMQ_URL")
    {
        // One of the two nodes: Celery uses the second only when the first is away.
        let url = format!("{}/", url.split(',').next().unwrap_or_default());
        let rabbitmq = Bench::on("rabbitmq", &url, &db, python).await?;
        rabbitmq.push(TASKS * 2, "ours >= 15000").await?;
        #[cfg(feature = "rabbitmq")]
        rabbitmq.publish_alone(&url, TASKS * 2).await?;
        rabbitmq.run("ratio >= 20").await?;
        rabbitmq.latency().await?;
    }
    Ok(())
}

struct Bench {
    queue: Queue,
    engine: &'static str,
    name: String,
    /// The Python that has Celery, and its broker.
    peer: Option<(String, String)>,
}

impl Bench {
    async fn on(
        engine: &'static str,
        url: &str,
        db: &Db,
        python: Option<String>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            queue: Queue::open(url, db.clone(), Clock::system()).await?,
            engine,
            name: format!("bench-{}", TaskId::random()),
            peer: python.map(|python| (python, url.to_owned())),
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
            most_mb = most_mb.max(resident_mb());
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
        let peer = self.celery(&format!("calls {} http://{address}/", calls::CALLS));
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

    async fn push_one_by_one(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        for _ in 0..1000 {
            self.queue.push(self.noop()?).await?;
        }
        self.case("push, one after another", "tasks/s", rate(1000, begun), None, "");
        Ok(())
    }

    /// Acknowledged pushes by one caller, a hundred in a call.
    async fn push_in_batches(&self, tasks: usize) -> anyhow::Result<()> {
        let message = self.noop()?;
        let begun = Instant::now();
        for _ in 0..tasks / 100 {
            let batch = (0..100).map(|_| message.clone().with_id(TaskId::random())).collect();
            self.queue.push_all(batch).await?;
        }
        self.case("push, 100 in a call", "tasks/s", rate(tasks, begun), None, "");
        Ok(())
    }

    /// Acknowledged pushes by 256 callers of one process at once.
    async fn push(&self, tasks: usize, target: &str) -> anyhow::Result<()> {
        let peer = self.celery("push")?;
        let mut callers: Vec<tokio::task::JoinHandle<throng_queue::Result<()>>> = Vec::new();
        let begun = Instant::now();
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
        let ours = rate(tasks / CALLERS * CALLERS, begun);
        self.case("push, 256 callers at once", "tasks/s", ours, first(&peer), target);
        Ok(())
    }

    /// The ceiling of the case before: messages like those, published by lapin and nothing else, as
    /// many on their way at once.
    #[cfg(feature = "rabbitmq")]
    async fn publish_alone(&self, url: &str, tasks: usize) -> anyhow::Result<()> {
        // To lapin a path of `/` is a virtual host without a name.
        let url = url.trim_end_matches('/');
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let queue = format!("{}-alone", self.name);
        let durable = QueueDeclareOptions::durable();
        channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await?;
        let mut headers = FieldTable::default();
        let text = |text: &str| AMQPValue::LongString(text.into());
        let id = TaskId::random();
        for (name, value) in
            [("lang", "py"), ("task", "noop"), ("id", id.as_str()), ("root_id", id.as_str())]
        {
            headers.insert(name.into(), text(value));
        }
        headers.insert("retries".into(), AMQPValue::LongInt(0));
        headers.insert("ignore_result".into(), AMQPValue::Boolean(true));
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_headers(headers)
            .with_delivery_mode(2)
            .with_priority(0)
            .with_correlation_id(id.as_str().into());
        let body =
            br#"[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let begun = Instant::now();
        let publish = |_| {
            let (to, properties) = (queue.as_str().into(), properties.clone());
            let sent = channel.basic_publish("".into(), to, options, body, properties);
            async move { sent.await?.await }
        };
        let confirmed = stream::iter(0..tasks).map(publish).buffer_unordered(CALLERS);
        let confirmed: Vec<_> = confirmed.try_collect().await?;
        let rate = rate(confirmed.len(), begun);
        channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
        self.case("lapin alone, 256 at once", "tasks/s", rate, None, "");
        Ok(())
    }

    /// No-op tasks through one worker, leases and acknowledgements included.
    async fn run(&self, target: &str) -> anyhow::Result<()> {
        let ran = Arc::new(AtomicUsize::new(0));
        let counter = ran.clone();
        let worker = self.worker(WorkerConfig::default(), move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let (stop, shutdown) = Shutdown::pair();
        let counts = self.queue.counts().await?;
        let of_ours = counts.iter().filter(|count| count.queue == self.name);
        let total = usize::try_from(of_ours.map(|count| count.tasks).sum::<u64>())?;
        let begun = Instant::now();
        let running = tokio::spawn(worker.run(shutdown));
        while ran.load(Ordering::Relaxed) < total {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let ours = rate(total, begun);
        stop.request();
        running.await??;
        let peer = self.celery("run")?;
        self.case("run no-op tasks", "tasks/s", ours, first(&peer), target);
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
        let peer = self.celery("latency")?;
        let target = if peer.is_empty() { "" } else { "ratio <= 0.2" };
        let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
        self.case("idle push to start, p50", "ms", p50, first(&peer), target);
        self.case("idle push to start, p99", "ms", p99, peer.get(1).copied(), target);
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

    /// Celery's figures for the same case, on a queue of its own.
    fn celery(&self, case: &str) -> anyhow::Result<Vec<f64>> {
        let Some((python, broker)) = &self.peer else { return Ok(Vec::new()) };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/celery_peer.py");
        let mut words = case.split(' ');
        let case = words.next().unwrap_or_default();
        let queue = format!("celery-{}-{case}", self.name);
        let mut command = Command::new(python);
        command.args([script, case, &queue]).args(words).env("BROKER", broker);
        let output = command.output()?;
        let said = String::from_utf8(output.stdout)?;
        Ok(said.split_whitespace().filter_map(|word| word.parse().ok()).collect())
    }

    fn case(&self, case: &str, unit: &str, ours: f64, peer: Option<f64>, target: &str) {
        let line = serde_json::json!({
            "case": format!("{}: {case}", self.engine),
            "unit": unit,
            "ours": ours,
            "peer": peer,
            "peer_name": if peer.is_some() { "Celery 5.7" } else { "" },
            "target": target,
        });
        println!("{line}");
    }
}

/// What this process holds in memory now, as Linux says.
fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kb.unwrap_or(0.0) / 1024.0
}

fn first(figures: &[f64]) -> Option<f64> {
    figures.first().copied()
}

fn rate(tasks: usize, begun: Instant) -> f64 {
    tasks as f64 / begun.elapsed().as_secs_f64()
}

const TASKS: usize = 10_240;
const WAITING: usize = 10_000;
const CALLERS: usize = 256;
