//! The embedded engine: tasks as rows of the site's own database.
//!
//! A claim is one statement, an UPDATE of the first ready rows; ends of tasks are recorded many to
//! a transaction. Times are the clock's, so machines that share a database need clocks within a
//! second or so of each other; leases are seconds long.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, IsolationLevel, TransactionTrait as _,
    sea_query::{LockBehavior, LockType, SelectStatement},
};
use throng_core::Clock;
use throng_db::{Db, Tx};
use tokio::sync::watch;

use super::{
    Batch, Claim, Ended, Engine, Fire, Lease, Limit, Part, Signals, Tended, Turn, gather::Gather,
};
use crate::{Backoff, Count, Error, Filter, Message, Record, Result, State, TaskId, backoff};

#[cfg(feature = "rabbitmq")]
pub(in crate::engine) mod afloat;
mod chord;
mod claim;
mod follow;
mod inspect;
#[cfg(feature = "postgres")]
mod listen;
mod push;
#[cfg(feature = "rabbitmq")]
pub(in crate::engine) mod ran;
mod rate;
mod schedule;
mod schema;
mod settle;
mod tend;

pub use schema::MIGRATIONS;

/// Tasks in tables of the site's database.
#[derive(Clone)]
pub struct Database {
    db: Db,
    clock: Clock,
    signals: Arc<Signals>,
    gather: Arc<Gather<Arc<Message>, TaskId>>,
    keep: Duration,
    #[cfg(feature = "postgres")]
    ear: Option<Arc<listen::Ear>>,
}

impl Database {
    /// Uses the tables in `db`; its migrations must have run.
    #[must_use]
    pub fn new(db: Db, clock: Clock) -> Self {
        let keep = Duration::from_secs(3600);
        // A replica may not have seen the task that was just pushed.
        let db = db.primary();
        // One commit at a time: what arrives meanwhile shares the next.
        let gather = Gather::new(1, push::CHUNK);
        Self {
            #[cfg(feature = "postgres")]
            ear: listen::Ear::of(&db),
            db,
            clock,
            signals: Arc::default(),
            gather,
            keep,
        }
    }

    /// Does not listen to PostgreSQL's notifications: workers hear of what other processes push by
    /// looking alone. Each process that works has one connection less.
    #[must_use]
    pub fn deaf(self) -> Self {
        Self {
            #[cfg(feature = "postgres")]
            ear: None,
            ..self
        }
    }

    /// Keeps the records of finished tasks for this long; an hour unless set. Dead letters stay
    /// until someone purges them.
    #[must_use]
    pub fn keep(self, keep: Duration) -> Self {
        Self { keep, ..self }
    }

    fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// A write transaction. MySQL's own isolation locks the gaps between rows as well, in which
    /// workers that claim and end tasks side by side meet all the time.
    async fn begin(&self) -> Result<Tx, DbErr> {
        if self.db.get_database_backend() == DbBackend::MySql {
            return self.db.begin_with_config(Some(IsolationLevel::ReadCommitted), None).await;
        }
        self.db.begin().await
    }

