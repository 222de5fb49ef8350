//! apalis as the peer of the queue's bench: prints the figures of the case that is named.
//!
//! `apalis-peer CASE URL QUEUE COUNT`: `one`, `many` and `batch` push, `run` runs what they pushed,
//! `latency` pushes to an idle worker; `confirmed` is told at `amqp::publish`. Everything is set as apalis' own examples set it where they
//! mean to be fast: a hundred tasks fetched at once, each run by `tokio::spawn`, and a storage that
//! hears of pushes rather than looks for them.

mod amqp;

use std::{
    future::ready,
    str::FromStr as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use apalis::prelude::*;
use apalis_core::{backend::finalize::Durable, task::builder::TaskBuilder};
use apalis_postgres::PostgresStorage;
use apalis_redis::RedisStorage;
use apalis_sqlite::SqliteStorage;
use futures::{future::try_join_all, stream};
use rustix::time::{ClockId, clock_gettime};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [case, url, queue, count] = &arguments[..] else {
        bail!("usage: apalis-peer CASE URL QUEUE COUNT");
    };
    let seen = Arc::new(Seen::default());
    let mut case = Case { name: case.clone(), count: count.parse()?, task: plain, seen };
    match url.split(':').next() {
        Some("amqp") if case.name == "confirmed" => amqp::publish(url, queue, case.count).await,
        Some("amqp") => {
            case.task = amqp::persistent;
            let storage = amqp::open(url, queue)?;
            let mut ours = storage.clone();
            if !case.is_push() {
                // It acknowledges over the channel that it pushed on, and over none where it did not.
                ours.push_task((case.task)(0)).await?;
            }
            let worker = WorkerBuilder::new(queue.as_str()).backend(ours).data(case.seen.clone());
            let worker = worker.parallelize(tokio::spawn).build(note).run();
            let landed = amqp::landed(url, queue, case.count);
            case.play(storage, worker, landed).await
        }
        Some("redis") => {
            let config = apalis_redis::Config::default().queue(queue).batch_size(BATCH);
            let connection = apalis_redis::connect(url.as_str()).await?;
            // It tells nobody of a task without a date (1.0.0), so that its worker has to look.
            let storage = RedisStorage::<u64>::new(connection).with_config(config);
            let storage = storage.poll_with_interval(LOOKS);
            let worker = WorkerBuilder::new(queue.as_str()).backend(storage.clone());
            let worker = worker.data(case.seen.clone()).parallelize(tokio::spawn).build(note);
            case.play(storage, worker.run(), ready(Ok(()))).await
        }
        Some("postgres") => {
            let pool = sqlx::PgPool::connect(url).await?;
            PostgresStorage::setup(&pool).await?;
            let config = apalis_postgres::Config::default().queue(queue).batch_size(BATCH);
            let storage = PostgresStorage::<u64>::new(&pool).with_config(config).with_pubsub();
            let worker =
                WorkerBuilder::new(queue.as_str()).backend(storage.clone()).data(case.seen.clone());
            let worker = worker.parallelize(tokio::spawn).build(note);
            case.play(storage, worker.run(), ready(Ok(()))).await
        }
        Some("sqlite") => {
            // As durable as ours: a commit is on the disk. The journal's mode stays with the file.
            let options = SqliteConnectOptions::from_str(url)?
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal);
            let first = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
            SqliteStorage::setup(&first).await?;
            first.close().await;
            let (pool, told) = SqliteStorage::connect_with_callback(url)?;
            let config = apalis_sqlite::Config::default().queue(queue).batch_size(BATCH);
            let storage = SqliteStorage::<u64>::new(&pool).with_config(config);
            let worker = storage.clone().with_callback(told);
            let worker = WorkerBuilder::new(queue.as_str()).backend(worker).data(case.seen.clone());
            let worker = worker.parallelize(tokio::spawn).build(note);
            case.play(storage, worker.run(), ready(Ok(()))).await
        }
        _ => bail!("no engine for `{url}`"),
    }
}

/// What is measured.
struct Case {
    name: String,
    count: usize,
    task: fn(u64) -> Task<u64>,
    seen: Arc<Seen>,
}

