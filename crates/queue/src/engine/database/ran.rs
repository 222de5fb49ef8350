//! What is known of tasks that a broker alone held, once the broker may hand them out again.
//!
//! A node that dies forgets which messages were acknowledged last, and whoever published to it does
//! not know whether it has what it did not confirm. So the ids of what ran are kept for a while, and
//! what was running or on its way gets a row.

use std::time::Duration;

use sea_orm::{
    ConnectionTrait, DbErr,
    sea_query::{Expr, ExprTrait, OnConflict, Query},
};

use super::{Database, afloat::Arrived, failed, millis, schema as s, steady};
use crate::{
    Message, Result, State, TaskId,
    engine::{Claim, Lease},
};

/// A task that a delivery held until its connection was lost.
#[derive(Debug)]
pub(in crate::engine) struct Orphan {
    pub(in crate::engine) lease: Lease,
    pub(in crate::engine) message: Message,
    pub(in crate::engine) worker: String,
}

impl Database {
    /// Notes that these have run, whatever comes again.
    pub(in crate::engine) async fn note_ran(&self, ids: &[TaskId]) -> Result<()> {
        let forget_ms = self.now_ms().saturating_add(millis(KNOWN));
        for ids in ids.chunks(CHUNK) {
            let mut insert = Query::insert();
            insert.into_table(s::RAN).columns([s::ID, s::FORGET_MS]);
            for id in ids {
                insert.values_panic([id.as_str().into(), forget_ms.into()]);
            }
            insert.on_conflict(OnConflict::column(s::ID).do_nothing_on([s::ID]).to_owned());
            steady(|| self.db.execute(&insert)).await.map_err(failed("note what has run"))?;
        }
        Ok(())
    }

    /// Which of these have run.
    pub(super) async fn ran_of(
        &self,
        connection: &impl ConnectionTrait,
        ids: &[TaskId],
    ) -> Result<Vec<String>, DbErr> {
        let mut select = Query::select();
        select
            .column(s::ID)
            .from(s::RAN)
            .and_where(Expr::col(s::ID).is_in(ids.iter().map(TaskId::as_str)));
        let rows = connection.query_all(&select).await?;
        rows.iter().map(|row| row.try_get_by_index(0)).collect()
    }

    pub(super) async fn forget_ran(&self) -> Result<(), DbErr> {
        let mut delete = Query::delete();
        delete.from_table(s::RAN).and_where(Expr::col(s::FORGET_MS).lt(self.now_ms()));
        self.db.execute(&delete).await.map(drop)
    }

    /// Makes rows for what still runs here though no delivery holds it any more, so that whoever
    /// gets it again leaves it alone. The answer has the new lease of each; none where another was
    /// quicker.
    pub(in crate::engine) async fn adopt(
        &self,
        orphans: &[Orphan],
        lease: Duration,
    ) -> Result<Vec<Option<Lease>>> {
        let adopted = steady(|| self.adopt_rows(orphans, lease)).await;
        adopted.map_err(failed("keep tasks whose node is gone"))
    }

    async fn adopt_rows(
        &self,
        orphans: &[Orphan],
        lease: Duration,
    ) -> Result<Vec<Option<Lease>>, DbErr> {
        let tx = self.begin().await?;
        let mut adopted = Vec::with_capacity(orphans.len());
        for Orphan { lease: held, message, worker } in orphans {
            let claim =
                Claim { worker, queues: &[], names: None, limit: 1, takes_suspect: false, lease };
            let arrived = Arrived { message: message.clone(), is_kept: false, crashes: 0 };
            self.insert_taken(&tx, &claim, &held.token, &[&arrived]).await?;
            let mut select = Query::select();
            select
                .column(s::SEQ)
                .from(s::TASK)
                .and_where(Expr::col(s::ID).eq(held.id.as_str()))
                .and_where(Expr::col(s::TOKEN).eq(&*held.token))
                .and_where(Expr::col(s::STATE).eq(s::code(State::Running)));
            let row = tx.query_one(&select).await?;
            let row = row.map(|row| row.try_get_by_index(0)).transpose()?;
            adopted.push(row.map(|row| Lease { row, ..held.clone() }));
        }
        tx.commit().await?;
        Ok(adopted)
    }

    /// Keeps tasks that a node may have or not. They are sent again in a while, with rows that
    /// stay, unless [`confirm`](Self::confirm) comes first.
    pub(in crate::engine) async fn push_doubtful(
        &self,
        messages: &[Message],
        wait: Duration,
    ) -> Result<()> {
        let push = || async {
            let tx = self.begin().await?;
            for messages in messages.chunks(CHUNK) {
                self.insert(&tx, messages).await?;
                let ids: Vec<TaskId> = messages.iter().map(Message::id).collect();
                self.doubt_rows(&tx, &ids, Some(wait)).await?;
            }
            tx.commit().await
        };
        steady(push).await.map_err(failed("push a task"))
    }

    /// Says of such tasks whether their node has them after all: then their rows go, else they are
    /// sent again at once.
    pub(in crate::engine) async fn confirm(&self, ids: &[TaskId], is_kept: bool) -> Result<()> {
        for ids in ids.chunks(CHUNK) {
            let has_id = || Expr::col(s::ID).is_in(ids.iter().map(TaskId::as_str));
            let noted = match is_kept {
                true => {
                    let mut delete = Query::delete();
                    delete.from_table(s::TASK).and_where(has_id()).and_where(s::doubtful());
                    steady(|| self.db.execute(&delete)).await
                }
                false => {
                    let mut update = Query::update();
                    update.table(s::TASK).value(s::TURN_MS, self.now_ms());
                    update.and_where(has_id()).and_where(s::doubtful());
                    steady(|| self.db.execute(&update)).await
                }
            };
            noted.map_err(failed("note what was sent"))?;
        }
        Ok(())
    }

    /// Says of rows that their node may have them already.
    pub(in crate::engine) async fn doubt(&self, ids: &[TaskId]) -> Result<()> {
        for ids in ids.chunks(CHUNK) {
            let doubted = steady(|| self.doubt_rows(&self.db, ids, None)).await;
            doubted.map_err(failed("note what was sent"))?;
        }
        Ok(())
    }

    async fn doubt_rows(
        &self,
        connection: &impl ConnectionTrait,
        ids: &[TaskId],
        wait: Option<Duration>,
    ) -> Result<(), DbErr> {
        let mut update = Query::update();
        update
            .table(s::TASK)
            .value(s::STARTED_MS, self.now_ms())
            .and_where(Expr::col(s::ID).is_in(ids.iter().map(TaskId::as_str)))
            .and_where(Expr::col(s::STATE).eq(s::code(State::Queued)));
        if let Some(wait) = wait {
            let due_ms = self.now_ms().saturating_add(millis(wait));
            update.value(s::STATE, s::code(State::Waiting)).value(s::TURN_MS, due_ms);
        }
        connection.execute(&update).await.map(drop)
    }
}

/// For how long a broker that returns finds out that its tasks have run.
const KNOWN: Duration = Duration::from_secs(86_400);
const CHUNK: usize = 500;
