//! Tasks that were held back and are due, on databases with many writers: however many workers ask
//! for them at once, each is one worker's.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use throng_core::Clock;
use throng_db::Db;
use throng_queue::{
    Message, TaskId,
    engine::{Claim, Engine as _, database::Database},
};

use crate::{databases, own::Own};

async fn check(variable: &str) {
    let Some(url) = databases::server(variable) else { return };
    let own = Own::on(&url).await;
    let db = databases::open(&own.url).await;
    let engine = Database::new(db.clone(), Clock::system());
    let due_ms = Clock::system().now_ms() + 1500;
    let message = |at: i64| Message::new("work", ()).unwrap().at(due_ms + at * 2);
    let messages: Vec<Message> = (0..600).map(message).collect();
    engine.push(&messages).await.unwrap();
    let left = AtomicUsize::new(messages.len());
    let workers = (0..8).map(|_| claims(&own.url, &left));
    let mut claimed: HashMap<TaskId, u32> = HashMap::new();
    for id in join_all(workers).await.into_iter().flatten() {
        *claimed.entry(id).or_default() += 1;
    }
    let twice = claimed.values().filter(|times| **times > 1).count();
    assert_eq!(twice, 0, "of {} tasks", claimed.len());
    assert_eq!(claimed.len(), messages.len());
    db.close().await;
    own.forget().await;
}

/// What one worker gets until none are left.
async fn claims(url: &str, left: &AtomicUsize) -> Vec<TaskId> {
    let db: Db = databases::reach(url).await;
    let engine = Database::new(db.clone(), Clock::system());
    let queues = [throng_queue::DEFAULT_QUEUE.to_owned()];
    let lease = Duration::from_secs(600);
    let (worker, names, takes_suspect) = ("many", None, false);
    let claim = Claim { worker, queues: &queues, names, limit: 5, takes_suspect, lease };
    let mut ids = Vec::new();
    let begun = Instant::now();
    while left.load(Ordering::SeqCst) > 0 && begun.elapsed() < Duration::from_secs(60) {
        let batch = engine.claim(&claim).await.unwrap();
        let _ = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            Some(left.saturating_sub(batch.tasks.len()))
        });
        ids.extend(batch.tasks.into_iter().map(|task| task.lease.id));
    }
    db.close().await;
    ids
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_claimed_once_on_postgres() {
    check("THRONG_TEST_POSTGRES_URL").await;
}

#[cfg(feature = "mysql")]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_claimed_once_on_mariadb() {
    check("THRONG_TEST_MARIADB_URL").await;
}