/// What the tasks leave behind.
#[derive(Default)]
struct Seen {
    ran: AtomicUsize,
    started: Mutex<Option<Instant>>,
}

async fn note(_: u64, seen: Data<Arc<Seen>>) {
    *seen.started.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    seen.ran.fetch_add(1, Ordering::Relaxed);
}

fn plain(number: u64) -> Task<u64> {
    TaskBuilder::new(number).build()
}

impl Case {
    fn is_push(&self) -> bool {
        matches!(self.name.as_str(), "one" | "many" | "batch")
    }

    /// Prints what was measured, and what each task cost this process in microseconds. What was
    /// pushed counts when it has `landed`.
    async fn play<S, W, E, L>(&self, storage: S, worker: W, landed: L) -> Result<()>
    where
        S: TaskSink<u64, Durable> + Clone + Send + 'static,
        S::Error: std::error::Error + Send + Sync + 'static,
        W: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Debug + Send + 'static,
        L: Future<Output = Result<()>>,
    {
        let (begun, used_before) = (Instant::now(), used());
        match self.name.as_str() {
            "one" => push(storage, self.count, self.task).await?,
            "many" => {
                let each = self.count / CALLERS;
                let push = || tokio::spawn(push(storage.clone(), each, self.task));
                for caller in try_join_all((0..CALLERS).map(|_| push())).await? {
                    caller?;
                }
            }
            "batch" => {
                let mut storage = storage;
                for _ in 0..self.count / BATCH {
                    storage.push_all(stream::iter((0..BATCH as u64).map(self.task))).await?;
                }
            }
            "run" => {
                let worker = tokio::spawn(worker);
                while self.seen.ran.load(Ordering::Relaxed) < self.count {
                    if worker.is_finished() {
                        bail!("the worker ended: {:?}", worker.await);
                    }
                    ensure!(begun.elapsed() < LIMIT, "some tasks do not run");
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
            "latency" => {
                let worker = tokio::spawn(worker);
                let waits = self.wait(storage).await?;
                worker.abort();
                println!("{} {}", waits[waits.len() / 2], waits[waits.len() * 99 / 100]);
                return Ok(());
            }
            name => bail!("no case `{name}`"),
        }
        if self.is_push() {
            landed.await?;
        }
        tell(begun, used_before, self.count);
        // What is left of the worker would only be tidied up.
        std::process::exit(0)
    }

    /// From each push to the start of its task, in milliseconds, sorted.
    async fn wait<S>(&self, mut storage: S) -> Result<Vec<f64>>
    where
        S: TaskSink<u64, Durable>,
        S::Error: std::error::Error + Send + Sync + 'static,
    {
        let started = || self.seen.started.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut waits = Vec::with_capacity(self.count);
        for number in 0..(self.count + WARM) {
            tokio::time::sleep(Duration::from_millis(30)).await;
            let begun = Instant::now();
            storage.push_task((self.task)(number as u64)).await?;
            let started = loop {
                if let Some(at) = started() {
                    break at;
                }
                ensure!(begun.elapsed() < LIMIT, "no task starts");
                tokio::time::sleep(Duration::from_millis(1)).await;
            };
            if number >= WARM {
                waits.push(started.duration_since(begun).as_secs_f64() * 1000.0);
            }
        }
        waits.sort_by(f64::total_cmp);
        Ok(waits)
    }
}

async fn push<S>(mut storage: S, count: usize, task: fn(u64) -> Task<u64>) -> Result<()>
where
    S: TaskSink<u64, Durable>,
    S::Error: std::error::Error + Send + Sync + 'static,
{
    for number in 0..count as u64 {
        storage.push_task(task(number)).await?;
    }
    Ok(())
}

fn tell(begun: Instant, used_before: Duration, count: usize) {
    let (took_s, used_s) = (begun.elapsed().as_secs_f64(), (used() - used_before).as_secs_f64());
    println!("{} {}", count as f64 / took_s, used_s * 1e6 / count as f64);
}

/// What this process has used of the processors.
fn used() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

const BATCH: usize = 100;
const LOOKS: Duration = Duration::from_millis(10);
const CALLERS: usize = 256;
/// Pushes before the first that counts.
const WARM: usize = 20;
const LIMIT: Duration = Duration::from_secs(60);
