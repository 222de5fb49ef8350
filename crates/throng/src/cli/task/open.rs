//! The queue that a command is about: the site's, or the one that `--url` names.

use throng_core::{Clock, EngineUrl};
use throng_db::Db;
use throng_queue::{MIGRATIONS, Queue};

use crate::{
    Config, Error,
    cli::Failure,
    start::{of_room, open_db},
};

/// Opens the queue at `text`: a `redis://` or `amqp://` as in `queue.url`, or a database whose
/// tables hold it, which are made if it `is_new`. A broker that needs a database has the site's.
pub(super) async fn queue(text: &str, config: &Config, is_new: bool) -> Result<Queue, Failure> {
    let url = EngineUrl::parse(text).map_err(|error| Failure::Usage(error.to_string()))?;
    let clock = Clock::system();
    let wrong = |error| Failure::Start(of_room("--url", error));
    #[cfg(feature = "redis")]
    if url.scheme() == "redis" {
        let engine = throng_queue::engine::redis::Redis::open(&url, clock.clone()).await;
        return Ok(Queue::with_engine(engine.map_err(wrong)?, clock));
    }
    if DATABASES.contains(&url.scheme()) {
        let db = Db::open_with(&url, throng_db::Config::default()).await;
        let db = db.map_err(|error| Failure::Start(of_room("--url", error)))?;
        if is_new {
            let _ = db.migrate_room(MIGRATIONS).await.map_err(failed)?;
        } else {
            has_queue(&db, &url).await?;
        }
        return Ok(Queue::database(db, clock));
    }
    let db = open_db(config, &clock).await?;
    has_queue(&db, &config.database).await?;
    Queue::open(text, db, clock).await.map_err(wrong)
}

/// Whether `db`, which is at `url`, has the tables of a queue.
async fn has_queue(db: &Db, url: &EngineUrl) -> Result<(), Failure> {
    match db.pending_room(MIGRATIONS).await.map_err(failed)?.is_empty() {
        true => Ok(()),
        false => Err(Failure::Usage(format!("`{url}` has no queue, or an older one: `migrate`"))),
    }
}

fn failed(error: throng_db::Error) -> Failure {
    Failure::Run(Error::internal(error))
}

const DATABASES: &[&str] = &["sqlite", "postgres", "postgresql", "mysql", "mariadb"];
