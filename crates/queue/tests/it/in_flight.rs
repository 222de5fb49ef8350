//! Two thousand tasks are in flight when their worker is killed: on every engine, each of them runs
//! elsewhere.

use std::{
    collections::HashMap,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use sea_orm::{ConnectionTrait as _, Statement};
use throng_core::{Clock, Shutdown};
use throng_queue::{
    Delivery, Filter, Message, Outcome, Policy, Queue, State, TaskId, Worker, WorkerConfig,
};

use crate::{crash::wait_for, databases};

/// What a worker process is told.
struct Orders {
    /// The site's database.
    database: String,
    /// Where the tasks are.
    queue: String,
    /// The queue's name.
    name: String,
    /// Whether its tasks never end.
    holds: bool,
}

/// The worker process: this test binary, started by the tests below.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let [Ok(database), Ok(queue), Ok(name), holds] =
        [DATABASE, QUEUE, NAME, HOLDS].map(std::env::var)
    else {
        return;
    };
    let db = databases::open(&database).await;
    let queue = Queue::open(&queue, db.clone(), Clock::system()).await.unwrap();
    let holds = holds.is_ok();
    let started = Arc::new(AtomicUsize::new(0));
    let concurrency = if holds { IN_FLIGHT } else { 32 };
    let config = WorkerConfig { queues: vec![name], concurrency, ..WorkerConfig::default() };
    let worker = Worker::new(queue).config(config).on(
        "note",
        Policy::default(),
        move |delivery: Delivery| {
            let (db, started) = (db.clone(), started.clone());
            async move {
                let is_last = started.fetch_add(1, Ordering::SeqCst) + 1 == IN_FLIGHT;
                let ran = delivery.id().to_string();
                let id = if holds { FULL } else { &ran };
                if !holds || is_last {
                    let note = format!("INSERT INTO run (id) VALUES ('{id}')");
                    if let Err(error) = db.execute_unprepared(&note).await {
                        return Outcome::retry(error);
                    }
                }
                if holds {
                    std::future::pending::<()>().await;
                }
                Outcome::done()
            }
        },
    );
    let (_trigger, shutdown) = Shutdown::pair();
    worker.run(shutdown).await.unwrap();
}

impl Orders {
    fn start(&self) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["in_flight::child", "--exact"]);
        command.envs([(DATABASE, &self.database), (QUEUE, &self.queue), (NAME, &self.name)]);
        command.envs(self.holds.then_some((HOLDS, "yes")));
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }
}

/// `lights` says how many of a hundred tasks ignore their result.
async fn check(database: String, queue: String, lights: usize) {
    let db = databases::open(&database).await;
    db.execute_unprepared("CREATE TABLE run (id varchar(50))").await.unwrap();
    let tasks = Queue::open(&queue, db.clone(), Clock::system()).await.unwrap();
    let name = format!("flight-{}", TaskId::random());
    let message = |at: usize| {
        let message = Message::new("note", [at]).unwrap().queue(&name);
        if at % 100 < lights { message.ignore_result() } else { message }
    };
    let ids = tasks.push_all((0..TASKS).map(message).collect()).await.unwrap();
    let count = async |state: State| {
        let counts = tasks.counts().await.unwrap();
        let fits = |count: &&throng_queue::Count| count.queue == name && count.state == state;
        counts.iter().find(fits).map_or(0, |count| count.tasks as usize)
    };
    let orders = Orders { database, queue, name: name.clone(), holds: true };
    let mut first = orders.start();
    let runs = async || {
        let select = Statement::from_string(db.get_database_backend(), "SELECT id FROM run");
        let mut runs: HashMap<String, u32> = HashMap::new();
        for row in db.query_all_raw(select).await.unwrap() {
            *runs.entry(row.try_get_by_index(0).unwrap()).or_default() += 1;
        }
        runs
    };
    wait_for(async || runs().await.contains_key(FULL)).await;
    first.kill().unwrap();
    first.wait().unwrap();
    let killed = Instant::now();
    let mut second = Orders { holds: false, ..orders }.start();
    // And the word of the first one that it was full.
    wait_for(async || runs().await.len() > TASKS).await;
    let took = killed.elapsed();
    wait_for(async || count(State::Queued).await + count(State::Running).await == 0).await;
    second.kill().unwrap();
    second.wait().unwrap();
    // The checker follows every id that a push acknowledged.
    let runs = runs().await;
    let lost = ids.iter().filter(|id| !runs.contains_key(id.as_str())).count();
    let twice = runs.values().filter(|times| **times > 1).count();
    let engine = tasks.engine_name();
    println!(
        "{engine}: {IN_FLIGHT} in flight, {lost} lost, {twice} twice, all had run {took:?} after \
         the death"
    );
    assert_eq!(lost, 0, "{engine}");
    assert!(twice <= TASKS / 200, "{engine}: {twice} ran twice");
    let filter = Filter { queue: Some(name.clone()), limit: TASKS as u64, ..Filter::default() };
    let records = tasks.list(&filter).await.unwrap();
    assert!(records.iter().all(|record| record.state == State::Done), "{engine}");
    if engine == "database" {
        let crashed = records.iter().filter(|record| record.crashes > 0).count();
        assert!(crashed >= IN_FLIGHT, "what the dead worker held was taken from it: {crashed}");
    }
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_tasks_on_sqlite_survive_their_worker() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("site.db").display());
    check(url, "database:".into(), 0).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_tasks_on_postgres_survive_their_worker() {
    let Some(url) = databases::server("THRONG_TEST_POSTGRES_URL") else { return };
    let own = crate::own::Own::on(&url).await;
    check(own.url.clone(), "database:".into(), 0).await;
    own.forget().await;
}

#[cfg(feature = "mysql")]
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_tasks_on_mariadb_survive_their_worker() {
    let Some(url) = databases::server("THRONG_TEST_MARIADB_URL") else { return };
    let own = crate::own::Own::on(&url).await;
    check(own.url.clone(), "database:".into(), 0).await;
    own.forget().await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_tasks_on_redis_survive_their_worker() {
    let Some(url) = crate::redis::url() else { return };
    let folder = tempfile::tempdir().unwrap();
    let site = format!("sqlite:{}", folder.path().join("site.db").display());
    check(site, format!("{url}?prefix={}.", TaskId::random()), 0).await;
}

#[cfg(feature = "rabbitmq")]
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_tasks_on_rabbitmq_survive_their_worker() {
    let Some(url) = crate::rabbitmq::url() else { return };
    let folder = tempfile::tempdir().unwrap();
    let site = format!("sqlite:{}", folder.path().join("site.db").display());
    // Half of them light, which no ledger knows until their worker is gone.
    check(site, url, 50).await;
}

/// What the first worker writes when it holds as many as it can.
const FULL: &str = "full";
const TASKS: usize = 3000;
const IN_FLIGHT: usize = 2000;
const DATABASE: &str = "THRONG_QUEUE_FLIGHT_DATABASE";
const QUEUE: &str = "THRONG_QUEUE_FLIGHT_QUEUE";
const NAME: &str = "THRONG_QUEUE_FLIGHT_NAME";
const HOLDS: &str = "THRONG_QUEUE_FLIGHT_HOLDS";
