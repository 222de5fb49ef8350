//! The engines: how a connection is made, tidied and told apart. Everything above is one code path.

#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
pub(crate) mod sqlite;

use sea_orm::{DbErr, ExecResult, IsolationLevel, QueryResult, SqliteTransactionMode, Statement};
use sea_query_sqlx::SqlxValues;
use sqlx::{
    AssertSqlSafe, Connection, Database, Executor, SqliteConnection, sqlite::SqliteQueryResult,
};
use sqlx_core::{database::HasStatementCache, transaction::TransactionManager};

use crate::{
    error::{self, is_broken},
    sight::Sight,
};

/// Makes connections of one kind to one server.
#[derive(Debug)]
pub(crate) enum Connector {
    Sqlite(sqlite::Connector),
    #[cfg(feature = "postgres")]
    Postgres(postgres::Connector),
    #[cfg(feature = "mysql")]
    MySql(mysql::Connector),
}

/// One raw connection and what the pool must know about it.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) raw: Raw,
    /// A command was sent and its end was not seen.
    pub(crate) is_busy: bool,
    /// A transaction is open.
    pub(crate) in_transaction: bool,
    /// A statement failed in the transaction, which PostgreSQL will not commit any more.
    pub(crate) is_aborted: bool,
    /// The engine has rolled the transaction back by itself, so that each statement that came now
    /// would be one by itself.
    pub(crate) is_over: bool,
    /// The connection broke, or its session was changed: never use it again.
    pub(crate) is_spent: bool,
    /// Keep prepared statements. Not behind a pooler that hands each transaction another server.
    keeps_statements: bool,
    /// The server and its run that it leads to; unknown until it was asked.
    pub(crate) identity: Identity,
    /// When it came back to the pool.
    pub(crate) idle_since: Option<std::time::Instant>,
}

/// Which server is at the other end, and which run of it.
///
/// What a server shows only ever grows while it runs. One that crashed and started again may for a
/// while show less than it did, so what was learned about one run says nothing about the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The number that all servers of a cluster share, 0 where the engine has none.
    pub(crate) cluster: u64,
    /// Another one after each start, 0 where it is not known.
    pub(crate) run: u64,
}

/// Whether two are one run. MariaDB tells seconds, which may be counted one apart.
pub(crate) fn is_same_run(one: u64, other: u64) -> bool {
    one.abs_diff(other) <= 1
}

/// The drivers' connections.
#[derive(Debug)]
pub(crate) enum Raw {
    Sqlite(SqliteConnection, sqlite::Alarm),
    #[cfg(feature = "postgres")]
    Postgres(sqlx::PgConnection),
    #[cfg(feature = "mysql")]
    MySql(sqlx::MySqlConnection),
}

impl Connector {
    pub(crate) async fn connect(&self) -> Result<Conn, sqlx::Error> {
        let raw = match self {
            Self::Sqlite(connector) => {
                let (conn, alarm) = connector.connect().await?;
                Raw::Sqlite(conn, alarm)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(connector) => Raw::Postgres(connector.connect().await?),
            #[cfg(feature = "mysql")]
            Self::MySql(connector) => Raw::MySql(connector.connect().await?),
        };
        Ok(Conn {
            raw,
            is_busy: false,
            in_transaction: false,
            is_aborted: false,
            is_over: false,
            is_spent: false,
            keeps_statements: !self.is_pooled(),
            identity: Identity::default(),
            idle_since: None,
        })
    }

    /// Connects and asks who is there.
    pub(crate) async fn connect_to_known(&self) -> Result<Conn, sqlx::Error> {
        let mut conn = self.connect().await?;
        conn.identify().await?;
        Ok(conn)
    }

    /// Whether an external pooler in transaction mode stands in front of the server.
    pub(crate) fn is_pooled(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            #[cfg(feature = "postgres")]
            Self::Postgres(connector) => connector.is_pooled(),
            #[cfg(feature = "mysql")]
            Self::MySql(_) => false,
        }
    }
}

