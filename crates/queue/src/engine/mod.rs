//! The engine: what keeps tasks and hands each to one worker at a time.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::Value;
use throng_db::Tx;
use tokio::sync::watch;

pub use self::chord::Part;
use crate::{Count, Error, Filter, Message, Record, Result, State, TaskId};
pub use crate::{
    celery::{ReplyTo, Request, Wire},
    rate::{Limit, Turn},
};

#[cfg(any(feature = "redis", feature = "rabbitmq"))]
pub(crate) mod celery;
pub(crate) mod chord;
pub mod database;
mod gather;
#[cfg(feature = "rabbitmq")]
mod lasting;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
#[cfg(feature = "redis")]
pub mod redis;

/// Keeps tasks durably and leases each to one worker at a time.
///
/// An engine of your own must pass [`conformance::exercise`](crate::conformance::exercise). Every
/// method is safe to call from any number of processes at once.
#[async_trait]
pub trait Engine: fmt::Debug + Send + Sync + 'static {
    /// The engine's name in errors and log lines.
    fn name(&self) -> &'static str;

    /// Changes when a task may have become ready in this process; other processes are found by
    /// polling.
    fn wakes(&self) -> watch::Receiver<u64>;

    /// Changes when a task may have finished in this process.
    fn finishes(&self) -> watch::Receiver<u64>;

    /// Keeps the tasks, all or none. The answer has, for each message, the id under which it is
    /// known: another's when its unique key is taken, its own when it was pushed before.
    async fn push(&self, messages: &[Message]) -> Result<Vec<TaskId>>;

    /// Keeps the task if `tx` commits.
    async fn push_in(&self, tx: &Tx, message: &Message) -> Result<TaskId>;

    /// Returns when another process may have pushed a task to one of the queues; only a hint, and
    /// polling goes on beside it. Never returns where the engine cannot tell. Cancel safe.
    async fn arrival(&self, _queues: &[String]) {
        std::future::pending().await
    }

    /// Leases ready tasks to a worker, higher priorities first, then in the order pushed.
    async fn claim(&self, claim: &Claim<'_>) -> Result<Batch>;

    /// Prolongs leases from now; the answer has those that are lost.
    async fn extend(&self, leases: &[Lease], by: Duration) -> Result<Vec<Lease>>;

    /// Records how tasks ended. The answer says, for each, whether its lease still held; if not,
    /// nothing was recorded for it.
    async fn settle(&self, ended: &[Ended]) -> Result<Vec<bool>>;

    /// Notes how far a task is that runs under this lease; nothing when it does not any more.
    async fn note_progress(&self, _lease: &Lease, _progress: &Value) -> Result<()> {
        Err(Error::Unsupported { engine: self.name(), what: "keep the progress of a task" })
    }

    /// Turns for tasks that are under limits which all workers of the engine share: for each task,
    /// given its limits, a turn under all of them or under none.
    async fn turns(&self, _wanted: &[Vec<Limit>]) -> Result<Vec<Turn>> {
        Err(Error::Unsupported { engine: self.name(), what: "count starts over all workers" })
    }

    /// Takes back expired leases (parking what has outlived `max_crashes` workers), expires and
    /// forgets what is due for it. Every worker calls it every few seconds.
    async fn tend(&self, max_crashes: u32) -> Result<Tended>;

    /// Some of the tasks that ended without a worker which could push what follows them: dead with
    /// their workers, and parts of chords that expired or were cancelled. They are told
    /// again until [`followed`](Self::followed) says that it is done.
    async fn unfollowed(&self) -> Result<Vec<Record>>;

    /// Notes that what follows these tasks is pushed.
    async fn followed(&self, tasks: &[Record]) -> Result<()>;

    /// Puts parked tasks of these names back into their queues.
    async fn unpark(&self, names: &[String]) -> Result<u64>;

    /// One task, if it is known.
    async fn find(&self, id: &TaskId) -> Result<Option<Record>>;

    /// The newest tasks that pass the filter.
    async fn list(&self, filter: &Filter) -> Result<Vec<Record>>;

    /// How many tasks are in each queue and state.
    async fn counts(&self) -> Result<Vec<Count>>;

    /// Queues a task that is dead, parked, cancelled, expired or waiting now, its retries and
    /// crashes forgotten; with `edited`, as that message. False when it is in another state.
    async fn retry(&self, id: &TaskId, edited: Option<&Message>) -> Result<bool>;

    /// Cancels a task that has not finished; a running one is stopped when its worker next
    /// prolongs its lease. False when it has finished.
    async fn cancel(&self, id: &TaskId) -> Result<bool>;

    /// Keeps a dead letter that died on another engine, with its reason and its times. Nothing
    /// happens when its id is known.
    async fn keep_dead(&self, _letter: &Record) -> Result<()> {
        Err(Error::Unsupported {
            engine: self.name(),
            what: "keep a dead letter of another engine",
        })
    }

    /// Forgets a task that waits, is parked or dead, as if it had never been pushed. False when it
    /// is in another state.
    async fn forget(&self, id: &TaskId) -> Result<bool>;

    /// Forgets the tasks of a queue that are in `state`; running ones are never forgotten.
    async fn purge(&self, queue: &str, state: State) -> Result<u64>;

    /// Stops or resumes handing out the tasks of a queue, until told otherwise.
    async fn pause(&self, queue: &str, is_paused: bool) -> Result<()>;

    /// The queues that are paused.
    async fn paused(&self) -> Result<Vec<String>>;

    /// Takes or keeps the lease `role` for `holder`: true for one holder at a time.
    async fn lead(&self, role: &str, holder: &str, lease: Duration) -> Result<bool>;

    /// The way to Celery's remote control and events, where Celery shares the engine.
    fn celery(&self) -> Option<Arc<dyn Wire>> {
        None
    }

    /// When the schedule last fired; the first time it is asked for, `now_ms` is kept as that.
    async fn last_fire(&self, schedule: &str, now_ms: i64) -> Result<i64>;

    /// Notes how many parts a chord has, before they are pushed.
    async fn open_chord(&self, _group: &str, _parts: usize) -> Result<()> {
        Err(Error::Unsupported { engine: self.name(), what: "join the parts of a chord" })
    }

    /// Notes that a part of a chord has ended; noting it again changes nothing. To one who finds
    /// all parts there the answer has them in order, to the others nothing.
    async fn join(&self, _part: &Part<'_>) -> Result<Option<Vec<Value>>> {
        Err(Error::Unsupported { engine: self.name(), what: "join the parts of a chord" })
    }

    /// Forgets a chord whose body was pushed by whoever noted `part`. With `failed`, its body is
    /// not pushed and has this id, and this is why.
    async fn close_chord(&self, _part: &Part<'_>, _failed: Option<(&TaskId, &str)>) -> Result<()> {
        Err(Error::Unsupported { engine: self.name(), what: "join the parts of a chord" })
    }

    /// Pushes the message and moves the schedule from `last_ms` to `at_ms`, both or neither. False
    /// when another has moved it.
    async fn fire(&self, fire: &Fire<'_>) -> Result<bool>;
}

/// What a worker asks for.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Who asks; shown in records.
    pub worker: &'a str,
    /// The queues that it serves.
    pub queues: &'a [String],
    /// Only tasks of these names; all when none.
    pub names: Option<&'a [String]>,
    /// At most this many tasks.
    pub limit: usize,
    /// Whether one task that has outlived two workers may be among them. A worker holds at most
    /// one of these at a time, so that the tasks beside a poisonous one are not parked with it.
    pub takes_suspect: bool,
    /// How long the lease lasts.
    pub lease: Duration,
}

