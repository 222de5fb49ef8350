//! Recording how tasks ended: many in one commit, each only under the lease that it holds.

use std::collections::{HashMap, HashSet};

use sea_orm::{
    ConnectionTrait, DbErr,
    sea_query::{Expr, ExprTrait, Query, UpdateStatement, Value},
};

use super::{Database, lock, schema as s};
use crate::{
    State,
    engine::{Ended, Lease, OVER_RATE, Verdict},
};

impl Database {
    pub(super) async fn settle_rows(&self, ended: &[Ended]) -> Result<Vec<bool>, DbErr> {
        let mut recorded = Vec::with_capacity(ended.len());
        for ended in ended.chunks(CHUNK) {
            let tx = self.begin().await?;
            let held = held(&tx, ended.iter().map(|ended| &ended.lease)).await?;
            let mut alike: HashMap<&'static str, Vec<i64>> = HashMap::new();
            let mut moved: Vec<i64> = Vec::new();
            let mut untold: Vec<i64> = Vec::new();
            for Ended { lease, verdict } in ended.iter().filter(|end| held.contains(&end.lease)) {
                match verdict {
                    Verdict::Done(serde_json::Value::Null) => {
                        alike.entry("done").or_default().push(lease.row);
                    }
                    Verdict::Release => alike.entry("release").or_default().push(lease.row),
                    Verdict::Moved => moved.push(lease.row),
                    _ => {
                        let mut update = self.update_for(verdict);
                        update.and_where(Expr::col(s::SEQ).eq(lease.row));
                        tx.execute(&update).await?;
                        if matches!(verdict, Verdict::Expire | Verdict::Cancel) {
                            untold.push(lease.row);
                        }
                    }
                }
            }
            for (kind, rows) in alike {
                let verdict = if kind == "done" {
                    Verdict::Done(serde_json::Value::Null)
                } else {
                    Verdict::Release
                };
                let mut update = self.update_for(&verdict);
                update.and_where(Expr::col(s::SEQ).is_in(rows));
                tx.execute(&update).await?;
            }
            if !moved.is_empty() {
                let mut delete = Query::delete();
                delete.from_table(s::TASK).and_where(Expr::col(s::SEQ).is_in(moved));
                tx.execute(&delete).await?;
            }
            if !untold.is_empty() {
                self.leave_parts(&tx, Expr::col(s::SEQ).is_in(untold)).await?;
            }
            tx.commit().await?;
            recorded.extend(ended.iter().map(|ended| held.contains(&ended.lease)));
        }
        let is_released = |ended: &Ended| ended.verdict == Verdict::Release;
        if ended.iter().any(is_released) {
            self.signals.ready();
        }
        self.signals.finished();
        Ok(recorded)
    }

    pub(super) async fn note_progress_in(
        &self,
        lease: &Lease,
        progress: &serde_json::Value,
    ) -> Result<(), DbErr> {
        let mut update = Query::update();
        update
            .table(s::TASK)
            .value(s::RESULT, progress.to_string())
            .and_where(Expr::col(s::SEQ).eq(lease.row))
            .and_where(Expr::col(s::TOKEN).eq(&*lease.token))
            .and_where(Expr::col(s::STATE).eq(s::code(State::Running)));
        self.db.execute(&update).await.map(drop)
    }

    fn update_for(&self, verdict: &Verdict) -> UpdateStatement {
        match verdict {
            Verdict::Done(result) => {
                // What it said of its progress goes.
                let result = (!result.is_null()).then(|| result.to_string());
                let mut update = self.finish(State::Done, None);
                update.value(s::RESULT, result);
                update
            }
            Verdict::Retry { at_ms, reason } => {
                let mut update = wait_until(*at_ms, reason);
                update.value(s::RETRIES, Expr::col(s::RETRIES).add(1)).value(s::CRASHES, 0);
                update
            }
            Verdict::Later { at_ms } => wait_until(*at_ms, OVER_RATE),
            Verdict::Dead(reason) => self.finish(State::Dead, Some(reason)),
            Verdict::Expire => self.finish(State::Expired, Some("expired before it started")),
            Verdict::Cancel => self.finish(State::Cancelled, Some("revoked")),
            Verdict::Park => {
                let mut update = Query::update();
                update
                    .table(s::TASK)
                    .value(s::STATE, s::code(State::Parked))
                    .value(s::TURN_MS, Value::BigInt(None))
                    .value(s::TOKEN, Value::String(None))
                    .value(s::REASON, "no worker that met it knows a task of this name");
                update
            }
            // What has moved has no row any more.
            Verdict::Release | Verdict::Moved => {
                let mut update = Query::update();
                update
                    .table(s::TASK)
                    .value(s::STATE, s::code(State::Queued))
                    .value(s::TURN_MS, Expr::col(s::EXPIRES_MS))
                    .value(s::TOKEN, Value::String(None));
                update
            }
        }
    }

    /// An end: the unique key is free again, and the record is kept for a while. Dead letters stay.
    pub(super) fn finish(&self, state: State, reason: Option<&str>) -> UpdateStatement {
        let forget_ms = (state != State::Dead).then(|| self.forget_ms());
        self.finish_at(state, reason, forget_ms)
    }

    /// An end, and what happens to its row at `turn_ms`.
    pub(super) fn finish_at(
        &self,
        state: State,
        reason: Option<&str>,
        turn_ms: Option<i64>,
    ) -> UpdateStatement {
        let mut update = Query::update();
        update
            .table(s::TASK)
            .value(s::STATE, s::code(state))
            .value(s::TURN_MS, turn_ms)
            .value(s::TOKEN, Value::String(None))
            .value(s::UNIQUE_KEY, Value::String(None))
            .value(s::FINISHED_MS, self.now_ms());
        if let Some(reason) = reason {
            update.value(s::REASON, reason);
        }
        update
    }
}

/// Back to the engine until its time, and why.
fn wait_until(at_ms: i64, reason: &str) -> UpdateStatement {
    let mut update = Query::update();
    update
        .table(s::TASK)
        .value(s::STATE, s::code(State::Waiting))
        .value(s::TURN_MS, at_ms)
        .value(s::TOKEN, Value::String(None))
        .value(s::REASON, reason);
    update
}

/// Which of the leases still hold, their rows locked until the transaction ends.
pub(super) async fn held<'a>(
    connection: &impl ConnectionTrait,
    leases: impl Iterator<Item = &'a Lease>,
) -> Result<HashSet<&'a Lease>, DbErr> {
    let by_row: HashMap<i64, &Lease> = leases.map(|lease| (lease.row, lease)).collect();
    let mut select = Query::select();
    select
        .columns([s::SEQ, s::TOKEN])
        .from(s::TASK)
        .and_where(Expr::col(s::SEQ).is_in(by_row.keys().copied()))
        .and_where(Expr::col(s::STATE).eq(s::code(State::Running)));
    lock(connection, &mut select, false);
    let mut held = HashSet::new();
    for row in connection.query_all(&select).await? {
        let seq: i64 = row.try_get_by_index(0)?;
        let token: Option<String> = row.try_get_by_index(1)?;
        if let Some(lease) = by_row.get(&seq)
            && token.as_deref() == Some(&*lease.token)
        {
            held.insert(*lease);
        }
    }
    Ok(held)
}

const CHUNK: usize = 500;