impl Conn {
    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<ExecResult, DbErr> {
        let query = Query::new(statement, self.keeps_statements);
        let done = match &mut self.raw {
            Raw::Sqlite(conn, _) => {
                let done = sqlite::bind(conn, query).await.execute(&mut *conn).await;
                let is_empty = |done: &SqliteQueryResult| done.rows_affected() == 0;
                sqlite::seen_to_end(conn, done, is_empty).await.map(Into::into)
            }
            #[cfg(feature = "postgres")]
            Raw::Postgres(conn) => {
                query.bind::<sqlx::Postgres>().execute(conn).await.map(Into::into)
            }
            #[cfg(feature = "mysql")]
            Raw::MySql(conn) => query.bind::<sqlx::MySql>().execute(conn).await.map(Into::into),
        };
        self.ended(done).await.map_err(error::exec)
    }

    pub(crate) async fn execute_unprepared(&mut self, sql: &str) -> Result<ExecResult, DbErr> {
        let sql = AssertSqlSafe(sql.to_owned());
        let done = match &mut self.raw {
            Raw::Sqlite(conn, _) => conn.execute(sql).await.map(Into::into),
            #[cfg(feature = "postgres")]
            Raw::Postgres(conn) => conn.execute(sql).await.map(Into::into),
            #[cfg(feature = "mysql")]
            Raw::MySql(conn) => conn.execute(sql).await.map(Into::into),
        };
        self.ended(done).await.map_err(error::exec)
    }

    /// The first row. `reads_only` lets the engine stop at it; a write must run to its end, or an
    /// error of its commit would go unseen.
    pub(crate) async fn fetch_one(
        &mut self,
        statement: Statement,
        reads_only: bool,
    ) -> Result<Option<QueryResult>, DbErr> {
        let is_embedded = matches!(self.raw, Raw::Sqlite(..));
        if !reads_only || !is_embedded {
            return Ok(self.fetch_all(statement).await?.into_iter().next());
        }
        let query = Query::new(statement, self.keeps_statements);
        let done = match &mut self.raw {
            Raw::Sqlite(conn, _) => {
                let row = sqlite::bind(conn, query).await.fetch_optional(&mut *conn).await;
                let row = sqlite::seen_to_end(conn, row, Option::is_none).await;
                row.map(|row| row.map(Into::into))
            }
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            _ => Ok(None),
        };
        self.ended(done).await.map_err(error::query)
    }

    pub(crate) async fn fetch_all(
        &mut self,
        statement: Statement,
    ) -> Result<Vec<QueryResult>, DbErr> {
        let query = Query::new(statement, self.keeps_statements);
        let done = match &mut self.raw {
            Raw::Sqlite(conn, _) => {
                let all = sqlite::bind(conn, query).await.fetch_all(&mut *conn).await;
                rows(sqlite::seen_to_end(conn, all, Vec::is_empty).await)
            }
            #[cfg(feature = "postgres")]
            Raw::Postgres(conn) => rows(query.bind::<sqlx::Postgres>().fetch_all(conn).await),
            #[cfg(feature = "mysql")]
            Raw::MySql(conn) => rows(query.bind::<sqlx::MySql>().fetch_all(conn).await),
        };
        self.ended(done).await.map_err(error::query)
    }

    pub(crate) async fn begin(&mut self, mode: Begin) -> Result<(), DbErr> {
        self.is_aborted = false;
        self.is_over = false;
        // Already here: a future that is dropped in between may have begun it.
        self.in_transaction = true;
        let done = match &mut self.raw {
            Raw::Sqlite(conn, _) => sqlite::begin(conn, mode).await,
            #[cfg(feature = "postgres")]
            Raw::Postgres(conn) => postgres::begin(conn, mode).await,
            #[cfg(feature = "mysql")]
            Raw::MySql(conn) => mysql::begin(conn, mode).await,
        };
        self.in_transaction = done.is_ok();
        // What was said before a BEGIN that failed would hold for somebody else's.
        self.is_spent |= done.is_err() && mode.isolation.is_some();
        self.ended(done).await.map_err(error::exec)
    }

