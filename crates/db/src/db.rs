//! The handle: opens a database and speaks SeaORM's traits over its pools.

use std::{fmt, path::Path, pin::Pin, sync::Arc};

use async_trait::async_trait;
use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, ExecResult, IsolationLevel, QueryResult,
    Statement, StreamTrait, TransactionError, TransactionOptions, TransactionTrait,
};
use throng_core::{Clock, EngineUrl};
use tokio::sync::Notify;

use crate::{
    classify::{Classifier, Reason, Verdict},
    config::Config,
    engine::{Begin, Connector, sqlite},
    error::{Result, refused},
    pool::{Lease, Pool},
    stream::Rows,
    tx::{self, Tx},
};

/// A database. Cheap to clone; every statement is sent where it belongs and commits by itself unless
/// it runs in a [`Tx`].
#[derive(Clone)]
pub struct Db {
    cluster: Arc<Cluster>,
    lane: Lane,
}

/// A database that is only read. A statement that is not plainly a read is refused.
#[derive(Clone)]
pub struct Reader {
    db: Db,
}

/// Which servers a handle uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// Each statement is looked at.
    Auto,
    /// Everything to the primary.
    Primary,
    /// Reads to whoever may serve them, and nothing else.
    Read,
}

/// The servers of one database and what all handles share.
pub(crate) struct Cluster {
    writer: Arc<Pool>,
    readers: Arc<Pool>,
    backend: DbBackend,
    classifier: Classifier,
    name: String,
    pub(crate) clock: Clock,
    /// Wakes the outbox relay of this process.
    pub(crate) outbox: Notify,
}

impl Db {
    /// Opens the SQLite database at `path`, making the folder and the file if they are missing.
    ///
    /// There is no in-memory database: SQLite's would either be one connection, where a transaction
    /// stops every reader, or a shared cache, where readers and writers lock each other out. Tests
    /// use a temporary folder.
    ///
    /// # Errors
    /// Says which folder or file stands in the way.
    pub async fn sqlite(path: impl AsRef<Path>) -> Result<Self> {
        Self::sqlite_with(path, Config::default()).await
    }

    /// Like [`Db::sqlite`], with options.
    ///
    /// # Errors
    /// Says which folder or file stands in the way.
    pub async fn sqlite_with(path: impl AsRef<Path>, config: Config) -> Result<Self> {
        let path = path.as_ref();
        let (writer, reader) = sqlite::open(path, &config).await?;
        let writer = Pool::new("writer", Connector::Sqlite(writer), 1, &config);
        let readers = Pool::new("readers", Connector::Sqlite(reader), config.readers, &config);
        let name = format!("sqlite:{}", path.display());
        Ok(Self::new(Cluster {
            backend: DbBackend::Sqlite,
            classifier: Classifier::new(DbBackend::Sqlite),
            writer,
            readers,
            name,
            clock: config.clock,
            outbox: Notify::new(),
        }))
    }

    /// Opens the database that `url` names; see the table of the [crate](crate).
    ///
    /// # Errors
    /// A URL that this build cannot open, a wrong option, or what stands in the way of connecting.
    pub async fn open(url: &str) -> Result<Self> {
        Self::open_with(&EngineUrl::parse(url)?, Config::default()).await
    }

    /// Like [`Db::open`], starting from `config`; options of the URL win.
    ///
    /// # Errors
    /// A URL that this build cannot open, a wrong option, or what stands in the way of connecting.
    pub async fn open_with(url: &EngineUrl, mut config: Config) -> Result<Self> {
        match url.scheme() {
            "sqlite" => {
                let mut options = url.options();
                config.take(&mut options)?;
                options.finish()?;
                if !url.hosts().is_empty() {
                    let reason = "an embedded database has no host; write `sqlite:data/site.db`";
                    return Err(url.fault("host", reason).into());
                }
                if url.path().is_empty() || url.path().ends_with('/') {
                    let reason = "it must name a file, as in `sqlite:data/site.db`";
                    return Err(url.fault("path", reason).into());
                }
                Self::sqlite_with(url.path(), config).await
            }
            _ => Err(url.unknown_scheme("db", SCHEMES).into()),
        }
    }

    /// The same database, with every statement sent to the primary.
    #[must_use]
    pub fn primary(&self) -> Self {
        Self { cluster: self.cluster.clone(), lane: Lane::Primary }
    }

    /// The same database for reading only.
    #[must_use]
    pub fn read(&self) -> Reader {
        Reader { db: Self { cluster: self.cluster.clone(), lane: Lane::Read } }
    }

    /// The dialect of the database.
    #[must_use]
    pub fn get_database_backend(&self) -> DbBackend {
        self.cluster.backend
    }

