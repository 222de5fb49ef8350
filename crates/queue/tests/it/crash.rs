//! A worker process that is killed loses nothing.

use std::{
    collections::HashMap,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use throng_core::{Clock, Shutdown};
use throng_db::Db;
use throng_queue::{
    Delivery, Filter, MIGRATIONS, Message, Outcome, Policy, Queue, State, TaskId, Worker,
    WorkerConfig,
};

/// The worker process: this test binary, started by the tests below.
#[tokio::test]
async fn child() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let db = Db::sqlite(path).await.unwrap();
    let url = std::env::var(CHILD_URL).unwrap_or_else(|_| "database:".to_owned());
    let queue = Queue::open(&url, db.clone(), Clock::system()).await.unwrap();
    let mut config = WorkerConfig { concurrency: 20, ..WorkerConfig::default() };
    config.queues = std::env::var(CHILD_QUEUE).map_or(config.queues, |name| vec![name]);
    let worker = Worker::new(queue)
        .config(config)
        .on("note", Policy::default(), move |delivery: Delivery| {
            let db = db.clone();
            async move {
                let id = delivery.id().to_string();
                let insert = "INSERT INTO run (id) VALUES (?)";
                let insert = Statement::from_sql_and_values(DbBackend::Sqlite, insert, [id.into()]);
                match db.execute_raw(insert).await {
                    Ok(_) => Outcome::done(),
                    Err(error) => Outcome::retry(error),
                }
            }
        })
        .on("fine", Policy::default(), |_: Delivery| async {})
        .on("poison", Policy::default(), |_: Delivery| async { die() });
    let (_trigger, shutdown) = Shutdown::pair();
    worker.run(shutdown).await.unwrap();
}

#[tokio::test]
async fn a_worker_killed_in_the_middle_of_a_thousand_tasks_loses_none() {
    let (folder, db, queue) = site().await;
    let path = folder.path().join("site.db");
    let mut ids = Vec::new();
    for _ in 0..10 {
        let messages = (0..100).map(|_| Message::new("note", ()).unwrap()).collect();
        ids.extend(queue.push_all(messages).await.unwrap());
    }
    let mut first = start(&path);
    wait_for(async || runs(&db).await.len() > 200).await;
    first.kill().unwrap();
    first.wait().unwrap();
    let done = count(&queue, State::Done).await;
    assert!(done < 1000, "the worker was killed too late to show anything");
    let mut second = start(&path);
    wait_for(async || count(&queue, State::Done).await + count(&queue, State::Dead).await >= 1000)
        .await;
    second.kill().unwrap();
    second.wait().unwrap();
    // The checker follows every id that a push acknowledged.
    let runs = runs(&db).await;
    for id in &ids {
        let record = queue.find(id).await.unwrap();
        assert_eq!(record.state, State::Done, "{id}: {:?}", record.reason);
        assert!(runs.contains_key(id), "{id} is done and never ran");
    }
    let twice = runs.values().filter(|times| **times > 1).count();
    assert!(twice < 400, "only what the dead worker held runs twice, not {twice}");
}

#[tokio::test]
async fn a_task_that_kills_its_worker_three_times_is_a_dead_letter() {
    let (folder, _db, queue) = site().await;
    let path = folder.path().join("site.db");
    let id = queue.push(Message::new("poison", ()).unwrap()).await.unwrap();
    for _ in 0..3 {
        let mut worker = start(&path);
        worker.wait().unwrap();
    }
    let good = queue.push(Message::new("note", ()).unwrap()).await.unwrap();
    let mut worker = start(&path);
    wait_for(async || queue.find(&id).await.unwrap().state == State::Dead).await;
    wait_for(async || queue.find(&good).await.unwrap().state == State::Done).await;
    assert!(worker.try_wait().unwrap().is_none(), "the fourth worker lives");
    worker.kill().unwrap();
    worker.wait().unwrap();
    let record = queue.find(&id).await.unwrap();
    assert_eq!(record.crashes, 3);
    assert!(record.reason.unwrap().contains("workers died"));
}

