//! The table as the ledger of a broker: the broker hands tasks out, the rows say what became of
//! them.
//!
//! A row is *queued* until its message has been given to the broker, then *afloat*. Whichever copy
//! of a message arrives first takes its row; the others find it taken. So the broker may deliver
//! a message as often as it likes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sea_orm::{
    ConnectionTrait, DbErr, QueryResult,
    sea_query::{Expr, ExprTrait, OnConflict, Query},
};

use super::{
    Database,
    claim::{CLAIMED, claim_values, promote, ready_of_queue},
    failed, lock, millis,
    push::rank,
    schema as s, steady,
};
use crate::{
    Message, Result, State, TaskId,
    engine::{Claim, Claimed, Signals},
};

/// A message that a broker delivered.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Arrived {
    pub(in crate::engine) message: Message,
    /// Whether it came from a row of this ledger: if that is gone, so is the task.
    pub(in crate::engine) is_kept: bool,
    /// The crashes to note when it has no row yet.
    pub(in crate::engine) crashes: u32,
}

/// A row whose message the broker does not have yet.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Unsent {
    pub(in crate::engine) row: i64,
    pub(in crate::engine) message: Message,
    /// When a worker last had it: if that has changed, this look at it is out of date.
    pub(in crate::engine) started_ms: Option<i64>,
    /// Whether no worker has died with it and no broker may have it.
    pub(in crate::engine) is_fresh: bool,
}

impl Database {
    /// What wakes whoever waits for its rows.
    pub(in crate::engine) fn signals(&self) -> &Arc<Signals> {
        &self.signals
    }

    /// Queues what has become due. Whether there was something, and when the next will be due.
    pub(in crate::engine) async fn promote_due(&self) -> Result<(bool, Option<i64>)> {
        steady(|| self.promote_rows()).await.map_err(failed("queue what is due"))
    }

    async fn promote_rows(&self) -> Result<(bool, Option<i64>), DbErr> {
        let next_due_ms = self.next_due().await?;
        if next_due_ms.is_none_or(|due_ms| due_ms > self.now_ms()) {
            return Ok((false, next_due_ms));
        }
        self.db.execute(&promote(self.now_ms())).await?;
        Ok((true, self.next_due().await?))
    }

    /// The first rows that are not with the broker yet.
    pub(in crate::engine) async fn unsent(&self, limit: u64) -> Result<Vec<Unsent>> {
        let mut select = Query::select();
        select
            .columns([s::SEQ, s::MESSAGE, s::RETRIES, s::EXPIRES_MS, s::CRASHES, s::STARTED_MS])
            .from(s::TASK)
            .and_where(Expr::col(s::STATE).eq(s::code(State::Queued)))
            .order_by(s::RANK, sea_orm::Order::Asc)
            .order_by(s::SEQ, sea_orm::Order::Asc)
            .limit(limit);
        let read = |row: &QueryResult| -> Result<Option<Unsent>, DbErr> {
            let text: String = row.try_get_by_index(1)?;
            let retries: i32 = row.try_get_by_index(2)?;
            let expires_ms: Option<i64> = row.try_get_by_index(3)?;
            let Ok(mut message) = Message::from_json(text.as_bytes()) else { return Ok(None) };
            message.set_retries(u32::try_from(retries).unwrap_or(0));
            if expires_ms.is_none() {
                message.clear_expiry();
            }
            message.clear_eta();
            let crashes: i32 = row.try_get_by_index(4)?;
            let started_ms: Option<i64> = row.try_get_by_index(5)?;
            let is_fresh = crashes == 0 && started_ms.is_none();
            let row = row.try_get_by_index(0)?;
            Ok(Some(Unsent { row, message, started_ms, is_fresh }))
        };
        let doing = "read what is to be sent";
        let rows = self.db.query_all(&select).await.map_err(failed(doing))?;
        let read: Result<Vec<_>, DbErr> = rows.iter().map(read).collect();
        Ok(read.map_err(failed(doing))?.into_iter().flatten().collect())
    }

