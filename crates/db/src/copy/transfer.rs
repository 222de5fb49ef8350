//! Rows from one side to the other, in batches, and their comparison.

use sea_orm::{ConnectionTrait, DbBackend, DbErr};

use super::{
    MAX_SHOWN, Progress,
    rows::{Pair, Place},
    state,
};
use crate::{
    Db, Tx,
    error::{Error, Result},
};

/// Where the progress is told.
pub(super) struct Bar<'a> {
    pub(super) tell: &'a mut (dyn FnMut(Progress<'_>) + Send),
    pub(super) done: u64,
    pub(super) total: u64,
}

impl Bar<'_> {
    fn add(&mut self, table: &str, is_check: bool, rows: u64) {
        self.done += rows;
        (self.tell)(Progress { table, is_check, done: self.done, total: self.total });
    }
}

/// Copies a table; gives the rows that were there from an earlier time.
pub(super) async fn fill(pair: &Pair, source: &Tx, to: &Db, bar: &mut Bar<'_>) -> Result<u64> {
    let name = pair.name();
    let reading = |source| of_table("read", name, source);
    let writing = |source| of_table("fill", name, source);
    let mut place = match state::place(to, name).await.map_err(writing)? {
        Some(place) => place,
        None => {
            let tx = to.begin().await.map_err(writing)?;
            pair.clear(&tx).await.map_err(writing)?;
            state::set_place(&tx, name, &Place::default()).await.map_err(writing)?;
            tx.commit().await.map_err(writing)?;
            Place::default()
        }
    };
    let before = place.rows;
    bar.add(name, false, before);
    loop {
        let (batch, next) = pair.read(source, &place).await.map_err(reading)?;
        if batch.is_empty() {
            return Ok(before);
        }
        let tx = to.begin().await.map_err(writing)?;
        unguard(&tx, true).await.map_err(writing)?;
        pair.write(&tx, &batch).await.map_err(writing)?;
        state::set_place(&tx, name, &next).await.map_err(writing)?;
        unguard(&tx, false).await.map_err(writing)?;
        tx.commit().await.map_err(writing)?;
        bar.add(name, false, batch.len() as u64);
        place = next;
    }
}

/// Compares all rows of a table; gives what differs.
pub(super) async fn compare(
    pair: &Pair,
    rows: u64,
    source: &Tx,
    to: &Db,
    bar: &mut Bar<'_>,
) -> Result<Vec<String>> {
    let name = pair.name();
    let failed = |source| of_table("compare", name, source);
    let mut differences = Vec::new();
    let found = pair.count_target(to).await.map_err(failed)?;
    if found != rows {
        differences.push(format!("{name} has {rows} rows in the source and {found} in the target"));
    }
    let mut place = Place::default();
    bar.add(name, true, 0);
    loop {
        let (batch, next) = pair.read(source, &place).await.map_err(failed)?;
        if batch.is_empty() || differences.len() > MAX_SHOWN {
            return Ok(differences);
        }
        differences.extend(pair.check(to, &batch).await.map_err(failed)?);
        bar.add(name, true, batch.len() as u64);
        place = next;
    }
}

/// MariaDB checks keys row by row, and takes a number of 0 for none.
async fn unguard(tx: &Tx, is_loading: bool) -> Result<(), DbErr> {
    if tx.get_database_backend() != DbBackend::MySql {
        return Ok(());
    }
    let sql = if is_loading {
        "SET foreign_key_checks = 0, @throng_mode = @@sql_mode, \
         sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_VALUE_ON_ZERO')"
    } else {
        "SET foreign_key_checks = 1, sql_mode = @throng_mode"
    };
    tx.execute_unprepared(sql).await.map(drop)
}

fn of_table(doing: &'static str, table: &str, source: DbErr) -> Error {
    Error::CopyTable { doing, table: table.to_owned(), source }
}
