//! django-celery-beat's tables as a source of schedules: what Django's admin says is done here.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use throng_core::Shutdown;
use throng_db::Db;

use self::row::{Due, Row};
use crate::{Error, Kind, Queue, Result, metrics};

mod row;
mod table;

/// The schedules in `django_celery_beat`'s tables of a database, in place of `celery beat`.
///
/// One of the workers that carry it leads. A task is pushed in the transaction that moves its
/// `last_run_at` and `total_run_count`, so that each time fires once, and Celery's own
/// `DatabaseScheduler` can go on where we stopped. Both must not run at the same time: Celery's does
/// not look whether another has fired.
#[derive(Clone, Debug)]
pub struct DjangoBeat {
    db: Db,
    default_queue: String,
    queues: HashMap<String, String>,
}

impl DjangoBeat {
    /// The tables in `db`, which Django has migrated, with times in UTC (`USE_TZ = True`).
    #[must_use]
    pub fn new(db: Db) -> Self {
        let db = db.primary();
        Self { db, default_queue: "celery".into(), queues: HashMap::new() }
    }

    /// Where a row's task goes when the row names no queue: Celery's `task_default_queue`.
    /// `celery` unless set.
    #[must_use]
    pub fn default_queue(self, queue: impl Into<String>) -> Self {
        Self { default_queue: queue.into(), ..self }
    }

    /// Where tasks called `task` go when the row names no queue.
    #[must_use]
    pub fn task_queue(mut self, task: impl Into<String>, queue: impl Into<String>) -> Self {
        self.queues.insert(task.into(), queue.into());
        self
    }
}

/// Fires what the tables say while this holder leads, until shutdown.
pub(crate) async fn lead(queue: Queue, beat: DjangoBeat, holder: String, shutdown: Shutdown) {
    let clock = queue.clock().clone();
    let (rows, told) = Default::default();
    let mut beat = Beat { queue, beat, rows, told, seen: None, read_at: None };
    while !shutdown.is_requested() {
        let wait = match beat.round(&holder).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::warn!(error = ?error, "cannot look after Django's schedules: {error}");
                beat.read_at = None;
                STAND_BY
            }
        };
        tokio::select! {
            () = clock.sleep(wait) => {}
            () = shutdown.requested() => {}
        }
    }
    // A lease of no length: whoever asks next leads.
    if let Err(error) = beat.queue.engine().lead(ROLE, &holder, Duration::ZERO).await {
        tracing::debug!(error = ?error, "cannot give up Django's schedules: {error}");
    }
}

struct Beat {
    queue: Queue,
    beat: DjangoBeat,
    rows: Vec<Row>,
    /// `PeriodicTasks.last_update` as of these rows.
    seen: Option<String>,
    /// When they were read.
    read_at: Option<Duration>,
    /// What was said about rows that cannot be fired; once each.
    told: HashSet<String>,
}

impl Beat {
    async fn round(&mut self, holder: &str) -> Result<Duration> {
        if !self.queue.engine().lead(ROLE, holder, LEASE).await? {
            self.read_at = None;
            return Ok(STAND_BY);
        }
        self.refresh().await?;
        let mut wait = POLL;
        for mut row in std::mem::take(&mut self.rows) {
            let now_ms = self.queue.clock().now_ms();
            match row.due(now_ms) {
                Ok(Due::Now) => {
                    if self.fire(&mut row, now_ms).await? {
                        self.rows.push(row);
                        wait = Duration::ZERO;
                    }
                }
                Ok(Due::At(at_ms)) => {
                    let left_ms = u64::try_from(at_ms.saturating_sub(now_ms)).unwrap_or(0);
                    wait = wait.min(Duration::from_millis(left_ms));
                    self.rows.push(row);
                }
                Ok(Due::Over { is_spent }) => self.disable(&row, is_spent).await?,
                Err(reason) => self.complain(&row, &reason),
            }
        }
        Ok(wait)
    }

    /// Reads the rows again when Django has changed one, and now and then.
    async fn refresh(&mut self) -> Result<()> {
        let now = self.queue.clock().elapsed();
        let last_update = table::last_update(&self.beat.db).await.map_err(failed(READ))?;
        let is_old = self.read_at.is_none_or(|at| now.saturating_sub(at) > REREAD);
        if is_old || last_update != self.seen {
            self.rows = table::rows(&self.beat.db).await.map_err(failed(READ))?;
            self.seen = last_update;
            self.read_at = Some(now);
        }
        Ok(())
    }

    /// Pushes a row's task and notes it in the row, both or neither. False when the row is not to
    /// be looked at again before it is read anew.
    async fn fire(&mut self, row: &mut Row, now_ms: i64) -> Result<bool> {
        let other = self.beat.queues.get(&row.task).unwrap_or(&self.beat.default_queue);
        let message = match row.message(now_ms, other) {
            Ok(message) => message,
            Err(reason) => {
                self.complain(row, &reason);
                return Ok(false);
            }
        };
        let tx = self.beat.db.begin().await.map_err(failed(FIRE))?;
        let Some(text) = table::mark_run(&tx, row, now_ms).await.map_err(failed(FIRE))? else {
            // Somebody else was here: the rows are read again.
            tx.rollback().await.map_err(failed(FIRE))?;
            self.read_at = None;
            return Ok(false);
        };
        match self.queue.push_in(&tx, message).await {
            Ok(id) => {
                tx.commit().await.map_err(failed(FIRE))?;
                let name = &row.name;
                metrics::fired(name);
                tracing::debug!(schedule = %name, task.id = %id, "Django's schedule {name} pushed task {id}");
            }
            Err(error) if error.kind() == Kind::Retry => return Err(error),
            Err(error) => {
                self.complain(row, &error.to_string());
                return Ok(false);
            }
        }
        row.has_run(now_ms, text);
        Ok(true)
    }

    async fn disable(&self, row: &Row, is_spent: bool) -> Result<()> {
        let now_ms = self.queue.clock().now_ms();
        let name = &row.name;
        tracing::info!(schedule = %name, "Django's schedule {name} is over and disabled");
        table::disable(&self.beat.db, name, is_spent, now_ms).await.map_err(failed(FIRE))
    }

    fn complain(&mut self, row: &Row, reason: &str) {
        if self.told.len() < MOST_TOLD && self.told.insert(format!("{} {reason}", row.name)) {
            let name = &row.name;
            tracing::error!(schedule = %name, "Django's schedule {name} cannot be fired: {reason}");
        }
    }
}

fn failed(doing: &'static str) -> impl FnOnce(sea_orm::DbErr) -> Error {
    move |source| Error::Engine { engine: "django_celery_beat", doing, source: Box::new(source) }
}

const READ: &str = "read Django's schedules";
const FIRE: &str = "fire Django's schedules";
const ROLE: &str = "django_beat";
/// A leader that dies is followed after this long.
const LEASE: Duration = Duration::from_secs(10);
const STAND_BY: Duration = Duration::from_secs(3);
/// How soon a change in Django's admin is seen.
const POLL: Duration = Duration::from_secs(2);
/// Rows that were changed past Django's ORM are seen after this long.
const REREAD: Duration = Duration::from_secs(60);
const MOST_TOLD: usize = 1000;
