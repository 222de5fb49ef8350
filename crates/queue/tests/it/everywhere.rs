//! One test on every kind of engine: database, Redis and RabbitMQ, by the system's clock.

use throng_core::Clock;
use throng_db::Db;
use throng_queue::{MIGRATIONS, Queue, TaskId, Worker, WorkerConfig};

/// A queue that this test alone uses.
pub(crate) struct Place {
    pub(crate) queue: Queue,
    pub(crate) name: String,
    url: String,
    db: Db,
    _folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn worker(&self) -> Worker {
        let queues = vec![self.name.clone()];
        let config = WorkerConfig { queues, ..WorkerConfig::default() };
        Worker::new(self.queue.clone()).config(config)
    }

    /// The same queue, as another process has it.
    pub(crate) async fn again(&self) -> Queue {
        Queue::open(&self.url, self.db.clone(), Clock::system()).await.unwrap()
    }
}

pub(crate) async fn everywhere() -> Vec<Place> {
    let mut urls = vec!["database:".to_owned()];
    #[cfg(feature = "redis")]
    urls.extend(crate::redis::url());
    #[cfg(feature = "rabbitmq")]
    urls.extend(crate::rabbitmq::url());
    let mut places = Vec::new();
    for url in urls {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::sqlite(folder.path().join("site.db")).await.unwrap();
        let _ = db.migrate(&[MIGRATIONS]).await.unwrap();
        let queue = Queue::open(&url, db.clone(), Clock::system()).await.unwrap();
        places.push(Place { queue, name: TaskId::random().to_string(), url, db, _folder: folder });
    }
    places
}
