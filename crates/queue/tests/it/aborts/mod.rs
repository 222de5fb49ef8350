//! A storm of futures that are dropped and of workers that are aborted, each wherever it happens to
//! be. What was acknowledged ends, what was not is whole or not there, and whoever comes after works
//! as if nothing had been.

mod book;
mod dice;
mod engines;
mod people;
mod workers;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use throng_core::{Clock, Shutdown};
use throng_db::{
    Db,
    outbox::{self, Delivery as Entry, Relay},
};
use throng_queue::{
    Backoff, Delivery, MIGRATIONS, Message, Outcome, Policy, Queue, State, TaskId, Worker,
    WorkerConfig,
};
use tokio::task::{JoinHandle, JoinSet};

use self::{book::Book, dice::Dice};

/// What all who take part know.
#[derive(Clone)]
struct Scene {
    db: Db,
    /// Each as a process of its own would have it: some share one.
    queues: Vec<Queue>,
    name: String,
    book: Arc<Book>,
    is_over: Arc<AtomicBool>,
}

impl Scene {
    fn queue(&self, dice: &mut Dice) -> &Queue {
        &self.queues[dice.below(self.queues.len() as u64) as usize]
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// A worker that notes what it begins and what it ends.
    fn worker(&self, queue: &Queue, config: WorkerConfig) -> Worker {
        let config = WorkerConfig { queues: vec![self.name.clone()], lease: LEASE, ..config };
        let book = self.book.clone();
        let wait = Backoff { base: Duration::from_millis(20), ..Backoff::default() };
        let policy = Policy { backoff: wait, ..Policy::default() };
        Worker::new(queue.clone()).config(config).on("work", policy, move |task: Delivery| {
            book.begun(&task.id());
            let book = book.clone();
            async move {
                let numbers = task.message().read_body().unwrap().args;
                let number = |at: usize| numbers.get(at).and_then(serde_json::Value::as_u64);
                // The body of a chord has results before its own.
                let [long_ms, fails] = [number(0), number(1)].map(Option::unwrap_or_default);
                tokio::time::sleep(Duration::from_millis(long_ms)).await;
                if u64::from(task.retries()) < fails {
                    return Outcome::retry("it fails at first");
                }
                book.ended(&task.id());
                Outcome::Done(long_ms.into())
            }
        })
    }
}

/// A worker in the background, which is aborted when this goes.
struct Running {
    stop: throng_core::Trigger,
    worker: JoinHandle<throng_queue::Result<throng_queue::Report>>,
}

impl Running {
    fn start(worker: Worker) -> Self {
        let (stop, shutdown) = Shutdown::pair();
        Self { stop, worker: tokio::spawn(worker.run(shutdown)) }
    }

