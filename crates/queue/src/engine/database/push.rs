//! Pushing: rows in, once for each id and each unique key.

use std::{borrow::Borrow, sync::Arc};

use sea_orm::{
    ConnectionTrait, DbBackend, DbErr,
    sea_query::{Expr, ExprTrait, OnConflict, Query, Value},
};
use throng_db::Tx;

use super::{Database, schema as s};
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

    pub(super) async fn insert(
        &self,
        connection: &impl ConnectionTrait,
        messages: &[impl Borrow<Message> + Sync],
    ) -> Result<Vec<TaskId>, DbErr> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
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
            let message = message.borrow();
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
        let mut ids: Vec<TaskId> = messages.iter().map(|message| message.borrow().id()).collect();
        // MySQL counts a row that was there as inserted.
        let is_certain = connection.get_database_backend() != DbBackend::MySql;
        if is_certain && inserted == messages.len() as u64 {
            return Ok(ids);
        }
        for (id, message) in ids.iter_mut().zip(messages) {
            if let Some(key) = message.borrow().unique_key()
                && let Some(holder) = self.holder(connection, key).await?
            {
                *id = holder;
            }
        }
        Ok(ids)
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

    async fn holder(
        &self,
        connection: &impl ConnectionTrait,
        key: &str,
    ) -> Result<Option<TaskId>, DbErr> {
        let mut select = Query::select();
        select.column(s::ID).from(s::TASK).and_where(Expr::col(s::UNIQUE_KEY).eq(key));
        let row = connection.query_one(&select).await?;
        row.map(|row| row.try_get_by_index::<String>(0).map(TaskId::from)).transpose()
    }
}

pub(super) fn rank(message: &Message) -> i32 {
    9 - i32::from(message.priority_level())
}

/// Rows in one INSERT: well under the 32,766 values that SQLite binds.
pub(super) const CHUNK: usize = 500;
