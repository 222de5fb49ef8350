//! A site's database with a queue in it, and a worker on it that can be stopped.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use sea_orm::{ConnectionTrait, Statement};
use tempfile::TempDir;
use throng_core::{Clock, Hand, Shutdown, Trigger};
use throng_db::Db;
use throng_queue::{
    MIGRATIONS, Message, Queue, Record, Report, TaskId, Worker, engine::database::Database,
};
use tokio::task::JoinHandle;

/// A new database, a queue in it, and a clock that the test moves.
pub(crate) struct Site {
    pub(crate) db: Db,
    pub(crate) queue: Queue,
    pub(crate) hand: Hand,
    pub(crate) clock: Clock,
    /// How long dead workers are still waited for.
    patience: AtomicU32,
    _folder: TempDir,
}

impl Site {
    pub(crate) async fn new() -> Self {
        Self::at(START_MS).await
    }

    pub(crate) async fn at(now_ms: i64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::sqlite(folder.path().join("site.db")).await.unwrap();
        let _ = db.migrate(&[MIGRATIONS]).await.unwrap();
        db.execute_unprepared("CREATE TABLE note (text varchar(50))").await.unwrap();
        let (clock, hand) = Clock::manual(now_ms);
        // Tests move the clock by weeks and still want to see what finished.
        let keep = Duration::from_secs(365 * 86_400);
        let engine = Database::new(db.clone(), clock.clone()).keep(keep);
        let queue = Queue::with_engine(engine, clock.clone());
        let patience = AtomicU32::new(PATIENCE_MS);
        Self { db, queue, hand, clock, patience, _folder: folder }
    }

    pub(crate) async fn push(&self, message: Message) -> TaskId {
        self.queue.push(message).await.unwrap()
    }

    /// Waits until the task is known.
    pub(crate) async fn appears(&self, id: &TaskId) {
        for _ in 0..20_000 {
            if self.queue.find(id).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("task {id} is not pushed");
    }

    /// Moves the clock, once living workers have prolonged their leases as far as they would have by
    /// now: on a busy machine it would run away from their heartbeats. Leases of dead workers are
    /// waited for once.
    pub(crate) async fn pass(&self, step: Duration) {
        let mut before = i64::MIN;
        while self.patience.load(Ordering::SeqCst) > 0 {
            let select = "SELECT MIN(turn_ms) FROM throng_task WHERE state = 2";
            let select = Statement::from_string(self.db.get_database_backend(), select);
            let row = self.db.query_one_raw(select).await.unwrap().unwrap();
            let ends_ms: Option<i64> = row.try_get_by_index(0).unwrap();
            let Some(ends_ms) = ends_ms else { break };
            if ends_ms > before && before != i64::MIN {
                self.patience.store(PATIENCE_MS, Ordering::SeqCst);
            }
            before = ends_ms;
            if ends_ms - self.clock.now_ms() >= LEAST_LEFT_MS {
                break;
            }
            self.patience.fetch_sub(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.hand.advance(step);
    }

    /// Moves the clock in small steps until the task is as `fits` says, and gives its record.
    pub(crate) async fn until(&self, id: &TaskId, fits: impl Fn(&Record) -> bool) -> Record {
        for _ in 0..20_000 {
            let record = self.queue.find(id).await.unwrap();
            if fits(&record) {
                return record;
            }
            self.pass(Duration::from_millis(100)).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let record = self.queue.find(id).await.unwrap();
        panic!("task {id} stays {}: {:?}", record.state, record.reason);
    }
}

/// A worker in the background.
pub(crate) struct Running {
    stop: Trigger,
    worker: JoinHandle<throng_queue::Result<Report>>,
}

impl Running {
    pub(crate) fn start(worker: Worker) -> Self {
        let (stop, shutdown) = Shutdown::pair();
        Self { stop, worker: tokio::spawn(worker.run(shutdown)) }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.worker.is_finished()
    }

    pub(crate) fn ask_to_stop(&self) {
        self.stop.request();
    }

    /// As if its process were killed: nobody is told anything.
    #[cfg(feature = "redis")]
    pub(crate) async fn kill(self) {
        self.worker.abort();
        let _ = self.worker.await;
    }

    pub(crate) async fn stop(self) -> Report {
        self.stop.request();
        self.worker.await.unwrap().unwrap()
    }
}

const PATIENCE_MS: u32 = 5000;
/// Of the six seconds of a lease, prolonged every two.
const LEAST_LEFT_MS: i64 = 3000;
pub(crate) const START_MS: i64 = 1_700_000_000_000;
