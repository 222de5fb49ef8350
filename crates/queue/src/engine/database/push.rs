//! Pushing: rows in, once for each id and each unique key.

use std::{borrow::Borrow, sync::Arc};

use sea_orm::{
    ConnectionTrait, DbBackend, DbErr,
    sea_query::{Expr, ExprTrait, OnConflict, Query, Value},
};
use throng_db::Tx;

use super::{Database, lock, schema as s};
use crate::{Message, State, TaskId};

impl Database {
    pub(super) async fn push_rows(&self, messages: &[Message]) -> Result<Vec<TaskId>, DbErr> {
        let messages = messages.iter().cloned().map(Arc::new).collect();
        self.gather.push(messages, |all| async move { self.push_chunks(&all).await }).await
    }

    /// Pushes what has gathered elsewhere.
    #[cfg(feature = "rabbitmq")]
    pub(in crate::engine) async fn push_gathered(
        &self,
        messages: &[Arc<Message>],
    ) -> crate::Result<Vec<TaskId>> {
        let pushed = super::steady(|| self.push_chunks(messages)).await;
        pushed.map_err(super::failed("push a task"))
    }

    async fn push_chunks(&self, messages: &[Arc<Message>]) -> Result<Vec<TaskId>, DbErr> {
        // One by one, so that of two with one key in a call the second takes the place of the first.
        let is_debounced = messages.iter().any(|message| message.is_debounced());
        let chunk = if is_debounced { 1 } else { CHUNK };
        let ids = if messages.len() <= chunk && !is_debounced {
            self.insert(&self.db, messages).await?
        } else {
            let tx = self.begin().await?;
            let mut ids = Vec::with_capacity(messages.len());
            for chunk in messages.chunks(chunk) {
                ids.extend(self.insert(&tx, chunk).await?);
            }
            tx.commit().await?;
            ids
        };
        self.signals.ready();
        Ok(ids)
    }

    pub(super) async fn push_row_in(&self, tx: &Tx, message: &Message) -> Result<TaskId, DbErr> {
        let ids = self.insert(tx, std::slice::from_ref(message)).await?;
        let signals = self.signals.clone();
        tx.after_commit(move || signals.ready());
        Ok(ids.into_iter().next().unwrap_or_else(|| message.id()))
    }

    /// The ids under which the messages are known: each one's own, or that of the task that has its
    /// key.
    pub(super) async fn insert(
        &self,
        connection: &impl ConnectionTrait,
        messages: &[impl Borrow<Message> + Sync],
    ) -> Result<Vec<TaskId>, DbErr> {
        let mut ids: Vec<TaskId> = messages.iter().map(|message| message.borrow().id()).collect();
        let mut left: Vec<usize> = (0..messages.len()).collect();
        for nth in 0..TRIES {
            let rows: Vec<&Message> = left.iter().map(|at| messages[*at].borrow()).collect();
            if rows.is_empty() || self.insert_new(connection, &rows).await? {
                return Ok(ids);
            }
            left.retain(|at| messages[*at].borrow().unique_key().is_some());
            let mut freed = Vec::new();
            for at in left {
                let message = messages[at].borrow();
                let Some(key) = message.unique_key() else { continue };
                // Only a look that locks sees on MariaDB what has come since the transaction began.
                let locks = nth > 0;
                match self.holder(connection, key, locks).await? {
                    Some(holder) => ids[at] = holder,
                    None if self.has_row(connection, &message.id(), locks).await? => {}
                    // Whoever had the key has ended since.
                    None => freed.push(at),
                }
            }
            left = freed;
        }
        Err(DbErr::Custom("the key of a unique task changes hands too fast".into()))
    }

