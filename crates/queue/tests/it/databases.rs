//! The databases of tests: where the test runner has them, and how they are opened.

use std::time::Duration;

use throng_db::Db;
use throng_queue::MIGRATIONS;

/// The server of which `variable` has the URL; without it the test says that it is skipped.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) fn server(variable: &str) -> Option<String> {
    let url = std::env::var(variable).ok();
    if url.is_none() {
        println!("skip: {variable} is not set");
    }
    url
}

/// Opens a database with the queue's tables in it.
pub(crate) async fn open(url: &str) -> Db {
    let db = reach(url).await;
    let _ = db.migrate(&[MIGRATIONS, throng_db::outbox::MIGRATIONS]).await.unwrap();
    db
}

/// On a busy machine a server may not answer in time.
pub(crate) async fn reach(url: &str) -> Db {
    for _ in 0..30 {
        match Db::open(url).await {
            Ok(db) => return db,
            Err(error) => println!("once more: {error}"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Db::open(url).await.unwrap()
}