    pub(crate) async fn commit(&mut self) -> Result<(), DbErr> {
        if self.is_aborted || self.is_over {
            self.rollback().await?;
            let reason = "a statement of the transaction failed, so it was rolled back";
            return Err(error::refused(reason));
        }
        let done = match &mut self.raw {
            Raw::Sqlite(conn, _) => Manager::<sqlx::Sqlite>::commit(conn).await,
            #[cfg(feature = "postgres")]
            Raw::Postgres(conn) => Manager::<sqlx::Postgres>::commit(conn).await,
            #[cfg(feature = "mysql")]
            Raw::MySql(conn) => Manager::<sqlx::MySql>::commit(conn).await,
        };
        self.in_transaction = done.is_err();
        self.ended(done).await.map_err(error::exec)
    }

    pub(crate) async fn rollback(&mut self) -> Result<(), DbErr> {
        let done = match &mut self.raw {
            // There is nothing to roll back, and the driver, which does not know, is thrown away.
            Raw::Sqlite(..) if self.is_over => Ok(()),
            Raw::Sqlite(conn, _) => Manager::<sqlx::Sqlite>::rollback(conn).await,
            #[cfg(feature = "postgres")]
            Raw::Postgres(conn) => Manager::<sqlx::Postgres>::rollback(conn).await,
            #[cfg(feature = "mysql")]
            Raw::MySql(conn) => Manager::<sqlx::MySql>::rollback(conn).await,
        };
        self.in_transaction = done.is_err();
        self.ended(done).await.map_err(error::exec)
    }

    /// Rolls back without waiting, where the driver keeps its commands in order and runs them at
    /// once. A server would keep the locks until the connection is used again.
    pub(crate) fn start_rollback(&mut self) {
        match &mut self.raw {
            Raw::Sqlite(conn, _) => {
                Manager::<sqlx::Sqlite>::start_rollback(conn);
                self.in_transaction = false;
            }
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            _ => {}
        }
    }

    /// Ends what a dropped future left behind, so that the connection is as new.
    pub(crate) async fn tidy(&mut self) -> Result<(), DbErr> {
        match &mut self.raw {
            Raw::Sqlite(conn, alarm) => sqlite::tidy(conn, alarm).await,
            // Closing is cheaper than waiting for the end of what may be a long statement.
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            _ if self.is_busy => Err(sqlx::Error::WorkerCrashed),
            #[cfg(feature = "postgres")]
            Raw::Postgres(conn) => Manager::<sqlx::Postgres>::rollback(conn).await,
            #[cfg(feature = "mysql")]
            Raw::MySql(conn) => Manager::<sqlx::MySql>::rollback(conn).await,
        }
        .map_err(error::conn)?;
        self.is_busy = false;
        self.in_transaction = false;
        Ok(())
    }

    /// Asks the server for an answer.
    pub(crate) async fn ping(&mut self) -> Result<(), DbErr> {
        match &mut self.raw {
            Raw::Sqlite(conn, _) => conn.ping().await,
            #[cfg(feature = "postgres")]
            Raw::Postgres(conn) => conn.ping().await,
            #[cfg(feature = "mysql")]
            Raw::MySql(conn) => conn.ping().await,
        }
        .map_err(error::conn)
    }

    /// Role and position of the server. None for an embedded database, which has neither.
    pub(crate) async fn look(&mut self) -> Result<Option<Sight>, sqlx::Error> {
        match &mut self.raw {
            Raw::Sqlite(..) => Ok(None),
            #[cfg(feature = "postgres")]
            Raw::Postgres(conn) => postgres::look(conn, self.keeps_statements).await.map(Some),
            #[cfg(feature = "mysql")]
            Raw::MySql(conn) => mysql::look(conn).await.map(Some),
        }
    }

