//! Limits that all workers share: a row each, locked while turns of it are given out.

use std::collections::{BTreeSet, HashMap};

use sea_orm::{
    ConnectionTrait, DbErr, Order,
    sea_query::{Expr, ExprTrait, OnConflict, Query},
};

use super::{Database, lock, schema as s};
use crate::{
    engine::{Limit, Turn},
    rate::{self, Bucket, Rate},
};

impl Database {
    pub(super) async fn take_turns(&self, wanted: &[Vec<Limit>]) -> Result<Vec<Turn>, DbErr> {
        let mut turns = Vec::with_capacity(wanted.len());
        for wanted in wanted.chunks(CHUNK) {
            turns.extend(self.take_some(wanted).await?);
        }
        Ok(turns)
    }

    async fn take_some(&self, wanted: &[Vec<Limit>]) -> Result<Vec<Turn>, DbErr> {
        // In one order everywhere, so that workers do not wait for each other in a circle.
        let names: BTreeSet<&str> = wanted.iter().flatten().map(|limit| &*limit.name).collect();
        let tx = self.begin().await?;
        let mut buckets = read(&tx, &names).await?;
        if buckets.len() < names.len() {
            let new = names.iter().filter(|name| !buckets.contains_key(**name));
            let mut insert = Query::insert();
            insert.into_table(s::RATE).columns([s::NAME, s::NEXT_US, s::LINE_US, s::FORGET_MS]);
            for name in new {
                insert.values_panic([(*name).into(), 0.into(), 0.into(), i64::MAX.into()]);
            }
            insert.on_conflict(OnConflict::column(s::NAME).do_nothing_on([s::NAME]).to_owned());
            tx.execute(&insert).await?;
            buckets = read(&tx, &names).await?;
        }
        let now = self.now_ms().saturating_mul(1000);
        let mut turns = Vec::with_capacity(wanted.len());
        let mut rates: HashMap<&str, Rate> = HashMap::new();
        for limits in wanted {
            let bucket = |limit: &Limit| buckets.get(&*limit.name).copied().unwrap_or_default();
            let mut all: Vec<(Rate, Bucket)> =
                limits.iter().map(|limit| (limit.rate, bucket(limit))).collect();
            turns.push(match rate::take(&mut all, now) {
                Ok(at) => Turn::At(to_ms(at)),
                Err(later) => Turn::Later(to_ms(later)),
            });
            for (limit, (rate, bucket)) in limits.iter().zip(all) {
                buckets.insert(limit.name.clone(), bucket);
                rates.insert(&limit.name, rate);
            }
        }
        for (name, rate) in rates {
            let Bucket { next, line } = buckets.get(name).copied().unwrap_or_default();
            let full = Ord::max(next.saturating_add(rate.slack()), line);
            let mut update = Query::update();
            update
                .table(s::RATE)
                .value(s::NEXT_US, next)
                .value(s::LINE_US, line)
                .value(s::FORGET_MS, full / 1000 + FORGET_MS)
                .and_where(Expr::col(s::NAME).eq(name));
            tx.execute(&update).await?;
        }
        tx.commit().await?;
        Ok(turns)
    }

    /// A limit that nobody has used for a while is as good as new.
    pub(super) async fn forget_rates(&self) -> Result<(), DbErr> {
        let now_ms = self.now_ms();
        let mut old = Query::select();
        old.column(s::NAME)
            .from(s::RATE)
            .and_where(Expr::col(s::FORGET_MS).lt(now_ms))
            .order_by(s::FORGET_MS, Order::Asc)
            .limit(FORGOTTEN);
        let rows = self.db.query_all(&old).await?;
        let names: Vec<String> =
            rows.iter().map(|row| row.try_get_by_index(0)).collect::<Result<_, _>>()?;
        if names.is_empty() {
            return Ok(());
        }
        let mut forget = Query::delete();
        forget
            .from_table(s::RATE)
            .and_where(Expr::col(s::NAME).is_in(names))
            .and_where(Expr::col(s::FORGET_MS).lt(now_ms));
        self.db.execute(&forget).await.map(drop)
    }
}

/// The rows of these names, locked.
async fn read(
    connection: &impl ConnectionTrait,
    names: &BTreeSet<&str>,
) -> Result<HashMap<String, Bucket>, DbErr> {
    let mut select = Query::select();
    select
        .columns([s::NAME, s::NEXT_US, s::LINE_US])
        .from(s::RATE)
        .and_where(Expr::col(s::NAME).is_in(names.iter().copied()))
        .order_by(s::NAME, Order::Asc);
    lock(connection, &mut select, false);
    let rows = connection.query_all(&select).await?;
    let read = |row: &sea_orm::QueryResult| {
        let bucket = Bucket { next: row.try_get_by_index(1)?, line: row.try_get_by_index(2)? };
        Ok((row.try_get_by_index(0)?, bucket))
    };
    rows.iter().map(read).collect()
}

/// Not before the turn.
fn to_ms(us: i64) -> i64 {
    us.saturating_add(999).div_euclid(1000)
}

/// Tasks whose turns are given out in one transaction.
const CHUNK: usize = 200;
/// Clocks that differ by less than this do no harm.
const FORGET_MS: i64 = 60_000;
const FORGOTTEN: u64 = 500;
