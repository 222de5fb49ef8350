//! SeaORM's traits on the handles, so that entities, loaders and paginators work on them unchanged.

use std::{fmt, pin::Pin};

use async_trait::async_trait;
use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, ExecResult, IsolationLevel, QueryResult,
    Statement, StreamTrait, TransactionError, TransactionOptions, TransactionTrait,
};

use crate::{
    Db, Reader, Tx,
    engine::Begin,
    error::refused,
    send::{Answer, Ask},
    stream::Rows,
    tx,
};

#[async_trait]
impl ConnectionTrait for Db {
    fn get_database_backend(&self) -> DbBackend {
        self.cluster.backend
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match self.send(Ask::Outcome, statement).await? {
            Answer::Outcome(outcome) => Ok(outcome),
            Answer::First(_) | Answer::All(_) => Err(refused(MIXED_UP)),
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.send_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match self.send(Ask::First, statement).await? {
            Answer::First(row) => Ok(row),
            Answer::Outcome(_) | Answer::All(_) => Err(refused(MIXED_UP)),
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self.send(Ask::All, statement).await? {
            Answer::All(rows) => Ok(rows),
            Answer::Outcome(_) | Answer::First(_) => Err(refused(MIXED_UP)),
        }
    }

    fn support_returning(&self) -> bool {
        self.cluster.has_returning()
    }
}

impl StreamTrait for Db {
    type Stream<'a> = Rows<'a>;

    fn get_database_backend(&self) -> DbBackend {
        self.cluster.backend
    }

    fn stream_raw<'a>(
        &'a self,
        statement: Statement,
    ) -> Pin<Box<dyn Future<Output = Result<Rows<'a>, DbErr>> + 'a + Send>> {
        Box::pin(self.send_stream(statement))
    }
}

#[async_trait]
impl TransactionTrait for Db {
    type Transaction = Tx;

    async fn begin(&self) -> Result<Tx, DbErr> {
        self.start(Begin::default()).await
    }

    async fn begin_with_config(
        &self,
        isolation_level: Option<IsolationLevel>,
        access_mode: Option<AccessMode>,
    ) -> Result<Tx, DbErr> {
        let options = TransactionOptions { isolation_level, access_mode, ..Default::default() };
        self.begin_with_options(options).await
    }

    async fn begin_with_options(&self, options: TransactionOptions) -> Result<Tx, DbErr> {
        let reads_only = options.access_mode == Some(AccessMode::ReadOnly);
        self.start(Begin {
            reads_only,
            isolation: options.isolation_level,
            sqlite: options.sqlite_transaction_mode,
        })
        .await
    }

    async fn transaction<F, T, E>(&self, work: F) -> Result<T, TransactionError<E>>
    where
        F: for<'c> FnOnce(&'c Tx) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>> + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        let tx = self.begin().await.map_err(TransactionError::Connection)?;
        tx::run(tx, work).await
    }

    async fn transaction_with_config<F, T, E>(
        &self,
        work: F,
        isolation_level: Option<IsolationLevel>,
        access_mode: Option<AccessMode>,
    ) -> Result<T, TransactionError<E>>
    where
        F: for<'c> FnOnce(&'c Tx) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>> + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        let tx = self.begin_with_config(isolation_level, access_mode).await;
        tx::run(tx.map_err(TransactionError::Connection)?, work).await
    }
}

#[async_trait]
impl ConnectionTrait for Reader {
    fn get_database_backend(&self) -> DbBackend {
        self.db.cluster.backend
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.db.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.db.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.db.query_one_raw(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.db.query_all_raw(statement).await
    }

    fn support_returning(&self) -> bool {
        self.db.support_returning()
    }
}

impl StreamTrait for Reader {
    type Stream<'a> = Rows<'a>;

    fn get_database_backend(&self) -> DbBackend {
        self.db.cluster.backend
    }

    fn stream_raw<'a>(
        &'a self,
        statement: Statement,
    ) -> Pin<Box<dyn Future<Output = Result<Rows<'a>, DbErr>> + 'a + Send>> {
        self.db.stream_raw(statement)
    }
}

/// An answer has the shape of its question, or this room is wrong.
const MIXED_UP: &str = "the answer is not of the kind that was asked for";