    /// Asks which server this is.
    pub(crate) async fn identify(&mut self) -> Result<Identity, sqlx::Error> {
        self.identity = match &mut self.raw {
            Raw::Sqlite(..) => Identity::default(),
            #[cfg(feature = "postgres")]
            Raw::Postgres(conn) => postgres::identify(conn).await?,
            #[cfg(feature = "mysql")]
            Raw::MySql(conn) => mysql::identify(conn).await?,
        };
        Ok(self.identity)
    }

    pub(crate) async fn close(self) {
        // Nothing could be done about an error: the connection is gone either way.
        let _ = match self.raw {
            Raw::Sqlite(conn, _) => conn.close().await,
            #[cfg(feature = "postgres")]
            Raw::Postgres(conn) => conn.close().await,
            #[cfg(feature = "mysql")]
            Raw::MySql(conn) => conn.close().await,
        };
    }

    async fn ended<T>(&mut self, done: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        if let Err(error) = &done {
            self.failed(Failure::of(error)).await;
        }
        done
    }

    /// Notes what a failed statement did to the connection and its transaction.
    pub(crate) async fn failed(&mut self, failure: Failure) {
        self.is_spent |= failure.is_broken;
        if !self.in_transaction || !failure.is_refused || self.is_over {
            return;
        }
        self.is_over |= failure.ends_transaction;
        match &mut self.raw {
            Raw::Sqlite(conn, _) => {
                self.is_over = sqlite::is_over(conn).await;
                self.is_spent |= self.is_over;
            }
            #[cfg(feature = "postgres")]
            Raw::Postgres(_) => self.is_aborted = true,
            #[cfg(feature = "mysql")]
            Raw::MySql(_) => {}
        }
    }
}

/// What the error of a statement says beyond the statement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    is_broken: bool,
    /// The database answered, and said no.
    is_refused: bool,
    /// MySQL and MariaDB end the whole transaction with it.
    ends_transaction: bool,
}

impl Failure {
    pub(crate) fn of(error: &sqlx::Error) -> Self {
        #[cfg(feature = "mysql")]
        let ends_transaction = mysql::ends_transaction(error);
        #[cfg(not(feature = "mysql"))]
        let ends_transaction = false;
        let is_refused = matches!(error, sqlx::Error::Database(_));
        Self { is_broken: is_broken(error), is_refused, ends_transaction }
    }
}

/// How a transaction begins.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Begin {
    pub(crate) reads_only: bool,
    pub(crate) isolation: Option<IsolationLevel>,
    pub(crate) sqlite: Option<SqliteTransactionMode>,
}

/// A statement ready for binding.
pub(crate) struct Query {
    sql: String,
    values: SqlxValues,
    is_kept: bool,
}

impl Query {
    pub(crate) fn new(statement: Statement, is_kept: bool) -> Self {
        let values = statement.values.unwrap_or_else(|| sea_orm::Values(Vec::new()));
        Self { sql: statement.sql, values: SqlxValues(values), is_kept }
    }

    pub(crate) fn bind<D>(self) -> sqlx::query::Query<'static, D, SqlxValues>
    where
        D: Database + HasStatementCache,
        SqlxValues: sqlx::IntoArguments<D>,
    {
        sqlx::query_with(AssertSqlSafe(self.sql), self.values).persistent(self.is_kept)
    }
}

impl Conn {
    pub(crate) fn keeps_statements(&self) -> bool {
        self.keeps_statements
    }
}

pub(crate) type Manager<D> = <D as Database>::TransactionManager;

fn rows<R: Into<QueryResult>>(
    rows: Result<Vec<R>, sqlx::Error>,
) -> Result<Vec<QueryResult>, sqlx::Error> {
    rows.map(|rows| rows.into_iter().map(Into::into).collect())
}
