//! The handle: push tasks, and look at what became of them.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value, json};
use throng_core::{Clock, EngineUrl};
use throng_db::{Db, Tx};

use crate::{
    Count, Error, Filter, Kind, Message, Record, Result, State, TaskId, engine::Engine,
    engine::database::Database, metrics,
};

/// Pushes tasks and tells what became of them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue {
    engine: Arc<dyn Engine>,
    clock: Clock,
    max_bytes: usize,
}

impl Queue {
    /// The embedded engine: tables in the site's own database, durable and transactional with it.
    ///
    /// [`MIGRATIONS`](crate::MIGRATIONS) must have run.
    #[must_use]
    pub fn database(db: Db, clock: Clock) -> Self {
        Self::with_engine(Database::new(db, clock.clone()), clock)
    }

    /// Opens the engine that `url` names: `database:`, which is the tables of `db`, with the feature
    /// `redis` a `redis://host:6379/0`, with the feature `rabbitmq` an `amqp://one,two/`.
    ///
    /// # Errors
    /// [`Error::Url`] for a scheme or option that this build does not open.
    pub async fn open(url: &str, db: Db, clock: Clock) -> Result<Self> {
        let url = EngineUrl::parse(url)?;
        match url.scheme() {
            "database" => {
                let mut options = url.options();
                let keep_s: Option<u64> = options.take("keep_s")?;
                let listens: Option<bool> = options.take("listen")?;
                options.finish()?;
                let mut engine = Database::new(db, clock.clone());
                if listens == Some(false) {
                    engine = engine.deaf();
                }
                if let Some(keep_s) = keep_s {
                    engine = engine.keep(Duration::from_secs(keep_s));
                }
                Ok(Self::with_engine(engine, clock))
            }
            #[cfg(feature = "redis")]
            "redis" => {
                let engine = crate::engine::redis::Redis::open(&url, clock.clone()).await?;
                Ok(Self::with_engine(engine.spool(db), clock))
            }
            #[cfg(feature = "rabbitmq")]
            "amqp" => {
                let engine = crate::engine::rabbitmq::Rabbitmq::open(&url, db, clock.clone());
                Ok(Self::with_engine(engine.await?, clock))
            }
            _ => Err(url.unknown_scheme("queue", OPENS).into()),
        }
    }

    /// Uses an engine of your own; it must pass
    /// [`conformance::exercise`](crate::conformance::exercise).
    #[must_use]
    pub fn with_engine(engine: impl Engine, clock: Clock) -> Self {
        metrics::describe();
        Self { engine: Arc::new(engine), clock, max_bytes: 1 << 20 }
    }

    /// Refuses bodies of more than this many bytes at push; 1 MiB unless set.
    #[must_use]
    pub fn max_bytes(self, max_bytes: usize) -> Self {
        Self { max_bytes, ..self }
    }

    /// Pushes a task durably and wakes a worker. The answer is the task's id, or that of the task
    /// which holds its unique key.
    ///
    /// # Errors
    /// When the message is refused or the engine does not answer; then it may be pushed again.
    pub async fn push(&self, message: Message) -> Result<TaskId> {
        let mut ids = self.push_all(vec![message]).await?;
        Ok(ids.pop().expect("one message gives one id"))
    }

