//! SQLite: one writer and many readers over one file in write-ahead mode.
//!
//! Commits are not grouped. SQLite has one writer, so a group would have to be one transaction
//! shared by strangers: one caller's error or wait would become everybody's. Each commit is synced.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sea_orm::SqliteTransactionMode;
use sea_query_sqlx::SqlxValues;
use sqlx::{
    ConnectOptions, Connection, Row, SqlSafeStr, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};
use sqlx_core::transaction::TransactionManager;

use super::{Begin, Manager, Query};
use crate::{
    config::Config,
    error::{Error, Result},
};

/// Opens connections to one file, all for writing or all for reading.
#[derive(Debug)]
pub(crate) struct Connector {
    options: SqliteConnectOptions,
}

/// Interrupts the statement that runs on a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alarm(Arc<AtomicBool>);

impl Connector {
    pub(crate) async fn connect(&self) -> Result<(SqliteConnection, Alarm), sqlx::Error> {
        let mut conn = self.options.connect().await?;
        let alarm = Alarm::default();
        let rings = alarm.clone();
        conn.lock_handle()
            .await?
            .set_progress_handler(STEPS_BETWEEN_LOOKS, move || !rings.0.load(Ordering::Relaxed));
        Ok((conn, alarm))
    }
}

/// Makes the folder and the file if they are missing, turns on write-ahead mode, and gives the
/// connectors of the writer and the readers.
///
/// Without `has_foreign_keys` rows may come before those that they refer to.
pub(crate) async fn open(
    path: &Path,
    config: &Config,
    has_foreign_keys: bool,
) -> Result<(Connector, Connector)> {
    make_folder(path)?;
    let writer = Connector { options: options(path, config).foreign_keys(has_foreign_keys) };
    let mut conn = match writer.options.connect().await {
        Ok(conn) => conn,
        Err(error) => return Err(explain(path, error)),
    };
    let turned_on = turn_on_wal(&mut conn, config).await;
    let probed = match turned_on {
        // Reads the schema, so that a file which is no database is found now.
        Ok(()) => sqlx::query("SELECT count(*) FROM sqlite_master").fetch_one(&mut conn).await,
        Err(error) => Err(error),
    };
    if let Err(error) = probed {
        return Err(explain(path, error));
    }
    conn.close().await.map_err(|error| explain(path, error))?;
    let reader = options(path, config).create_if_missing(false).pragma("query_only", "ON");
    Ok((writer, Connector { options: reader }))
}

pub(crate) async fn begin(conn: &mut SqliteConnection, mode: Begin) -> Result<(), sqlx::Error> {
    let statement = match mode.sqlite {
        Some(SqliteTransactionMode::Exclusive) => "BEGIN EXCLUSIVE",
        _ if mode.reads_only => "BEGIN DEFERRED",
        // Deferred would take the write lock at the first write, where waiting for it cannot help
        // any more if somebody else has written in between.
        _ => "BEGIN IMMEDIATE",
    };
    Manager::<sqlx::Sqlite>::begin(conn, Some(statement.into_sql_str())).await
}

/// Whether SQLite has rolled back by itself, as it does when the disk is full, on an error of the file
/// and where a constraint says `ON CONFLICT ROLLBACK`. It begins no transaction within another.
pub(crate) async fn is_over(conn: &mut SqliteConnection) -> bool {
    let is_over = sqlx::raw_sql("BEGIN").execute(&mut *conn).await.is_ok();
    if is_over {
        let _ = sqlx::raw_sql("ROLLBACK").execute(conn).await;
    }
    is_over
}

/// A statement whose `*` stands for the columns that there are now. Where another connection has changed
/// a table, SQLite would find out while the statement runs and prepare it anew by itself, and the
/// driver go on with the columns of before: so any other statement finds out first, and such a
/// statement is not kept.
pub(crate) async fn bind(
    conn: &mut SqliteConnection,
    mut query: Query,
) -> sqlx::query::Query<'static, sqlx::Sqlite, SqlxValues> {
    if has_star(&query.sql) {
        // What is wrong with the connection the statement itself will tell.
        let _ = sqlx::query("SELECT 1 FROM sqlite_master LIMIT 0").execute(conn).await;
        query.is_kept = false;
    }
    query.bind()
}

/// Whether `*` may stand for columns; `count(*)` does not.
fn has_star(sql: &str) -> bool {
    let sql = sql.as_bytes();
    sql.iter().enumerate().any(|(at, byte)| *byte == b'*' && (at == 0 || sql[at - 1] != b'('))
}