    /// How many rows wait to be sent.
    pub(in crate::engine) async fn count_unsent(&self) -> Result<u64> {
        let mut select = Query::select();
        select
            .expr(Expr::col(s::SEQ).count())
            .from(s::TASK)
            .and_where(Expr::col(s::STATE).eq(s::code(State::Queued)));
        let row = self.db.query_one(&select).await.map_err(failed("count the spool"))?;
        let count = row.map(|row| row.try_get_by_index::<i64>(0)).transpose();
        let count = count.map_err(failed("count the spool"))?.unwrap_or(0);
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Notes that the broker has these, each with the time at which a worker last had it. A row that
    /// a worker has taken since stays as it is, also when that worker has given it back: the
    /// message for which this is noted was the one that the worker took.
    pub(in crate::engine) async fn mark_afloat(
        &self,
        sent: &[(TaskId, Option<i64>)],
    ) -> Result<()> {
        let forget_ms = self.now_ms().saturating_add(millis(WEEK));
        let mut alike: BTreeMap<Option<i64>, Vec<&str>> = BTreeMap::new();
        for (id, started_ms) in sent {
            alike.entry(*started_ms).or_default().push(id.as_str());
        }
        for (started_ms, ids) in alike {
            for ids in ids.chunks(CHUNK) {
                let mut update = Query::update();
                update
                    .table(s::TASK)
                    .value(s::STATE, s::AFLOAT)
                    .value(s::TURN_MS, Expr::col(s::EXPIRES_MS).if_null(forget_ms))
                    .and_where(Expr::col(s::ID).is_in(ids.iter().copied()))
                    .and_where(Expr::col(s::STATE).eq(s::code(State::Queued)))
                    .and_where(match started_ms {
                        Some(started_ms) => Expr::col(s::STARTED_MS).eq(started_ms),
                        None => Expr::col(s::STARTED_MS).is_null(),
                    });
                steady(|| self.db.execute(&update)).await.map_err(failed("note what was sent"))?;
            }
        }
        Ok(())
    }

    /// Forgets rows that a broker now holds alone, if no worker has had them since.
    pub(in crate::engine) async fn forget_unsent(&self, rows: &[i64]) -> Result<()> {
        for rows in rows.chunks(CHUNK) {
            let mut delete = Query::delete();
            delete
                .from_table(s::TASK)
                .and_where(Expr::col(s::SEQ).is_in(rows.iter().copied()))
                .and_where(Expr::col(s::STATE).eq(s::code(State::Queued)))
                .and_where(Expr::col(s::STARTED_MS).is_null());
            steady(|| self.db.execute(&delete)).await.map_err(failed("note what was sent"))?;
        }
        Ok(())
    }

    /// Takes the rows of what arrived for a worker, and makes rows for what has none. Whatever is
    /// not among the answer is another's, or was finished or cancelled: its message means nothing.
    pub(in crate::engine) async fn take_rows(
        &self,
        claim: &Claim<'_>,
        token: &Arc<str>,
        arrived: &[Arrived],
    ) -> Result<Vec<Claimed>> {
        let mut taken = Vec::with_capacity(arrived.len());
        for arrived in arrived.chunks(CHUNK) {
            let some = steady(|| self.take_chunk(claim, token, arrived)).await;
            taken.extend(some.map_err(failed("claim tasks"))?);
        }
        Ok(taken)
    }

    async fn take_chunk(
        &self,
        claim: &Claim<'_>,
        token: &Arc<str>,
        arrived: &[Arrived],
    ) -> Result<Vec<Claimed>, DbErr> {
        let now_ms = self.now_ms();
        let ids: Vec<TaskId> = arrived.iter().map(|arrived| arrived.message.id()).collect();
        let has_id = || Expr::col(s::ID).is_in(ids.iter().map(TaskId::as_str));
        let tx = self.begin().await?;
        let mut update = claim_values(claim, token, now_ms);
        let ready = [s::code(State::Queued), s::AFLOAT];
        let is_ready = Expr::col(s::STATE).is_in(ready).or(s::doubtful());
        update.and_where(has_id()).and_where(is_ready);
        let taken = tx.execute(&update).await?.rows_affected();
        if taken < arrived.len() as u64 {
            let mut select = Query::select();
            select.column(s::ID).from(s::TASK).and_where(has_id());
            let rows = tx.query_all(&select).await?;
            let known: Result<Vec<String>, DbErr> =
                rows.iter().map(|row| row.try_get_by_index(0)).collect();
            let mut known = known?;
            known.extend(self.ran_of(&tx, &ids).await?);
            let is_new = |arrived: &&Arrived| {
                !arrived.is_kept && !known.iter().any(|id| id == arrived.message.id().as_str())
            };
            let new: Vec<&Arrived> = arrived.iter().filter(is_new).collect();
            self.insert_taken(&tx, claim, token, &new).await?;
        }
        let mut select = Query::select();
        select
            .columns(CLAIMED)
            .from(s::TASK)
            .and_where(has_id())
            .and_where(Expr::col(s::TOKEN).eq(&**token))
            .and_where(Expr::col(s::STATE).eq(s::code(State::Running)));
        let rows = tx.query_all(&select).await?;
        let taken = self.read_claimed(&tx, rows, token).await?;
        tx.commit().await?;
        Ok(taken)
    }

    pub(super) async fn insert_taken(
        &self,
        connection: &impl ConnectionTrait,
        claim: &Claim<'_>,
        token: &str,
        new: &[&Arrived],
    ) -> Result<(), DbErr> {
        if new.is_empty() {
            return Ok(());
        }
        let now_ms = self.now_ms();
        let mut insert = Query::insert();
        insert.into_table(s::TASK).columns(INSERTED);
        for Arrived { message, crashes, .. } in new {
            insert.values_panic([
                message.id().as_str().into(),
                message.queue_name().into(),
                message.name().into(),
                s::code(State::Running).into(),
                rank(message).into(),
                message.to_json().into(),
                i32::from(message.is_at_most_once()).into(),
                i32::try_from(message.retries()).unwrap_or(i32::MAX).into(),
                i32::try_from(*crashes).unwrap_or(i32::MAX).into(),
                now_ms.saturating_add(millis(claim.lease)).into(),
                message.expires_ms().into(),
                now_ms.into(),
                now_ms.into(),
                claim.worker.into(),
                token.into(),
            ]);
        }
        insert.on_conflict(OnConflict::new().do_nothing_on([s::SEQ]).to_owned());
        connection.execute(&insert).await.map(drop)
    }

    /// One task that two workers did not survive, which no broker hands out.
    pub(in crate::engine) async fn take_suspect(
        &self,
        claim: &Claim<'_>,
        token: &Arc<str>,
    ) -> Result<Vec<Claimed>> {
        let taken = steady(|| self.take_suspect_row(claim, token)).await;
        taken.map_err(failed("claim tasks"))
    }

    async fn take_suspect_row(
        &self,
        claim: &Claim<'_>,
        token: &Arc<str>,
    ) -> Result<Vec<Claimed>, DbErr> {
        for queue in claim.queues {
            let select = ready_of_queue(queue, s::SUSPECT, claim.names, 1);
            if self.db.query_one(&select).await?.is_none() {
                continue;
            }
            let tx = self.begin().await?;
            let mut select = select;
            lock(&tx, &mut select, true);
            let Some(row) = tx.query_one(&select).await? else { continue };
            let seq: i64 = row.try_get_by_index(0)?;
            let mut update = claim_values(claim, token, self.now_ms());
            update.and_where(Expr::col(s::SEQ).eq(seq));
            tx.execute(&update).await?;
            let mut select = Query::select();
            select.columns(CLAIMED).from(s::TASK).and_where(Expr::col(s::SEQ).eq(seq));
            let rows = tx.query_all(&select).await?;
            let taken = self.read_claimed(&tx, rows, token).await?;
            tx.commit().await?;
            return Ok(taken);
        }
        Ok(Vec::new())
    }

    /// Notes how a task that is afloat ended in a worker that is none of ours.
    pub(in crate::engine) async fn end_afloat(
        &self,
        id: &TaskId,
        result: Result<&serde_json::Value, &str>,
    ) -> Result<()> {
        let mut update = match result {
            Ok(_) => self.finish(State::Done, None),
            Err(reason) => self.finish(State::Dead, Some(reason)),
        };
        if let Ok(result) = result
            && !result.is_null()
        {
            update.value(s::RESULT, result.to_string());
        }
        let open = [s::AFLOAT, s::code(State::Queued)];
        update
            .and_where(Expr::col(s::ID).eq(id.as_str()))
            .and_where(Expr::col(s::STATE).is_in(open));
        steady(|| self.db.execute(&update)).await.map_err(failed("note a result"))?;
        self.signals.finished();
        Ok(())
    }

    /// What tells this ledger from others that share a broker.
    pub(in crate::engine) async fn ledger_id(&self) -> Result<String> {
        let doing = "name the ledger";
        let id = TaskId::random();
        let mut insert = Query::insert();
        insert
            .into_table(s::LEASE)
            .columns([s::NAME, s::HOLDER, s::UNTIL_MS])
            .values_panic([LEDGER.into(), id.as_str().into(), i64::MAX.into()])
            .on_conflict(OnConflict::column(s::NAME).do_nothing_on([s::NAME]).to_owned());
        steady(|| self.db.execute(&insert)).await.map_err(failed(doing))?;
        let mut select = Query::select();
        select.column(s::HOLDER).from(s::LEASE).and_where(Expr::col(s::NAME).eq(LEDGER));
        let row = self.db.query_one(&select).await.map_err(failed(doing))?;
        let holder = row.map(|row| row.try_get_by_index(0)).transpose().map_err(failed(doing))?;
        Ok(holder.unwrap_or_else(|| id.to_string()))
    }
}

const INSERTED: [&str; 15] = [
    s::ID,
    s::QUEUE,
    s::NAME,
    s::STATE,
    s::RANK,
    s::MESSAGE,
    s::AT_MOST_ONCE,
    s::RETRIES,
    s::CRASHES,
    s::TURN_MS,
    s::EXPIRES_MS,
    s::PUSHED_MS,
    s::STARTED_MS,
    s::WORKER,
    s::TOKEN,
];
const LEDGER: &str = "ledger";
/// How long a task that a stranger's worker took, and never told of, is known.
const WEEK: Duration = Duration::from_secs(7 * 86_400);
const CHUNK: usize = 500;

#[cfg(test)]
mod tests {
    use throng_core::Clock;
    use throng_db::Db;