/// What a claim brought.
#[derive(Debug, Default)]
pub struct Batch {
    /// The tasks, now leased.
    pub tasks: Vec<Claimed>,
    /// When the next held-back task is due, as far as the engine knows.
    pub next_due_ms: Option<i64>,
}

/// A task that a worker holds.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The proof that it holds it.
    pub lease: Lease,
    /// The task, its retries up to date.
    pub message: Message,
    /// How many workers died while holding it.
    pub crashes: u32,
}

/// The right to run a task and to say how it ended, until it expires.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The task.
    pub id: TaskId,
    /// The engine's own handle on the task.
    pub row: i64,
    /// Unique to the claim: after the lease is lost, nothing is recorded under it.
    pub token: Arc<str>,
}

/// How a task ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The right to say so.
    pub lease: Lease,
    /// What happens to it.
    pub verdict: Verdict,
}

/// What happens to a task that a worker held.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Done; what it returned, null for nothing.
    Done(Value),
    /// Tried again at this time, for this reason.
    Retry {
        /// When.
        at_ms: i64,
        /// Why.
        reason: String,
    },
    /// Dead, for this reason.
    Dead(String),
    /// Parked: the worker does not know the name.
    Park,
    /// It had expired before it started.
    Expire,
    /// Given back until this time, because it is over its rate: not counted as a retry.
    Later {
        /// When.
        at_ms: i64,
    },
    /// Given back as if never claimed.
    Release,
    /// Taken back before or while it ran.
    Cancel,
    /// Forgotten here, as if never pushed: it is with another engine now.
    Moved,
}

/// Why a task waits that was given back as [`Verdict::Later`].
pub(crate) const OVER_RATE: &str = "over its rate limit";

/// What tending did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tended {
    /// Tasks of dead workers that will run again.
    pub requeued: u64,
    /// Tasks of dead workers that will not: poison, or at most once.
    pub buried: u64,
    /// Tasks that expired.
    pub expired: u64,
    /// Finished tasks that were forgotten.
    pub forgotten: u64,
    /// Whether there are [`unfollowed`](Engine::unfollowed) tasks.
    pub has_unfollowed: bool,
}

/// One firing of a schedule.
#[derive(Clone, Copy, Debug)]
pub struct Fire<'a> {
    /// The schedule's name.
    pub schedule: &'a str,
    /// The firing before, as read.
    pub last_ms: i64,
    /// The firing.
    pub at_ms: i64,
    /// What it pushes; none when the firing is skipped.
    pub message: Option<&'a Message>,
}

/// Two counters that wake whoever waits in this process.
#[derive(Debug)]
pub struct Signals {
    ready: watch::Sender<u64>,
    finished: watch::Sender<u64>,
}

impl Default for Signals {
    fn default() -> Self {
        Self { ready: watch::channel(0).0, finished: watch::channel(0).0 }
    }
}

impl Signals {
    /// Says that a task may be ready.
    pub fn ready(&self) {
        self.ready.send_modify(|count| *count += 1);
    }

    /// Says that a task may have finished.
    pub fn finished(&self) {
        self.finished.send_modify(|count| *count += 1);
    }

    /// For [`Engine::wakes`].
    #[must_use]
    pub fn wakes(&self) -> watch::Receiver<u64> {
        self.ready.subscribe()
    }

    /// For [`Engine::finishes`].
    #[must_use]
    pub fn finishes(&self) -> watch::Receiver<u64> {
        self.finished.subscribe()
    }
}
