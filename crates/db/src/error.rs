//! What can go wrong when a database is opened or migrated, and what to do about any database error.

use sea_orm::{DbErr, RuntimeErr};
use sqlx::error::DatabaseError;
#[cfg(feature = "postgres")]
use sqlx::postgres::{PgDatabaseError, PgSeverity};
use throng_core::{Kind, url::UrlError};

/// Result of opening, migrating and relaying.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a database could not be opened, migrated or relayed. Errors of single queries are SeaORM's
/// [`DbErr`]; [`kind`] sorts those too.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL or one of its options is wrong.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The folder of an embedded database cannot be made or written.
    #[error("cannot write the folder `{folder}` of the database")]
    Folder {
        /// The folder.
        folder: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is there but is not a database of this engine.
    #[error("`{path}` is not a SQLite database")]
    NotADatabase {
        /// The file.
        path: String,
    },
    /// The file cannot be opened or written.
    #[error("cannot open the database `{path}`")]
    File {
        /// The file.
        path: String,
        /// What the engine said.
        source: sqlx::Error,
    },
    /// Somebody else holds the database for longer than the busy timeout.
    #[error("the database `{path}` is locked by another process")]
    Locked {
        /// The file.
        path: String,
        /// What the engine said.
        source: sqlx::Error,
    },
    /// The server did not answer or refused the connection.
    #[error("cannot connect to the database `{url}`")]
    Connect {
        /// The URL, secrets hidden.
        url: String,
        /// What the engine said.
        source: DbErr,
    },
    /// The database has a migration that this program does not know: it is from a newer version.
    #[error(
        "the database has the migration `{name}`, which this program does not know; run a newer version of the program"
    )]
    Newer {
        /// The unknown migration.
        name: String,
    },
    /// A copy into the database was cut short or found differences.
    #[error(
        "a copy into this database was not finished; run the same `db copy` again, or throw it away"
    )]
    Unfinished,
    /// Data cannot be copied from one database to another, or did not arrive whole.
    #[error("cannot copy: {0}")]
    Copy(String),
    /// A table cannot be copied; run again, the copy goes on where it was.
    #[error("cannot {doing} the table `{table}`")]
    CopyTable {
        /// What was being done to it.
        doing: &'static str,
        /// The table.
        table: String,
        /// What the engine said.
        source: DbErr,
    },
    /// Two migrations have one name.
    #[error("two migrations are called `{name}`")]
    Twice {
        /// The name.
        name: String,
    },
    /// A migration failed; nothing of it was kept.
    #[error("cannot apply the migration `{name}`")]
    Migration {
        /// The migration.
        name: String,
        /// What the engine said.
        source: DbErr,
    },
    /// A statement of the room itself failed.
    #[error("cannot {doing}")]
    Query {
        /// What was being done to what.
        doing: &'static str,
        /// What the engine said.
        source: DbErr,
    },
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Locked { .. } | Self::Connect { .. } => Kind::Retry,
            Self::Url(_)
            | Self::Folder { .. }
            | Self::NotADatabase { .. }
            | Self::File { .. }
            | Self::Unfinished
            | Self::Copy(_)
            | Self::Newer { .. } => Kind::Refuse,
            Self::Twice { .. } => Kind::Bug,
            Self::Migration { source, .. }
            | Self::CopyTable { source, .. }
            | Self::Query { source, .. } => kind(source),
        }
    }
}

/// What to do about an error of a query: retry when the pool, the server or a lock was the cause,
/// refuse when the data was, bug otherwise.
#[must_use]
pub fn kind(error: &DbErr) -> Kind {
    match error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Kind::Retry,
        DbErr::Exec(error) | DbErr::Query(error) => match error {
            RuntimeErr::SqlxError(error) => kind_of_driver(error),
            RuntimeErr::Internal(_) => Kind::Bug,
        },
        DbErr::RecordNotFound(_) | DbErr::RecordNotInserted | DbErr::RecordNotUpdated => {
            Kind::Refuse
        }
        _ => Kind::Bug,
    }
}

fn kind_of_driver(error: &sqlx::Error) -> Kind {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Kind::Retry,
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            if is_passing(&code) || is_outdated(&**error) {
                Kind::Retry
            } else if error.is_unique_violation()
                || error.is_foreign_key_violation()
                || error.is_check_violation()
            {
                Kind::Refuse
            } else {
                Kind::Bug
            }
        }
        _ => Kind::Bug,
    }
}

