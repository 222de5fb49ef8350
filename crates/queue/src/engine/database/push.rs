//! Pushing: rows in, once for each id and each unique key.

use std::sync::{Mutex, PoisonError};

use sea_orm::{
    ConnectionTrait, DbErr, TransactionSession,
    sea_query::{Expr, ExprTrait, OnConflict, Query},
};
use throng_db::Tx;

use tokio::sync::{Mutex as Turn, oneshot};

use super::{Database, schema as s};
use crate::{Message, State, TaskId};

impl Database {
    /// Pushes that arrive while a commit is under way gather and share the next one, because a
    /// durable commit costs a wait for the disk, however little it holds.
    pub(super) async fn push_rows(&self, messages: &[Message]) -> Result<Vec<TaskId>, DbErr> {
        let (done, mut answer) = oneshot::channel();
        self.gather.add(messages.to_vec(), done);
        let turn = tokio::select! {
            biased;
            Ok(ids) = &mut answer => return Ok(ids),
            turn = self.gather.turn.lock() => turn,
        };
        // Whoever had the turn before may have pushed ours meanwhile.
        if let Ok(ids) = answer.try_recv() {
            return Ok(ids);
        }
        let gathered = self.gather.take();
        let all: Vec<Message> =
            gathered.iter().flat_map(|(messages, _)| messages).cloned().collect();
        let pushed = self.push_chunks(&all).await;
        drop(turn);
        let Ok(mut ids) = pushed else {
            // The others try again by themselves, when their answers never come; each gets the
            // engine's own words. So do we.
            drop(gathered);
            return self.push_chunks(messages).await;
        };
        for (messages, done) in gathered {
            let rest = ids.split_off(messages.len());
            let _ = done.send(std::mem::replace(&mut ids, rest));
        }
        match answer.try_recv() {
            Ok(ids) => Ok(ids),
            // Whoever took ours was dropped before it could push. Pushing an id twice is harmless.
            Err(_) => self.push_chunks(messages).await,
        }
    }

    async fn push_chunks(&self, messages: &[Message]) -> Result<Vec<TaskId>, DbErr> {
        let ids = if messages.len() <= CHUNK {
            self.insert(&self.db, messages).await?
        } else {
            let tx = self.db.begin().await?;
            let mut ids = Vec::with_capacity(messages.len());
            for chunk in messages.chunks(CHUNK) {
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
        messages: &[Message],
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
        let mut ids: Vec<TaskId> = messages.iter().map(Message::id).collect();
        if inserted == messages.len() as u64 {
            return Ok(ids);
        }
        for (id, message) in ids.iter_mut().zip(messages) {
            if let Some(key) = message.unique_key()
                && let Some(holder) = self.holder(connection, key).await?
            {
                *id = holder;
            }
        }
        Ok(ids)
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

/// Pushes that wait for the commit that they will share.
#[derive(Debug, Default)]
pub(super) struct Gather {
    waiting: Mutex<Vec<Waiting>>,
    /// Held by the one whose commit is under way.
    turn: Turn<()>,
}

type Waiting = (Vec<Message>, oneshot::Sender<Vec<TaskId>>);

impl Gather {
    fn add(&self, messages: Vec<Message>, done: oneshot::Sender<Vec<TaskId>>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((messages, done));
    }

    fn take(&self) -> Vec<Waiting> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) fn rank(message: &Message) -> i32 {
    9 - i32::from(message.priority_level())
}

/// Rows in one INSERT: well under the 32,766 values that SQLite binds.
const CHUNK: usize = 500;
