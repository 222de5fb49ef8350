//! Tending: the tasks of dead workers come back, what has expired or is old goes.

use sea_orm::{
    ConnectionTrait, DbErr,
    sea_query::{Expr, ExprTrait, Query, UpdateStatement, Value},
};

use super::{Database, follow::UNFOLLOWED_MS, lock, schema as s};
use crate::{State, engine::Tended};

impl Database {
    pub(super) async fn tend_rows(&self, max_crashes: u32) -> Result<Tended, DbErr> {
        let now_ms = self.now_ms();
        let mut tended = Tended::default();
        // Each part looks before it writes: most of the time there is nothing to do.
        let running = s::code(State::Running);
        let lost = self.turned(&self.db, running, now_ms).await?;
        if !lost.is_empty() {
            let tx = self.begin().await?;
            let lost = self.turned(&tx, running, now_ms).await?;
            let mut bury = self.finish_at(State::Dead, None, Some(UNFOLLOWED_MS));
            bury.value(
                s::REASON,
                Expr::case(
                    Expr::col(s::AT_MOST_ONCE).eq(1),
                    "its worker died, and it runs at most once",
                )
                .finally("its workers died while they ran it"),
            );
            let crashed = |mut update: UpdateStatement| {
                update
                    .value(s::CRASHES, Expr::col(s::CRASHES).add(1))
                    .and_where(Expr::col(s::STATE).eq(running))
                    .and_where(Expr::col(s::SEQ).is_in(lost.clone()));
                update
            };
            let mut bury = crashed(bury);
            let most = i32::try_from(max_crashes).unwrap_or(i32::MAX);
            bury.and_where(
                Expr::col(s::AT_MOST_ONCE).eq(1).or(Expr::col(s::CRASHES).add(1).gte(most)),
            );
            tended.buried = tx.execute(&bury).await?.rows_affected();
            for (state, least) in [(s::SUSPECT, 1), (s::code(State::Queued), 0)] {
                let mut again = crashed(requeue(state));
                again.and_where(Expr::col(s::CRASHES).gte(least));
                tended.requeued += tx.execute(&again).await?.rows_affected();
            }
            tx.commit().await?;
        }
        for state in [s::code(State::Queued), s::SUSPECT, s::AFLOAT] {
            let late = self.turned(&self.db, state, now_ms).await?;
            if !late.is_empty() {
                let mut expire = self.finish(State::Expired, Some("expired before it started"));
                expire
                    .and_where(Expr::col(s::STATE).eq(state))
                    .and_where(Expr::col(s::TURN_MS).lt(now_ms))
                    .and_where(Expr::col(s::EXPIRES_MS).is_not_null())
                    .and_where(Expr::col(s::SEQ).is_in(late.iter().copied()));
                let tx = self.begin().await?;
                tended.expired += tx.execute(&expire).await?.rows_affected();
                self.leave_parts(&tx, Expr::col(s::SEQ).is_in(late)).await?;
                tx.commit().await?;
            }
        }
        // What is afloat and does not expire was taken by a worker that tells us nothing.
        let finished = [State::Done, State::Cancelled, State::Expired].map(s::code);
        for state in finished.into_iter().chain([s::AFLOAT]) {
            let old = self.turned(&self.db, state, now_ms).await?;
            if !old.is_empty() {
                let mut forget = Query::delete();
                forget
                    .from_table(s::TASK)
                    .and_where(Expr::col(s::STATE).eq(state))
                    .and_where(Expr::col(s::TURN_MS).lt(now_ms))
                    .and_where(Expr::col(s::SEQ).is_in(old));
                tended.forgotten += self.db.execute(&forget).await?.rows_affected();
            }
        }
        #[cfg(feature = "rabbitmq")]
        self.forget_ran().await?;
        self.forget_rates().await?;
        self.forget_chords().await?;
        tended.has_unfollowed = self.has_unfollowed().await?;
        if tended.requeued > 0 {
            self.signals.ready();
        }
        if tended.buried + tended.expired > 0 {
            self.signals.finished();
        }
        Ok(tended)
    }

    pub(super) async fn unpark_rows(&self, names: &[String]) -> Result<u64, DbErr> {
        let parked = s::code(State::Parked);
        let known = Expr::col(s::NAME).is_in(names.iter().map(String::as_str));
        let mut look = Query::select();
        look.column(s::SEQ)
            .from(s::TASK)
            .and_where(Expr::col(s::STATE).eq(parked))
            .and_where(known.clone())
            .limit(1);
        if self.db.query_one(&look).await?.is_none() {
            return Ok(0);
        }
        let mut update = requeue(s::code(State::Queued));
        update.and_where(Expr::col(s::STATE).eq(parked)).and_where(known);
        let unparked = self.db.execute(&update).await?.rows_affected();
        self.signals.ready();
        Ok(unparked)
    }

    /// Rows of a state whose turn has come, a bounded number at a time.
    async fn turned(
        &self,
        connection: &impl ConnectionTrait,
        state: i32,
        now_ms: i64,
    ) -> Result<Vec<i64>, DbErr> {
        let mut select = Query::select();
        select
            .column(s::SEQ)
            .from(s::TASK)
            .and_where(Expr::col(s::STATE).eq(state))
            .and_where(Expr::col(s::TURN_MS).lt(now_ms))
            .and_where(Expr::col(s::TURN_MS).gt(UNFOLLOWED_MS))
            .order_by(s::TURN_MS, sea_orm::Order::Asc)
            .limit(TENDED);
        lock(connection, &mut select, true);
        let rows = connection.query_all(&select).await?;
        rows.iter().map(|row| row.try_get_by_index(0)).collect()
    }
}

/// Back to the queue, with nothing left of the claim.
pub(super) fn requeue(state: i32) -> UpdateStatement {
    let mut update = Query::update();
    update
        .table(s::TASK)
        .value(s::STATE, state)
        .value(s::TURN_MS, Expr::col(s::EXPIRES_MS))
        .value(s::TOKEN, Value::String(None));
    update
}

/// Rows of each kind that one call tends; the next call takes more.
const TENDED: u64 = 2000;
