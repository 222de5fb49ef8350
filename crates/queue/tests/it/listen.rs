//! On PostgreSQL a push wakes the workers of other processes; where nobody tells them, they look.

use std::time::{Duration, Instant};

use sea_orm::ConnectionTrait;
use throng_core::Clock;
use throng_db::Db;
use throng_queue::{
    Delivery, Kind, MIGRATIONS, Message, Policy, Queue, State, TaskId, Worker, WorkerConfig,
};
use tokio::sync::mpsc;

use crate::{own::Own, site::Running};

/// One process's way to a database that others use as well.
async fn open(url: &str, engine: &str, clock: Clock) -> (Db, Queue) {
    let db = Db::open(url).await.unwrap();
    let _ = db.migrate(&[MIGRATIONS]).await.unwrap();
    let queue = Queue::open(engine, db.clone(), clock).await.unwrap();
    (db, queue)
}

/// Tells when it runs a task.
fn worker(queue: &Queue, name: &str, ran: mpsc::UnboundedSender<Instant>) -> Worker {
    let config = WorkerConfig { queues: vec![name.to_owned()], ..WorkerConfig::default() };
    Worker::new(queue.clone()).config(config).on("greet", Policy::default(), move |_: Delivery| {
        let _ = ran.send(Instant::now());
        async {}
    })
}

async fn own() -> Option<Own> {
    match std::env::var("THRONG_TEST_POSTGRES_URL") {
        Ok(url) => Some(Own::on(&url).await),
        Err(_) => {
            println!("skip: THRONG_TEST_POSTGRES_URL is not set");
            None
        }
    }
}

/// A server that does not answer has not said so.
async fn is_done(queue: &Queue, id: &TaskId, limit: Duration) -> bool {
    match queue.wait(id, limit).await {
        Ok(record) => record.state == State::Done,
        Err(error) => {
            println!("not known: {error:?}");
            assert_eq!(error.kind(), Kind::Retry, "{error:?}");
            false
        }
    }
}

/// Pushes, once more where the machine is so busy that the server seems gone for a moment: it is
/// given up when it has not answered for about a second.
async fn push(queue: &Queue, message: Message) -> TaskId {
    for _ in 0..30 {
        match queue.push(message.clone()).await {
            Ok(id) => return id,
            Err(error) => println!("once more: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    queue.push(message).await.unwrap()
}

/// Pushes until a task is run: the first ones may come before anybody listens.
async fn until_heard(queue: &Queue, name: &str) {
    for _ in 0..60 {
        let message = Message::new("greet", ()).unwrap().queue(name);
        let id = push(queue, message).await;
        if is_done(queue, &id, Duration::from_secs(1)).await {
            return;
        }
    }
    panic!("no push wakes the worker");
}

/// The worker's clock stands still, so that it never looks by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_another_process_wakes_an_idle_worker() {
    let Some(own) = own().await else { return };
    let name = TaskId::random().to_string();
    let (here, pushing) = open(&own.url, "database:", Clock::system()).await;
    let (still, _hand) = Clock::manual(Clock::system().now_ms());
    let (there, working) = open(&own.url, "database:", still).await;
    let (ran, mut runs) = mpsc::unbounded_channel();
    let running = Running::start(worker(&working, &name, ran));
    until_heard(&pushing, &name).await;
    let greet = || Message::new("greet", ()).unwrap().queue(&name);
    let mut waits = Vec::new();
    for _ in 0..40 {
        while runs.try_recv().is_ok() {}
        let begun = Instant::now();
        let id = push(&pushing, greet()).await;
        let pushed = begun.elapsed();
        if is_done(&pushing, &id, Duration::from_secs(1)).await
            && let Ok(at) = runs.try_recv()
        {
            waits.push((at - begun, pushed));
        }
    }
    waits.sort_unstable();
    let (wait, pushed) = waits.get(waits.len() / 2).copied().unwrap_or_default();
    let woken = waits.len();
    println!("listen: {woken} of 40 pushes woke, started after {wait:?} (p50), push {pushed:?}");
    // In a transaction: when it commits, and not before.
    let tx = here.begin().await.unwrap();
    let id = pushing.push_in(&tx, greet()).await.unwrap();
    tx.commit().await.unwrap();
    if !is_done(&pushing, &id, Duration::from_secs(5)).await {
        until_heard(&pushing, &name).await;
        assert!(is_done(&pushing, &id, Duration::from_secs(30)).await);
    }
    // Another connection is made when this one is lost.
    here.execute_unprepared(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE application_name = 'throng listener' AND datname = current_database()",
    )
    .await
    .unwrap();
    until_heard(&pushing, &name).await;
    running.stop().await;
    drop((pushing, working));
    here.close().await;
    there.close().await;
    own.forget().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_does_not_listen_looks() {
    let Some(own) = own().await else { return };
    let name = TaskId::random().to_string();
    let (here, pushing) = open(&own.url, "database:", Clock::system()).await;
    let (there, working) = open(&own.url, "database:?listen=false", Clock::system()).await;
    let (ran, _runs) = mpsc::unbounded_channel();
    let running = Running::start(worker(&working, &name, ran));
    for _ in 0..3 {
        let id = push(&pushing, Message::new("greet", ()).unwrap().queue(&name)).await;
        assert!(is_done(&pushing, &id, Duration::from_secs(60)).await);
    }
    running.stop().await;
    drop((pushing, working));
    here.close().await;
    there.close().await;
    own.forget().await;
}