/// Whether the driver's thread is there after a statement that gave nothing. When it dies amid one it
/// does not say so, which looks like the end of the rows.
pub(crate) async fn seen_to_end<T>(
    conn: &mut SqliteConnection,
    done: Result<T, sqlx::Error>,
    is_empty: impl FnOnce(&T) -> bool,
) -> Result<T, sqlx::Error> {
    let done = done?;
    if is_empty(&done) {
        conn.ping().await?;
    }
    Ok(done)
}

/// Stops what still runs and rolls back what is open.
pub(crate) async fn tidy(conn: &mut SqliteConnection, alarm: &Alarm) -> Result<(), sqlx::Error> {
    alarm.0.store(true, Ordering::Relaxed);
    // Commands run in order, so the ping is answered when the interrupted one has ended.
    let idle = conn.ping().await;
    alarm.0.store(false, Ordering::Relaxed);
    idle?;
    // The driver owes whoever did not wait for a COMMIT one rollback that does nothing, and would
    // let a later transaction pay: take it here. Where nothing is owed, this one rolls back.
    Manager::<sqlx::Sqlite>::start_rollback(conn);
    conn.ping().await?;
    while Manager::<sqlx::Sqlite>::get_transaction_depth(conn) > 0 {
        Manager::<sqlx::Sqlite>::rollback(conn).await?;
    }
    // A transaction that was opened by hand is not counted; without one this fails harmlessly.
    let _ = sqlx::raw_sql("ROLLBACK").execute(conn).await;
    Ok(())
}

fn options(path: &Path, config: &Config) -> SqliteConnectOptions {
    let synchronous =
        if config.durable { SqliteSynchronous::Full } else { SqliteSynchronous::Normal };
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .busy_timeout(Duration::from_millis(config.busy_timeout_ms))
        .synchronous(synchronous)
        .statement_cache_capacity(config.statement_cache)
        .pragma("cache_size", "-16000")
        .pragma("mmap_size", "268435456")
        .pragma("temp_store", "MEMORY")
        .pragma("journal_size_limit", "67108864")
        .thread_name(|id| format!("sqlite-{id}"))
        .disable_statement_logging()
}

/// Write-ahead mode is a property of the file. Turning it on needs the file alone for a moment and
/// does not wait by itself, so processes that start together try again until the busy timeout.
async fn turn_on_wal(conn: &mut SqliteConnection, config: &Config) -> Result<(), sqlx::Error> {
    let wait = Duration::from_millis(5);
    let mut left = Duration::from_millis(config.busy_timeout_ms);
    loop {
        let error = match sqlx::query("PRAGMA journal_mode = WAL").fetch_one(&mut *conn).await {
            Ok(row) => {
                let mode: String = row.try_get(0)?;
                if mode.eq_ignore_ascii_case("wal") {
                    return Ok(());
                }
                let reason = format!("write-ahead mode cannot be turned on, it stays at `{mode}`");
                return Err(sqlx::Error::Configuration(reason.into()));
            }
            Err(error) => error,
        };
        if code(&error) != Some(BUSY) || left.is_zero() {
            return Err(error);
        }
        tokio::time::sleep(wait).await;
        left = left.saturating_sub(wait);
    }
}

fn make_folder(path: &Path) -> Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    std::fs::create_dir_all(folder)
        .map_err(|source| Error::Folder { folder: folder.display().to_string(), source })
}

/// The error that names what stands in the way.
fn explain(path: &Path, source: sqlx::Error) -> Error {
    let shown = path.display().to_string();
    match code(&source) {
        Some(BUSY | LOCKED) => Error::Locked { path: shown, source },
        Some(NOT_A_DATABASE) => Error::NotADatabase { path: shown },
        Some(CANNOT_OPEN | READ_ONLY) if !path.exists() => {
            let folder = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
            let source = std::io::Error::other(source.to_string());
            Error::Folder { folder: folder.display().to_string(), source }
        }
        _ => Error::File { path: shown, source },
    }
}

/// SQLite's primary result code.
fn code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?;
    code.parse::<u32>().ok().map(|code| code & 0xff)
}

/// Virtual-machine steps between two looks at the alarm: some tens of microseconds.
const STEPS_BETWEEN_LOOKS: i32 = 2_000;
const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const READ_ONLY: u32 = 8;
const CANNOT_OPEN: u32 = 14;
const NOT_A_DATABASE: u32 = 26;
