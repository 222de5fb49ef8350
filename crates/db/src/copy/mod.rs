//! Copies a site's data from one database to another, of any engine, and compares every row.
//!
//! The target is made by the program's migrations and filled in batches. Until every row was
//! compared, a mark among its migrations keeps the site from starting on it; a copy that was cut
//! short goes on where it was.

mod catalog;
mod rows;
mod state;
mod value;

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    time::Instant,
};

use sea_orm::{AccessMode, ConnectionTrait, DbBackend, DbErr, IsolationLevel, TransactionTrait};
use serde::Serialize;
use throng_core::EngineUrl;

use self::rows::{Pair, Place};
use crate::{
    Db, Migration, Tx,
    config::Config,
    error::{Error, Result},
    migrate::{self, COPYING, LEDGER},
};

/// What is copied where; see [`Copy::run`].
#[derive(Clone, Debug)]
pub struct Copy<'a> {
    /// The database that is read; never changed.
    pub from: &'a EngineUrl,
    /// The database that is filled.
    pub to: &'a EngineUrl,
    /// The program's migrations: they make the target's tables.
    pub migrations: &'a [&'a [Migration]],
    /// Tables of the source that are left out, such as another program's.
    pub skip: &'a [String],
}

/// How far a copy has got.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The table at hand.
    pub table: &'a str,
    /// Whether it is compared by now, rather than copied.
    pub is_check: bool,
    /// Rows copied and compared so far, each counted twice by the end.
    pub done: u64,
    /// What `done` will be at the end.
    pub total: u64,
}

/// What a copy did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Copied {
    /// The tables with their rows, each of which was compared.
    pub tables: Vec<CopiedTable>,
    /// Rows of all tables.
    pub rows: u64,
    /// Rows that an earlier copy had brought, which was cut short.
    pub rows_before: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// A table that was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CopiedTable {
    /// Its name.
    pub name: String,
    /// Its rows.
    pub rows: u64,
}

