//! Copies a site's data from one database to another, of any engine, and compares every row.
//!
//! The target is made by the program's migrations and filled in batches. Until every row was
//! compared, a mark among its migrations keeps the site from starting on it; a copy that was cut
//! short goes on where it was.

mod catalog;
mod prepare;
mod rows;
mod state;
mod transfer;
mod value;

use std::{path::Path, time::Instant};

use sea_orm::{AccessMode, ConnectionTrait, DbBackend, DbErr, IsolationLevel, TransactionTrait};
use serde::Serialize;
use throng_core::EngineUrl;

use self::{
    rows::Pair,
    transfer::{Bar, compare, fill},
};
use crate::{
    Db, Migration, Tx,
    config::Config,
    error::{Error, Result},
    migrate,
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
        check(&pairs, &counts, &source, to, &mut bar).await?;
        number(&pairs, &source, to).await?;
        finish(to).await.map_err(|source| doing("finish the target", source))?;
        Ok(copied)
    }
}

/// Compares all tables with what they were copied from.
async fn check(
    pairs: &[Pair],
    counts: &[u64],
    source: &Tx,
    to: &Db,
    bar: &mut Bar<'_>,
) -> Result<()> {
    let mut differences = Vec::new();
    for (pair, rows) in pairs.iter().zip(counts) {
        differences.extend(compare(pair, *rows, source, to, bar).await?);
        if differences.len() > MAX_SHOWN {
            break;
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    differences.truncate(MAX_SHOWN);
    Err(Error::Copy(format!(
        "the check found what differs, so the target stays marked as unfinished (was the source \
         written to? stop the site and copy into a new database): {}",
        differences.join("; ")
    )))
}

/// Lets the counters of the target go on where those of the source are.
async fn number(pairs: &[Pair], source: &Tx, to: &Db) -> Result<()> {
    let reading = |source| doing("read the source", source);
    let numbering = |source| doing("set the counters of the target", source);
    for pair in pairs {
        let table = catalog::table(source, pair.name()).await.map_err(reading)?;
        let next = catalog::next_number(source, &table).await.map_err(reading)?;
        // PostgreSQL's counters stand where no row has moved them, whatever rows there are.
        let is_postgres = to.get_database_backend() == DbBackend::Postgres;
        if let Some(next) = next.or(is_postgres.then_some(1)) {
            let table = catalog::table(to, pair.name()).await.map_err(numbering)?;
            catalog::set_next_number(to, &table, next).await.map_err(numbering)?;
        }
    }
    Ok(())
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

/// Differences that are shown; more help nobody.
const MAX_SHOWN: usize = 10;