    async fn stop(mut self) {
        self.stop.request();
        let stopped = tokio::time::timeout(PATIENCE, &mut self.worker).await;
        let _ = stopped.expect("a worker that is asked to stop stops").unwrap().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

/// Storms on the engine of `url`, or on the database itself; `handles` is how many open it.
async fn storm(url: &str, db: &Db, handles: usize) {
    let is_long = std::env::var_os("THRONG_TEST_LONG").is_some();
    let seed = std::env::var("THRONG_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(dice::any);
    println!("{}: THRONG_TEST_SEED={seed}", url.split(':').next().unwrap());
    let mut dice = Dice::new(seed);
    let mut queues = Vec::new();
    for _ in 0..handles {
        queues.push(Queue::open(url, db.clone(), Clock::system()).await.unwrap());
    }
    let scene = Scene {
        db: db.clone(),
        queues,
        name: format!("aborts-{}", TaskId::random()),
        book: Arc::default(),
        is_over: Arc::default(),
    };
    let relaying = relay(&scene);
    let mut people = JoinSet::new();
    for _ in 0..6 {
        people.spawn(people::push(scene.clone(), dice.split()));
    }
    for _ in 0..3 {
        people.spawn(people::work(scene.clone(), dice.split()));
    }
    for _ in 0..2 {
        people.spawn(people::meddle(scene.clone(), dice.split()));
    }
    tokio::time::sleep(Duration::from_secs(if is_long { 120 } else { 5 })).await;
    scene.is_over.store(true, Ordering::SeqCst);
    while let Some(one) = people.join_next().await {
        one.unwrap();
    }
    let calm = Instant::now();
    for queue in &scene.queues {
        queue.resume(&scene.name).await.unwrap();
    }
    let workers = scene.queues.iter().map(|queue| scene.worker(queue, WorkerConfig::default()));
    let workers: Vec<Running> = workers.map(Running::start).collect();
    while outbox::count(&scene.db, throng_queue::OUTBOX_KIND).await.unwrap() > 0 {
        assert!(calm.elapsed() < PATIENCE, "the outbox is not emptied");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let open = scene.book.settle(&scene.queues[0]).await;
    println!("{} tasks, all over {:?} after the storm", scene.book.len(), calm.elapsed());
    assert!(open.is_empty(), "{} tasks do not end, such as {:?}", open.len(), open[0]);
    scene.book.check(&scene.queues[0]).await;
    after(&scene).await;
    for worker in workers {
        worker.stop().await;
    }
    relaying.abort();
}

/// Whoever comes after the storm: keys are free, tasks run, and nothing is left.
async fn after(scene: &Scene) {
    let queue = &scene.queues[0];
    let mut ids = Vec::new();
    for at in 0..40 {
        let message = Message::new("work", (0, 0)).unwrap().queue(&scene.name);
        let message = if at < people::KEYS { message.unique(scene.key(at)) } else { message };
        let id = message.id();
        assert_eq!(queue.push(message).await.unwrap(), id, "key {at} is free");
        ids.push(id);
    }
    for id in ids {
        let record = queue.wait(&id, PATIENCE).await.unwrap();
        assert_eq!(record.state, State::Done, "{:?}", record.reason);
    }
    let begun = Instant::now();
    loop {
        let counts = queue.counts().await.unwrap();
        let is_left = |state| [State::Waiting, State::Queued, State::Running].contains(&state);
        let mut left = counts.iter().filter(|count| count.queue == scene.name);
        let Some(left) = left.find(|count| is_left(count.state)) else { return };
        if begun.elapsed() > PATIENCE {
            let left = format!("{left:?}");
            for queue in &scene.queues {
                let pause = queue.pause("none");
                let answers = tokio::time::timeout(Duration::from_secs(10), pause).await.is_ok();
                println!("it answers: {answers}; {:?}", queue.counts().await);
            }
            panic!("{left} are left");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What is pushed in a transaction or while a broker rests leaves the database.
fn relay(scene: &Scene) -> JoinHandle<()> {
    let queue = scene.queues[0].clone();
    let relay = Relay::new(scene.db.clone(), move |entry: Entry| {
        let queue = queue.clone();
        async move { queue.deliver(&entry.entry.payload).await.map(drop) }
    });
    tokio::spawn(async move {
        let (_stop, shutdown) = Shutdown::pair();
        relay.run(shutdown).await;
    })
}

async fn site() -> (tempfile::TempDir, Db) {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::sqlite(folder.path().join("site.db")).await.unwrap();
    let _ = db.migrate(&[MIGRATIONS, outbox::MIGRATIONS]).await.unwrap();
    (folder, db)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_on_sqlite_where_futures_are_dropped_anywhere() {
    let (_folder, db) = site().await;
    storm("database:", &db, 2).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_on_postgres_where_futures_are_dropped_anywhere() {
    on_server("THRONG_TEST_POSTGRES_URL").await;
}

#[cfg(feature = "mysql")]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_on_mariadb_where_futures_are_dropped_anywhere() {
    on_server("THRONG_TEST_MARIADB_URL").await;
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn on_server(variable: &str) {
    let Some(url) = crate::databases::server(variable) else { return };
    let own = crate::own::Own::on(&url).await;
    let db = crate::databases::open(&own.url).await;
    storm("database:", &db, 2).await;
    db.close().await;
    own.forget().await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_on_redis_where_futures_are_dropped_anywhere() {
    let Some(url) = crate::redis::url() else { return };
    let (_folder, db) = site().await;
    storm(&format!("{url}?prefix={}.", TaskId::random()), &db, 2).await;
}

#[cfg(feature = "rabbitmq")]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_on_rabbitmq_where_futures_are_dropped_anywhere() {
    let Some(url) = crate::rabbitmq::url() else { return };
    let (_folder, db) = site().await;
    storm(&url, &db, 2).await;
}

const LEASE: Duration = Duration::from_secs(2);
/// How long whatever comes to an end may take to on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
