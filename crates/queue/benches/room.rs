//! How fast the queue is: one JSON object a line, read by `cargo xtask bench queue`.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use throng_core::{Clock, Shutdown};
use throng_db::Db;
use throng_queue::{Delivery, MIGRATIONS, Message, Outcome, Policy, Queue, Worker, WorkerConfig};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let db = Db::sqlite(folder.path().join("bench.db")).await?;
    let _ = db.migrate(&[MIGRATIONS]).await?;
    let queue = Queue::database(db, Clock::system());
    push(&queue).await?;
    run(&queue).await?;
    latency(&queue).await
}

/// Durable pushes, one commit each, from one caller and from 64 at once.
async fn push(queue: &Queue) -> anyhow::Result<()> {
    let begun = Instant::now();
    for _ in 0..PUSHES {
        queue.push(Message::new("noop", ())?).await?;
    }
    case("sqlite: push one after another", "tasks/s", rate(PUSHES, begun), "");
    let begun = Instant::now();
    let mut callers: Vec<tokio::task::JoinHandle<throng_queue::Result<()>>> = Vec::new();
    for _ in 0..64 {
        let queue = queue.clone();
        callers.push(tokio::spawn(async move {
            for _ in 0..PUSHES / 64 {
                queue.push(Message::new("noop", ())?).await?;
            }
            Ok(())
        }));
    }
    for caller in callers {
        caller.await??;
    }
    case("sqlite: push by 64 callers", "tasks/s", rate(PUSHES / 64 * 64, begun), "");
    let messages: Result<Vec<Message>, _> =
        (0..TASKS - 2 * PUSHES).map(|_| Message::new("noop", ())).collect();
    let messages = messages?;
    let (count, begun) = (messages.len(), Instant::now());
    queue.push_all(messages).await?;
    case("sqlite: push in one commit", "tasks/s", rate(count, begun), "");
    Ok(())
}

/// No-op tasks through one worker, leases and durable ends included.
async fn run(queue: &Queue) -> anyhow::Result<()> {
    let ran = Arc::new(AtomicUsize::new(0));
    let counter = ran.clone();
    let worker = Worker::new(queue.clone()).on("noop", Policy::default(), move |_: Delivery| {
        counter.fetch_add(1, Ordering::Relaxed);
        async { Outcome::done() }
    });
    let (stop, shutdown) = Shutdown::pair();
    let total: u64 = queue.counts().await?.iter().map(|count| count.tasks).sum();
    let begun = Instant::now();
    let running = tokio::spawn(worker.run(shutdown));
    while ran.load(Ordering::Relaxed) < usize::try_from(total)? {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    case(
        "sqlite: run no-op tasks",
        "tasks/s",
        rate(usize::try_from(total)?, begun),
        "ours >= 2000",
    );
    stop.request();
    running.await??;
    Ok(())
}

/// From the push to the handler, in an idle worker of the same process.
async fn latency(queue: &Queue) -> anyhow::Result<()> {
    let started = Arc::new(Mutex::new(None));
    let cell = started.clone();
    let worker = Worker::new(queue.clone())
        .config(WorkerConfig { concurrency: 1, ..WorkerConfig::default() })
        .on("noop", Policy::default(), move |_: Delivery| {
            *cell.lock().unwrap_or_else(|poison| poison.into_inner()) = Some(Instant::now());
            async { Outcome::done() }
        });
    let (stop, shutdown) = Shutdown::pair();
    let running = tokio::spawn(worker.run(shutdown));
    let mut took = Vec::new();
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let begun = Instant::now();
        let id = queue.push(Message::new("noop", ())?).await?;
        queue.wait(&id, Duration::from_secs(10)).await?;
        let at = started.lock().unwrap_or_else(|poison| poison.into_inner()).take();
        took.extend(at.map(|at| at.duration_since(begun).as_secs_f64() * 1000.0));
    }
    stop.request();
    running.await??;
    took.sort_by(f64::total_cmp);
    case("sqlite: idle push to start, p50", "ms", took[took.len() / 2], "");
    case("sqlite: idle push to start, p99", "ms", took[took.len() * 99 / 100], "");
    Ok(())
}

fn rate(tasks: usize, begun: Instant) -> f64 {
    tasks as f64 / begun.elapsed().as_secs_f64()
}

fn case(case: &str, unit: &str, ours: f64, target: &str) {
    let line = serde_json::json!({"case": case, "unit": unit, "ours": ours, "target": target});
    println!("{line}");
}

const PUSHES: usize = 1024;
const TASKS: usize = 12_048;
