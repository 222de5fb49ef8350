//! The engines: how a connection is made, tidied and told apart. Everything above is one code path.

pub(crate) mod sqlite;

use sea_orm::{DbErr, ExecResult, QueryResult, Statement};
use sea_query_sqlx::SqlxValues;
use sqlx::{AssertSqlSafe, Connection, Database, Executor, SqliteConnection};
use sqlx_core::transaction::TransactionManager;

use crate::error;

/// Makes connections of one kind to one server.
#[derive(Debug)]
pub(crate) enum Connector {
    Sqlite(sqlite::Connector),
}

/// One raw connection and what the pool must know about it.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) raw: Raw,
    /// A command was sent and its end was not seen.
    pub(crate) is_busy: bool,
    /// A transaction is open.
    pub(crate) in_transaction: bool,
    /// The connection broke, or its session was changed: never use it again.
    pub(crate) is_spent: bool,
}

/// The drivers' connections.
#[derive(Debug)]
pub(crate) enum Raw {
    Sqlite(SqliteConnection, sqlite::Alarm),
}

impl Connector {
    pub(crate) async fn connect(&self) -> Result<Conn, sqlx::Error> {
        let raw = match self {
            Self::Sqlite(connector) => {
                let (conn, alarm) = connector.connect().await?;
                Raw::Sqlite(conn, alarm)
            }
        };
        Ok(Conn { raw, is_busy: false, in_transaction: false, is_spent: false })
    }
}

impl Conn {
    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<ExecResult, DbErr> {
        let query = Query::new(statement);
        let done = match &mut self.raw {
            Raw::Sqlite(conn, _) => {
                query.bind::<sqlx::Sqlite>().execute(conn).await.map(Into::into)
            }
        };
        self.ended(done).map_err(error::exec)
    }

    pub(crate) async fn execute_unprepared(&mut self, sql: &str) -> Result<ExecResult, DbErr> {
        let sql = AssertSqlSafe(sql.to_owned());
        let done = match &mut self.raw {
            Raw::Sqlite(conn, _) => conn.execute(sql).await.map(Into::into),
        };
        self.ended(done).map_err(error::exec)
    }

    /// The first row. `reads_only` lets the engine stop at it; a write must run to its end, or an
    /// error of its commit would go unseen.
    pub(crate) async fn fetch_one(
        &mut self,
        statement: Statement,
        reads_only: bool,
    ) -> Result<Option<QueryResult>, DbErr> {
        if !reads_only {
            return Ok(self.fetch_all(statement).await?.into_iter().next());
        }
        let query = Query::new(statement);
        let done = match &mut self.raw {
            Raw::Sqlite(conn, _) => {
                let row = query.bind::<sqlx::Sqlite>().fetch_optional(conn).await;
                row.map(|row| row.map(Into::into))
            }
        };
        self.ended(done).map_err(error::query)
    }

    pub(crate) async fn fetch_all(
        &mut self,
        statement: Statement,
    ) -> Result<Vec<QueryResult>, DbErr> {
        let query = Query::new(statement);
        let done = match &mut self.raw {
            Raw::Sqlite(conn, _) => {
                let rows = query.bind::<sqlx::Sqlite>().fetch_all(conn).await;
                rows.map(|rows| rows.into_iter().map(Into::into).collect())
            }
        };
        self.ended(done).map_err(error::query)
    }

    pub(crate) async fn begin(&mut self, mode: Begin) -> Result<(), DbErr> {
        let done = match &mut self.raw {
            Raw::Sqlite(conn, _) => sqlite::begin(conn, mode).await,
        };
        self.in_transaction = done.is_ok();
        self.ended(done).map_err(error::exec)
    }

    pub(crate) async fn commit(&mut self) -> Result<(), DbErr> {
        let done = match &mut self.raw {
            Raw::Sqlite(conn, _) => Manager::<sqlx::Sqlite>::commit(conn).await,
        };
        self.in_transaction = done.is_err();
        self.ended(done).map_err(error::exec)
    }

    pub(crate) async fn rollback(&mut self) -> Result<(), DbErr> {
        let done = match &mut self.raw {
            Raw::Sqlite(conn, _) => Manager::<sqlx::Sqlite>::rollback(conn).await,
        };
        self.in_transaction = done.is_err();
        self.ended(done).map_err(error::exec)
    }

    /// Rolls back without waiting, where the driver keeps its commands in order. Says whether it
    /// could.
    pub(crate) fn start_rollback(&mut self) -> bool {
        match &mut self.raw {
            Raw::Sqlite(conn, _) => {
                Manager::<sqlx::Sqlite>::start_rollback(conn);
                self.in_transaction = false;
                true
            }
        }
    }

    /// Ends what a dropped future left behind, so that the connection is as new.
    pub(crate) async fn tidy(&mut self) -> Result<(), DbErr> {
        match &mut self.raw {
            Raw::Sqlite(conn, alarm) => sqlite::tidy(conn, alarm).await.map_err(error::conn)?,
        }
        self.is_busy = false;
        self.in_transaction = false;
        Ok(())
    }

    pub(crate) async fn close(self) {
        // Nothing could be done about an error: the connection is gone either way.
        let _ = match self.raw {
            Raw::Sqlite(conn, _) => conn.close().await,
        };
    }

    fn ended<T>(&mut self, done: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        if let Err(error) = &done {
            self.is_spent |= is_broken(error);
        }
        done
    }
}

/// How a transaction begins.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Begin {
    pub(crate) reads_only: bool,
    pub(crate) sqlite: Option<sea_orm::SqliteTransactionMode>,
}

/// A statement ready for binding.
pub(crate) struct Query {
    sql: String,
    values: SqlxValues,
}

impl Query {
    pub(crate) fn new(statement: Statement) -> Self {
        let values = statement.values.unwrap_or_else(|| sea_orm::Values(Vec::new()));
        Self { sql: statement.sql, values: SqlxValues(values) }
    }

    pub(crate) fn bind<D>(self) -> sqlx::query::Query<'static, D, SqlxValues>
    where
        D: Database,
        SqlxValues: sqlx::IntoArguments<D>,
    {
        sqlx::query_with(AssertSqlSafe(self.sql), self.values)
    }
}

pub(crate) type Manager<D> = <D as Database>::TransactionManager;

/// Whether the connection, not the statement, is what failed.
fn is_broken(error: &sqlx::Error) -> bool {
    matches!(
        error,
        sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed
    )
}