/// On a broker, by real processes: tasks that are kept in the books and those that only the broker has.
#[cfg(any(feature = "redis", feature = "rabbitmq"))]
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_kills_its_worker_three_times_is_a_dead_letter_on_brokers() {
    let mut urls: Vec<String> = Vec::new();
    #[cfg(feature = "redis")]
    urls.extend(crate::redis::url());
    #[cfg(feature = "rabbitmq")]
    urls.extend(crate::rabbitmq::url());
    let poisoned = urls.iter().flat_map(|url| [(url, false), (url, true)]);
    let poisoned = poisoned.map(|(url, is_light)| check_poison(url, is_light));
    futures_util::future::join_all(poisoned).await;
}

#[cfg(any(feature = "redis", feature = "rabbitmq"))]
async fn check_poison(url: &str, is_light: bool) {
    let (folder, db, _) = site().await;
    let path = folder.path().join("site.db");
    let queue = Queue::open(url, db, Clock::system()).await.unwrap();
    let name = format!("poison-{}", TaskId::random());
    let message = |task: &str| {
        let message = Message::new(task, ()).unwrap().queue(&name);
        if is_light { message.ignore_result() } else { message }
    };
    let id = queue.push(message("poison")).await.unwrap();
    let is_dead = async || queue.find(&id).await.is_ok_and(|record| record.state == State::Dead);
    let start = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["crash::child", "--exact"]).env(CHILD, &path);
        command.env(CHILD_URL, url).env(CHILD_QUEUE, &name);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut worker = start();
    let mut died = 0;
    for _ in 0..2400 {
        if worker.try_wait().unwrap().is_some() {
            died += 1;
            worker = start();
        }
        if is_dead().await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let kind = queue.engine_name();
    assert_eq!(died, 3, "{kind}, light: {is_light}: as many workers as it takes, and no more");
    // A result is wanted of this one, so that it can be seen everywhere.
    let good = queue.push(Message::new("fine", ()).unwrap().queue(&name)).await.unwrap();
    wait_for(async || queue.find(&good).await.unwrap().state == State::Done).await;
    assert!(worker.try_wait().unwrap().is_none(), "{kind}: the fourth worker lives");
    worker.kill().unwrap();
    worker.wait().unwrap();
    let reason = queue.find(&id).await.unwrap().reason.unwrap();
    assert!(reason.contains("workers died"), "{kind}: {reason}");
}

async fn site() -> (tempfile::TempDir, Db, Queue) {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::sqlite(folder.path().join("site.db")).await.unwrap();
    let _ = db.migrate(&[MIGRATIONS]).await.unwrap();
    db.execute_unprepared("CREATE TABLE run (id varchar(50))").await.unwrap();
    let queue = Queue::database(db.clone(), Clock::system());
    (folder, db, queue)
}

fn start(path: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["crash::child", "--exact"]).env(CHILD, path);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn die() -> Outcome {
    std::process::abort()
}

/// How often each task ran.
async fn runs(db: &Db) -> HashMap<TaskId, u32> {
    let select = Statement::from_string(DbBackend::Sqlite, "SELECT id FROM run");
    let mut runs = HashMap::new();
    for row in db.query_all_raw(select).await.unwrap() {
        let id: String = row.try_get_by_index(0).unwrap();
        *runs.entry(id.into()).or_default() += 1;
    }
    runs
}

async fn count(queue: &Queue, state: State) -> u64 {
    let filter = Filter { state: Some(state), limit: 5000, ..Filter::default() };
    queue.list(&filter).await.unwrap().len() as u64
}

/// Waits until it holds.
pub(crate) async fn wait_for(holds: impl AsyncFn() -> bool) {
    for _ in 0..2400 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it did not come about in two minutes");
}

const CHILD: &str = "THRONG_QUEUE_TEST_CHILD";
/// Where the child's tasks are, unless in its database, and in which queue.
const CHILD_URL: &str = "THRONG_QUEUE_TEST_CHILD_URL";
const CHILD_QUEUE: &str = "THRONG_QUEUE_TEST_CHILD_QUEUE";