    use super::*;
    use crate::{
        MIGRATIONS,
        engine::{Ended, Engine as _, Verdict},
    };

    #[tokio::test]
    async fn what_was_taken_and_given_back_while_it_was_sent_is_sent_again() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::sqlite(folder.path().join("site.db")).await.unwrap();
        let _ = db.migrate(&[MIGRATIONS]).await.unwrap();
        let ledger = Database::new(db, Clock::system());
        let message = Message::new("work", ()).unwrap();
        ledger.push(std::slice::from_ref(&message)).await.unwrap();
        // Two processes carry; the message of the one that is faster is taken and given back.
        let slow = ledger.unsent(10).await.unwrap();
        let queues = [message.queue_name().to_owned()];
        let claim = Claim {
            worker: "fast",
            queues: &queues,
            names: None,
            limit: 1,
            takes_suspect: false,
            lease: Duration::from_secs(6),
        };
        let arrived = Arrived { message: message.clone(), is_kept: true, crashes: 0 };
        let taken = ledger.take_rows(&claim, &"token".into(), &[arrived]).await.unwrap();
        let release =
            |claimed: &Claimed| Ended { lease: claimed.lease.clone(), verdict: Verdict::Release };
        let ends: Vec<Ended> = taken.iter().map(release).collect();
        assert_eq!(ledger.settle(&ends).await.unwrap(), [true]);
        ledger.mark_afloat(&[(message.id(), slow[0].started_ms)]).await.unwrap();
        ledger.forget_unsent(&[slow[0].row]).await.unwrap();
        let left = ledger.unsent(10).await.unwrap();
        assert_eq!(left.len(), 1, "no broker has it");
        ledger.mark_afloat(&[(message.id(), left[0].started_ms)]).await.unwrap();
        assert_eq!(ledger.count_unsent().await.unwrap(), 0);
    }
}
