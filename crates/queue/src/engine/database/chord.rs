//! Chords: a row for each, locked while a part of it is noted, and a row for each part that has
//! ended.

use std::time::Duration;

use sea_orm::{
    ConnectionTrait as _, DbErr, Order,
    sea_query::{Expr, ExprTrait, OnConflict, Query, Value as Bound},
};
use serde_json::Value;

use super::{Database, lock, millis, schema as s};
use crate::engine::{Part, chord::CLAIM_S};

impl Database {
    pub(super) async fn open_group(&self, group: &str, parts: usize) -> Result<(), DbErr> {
        let parts = i64::try_from(parts).unwrap_or(i64::MAX);
        let forget_ms = self.now_ms().saturating_add(millis(OPEN));
        let mut insert = Query::insert();
        insert
            .into_table(s::CHORD)
            .columns([s::ID, s::PARTS, s::ENDED, s::UNTIL_MS, s::FORGET_MS])
            .values_panic([group.into(), parts.into(), 0.into(), 0.into(), forget_ms.into()])
            // What is pushed again after a crash finds parts that have ended already.
            .on_conflict(OnConflict::column(s::ID).do_nothing_on([s::ID]).to_owned());
        self.db.execute(&insert).await.map(drop)
    }

    pub(super) async fn join_part(&self, part: &Part<'_>) -> Result<Joined, DbErr> {
        let now_ms = self.now_ms();
        let tx = self.begin().await?;
        let mut chord = Query::select();
        chord
            .columns([s::PARTS, s::ENDED, s::HOLDER, s::UNTIL_MS])
            .from(s::CHORD)
            .and_where(Expr::col(s::ID).eq(part.group));
        lock(&tx, &mut chord, false);
        let Some(row) = tx.query_one(&chord).await? else { return Ok(Joined::Unknown) };
        let (parts, mut ended): (i64, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        let holder: Option<String> = row.try_get_by_index(2)?;
        let until_ms: i64 = row.try_get_by_index(3)?;
        if until_ms == CLOSED_MS {
            return Ok(Joined::No);
        }
        let mut known = Query::select();
        known
            .expr(Expr::val(1))
            .from(s::PART)
            .and_where(Expr::col(s::CHORD_ID).eq(part.group))
            .and_where(Expr::col(s::ID).eq(part.id.as_str()));
        if tx.query_one(&known).await?.is_none() {
            let place = part.index.and_then(|index| i64::try_from(index).ok());
            let mut insert = Query::insert();
            insert
                .into_table(s::PART)
                .columns([s::CHORD_ID, s::ID, s::PLACE, s::RESULT])
                .values_panic([
                    part.group.into(),
                    part.id.as_str().into(),
                    place.unwrap_or(i64::MAX).into(),
                    part.kept().to_string().into(),
                ]);
            tx.execute(&insert).await?;
            ended += 1;
        }
        let mut update = Query::update();
        update
            .table(s::CHORD)
            .value(s::ENDED, ended)
            .value(s::FORGET_MS, now_ms.saturating_add(millis(OPEN)))
            .and_where(Expr::col(s::ID).eq(part.group));
        // The part that completed it may come again, if its worker died before the body was pushed.
        let is_ours = holder.is_none_or(|holder| holder == part.id.as_str()) || until_ms <= now_ms;
        let completes = ended >= parts && is_ours;
        if completes {
            let until_ms = now_ms.saturating_add(i64::from(CLAIM_S) * 1000);
            update.value(s::HOLDER, part.id.as_str()).value(s::UNTIL_MS, until_ms);
        }
        tx.execute(&update).await?;
        let mut all = Query::select();
        all.column(s::RESULT)
            .from(s::PART)
            .and_where(Expr::col(s::CHORD_ID).eq(part.group))
            .order_by(s::PLACE, Order::Asc)
            .order_by(s::ID, Order::Asc);
        let rows = if completes { tx.query_all(&all).await? } else { Vec::new() };
        tx.commit().await?;
        if !completes {
            return Ok(Joined::No);
        }
        let read = |row: &sea_orm::QueryResult| -> Result<Value, DbErr> {
            let text: String = row.try_get_by_index(0)?;
            Ok(serde_json::from_str(&text).unwrap_or_default())
        };
        rows.iter().map(read).collect::<Result<_, _>>().map(Joined::All)
    }

    pub(super) async fn close_group(&self, part: &Part<'_>) -> Result<(), DbErr> {
        let tx = self.begin().await?;
        // A part that ends twice must not begin the chord anew: its row stays for a while.
        let mut close = Query::update();
        close
            .table(s::CHORD)
            .value(s::UNTIL_MS, CLOSED_MS)
            .value(s::HOLDER, Bound::String(None))
            .value(s::FORGET_MS, self.now_ms().saturating_add(millis(CLOSED)))
            .and_where(Expr::col(s::ID).eq(part.group))
            .and_where(Expr::col(s::HOLDER).eq(part.id.as_str()));
        if tx.execute(&close).await?.rows_affected() == 1 {
            let mut forget = Query::delete();
            forget.from_table(s::PART).and_where(Expr::col(s::CHORD_ID).eq(part.group));
            tx.execute(&forget).await?;
        }
        tx.commit().await
    }

    /// Chords that are done, and those of which no part has ended for long.
    pub(super) async fn forget_chords(&self) -> Result<(), DbErr> {
        let now_ms = self.now_ms();
        let mut old = Query::select();
        old.column(s::ID)
            .from(s::CHORD)
            .and_where(Expr::col(s::FORGET_MS).lt(now_ms))
            .order_by(s::FORGET_MS, Order::Asc)
            .limit(FORGOTTEN);
        if self.db.query_one(&old).await?.is_none() {
            return Ok(());
        }
        let tx = self.begin().await?;
        lock(&tx, &mut old, true);
        let rows = tx.query_all(&old).await?;
        let ids: Vec<String> =
            rows.iter().map(|row| row.try_get_by_index(0)).collect::<Result<_, _>>()?;
        for (table, id) in [(s::PART, s::CHORD_ID), (s::CHORD, s::ID)] {
            let mut forget = Query::delete();
            forget.from_table(table).and_where(Expr::col(id).is_in(ids.clone()));
            tx.execute(&forget).await?;
        }
        tx.commit().await
    }
}

/// What noting a part came to.
#[derive(Debug)]
pub(super) enum Joined {
    /// All parts are there, in order, and the body is this part's to push.
    All(Vec<Value>),
    /// Others are missing, or the body is another's to push.
    No,
    /// Nobody has opened such a chord, or it is forgotten.
    Unknown,
}

/// The end of the claim on a chord whose body is pushed.
const CLOSED_MS: i64 = i64::MAX;
/// How long a chord is kept after the last of its parts that has ended.
const OPEN: Duration = Duration::from_secs(7 * 86_400);
/// How long it is known that a chord is done.
const CLOSED: Duration = Duration::from_secs(86_400);
const FORGOTTEN: u64 = 500;