    fn forget_ms(&self) -> i64 {
        self.now_ms().saturating_add(millis(self.keep))
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

#[async_trait]
impl Engine for Database {
    fn name(&self) -> &'static str {
        NAME
    }

    fn wakes(&self) -> watch::Receiver<u64> {
        self.signals.wakes()
    }

    fn finishes(&self) -> watch::Receiver<u64> {
        self.signals.finishes()
    }

    async fn push(&self, messages: &[Message]) -> Result<Vec<TaskId>> {
        steady(|| self.push_rows(messages)).await.map_err(failed("push a task"))
    }

    async fn push_in(&self, tx: &Tx, message: &Message) -> Result<TaskId> {
        self.push_row_in(tx, message).await.map_err(failed("push a task"))
    }

    #[cfg(feature = "postgres")]
    async fn arrival(&self, queues: &[String]) {
        match &self.ear {
            Some(ear) => ear.hear(queues).await,
            None => std::future::pending().await,
        }
    }

    async fn claim(&self, claim: &Claim<'_>) -> Result<Batch> {
        steady(|| self.claim_rows(claim)).await.map_err(failed("claim tasks"))
    }

    async fn extend(&self, leases: &[Lease], by: Duration) -> Result<Vec<Lease>> {
        steady(|| self.extend_rows(leases, by)).await.map_err(failed("prolong leases"))
    }

    async fn settle(&self, ended: &[Ended]) -> Result<Vec<bool>> {
        steady(|| self.settle_rows(ended)).await.map_err(failed("record how tasks ended"))
    }

    async fn note_progress(&self, lease: &Lease, progress: &serde_json::Value) -> Result<()> {
        let noted = steady(|| self.note_progress_in(lease, progress)).await;
        noted.map_err(failed("note the progress of a task"))
    }

    async fn turns(&self, wanted: &[Vec<Limit>]) -> Result<Vec<Turn>> {
        steady(|| self.take_turns(wanted)).await.map_err(failed("limit the rate of tasks"))
    }

    async fn tend(&self, max_crashes: u32) -> Result<Tended> {
        steady(|| self.tend_rows(max_crashes)).await.map_err(failed("tend tasks"))
    }

    async fn unfollowed(&self) -> Result<Vec<Record>> {
        self.unfollowed_rows().await.map_err(failed("look after dead tasks"))
    }

    async fn followed(&self, tasks: &[Record]) -> Result<()> {
        steady(|| self.followed_rows(tasks)).await.map_err(failed("look after dead tasks"))
    }

    async fn unpark(&self, names: &[String]) -> Result<u64> {
        steady(|| self.unpark_rows(names)).await.map_err(failed("unpark tasks"))
    }

    async fn find(&self, id: &TaskId) -> Result<Option<Record>> {
        self.find_row(id).await.map_err(failed("find a task"))
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Record>> {
        self.list_rows(filter).await.map_err(failed("list tasks"))
    }

    async fn counts(&self) -> Result<Vec<Count>> {
        self.count_rows().await.map_err(failed("count tasks"))
    }

    async fn retry(&self, id: &TaskId, edited: Option<&Message>) -> Result<bool> {
        steady(|| self.retry_row(id, edited)).await.map_err(failed("try a task again"))
    }

    async fn cancel(&self, id: &TaskId) -> Result<bool> {
        steady(|| self.cancel_row(id)).await.map_err(failed("cancel a task"))
    }

    async fn keep_dead(&self, letter: &Record) -> Result<()> {
        steady(|| self.insert_dead(letter)).await.map_err(failed("keep a dead letter"))
    }

    async fn forget(&self, id: &TaskId) -> Result<bool> {
        steady(|| self.forget_row(id)).await.map_err(failed("forget a task"))
    }

    async fn purge(&self, queue: &str, state: State) -> Result<u64> {
        steady(|| self.purge_rows(queue, state)).await.map_err(failed("purge tasks"))
    }

    async fn pause(&self, queue: &str, is_paused: bool) -> Result<()> {
        self.pause_queue(queue, is_paused).await.map_err(failed("pause or resume a queue"))
    }

    async fn paused(&self) -> Result<Vec<String>> {
        self.paused_queues().await.map_err(failed("list paused queues"))
    }

    async fn lead(&self, role: &str, holder: &str, lease: Duration) -> Result<bool> {
        steady(|| self.lead_role(role, holder, lease)).await.map_err(failed("lead the schedules"))
    }

    async fn last_fire(&self, schedule: &str, now_ms: i64) -> Result<i64> {
        self.read_schedule(schedule, now_ms).await.map_err(failed("read a schedule"))
    }

    async fn open_chord(&self, group: &str, parts: usize) -> Result<()> {
        steady(|| self.open_group(group, parts)).await.map_err(failed("open a chord"))
    }

    async fn join(&self, part: &Part<'_>) -> Result<Option<Vec<serde_json::Value>>> {
        match steady(|| self.join_part(part)).await.map_err(failed("join the parts of a chord"))? {
            chord::Joined::All(parts) => Ok(Some(parts)),
            chord::Joined::No => Ok(None),
            chord::Joined::Unknown => {
                let what = "join a part of a chord that it does not know";
                Err(Error::Unsupported { engine: NAME, what })
            }
        }
    }

    async fn close_chord(&self, part: &Part<'_>, _failed: Option<(&TaskId, &str)>) -> Result<()> {
        steady(|| self.close_group(part)).await.map_err(failed("close a chord"))
    }

    async fn fire(&self, fire: &Fire<'_>) -> Result<bool> {
        steady(|| self.fire_schedule(fire)).await.map_err(failed("fire a schedule"))
    }
}

const NAME: &str = "database";

fn failed(doing: &'static str) -> impl FnOnce(DbErr) -> Error {
    move |source| Error::Engine { engine: NAME, doing, source: Box::new(source) }
}

/// Does it again when transactions met at the same rows and the database let one of them go: on
/// engines with many writers that is a matter of course.
async fn steady<T, F>(work: impl Fn() -> F + Send) -> Result<T, DbErr>
where
    F: Future<Output = Result<T, DbErr>> + Send,
{
    for attempt in 0..ATTEMPTS {
        match work().await {
            Err(error) if throng_db::kind(&error) == throng_db::Kind::Retry => {
                let wait = Backoff { base: FIRST_WAIT, cap: LONGEST_WAIT, ..Backoff::default() };
                tokio::time::sleep(wait.wait(attempt, backoff::dice())).await;
            }
            done => return done,
        }
    }
    work().await
}

const ATTEMPTS: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_millis(5);
/// All waits together are under 160 ms: whoever pushes to a database that is away hears so in time.
const LONGEST_WAIT: Duration = Duration::from_millis(40);

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Locks the rows that `select` finds, where several transactions can write at once. SQLite has
/// one writer and no such clause.
fn lock(connection: &impl ConnectionTrait, select: &mut SelectStatement, skips: bool) {
    if connection.get_database_backend() == DbBackend::Sqlite {
        return;
    }
    if skips {
        select.lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
    } else {
        select.lock(LockType::Update);
    }
}
