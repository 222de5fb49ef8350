//! Tasks that are due far ahead wait in the engine: however many there are, a worker is as small as
//! before, and what is due in between runs on time. `THRONG_TEST_LONG` has a million of them wait.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use throng_core::{Clock, Shutdown};
use throng_db::Db;
use throng_queue::{
    Delivery, MIGRATIONS, Message, Policy, Queue, State, TaskId, Worker, WorkerConfig,
};

/// The worker process: this test binary, started by the tests below.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(place) = std::env::var(CHILD) else { return };
    let [db, url, name] = place.split('\n').collect::<Vec<_>>()[..] else { panic!("{place}") };
    let queue = Queue::open(url, Db::open(db).await.unwrap(), Clock::system()).await.unwrap();
    let config = WorkerConfig { queues: vec![name.to_owned()], ..WorkerConfig::default() };
    let worker = Worker::new(queue).config(config);
    let worker = worker.on("tick", Policy::default(), async |_: Delivery| {});
    let (_trigger, shutdown) = Shutdown::pair();
    worker.run(shutdown).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_held_back_weigh_nothing_on_a_worker_with_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    check("sqlite", &file(&folder), "database:").await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_held_back_weigh_nothing_on_a_worker_with_postgres() {
    let Ok(url) = std::env::var("THRONG_TEST_POSTGRES_URL") else {
        println!("skip: THRONG_TEST_POSTGRES_URL is not set");
        return;
    };
    check("postgres", &url, "database:").await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_held_back_weigh_nothing_on_a_worker_with_redis() {
    let Some(url) = crate::redis::url() else { return };
    let folder = tempfile::tempdir().unwrap();
    let url = format!("{url}?prefix={}.", TaskId::random());
    check("redis", &file(&folder), &url).await;
}

#[cfg(feature = "rabbitmq")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_held_back_weigh_nothing_on_a_worker_with_rabbitmq() {
    let Some(url) = crate::rabbitmq::url() else { return };
    let folder = tempfile::tempdir().unwrap();
    check("rabbitmq", &file(&folder), &url).await;
}

async fn check(engine: &str, db_url: &str, url: &str) {
    let is_long = std::env::var_os("THRONG_TEST_LONG").is_some();
    let most = if is_long { 1_000_000 } else { 5_000 };
    let db = Db::open(db_url).await.unwrap();
    let _ = db.migrate(&[MIGRATIONS]).await.unwrap();
    let queue = Queue::open(url, db.clone(), Clock::system()).await.unwrap();
    let name = TaskId::random().to_string();
    let message = |name: &str, queue: &str| Message::new(name, ()).unwrap().queue(queue);
    let worker = Watched::start(&[db_url, url, &name].join("\n"));
    wait_for("the worker works", async || {
        let id = queue.push(message("tick", &name)).await.unwrap();
        let ended = queue.wait(&id, Duration::from_secs(2)).await;
        ended.is_ok_and(|record| record.state == State::Done)
    })
    .await;
    let before_mb = worker.mb("VmRSS:");

    // Between those that are due in a day, one each second that is due in two.
    let (mut ticks, mut pushed, begun) = (Vec::new(), 0, Instant::now());
    let mut last_tick = Instant::now();
    while pushed < most || ticks.len() < TICKS {
        if ticks.is_empty() || last_tick.elapsed() >= Duration::from_millis(500) {
            let soon = message("tick", &name).delay(Duration::from_secs(2));
            let due_ms = Clock::system().now_ms() + 2000;
            ticks.push((queue.push(soon).await.unwrap(), due_ms));
            last_tick = Instant::now();
        }
        if pushed < most {
            let late = |_| message("late", &name).delay(Duration::from_secs(86_400));
            queue.push_all((0..BATCH).map(late).collect()).await.unwrap();
            pushed += BATCH;
        } else {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let took = begun.elapsed().as_secs_f64();
    let mut worst_ms = 0;
    for (id, due_ms) in &ticks {
        wait_for("a task that is due runs", async || {
            queue.find(id).await.unwrap().state == State::Done
        })
        .await;
        let started_ms = queue.find(id).await.unwrap().started_ms.unwrap();
        assert!(started_ms >= *due_ms - 1000, "{engine}: {started_ms} is before {due_ms}");
        worst_ms = worst_ms.max(started_ms - due_ms);
    }
    let waiting = queue.counts().await.unwrap();
    let waiting = waiting.iter().find(|count| count.queue == name && count.state == State::Waiting);
    assert_eq!(waiting.map(|count| count.tasks), Some(most as u64), "{engine}");
    // What a worker would have fetched, it would have by now.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (after_mb, peak_mb) = (worker.mb("VmRSS:"), worker.mb("VmHWM:"));
    println!(
        "{engine}: {most} tasks held back, pushed in {took:.0} s; the worker has {after_mb:.0} MB, \
         {peak_mb:.0} at most, {before_mb:.0} before; {} tasks were due meanwhile, the last after \
         {worst_ms} ms",
        ticks.len()
    );
    assert!(peak_mb < 80.0, "{engine}: the worker weighs {peak_mb} MB");
    assert!(worst_ms < 15_000, "{engine}: {worst_ms} ms late");
    drop(worker);
    while queue.purge(&name, State::Waiting).await.unwrap() > 0 {}
    db.close().await;
}

/// A worker's process, gone with this.
struct Watched(Child);

impl Watched {
    fn start(place: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["ahead::child", "--exact"]).env(CHILD, place);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// What Linux says of its memory.
    fn mb(&self, what: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn file(folder: &tempfile::TempDir) -> String {
    format!("sqlite:{}", folder.path().join("site.db").display())
}

async fn wait_for(what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..2400 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not in two minutes: {what}");
}

const CHILD: &str = "THRONG_QUEUE_TEST_AHEAD";
const BATCH: usize = 1000;
const TICKS: usize = 6;
