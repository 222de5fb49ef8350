//! Unique tasks whose key is freed at the very moment at which others push.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use throng_core::Clock;
use throng_db::Db;
use throng_queue::{MIGRATIONS, Message, Queue, TaskId};

/// Every push that was acknowledged names a task that is there.
async fn check(db: &Db) {
    let queue = Queue::open("database:", db.clone(), Clock::system()).await.unwrap();
    let acknowledged: Arc<Mutex<HashSet<TaskId>>> = Arc::default();
    let is_over = Arc::new(AtomicBool::new(false));
    let freeing = {
        let (queue, acknowledged, is_over) = (queue.clone(), acknowledged.clone(), is_over.clone());
        tokio::spawn(async move {
            while !is_over.load(Ordering::SeqCst) {
                let known: Vec<TaskId> = acknowledged.lock().unwrap().iter().cloned().collect();
                for id in known.iter().rev().take(4) {
                    let _ = queue.cancel(id).await;
                }
                tokio::task::yield_now().await;
            }
        })
    };
    let mut pushing = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (queue, acknowledged) = (queue.clone(), acknowledged.clone());
        pushing.spawn(async move {
            for _ in 0..150 {
                let message = Message::new("work", ()).unwrap().unique("the key");
                let id = queue.push(message).await.unwrap();
                acknowledged.lock().unwrap().insert(id.clone());
                let _ = queue.cancel(&id).await;
            }
        });
    }
    while let Some(one) = pushing.join_next().await {
        one.unwrap();
    }
    is_over.store(true, Ordering::SeqCst);
    freeing.await.unwrap();
    let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap());
    for id in acknowledged {
        assert!(queue.find(&id).await.is_ok(), "{id} was acknowledged and is not there");
    }
}

/// A push in a transaction that began before another took the key is that other's.
#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn check_in_an_old_transaction(db: &Db) {
    let queue = Queue::open("database:", db.clone(), Clock::system()).await.unwrap();
    let message = || Message::new("work", ()).unwrap().unique("another key");
    let tx = db.begin().await.unwrap();
    let select = "SELECT count(*) FROM throng_task";
    let select = sea_orm::Statement::from_string(tx.get_database_backend(), select);
    // On MariaDB the transaction sees the tables as they are now, from here on.
    let _ = sea_orm::ConnectionTrait::query_one_raw(&tx, select).await.unwrap();
    let holder = queue.push(message()).await.unwrap();
    assert_eq!(queue.push_in(&tx, message()).await.unwrap(), holder);
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_key_is_freed_meanwhile_is_a_task_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::sqlite(folder.path().join("site.db")).await.unwrap();
    let _ = db.migrate(&[MIGRATIONS]).await.unwrap();
    check(&db).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_key_is_freed_meanwhile_is_a_task_on_postgres() {
    on_server("THRONG_TEST_POSTGRES_URL").await;
}

#[cfg(feature = "mysql")]
#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_key_is_freed_meanwhile_is_a_task_on_mariadb() {
    on_server("THRONG_TEST_MARIADB_URL").await;
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn on_server(variable: &str) {
    let Some(url) = crate::databases::server(variable) else { return };
    let own = crate::own::Own::on(&url).await;
    let db = crate::databases::open(&own.url).await;
    check(&db).await;
    check_in_an_old_transaction(&db).await;
    db.close().await;
    own.forget().await;
}
