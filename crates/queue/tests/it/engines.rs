//! Every engine passes the one suite.

use throng_core::Clock;
use throng_db::Db;
use throng_queue::{MIGRATIONS, conformance, engine::database::Database};

#[tokio::test]
async fn the_database_engine_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::sqlite(folder.path().join("site.db")).await.unwrap();
    let _ = db.migrate(&[MIGRATIONS]).await.unwrap();
    let (clock, hand) = Clock::manual(1_700_000_000_000);
    let engine = Database::new(db, clock.clone());
    conformance::exercise(engine, &hand, || clock.now_ms()).await;
}
