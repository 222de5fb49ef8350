//! What is pushed while the server does not answer: it waits in the outbox of the site's database,
//! and whoever relays the outbox pushes it, in its order, when the server answers again.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ::redis::{ErrorKind, RedisError, ServerErrorKind};
use sea_orm::DbErr;
use throng_db::{
    Db,
    outbox::{self, Entry},
};

use super::{NAME, Redis, failed, line::is_broken};
use crate::{Error, Message, Result, TaskId, engine::gather::Gather};

/// Where tasks wait, and since when they do.
#[derive(Debug)]
pub(super) struct Spool {
    db: Db,
    /// How many tasks may wait.
    most: u64,
    trouble: Mutex<Trouble>,
    /// What is pushed in a storm shares its commits.
    gather: Arc<Gather<Arc<Vec<Entry>>, Option<u64>>>,
}

/// The circuit breaker: a server that does not answer is left alone for a while.
#[derive(Debug, Default)]
struct Trouble {
    times: u32,
    until: Option<Instant>,
}

impl Spool {
    pub(super) fn new(db: Db, most: u64) -> Self {
        let gather = Gather::new(1, CALLS);
        Self { db: db.primary(), most, trouble: Mutex::default(), gather }
    }

    /// Keeps the tasks; when there would be too many, how many there are.
    async fn keep(&self, messages: &[Message]) -> Result<Option<u64>, DbErr> {
        let call = vec![Arc::new(messages.iter().map(entry).collect())];
        let refused = self.gather.push(call, |calls| self.write(calls)).await?;
        Ok(refused.into_iter().flatten().next())
    }

    /// As [`keep`](Self::keep), for each of several calls.
    async fn write(&self, calls: Vec<Arc<Vec<Entry>>>) -> Result<Vec<Option<u64>>, DbErr> {
        let mut waiting = outbox::count(&self.db, crate::OUTBOX_KIND).await?;
        let mut refused = Vec::with_capacity(calls.len());
        let tx = self.db.begin().await?;
        for entries in calls {
            let with_it = waiting.saturating_add(entries.len() as u64);
            let is_too_much = with_it > self.most;
            refused.push(is_too_much.then_some(waiting));
            if is_too_much {
                continue;
            }
            waiting = with_it;
            for entry in entries.iter() {
                outbox::push_in(&tx, entry.clone()).await?;
            }
        }
        tx.commit().await.map(|()| refused)
    }

    fn rests(&self) -> bool {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.until.is_some_and(|until| until > Instant::now())
    }

    /// Notes a failure; true when it is not the first of a row.
    fn failed(&self) -> bool {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.until = Some(Instant::now() + FIRST_REST * 2_u32.pow(trouble.times.min(3)));
        trouble.times += 1;
        trouble.times > 1
    }

    fn succeeded(&self) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.times > 0 {
            *trouble = Trouble::default();
        }
    }
}

impl Redis {
    /// Pushes to the server, or into the spool when it does not answer in time. What the server has
    /// got all the same is known there by its id when it comes again.
    pub(super) async fn push_or_keep(&self, messages: &[Message]) -> Result<Vec<TaskId>> {
        let Some(spool) = &self.spool else {
            return self.push_messages(messages).await.map_err(failed("push a task"));
        };
        if !spool.rests() {
            // Many take longer, and whoever pushes many expects it.
            let many = u64::try_from(messages.len()).unwrap_or(u64::MAX);
            let patience = PATIENCE + Duration::from_millis(many);
            match tokio::time::timeout(patience, self.push_messages(messages)).await {
                Ok(Ok(ids)) => {
                    spool.succeeded();
                    return Ok(ids);
                }
                Ok(Err(error)) if !is_away(&error) => return Err(failed("push a task")(error)),
                Ok(Err(error)) => {
                    tracing::warn!(error = ?error, "tasks wait in the database: {error}");
                    spool.failed();
                }
                Err(_) => {
                    tracing::warn!("tasks wait in the database: Redis does not answer");
                    if spool.failed() {
                        self.connection.cut();
                    }
                }
            }
        }
        match spool.keep(messages).await {
            Ok(None) => Ok(messages.iter().map(Message::id).collect()),
            Ok(Some(waiting)) => {
                let source = format!("it does not answer, and {waiting} tasks wait for it already");
                Err(Error::Engine { engine: NAME, doing: "push a task", source: source.into() })
            }
            // Nowhere to wait: then the server has all the time that it needs.
            Err(error) => {
                tracing::warn!(error = ?error, "tasks cannot wait in the database: {error}");
                self.push_messages(messages).await.map_err(failed("push a task"))
            }
        }
    }
}

/// A task as the outbox keeps it.
pub(super) fn entry(message: &Message) -> Entry {
    let (kind, key) = (crate::OUTBOX_KIND.to_owned(), message.id().to_string());
    Entry { kind, key, payload: message.to_json().into() }
}

/// Whether the server can not be asked now, rather than refuses.
fn is_away(error: &RedisError) -> bool {
    let away = [
        ServerErrorKind::BusyLoading,
        ServerErrorKind::MasterDown,
        ServerErrorKind::ReadOnly,
        ServerErrorKind::TryAgain,
        ServerErrorKind::ClusterDown,
    ];
    is_broken(error)
        || error.is_connection_refusal()
        || away.map(ErrorKind::Server).contains(&error.kind())
}

/// Calls that share a commit.
const CALLS: usize = 256;
/// How long a push waits for the server.
const PATIENCE: Duration = Duration::from_millis(150);
const FIRST_REST: Duration = Duration::from_millis(250);
