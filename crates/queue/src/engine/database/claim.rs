//! Claiming: the first ready rows become a worker's, in one statement.

use std::{sync::Arc, time::Duration};

use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, QueryResult,
    sea_query::{Expr, ExprTrait, Query, SelectStatement, UnionType, UpdateStatement},
};

use super::{Database, lock, millis, schema as s};
use crate::{
    Message, State, TaskId,
    engine::{Batch, Claim, Claimed, Lease},
};

impl Database {
    pub(super) async fn claim_rows(&self, claim: &Claim<'_>) -> Result<Batch, DbErr> {
        let now_ms = self.now_ms();
        // Looking is a read, which takes no turn at the one writer; idle workers only look.
        let next_due_ms = self.next_due().await?;
        let is_due = next_due_ms.is_some_and(|due_ms| due_ms <= now_ms);
        if claim.limit == 0 || !is_due && !self.has_ready(claim).await? {
            return Ok(Batch { tasks: Vec::new(), next_due_ms });
        }
        let token: Arc<str> = TaskId::random().as_str().into();
        if !is_due && self.db.get_database_backend() != DbBackend::MySql {
            let rows =
                self.db.query_all(&returning(update(&self.db, claim, &token, now_ms))).await?;
            let tasks = self.read_claimed(&self.db, rows, &token).await?;
            return Ok(Batch { tasks, next_due_ms });
        }
        let tx = self.begin().await?;
        if is_due {
            tx.execute(&promote(now_ms)).await?;
        }
        let rows = if tx.get_database_backend() == DbBackend::MySql {
            select_then_update(&tx, claim, &token, now_ms).await?
        } else {
            tx.query_all(&returning(update(&tx, claim, &token, now_ms))).await?
        };
        let tasks = self.read_claimed(&tx, rows, &token).await?;
        tx.commit().await?;
        let next_due_ms = self.next_due().await?;
        Ok(Batch { tasks, next_due_ms })
    }

    pub(super) async fn extend_rows(
        &self,
        leases: &[Lease],
        by: Duration,
    ) -> Result<Vec<Lease>, DbErr> {
        let until_ms = self.now_ms().saturating_add(millis(by));
        let mut lost = Vec::new();
        for leases in leases.chunks(CHUNK) {
            let tx = self.begin().await?;
            let held = super::settle::held(&tx, leases.iter()).await?;
            let (kept, gone): (Vec<&Lease>, Vec<&Lease>) =
                leases.iter().partition(|lease| held.contains(lease));
            lost.extend(gone.into_iter().cloned());
            let mut update = Query::update();
            update
                .table(s::TASK)
                .value(s::TURN_MS, until_ms)
                .and_where(Expr::col(s::SEQ).is_in(kept.iter().map(|lease| lease.row)));
            tx.execute(&update).await?;
            tx.commit().await?;
        }
        Ok(lost)
    }

    pub(super) async fn next_due(&self) -> Result<Option<i64>, DbErr> {
        let mut select = Query::select();
        select
            .column(s::TURN_MS)
            .from(s::TASK)
            .and_where(Expr::col(s::STATE).eq(s::code(State::Waiting)))
            .order_by(s::TURN_MS, sea_orm::Order::Asc)
            .limit(1);
        let row = self.db.query_one(&select).await?;
        row.map(|row| row.try_get_by_index(0)).transpose()
    }

    async fn has_ready(&self, claim: &Claim<'_>) -> Result<bool, DbErr> {
        let mut select = ready_of_queues(&self.db, claim, 1, false);
        select.limit(1);
        Ok(self.db.query_one(&select).await?.is_some())
    }

