//! Tasks that ended while no worker held them, until what follows them is pushed.

use sea_orm::{
    ConnectionTrait, DbErr,
    sea_query::{Expr, ExprTrait, Query, SimpleExpr, Value},
};

use super::{Database, inspect, schema as s};
use crate::{Record, State};

impl Database {
    pub(super) async fn unfollowed_rows(&self) -> Result<Vec<Record>, DbErr> {
        let mut select = inspect::records();
        select
            .and_where(Expr::col(s::STATE).is_in(FOLLOWED.map(s::code)))
            .and_where(Expr::col(s::TURN_MS).eq(UNFOLLOWED_MS))
            .limit(AT_ONCE);
        self.db.query_all(&select).await?.iter().map(inspect::read).collect()
    }

    pub(super) async fn has_unfollowed(&self) -> Result<bool, DbErr> {
        let mut select = Query::select();
        select
            .column(s::SEQ)
            .from(s::TASK)
            .and_where(Expr::col(s::STATE).is_in(FOLLOWED.map(s::code)))
            .and_where(Expr::col(s::TURN_MS).eq(UNFOLLOWED_MS))
            .limit(1);
        Ok(self.db.query_one(&select).await?.is_some())
    }

    pub(super) async fn followed_rows(&self, tasks: &[Record]) -> Result<(), DbErr> {
        for state in FOLLOWED {
            let tasks = tasks.iter().filter(|record| record.state == state);
            let ids: Vec<String> = tasks.map(|record| record.id().to_string()).collect();
            if ids.is_empty() {
                continue;
            }
            // Dead letters stay, the others are forgotten in time.
            let forget_ms = (state != State::Dead).then(|| self.forget_ms());
            let mut update = Query::update();
            update
                .table(s::TASK)
                .value(s::TURN_MS, Value::BigInt(forget_ms))
                .and_where(Expr::col(s::ID).is_in(ids))
                .and_where(Expr::col(s::TURN_MS).eq(UNFOLLOWED_MS))
                .and_where(Expr::col(s::STATE).eq(s::code(state)));
            self.db.execute(&update).await?;
        }
        Ok(())
    }

    /// Of the rows that expired or were cancelled just now in `tx`, parts of chords are left for a
    /// worker to tell their chords.
    pub(super) async fn leave_parts(
        &self,
        tx: &impl ConnectionTrait,
        which: SimpleExpr,
    ) -> Result<(), DbErr> {
        let has_ended = || {
            let ended = [State::Expired, State::Cancelled].map(s::code);
            Expr::col(s::STATE).is_in(ended).and(which.clone())
        };
        let mut select = inspect::records();
        select.and_where(has_ended());
        let mut parts = Vec::new();
        for row in tx.query_all(&select).await? {
            // What cannot be read is a part of nothing.
            let Ok(Record { message, .. }) = inspect::read(&row) else { continue };
            if message.is_awaited() {
                parts.push(message.id().to_string());
            }
        }
        if parts.is_empty() {
            return Ok(());
        }
        let mut leave = Query::update();
        leave
            .table(s::TASK)
            .value(s::TURN_MS, UNFOLLOWED_MS)
            .and_where(has_ended())
            .and_where(Expr::col(s::ID).is_in(parts));
        tx.execute(&leave).await.map(drop)
    }
}

/// The turn of what must be followed up first.
pub(super) const UNFOLLOWED_MS: i64 = 0;
const FOLLOWED: [State; 3] = [State::Dead, State::Expired, State::Cancelled];
const AT_ONCE: u64 = 200;