impl Copy<'_> {
    /// Copies and compares. The source is read as it is at one moment, so the site must not write
    /// to it any more. The target must be new, or hold a copy of this source that was cut short.
    ///
    /// # Errors
    /// [`Error::Copy`] says what stands in the way, or which rows differ; nothing was written to the
    /// source, and the target stays marked as unfinished.
    pub async fn run(&self, tell: &mut (dyn FnMut(Progress<'_>) + Send)) -> Result<Copied> {
        let start = Instant::now();
        let from = open_source(self.from).await?;
        let to = open_target(self.to).await?;
        let done = self.between(&from, &to, tell).await;
        from.close().await;
        to.close().await;
        let mut copied = done?;
        copied.took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(copied)
    }

    async fn between(
        &self,
        from: &Db,
        to: &Db,
        tell: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<Copied> {
        let read_only = Some(AccessMode::ReadOnly);
        let source = from.begin_with_config(Some(IsolationLevel::RepeatableRead), read_only).await;
        let source = source.map_err(|source| doing("begin to read the source", source))?;
        let names = self.check_source(&source).await?;
        self.prepare_target(from, &names, to).await?;
        let pairs = self.pair(&source, &names, to).await?;
        let reading = |source| doing("read the source", source);

        let mut counts = Vec::new();
        for pair in &pairs {
            counts.push(pair.count_source(&source).await.map_err(reading)?);
        }
        let mut bar = Bar { tell, done: 0, total: counts.iter().sum::<u64>() * 2 };
        let mut copied = Copied { rows: bar.total / 2, ..Copied::default() };
        for (pair, rows) in pairs.iter().zip(&counts) {
            copied.rows_before += fill(pair, &source, to, &mut bar).await?;
            let name = pair.name().to_owned();
            copied.tables.push(CopiedTable { name, rows: *rows });
        }
        let mut differences = Vec::new();
        for (pair, rows) in pairs.iter().zip(&counts) {
            differences.extend(compare(pair, *rows, &source, to, &mut bar).await?);
            if differences.len() > MAX_SHOWN {
                break;
            }
        }
        if !differences.is_empty() {
            differences.truncate(MAX_SHOWN);
            return Err(Error::Copy(format!(
                "the check found what differs, so the target stays marked as unfinished (was the \
                 source written to? stop the site and copy into a new database): {}",
                differences.join("; ")
            )));
        }
        let numbering = |source| doing("set the counters of the target", source);
        for pair in &pairs {
            let table = catalog::table(&source, pair.name()).await.map_err(reading)?;
            let next = catalog::next_number(&source, &table).await.map_err(reading)?;
            if let Some(next) = next {
                let table = catalog::table(to, pair.name()).await.map_err(numbering)?;
                catalog::set_next_number(to, &table, next).await.map_err(numbering)?;
            } else if to.get_database_backend() == DbBackend::Postgres {
                let table = catalog::table(to, pair.name()).await.map_err(numbering)?;
                catalog::set_next_number(to, &table, 1).await.map_err(numbering)?;
            }
        }
        finish(to).await.map_err(|source| doing("finish the target", source))?;
        Ok(copied)
    }

    /// The source's tables that are copied, once it is clear that they can be.
    async fn check_source(&self, source: &Tx) -> Result<Vec<String>> {
        let reading = |source| doing("read the tables of the source", source);
        let all = catalog::names(source).await.map_err(reading)?;
        let refuse = |reason: String| Err(Error::Copy(reason));
        if !all.iter().any(|name| name == LEDGER) {
            return refuse(format!(
                "the source `{}` holds no site: it has no `{LEDGER}`",
                self.from
            ));
        }
        let done: HashSet<String> =
            migrate::names(source).await.map_err(reading)?.into_iter().collect();
        let known: Vec<&str> = self.migrations.concat().iter().map(Migration::name).collect();
        if done.contains(COPYING) {
            return refuse("the source is itself a copy that was not finished".to_owned());
        }
        if let Some(name) = known.iter().find(|name| !done.contains(**name)) {
            return refuse(format!(
                "the source lacks the migration `{name}`; run `migrate` on it first"
            ));
        }
        if let Some(name) = done.iter().find(|name| !known.contains(&name.as_str())) {
            return refuse(format!(
                "the source has the migration `{name}`, which this program does not know; copy with \
                 the site's own program, in its newest version"
            ));
        }
        let orphans = catalog::orphans(source).await.map_err(reading)?;
        if !orphans.is_empty() {
            let orphans = orphans.join(", ");
            return refuse(format!(
                "the source has rows without the rows they refer to: {orphans}"
            ));
        }
        let ours = [LEDGER, state::COPY];
        let is_copied = |name: &String| !ours.contains(&name.as_str()) && !self.skip.contains(name);
        Ok(all.into_iter().filter(is_copied).collect())
    }

    /// Makes the tables of a new target; lets a copy of the same source go on.
    async fn prepare_target(&self, from: &Db, names: &[String], to: &Db) -> Result<()> {
        let writing = |source| doing("prepare the target", source);
        let there: BTreeSet<String> =
            catalog::names(to).await.map_err(writing)?.into_iter().collect();
        let is_begun = there.contains(LEDGER)
            && migrate::names(to).await.map_err(writing)?.iter().any(|name| name == COPYING);
        if !is_begun {
            // One that was made and not yet marked when a copy was killed is no site.
            let is_site =
                there.contains(LEDGER) && !migrate::names(to).await.map_err(writing)?.is_empty();
            let in_the_way: Vec<&str> = there
                .iter()
                .filter(|name| (*name == LEDGER && is_site) || names.contains(name))
                .map(String::as_str)
                .collect();
            if !in_the_way.is_empty() {
                return Err(Error::Copy(format!(
                    "the target `{}` is not new: it has the tables {}. Nothing is overwritten; make \
                     a new, empty database and copy into that",
                    self.to,
                    in_the_way.join(", ")
                )));
            }
            migrate::mark_copying(to).await.map_err(writing)?;
        }
        state::make(to).await.map_err(writing)?;
        let source = from.to_string();
        match state::read(to, state::SOURCE).await.map_err(writing)? {
            None => state::write(to, state::SOURCE, &source).await.map_err(writing)?,
            Some(other) if other != source => {
                return Err(Error::Copy(format!(
                    "the target holds an unfinished copy of another source, `{other}`; make a new, \
                     empty database and copy into that"
                )));
            }
            Some(_) => {}
        }
        to.migrate_copy(self.migrations).await?;
        for (at, (drop_it, make_it)) in
            catalog::foreign_keys(to).await.map_err(writing)?.into_iter().enumerate()
        {
            // Rows come in no order that the keys would allow; they are checked when they are back.
            let tx = to.begin().await.map_err(writing)?;
            let name = format!("{}{at:06}", state::FOREIGN_KEY);
            state::write(&tx, &name, &make_it).await.map_err(writing)?;
            tx.execute_unprepared(&drop_it).await.map_err(writing)?;
            tx.commit().await.map_err(writing)?;
        }
        Ok(())
    }

    async fn pair(&self, source: &Tx, names: &[String], to: &Db) -> Result<Vec<Pair>> {
        let reading = |source| doing("read the tables of the two databases", source);
        let there: HashSet<String> =
            catalog::names(to).await.map_err(reading)?.into_iter().collect();
        let mut pairs = Vec::new();
        for name in names {
            if !there.contains(name) {
                return Err(Error::Copy(format!(
                    "the source has a table `{name}` that this program's migrations do not make; \
                     leave it out with `--skip {name}`, or copy with the program it belongs to"
                )));
            }
            let from_table = catalog::table(source, name).await.map_err(reading)?;
            let to_table = catalog::table(to, name).await.map_err(reading)?;
            let from = (source.get_database_backend(), &from_table);
            let pair = Pair::of(from, (to.get_database_backend(), &to_table));
            pairs.push(pair.map_err(Error::Copy)?);
        }
        Ok(pairs)
    }
}

/// Where the progress is told.
struct Bar<'a> {
    tell: &'a mut (dyn FnMut(Progress<'_>) + Send),
    done: u64,
    total: u64,
}