    pub(super) async fn read_claimed(
        &self,
        connection: &impl ConnectionTrait,
        rows: Vec<QueryResult>,
        token: &Arc<str>,
    ) -> Result<Vec<Claimed>, DbErr> {
        let mut claimed = Vec::with_capacity(rows.len());
        for row in rows {
            let seq: i64 = row.try_get_by_index(0)?;
            let id: String = row.try_get_by_index(1)?;
            let text: String = row.try_get_by_index(2)?;
            let retries: i32 = row.try_get_by_index(3)?;
            let crashes: i32 = row.try_get_by_index(4)?;
            let rank: i32 = row.try_get_by_index(5)?;
            let expires_ms: Option<i64> = row.try_get_by_index(6)?;
            match Message::from_json(text.as_bytes()) {
                Ok(mut message) => {
                    // Whoever tried it again meant it to run, whenever it was to expire.
                    if expires_ms.is_none() {
                        message.clear_expiry();
                    }
                    message.set_retries(u32::try_from(retries).unwrap_or(0));
                    let lease = Lease { id: id.into(), row: seq, token: token.clone() };
                    let crashes = u32::try_from(crashes).unwrap_or(0);
                    claimed.push((rank, Claimed { lease, message, crashes }));
                }
                // Only a hand in the table can have done this; the row stays as a dead letter.
                Err(error) => self.bury(connection, seq, &error.to_string()).await?,
            }
        }
        claimed.sort_by_key(|(rank, claimed)| (*rank, claimed.lease.row));
        Ok(claimed.into_iter().map(|(_, claimed)| claimed).collect())
    }

    async fn bury(
        &self,
        connection: &impl ConnectionTrait,
        seq: i64,
        reason: &str,
    ) -> Result<(), DbErr> {
        let mut update = Query::update();
        update
            .table(s::TASK)
            .value(s::STATE, s::code(State::Dead))
            .value(s::REASON, reason)
            .value(s::FINISHED_MS, self.now_ms())
            .and_where(Expr::col(s::SEQ).eq(seq));
        connection.execute(&update).await.map(drop)
    }
}

/// Waiting tasks whose time has come join their queues, the longest due first.
pub(super) fn promote(now_ms: i64) -> UpdateStatement {
    let mut due = Query::select();
    due.column(s::SEQ)
        .from(s::TASK)
        .and_where(Expr::col(s::STATE).eq(s::code(State::Waiting)))
        .and_where(Expr::col(s::TURN_MS).lte(now_ms))
        .order_by(s::TURN_MS, sea_orm::Order::Asc)
        .limit(PROMOTED);
    let mut wrapped = Query::select();
    wrapped.column(s::SEQ).from_subquery(due, "due");
    let mut update = Query::update();
    update
        .table(s::TASK)
        .value(s::STATE, s::code(State::Queued))
        .value(s::TURN_MS, Expr::col(s::EXPIRES_MS))
        .and_where(Expr::col(s::SEQ).in_subquery(wrapped))
        // Another may have queued it since the look, and a worker taken it: a database with many
        // writers asks this again once that is committed, and does not look again.
        .and_where(Expr::col(s::STATE).eq(s::code(State::Waiting)))
        .and_where(Expr::col(s::TURN_MS).lte(now_ms));
    update
}

/// The claim as one UPDATE of the rows that [`ready`] finds.
fn update(
    connection: &impl ConnectionTrait,
    claim: &Claim<'_>,
    token: &str,
    now_ms: i64,
) -> UpdateStatement {
    let mut update = claim_values(claim, token, now_ms);
    update.and_where(Expr::col(s::SEQ).in_subquery(ready(connection, claim)));
    update
}

pub(super) fn claim_values(claim: &Claim<'_>, token: &str, now_ms: i64) -> UpdateStatement {
    let mut update = Query::update();
    update
        .table(s::TASK)
        .value(s::STATE, s::code(State::Running))
        .value(s::WORKER, claim.worker)
        .value(s::TOKEN, token)
        .value(s::STARTED_MS, now_ms)
        .value(s::TURN_MS, now_ms.saturating_add(millis(claim.lease)));
    update
}

fn returning(mut update: UpdateStatement) -> UpdateStatement {
    update.returning(Query::returning().columns(CLAIMED));
    update
}

