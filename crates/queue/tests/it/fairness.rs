//! A worker that is busy with long tasks holds back none that another could run.

use std::{sync::Arc, time::Duration};

use throng_core::Clock;
use throng_db::Db;
use throng_queue::{
    Delivery, MIGRATIONS, Message, Policy, Queue, State, TaskId, Worker, WorkerConfig,
};
use tokio::sync::Semaphore;

use crate::site::Running;

/// One worker is warmed up with short tasks, so that it leases ahead, and then filled with long
/// ones. Whatever it leased beyond them must run elsewhere while they still block it.
async fn check(queue: Queue) {
    let name = format!("fair-{}", TaskId::random());
    let gate = Arc::new(Semaphore::new(0));
    let worker = || {
        let config = WorkerConfig {
            queues: vec![name.clone()],
            concurrency: 2,
            lease: Duration::from_secs(2),
            ..WorkerConfig::default()
        };
        let gate = gate.clone();
        Worker::new(queue.clone())
            .config(config)
            .on("short", Policy::default(), |_: Delivery| async {})
            .on("long", Policy::default(), move |_: Delivery| {
                let gate = gate.clone();
                async move { gate.acquire().await.unwrap().forget() }
            })
    };
    let push = async |what: &str, count: usize| {
        let messages = (0..count).map(|_| Message::new(what, ()).unwrap().queue(&name));
        queue.push_all(messages.collect()).await.unwrap()
    };
    let mut ids = push("short", 300).await;
    let long = push("long", 2).await;
    ids.extend(push("short", 300).await);
    let busy = Running::start(worker());
    for id in &long {
        wait_for(&queue, id, State::Running).await;
    }
    let free = Running::start(worker());
    for id in &ids {
        wait_for(&queue, id, State::Done).await;
    }
    for id in &long {
        assert_eq!(queue.find(id).await.unwrap().state, State::Running, "{}", queue.engine_name());
    }
    gate.add_permits(2);
    for id in &long {
        wait_for(&queue, id, State::Done).await;
    }
    busy.stop().await;
    free.stop().await;
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn check_on(variable: &str) {
    let Some(url) = crate::databases::server(variable) else { return };
    let own = crate::own::Own::on(&url).await;
    let db = crate::databases::open(&own.url).await;
    check(Queue::database(db.clone(), Clock::system())).await;
    db.close().await;
    own.forget().await;
}

async fn wait_for(queue: &Queue, id: &TaskId, state: State) {
    let mut now = State::Queued;
    for _ in 0..2400 {
        now = queue.find(id).await.unwrap().state;
        if now == state {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("on {} task {id} stays {now}", queue.engine_name());
}

#[tokio::test(flavor = "multi_thread")]
async fn long_tasks_starve_no_short_ones_on_any_engine() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::sqlite(folder.path().join("site.db")).await.unwrap();
    let _ = db.migrate(&[MIGRATIONS]).await.unwrap();
    check(Queue::database(db.clone(), Clock::system())).await;
    #[cfg(feature = "postgres")]
    check_on("THRONG_TEST_POSTGRES_URL").await;
    #[cfg(feature = "mysql")]
    check_on("THRONG_TEST_MARIADB_URL").await;
    #[cfg(feature = "redis")]
    if let Some(url) = crate::redis::url() {
        let url = format!("{url}?prefix={}.", TaskId::random());
        check(Queue::open(&url, db.clone(), Clock::system()).await.unwrap()).await;
    }
    #[cfg(feature = "rabbitmq")]
    if let Some(url) = crate::rabbitmq::url() {
        check(Queue::open(&url, db.clone(), Clock::system()).await.unwrap()).await;
    }
}