    /// Makes a row for each that has none and whose key nobody has. Whether all are surely new.
    async fn insert_new(
        &self,
        connection: &impl ConnectionTrait,
        messages: &[&Message],
    ) -> Result<bool, DbErr> {
        let now_ms = self.now_ms();
        let mut insert = Query::insert();
        insert.into_table(s::TASK).columns([
            s::ID,
            s::QUEUE,
            s::NAME,
            s::STATE,
            s::RANK,
            s::MESSAGE,
            s::UNIQUE_KEY,
            s::AT_MOST_ONCE,
            s::RETRIES,
            s::TURN_MS,
            s::EXPIRES_MS,
            s::PUSHED_MS,
        ]);
        for message in messages {
            if message.is_debounced() {
                self.make_way(connection, message).await?;
            }
            let expires_ms = message.expires_ms();
            let due_ms = message.due_ms(now_ms).filter(|due_ms| *due_ms > now_ms);
            let state = if due_ms.is_some() { State::Waiting } else { State::Queued };
            insert.values_panic([
                message.id().as_str().into(),
                message.queue_name().into(),
                message.name().into(),
                s::code(state).into(),
                rank(message).into(),
                message.to_json().into(),
                message.unique_key().into(),
                i32::from(message.is_at_most_once()).into(),
                i32::try_from(message.retries()).unwrap_or(i32::MAX).into(),
                due_ms.or(expires_ms).into(),
                expires_ms.into(),
                now_ms.into(),
            ]);
        }
        insert.on_conflict(OnConflict::new().do_nothing_on([s::SEQ]).to_owned());
        let inserted = connection.execute(&insert).await?.rows_affected();
        // MySQL counts a row that was there as inserted.
        let is_certain = connection.get_database_backend() != DbBackend::MySql;
        Ok(is_certain && inserted == messages.len() as u64)
    }

    /// Cancels what waits under the key of a debounced task, and takes the key from what does not
    /// wait any more.
    async fn make_way(
        &self,
        connection: &impl ConnectionTrait,
        message: &Message,
    ) -> Result<(), DbErr> {
        let Some(key) = message.unique_key() else { return Ok(()) };
        let id = message.id();
        let is_other = || {
            let has_key = Expr::col(s::UNIQUE_KEY).eq(key);
            has_key.and(Expr::col(s::ID).ne(id.as_str()))
        };
        let mut cancel = self.finish(State::Cancelled, Some("a later push took its place"));
        cancel.and_where(is_other());
        cancel.and_where(Expr::col(s::STATE).eq(s::code(State::Waiting)));
        connection.execute(&cancel).await?;
        let mut free = Query::update();
        free.table(s::TASK).value(s::UNIQUE_KEY, Value::String(None)).and_where(is_other());
        connection.execute(&free).await.map(drop)
    }

    async fn has_row(
        &self,
        connection: &impl ConnectionTrait,
        id: &TaskId,
        locks: bool,
    ) -> Result<bool, DbErr> {
        let mut select = Query::select();
        select.column(s::SEQ).from(s::TASK).and_where(Expr::col(s::ID).eq(id.as_str()));
        if locks {
            lock(connection, &mut select, false);
        }
        Ok(connection.query_one(&select).await?.is_some())
    }

    async fn holder(
        &self,
        connection: &impl ConnectionTrait,
        key: &str,
        locks: bool,
    ) -> Result<Option<TaskId>, DbErr> {
        let mut select = Query::select();
        select.column(s::ID).from(s::TASK).and_where(Expr::col(s::UNIQUE_KEY).eq(key));
        if locks {
            lock(connection, &mut select, false);
        }
        let row = connection.query_one(&select).await?;
        row.map(|row| row.try_get_by_index::<String>(0).map(TaskId::from)).transpose()
    }
}

pub(super) fn rank(message: &Message) -> i32 {
    9 - i32::from(message.priority_level())
}

/// Rows in one INSERT: well under the 32,766 values that SQLite binds.
pub(super) const CHUNK: usize = 500;
/// How often a key may be freed between the look for its holder and the next try to take it.
const TRIES: usize = 100;