impl Bar<'_> {
    fn add(&mut self, table: &str, is_check: bool, rows: u64) {
        self.done += rows;
        (self.tell)(Progress { table, is_check, done: self.done, total: self.total });
    }
}

/// Copies a table; gives the rows that were there from an earlier time.
async fn fill(pair: &Pair, source: &Tx, to: &Db, bar: &mut Bar<'_>) -> Result<u64> {
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
async fn compare(
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

/// Brings the foreign keys back and takes the mark away.
async fn finish(to: &Db) -> Result<(), DbErr> {
    for (name, make_it) in state::read_all(to, state::FOREIGN_KEY).await? {
        let tx = to.begin().await?;
        tx.execute_unprepared(&make_it).await?;
        state::forget(&tx, &name).await?;
        tx.commit().await?;
    }
    migrate::unmark_copying(to).await?;
    to.execute_unprepared(&format!("DROP TABLE {}", state::COPY)).await.map(drop)
}

async fn open_source(url: &EngineUrl) -> Result<Db> {
    if url.scheme() == "sqlite" && !Path::new(url.path()).exists() {
        return Err(Error::Copy(format!("the source `{url}` is not there")));
    }
    Ok(Db::open_with(url, patient()).await?.primary())
}

async fn open_target(url: &EngineUrl) -> Result<Db> {
    let db = match url.scheme() {
        "sqlite" => Db::open_sqlite_unguarded(url, patient()).await?,
        _ => Db::open_with(url, patient()).await?,
    };
    Ok(db.primary())
}

fn patient() -> Config {
    // A count of a large table takes long, and nobody waits for it but us.
    Config { statement_timeout_ms: 0, ..Config::default() }
}

fn doing(doing: &'static str, source: DbErr) -> Error {
    Error::Query { doing, source }
}

fn of_table(doing: &'static str, table: &str, source: DbErr) -> Error {
    Error::CopyTable { doing, table: table.to_owned(), source }
}

/// Differences that are shown; more help nobody.
const MAX_SHOWN: usize = 10;