/// Whether a code of any engine says that the state of the server, not the statement, is in the way.
fn is_passing(code: &str) -> bool {
    // SQLite's codes have at most four digits, a SQL state always has five characters. Extended codes
    // keep the primary one in the low byte.
    if code.len() < SQL_STATE
        && let Ok(code) = code.parse::<u32>()
    {
        let primary = code & 0xff;
        return [BUSY, LOCKED, READONLY, INTERRUPT, IOERR, FULL].contains(&primary);
    }
    // Serialization and deadlock, connection, resources, operator, MariaDB's statement timeout.
    ["40", "08", "53", "57", "70100"].iter().any(|class| code.starts_with(class)) || code == "25006"
}

/// Whether a statement that the connection keeps gives other columns now, for its table was changed.
/// PostgreSQL has not run it, and will not run it on this connection any more.
fn is_outdated(error: &dyn DatabaseError) -> bool {
    #[cfg(feature = "postgres")]
    return error.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::routine)
        == Some("RevalidateCachedQuery");
    #[cfg(not(feature = "postgres"))]
    {
        let _ = error;
        false
    }
}

/// The same of any error; other connections keep the statement as well.
pub(crate) fn is_of_changed_table(error: &DbErr) -> bool {
    let error = driver_error(error).and_then(sqlx::Error::as_database_error);
    error.is_some_and(is_outdated)
}

const SQL_STATE: usize = 5;
const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const READONLY: u32 = 8;
const INTERRUPT: u32 = 9;
const IOERR: u32 = 10;
const FULL: u32 = 13;

/// Whether the connection, not the statement, is what failed.
pub(crate) fn is_broken(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed
        // The driver and the database disagree on whether a transaction is open.
        | sqlx::Error::InvalidSavePointStatement
        | sqlx::Error::BeginFailed => true,
        // The server ends the connection: it shuts down, crashed, or an administrator asked.
        sqlx::Error::Database(error) => {
            #[cfg(feature = "postgres")]
            if is_fatal(&**error) || is_outdated(&**error) {
                return true;
            }
            error.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
        }
        _ => false,
    }
}

/// Whether the server ends the connection with this error, whatever its code.
#[cfg(feature = "postgres")]
fn is_fatal(error: &dyn DatabaseError) -> bool {
    error
        .try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

/// Whether the server, not the statement, is what failed.
pub(crate) fn is_lost(error: &DbErr) -> bool {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => match &**error {
            // Too slow is not gone; the watchers tell the difference.
            sqlx::Error::Io(error) => error.kind() != std::io::ErrorKind::TimedOut,
            error => is_broken(error),
        },
        _ => false,
    }
}

/// Whether nobody listens at the server's address.
pub(crate) fn is_refused_connection(error: &DbErr) -> bool {
    let refused = std::io::ErrorKind::ConnectionRefused;
    driver_error(error)
        .is_some_and(|error| matches!(error, sqlx::Error::Io(error) if error.kind() == refused))
}

/// Whether a driver's error says that the server takes no writes.
pub(crate) fn is_read_only(error: &sqlx::Error) -> bool {
    // PostgreSQL's 25006; MariaDB's and MySQL's 1290 has the SQL state HY000 and is told by its text.
    error.as_database_error().is_some_and(|error| {
        error.code().is_some_and(|code| code == "25006")
            || error.message().contains("--read-only option")
            || error.message().contains("READ ONLY transaction")
    })
}

/// Whether a standby gave up a read because its log went on: another server can answer. A read that
/// is not part of a transaction has no other reason for these codes.
pub(crate) fn is_conflict_with_recovery(error: &DbErr) -> bool {
    driver_error(error).is_some_and(|error| {
        let code = error.as_database_error().and_then(|error| error.code());
        code.is_some_and(|code| code == "40001" || code == "40P01")
    })
}

/// Whether the server does not know a table, column or function.
pub(crate) fn is_unknown_name(error: &DbErr) -> bool {
    driver_error(error).and_then(sqlx::Error::as_database_error).is_some_and(|error| {
        let codes = ["42P01", "42703", "42883", "42S02", "42S22"];
        error.code().is_some_and(|code| codes.contains(&&*code))
    })
}

pub(crate) fn driver_error(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => Some(error),
        _ => None,
    }
}

pub(crate) fn late(reason: impl Into<String>) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, reason.into()))
}

pub(crate) fn exec(error: sqlx::Error) -> DbErr {
    DbErr::Exec(RuntimeErr::SqlxError(error.into()))
}

pub(crate) fn query(error: sqlx::Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}

pub(crate) fn conn(error: sqlx::Error) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(error.into()))
}

pub(crate) fn refused(reason: impl Into<String>) -> DbErr {
    DbErr::Query(RuntimeErr::Internal(reason.into()))
}
