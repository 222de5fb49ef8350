//! A worker process that is stopped for longer than its leases and then goes on (SIGSTOP, SIGCONT; a
//! machine that sleeps, a VM that moves): its tasks have run elsewhere, and what it still says of
//! them is not recorded.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use sea_orm::{ConnectionTrait as _, Statement};
use throng_core::{Clock, Shutdown};
use throng_db::Db;
use throng_queue::{
    Delivery, Message, Outcome, Policy, Queue, State, TaskId, Worker, WorkerConfig,
};

use crate::{crash::wait_for, databases};

/// The worker process: this test binary, started by the test below.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let [Ok(database), Ok(url), Ok(queue), Ok(name)] =
        [DATABASE, URL, QUEUE, NAME].map(std::env::var)
    else {
        return;
    };
    let db = databases::open(&database).await;
    let tasks = Queue::open(&url, db.clone(), Clock::system()).await.unwrap();
    let config = WorkerConfig { queues: vec![queue], ..WorkerConfig::default() };
    let worker =
        Worker::new(tasks).config(config).on("note", Policy::default(), move |task: Delivery| {
            let (db, name) = (db.clone(), name.clone());
            async move {
                note(&db, &format!("{name} began {}", task.id())).await;
                // The second is at it while the first wakes.
                let long_s = if name == "first" { 2 } else { 5 };
                tokio::time::sleep(Duration::from_secs(long_s)).await;
                Outcome::Done(name.into())
            }
        });
    let (_trigger, shutdown) = Shutdown::pair();
    worker.run(shutdown).await.unwrap();
}

async fn note(db: &Db, text: &str) {
    let insert = format!("INSERT INTO note (text) VALUES ('{text}')");
    while db.execute_unprepared(&insert).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A worker process, which is ended when this goes.
struct Process(Child);

impl Process {
    fn start(database: &str, url: &str, queue: &str, name: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["frozen::child", "--exact"]);
        command.envs([(DATABASE, database), (URL, url), (QUEUE, queue), (NAME, name)]);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, signal: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn check(database: String, url: String) {
    let db = databases::open(&database).await;
    db.execute_unprepared("CREATE TABLE note (text varchar(100))").await.unwrap();
    let tasks = Queue::open(&url, db.clone(), Clock::system()).await.unwrap();
    let (queue, kind) = (format!("frozen-{}", TaskId::random()), tasks.engine_name());
    let message = || Message::new("note", ()).unwrap().queue(&queue);
    let again = tasks.push(message()).await.unwrap();
    let once = tasks.push(message().at_most_once()).await.unwrap();
    let is_noted = async |text: String| {
        let select = format!("SELECT text FROM note WHERE text = '{text}'");
        let select = Statement::from_string(db.get_database_backend(), select);
        db.query_one_raw(select).await.is_ok_and(|row| row.is_some())
    };
    let first = Process::start(&database, &url, &queue, "first");
    for id in [&again, &once] {
        wait_for(async || is_noted(format!("first began {id}")).await).await;
    }
    // One that is stopped while it writes to a file would hold up whoever writes there.
    loop {
        first.signal("-STOP");
        let writes = tokio::time::timeout(Duration::from_secs(3), note(&db, "stopped"));
        if writes.await.is_ok() {
            break;
        }
        first.signal("-CONT");
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    let second = Process::start(&database, &url, &queue, "second");
    wait_for(async || is_noted(format!("second began {again}")).await).await;
    wait_for(async || tasks.find(&once).await.unwrap().state == State::Dead).await;
    first.signal("-CONT");
    // It hears that its leases are lost and stops its runs, or they end first and it says so.
    let record = tasks.wait(&again, Duration::from_secs(60)).await.unwrap();
    assert_eq!(record.state, State::Done, "{kind}: {:?}", record.reason);
    assert_eq!(record.result, Some("second".into()), "{kind}: the first says nothing any more");
    // The first is a worker like any other again.
    drop(second);
    let id = tasks.push(message()).await.unwrap();
    let record = tasks.wait(&id, Duration::from_secs(60)).await.unwrap();
    assert_eq!(record.result, Some("first".into()), "{kind}");
    let record = tasks.find(&again).await.unwrap();
    assert_eq!(record.result, Some("second".into()), "{kind}: as it was");
    let record = tasks.find(&once).await.unwrap();
    assert_eq!((record.state, record.result), (State::Dead, None), "{kind}");
    assert!(!is_noted(format!("second began {once}")).await, "{kind}: it runs at most once");
    db.close().await;
}

/// With a database of its own on the site's side.
async fn check_beside(url: String) {
    let folder = tempfile::tempdir().unwrap();
    check(format!("sqlite:{}", folder.path().join("site.db").display()), url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_frozen_records_nothing_over_another() {
    check_beside("database:".to_owned()).await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_frozen_records_nothing_over_another_on_redis() {
    let Some(url) = crate::redis::url() else { return };
    check_beside(format!("{url}?prefix={}.", TaskId::random())).await;
}

#[cfg(feature = "rabbitmq")]
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_frozen_records_nothing_over_another_on_rabbitmq() {
    let Some(url) = crate::rabbitmq::url() else { return };
    check_beside(url).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_frozen_records_nothing_over_another_on_postgres() {
    let Some(url) = databases::server("THRONG_TEST_POSTGRES_URL") else { return };
    let own = crate::own::Own::on(&url).await;
    check(own.url.clone(), "database:".into()).await;
    own.forget().await;
}

const DATABASE: &str = "THRONG_QUEUE_FROZEN_DATABASE";
const URL: &str = "THRONG_QUEUE_FROZEN_URL";
const QUEUE: &str = "THRONG_QUEUE_FROZEN_QUEUE";
const NAME: &str = "THRONG_QUEUE_FROZEN_NAME";