    /// Opens a transaction that may write. On SQLite it holds the write lock from the start, so
    /// that what it has read stays true until it commits.
    ///
    /// # Errors
    /// When no connection or lock is free within the configured time.
    pub async fn begin(&self) -> Result<Tx, DbErr> {
        self.start(Begin::default()).await
    }

    /// Like [`TransactionTrait::transaction`], for an async closure.
    ///
    /// # Errors
    /// Those of the closure, of BEGIN and of COMMIT.
    pub async fn transaction_async<F, T, E>(&self, work: F) -> Result<T, TransactionError<E>>
    where
        F: for<'c> AsyncFnOnce(&'c Tx) -> Result<T, E> + Send,
        T: Send,
        E: fmt::Display + fmt::Debug + Send,
    {
        let tx = self.begin().await.map_err(TransactionError::Connection)?;
        tx.run_async(work).await
    }

    /// Asks the database for an answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn ping(&self) -> Result<(), DbErr> {
        let mut lease = self.cluster.readers.acquire().await?;
        lease.fetch_one(Statement::from_string(self.cluster.backend, "SELECT 1"), true).await?;
        Ok(())
    }

    /// Waits until every connection has come back and closes them. Statements fail from now on, on
    /// every clone of this handle.
    pub async fn close(&self) {
        self.cluster.readers.close().await;
        self.cluster.writer.close().await;
    }

    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    pub(crate) async fn lease_primary(&self) -> Result<Lease, DbErr> {
        self.cluster.writer.acquire().await
    }

    fn new(cluster: Cluster) -> Self {
        Self { cluster: Arc::new(cluster), lane: Lane::Auto }
    }

    async fn start(&self, mode: Begin) -> Result<Tx, DbErr> {
        let pool = match (self.lane, mode.reads_only) {
            (Lane::Read, false) => return Err(refused("this handle only reads; it cannot begin")),
            (Lane::Auto | Lane::Read, true) => &self.cluster.readers,
            (Lane::Auto | Lane::Primary, _) => &self.cluster.writer,
        };
        Tx::start(self.cluster.clone(), pool.acquire().await?, mode).await
    }

    /// A connection for the statement, and whether the statement plainly reads.
    async fn lease(&self, sql: &str) -> Result<(Lease, bool), DbErr> {
        let verdict = self.cluster.classifier.classify(sql);
        let reads_only = verdict == Verdict::Read;
        let pool = match (self.lane, verdict) {
            (Lane::Auto | Lane::Read, Verdict::Read) => &self.cluster.readers,
            (_, Verdict::Primary(Reason::Transaction)) => {
                return Err(refused("open a transaction with `begin`, not with a statement"));
            }
            (Lane::Read, Verdict::Primary(reason)) => {
                return Err(refused(format!("this handle only reads, and the statement {reason}")));
            }
            (Lane::Primary, _) | (Lane::Auto, Verdict::Primary(_)) => &self.cluster.writer,
        };
        Ok((pool.acquire().await?, reads_only))
    }
}

impl Reader {
    /// The dialect of the database.
    #[must_use]
    pub fn get_database_backend(&self) -> DbBackend {
        self.db.cluster.backend
    }

    pub(crate) async fn lease_read(&self) -> Result<Lease, DbErr> {
        self.db.cluster.readers.acquire().await
    }
}

impl Cluster {
    pub(crate) fn backend(&self) -> DbBackend {
        self.backend
    }

    pub(crate) fn reads_only(&self, sql: &str) -> bool {
        self.classifier.classify(sql) == Verdict::Read
    }

    pub(crate) fn has_returning(&self) -> bool {
        self.backend != DbBackend::MySql
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Db({}, {:?})", self.cluster.name, self.lane)
    }
}

impl fmt::Display for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cluster.name)
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({})", self.db.cluster.name)
    }
}

#[async_trait]
impl ConnectionTrait for Db {
    fn get_database_backend(&self) -> DbBackend {
        self.cluster.backend
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let (mut lease, _) = self.lease(&statement.sql).await?;
        lease.execute(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let (mut lease, _) = self.lease(sql).await?;
        lease.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let (mut lease, reads_only) = self.lease(&statement.sql).await?;
        lease.fetch_one(statement, reads_only).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let (mut lease, _) = self.lease(&statement.sql).await?;
        lease.fetch_all(statement).await
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
        Box::pin(async move {
            let (lease, _) = self.lease(&statement.sql).await?;
            Ok(Rows::of_pool(lease, statement))
        })
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
        self.start(Begin { reads_only, sqlite: options.sqlite_transaction_mode }).await
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

/// Schemes that this build opens.
const SCHEMES: &[&str] = &["sqlite"];
