//! Schedules: who leads, and that each time fires once.

use std::time::Duration;

use sea_orm::{
    ConnectionTrait, DbErr,
    sea_query::{Expr, ExprTrait, OnConflict, Query},
};

use super::{Database, millis, schema as s};
use crate::engine::Fire;

impl Database {
    pub(super) async fn lead_role(
        &self,
        role: &str,
        holder: &str,
        lease: Duration,
    ) -> Result<bool, DbErr> {
        let now_ms = self.now_ms();
        let until_ms = now_ms.saturating_add(millis(lease));
        let mut keep = Query::update();
        keep.table(s::LEASE)
            .value(s::HOLDER, holder)
            .value(s::UNTIL_MS, until_ms)
            .and_where(Expr::col(s::NAME).eq(role))
            .and_where(Expr::col(s::HOLDER).eq(holder).or(Expr::col(s::UNTIL_MS).lte(now_ms)));
        if self.db.execute(&keep).await?.rows_affected() == 1 {
            return Ok(true);
        }
        let mut take = Query::insert();
        take.into_table(s::LEASE)
            .columns([s::NAME, s::HOLDER, s::UNTIL_MS])
            .values_panic([role.into(), holder.into(), until_ms.into()])
            .on_conflict(OnConflict::column(s::NAME).do_nothing_on([s::NAME]).to_owned());
        self.db.execute(&take).await?;
        // MySQL counts a row that was there as affected, so that only looking tells who has it.
        let mut look = Query::select();
        look.column(s::HOLDER)
            .from(s::LEASE)
            .and_where(Expr::col(s::NAME).eq(role))
            .and_where(Expr::col(s::UNTIL_MS).gt(now_ms));
        let row = self.db.query_one(&look).await?;
        let leader: Option<String> = row.map(|row| row.try_get_by_index(0)).transpose()?;
        Ok(leader.as_deref() == Some(holder))
    }

    pub(super) async fn read_schedule(&self, name: &str, now_ms: i64) -> Result<i64, DbErr> {
        let mut select = Query::select();
        select.column(s::LAST_MS).from(s::SCHEDULE).and_where(Expr::col(s::NAME).eq(name));
        if let Some(row) = self.db.query_one(&select).await? {
            return row.try_get_by_index(0);
        }
        let mut insert = Query::insert();
        insert
            .into_table(s::SCHEDULE)
            .columns([s::NAME, s::LAST_MS])
            .values_panic([name.into(), now_ms.into()])
            .on_conflict(OnConflict::column(s::NAME).do_nothing_on([s::NAME]).to_owned());
        self.db.execute(&insert).await?;
        let row = self.db.query_one(&select).await?;
        row.map_or(Ok(now_ms), |row| row.try_get_by_index(0))
    }

    pub(super) async fn fire_schedule(&self, fire: &Fire<'_>) -> Result<bool, DbErr> {
        let tx = self.begin().await?;
        // Comparing and setting in the transaction of the push: a time fires once and is never
        // lost, whoever leads, and however often.
        let mut update = Query::update();
        update
            .table(s::SCHEDULE)
            .value(s::LAST_MS, fire.at_ms)
            .and_where(Expr::col(s::NAME).eq(fire.schedule))
            .and_where(Expr::col(s::LAST_MS).eq(fire.last_ms));
        if tx.execute(&update).await?.rows_affected() == 0 {
            tx.rollback().await?;
            return Ok(false);
        }
        if let Some(message) = fire.message {
            self.insert(&tx, std::slice::from_ref(message)).await?;
        }
        tx.commit().await?;
        self.signals.ready();
        Ok(true)
    }
}