/// For engines whose UPDATE returns no rows. Each queue is locked by a statement of its own, because
/// such engines lock in a subquery more rows than it returns, and then claimers wait in circles.
async fn select_then_update(
    connection: &impl ConnectionTrait,
    claim: &Claim<'_>,
    token: &str,
    now_ms: i64,
) -> Result<Vec<QueryResult>, DbErr> {
    let mut found: Vec<(i32, i64)> = Vec::new();
    let mut suspects = Vec::new();
    for queue in claim.queues {
        let limit = claim.limit as u64;
        let mut select = ready_of_queue(queue, s::code(State::Queued), claim.names, limit);
        lock(connection, &mut select, true);
        for row in connection.query_all(&select).await? {
            found.push((row.try_get_by_index(1)?, row.try_get_by_index(0)?));
        }
        if claim.takes_suspect && suspects.is_empty() {
            let mut select = ready_of_queue(queue, s::SUSPECT, claim.names, 1);
            lock(connection, &mut select, true);
            for row in connection.query_all(&select).await? {
                suspects.push((row.try_get_by_index(1)?, row.try_get_by_index(0)?));
            }
        }
    }
    found.extend(suspects);
    found.sort_unstable();
    let seqs: Vec<i64> = found.into_iter().take(claim.limit).map(|(_, seq)| seq).collect();
    if seqs.is_empty() {
        return Ok(Vec::new());
    }
    let mut update = claim_values(claim, token, now_ms);
    update.and_where(Expr::col(s::SEQ).is_in(seqs.clone()));
    connection.execute(&update).await?;
    let mut select = Query::select();
    select.columns(CLAIMED).from(s::TASK).and_where(Expr::col(s::SEQ).is_in(seqs));
    connection.query_all(&select).await
}

/// The numbers of the rows to claim: the first of each queue, then the first of those, and at most
/// one suspect.
fn ready(connection: &impl ConnectionTrait, claim: &Claim<'_>) -> SelectStatement {
    let mut first = Query::select();
    first
        .column(s::SEQ)
        .from_subquery(ready_of_queues(connection, claim, claim.limit as u64, true), "candidate")
        .order_by(s::RANK, sea_orm::Order::Asc)
        .order_by(s::SEQ, sea_orm::Order::Asc)
        .limit(claim.limit as u64);
    let mut outer = Query::select();
    outer.column(s::SEQ).from_subquery(first, "chosen");
    outer
}

/// A row each for the first tasks of every queue. Each part walks one index in order and stops at
/// its limit, however many tasks wait behind, and in whichever queues.
fn ready_of_queues(
    connection: &impl ConnectionTrait,
    claim: &Claim<'_>,
    limit: u64,
    locks: bool,
) -> SelectStatement {
    let mut parts = claim.queues.iter().flat_map(|queue| {
        let suspects = claim.takes_suspect.then_some((s::SUSPECT, 1));
        [Some((s::code(State::Queued), limit)), suspects].into_iter().flatten().map(
            move |(state, limit)| {
                let mut part = ready_of_queue(queue, state, claim.names, limit);
                if locks {
                    lock(connection, &mut part, true);
                }
                let mut wrapped = Query::select();
                wrapped.columns([s::SEQ, s::RANK]).from_subquery(part, "part");
                wrapped
            },
        )
    });
    let Some(mut all) = parts.next() else {
        let mut none = Query::select();
        none.columns([s::SEQ, s::RANK]).from(s::TASK).and_where(Expr::val(1).eq(0));
        return none;
    };
    for part in parts {
        all.union(UnionType::All, part);
    }
    all
}

pub(super) fn ready_of_queue(
    queue: &str,
    state: i32,
    names: Option<&[String]>,
    limit: u64,
) -> SelectStatement {
    let mut is_paused = Query::select();
    is_paused.expr(Expr::val(1)).from(s::PAUSE).and_where(Expr::col(s::QUEUE).eq(queue));
    let mut select = Query::select();
    select
        .columns([s::SEQ, s::RANK])
        .from(s::TASK)
        .and_where(Expr::col(s::STATE).eq(state))
        .and_where(Expr::col(s::QUEUE).eq(queue))
        .and_where(Expr::exists(is_paused).not())
        .order_by(s::RANK, sea_orm::Order::Asc)
        .order_by(s::SEQ, sea_orm::Order::Asc)
        .limit(limit);
    if let Some(names) = names {
        select.and_where(Expr::col(s::NAME).is_in(names.iter().map(String::as_str)));
    }
    select
}

pub(super) const CLAIMED: [&str; 7] =
    [s::SEQ, s::ID, s::MESSAGE, s::RETRIES, s::CRASHES, s::RANK, s::EXPIRES_MS];
/// Waiting tasks that join their queues at once; more follow at the next claim.
const PROMOTED: u64 = 1000;
const CHUNK: usize = 500;