    /// Pushes tasks in one commit: all or none.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub async fn push_all(&self, mut messages: Vec<Message>) -> Result<Vec<TaskId>> {
        for message in &mut messages {
            self.admit(message)?;
        }
        let ids = self.engine.push(&messages).await?;
        for (message, id) in messages.iter().zip(&ids) {
            metrics::pushed(message.queue_name());
            let name = message.name();
            tracing::debug!(task.id = %id, task.name = name, "pushed task {id} ({name})");
        }
        Ok(ids)
    }

    /// Pushes tasks as one group, under a name that Celery's results know it by.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub async fn push_group(&self, messages: Vec<Message>) -> Result<Vec<TaskId>> {
        let group = TaskId::random();
        let parts = messages.into_iter().enumerate();
        let parts = parts.map(|(index, message)| message.in_group(group.as_str(), index, None));
        self.push_all(parts.collect::<Result<_>>()?).await
    }

    /// Pushes tasks whose results, in their order, are the first argument of `body`, which runs when
    /// all are done; at once when there are none. Of a part with a chain the last result counts. The
    /// answer is the id of the body.
    ///
    /// # Errors
    /// As [`push`](Self::push); [`Error::Unsupported`] on an engine that cannot join parts.
    pub async fn push_chord(&self, parts: Vec<Message>, mut body: Message) -> Result<TaskId> {
        self.admit(&mut body)?;
        if parts.is_empty() {
            return self.push(body.after(json!([]))?).await;
        }
        let group = TaskId::random();
        self.engine.open_chord(group.as_str(), parts.len()).await?;
        let parts = parts.into_iter().enumerate();
        let parts =
            parts.map(|(index, message)| message.in_group(group.as_str(), index, Some(&body)));
        self.push_all(parts.collect::<Result<_>>()?).await?;
        Ok(body.id())
    }

    /// Pushes a task if `tx` commits, and wakes a worker then; if it rolls back there is no task.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub async fn push_in(&self, tx: &Tx, mut message: Message) -> Result<TaskId> {
        self.admit(&mut message)?;
        let id = self.engine.push_in(tx, &message).await?;
        metrics::pushed(message.queue_name());
        Ok(id)
    }

    /// Pushes what [`push_in`](Self::push_in) left in the outbox: an entry of kind
    /// [`OUTBOX_KIND`](crate::OUTBOX_KIND). Delivering it again does nothing.
    ///
    /// # Errors
    /// [`Error::Malformed`] when the payload is no message; else as [`push`](Self::push).
    pub async fn deliver(&self, payload: &Value) -> Result<TaskId> {
        let text = payload.as_str().unwrap_or_default();
        self.push(Message::from_json(text.as_bytes())?).await
    }

    /// One task.
    ///
    /// # Errors
    /// [`Error::Unknown`] when it is not known, perhaps no longer.
    pub async fn find(&self, id: &TaskId) -> Result<Record> {
        self.engine.find(id).await?.ok_or_else(|| Error::Unknown(id.clone()))
    }

    /// How far a task is that runs, if it has said so by [`Delivery::note`](crate::Delivery::note).
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub async fn progress(&self, id: &TaskId) -> Result<Option<Value>> {
        Ok(self.find(id).await?.progress)
    }

    /// The newest tasks that pass the filter.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<Record>> {
        self.engine.list(filter).await
    }

    /// How many tasks are in each queue and state.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn counts(&self) -> Result<Vec<Count>> {
        self.engine.counts().await
    }

    /// Waits until the task has finished, at most for `limit`: its record then, finished or not. An
    /// engine that is away for a while is waited for too.
    ///
    /// # Errors
    /// [`Error::Unknown`] when it is not known; [`Error::Engine`] when the engine does not answer
    /// at the end of `limit`.
    pub async fn wait(&self, id: &TaskId, limit: Duration) -> Result<Record> {
        let mut finishes = self.engine.finishes();
        let until = self.clock.elapsed() + limit;
        loop {
            finishes.borrow_and_update();
            let found = self.find(id).await;
            let left = until.saturating_sub(self.clock.elapsed());
            let is_over = match &found {
                Ok(record) => record.state.is_final() || record.state == State::Parked,
                Err(error) => error.kind() != Kind::Retry,
            };
            if is_over || left.is_zero() {
                return found;
            }
            // A worker in another process signals nothing here, so that it is also asked for.
            let _ = self.clock.timeout(left.min(POLL), finishes.changed()).await;
        }
    }

    /// Runs a task that is dead, parked, cancelled, expired or waiting now, as if new.
    ///
    /// # Errors
    /// [`Error::State`] when it is in another state, [`Error::Unknown`] when it is not known.
    pub async fn retry(&self, id: &TaskId) -> Result<()> {
        let is_retried = self.engine.retry(id, None).await?;
        self.expect(id, is_retried, "tried again").await
    }

    /// Replaces the arguments of such a task and runs it now.
    ///
    /// # Errors
    /// As [`retry`](Self::retry), and [`Error::TooLarge`].
    pub async fn edit(
        &self,
        id: &TaskId,
        args: Vec<Value>,
        kwargs: Map<String, Value>,
    ) -> Result<()> {
        let mut message = self.find(id).await?.message;
        message.set_arguments(args, kwargs)?;
        self.admit(&mut message)?;
        let is_retried = self.engine.retry(id, Some(&message)).await?;
        self.expect(id, is_retried, "edited").await
    }

    /// Cancels a task that has not finished. A running one is stopped within seconds.
    ///
    /// # Errors
    /// [`Error::State`] when it has finished, [`Error::Unknown`] when it is not known.
    pub async fn cancel(&self, id: &TaskId) -> Result<()> {
        let is_cancelled = self.engine.cancel(id).await?;
        self.expect(id, is_cancelled, "cancelled").await
    }

    /// Forgets the tasks of a queue that are in `state`, and says how many. Running tasks are
    /// never forgotten: cancel them.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn purge(&self, queue: &str, state: State) -> Result<u64> {
        self.engine.purge(queue, state).await
    }

    /// Stops handing out the tasks of a queue, over restarts, until it is resumed.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn pause(&self, queue: &str) -> Result<()> {
        self.engine.pause(queue, true).await
    }

    /// Hands out the tasks of a paused queue again.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn resume(&self, queue: &str) -> Result<()> {
        self.engine.pause(queue, false).await
    }

    /// The queues that are paused.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn paused(&self) -> Result<Vec<String>> {
        self.engine.paused().await
    }

    /// The engine's name, for the line that each room logs at start.
    #[must_use]
    pub fn engine_name(&self) -> &'static str {
        self.engine.name()
    }

    pub(crate) fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    fn admit(&self, message: &mut Message) -> Result<()> {
        let bytes = message.body_bytes();
        if bytes > self.max_bytes {
            let name = message.name().to_owned();
            return Err(Error::TooLarge { name, bytes, max_bytes: self.max_bytes });
        }
        message.fix_delay(self.clock.now_ms());
        message.complete();
        message.check()
    }

    async fn expect(&self, id: &TaskId, is_so: bool, doing: &'static str) -> Result<()> {
        if is_so {
            return Ok(());
        }
        let state = self.find(id).await?.state;
        Err(Error::State { id: id.clone(), state, doing })
    }
}

const OPENS: &[&str] = &[
    "database",
    #[cfg(feature = "redis")]
    "redis",
    #[cfg(feature = "rabbitmq")]
    "amqp",
];
/// How often a task that another process may finish is asked for.
const POLL: Duration = Duration::from_millis(100);
